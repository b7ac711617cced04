"""Records and changes: rules C1 to C9, each through the public API alone."""

import threading
from typing import Any

import attrs
import pytest

import cpgraph as cp
from cpgraph.testing import Log


@cp.model
class Item:
    id: int
    n: int = 0
    m: int = 0
    tag: str = ""

    @property
    def even(self) -> bool:
        return self.n % 2 == 0


@cp.model
class Other:
    id: str
    n: int = 0


@cp.model
class Made:
    id: str = cp.auto_id()
    name: str = ""
    ref: str = ""


def items(*ns: int) -> list[Item]:
    return [Item(id=number, n=n) for number, n in enumerate(ns, 1)]


def go(*pipelines: Any, data: Any = None, executor: Any = "inline", models: Any = (Item, Other, Made), **options: Any) -> cp.Run:
    return cp.Graph(*pipelines, models=models, name="rules").run(data, dir=None, executor=executor, **options)


def kinds(run: cp.Run) -> list[str]:
    return [hint.kind for hint in run.hints]


def ended(run: cp.Run) -> dict[str, str]:
    return {node.id: node.ended for node in run.nodes}


def the_failure(run: cp.Run, of: type[BaseException] = cp.CpgraphError) -> Any:
    (failure,) = run.failures
    assert isinstance(failure.error, of), failure.traceback
    return failure


both = pytest.mark.parametrize("executor", ["inline", "threads"])


