"""Whatever the rules say is told: one kind of event, one list (rule O1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from cpgraph.events import Hint, Stream
from cpgraph.instances import World
from cpgraph.store import Query

__all__ = ["Tellings"]

MOST_NODES: Final = 1_000


class Tellings:
    """The hints of a run: each is sent once per kind and step, and in the end has all nodes it is about."""

    def __init__(self, stream: Stream, world: World) -> None:
        self._stream = stream
        self._world = world
        self._hints: dict[tuple[str, str], Hint] = {}
        self._nodes: dict[tuple[str, str], dict[str, None]] = {}
        self._queries: dict[int, set[tuple[str, tuple[str, ...] | None]]] = {}

    def told(self, kind: str, text: str, mend: str, node: str = "", step: str = "") -> None:
        """Tell the user something about a step, or about what the text says."""
        about = (kind, step or text)
        nodes = self._nodes.setdefault(about, {})
        if node and len(nodes) < MOST_NODES:
            nodes[node] = None
        if about not in self._hints:
            self._hints[about] = hint = Hint(kind, text, mend, tuple(nodes))
            self._stream.emit(hint)

    @property
    def hints(self) -> list[Hint]:
        return [attrs.evolve(hint, nodes=tuple(self._nodes[about])) for about, hint in self._hints.items()]

    def asked(self, unit: int, reads: Sequence[tuple[Query, bytes]]) -> None:
        """Note which models a step asked for, and which fields of them (None: all)."""
        noted = self._queries.setdefault(unit, set())
        for query, _ in reads:
            if query[0] not in ("get", "file"):
                noted.add((query[1], query[2] if query[0] == "values" else None))

    def conclude(self, instances: dict[int, int]) -> None:
        """Tell of queries over what unordered nodes wrote (rule C1). `instances`: how many each scope had."""
        written = self._written() if self._queries else {}
        for reader, noted in self._queries.items():
            for model, fields in sorted(noted, key=str):
                for writer, wrote in sorted(written.get(model, {}).items()):
                    if (fields is None or wrote & {*fields, "*", "id"}) and not self._ordered(writer, reader, instances):
                        self._tell_beside(model, writer, reader)

    def _written(self) -> dict[str, dict[int, set[str]]]:
        written: dict[str, dict[int, set[str]]] = {}
        for name, table in self._world.records.tables.items():
            for row in table.rows.values():
                for write in row.writes:
                    written.setdefault(name, {}).setdefault(write.unit, set()).update(write.fields or ("*",))
        return written

    def _ordered(self, writer: int, reader: int, instances: dict[int, int]) -> bool:
        """Tell whether all nodes of the writer come before each of the reader, but for one that reads its own writes."""
        compiled = self._world.compiled
        shared = compiled.scopes[compiled.units[writer].scope].chain[
            : self._world.common[compiled.units[reader].scope][compiled.units[writer].scope]
        ]
        before = writer == reader or compiled.is_before(writer, reader)
        return before and all(instances.get(scope, 0) <= 1 for scope in shared)

    def _tell_beside(self, model: str, writer: int, reader: int) -> None:
        units = self._world.compiled.units
        name, around = units[reader].name, units[writer].place.parent
        after = around.name if around is not None and around.name else units[writer].name
        self.told(
            "reads-beside-writes",
            f"{name} asks for {model} records that {units[writer].name} writes beside it: it sees them as they were before",
            f"come after it: after={after!r}.",
            step=name,
        )
