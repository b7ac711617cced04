"""Conditions, guards, selections and items: what the flow asks before it opens a part (rules G1–G5, E1, E3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from cpgraph.copies import isolated
from cpgraph.events import GuardChanged, Stream
from cpgraph.execute import Call, Target, ends_run, failed
from cpgraph.flow import Flow
from cpgraph.gates import Gate, Gates
from cpgraph.inputs import Deleted, Inputs
from cpgraph.instances import BLOCKED, CLOSED, FAILED, Cause, Fan, Instance, World
from cpgraph.ledger import BLOCKED_END, CLOSED_END, FAILED_END, Ledger
from cpgraph.models import Files
from cpgraph.nodes import node_id
from cpgraph.records import State
from cpgraph.store import Store
from cpgraph.structure import END, STEP, Scope, Unit
from cpgraph.tellings import Tellings

__all__ = ["Decisions"]


class Decisions:
    """Decides for the flow of one run (see `flow.Decide`). `left`: called with each instance that has ended."""

    def __init__(
        self, world: World, inputs: Inputs, ledger: Ledger, tellings: Tellings, stream: Stream, left: Callable[[Instance], None]
    ) -> None:
        self.compiled = world.compiled
        self.inputs = inputs
        self.ledger = ledger
        self.tellings = tellings
        self.stream = stream
        self.left = left
        self.gates = Gates(world, self._ask_guard, self._guard_changed)

    def opens(self, unit: Unit, instance: Instance) -> bool | None:
        opened = unit.open
        assert opened is not None
        if opened.guard:
            return self.gates.opens(unit, instance) or None
        try:
            answer = bool(self.inputs.ask(opened.function, opened.bindings, unit, instance, stream=self.stream))
        except Deleted:
            return False
        if not answer:
            self._tell_passed(unit)
        return answer

    def lets_in(self, scope: Scope, instance: Instance) -> bool:
        condition = scope.condition
        assert condition is not None and scope.place.start is not None
        first = self.compiled.units[scope.place.start]
        try:
            return bool(self.inputs.ask(condition.function, condition.bindings, first, instance, stream=self.stream))
        except Deleted:
            return False

    def selects(self, fan: Fan, state: State) -> bool:
        selection = fan.scope.selection
        if selection is None:
            return True
        if any(getattr(state.record, name) != value for name, value in selection.equal.items()):
            return False
        if selection.predicate is None:
            return True
        start = self.compiled.units[fan.scope.place.start or 0]
        first = (isolated(state.record),)
        try:
            return bool(self.inputs.ask(selection.predicate, fan.scope.predicate, start, fan.instance, first, stream=self.stream))
        except Deleted:  # the record around the pipeline
            return False
        except Exception as error:
            error.add_note(f"asked about {state.record!r}")
            raise

    def items(self, fan: Fan) -> Sequence[tuple[Any, Any, bytes]] | None:
        found = self.inputs.items(fan)
        source = fan.scope.source
        if isinstance(source, Files) and not found:
            text = f"no file matches {source.pattern!r}: each={{{fan.scope.item!r}: …}} has nothing to run over"
            self.tellings.told("no-files", text, "patterns are from the working directory: correct one of the two.")
        return found

    def ended(self, unit: Unit, instance: Instance, how: int, reason: str) -> None:
        ended = CLOSED_END if how == CLOSED else BLOCKED_END
        self.ledger.end(unit, instance, ended, extra={"reason": reason} if reason else None)

    def failed(self, unit: Unit, instance: Instance, error: BaseException) -> None:
        target = Target(unit.name, void, where=unit.place.where)
        outcome = failed(Call(-1, target), error, 0.0, time.time())
        row = self.ledger.keep_failure(node_id(unit.name, instance.key), unit.name, outcome, 1, instance)
        self.ledger.end(unit, instance, FAILED_END, row)

    def gone(self, unit: Unit, instance: Instance) -> str:
        return self.inputs.gone(unit, instance)

    def told(self, kind: str, text: str, mend: str, node: str = "", step: str = "") -> None:
        self.tellings.told(kind, text, mend, node, step)

    # Guards

    def _ask_guard(self, unit: Unit, instance: Instance, store: Store) -> Any:
        opened = unit.open
        assert opened is not None
        return self.inputs.ask(opened.function, opened.bindings, unit, instance, store=store, stream=self.stream)

    def _guard_changed(self, gate: Gate) -> None:
        if self.stream.listens(GuardChanged):
            self.stream.emit(GuardChanged(gate.unit.place.name, gate.answer, gate.read))

    def ask_again(self, gate: Gate, flow: Flow) -> bool:
        """Ask a guard again; one that raises fails its pipeline."""
        try:
            answer = self.gates.ask(gate)
        except BaseException as error:
            if ends_run(error):
                raise
            self.gates.settle(gate)
            self.failed(gate.unit, gate.instance, error)
            if gate.instance.ended[gate.unit.slot]:
                cause = Cause(f"the guard of {gate.unit.place.name} raised", (gate.unit.place,))
                flow.close_part(gate.unit.place, gate.instance, BLOCKED, cause)
            else:
                flow.end(gate.unit, gate.instance, FAILED, gate.unit.name)
            return False
        if answer:
            flow.ready.extend(gate.held)
            gate.held.clear()
        return answer

    def ask_closed(self, flow: Flow) -> bool:
        """Ask closed guards again whose models have changed; tells whether one opened."""
        opened = False
        for gate in list(self.gates.closed):
            if gate.settled or gate.answer or not self.gates.stale(gate):
                continue
            never = not gate.opened
            if self.ask_again(gate, flow):
                opened = True
                if never:
                    flow.open_asked(gate.unit, gate.instance)
        return opened

    def settle(self, flow: Flow) -> bool:
        """Close a closed guard for good, when nothing else can run: the first in graph order (rule G3)."""
        gate = next(filter(self._is_closed, self.gates.closed), None)
        if gate is None:
            return False
        self.gates.settle(gate)
        reason = f"the guard of {gate.unit.place.name} {'closed' if gate.opened else 'never opened'}"
        reason += f"; it read {', '.join(gate.read)}" if gate.read else ""
        self._tell_passed(gate.unit)
        if gate.opened:
            flow.close_part(gate.unit.place, gate.instance, CLOSED, Cause(reason))
        else:
            flow.end(gate.unit, gate.instance, CLOSED, reason)
        return True

    def _is_closed(self, gate: Gate) -> bool:
        return bool(gate.held) or (not gate.opened and not gate.instance.ended[gate.unit.slot])

    def _tell_passed(self, start: Unit) -> None:
        """Tell that something goes on past a part that is closed: `open=` is an `if` round its part (rule G3)."""
        units, part = self.compiled.units, start.place
        closed = {*part.units()}  # and what asks for a value of that
        waiting = sorted(closed, reverse=True)
        while waiting:
            asking = {edge.target for edge in units[waiting.pop()].out if edge.value} - closed
            closed |= asking
            waiting += asking
        waiting = sorted(closed, reverse=True)
        passing: dict[str, None] = {}
        while waiting:
            for edge in units[waiting.pop()].out:
                unit = units[edge.target]
                if unit.index in closed:
                    continue
                if unit.kind == END:
                    waiting.append(unit.index)
                else:
                    passing[unit.name if unit.kind == STEP else unit.place.name] = None
        if passing:
            text = f"{', '.join(list(passing)[:3])} went on past {part.name}, which was closed"
            mend = "if that is not to be, give it the same open=, or ask for a value of what is closed."
            first = min((index for index in part.units() if units[index].kind == STEP), default=start.index)

            def at_the_end() -> str:
                ended = self.ledger.tally[first]
                often = f" for {ended[CLOSED_END]:,} of {sum(ended):,}" if ended[CLOSED_END] < sum(ended) else ""
                return text + often

            self.tellings.told("passed-closed", text, mend, at_the_end=at_the_end)


def void(*args: object) -> None:
    """Do nothing."""