class Meeting:
    """Makes one step wait for another one, whatever the graph says; the state of an event is nobody's input."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")

    def arrive(self) -> None:
        self.event.set()

    def wait(self) -> None:
        assert self.event.wait(20)


# C1


@both
def test_c1_a_node_sees_the_data_and_the_changes_of_its_ancestors(executor: str) -> None:
    """Initial data plus the changes of those with a path to it: of both that stand before it, not only the last."""

    def first() -> Any:
        return cp.update(Item, 1, n=1)

    def second() -> Any:
        return [cp.update(Item, 2, n=2), cp.create(Item(id=3, n=3))]

    def third() -> Any:
        return cp.delete(Item, 4)

    def see(store: cp.Store) -> list[tuple[int, int]]:
        return [(item.id, item.n) for item in store.all(Item)]

    run = go(cp.pipeline(first, [second, third], see), data=[Item(id=1), Item(id=2), Item(id=4), Item(id=5)], executor=executor)
    assert run.value(see) == [(1, 1), (2, 2), (5, 0), (3, 3)]
    assert run.hints == []


@both
@pytest.mark.parametrize("late", ["writer", "reader"])
def test_c1_nothing_else_is_seen_whichever_came_first(executor: str, late: str) -> None:
    """A query over what nodes not before it wrote gives the state before them, and is told, with the mend."""

    def write() -> Any:
        return [cp.update(Item, 1, n=9), cp.create(Item(id=2))]

    def read(store: cp.Store) -> list[int]:
        return store.values(Item, "n")

    order = [cp.pipeline(read), cp.pipeline(write)] if late == "writer" else [cp.pipeline(write), cp.pipeline(read)]
    run = go(*order, data=items(0), executor=executor)
    assert run.ok and run.value(read) == [0]
    assert run.data == {"Item": [{"id": 1, "n": 9, "m": 0, "tag": ""}, {"id": 2, "n": 0, "m": 0, "tag": ""}]}
    (hint,) = run.hints
    assert hint.kind == "reads-beside-writes"
    assert all(word in hint.text for word in ("read", "Item", "write"))
    assert "after" in hint.mend and "write" in hint.mend


@pytest.mark.parametrize(
    "query",
    [
        lambda store: len(store.all(Item)),
        lambda store: store.count(Item),
        lambda store: store.count(Item, n=9),
        lambda store: len(store.where(Item, lambda item: item.n == 9)),
        lambda store: store.values(Item, "n"),
        lambda store: store.values(Item, "id", "n"),
        lambda store: store.get(Item, 1).n,
        lambda store: store.find(Item, 1).n,
        lambda store: store.get(Item, 2) is None,
    ],
)
def test_c1_every_kind_of_query_beside_a_write_is_told(query: Any) -> None:
    """`find` and `get` are queries as well, of one record."""

    def write() -> Any:
        return [cp.update(Item, 1, n=9), cp.create(Item(id=2))]

    def read(store: cp.Store) -> Any:
        return query(store)

    run = go(cp.pipeline(read), cp.pipeline(write), data=items(0))
    assert run.ok and kinds(run) == ["reads-beside-writes"]
    run = go(cp.pipeline(write, read), data=items(0))
    assert run.ok and run.hints == []


def test_c1_of_values_only_the_fields_asked_for_are_told() -> None:
    """`values` of fields nobody beside it writes is as it should be; so is `get` of a record nobody writes."""

    def write() -> Any:
        return cp.update(Item, 1, n=9)

    def tags(store: cp.Store) -> list[Any]:
        return store.values(Item, "tag", "m")

    def one(store: cp.Store) -> Any:
        return store.find(Item, 2).n

    def others(store: cp.Store) -> Any:
        return store.count(Other)

    run = go(cp.pipeline(write), cp.pipeline(tags), cp.pipeline(one), cp.pipeline(others), data=items(0, 0))
    assert run.ok and run.hints == []
    assert run.value(tags) == [("", 0), ("", 0)]


@both
def test_c1_a_failure_that_follows_from_it_says_so(executor: str) -> None:
    """In the text of a failure that follows from it, with the mend: come after them."""

    def make() -> Any:
        return cp.create(Item(id=7))

    def use(store: cp.Store) -> int:
        return store.find(Item, 7).n

    run = go(cp.pipeline(use), cp.pipeline(make), executor=executor)
    failure = the_failure(run, cp.RecordNotFound)
    assert failure.node == "use"
    assert kinds(run) == ["reads-beside-writes"]
    assert "make" in failure.traceback and "after=" in failure.traceback
    assert "make" in str(failure)


def test_c1_the_summary_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    def write() -> Any:
        return cp.update(Item, 1, n=9)

    def read(store: cp.Store) -> int:
        return store.count(Item)

    go(cp.pipeline(read), cp.pipeline(write), data=items(0))
    said = capsys.readouterr().err
    assert "read asks for Item records that write writes beside it" in said and "after=" in said


@both
def test_c1_records_of_one_each_do_not_see_each_other(executor: str) -> None:
    """Instances side by side: each sees the others as they were, and its own as it has made it."""

    def write(record: Item) -> Any:
        return cp.update(n=record.id * 10)

    def see(store: cp.Store) -> list[int]:
        return store.values(Item, "n")

    run = go(cp.pipeline(write, see, each=Item), data=items(0, 0, 0), executor=executor)
    assert run.values(see) == {1: [10, 0, 0], 2: [0, 20, 0], 3: [0, 0, 30]}
    assert "reads-beside-writes" in kinds(run)


@both
def test_c1_a_record_created_is_seen_by_its_own_nodes_as_it_was_created(executor: str) -> None:
    """But it brings nothing else of its creators: what they changed beside it is not seen."""

    def grow(record: Item) -> Any:
        if record.id == 1:
            return [cp.update(tag="parent"), cp.create(Item(id=2, tag="child", n=5))]
        return None

    def see(record: Item, store: cp.Store) -> Any:
        return [(item.id, item.tag) for item in store.all(Item)], record.n

    run = go(cp.pipeline(grow, see, each=Item), data=items(0), executor=executor)
    assert run.value(see, 1) == ([(1, "parent"), (2, "child")], 0)
    assert run.value(see, 2) == ([(1, ""), (2, "child")], 5)
    assert [item["tag"] for item in run.data["Item"]] == ["parent", "child"]


@both
def test_c1_what_stands_before_the_pipeline_is_seen_by_created_ones_too(executor: str) -> None:
    def before() -> Any:
        return cp.create(Other(id="x", n=1))

    def grow(record: Item) -> Any:
        return cp.create(Item(id=record.id + 1)) if record.id < 3 else None

    def see(store: cp.Store) -> int:
        return store.count(Other)

    run = go(cp.pipeline(before, cp.pipeline(grow, see, each=Item)), data=items(0), executor=executor)
    assert run.values(see) == {1: 1, 2: 1, 3: 1}


@both
def test_c1_a_guards_opening_brings_all_that_was_committed_by_then(executor: str) -> None:
    """The nodes under a guard see what the guard saw, though nothing orders them after it."""

    def write(record: Item) -> Any:
        return cp.update(n=record.id)

    def total(store: cp.Store) -> int:
        return sum(store.values(Item, "n"))

    def later(total: int, store: cp.Store) -> tuple[int, int]:
        return total, sum(store.values(Item, "n"))

    def beside(store: cp.Store) -> int:
        return sum(store.values(Item, "n"))

    run = go(
        cp.pipeline(write, each=Item),
        cp.pipeline(total, open=lambda store: store.count(Item, n=0) == 0),
        cp.pipeline(later),
        cp.pipeline(beside),
        data=items(0, 0, 0),
        executor=executor,
    )
    assert run.value(total) == 6
    assert run.value(later) == (6, 6), "who comes after what is under the guard sees it as well"
    assert run.value(beside) == 0


def test_c1_a_query_is_asked_again_of_the_same_view(tmp_path: Any) -> None:
    """At a rerun it is asked of that view, not of the store as it has become."""
    log = Log()

    def read(store: cp.Store) -> int:
        return store.count(Item)

    def more(record: Item) -> Any:
        return cp.create(Item(id=record.id + 100))

    graph = cp.Graph(cp.pipeline(read, cp.pipeline(more, each=cp.where(Item, lambda item: item.id < 100))), name="again")
    assert graph.run(items(0, 0), dir=tmp_path, executor="inline").value(read) == 2
    again = graph.run(items(0, 0), dir=tmp_path, executor="inline", stream=log.stream)
    assert log.computed == [] and again.value(read) == 2
    third = graph.run(items(0, 0, 0), dir=tmp_path, executor="inline", stream=log.stream)
    assert log.computed == ["read", "more[3]"] and third.value(read) == 3


# C2


@both
@pytest.mark.parametrize("value", [1, 2])
def test_c2_two_unordered_writes_of_one_field_are_a_conflict(executor: str, value: int) -> None:
    """Also with equal values. The write first in graph order stands; the failure names both, `.node` is the later one."""

    def one() -> Any:
        return cp.update(Item, 1, n=1)

    def two() -> Any:
        return cp.update(Item, 1, n=value)

    run = go(cp.pipeline(one), cp.pipeline(two), data=items(0), executor=executor)
    failure = the_failure(run, cp.ConflictError)
    assert (failure.node, failure.step) == ("two", "two")
    text = str(failure.error)
    assert "one" in text and "two" in text and "'n'" in text and "Item" in text and "Mend:" in text
    assert run.status == "failed" and not run.ok
    assert run.store.find(Item, 1).n == 1
    assert ended(run) == {"one": "computed", "two": "computed"}


def test_c2_the_first_in_graph_order_stands_also_if_it_came_last() -> None:
    meeting = Meeting()

    def one() -> Any:
        meeting.wait()
        return cp.update(Item, 1, n=1)

    def two() -> Any:
        return cp.update(Item, 1, n=2)

    stream = cp.Stream()
    stream.on(cp.events.NodeEnded)(lambda event: meeting.arrive() if event.node == "two" else None)
    run = go(cp.pipeline(one), cp.pipeline(two), data=items(0), executor="threads", stream=stream)
    assert the_failure(run, cp.ConflictError).node == "two"
    assert run.store.find(Item, 1).n == 1


def test_c2_other_fields_and_ordered_writes_are_no_conflict() -> None:
    def one() -> Any:
        return cp.update(Item, 1, n=1)

    def two() -> Any:
        return cp.update(Item, 1, m=2)

    def three(one: Any) -> Any:
        return cp.update(Item, 1, n=3)

    run = go(cp.pipeline(one), cp.pipeline(two), cp.pipeline(three), data=items(0))
    assert run.ok and run.data == {"Item": [{"id": 1, "n": 3, "m": 2, "tag": ""}]}


@both
def test_c2_two_records_that_count_up_from_zero_are_a_conflict(executor: str) -> None:
    """Both write 1. Inside one `each` the part is the `each`: one failure with the count, and the join is blocked."""

    def count(record: Item, store: cp.Store) -> Any:
        return cp.update(Other, "sum", n=store.find(Other, "sum").n + 1)

    def after() -> str:
        return "went on"

    run = go(
        cp.pipeline(cp.pipeline(count, each=Item, on_error="skip"), after),
        data=[*items(0, 0, 0), Other(id="sum")],
        executor=executor,
    )
    failure = the_failure(run, cp.ConflictError)
    assert failure.node == "count[2]"
    text = str(failure.error)
    assert "count[1]" in text and "count[2]" in text and "3" in text
    assert ended(run)["after"] == "blocked"
    assert run.store.find(Other, "sum").n == 1


@both
@pytest.mark.parametrize("first", ["writer", "deleter"])
def test_c2_deleting_what_another_writes_is_a_conflict(executor: str, first: str) -> None:
    def write() -> Any:
        return cp.update(Item, 1, n=1)

    def drop() -> Any:
        return cp.delete(Item, 1)

    order = [write, drop] if first == "writer" else [drop, write]
    run = go(*map(cp.pipeline, order), data=items(0), executor=executor)
    failure = the_failure(run, cp.ConflictError)
    assert failure.node == order[1].__name__
    assert "write" in str(failure.error) and "drop" in str(failure.error)


def test_c2_two_that_delete_the_same_are_no_conflict() -> None:
    def one() -> Any:
        return cp.delete(Item, 1)

    def two() -> Any:
        return cp.delete(Item, 1)

    run = go(cp.pipeline(one), cp.pipeline(two), data=items(0))
    assert run.ok and run.data == {}


@both
def test_c2_creating_one_id_with_different_content_is_a_conflict(executor: str) -> None:
    """Of two creates the one committed first stands."""

    def one() -> Any:
        return cp.create(Item(id=1, n=1))

    def two() -> Any:
        return cp.create(Item(id=1, n=2))

    run = go(cp.pipeline(one), cp.pipeline(two), executor=executor)
    failure = the_failure(run, cp.ConflictError)
    assert failure.node == "two" and "one" in str(failure.error)
    assert len(run.data["Item"]) == 1 and run.store.find(Item, 1).n in (1, 2)


def test_c2_of_two_creates_the_one_committed_first_stands() -> None:
    meeting = Meeting()

    def one() -> Any:
        meeting.wait()
        return cp.create(Item(id=1, n=1))

    def two() -> Any:
        return cp.create(Item(id=1, n=2))

    stream = cp.Stream()
    stream.on(cp.events.NodeEnded)(lambda event: meeting.arrive() if event.node == "two" else None)
    run = go(cp.pipeline(one), cp.pipeline(two), executor="threads", stream=stream)
    assert the_failure(run, cp.ConflictError).node == "two", "the later one in graph order"
    assert run.store.find(Item, 1).n == 2


@both
def test_c2_a_records_creators_come_before_its_own_nodes(executor: str) -> None:
    """Writing to the record one was made for is no conflict with the creation."""

    def make() -> Any:
        return cp.create(Item(id=2, n=1))

    def write(record: Item) -> Any:
        return cp.update(n=record.n + 1)

    run = go([cp.pipeline(make), cp.pipeline(write, each=Item)], data=items(0), executor=executor)
    assert run.ok and [item["n"] for item in run.data["Item"]] == [1, 2]


@both
@pytest.mark.parametrize("on_error", ["isolate", "skip", "stop"])
def test_c2_the_conflict_fails_the_smallest_part_that_holds_both(executor: str, on_error: Any) -> None:
    """What comes after that part is blocked, whatever `on_error` says; what stands elsewhere goes on."""

    def one() -> Any:
        return cp.update(Item, 1, n=1)

    def two() -> Any:
        return cp.update(Item, 1, n=2)

    def after() -> str:
        return "after"

    def elsewhere() -> str:
        return "elsewhere"

    part = cp.pipeline([cp.pipeline(one), cp.pipeline(two)], after, on_error=on_error)
    run = go(part, cp.pipeline(elsewhere), data=items(0), executor=executor)
    the_failure(run, cp.ConflictError)
    assert ended(run) == {"one": "computed", "two": "computed", "after": "blocked", "elsewhere": "computed"}


@both
def test_c2_a_conflict_inside_one_record_fails_that_record_alone(executor: str) -> None:
    def one(record: Item) -> Any:
        return cp.update(n=1)

    def two(record: Item) -> Any:
        return cp.update(n=2) if record.id == 2 else None

    def then(record: Item) -> str:
        return "then"

    def join(then: list[str]) -> int:
        return len(then)

    run = go(cp.pipeline(cp.pipeline([one, two], then, each=Item, on_error="skip"), join), data=items(0, 0, 0), executor=executor)
    failure = the_failure(run, cp.ConflictError)
    assert failure.node == "two[2]"
    assert ended(run)["then[2]"] == "blocked" and ended(run)["then[1]"] == "computed"
    assert run.value(join) == 2


def test_c2_one_failure_per_field_and_part() -> None:
    """Two fields written by the same two are two failures."""

    def one() -> Any:
        return cp.update(Item, 1, n=1, m=1)

    def two() -> Any:
        return cp.update(Item, 1, n=2, m=2, tag="two")

    run = go(cp.pipeline(one), cp.pipeline(two), data=items(0))
    assert [failure.node for failure in run.failures] == ["two", "two"]
    assert sorted(word for failure in run.failures for word in ("'n'", "'m'") if word in str(failure.error)) == ["'m'", "'n'"]
    assert run.data == {"Item": [{"id": 1, "n": 1, "m": 1, "tag": "two"}]}


@both
def test_c2_conflicts_are_in_graph_order_whoever_came_first(executor: str) -> None:
    def one(id: int) -> Any:
        return cp.update(Item, 2, n=id) if id == 1 else cp.update(Item, 1, m=id)

    def two(id: int) -> Any:
        return cp.update(Item, 1, m=id) if id == 1 else cp.update(Item, 2, n=id)

    run = go(cp.pipeline(one, each=Item), cp.pipeline(two, each=Item), data=items(0, 0), executor=executor)
    assert [failure.node for failure in run.failures] == ["two[1]", "two[2]"]
    run = go(cp.pipeline(two, each=Item), cp.pipeline(one, each=Item), data=items(0, 0), executor=executor)
    assert [failure.node for failure in run.failures] == ["one[1]", "one[2]"]


def test_c2_raise_for_failures_has_the_conflict() -> None:
    def one() -> Any:
        return cp.update(Item, 1, n=1)

    def two() -> Any:
        return cp.update(Item, 1, n=2)

    run = go(cp.pipeline(one), cp.pipeline(two), data=items(0))
    with pytest.raises(ExceptionGroup) as caught:
        run.raise_for_failures()
    assert caught.group_contains(cp.ConflictError)


def test_c2_two_steps_side_by_side_that_set_one_field_do_not_compile() -> None:
    @cp.step(sets="n")
    def one(id: int) -> int:
        return 1

    @cp.step(sets="n")
    def two(id: int) -> int:
        return 2

    with pytest.raises(cp.CompileError) as caught:
        cp.Graph(cp.pipeline([one, two], each=Item))
    assert all(word in str(caught.value) for word in ("'one'", "'two'", "'n'", "test_rules_c.py:", "Mend:"))


def test_c2_two_that_set_one_field_compile_if_one_names_the_other() -> None:
    @cp.step(sets="n")
    def one(id: int) -> int:
        return 1

    @cp.step(sets="n")
    def two(one: int) -> int:
        return one + 1

    run = go(cp.pipeline([two, one], each=Item), data=items(0))
    assert run.ok and run.store.find(Item, 1).n == 2
    other = cp.Graph(cp.pipeline(one, cp.alias(one, "three"), each=Item))
    assert other.run(items(0), dir=None).ok


@both
def test_c2_two_branches_under_conditions_may_set_the_same_field(executor: str) -> None:
    """If and else: only what really writes beside another is a conflict."""

    @cp.step(sets="m")
    def small(n: int) -> int:
        return n

    @cp.step(sets="m")
    def large(n: int) -> int:
        return n * 100

    def branches(limit: int) -> cp.Graph:
        return cp.Graph(
            cp.pipeline(
                [cp.pipeline(small, open=lambda n: n < 5), cp.pipeline(large, open=lambda n: n >= limit)],
                each=Item,
            )
        )

    run = branches(5).run(items(1, 9), dir=None, executor=executor)
    assert run.ok and run.store.values(Item, "m") == [1, 900]
    run = branches(0).run(items(1, 9), dir=None, executor=executor)
    assert the_failure(run, cp.ConflictError).node == "large[1]"


# C3


@both
def test_c3_changes_apply_in_order_each_on_the_result_of_those_before(executor: str) -> None:
    def work() -> Any:
        return [
            cp.create(Item(id=1, n=1)),
            cp.update(Item, 1, n=2),
            cp.update(Item, 1, m=3),
            cp.create(Item(id=2)),
            cp.delete(Item, 2),
            cp.create(Item(id=2, tag="again")),
            cp.create(Item(id=3)),
            cp.delete(Item(id=3)),
        ]

    run = go(work, executor=executor)
    assert run.ok, run.failures
    assert run.data == {"Item": [{"id": 1, "n": 2, "m": 3, "tag": ""}, {"id": 2, "n": 0, "m": 0, "tag": "again"}]}
    assert len(run.history) == 2


BAD: dict[str, tuple[Any, list[str]]] = {
    "update of what is not there": (lambda: cp.update(Item, 99, n=1), ["Item", "99", "near ids"]),
    "update of a near id": (lambda: cp.update(Item, 11, n=1), ["11", "1"]),
    "delete of what is not there": (lambda: cp.delete(Item, 99), ["Item", "99"]),
    "update after delete": (lambda: [cp.delete(Item, 1), cp.update(Item, 1, n=1)], ["Item", "1"]),
    "second delete": (lambda: [cp.delete(Item, 1), cp.delete(Item, 1)], ["Item", "1"]),
    "an id of another type": (lambda: cp.update(Item, "1", n=1), ["Item", "'1'"]),
}


@both
@pytest.mark.parametrize("case", BAD)
def test_c3_changing_what_is_not_in_the_view_fails_the_node(case: str, executor: str) -> None:
    """`RecordNotFound`, with near ids; all or none."""
    change, words = BAD[case]

    def work() -> Any:
        made = change()
        return [cp.update(Item, 2, tag="half"), *(made if isinstance(made, list) else [made])]

    run = go(work, data=items(0, 0), executor=executor)
    failure = the_failure(run, cp.RecordNotFound)
    assert all(word in str(failure.error) for word in words), failure.error
    assert len(run.history) == 1 and run.store.find(Item, 2).tag == ""
    assert ended(run) == {"work": "failed"}


def test_c3_what_an_unordered_node_created_cannot_be_updated() -> None:
    def make() -> Any:
        return cp.create(Item(id=1))

    def change() -> Any:
        return cp.update(Item, 1, n=1)

    run = go(cp.pipeline(make), cp.pipeline(change))
    failure = the_failure(run, cp.RecordNotFound)
    assert failure.node == "change" and "Mend:" in str(failure.error)
    assert run.data == {"Item": [{"id": 1, "n": 0, "m": 0, "tag": ""}]}


WRONG: dict[str, tuple[Any, list[str]]] = {
    "unknown field": (lambda: cp.update(Item, 1, nn=1), ["nn", "n"]),
    "unknown field of its own record": (lambda: cp.update(tagg="x"), ["tagg", "Did you mean 'tag'?"]),
    "wrong type": (lambda: cp.update(Item, 1, n="one"), ["n", "int", "one"]),
    "wrong type of its own record": (lambda: cp.update(n=[1]), ["n", "int"]),
    "changed id": (lambda: cp.update(Item, 1, id=2), ["id"]),
    "changed id of its own record": (lambda: cp.update(id=2), ["id"]),
    "created with a wrong type": (lambda: cp.create(Item(id=5, n="five")), ["n", "int"]),  # type: ignore[arg-type]
    "created with a wrong id": (lambda: cp.create(Item(id=5.5)), ["id", "5.5"]),  # type: ignore[arg-type]
    "none where there must be one": (lambda: cp.update(n=None), ["n", "int"]),
}


@both
@pytest.mark.parametrize("case", WRONG)
def test_c3_an_unknown_field_a_wrong_type_a_changed_id_are_errors_that_name_it(case: str, executor: str) -> None:
    change, words = WRONG[case]

    def work(record: Item) -> Any:
        return [cp.update(tag="half"), change()]

    run = go(cp.pipeline(work, each=Item), data=items(0), executor=executor)
    failure = the_failure(run)
    assert failure.node == "work[1]" and failure.record == Item(id=1)
    assert all(word in str(failure.error) for word in words), failure.error
    assert len(run.history) == 1 and run.store.find(Item, 1).tag == ""


@both
def test_c3_the_id_that_it_has_may_be_written_along(executor: str) -> None:
    def work(record: Item) -> Any:
        return [cp.update(Item, record.id, id=record.id, n=4), cp.update(id=1, tag="x")]

    run = go(cp.pipeline(work, each=Item), data=items(0), executor=executor)
    assert run.ok and run.store.find(Item, 1) == Item(id=1, n=4, tag="x")


def test_c3_update_of_ones_own_record_needs_a_record() -> None:
    def work() -> Any:
        return cp.update(n=1)

    failure = the_failure(go(work, data=items(0)))
    assert "record" in str(failure.error) and "Mend:" in str(failure.error)


def test_c3_a_model_the_graph_does_not_know_is_an_error() -> None:
    def work() -> Any:
        return cp.create(Other(id="x"))

    run = cp.Graph(work, models=[Item]).run(dir=None)
    failure = the_failure(run)
    assert "Other" in str(failure.error) and "models=" in str(failure.error)


def test_c3_a_field_set_by_the_result_is_checked_as_well() -> None:
    @cp.step(sets="n")
    def work(id: int):  # type: ignore[no-untyped-def]
        return "text"

    failure = the_failure(go(cp.pipeline(work, each=Item), data=items(0)))
    assert "'text'" in str(failure.error) and "int" in str(failure.error)


# C4


@both
def test_c4_creating_what_is_in_the_view_is_an_error_or_kept(executor: str) -> None:
    def again() -> Any:
        return cp.create(Item(id=1, n=5))

    def keep() -> Any:
        return cp.create(Item(id=1, n=5), if_exists="keep")

    failure = the_failure(go(again, data=items(7), executor=executor))
    assert "Item" in str(failure.error) and "1" in str(failure.error) and "exists" in str(failure.error)
    assert 'if_exists="keep"' in str(failure.error)
    run = go(keep, data=items(7), executor=executor)
    assert run.ok and run.store.find(Item, 1).n == 7 and run.hints == [] and run.value(keep) == 1
    again_and_keep = go(
        cp.pipeline(cp.alias(keep, "first"), cp.alias(keep, "second"), cp.alias(again, "third")), executor=executor
    )
    assert the_failure(again_and_keep).node == "third"


def test_c4_equal_content_in_the_view_is_an_error_too() -> None:
    """Only unordered creates of equal content are one record."""

    def make() -> Any:
        return cp.create(Item(id=1))

    assert the_failure(go(make, data=items(0))).node == "make"


def test_c4_an_unknown_word_for_if_exists_is_an_error() -> None:
    with pytest.raises(cp.CpgraphError, match="keep"):
        cp.create(Item(id=1), if_exists="replace")  # type: ignore[arg-type]


@both
def test_c4_unordered_creates_of_equal_content_are_one_record(executor: str) -> None:
    """One record, one instance in each pipeline over it, no conflict; with either `if_exists`."""

    def one() -> Any:
        return cp.create(Item(id=1, n=1))

    def two() -> Any:
        return cp.create(Item(id=1, n=1), if_exists="keep")

    def work(record: Item) -> int:
        return record.n

    run = go([cp.pipeline(one), cp.pipeline(two), cp.pipeline(work, each=Item)], executor=executor)
    assert run.ok and len(run.data["Item"]) == 1
    assert run.values(work) == {1: 1} and run.counts["work"] == {"computed": 1}
    assert run.hints == []


@both
@pytest.mark.parametrize("words", [("keep", "keep"), ("keep", "error"), ("error", "keep")])
def test_c4_with_keep_and_different_content_the_first_committed_stands_and_is_told(executor: str, words: Any) -> None:
    def one() -> Any:
        return cp.create(Item(id=1, n=1), if_exists=words[0])

    def two() -> Any:
        return cp.create(Item(id=1, n=2), if_exists=words[1])

    run = go(cp.pipeline(one), cp.pipeline(two), executor=executor)
    assert run.ok, run.failures
    assert len(run.data["Item"]) == 1 and run.data["Item"][0]["n"] in (1, 2)
    (hint,) = run.hints
    assert "Item" in hint.text and "1" in hint.text and "first" in hint.text and hint.mend


# C5


@both
def test_c5_a_deleted_record_ends_there(executor: str) -> None:
    """Its later nodes end as closed, the reason names the deleting node, the join goes on without it."""

    def choose(record: Item) -> Any:
        return cp.result(record.n, cp.delete(record)) if record.n < 0 else record.n

    def later(n: int) -> int:
        return n

    def last(later: int) -> int:
        return later

    def total(choose: list[int], last: list[int]) -> Any:
        return choose, last

    run = go(cp.pipeline(cp.pipeline(choose, later, last, each=Item), total), data=items(1, -1, 3), executor=executor)
    assert run.ok and bool(run)
    assert run.counts["later"] == {"computed": 2, "closed": 1}
    for step in ("later[2]", "last[2]"):
        (node,) = [node for node in run.nodes if node.id == step]
        assert node.ended == "closed" and "choose[2]" in node.reason
    assert run.value(total) == ([1, 3], [1, 3])
    assert [item["id"] for item in run.data["Item"]] == [1, 3]


@both
def test_c5_nodes_that_ask_for_nothing_of_the_record_end_too(executor: str) -> None:
    def drop(record: Item) -> Any:
        return cp.delete(record)

    def plain() -> str:
        return "ran"

    run = go(cp.pipeline(drop, plain, each=Item), data=items(0), executor=executor)
    assert run.ok and ended(run) == {"drop[1]": "computed", "plain[1]": "closed"}


@both
def test_c5_a_record_deleted_before_an_each_has_no_instance(executor: str) -> None:
    def drop() -> Any:
        return cp.delete(Item, 1)

    def work(record: Item) -> int:
        return record.id

    def total(work: list[int]) -> list[int]:
        return work

    run = go(cp.pipeline(drop, cp.pipeline(work, each=Item), total), data=items(0, 0), executor=executor)
    assert run.value(total) == [2] and list(run.values(work)) == [2]


@both
def test_c5_deleted_by_another_record_s_node_is_not_its_ancestor(executor: str) -> None:
    """Only an ancestor ends it: what another record deletes beside it goes on, and is a conflict if it writes."""

    def drop(record: Item) -> Any:
        return cp.delete(Item, 2) if record.id == 1 else None

    def work(record: Item) -> int:
        return record.id

    run = go(cp.pipeline(drop, work, each=Item), data=items(0, 0), executor=executor)
    assert run.ok and run.values(work) == {1: 1, 2: 2}
    assert [item["id"] for item in run.data["Item"]] == [1]


@both
def test_c5_a_condition_on_a_deleted_record_names_who_deleted_it(executor: str) -> None:
    def drop(record: Item) -> Any:
        return cp.delete(record)

    def inside(n: int) -> int:
        return n

    run = go(cp.pipeline(drop, cp.pipeline(inside, open=lambda n: n == 0), each=Item), data=items(0), executor=executor)
    (node,) = [node for node in run.nodes if node.id == "inside[1]"]
    assert run.ok and node.ended == "closed" and "drop[1]" in node.reason


@both
def test_c5_what_is_inside_a_deleted_record_is_closed(executor: str) -> None:
    def drop(record: Item) -> Any:
        return cp.delete(record) if record.id == 1 else None

    def inner(part: int, record: Item) -> int:
        return part

    def total(inner: list[list[int]]) -> Any:
        return inner

    run = go(
        cp.pipeline(cp.pipeline(drop, cp.pipeline(inner, each={"part": [1, 2]}), each=Item), total),
        data=items(0, 0),
        executor=executor,
    )
    assert run.ok and run.value(total) == [[1, 2]]
    assert run.counts["inner"] == {"computed": 2, "closed": 2}


@both
def test_c5_a_delete_that_lost_a_conflict_ends_nothing_however_deep_what_follows_stands(executor: str) -> None:
    """A node looks for its record in its own view: there the write that comes first in graph order stands (C2)."""

    def fill(record: Item) -> Any:
        return cp.update(n=3)

    def drop(record: Item) -> Any:
        return cp.delete(record)

    def after_both(record: Item, fill: Any) -> int:
        return record.n

    def after_drop(record: Item) -> int:
        return record.n

    tail = cp.pipeline(after_both, after_drop)
    run = go(cp.pipeline([fill, cp.pipeline(drop, tail)], each=Item), data=items(0), executor=executor)
    assert [(f.node, type(f.error)) for f in run.failures] == [("drop[1]", cp.ConflictError)]
    assert run.value(after_both, 1) == 3
    assert run.counts["after_drop"] == {"computed": 1}


# C6


@both
def test_c6_records_are_ordered_by_data_then_generation_then_creating_node_then_ordinal(executor: str) -> None:
    """Initial data in its order, whatever the ids; then by generation, by node in graph order, by ordinal."""

    def grow(record: Item) -> Any:
        if record.id >= 100:
            return None
        return [cp.create(Item(id=record.id * 10 + 2)), cp.create(Item(id=record.id * 10 + 1))]

    def order(store: cp.Store) -> list[int]:
        return [item.id for item in store.all(Item)]

    def ids(grow: dict[int, Any]) -> list[int]:
        return list(grow)

    run = go(cp.pipeline(cp.pipeline(grow, each=Item), [order, ids]), data=[Item(id=3), Item(id=1)], executor=executor)
    expected = [3, 1, 32, 31, 12, 11, 322, 321, 312, 311, 122, 121, 112, 111]
    assert run.value(order) == expected
    assert run.value(ids) == expected
    assert [item["id"] for item in run.data["Item"]] == expected
    assert list(run.values(grow)) == expected
    assert run.store.values(Item, "id") == expected
    assert [item.id for item in run.store.where(Item, n=0)] == expected


def test_c6_never_by_time() -> None:
    """The first record's creation comes last in time, and first in order."""
    meeting = Meeting()

    def make(record: Item) -> Any:
        if record.id == 1:
            meeting.wait()
        return cp.create(Other(id=f"of {record.id}"))

    def order(store: cp.Store) -> list[str]:
        return store.values(Other, "id")

    stream = cp.Stream()
    stream.on(cp.events.NodeEnded)(lambda event: meeting.arrive() if event.node == "make[2]" else None)
    run = go(cp.pipeline(cp.pipeline(make, each=Item), order), data=items(0, 0), executor="threads", stream=stream)
    assert run.value(order) == ["of 1", "of 2"]
    assert [other["id"] for other in run.data["Other"]] == ["of 1", "of 2"]


