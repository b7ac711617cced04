"""The import rule: a module of cpgraph imports only from rows above its own, or from earlier in its own row.

So there is never a knot to untangle, and a module can be read knowing only what stands above it. An import inside a function does
not get round the rule: it is refused for our own modules, but for one that is there for speed. What is slow to import is the
other way about: it is imported inside the functions that need it, so that `import cpgraph` stays quick, and (if a third party's)
in one module alone.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import cpgraph

# fmt: off
ROWS = [
    ["errors", "events", "names", "times"],  # words
    [  # values
        "arrays", "digest", "pickles", "portable", "annotations", "models", "contents", "copies", "scalars", "documents", "rows",
        "data", "ranks", "records", "views", "store",
    ],
    ["steps", "pipelines"],  # declare
    ["structure", "resolve", "ordering", "compile"],  # compile
    [  # remember
        "packages", "code", "sources", "items", "reach", "functions", "kinds", "fingerprint", "disk", "locks",
        "database", "directory", "upkeep", "runlog", "journal", "results",
    ],
    [  # do
        "tracebacks", "fanout", "execute", "crews", "shipments", "workers", "processes", "executors", "instances",
        "commits", "nodes", "conflicts", "inputs", "gates", "ledger", "tellings", "flow", "decisions", "handout", "schedule",
        "lines", "saves", "explain", "failures", "runs", "saved", "kept", "launch", "planning",
    ],
    [  # show
        "captions", "drawing", "mermaid", "graphviz_binary", "render", "summary", "screen", "progress", "graph", "cleaning",
        "reading", "targets", "cli", "testing",
    ],
    ["__init__", "__main__"],  # the doors: imported by nobody
]
# fmt: on
RANK = {module: place for place, module in enumerate(module for row in ROWS for module in row)}
DOORS = frozenset(ROWS[-1])

OWNER = {"cattrs": "rows", "click": "cli", "graphviz": "render", "networkx": "graph", "rich": "screen", "yaml": "documents"}
SLOW = {*OWNER, "asyncio", "cloudpickle", "dataclasses", "logging", "multiprocessing"}
AT_THE_TOP = {("cli", "click")}  # the command is made of its decorators
ON_USE = {("graph", "render")}  # five modules that a program which draws nothing need not load

PACKAGE = Path(cpgraph.__file__).parent
FILES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(tree: ast.Module) -> Iterator[tuple[int, str, bool, bool]]:
    """Every import of a module's source: line, full dotted name, whether inside a function, whether for type checkers only."""
    waiting: list[tuple[ast.AST, bool, bool]] = [(tree, False, False)]
    while waiting:
        node, late, typing_only = waiting.pop()
        match node:
            case ast.Import():
                for item in node.names:
                    yield node.lineno, item.name, late, typing_only
            case ast.ImportFrom():
                source = ".".join(filter(None, ["cpgraph" if node.level else "", node.module]))
                for item in node.names:  # `from cpgraph import graph` means the module, `from cpgraph.graph import Graph` too
                    yield node.lineno, f"{source}.{item.name}" if source == "cpgraph" else source, late, typing_only
            case ast.Call(func=ast.Name("__import__" | "import_module") | ast.Attribute(attr="import_module"), args=[first, *_]):
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    name = first.value
                    yield node.lineno, f"cpgraph.{name.lstrip('.')}" if name.startswith(".") else name, late, typing_only
        for field, value in ast.iter_fields(node):
            guarded = field == "body" and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
            inside = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            children = value if isinstance(value, list) else [value]
            waiting += [(child, inside, typing_only or guarded) for child in children if isinstance(child, ast.AST)]


