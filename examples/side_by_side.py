"""Steps one after another, a list of them side by side, pipelines at the same time.

Nothing after a list begins before all of the list has succeeded; a step that names another gets its value.

It prints:

    lunch for 2: pasta, salad
    the table is laid
    True
"""

import threading

import cpgraph as cp

both = threading.Barrier(2, timeout=20)  # passed only by two at once


def guests() -> int:
    return 2


def pasta() -> str:
    both.wait()
    return "pasta"


def salad() -> str:
    both.wait()
    return "salad"


def lunch(guests: int, pasta: str, salad: str) -> str:
    return f"lunch for {guests}: {pasta}, {salad}"


def table() -> str:
    return "the table is laid"


graph = cp.Graph(
    cp.pipeline(guests, [pasta, salad], lunch),
    cp.pipeline(table),  # waits for nothing of the first
)

if __name__ == "__main__":
    run = graph.run(dir=None)
    print(run.value(lunch))
    print(run.value(table))
    print(run.ok)  # True only if every step has succeeded
