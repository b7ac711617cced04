"""Initial data: from dicts, records, a file, a function, changes, or an earlier run.

It prints:

    dicts by name: 3.5
    dicts by model: 3.5
    records: 3.5
    changes: 3.5
    function: 3.5
    YAML: 3.5
    JSON: 3.5
    an earlier run: 3.5
    a version of it: 3.5
    bad.yml: 3 problems in the data, nothing has run
        bad.yml:2: Order, row 1, field 'amount': is missing, expected str
        bad.yml:2: Order, row 1, field 'amout': Order has no such field. Did you mean 'amount'?
        bad.yml:3: Order, row 2, field 'id': is missing, expected int
    Mend: correct the rows named above.
"""

from pathlib import Path

import cpgraph as cp


@cp.model
class Order:
    id: int
    amount: str
    total: float | None = None


@cp.step(sets="total")
def parse(amount: str) -> float:
    return float(amount)


graph = cp.Graph(cp.pipeline(parse, each=Order))

if __name__ == "__main__":
    Path("orders.yml").write_text("Order:\n- {id: 1, amount: '3.5'}\n", encoding="utf-8")
    Path("orders.json").write_text('{"Order": [{"id": 1, "amount": "3.5"}]}', encoding="utf-8")
    first = graph.run([Order(id=1, amount="3.5")])
    ways: dict[str, object] = {
        "dicts by name": {"Order": [{"id": 1, "amount": "3.5"}]},
        "dicts by model": {Order: [{"id": 1, "amount": "3.5"}]},
        "records": [Order(id=1, amount="3.5")],
        "changes": [cp.create(Order(id=1, amount="3.5"))],
        "function": lambda: [Order(id=1, amount="3.5")],
        "YAML": "orders.yml",
        "JSON": Path("orders.json"),
        "an earlier run": first,
        "a version of it": first.history[0],
    }
    for name, data in ways.items():
        print(f"{name}: {graph.run(data).store.find(Order, 1).total}")
    Path("bad.yml").write_text("Order:\n- {id: 1, amout: '3.5'}\n- {amount: '2'}\n", encoding="utf-8")
    try:
        graph.run("bad.yml")
    except cp.DataError as error:
        print(error)
