"""Fan-out and joins: rules E1 to E7, each through the public API alone."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import pytest

import cpgraph as cp
from cpgraph.testing import Log


@cp.model
class A:
    id: int
    n: int = 0
    group: int = 0


@cp.model
class B:
    id: int
    n: int = 0


@cp.model
class Named:
    id: str
    n: int = 0


both = pytest.mark.parametrize("executor", ["inline", "threads"])


def go(*pipelines: Any, data: Any = None, executor: Any = "inline", models: Any = (A, B, Named), **options: Any) -> cp.Run:
    options.setdefault("dir", None)
    return cp.Graph(*pipelines, models=models, name="rules").run(data, executor=executor, **options)


def as_(*ns: int) -> list[A]:
    return [A(id=number, n=n) for number, n in enumerate(ns, 1)]


def kinds(run: cp.Run) -> list[str]:
    return [hint.kind for hint in run.hints]


def ended(run: cp.Run, step: str = "") -> dict[str, str]:
    return {node.id: node.ended for node in run.nodes if step in ("", node.step)}


def the_failure(run: cp.Run) -> Any:
    (failure,) = run.failures
    return failure


def refused(*pipelines: Any, **options: Any) -> str:
    with pytest.raises(cp.CompileError) as caught:
        cp.Graph(*pipelines, **options)
    return str(caught.value)


# E1


@both
def test_e1_an_instance_for_every_record_in_the_view(executor: str) -> None:
    """Those of the data and those created before it, and no others."""

    def before() -> Any:
        return [cp.create(A(id=3)), cp.delete(A, 1)]

    def work(record: A) -> int:
        return record.id

    run = go(cp.pipeline(before, cp.pipeline(work, each=A)), data=as_(0, 0), executor=executor)
    assert run.ok and list(run.values(work)) == [2, 3]
    assert run.counts == {"before": {"computed": 1}, "work": {"computed": 2}}


@both
def test_e1_created_records_get_their_instances_and_so_one_loops(executor: str) -> None:
    def grow(record: A) -> Any:
        return cp.create(A(id=record.id + 1)) if record.id < 50 else None

    def then(id: int) -> int:
        return id

    def total(then: list[int]) -> int:
        return sum(then)

    run = go(cp.pipeline(cp.pipeline(grow, then, each=A), total), data=as_(0), executor=executor)
    assert run.ok and run.value(total) == sum(range(1, 51))
    assert run.counts["grow"] == {"computed": 50} and list(run.values(then)) == list(range(1, 51))


@both
def test_e1_a_loop_may_go_through_two_pipelines(executor: str) -> None:
    def down(record: A) -> Any:
        return cp.create(B(id=record.id)) if record.id < 10 else None

    def up(record: B) -> Any:
        return cp.create(A(id=record.id + 1))

    run = go(cp.pipeline(down, each=A), cp.pipeline(up, each=B), data=as_(0), executor=executor)
    assert run.ok and list(run.values(down)) == list(range(1, 11)) and list(run.values(up)) == list(range(1, 10))


@both
def test_e1_a_creator_beside_the_pipeline_feeds_it(executor: str) -> None:
    """Also one that names nothing of it, and comes later in the graph."""

    def work(record: A) -> int:
        return record.n

    def feed() -> Any:
        return [cp.create(A(id=8, n=8)), cp.create(A(id=9, n=9))]

    run = go(cp.pipeline(work, each=A), cp.pipeline(feed), data=as_(1), executor=executor)
    assert run.values(work) == {1: 1, 8: 8, 9: 9}


@both
def test_e1_a_record_made_after_the_pipeline_is_not_picked_up_which_is_told(executor: str) -> None:
    def work(record: A) -> int:
        return record.id

    def late(work: list[int]) -> Any:
        return cp.create(A(id=9))

    run = go(cp.pipeline(cp.pipeline(work, each=A), late), data=as_(0), executor=executor)
    assert run.ok and run.values(work) == {1: 1} and run.store.count(A) == 2
    (hint,) = run.hints
    assert "A 9" in hint.text and "work" in hint.text and hint.mend


@both
def test_e1_what_comes_after_a_pipeline_is_picked_up_by_none_of_it_not_even_late_instances(executor: str) -> None:
    """`follow` comes after `inner`, wherever `inner` stands: also for the record 6, which it does not wait for."""

    def late() -> Any:
        return cp.create(A(id=6))

    def follow(id: int, inner: Any) -> Any:
        return cp.create(A(id=3)) if id == 2 else None

    def inner(record: A) -> int:
        return record.id

    run = go(
        cp.pipeline(late),
        cp.pipeline(follow, each=A),
        cp.pipeline(cp.pipeline(inner, each=cp.where(A, n=0)), each=A),
        data=[A(id=2, n=1)],
        executor=executor,
    )
    assert run.ok and sorted(run.values(inner)) == [(2, 6), (6, 6)]
    assert "A 3" in next(hint.text for hint in run.hints if hint.kind == "not-picked-up")


@both
def test_e1_where_takes_those_that_match_when_they_come_in(executor: str) -> None:
    """At the opening, or as they are created; what they become later does not count."""

    def work(record: A) -> Any:
        if record.id == 1:
            return [cp.update(n=0), cp.create(A(id=10, n=5)), cp.create(A(id=11, n=0))]
        return None

    def then(n: int) -> int:
        return n

    run = go(cp.pipeline(work, then, each=cp.where(A, lambda a: a.n > 0)), data=as_(1, 0, 3), executor=executor)
    assert run.ok and run.values(then) == {1: 0, 3: 3, 10: 5}


@both
def test_e1_where_by_fields_alone_and_together(executor: str) -> None:
    def work(id: int) -> int:
        return id

    data = [A(id=1, n=1), A(id=2, n=2, group=1), A(id=3, n=1, group=1)]
    assert list(go(cp.pipeline(work, each=cp.where(A, n=1)), data=data, executor=executor).values(work)) == [1, 3]
    assert list(go(cp.pipeline(work, each=cp.where(A, n=1, group=1)), data=data).values(work)) == [3]
    both_ = cp.where(A, lambda a: a.id > 1, group=1)
    assert list(go(cp.pipeline(work, each=both_), data=data).values(work)) == [2, 3]
    assert list(go(cp.pipeline(work, each=cp.where(A)), data=data).values(work)) == [1, 2, 3]


@both
def test_e1_the_predicate_is_asked_once_per_record(executor: str) -> None:
    asked: Counter[int] = Counter()

    def odd(a: A) -> bool:
        asked[a.id] += 1
        return a.id % 2 == 1

    def work(record: A) -> Any:
        return [cp.update(n=1), *([cp.create(A(id=record.id + 10))] if record.id < 10 else [])]

    def then(n: int) -> int:
        return n

    run = go(cp.pipeline(work, then, each=cp.where(A, odd)), data=as_(0, 0, 0), executor=executor)
    assert list(run.values(then)) == [1, 3, 11, 13]
    assert asked == {1: 1, 2: 1, 3: 1, 11: 1, 13: 1}


@both
def test_e1_the_predicates_other_parameters_are_resolved_like_a_conditions(executor: str) -> None:
    """A step's value, a run parameter, the record around the pipeline; `record` is the one around it."""

    def least() -> int:
        return 2

    def work(record: B) -> int:
        return record.id

    def owned(line: B, record: A, least: int, most: int = 5) -> bool:
        return line.n == record.id and least <= line.id <= most

    lines = [B(id=id, n=1 + id % 2) for id in range(1, 8)]
    graph = cp.Graph(cp.pipeline(least, cp.pipeline(cp.pipeline(work, each=cp.where(B, owned)), each=A)))
    run = graph.run([*as_(0, 0), *lines], dir=None, executor=executor)
    assert list(run.values(work)) == [(1, 2), (1, 4), (2, 3), (2, 5)]
    run = graph.run([*as_(0, 0), *lines], dir=None, executor=executor, params={"most": 4})
    assert list(run.values(work)) == [(1, 2), (1, 4), (2, 3)]


