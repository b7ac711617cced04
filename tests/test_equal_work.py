"""Equal work in flight is done once (promise 2); a failure is shared by those whom the store tells the same (promise 4)."""

from pathlib import Path
from threading import Event

import pytest

import cpgraph as cp
from cpgraph.events import NodeEnded
from cpgraph.testing import run


@cp.model
class A:
    id: int
    v: int = 0


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_equal_work_in_an_instance_that_has_the_only_place(tmp_path: Path, executor: str) -> None:
    """Those that lead wait for the place of the one that waits for their work: it is passed on, and back again."""

    def items(v: int) -> list[int]:
        return [4, 0] if v == 1 else [0]

    def a(it: int, n: int = 0) -> int:
        return it

    def b(v: int, n: int = 0) -> int:
        return v

    graph = cp.Graph(cp.pipeline(items, cp.pipeline(a, b, each={"it": items}), each=A, concurrency=1), dir=tmp_path)
    two = [A(id=1, v=1), A(id=2, v=1)]
    graph.run(two, executor=executor)
    made = graph.run([*two, A(id=3, v=2)], params={"n": 1}, executor=executor)  # `items` of 1 and 2 are there: both open at once
    assert made.ok and made.values(b) == {(1, 4): 1, (1, 0): 1, (2, 4): 1, (2, 0): 1, (3, 0): 2}


@pytest.mark.parametrize("same", [True, False])
def test_who_waits_for_work_that_fails(same: bool) -> None:
    """`check` has no input but the store: its nodes are equal work until they ask. The first is at it until the second waits."""
    waits = Event()
    asked = []

    def write(id: int) -> object:
        return cp.update(v=0 if same else id)

    def check(store: cp.Store) -> int:
        found = store.values(A, "v")
        asked.append(found)
        assert waits.wait(30)
        if found[0] == found[1] or found[0]:
            raise ValueError("as the first sees it")
        return sum(found)

    stream = cp.Stream()

    @stream.on(NodeEnded)
    def ended(event: NodeEnded) -> None:
        if event.node == "write[2]":  # on disk: what follows it has been looked up by then
            waits.set()

    graph = cp.Graph(cp.pipeline(write, check, each=A))
    with pytest.raises(ExceptionGroup) as raised:
        run(graph, [A(id=1), A(id=2)], executor="threads", stream=stream)
    assert len(raised.value.exceptions) == (2 if same else 1)
    assert sorted(asked) == ([[0, 0]] if same else [[0, 2], [1, 0]])
