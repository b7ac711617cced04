"""The pages, and the examples in docstrings, say what is so. (`test_pages` runs the code in pages.)"""

import doctest
import importlib
import re
from pathlib import Path

import attrs
import click
import pytest

from cpgraph import cli, database, events
from cpgraph.steps import Options
from tests.test_layers import DOORS, ROWS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
SHORTEST = 500  # characters that a page has at least

WORDS = ["model", "record", "step", "pipeline", "group", "graph", "node", "change", "store", "version", "history", "condition"]
WORDS += ["guard", "hint", "fingerprint", "digest", "trace", "executor", "computed", "cached", "failed", "blocked", "closed"]


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def table(text: str, *head: str) -> list[list[str]]:
    """Give the cells of the one table with this head, row by row."""
    wanted = [list(head)]
    found = []
    lines = iter(text.splitlines())
    for line in lines:
        if cells(line) == wanted[0]:
            next(lines)
            for row in lines:
                if not row.startswith("|"):
                    break
                found.append(cells(row))
    assert found, f"there is no table with the head {head}"
    return found


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def code_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def anchors(page: Path) -> set[str]:
    """Give the anchors that a page's headings have on the web."""
    without_code = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", without_code, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_are_written(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert len(text) > SHORTEST


def test_how_it_works_has_every_module_in_its_row() -> None:
    rows: list[list[str]] = []
    for row, modules, _ in table(text_of("how-it-works.md"), "row", "module", "for"):
        if row:
            rows.append([])
        rows[-1] += code_in(modules)
    assert [sorted(row) for row in rows] == [sorted(row) for row in ROWS if not DOORS & set(row)]


def test_how_it_works_has_every_table_of_the_journal() -> None:
    listed = [name for names, _ in table(text_of("how-it-works.md"), "table", "has") for name in code_in(names)]
    assert sorted(listed) == sorted(re.findall(r"CREATE TABLE (\w+)", database.SCHEMA))


def test_the_glossary_has_every_word() -> None:
    explained = " ".join(re.findall(r"\*([A-Za-z][^*]*?)\.?\*", text_of("glossary.md"))).lower()
    for word in WORDS:
        assert re.search(rf"\b{word}\b", explained), f"the glossary does not say what {word!r} is"


def test_the_guide_lists_the_options_of_a_step() -> None:
    listed = {re.match(r"\w+", code)[0] for option, _ in table(text_of("guide.md"), "option", "does") for code in code_in(option)}  # type: ignore[index]
    assert listed == {field.name for field in attrs.fields(Options)}


def test_the_guide_lists_the_events_and_what_they_have() -> None:
    for event, told in table(text_of("guide.md"), "event, in `cpgraph.events`", "when"):
        kind = getattr(events, code_in(event)[0])
        assert code_in(told)[-1].split() == [f".{field.name}" for field in attrs.fields(kind)]
    listed = {code_in(event)[0] for event, _ in table(text_of("guide.md"), "event, in `cpgraph.events`", "when")}
    assert listed == set(events.__all__) - {"Stream"}


def test_the_guide_says_of_which_commands_an_option_is() -> None:
    takes: dict[str, set[str]] = {}
    for name, command in cli.main.commands.items():
        for option in command.params:
            if isinstance(option, click.Option):
                for text in option.opts:
                    takes.setdefault(text, set()).add(name)
    for option, commands, _ in table(text_of("guide.md"), "option", "of", "is"):
        for text in code_in(option):
            names = set(cli.main.commands) if commands == "all" else set(re.findall(r"\w+", commands))
            if text.split()[0] not in ("-h", "--help", "--version"):
                assert takes.pop(text.split()[0]) == names, text
    rest = "\n".join(" ".join(row) for row in table(text_of("guide.md"), "command", "does"))
    for text in takes:
        assert f"{text}" in rest, f"no row of the guide has {text}"


def test_errors_lists_the_statuses_the_command_gives() -> None:
    listed = [int(status) for status, _ in table(text_of("errors.md"), "status", "of the command `cpgraph`")]
    assert sorted(listed) == sorted({*cli.STATUS.values(), cli.BAD})


def test_the_changes_begin_with_this_version() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', pyproject, re.M)
    assert version
    assert f"## [{version[1]}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


MODULES = sorted(path.stem for path in (ROOT / "cpgraph").glob("*.py") if path.stem != "__main__")


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_docstrings_are_what_happens(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"cpgraph.{module}" if module != "__init__" else "cpgraph")).failed == 0
