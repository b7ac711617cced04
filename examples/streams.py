"""A stream: what steps push while they run, and what the run itself tells, to whoever listens.

It prints:

    found 2 matches in kitchen
    found 0 matches in garden
    found 1 matches in cellar
    search ended
    3 nodes: 3 computed
"""

from collections import Counter

import cpgraph as cp
from cpgraph.events import NodeEnded, RunEnded

ROOMS = {"kitchen": "matches, salt, matches", "garden": "a rake", "cellar": "matches"}


def search(room: str, stream: cp.Stream) -> int:
    found = ROOMS[room].count("matches")
    stream.push("found", {"room": room, "count": found})
    stream.push("nobody listens to this")  # a payload is optional, and so is a listener
    return found


graph = cp.Graph(cp.pipeline(search, each={"room": list(ROOMS)}, concurrency=1))

stream = cp.Stream()
ended: Counter[str] = Counter()


@stream.on("found")
def show(payload: dict[str, object]) -> None:
    print(f"found {payload['count']} matches in {payload['room']}")


@stream.on(NodeEnded)
def count(event: NodeEnded) -> None:
    ended[event.ended] += 1


@stream.on(RunEnded)
def done(event: RunEnded) -> None:
    print("search ended")


if __name__ == "__main__":
    run = graph.run(dir=None, stream=stream)
    print(f"{len(run.nodes)} nodes: {ended['computed']} computed")
