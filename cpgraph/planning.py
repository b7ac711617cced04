"""Asking the schedule what it would do, with nobody to execute: it cannot disagree with the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from cpgraph.decisions import Decisions
from cpgraph.execute import Outcome
from cpgraph.explain import compare
from cpgraph.flow import PLANNING, Flow
from cpgraph.instances import BLOCKED, CLOSED, FAILED, PLANNED, Instance
from cpgraph.ledger import Ledger
from cpgraph.nodes import Node, node_id
from cpgraph.results import read_head
from cpgraph.schedule import Schedule
from cpgraph.structure import Unit
from cpgraph.times import duration

__all__ = ["Plan", "PlannedStep", "Planner"]

MOST_FAILURES: Final = 10  # that are shown


@attrs.define
class PlannedStep:
    """What would happen to the nodes of one step. seconds: as long as it took when it last ran.

    asks_store: such a step runs in a thread of the process that schedules, whatever the executor (rule E6).
    """

    name: str
    cached: int = 0
    computed: int = 0
    follows: int = 0
    closed: int = 0
    seconds: float = 0.0
    reasons: dict[str, int] = attrs.field(factory=dict)
    products: str = ""
    asks_store: bool = False


@attrs.frozen
class Plan:
    """What would run, why, and how long. `follows` depend on what would be computed: they run if a value changes."""

    line: str
    steps: Mapping[str, PlannedStep]
    unseen: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()

    @property
    def computed(self) -> int:
        """How many nodes would be computed for certain."""
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
                    (step.follows, "if what is before them changes"),
                    (step.cached, "as they are"),
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
        rows.extend(f"    would fail: {text}" for text in self.failures[:MOST_FAILURES])
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
        planned = self.steps[step.name]
        planned.computed += 1
        reason, seconds, quiet = self._reason(node)
        planned.seconds += seconds
        planned.reasons[reason] = planned.reasons.get(reason, 0) + 1
        self.flow.end(node.unit, node.instance, PLANNED, PLANNING, quiet)

    def _reason(self, node: Node) -> tuple[str, float, bool]:
        """Say why a node would be computed, how long it took the last time, and whether it wrote nothing then."""
        step = node.unit.step
        assert step is not None
        if self.results.is_redone(node):
            return "asked for (redo)", 0.0, False
        last = self.last
        index = last.line.by_step.get(step.name, {}).get(node.instance.key) if last is not None else None
        if last is None or index is None:
            return "new: there is no result for it yet", 0.0, False
        entry = last.line.entry(index)
        if entry.ended not in ("computed", "cached"):
            return f"{entry.ended} in run {last.row.number}", 0.0, False
        row = self.journal.rows([entry.result]).get(entry.result)
        if row is None:
            return "its result is not there any more", 0.0, False
        head = read_head(row.head, plain=True)
        reasons = []
        if self.fingerprint_of(head.run, head.unit) != self.results.fingerprints[step.name].digest.hex():
            reasons.append("its code was edited")
        mine = tuple(binding.name for binding in node.unit.bindings if binding.kind not in ("store", "stream"))
        reasons.extend(
            compare(
                mine,
                node.kept,
                self.results.inputs_of(head.run, head.unit, step.name, last.line.steps[entry.unit].inputs) or (),
                head.parts,
            )
        )
        if head.reads is not None and not reasons:
            reasons.append("what it read in the store has another answer")
        return "; ".join(reasons) or "its result is not in the cache", last.took(head), not (head.changes or step.options.sets)

    def _finish(self, node: Node, result: Any, ended: int) -> None:
        step = node.unit.step
        assert step is not None
        self.steps[step.name].cached += 1
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

    def ended(self, unit: Unit, instance: Instance, how: int, reason: str) -> None:
        assert unit.step is not None
        planned = self.steps[unit.step.name]
        if how == CLOSED:
            planned.closed += 1
        elif how in (BLOCKED, PLANNED):
            planned.follows += 1

    def failed(self, unit: Unit, instance: Instance, error: BaseException) -> None:
        self.problems.append(f"{node_id(unit.name, instance.key)}: {type(error).__name__}: {error}")


class _Idle(Ledger):
    """The ledger of a plan: nothing was done, so nothing is kept."""

    def end(self, *about: Any, **more: Any) -> None:
        """Keep nothing."""

    def keep(self, *about: Any) -> int:
        """Keep nothing."""
        return 0

    def commit(self) -> None:
        """Commit nothing."""
