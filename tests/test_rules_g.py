"""Rules G: conditions and guards. Who is asked, when, of which store; and what a closed part means for what comes after."""

import asyncio
import functools
import threading

import pytest
from scripts import Script

import cpgraph as cp
from cpgraph.events import GuardChanged, NodeEnded

EXECUTORS = ["threads", "processes", "inline"]


@cp.model
class Row:
    id: int
    ok: bool = False
    size: int = 0


@cp.model
class Other:
    id: int
    done: bool = False


def rows(*ids, **fields):
    return [Row(id=id, **fields) for id in ids]


def ends(run, step):
    return {node.key[0] if len(node.key) == 1 else node.key: node.ended for node in run.nodes if node.step == step}


def kinds(run):
    return [hint.kind for hint in run.hints]


def before() -> int:
    return 2


def mark(record: Row):
    return cp.update(ok=True)


def grow(size: int):
    return cp.update(size=size + 1)


def last() -> str:
    return "done"


# G1: conditions


@pytest.mark.parametrize("executor", EXECUTORS)
def test_g1_a_condition_is_asked_once_per_record_of_its_view(tmp_path, executor):
    """When all before the pipeline has ended, as a step would be: it sees what stands before it."""
    asked = []

    def lets(record: Row, before: int) -> bool:
        asked.append((record.id, record.size, before))
        return record.id != before

    graph = cp.Graph(cp.pipeline(before, cp.pipeline(grow, each=Row), cp.pipeline(mark, last, each=Row, open=lets)))
    run = graph.run(rows(1, 2, 3), dir=tmp_path, executor=executor)
    assert sorted(asked) == [(1, 1, 2), (2, 1, 2), (3, 1, 2)]
    assert run.ok and ends(run, "mark") == {1: "computed", 2: "closed", 3: "computed"}
    assert ends(run, "last")[2] == "closed" and run.value(last, 3) == "done"
    assert [row["ok"] for row in run.data["Row"]] == [True, False, True]
    assert "condition" in run.why("mark", 2) and "closed" in run.why("mark", 2)


def test_g1_a_condition_that_asks_for_nothing_of_a_record_is_asked_once(tmp_path):
    """Also with an `each`, and where it asks for a parameter or a value."""
    asked = []

    def lets(before: int, wanted: bool) -> bool:
        asked.append((before, wanted))
        return wanted

    graph = cp.Graph(cp.pipeline(before, cp.pipeline(mark, each=Row, open=lets)), params=["wanted"])
    run = graph.run(rows(1, 2, 3), dir=tmp_path, params={"wanted": False})
    assert asked == [(2, False)] and ends(run, "mark") == {1: "closed", 2: "closed", 3: "closed"} and run.ok
    asked.clear()
    run = graph.run(rows(1, 2, 3), dir=tmp_path, params={"wanted": True})
    assert asked == [(2, True)] and run.counts["mark"] == {"computed": 3}


def test_g1_a_condition_may_ask_for_a_field_an_item_or_nothing(tmp_path):
    """What a step may ask for, a condition may ask for."""

    def use(n: int) -> int:
        return n

    graph = cp.Graph(
        cp.pipeline(cp.pipeline(use, each={"n": [1, 2, 3]}, open=lambda n: n > 1)),
        cp.pipeline(mark, each=Row, open=lambda id: id == 1),
        cp.pipeline(last, open=lambda: False),
    )
    run = graph.run(rows(1, 2), dir=tmp_path)
    assert run.ok and ends(run, "use") == {1: "closed", 2: "computed", 3: "computed"}
    assert ends(run, "mark") == {1: "computed", 2: "closed"} and run.counts["last"] == {"closed": 1}


