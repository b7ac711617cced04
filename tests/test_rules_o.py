"""Rules O: what can be seen of a run: events, hints, nodes, errors, types."""

import subprocess
import sys
import textwrap
import tracemalloc

import pytest

import cpgraph as cp
from cpgraph import events

EXECUTORS = ["threads", "processes", "inline"]


@cp.model
class Row:
    id: int
    text: str = "1"


def rows(*ids, **fields):
    return [Row(id=id, **fields) for id in ids]


def parse(id: int, text: str) -> float:
    return float(text) + id


def more(parse: float) -> float:
    return parse + 1


def total(more: list[float]) -> float:
    return sum(more)


def graph():
    return cp.Graph(cp.pipeline(cp.pipeline(parse, more, each=Row), total), name="g")


def recorder():
    """A stream, and all events that come along it."""
    stream, seen = cp.Stream(), []
    for name in events.__all__:
        kind = getattr(events, name)
        if kind is not cp.Stream:
            stream.on(kind)(seen.append)
    return stream, seen


# O1: events


@pytest.mark.parametrize("executor", EXECUTORS)
def test_o1_events_are_typed_values_in_order(tmp_path, executor):
    """`RunStarted` first, `RunEnded` last; each node that is computed starts, each ends once."""
    stream, seen = recorder()
    run = graph().run(rows(1, 2), dir=tmp_path, stream=stream, executor=executor)
    first, *middle, last = seen
    assert type(first) is events.RunStarted and (first.run, first.graph) == (1, "g") and str(tmp_path) in first.line
    assert type(last) is events.RunEnded and (last.run, last.status) == (1, "ok") and last.seconds >= 0
    started = [event.node for event in middle if type(event) is events.NodeStarted]
    ended = {event.node: event for event in middle if type(event) is events.NodeEnded}
    names = {"parse[1]", "parse[2]", "more[1]", "more[2]", "total"}
    assert set(started) == set(ended) == names and len(started) == len(names) == len(run.nodes)
    assert len(middle) == 2 * len(names)
    event = ended["parse[2]"]
    assert (event.step, event.record, event.ended) == ("parse", Row(id=2), "computed") and event.seconds >= 0
    assert ended["total"].record is None
    places = {name: number for number, name in enumerate(started)}
    assert places["parse[1]"] < places["more[1]"] < places["total"]

    stream, seen = recorder()
    graph().run(rows(1, 2), dir=tmp_path, stream=stream, executor=executor)
    assert not [event for event in seen if type(event) is events.NodeStarted]
    assert {event.node: event.ended for event in seen if type(event) is events.NodeEnded} == dict.fromkeys(names, "cached")


def test_o1_every_ending_is_an_event(tmp_path):
    """failed, blocked and closed, too; they agree with `run.nodes`."""
    stream, seen = recorder()
    shut = cp.pipeline(cp.alias(free, "shut"), open=lambda: False)
    built = cp.Graph(cp.pipeline(cp.pipeline(parse, more, each=Row), total), shut)
    run = built.run([*rows(1), Row(id=2, text="x")], dir=tmp_path, stream=stream)
    ended = {event.node: event.ended for event in seen if type(event) is events.NodeEnded}
    assert ended == {node.id: node.ended for node in run.nodes}
    assert ended == {
        "parse[1]": "computed", "parse[2]": "failed", "more[1]": "computed", "more[2]": "blocked", "total": "blocked",
        "shut": "closed",
    }  # fmt: skip
    assert seen[-1].status == "failed"


def free() -> int:
    return 1


