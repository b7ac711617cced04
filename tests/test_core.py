"""The order of things, and what may be under way at once: rules that only show when nodes end in an unusual order."""

import json
import sqlite3
import threading
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import cpgraph as cp


@cp.model
class Page:
    id: str
    text: int = -1


@cp.model
class Link:
    id: str


@cp.model
class Entry:
    id: str = cp.auto_id()
    note: str = ""


@cp.model
class Note:
    id: str
    note: str = ""


@pytest.mark.parametrize("late", [False, True], ids=["first creator first", "first creator last"])
def test_c6_order_is_that_of_the_first_creator_whichever_committed_first(late: bool) -> None:
    """Both `one` and `two` create x; `one` is first in graph order, and x comes before y whenever it commits."""
    seen = threading.Event()

    def one() -> list[Any]:
        assert not late or seen.wait(60)
        return [cp.create(Page(id="x"))]

    def two() -> list[Any]:
        return [cp.create(Page(id="y")), cp.create(Page(id="x"))]

    def child(id: str) -> Any:
        if id == "x":
            seen.set()
        return cp.result(id, cp.create(Link(id=f"of {id}")))

    def after(child: list[str], store: cp.Store) -> tuple[list[str], list[str]]:
        return child, [link.id for link in store.all(Link)]

    graph = cp.Graph(cp.pipeline([one, two, cp.pipeline(child, each=Page)], after), models=[Link])
    run = graph.run(dir=None)
    assert run.value(after) == (["x", "y"], ["of x", "of y"])
    assert [link["id"] for link in run.data["Link"]] == ["of x", "of y"]
    assert list(run.values(child)) == ["x", "y"]


def test_e6_a_node_goes_on_though_its_work_is_that_of_one_that_waits_for_its_place() -> None:
    """With one place, item 4 comes to f(5), which item 5 was to do first, and waits for that place."""

    def more(n: int) -> int:
        return n + 1

    twice = cp.alias(more, "twice", inputs={"n": "more"})
    run = cp.Graph(cp.pipeline(more, twice, each={"n": [4, 5]}, concurrency=1)).run(dir=None, executor="inline")
    assert run.ok and run.values("twice") == {4: 6, 5: 7}


def test_g3_a_guard_is_settled_though_its_record_holds_the_only_place() -> None:
    def first(id: str) -> str:
        return id

    def second(first: str) -> str:
        return first

    def never(store: cp.Store) -> bool:
        return store.count(Page) > 9

    graph = cp.Graph(cp.pipeline(first, cp.pipeline(second, open=never), each=Page, concurrency=1))
    run = graph.run([Page(id="a"), Page(id="b")], dir=None, executor="inline")
    assert run.ok and run.counts == {"first": {"computed": 2}, "second": {"closed": 2}}


def test_g3_closed_guards_are_settled_in_graph_order_record_by_record() -> None:
    ended = []
    stream = cp.Stream()

    @stream.on(cp.events.NodeEnded)
    def note(event: cp.events.NodeEnded) -> None:
        ended.append(event.node)

    def work(id: str) -> str:
        return id

    def never(store: cp.Store) -> bool:
        return store.count(Page) > 9

    inner = cp.pipeline(cp.pipeline(work, open=never), each=Link)
    data = [Page(id="a"), Page(id="b"), Link(id="x"), Link(id="y")]
    cp.Graph(cp.pipeline(inner, each=Page)).run(data, dir=None, executor="inline", stream=stream)
    assert ended == ["work[a,x]", "work[a,y]", "work[b,x]", "work[b,y]"]


def test_e6_a_limit_lets_the_next_begin_when_a_guard_holds_back_the_one_before() -> None:
    limit = cp.Limit(1)

    def writes() -> Any:
        return cp.create(Page(id="a"))

    def guarded() -> int:
        return 1

    def last() -> int:
        return 2

    def empty(store: cp.Store) -> bool:
        return store.count(Page) == 0

    steps = [cp.alias(function, function.__name__, limit=limit) for function in (writes, guarded, last)]
    graph = cp.Graph(steps[0], cp.pipeline(steps[1], open=empty), steps[2], models=[Page])
    run = graph.run(dir=None)
    assert run.ok and run.value("last") == 2
    assert run.counts["guarded"] == {"closed": 1}


