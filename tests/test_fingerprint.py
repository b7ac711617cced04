"""Which edits count and which do not, as programs before and after."""

import importlib
import itertools
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from io import IOBase
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest

from cpgraph.fingerprint import Fingerprint, Fingerprinter

Take = Callable[..., Fingerprint]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., ModuleType]]:
    """Import a program from a folder of its own; `# file x.py` begins another file. Gives the module `rows`."""
    known, numbers = set(sys.modules), itertools.count()
    path = list(sys.path)

    def forget() -> None:
        for name in set(sys.modules) - known:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
                for value in vars(sys.modules.pop(name)).values():
                    if isinstance(value, IOBase):
                        value.close()
        sys.path[:] = path
        importlib.invalidate_caches()

    def run(program: str, name: str = "rows") -> ModuleType:
        forget()
        folder = tmp_path / f"program{next(numbers)}"
        folder.mkdir()
        first, *others = dedent(program).split("# file ")
        (folder / "rows.py").write_text(first)
        for other in others:
            file, text = other.split("\n", 1)
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(text)
        sys.path.insert(0, str(folder))
        return importlib.import_module(name)

    yield run
    forget()


@pytest.fixture
def take(load: Callable[..., ModuleType]) -> Take:
    """Take the fingerprint of `step` in a program."""

    def run(program: str, **options: Any) -> Fingerprint:
        return Fingerprinter().fingerprint(load(program).step, **options)

    return run


# One program for each kind of thing, and edits of it: `counts` are edits of what the step does, `does not` are not.

PLAIN = '''
    """The module."""
    import math

    LIMIT = 5

    def helper(value):
        """Help."""
        return value + LIMIT

    def step(amount, factor=2):
        """Do it."""
        # a comment
        total = helper(amount) * factor
        for place in range(3):
            total += place
        return [total for total in (total, 1)], math.floor(total), f"{total:>{factor}}"
'''