@both
def test_c6_steps_first_in_the_graph_come_first(executor: str) -> None:
    def late() -> Any:
        return cp.create(Other(id="late"))

    def early() -> Any:
        return cp.create(Other(id="early"))

    def order(store: cp.Store) -> list[str]:
        return store.values(Other, "id")

    run = go(cp.pipeline([early, late], order), executor=executor)
    assert run.value(order) == ["early", "late"]
    run = go(cp.pipeline([late, early], order), executor=executor)
    assert run.value(order) == ["late", "early"]


@both
def test_c6_of_several_creators_those_in_the_view_count(executor: str) -> None:
    """For a node after one of two creators, its place is that of this one; for `run.store` the first of all."""

    def one() -> Any:
        return cp.create(Other(id="x"))

    def two() -> Any:
        return [cp.create(Other(id="y")), cp.create(Other(id="x"))]

    def see(two: Any, store: cp.Store) -> list[str]:
        return store.values(Other, "id")

    run = go(cp.pipeline(one), cp.pipeline(two), cp.pipeline(see), executor=executor)
    assert run.ok and run.value(see) == ["y", "x"]
    assert [other["id"] for other in run.data["Other"]] == ["x", "y"]


# C7


@both
def test_c7_auto_ids_are_made_of_node_and_ordinal(executor: str) -> None:
    """Equal in every run, other for every node and ordinal, whatever the content."""

    def make(record: Item) -> Any:
        return [cp.create(Made(name="a")), cp.create(Made(name="a"))]

    def single() -> Any:
        return cp.create(Made(name="a"))

    runs = [
        go(cp.pipeline(make, each=Item), cp.pipeline(single), data=items(*range(count)), executor=executor) for count in (1, 2, 2)
    ]
    first, second, third = ([made["id"] for made in run.data["Made"]] for run in runs)
    assert len(first) == 3 and len(set(second)) == len(second) == 5
    assert second == third and set(first) < set(second)
    assert all(isinstance(id, str) and id for id in second)
    assert runs[0].value(single) in first and runs[0].value(make, 1) == [id for id in first if id != runs[0].value(single)]