@pytest.mark.parametrize("executor", EXECUTORS)
def test_o1_pushes_reach_handlers_with_and_without_payload(tmp_path, executor):
    """A handler is called without argument when there is no payload, with None when that is it; several are all called."""
    got = []
    stream = cp.Stream()
    stream.on("progress")(lambda payload: got.append(("first", payload)))
    stream.on("progress")(lambda payload: got.append(("second", payload)))

    @stream.on("bell")
    def bell(*arguments):
        got.append(("bell", arguments))

    run = cp.Graph(pushes).run(dir=tmp_path, stream=stream, executor=executor)
    assert run.ok
    assert got == [
        ("first", {"done": 1}), ("second", {"done": 1}), ("bell", ()), ("bell", (None,)), ("first", 2), ("second", 2),
    ]  # fmt: skip
    got.clear()
    assert cp.Graph(pushes).run(dir=tmp_path, stream=stream, executor=executor).ok and got == [], "the cache replays no pushes"


def pushes(stream: cp.Stream) -> int:
    state = {"done": 1}
    stream.push("progress", state)
    state["done"] = 99
    stream.push("bell")
    stream.push("bell", None)
    stream.push("nobody listens", object())
    stream.push("progress", 2)
    return 1


@pytest.mark.parametrize("error", [RuntimeError("a handler of the user's"), SystemExit(4)])
def test_o1_a_handler_that_raises_ends_nothing(tmp_path, error):
    """Neither one for pushes nor one for events; the others are called all the same."""
    stream, seen = recorder()

    @stream.on(events.NodeEnded)
    @stream.on("progress")
    def broken(*arguments):
        raise error

    got = []
    stream.on("progress")(got.append)
    assert cp.Graph(pushes).run(dir=tmp_path, stream=stream).ok and got == [{"done": 1}, 2] and seen[-1].status == "ok"


def test_o1_whatever_is_told_is_a_hint_on_the_stream_in_run_hints_and_in_the_summary(tmp_path, capsys):
    """Once per kind and step in the summary; with `.kind .text .mend .nodes`; read back by others."""

    def bad(id: int) -> int:
        if id < 3:
            raise ValueError
        return id

    def join(bad: list[int]) -> int:
        return len(bad)

    stream, seen = recorder()
    built = cp.Graph(cp.pipeline(cp.pipeline(bad, each=Row, on_error="skip"), join, fails_to_pickle))
    run = built.run(rows(1, 2, 3), dir=tmp_path, stream=stream)
    told = [event for event in seen if type(event) is events.Hint]
    assert [hint.kind for hint in told] == [hint.kind for hint in run.hints] and len(told) == 2
    hint = next(hint for hint in run.hints if hint.kind == "not-cached")
    assert "fails_to_pickle" in hint.text and hint.mend and hint.nodes == ("fails_to_pickle",)
    assert isinstance(hint.kind, str) and isinstance(hint.nodes, tuple)
    said = capsys.readouterr().err
    for hint in run.hints:
        assert said.count(hint.text) == 1 and hint.mend in said
    assert [(h.kind, h.text, h.mend, h.nodes) for h in cp.runs(tmp_path)[0].hints] == [
        (h.kind, h.text, h.mend, h.nodes) for h in run.hints
    ]


def fails_to_pickle():
    return (number for number in ()) if False else lambda: 1


def test_o1_beside_it_only_the_first_line_progress_and_the_summary_are_printed(tmp_path, capsys):
    """Where all is well: two lines, on stderr; nothing on stdout."""
    graph().run(rows(1, 2), dir=tmp_path)
    said = capsys.readouterr()
    first, last = said.err.splitlines()
    assert said.out == "" and first.startswith("cpgraph: run g") and last.startswith("cpgraph: ok: 5 computed")


# O2: nodes and counts