PROGRAMS: dict[str, tuple[str, list[tuple[str, str]], list[tuple[str, str]]]] = {
    "plain functions": (
        PLAIN,
        [
            ("place in range(3)", "place in range(4)"),
            ("total += place", "total -= place"),
            ("LIMIT = 5", "LIMIT = 6"),
            ("LIMIT = 5", "LIMIT = 5.0"),
            ("(total, 1)", "(total, True)"),
            ("(total, 1)", "(total, -1)"),
            ("value + LIMIT", "value - LIMIT"),
            ("factor=2", "factor=3"),
            ("math.floor", "math.ceil"),
            ("{total:>", "{total:<"),
            ("LIMIT = 5", "LIMIT = '5'"),
            ("LIMIT = 5\n", ""),
            ("def helper(value):", "def helper(value, other=1):"),
            ("return value + LIMIT", "return value + LIMIT if value else None"),
        ],
        [
            ("# a comment", ""),
            ('"""Do it."""', '"""Do it well.\n\n    Really."""'),
            ('    """Do it."""\n', ""),
            ('"""Help."""', "pass"),
            ('"""The module."""', "# another\n\n\n"),
            ("total = helper(amount) * factor", "total = (\n            helper( amount ) *\n              factor)"),
            ("total = helper", "total: float = helper"),
            ("total", "whole"),
            ("for place in range(3):\n            total += place", "for i in range(3): total += i"),
            ("    def step(", "    ANOTHER = helper(1)\n\n    def step("),
            ("[total for total in (total, 1)]", "[each for each in (total, 1)]"),
            ("helper", "assist"),
            ("LIMIT", "LEAST"),
            ("import math\n", "import os\n    import math as math\n"),
            ("math.floor", "(math).floor"),
            ("step(amount, factor=2)", "step(amount: 'float', factor: int = 2) -> list"),
            ("value + LIMIT", "(value) + LIMIT  # sum"),
            ("LIMIT = 5", "UNUSED = 7\n    LIMIT = 3 + 2"),
            ("def helper(value):", "def helper(value) -> 'int | None':"),
            ("(amount, factor=2)", "(amount, factor=2, )"),
            ("amount", "price"),
        ],
    ),
    "helpers in other modules": (
        """
        import helpers
        import helpers as again
        from helpers import deep

        def step(x):
            return helpers.clean(x), again.TABLE["a"], deep.inner.VALUE, deep.inner.work(x)

        # file helpers/__init__.py
        from helpers import deep
        TABLE = {"a": 1}
        UNUSED = 1
        def clean(x): return x.strip()
        def unused(x): return x
        # file helpers/deep/__init__.py
        from helpers.deep import inner
        # file helpers/deep/inner.py
        VALUE = [1, 2]
        def clean(x): return x.strip( )
        def work(x): return x * 2
        """,
        [
            ("x.strip()", "x.lstrip()"),
            ('TABLE = {"a": 1}', 'TABLE = {"a": True}'),
            ('TABLE = {"a": 1}', 'TABLE = {"b": 0, "a": 1}'),
            ("VALUE = [1, 2]", "VALUE = (1, 2)"),
            ("x * 2", "x * 3"),
            ("def clean(x): return x.strip()", "from string import capwords as clean"),
        ],
        [
            ("UNUSED = 1", "UNUSED = 2"),
            ("def unused(x): return x", "def unused(x): return 2"),
            ("def clean(x): return x.strip()", "def clean(x):\n            # better\n            return x.strip()"),
            ("def clean(x): return x.strip()", "from helpers.deep.inner import clean"),
            ("helpers.clean(x), again", "again.clean(x), helpers"),
            ("work", "labour"),
        ],
    ),
    "imports in the body": (
        """
        def step(x):
            import helpers
            import helpers.deep.inner
            from helpers import second as other
            import json
            return helpers.clean(x), other(x), helpers.deep.inner.VALUE, json.dumps(x)

        def unused():
            import os

        # file helpers/__init__.py
        def clean(x): return x + LIMIT
        def second(x): return x
        LIMIT = 1
        # file helpers/deep/__init__.py
        # file helpers/deep/inner.py
        VALUE = 3
        """,
        [
            ("x + LIMIT", "x - LIMIT"),
            ("LIMIT = 1", "LIMIT = 2"),
            ("def second(x): return x", "def second(x): return -x"),
            ("VALUE = 3", "VALUE = 4"),
            ("json.dumps", "json.loads"),
            ("second as other", "clean as other"),
        ],
        [
            ("other", "name"),
            ("import json\n", "import json  # for dumps\n"),
            ("return helpers.clean(x),", "import helpers.deep\n            return helpers.clean(x),"),
            ("import helpers\n", "import helpers as helpers\n"),
            ("import os", "import sys"),
        ],
    ),
    "classes": (
        """
        import functools

        class Base:
            FACTOR = 2
            def scaled(self, x): return x * self.FACTOR

        class Model(Base):
            '''What it is.'''
            shift: int = 1
            names = ["a"]
            def __init__(self, start): self.start = start
            def apply(self, x): return self.scaled(x) + self.start + self.size
            @property
            def size(self): return SIZE
            @staticmethod
            def fixed(x): return x
            @classmethod
            def made(cls): return cls(0)
            @functools.cached_property
            def cached(self): return 1
            def __add__(self, other): return self.start + other.start
            def parent(self): return super().scaled(1)

        SIZE = 10

        def step(x):
            return Model(3).apply(x)
        """,
        [
            ("FACTOR = 2", "FACTOR = 3"),
            ("x * self.FACTOR", "x // self.FACTOR"),
            ("shift: int = 1", "shift: int = 2"),
            ("shift: int = 1", "shift: str = 1"),
            ('names = ["a"]', 'names = ["b"]'),
            ("self.scaled(x) +", "self.scaled(x) -"),
            ("return SIZE", "return -SIZE"),
            ("SIZE = 10", "SIZE = 11"),
            ("def fixed(x): return x", "def fixed(x): return 0"),
            ("return cls(0)", "return cls(1)"),
            ("def cached(self): return 1", "def cached(self): return 2"),
            ("self.start + other.start", "self.start - other.start"),
            ("@staticmethod\n", "@classmethod\n"),
            ("super().scaled(1)", "super().scaled(2)"),
            ("class Model(Base):", "class Other: pass\n        class Model(Base, Other):"),
            ("Model(3)", "Model(4)"),
        ],
        [
            ("'''What it is.'''", "'''Another text.'''"),
            ("return x * self.FACTOR", "return (x * self.FACTOR)"),
            ("        SIZE = 10\n", "        SIZE = 10\n        def another(): pass\n"),
            ("SIZE", "EXTENT"),
            ("        SIZE = 10\n", "        SIZE = 5 + 5\n"),
        ],
    ),
    "values of user classes": (
        """
        class Model:
            def __init__(self, path): self.path = path
            def apply(self, x): return x, self.path

        _M = Model("a")
        method = _M.apply

        def step(x):
            return method(x)
        """,
        [('Model("a")', 'Model("b")'), ("return x, self.path", "return self.path, x")],
        [("_M", "_MODEL"), ("return x, self.path", "return (x, self.path)")],
    ),
    "attrs and dataclasses": (
        """
        import attrs
        import dataclasses

        def empty(): return [0]
        def positive(instance, attribute, value): assert value > LEAST
        LEAST = 0

        @attrs.frozen
        class Order:
            id: int
            amount: str = "0"
            tags: list = attrs.field(factory=empty)
            size: int = attrs.field(default=1, validator=positive, converter=lambda x: x + 1)
            def total(self): return self.amount

        @dataclasses.dataclass
        class Line:
            id: int
            price: float = 1.5
            tags: list = dataclasses.field(default_factory=empty)
            def double(self): return self.price * 2

        def step(x):
            return Order(id=x).total(), Line(x).double()
        """,
        [
            ('amount: str = "0"', 'amount: str = "1"'),
            ("return [0]", "return [1]"),
            ("value > LEAST", "value >= LEAST"),
            ("LEAST = 0", "LEAST = 1"),
            ("x + 1", "x + 2"),
            ("return self.amount", "return self.amount * 2"),
            ("price: float = 1.5", "price: float = 1.25"),
            ("self.price * 2", "self.price * 3"),
            ("@attrs.frozen", "@attrs.define"),
            ("@attrs.frozen", "@attrs.frozen(kw_only=True)"),
            ("@dataclasses.dataclass", "@dataclasses.dataclass(frozen=True)"),
            ("@dataclasses.dataclass", "@dataclasses.dataclass(order=True)"),
        ],
        [("empty", "nothing"), ("LEAST", "BOUND"), ("lambda x: x + 1", "lambda x: (x + 1)")],
    ),
    "enums and named tuples": (
        """
        import enum
        from typing import NamedTuple

        class Color(enum.Enum):
            RED = 1
            BLUE = "b"
            def paint(self): return self.value
            @classmethod
            def _missing_(cls, value): return cls.RED

        class Point(NamedTuple):
            x: int
            y: int = 0
            def size(self): return self.x

        ORIGIN = Point(0)

        def step(name):
            return Color(name).paint(), Point(1).size(), ORIGIN
        """,
        [
            ("RED = 1", "RED = 2"),
            ('RED = 1\n            BLUE = "b"', 'BLUE = "b"\n            RED = 1'),
            ("return self.value", "return self.name"),
            ("return cls.RED", "return cls.BLUE"),
            ("y: int = 0", "y: int = 1"),
            ("return self.x", "return self.y"),
            ("Point(0)", "Point(0, 1)"),
        ],
        [("return self.value", "# the value\n                return self.value"), ("ORIGIN", "ZERO")],
    ),
    "tables, partials, closures and lambdas": (
        """
        import functools

        def one(x): return x + 1
        def two(x): return x + 2
        def three(x, by): return x + by
        def make(n, table):
            def inner(x, m=4): return x + n + table["k"]
            return inner

        TABLE = {"one": one, "nested": [(two,), {"deep": {three}}]}
        half = functools.partial(three, by=7)
        added = make(5, {"k": 6})
        pick, drop = lambda x: x[0], lambda x: x[1]
        KEYS = {one, two}

        def step(x):
            rows = sorted(x, key=lambda row: UNIT * row)
            return TABLE["one"](x), half(x), added(x), pick(rows), [CONST for _ in x], KEYS

        UNIT = 1
        CONST = 2
        """,
        [
            ("x + 1", "x - 1"),
            ("x + 2", "x - 2"),
            ("x + by", "x - by"),
            ("by=7", "by=8"),
            ("make(5", "make(6"),
            ('{"k": 6}', '{"k": 7}'),
            ("m=4", "m=5"),
            ("x + n +", "x - n +"),
            ("x[0]", "x[2]"),
            ("UNIT * row", "UNIT + row"),
            ("UNIT = 1", "UNIT = -1"),
            ("CONST = 2", "CONST = 3"),
            ("KEYS = {one, two}", "KEYS = {one, half}"),
            ('"one": one', '"one": two'),
        ],
        [
            ("x[1]", "x[3]"),
            ("two", "deux"),
            ("inner", "within"),
            ("KEYS = {one, two}", "KEYS = {two, one}"),
            (
                "def one(x): return x + 1\n        def two(x): return x + 2",
                "def two(x): return x + 2\n        def one(x): return x + 1",
            ),
            ("CONST", "FIXED"),
            ("for _ in x", "for each in x"),
        ],
    ),
    "decorators": (
        """
        import functools, contextlib

        def timed(times):
            def decorate(function):
                @functools.wraps(function)
                def repeated(*args):
                    return [function(*args) for _ in range(times)]
                return repeated
            return decorate

        class Counted:
            def __init__(self, function):
                functools.update_wrapper(self, function)
                self.function = function
            def __call__(self, *args): return self.function(*args), 1

        @functools.lru_cache(maxsize=None)
        def cached(x): return x * 2

        @contextlib.contextmanager
        def opened(x):
            yield x + 3

        @functools.singledispatch
        def shape(x): return 4
        @shape.register
        def _(x: int): return 5

        @Counted
        def counted(x): return x + 6

        @timed(2)
        def step(x):
            with opened(x) as y:
                return cached(y), shape(x), counted(x)
        """,
        [
            ("range(times)", "range(times + 1)"),
            ("@timed(2)", "@timed(3)"),
            ("@timed(2)\n        def", "def"),
            ("x * 2", "x * 3"),
            ("x + 3", "x + 4"),
            ("return 4", "return 40"),
            ("return 5", "return 50"),
            ("self.function(*args), 1", "self.function(*args), 2"),
            ("x + 6", "x + 7"),
            ("return cached(y)", "return cached(x)"),
        ],
        [("repeated", "again"), ("cached", "kept"), ("args", "given"), ("x * 2", "(x * 2)")],
    ),
    "circles": (
        """
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        def fact(n): return 1 if n < 2 else n * fact(n - 1)
        class Tree:
            def grow(self): return Tree(), leaf(self)
        def leaf(tree): return tree.grow
        def step(n): return even(n), fact(n), Tree, step
        """,
        [
            ("n == 0", "n == 1"),
            ("n != 0 and", "n != 0 or"),
            ("n * fact", "n + fact"),
            ("return tree.grow", "return tree"),
            ("odd(n - 1)", "odd(n - 2)"),
        ],
        [("even", "gerade"), ("fact", "product"), ("leaf", "blatt")],
    ),
    "syntax": (
        """
        import helpers

        async def step(rows, *rest, key=None, **more):
            global COUNT
            result = {}
            for first, *others in rows:
                match first:
                    case {"kind": kind, **left} if kind != "x":
                        result[kind] = left
                    case helpers.ONE | 7:
                        result["one"] = 1
                    case [1, *tail]:
                        result["tail"] = tail
                    case str() as text:
                        result[text] = others
            try:
                if (found := result.get("a")) is not None:
                    del result["a"]
            except (KeyError, ValueError) as error:
                raise RuntimeError("no") from error
            class Local:
                '''A class.'''
                size: int = 3
                def get(self): return self.size
            def generate():
                nonlocal found
                yield from (found := row for row in rows if row)
            async with key as lock:
                await lock
            COUNT = 1
            return [y async for y in key], Local().get(), list(generate()), rest, more

        # file helpers.py
        ONE = 1
        """,
        [
            ('"kind"', '"sort"'),
            ('!= "x"', '== "x"'),
            ("ONE = 1", "ONE = 2"),
            ("[1, *tail]", "[2, *tail]"),
            ("(KeyError, ValueError)", "KeyError"),
            ('RuntimeError("no")', 'RuntimeError("yes")'),
            (" from error\n", "\n"),
            ("size: int = 3", "size: int = 4"),
            ("return self.size", "return 2"),
            ("yield from", "yield"),
            ("if row)", "if not row)"),
            ("COUNT = 1", "COUNT = 2"),
            ("class Local", "class Inner"),
            ("str() as text", "bytes() as text"),
            (".get(", ".pop("),
            ("is not None", "is None"),
            ("size", "extent"),
            (" | 7", ""),
        ],
        [
            ("first", "head"),
            ("others", "remaining"),
            ("left", "over"),
            ("text", "word"),
            ("error", "problem"),
            ("found", "hit"),
            ("generate", "produce"),
            ("lock", "held"),
            ("y async for y in", "z async for z in"),
            ("'''A class.'''", ""),
            ("result = {}", "result: dict[str, int] = {}"),
        ],
    ),
    "annotated inputs": (
        """
        import attrs

        @attrs.frozen
        class Order:
            id: int
            lines: "list[Line]" = ()
            def total(self): return sum(line.price for line in self.lines)

        class Line:
            price = 3

        def step(record: Order, other: "list[Line] | None" = None):
            return record.total()
        """,
        [("sum(", "max("), ("price = 3", "price = 4"), ('lines: "list[Line]" = ()', 'lines: "list[Line]" = []')],
        [
            ("def total(self): return", "def total(self):\n                # sum\n                return"),
            ("record: Order", "record: 'Order'"),
        ],
    ),
    "calls by keyword": (
        """
        def helper(first, second=1, /, third=2, *, fourth=3): return first, second, third, fourth
        def step(x): return helper(x, third=4)
        """,
        [
            ("third=2", "drei=2"),
            ("fourth=3", "vier=3"),
            ("third=4", "third=5"),
            ("fourth=3", "fourth=4"),
            ("second=1, /, ", "second=1, "),
        ],
        [("first", "eins"), ("second", "zwei")],
    ),
    "names that can be seen": (
        """
        def step(x):
            total = x
            return locals()
        """,
        [("total", "whole")],
        [("total = x", "total = (x)")],
    ),
}