def test_c7_another_content_does_not_change_the_id() -> None:
    def graph(text: str) -> cp.Graph:
        def make() -> Any:
            return cp.create(Made(name=text))

        return cp.Graph(make, models=[Made])

    one, two = (graph(text).run(dir=None).data["Made"][0] for text in ("a", "b"))
    assert one["id"] == two["id"] and one["name"] != two["name"]


def test_c7_in_data_ids_are_made_of_content_with_an_ordinal_among_equals() -> None:
    def work(record: Made) -> str:
        return record.name

    graph = cp.Graph(cp.pipeline(work, each=Made))
    rows = [{"name": "a"}, {"name": "b"}, {"name": "a"}]
    run = graph.run({"Made": rows}, dir=None)
    ids = list(run.values(work))
    assert len(set(ids)) == 3
    turned = graph.run({"Made": rows[::-1]}, dir=None)
    assert set(turned.values(work)) == set(ids)
    assert {id: name for id, name in turned.values(work).items() if name == "b"} == {ids[1]: "b"}
    assert list(graph.run([Made(name="a"), Made(name="b"), Made(name="a")], dir=None).values(work)) == ids


@pytest.mark.parametrize(
    "change",
    [
        lambda page: cp.create(Made(name="child", ref=page.id)),
        lambda page: cp.create(Other(id=page.id)),
        lambda page: cp.update(tag=page.id),
        lambda page: cp.update(tag=[page.id]),
        lambda page: cp.update(page, name="other"),
        lambda page: cp.delete(page),
        lambda page: cp.result(page.id),
        lambda page: cp.result({"page": [page.id]}),
        lambda page: [page.id],
        lambda page: page.id,
    ],
)
@both
def test_c7_auto_is_refused_as_a_value_of_anything_else(change: Any, executor: str) -> None:
    """With the mend: records that refer to each other get their ids from the step."""
    assert Made().id is cp.AUTO

    def make(record: Item) -> Any:
        page = Made(name="page")
        made = change(page)
        return [cp.create(page), made] if type(made).__name__ in ("Create", "Update", "Delete") else made

    run = go(cp.pipeline(make, each=Item), data=items(0), executor=executor)
    failure = the_failure(run)
    assert 'f"{id}-{n}"' in str(failure.error), failure.error
    assert "Made" not in run.data and len(run.history) == 1


