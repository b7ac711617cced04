"""The graphs that are measured. Steps do next to nothing: what is left is what the library costs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import cpgraph as cp

SLEEP = 0.05  # seconds that a call of the fan-outs waits


@cp.model
class Item:
    id: int
    n: int
    done: bool = False
    before: int = -1


def items(count: int, changed: int | None = None) -> list[Item]:
    """Make records; `changed` is the id of one whose field is another than usual."""
    return [Item(id=id, n=id + 1_000_000 if id == changed else id) for id in range(count)]


@cp.step
def one(n: int) -> int:
    return n + 1


@cp.step
def two(one: int) -> int:
    return one * 2


@cp.step
def three(two: int) -> str:
    return f"r{two}"


trivial = cp.Graph(cp.pipeline(one, two, three, each=Item), name="trivial")


def said(n: int) -> str:
    """Give what `three` gives in the end."""
    return f"r{(n + 1) * 2}"


# The same with one query each, which has the same answer for all


@cp.step
def one_asking(n: int, store: cp.Store) -> int:
    return n + store.find(Item, 0).n + 1


@cp.step
def two_asking(one_asking: int, store: cp.Store) -> int:
    return one_asking * 2 + store.find(Item, 0).n


@cp.step
def three_asking(two_asking: int, store: cp.Store) -> str:
    return f"r{two_asking + store.find(Item, 0).n}"


asking = cp.Graph(cp.pipeline(one_asking, two_asking, three_asking, each=Item), name="asking")


# Calls that wait


@cp.step
def wait(n: int) -> int:
    time.sleep(SLEEP)
    return n


@cp.step
async def wait_async(n: int) -> int:
    await asyncio.sleep(SLEEP)
    return n


waiting = cp.Graph(cp.pipeline(wait, each=Item), name="waiting")
waiting_async = cp.Graph(cp.pipeline(wait_async, each=Item), name="waiting_async")


# Shapes that are quadratic if one is not careful


@cp.step(sets="done")
def finish(n: int) -> bool:
    return n >= 0


def guarded(count: int) -> cp.Graph:
    """Make a graph whose guard counts the records done, and closes when there are so many."""
    return cp.Graph(cp.pipeline(finish, each=Item, open=lambda store: store.count(Item, done=True) < count), name="guarded")


@cp.step
def create_next(id: int, longest: int) -> Any:
    return cp.create(Item(id=id + 1, n=id, before=id)) if id + 1 < longest else None


def loop(longest: int) -> cp.Graph:
    """Make a graph in which each record creates the next."""
    return cp.Graph(cp.pipeline(create_next, each=Item, max_generations=longest), name="loop", params=["longest"])


def start(n: int = 0) -> int:
    return n


def chain(length: int) -> cp.Graph:
    """Make steps of which each takes the value of the one before."""
    return cp.Graph(cp.pipeline(start, *made(length - 1, lambda index: [index])), name="chain")


def wide(steps: int) -> cp.Graph:
    """Make side by side steps, each of which takes the values of three or four before it: 3.5 edges to a step."""
    near = [1, 3, 10, 40]
    return cp.Graph(
        cp.pipeline(
            start, list(made(steps - 1, lambda index: sorted({max(0, index + 1 - back) for back in near[: 3 + index % 2]})))
        ),
        name="wide",
    )


def made(count: int, takes: Any) -> list[Any]:
    """Make steps `s1`, `s2`, …: the value of one is one more than the largest of those it takes."""
    names = ["start", *(f"s{index}" for index in range(1, count + 1))]
    shapes: dict[int, Any] = {
        1: lambda a: a + 1,
        2: lambda a, b: max(a, b) + 1,
        3: lambda a, b, c: max(a, b, c) + 1,
        4: lambda a, b, c, d: max(a, b, c, d) + 1,
    }
    found = []
    for index in range(count):
        sources = [names[source] for source in takes(index)]
        inputs = dict(zip("abcd", sources, strict=False))
        found.append(cp.alias(shapes[len(sources)], names[index + 1], inputs=inputs))
    return found