def edits() -> Iterator[Any]:
    for title, (program, counting, cosmetic) in PROGRAMS.items():
        for old, new in counting:
            yield pytest.param(program, old, new, True, id=f"{title}: {old[:30]!r} to {new[:30]!r}")
        for old, new in cosmetic:
            yield pytest.param(program, old, new, False, id=f"{title}: not {old[:30]!r} to {new[:30]!r}")


@pytest.mark.parametrize(("program", "old", "new", "counts"), list(edits()))
def test_an_edit_counts_or_not(take: Take, program: str, old: str, new: str, counts: bool) -> None:
    before = take(program)
    assert old in program
    after = take(program.replace(old, new))
    assert (after.digest != before.digest) is counts


# Names from outside


def test_a_global_found_nowhere_counts_as_missing(take: Take) -> None:
    program = "def step(x): return helper(x)\n"
    missing = take(program)
    assert missing.unseen == ()
    assert missing.digest != take(program + "def helper(x): return x\n").digest


def test_an_import_that_fails_is_listed(take: Take) -> None:
    found = take("def step(x):\n    from nowhere_at_all import thing\n    return thing(x)\n")
    assert found.unseen == ("rows:step imports nowhere_at_all.thing, which cannot be imported",)


def test_code_reached_by_a_name_that_is_computed_is_listed(take: Take) -> None:
    found = take("import importlib\ndef step(x): return eval(x), importlib.import_module(x)\n")
    assert found.unseen == ("rows:step uses eval", "rows:step uses importlib.import_module")
    found = take("class Base: pass\ndef step(x): return [kind() for kind in Base.__subclasses__()]\n")
    assert found.unseen == ("rows:step uses rows:Base.__subclasses__",)


