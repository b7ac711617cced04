"""Failures: what stops where, and what is known of them afterwards.

isolate: 3 parsed, total blocked
skip: 3 parsed, total 6.0, still not ok
stop: 1 parsed, 2 not started
parse[2] failed on '2,5': ValueError at float(amount)
check[3] failed: AssertionError: amounts are below 3
2 errors: AssertionError, ValueError
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
    first, second = run.failures
    line = first.traceback.splitlines()[-3].strip()
    print(f"{first.node} failed on {first.record.amount!r}: {first.kind} at {line.removeprefix('return ')}")
    print(f"{second}".replace(":", " failed:", 1))
    try:
        run.raise_for_failures()
    except ExceptionGroup as group:
        print(f"{len(group.exceptions)} errors: {', '.join(sorted(type(error).__name__ for error in group.exceptions))}")
