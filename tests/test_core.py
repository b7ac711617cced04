"""The order of things, and what may be under way at once: rules that only show when nodes end in an unusual order."""

import threading
from typing import Any

import pytest

import cpgraph as cp


@cp.model
class Page:
    id: str


@cp.model
class Link:
    id: str


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