@pytest.mark.parametrize("executor", EXECUTORS)
def test_o2_nodes_say_how_each_ended(tmp_path, executor):
    """`.id .step .record .ended .reason .seconds .started .run .fingerprint`."""
    first = graph().run(rows(1, 2), dir=tmp_path, executor=executor)
    run = graph().run([*rows(1), Row(id=2, text="x"), Row(id=3)], dir=tmp_path, executor=executor)
    nodes = {node.id: node for node in run.nodes}
    assert set(nodes) == {*(f"{step}[{n}]" for step in ("parse", "more") for n in (1, 2, 3)), "total"}
    cached, failed, blocked, computed = nodes["parse[1]"], nodes["parse[2]"], nodes["more[2]"], nodes["parse[3]"]
    assert (cached.step, cached.record, cached.ended, cached.run) == ("parse", Row(id=1), "cached", 1)
    assert cached.started <= computed.started and cached.seconds >= 0
    assert cached.fingerprint == computed.fingerprint == next(iter(first.nodes)).fingerprint != ""
    assert (failed.ended, failed.record) == ("failed", Row(id=2, text="x")) and "could not convert" in failed.reason
    assert blocked.ended == "blocked" and "parse[2]" in blocked.reason and nodes["total"].ended == "blocked"
    assert (computed.ended, computed.run) == ("computed", 2)
    assert len(run.nodes) == 7 and run.nodes[0].id in nodes and [node.id for node in run.nodes[:2]]
    assert run.counts == {
        "parse": {"computed": 1, "cached": 1, "failed": 1},
        "more": {"computed": 1, "cached": 1, "blocked": 1},
        "total": {"blocked": 1},
    }


@pytest.mark.parametrize("executor", EXECUTORS)
def test_o2_of_equal_work_the_first_in_graph_order_is_computed(tmp_path, executor):
    """The others are cached, whatever the clock did."""
    run = cp.Graph(cp.pipeline(cp.alias(of_text, "of_text"), each=Row)).run(
        [Row(id=n, text="ab"[n % 2]) for n in (5, 3, 8, 1, 4)], dir=tmp_path, executor=executor
    )
    assert {node.key[0]: node.ended for node in run.nodes} == {
        5: "computed", 3: "cached", 8: "computed", 1: "cached", 4: "cached",
    }  # fmt: skip


def of_text(text: str) -> str:
    return text * 2


def test_o2_nodes_behind_a_failed_one_exist_those_of_unknown_items_do_not(tmp_path):
    """Items that a failed step was to give cannot be counted."""

    def items() -> list[int]:
        raise ValueError

    def known(id: int, items: list) -> int:
        return id

    def unknown(n: int) -> int:
        return n

    def join(unknown: list[int]) -> int:
        return 1

    run = cp.Graph(cp.pipeline(items, cp.pipeline(known, each=Row), cp.pipeline(unknown, each={"n": items}), join)).run(
        rows(1, 2), dir=tmp_path
    )
    assert run.counts == {"items": {"failed": 1}, "known": {"blocked": 2}, "unknown": {}, "join": {"blocked": 1}}


def test_o2_nodes_are_made_when_they_are_asked_for(tmp_path):
    """Many nodes cost no many objects."""
    run = cp.Graph(cp.pipeline(cp.alias(of_text, "of_text"), each=Row)).run(
        [Row(id=n, text=str(n)) for n in range(20_000)], dir=tmp_path
    )
    found = cp.runs(tmp_path)[0]
    tracemalloc.start()
    assert len(found.nodes) == 20_000 and found.counts == {"of_text": {"computed": 20_000}}
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most / 20_000 < 500, "bytes for each"
    assert sum(1 for node in found.nodes if node.ended == "computed") == 20_000 and run.nodes[-1].ended == "computed"


# O3: errors


def test_o3_all_errors_derive_from_cpgrapherror():
    """So that one `except` takes them all; a `Retry` is no error of the library's."""
    for error in (
        cp.ModelError, cp.DataError, cp.CompileError, cp.ConflictError, cp.RecordNotFound, cp.NoValue, cp.StorageError,
    ):  # fmt: skip
        assert issubclass(error, cp.CpgraphError) and issubclass(error, Exception)


