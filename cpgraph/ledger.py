"""What has ended and is to be on disk: gathered by the schedule, committed in groups, and only then reported."""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left
from typing import Any, Final

from cpgraph.errors import StorageError
from cpgraph.events import NodeEnded, Stream
from cpgraph.execute import Outcome, Value
from cpgraph.instances import Instance, World
from cpgraph.journal import Journal
from cpgraph.nodes import node_id
from cpgraph.pickles import dumps
from cpgraph.ranks import node_key
from cpgraph.results import ENDINGS, Entries, Head, write_head
from cpgraph.structure import Unit
from cpgraph.tracebacks import message_of

__all__ = ["BLOCKED_END", "CACHED", "CLOSED_END", "COMMIT_NODES", "COMPUTED", "FAILED_END", "Ledger"]

COMMIT_NODES: Final = 1_000
COMMIT_SECONDS: Final = 0.05
COMPUTED, CACHED, FAILED_END, BLOCKED_END, CLOSED_END = range(len(ENDINGS))


class Ledger:
    """The one who writes for a run. `tally`: how each unit's nodes ended; `memory`: values that the journal cannot have."""

    def __init__(self, journal: Journal, run: int, world: World, stream: Stream) -> None:
        self.journal = journal
        self.run = run
        self.tally = [[0] * len(ENDINGS) for _ in world.compiled.units]
        self.part_failures = 0
        self.memory: dict[int, Value] = {}
        self.errors: dict[str, BaseException] = {}
        self.items: dict[str, Any] = {}
        self._world = world
        self._stream = stream
        self.waiting = 0  # how many have ended and are not on disk
        self._ended: list[tuple[int, tuple[Any, ...], int, int, int, float, Instance]] = []
        self._extras: dict[int, dict[str, Any]] = {}
        self._committed = 0
        self._began = self._last = time.monotonic()
        self._seconds = 0.0
        self._shared: dict[int, list[tuple[Unit, Instance, int]]] = {}
        self._failed: list[tuple[Unit, Instance, int]] = []
        self._made = array("Q")  # the rows of what was computed, ascending, and beside them by which node
        self._making = array("I")
        self._makers: list[Instance] = []
        self._places = array("Q")

    @property
    def counts(self) -> list[int]:
        """How many nodes ended how."""
        return [sum(ended) for ended in zip(*self.tally, strict=True)]

    # When

    @property
    def due(self) -> bool:
        return self.waiting >= COMMIT_NODES or (self.waiting > 0 and time.monotonic() - self._last >= COMMIT_SECONDS)

    @property
    def due_at(self) -> float | None:
        """When what is there has to be committed at the latest."""
        return self._last + COMMIT_SECONDS if self.waiting else None

    # What

    def keep(self, key: bytes | None, head: Head, value: Value) -> int:
        """Put a result; one whose value does not pickle is for this run alone."""
        if value.problem:
            row = self.journal.put(None, write_head(head), None)
            self.memory[row] = value
            return row
        return self.journal.put(key, write_head(head), value.blob_bytes())

    def keep_failure(self, node: str, step: str, outcome: Outcome, attempts: int, instance: Instance) -> int:
        """Put a failure: kept for the record, never found as a result. An item of which the id does not tell it is kept, too."""
        error = outcome.error
        assert error is not None
        self.errors[node] = error
        kept = {
            "node": node,
            "step": step,
            "type": type(error).__name__,
            "text": message_of(error),
            "traceback": outcome.traceback,
            "place": outcome.place,
            "attempts": attempts,
            "started": outcome.started,
            "seconds": outcome.seconds,
            "run": self.run,
        }
        if instance.row is not None:
            kept["model"] = instance.row.table.name
        item = instance.item if instance.row is None else None
        id = instance.key[-1] if instance.key else None
        if item is not None and (type(item) not in (int, str) or type(id) is not type(item) or id != item):
            try:
                kept["item"] = dumps(item)
            except Exception:  # it does not pickle: then this run alone knows it
                self.items[node] = item
        return self.journal.put(None, dumps(kept), None)

    def end(
        self,
        unit: Unit,
        instance: Instance,
        ended: int,
        row: int = 0,
        version: int = 0,
        seconds: float = 0.0,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Note how a node ended."""
        if ended == COMPUTED:
            self._seconds += seconds
            self._made.append(row)
            self._making.append(unit.index)
            self._makers.append(instance)
            self._places.append(self._committed + self.waiting)
        elif ended == FAILED_END:
            self._failed.append((unit, instance, self._committed + self.waiting))
        if extra:
            self._extras[self.waiting] = extra
        self._ended.append((unit.index, instance.key, ended, row, version, seconds, instance))
        self.waiting += 1
        if unit.step is None:  # a condition, guard or selection that raised
            self.part_failures += 1
        else:
            self.tally[unit.index][ended] += 1

    def share(self, row: int, unit: Unit, instance: Instance) -> None:
        """Note that the node to be ended next has the result that another of this run has computed."""
        self._shared.setdefault(row, []).append((unit, instance, self._committed + self.waiting))

    def relabelled(self) -> list[tuple[int, int]]:
        """Say of equal work which node counts as computed: the first in graph order (rule O2)."""
        found = []
        for row, nodes in self._shared.items():
            made = bisect_left(self._made, row)
            group = {place: (unit.index, instance.chain) for unit, instance, place in nodes}
            group[self._places[made]] = self._making[made], self._makers[made].chain
            first, *others = sorted(group, key=lambda place: node_key(group[place]))
            found.append((first, COMPUTED))
            found.extend((place, CACHED) for place in others)
        return found

    def failure_order(self) -> list[int]:
        """Give the indexes of the entries that failed in graph order."""
        return [index for _, _, index in sorted(self._failed, key=lambda node: node_key((node[0].index, node[1].chain)))]

    def spread(self) -> float:
        """Give how long the run took for each second that its nodes took, one after another."""
        return min(1.0, (time.monotonic() - self._began) / self._seconds) if self._seconds else 1.0

    def commit(self) -> None:
        """Put on disk what has ended since the last time, then report it."""
        if not self._ended:
            return
        ended, self._ended = self._ended, []
        extras, self._extras = self._extras, {}
        self._committed += len(ended)
        self.waiting = 0
        units, keys, how, rows, versions, seconds, instances = zip(*ended, strict=True)
        entries = Entries.of(units, keys, how, rows, versions, extras)
        try:
            self.journal.append(self.run, entries.pack(), entries.numbers()[-1])
            self.journal.commit()
        except StorageError as error:
            error.node = node_id(self._world.compiled.units[units[-1]].name, keys[-1])
            raise
        self._last = time.monotonic()
        if self._stream.listens(NodeEnded):
            for unit, key, end, instance, took in zip(units, keys, how, instances, seconds, strict=True):
                step = self._world.compiled.units[unit].step
                if step is not None:
                    event = NodeEnded(node_id(step.name, key), step.name, instance.record(), ENDINGS[end], took)
                    self._stream.emit(event)