def test_both_ways_to_import_are_one(take: Take) -> None:
    with_module = (
        "import helpers, json\ndef step(x): return helpers.clean(json.dumps(x))\n# file helpers.py\ndef clean(x): return x\n"
    )
    with_names = with_module.replace("import helpers, json", "from helpers import clean\nfrom json import dumps").replace(
        "helpers.clean(json.dumps(x))", "clean(dumps(x))"
    )
    assert take(with_module).digest == take(with_names).digest


def test_a_module_used_as_a_value_counts_whole(take: Take) -> None:
    program = "import helpers\ndef step(x): return getattr(helpers, x)(1)\n# file helpers.py\ndef one(x): return x\nTWO = 2\n"
    assert (
        len({take(program.replace(*edit)).digest for edit in [("", ""), ("return x\n", "return 0\n"), ("TWO = 2", "TWO = 3")]})
        == 3
    )


def test_a_monkeypatch_counts_as_of_the_time_of_the_run(load: Callable[..., ModuleType]) -> None:
    rows = load(
        "import json, helpers\ndef step(x): return json.dumps(x), helpers.clean(x)\n# file helpers.py\ndef clean(x): return x\n"
    )
    first = Fingerprinter().fingerprint(rows.step)
    rows.helpers.clean = lambda x: x + 1
    second = Fingerprinter().fingerprint(rows.step)
    kept, rows.json.dumps = rows.json.dumps, rows.helpers.clean
    try:
        third = Fingerprinter().fingerprint(rows.step)
    finally:
        rows.json.dumps = kept
    assert len({first.digest, second.digest, third.digest}) == 3
    assert Fingerprinter().fingerprint(rows.step).digest == second.digest


def test_k3_redefining_a_helper_counts_for_a_function_that_exists(load: Callable[..., ModuleType]) -> None:
    rows = load("def helper(x): return x\ndef step(x): return helper(x)\n")
    before = Fingerprinter()
    first = before.fingerprint(rows.step)
    exec("def helper(x): return x + 1", rows.__dict__)
    assert Fingerprinter().fingerprint(rows.step).digest != first.digest
    assert before.fingerprint(rows.step) == first  # within a run everything is looked at once


def test_k4_a_step_called_by_another_is_a_function(take: Take) -> None:
    program = "import cpgraph.steps\n@cpgraph.steps.step(retries=1)\ndef parse(x): return x\ndef step(x): return parse(x)\n"
    assert take(program).digest != take(program.replace("return x\n", "return -x\n")).digest
    assert take(program).digest == take(program.replace("retries=1", "retries=2, timeout=3")).digest


