"""How to test steps and graphs: a step is a function; a graph is run in memory, and what happened is compared literally.

It prints:

    ['parse[1] started', 'parse[1] computed', 'parse[2] started', 'parse[2] computed', 'total started', 'total computed']
    total 10.50
    raised: could not convert string to float: '7,0'
"""

import cpgraph as cp
from cpgraph.testing import Log, run


@cp.model
class Order:
    id: int
    amount: str
    total: float | None = None


@cp.step(sets="total")
def parse(amount: str) -> float:
    return float(amount)


def total(store: cp.Store) -> str:
    return f"{sum(store.values(Order, 'total')):.2f}"


graph = cp.Graph(cp.pipeline(cp.pipeline(parse, each=Order), total))


def test_parse() -> None:
    assert parse("3.5") == 3.5  # no framework in sight


if __name__ == "__main__":
    test_parse()
    log = Log()
    orders = [Order(id=1, amount="3.5"), Order(id=2, amount="7")]
    done = run(graph, orders, stream=log.stream)
    print(log)
    print(f"total {done.value(total)}")
    try:
        run(graph, [Order(id=1, amount="7,0")])  # a test wants to see what went wrong
    except ExceptionGroup as group:
        print(f"raised: {group.exceptions[0]}")
