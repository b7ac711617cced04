"""Starting runs: `run`, `resume` and `plan` gather what the schedule needs, and keep what it leaves."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import attrs

from cpgraph import data as records_data
from cpgraph.contents import looked_up
from cpgraph.digest import Undigestible, Unreadable
from cpgraph.errors import CpgraphError, DataError, StorageError, nearest
from cpgraph.events import Damaged, Hint, RunEnded, RunStarted, Stream
from cpgraph.execute import Target
from cpgraph.fingerprint import CodeOfValues, Fingerprint, Fingerprinter
from cpgraph.inputs import Inputs, Parameter
from cpgraph.instances import World
from cpgraph.journal import Journal, RunRow
from cpgraph.kept import Resumed, last_run, resume_from
from cpgraph.ledger import COMPUTED, FAILED_END
from cpgraph.models import Files
from cpgraph.names import is_redefined, qualified_name
from cpgraph.nodes import Results
from cpgraph.pickles import Unpicklable, dumps, loads_plain
from cpgraph.records import Records, State
from cpgraph.rows import convert
from cpgraph.runs import Memory, Run, Version
from cpgraph.schedule import Schedule, Settings
from cpgraph.shipments import refuse_while_importing
from cpgraph.steps import EMPTY, as_tuple, step_name
from cpgraph.structure import STEP, Compiled, Unit
from cpgraph.times import duration

__all__ = ["Order", "importing", "launch"]

CHUNK: Final = 1_000
UNSET: Final = type("Unset", (), {"__repr__": lambda self: "(not given)"})()

importing: list[str] = []  # the files the command is importing just now


@contextlib.contextmanager
def silent(line: str, schedule: Schedule) -> Iterator[Callable[[Run], None]]:
    """Report a run to nobody."""
    yield lambda run: None


@attrs.frozen
class Order:
    """What a run is asked to do. `start`: what a resume goes on from; UNSET means this is a run.

    `report` is given the first line and the schedule; it is entered while the run goes on, and gives what takes it in the end.
    """

    compiled: Compiled
    data: Any = UNSET
    directory: Path | None = None
    params: Mapping[str, Any] = attrs.field(factory=dict)
    given_params: bool = False
    settings: Settings = attrs.field(factory=Settings)
    stream: Stream | None = None
    redo: Any = ()
    start: Any = UNSET
    default_data: Any = None
    drawn: Callable[[Run, Any], str] | None = None
    planner: Any = None
    report: Callable[[str, Schedule], contextlib.AbstractContextManager[Callable[[Run], None]]] = silent

    @property
    def resumes(self) -> bool:
        return self.start is not UNSET


def launch(order: Order) -> Any:
    """Run, resume, or (with a planner) plan."""
    if importing and order.planner is None:
        raise CpgraphError(
            f"{importing[-1]} runs its graph while the command imports it",
            mend='put what runs under `if __name__ == "__main__":`.',
        )
    refuse_while_importing()
    return _Launch(order).go()


class _Launch:
    def __init__(self, order: Order) -> None:
        self.order = order
        self.compiled = order.compiled
        self.stream = order.stream or Stream()
        self.hints: list[Hint] = []

    def go(self) -> Any:
        planning = self.order.planner is not None
        redo = self._redo()
        if self.order.resumes and self.order.start is None and self.order.directory is not None:
            with Journal(self.order.directory, writable=False) as reader:
                if reader.empty:
                    resume_from(None, reader, self.compiled)  # refuses, before anything is made
        # What is given and wrong is refused before anything is made.
        given = None if self.order.resumes else (self._params(None), self._records(None))
        journal = Journal(self.order.directory, writable=not planning, on_damage=self._damaged)
        try:
            return self._go(journal, redo, given)
        except BaseException:
            journal.close()
            raise

    def _go(self, journal: Journal, redo: _Redo | None, given: Any) -> Any:
        order, compiled, planning = self.order, self.compiled, self.order.planner is not None
        resumed = resume_from(order.start, journal, compiled) if order.resumes else None
        params, (states, source) = given or (self._params(resumed), self._records(resumed))
        fingerprints = self._fingerprints()
        records = Records(compiled.models)
        records.begin(states)
        world = World(compiled, records)
        last = last_run(journal, compiled.name)
        meta = self._meta(journal, states, source, params, fingerprints, resumed, redo, write=not planning)
        line = self._first_line(journal, last, resumed, fingerprints)
        number = 0
        if not planning:
            number = journal.begin(compiled.name, dumps(meta))
        kept = resumed.adopt(journal, number) if resumed is not None else None
        metas = _Metas(journal, {number: meta})
        inputs = Inputs(world, params, self._defaults(params), CodeOfValues(self.fingerprinter))
        results = Results(world, journal, fingerprints, kept, redo, metas.inputs_of)
        before = last.failed(compiled) if last is not None else frozenset()
        make = order.planner or Schedule
        schedule: Any = make(
            world, inputs, results, journal, number, self._targets(fingerprints), self.stream, order.settings, before
        )
        for name, found in fingerprints.items():
            for kind, text, mend in found.hints:
                schedule.tellings.told(kind, text, mend, "", name)
        for name in fingerprints:
            step = compiled.units[compiled.steps[name]].step
            if step is not None and step.options.timeout and not step.is_async and order.settings.executor == "inline":
                text = f"{name} has a timeout, and calls in the thread of the run itself (executor='inline') cannot be cut off"
                schedule.tellings.told("no-timeout", text, 'run it with executor="threads" or "processes".', "", name)
            if step is not None and is_redefined(step.function):
                text = f"step {name!r} was redefined since the graph was made, which holds the old one"
                schedule.tellings.told("redefined", text, "make the graph again.", "", name)
        if journal.network is not None:
            text = f"{order.directory} is on a file system of the network ({journal.network}), where locks do not hold for sure"
            schedule.tellings.told("network", text, "name a directory on a local disk (dir=, --dir).")
        if resumed is not None:
            schedule.edited = resumed.edited
            resumed.tell(compiled, schedule.tellings.told)
        schedule.tellings.beside()
        schedule.fingerprint_of = metas.fingerprint_of
        if planning:
            schedule.last = last
            plan = schedule.plan(line)
            journal.close()
            return plan
        row = next(row for row in journal.runs() if row.number == number)
        with order.report(line, schedule) as report:
            self.stream.emit(RunStarted(number, compiled.name, line))
            run = self._drive(journal, row, schedule)
            report(run)
        return run

    def _drive(self, journal: Journal, row: RunRow, schedule: Schedule) -> Run:
        try:
            return self._driven(journal, row, schedule)
        except StorageError as error:
            error.run = self._run(journal, row, schedule, broken=True)
            raise

    def _driven(self, journal: Journal, row: RunRow, schedule: Schedule) -> Run:
        started = time.monotonic()
        finished = schedule.run()
        conflicts, errors = schedule.conflicts.failures()
        ledger = schedule.ledger
        if ledger.counts[COMPUTED] or ledger.counts[FAILED_END]:
            self._tell_altered(schedule)
        if schedule.results.redo is not None:
            for name in sorted(schedule.results.redo.unmet):
                text = f"redo= names {name}, and there was no such node in this run"
                schedule.tellings.told("redo-nothing", text, "name a node as run.nodes or `cpgraph why` has it.", step=name)
        bad = ledger.counts[2] or ledger.counts[3] or conflicts or ledger.part_failures
        status = "interrupted" if not finished else "failed" if bad else "ok"
        end_meta = {
            "hints": [(hint.kind, hint.text, hint.mend, hint.nodes) for hint in schedule.tellings.hints],
            "conflicts": conflicts,
            "relabelled": ledger.relabelled(),
            "failure_order": ledger.failure_order(),
            "items": schedule.item_orders(),
            "counts": ledger.counts,
            "spread": ledger.spread(),
        }
        ledger.errors.update(errors)
        journal.end(row.number, status, dumps(end_meta))
        self.stream.emit(RunEnded(row.number, status, time.monotonic() - started))
        return self._run(journal, row, schedule)

    def _run(self, journal: Journal, row: RunRow, schedule: Schedule, broken: bool = False) -> Run:
        """Give the run as the directory has it; one that the directory broke is over though it has no end."""
        with contextlib.suppress(StorageError):
            row = next(found for found in journal.runs() if found.number == row.number)
        if broken:
            row = row._replace(alive=False)
        memory = Memory(schedule.ledger.memory, schedule.ledger.errors, schedule.ledger.items)
        source: Any = journal
        if self.order.directory is not None:
            source = self.order.directory
            journal.close()
        return Run(source, row, self.compiled.models, memory, drawn=self.order.drawn)

    def _damaged(self, path: str, what: str) -> None:
        self.stream.emit(Damaged(path, what))

    # What is given

    def _redo(self) -> _Redo | None:
        wanted = set()
        steps = self.compiled.steps
        for part in as_tuple(self.order.redo):
            name = part if isinstance(part, str) else step_name(part)
            if name.split("[", 1)[0] not in steps or ("[" in name and not name.endswith("]")):
                raise CpgraphError(
                    f"redo= names {name!r}, and that is no step or node of {self.compiled.name!r}.{nearest(name, steps)}",
                    mend="name a step, or a node such as parse[7].",
                )
            wanted.add(name)
        return _Redo(frozenset(wanted)) if wanted else None

    def _params(self, resumed: Resumed | None) -> dict[str, Parameter]:
        compiled, given = self.compiled, dict(self.order.params)
        for name in given:
            if name not in compiled.parameters:
                hint = nearest(name, compiled.parameters)
                raise CpgraphError(
                    f"parameter {name!r} is given, and nothing in {compiled.name!r} asks for it.{hint}",
                    {"parameters": ", ".join(compiled.parameters) or "none"},
                    "give one of these.",
                )
        if resumed is not None:
            given = {**{name: value for name, value in resumed.params.items() if name in compiled.parameters}, **given}
        lost = resumed.lost if resumed is not None else ()
        missing = sorted({*compiled.required, *lost} - given.keys())
        if missing:
            raise CpgraphError(
                f"parameter {missing[0]!r} has no value",
                {"missing": ", ".join(missing)},
                f'give it: params={{"{missing[0]}": …}}, or --set {missing[0]}=… on the command line.',
            )
        found = {}
        for name, value in given.items():
            annotation = compiled.annotations.get(name, EMPTY)
            value = looked_up(value)
            if annotation is not EMPTY:
                value = convert(value, annotation, f"parameter {name!r}")
            found[name] = _parameter(name, value, False)
        self.given = {name: given[name] if isinstance(given[name], Files) else one.value for name, one in found.items()}
        return found

    def _defaults(self, params: Mapping[str, Parameter]) -> dict[tuple[str, str], Parameter]:
        found = {}
        for unit in self.compiled.units:
            if unit.step is None:
                continue
            for binding in unit.bindings:
                if binding.kind == "param" and binding.name not in params:
                    declared = self.compiled.parameters.get(binding.name, EMPTY)
                    own = binding.default is not EMPTY and binding.name not in self.compiled.declared
                    value = binding.default if own else declared
                    about = {"step": f"{unit.step.name}, {unit.step.where}"} if own else {"declared in": "Graph(params=…)"}
                    found[unit.step.name, binding.name] = _parameter(binding.name, value, True, **about)
        return found

    def _records(self, resumed: Resumed | None) -> tuple[list[State], Any]:
        """Give the initial records, and where they come from: data given, of the run resumed, or the graph's own."""
        models = list(self.compiled.models.values())
        data = self.order.data
        if resumed is not None and data is UNSET:
            if resumed.states is not None:
                return resumed.states(self.compiled.models), resumed.source
            data = resumed.source[1] if resumed.source[0] == "path" else self.order.default_data
        elif data is UNSET or data is None:
            data = self.order.default_data
        states, source = self._loaded(data, models)
        if resumed is not None:
            resumed.compare(states)
        return states, source

    def _loaded(self, data: Any, models: list[type]) -> tuple[list[State], Any]:
        if isinstance(data, Version | Run):
            version = data.history[-1] if isinstance(data, Run) else data
            view = version.view
            return [state for table in view.records.tables.values() for _, state in view.rows(table)], ("records", None)
        loaded = records_data.load(data, models)
        kind = "path" if isinstance(data, str | os.PathLike) else "function" if callable(data) else "records"
        return [State(record) for record in loaded.records], (kind, os.fspath(data) if kind == "path" else None)

    # Code

    def _fingerprints(self) -> dict[str, Fingerprint]:
        fingerprinter = self.fingerprinter = Fingerprinter()
        found = {}
        for unit in self.compiled.units:
            step = unit.step
            if step is None:
                continue
            options = step.options
            found[step.name] = fingerprinter.fingerprint(
                step.function, version=options.version, track=options.track, inputs=self._inputs(unit)
            )
        return found

    def _inputs(self, unit: Unit) -> tuple[type, ...]:
        """Give the classes of the records that a step is given."""
        scopes = self.compiled.scopes
        levels = [binding.level for binding in unit.bindings if binding.kind == "record"]
        models = [scopes[scopes[unit.scope].chain[level - 1]].model for level in levels]
        return tuple(model for model in models if model)

    def _tell_altered(self, schedule: Schedule) -> None:
        """Tell of module state that the run itself altered: it counted as it was when the run began (rule V6)."""
        for name, now in self._fingerprints().items():
            then = schedule.results.fingerprints[name]
            if now.digest == then.digest or schedule.tellings.was_told("file-moved", name):
                continue
            before = {(part.name, part.kind): part.digest for part in then.parts}
            altered = [part.name for part in now.parts if before.get((part.name, part.kind), part.digest) != part.digest]
            if altered:
                schedule.tellings.told(
                    "altered-state",
                    f"{name} uses {', '.join(altered)}, which changed while the run went on: it counts as it was at the start",
                    "return what is found out, or make it a parameter: a step's results are kept under what it reads.",
                    step=name,
                )

    def _targets(self, fingerprints: Mapping[str, Fingerprint]) -> dict[int, Target]:
        found = {}
        for unit in self.compiled.units:
            step = unit.step
            if step is None:
                continue
            found[unit.index] = Target(
                step.name,
                step.function,
                tuple(parameter.name for parameter in step.parameters if not parameter.keyword),
                tuple(parameter.name for parameter in step.parameters if parameter.keyword),
                step.is_async,
                step.options.sets,
                tuple(index for index, binding in enumerate(unit.bindings) if binding.kind == "stream"),
                fingerprints[step.name].digest,
                step.where,
                step.options.version,
                step.options.track,
                self._inputs(unit),
                frozenset(part.digest for part in fingerprints[step.name].parts),
                step.options.timeout,
            )
        return found

    # What is kept

    def _meta(
        self,
        journal: Journal,
        states: Sequence[State],
        source: Any,
        params: Mapping[str, Parameter],
        fingerprints: Mapping[str, Fingerprint],
        resumed: Resumed | None,
        redo: _Redo | None,
        write: bool,
    ) -> dict[str, Any]:
        compiled = self.compiled
        steps = {}
        for unit in compiled.units:
            step = unit.step
            if step is None:
                continue
            found = fingerprints[step.name]
            parts = [(part.name, part.kind, part.digest, part.file, part.line, part.text) for part in found.parts]
            steps[unit.index] = {
                "name": step.name,
                "unit": unit.index,
                "scope": unit.scope,
                "sets": step.options.sets,
                "fingerprint": found.digest.hex(),
                "inputs": tuple(binding.name for binding in unit.bindings if binding.kind not in ("store", "stream")),
                "where": step.where,
                "parts": journal.put_blob(dumps(parts)) if write else b"",
            }
        return {
            "graph": compiled.name,
            "kind": "resume" if self.order.resumes else "run",
            "resumed": resumed.number if resumed is not None else None,
            "redo": sorted(redo.wanted) if redo is not None else [],
            "steps": steps,
            "adopted": resumed.adopted if resumed is not None else {},
            "units": {unit.index: unit.name for unit in compiled.units if unit.kind != STEP},
            "scopes": [
                {
                    "index": scope.index,
                    "chain": scope.chain,
                    "model": scope.model.__name__ if scope.model else None,
                    "item": scope.item,
                    "position": scope.place.start if scope.place.start is not None else -1,
                }
                for scope in compiled.scopes
            ],
            "models": {name: qualified_name(model) for name, model in compiled.models.items()},
            "params": journal.put_blob(dumps(self.given)) if write and self.given else None,
            "chunks": list(self._chunks(journal, states)) if write else [],
            "source": source,
            "pid": os.getpid(),
            "thread": threading.current_thread().name,
        }

    def _chunks(self, journal: Journal, states: Sequence[State]) -> Iterable[bytes]:
        fields: dict[type, tuple[list[str], Callable[[Any], tuple[Any, ...]]]] = {}
        for start in range(0, len(states), CHUNK):
            rows = []
            for state in states[start : start + CHUNK]:
                kind = type(state.record)
                if kind not in fields:
                    names = [field.name for field in attrs.fields(kind)]
                    fields[kind] = names, attrgetter(*names, "id")  # of two names or more: gives a tuple
                names, values = fields[kind]
                rows.append((kind.__name__, dict(zip(names, values(state.record), strict=False))))
            try:
                packed = dumps(rows)
            except Unpicklable as error:
                mend = "give plain values, or what they are made of."
                raise DataError("some data cannot be kept", _misfits(rows), mend) from error
            yield journal.put_blob(packed)

    def _first_line(self, journal: Journal, last: Any, resumed: Resumed | None, fingerprints: Mapping[str, Fingerprint]) -> str:
        where = (
            f"results are kept in {self.order.directory}{os.sep}"
            if self.order.directory is not None
            else "results are kept in memory"
        )
        if resumed is not None:
            return f"resume {self.compiled.name}: {resumed.text}; {where}"
        text = f"run {self.compiled.name}: {where}"
        if self.compiled.models and self.order.data in (None, UNSET) and self.order.default_data is None:
            text += "; no data given: it begins without records"
            if last is not None and last.meta["chunks"]:  # run remembers results, resume remembers everything
                text += f" (resume would go on with those of run {last.row.number})"
        if last is not None:
            now = {name: found.digest.hex() for name, found in fingerprints.items()}
            count, seconds = last.computed_by_run(now, _Metas(journal).fingerprint_of)
            if count:
                what, they, them = ("result", "is", "it") if count == 1 else ("results", "are", "them")
                text += f"; {count:,} {what} of run {last.row.number} {they} of other code and {they} computed now"
                text += f" (about {duration(seconds)}): resume would keep {them}"
        return text


