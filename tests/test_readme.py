"""README.md: its commands are there in one line each, and its first program prints what it is said to print."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def plain(text: str, folder: str) -> list[str]:
    """Leave out what differs from machine to machine: times, folders, and how a traceback points at a place in a line."""
    lines = [line.rstrip().replace(folder, "") for line in text.strip().splitlines() if line.strip(" ~^")]
    return [re.sub(r"\b[\d.e-]+ s\b", "… s", line) for line in lines]


def test_two_lines_set_up_and_run() -> None:
    """One for the main job, one for the tests, each to be pasted as it stands."""
    report, tests = (line for line in README.splitlines() if line.startswith("python3 -m venv"))
    assert report.endswith("&& .venv/bin/python examples/stdlib_report.py")
    assert tests.endswith("&& .venv/bin/python -m pytest -q")


def test_the_first_program_prints_what_is_shown(tmp_path: Path) -> None:
    chapter = README[README.index("## A first program") : README.index("## A story")]
    for block in [*blocks("python", chapter), *blocks("yaml", chapter)]:
        name = re.match(r"# (\S+)\n", block)
        assert name is not None
        (tmp_path / name[1]).write_text(block, encoding="utf-8")
    mend = re.search(r"^Mend `parse` \(`(.*?)`\)", chapter, re.MULTILINE)
    assert mend is not None
    fails, goes_on = blocks("console", chapter)

    assert plain(run(fails, tmp_path), f"{tmp_path}{os.sep}") == plain(fails, "/home/you/")
    script = tmp_path / "orders.py"
    script.write_text(script.read_text(encoding="utf-8").replace("float(amount)", mend[1]), encoding="utf-8")
    assert plain(run(goes_on, tmp_path), f"{tmp_path}{os.sep}") == plain(goes_on, "/home/you/")


def run(block: str, folder: Path) -> str:
    """Run the commands of a block, and give them with what they print."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    said = []
    for line in block.splitlines():
        if line.startswith("$ "):
            done = subprocess.run(
                line[2:],
                shell=True,
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
            )
            said.append(f"{line}\n{done.stdout}")
    return "".join(said)