def test_g1_the_condition_of_an_inner_pipeline_is_asked_per_outer_record(tmp_path):
    """It may ask for a step of its own instance."""

    def size_of(id: int) -> int:
        return id * 10

    def inner() -> str:
        return "inner"

    def join(inner: str) -> str:
        return inner

    graph = cp.Graph(cp.pipeline(size_of, cp.pipeline(inner, open=lambda size_of: size_of > 10), [join, last], each=Row))
    run = graph.run(rows(1, 2), dir=tmp_path)
    assert run.ok and ends(run, "inner") == {1: "closed", 2: "computed"}
    assert ends(run, "join") == {1: "closed", 2: "computed"}, "one that asks for its single value is closed, too"
    assert ends(run, "last") == {1: "computed", 2: "cached"}, "what does not ask goes on"


# G1: guards


@pytest.mark.parametrize("executor", EXECUTORS)
def test_g1_a_guard_is_asked_for_the_pipeline_and_again_when_its_model_has_changed(tmp_path, executor):
    """Not when another model has; it reads the live store."""
    asked = []

    def opens(store: cp.Store) -> bool:
        asked.append(store.count(Row, ok=True))
        return store.count(Row, ok=True) >= 2

    def other(record: Other):
        return cp.update(done=True)

    graph = cp.Graph(
        cp.pipeline(other, each=Other),
        cp.pipeline(cp.pipeline(mark, each=Row, concurrency=1)),
        cp.pipeline(cp.alias(last, "guarded"), open=opens),
    )
    data = {"Row": [{"id": n} for n in range(3)], "Other": [{"id": n} for n in range(20)]}
    run = graph.run(data, dir=tmp_path, executor=executor)
    assert run.ok and run.value("guarded") == "done"
    assert asked == sorted(set(asked)) and asked[0] == 0 and asked[-1] >= 2 and len(asked) <= 4


def test_g1_a_closed_guard_lets_no_node_start_and_what_has_started_ends(tmp_path):
    """Closing in the middle: the limit is exact with one at a time."""
    begun = []

    def work(record: Row):
        begun.append(record.id)
        return cp.update(ok=True)

    def more(record: Row):
        return cp.update(size=9)

    graph = cp.Graph(cp.pipeline(work, more, each=Row, open=lambda store: store.count(Row, ok=True) < 3))
    run = graph.run(rows(*range(10)), dir=tmp_path, concurrency=1)
    assert run.ok and len(begun) == 3 == run.store.count(Row, ok=True)
    assert run.counts["work"] == {"computed": 3, "closed": 7}
    assert run.counts["more"].get("closed", 0) + run.counts["more"].get("computed", 0) == 10
    assert run.store.count(Row, size=9) == run.counts["more"].get("computed", 0)
    assert "count(Row, ok=True)" in run.why("work", 9), "with what it read"


@pytest.mark.parametrize("asks", ["record", "field", "annotation", "item", "inner step"])
def test_g1_a_guard_may_not_ask_for_anything_of_a_record(asks):
    """A `CompileError` that names the mend: a condition, or `each=cp.where(…)`."""
    guard = {
        "record": lambda store, record: True,
        "field": lambda store, size: True,
        "annotation": eval("lambda store, r: True"),
        "item": lambda store, n: True,
        "inner step": lambda store, grow: True,
    }[asks]
    if asks == "annotation":
        guard.__annotations__["r"] = Row
    each = {"n": [1]} if asks == "item" else Row
    part = last if asks == "item" else grow
    with pytest.raises(cp.CompileError) as error:
        cp.Graph(cp.pipeline(part, each=each, open=guard))
    assert "Mend:" in str(error.value) and ("condition" in str(error.value) or "where" in str(error.value))


def test_g1_a_guard_may_ask_for_what_stands_before_its_pipeline(tmp_path):
    """A step's value, a parameter."""
    seen = []

    def opens(store, before, wanted) -> bool:
        seen.append((before, wanted))
        return store.count(Row) >= wanted

    graph = cp.Graph(cp.pipeline(before, cp.pipeline(mark, each=Row, open=opens)), params={"wanted": 1})
    assert graph.run(rows(1, 2), dir=tmp_path).counts["mark"] == {"computed": 2} and seen[0] == (2, 1)
    assert graph.run(rows(1, 2), dir=tmp_path, params={"wanted": 5}).counts["mark"] == {"closed": 2}


