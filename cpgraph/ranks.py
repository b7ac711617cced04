"""The order of records and nodes (rule C6): of data and of creating nodes, never of time.

Initial records come first, in their order; created ones by generation, then by creating node, then by ordinal in
it. Nodes are ordered by their place in the graph, inside an `each` record by record.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = ["Rank", "Spot", "node_earlier", "rank_key", "settled"]


class Spot(Protocol):
    """One instance of an `each`, as far as order is concerned: where its `each` starts, and its record's or item's rank."""

    @property
    def position(self) -> int: ...
    @property
    def rank(self) -> Rank: ...


class Rank:
    """The rank of a record or item. `chain` and `unit` are those of the creating node; initial ones have an index alone."""

    __slots__ = ("chain", "generation", "ordinal", "unit")

    def __init__(self, ordinal: int, generation: int = 0, unit: int = -1, chain: Sequence[Any] = ()) -> None:
        self.ordinal = ordinal
        self.generation = generation
        self.unit = unit
        self.chain = chain

    def __lt__(self, other: Rank) -> bool:
        return _compare(self, other) < 0


def _compare(mine: Rank, theirs: Rank) -> int:
    """Compare two ranks; a loop, since chains of creation may be ten thousand long."""
    while mine is not theirs:
        if mine.generation != theirs.generation:
            return mine.generation - theirs.generation
        if not mine.generation:
            return mine.ordinal - theirs.ordinal
        found = _first_difference(mine.unit, mine.chain, theirs.unit, theirs.chain)
        if found is None:
            return mine.ordinal - theirs.ordinal
        if isinstance(found, int):
            return found
        mine, theirs = found
    return 0


def _first_difference(unit: int, chain: Sequence[Any], other: int, others: Sequence[Any]) -> int | tuple[Rank, Rank] | None:
    for level in range(max(len(chain), len(others)) + 1):
        mine = chain[level].position if level < len(chain) else unit
        theirs = others[level].position if level < len(others) else other
        if mine != theirs or level >= len(chain) or level >= len(others):
            return (mine - theirs) or None
        if chain[level].rank is not others[level].rank:
            return chain[level].rank, others[level].rank
    return None


def node_earlier(unit: int, chain: Sequence[Any], other: int, others: Sequence[Any]) -> bool:
    """Tell whether one node is before another in graph order."""
    found = _first_difference(unit, chain, other, others)
    if found is None:
        return False
    return found < 0 if isinstance(found, int) else _compare(*found) < 0


@functools.cmp_to_key
def node_key(one: tuple[int, Sequence[Any]], other: tuple[int, Sequence[Any]]) -> int:
    """Sort nodes, given as (unit, chain of instances), in graph order."""
    found = _first_difference(*one, *other)
    if found is None:
        return 0
    return found if isinstance(found, int) else _compare(*found)


rank_key = functools.cmp_to_key(_compare)


class _At:
    """A spot with the rank that its record has in one view."""

    __slots__ = ("position", "rank")

    def __init__(self, position: int, rank: Rank) -> None:
        self.position = position
        self.rank = rank


def settled(creators: Mapping[Any, Sequence[Rank]]) -> dict[Any, Rank]:
    """Rank created records where some have several creators: the first in order counts.

    Generation by generation, so that the ranks a new one is compared by are settled; what was created in a ring is left
    out. `creators` gives for each record the ranks it would have of each, their chains of instances with a `row`.
    """
    ranks: dict[Any, Rank] = {}
    waiting = dict(creators)
    while waiting:
        ready = {
            row: [_settled(rank, ranks) for rank in offered if not any(spot.row in waiting for spot in rank.chain)]
            for row, offered in waiting.items()
        }
        first = min((rank.generation for offered in ready.values() for rank in offered), default=0)
        if not first:
            break
        for row, offered in ready.items():
            best = [rank for rank in offered if rank.generation == first]
            if best:
                ranks[row] = min(best)
                del waiting[row]
    return ranks


def _settled(rank: Rank, ranks: Mapping[Any, Rank]) -> Rank:
    chain = [_At(spot.position, ranks.get(spot.row) or spot.rank) for spot in rank.chain]
    return Rank(rank.ordinal, 1 + max((at.rank.generation for at in chain), default=0), rank.unit, chain)
