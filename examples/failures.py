"""Failures: what stops where, and what is known of them afterwards.

It prints:

    isolate: 3 parsed, total blocked
    skip: 3 parsed, total 6.0, still not ok
    stop: 1 parsed, 2 not started
    parse[2]: ValueError: could not convert string to float: '2,5' (amount '2,5')
    check[3]: AssertionError: amounts are below 3 (amount '3')
    in one group: (ValueError("could not convert string to float: '2,5'"), AssertionError('amounts are below 3'))
"""

from typing import Literal

import cpgraph as cp


@cp.model
class Order:
    id: int
    amount: str


def parse(amount: str) -> float:
    return float(amount)


def total(parse: list[float]) -> float:
    return sum(parse)


def check(parse: float) -> None:
    assert parse < 3, "amounts are below 3"


ORDERS = [Order(id=1, amount="1"), Order(id=2, amount="2,5"), Order(id=3, amount="3"), Order(id=4, amount="2")]


def graph(on_error: Literal["isolate", "skip", "stop"]) -> cp.Graph:
    one_by_one = 1 if on_error == "stop" else None
    return cp.Graph(cp.pipeline(cp.pipeline(parse, each=Order, on_error=on_error, concurrency=one_by_one), total))


if __name__ == "__main__":
    run = graph("isolate").run(ORDERS, dir=None)  # the default: a failed record stops alone, what joins waits in vain
    print(f"isolate: {run.counts['parse']['computed']} parsed, total {run.nodes[-1].ended}")

    run = graph("skip").run(ORDERS, dir=None)  # what joins goes on without it
    print(f"skip: {run.counts['parse']['computed']} parsed, total {run.value(total)}, {'ok' if run.ok else 'still not ok'}")

    run = graph("stop").run(ORDERS, dir=None)  # no further record is started
    print(f"stop: {run.counts['parse']['computed']} parsed, {run.counts['parse']['blocked']} not started")

    run = cp.Graph(cp.pipeline(parse, check, each=Order)).run(ORDERS, dir=None)
    for failure in run.failures:
        print(f"{failure} (amount {failure.record.amount!r})")
    try:
        run.raise_for_failures()
    except ExceptionGroup as group:
        print(f"in one group: {group.exceptions}")  # the errors themselves