def test_o3_each_error_is_raised_for_what_it_says(tmp_path):
    """And its text has headline, facts and, where there is one, a mend."""
    with pytest.raises(cp.ModelError, match="id"):

        @cp.model
        class NoId:
            name: str

    with pytest.raises(cp.CompileError, match=r"prase.*parse"):
        cp.Graph(cp.pipeline(parse, lambda_named("prase"), each=Row))
    with pytest.raises(cp.DataError) as error:
        graph().run({"Row": [{"id": 1, "txet": "x"}, {"id": "x", "text": 5}, {"id": 2}, {"text": "no id"}]}, dir=tmp_path)
    assert len(error.value.rows) >= 3 and "txet" in str(error.value), "every bad row"
    run = graph().run(rows(1), dir=tmp_path)
    with pytest.raises(cp.RecordNotFound, match="7"):
        run.store.find(Row, 7)
    with pytest.raises(cp.NoValue, match=r"parse\[9\]"):
        run.value(parse, 9)
    with pytest.raises(cp.NoValue, match="prase"):
        run.value("prase")
    (tmp_path / "file").write_text("")
    with pytest.raises(cp.StorageError):
        graph().run(rows(1), dir=tmp_path / "file")

    def one(record: Row):
        return cp.update(text="one")

    def two(record: Row):
        return cp.update(text="two")

    run = cp.Graph(cp.pipeline(one, each=Row), cp.pipeline(two, each=Row)).run(rows(1), dir=tmp_path)
    (failure,) = run.failures
    assert isinstance(failure.error, cp.ConflictError) and "one[1]" in str(failure.error) and "two[1]" in str(failure.error)


def lambda_named(asks):
    namespace = {}
    exec(f"def save({asks}): ...", namespace)
    return namespace["save"]


# O4: types

TYPED = """
from typing import assert_type
import cpgraph as cp

@cp.model
class Order:
    id: int
    amount: str
    total: float | None = None

@cp.step
def plain(amount: str) -> float:
    return float(amount)

@cp.step(sets="total", retries=2)
def parse(amount: str) -> float:
    return float(amount)

@cp.step
async def fetch(amount: str) -> bytes:
    return b""

def look(store: cp.Store) -> int:
    assert_type(store.find(Order, 1), Order)
    assert_type(store.get(Order, 1), Order | None)
    assert_type(store.all(Order), list[Order])
    assert_type(store.where(Order, amount="1"), list[Order])
    assert_type(store.count(Order), int)
    return 1

assert_type(plain("1"), float)
assert_type(parse("1"), float)
order = Order(id=1, amount="2")
assert_type(order.id, int)
assert_type(order.total, float | None)
graph = cp.Graph(cp.pipeline(cp.pipeline(parse, each=Order), look))
run = graph.run([order], dir=None)
assert_type(run, cp.Run)
assert_type(run.value(parse, 1), float)
assert_type(run.value(look), int)
assert_type(run.ok, bool)
assert_type(run.store.find(Order, 1), Order)
assert_type(graph.resume(), cp.Run)
assert_type(cp.runs("x"), list[cp.Run])
"""

WRONG = """
import cpgraph as cp

@cp.model
class Order:
    id: int
    amount: str

Order(id="x", amount="1")
Order(1, "2")
Order(id=1, amount="1").amount = "2"
"""


def test_o4_it_is_typed_for_mypy(tmp_path):
    """`model` is a `dataclass_transform`, `step` returns its own type, `store.find(type[M], id) -> M`."""
    (tmp_path / "typed.py").write_text(textwrap.dedent(TYPED))
    (tmp_path / "wrong.py").write_text(textwrap.dedent(WRONG))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run([*command, "typed.py", "wrong.py"], cwd=tmp_path, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert not [line for line in lines if line.startswith("typed.py")], done.stdout
    assert [line.partition(":")[2].partition(":")[0] for line in lines if line.startswith("wrong.py") and "error" in line] == [
        "9", "10", "11",
    ], done.stdout  # fmt: skip
