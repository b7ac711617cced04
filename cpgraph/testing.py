"""For tests of your own graphs: run one in memory, and say literally what happened.

::

    from cpgraph.testing import Log, run

    def test_what_is_known_is_not_parsed_again():
        log = Log()
        run(graph, [Order(id=1, amount="3.5")], stream=log.stream)
        assert log == ["parse[1] started", "parse[1] computed", "report started", "report computed"]
"""

from __future__ import annotations

from typing import Any

import attrs

from cpgraph.events import Damaged, GuardChanged, Hint, NodeEnded, NodeStarted, Stream
from cpgraph.graph import Graph
from cpgraph.launch import launch
from cpgraph.runs import Run

__all__ = ["Log", "run"]


def run(graph: Graph, data: Any = None, *, dir: Any = None, executor: Any = "inline", **options: Any) -> Run:
    """Run a graph in this thread and in memory, printing nothing; raises an `ExceptionGroup` of whatever failed.

    `dir`, `executor` and the other options are those of `Graph.run`.

    >>> def double(n: int = 2) -> int:
    ...     return 2 * n
    >>> run(Graph(double), params={"n": 4}).value(double)
    8
    """
    order = graph._order(
        data,
        dir,
        options.pop("params", None),
        executor,
        options.pop("concurrency", None),
        options.pop("stream", None),
        options.pop("redo", ()),
        options.pop("stop", None),
    )
    if options:
        raise TypeError(f"run() got an unexpected keyword argument {next(iter(options))!r}")
    made: Run = launch(attrs.evolve(order, settings=attrs.evolve(order.settings, at_once=True)))
    made.raise_for_failures()
    return made


class Log(list[str]):
    """What happened in the runs that were given its `stream`, one short text for each event, in order.

    A node is "started" when it is handed out to be computed, and then how it ended. `pushed` names what steps push
    that is to be noted, too.

    >>> def hello(stream: Stream) -> str:
    ...     stream.push("said", "hi")
    ...     return "hi"
    >>> log = Log("said")
    >>> _ = run(Graph(hello), stream=log.stream)
    >>> log
    ['hello started', "said 'hi'", 'hello computed']
    >>> log.computed
    ['hello']
    """

    def __init__(self, *pushed: str, stream: Stream | None = None) -> None:
        super().__init__()
        self.stream = stream if stream is not None else Stream()
        for kind in pushed:
            self.stream.on(kind)(lambda *payload, kind=kind: self.append(" ".join([kind, *map(repr, payload)])))
        self.stream.on(NodeStarted)(lambda event: self.append(f"{event.node} started"))
        self.stream.on(NodeEnded)(lambda event: self.append(f"{event.node} {event.ended}"))
        self.stream.on(GuardChanged)(
            lambda event: self.append(f"guard of {event.pipeline} {'opened' if event.open else 'closed'}")
        )
        self.stream.on(Hint)(lambda event: self.append(f"told {event.kind}"))
        self.stream.on(Damaged)(lambda event: self.append(f"damaged {event.what}"))

    def ended(self, how: str) -> list[str]:
        """Give the nodes that ended as "computed", "cached", "failed", "blocked" or "closed", in order."""
        return [text.removesuffix(f" {how}") for text in self if text.endswith(f" {how}")]

    @property
    def computed(self) -> list[str]:
        """The nodes that were computed; empty if nothing ran again."""
        return self.ended("computed")