def test_steps_marked_or_not_are_one(take: Take) -> None:
    plain = "import cpgraph.steps\ndef step(x): return cpgraph.steps.alias\n"
    marked = plain.replace("def step", "@cpgraph.steps.step(sets='x')\ndef step")
    assert take(plain).digest == take(marked).digest
    assert [part.name for part in take(marked).parts] == ["rows:step"]


# Libraries


def test_a_library_counts_by_its_version(take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    from cpgraph import packages

    program = "import attrs, yaml, json\ndef step(x): return yaml.safe_load(x), json.dumps(x), attrs.asdict(x), len(x)\n"
    before = take(program)
    assert [(part.name, part.kind) for part in before.parts if part.kind == "package"] == [
        ("package attr", "package"),
        ("package python", "package"),
        ("package yaml", "package"),
    ]
    assert before.digest != take(program.replace("safe_load", "full_load")).digest
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "99" if name == "PyYAML" else real(name))
    packages.origin_of_file.cache_clear()
    packages._distribution.cache_clear()
    after = take(program)
    packages.origin_of_file.cache_clear()
    packages._distribution.cache_clear()
    known = {part.digest for part in before.parts}
    changed = [part for part in after.parts if part.digest not in known]
    assert after.digest != before.digest
    assert [part.text for part in changed] == ["yaml 99"]


def test_a_compiled_module_of_the_users_counts_by_its_file(
    load: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import marshal

    def taken(content: str | None) -> Fingerprint:
        compiled = ModuleType("compiled")
        compiled.__file__ = str(tmp_path / "compiled.so")
        Path(compiled.__file__).unlink(missing_ok=True)
        if content is not None:
            Path(compiled.__file__).write_text(content)
        rows = load("from marshal import dumps\ndef step(x): return dumps(x)\n")
        monkeypatch.setitem(sys.modules, "compiled", compiled)
        return Fingerprinter().fingerprint(rows.step)

    library = taken("one")
    monkeypatch.setattr(marshal.dumps, "__module__", "compiled")
    assert [part.kind for part in taken("one").parts] == ["extension", "function"]
    assert len({library.digest, taken("one").digest, taken("two").digest, taken(None).digest}) == 4
    assert taken(None).unseen == ("compiled:dumps is compiled, and its file cannot be read",)


def test_builtins_and_models_need_no_package(take: Take) -> None:
    program = """
    import cpgraph.models as cp

    @cp.model
    class Order:
        id: int
        total: float | None = None

    def step(record: Order): return sum(range(record.id)), cp.update(total=1.0)
    """
    assert {part.kind for part in take(program).parts} == {"function", "class"}


# Values and handles (rule V6)


def test_v6_handles_count_by_type_and_are_listed(take: Take) -> None:
    program = """
    import logging, socket, threading

    class Model:
        def __init__(self): self.lock, self.weights = threading.Lock(), [1, 2]

    LOCK, MODEL, LOG, OUT = threading.Lock(), Model(), logging.getLogger(__name__), open(__file__)

    def step(x):
        with LOCK, OUT:
            LOG.info(x)
            return MODEL.weights
    """
    found = take(program)
    assert found.handles == (
        "rows:LOCK (_thread.lock)",
        "rows:LOG (logging.Logger)",
        "rows:MODEL (_thread.lock)",
        "rows:OUT (_io.TextIOWrapper)",
    )
    assert found.digest == take(program.replace("getLogger(__name__)", "getLogger('other')")).digest
    assert found.digest != take(program.replace("[1, 2]", "[1, 3]")).digest
    assert found.digest != take(program.replace("= threading.Lock(), Model()", "= threading.RLock(), Model()")).digest


def test_n10_what_the_process_was_started_with_is_in_no_key(take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import os, sys\nfrom os import environ\nfrom sys import argv\ndef step(x): return os.environ, environ, sys.argv, argv\n"
    )
    before = take(program)
    monkeypatch.setenv("CPGRAPH_TEST", "1")
    monkeypatch.setattr(sys, "argv", ["other"])
    assert take(program).digest == before.digest


def test_n10_random_generators_and_clocks_are_in_no_key(load: Callable[..., ModuleType]) -> None:
    program = """
    import random, time
    import numpy
    from random import choice, random as draw
    from numpy.random import default_rng, rand
    from time import time as now
    from datetime import datetime

    def step(x):
        drawn = random.random(), choice(x), draw(), numpy.random.rand(2), rand(2), default_rng(1)
        return drawn, time.time(), now(), datetime.now()
    """
    rows = load(program)
    before = Fingerprinter().fingerprint(rows.step)
    rows.step([1])
    assert Fingerprinter().fingerprint(rows.step) == before
    assert [part.name for part in before.parts] == ["package numpy", "package python", "rows:step"]
    assert before.digest != Fingerprinter().fingerprint(load(program.replace("choice(x)", "draw(x)")).step).digest


def test_v6_a_seeded_generator_of_ones_own_counts_by_its_state(take: Take) -> None:
    program = "import random\nmine = random.Random(1)\ndraw = mine.random\ndef step(x): return draw()\n"
    assert take(program).digest == take(program).digest != take(program.replace("Random(1)", "Random(2)")).digest


def test_arrays_patterns_and_their_methods_count_by_content(take: Take) -> None:
    program = """
    import numpy, re
    _W, _R = numpy.arange(4), re.compile("a+")
    match = _R.match
    def step(x): return _W.sum(), match(x)
    """
    digests = {
        take(program.replace(*edit)).digest for edit in [("", ""), ("arange(4)", "arange(5)"), ('"a+"', '"b+"'), (".sum", ".min")]
    }
    assert len(digests) == 4


def test_a_value_that_cannot_be_looked_into_is_listed(take: Take) -> None:
    program = """
    class Odd:
        def __reduce_ex__(self, protocol): raise RuntimeError("no")
    class Odder(dict):
        def items(self): raise RuntimeError("no")
    ODD, ODDER = Odd(), Odder(a=1)
    def step(x): return ODD, ODDER
    """
    found = take(program)
    assert found.handles == ("rows:ODD (rows.Odd)", "rows:ODDER (rows.Odder)")
    assert found.digest == take(program).digest


def test_an_object_that_holds_its_own_methods(take: Take) -> None:
    program = """
    class Model:
        def __init__(self): self.run = self.apply
        def apply(self, x): return x
    MODEL = Model()
    run = MODEL.run
    def step(x): return MODEL.run(x), run(x)
    """
    assert take(program).digest != take(program.replace("return x\n", "return -x\n")).digest


def test_a_patched_method_counts(load: Callable[..., ModuleType]) -> None:
    rows = load("class Model:\n    def apply(self, x): return x\ndef step(x): return Model().apply(x)\n")
    before = Fingerprinter().fingerprint(rows.step)
    rows.Model.apply = lambda self, x: -x
    assert Fingerprinter().fingerprint(rows.step).digest != before.digest


def test_a_value_that_contains_itself(take: Take) -> None:
    program = "TABLE = [1]\nTABLE.append(TABLE)\ndef step(x): return TABLE\n"
    assert take(program).digest != take(program.replace("[1]", "[2]")).digest


def test_a_value_nested_too_deep_is_a_handle(take: Take) -> None:
    found = take("TABLE = []\nfor _ in range(5000): TABLE = [TABLE]\ndef step(x): return TABLE\n")
    assert found.handles == ("rows:TABLE (builtins.list)",)


def test_a_long_chain_of_functions(take: Take) -> None:
    chain = "".join(f"def f{i}(x): return f{i + 1}(x)\n" for i in range(3000))
    program = chain + "def f3000(x): return x\ndef step(x): return f0(x)\n"
    assert take(program).digest != take(program.replace("def f3000(x): return x", "def f3000(x): return -x")).digest


def test_an_expression_nested_too_deep_for_the_tree_counts_by_its_instructions(take: Take) -> None:
    program = f"def step(x): return {' + '.join(['x'] * 900)}\n"
    assert take(program).digest != take(program.replace("x\n", "y\n")).digest
    assert [text for _, text, _ in take(program).hints] == [
        "rows:step is nested too deep: its instructions count, so that it runs again under another Python"
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("@a\n    def g(x): pass", "def g(x=a): pass"),
        ("def g(x, y=a): pass", "def g(x, *, y=a): pass"),
        ("@a\n    class G: pass", "class G(a): pass"),
        ("class G(a): pass", "class G(metaclass=a): pass"),
        ("g = [x for x in a if x]", "g = [x for x in a for x in x]"),
        ("g = [*a]", "g = [a]"),
        ("g = {**a}", "g = {a: a}"),
        ("g = a.b.c", "g = a.b"),
        ("g = a and a or a", "g = a and (a or a)"),
        ("g = a[1:2]", "g = a[1:2:]" + "[0]"),
        ("g = (1, 2)", "g = [1, 2]"),
        ("g = f'{a}'", "g = f'{a!r}'"),
        ("x = y = 1; g = x - y", "x = y = 1; g = y - x"),
        ("global G; G = 1", "G = 1"),
        ("g = lambda *x: x", "g = lambda **x: x"),
        ("g = a(*a)", "g = a(**a)"),
        ("g = a if a else a()", "g = a() if a else a"),
        ("while a: pass\n    else: g = 1", "while a: pass\n    g = 1"),
        ("try: a()\n    except a: pass", "try: a()\n    finally: pass"),
        ("yield a", "yield from a"),
        ("return None", "return a"),
        ("import os.path as g; a(g)", "import os as g; a(g)"),
    ],
)
def test_what_looks_alike_is_told_apart(take: Take, before: str, after: str) -> None:
    program = "a = print\ndef step(x):\n    "
    assert take(program + before + "\n").digest != take(program + after + "\n").digest


