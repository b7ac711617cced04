"""The public surface, pinned: what may not change unnoticed, and that each of it is explained.

Public are `cpgraph`, `cpgraph.errors`, `cpgraph.events` and `cpgraph.testing`; all else may move.
"""

import ast
import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import click
import pytest

import cpgraph as cp
from cpgraph import errors, events, testing
from cpgraph.cli import main
from cpgraph.failures import Failure, Failures
from cpgraph.planning import Plan, PlannedStep
from cpgraph.runs import Diff, History, NodeReport, Version
from cpgraph.steps import Options
from tests import typing_cases

ROOT = Path(__file__).parent.parent
DOCS = "\n".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])

RUN = "data=, *, dir=, params=, executor=, concurrency=, stream=, redo=, stop="
PUBLIC = {
    "AUTO": None,
    "CompileError": "headline, facts=, mend=",
    "ConflictError": "headline, facts=, mend=",
    "CpgraphError": "headline, facts=, mend=",
    "DataError": "headline, rows=, mend=",
    "File": "path",
    "Graph": "*pipelines, name=, models=, params=, data=, dir=",
    "Limit": "calls=, per_second=",
    "ModelError": "headline, facts=, mend=",
    "NoValue": "headline, facts=, mend=",
    "RecordNotFound": "headline, facts=, mend=",
    "Retry": "after=",
    "Run": None,
    "StorageError": "headline, path, facts=, mend=",
    "Store": None,
    "Stream": "",
    "alias": "function, name, *, inputs=, **options",
    "auto_id": "",
    "create": "record, *, if_exists=",
    "delete": "*target",
    "events": None,
    "files": "pattern",
    "model": "cls=",
    "pipeline": "*parts, name=, each=, open=, concurrency=, after=, on_error=, max_generations=",
    "result": "value, *changes",
    "runs": "dir=",
    "step": "function=, /, **options",
    "update": "*target, **fields",
    "where": "model, predicate=, /, **equal",
}
ERRORS = {name: PUBLIC[name] for name in PUBLIC if name.endswith("Error") or name in ("RecordNotFound", "NoValue", "Retry")}
EVENTS = {
    "Damaged": "path, what",
    "GuardChanged": "pipeline, open, read=",
    "Hint": "kind, text, mend=, nodes=",
    "NodeEnded": "node, step, record, ended, seconds=",
    "NodeStarted": "node, step, record=",
    "RunEnded": "run, status, seconds=",
    "RunStarted": "run, graph, line",
    "Stream": "",
}
TESTING = {"Log": "*pushed, stream=", "run": "graph, data=, *, dir=, executor=, **options"}

# What users ask of the objects they are given. None: it is no method.
MEMBERS: dict[type, dict[str, str | None]] = {
    cp.Graph: {
        "run": RUN,
        "resume": f"start=, {RUN}",
        "plan": "data=, *, dir=, params=, redo=, resume=, start=",
        "render": "path=, *, run=",
        "to_networkx": "",
        "name": None,
        "data": None,
        "dir": None,
    },
    cp.Run: {
        "value": "step, id=, *, default=",
        "values": "step",
        "why": "step, *ids",
        "render": "path=",
        "raise_for_failures": "",
        **dict.fromkeys(["number", "graph", "started", "seconds", "status", "ok", "store", "data", "history"]),
        **dict.fromkeys(["failures", "hints", "nodes", "counts"]),
    },
    cp.Store: {
        "find": "model, id",
        "get": "model, id",
        "all": "model",
        "where": "model, predicate=, /, **equal",
        "count": "model, predicate=, /, **equal",
        "values": "model, field, /, *fields",
    },
    cp.Stream: {"on": "kind", "push": "kind, payload="},
    cp.File: {"path": None},
    Version: {
        "save": "path",
        **dict.fromkeys(["number", "nodes", "node", "time", "diff", "store", "data", "damaged"]),
    },
    History: {"diff": "a, b"},
    Failures: {"groups": ""},
    Failure: dict.fromkeys(["node", "step", "record", "error", "traceback", "attempts", "kind", "place", "note"]),
    NodeReport: dict.fromkeys(["id", "step", "key", "record", "ended", "reason", "seconds", "started", "run", "fingerprint"]),
    Plan: dict.fromkeys(["line", "steps", "computed", "seconds", "unseen", "failures"]),
    testing.Log: {"ended": "how", "computed": None, "stream": None},
}


def shape(function: Any) -> str:
    """Write the parameters of a function in short: `a, b=, *, c=`."""
    parts, keyword, positional = [], False, False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        if positional and parameter.kind is not parameter.POSITIONAL_ONLY:
            parts.append("/")
        positional = parameter.kind is parameter.POSITIONAL_ONLY
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword:
            keyword = True
            parts.append("*")
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        keyword = keyword or star == "*"
        parts.append(f"{star}{parameter.name}{'' if parameter.default is parameter.empty else '='}")
    return ", ".join(parts)


def test_a_shape_says_how_a_function_is_called() -> None:
    def called(a: int, /, b: int, *c: int, d: int, e: int = 0, **f: int) -> None: ...
    def other(a: int = 0, *, b: int) -> None: ...

    assert (shape(called), shape(other)) == ("a, /, b, *c, d, e=, **f", "a=, *, b")