def test_e1_the_predicate_may_name_its_parameter_as_it_likes() -> None:
    """Its first parameter is the record asked about, also if it is called as a field, or `record`."""

    def work(id: int) -> int:
        return id

    for predicate in (lambda record: record.n == 1, lambda n: n.n == 1, lambda work: work.n == 1):
        assert list(go(cp.pipeline(work, each=cp.where(A, predicate)), data=as_(0, 1)).values(work)) == [2]


def test_e1_what_a_predicate_may_not() -> None:
    def work(id: int) -> int:
        return id

    text = refused(cp.pipeline(work, each=cp.where(A, lambda a, store: True)))
    assert "store" in text and "predicate" in text and "Mend:" in text
    text = refused(cp.pipeline(work, each=cp.where(A, lambda a, wrk: True)))
    assert "'wrk'" in text and "Did you mean 'work'?" in text
    assert "parameter" in refused(cp.pipeline(work, each=cp.where(A, lambda: True)))
    with pytest.raises(cp.CompileError, match="grup"):
        cp.where(A, grup=1)
    with pytest.raises(cp.CompileError, match="model"):
        cp.where(int)


@both
def test_e1_a_predicate_that_raises_fails_its_pipeline(executor: str) -> None:
    def work(id: int) -> int:
        return id

    def other() -> int:
        return 1

    def joins(work: list[int]) -> int:
        return len(work)

    def after() -> int:
        return 2

    raising = cp.pipeline(cp.pipeline(work, each=cp.where(A, lambda a: 1 / a.n)), [joins, after])
    run = go(raising, cp.pipeline(other), data=as_(1, 0), executor=executor)
    assert not run.ok and isinstance(the_failure(run).error, ZeroDivisionError)
    assert "asked about A(id=2, n=0" in the_failure(run).traceback
    assert ended(run) == {"joins": "blocked", "after": "blocked", "other": "computed"}
    assert run.value(other) == 1 and "work" not in [node.step for node in run.nodes if node.ended == "computed"]


@both
def test_e3_a_source_that_cannot_be_run_over_blocks_what_joins_it(executor: str) -> None:
    def work(it: Any) -> Any:
        return it

    def joins(work: list[Any]) -> int:
        return len(work)

    for skip in (False, True):
        inner = cp.pipeline(work, each={"it": {1.5: 2}}, on_error="skip" if skip else "isolate")
        run = go(cp.pipeline(inner, joins, each=A), data=as_(0, 0), executor=executor)
        assert not run.ok and len(run.failures) == 2
        assert run.counts["joins"] == ({"computed": 1, "cached": 1} if skip else {"blocked": 2})


@both
def test_e1_a_predicate_that_raises_for_a_created_record_is_a_failure(executor: str) -> None:
    """The run ends, and says so."""

    def work(record: A) -> Any:
        return cp.create(A(id=9, n=0)) if record.id == 1 else record.id

    def later(work: list[Any]) -> int:
        return len(work)

    run = go(cp.pipeline(cp.pipeline(work, each=cp.where(A, lambda a: 1 / a.n)), later), data=as_(1, 1), executor=executor)
    assert run.status == "failed"
    assert [type(failure.error) for failure in run.failures] == [ZeroDivisionError]
    assert ended(run)["later"] == "blocked"


@both
def test_e1_an_inner_each_is_a_product(executor: str) -> None:
    """Every inner record in every outer one; an instance takes no record made inside another outer instance."""

    def make(record: A) -> Any:
        return cp.create(B(id=100 + record.id))

    def pair(record: B, a: A) -> tuple[int, int]:
        return a.id, record.id

    graph = cp.Graph(cp.pipeline(make, cp.pipeline(pair, each=B), each=A))
    data = [*as_(0, 0), B(id=1), B(id=2), B(id=3)]
    run = graph.run(data, dir=None, executor=executor)
    expected = [(1, 1), (1, 2), (1, 3), (1, 101), (2, 1), (2, 2), (2, 3), (2, 102)]
    assert run.ok and list(run.values(pair)) == expected == list(run.values(pair).values())
    plan = graph.plan(data, dir=None)
    assert "2 × 3" in str(plan)


def test_e1_the_plan_shows_large_products_with_commas() -> None:
    def pair(record: B, a: A) -> int:
        return a.id * record.id

    graph = cp.Graph(cp.pipeline(cp.pipeline(pair, each=B), each=A))
    assert "1,100 × 2" in str(graph.plan([*[A(id=n) for n in range(1100)], B(id=1), B(id=2)], dir=None))


