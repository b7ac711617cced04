"""Why a node ran, or did not: from what was recorded at the time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cpgraph.gates import said
from cpgraph.nodes import node_id
from cpgraph.pickles import loads_plain
from cpgraph.results import Head
from cpgraph.times import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["compare", "differing_parts", "why"]


def why(run: Any, step: str, key: tuple[Any, ...]) -> str:
    """Say in a sentence with facts why a node of a run ended as it did."""
    line = run.line
    index = line.by_step[step].get(key)
    node = node_id(step, key)
    if index is None:
        return f"{node} is not a node of run {run.number}."
    entry = line.entry(index)
    if entry.ended == "failed":
        kept = run.failure_meta(entry)
        where = kept["place"] or "no place in your code"
        return f"{node} failed in run {run.number}: {kept['type']}: {kept['text']} ({where}; attempts: {kept['attempts']})."
    if entry.ended in ("blocked", "closed"):
        return f"{node} was {entry.ended}: {entry.extra.get('reason', 'what is before it did not succeed')}."
    head = line.heads([entry]).get(entry.result)
    if head is None:
        return f"{node} was {entry.ended}; its result is not there any more."
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(head.started))
    made = f"made by run {head.run} at {when} in {duration(head.seconds)}"
    if entry.ended == "cached":
        fingerprint = run.fingerprint_of(head.run, head.unit)
        mine = line.steps[entry.unit].fingerprint
        if fingerprint != mine:
            codes = f"its result is of code {fingerprint[:8]}, {made}; the code is now {mine[:8]}"
            return f"{node} was kept as it was: {codes}. `run` would compute it."
        return f"{node} did not run: code, inputs and what it read are as they were when its result was {made}."
    before = _before(run, step, key)
    if before is None:
        return f"{node} ran: there was no result for it yet."
    old, old_step, number = before
    return f"{node} ran: " + "; ".join(_reasons(run, line.steps[entry.unit], head, old, old_step, number)) + "."


def _reasons(run: Any, step: Any, head: Head, old: Head | None, old_step: Any, number: int) -> list[str]:
    if old is None:
        return [f"in run {number} it did not succeed"]
    reasons = []
    maker = run.fingerprint_of(old.run, old.unit)
    if maker != step.fingerprint:
        reasons.append(f"its code is other than in run {old.run}: {', '.join(differing_parts(run, step, old)) or 'other code'}")
    reasons.extend(compare(step.inputs, head.parts, run.inputs_of(old.run, old.unit, old_step) or (), old.parts))
    if old.reads is not None and head.reads is not None:
        theirs = dict(_hashable(old.reads))
        for query, answer in head.reads:
            known = theirs.get(str(query))
            if known is not None and known != answer:
                reasons.append(f"{said(query)} has another answer")
                break
    return reasons or ["it was asked to (redo), or its result was not in the cache any more"]


def _hashable(reads: Any) -> list[tuple[str, bytes]]:
    return [(str(query), answer) for query, answer in reads]


def compare(names: tuple[str, ...], parts: bytes, old_names: tuple[str, ...], old_parts: bytes) -> list[str]:
    """Say which inputs differ.

    >>> compare(("a", "b"), b"1" * 8 + b"2" * 8, ("a",), b"3" * 8)
    ["its input 'a' is another", "its input 'b' is new"]
    """
    old = {name: old_parts[8 * n : 8 * n + 8] for n, name in enumerate(old_names)}
    code, old_code = parts[8 * len(names) :], old_parts[8 * len(old_names) :]
    found = []
    for n, name in enumerate(names):
        if name not in old:
            found.append(f"its input {name!r} is new")
        elif old[name] != parts[8 * n : 8 * n + 8]:
            found.append(f"its input {name!r} is another")
    found.extend(f"its input {name!r} is gone" for name in old if name not in names)
    if code != old_code and not found:
        found.append("the code of a class or function that it is given is another")
    return found


def _before(run: Any, step: str, key: tuple[Any, ...]) -> tuple[Head | None, Any, int] | None:
    """Find the same node in the runs of this graph before."""
    for earlier in reversed(run.earlier()):
        line = earlier.line
        index = line.by_step.get(step, {}).get(key)
        if index is None:
            continue
        entry = line.entry(index)
        old_step = line.steps[entry.unit]
        if entry.ended in ("computed", "cached"):
            return line.heads([entry]).get(entry.result), old_step, earlier.number
        if entry.ended == "failed":
            return None, old_step, earlier.number
    return None


def differing_parts(run: Any, step: Any, old: Head) -> list[str]:
    """Name the functions, classes and constants of a step's code that differ from what made a result."""
    now = _parts(run, step.parts)
    then = _parts(run, run.parts_of(old.run, old.unit))
    if not now or not then:
        return []
    changed = [
        f"{name} ({where})" if where else name
        for name, (digest, where) in now.items()
        if name in then and then[name][0] != digest
    ]
    changed += [f"{name} is new" for name in now if name not in then]
    return changed + [f"{name} is gone" for name in then if name not in now]


def _parts(run: Any, address: bytes) -> Mapping[str, tuple[bytes, str]]:
    body = run.blob(address) if address else None
    if body is None:
        return {}
    return {name: (digest, f"{file}:{line}" if file else "") for name, _, digest, file, line, _ in loads_plain(body)}