def test_g1_open_of_a_wrong_kind_is_a_compile_error():
    """It asks for something that is not there, or is no function."""
    with pytest.raises(cp.CompileError, match=r"siez.*size"):
        cp.Graph(cp.pipeline(grow, each=Row, open=lambda siez: True))
    with pytest.raises(cp.CompileError):
        cp.Graph(cp.pipeline(grow, each=Row, open=True))


class Asks:
    async def __call__(self) -> bool:
        return False


async def asks_later() -> bool:
    return False


async def guards_later(store) -> bool:
    return False


def yields_it():
    yield False


@pytest.mark.parametrize("opens", [asks_later, guards_later, yields_it, Asks()], ids=["condition", "guard", "yields", "object"])
def test_g1_what_answers_later_is_refused(opens):
    """A coroutine that nobody awaits would count as a yes."""
    with pytest.raises(cp.CompileError, match=r"(?s)open=.*test_rules_g.py:.*Mend:"):
        cp.Graph(cp.pipeline(last, open=opens, name="part"))


def test_g1_open_takes_a_function():
    for opens in (True, "yes", Row):
        with pytest.raises(cp.CompileError, match=r"(?s)open= takes a function.*test_rules_g.py:"):
            cp.pipeline(last, open=opens)


# G2: the base of views


@pytest.mark.parametrize("executor", EXECUTORS)
def test_g2_the_store_of_a_guards_first_yes_is_seen_by_all_under_it(tmp_path, executor):
    """So what is under it sees what was committed by then, though it is not ordered after it; later answers only hold."""
    graph = cp.Graph(
        cp.pipeline(mark, each=Row),
        cp.pipeline(count_ok, open=lambda store: store.count(Row, ok=True) == 4),
        cp.pipeline(cp.alias(count_ok, "unguarded")),
    )
    run = graph.run(rows(*range(4)), dir=tmp_path, executor=executor)
    assert run.value(count_ok) == 4 and run.value("unguarded") == 0


def count_ok(store: cp.Store) -> int:
    return store.count(Row, ok=True)


def test_g2_guards_and_conditions_are_part_of_no_key(tmp_path):
    """Another predicate that says the same leaves everything cached."""
    calls = []

    @cp.step(version="1")
    def work(id: int) -> int:
        calls.append(id)
        return id

    for number, predicate in enumerate([lambda id: id < 3, lambda id: id in (1, 2), lambda store: True]):
        graph = cp.Graph(cp.pipeline(work, each=Row, open=predicate), name="g")
        run = graph.run(rows(1, 2, 3), dir=tmp_path)
        assert run.ok and sorted(run.values(work)) == ([1, 2] if number < 2 else [1, 2, 3])
    assert sorted(calls) == [1, 2, 3]


# G3: settled for good


@pytest.mark.parametrize("executor", EXECUTORS)
def test_g3_a_guard_that_never_opens_ends_as_closed_and_hangs_nothing(tmp_path, executor):
    """With what it read; what comes after goes on; `run.ok` stays true, and that something went on is told."""
    graph = cp.Graph(
        cp.pipeline(
            cp.pipeline(mark, each=Row, open=lambda store: store.count(Row, ok=True) > 0, name="gated"),
            [last, cp.alias(count_ok, "count")],
        )
    )
    run = graph.run(rows(1, 2), dir=tmp_path, executor=executor)
    assert run.status == "ok" and run.counts["mark"] == {"closed": 2} and run.value(last) == "done" and run.value("count") == 0
    assert "gated" in run.why("mark", 1) and "count(Row, ok=True)" in run.why("mark", 1)
    with pytest.raises(cp.NoValue, match="closed") as refused:
        run.value(mark, 1)
    assert refused.value.mend == "ask for it with default=…: what is closed has no value."
    (told,) = [hint for hint in run.hints if hint.kind == "passed-closed"]
    assert told.text == "last, count went on past gated, which was closed" and "open=" in told.mend


