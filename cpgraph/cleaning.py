"""What `gc` keeps: the results of the runs that are kept, and what is needed to go on from them.

A result names the run that made it, whose meta has its fingerprint and inputs; without it `resume` could not tell whether a
result still serves. So of a run that is not kept, but made results that are, the meta stays; all else of it goes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from cpgraph.journal import Freed, Journal, RunRow
from cpgraph.lines import Line
from cpgraph.pickles import dumps, loads_plain

__all__ = ["Cleaned", "clean"]

DAYS: Final = 30


@attrs.frozen
class Cleaned:
    """What was removed, and which runs were kept. `going`: runs because of which nothing was removed."""

    kept: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    going: tuple[int, ...] = ()
    freed: Freed = attrs.field(factory=Freed)


def clean(directory: str | os.PathLike[str], keep: int | None = None, now: float | None = None) -> Cleaned | None:
    """Remove what no kept run needs; gives None where nothing has run.

    Kept are the last `keep` runs of each graph, or those of the last 30 days; always the last run of each graph, and what a
    `resume` of it would go back to.
    """
    with Journal(directory, writable=False) as reader:
        if reader.empty:
            return None
    with Journal(Path(directory)) as journal:
        generation = journal.generation
        rows = journal.runs()
        going = tuple(row.number for row in rows if row.alive)
        if going:
            return Cleaned(going=going)
        kept = _kept([row for row in rows if row.graph and row.meta is not None], keep, time.time() if now is None else now)
        metas = {row.number: loads_plain(row.meta) for row in rows if row.meta is not None}
        results: set[int] = set()
        makers: set[int] = set()
        for row in rows:
            if row.number in kept and row.meta is not None:
                line = Line.read(journal, row.number, row.meta, plain=True)
                results |= line.results
                makers.update(head.run for head in line.heads(iter(line)).values())
        blobs: set[bytes] = set()
        for number in kept | makers:
            blobs |= _blobs(metas.get(number, {}), whole=number in kept)
        removed = journal.delete(row.number for row in rows if row.number not in kept and row.number not in makers)
        stripped = [row.number for row in rows if row.graph and row.number in makers - kept]
        for number in stripped:
            journal.strip(number, dumps({**metas[number], "chunks": [], "params": None}))
        gone = {row.number for row in rows if row.graph and row.number in {*removed, *stripped}}
        return Cleaned(tuple(sorted(kept)), tuple(sorted(gone)), (), journal.gc(results, blobs, generation))


def _kept(rows: Sequence[RunRow], keep: int | None, now: float) -> set[int]:
    """Choose runs: those asked for, the last of each graph, and what that one resumed and did not come to."""
    kept: set[int] = set()
    by_number = {row.number: row for row in rows}
    for graph in {row.graph for row in rows}:
        mine = [row for row in rows if row.graph == graph]
        if keep is None:
            kept.update(row.number for row in mine if row.started >= now - DAYS * 86_400)
        else:
            kept.update(row.number for row in mine[len(mine) - keep :] if keep)
        kept.update(_needed(mine, by_number))
    return kept


def _needed(rows: Sequence[RunRow], by_number: dict[int, RunRow]) -> Iterable[int]:
    """Give the last run that has ended, those after it that were killed, and the chain of resumes it goes back along."""
    for row in reversed(rows):
        chain: RunRow | None = row
        while chain is not None and chain.meta is not None:
            yield chain.number
            meta: dict[str, Any] = loads_plain(chain.meta)
            cut = meta["kind"] == "resume" and chain.status in (None, "interrupted")
            chain = by_number.get(meta["resumed"]) if cut and meta["resumed"] else None
        if row.status is not None:
            return


def _blobs(meta: dict[str, Any], whole: bool) -> set[bytes]:
    """Give the addresses of the bodies that a run's meta names."""
    found = {step["parts"] for step in (*meta.get("steps", {}).values(), *meta.get("adopted", {}).values())}
    if whole:
        found |= {*meta.get("chunks", ()), meta.get("params")}
    return {address for address in found if address}
