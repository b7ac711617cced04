"""What a walk over code finds, and the digest of it.

Each thing is an item with a shape, in which other items are mentioned by number. Items that need each other in a circle are one
group: its members' digests depend on all of it, and not on which of them was found first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs

from cpgraph.digest import digest_many

__all__ = ["Hint", "Item", "Part", "finish", "reached"]

Hint = tuple[str, str, str]  # kind, text, mend


@attrs.frozen
class Part:
    """One thing that a step reaches, and the digest of it alone: two runs' parts show what changed."""

    name: str
    kind: str
    digest: bytes
    file: str = ""
    line: int = 0
    text: str = ""


@attrs.define(eq=False)
class Item:
    """One thing reached. `needs` are mentioned in the shape by their place; `also` count without one."""

    name: str
    kind: str
    thing: Any
    shape: bytes = b""
    signature: bytes = b""  # what counts for its callers, but not for a step itself: the names of its parameters
    needs: dict[Item, int] = attrs.field(factory=dict)
    also: set[Item] = attrs.field(factory=set)
    inputs: set[Item] | None = None  # of a function: the classes its parameters are annotated with, which count for its callers
    file: str = ""
    line: int = 0
    text: str = ""
    unseen: list[str] = attrs.field(factory=list)
    handles: list[str] = attrs.field(factory=list)
    hints: list[Hint] = attrs.field(factory=list)
    digest: bytes = b""
    _part: Part | None = None

    def mention(self, other: Item) -> bytes:
        """Give what is written in the shape for another item."""
        return b"@%d;" % self.needs.setdefault(other, len(self.needs))

    def combined(self, digest_of: Callable[[Item], bytes]) -> bytes:
        """Give the digest of the item from those of the items it needs."""
        needs = [part for item in self.needs for part in (item.signature, digest_of(item))]
        also = sorted({item.signature + digest_of(item) for item in self.also if item not in self.needs})
        return digest_many([self.shape, *needs, b"also", *also])

    def part(self) -> Part:
        if self._part is None:
            alone = digest_many([self.shape, self.signature])
            self._part = Part(self.name, self.kind, alone, self.file, self.line, self.text)
        return self._part


def reached(roots: Iterable[Item]) -> set[Item]:
    """Give the items, and all that they need."""
    found = set(roots)
    waiting = list(found)
    while waiting:
        item = waiting.pop()
        new = {*item.needs, *item.also} - found
        found |= new
        waiting += new
    return found


def finish(roots: Iterable[Item]) -> None:
    """Give each item its digest, and all it needs before it. (Tarjan's components, without recursion.)"""
    order: dict[Item, int] = {}
    lowest: dict[Item, int] = {}
    open_items: list[Item] = []
    for root in roots:
        path = [(root, _enter(root, order, lowest, open_items))] if not root.digest and root not in order else []
        while path:
            item, remaining = path[-1]
            for other in remaining:
                if other.digest:
                    continue
                if other not in order:
                    path.append((other, _enter(other, order, lowest, open_items)))
                    break
                lowest[item] = min(lowest[item], order[other])
            else:
                path.pop()
                if path:
                    above = path[-1][0]
                    lowest[above] = min(lowest[above], lowest[item])
                if lowest[item] == order[item]:
                    place = len(open_items) - 1
                    while open_items[place] is not item:
                        place -= 1
                    _seal(open_items[place:])
                    del open_items[place:]


def _enter(item: Item, order: dict[Item, int], lowest: dict[Item, int], open_items: list[Item]) -> Iterator[Item]:
    order[item] = lowest[item] = len(order)
    open_items.append(item)
    return iter([*item.needs, *item.also])


def _seal(group: list[Item]) -> None:
    """Give the items of one group their digests."""
    first = group[0]
    if len(group) == 1 and first not in first.needs and first not in first.also:
        first.digest = first.combined(lambda item: item.digest)
        return
    colours = known = {item: digest_many([item.shape]) for item in group}
    kinds = 0

    def digest_of(item: Item) -> bytes:
        return known.get(item) or item.digest

    while len(set(colours.values())) > kinds:  # until no two members that look alike can be told apart any more
        kinds = len(set(colours.values()))
        known = colours
        colours = {item: item.combined(digest_of) for item in group}
    whole = digest_many(sorted(colours.values()))
    for item in group:
        item.digest = digest_many([colours[item], whole])
