"""The naive interpreter, held to the rules by hand-written cases; each names its rule.

Every case is also run in several random orders that waiting allows: the answer must not depend on them.
"""

from random import Random
from typing import Any

import pytest

from cpgraph.models import create, delete, model, result, update
from cpgraph.pipelines import pipeline, where
from cpgraph.steps import alias, step
from tests.naive import Outcome, id_text, interpret


@model
class A:
    id: int
    v: int = 0
    w: int = 0


@model
class B:
    id: int
    of: int = 0
    v: int = 0


def run(*pipelines: Any, a: Any = (), b: Any = (), params: Any = None) -> Outcome:
    data = {A: [A(id=i) if isinstance(i, int) else i for i in a], B: [B(id=i) if isinstance(i, int) else i for i in b]}
    first = interpret(pipelines, data, params)
    for seed in range(4):
        assert interpret(pipelines, data, params, Random(seed)) == first
    return first


def ended(outcome: Outcome, ending: str) -> list[str]:
    return sorted(node for node, how in outcome.ended.items() if how == ending)


def one() -> int:
    return 1


def fail_on_2(id: int) -> int:
    if id == 2:
        raise ValueError("edge-case")
    return id * 10


# N · V


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), ("a", "a"), ("3", '"3"'), ("", '""'), ("a,b", '"a,b"'), ("x~", '"x~"'), ("1e5", '"1e5"')]
)
def test_ids_as_text(value: Any, text: str) -> None:
    """N3: a str that reads as something else is written as JSON."""
    assert id_text(value) == text


def test_naming_is_waiting() -> None:
    """N5: any step may be named, wherever it stands; only the naming step waits."""

    def late(one: int) -> int:
        return one + 1

    found = run(pipeline(late), pipeline(one))
    assert found.values == {"late": 2, "one": 1}


def test_alias_is_a_second_use() -> None:
    """N1: an alias has its own node, options and inputs."""

    def twice(x: int) -> int:
        return 2 * x

    assert run(pipeline(one, alias(twice, "t", inputs={"x": "one"}), alias(twice, "u", inputs={"x": "t"}))).values["u"] == 4


def test_innermost_model_gives_the_field() -> None:
    """N6: a bare field is that of the innermost model that has it; `record` is the innermost; an annotation picks any."""

    def look(id: int, of: int, w: int, record, outer: A) -> Any:
        return id, of, w, type(record).__name__, outer.id

    found = run(pipeline(pipeline(look, each=B), each=A), a=[A(id=1, w=5)], b=[B(id=7, of=3)])
    assert found.values == {"look[1,7]": (7, 3, 5, "B", 1)}


def test_parameters_with_a_default_take_params() -> None:
    """N4, N7: a default declares a run parameter."""

    def limited(limit: int = 3) -> int:
        return limit

    assert run(pipeline(limited)).values == {"limited": 3}
    assert run(pipeline(limited), params={"limit": 5}).values == {"limited": 5}


def test_values_and_changes() -> None:
    """V1: the value of changes is their ids; both with `result`; a mixed list fails the node."""

    def single() -> Any:
        return create(A(id=1))

    def several() -> Any:
        return [create(A(id=2)), create(A(id=3))]

    def both() -> Any:
        return result("x", create(A(id=4)))

    def mixed() -> Any:
        return [1, create(A(id=5))]

    def nothing() -> list[int]:
        return []

    found = run(pipeline(single), pipeline(several), pipeline(both), pipeline(mixed), pipeline(nothing))
    assert found.values == {"single": 1, "several": [2, 3], "both": "x", "nothing": []}
    assert found.ended["mixed"] == "failed"
    assert [r["id"] for r in found.store["A"]] == [1, 2, 3, 4]


def test_lists_dicts_and_own_values() -> None:
    """V2: inside, the own value; outside, a list, or {id: value}; one level per each left."""

    def leaf(id: int, of: int) -> int:
        return of * 100 + id

    def inner(leaf: list[int]) -> int:
        return len(leaf)

    def deep(leaf: Any, inner: Any) -> Any:
        return leaf, inner

    def keyed(leaf: dict[int, Any]) -> Any:
        return leaf

    found = run(pipeline(pipeline(pipeline(leaf, each=B), inner, each=A), [deep, keyed]), a=[1, 2], b=[B(id=8, of=1), 9])
    assert found.values["inner[2]"] == 2
    assert found.values["deep"] == ([[108, 9], [108, 9]], [2, 2])
    assert found.values["keyed"] == {1: {8: 108, 9: 9}, 2: {8: 108, 9: 9}}


# C


def test_a_node_sees_its_ancestors_alone() -> None:
    """C1: what stands beside a node is not seen, whatever the clock did."""

    def write(record: A) -> Any:
        return update(v=record.id)

    def beside(store) -> Any:
        return store.values(A, "v")

    def after(store) -> Any:
        return store.values(A, "v")

    found = run(pipeline([pipeline(write, each=A), beside], after), a=[1, 2])
    assert found.values["beside"] == [0, 0]
    assert found.values["after"] == [1, 2]