# Options of the fingerprint


def test_n9_a_version_stands_for_the_code(take: Take) -> None:
    before, after = PLAIN, PLAIN.replace("total += place", "total -= place")
    assert take(before, version="1").digest == take(after, version="1").digest
    assert take(before, version="1").digest != take(before, version="2").digest
    assert (
        take(before, version="1").digest
        != take(before.replace("def step", "def other") + "    step = other\n", version="1").digest
    )


def test_what_is_tracked_counts(load: Callable[..., ModuleType]) -> None:
    program = "def step(x): return x\ndef hidden(x): return x\n# file helpers.py\nVALUE = 1\n"

    def tracked(program: str) -> tuple[bytes, bytes, bytes]:
        rows, helpers = load(program), importlib.import_module("helpers")
        take = Fingerprinter().fingerprint
        return take(rows.step).digest, take(rows.step, track=[rows.hidden]).digest, take(rows.step, track=[helpers, "v1"]).digest

    plain, with_hidden, with_module = tracked(program)
    assert len({plain, with_hidden, with_module}) == 3
    assert tracked(program.replace("hidden(x): return x", "hidden(x): return 0"))[0] == plain
    assert tracked(program.replace("hidden(x): return x", "hidden(x): return 0"))[1] != with_hidden
    assert tracked(program.replace("VALUE = 1", "VALUE = 2"))[1:] == (
        with_hidden,
        tracked(program.replace("VALUE = 1", "VALUE = 2"))[2],
    )
    assert tracked(program.replace("VALUE = 1", "VALUE = 2"))[2] != with_module


