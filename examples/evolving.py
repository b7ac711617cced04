"""A program that grows between runs: a step more, one less, a field more. What was done is kept where it still fits.

It prints:

    first: {'parse': 2, 'label': 2}
    resumed: {'gross': 2, 'total': 1}
    told: new since then, and run now: gross, total
    told: not in the graph any more, and dropped: label
    total 12.6
"""

import cpgraph as cp


@cp.model
class Order:
    id: int
    amount: str
    rate: float = 0.2  # a field that came later: old data are read with its default


def parse(amount: str) -> float:
    return float(amount)


def label(parse: float) -> str:
    return f"{parse:.2f}"


def gross(parse: float, rate: float) -> float:
    return parse * (1 + rate)


def total(gross: list[float]) -> float:
    return round(sum(gross), 2)


# The same graph, as it was and as it is: runs are found by its name.
first = cp.Graph(cp.pipeline(parse, label, each=Order), name="orders")
second = cp.Graph(cp.pipeline(cp.pipeline(parse, gross, each=Order), total), name="orders")


def computed(run: cp.Run) -> dict[str, int]:
    return {step: ended["computed"] for step, ended in run.counts.items() if "computed" in ended}


if __name__ == "__main__":
    print(f"first: {computed(first.run({'Order': [{'id': 1, 'amount': '3.5'}, {'id': 2, 'amount': '7'}]}))}")
    run = second.resume()
    print(f"resumed: {computed(run)}")
    for hint in run.hints:
        print(f"told: {hint.text}")
    print(f"total {run.value(total)}")
