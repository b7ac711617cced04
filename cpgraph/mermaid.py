"""Pictures as Mermaid flowcharts: text that GitHub, notebooks and many editors draw by themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from cpgraph.drawing import BOXES, FRAME, INK, LOOKS, RED, Part, Picture, draw
from cpgraph.runs import Run
from cpgraph.structure import Compiled

__all__ = ["flowchart"]

LETTERS, ARROWS = 50_000, 500  # more than this Mermaid refuses, unless the page it is on says otherwise
WIDE: Final = str.maketrans("&<>", "\uff06\uff1c\uff1e")  # the wide forms, for titles, in which there are no entities
DASHES: Final = {"dashed": ",stroke-dasharray:5 4", "dotted": ",stroke-dasharray:2 3"}


def flowchart(compiled: Compiled, run: Run | None = None) -> str:
    """Write a graph as a Mermaid flowchart; more is folded in it than in other pictures where it would get too long."""
    boxes = BOXES
    while True:
        picture = draw(compiled, run, boxes)
        text = _flowchart(picture)
        boxes //= 2
        if (len(text) <= LETTERS and len(picture.arrows) <= ARROWS) or boxes < len(compiled.root.children):
            return text


def _flowchart(picture: Picture) -> str:
    title = " · ".join([picture.name, *(row.text for row in picture.rows)])
    lines = ["---", f"title: {json.dumps(title.translate(WIDE), ensure_ascii=False)}", "---"]
    lines += [f"flowchart {'TB' if picture.upright else 'LR'}", *_parts(picture.root.parts, "    ")]
    for arrow in picture.arrows:
        label = f"|{_quoted(arrow.labels)}|" if arrow.labels else ""
        lines.append(f"    n{arrow.source.index} {'-->' if arrow.value else '-.->'}{label} n{arrow.target.index}")
    for ending, (fill, border, width, style) in LOOKS.items():
        marked = [f"n{box.index}" for box in picture.root.boxes() if box.ending == ending]
        if marked and ending:
            look = f"fill:{fill},stroke:{border},stroke-width:{width}px,color:{INK}{DASHES.get(style, '')}"
            lines += [f"    classDef {ending} {look}", f"    class {','.join(marked)} {ending}"]
    return "\n".join(lines) + "\n"


def _parts(parts: Iterable[Part], indent: str) -> Iterator[str]:
    for part in parts:
        said = [*([part.name] if part.name else []), *(row.text for row in part.rows)]
        if part.is_box:
            yield f"{indent}n{part.index}[{_quoted(said)}]"
            continue
        yield f"{indent}subgraph n{part.index}[{_quoted([' · '.join(said) or ' '])}]"  # there is room for one line
        yield from _parts(part.parts, indent + "    ")
        yield f"{indent}end"
        look = "fill:none,stroke-dasharray:5 4" if part.kind == "group" else f"fill:#f8fafb,color:{INK}"
        yield f"{indent}style n{part.index} {look},stroke:{RED if part.ending == 'failed' else FRAME}"


def _quoted(rows: Sequence[str]) -> str:
    return '"' + "<br/>".join(map(_escaped, rows)) + '"'


# What Mermaid, and the Markdown and HTML it reads in labels, could take for something of theirs.
SPECIAL: Final = re.compile(
    r"""[^\w\s,.()=/?!'·×…→-]      # quotes, brackets, <, &, #, ;, :, %, and whatever else is no letter
    |(?<![^\W_])_|_(?![^\W_])      # _ that does not join two letters
    |^-|(?<=^\d)[.)](?=\s)|(?<=www)\.    # lists and addresses
    """,
    re.VERBOSE,
)


def _escaped(text: str) -> str:
    """Escape text for a label, as Mermaid's entities.

    >>> _escaped('say "#1 <b>"')
    'say #34;#35;1 #60;b#62;#34;'
    """
    return SPECIAL.sub(lambda found: "".join(f"#{ord(char)};" for char in found.group()), text)