def _misfits(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Name the fields of records that do not pickle."""
    for model, fields in rows:
        for name, value in fields.items():
            try:
                dumps(value)
            except Unpicklable as error:
                yield f"{model} {fields['id']!r}, field {name!r}: {error.type} does not pickle"


def _parameter(name: str, value: Any, default: bool, **about: object) -> Parameter:
    """Make a parameter of its value; raises what says which one has a value without a digest."""
    try:
        return Parameter.of(value, default)
    except Unreadable:
        raise
    except Undigestible as error:
        what = f"the {'default' if default else 'value'} of parameter {name!r} cannot be digested"
        mend = "give what it is made of: numbers, text, lists, dicts; or look for it in the step."
        raise CpgraphError(what, {**about, **error.facts}, mend) from error


class _Redo:
    """Which nodes are to be computed again, by step or id. `unmet`: what was named and has not turned up."""

    def __init__(self, wanted: frozenset[str]) -> None:
        self.wanted = wanted
        self.unmet = set(wanted)

    def __call__(self, *names: str) -> bool:
        met = self.wanted & {*names}
        self.unmet -= met
        return bool(met)


class _Metas:
    """The metas of all runs of a directory, read when first asked for."""

    def __init__(self, journal: Journal, own: Mapping[int, dict[str, Any]] = MappingProxyType({})) -> None:
        self._journal = journal
        self._own = own
        self._metas = dict(own)

    def _step(self, run: int, unit: int) -> Mapping[str, Any]:
        if run not in self._metas:
            self._metas = {row.number: loads_plain(row.meta) for row in self._journal.runs() if row.meta is not None}
            self._metas.update(self._own)
        meta = self._metas.get(run, {})
        found: Mapping[str, Any] = meta.get("steps", {}).get(unit) or meta.get("adopted", {}).get(unit) or {}
        return found

    def inputs_of(self, run: int, unit: int, step: str, inputs: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """Give the names of the inputs of what made a result; where that was another step's equal work, those of `step`."""
        maker = self._step(run, unit)
        return maker.get("inputs") if maker.get("name", step) == step else inputs

    def fingerprint_of(self, run: int, unit: int) -> str:
        return str(self._step(run, unit).get("fingerprint", ""))