def offences(module: str, source: str) -> list[str]:
    """What in the source of this module breaks the rule, each as one line that starts with file:line and ends with the mend."""
    found = []
    for line, name, late, typing_only in imports(ast.parse(source)):
        top, _, rest = name.partition(".")
        if top == "cpgraph":
            target = rest.split(".")[0]
            if target not in RANK or target in DOORS:
                said = "imports the package itself. Mend: import the module that has the name"
            elif late and (module, target) not in ON_USE:
                said = f"imports cpgraph.{target} inside a function. Mend: import it at the top, or move code up a row"
            elif RANK[target] >= RANK[module]:
                said = f"imports cpgraph.{target}, which is not above it. Mend: take it as an argument, or move code up a row"
            else:
                continue
        elif top in SLOW:
            if OWNER.get(top, module) != module:
                said = f"imports {top}, which is for {OWNER[top]}.py alone. Mend: call what {OWNER[top]}.py has, or add it there"
            elif not late and not typing_only and (module, top) not in AT_THE_TOP:
                said = f"imports {top} at the top, which is slow. Mend: import it in the function that needs it"
            else:
                continue
        else:
            continue
        found.append((line, f"cpgraph/{module}.py:{line}: {said}."))
    return [text for _, text in sorted(found)]


def test_each_module_stands_in_one_place() -> None:
    assert sum(map(len, ROWS)) == len(RANK)
    assert set(RANK) <= set(FILES), "a row names a module that is not there"


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_only_what_stands_above_it(module: str) -> None:
    assert module in RANK, f"cpgraph/{module}.py stands in no row. Mend: put it where it belongs in ROWS of tests/test_layers.py."
    found = offences(module, FILES[module].read_text(encoding="utf-8"))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("compile", "from cpgraph.runs import Run", "compile.py:1: imports cpgraph.runs, which is not above it"),
        ("compile", "import cpgraph.runs", "which is not above it"),
        ("compile", "\nfrom .runs import Run", "compile.py:2: imports cpgraph.runs"),
        ("compile", "from . import errors, runs", "imports cpgraph.runs"),
        ("digest", "from cpgraph.models import Model", "imports cpgraph.models"),
        ("digest", "from cpgraph.digest import digest", "imports cpgraph.digest"),
        ("store", "if TYPE_CHECKING:\n    from cpgraph.runs import Run", "store.py:2: imports cpgraph.runs"),
        ("runs", "def run():\n    from cpgraph.graph import Graph", "runs.py:2: imports cpgraph.graph inside a function"),
        ("runs", "def render():\n    import_module('cpgraph.render')", "runs.py:2: imports cpgraph.render inside a function"),
        ("runs", "importlib.import_module('.graph', 'cpgraph')", "imports cpgraph.graph"),
        ("render", "def render():\n    from cpgraph.graph import Graph", "render.py:2: imports cpgraph.graph inside a function"),
        ("runs", "from cpgraph import Graph", "imports the package itself"),
        ("runs", "import cpgraph", "imports the package itself"),
        ("cli", "from cpgraph.__main__ import main", "imports the package itself"),
        ("graph", "import networkx as nx", "imports networkx at the top"),
        ("execute", "try:\n    import multiprocessing.pool\nfinally: ...", "execute.py:2: imports multiprocessing at the top"),
        ("execute", "if TYPE_CHECKING:\n    pass\nelse:\n    import asyncio", "execute.py:4: imports asyncio at the top"),
        ("cli", "from rich.table import Table", "imports rich, which is for screen.py alone"),
        ("store", "def save():\n    import yaml", "imports yaml, which is for documents.py alone"),
    ],
)
def test_the_rule_refuses(module: str, source: str, said: str) -> None:
    (found,) = offences(module, source)
    assert said in found
    assert ". Mend: " in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("graph", "from cpgraph.errors import CompileError\nfrom cpgraph import steps, pipelines\nfrom . import digest"),
        ("store", "from .models import Model"),
        ("__init__", "from cpgraph.graph import Graph\nfrom cpgraph import errors, events, testing"),
        ("graph", "def to_networkx(self):\n    import networkx as nx"),
        ("graph", "if TYPE_CHECKING:\n    import networkx as nx"),
        ("graph", "def render(self):\n    from cpgraph.render import render"),
        ("execute", "import threading\nasync def loop():\n    import asyncio"),
        ("cli", "import click"),
        ("steps", "import attrs, functools\nfrom collections.abc import Callable"),
    ],
)
def test_the_rule_allows(module: str, source: str) -> None:
    assert offences(module, source) == []
