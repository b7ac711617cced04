"""Pictures of a graph, or of a run of it: SVG, PNG and PDF by a `dot` layout, and the text of DOT and Mermaid."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cpgraph import documents
from cpgraph.captions import Row, shorten
from cpgraph.drawing import FRAME, GREY, INK, LINE, LOOKS, RED, Arrow, Part, Picture, draw
from cpgraph.errors import CpgraphError, nearest
from cpgraph.graphviz_binary import lay_out
from cpgraph.mermaid import flowchart
from cpgraph.runs import Run
from cpgraph.structure import Compiled

if TYPE_CHECKING:
    import graphviz

__all__ = ["render"]

SUFFIXES: Final = (".svg", ".png", ".pdf", ".dot", ".gv", ".mmd")
FONT: Final = "Arial"  # its widths are known to every layout program, and the fonts in its place elsewhere keep them
LONGEST: Final = 60  # letters in a row
LEGEND: Final = "solid arrow: takes the value · dashed: only waits"
LEGEND_OF_A_RUN: Final = "times of steps: all their calls added up"


def render(compiled: Compiled, path: str | os.PathLike[str] | None = None, run: Run | None = None) -> str:
    """Draw a graph, with what a run did if one is given: SVG text without a path, else the path that was written.

    The suffix says how: .svg .png .pdf .dot .gv .mmd. Without any Graphviz, what was to be laid out is left beside the
    path as DOT text, and a `CpgraphError` says so. A file is written whole or not at all.
    """
    suffix = Path(path).suffix.lower() if path is not None else ".svg"
    if suffix not in SUFFIXES:
        raise CpgraphError(
            f"no picture is written with the suffix {suffix!r}.{nearest(suffix, SUFFIXES)}",
            {"path": os.fspath(path or "")},
            f"use one of {' '.join(SUFFIXES)}.",
        )
    picture = draw(compiled, run)
    if suffix == ".mmd":
        made = flowchart(compiled, run).encode()
    elif suffix in (".dot", ".gv"):
        made = dot(picture).encode()
    else:
        source = dot(picture)
        try:
            made = lay_out(source, suffix[1:])
        except CpgraphError as error:
            if path is None:
                raise
            beside = Path(f"{os.fspath(path)}.dot")
            _write(beside, source.encode())
            raise CpgraphError(error.headline, {**error.facts, "DOT text": f"written to {beside}"}, error.mend) from None
    if path is None:
        return made.decode()
    _write(Path(path), made)
    return os.fspath(path)


def _write(path: Path, content: bytes) -> None:
    try:
        documents.write_whole(path, content)
    except OSError as error:
        headline = f"the picture cannot be written: {error.strerror or error}"
        raise CpgraphError(headline, {"path": path}, "give a path in a folder that may be written to.") from error


# DOT


def dot(picture: Picture) -> str:
    """Write a picture as DOT."""
    import graphviz

    source = graphviz.Digraph(_dot_text(picture.name))
    source.attr("graph", rankdir="TB" if picture.upright else "LR", compound="true", bgcolor="white", pad="0.25")
    source.attr("graph", fontname=FONT, fontcolor=INK, labelloc="t", labeljust="l", nodesep="0.25", ranksep="0.5")
    source.attr("graph", label=_heading(picture))
    source.attr("node", shape="box", fontname=FONT, fontcolor=INK, fontsize="13", margin="0.16,0.08", height="0.4")
    source.attr("edge", color=LINE, fontname=FONT, fontcolor=GREY, fontsize="10", arrowsize="0.7")
    _dot_parts(picture.root.parts, source, picture.upright)
    for arrow in picture.arrows:
        source.body.extend(_dot_arrow(arrow, picture))
    made: str = source.source
    return made


def _dot_parts(parts: list[Part], source: graphviz.Digraph, upright: bool) -> None:
    for part in parts if upright else reversed(parts):  # lying down, dot puts what comes first at the bottom
        if part.is_box:
            fill, border, width, style = LOOKS[part.ending]
            label = _label([_styled("name", part.name, 13), *_small(part.rows)], "CENTER")
            look = {"fillcolor": fill, "color": border, "penwidth": width, "style": f"rounded,filled,{style}"}
            source.node(_dot_id(part), label, **look, **_room(part))
            continue
        with source.subgraph(name=f"cluster_{part.index}") as frame:
            group = part.kind == "group"
            colour = RED if part.ending == "failed" else FRAME
            frame.attr(label=_label([*([_styled("name", part.name, 12)] if part.name else []), *_small(part.rows)], "LEFT"))
            frame.attr(style="rounded,dashed" if group else "rounded,filled", fillcolor="#f8fafb", color=colour, margin="12")
            _dot_parts(part.parts, frame, upright)


def _dot_arrow(arrow: Arrow, picture: Picture) -> Iterator[str]:
    """Write an arrow. From or to a frame it is one of a box in it, cut off at the frame; unseen ones place the others."""
    from graphviz import quoting

    tails = [arrow.source] if arrow.source.is_box else _ends(arrow.source, [(one.source, one.target) for one in picture.arrows])
    heads = [arrow.target] if arrow.target.is_box else _ends(arrow.target, [(one.target, one.source) for one in picture.arrows])
    tail = _middle(tails, max(box.rank for box in tails))
    head = _middle(heads, min(box.rank for box in heads))
    options = {
        "ltail": "" if arrow.source.is_box else f"cluster_{arrow.source.index}",
        "lhead": "" if arrow.target.is_box else f"cluster_{arrow.target.index}",
        "minlen": "2" if picture.upright and _has_text_above(arrow.target) else "",  # else there is no room for the arrow
        "style": "" if arrow.value else "dashed",
        "label": _label([f"&#160;{_html(shorten(label, 24))}" for label in arrow.labels], "LEFT") if arrow.labels else "",
    }
    pairs = [(tail, head, {name: value for name, value in options.items() if value})]
    unseen = [(tail, other) for other in heads if other is not head] + [(other, head) for other in tails if other is not tail]
    drawn = {(one.source.index, one.target.index) for one in picture.arrows}
    pairs += [(one, other, {"style": "invis"}) for one, other in unseen if (one.index, other.index) not in drawn]
    for one, other, attributes in pairs:
        yield f"\t{quoting.quote(_dot_id(one))} -> {quoting.quote(_dot_id(other))}{quoting.attr_list(kwargs=attributes)}\n"


def _has_text_above(part: Part) -> bool:
    return not part.is_box and bool(part.name or part.rows)


def _ends(frame: Part, pairs: list[tuple[Part, Part]]) -> list[Part]:
    """Give the boxes of a frame from which no arrow goes on inside of it; with the pairs turned round, those it begins with."""
    inner = {part.index for near, far in pairs if _is_in(near, frame) and _is_in(far, frame) for part in [near]}
    boxes = list(frame.boxes())
    return [box for box in boxes if not any(part.index in inner for part in box.around() if part is not frame)] or boxes


def _is_in(part: Part, frame: Part) -> bool:
    return part is not frame and any(one is frame for one in part.around())


def _middle(boxes: list[Part], rank: int) -> Part:
    found = [box for box in boxes if box.rank == rank]
    return found[len(found) // 2]


def _heading(picture: Picture) -> str:
    rows = [_styled("name", picture.name, 17), *_small(picture.rows, 12)]
    if picture.arrows:
        rows.append(_styled("option", LEGEND, 10))
    if picture.rows:
        rows.append(_styled("option", LEGEND_OF_A_RUN, 10))
    return _label(rows, "LEFT")


def _small(rows: Iterable[Row], size: int = 10) -> list[str]:
    return [_styled(row.kind, row.text, size) for row in rows]


def _styled(kind: str, text: str, size: int) -> str:
    colour = {"failed": RED, "doc": GREY, "option": GREY}.get(kind, INK)
    shown = _html(shorten(text, LONGEST)) or "&#160;"
    if kind in ("name", "failed"):
        shown = f"<B>{shown}</B>"
    return f'<FONT POINT-SIZE="{size}" COLOR="{colour}">{shown}</FONT>'


def _label(rows: list[str], align: str) -> str:
    """Put rows under each other, as the kind of label in which they may differ in size and colour."""
    end = '<BR ALIGN="LEFT"/>' if align == "LEFT" else "<BR/>"
    return f"<{end.join(rows)}{end if align == 'LEFT' else ''}>" if rows else ""


def _html(text: str) -> str:
    return html.escape(text.replace("\\", "\\\\"))  # a backslash has a meaning for DOT, in HTML too


def _dot_text(text: str) -> str:
    """Escape text for a name in DOT, in which `&lt;` would be read as `<`."""
    import graphviz

    made: str = graphviz.escape(text.replace("&", "&amp;"))
    return made


def _dot_id(part: Part) -> str:
    """Name a box: as its step, unless that is not alone in its name, or DOT would take it for a name of its own making."""
    alone = part.kind == "step" and not part.name.startswith("%")
    return _dot_text(part.name if alone else f"[{part.index}] {part.name}")


def _room(part: Part) -> dict[str, str]:
    """Make room for scripts whose letters are wider than layout programs without fonts take them to be."""
    widths = [_width(part.name, 13), *(_width(row.text, 10) for row in part.rows)]
    return {"width": f"{max(widths) / 72 + 0.32:.2f}"} if max(widths) else {}


def _width(text: str, size: int) -> float:
    from unicodedata import east_asian_width

    wide = [east_asian_width(char) in "WF" for char in text]
    return size * sum(1.2 if one else 0.6 for one in wide) if any(wide) else 0.0
