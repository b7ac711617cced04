"""What a run is given beside its records, a function used twice, and randomness that is the same each time.

It prints:

    limit 2: ['ANNA', 'BEN'], ['A', 'B']
    limit 1: ['ANNA'], ['A']
    drawn: [9, 5], again: [9, 5], with another seed: [7, 1]
    a name that nobody asks for: parameter 'limt' is given, and nothing in 'parameters' asks for it. Did you mean 'limit'?
"""

from random import Random

import cpgraph as cp


def names(limit: int = 2) -> list[str]:  # a default in a signature makes a parameter of the run
    return ["Anna", "Ben", "Carl"][:limit]


def upper(names: list[str]) -> list[str]:
    return [name.upper() for name in names]


def cut(words: list[str], length: int) -> list[str]:
    return [word[:length] for word in words]


def initials(words: list[str]) -> list[str]:  # a parameter is fixed by a function that calls the other
    return cut(words, 1)


def draw(number: int, seed: int = 0) -> int:
    """Draw by lot: a seed and what it is for, so that it comes out the same in any order and any process."""
    return Random(f"{seed}/{number}").randrange(10)


graph = cp.Graph(
    cp.pipeline(names, upper, cp.alias(initials, "first_letters", inputs={"words": upper})),
    cp.pipeline(draw, each={"number": [1, 2]}),
    name="parameters",
)

if __name__ == "__main__":
    for limit in (2, 1):
        run = graph.run(dir=None, params={"limit": limit})
        print(f"limit {limit}: {run.value(upper)}, {run.value('first_letters')}")
    draws = [list(graph.run(dir=None, params={"seed": seed}).values(draw).values()) for seed in (0, 0, 1)]
    print(f"drawn: {draws[0]}, again: {draws[1]}, with another seed: {draws[2]}")
    try:
        graph.run(dir=None, params={"limt": 3})
    except cp.CpgraphError as error:
        print(f"a name that nobody asks for: {str(error).splitlines()[0]}")
