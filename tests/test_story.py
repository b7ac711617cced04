"""The story of `examples/story.py`, told on this machine: what ran, and what did not, is counted here by other means.

Equal work is done once, so "computed" counts distinct inputs, here as there.
"""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path

import cpgraph as cp

STORY = Path(__file__).parent.parent / "examples" / "story.py"
MEASURES = ("functions", "classes", "longest", "imports")  # of the outline; `lines` is one of the source

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

Outline = tuple[tuple[object, ...], ...]
EMPTY: Outline = ((), (), ())


def library() -> dict[str, bytes]:
    root = Path(sysconfig.get_path("stdlib"))
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py") if path.is_file()}
    return {id: path.read_bytes() for id, path in found.items() if id.split("/")[0] not in ("site-packages", "dist-packages")}


def outlines(source: bytes) -> tuple[Outline, Outline] | None:
    """Functions, classes and imports of a module, with and without `from __future__ import …`; None if it is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return None
    functions = tuple((node.name, node.lineno, node.end_lineno) for node in nodes if isinstance(node, FUNCTIONS))
    classes = tuple(node.name for node in nodes if isinstance(node, ast.ClassDef))
    names = {name.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for name in node.names}
    froms = {node.module.split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and not node.level and node.module}
    with_future, without = names | froms, names | (froms - {"__future__"})
    return (functions, classes, tuple(sorted(with_future))), (functions, classes, tuple(sorted(without)))


def computed(run: cp.Run) -> dict[str, int]:
    """How many nodes of each step a run computed, without the steps of which it computed none."""
    return {step: ended["computed"] for step, ended in run.counts.items() if ended.get("computed")}


def counted(**expected: int) -> dict[str, int]:
    return {step: count for step, count in expected.items() if count}


def test_the_story_is_what_happens(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, str(STORY), str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )
    assert told.returncode == 0, told.stdout
    draft, resumed, run, edited, back = cp.runs(tmp_path / ".cpgraph")
    assert [one.status for one in (draft, resumed, run, edited, back)] == ["failed", "ok", "ok", "ok", "ok"]

    sources = library()
    found = {id: outlines(source) for id, source in sources.items()}
    broken = {id for id, both in found.items() if both is None}
    finished = {id: both[0] if both else EMPTY for id, both in found.items()}
    future_left_out = {id: both[1] if both else EMPTY for id, both in found.items()}
    bare = {id for id, outline in finished.items() if not outline[0]} - broken
    assert bare, "every library has modules without a function"

    # The draft fails on what it was not made for, and on nothing else.
    parsed = sources.keys() - broken
    distinct = {finished[id] for id in parsed}
    assert {failure.node for failure in draft.failures} == {f"longest[{id}]" for id in bare} | {f"outline[{id}]" for id in broken}
    assert f"{len(broken | bare)} failures" in told.stdout and f"{len(bare)} × ValueError: max()" in told.stdout
    assert computed(draft) == counted(
        source=len(sources),
        outline=len({sources[id] for id in parsed}),
        lines=len({sources[id] for id in parsed}),
        functions=len(distinct),
        classes=len(distinct),
        longest=len({outline for outline in distinct if outline[0]}),
        imports=len(distinct),
    )

    # The mended rest: the failed records, and what joins them.
    again = {finished[id] for id in broken | bare}
    nothing = 1 if broken and EMPTY not in distinct else 0  # a kind of outline that the draft had not met
    assert computed(resumed) == counted(
        outline=len({sources[id] for id in broken | bare}) if broken else 0,
        lines=len({sources[id] for id in broken}),
        functions=nothing,
        classes=nothing,
        longest=len(again),
        imports=nothing,
        report=1,
    )

    # As the code is now: what the draft had made and `resume` had kept. The values are equal, so the report stays.
    assert computed(run) == counted(
        outline=len({*sources.values()} - {sources[id] for id in broken | bare}) if broken else 0,
        longest=len({*finished.values()} - again),
    )

    # The edit of a helper: the step that it is a part of, and what follows where its value changed.
    new = len({*future_left_out.values()} - {*finished.values()})
    assert new
    distinct_sources = len({*sources.values()})
    assert re.search(rf"^ +outline +{distinct_sources:,} to compute", told.stdout, re.MULTILINE)
    assert computed(edited) == counted(outline=len({*sources.values()}), **dict.fromkeys(MEASURES, new), report=1)

    # Taken back, nothing runs.
    assert computed(back) == {} and "ok: 0 computed" in told.stdout
    assert [node.id for node in back.nodes if node.ended != "cached"] == []

    # What it was all done for.
    report = (tmp_path / "stdlib_report" / "report.txt").read_text(encoding="utf-8")
    assert f"{len(sources):,} modules" in report
    assert f"{sum(len(outline[0]) for outline in finished.values()):,}  functions" in report
    assert f"{sum(len(source.splitlines()) for source in sources.values()):,}  lines" in report

    # The README shows it. (Where the library has its tests, or Python is another, the draft fails in more ways or other words.)
    if not broken and sys.version_info[:2] == (3, 11):
        following = iter(plain(told.stdout.replace(f"{tmp_path}{os.sep}", "/home/you/")))
        for line in plain(shown()):
            assert line in following, f"README.md shows, and the story does not tell there: {line}"


def shown() -> str:
    """Give what stands in the fenced blocks of the README's story."""
    readme = (STORY.parent.parent / "README.md").read_text(encoding="utf-8")
    chapter = readme[readme.index("## A story") : readme.index("## `run` and `resume`")]
    return "\n".join(re.findall(r"^```\w+\n(.*?)^```$", chapter, re.MULTILINE | re.DOTALL))


def plain(text: str) -> list[str]:
    """Leave out which modules there are, how many, and how long it took."""
    text = re.sub(r"\b[\d.e-]+ s\b", "… s", text)
    return [re.sub(r"\[[^]]*\]", "[…]", re.sub(r"\d[\d,.:-]*", "0", line)).rstrip() for line in text.splitlines() if line.strip()]
