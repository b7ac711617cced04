"""Asking the schedule what it would do, with nobody to execute: it cannot disagree with the run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from cpgraph.decisions import Decisions
from cpgraph.execute import Outcome
from cpgraph.explain import compare, returned_files
from cpgraph.flow import PLANNING, Flow
from cpgraph.instances import BLOCKED, CLOSED, FAILED, OK, PLANNED, Instance
from cpgraph.journal import Journal
from cpgraph.kept import RUNS_BEFORE
from cpgraph.ledger import Ledger
from cpgraph.lines import Line
from cpgraph.nodes import Node, node_id
from cpgraph.pickles import loads_plain
from cpgraph.results import Head, read_head
from cpgraph.schedule import Schedule
from cpgraph.steps import Step
from cpgraph.structure import END, Unit
from cpgraph.times import duration

__all__ = ["Plan", "PlannedStep", "Planner"]

MOST_FAILURES: Final = 10  # that are shown
REDONE: Final = "asked for (redo)"
EDITED: Final = "its code was edited"
NEW: Final = "new: there is no result for it yet"
GONE: Final = "its result is not in the cache"


@attrs.define
class PlannedStep:
    """What would happen to the nodes of one step. seconds: as long as it took when it last ran.

    kept: how many of those `cached` a resume keeps though their code was edited. equal: how many share the call of
    one that is to be computed.
    asks_store: such a step runs in a thread of the process that schedules, whatever the executor (rule E6).
    """

    name: str
    cached: int = 0
    computed: int = 0
    equal: int = 0
    follows: int = 0
    closed: int = 0
    kept: int = 0
    seconds: float = 0.0
    reasons: dict[str, int] = attrs.field(factory=dict)
    products: str = ""
    asks_store: bool = False

    @property
    def of_other_code(self) -> str:
        """Say of what is as it is how much other code has made."""
        if not self.kept:
            return ""
        return " (edited, kept)" if self.kept == self.cached else f" ({self.kept:,} of them edited, kept)"

    def compute(self, reason: str, seconds: float) -> None:
        """Count a node that would be computed."""
        self.computed += 1
        self.seconds += seconds
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


@attrs.frozen
class Plan:
    """What would run, why, and how long. `follows` depend on what would be computed: they run if a value changes.

    What has no result by its present code runs as soon as what is before it has succeeded: that is `computed` too.
    """

    line: str
    steps: Mapping[str, PlannedStep]
    unseen: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()

    @property
    def computed(self) -> int:
        """How many nodes would be computed whatever values come out, if nothing fails."""
        return sum(step.computed for step in self.steps.values())

    @property
    def seconds(self) -> float:
        """How long they took when they last ran, all together."""
        return sum(step.seconds for step in self.steps.values())

    def __str__(self) -> str:
        rows = [self.line]
        width = max((len(name) for name in self.steps), default=0)
        for name, step in self.steps.items():
            counts = [
                f"{count:,} {word}"
                for count, word in (
                    (step.computed, "to compute"),
                    (step.equal, "of equal work"),
                    (step.follows, "if what is before them changes"),
                    (step.cached, f"as they are{step.of_other_code}"),
                    (step.closed, "closed"),
                )
                if count
            ]
            took = f", about {duration(step.seconds)}" if step.seconds else ""
            rows.append(f"    {name:<{width}}  {', '.join(counts) or 'not known yet'}{took}{step.products}")
            for reason, count in sorted(step.reasons.items(), key=lambda entry: -entry[1])[:4]:
                rows.append(f"    {'':<{width}}    {count:,} × {reason}")
        here = [name for name, step in self.steps.items() if step.asks_store]
        if here:
            rows.append(f"    in this process, whatever the executor, as they ask for the store: {', '.join(here)}")
        rows.extend(f"    not seen: {text}" for text in self.unseen)
        rows.extend(f"    would fail: {text}".replace("\n", "\n        ") for text in self.failures[:MOST_FAILURES])
        if len(self.failures) > MOST_FAILURES:
            rows.append(f"    would fail: {len(self.failures) - MOST_FAILURES:,} more")
        return "\n".join(rows)


class Planner(Schedule):
    """The schedule with nobody to execute. `last`: the run of this graph before, to say what differs."""

    last: Any = None

    def plan(self, line: str) -> Plan:
        self.ledger = _Idle(self.journal, 0, self.world, self.stream)
        self.decisions = _Planned(self.world, self.inputs, self.ledger, self.tellings, self.stream, self._left)
        self.gates = self.decisions.gates
        self.flow = Flow(self.world, self.decisions, planning=True)
        self.steps = self.decisions.steps
        self.problems = self.decisions.problems
        self._planned: set[bytes] = set()  # the keys of what would be computed
        self.behind = self.decisions.behind
        for unit in self.compiled.units:
            if unit.step is not None:
                asks = any(binding.kind == "store" for binding in unit.bindings)
                self.steps[unit.step.name] = PlannedStep(unit.step.name, asks_store=asks)
        self.flow.begin()
        while True:
            self._look_up_ready()
            self._open_fresh()
            if self.flow.ready or any(self.flow.fresh):
                continue
            if not self._settle():
                break
        self._count_behind()
        for scope in self.compiled.scopes[1:]:
            self._tell_product(scope.index)
        unseen = tuple(
            f"{name}: {text}" for name, found in self.results.fingerprints.items() for text in (*found.unseen, *found.handles)
        )
        return Plan(line, self.steps, unseen, tuple(self.problems))

    def _tell_product(self, scope: int) -> None:
        chain = self.compiled.scopes[scope].chain
        if len(chain) < 2:
            return
        counts = [f"{self._most(self.world.root, chain[: level + 1]):,}" for level in range(len(chain))]
        for index in self.compiled.scopes[scope].units:
            step = self.compiled.units[index].step
            if step is not None:
                self.steps[step.name].products = f" ({' × '.join(counts)})"

    def _most(self, instance: Instance, chain: tuple[int, ...]) -> int:
        """Say how many instances the last of nested scopes has, in that instance around it where there are most."""
        fans = [fan for fan in (instance.fans or {}).values() if fan.scope.index == chain[0]]
        if len(chain) == 1:
            return max((len(fan.instances) for fan in fans), default=0)
        return max((self._most(inner, chain[1:]) for fan in fans for inner in fan.instances), default=0)

    def _queue(self, node: Node) -> None:
        step = node.unit.step
        assert step is not None
        reason, seconds, quiet = self._reason(node)
        if step.options.cache and node.key in self._planned:  # equal work is done once
            self.steps[step.name].equal += 1
        else:
            self.steps[step.name].compute(reason, seconds)
            self._planned.add(node.key)
        self.flow.end(node.unit, node.instance, PLANNED, PLANNING, quiet)

    def _reason(self, node: Node) -> tuple[str, float, bool]:
        """Say why a node would be computed, how long it took the last time, and whether it wrote nothing then."""
        step = node.unit.step
        assert step is not None
        said, head, result = self._last(step.name, node.instance.key)
        if self.results.is_redone(node):
            return REDONE, self.last.took(head) if head is not None else 0.0, False
        if head is None:
            return said, 0.0, False
        reasons = []
        if self._is_edited(step.name, head):
            reasons.append(EDITED)
        mine = tuple(binding.name for binding in node.unit.bindings if binding.kind not in ("store", "stream"))
        then = next((old.inputs for old in self.last.line.steps.values() if old.name == step.name), None)
        names = self.results.inputs_of(head.run, head.unit, step.name, then)
        reasons.extend(compare(mine, node.kept, names or (), head.parts))
        if head.reads is not None and not reasons:
            reasons.append("what it read in the store has another answer")
        quiet = not (head.changes or step.options.sets)
        return "; ".join(reasons) or self._lost(step, head, result), self.last.took(head), quiet

    def _last(self, step: str, key: tuple[Any, ...]) -> tuple[str, Head | None, int]:
        """Give the result that a node had in the last run, and its number; if it had none, why."""
        index = self.last.line.by_step.get(step, {}).get(key) if self.last is not None else None
        if index is None:
            return NEW, None, 0
        entry = self.last.line.entry(index)
        if entry.ended not in ("computed", "cached"):
            return f"{entry.ended} in run {self.last.row.number}", None, 0
        row = self.journal.rows([entry.result]).get(entry.result)
        if row is None:
            return "its result is not there any more", None, 0
        return "", read_head(row.head, plain=True), entry.result

    def _lost(self, step: Step, head: Head, result: int) -> str:
        """Say why a result does not serve that was made by this code of these inputs."""
        if not step.options.cache:
            return "it is not cached (cache=False)"
        if not head.has_files:
            return GONE
        files = returned_files(self.last.line, result)
        gone = [file.path for file in files if not os.path.exists(file)]
        if gone:
            return f"the file that it returned is gone: {', '.join(gone)}"
        return f"the file that it returned is another: {' or '.join(file.path for file in files) or 'its name cannot be read'}"

    def _is_edited(self, step: str, head: Head) -> bool:
        return bool(self.fingerprint_of(head.run, head.unit) != self.results.fingerprints[step].digest.hex())

    # What stands behind what would be computed

    def _count_behind(self) -> None:
        """Count what could not be looked up: without a result by its present code it runs, else if its inputs change."""
        done = _Done(self.journal, {name: found.digest.hex() for name, found in self.results.fingerprints.items()})
        doubtful: set[tuple[int, int]] = set()
        for unit, instance in self.behind:
            assert unit.step is not None
            step, key = unit.step.name, instance.key
            if self._is_doubtful(unit, instance, doubtful):
                doubtful.add((unit.index, id(instance)))
                self.steps[step].follows += 1
            elif self.results.is_redone(Node(unit, instance, [])):
                self._count_certain(REDONE, step, key)
            elif (self.results.kept is not None and (step, key) in self.results.kept.results) or done.has(step, key):
                self.steps[step].follows += 1
            else:
                self._count_certain("", step, key)

    def _count_certain(self, reason: str, step: str, key: tuple[Any, ...]) -> None:
        said, head, _ = self._last(step, key)
        if head is not None:
            said = EDITED if self._is_edited(step, head) else GONE
        self.steps[step].compute(reason or said, self.last.took(head) if head is not None else 0.0)

    def _is_doubtful(self, unit: Unit, instance: Instance, doubtful: set[tuple[int, int]]) -> bool:
        """Tell whether a node may come to be closed or blocked: what opens its part is not known, or what it takes."""
        units, scopes = self.compiled.units, self.compiled.scopes
        for place in unit.place.around():
            if place.start is None:
                continue
            start = units[place.start]
            scope = scopes[place.inner] if place.inner is not None else None
            asks = start.open or (scope and (scope.condition or scope.selection))
            if asks and instance.around(scopes[start.scope].level).ended[start.slot] != OK:
                return True
        for edge in unit.into:
            source = units[edge.source]
            around = instance.around(scopes[source.scope].level)
            ended = around.ended[source.slot]
            if ended in (BLOCKED, FAILED) or (source.kind == END and self.problems):
                return True
            if edge.value and (ended == CLOSED or (source.index, id(around)) in doubtful):
                return True
        return False

    def _finish(self, node: Node, result: Any, ended: int) -> None:
        step = node.unit.step
        assert step is not None
        planned = self.steps[step.name]
        planned.cached += 1
        planned.kept += self.results.kept is not None and self._is_edited(step.name, result.head)
        super()._finish(node, result, ended)

    def _fail(self, node: Node, outcome: Outcome) -> None:
        self.problems.append(f"{node.id}: {type(outcome.error).__name__}: {outcome.error}")
        self.flow.end(node.unit, node.instance, FAILED, node.id)


class _Planned(Decisions):
    """Decides as in a run, and counts instead of keeping."""

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self.steps: dict[str, PlannedStep] = {}
        self.problems: list[str] = []
        self.behind: list[tuple[Unit, Instance]] = []  # what stands behind what would be computed, as it would come up

    def ended(self, unit: Unit, instance: Instance, how: int, reason: str) -> None:
        assert unit.step is not None
        planned = self.steps[unit.step.name]
        if how == CLOSED:
            planned.closed += 1
        elif how == PLANNED:
            self.behind.append((unit, instance))
        elif how == BLOCKED:
            planned.follows += 1

    def failed(self, unit: Unit, instance: Instance, error: BaseException) -> None:
        self.problems.append(f"{node_id(unit.name, instance.key)}: {type(error).__name__}: {error}")


class _Done:
    """Which nodes of a step have a result by its present code: looked for run by run, in any graph, the newest first."""

    def __init__(self, journal: Journal, now: Mapping[str, str]) -> None:
        self._now = now
        rows = [row for row in reversed(journal.runs()) if row.meta is not None]
        self._lines = [Line(journal, row.number, loads_plain(row.meta or b""), plain=True) for row in rows[:RUNS_BEFORE]]
        self._known: dict[str, list[set[tuple[Any, ...]]]] = {step: [] for step in now}
        self._more = {step: self._looked_up(step) for step in now}

    def has(self, step: str, key: tuple[Any, ...]) -> bool:
        return any(key in keys for keys in self._known[step]) or any(key in keys for keys in self._more[step])

    def _looked_up(self, step: str) -> Iterator[set[tuple[Any, ...]]]:
        for line in self._lines:
            alike = {unit for unit, meta in line.steps.items() if meta.fingerprint == self._now[step]}
            if alike:
                self._known[step].append(line.done(alike))
                yield self._known[step][-1]


class _Idle(Ledger):
    """The ledger of a plan: nothing was done, so nothing is kept."""

    def end(self, *about: Any, **more: Any) -> None:
        """Keep nothing."""

    def keep(self, *about: Any) -> int:
        """Keep nothing."""
        return 0

    def commit(self) -> None:
        """Commit nothing."""