@both
def test_e1_a_selection_is_the_mend_of_a_product(executor: str) -> None:
    def pair(record: B, a: A) -> tuple[int, int]:
        return a.id, record.id

    run = go(
        cp.pipeline(cp.pipeline(pair, each=cp.where(B, lambda line, record: line.n == record.id)), each=A),
        data=[*as_(0, 0), B(id=1, n=2), B(id=2, n=1), B(id=3, n=2)],
        executor=executor,
    )
    assert list(run.values(pair)) == [(1, 2), (2, 1), (2, 3)]


def test_e1_no_records_at_all() -> None:
    def work(id: int) -> int:
        return id

    def total(work: list[int]) -> list[int]:
        return work

    run = go(cp.pipeline(cp.pipeline(work, each=A), total))
    assert run.ok and run.value(total) == [] and run.counts == {"work": {}, "total": {"computed": 1}}


def test_e1_each_wants_a_model_a_selection_or_items() -> None:
    def work() -> int:
        return 1

    for wrong in (int, "A", [1, 2], {}, {"a": [1], "b": [2]}, {1: [1]}, A(id=1)):
        text = refused(cp.pipeline(work, each=wrong))
        assert "each=" in text and "Mend:" in text and "test_rules_e.py:" in text


def test_e1_what_is_no_model_says_why() -> None:
    def work() -> int:
        return 1

    @attrs.frozen
    class NoId:
        n: int = 0

    @attrs.define
    class Loose:
        id: int = 0

    class Bare:
        id: int = 0

    for cls, why in ((NoId, "no field 'id'"), (Loose, "not frozen"), (Bare, "Bare is no model")):
        for made in (lambda cls=cls: cp.Graph(cp.pipeline(work, each=cls)), lambda cls=cls: cp.where(cls)):
            with pytest.raises(cp.CompileError) as caught:
                made()
            assert why in str(caught.value) and "test_rules_e.py" in str(caught.value) and "Mend:" in str(caught.value)


def test_e1_a_selection_that_cannot_select_is_told_where_it_is_made() -> None:
    for made, words in (
        (lambda: cp.where(A, gruop=1), ["'gruop'", "Did you mean 'group'?"]),
        (lambda: cp.where(A, True), ["True", "lambda"]),  # type: ignore[arg-type]
    ):
        with pytest.raises(cp.CompileError) as caught:
            made()
        assert all(word in str(caught.value) for word in [*words, "test_rules_e.py:", "Mend:"]), caught.value


def test_e1_models_is_a_list() -> None:
    def work() -> int:
        return 1

    with pytest.raises(cp.CompileError, match=r"(?s)models=.*test_rules_e.py:.*models=\[A\]"):
        cp.Graph(work, models=A)  # type: ignore[arg-type]
    with pytest.raises(cp.CompileError, match=r"'x' .* is no class"):
        cp.Graph(work, models=["x"])  # type: ignore[list-item]


def test_e1_a_predicate_that_is_async_is_refused() -> None:
    """It would say yes to all."""

    async def small(record: A) -> bool:
        return record.n < 3

    def work(record: A) -> int:
        return record.n

    with pytest.raises(cp.CompileError, match=r"(?s)predicate.*async.*test_rules_e.py:.*await in a step before it"):
        cp.Graph(cp.pipeline(work, each=cp.where(A, small)))


# E2


@both
def test_e2_a_loop_through_two_pipelines_is_joined_after_the_part_that_holds_both(executor: str) -> None:
    def down(record: A) -> Any:
        return cp.create(B(id=record.id)) if record.id < 4 else None

    def up(record: B) -> Any:
        return cp.create(A(id=record.id + 1))

    def total(down: dict[int, Any], up: dict[int, Any], store: cp.Store) -> Any:
        return list(down), list(up), store.values(A, "id")

    run = go(cp.pipeline([cp.pipeline(down, each=A), cp.pipeline(up, each=B)], total), data=as_(0), executor=executor)
    assert run.ok and run.value(total) == ([1, 2, 3, 4], [1, 2, 3], [1, 2, 3, 4])
    assert run.hints == []


@both
def test_e2_what_comes_after_a_smaller_part_does_not_join_it_which_is_told(executor: str) -> None:
    """With the mend `after=…`."""

    def work(record: A) -> int:
        return record.id

    def feed() -> Any:
        return cp.create(A(id=9))

    def total(work: list[int]) -> list[int]:
        return work

    run = go(cp.pipeline(cp.pipeline(work, each=A), total), cp.pipeline(feed, name="feeding"), data=as_(0), executor=executor)
    assert run.ok and run.value(total) == [1] and list(run.values(work)) == [1, 9]
    (hint,) = run.hints
    assert "A 9" in hint.text and "total" in hint.text and "work" in hint.text
    assert "after" in hint.mend


@pytest.mark.parametrize("shape", ["step", "pipeline", "end of a group", "end of a pipeline", "inside another each"])
def test_e2_whatever_comes_after_the_smaller_part_is_told_of(shape: str) -> None:
    def work(record: A) -> int:
        return record.id

    def feed() -> Any:
        return [cp.create(A(id=8)), cp.create(A(id=9))]

    def total() -> str:
        return "total"

    def other(record: B, work: list[int]) -> list[int]:
        return work

    rows = cp.pipeline(work, each=A)
    parts = {
        "step": [cp.pipeline(rows, total)],
        "pipeline": [cp.pipeline(rows, cp.pipeline(total, each=B))],
        "end of a group": [cp.pipeline([rows], total)],
        "end of a pipeline": [cp.pipeline(cp.pipeline(rows), total)],
        "inside another each": [rows, cp.pipeline(cp.alias(other, "total"), each=B)],
    }[shape]
    run = go(*parts, cp.pipeline(feed), data=[A(id=1), B(id=1)])
    (hint,) = run.hints
    assert hint.kind == "not-joined" and "total" in hint.text and "after=" in hint.mend
    assert hint.nodes == ("work[8]", "work[9]"), "told once, of all"
    assert go(cp.pipeline(rows), cp.pipeline(feed), data=[A(id=1)]).hints == []