def test_a_created_record_brings_nothing_of_its_creator() -> None:
    """C1: its own nodes see it as it was created, and no other change of who made it."""

    def grow(record: A, store) -> Any:
        seen = store.values(A, "id", "v")
        more = [create(A(id=record.id + 1))] if record.id < 3 else []
        return result(seen, update(v=7), *more)

    found = run(pipeline(grow, each=A), a=[1])
    assert found.values == {"grow[1]": [(1, 0)], "grow[2]": [(1, 0), (2, 0)], "grow[3]": [(1, 0), (3, 0)]}


def test_two_writers_of_one_field_are_in_conflict() -> None:
    """C2: the first in graph order stands; one failure per field and part, naming the later node; also for equal values."""

    def five(record: A) -> Any:
        return update(v=5)

    def six(record: A) -> Any:
        return update(v=6, w=1)

    def then() -> int:
        return 1

    found = run(pipeline([pipeline(five, each=A), pipeline(six, each=A)], then, on_error="skip"), pipeline(one), a=[1, 2])
    assert found.failures == [("ConflictError", "six[1]")]
    assert found.store["A"] == [{"id": 1, "v": 5, "w": 1}, {"id": 2, "v": 5, "w": 1}]
    assert found.ended["then"] == "blocked"
    assert found.ended["one"] == "computed"


def test_a_conflict_inside_one_instance_is_that_instances_failure() -> None:
    """C2, F1: of the smallest part; a skip round the instance goes on without it."""

    def five(id: int) -> Any:
        return update(v=id) if id == 1 else None

    def then(five: Any) -> int:
        return 1

    def end(then: list[int]) -> Any:
        return then

    both = [five, alias(five, "six")]
    found = run(pipeline(pipeline(both, then, each=A, on_error="skip"), end), a=[1, 2])
    assert found.failures == [("ConflictError", "six[1]")]
    assert ended(found, "blocked") == ["then[1]"]
    assert found.values["end"] == [1]


def test_delete_against_write_is_a_conflict() -> None:
    """C2: one deletes what the other writes."""

    def gone() -> Any:
        return delete(A, 1)

    def write() -> Any:
        return update(A, 1, v=3)

    assert run(pipeline(gone), pipeline(write), a=[1]).store["A"] == []
    found = run(pipeline(write), pipeline(gone), a=[1])
    assert found.store["A"] == [{"id": 1, "v": 3, "w": 0}]
    assert found.failures == [("ConflictError", "gone")]


def test_creator_comes_before_the_records_own_nodes() -> None:
    """C2: a new record's own nodes may write it."""

    def make() -> Any:
        return create(A(id=1, v=1))

    def own(record: A) -> Any:
        return update(v=record.v + 1)

    found = run(pipeline(make), pipeline(own, each=A))
    assert found.failures == []
    assert found.store["A"] == [{"id": 1, "v": 2, "w": 0}]


def test_all_or_none() -> None:
    """C3: changes apply in order; what is not in the view fails the node, and nothing is written."""

    def good() -> Any:
        return [create(A(id=5)), update(A, 5, v=1), update(A, 1, v=2), delete(A, 2)]

    def bad() -> Any:
        return [update(A, 1, w=1), update(A, 99, v=1)]

    def wrong() -> Any:
        return [update(A, 1, w=1), update(A, 1, nope=1)]

    found = run(pipeline(good, bad, on_error="skip"), pipeline(wrong), a=[1, 2])
    assert found.store["A"] == [{"id": 1, "v": 2, "w": 0}, {"id": 5, "v": 1, "w": 0}]
    assert found.failures == [("RecordNotFound", "bad"), ("Rejected", "wrong")]


def test_creating_what_exists() -> None:
    """C4: an error, or kept; unordered equal ones are one record."""

    def keep() -> Any:
        return create(A(id=1, v=9), if_exists="keep")

    def same() -> Any:
        return create(A(id=2))

    def clash() -> Any:
        return create(A(id=1))

    found = run(pipeline(keep), pipeline(same), pipeline(alias(same, "too")), pipeline(clash), a=[1])
    assert found.store["A"] == [{"id": 1, "v": 0, "w": 0}, {"id": 2, "v": 0, "w": 0}]
    assert found.failures == [("Rejected", "clash")]


def test_a_deleted_record_ends_there() -> None:
    """C5: later nodes end as closed, joins go on without it."""

    def drop(record: A) -> Any:
        return delete(record) if record.id == 2 else None

    def rest(id: int) -> int:
        return id

    def end(rest: list[int], drop: list[Any]) -> Any:
        return rest

    found = run(pipeline(pipeline(drop, rest, each=A), end), a=[1, 2, 3])
    assert ended(found, "closed") == ["rest[2]"]
    assert found.values["end"] == [1, 3]
    assert found.failures == []