def test_c7_data_of_a_model_without_auto_id_cannot_have_auto() -> None:
    with pytest.raises(cp.DataError, match="Other, row 1, field 'id': AUTO"):
        go(cp.alias(lambda: 1, "nothing"), data=[Other(id=cp.AUTO)])  # type: ignore[arg-type]


def test_c7_ids_given_by_the_step_are_kept() -> None:
    def make(id: int) -> Any:
        return [cp.create(Made(id=f"{id}-0", name="page")), cp.create(Made(id=f"{id}-1", ref=f"{id}-0"))]

    run = go(cp.pipeline(make, each=Item), data=items(0))
    assert run.value(make, 1) == ["1-0", "1-1"]
    assert run.data["Made"] == [{"id": "1-0", "name": "page", "ref": ""}, {"id": "1-1", "name": "", "ref": "1-0"}]


# C8


@both
def test_c8_a_cached_result_applies_its_changes_by_the_same_rules(tmp_path: Any, executor: str) -> None:
    """The store of an unchanged rerun is that of the first run, auto ids and order included."""

    def make(record: Item) -> Any:
        return [cp.create(Made(name=str(record.id))), cp.update(n=record.id)]

    graph = cp.Graph(cp.pipeline(make, each=Item), models=[Made], name="cached")
    one = graph.run(items(0, 0), dir=tmp_path, executor=executor)
    log = Log()
    two = graph.run(items(0, 0), dir=tmp_path, executor=executor, stream=log.stream)
    assert two.data == one.data and two.counts == {"make": {"cached": 2}}
    assert sorted(log) == ["make[1] cached", "make[2] cached"]


