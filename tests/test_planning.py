"""What `plan` says of what would run: what is certain, what is not, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import cpgraph as cp


@cp.model
class Row:
    id: int
    n: int = 0


ROWS = [Row(id=id, n=id) for id in range(1, 5)]


def chain(bend: int = 1, total_bend: int = 0, bad: int = 0, name: str = "chain") -> cp.Graph:
    """Two steps for each row and a sum; `bend` and `total_bend` stand for edits of the first and the last."""

    def first(n: int) -> int:
        return n * bend

    def second(first: int) -> int:
        if first == bad:
            raise ValueError("edge")
        return first + 1

    def total(second: list[int]) -> int:
        return sum(second) + total_bend

    return cp.Graph(cp.pipeline(cp.pipeline(first, second, each=Row), total), name=name, data=ROWS)


def counts(plan: Any) -> dict[str, tuple[int, int, int]]:
    return {name: (step.computed, step.follows, step.cached) for name, step in plan.steps.items()}


def test_where_there_are_no_results_all_is_certain(tmp_path: Path) -> None:
    plan = chain().plan(dir=tmp_path / "none")
    assert counts(plan) == {"first": (4, 0, 0), "second": (4, 0, 0), "total": (1, 0, 0)}
    assert "if what is before" not in str(plan) and plan.steps["total"].reasons == {"new: there is no result for it yet": 1}


def test_behind_an_edited_step_what_has_a_result_may_stay_and_what_has_none_runs(tmp_path: Path) -> None:
    chain().run(dir=tmp_path)
    assert counts(chain(2).plan(dir=tmp_path)) == {"first": (4, 0, 0), "second": (0, 4, 0), "total": (0, 1, 0)}
    both = chain(2, 1).plan(dir=tmp_path)
    assert counts(both) == {"first": (4, 0, 0), "second": (0, 4, 0), "total": (1, 0, 0)}
    assert both.steps["total"].reasons == {"its code was edited": 1} and both.steps["total"].seconds >= 0
    chain(1, 1).run(dir=tmp_path)
    assert counts(chain(2, 1).plan(dir=tmp_path))["total"] == (0, 1, 0), "there is a result by that code by now"


def test_what_failed_or_was_blocked_has_no_result(tmp_path: Path) -> None:
    chain(bad=2).run(dir=tmp_path)
    plan = chain(2, bad=2).plan(dir=tmp_path)
    assert counts(plan) == {"first": (4, 0, 0), "second": (1, 3, 0), "total": (1, 0, 0)}
    assert plan.steps["second"].reasons == {"failed in run 1": 1} and plan.steps["total"].reasons == {"blocked in run 1": 1}


def test_results_count_whichever_graph_has_made_them(tmp_path: Path) -> None:
    chain(name="other").run(dir=tmp_path)
    assert counts(chain(2).plan(dir=tmp_path))["second"] == (0, 4, 0)


def test_what_may_be_closed_is_not_certain(tmp_path: Path) -> None:
    """A condition that cannot be asked yet, a value of what is closed, and what takes a value of either."""

    def begin() -> int:
        return 1

    def inner() -> int:
        return 1

    def takes(inner: int) -> int:
        return inner

    def closed() -> int:
        return 1

    def asks(closed: int) -> int:
        return closed

    def passes() -> int:
        return 1

    graph = cp.Graph(
        cp.pipeline(begin, cp.pipeline(inner, open=lambda begin: begin > 1), takes, passes),
        cp.pipeline(cp.alias(begin, "other"), cp.pipeline(closed, open=lambda really: really), asks),
        params={"really": False},
        name="doubt",
    )
    plan = graph.plan(dir=tmp_path)
    assert {name: (step.computed, step.follows) for name, step in plan.steps.items()} == {
        "begin": (1, 0),
        "inner": (0, 1),
        "takes": (0, 1),
        "passes": (1, 0),
        "other": (0, 0),
        "closed": (0, 1),
        "asks": (0, 1),
    }
    assert plan.steps["other"].equal == 1, "it shares the call of `begin`"


def test_behind_what_would_fail_nothing_is_certain(tmp_path: Path) -> None:
    def read(path: cp.File) -> str:
        return Path(path).read_text()

    def all_of(read: list[str]) -> int:
        return len(read)

    (tmp_path / "a.txt").write_text("a")
    paths = [cp.File(tmp_path / "a.txt"), cp.File(tmp_path / "none.txt")]
    plan = cp.Graph(cp.pipeline(cp.pipeline(read, each={"path": paths}), all_of)).plan(dir=tmp_path / "d")
    assert counts(plan) == {"read": (1, 0, 0), "all_of": (0, 1, 0)} and len(plan.failures) == 1
    *_, headline, mend = str(plan).splitlines()
    assert headline.startswith("    would fail: read[") and mend.startswith("        Mend: ")


def test_redo_says_how_long_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain().run(dir=tmp_path)
    plan = chain().plan(dir=tmp_path, redo=["first", "total"])
    assert counts(plan) == {"first": (4, 0, 0), "second": (0, 4, 0), "total": (1, 0, 0)}
    assert plan.steps["first"].seconds > 0 and plan.steps["total"].seconds > 0
    assert plan.steps["first"].reasons == {"asked for (redo)": 4} and plan.steps["total"].reasons == {"asked for (redo)": 1}


def test_a_resume_keeps_what_was_edited_and_says_so(tmp_path: Path) -> None:
    chain(bad=2).run(dir=tmp_path)
    plan = chain(2, bad=2).plan(dir=tmp_path, resume=True)
    first = plan.steps["first"]
    assert (first.cached, first.kept, first.computed) == (3, 3, 1)
    assert "first   1 to compute" in str(plan) and "3 as they are (edited, kept)" in str(plan)
    chain(2).resume(dir=tmp_path)
    assert "4 as they are (3 of them edited, kept)" in str(chain(2).plan(dir=tmp_path, resume=True))
    assert "kept)" not in str(chain().plan(dir=tmp_path))


def test_v4_a_returned_file_that_is_gone_or_another_is_named(tmp_path: Path) -> None:
    def made(n: int) -> cp.File:
        path = tmp_path / f"{n}.txt"
        path.write_text("as it was")
        return cp.File(path)

    graph = cp.Graph(cp.pipeline(made, each={"n": [1, 2, 3]}))
    graph.run(dir=tmp_path / "d")
    (tmp_path / "1.txt").unlink()
    (tmp_path / "2.txt").write_text("as it is")
    assert graph.plan(dir=tmp_path / "d").steps["made"].reasons == {
        f"the file that it returned is gone: {tmp_path / '1.txt'}": 1,
        f"the file that it returned is another: {tmp_path / '2.txt'}": 1,
    }
    run = graph.run(dir=tmp_path / "d")
    assert run.why(made, 2) == f"made[2] ran: a file that it had returned was gone, or was another ({tmp_path / '2.txt'})."
    again = graph.run(dir=tmp_path / "d", redo="made[3]")
    assert again.why(made, 3) == "made[3] ran: it was asked to (redo)."
    assert again.why(made, 2).startswith("made[2] did not run")


def test_what_is_not_cached_says_so(tmp_path: Path) -> None:
    @cp.step(cache=False)
    def always() -> int:
        return 1

    graph = cp.Graph(always)
    graph.run(dir=tmp_path)
    assert graph.plan(dir=tmp_path).steps["always"].reasons == {"it is not cached (cache=False)": 1}


@cp.model
class Valued:
    id: int
    x: int
    z: int | None = None


def test_what_is_behind_a_planned_step_is_counted_and_sees_what_may_be_written(tmp_path: Path) -> None:
    """Also in an each that stands right behind it; who asks for what an uncertain step writes is uncertain, too."""

    def top(n: int = 1) -> int:
        return n % 2

    @cp.step(sets="z")
    def writes(x: int, top: int) -> int:
        return x + top

    def field(z: int) -> int:
        return z

    def record(record: Valued) -> int:
        return record.x

    def asks(store: cp.Store) -> int:
        return store.count(Valued, z=4)

    inside = cp.pipeline(writes, each=Valued), cp.pipeline(field, record, each=Valued)
    graph = cp.Graph(cp.pipeline(top, *inside, asks), name="behind", dir=tmp_path)
    data = [Valued(id=1, x=3), Valued(id=2, x=8)]
    graph.run(data)
    plan = graph.plan(data, params={"n": 3})
    assert {name: (step.computed, step.follows) for name, step in plan.steps.items()} == {
        "top": (1, 0),
        "writes": (0, 2),
        "field": (0, 2),
        "record": (0, 2),
        "asks": (0, 1),
    }
    assert [node.id for node in graph.run(data, params={"n": 3}).nodes if node.ended == "computed"] == ["top"]


def test_equal_work_is_planned_once(tmp_path: Path) -> None:
    def work(x: int) -> int:
        return x

    graph = cp.Graph(cp.pipeline(work, each=Valued), name="equal", dir=tmp_path)
    data = [Valued(id=id, x=1) for id in range(3)]
    plan = graph.plan(data)
    assert plan.computed == 1 and plan.steps["work"].equal == 2 and "1 to compute, 2 of equal work" in str(plan)
    assert graph.run(data).counts["work"] == {"computed": 1, "cached": 2}
