"""The Python code in the README.md files and docs/*.md runs: each page in a folder of its own, its blocks one after another.

A block that begins with a file name (`# orders.py`, `# orders.yml`) is that file: it is written to the folder; a Python file is
imported, and what it defines is at hand in the blocks after it. A block that begins with `>>>` shows what it prints. What a page
needs and need not show stands in a comment, `<!--- invisible-code: python … -->`; before a block that cannot run stands
`<!--- skip: next -->`.
"""

import importlib
import re
import sys
import types
from doctest import ELLIPSIS
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.example import NotEvaluated
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILE = re.compile(r"# ([\w.]+\.(py|yml))\n")


def files(example: Example) -> None:
    """Write a block that is a file, and import it if it is Python; leave all others to their own evaluator."""
    file = FILE.match(example.parsed) if isinstance(example.parsed, str) else None
    if file is None:
        raise NotEvaluated
    path = Path(file[1])
    path.write_text(example.parsed, encoding="utf-8")
    if path.suffix == ".py":
        sys.modules.pop(path.stem, None)
        importlib.invalidate_caches()
        found = vars(importlib.import_module(path.stem))
        example.namespace.update({name: value for name, value in found.items() if not name.startswith("__")})


def nothing(example: Example) -> None:
    """Leave a block of YAML that is no file to its reader."""


sybil = Sybil(parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS), CodeBlockParser("yaml", nothing), SkipParser()])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_its_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    document = sybil.parse(page)
    document.namespace = vars(module)
    document.push_evaluator(files)
    try:
        for example in document.examples():
            example.evaluate()
    finally:
        for name in [path.stem for path in tmp_path.glob("*.py")]:
            sys.modules.pop(name, None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_it_links_to_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