def test_g3_what_went_on_past_a_part_that_ran_for_some_is_told_with_counts(tmp_path, capsys):
    """A condition that lets some in, a guard that closes when some have run, and one that never opens."""
    graph = cp.Graph(
        cp.pipeline(cp.pipeline(grow, name="inner", open=lambda id: id > 3), last, each=Row),
        cp.pipeline(
            cp.pipeline(mark, each=Row, name="some", concurrency=1, open=lambda store: store.count(Row, ok=True) < 3),
            cp.alias(last, "after"),
        ),
        cp.pipeline(cp.pipeline(before, name="never", open=lambda store: False), cp.alias(last, "end")),
    )
    run = graph.run(rows(*range(1_300)), dir=tmp_path)
    told = {hint.text for hint in run.hints if hint.kind == "passed-closed"}
    assert told == {
        "last went on past inner, which was closed for 4 of 1,300",
        "after went on past some, which was closed for 1,297 of 1,300",
        "end went on past never, which was closed",
    }
    assert "  last went on past inner, which was closed for 4 of 1,300" in capsys.readouterr().err.splitlines()


def test_g3_guards_are_settled_first_in_graph_order_first(tmp_path):
    """Each waits for the other: the first is closed, and then the second may open by what comes of that."""

    def one() -> int:
        return cp.create(Other(id=1))

    def after_one() -> int:
        return cp.create(Other(id=2))

    def two() -> int:
        return 2

    graph = cp.Graph(
        cp.pipeline(cp.pipeline(one, open=lambda store: store.get(Other, 3) is not None, name="first"), after_one),
        cp.pipeline(two, open=lambda store: store.get(Other, 2) is not None, name="second"),
        models=[Other],
    )
    run = graph.run(dir=tmp_path)
    assert run.ok and run.counts == {"one": {"closed": 1}, "after_one": {"computed": 1}, "two": {"computed": 1}}


def test_g3_a_step_that_asks_for_a_single_value_of_a_closed_node_is_closed(tmp_path):
    """And so on down the line; a list is empty; a step that only waits goes on."""

    def gated() -> int:
        return 1

    def needs(gated: int) -> int:
        return gated

    def further(needs: int) -> int:
        return needs

    @cp.step(after="gated")
    def waits() -> int:
        return 2

    def many(id: int) -> int:
        return id

    def join(many: list[int]) -> list:
        return many

    graph = cp.Graph(
        cp.pipeline(cp.pipeline(gated, open=lambda: False), needs, further),
        waits,
        cp.pipeline(cp.pipeline(many, each=Row, open=lambda store: False), join),
    )
    run = graph.run(rows(1), dir=tmp_path)
    assert run.ok and bool(run) and kinds(run).count("passed-closed") == 2
    assert run.counts == {
        "gated": {"closed": 1}, "needs": {"closed": 1}, "further": {"closed": 1}, "waits": {"computed": 1},
        "many": {"closed": 1}, "join": {"computed": 1},
    }  # fmt: skip
    assert run.value(join) == []


@pytest.mark.parametrize("executor", ["inline", "threads"])
@pytest.mark.parametrize("swapped", [False, True])
def test_g3_a_step_that_asks_for_a_value_of_a_closed_and_one_of_a_failed_node_is_blocked(tmp_path, executor, swapped):
    def fails():
        raise ValueError("no")

    def shut():
        return 1

    def asks(shut, fails):
        return shut

    parts = [cp.pipeline(fails, on_error="skip"), cp.pipeline(shut, open=lambda store: False)]
    run = cp.Graph(cp.pipeline(*(reversed(parts) if swapped else parts), asks), models=[Row]).run(dir=tmp_path, executor=executor)
    assert run.counts == {"fails": {"failed": 1}, "shut": {"closed": 1}, "asks": {"blocked": 1}}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_g3_a_guard_of_an_each_that_closes_again_ends_what_has_not_started_inner_instances_too(tmp_path, executor):
    """The inner part has more steps than the outer one has, and the record just created brings an instance of its own."""

    def spread(id: int):
        return cp.create(Row(id=id + 2), if_exists="keep") if id < 8 else None

    def inner(id: int):
        return id

    def second(inner: int):
        return inner

    def third(second: int):
        return second

    def few(store):
        return store.count(Row) < 3

    nested = cp.pipeline(inner, second, third, each=Other, name="nested")
    graph = cp.Graph(cp.pipeline(cp.pipeline(spread, nested, each=Row, open=few, name="outer"), last))
    run = graph.run([*rows(1), Other(id=1), Other(id=2)], dir=tmp_path / "kept", executor=executor)
    assert run.ok
    assert ends(run, "spread") == {1: "computed", 3: "computed", 5: "closed"}
    assert {key: ended for key, ended in ends(run, "third").items() if key[0] == 5} == {(5, 1): "closed", (5, 2): "closed"}
    assert ends(run, "last") == {(): "computed"}
    assert "passed-closed" in kinds(run)