def test_order_of_records() -> None:
    """C6: initial ones, then by generation, then by creating node in graph order, then by ordinal."""

    def second(id: int) -> Any:
        return create(A(id=id * 10 + 2)) if id < 10 else None

    def first(id: int) -> Any:
        return [create(A(id=id * 100 + n)) for n in (3, 1)] if id < 10 else [create(A(id=id * 1000))] if id == 22 else None

    found = run(pipeline([first, second], each=A), a=[2, 1])
    assert [r["id"] for r in found.store["A"]] == [2, 1, 203, 201, 22, 103, 101, 12, 22000]


# E


def test_loops_through_two_pipelines() -> None:
    """E1, E2: an instance belongs to the smallest part that holds its pipeline and a creator; what comes after joins it."""

    def to_b(id: int) -> Any:
        return create(B(id=id + 1)) if id < 6 else None

    def to_a(id: int) -> Any:
        return create(A(id=id + 1)) if id < 6 else None

    def end(to_a: list[Any], to_b: list[Any]) -> Any:
        return to_a, to_b

    found = run(pipeline([pipeline(to_b, each=A), pipeline(to_a, each=B)], end), a=[1])
    assert found.values["end"] == ([3, 5, None], [2, 4, 6])


def test_what_comes_after_a_smaller_part_does_not_join() -> None:
    """E2: a home larger than what the asker comes after is not waited for."""

    def own(id: int) -> int:
        return id

    def end(own: list[int]) -> Any:
        return own

    def make() -> Any:
        return create(A(id=5))

    assert run(pipeline(pipeline(own, each=A), end), pipeline(make), a=[1]).values["end"] == [1]
    assert run(pipeline([pipeline(own, each=A), make], end), a=[1]).values["end"] == [1, 5]
    assert run(pipeline(pipeline(own, each=A), make, end), a=[1]).ended.get("own[5]") is None


def test_selections() -> None:
    """E1: where() asks each record once, as it comes in; other parameters are those around the pipeline."""

    def make(id: int) -> Any:
        return create(A(id=id + 10, v=1)) if id < 10 else None

    def mine(id: int) -> int:
        return id

    found = run(pipeline(make, each=where(A, v=1)), a=[1, A(id=2, v=1)])
    assert sorted(found.ended) == ["make[12]", "make[2]"]
    lines = pipeline(mine, each=where(B, lambda line, record: line.of == record.id))
    found = run(pipeline(lines, each=A), a=[1, 2], b=[B(id=1, of=2), B(id=2, of=1)])
    assert sorted(found.ended) == ["mine[1,2]", "mine[2,1]"]


def test_records_made_inside_another_outer_instance_are_not_taken() -> None:
    """E1: with each=B inside each=A."""

    def inner(id: int, outer: A) -> Any:
        return create(B(id=outer.id * 10)) if id == 1 else None

    found = run(pipeline(pipeline(inner, each=B), each=A), a=[1, 2], b=[1])
    assert sorted(found.ended) == ["inner[1,10]", "inner[1,1]", "inner[2,1]", "inner[2,20]"]


def test_items() -> None:
    """E3: of a list, range, tuple or dict; equal ones get ~2; none gives []."""

    def items() -> list[str]:
        return ["a", "b", "a"]

    def use(n: Any) -> Any:
        return n

    def end(use: list[Any]) -> Any:
        return use

    found = run(pipeline(items, pipeline(use, each={"n": items}), end))
    assert found.values["end"] == ["a", "b", "a"]
    assert "use[a~2]" in found.ended
    assert run(pipeline(pipeline(use, each={"n": {"x": 1, "y": 2}}), end)).values == {"use[x]": 1, "use[y]": 2, "end": [1, 2]}
    assert run(pipeline(pipeline(use, each={"n": []}), end)).values["end"] == []


def test_lists_of_one_join_are_parallel() -> None:
    """E4: an instance in which a step asked for as a list has no value is in no list; a dict has every value."""

    def low(id: int) -> int:
        return id

    def high(id: int) -> int:
        return id

    def lists(low: list[int], high: list[int]) -> Any:
        return low, high

    def dicts(low: dict[int, int], high: dict[int, int]) -> Any:
        return low, high

    each = pipeline([low, pipeline(high, open=lambda id: id > 1)], each=A)
    found = run(pipeline(each, [lists, dicts]), a=[1, 2])
    assert found.values["lists"] == ([2], [2])
    assert found.values["dicts"] == ({1: 1, 2: 2}, {2: 2})