def test_the_classes_of_inputs_count(load: Callable[..., ModuleType]) -> None:
    program = "class Order:\n    def total(self): return 1\ndef step(record): return record.total()\n"

    def taken(program: str) -> tuple[bytes, bytes]:
        rows = load(program)
        return Fingerprinter().fingerprint(rows.step).digest, Fingerprinter().fingerprint(
            rows.step, inputs=[rows.Order, int]
        ).digest

    plain, given = taken(program)
    edited = taken(program.replace("return 1", "return 2"))
    assert edited[0] == plain
    assert edited[1] != given
    assert taken(program.replace("def step(record)", "def step(record: Order)"))[0] == given  # an annotation says the same


def test_the_digest_of_a_class(load: Callable[..., ModuleType]) -> None:
    program = "class Order:\n    def total(self): return 1\n"
    one, same, other = (
        Fingerprinter().code_digest(load(text).Order)
        for text in [program, program + "# more\n", program.replace("return 1", "return 2")]
    )
    assert one == same
    assert one != other
    assert Fingerprinter().code_digest(int) is None


# Parts: what changed, for a person


def test_parts_tell_what_changed(take: Take) -> None:
    program = "LIMIT = 5\ndef helper(x):\n    return x + LIMIT\n\n\ndef step(x): return helper(x)\n"
    before, after = take(program), take(program.replace("x + LIMIT", "x - LIMIT"))
    assert [(part.name, part.kind) for part in before.parts] == [
        ("rows:LIMIT", "constant"),
        ("rows:helper", "function"),
        ("rows:step", "function"),
    ]
    ((old, new),) = [pair for pair in zip(before.parts, after.parts, strict=True) if pair[0].digest != pair[1].digest]
    assert (old.name, old.line, old.text, new.text) == (
        "rows:helper",
        2,
        "def helper(x):\n    return x + LIMIT",
        "def helper(x):\n    return x - LIMIT",
    )
    assert Path(new.file).name == "rows.py"
    assert before.parts[0].text == "5"


EVERYTHING = """
LIMIT, TABLE = 5, {"a": [1.5, None]}

class Base:
    factor = 2
    def scaled(self, x): return x * self.factor

def helper(value, *rest, key=LIMIT):
    match value:
        case {"kind": str() as kind, **left}: return kind, left, rest
    return f"{value!r:>{key}}", [one for one in TABLE if one]

def step(record: Base, n: int = 3):
    with record as opened, record: total = lambda y: y + n
    try: return helper(total(1), key=2), {**TABLE}, opened[1:n]
    except (ValueError, KeyError) as error: raise TypeError from error
"""


def test_the_fingerprint_of_a_known_program_never_changes(take: Take) -> None:
    found = take(EVERYTHING)
    assert [part.name for part in found.parts][:3] == ["rows:Base", "rows:Base.factor", "rows:Base.scaled"]
    assert found.digest.hex() == "b0cb7cfc425934aec68911643d03a423"  # else FORM has to change, and every cache is computed anew


def test_a_fingerprint_can_be_pickled(take: Take) -> None:
    found = take(PLAIN)
    assert pickle.loads(pickle.dumps(found)) == found


def test_a_group_has_one_digest_wherever_the_walk_begins(load: Callable[..., ModuleType]) -> None:
    rows = load("def a(x): return b(x)\ndef b(x): return c(x), 1\ndef c(x): return a(x), b(x)\n")
    forward, backward = Fingerprinter(), Fingerprinter()
    ahead = [forward.fingerprint(function).digest for function in (rows.a, rows.b, rows.c)]
    back = [backward.fingerprint(function).digest for function in (rows.c, rows.b, rows.a)]
    assert ahead == back[::-1]
    assert len(set(ahead)) == 3


# The source on disk is not the code that runs (rule K2)


def test_k2_an_edited_file_does_not_pass_for_the_code_that_is_loaded(load: Callable[..., ModuleType]) -> None:
    rows = load("def helper(x): return x\n\ndef step(x): return helper(x)\n")
    file = Path(str(rows.__file__))
    loaded = Fingerprinter().fingerprint(rows.step)
    file.write_text("# moved\n\n\ndef helper(x): return x  # commented\n\ndef step(x):\n    'documented'\n    return helper(x)\n")
    assert Fingerprinter().fingerprint(rows.step).digest == loaded.digest
    file.write_text("def helper(x): return -x\n\ndef step(x): return helper(x)\n")
    edited = Fingerprinter().fingerprint(rows.step)
    assert [kind for kind, _, _ in edited.hints] == ["source"]
    assert edited.hints[0][1].startswith("rows:helper: what is loaded is not what ")
    again = importlib.reload(rows)
    assert Fingerprinter().fingerprint(again.step).digest not in (loaded.digest, edited.digest)
    assert Fingerprinter().fingerprint(again.step).hints == ()


def test_k3_cells_of_a_notebook_have_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    import linecache

    space: dict[str, Any] = {"__name__": "__main__"}

    def cell(number: int, source: str) -> None:
        name = f"<cell {number}>"
        monkeypatch.setitem(linecache.cache, name, (len(source), None, source.splitlines(True), name))
        exec(compile(source, name, "exec"), space)

    cell(1, "def helper(x):\n    return x\n")
    cell(2, "def step(x):\n    # the step\n    return helper(x)\n")
    first = Fingerprinter().fingerprint(space["step"])
    assert (first.hints, [part.line for part in first.parts]) == ((), [1, 1])
    cell(3, "def helper(x):\n    'Once more.'\n    return x\n")
    assert Fingerprinter().fingerprint(space["step"]).digest == first.digest
    cell(4, "def helper(x):\n    return -x\n")
    assert Fingerprinter().fingerprint(space["step"]).digest != first.digest