def test_e2_of_two_pipelines_of_the_graph_the_mend_names_the_creator() -> None:
    def work(record: A) -> int:
        return record.id

    def feed() -> Any:
        return cp.create(A(id=9))

    def total(work: list[int]) -> list[int]:
        return work

    def parts(**after: Any) -> list[Any]:
        return [cp.pipeline(cp.pipeline(work, each=A, **after), total), cp.pipeline(feed)]

    (hint,) = go(*parts()).hints
    assert hint.mend == "say after='feed' on pipeline 'work', which then begins when that has created all."
    run = go(*parts(after="feed"))
    assert run.value(total) == [9] and run.hints == []


def test_e2_the_mend_is_one() -> None:
    def work(record: A) -> int:
        return record.id

    def feed() -> Any:
        return cp.create(A(id=9))

    def total(work: list[int]) -> list[int]:
        return work

    run = go(cp.pipeline([cp.pipeline(work, each=A), feed], name="both"), cp.pipeline(total, after="both"), data=[A(id=1)])
    assert run.value(total) == [1, 9] and run.hints == []


@both
def test_e2_what_waits_for_the_creator_joins_after_the_part_that_holds_both(executor: str) -> None:
    def work(record: A) -> int:
        return record.id

    def feed() -> Any:
        return cp.create(A(id=9))

    def total(work: list[int]) -> list[int]:
        return work

    run = go(cp.pipeline([cp.pipeline(work, each=A), feed], total), data=as_(0), executor=executor)
    assert run.ok and run.value(total) == [1, 9] and run.hints == []
    run = go(cp.pipeline(feed, cp.pipeline(work, each=A), total), data=as_(0), executor=executor)
    assert run.value(total) == [1, 9] and run.hints == []


@both
def test_e2_records_created_inside_the_each_belong_to_it(executor: str) -> None:
    def work(record: A) -> Any:
        return cp.create(A(id=9)) if record.id == 1 else None

    def then(id: int) -> int:
        return id

    def total(then: list[int]) -> list[int]:
        return then

    def later(store: cp.Store) -> int:
        return store.count(A)

    run = go(cp.pipeline(cp.pipeline(work, then, each=A), [total, later]), data=as_(0), executor=executor)
    assert run.value(total) == [1, 9] and run.value(later) == 2 and run.hints == []


@both
def test_e2_a_late_record_that_fails_blocks_what_comes_after_its_part(executor: str) -> None:
    def work(record: A) -> int:
        if record.id == 9:
            raise ValueError("late")
        return record.id

    def feed() -> Any:
        return cp.create(A(id=9))

    def inner(work: list[int]) -> list[int]:
        return work

    def outer() -> str:
        return "outer"

    run = go(
        cp.pipeline([cp.pipeline(cp.pipeline(work, each=A), inner), cp.pipeline(feed)], outer), data=as_(0), executor=executor
    )
    assert run.value(inner) == [1] and ended(run)["outer"] == "blocked"
    assert the_failure(run).node == "work[9]"


# E3

ITEMS: dict[str, tuple[Any, list[Any]]] = {
    "ints and strs are their own ids": ([1, "a", "1"], [1, "a", "1"]),
    "a tuple": ((3, 1), [3, 1]),
    "a range": (range(2, 5), [2, 3, 4]),
    "a dict's keys": ({"x": 10, 7: 20}, ["x", 7]),
    "equal ones": (["a", "b", "a", "a"], ["a", "b", "a~2", "a~3"]),
    "equal ints": ([5, 5], [5, "5~2"]),
    "64 characters": (["x" * 64], ["x" * 64]),
    "what has an id": ([A(id=4), A(id=2)], [4, 2]),
    "what has an equal id": ([A(id=4, n=1), A(id=4, n=2)], [4, "4~2"]),
    "negative and zero": ([0, -1], [0, -1]),
    "an empty str": ([""], [""]),
    "none": ([], []),
    "files": ([cp.File("a.txt"), cp.File("b/c.txt")], ["a.txt", "b/c.txt"]),
}