def test_g3_closed_is_not_failed_for_the_command(tmp_path):
    """Exit status 0."""
    script = Script(
        tmp_path,
        """
        def one() -> int:
            return 1
        graph = cp.Graph(cp.pipeline(one, open=lambda store: False))
        """,
    )
    done = script.command("run", "job.py")
    assert "1 closed" in done.last and script.command("why", "one").out.startswith("one was closed")


# G4: one that raises


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("kind", ["condition", "whole condition", "guard", "guard asked again"])
def test_g4_one_that_raises_fails_its_pipeline(tmp_path, kind, executor):
    """With the place; of a condition per record, its record alone; what comes after is blocked, beside it all goes on."""

    def condition(id: int) -> bool:
        return 1 // (id - 1) > 5  # record 1

    def whole() -> bool:
        raise ValueError("broken")

    def guard(store) -> bool:
        raise ValueError("broken")

    def again(store) -> bool:
        if store.count(Other, done=True):
            raise ValueError("broken")
        return False

    def other(record: Other):
        return cp.update(done=True)

    predicate = {"condition": condition, "whole condition": whole, "guard": guard, "guard asked again": again}[kind]
    graph = cp.Graph(cp.pipeline(cp.pipeline(mark, each=Row, open=predicate, name="gated"), last), cp.pipeline(other, each=Other))
    run = graph.run({"Row": [{"id": 1}, {"id": 2}], "Other": [{"id": 1}]}, dir=tmp_path, executor=executor)
    assert run.status == "failed" and run.counts["last"] == {"blocked": 1} and run.counts["other"] == {"computed": 1}
    (failure,) = run.failures
    assert "gated" in failure.node and "test_rules_g.py" in failure.traceback
    assert type(failure.error) is (ZeroDivisionError if kind == "condition" else ValueError)
    assert "computed" not in run.counts["mark"] and "passed-closed" not in kinds(run)
    if kind == "condition":
        assert failure.record == Row(id=1) and run.counts["mark"] == {"blocked": 1, "closed": 1}
    assert cp.runs(tmp_path)[0].failures[0].traceback == failure.traceback


def test_g4_it_may_use_the_stream_and_cannot_write(tmp_path):
    """The store it is given has no way to write, and what it does to a record is done to a copy."""
    got = []
    stream = cp.Stream()
    stream.on("asked")(got.append)

    def opens(store, stream) -> bool:
        stream.push("asked", store.count(Row))
        assert not [name for name in dir(store) if name in ("create", "update", "delete", "save", "commit")]
        return True

    def lets(record: Row, stream) -> bool:
        stream.push("asked", record)
        with pytest.raises(AttributeError):
            record.size = 100
        return True

    graph = cp.Graph(cp.pipeline(mark, each=Row, open=opens), cp.pipeline(grow, each=Row, open=lets))
    run = graph.run(rows(1), dir=tmp_path, stream=stream)
    assert run.ok and got[0] == 1 and Row(id=1) in got and run.data["Row"] == [{"id": 1, "ok": True, "size": 1}]


def test_g1_a_plain_wrapper_round_an_async_function_is_asked_as_it_is_called(tmp_path):
    async def waits(id):
        return id == 1

    @functools.wraps(waits)
    def plain(id):
        return asyncio.run(waits(id))

    run = cp.Graph(cp.pipeline(mark, each=Row, open=plain)).run(rows(1, 2), dir=tmp_path, executor="inline")
    assert run.counts["mark"] == {"computed": 1, "closed": 1}