def test_after_waits_without_taking() -> None:
    """E7: the same instance's node, else the join; the order shows in what is seen."""

    def write(record: A) -> Any:
        return update(v=1)

    @step(after="write")
    def look(store) -> Any:
        return store.values(A, "v")

    def later(store) -> Any:
        return store.values(A, "v")

    writes = pipeline(write, each=A, name="writes")
    found = run(pipeline(look), pipeline(later, after="writes"), writes, a=[1, 2])
    assert found.values["look"] == found.values["later"] == [1, 1]


def test_order_goes_through_an_each_without_instances() -> None:
    """E1, C1: what comes after a part comes after all that its steps wait for, whether or not the part has a node."""

    def between(own: list[int]) -> int:
        return 1

    def own(id: int) -> Any:
        return result(id, update(v=1))

    def last(between: list[int], store) -> Any:
        return result(store.values(B, "v"), create(B(id=3)))

    found = run(pipeline(last), pipeline(between, each=A), pipeline(own, each=B), b=[1])
    assert found.values == {"own[1]": 1, "last": [1]}


# G


def test_conditions() -> None:
    """G1, G3: no closes that record's nodes; what comes after goes on; a step that asks for a single value is closed too."""

    def only(id: int) -> int:
        return id

    def asks(only: int) -> int:
        return only

    def on(id: int) -> int:
        return id

    found = run(pipeline(pipeline(only, open=lambda id: id == 1), asks, on, each=A), a=[1, 2])
    assert ended(found, "closed") == ["asks[2]", "only[2]"]
    assert found.values["on[2]"] == 2
    assert found.failures == []


def test_settled_guards() -> None:
    """G3: one that never opens ends as closed, and hangs nothing."""

    def own(id: int) -> int:
        return id

    def write() -> Any:
        return update(A, 1, v=1)

    def end(own: list[int]) -> Any:
        return own

    never = pipeline(own, each=A, open=lambda store: store.count(A, v=1) > 5)
    assert ended(run(pipeline(write, never, end), a=[1, 2]), "closed") == ["own[1]", "own[2]"]
    opened = pipeline(own, each=A, open=lambda store: store.count(A, v=1) == 1)
    assert run(pipeline(write, opened, end), a=[1, 2]).values["end"] == [1, 2]


# F


def test_a_failure_stops_its_own_copy() -> None:
    """F1: others go on; what joins after it is blocked."""

    def then(fail_on_2: int) -> int:
        return fail_on_2

    def end(then: list[int]) -> Any:
        return then

    found = run(pipeline(pipeline(fail_on_2, then, each=A), end), a=[1, 2, 3])
    assert found.failures == [("ValueError", "fail_on_2[2]")]
    assert ended(found, "blocked") == ["end", "then[2]"]


def test_skip_goes_on_without() -> None:
    """F1, E4: the join goes on without it; a single value that is missing blocks."""

    def end(fail_on_2: list[int]) -> Any:
        return fail_on_2

    found = run(pipeline(pipeline(fail_on_2, each=A, on_error="skip"), end), a=[1, 2, 3])
    assert found.values["end"] == [10, 30]

    def bad() -> None:
        raise SystemExit

    def asks(bad: Any) -> None: ...

    def behind() -> None: ...

    found = run(pipeline(pipeline(bad, on_error="skip"), one, asks, behind))
    assert found.failures == [("SystemExit", "bad")]
    assert ended(found, "blocked") == ["asks", "behind"]


def test_a_skip_inside_an_instance_keeps_the_instance() -> None:
    """F1, E4: what a pipeline inside contains is no failure of the instance round it."""

    def sum_of(fail_on_2: list[int]) -> int:
        return sum(fail_on_2)

    def end(sum_of: list[int], fail_on_2: list[list[int]]) -> Any:
        return sum_of, fail_on_2

    found = run(pipeline(pipeline(pipeline(fail_on_2, each=B, on_error="skip"), sum_of, each=A), end), a=[1], b=[1, 2, 3])
    assert found.values["end"] == ([40], [[10, 30]])


def test_a_failure_before_a_skip_is_not_contained_by_it() -> None:
    """F1: blocked wins over closed, and passes through a pipeline that contains only its own."""

    def own(id: int) -> int:
        return id

    def end(own: list[int]) -> Any:
        return own

    found = run(
        pipeline(pipeline(fail_on_2, each=A), pipeline(own, each=B, on_error="skip", open=lambda: False), end), a=[2], b=[1]
    )
    assert ended(found, "blocked") == ["end", "own[1]"]


def test_items_not_known_give_no_nodes() -> None:
    """O2, F1: behind a failed source there are no nodes, and what comes after is blocked."""

    def items() -> list[int]:
        raise ValueError

    def use(n: int) -> int:
        return n

    def end(use: list[int]) -> Any:
        return use

    found = run(pipeline(items, pipeline(use, each={"n": items}), end))
    assert found.ended == {"items": "failed", "end": "blocked"}