@both
@pytest.mark.parametrize("case", ITEMS)
@pytest.mark.parametrize("way", ["list", "step", "name"])
def test_e3_the_ids_of_items(case: str, way: str, executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.txt").write_text("c")
    items, ids = ITEMS[case]

    def source() -> Any:
        return items

    def work(it: Any) -> Any:
        return it

    def total(work: list[Any]) -> Any:
        return work

    each = {"list": items, "step": source, "name": "source"}[way]
    parts = [cp.pipeline(work, each={"it": each}), total]
    run = go(cp.pipeline(*([] if way == "list" else [source]), *parts), executor=executor)
    assert run.ok, run.failures[0].traceback
    assert list(run.values(work)) == ids
    values = list(items.values()) if isinstance(items, dict) else list(items)
    assert run.value(total) == values
    assert [run.value(work, id) for id in ids] == values


@pytest.mark.parametrize("item", ["x" * 65, 1.5, None, True, (1, 2), {"a": 1}, b"bytes"])
def test_e3_other_items_are_called_by_the_first_16_hex_of_their_digest(item: Any) -> None:
    def work(it: Any) -> Any:
        return it

    run = go(cp.pipeline(work, each={"it": [item, item]}))
    first, second = run.values(work)
    assert len(first) == 16 and int(first, 16) >= 0 and second == f"{first}~2"
    assert list(go(cp.pipeline(work, each={"it": [item]})).values(work)) == [first]


def test_e3_nodes_of_items_are_named_by_their_ids() -> None:
    def work(it: Any) -> Any:
        return it

    run = go(cp.pipeline(work, each={"it": [3, "3", "a", "a", "x,y"]}))
    assert [node.id for node in run.nodes] == ["work[3]", 'work["3"]', "work[a]", "work[a~2]", 'work["x,y"]']
    assert [node.record for node in run.nodes][:3] == [3, "3", "a"]


@both
def test_e3_equal_items_are_one_call_two_nodes_two_entries(executor: str) -> None:
    log = Log()

    def work(it: str) -> str:
        return it.upper()

    def total(work: list[str]) -> list[str]:
        return work

    run = go(cp.pipeline(cp.pipeline(work, each={"it": ["a", "b", "a"]}), total), executor=executor, stream=log.stream)
    assert run.value(total) == ["A", "B", "A"]
    assert sorted(text for text in log if text.endswith("started") and text.startswith("work")) == [
        "work[a] started", "work[b] started",
    ]  # fmt: skip
    assert ended(run, "work") == {"work[a]": "computed", "work[b]": "computed", "work[a~2]": "cached"}


def test_e3_the_id_is_in_no_key(tmp_path: Path) -> None:
    """Another place, another key of the dict: the same call."""

    def work(it: int) -> int:
        return it * 2

    def graph(items: Any) -> cp.Graph:
        return cp.Graph(cp.pipeline(work, each={"it": items}), name="keys")

    graph({"x": 1, "y": 2}).run(dir=tmp_path, executor="inline")
    run = graph({"z": 2, "x": 1}).run(dir=tmp_path, executor="inline")
    assert run.values(work) == {"z": 4, "x": 2} and run.counts == {"work": {"cached": 2}}
    assert graph([2, 1]).run(dir=tmp_path, executor="inline").counts == {"work": {"cached": 2}}


@both
@pytest.mark.parametrize("given", [5, None, "text", {1, 2}, {1.5: "a"}, {True: 1}, {None: 1}, b"ab", A(id=1)])
def test_e3_anything_else_is_an_error_of_the_step_that_gave_it(given: Any, executor: str) -> None:
    def source() -> Any:
        return given

    def work(it: Any) -> Any:
        return it

    def total(work: list[Any]) -> int:
        return len(work)

    run = go(cp.pipeline(source, cp.pipeline(work, each={"it": source}), total), executor=executor)
    failure = the_failure(run)
    assert failure.node == "source" and isinstance(failure.error, cp.CpgraphError)
    assert "list" in str(failure.error) or "int" in str(failure.error)
    assert ended(run) == {"source": "failed", "total": "blocked"}


def test_e3_a_step_that_is_not_there_is_a_compile_error() -> None:
    def source() -> list[int]:
        return [1]

    def elsewhere() -> list[int]:
        return [1]

    def work(it: int) -> int:
        return it

    text = refused(cp.pipeline(source, cp.pipeline(work, each={"it": "sourse"})))
    assert "'sourse'" in text and "Did you mean 'source'?" in text and "test_rules_e.py:" in text
    assert "'elsewhere'" in refused(cp.pipeline(source, cp.pipeline(work, each={"it": elsewhere})))
    assert "float" in refused(cp.pipeline(work, each={"it": 1.5}))


@both
def test_e3_the_source_may_stand_anywhere_and_naming_it_is_waiting_for_it(executor: str) -> None:
    def work(it: int) -> int:
        return it

    def source() -> list[int]:
        return [1, 2]

    assert go(cp.pipeline(work, each={"it": source}), cp.pipeline(source), executor=executor).values(work) == {1: 1, 2: 2}


@both
def test_e3_the_source_may_be_a_step_of_the_record_around(executor: str) -> None:
    """One list for each outer record; ids are nested."""

    def parts(n: int) -> list[int]:
        return list(range(n))

    def work(part: int, record: A) -> tuple[int, int]:
        return record.id, part

    def total(work: list[list[Any]]) -> Any:
        return work

    run = go(
        cp.pipeline(cp.pipeline(parts, cp.pipeline(work, each={"part": parts}), each=A), total),
        data=as_(2, 0, 1),
        executor=executor,
    )
    assert list(run.values(work)) == [(1, 0), (1, 1), (3, 0)]
    assert run.value(total) == [[(1, 0), (1, 1)], [], [(3, 0)]]


@both
def test_e3_the_source_may_be_a_finished_each(executor: str) -> None:
    def first(it: int) -> int:
        return it * 10

    def second(that: int) -> int:
        return that + 1

    run = go(cp.pipeline(cp.pipeline(first, each={"it": [1, 2]}), cp.pipeline(second, each={"that": first})), executor=executor)
    assert run.values(second) == {10: 11, 20: 21}


@both
def test_e3_files_are_looked_up_at_each_run(executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.txt", "a.txt", "c.rst"):
        Path(name).write_text(name)

    def size(file: cp.File) -> int:
        return len(Path(file).read_text())

    graph = cp.Graph(cp.pipeline(size, each={"file": cp.files("*.txt")}), name="files")
    run = graph.run(dir="kept", executor=executor)
    assert list(run.values(size)) == ["a.txt", "b.txt"] and set(ended(run)) == {"size[a.txt]", "size[b.txt]"}
    Path("d.txt").write_text("d.txt")
    Path("a.txt").unlink()
    again = graph.run(dir="kept", executor=executor)
    assert list(again.values(size)) == ["b.txt", "d.txt"] and again.counts == {"size": {"cached": 1, "computed": 1}}


def test_e3_a_model_is_no_source_of_items() -> None:
    def work(record: Any) -> Any:
        return record

    for source, mend in ((A, "each=A"), (cp.where(A, n=1), "each=cp.where(A, …)")):
        with pytest.raises(cp.CompileError) as caught:
            cp.Graph(cp.pipeline(work, each={"n": source}))
        assert "A is a model" in str(caught.value) and mend in str(caught.value) and "test_rules_e.py:" in str(caught.value)


@both
def test_e3_the_ids_of_repeated_items_are_plain_text(executor: str) -> None:
    def work(it: str) -> str:
        return it

    def ids(work: dict[str, str]) -> list[type]:
        return [type(id) for id in work]

    run = go(cp.pipeline(cp.pipeline(work, each={"it": ["a", "a"]}), ids), executor=executor)
    assert [type(id) for id in run.values(work)] == [str, str] and list(run.values(work)) == ["a", "a~2"]
    assert [type(node.record) for node in run.nodes if node.step == "work"] == [str, str]
    assert run.value(ids) == [str, str] and run.value(work, "a~2") == "a"


@both
def test_e3_files_that_a_step_gives_are_the_list_of_them(executor: str, tmp_path: Path) -> None:
    """They are those that matched when it gave them (rule V4)."""
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(name)

    def found():  # type: ignore[no-untyped-def]
        return cp.files(f"{tmp_path}/*.txt")

    def size(file: cp.File) -> int:
        return len(Path(file).read_text())

    def names(found: list[cp.File]) -> list[str]:
        return [Path(file).name for file in found]

    run = go(cp.pipeline(found, [cp.pipeline(size, each={"file": found}), names]), executor=executor)
    assert run.value(names) == ["a.txt", "b.txt"] and list(run.values(size).values()) == [5, 5]
    assert run.value(found) == [cp.File(f"{tmp_path}/a.txt"), cp.File(f"{tmp_path}/b.txt")]


# E4


def odd_fails(n: int) -> int:
    if n % 2:
        raise ValueError("odd")
    return n


@both
def test_e4_joined_are_instances_in_which_no_step_failed(executor: str) -> None:
    """Also not those in which a step failed that the join does not ask for; a join says how many it expected."""

    def value(id: int) -> int:
        return id

    def total(value: list[int]) -> list[int]:
        return value

    run = go(
        cp.pipeline(cp.pipeline(value, cp.alias(odd_fails, "check"), each=A, on_error="skip"), total),
        data=as_(0, 1, 2),
        executor=executor,
    )
    assert run.value(total) == [1, 3] and list(run.values(value)) == [1, 2, 3]
    assert not run.ok and the_failure(run).node == "check[2]"
    (hint,) = run.hints
    assert "2 of 3" in hint.text and hint.nodes == ("total",)


def test_e4_a_join_says_999_of_1000() -> None:
    def value(n: int) -> int:
        if n == 700:
            raise ValueError("edge")
        return n

    def total(value: list[int]) -> int:
        return len(value)

    run = go(cp.pipeline(cp.pipeline(value, each=A, on_error="skip"), total), data=as_(*range(1000)))
    assert run.value(total) == 999
    (hint,) = run.hints
    assert "999 of 1,000" in hint.text


def test_e4_a_join_counts_what_is_joined_not_what_was_closed() -> None:
    def a(n: int) -> int:
        if n == 7:
            raise ValueError("edge")
        return n

    def b(a: int) -> int:
        return a

    def values(b: dict[int, int]) -> int:
        return len(b)

    inner = cp.pipeline(b, open=lambda n: n >= 5)
    run = go(cp.pipeline(cp.pipeline(a, inner, each=A, on_error="skip"), values), data=as_(*range(10)))
    assert run.value(values) == 4
    told = next(hint for hint in run.hints if hint.kind == "joined-fewer")
    assert told.text == "values joins 4 of 10 of b: 1 failed, 5 have no value for it"


@both
def test_e4_lists_of_one_join_are_parallel_a_dict_has_every_value(executor: str) -> None:
    """An instance in which one of the steps asked for as a list has no value is in none of the lists."""

    def one(id: int) -> int:
        return id

    def two(id: int) -> int:
        return id * 10

    def lists(one: list[int], two: list[int]) -> Any:
        return one, two

    def mixed(one: dict[int, int], two: list[int]) -> Any:
        return one, two

    def alone(one: list[int]) -> Any:
        return one

    run = go(
        cp.pipeline(cp.pipeline(one, cp.pipeline(two, open=lambda n: n > 0), each=A), [lists, mixed, alone]),
        data=as_(1, 0, 3),
        executor=executor,
    )
    assert run.ok
    assert run.value(lists) == ([1, 3], [10, 30])
    assert run.value(mixed) == ({1: 1, 2: 2, 3: 3}, [10, 30])
    assert run.value(alone) == [1, 2, 3]


@both
def test_e4_the_order_is_that_of_items_or_records_never_of_time(executor: str) -> None:
    done = threading.Event()

    def work(it: int) -> int:
        if it == 1 and executor == "threads":
            assert done.wait(20)
        if it == 2:
            done.set()
        return it

    def total(work: list[int]) -> list[int]:
        return work

    def as_dict(work: dict[int, int]) -> list[int]:
        return list(work)

    run = go(cp.pipeline(cp.pipeline(work, each={"it": [1, 3, 2]}), [total, as_dict]), executor=executor)
    assert run.value(total) == [1, 3, 2] and run.value(as_dict) == [1, 3, 2]


@both
def test_e4_closed_instances_have_no_value_and_join(executor: str) -> None:
    def work(n: int) -> int:
        return n

    def total(work: list[int]) -> list[int]:
        return work

    run = go(cp.pipeline(cp.pipeline(work, each=A, open=lambda n: n > 1), total), data=as_(1, 2, 3), executor=executor)
    assert run.ok and run.value(total) == [2, 3] and run.counts["work"] == {"computed": 2, "closed": 1}
    assert run.hints == []


# E5


@both
def test_e5_a_chain_longer_than_max_generations_fails_its_record(executor: str) -> None:
    """Showing the last three; the others stay."""

    def grow(record: A) -> Any:
        return [cp.update(n=1), cp.create(A(id=record.id + 1))]

    run = go(cp.pipeline(grow, each=A, max_generations=5), data=as_(0), executor=executor)
    failure = the_failure(run)
    assert failure.node == "grow[7]" and failure.record == A(id=7)
    text = str(failure.error)
    assert "5" in text and "5 → 6 → 7" in text and "max_generations" in text and "Mend:" in text
    assert run.counts["grow"] == {"computed": 6, "failed": 1}
    assert run.store.find(A, 6).n == 1


@both
def test_e5_the_steps_after_the_first_are_blocked_and_the_run_ends(executor: str) -> None:
    def grow(record: A) -> Any:
        return cp.create(A(id=record.id + 1))

    def one(record: A) -> int:
        return record.id

    def two(record: A) -> int:
        return record.id

    def after() -> int:
        return 1

    for skip in (False, True):
        chain = cp.pipeline(grow, [one, cp.pipeline(two)], each=A, max_generations=5, on_error="skip" if skip else "isolate")
        run = go(cp.pipeline(chain, after), data=as_(0), executor=executor)
        assert the_failure(run).node == "grow[7]"
        for step in ("one", "two"):
            assert run.counts[step]["blocked"] == 1
            assert list(run.values(step)) == [1, 2, 3, 4, 5, 6]
        assert ended(run)["after"] == ("computed" if skip else "blocked")


@both
def test_e5_a_chain_of_just_that_length_is_fine(executor: str) -> None:
    def grow(record: A) -> Any:
        return cp.create(A(id=record.id + 1)) if record.id < 6 else None

    assert go(cp.pipeline(grow, each=A, max_generations=5), data=as_(0), executor=executor).ok


def test_e5_many_children_of_one_are_no_chain() -> None:
    def grow(record: A) -> Any:
        return [cp.create(A(id=n)) for n in range(2, 40)] if record.id == 1 else None

    assert go(cp.pipeline(grow, each=A, max_generations=1), data=as_(0)).ok


@both
def test_e5_a_chain_through_two_pipelines_counts_as_well(executor: str) -> None:
    def down(record: A) -> Any:
        return cp.create(B(id=record.id))

    def up(record: B) -> Any:
        return cp.create(A(id=record.id + 1))

    run = go(
        cp.pipeline(down, each=A, max_generations=9), cp.pipeline(up, each=B, max_generations=9), data=as_(0), executor=executor
    )
    assert run.status == "failed" and len(run.failures) == 1


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "many"])
@pytest.mark.parametrize("option", ["max_generations", "concurrency"])
def test_e5_e6_numbers_are_whole_and_above_0(option: str, wrong: Any) -> None:
    with pytest.raises(cp.CompileError, match=option) as caught:
        cp.pipeline(lambda: 1, **{option: wrong})
    assert repr(wrong) in str(caught.value)


