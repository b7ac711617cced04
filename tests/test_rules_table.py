"""Which rule is held by which tests: the table, and that none is missing.

A test names what it holds: `test_n4_…` holds rule N4, `test_a7_…` behaviour 7 of the ancestor, `test_promise_4_…` a promise.
"""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

RULES = {
    "n": 10,  # names and parameters
    "v": 7,  # values
    "c": 9,  # records and changes
    "e": 7,  # fan-out and joins
    "g": 5,  # conditions and guards
    "f": 5,  # failures
    "r": 10,  # run, resume, directory
    "k": 4,  # what is code
    "s": 6,  # the directory
    "o": 4,  # what can be seen
    "a": 21,  # what the ancestor did
}
PROMISES = 15

TESTS = Path(__file__).parent


def held() -> Counter[str]:
    found: Counter[str] = Counter()
    for path in TESTS.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
                name := re.match(r"test_(promise_\d+|[a-z]\d+)_", node.name)
            ):
                found[name[1]] += 1
    return found


HELD = held()


@pytest.mark.parametrize("rule", [f"{letter}{number}" for letter, count in RULES.items() for number in range(1, count + 1)])
def test_every_rule_is_held_by_a_test_that_names_it(rule: str) -> None:
    assert HELD[rule], f"no test is called test_{rule}_…"


@pytest.mark.parametrize("number", range(1, PROMISES + 1))
def test_every_promise_is_held_by_a_test_that_names_it(number: int) -> None:
    assert HELD[f"promise_{number}"], f"no test is called test_promise_{number}_…"
