"""History: each commit makes a version; any of them can be read, compared, and gone on from.

It prints:

    v0: {'Order': [{'id': 1, 'amount': '3.5', 'total': None}, {'id': 2, 'amount': '7', 'total': None}]}
    v1 by parse[1]: update Order 1 (total: None → 3.5)
    v2 by parse[2]: update Order 2 (total: None → 7.0)
    as of v1: 1 order has a total
    from v0 to v2: 2 records differ
    gone on from v1: parsed [2], total 10.50
"""

import cpgraph as cp


@cp.model
class Order:
    id: int
    amount: str
    total: float | None = None


parsed: list[int] = []


@cp.step(sets="total")
def parse(id: int, amount: str) -> float:
    parsed.append(id)
    return float(amount)


def total(store: cp.Store) -> str:
    return f"{sum(store.values(Order, 'total')):.2f}"


graph = cp.Graph(cp.pipeline(cp.pipeline(parse, each=Order, concurrency=1), total))

if __name__ == "__main__":
    run = graph.run([Order(id=1, amount="3.5"), Order(id=2, amount="7")])
    print(f"v{run.history[0].number}: {run.history[0].data}")
    for version in run.history[1:]:
        print(f"v{version.number} by {version.node}: {version.diff}")

    middle = run.history[1]
    with_total = middle.store.where(Order, lambda order: order.total is not None)
    print(f"as of v{middle.number}: {len(with_total)} order has a total")
    print(f"from v0 to v2: {len(run.history.diff(0, 2))} records differ")

    parsed.clear()
    again = graph.resume(middle, dir="elsewhere")
    print(f"gone on from v{middle.number}: parsed {parsed}, total {again.value(total)}")
