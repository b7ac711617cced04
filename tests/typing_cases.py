"""What mypy and pyright make of the library (rule O4). mypy checks this file with the package; it also runs.

A wrong use carries a `type: ignore` with its code: were it to pass, mypy would call the ignore unused.
"""

from collections.abc import Callable
from typing import Any, assert_type

import attrs

import cpgraph as cp
from cpgraph.testing import run as run_in_memory


# A model is a dataclass to type checkers: keyword-only, frozen, with its defaults.
@cp.model
class Order:
    id: int
    amount: str
    total: float | None = None


@cp.model
class Note:
    id: str = cp.auto_id()
    text: str
    tags: list[str] = attrs.field(factory=list)


def records() -> list[object]:
    order = Order(id=1, amount="3.5")
    assert_type(order, Order)
    assert_type(order.amount, str)
    assert_type(order.total, float | None)
    assert_type(Note(text="a").tags, list[str])
    return [order, Note(text="a")]


def wrong_records() -> None:
    Order(1, "3.5")  # type: ignore[call-arg]
    Order(id=1)  # type: ignore[call-arg]
    Order(id="1", amount="3.5")  # type: ignore[arg-type]
    Order(id=1, amount="3.5").amount = "4"  # type: ignore[misc]


# A step keeps its own type, marked with or without options.
@cp.step
def parse(amount: str) -> float:
    return float(amount)


@cp.step(retries=2, sets="total")
def rounded(parse: float, digits: int = 2) -> float:
    return round(parse, digits)


@cp.step
async def fetched(amount: str) -> bytes:
    return amount.encode()


def total(parse: list[float]) -> float:
    return sum(parse)


def steps() -> None:
    assert_type(parse("3.5"), float)
    assert_type(rounded(3.456, digits=1), float)
    function: Callable[[str], float] = parse
    assert_type(function("1"), float)


def wrong_steps() -> None:
    parse(3.5)  # type: ignore[arg-type]
    cp.step(retires=2)  # type: ignore[call-overload]


# The store gives records of the model it is asked for.
def stores(store: cp.Store) -> None:
    assert_type(store.find(Order, 1), Order)
    assert_type(store.get(Order, 1), Order | None)
    assert_type(store.all(Order), list[Order])
    assert_type(store.where(Order, lambda order: order.amount == "3.5", id=1), list[Order])
    assert_type(store.count(Order), int)
    assert_type(store.values(Order, "amount"), list[Any])
    assert_type(store.values(Order, "id", "amount"), list[tuple[Any, ...]])


# A run gives a step's value as that step returns it.
def runs() -> None:
    graph = cp.Graph(cp.pipeline(cp.pipeline(parse, rounded, each=Order), total))
    run = run_in_memory(graph, records()[:1])
    assert_type(run, cp.Run)
    assert_type(graph.run(records()[:1], dir=None), cp.Run)
    assert_type(run.value(total), float)
    assert_type(run.value(parse, 1), float)
    assert_type(run.value("total"), Any)
    assert_type(run_in_memory(cp.Graph(cp.pipeline(fetched, each=Order)), records()[:1]).value(fetched, 1), bytes)
    assert_type(run.store.find(Order, 1).total, float | None)
    assert_type(run.history[-1].data, dict[str, list[dict[str, Any]]])
    stores(run.store)


# A handler keeps its own type, too.
def handlers() -> None:
    stream = cp.Stream()

    @stream.on(cp.events.NodeEnded)
    def ended(event: cp.events.NodeEnded) -> str:
        return event.node

    assert_type(ended(cp.events.NodeEnded("parse[1]", "parse", None, "computed")), str)


class Tally:
    """Methods serve as steps, and keep their types."""

    @cp.step
    def add(self, amount: str) -> int:
        return len(amount)


assert_type(Tally().add("abc"), int)