@pytest.mark.parametrize("change", [cp.update(Row, 1, size=2), cp.delete(Row, 1), cp.result(True)])
def test_g4_one_that_returns_a_change_fails_its_pipeline(tmp_path, change):
    for option in ({"open": lambda: change}, {"open": lambda store: change}, {"each": cp.where(Row, lambda row: change)}):
        run = cp.Graph(cp.pipeline(mark, **{"each": Row, **option})).run(rows(1), dir=tmp_path)
        (failure,) = run.failures
        assert "cannot write" in str(failure.error) and len(run.history) == 1


# G5: unchanged reruns


@pytest.mark.parametrize("verb", ["run", "resume"])
def test_g5_an_unchanged_rerun_ends_as_the_run_did(tmp_path, verb):
    """Once a guard has said yes, what the cache has is committed before it is asked again."""
    ran = []

    @cp.step(version="1")
    def work(record: Row):
        ran.append(record.id)
        return cp.update(ok=True)

    graph = cp.Graph(cp.pipeline(work, each=Row, open=lambda store: store.count(Row, ok=True) < 3))
    first = graph.run(rows(*range(10)), dir=tmp_path, concurrency=2)
    count = len(ran)
    assert 3 <= count < 10 and first.ok
    for _ in range(3):
        again = getattr(graph, verb)(**({"data": rows(*range(10))} if verb == "run" else {}), dir=tmp_path)
        assert len(ran) == count and again.data == first.data and again.counts["work"]["closed"] == 10 - count
        assert again.counts["work"]["cached"] == count


# What is seen of them


def test_guards_are_seen_as_events(tmp_path):
    """`GuardChanged`, at each change of its answer, with what it read (O1)."""
    seen = []
    stream = cp.Stream()
    stream.on(GuardChanged)(lambda event: seen.append((event.pipeline, event.open, event.read)))
    graph = cp.Graph(
        cp.pipeline(mark, each=Row, concurrency=1, name="marks", open=lambda store: store.count(Row, ok=True) < 2),
    )
    run = graph.run(rows(1, 2, 3), dir=tmp_path, stream=stream, concurrency=1)
    assert run.ok
    assert seen == [("marks", True, ("count(Row, ok=True)",)), ("marks", False, ("count(Row, ok=True)",))]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_guards_hold_what_waits_for_each_other_in_two_pipelines(tmp_path, executor):
    """A hand-over back and forth ends; nobody waits for a clock (promise 14)."""

    def left(id: int):
        return cp.update(ok=True)

    def right(record: Other):
        return cp.update(done=True)

    def ahead(store) -> int:
        return store.count(Row, ok=True) - store.count(Other, done=True)

    graph = cp.Graph(
        cp.pipeline(left, each=Row, concurrency=1, open=lambda store: ahead(store) <= 0),
        cp.pipeline(right, each=Other, concurrency=1, open=lambda store: ahead(store) > 0),
    )
    data = {"Row": [{"id": n} for n in range(5)], "Other": [{"id": n} for n in range(5)]}
    run = graph.run(data, dir=tmp_path, executor=executor, concurrency=1)
    assert run.ok and run.counts == {"left": {"computed": 5}, "right": {"computed": 5}}


def test_a_guard_does_not_open_before_all_before_its_pipeline_has_ended(tmp_path):
    """Order first; then the question."""
    order, gate = [], threading.Event()
    stream = cp.Stream()
    stream.on(NodeEnded)(lambda event: order.append(event.node))

    def slow() -> int:
        gate.wait(60)
        return 1

    def quick() -> int:
        gate.set()
        return 1

    def opens(store) -> bool:
        order.append("asked")
        return True

    graph = cp.Graph(cp.pipeline([slow, quick], cp.pipeline(last, open=opens)))
    assert graph.run(dir=tmp_path, stream=stream).ok
    assert order.count("asked") == 1 and gate.is_set() and order[-1] == "last"
