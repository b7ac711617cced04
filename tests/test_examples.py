"""Each example runs, and prints what its docstring says it prints."""

import ast
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name not in ("stdlib_report.py", "story.py"))


def run(example: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / example), *words]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=600)


def promised(example: str) -> str:
    """Give the indented lines at the end of the docstring."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / example).read_text(encoding="utf-8")))
    assert docstring is not None
    return textwrap.dedent(docstring.rpartition("\n\n")[2])


@pytest.mark.parametrize("example", SMALL)
def test_it_prints_what_it_says(example: str, tmp_path: Path) -> None:
    ended = run(example, tmp_path)
    assert ended.stdout.rstrip() == promised(example), ended.stderr
    assert ended.returncode == 0


def test_all_are_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(re.findall(r"\((\w+\.py)\)", listed))


def test_the_report_of_the_standard_library(tmp_path: Path) -> None:
    """The main job: to its end, with a report and a picture; a second time nothing is computed."""
    ended = run("stdlib_report.py", tmp_path, "--out", "made")
    assert ended.returncode == 0, ended.stderr
    report = (tmp_path / "made" / "report.txt").read_text(encoding="utf-8")
    assert ended.stdout.rstrip() == report.rstrip()
    assert "Largest modules" in report
    picture = (tmp_path / "made" / "run.svg").read_text(encoding="utf-8")
    assert "<svg" in picture and "outline" in picture and "each Module" in picture
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cpgraph", "made"]

    again = run("stdlib_report.py", tmp_path, "--out", "made")
    assert again.returncode == 0 and again.stdout == ended.stdout
    assert "ok: 0 computed" in again.stderr