@both
def test_c8_a_conflict_is_a_conflict_also_from_the_cache(tmp_path: Any, executor: str) -> None:
    def one() -> Any:
        return cp.update(Item, 1, n=1)

    def two() -> Any:
        return cp.update(Item, 1, n=2)

    graph = cp.Graph(cp.pipeline(one), cp.pipeline(two), models=[Item], name="cached")
    for expected in ("computed", "cached"):
        run = graph.run(items(0), dir=tmp_path, executor=executor)
        assert the_failure(run, cp.ConflictError).node == "two"
        assert ended(run) == {"one": expected, "two": expected}
        assert run.store.find(Item, 1).n == 1


@both
def test_c8_a_cached_create_of_what_is_now_in_the_data_fails(tmp_path: Any, executor: str) -> None:
    """What exists is asked of the view at this run."""

    def make() -> Any:
        return cp.create(Item(id=2))

    graph = cp.Graph(make, models=[Item], name="cached")
    assert graph.run(items(0), dir=tmp_path, executor=executor).ok
    run = graph.run(items(0, 0), dir=tmp_path, executor=executor)
    assert "exists" in str(the_failure(run).error)
    assert graph.run(items(0), dir=tmp_path, executor=executor).counts == {"make": {"cached": 1}}


@both
def test_c8_equal_work_is_one_call_and_each_commits_its_own_changes(executor: str) -> None:
    """Of equal work the first in graph order is computed, the others are cached."""
    log = Log()

    def work(n: int) -> Any:
        return cp.update(m=n + 1)

    run = go(cp.pipeline(work, each=Item), data=items(5, 5, 6, 5), executor=executor, stream=log.stream)
    assert sum(text.endswith("started") for text in log) == 2
    assert run.store.values(Item, "m") == [6, 6, 7, 6]
    assert ended(run) == {"work[1]": "computed", "work[2]": "cached", "work[3]": "computed", "work[4]": "cached"}
    assert run.values(work) == {1: 1, 2: 2, 3: 3, 4: 4}, "the value of changes is the ids of this node's"