@pytest.mark.parametrize("count", [3, 250])
def test_c2_the_write_of_the_first_node_stands_among_however_many(count: int) -> None:
    def write(n: int) -> Any:
        return cp.update(Page, "a", text=n)

    graph = cp.Graph(cp.pipeline(write, each={"n": list(range(count))}), models=[Page])
    run = graph.run([Page(id="a")], dir=None, executor="inline")
    (failure,) = run.failures
    assert isinstance(failure.error, cp.ConflictError)
    assert failure.error.facts["first"] == "write[0] (its write stands)"
    assert failure.error.facts["nodes in all"] == count
    assert run.data == {"Page": [{"id": "a", "text": 0}]}


def goes_on(functions: tuple[Any, ...], version: str, way: str, **options: Any) -> cp.Run:
    """Run or resume pages by steps of a stated version."""
    steps = [cp.alias(step, step.__name__, version=version) for step in functions]
    run: cp.Run = getattr(cp.Graph(cp.pipeline(*steps, each=Page), name="pages"), way)(executor="inline", **options)
    return run


def test_r3_what_an_interrupted_resume_completed_is_kept_by_the_resumes_after_it(tmp_path: Path) -> None:
    """Page a fails; a resume mends it and is interrupted, the next is interrupted at once: then a stands as mended."""
    stop = threading.Event()
    state: dict[str, Any] = {"fails": True, "calls": []}

    def read(id: str) -> str:
        state["calls"].append(f"read {id}")
        return id

    def parse(read: str) -> str:
        state["calls"].append(f"parse {read}")
        if read == "a" and state["fails"]:
            raise ValueError(read)
        if not state["fails"]:
            stop.set()
        return read

    go = partial(goes_on, (read, parse), dir=tmp_path / "kept", stop=stop)

    assert go("1", "run", data=[Page(id="a"), Page(id="b")]).status == "failed"
    state["fails"] = False
    state["calls"].clear()
    assert go("2", "resume").status == "interrupted" and state["calls"] == ["read a", "parse a"]
    assert go("3", "resume").status == "interrupted"
    stop.clear()
    last = go("4", "resume")
    assert last.ok and last.counts == {"read": {"cached": 2}, "parse": {"cached": 2}}
    assert state["calls"] == ["read a", "parse a"]


def test_r3_a_record_is_begun_anew_until_what_failed_of_it_has_been_done(tmp_path: Path) -> None:
    """A resume that is stopped between the two steps of a has not mended it: the next begins a from its top."""
    stop = threading.Event()
    state: dict[str, Any] = {"stops": False}

    def read(id: str) -> str:
        if state["stops"]:
            stop.set()
        return id

    def parse(read: str) -> str:
        if not state["stops"]:
            raise ValueError(read)
        return read

    go = partial(goes_on, (read, parse), dir=tmp_path / "kept", stop=stop)

    assert go("1", "run", data=[Page(id="a")]).status == "failed"
    state["stops"] = True
    assert go("2", "resume").counts["read"] == {"computed": 1}
    stop.clear()
    again = go("3", "resume")
    assert again.counts["read"] == {"computed": 1}


def raises(*args: Any) -> bool:
    raise SystemExit(3)


def test_g4_whatever_a_condition_guard_or_predicate_raises_fails_its_pipeline_alone() -> None:
    def work(id: str) -> str:
        return id

    def other() -> int:
        return 1

    def guard(store: cp.Store) -> bool:
        return raises()

    def condition(id: str) -> bool:
        return raises()

    for part in (
        cp.pipeline(work, each=Page, open=guard),
        cp.pipeline(work, each=Page, open=condition),
        cp.pipeline(work, each=cp.where(Page, lambda record: raises())),
    ):
        run = cp.Graph(part, other).run([Page(id="a")], dir=None, executor="inline")
        assert run.status == "failed" and run.value(other) == 1
        (failure,) = run.failures
        assert isinstance(failure.error, SystemExit)