def test_e5_there_is_always_an_end_to_a_chain() -> None:
    with pytest.raises(cp.CompileError, match="max_generations=None"):
        cp.pipeline(lambda: 1, max_generations=None)  # type: ignore[arg-type]


# E6


def test_e6_inner_instances_begin_in_the_order_of_the_outer_ones() -> None:
    def work(part: int, id: int) -> int:
        return part

    log = Log()
    go(cp.pipeline(cp.pipeline(work, each={"part": [1, 2]}), each=A), data=as_(0, 1, 2), stream=log.stream)
    assert log.computed == [f"work[{id},{part}]" for id in (1, 2, 3) for part in (1, 2)]


class Counting:
    """Counts how many are at work at once; its state is nobody's input."""

    def __init__(self, meet: int = 1) -> None:
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.barrier = threading.Barrier(meet)

    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")

    def __enter__(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.barrier.wait(20)

    def __exit__(self, *about: object) -> None:
        with self.lock:
            self.now -= 1


@pytest.mark.parametrize("executor", ["inline", "threads", "processes"])
@pytest.mark.parametrize("nested", [False, True])
def test_e6_steps_side_by_side_share_the_place_of_their_instance(executor: str, nested: bool) -> None:
    """Both wait for a place; when one of them has got it, the other one may go too."""

    def left(n: int) -> int:
        return n + 1

    def right(n: int) -> int:
        return n + 2

    def both_of(left: int, right: int) -> int:
        return left + right

    inner = cp.pipeline([left, cp.pipeline(right)], both_of, each={"n": list(range(9))}, concurrency=1)
    outer = cp.pipeline(inner, each={"k": [1, 2, 3]}, concurrency=2) if nested else inner
    run = go(outer, executor=executor)
    assert run.ok and run.counts["both_of"].keys() <= {"computed", "cached"}
    assert sorted(run.values(both_of).values()) == sorted([2 * n + 3 for n in range(9)] * (3 if nested else 1))


def test_e6_concurrency_limits_the_instances_of_a_pipeline() -> None:
    """No more than that at once, and that many."""
    counting = Counting(meet=3)

    def work(id: int) -> int:
        with counting:
            return id

    run = go(cp.pipeline(work, each=A, concurrency=3), data=as_(*range(12)), executor="threads")
    assert run.ok and counting.most == 3


def test_e6_an_instance_holds_its_place_from_its_first_step_to_its_last() -> None:
    log = Log()

    def one(id: int) -> int:
        return id

    def two(one: int) -> int:
        return one + 1

    run = go(cp.pipeline(one, two, each=A, concurrency=1), data=as_(0, 0, 0), executor="threads", stream=log.stream)
    assert run.ok
    assert [text for text in log if text.endswith("started")] == [
        f"{step}[{id}] started" for id in (1, 2, 3) for step in ("one", "two")
    ]


def test_e6_instances_count_over_the_whole_run_however_nested() -> None:
    """The inner pipeline's limit is one for all outer instances together."""
    counting = Counting(meet=2)

    def work(part: int, record: A) -> int:
        with counting:
            return part

    run = go(
        cp.pipeline(cp.pipeline(work, each={"part": [1, 2]}, concurrency=2), each=A), data=as_(*range(4)), executor="threads"
    )
    assert run.ok and counting.most == 2


def test_e6_nested_limits_both_hold() -> None:
    inner, outer = Counting(), Counting(meet=1)
    opened: set[int] = set()
    most = 0
    lock = threading.Lock()

    def work(part: int, record: A) -> int:
        with inner:
            return part

    def begin(id: int, stream: cp.Stream) -> int:
        stream.push("began", id)
        return id

    def end(id: int, stream: cp.Stream) -> int:
        stream.push("ended", id)
        return id

    stream = cp.Stream()

    @stream.on("began")
    def began(id: int) -> None:
        nonlocal most
        with lock:
            opened.add(id)
            most = max(most, len(opened))

    stream.on("ended")(opened.discard)
    run = go(
        cp.pipeline(begin, cp.pipeline(work, each={"part": [1, 2, 3]}, concurrency=1), end, each=A, concurrency=2),
        data=as_(*range(5)),
        executor="threads",
        stream=stream,
    )
    assert run.ok and inner.most == 1 and most <= 2 and outer.most == 0


def test_e6_a_limit_is_shared_by_all_steps_that_name_it() -> None:
    counting = Counting(meet=2)
    limit = cp.Limit(2)

    @cp.step(limit=limit)
    def one(id: int) -> int:
        with counting:
            return id

    @cp.step(limit=limit)
    def two(id: int) -> int:
        with counting:
            return id

    run = go(cp.pipeline(one, each=A), cp.pipeline(two, each=A), data=as_(*range(4)), executor="threads")
    assert run.ok and counting.most == 2


def test_e6_a_limit_counts_failed_and_repeated_calls_as_ended() -> None:
    calls: Counter[int] = Counter()

    @cp.step(limit=cp.Limit(1), retries=1)
    def work(id: int) -> int:
        calls[id] += 1
        if calls[id] == 1 or id == 2:
            raise ValueError("once more")
        return id

    run = go(cp.pipeline(work, each=A), data=as_(0, 0, 0), executor="threads")
    assert calls == {1: 2, 2: 2, 3: 2} and run.values(work) == {1: 1, 3: 3}


def test_e6_per_second_lets_them_all_through() -> None:
    @cp.step(limit=cp.Limit(8, per_second=10_000))
    def work(id: int) -> int:
        return id

    assert go(cp.pipeline(work, each=A), data=as_(*range(20)), executor="threads").ok
    with pytest.raises(cp.CpgraphError, match="Limit"):
        cp.Limit(0)
    with pytest.raises(cp.CpgraphError, match="per_second"):
        cp.Limit(1, per_second=0)
    for wrong in (("x",), (), (1.5,), (True,), (None, "x"), (1, float("nan"))):
        with pytest.raises(cp.CompileError, match=r"(?s)Limit\(.*test_rules_e.py:.*Mend:"):
            cp.Limit(*wrong)  # type: ignore[arg-type]


def test_e6_async_steps_run_together_on_one_loop() -> None:
    import asyncio

    gathered: list[int] = []
    event = asyncio.Event()

    async def work(id: int) -> int:
        gathered.append(threading.get_ident())
        if len(gathered) == 100:
            event.set()
        await asyncio.wait_for(event.wait(), 20)
        return id

    run = go(cp.pipeline(work, each=A), data=as_(*range(100)), executor="threads")
    assert run.ok and len(set(gathered)) == 1


def seen_in(store: cp.Store) -> int:
    import os

    return os.getpid() if store.count(A) else 0


def test_e6_a_step_that_asks_for_the_store_runs_in_this_process_which_plan_says() -> None:
    import os

    graph = cp.Graph(seen_in, models=[A])
    assert graph.run(as_(0), dir=None, executor="processes").value(seen_in) == os.getpid()
    assert "store" in str(graph.plan(as_(0), dir=None)) and "seen_in" in str(graph.plan(as_(0), dir=None))


# E7


def test_e7_a_pipeline_of_another_graph_is_named_and_not_shown() -> None:
    def work() -> int:
        return 1

    for other, name in ((cp.pipeline(work), "a pipeline"), (cp.pipeline(work, name="theirs"), "'theirs'")):
        with pytest.raises(cp.CompileError) as caught:
            cp.Graph(cp.pipeline(cp.alias(work, "mine"), after=other))
        text = str(caught.value)
        assert name in text and text.count("test_rules_e.py:") == 2 and "Pipeline(" not in text and " at 0x" not in text


@both
def test_e7_after_waits_as_naming_would_without_taking_the_value(executor: str) -> None:
    """For a step of the same instance its own node; for an each the join."""
    log = Log()

    def one(id: int) -> int:
        return id

    @cp.step(after=one)
    def two(n: int) -> int:
        return n

    def last() -> str:
        return "last"

    run = go(
        [cp.pipeline([two, one], each=A, name="rows"), cp.pipeline(last, after="rows")],
        data=as_(5, 6),
        executor=executor,
        stream=log.stream,
    )
    assert run.ok and run.values(two) == {1: 5, 2: 6}
    for id in (1, 2):
        assert log.index(f"one[{id}] computed") < log.index(f"two[{id}] computed")
    assert log.index("last started") > max(log.index(f"two[{id}] started") for id in (1, 2))
    (last_at,) = [index for index, text in enumerate(log) if text == "last computed"]
    assert all(log.index(f"two[{id}] computed") < last_at for id in (1, 2))


@both
@pytest.mark.parametrize("how", ["step", "name", "pipeline", "list"])
def test_e7_after_takes_steps_pipelines_and_names(how: str, executor: str) -> None:
    order: list[str] = []

    def early() -> Any:
        return cp.create(A(id=1))

    first = cp.pipeline(early, name="first")
    after = {"step": early, "name": "early", "pipeline": first, "list": [first, "early"]}[how]

    @cp.step(after=after)
    def see(store: cp.Store) -> int:
        return store.count(A)

    run = go(cp.pipeline(see), first, executor=executor)
    assert run.value(see) == 1 and run.hints == [] and order == []

    def look(store: cp.Store) -> int:
        return store.count(A)

    run = go(cp.pipeline(look, after=after), first, executor=executor)
    assert run.value(look) == 1 and run.hints == []


@both
def test_e7_after_is_an_ancestor_and_blocks_like_one(executor: str) -> None:
    def breaks() -> None:
        raise ValueError("no")

    @cp.step(after=breaks)
    def later() -> int:
        return 1

    run = go(cp.pipeline(breaks), cp.pipeline(later), executor=executor)
    assert ended(run) == {"breaks": "failed", "later": "blocked"}


def test_e7_after_what_is_not_there_is_a_compile_error() -> None:
    def one() -> int:
        return 1

    @cp.step(after="onne")
    def two() -> int:
        return 2

    text = refused(cp.pipeline(one), cp.pipeline(two))
    assert "'onne'" in text and "Did you mean 'one'?" in text and "'two'" in text and "test_rules_e.py:" in text
    text = refused(cp.pipeline(one), cp.pipeline(cp.alias(one, "three"), after="ones", name="third"))
    assert "'ones'" in text and "Did you mean 'one'?" in text and "third" in text


def test_e7_after_that_goes_round_is_a_cycle() -> None:
    @cp.step(after="two")
    def one() -> int:
        return 1

    def two(one: int) -> int:
        return 2

    text = refused(cp.pipeline(one), cp.pipeline(two))
    assert "one" in text and "two" in text and "→" in text


@both
def test_e7_skipping_drops_a_record_from_a_join_not_from_the_store(executor: str) -> None:
    """A later `each` over the model has it."""

    def work(n: int) -> int:
        if n == 2:
            raise ValueError("two")
        return n

    def joined(work: list[int]) -> list[int]:
        return work

    def again(id: int) -> int:
        return id

    run = go(
        cp.pipeline(cp.pipeline(work, each=A, on_error="skip"), joined, cp.pipeline(again, each=A)),
        data=as_(1, 2, 3),
        executor=executor,
    )
    assert run.value(joined) == [1, 3] and list(run.values(again)) == [1, 2, 3] and run.store.count(A) == 3
    assert not run.ok