@both
def test_c8_equal_work_makes_auto_ids_of_its_own(executor: str) -> None:
    def make(n: int) -> Any:
        return cp.create(Made(name="x"))

    run = go(cp.pipeline(make, each=Item), data=items(5, 5), executor=executor)
    assert run.ok and len({made["id"] for made in run.data["Made"]}) == 2
    assert list(run.values(make).values()) == [made["id"] for made in run.data["Made"]]


@both
def test_c8_a_cached_call_replays_no_pushes_and_no_prints(
    tmp_path: Any, executor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(stream: cp.Stream) -> int:
        stream.push("said", 1)
        print("printed here")
        return 1

    graph = cp.Graph(work, name="quiet")
    log = Log("said")
    graph.run(dir=tmp_path, executor=executor, stream=log.stream)
    assert log == ["work started", "said 1", "work computed"] and "printed here" in capsys.readouterr().out
    log.clear()
    graph.run(dir=tmp_path, executor=executor, stream=log.stream)
    assert log == ["work cached"] and "printed here" not in capsys.readouterr().out


# C9


def test_c9_the_store_answers() -> None:
    run = go(lambda_step := cp.alias(lambda: 1, "noop"), data=[*items(3, 4, 4), Other(id="x")])
    del lambda_step
    store = run.store
    assert store.find(Item, 2) == Item(id=2, n=4) and store.get(Item, 9) is None
    assert store.count(Item) == 3 and store.count(Item, n=4) == 2 and store.count(Item, n=4, id=3) == 1
    assert store.count(Item, lambda item: item.n > 3) == 2
    assert [item.id for item in store.all(Item)] == [1, 2, 3]
    assert [item.id for item in store.where(Item, n=4)] == [2, 3]
    assert [item.id for item in store.where(Item, lambda item: item.id > 2, n=4)] == [3]
    assert [item.id for item in store.where(Item, even=True)] == [2, 3], "a property serves as a field"
    assert store.values(Item, "n") == [3, 4, 4] and store.values(Item, "id", "n") == [(1, 3), (2, 4), (3, 4)]
    assert store.all(Made) == [] and store.where(Item, n=99) == []
    with pytest.raises(cp.RecordNotFound, match="Item") as caught:
        store.find(Item, 22)
    assert "22" in str(caught.value) and "2" in str(caught.value) and "Mend:" in str(caught.value)


@both
@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda store: store.find(Item, 12), ["12", "near ids", "1"]),
        (lambda store: store.where(Item, nn=1), ["nn", "Did you mean 'n'?"]),
        (lambda store: store.count(Item, tagg=1), ["tagg", "Did you mean 'tag'?"]),
        (lambda store: store.values(Item, "tagg"), ["tagg", "Did you mean 'tag'?"]),
        (lambda store: store.all(int), ["int"]),
    ],
)
def test_c9_what_cannot_be_asked_is_a_clear_error(ask: Any, words: list[str], executor: str) -> None:
    def read(store: cp.Store) -> Any:
        return ask(store)

    failure = the_failure(go(read, data=items(0), executor=executor))
    assert all(word in str(failure.error) for word in words), failure.error


