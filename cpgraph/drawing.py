"""What a picture of a graph shows, before it is put into any language: parts within parts, and arrows.

One box per step, one frame per pipeline or group. An arrow says that its target takes a value of its source, or only
waits for it; what other arrows say already is left out. A frame stands for all in it: an arrow from a frame means 'when
all of it has ended', one to a frame 'before any of it starts'. So sixty steps need some sixty arrows, not every pair.

Of a graph with too many steps, what is too much is folded: a pipeline becomes one box that says how many it holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from operator import and_, or_
from typing import Final

import attrs

from cpgraph.captions import Row, Tally, counted, duration, in_rows, pipeline_rows, shorten, step_rows, tallies, tally_rows, total
from cpgraph.errors import CpgraphError
from cpgraph.runs import Run
from cpgraph.sources import Sources
from cpgraph.structure import END, START, STEP, Binding, Compiled, Place, Unit

__all__ = ["FRAME", "GREY", "INK", "LINE", "LOOKS", "RED", "Arrow", "Part", "Picture", "draw"]

BOXES: Final = 300  # at most, in one picture
DEPTH: Final = 12  # of frames in frames
FOLDED: Final = "folded"
SIGHT: Final = 1400, 900  # points that are seen at once

INK: Final = "#1f2933"
GREY: Final = "#5b6671"
RED: Final = "#9c1f14"
LINE: Final = "#52606d"
FRAME: Final = "#9aa5b1"

# Fill, border, width and style of the border, by how a step ended: told apart in grey and by colour-blind eyes too, since
# they differ in lightness and border, and the counts are written out.
LOOKS: Final = {
    "": ("#ffffff", LINE, "1", "solid"),
    "computed": ("#d6e6f5", "#2f6594", "1.3", "solid"),
    "cached": ("#f0f2f4", "#7b8794", "1", "solid"),
    "failed": ("#f7c6b8", RED, "2.6", "solid"),
    "blocked": ("#fdf3d0", "#8a6d1a", "1.3", "dashed"),
    "closed": ("#ffffff", FRAME, "1", "dotted"),
}


@attrs.define(eq=False)
class Part:
    """A box (a step, or what is folded), or a frame with parts in it. `rank`: how far down the graph a box stands."""

    index: int
    kind: str
    name: str
    rows: list[Row]
    parent: Part | None = attrs.field(default=None, repr=False)
    parts: list[Part] = attrs.field(factory=list, repr=False)
    ending: str = ""
    rank: int = 0

    @property
    def is_box(self) -> bool:
        return self.kind in ("step", FOLDED)

    def boxes(self) -> Iterator[Part]:
        """Give the boxes of this part in graph order."""
        if self.is_box:
            yield self
        for part in self.parts:
            yield from part.boxes()

    def around(self) -> Iterator[Part]:
        """Give this part and all that hold it, innermost first."""
        part: Part | None = self
        while part is not None:
            yield part
            part = part.parent


@attrs.frozen(eq=False)
class Arrow:
    """`target` takes a value of `source`, known to it by `labels` where these are other names; or it only waits."""

    source: Part
    target: Part
    value: bool
    labels: tuple[str, ...] = ()


@attrs.frozen(eq=False)
class Picture:
    """A graph, or a run of it, as it is shown. `upright`: it reads best from top to bottom."""

    name: str
    rows: list[Row]
    root: Part
    arrows: list[Arrow]
    upright: bool


def draw(compiled: Compiled, run: Run | None = None, boxes: int = BOXES) -> Picture:
    """Work out what a picture of the graph shows, with what a run did if one is given."""
    if run is not None and run.graph != compiled.name:
        raise CpgraphError(
            f"run {run.number} is one of graph {run.graph!r}, not of {compiled.name!r}", mend="draw it with the graph that ran."
        )
    root, shown = _parts(compiled, boxes)
    arrows = _merge(_arrows(compiled), shown)
    rows: list[Row] = []
    if run is not None:
        found = tallies(run)
        _mark(compiled, shown, found)
        rows = _run_rows(run, found, compiled)
    return Picture(compiled.name, rows, root, arrows, _is_upright(root))


def _run_rows(run: Run, found: Mapping[str, Tally], compiled: Compiled) -> list[Row]:
    rows = [
        Row("text", f"run {run.number} · {run.status} · {duration(run.seconds)}"),
        *(Row("count", text) for text in in_rows(counted(total(found.values()).counts) or "nothing ran")),
    ]
    names = {unit.name for unit in compiled.units}
    gone = [name for name in found if name not in names]
    if gone:
        rows.append(Row("count", shorten(f"not in this graph any more: {', '.join(gone)}", 80)))
    return rows


# Parts


def _parts(compiled: Compiled, limit: int) -> tuple[Part, list[Part]]:
    """Make the parts that are shown; gives the root, and for each place the part that stands for it."""
    counts = _counts(compiled)
    opened = _opened(compiled, limit)
    sources = Sources()
    root = Part(0, "graph", compiled.name, [])
    shown = [root]
    for place in compiled.places[1:]:
        assert place.parent is not None
        around = shown[place.parent.index]
        if around.kind == FOLDED:
            shown.append(around)
            continue
        title = (place.pipeline.name or "") if place.pipeline is not None else ""
        rows = pipeline_rows(place, compiled, sources)
        if place.unit is not None:
            step = compiled.units[place.unit].step
            assert step is not None
            part = Part(place.index, "step", step.name, step_rows(step), around)
        elif place.index not in opened:
            rows.append(Row("text", f"{counts[place.index]:,} steps"))
            part = Part(place.index, FOLDED, title or f"{_first_step(place)} …", rows, around)
        elif not rows and not title and _says_nothing(place):
            shown.append(around)
            continue
        else:
            part = Part(place.index, place.kind, title, rows, around)
        around.parts.append(part)
        shown.append(part)
    for place, rank in _ranks(compiled):
        part = shown[place.index]
        part.rank = min(part.rank, rank) if part.rank else rank
    return root, shown


def _first_step(place: Place) -> str:
    while place.children:
        place = place.children[0]
    return place.name


def _counts(compiled: Compiled) -> list[int]:
    """Give how many steps each place holds."""
    counts = [1 if place.unit is not None else 0 for place in compiled.places]
    for place in reversed(compiled.places):
        if place.parent is not None:
            counts[place.parent.index] += counts[place.index]
    return counts


def _opened(compiled: Compiled, limit: int) -> set[int]:
    """Choose the places that are shown with what is in them, from the outside in, as long as there are not too many boxes."""
    boxes = len(compiled.root.children)
    if boxes > limit:
        raise CpgraphError(
            f"graph {compiled.name!r} has {boxes:,} parts side by side: too many for one picture",
            {"steps": f"{len(compiled.steps):,}", "drawn at most": limit},
            "put what belongs together into pipelines, each is then drawn as one box; graph.to_networkx() gives all of it.",
        )
    opened: set[int] = set()
    level = [place for place in compiled.root.children if place.unit is None]
    while level and level[0].depth <= DEPTH:
        room = limit - boxes
        if sum(len(place.children) - 1 for place in level) > room:  # then what takes more than its share stays folded
            level = [place for place in level if len(place.children) - 1 <= room // len(level)]
        boxes += sum(len(place.children) - 1 for place in level)
        opened.update(place.index for place in level)
        level = [child for place in level for child in place.children if child.unit is None]
    return opened


def _says_nothing(place: Place) -> bool:
    """Tell whether a frame round this pipeline would say nothing: no arrow can start or end at it."""
    alone = place.parent is not None and place.parent.kind == "graph" and len(place.parent.children) == 1
    return place.kind == "pipeline" and (alone or (place.start is None and place.end is None))


def _ranks(compiled: Compiled) -> Iterator[tuple[Place, int]]:
    """Give for the place of each step how many steps are one after another up to it."""
    ranks = [0] * len(compiled.units)
    for index in compiled.order:
        unit = compiled.units[index]
        ranks[index] = max((ranks[source] for source in compiled.edges_into[index]), default=0) + (unit.kind == STEP)
        if unit.kind == STEP:
            yield unit.place, ranks[index]


def _mark(compiled: Compiled, shown: list[Part], found: Mapping[str, Tally]) -> None:
    """Write into each part what the run did with it."""
    tallied: dict[int, Tally] = {}
    for unit in compiled.units:
        if unit.kind == STEP or unit.name in found:
            tallied.setdefault(shown[unit.place.index].index, Tally()).add(found.get(unit.name, Tally()))
    for part in {part.index: part for part in shown}.values():
        if part.index in tallied:
            part.rows.extend(tally_rows(tallied[part.index]))
            part.ending = tallied[part.index].ending


def _is_upright(root: Part) -> bool:
    """Choose the direction in which the picture has to be made less small to be seen whole."""
    ranks: dict[int, list[tuple[float, float]]] = {}
    for box in root.boxes():
        width = max([8.0 * len(box.name), *(5.5 * len(row.text) for row in box.rows)])
        ranks.setdefault(box.rank, []).append((width + 50, 14.0 * len(box.rows) + 50))
    widths = [[width for width, _ in row] for row in ranks.values()]
    heights = [[height for _, height in row] for row in ranks.values()]
    downwards = max(max(map(sum, widths)) / SIGHT[0], sum(map(max, heights)) / SIGHT[1])
    sideways = max(sum(map(max, widths)) / SIGHT[0], max(map(sum, heights)) / SIGHT[1])
    return downwards < sideways


# Arrows


def _arrows(compiled: Compiled) -> Iterator[tuple[Place, Place, bool, str]]:
    """Give (source, target, takes a value, label) between places, without what frames and other arrows say already."""
    units = compiled.units
    setters = _setters(compiled)
    values = [_values(unit, compiled, setters) for unit in units]
    waits = _waits(compiled, values)
    for group in compiled.places:
        if group.kind == "group":
            yield from ((units[source].place, group, False, "") for source in _shared(group, waits, compiled))
    for unit in units:
        yield from ((units[source].place, unit.place, True, label) for source, label in values[unit.index])
        yield from ((units[source].place, unit.place, False, "") for source in waits[unit.index])


def _waits(compiled: Compiled, values: list[list[tuple[int, str]]]) -> list[list[int]]:
    """Give what each unit waits for, as far as it has to be drawn.

    What is before a unit is a set of bits that holds all that is before these; so to wait for a step need not be drawn
    if it is in the set of something else that is drawn, nor to wait for a part if all steps up to its end are.
    """
    units, before = compiled.units, compiled.before
    steps = sum(1 << unit.index for unit in units if unit.kind == STEP)

    def held(sources: Iterable[int]) -> int:
        return reduce(or_, (before[source] | 1 << source for source in sources), 0)

    starts = [[source for source in compiled.edges_into[unit.index] if _holds(units[source], unit)] for unit in units]
    firsts: dict[int, list[int]] = {}
    for index, sources in enumerate(starts):
        for source in sources:
            firsts.setdefault(source, []).append(index)
    found: list[list[int]] = []
    for unit in units:
        index = unit.index
        if unit.kind == END:  # what is in a frame is before its end
            found.append([])
            continue
        said = {source for source, _ in values[index]}.union(starts[index])
        known = held(said)
        if index in firsts:  # what all in the frame take, the frame waits for
            known |= reduce(and_, (held(source for source, _ in values[first]) for first in firsts[index]))
        waits = dict.fromkeys(source for source in compiled.edges_into[index] if source not in said)
        behind = known | reduce(or_, (before[source] for source in waits), 0)
        left = [source for source in waits if not behind >> source & 1]
        for source in list(left):
            others = known | held(other for other in left if other != source)
            if units[source].kind == END and not before[source] & steps & ~others:
                left.remove(source)
        found.append(left)
    return found


def _shared(group: Place, waits: list[list[int]], compiled: Compiled) -> list[int]:
    """Take out what several in a group wait for and all in it come after: one arrow to the group says it."""
    counts = Counter(source for unit in group.starts for source in waits[unit])
    shared = [
        source for source, count in counts.items() if count > 1 and all(compiled.is_before(source, unit) for unit in group.starts)
    ]
    for unit in group.starts:
        waits[unit] = [source for source in waits[unit] if source not in shared]
    return shared


def _holds(source: Unit, target: Unit) -> bool:
    """Tell whether `source` is the start of a part that `target` is in."""
    return source.kind == START and any(place is source.place for place in target.place.around())


def _values(unit: Unit, compiled: Compiled, setters: Mapping[tuple[int, str], list[int]]) -> list[tuple[int, str]]:
    """Give whose values a unit takes: those that it names, and the fields that a step before it has set."""
    bindings = list(unit.bindings)
    if unit.kind == START:
        scope = compiled.scopes[unit.place.inner] if unit.place.inner is not None else None
        bindings += unit.open.bindings if unit.open else ()
        if scope is not None:
            bindings += [*scope.predicate, *(scope.condition.bindings if scope.condition else ())]
            bindings += [scope.source] if isinstance(scope.source, Binding) else []
    within = compiled.scopes[unit.place.inner if unit.kind == START and unit.place.inner is not None else unit.scope].chain
    found: dict[tuple[int, str], None] = {}
    for binding in bindings:
        source = binding.unit
        if source < 0 and binding.kind == "field":
            known = setters.get((within[binding.level - 1], binding.field), ())
            earlier = [setter for setter in known if compiled.is_before(setter, unit.index)]
            source = max(earlier, key=lambda setter: compiled.before[setter].bit_count(), default=-1)
        if source >= 0 and source != unit.index:
            found[source, "" if binding.name == compiled.units[source].name else binding.name] = None
    return list(found)


def _setters(compiled: Compiled) -> dict[tuple[int, str], list[int]]:
    """Give which units set a field, by the `each` whose record it is of, and the field."""
    found: dict[tuple[int, str], list[int]] = {}
    for unit in compiled.units:
        if unit.step is not None and unit.step.options.sets:
            chain = compiled.scopes[unit.scope].chain
            innermost = next(scope for scope in reversed(chain) if compiled.scopes[scope].model is not None)
            found.setdefault((innermost, unit.step.options.sets), []).append(unit.index)
    return found


def _merge(found: Iterable[tuple[Place, Place, bool, str]], shown: list[Part]) -> list[Arrow]:
    """Give the arrows between the parts that are shown, one for each pair."""
    merged: dict[tuple[int, int], Arrow] = {}
    for source, target, value, label in found:
        one, other = shown[source.index], shown[target.index]
        if _is_round(one, other) or _is_round(other, one):
            continue
        if not value:
            one, other = _whole(source, shown, other, "ends"), _whole(target, shown, one, "starts")
        arrow = merged.setdefault((one.index, other.index), Arrow(one, other, False))
        labels = list(dict.fromkeys([*arrow.labels, *([label] if label else [])]))
        merged[one.index, other.index] = Arrow(one, other, value or arrow.value, tuple(labels))
    return list(merged.values())


def _whole(place: Place, shown: list[Part], far: Part, border: str) -> Part:
    """Give the largest part that ends (or starts) as this place does and does not hold the far end of the arrow."""
    found = shown[place.index]
    for around in place.around():
        part = shown[around.index]
        if getattr(around, border) != getattr(place, border) or _is_round(part, far):
            break
        found = part
    return found


def _is_round(part: Part, inner: Part) -> bool:
    return any(one is part for one in inner.around())
