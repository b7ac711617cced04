"""`python -m bench`: measure everything, print a table and write a JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.figures import FIGURES, FULL, QUICK, Measured, Sizes

COLUMNS = ("figure", "measured", "", "floor", "ratio", "goal", "2x goal", "within?")
WORDS = (0, 2, 7)  # the columns that are no numbers


def measure(names: Iterable[str], sizes: Sizes, rounds: int, directory: str | None = None) -> list[dict[str, Any]]:
    """Measure figures in rounds, every store in a new directory; gives one row for each, of medians."""
    found: dict[str, list[Measured]] = {}
    for number in range(1, rounds + 1):
        for name in names:
            print(f"round {number} of {rounds}: {name}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as place:
                for figure in FIGURES[name](place, sizes):
                    found.setdefault(figure.figure, []).append(figure)
    return [row(figures) for figures in found.values()]


def row(figures: Sequence[Measured]) -> dict[str, Any]:
    """Put the rounds of one figure together; floor and ratio are those of each round, so that a busy one does little harm."""
    first = figures[0]
    ratio = median(figure.ratio for figure in figures)
    return {
        "figure": first.figure,
        "measured": median(figure.value for figure in figures),
        "unit": first.unit,
        "floor": median(figure.floor for figure in figures),
        "ratio": ratio,
        "goal": first.goal,
        "within": "goal" if ratio <= first.goal else "2x goal" if ratio <= 2 * first.goal else "no",
        "rounds": [{"measured": figure.value, "floor": figure.floor} for figure in figures],
    }


def table(rows: Iterable[dict[str, Any]]) -> str:
    lines = [COLUMNS]
    for found in rows:
        alone = found["floor"] == 1  # then the goal is for the figure itself
        ratio, floor = ("", "") if alone else (f"{found['ratio']:.2f}", f"{found['floor']:.4g}")
        goals = f"{found['goal']:g}", f"{2 * found['goal']:g}"
        lines.append((found["figure"], f"{found['measured']:.4g}", found["unit"], floor, ratio, *goals, found["within"]))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(line, widths) for line in lines)


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    cells = zip(texts, widths, strict=True)
    return "  ".join(text.ljust(width) if at in WORDS else text.rjust(width) for at, (text, width) in enumerate(cells)).rstrip()


def load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What a node costs, beside what it could cost.")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), metavar="FILE", help="where to write the JSON file")
    parser.add_argument("--rounds", type=int, default=3, help="how often; the medians are shown")
    parser.add_argument("--only", action="append", choices=FIGURES, metavar="NAME", help=f"one of: {', '.join(FIGURES)}")
    parser.add_argument("--quick", action="store_true", help="so small that it takes seconds: shows that it works, and no more")
    parser.add_argument("--dir", help="where to make stores, if not in the system's temporary directory")
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error("--rounds takes a number above 0")
    before = load()
    rows = measure(given.only or FIGURES, QUICK if given.quick else FULL, given.rounds, given.dir)
    found = {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "load": [before, load()],
        "rounds": given.rounds,
        "quick": given.quick,
        "figures": rows,
    }
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(rows))
    print(f"Python {found['python']}, {found['machine']}, load {before} to {load()}; {given.rounds} rounds, medians; {given.out}")


if __name__ == "__main__":
    main()
