"""The Python code in README.md and docs/*.md runs: each page in a folder of its own, its blocks one after another.

A block that begins with a file name (`# orders.py`) is that file: it is written to the folder and imported, and what it defines
is at hand in the blocks after it. A block that begins with `>>>` shows what it prints. What a page needs and need not show stands
in a comment, `<!--- invisible-code: python … -->`; before a block that cannot run stands `<!--- skip: next -->`.
"""

import importlib
import re
import sys
import types
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.example import NotEvaluated
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILE = re.compile(r"# (\w+)\.py\n")

sybil = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()])


def files(example: Example) -> None:
    """Write and import a block that is a file; leave all others to their own evaluator."""
    file = FILE.match(example.parsed) if isinstance(example.parsed, str) else None
    if file is None:
        raise NotEvaluated
    Path(f"{file[1]}.py").write_text(example.parsed, encoding="utf-8")
    sys.modules.pop(file[1], None)
    importlib.invalidate_caches()
    module = importlib.import_module(file[1])
    example.namespace.update({name: value for name, value in vars(module).items() if not name.startswith("__")})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
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
