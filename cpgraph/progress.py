"""Reporting a run to people, on stderr: its first line, its progress if that is a terminal, and its summary (rules R8, O1)."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TextIO

from cpgraph.results import ENDINGS
from cpgraph.runs import Run
from cpgraph.schedule import Schedule
from cpgraph.screen import Row, Screen, is_terminal
from cpgraph.structure import Place, Unit
from cpgraph.summary import Origin, Outcomes, summary
from cpgraph.times import duration

__all__ = ["Reporter", "origin_of"]

COLOURS: Final = {"ok": "32", "failed": "31", "interrupted": "33"}


class Reporter:
    """Prints what is to be said of a run; call it with the first line and the schedule, as `launch` does."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin

    @contextlib.contextmanager
    def __call__(self, line: str, schedule: Schedule) -> Iterator[Callable[[Run], None]]:
        stderr = sys.stderr
        if _inside_a_step():
            yield lambda run: None  # what comes of it is the step's to say
            return
        say(stderr, line)
        screen = Screen(Watch(schedule), stderr) if stderr is not None and is_terminal(stderr) else None

        def ended(run: Run) -> None:
            if screen is not None:
                screen.close()
            for text in summary(run, outcomes(schedule), self.origin):
                say(stderr, text, COLOURS[run.status] if text.startswith(f"{run.status}:") else "")

        me = threading.get_ident()
        _driving.add(me)
        if screen is not None:
            screen.open()
        try:
            yield ended
        finally:
            _driving.discard(me)
            if screen is not None:
                screen.close()


def say(stream: TextIO | None, text: str, colour: str = "") -> None:
    """Print a line; one that is a headline says whose it is. A closed stream is nobody's failure."""
    with contextlib.suppress(OSError, ValueError):
        if colour and is_terminal(stream) and not os.environ.get("NO_COLOR") and os.name == "posix":
            word, colon, rest = text.partition(":")
            text = f"\x1b[1;{colour}m{word}\x1b[0m{colon}{rest}"
        print(text if text.startswith(" ") else f"cpgraph: {text}", file=stream, flush=True)


_driving: Final[set[int]] = set()  # threads in which a run goes on


def _inside_a_step() -> bool:
    """Tell whether this run was started by a step of another one."""
    return threading.get_ident() in _driving or threading.current_thread().name.startswith("cpgraph-")


# What is looked at while the run goes on


class Watch:
    """What can be seen of a schedule from another thread: counts that it keeps anyway."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._began = time.monotonic()
        units = [unit for unit in schedule.compiled.units if unit.step is not None]
        self._units: list[tuple[Unit, str]] = []
        for _, group in groupby(units, key=lambda unit: unit.place.parent):
            part = list(group)
            self._units += [(unit, _part_name(part)) for unit in part]

    def rows(self) -> list[Row]:
        schedule = self._schedule
        found = []
        for unit, part in self._units:
            ended = list(schedule.ledger.tally[unit.index])
            total: int | None = 1
            if unit.scope:
                fans = list(schedule.flow.open_fans[unit.scope])
                total = max(sum(len(fan.instances) for fan in fans), sum(ended)) if fans else None
            counts = {end: count for end, count in zip(ENDINGS, ended, strict=True) if count}
            found.append(Row(unit.name, sum(ended), total, counts, part))
        return found

    def foot(self) -> str:
        schedule = self._schedule
        if schedule.stopping:
            return "stopping: what runs comes to its end (Ctrl-C again leaves it behind)"
        lanes = list(schedule.handout.lanes.values())
        busy = sum(min(lane.busy, lane.executor.width) for lane in lanes)
        return f"{duration(time.monotonic() - self._began)}, {busy:,} at work"


def _part_name(units: list[Unit]) -> str:
    """Say what steps that stand together are called, when there are too many for a row of each."""
    around = units[0].place.parent
    if len(units) == 1:
        return units[0].name
    return around.name if around is not None and around.name else f"{units[0].name} to {units[-1].name}"


def outcomes(schedule: Schedule) -> Outcomes:
    """Gather how the nodes of a run ended."""
    units = [unit for unit in schedule.compiled.units if unit.step is not None]
    failed = ENDINGS.index("failed")
    skipped: dict[str, int] = {}
    for unit in units:
        count = schedule.ledger.tally[unit.index][failed]
        around = next((place for place in unit.place.around() if place.skips), None)
        if count and around is not None:
            name = (around.pipeline.name if around.pipeline is not None else None) or _unnamed(around, schedule)
            skipped[name] = skipped.get(name, 0) + count
    steps = {unit.name: schedule.ledger.tally[unit.index] for unit in units}
    return Outcomes(steps, skipped, schedule.tellings.hints, schedule.journal.damaged)


def _unnamed(place: Place, schedule: Schedule) -> str:
    """Say which pipeline it is that has no name, by what is in it."""
    units = schedule.compiled.units
    names = [units[index].name for index in place.units() if units[index].step is not None]
    return f"the pipeline of {names[0]}" if len(names) == 1 else f"the pipeline from {names[0]} to {names[-1]}"


# Where a script's run comes from


def origin_of(graph: object, directory: Path | None, dir_given: bool, params: Mapping[str, Any]) -> Origin:
    """Find out how a run that a script started is to be gone on from: by which command, and by which call."""
    main = sys.modules.get("__main__")
    names = [name for name, value in vars(main).items() if value is graph] if main is not None else []
    file = getattr(main, "__file__", None)
    spec = getattr(main, "__spec__", None)  # of `python -m shop.orders`
    target = ""
    if names and file and Path(file).suffix == ".py":
        graphs = {id(value) for value in vars(main).values() if type(value) is type(graph)}
        with contextlib.suppress(ValueError, OSError):  # another drive; no working directory
            file = min(file, os.path.relpath(file), key=len)
        source = file if spec is None else spec.name
        target = source if len(graphs) == 1 else f"{source}:{names[0]}"
    given: list[str] = []
    arguments: list[str] = []
    if dir_given and directory is not None:
        given += ["--dir", str(directory)]
        arguments.append(f"dir={str(directory)!r}")
    texts = {name: text for name, value in params.items() if (text := _as_text(value)) is not None}
    if texts:
        given += [part for name, text in texts.items() for part in ("--set", f"{name}={text}")]
        plain = {name: params[name] for name in texts}
        arguments.append(f"params={plain!r}")
    where = None if directory is None else str(directory)
    return Origin(target, names[0] if names else "graph", tuple(given), tuple(arguments), where)


def _as_text(value: object) -> str | None:
    """Write a parameter as it is given on the command line; None for what is not given there."""
    if type(value) not in (str, int, float, bool):
        return None
    try:
        return str(value).lower() if isinstance(value, bool) else str(value)
    except ValueError:  # an int of more digits than Python writes
        return None
