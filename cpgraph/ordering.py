"""The order of a graph's units: what is before what, cycles, and fields that two steps side by side would set."""

from __future__ import annotations

from collections.abc import Sequence

from cpgraph.errors import CompileError
from cpgraph.structure import STEP, Scope, Unit

__all__ = ["check_sets", "closure", "sort_units"]


def sort_units(units: Sequence[Unit]) -> list[int]:
    """Give the units in an order in which each comes after what it waits for; raises `CompileError` with a cycle."""
    waiting = [len(unit.into) for unit in units]
    ready = [unit.index for unit in units if not waiting[unit.index]]
    order: list[int] = []
    while ready:
        unit = ready.pop()
        order.append(unit)
        for edge in units[unit].out:
            waiting[edge.target] -= 1
            if not waiting[edge.target]:
                ready.append(edge.target)
    if len(order) < len(units):
        _raise_cycle(units, {unit for unit, count in enumerate(waiting) if count})
    return order


def _raise_cycle(units: Sequence[Unit], stuck: set[int]) -> None:
    from graphlib import CycleError, TopologicalSorter

    graph = {unit: [edge.source for edge in units[unit].into if edge.source in stuck] for unit in sorted(stuck)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = [units[unit] for unit in error.args[1][:-1]]  # the last is the first
        names = [unit.name for unit in cycle if unit.kind == STEP] or [unit.name for unit in cycle]
        facts = {unit.name: unit.step.where if unit.step else unit.place.where for unit in cycle if unit.kind == STEP}
        raise CompileError(
            f"steps wait for each other: {' → '.join([*names, names[0]])}"
            if len(set(names)) > 1
            else f"step {names[0]!r} waits for itself",
            facts,
            "naming a step is waiting for it, and a pipeline runs its parts in order: take one of these waits away.",
        ) from None


def closure(units: Sequence[Unit], order: Sequence[int]) -> list[int]:
    """Give for each unit, as bits, those with a path to it."""
    before = [0] * len(units)
    for unit in order:
        bits = 0
        for edge in units[unit].into:
            bits |= before[edge.source] | 1 << edge.source
        before[unit] = bits
    return before


def check_sets(units: Sequence[Unit], scopes: Sequence[Scope], before: Sequence[int]) -> None:
    """Refuse two steps side by side that set one field of one record, neither before the other (rule C2).

    Where one of them stands under an `open=` of its own, they may be the two branches of an if: then the run tells.
    """
    setters: dict[tuple[int, str], list[Unit]] = {}
    for unit in units:
        if unit.step is not None and unit.step.options.sets:
            level = next((s for s in reversed(scopes[unit.scope].chain) if scopes[s].model is not None), 0)
            setters.setdefault((level, unit.step.options.sets), []).append(unit)
    for (_, field), setting in setters.items():
        for n, one in enumerate(setting):
            for other in setting[n + 1 :]:
                if before[other.index] >> one.index & 1 or before[one.index] >> other.index & 1:
                    continue
                if not (_opened_apart(one, other) or _opened_apart(other, one)):
                    assert one.step is not None and other.step is not None
                    both = f"steps {one.step.name!r} and {other.step.name!r}"
                    raise CompileError(
                        f"{both} both set {field!r}, and neither is before the other",
                        {one.step.name: one.step.where, other.step.name: other.step.where},
                        "put one after the other, or let each set a field of its own.",
                    )


def _opened_apart(one: Unit, other: Unit) -> bool:
    """Tell whether a unit stands under an `open=` that does not hold the other one as well."""
    around = {place.index for place in other.place.around()}
    return any(
        place.pipeline is not None and place.pipeline.open is not None and place.index not in around
        for place in one.place.around()
    )