def reruns(tmp_path: Any, query: Any, before: list[Any], after: list[Any]) -> bool:
    """Tell whether a step that asks the store runs again when the data change."""

    def read(store: cp.Store) -> Any:
        return query(store)

    graph = cp.Graph(read, models=[Item, Other], name="noted")
    assert graph.run(before, dir=tmp_path, executor="inline").ok
    log = Log()
    assert graph.run(after, dir=tmp_path, executor="inline", stream=log.stream).ok
    return log.computed == ["read"]


QUERIES: dict[str, tuple[Any, bool]] = {
    "all": (lambda store: len(store.all(Item)), True),
    "where by equality, others changed": (lambda store: len(store.where(Item, tag="x")), False),
    "where by predicate, others changed": (lambda store: len(store.where(Item, lambda item: item.tag == "x")), False),
    "where by predicate": (lambda store: len(store.where(Item, lambda item: item.n == 0)), True),
    "where by predicate, the same ones, one of them changed": (
        lambda store: len(store.where(Item, lambda item: item.n < 9)),
        True,
    ),
    "count by predicate, as many": (lambda store: store.count(Item, lambda item: item.n < 9), False),
    "count by predicate, another number": (lambda store: store.count(Item, lambda item: item.n == 5), True),
    "count": (lambda store: store.count(Item), False),
    "count by the changed field": (lambda store: store.count(Item, n=0), True),
    "values of another field": (lambda store: store.values(Item, "tag"), False),
    "values of the field": (lambda store: store.values(Item, "n"), True),
    "get of another record": (lambda store: store.get(Item, 2).tag, False),
    "get of the record": (lambda store: store.get(Item, 1).tag, True),
    "find of another record": (lambda store: store.find(Item, 2).tag, False),
    "get of nothing": (lambda store: store.get(Item, 9), False),
    "another model": (lambda store: store.all(Other), False),
}


@pytest.mark.parametrize("case", QUERIES)
def test_c9_what_is_noted_is_exactly_what_was_returned(case: str, tmp_path: Any) -> None:
    """Field `n` of record 1 changes from 0 to 5; who did not see it does not run again."""
    query, again = QUERIES[case]
    other = [Item(id=2, tag="x"), Other(id="y")]
    assert reruns(tmp_path, query, [Item(id=1), *other], [Item(id=1, n=5), *other]) is again


@pytest.mark.parametrize(
    ("query", "again"),
    [
        (lambda store: store.get(Item, 3), True),
        (lambda store: store.count(Item), True),
        (lambda store: store.where(Item, n=0), True),
        (lambda store: store.where(Item, n=1), False),
        (lambda store: store.values(Item, "n"), True),
        (lambda store: store.get(Item, 1), False),
    ],
)
def test_c9_a_record_more_is_another_answer_where_it_was_asked_for(query: Any, again: bool, tmp_path: Any) -> None:
    assert reruns(tmp_path, query, items(0, 0), items(0, 0, 0)) is again


def test_c9_another_order_is_another_answer(tmp_path: Any) -> None:
    one, two = items(1, 2)
    assert reruns(tmp_path, lambda store: store.values(Item, "n"), [one, two], [two, one])
    assert not reruns(tmp_path / "b", lambda store: store.count(Item), [one, two], [two, one])


def test_c9_queries_may_depend_on_earlier_answers(tmp_path: Any) -> None:
    """They are asked again in order, up to the first difference: what is not asked for any more does not count."""

    def chain(store: cp.Store) -> Any:
        first = store.find(Item, 1)
        return store.find(Item, first.n).tag if first.n else "end"

    graph = cp.Graph(chain, models=[Item], name="chain")

    def run(*records: Item) -> Any:
        log = Log()
        done = graph.run(list(records), dir=tmp_path, executor="inline", stream=log.stream)
        return done.value(chain), bool(log.computed)

    assert run(Item(id=1, n=2), Item(id=2, tag="two")) == ("two", True)
    assert run(Item(id=1, n=0)) == ("end", True), "record 2 is gone, and is not asked for"
    assert run(Item(id=1, n=2), Item(id=2, tag="two")) == ("two", False), "back again: an earlier trace agrees"
    assert run(Item(id=1, n=0), Item(id=2, tag="other")) == ("end", False)
    assert run(Item(id=1, n=2), Item(id=2, tag="other")) == ("other", True)


def test_c9_the_store_only_reads_and_hands_out_copies() -> None:
    @cp.model
    class Bag:
        id: int
        things: list[int]

    def spoil(store: cp.Store) -> int:
        store.find(Bag, 1).things.append(9)
        store.all(Bag)[0].things.append(9)
        store.values(Bag, "things")[0].append(9)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            store.find(Bag, 1).things = []  # type: ignore[misc]
        return len(store.find(Bag, 1).things)

    run = cp.Graph(spoil, models=[Bag]).run([Bag(id=1, things=[1])], dir=None)
    assert run.ok, run.failures[0].traceback
    assert run.value(spoil) == 1 and run.data == {"Bag": [{"id": 1, "things": [1]}]}
