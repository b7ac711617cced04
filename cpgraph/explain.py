"""Why a node ran, or did not: from what was recorded at the time."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

import attrs

from cpgraph.contents import files_in
from cpgraph.gates import said
from cpgraph.lines import Entry, Line
from cpgraph.models import File
from cpgraph.nodes import node_id, twin_of
from cpgraph.pickles import loads_plain
from cpgraph.results import Head
from cpgraph.times import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["compare", "differing_parts", "how_failed", "returned_files", "why"]


def why(run: Any, step: str, key: tuple[Any, ...]) -> str:
    """Say in a sentence with facts why a node of a run ended as it did."""
    line = run.line
    index = line.by_step[step].get(key)
    node = node_id(step, key)
    if index is None:
        return f"{node} is not a node of run {run.number}."
    entry = line.entry(index)
    if entry.ended == "failed":
        return how_failed(node, run.number, run.failure_meta(entry))
    if entry.ended == "blocked":
        return f"{node} was blocked{_behind(run, entry)}."
    if entry.ended == "closed":
        return f"{node} was closed: {entry.extra.get('reason', 'what is before it did not succeed')}."
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
    reasons = ["it was asked to (redo)"] if _is_redone(run, step, key) else []
    before = _before(run, step, key)
    if before is not None:
        reasons += _reasons(run, line.steps[entry.unit], head, before)
        return f"{node} ran: {'; '.join(reasons) or _lost(before)}."
    return f"{node} ran: {'; '.join(reasons) or 'there was no result for it yet'}."


def how_failed(node: str, run: int, kept: Mapping[str, Any]) -> str:
    """Say how something failed, from what is kept of it: a sentence with the first line of the text, then the others."""
    first, newline, rest = _text(kept).partition("\n")
    tried = f", after {kept['attempts']} attempts" if kept["attempts"] > 1 else ""
    return f"{node} failed in run {run}: {first} ({kept['place'] or 'in no line of your code'}{tried}).{newline}{rest}"


def _text(kept: Mapping[str, Any]) -> str:
    return f"{kept['type']}: {kept['text']}" if kept["text"] else str(kept["type"])


OPENING: Final = re.compile(r"(?:the guard|open=?|each=?) of (.+?)(?: raised)?")


def _behind(run: Any, entry: Entry) -> str:
    """Name the failure that a node was blocked by, with its error, and how many like it there are before the node."""
    line, reason = run.line, entry.extra.get("reason", "what is before it did not succeed")
    opening = OPENING.fullmatch(reason)
    names = {f"open of {opening[1]}", f"each of {opening[1]}"} if opening else {reason.partition("[")[0]}
    units = {**run.meta.get("units", {}), **{unit: step.name for unit, step in line.steps.items()}}
    alike = [other for other in line.failed() if units.get(other.unit) in names and _share(line, entry, other)]
    nodes = [node_id(units[other.unit], other.key) for other in alike]
    if not alike or not (opening or reason in nodes):
        return f": {reason}"
    place = nodes.index(reason) if reason in nodes else 0
    said = f"{nodes[place]}: {_text(run.failure_meta(alike[place])).partition(chr(10))[0]}"
    return (
        f" behind {len(alike):,} failures of {units[alike[place].unit]}, such as {said}" if len(alike) > 1 else f" behind {said}"
    )


def _share(line: Line, one: Entry, other: Entry) -> bool:
    """Tell whether two entries have the same ids in every `each` that holds both."""
    level = min(len(one.key), len(other.key))
    if one.unit in line.steps and other.unit in line.steps:
        chains = zip(*(line.scopes[line.steps[entry.unit].scope].chain for entry in (one, other)), strict=False)
        level = next((place for place, (mine, theirs) in enumerate(chains) if mine != theirs), level)
    return one.key[:level] == other.key[:level]


def _reasons(run: Any, step: Any, head: Head, before: _Before) -> list[str]:
    old = before.head
    if old is None:
        return [f"in run {before.run.number} it did not succeed"]
    reasons = []
    maker = run.fingerprint_of(old.run, old.unit)
    if maker != step.fingerprint:
        reasons.append(f"its code is other than in run {old.run}: {', '.join(differing_parts(run, step, old)) or 'other code'}")
    reasons.extend(compare(step.inputs, head.parts, run.inputs_of(old.run, old.unit, before.step) or (), old.parts))
    if old.reads is not None and head.reads is not None:
        theirs = dict(_hashable(old.reads))
        for query, answer in head.reads:
            known = theirs.get(str(query))
            if known is not None and known != answer:
                reasons.append(f"{said(query)} has another answer")
                break
    return reasons


def _lost(before: _Before) -> str:
    """Say why a result did not serve that was made by the same code of the same inputs."""
    if before.head is not None and before.head.has_files:
        names = ", ".join(file.path for file in returned_files(before.run.line, before.result))
        return f"a file that it had returned was gone, or was another{f' ({names})' if names else ''}"
    return "its result was not in the cache"


def returned_files(line: Line, result: int) -> list[File]:
    """Give the files that the value of a result holds, as far as they can be found without the user's classes."""
    try:
        return files_in(line.value(result))
    except Exception:  # it is not there any more, or is of something that only the user's code can read
        return []


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


def _is_redone(run: Any, step: str, key: tuple[Any, ...]) -> bool:
    """Tell whether a node was to be computed whatever there was; `f[3]` is f["3"] where there is no other f[3] (rule N3)."""
    names, node = run.meta.get("redo", ()), node_id(step, key)
    if step in names or node in names:
        return True
    twin = tuple(map(twin_of, key))
    return node.replace('"', "") in names and (twin == key or twin not in run.line.by_step[step])


@attrs.frozen
class _Before:
    """What a node had in an earlier run, which is open as long as this is held; no head if it failed there."""

    run: Any
    step: Any
    result: int
    head: Head | None


def _before(run: Any, step: str, key: tuple[Any, ...]) -> _Before | None:
    """Find the same node in the runs of this graph before."""
    for earlier in reversed(run.earlier()):
        line = earlier.line
        index = line.by_step.get(step, {}).get(key)
        if index is None:
            continue
        entry = line.entry(index)
        if entry.ended in ("computed", "cached"):
            return _Before(earlier, line.steps[entry.unit], entry.result, line.heads([entry]).get(entry.result))
        if entry.ended == "failed":
            return _Before(earlier, line.steps[entry.unit], 0, None)
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