def test_k2_lambdas_of_one_line_are_told_apart(load: Callable[..., ModuleType]) -> None:
    rows = load("pair = [lambda x: x + 1, lambda x: x + 2, lambda: lambda x: x + 3]\n")
    found = [Fingerprinter().fingerprint(function) for function in (*rows.pair, rows.pair[2]())]
    assert len({fingerprint.digest for fingerprint in found}) == 4
    assert all(not fingerprint.hints for fingerprint in found)


def test_k2_a_file_that_python_warns_about_is_read_in_silence(load: Callable[..., ModuleType]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = load("def step(x): return x is 1\n")
    assert Fingerprinter().fingerprint(rows.step).hints == ()  # and not an error, as the tests have it


def test_k2_a_long_file_is_found_to_its_end(take: Take) -> None:
    many = "".join(f"def f{number}(x: int) -> int: return x\n" for number in range(1200))
    found = take(f"# Text.\nfrom __future__ import annotations\n{many}def step(x: int): return f600(x)\n")
    assert (found.hints, [part.line for part in found.parts]) == ((), [603, 1203])


def test_k2_a_generator_made_a_coroutine_is_found(load: Callable[..., ModuleType]) -> None:
    rows = load("import types\n@types.coroutine\ndef step(x): yield x\n")
    plain = load("def step(x): yield x\n")
    made = Fingerprinter().fingerprint(rows.step)
    assert made.hints == ()
    assert made.digest != Fingerprinter().fingerprint(plain.step).digest


def test_k2_a_file_that_no_longer_compiles_or_is_gone(load: Callable[..., ModuleType]) -> None:
    rows = load("def step(x): return x\n")
    file = Path(str(rows.__file__))
    file.write_text("def step(:\n")
    broken = Fingerprinter().fingerprint(rows.step)
    file.unlink()
    gone = Fingerprinter().fingerprint(rows.step)
    assert broken.digest == gone.digest
    assert len(broken.hints) == len(gone.hints) == 1


WITHOUT_SOURCE = [
    ("def step(x): return helper(x) + LIMIT", "def step(x): return helper(x) - LIMIT", True),
    ("def step(x): return helper(x) + LIMIT", "def step(x):\n    'doc'\n    return helper(\n   x) + LIMIT", False),
    ("def step(x):\n    y = 1\n    return y", "def step(x):\n    z = 1\n    return z", False),
    ("def step(x): return [y + LIMIT for y in x]", "def step(x): return [y + LIMIT for y in x if y]", True),
    ("def step(x): return lambda y: x + y", "def step(x): return lambda y: x - y", True),
    ("def step(x): return helper(x)", "def step(x): return other(x)", True),
    ("def step(x): return json.dumps(x)", "def step(x): return json.loads(x)", True),
    (
        "def step(x):\n    import json as j\n    return j.dumps(x)",
        "def step(x):\n    import json as j\n    return j.loads(x)",
        True,
    ),
    (
        "def step(x):\n    from json import dumps\n    return dumps(x)",
        "def step(x):\n    from json import loads\n    return loads(x)",
        True,
    ),
    ("def step(x): return 1", "def step(x): return True", True),
    ("def step(x): return x.a", "def step(x): return x.b", True),
    ("def step(x):\n    while x: x -= 1\n    return x", "def step(x):\n    if x: x -= 1\n    return x", True),
]


@pytest.mark.parametrize(("before", "after", "counts"), WITHOUT_SOURCE)
def test_code_without_source_counts_by_its_instructions(before: str, after: str, counts: bool) -> None:
    def taken(program: str) -> Fingerprint:
        space: dict[str, Any] = {"__name__": "typed"}
        exec(f"import json\nLIMIT = 5\ndef helper(x): return x\ndef other(x): return -x\n{program}", space)
        return Fingerprinter().fingerprint(space["step"])

    assert (taken(before).digest != taken(after).digest) is counts
    assert {kind for kind, _, _ in taken(before).hints} == {"source"}


# One name for a script (rule K1), and nothing of the process


SCRIPT = """
import enum, logging
import cpgraph.models as cp
from cpgraph.fingerprint import Fingerprinter

class Color(enum.Enum):
    RED = "red"

@cp.model
class Order:
    id: int
    color: Color = Color.RED
    def total(self): return helper(self.id)

def helper(x): return x, TABLE, NAMES, LOG, Color.RED

TABLE = {"helper": helper, "order": Order(id=1), Order: {helper, Color, frozenset({"x", "y", "z"})}}
NAMES = {"a", "b", "c", "d", "e"}
LOG = logging.getLogger(__name__)

def step(record: Order):
    import orders
    return record.total(), orders.helper(1), __name__

def report():
    found = Fingerprinter().fingerprint(step)
    print(found.digest.hex(), *[f"{part.name}:{part.digest.hex()}" for part in found.parts])

if __name__ in ("__main__", "__mp_main__"):
    report()
"""


def test_k1_a_script_has_one_fingerprint_however_it_is_started(tmp_path: Path) -> None:
    script = tmp_path / "orders.py"
    script.write_text(SCRIPT)

    def output(seed: int, *arguments: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    started = output(1, "orders.py")
    assert "orders:helper" in started
    assert "__main__" not in started
    assert output(2, str(script)) == started
    assert output(3, "-m", "orders") == started
    assert output(4, "-c", "import orders; orders.report()") == started
    as_worker = f"import runpy, sys, types; m = types.ModuleType('__mp_main__'); m.__file__ = {str(script)!r}; "
    as_worker += "sys.modules['__main__'] = sys.modules['__mp_main__'] = m; "
    as_worker += f"exec(compile(open({str(script)!r}).read(), {str(script)!r}, 'exec'), m.__dict__)"
    assert output(5, "-c", as_worker) == started
