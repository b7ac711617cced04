"""What a picture of a graph shows, before it is put into any language: parts within parts, and arrows.

One box per step, one frame per pipeline or group. An arrow says that its target takes a value of its source, or only
waits for it; what other arrows say already is left out. A frame stands for all in it: an arrow from a frame means 'when
all of it has ended', one to a frame 'before any of it starts'. So sixty steps need some sixty arrows, not every pair.

Of a graph with too many steps, what is too much is folded: a pipeline becomes one box that says how many it holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from cpgraph.compile import END, START, STEP, Compiled, Place, Unit
from cpgraph.errors import CpgraphError
from cpgraph.outlines import Row, pipeline_rows, step_rows
from cpgraph.runs import Run
from cpgraph.tallies import Tally, tally_of

__all__ = ["Arrow", "Part", "Picture", "draw"]

BOXES: Final = 300
DEPTH: Final = 12


@attrs.define(eq=False)
class Part:
    """A box (a step, or a folded pipeline), or a frame with parts in it. `rank`: how far down the graph a box stands."""

    index: int
    kind: str
    name: str
    rows: list[Row]
    parent: Part | None = attrs.field(default=None, repr=False)
    parts: list[Part] = attrs.field(factory=list, repr=False)
    ending: str = ""
    rank: int = 0

    @property
    def is_box(self) -> bool:
        return not self.parts

    def boxes(self) -> Iterator[Part]:
        """Give the boxes of this part in graph order."""
        stack = [self]
        while stack:
            part = stack.pop()
            if part.is_box:
                yield part
            stack.extend(reversed(part.parts))

    def around(self) -> Iterator[Part]:
        """Give this part and all that hold it, innermost first."""
        part: Part | None = self
        while part is not None:
            yield part
            part = part.parent


@attrs.frozen(eq=False)
class Arrow:
    """`target` takes a value of `source`, known to it as `label` where that is another name; or it only waits."""

    source: Part
    target: Part
    value: bool
    label: str = ""


@attrs.frozen(eq=False)
class Picture:
    """A graph as it is shown; `upright` if it reads best from top to bottom."""

    name: str
    rows: list[Row]
    root: Part
    arrows: list[Arrow]
    upright: bool
    colours: bool
