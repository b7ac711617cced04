"""What is the standard library made of? A report over every module of the Python that runs this.

    python examples/stdlib_report.py

Each `.py` file is a record. It is read, it is parsed, and it is measured in five ways side by side; when all of them are
through, one step joins them into a report. The report, and a picture of the run, are left in a folder. Run it twice: the
second time nothing is computed, as nothing has changed. How it came to be is told by `story.py`.
"""

import argparse
import ast
import platform
import sys
import sysconfig
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import cpgraph as cp

warnings.simplefilter("ignore", SyntaxWarning)  # what the parser thinks of the library's style is not asked here


@cp.model
class Module:
    id: str  # its path in the library, such as json/decoder.py
    file: cp.File
    lines: int = 0
    functions: int = 0
    classes: int = 0
    longest: tuple[int, str] = (0, "")
    imports: tuple[str, ...] = ()


def modules() -> list[Module]:
    """Find the modules: the data of every run."""
    library = Path(sysconfig.get_path("stdlib"))
    paths = [path for path in sorted(library.rglob("*.py")) if path.is_file()]
    found = [Module(id=path.relative_to(library).as_posix(), file=cp.File(path)) for path in paths]
    return [module for module in found if not module.id.startswith(("site-packages/", "dist-packages/"))]


# One module: read, parsed, measured


class Function(NamedTuple):
    name: str
    first: int
    last: int


class Outline(NamedTuple):
    """What a module defines and imports: as much of its syntax tree as is worth keeping."""

    functions: list[Function]
    classes: list[str]
    imports: tuple[str, ...]


def source(file: cp.File) -> bytes:
    return Path(file).read_bytes()


def outline(source: bytes) -> Outline:
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:  # test data that is broken on purpose
        return Outline([], [], ())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return Outline(
        functions=[Function(node.name, node.lineno, node.end_lineno or 0) for node in nodes if isinstance(node, functions)],
        classes=[node.name for node in nodes if isinstance(node, ast.ClassDef)],
        imports=tuple(sorted({name.partition(".")[0] for node in nodes for name in imported(node)})),
    )


def imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names):
            return [name.name for name in names]
        case ast.ImportFrom(module=str(module), level=0):
            return [module]
    return []


@cp.step(sets="lines")
def lines(source: bytes) -> int:
    return len(source.splitlines())


@cp.step(sets="functions")
def functions(outline: Outline) -> int:
    return len(outline.functions)


@cp.step(sets="classes")
def classes(outline: Outline) -> int:
    return len(outline.classes)


@cp.step(sets="longest")
def longest(outline: Outline) -> tuple[int, str]:
    return max(((length(function), function.name) for function in outline.functions), default=(0, ""))


def length(function: Function) -> int:
    return function.last - function.first + 1


@cp.step(sets="imports")
def imports(outline: Outline) -> tuple[str, ...]:
    return outline.imports


# All of them: the report


def report(store: cp.Store, out: str = "stdlib_report", python: str = platform.python_version()) -> cp.File:
    modules = store.all(Module)
    totals = {name: sum(getattr(module, name) for module in modules) for name in ("lines", "functions", "classes")}
    text = [
        *table(f"Python {python}, {len(modules):,} modules", totals),
        *table("Largest modules", {module.id: module.lines for module in modules}),
        *table("Longest functions", {f"{module.id} {module.longest[1]}": module.longest[0] for module in modules}),
        *table("Most imported", Counter(name for module in modules for name in module.imports)),
        *histogram("Lines per module", [module.lines for module in modules]),
    ]
    path = Path(out, "report.txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text), encoding="utf-8")
    return cp.File(path)


def table(title: str, counts: dict[str, int]) -> list[str]:
    return [title, *(f"{count:>10,}  {name}" for name, count in Counter(counts).most_common(8)), ""]


def histogram(title: str, sizes: list[int]) -> list[str]:
    """Count sizes by powers of two, and draw a bar for each."""
    counts = Counter(size.bit_length() for size in sizes)
    most = max(counts.values())
    bars = [f"{2**bits // 2:>10,}+ {counts[bits]:>4} {'▇' * round(60 * counts[bits] / most)}" for bits in range(max(counts) + 1)]
    return [title, *(bar.rstrip() for bar in bars), ""]


graph = cp.Graph(
    cp.pipeline(
        cp.pipeline(source, outline, [lines, functions, classes, longest, imports], each=Module),
        report,
    ),
    name="stdlib_report",
    data=modules,
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Report what the standard library is made of.")
    parser.add_argument("--out", default="stdlib_report", help="the folder for the report and the picture")
    out = parser.parse_args().out
    run = graph.run(params={"out": out})
    if run.ok:
        print(Path(run.value(report)).read_text(encoding="utf-8"))
    run.render(Path(out, "run.svg"))
    return 0 if run.ok else 1


if __name__ == "__main__":
    sys.exit(main())
