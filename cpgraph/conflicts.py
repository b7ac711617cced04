"""Making failures of conflicts, once a run has ended (rule C2): one per field and part, naming the first two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cpgraph.errors import ConflictError
from cpgraph.nodes import node_id
from cpgraph.ranks import node_key

if TYPE_CHECKING:
    from cpgraph.schedule import Schedule

__all__ = ["conflict_failures"]


def conflict_failures(schedule: Schedule) -> tuple[list[dict[str, Any]], dict[str, BaseException]]:
    """Give the failures of a run's conflicts as they are kept, and their errors."""
    kept: list[dict[str, Any]] = []
    errors: dict[str, BaseException] = {}
    units = schedule.compiled.units
    for (place, _, model, id, field), met in schedule.conflicts.items():
        nodes = {(conflict.unit, conflict.instance.key): (conflict.unit, conflict.instance.chain) for conflict in met}
        nodes.update(
            {
                (conflict.other_unit, conflict.other_instance.key): (conflict.other_unit, conflict.other_instance.chain)
                for conflict in met
            }
        )
        ordered = sorted(nodes, key=lambda about: node_key(nodes[about]))
        names = [node_id(units[unit].name, key) for unit, key in ordered]
        first, later = names[0], names[1]
        what = {"*": "deletes or writes", "id": "creates, with other content,"}.get(field, f"writes {field!r} of")
        step = units[ordered[1][0]].step
        part = schedule.compiled.places[place].name or "the graph"
        error = ConflictError(
            f"{later} {what} {model} {id!r}, and so does {first}; neither is before the other",
            {
                "first in graph order": f"{first} (its write stands)",
                "later": later,
                "part": part,
                "nodes in all": len(names),
            },
            "put one after the other (after=…, or name its step), or let each write a field of its own.",
        )
        about = f"{later} {model} {id!r} {field} {place} {len(kept)}"
        errors[about] = error
        kept.append(
            {
                "node": later, "error_id": about, "step": units[ordered[1][0]].name, "type": "ConflictError", "text": str(error),
                "traceback": "", "place": step.where if step is not None else "", "attempts": 1,
                "started": 0.0, "seconds": 0.0,
            }
        )  # fmt: skip
    return kept, errors
