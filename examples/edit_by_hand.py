"""A version saved as a file that a person reads, edits, and goes on from.

It prints:

    failed: parse[2]: ValueError: could not convert string to float: '7,00'
    total 10.50, computed: parse [2], total 1
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


def total(store: cp.Store) -> str:
    return f"{sum(store.values(Order, 'total')):.2f}"


graph = cp.Graph(cp.pipeline(cp.pipeline(parse, each=Order), total))

if __name__ == "__main__":
    run = graph.run([Order(id=1, amount="3.5"), Order(id=2, amount="7,00")])
    print(f"failed: {run.failures[0]}")

    saved = Path("orders.yml")
    run.history[-1].save(saved)
    text = saved.read_text(encoding="utf-8")
    saved.write_text(text.replace("7,00", "'7.00'"), encoding="utf-8")  # in an editor, as a rule

    run = graph.resume(saved, dir="elsewhere")  # another process, another machine
    ran = [node.record.id for node in run.nodes if node.step == "parse" and node.ended == "computed"]
    print(f"total {run.value(total)}, computed: parse {ran}, total {run.counts['total']['computed']}")