@pytest.mark.parametrize(
    ("module", "surface"),
    [(cp, PUBLIC), (errors, {**ERRORS, "nearest": "name, known"}), (events, EVENTS), (testing, TESTING)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_public_names_are_these(module: Any, surface: dict[str, str | None]) -> None:
    assert sorted(module.__all__) == sorted(surface)
    found = {name: None if wanted is None else shape(getattr(module, name)) for name, wanted in surface.items()}
    assert found == surface


@pytest.mark.parametrize("cls", MEMBERS, ids=lambda cls: cls.__name__)
def test_members_that_users_ask_for_are_these(cls: type) -> None:
    given = {"Graph": cp.Graph(lambda_free), "Log": testing.Log(), "Run": None}.get(cls.__name__)
    for name, wanted in MEMBERS[cls].items():
        if wanted is not None:
            assert shape(getattr(cls, name)) == wanted, name
        elif cls is cp.Run:
            assert hasattr(cp.Graph(lambda_free).run(dir=None), name), name
        elif cls is Version:
            assert hasattr(cp.Graph(lambda_free).run(dir=None).history[0], name), name
        else:
            assert hasattr(cls if given is None else given, name), name


def lambda_free() -> int:
    return 1


@pytest.mark.parametrize(
    ("name", "thing"),
    [(f"{module.__name__}.{name}", getattr(module, name)) for module in (cp, errors, events, testing) for name in module.__all__]
    + [(module.__name__, module) for module in (cp, errors, events, testing)]
    + [
        (f"{cls.__name__}.{name}", getattr(cls, name))
        for cls, members in MEMBERS.items()
        for name in members
        if isinstance(inspect.getattr_static(cls, name, None), property) or members[name] is not None or cls is cp.Run
        if hasattr(cls, name)
    ],
)
def test_every_public_name_has_a_docstring(name: str, thing: object) -> None:
    text = inspect.getdoc(thing)
    assert text, f"{name} has no docstring"
    assert text.strip() != inspect.getdoc(type(thing)) or isinstance(thing, type) or thing is cp.AUTO, f"{name} has no docstring"


def test_all_errors_have_one_root() -> None:
    kinds = [getattr(errors, name) for name in ERRORS if name != "Retry"]
    assert all(issubclass(kind, cp.CpgraphError) for kind in kinds)
    assert not issubclass(cp.Retry, cp.CpgraphError)  # it is a request, and no error


# The docs mention all of it


def mentioned(name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", DOCS) is not None


@pytest.mark.parametrize("name", [*PUBLIC, *(f"{name}" for name in EVENTS), *TESTING])
def test_the_docs_mention_every_public_name(name: str) -> None:
    assert mentioned(name), f"no page says what {name} is for"


@pytest.mark.parametrize(
    "name",
    sorted({f".{name}" for members in MEMBERS.values() for name in members})
    + [f".{field.name}" for cls in (Failure, NodeReport, PlannedStep) for field in attrs.fields(cls) if field.name[0] != "_"],
)
def test_the_docs_mention_every_member(name: str) -> None:
    assert re.search(rf"{re.escape(name)}\b", DOCS), f"no page says what {name} is"


@pytest.mark.parametrize(
    "option",
    sorted(
        {field.name for field in attrs.fields(Options)}
        | {
            name
            for function in (cp.pipeline, cp.Graph, cp.Graph.run, cp.Graph.resume, cp.Graph.plan, cp.create, cp.alias, cp.Limit)
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.default is not parameter.empty
        }
    ),
)
def test_the_docs_mention_every_option(option: str) -> None:
    assert re.search(rf"\b{option}=", DOCS), f"no page says what {option}= does"


@pytest.mark.parametrize(("name", "command"), main.commands.items())
def test_the_docs_mention_every_command_and_each_of_its_options(name: str, command: click.Command) -> None:
    assert mentioned(f"cpgraph {name}")
    for option in command.params:
        if isinstance(option, click.Option):
            for text in option.opts + option.secondary_opts:
                assert mentioned(text), f"no page says what {text} of cpgraph {name} does"
    assert command.help


# Kinds that are passed on as tuples, and told elsewhere.
IN_TUPLES = {
    "data-changed",
    "data-gone",
    "edited",
    "edited-written",
    "reads-beside-writes",
    "removed",
    "returned-record",
    "source",
}


def kinds_told() -> set[str]:
    """Find the kinds of hints in the source: what `told` is called with, and those in tuples."""
    found = set()
    for path in (ROOT / "cpgraph").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(attr="told") | ast.Name("told"), args=[ast.Constant(str(kind)), *_]):
                    found.add(kind)
                case ast.Constant(str(kind)) if kind in IN_TUPLES:
                    found.add(kind)
    return found


def test_the_kinds_of_hints_are_listed() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    table = page[page.index("## Hints") :]
    assert kinds_told() == set(re.findall(r"^\| `([a-z-]+)` \|", table, re.M))


# Types


def test_the_typing_cases_are_checked_and_run(capsys: pytest.CaptureFixture[str]) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["mypy"]["strict"]
    assert "tests/typing_cases.py" in settings["tool"]["mypy"]["files"]
    typing_cases.records()
    typing_cases.steps()
    typing_cases.runs()
    typing_cases.handlers()
    assert (ROOT / "cpgraph" / "py.typed").exists()


def test_a_diff_is_a_list_that_shows_itself() -> None:
    assert str(Diff()) == "no changes"
