"""Whatever the rules say is told: one kind of event, one list (rule O1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from cpgraph.events import Hint, Stream
from cpgraph.instances import Asker, World
from cpgraph.records import Write
from cpgraph.views import Query

__all__ = ["BESIDE", "Tellings", "some"]

MOST_NODES: Final = 1_000
BESIDE: Final = "reads-beside-writes"  # its nodes are those that failed


@attrs.define
class _Asked:
    """What a step's nodes asked the store, and which of them failed; base: the last commit that guards brought to all of them."""

    base: int
    failed: list[str] = attrs.field(factory=list)
    models: set[tuple[str, tuple[str, ...] | None]] = attrs.field(factory=set)
    records: dict[tuple[str, Any, int], Asker] = attrs.field(factory=dict)


def some(names: Sequence[str], most: int = 3) -> str:
    """Name the first of many, and say how many more there are.

    >>> some(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


class Tellings:
    """The hints of a run: each is sent once per kind and step, and in the end has all nodes it is about."""

    def __init__(self, stream: Stream, world: World) -> None:
        self._stream = stream
        self._world = world
        self._hints: dict[tuple[str, str], Hint] = {}
        self._nodes: dict[tuple[str, str], dict[str, None]] = {}
        self._at_the_end: dict[tuple[str, str], Callable[[], str]] = {}
        self._asked: dict[int, _Asked] = {}

    def told(
        self, kind: str, text: str, mend: str, node: str = "", step: str = "", at_the_end: Callable[[], str] | None = None
    ) -> None:
        """Tell the user something about a step, or about what the text says; `at_the_end` says it as it has come out."""
        about = (kind, step or text)
        nodes = self._nodes.setdefault(about, {})
        if node and len(nodes) < MOST_NODES:
            nodes[node] = None
        if about not in self._hints:
            if at_the_end is not None:
                self._at_the_end[about] = at_the_end
            self._hints[about] = hint = Hint(kind, text, mend, tuple(nodes))
            self._stream.emit(hint)

    def was_told(self, kind: str, step: str) -> bool:
        return (kind, step) in self._hints

    @property
    def hints(self) -> list[Hint]:
        texts = {about: say() for about, say in self._at_the_end.items()}
        return [
            attrs.evolve(hint, text=texts.get(about, hint.text), nodes=tuple(self._nodes[about]))
            for about, hint in self._hints.items()
        ]

    def asked(self, asker: Asker, reads: Sequence[tuple[Query, bytes]], failed: str = "") -> None:
        """Note which models a node asked for, and which fields (None: all) or which one record. failed: its id, if it did."""
        asked = self._asked.setdefault(asker.unit, _Asked(asker.base))
        if failed and len(asked.failed) < MOST_NODES:
            asked.failed.append(failed)
        asked.base = min(asked.base, asker.base)
        for query, _ in reads:
            if query[0] == "get":
                if len(asked.records) < MOST_NODES:
                    asked.records[query[1], query[2], id(asker.instance)] = asker
            elif query[0] not in ("file", "code"):
                asked.models.add((query[1], query[2] if query[0] == "values" else None))

    def beside(self) -> None:
        """Tell of steps that ask for a field, or for the record, while a step beside them sets that field (rule C1)."""
        compiled = self._world.compiled
        setters = [
            (unit, model, unit.step.options.sets)
            for unit in compiled.units
            if unit.step is not None and unit.step.options.sets is not None and (model := compiled.innermost_model(unit.scope))
        ]
        for reader in compiled.units if setters else ():
            for binding in reader.bindings if reader.step is not None else ():
                if binding.kind not in ("field", "record"):
                    continue
                asked = compiled.scopes[compiled.scopes[reader.scope].chain[binding.level - 1]].model
                for writer, model, field in setters:
                    one, other = writer.index, reader.index
                    if model is not asked or one == other or compiled.is_before(one, other) or compiled.is_before(other, one):
                        continue
                    if binding.field in ("", field):
                        self.told(
                            "reads-beside-writes",
                            f"{reader.name} asks for {binding.name!r}, and {writer.name} sets {field!r} beside it: "
                            "it sees it as it was before",
                            f"come after it: put {reader.name} behind {writer.name}, or say after={writer.name!r}.",
                            step=reader.name,
                        )

    def conclude(self, instances: dict[int, int]) -> None:
        """Tell of queries over what unordered nodes wrote (rule C1). `instances`: how many each scope had."""
        written = self._written() if self._asked else {}
        for reader, asked in self._asked.items():
            for model, fields in sorted(asked.models, key=str):
                for writer, (wrote, last) in sorted(written.get(model, {}).items()):
                    if last <= asked.base or not (fields is None or wrote & {*fields, "*", "id"}):
                        continue
                    if not self._ordered(writer, reader, instances):
                        self._tell_beside(model, writer, reader)
            for (model, id, _), asker in asked.records.items():
                row = self._world.records.tables[model].rows.get(id)
                for write in row.writes if row is not None else ():
                    if not asker.sees(write) and not self._follows(write, asker):
                        self._tell_beside(model, write.unit, reader)

    def _written(self) -> dict[str, dict[int, tuple[set[str], int]]]:
        """Give which fields of a model each unit wrote ("*": all), and in which commit it did so last."""
        written: dict[str, dict[int, tuple[set[str], int]]] = {}
        for name, table in self._world.records.tables.items():
            units = written.setdefault(name, {})
            for row in table.rows.values():
                for write in row.writes:
                    fields, last = units.get(write.unit) or (set(), 0)
                    fields.update(write.fields or ("*",))
                    units[write.unit] = fields, max(last, write.commit)
        return written

    def _ordered(self, writer: int, reader: int, instances: dict[int, int]) -> bool:
        """Tell whether all nodes of one come before, or after, each of the other, but for one that reads its own writes."""
        compiled = self._world.compiled
        shared = compiled.scopes[compiled.units[writer].scope].chain[
            : self._world.common[compiled.units[reader].scope][compiled.units[writer].scope]
        ]
        ordered = writer == reader or compiled.is_before(writer, reader) or compiled.is_before(reader, writer)
        return ordered and all(instances.get(scope, 0) <= 1 for scope in shared)

    def _follows(self, write: Write, asker: Asker) -> bool:
        """Tell whether a write is by the node that asked, or by one after it."""
        same = self._world.same(write.instance, asker.instance)
        return same and (write.unit == asker.unit or self._world.compiled.is_before(asker.unit, write.unit))

    def _tell_beside(self, model: str, writer: int, reader: int) -> None:
        units = self._world.compiled.units
        name, place = units[reader].name, units[writer].place
        mine = list(units[reader].place.around())
        shared = next((part for part in place.around() if part.inner is not None and part in mine), None)
        named = place.parent is not None and place.parent.pipeline is not None and place.parent.pipeline.name
        mend = f"come after it: after={named or place.name!r}."
        if shared is not None:
            mend = f"come after it: put {name} after pipeline {shared.name!r}, not into it."
        for node in self._asked[reader].failed or [""]:
            self.told(
                BESIDE,
                f"{name} asks for {model} records that {place.name} writes beside it: it sees them as they were before",
                mend,
                node,
                name,
            )