def test_c1_a_guard_brings_what_was_committed_to_its_own_record_alone() -> None:
    """In each page, what stands under the guard sees the links there were at its opening."""

    def make(id: str) -> Any:
        return cp.create(Link(id=id))

    def some(store: cp.Store) -> bool:
        return store.count(Link) > 0

    def seen(store: cp.Store) -> list[str]:
        return [link.id for link in store.all(Link)]

    def after(store: cp.Store) -> list[str]:
        return [link.id for link in store.all(Link)]

    page = cp.pipeline(make, [cp.pipeline(seen, open=some), after], each=Page, concurrency=1)
    run = cp.Graph(page, models=[Link]).run([Page(id="a"), Page(id="b")], dir=None, executor="inline")
    assert run.values(seen) == {"a": ["a"], "b": ["a", "b"]}
    assert run.values(after) == {"a": ["a"], "b": ["b"]}


def test_s3_the_records_of_a_damaged_version_are_neither_shown_nor_run(tmp_path: Path) -> None:
    def write(id: str) -> Any:
        return cp.update(note=f"{id:0>4}" * 1000)

    graph = cp.Graph(cp.pipeline(write, each=Note))
    run = graph.run([Note(id=str(n)) for n in range(3)], dir=tmp_path / "kept", executor="inline")
    journal = tmp_path / "kept" / "journal.sqlite"
    del run
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    body = journal.read_bytes()
    assert b"0001" * 200 in body
    journal.write_bytes(body.replace(b"0001" * 200, b"0007" * 200))
    last = cp.runs(tmp_path / "kept")[-1].history[-1]
    assert last.damaged
    for ask in (lambda: last.data, lambda: last.store, lambda: graph.run(last, dir=None)):
        with pytest.raises(cp.CpgraphError, match="damaged"):
            ask()


def test_r7_what_was_edited_by_hand_is_not_passed_on_to_equal_work(tmp_path: Path) -> None:
    """Two notes make one page by equal work, and a log each; the page is edited, and both run again."""

    def make(note: str) -> Any:
        return [cp.create(Page(id="k", text=1)), cp.create(Entry(note=note))]

    graph = cp.Graph(cp.pipeline(make, each=Note), models=[Page, Entry])
    data = [Note(id="a", note="n"), Note(id="b", note="n")]
    run = graph.run(data, dir=tmp_path / "one", executor="inline")
    assert run.ok and len(run.data["Entry"]) == 2
    saved = tmp_path / "saved.json"
    run.history[-1].save(saved)
    text = json.loads(saved.read_text())
    [page] = text["Page"]
    page["text"] = 5
    saved.write_text(json.dumps(text))
    again = graph.resume(saved, dir=tmp_path / "two", executor="inline", redo=make)
    assert again.ok and again.data["Page"] == [{"id": "k", "text": 5}]
    assert again.data["Entry"] == run.data["Entry"]
    assert cp.runs(tmp_path / "two")[-1].data == again.data


def test_c5_a_selection_that_asks_for_a_deleted_record_around_it_selects_nothing() -> None:
    """What stands on the record is closed; it is no failure."""

    def drop(record: Note) -> object:
        return cp.delete(record)

    def check(record: Note) -> int:
        return record.id

    inner = cp.pipeline(check, each=cp.where(Note, lambda other, record: other.id <= record.id))
    run = cp.Graph(cp.pipeline(drop, inner, each=Note)).run([Note(id="1")], dir=None)
    assert run.ok
    assert run.counts["drop"] == {"computed": 1}
    assert "failed" not in run.counts["check"]
