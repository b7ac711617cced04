"""Pictures of graphs and runs (issue item 8; design 3.5): what they show, how they are escaped, and what draws them."""

from __future__ import annotations

import os
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import cpgraph as cp
from cpgraph import captions, graphviz_binary
from cpgraph.captions import Tally, counted, duration, shorten, tallies, tally_rows
from cpgraph.drawing import LOOKS, Part, draw
from cpgraph.mermaid import _escaped, flowchart
from cpgraph.steps import FORBIDDEN

SVG = "{http://www.w3.org/2000/svg}"


@cp.model
class Order:
    id: int
    amount: str = "0"
    total: float | None = None
    ok: bool = True


def made(name: str, *parameters: str, doc: str | None = None, **options: Any) -> Callable[..., Any]:
    """Make a step that does nothing but has a name, parameters and a docstring."""
    space: dict[str, Any] = {"__name__": __name__}
    exec(f"def step({', '.join(parameters)}):\n    return {name!r}", space)
    function: Callable[..., Any] = space["step"]
    function.__name__ = name
    function.__doc__ = doc
    return cp.step(**options)(function)


def a() -> int:
    return 1


def b(a: int) -> int:
    return a


def c() -> int:
    return 3


def d() -> int:
    return 4


def e() -> int:
    return 5


class Svg:
    """What an SVG picture shows, by the titles that dot gives."""

    def __init__(self, text: str) -> None:
        root = ElementTree.fromstring(text)
        self.texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
        self.nodes: dict[str, ElementTree.Element] = {}
        self.arrows: dict[str, str] = {}
        self.frames: list[list[str]] = []
        for group in root.iter(f"{SVG}g"):
            title = group.findtext(f"{SVG}title") or ""
            if group.get("class") == "node":
                assert title not in self.nodes
                self.nodes[title] = group
            elif group.get("class") == "edge":
                path = group.find(f"{SVG}path")
                assert path is not None
                label = " ".join(self._texts(group))
                self.arrows[title] = ("waits" if path.get("stroke-dasharray") else "value") + (f" {label}" if label else "")
            elif group.get("class") == "cluster":
                self.frames.append(self._texts(group))

    @staticmethod
    def _texts(group: ElementTree.Element) -> list[str]:
        rows: dict[str | None, str] = {}
        for text in group.findall(f"{SVG}text"):
            rows[text.get("y")] = rows.get(text.get("y"), "") + "".join(text.itertext())
        return [" ".join(row.split()) for row in rows.values()]

    def box(self, name: str) -> list[str]:
        return self._texts(self.nodes[name])

    def fill(self, name: str) -> str | None:
        shape = self.nodes[name].find(f"{SVG}path")
        assert shape is not None
        return shape.get("fill")


def svg(*parts: Any, **options: Any) -> Svg:
    return Svg(cp.Graph(*parts, **options).render())


def shown(*parts: Any, **options: Any) -> set[tuple[str, str, str]]:
    """Give the arrows of a picture as (source, target, what it is), frames by their names or what they hold."""
    picture = draw(cp.Graph(*parts, **options).compiled)

    def called(part: Part) -> str:
        return part.name or "[" + " ".join(box.name for box in part.boxes()) + "]"

    return {
        (called(arrow.source), called(arrow.target), " ".join(["value" if arrow.value else "waits", *arrow.labels]))
        for arrow in picture.arrows
    }


def frame_rows(*parts: Any, **options: Any) -> list[str]:
    """Give the rows of text of the one frame, or folded box, of a picture."""
    picture = draw(cp.Graph(*parts, **options).compiled)
    (part,) = [part for part in picture.root.parts if part.kind == "pipeline"]
    return [row.text for row in part.rows]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine on which no `dot` is installed; what came with the package is there."""
    monkeypatch.delenv(graphviz_binary.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "")
    return monkeypatch


# What is drawn


def test_one_box_per_step_and_arrows_that_tell_values_from_order() -> None:
    picture = svg(cp.pipeline(a, b, c))
    assert set(picture.nodes) == {"a", "b", "c"}
    assert picture.arrows == {"a->b": "value", "b->c": "waits"}
    assert picture.frames == []


def test_a_box_has_the_name_the_first_line_of_the_docstring_and_the_options_that_matter() -> None:
    parse = made(
        "parse", "amount", doc="\n   Read the amount.\n\n   More.\n", sets="total", retries=2, timeout=1.5,
        limit=cp.Limit(8, per_second=2), version="3", cache=False,
    )  # fmt: skip
    picture = svg(cp.pipeline(parse, each=Order))
    assert picture.box("parse") == [
        "parse",
        "Read the amount.",
        "sets total · retries 2 · timeout 1.5 s",
        "limit 8, at most 2/s · version 3 · not cached",
    ]
    assert svg(a).box("a") == ["a"]


def test_the_docstring_of_a_class_says_nothing_of_a_step_made_of_it() -> None:
    class Double:
        def __call__(self) -> int:
            return 2

    Double.__call__.__doc__ = "Not shown."
    assert svg(cp.step(name="double")(Double())).box("double") == ["double"]


def test_long_docstrings_are_cut() -> None:
    (_, doc) = svg(made("a", doc="word " * 100)).box("a")
    assert doc == "word word word word word word word word wor…"


def test_frames_say_what_a_pipeline_is() -> None:
    picture = svg(
        cp.pipeline(made("x", "id"), each=Order, name="orders", concurrency=8, on_error="skip"),
        cp.pipeline(made("y", "n"), each={"n": [1, 2]}),
        cp.pipeline(c, [d, e]),
    )
    assert sorted(picture.frames) == [[], ["each n in [1, 2]"], ["orders", "each Order", "concurrency 8 · on_error skip"]]


def big(total: float) -> bool:
    return total > 9


def enough(store: cp.Store) -> bool:
    return store.count(Order) > 9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"open": big}, "condition: big"),
        ({"open": lambda amount: amount != "<9>"}, "condition: amount != '<9>'"),
        ({"open": eval("lambda amount: amount != '9'")}, "condition: a lambda"),
        ({"open": enough}, "guard: enough"),
        ({"open": lambda store: store.count(Order) > 3}, "guard: store.count(Order) > 3"),
        ({"each": cp.where(Order, ok=True, amount="3")}, "each Order where ok = True and amount = '3'"),
        ({"each": cp.where(Order, lambda order: order.id > 7)}, "each Order where order.id > 7"),
        ({"each": cp.where(Order, ok=object())}, "each Order where ok = a object"),
    ],
)
def test_conditions_guards_and_selections_are_told_apart(options: dict[str, Any], said: str) -> None:
    assert said in frame_rows(cp.pipeline(made("x", "id"), **{"each": Order, **options}))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (["a", "b"], "each it in ['a', 'b']"),
        (list(range(1000)), "each it in 1,000 items"),
        (["x" * 50], "each it in ['xxxxxxxxxxxxxxxxxxxxxx…]"),
        ({"one": 1, "two": 2}, "each it in 2 items"),
        ([object()], "each it in [a object]"),
        (cp.files("texts/*.rst"), "each it in files('texts/*.rst')"),
    ],
)
def test_what_each_runs_over_is_shown(source: Any, said: str) -> None:
    assert frame_rows(cp.pipeline(made("x", "it"), each={"it": source})) == [said]


def test_each_over_a_steps_value_is_an_arrow_to_the_frame() -> None:
    pages = cp.pipeline(made("fetch", "url"), made("parse", "fetch"), each={"url": "links"}, name="pages")
    parts = cp.pipeline(made("links"), pages)
    assert shown(parts) == {("links", "pages", "value url"), ("fetch", "parse", "value")}
    picture = svg(parts)
    assert picture.arrows == {"links->fetch": "value url", "fetch->parse": "value"}
    assert picture.frames == [["pages", "each url in links"]]


def test_values_that_a_condition_or_a_selection_takes_are_arrows_to_the_frame() -> None:
    first = [made("limit"), made("chosen")]
    asked = cp.where(Order, lambda order, chosen: order.id == chosen)
    part = cp.pipeline(made("x", "id"), each=asked, open=lambda id, limit: id < limit, name="some")
    assert shown(cp.pipeline(first, part)) == {("limit", "some", "value"), ("chosen", "some", "value")}


def test_a_parameter_of_another_name_than_the_step_labels_its_arrow() -> None:
    assert shown(cp.pipeline(a, cp.alias(b, "again", inputs={"a": "a"}))) == {("a", "again", "value")}
    assert shown(cp.pipeline(c, cp.alias(b, "again", inputs={"a": "c"}))) == {("c", "again", "value a")}


def test_a_field_set_by_one_step_and_asked_for_by_another_is_a_value_that_goes_over() -> None:
    first, second = made("parse", "amount", sets="total"), made("round", "total", sets="total")
    assert shown(cp.pipeline(first, second, made("show", "total"), each=Order)) == {
        ("parse", "round", "value total"),
        ("round", "show", "value total"),
    }
    # Nothing is taken from a step that comes later, or that sets the field of other records.
    assert shown(cp.pipeline(made("show", "total"), first, each=Order)) == {("show", "parse", "waits")}
    one, two = cp.pipeline(first, each=Order, name="one"), cp.pipeline(made("show", "total"), each=Order, name="two")
    assert shown(cp.pipeline(one, two)) == {("one", "two", "waits")}


def test_what_other_arrows_say_already_is_left_out() -> None:
    third = made("third", "a", "b")
    assert shown(cp.pipeline(a, b, third)) == {("a", "b", "value"), ("a", "third", "value"), ("b", "third", "value")}
    late = made("late", after=["a", "b", "c"])
    assert shown(cp.pipeline(a, b, c, late)) == {("a", "b", "value"), ("b", "c", "waits"), ("c", "late", "waits")}


def test_parts_side_by_side_are_waited_for_by_one_arrow() -> None:
    assert shown(cp.pipeline([a, c], [d, e])) == {("[a c]", "[d e]", "waits")}
    picture = svg(cp.pipeline([a, c], [d, e]))
    assert list(picture.arrows.values()) == ["waits"]
    # What is taken is drawn, beside what is waited for.
    assert shown(cp.pipeline([a, c], [b, d])) == {("a", "b", "value"), ("[a c]", "[b d]", "waits")} | set()
    assert shown(cp.pipeline([a, c], made("sum", "a", "c"))) == {("a", "sum", "value"), ("c", "sum", "value")}


def test_an_arrow_leaves_the_largest_part_that_ends_there() -> None:
    parts = [cp.pipeline(a, b, name="one"), cp.pipeline(c, d, name="two", after="one"), cp.pipeline(e, name="three")]
    assert shown(*parts) == {("a", "b", "value"), ("one", "two", "waits"), ("c", "d", "waits")}
    assert shown(cp.pipeline(*parts[:1], *parts[2:])) == {("a", "b", "value"), ("one", "three", "waits")}


def test_sixty_steps_take_no_more_arrows_than_can_be_followed() -> None:
    groups = [[made(f"s{n}_{m}") for m in range(10)] for n in range(6)]
    assert len(shown(cp.pipeline(*groups))) == 5


def test_plain_pipelines_without_a_name_get_no_frame() -> None:
    assert svg(cp.pipeline(cp.pipeline(a, b), c)).frames == []
    assert svg(cp.pipeline(cp.pipeline(a, b, name="named"), c)).frames == [["named"]]


def test_a_frame_in_a_frame() -> None:
    inner = cp.pipeline(made("words", "line"), each={"line": ["x"]}, name="inner")
    picture = draw(cp.Graph(cp.pipeline(inner, made("total", "id"), each=Order, name="outer")).compiled)
    (outer,) = picture.root.parts
    assert [part.name for part in outer.parts] == ["inner", "total"]
    assert [part.name for part in outer.parts[0].parts] == ["words"]


def test_it_reads_along_the_shorter_side() -> None:
    assert draw(cp.Graph(cp.pipeline(*[made(f"step_number_{n}") for n in range(9)])).compiled).upright
    assert not draw(cp.Graph(cp.pipeline(a, [made(f"step_number_{n}") for n in range(30)])).compiled).upright


def test_a_picture_is_the_same_every_time(tmp_path: Path) -> None:
    def graph() -> cp.Graph:
        def under(amount: str, limit: object = None) -> bool:
            return True

        return cp.Graph(
            cp.pipeline(made("x", "id"), [made("y", "x"), made("z", "x")], each=cp.where(Order, under, ok=object()), open=under),
            cp.pipeline(made("w", "it"), each={"it": [object(), (1, 2)]}),
        )

    for suffix in (".svg", ".dot", ".mmd"):
        one, other = (Path(graph().render(tmp_path / f"{name}{suffix}")).read_text(encoding="utf-8") for name in ("one", "other"))
        assert one == other
        assert " at 0x" not in one


# Large graphs


def test_what_is_too_much_for_one_picture_is_folded(tmp_path: Path) -> None:
    def part(n: int) -> Any:
        return cp.pipeline(*[made(f"s{n}_{m}") for m in range(300)], name=f"part {n}", after=f"part {n - 1}" if n else ())

    graph = cp.Graph(*map(part, range(40)), name="large")
    assert len(graph.compiled.steps) == 12_000
    picture = Svg(graph.render())
    assert len(picture.nodes) == 40
    assert picture.box("[1] part 0") == ["part 0", "300 steps"]
    assert set(picture.arrows.values()) == {"waits"}
    assert len(picture.arrows) == 39
    assert len(Path(graph.render(tmp_path / "large.mmd")).read_text(encoding="utf-8")) < 50_000


def test_small_parts_stay_open_beside_one_that_is_folded() -> None:
    picture = draw(cp.Graph(cp.pipeline(a, b, name="small"), cp.pipeline(*[made(f"s{n}") for n in range(1_000)])).compiled)
    assert [(box.name, [row.text for row in box.rows]) for box in picture.root.boxes()] == [
        ("a", []),
        ("b", []),
        ("s0 …", ["1,000 steps"]),
    ]


def test_three_hundred_steps_are_drawn_one_by_one() -> None:
    parts = [cp.pipeline([made(f"s{n}_{m}") for m in range(10)], name=f"part {n}") for n in range(30)]
    assert len(list(draw(cp.Graph(*parts).compiled).root.boxes())) == 300


@pytest.mark.usefixtures("untimed")
def test_a_folded_box_takes_over_the_arrows_and_counts_of_what_is_in_it() -> None:
    many = [made(f"s{n}") for n in range(400)]
    graph = cp.Graph(cp.pipeline(a, cp.pipeline(*many, made("last", "s0", "a"), name="many"), made("after", "last")), name="g")
    picture = draw(graph.compiled, graph.run(dir=None))
    assert {(arrow.source.name, arrow.target.name, arrow.value) for arrow in picture.arrows} == {
        ("a", "many", True),
        ("many", "after", True),
    }
    (box,) = [box for box in picture.root.boxes() if box.name == "many"]
    assert [row.text for row in box.rows] == ["401 steps", "401 computed"]


def test_too_many_parts_side_by_side_are_refused_with_the_mend() -> None:
    with pytest.raises(cp.CpgraphError, match=r"301 parts side by side: too many (.|\n)*Mend: put what belongs") as caught:
        cp.Graph(*[made(f"s{n}") for n in range(301)]).render()
    assert caught.value.facts == {"steps": "301", "drawn at most": 300}


def test_pipelines_nested_very_deep_are_folded() -> None:
    part: Any = made("s0")
    for n in range(1, 600):
        part = cp.pipeline(made(f"s{n}"), part, name=f"p{n}")
    picture = Svg(cp.Graph(part).render())
    assert picture.box("[25] p587") == ["p587", "588 steps"]


def test_mermaid_folds_what_it_would_refuse() -> None:
    parts = [cp.pipeline(*[made(f"s{n}_{m}", doc="<" * 44) for m in range(10)], name=f"part {n}") for n in range(30)]
    graph = cp.Graph(*parts)
    text = flowchart(graph.compiled)
    assert "s1_0" not in text
    assert "10 steps" in text
    names = [f"s{n}" for n in range(30)]
    few = [cp.pipeline([made(name) for name in names]), cp.pipeline([made(f"{name}_again", *names) for name in names])]
    assert "30 steps" in flowchart(cp.Graph(*few).compiled)  # of 900 arrows


# Escaping


NASTY = [
    "<b>&amp;</b>", 'say "no"', "back\\slash\\", "\\N \\G \\l", "{a|b}", "line\ntwo", "]]>", "&#60;", "<!-- x -->", "100 %", "%",
    "%%{init: {}}%%", "1. one", "2) two", "+ plus",
    "- item", "# head", "`code`", "*bold* _it_", "end", "tab\there", "nul\x00bell\x07", "\ud800 lone", "日本語", "é ñ ß",
    "';--", "http://x.y", "www.x.y", "style a:#b;", "\u202eright", "click a href", "a:b", "\ufffe", " ",
]  # fmt: skip
texts = st.one_of(
    st.sampled_from(NASTY),
    st.text(min_size=1, max_size=30),
    st.text(alphabet="<>&\"'\\{}|[]#;:%`*_-~\nNGEL", min_size=1, max_size=20),
)
names = texts.map(lambda text: "".join(c for c in text if c.isprintable() and c not in FORBIDDEN).strip()).filter(bool)


@settings(max_examples=60, deadline=None)
@given(names, texts, names)
def test_names_and_docstrings_come_out_as_they_are(name: str, doc: str, other: str) -> None:
    assume(name != other)
    inner = cp.pipeline(cp.alias(b, other, inputs={"a": name}), name=other, each={"it": [doc]})
    picture = svg(cp.pipeline(made(name, doc=doc), inner, name=name), name=name)

    def title(text: str) -> str:
        (found,) = [title for title in picture.nodes if title.split("] ")[-1] == text.replace("\\", "\\\\")]
        return found

    assert len(picture.nodes) == 2
    assert list(picture.arrows) == [f"{title(name)}->{title(other)}"]
    rows = [shorten(name), shorten(next((line for line in doc.splitlines() if line.strip()), ""))]
    assert picture.box(title(name)) == [row for row in rows if row]
    assert picture.frames[-1][0] == shorten(other)


@given(texts)
def test_mermaid_labels_hold_nothing_that_it_would_read(text: str) -> None:
    written = _escaped(text)
    assert re.fullmatch(r"(\w|[\s,.()=/?!'·×…→-]|#\d+;)*", written)
    assert re.sub(r"#(\d+);", lambda found: chr(int(found[1])), written) == text


def test_mermaid_titles_and_labels_are_escaped() -> None:
    text = flowchart(cp.Graph(made('<a & "b"'.replace('"', "")), name="<x> & y").compiled)
    assert text.startswith('---\ntitle: "\uff1cx\uff1e \uff06 y"\n---\nflowchart ')
    assert 'n1["#60;a #38; b"]' in text


# Golden texts


def small() -> cp.Graph:
    parse = made("parse", "amount", doc="Read the <amount>.", sets="total")
    orders = cp.pipeline(parse, [made("tax", "total"), made("fee")], each=Order, name="orders", open=lambda amount: amount != "")
    return cp.Graph(cp.pipeline(orders, made("report", "tax")), name="shop")


DOT = r"""
digraph shop {
	graph [bgcolor=white compound=true pad=0.25 rankdir=TB]
	graph [fontcolor="#1f2933" fontname=Arial labeljust=l labelloc=t nodesep=0.25 ranksep=0.5]
	graph [label=<<FONT POINT-SIZE="17" COLOR="#1f2933"><B>shop</B></FONT><BR ALIGN="LEFT"/><FONT POINT-SIZE="10" COLOR="#5b6671">solid arrow: takes the value · dashed: only waits</FONT><BR ALIGN="LEFT"/>>]
	node [fontcolor="#1f2933" fontname=Arial fontsize=13 height=0.4 margin="0.16,0.08" shape=box]
	edge [arrowsize=0.7 color="#52606d" fontcolor="#5b6671" fontname=Arial fontsize=10]
	subgraph cluster_2 {
		label=<<FONT POINT-SIZE="12" COLOR="#1f2933"><B>orders</B></FONT><BR ALIGN="LEFT"/><FONT POINT-SIZE="10" COLOR="#1f2933">each Order</FONT><BR ALIGN="LEFT"/><FONT POINT-SIZE="10" COLOR="#1f2933">condition: amount != &#x27;&#x27;</FONT><BR ALIGN="LEFT"/>>
		color="#9aa5b1" fillcolor="#f8fafb" margin=12 style="rounded,filled"
		parse [label=<<FONT POINT-SIZE="13" COLOR="#1f2933"><B>parse</B></FONT><BR/><FONT POINT-SIZE="10" COLOR="#5b6671">Read the &lt;amount&gt;.</FONT><BR/><FONT POINT-SIZE="10" COLOR="#5b6671">sets total</FONT>> color="#52606d" fillcolor="#ffffff" penwidth=1 style="rounded,filled,solid"]
		subgraph cluster_4 {
			label=""
			color="#9aa5b1" fillcolor="#f8fafb" margin=12 style="rounded,dashed"
			tax [label=<<FONT POINT-SIZE="13" COLOR="#1f2933"><B>tax</B></FONT>> color="#52606d" fillcolor="#ffffff" penwidth=1 style="rounded,filled,solid"]
			fee [label=<<FONT POINT-SIZE="13" COLOR="#1f2933"><B>fee</B></FONT>> color="#52606d" fillcolor="#ffffff" penwidth=1 style="rounded,filled,solid"]
		}
	}
	report [label=<<FONT POINT-SIZE="13" COLOR="#1f2933"><B>report</B></FONT>> color="#52606d" fillcolor="#ffffff" penwidth=1 style="rounded,filled,solid"]
	parse -> tax [label=<&#160;total<BR ALIGN="LEFT"/>>]
	parse -> fee [style=dashed]
	tax -> report
	fee -> report [ltail=cluster_2 style=dashed]
}
"""  # noqa: E501

MERMAID = """
---
title: "shop"
---
flowchart TB
    subgraph n2["orders · each Order · condition#58; amount != ''"]
        n3["parse<br/>Read the #60;amount#62;.<br/>sets total"]
        subgraph n4[" "]
            n5["tax"]
            n6["fee"]
        end
        style n4 fill:none,stroke-dasharray:5 4,stroke:#9aa5b1
    end
    style n2 fill:#f8fafb,color:#1f2933,stroke:#9aa5b1
    n7["report"]
    n3 -->|"total"| n5
    n3 -.-> n6
    n5 --> n7
    n2 -.-> n7
"""


@pytest.mark.parametrize(("suffix", "text"), [(".dot", DOT), (".gv", DOT), (".mmd", MERMAID)])
def test_texts(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"shop{suffix}"
    assert small().render(path) == str(path)
    assert path.read_text(encoding="utf-8") == text.lstrip()


# What a run did


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step takes long enough to be told, however busy the machine is."""
    monkeypatch.setattr(captions, "LEAST", float("inf"))


@cp.step(sets="total")
def parse(amount: str) -> float:
    return float(amount)


def double(total: float) -> float:
    return 2 * total


def report(double: list[float]) -> float:
    return sum(double)


def orders(*amounts: str) -> list[Order]:
    return [Order(id=n, amount=amount) for n, amount in enumerate(amounts, 1)]


def chain(**options: Any) -> cp.Graph:
    return cp.Graph(cp.pipeline(cp.pipeline(parse, double, each=Order, **options), report), name="shop")


@pytest.mark.usefixtures("untimed")
def test_a_run_shows_counts_and_colours() -> None:
    run = chain(open=lambda amount: amount != "no").run(orders("1", "2", "x", "no"), dir=None)
    picture = Svg(run.render())
    assert picture.box("parse")[-2:] == ["2 computed · × 1 failed · 1 closed", "× ValueError"]
    assert picture.box("double")[-1] == "2 computed · 1 blocked · 1 closed"
    assert picture.box("report") == ["report", "1 blocked"]
    looks = [LOOKS[ended][0] for ended in ("failed", "blocked", "blocked")]
    assert [picture.fill(name) for name in ("parse", "double", "report")] == looks
    assert f"run {run.number} · failed" in " ".join(picture.texts)
    assert "times of steps: all their calls added up" in picture.texts and "all their calls" not in chain().render()
    assert "4 computed · × 1 failed · 2 blocked · 2 closed" in picture.texts


@pytest.mark.usefixtures("untimed")
def test_what_was_cached_and_what_was_not_reached_looks_its_own_way(tmp_path: Path) -> None:
    chain().run(orders("1", "2"), dir=tmp_path)
    run = chain().run(orders("1", "2", "3"), dir=tmp_path)
    picture = Svg(run.render())
    assert picture.box("parse") == ["parse", "sets total", "1 computed · 2 cached"]
    assert picture.fill("parse") == LOOKS["computed"][0]
    again = Svg(chain().run(orders("1", "2"), dir=tmp_path).render())
    assert again.box("report") == ["report", "1 cached"]
    assert again.fill("report") == LOOKS["cached"][0]
    none = Svg(chain().run([], dir=None).render())
    assert none.box("parse") == ["parse", "sets total", "no node in this run"]
    closed = Svg(cp.Graph(cp.pipeline(a, open=lambda store: False)).run(dir=None).render())
    assert closed.box("a") == ["a", "1 closed"]
    assert len(set(LOOKS.values())) == len(LOOKS)


def test_the_time_that_a_step_took_is_shown_where_it_is_worth_it() -> None:
    run = chain().run(orders("1", "2", "x"), dir=None)
    took = sum(node.seconds for node in run.nodes if node.step == "parse")
    assert took > 0
    assert tallies(run)["parse"].seconds == pytest.approx(took)
    rows = [tally_rows(Tally(Counter(computed=2), seconds=seconds)) for seconds in (0.0009, 0.25, 75)]
    assert [row.text for (row,) in rows] == ["2 computed", "2 computed · 250 ms", "2 computed · 1 min 15 s"]


def test_counts_are_never_cut() -> None:
    """What is too long for a row goes on in the next."""
    counts = Counter(computed=1_204_000, cached=4_207_000, failed=13_000, blocked=92_000, closed=4_207_000)
    tally = Tally(counts, Counter(OverlyLongNamedErrorOfTheUser=12_345, AnotherOverlyLongNamedError=655), 3_723, 1_000_000)
    rows = [row.text for row in tally_rows(tally)]
    assert rows == [
        "1,204,000 computed · 4,207,000 cached · × 13,000 failed",
        "92,000 blocked · 4,207,000 closed · 1 h 2 min",
        "1,000,000 kept from other code",
        "× OverlyLongNamedEr… 12,345, AnotherOverlyLong… 655",
    ]
    assert max(map(len, rows)) < 60


@pytest.mark.usefixtures("untimed")
def test_results_kept_from_other_code_are_counted_as_such(tmp_path: Path) -> None:
    def version(factor: int) -> cp.Graph:
        def scaled(amount: str) -> float:
            return factor * float(amount)

        return cp.Graph(cp.pipeline(scaled, each=Order), name="shop")

    version(1).run(orders("1", "x"), dir=tmp_path)
    run = version(2).resume(dir=tmp_path)
    assert Svg(run.render()).box("scaled") == ["scaled", "1 cached · × 1 failed · 1 kept from other code", "× ValueError"]


def test_a_guard_that_failed_is_shown_at_its_frame() -> None:
    def broken(store: cp.Store) -> bool:
        raise KeyError("x")

    picture = Svg(cp.Graph(cp.pipeline(a, open=broken, name="guarded")).run(dir=None).render())
    assert picture.frames == [["guarded", "guard: broken", "× KeyError"]]


@pytest.mark.usefixtures("untimed")
def test_several_kinds_of_failures_are_counted() -> None:
    def fail(id: int) -> None:
        raise [ValueError, KeyError, TypeError][id % 3]

    run = cp.Graph(cp.pipeline(fail, each=Order)).run(orders(*"123456789x"), dir=None)
    assert Svg(run.render()).box("fail")[-2:] == ["× 10 failed", "× KeyError 4, TypeError 3, …"]


@pytest.mark.usefixtures("untimed")
def test_mermaid_has_the_counts_and_colours_too(tmp_path: Path) -> None:
    run = chain().run(orders("1", "x"), dir=None)
    text = Path(run.render(tmp_path / "run.mmd")).read_text(encoding="utf-8")
    assert '["parse<br/>sets total<br/>1 computed · × 1 failed<br/>× ValueError"]' in text
    assert re.search(r"classDef failed fill:#\w+,stroke:#\w+,.*\n    class n3 failed\n", text)
    assert re.search(r"^title: \"shop · run 1 · failed · .* · 2 computed · × 1 failed · 2 blocked\"$", text, re.MULTILINE)


def test_a_run_is_drawn_with_its_own_graph(tmp_path: Path) -> None:
    run = cp.Graph(a, c, name="g").run(dir=None)
    with pytest.raises(cp.CpgraphError, match="run 1 is one of graph 'g', not of 'h'"):
        cp.Graph(a, name="h").render(tmp_path / "x.svg", run=run)
    picture = Svg(cp.Graph(cp.pipeline(a, d), name="g").render(run=run))
    assert "not in this graph any more: c" in picture.texts
    assert picture.box("d") == ["d", "no node in this run"]
    assert list(tmp_path.iterdir()) == []


def test_a_run_read_from_its_directory_is_drawn_too(tmp_path: Path) -> None:
    graph = chain()
    graph.run(orders("1", "x"), dir=tmp_path)
    (run,) = cp.runs(tmp_path)
    assert Svg(graph.render(run=run)).box("parse")[-1] == "× ValueError"


# What draws it


def test_a_real_layout_where_no_graphviz_is_installed(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = Path(cp.Graph(cp.pipeline(a, b)).render(tmp_path / "g.svg")).read_text(encoding="utf-8")
    assert "Generated by graphviz" in text
    boxes = Svg(text).nodes
    assert {name: boxes[name].findall(f"{SVG}path") != [] for name in boxes} == {"a": True, "b": True}


def test_png_and_pdf_are_what_they_say(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    graph = cp.Graph(cp.pipeline(a, b))
    png = Path(graph.render(tmp_path / "g.PNG")).read_bytes()
    assert png.startswith(b"\x89PNG\r\n") and png.endswith(b"IEND\xaeB`\x82")
    pdf = Path(graph.render(tmp_path / "g.pdf")).read_bytes()
    assert pdf.startswith(b"%PDF-1.") and pdf.endswith(b"%%EOF\n")
    start = int(pdf.split(b"startxref\n")[-1].split()[0])
    places = [int(line[:10]) for line in pdf[start:].splitlines()[3:8]]
    assert [pdf[place : place + 7] for place in places] == [b"%d 0 obj" % number for number in range(1, 6)]
    (across, down) = (float(size) for size in re.findall(rb"MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)[0])
    root = ElementTree.fromstring(graph.render())
    for points, side in ((across, "width"), (down, "height")):
        assert points == pytest.approx(float(root.get(side, "").removesuffix("pt")), abs=1.5)


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_without_any_graphviz_the_dot_text_and_a_sentence(bare: pytest.MonkeyPatch, tmp_path: Path, suffix: str) -> None:
    bare.setattr(graphviz_binary, "bundled", lambda: None)
    graph = cp.Graph(cp.pipeline(a, b))
    with pytest.raises(cp.CpgraphError) as caught:
        graph.render(tmp_path / f"g{suffix}")
    assert caught.value.headline == "there is no Graphviz here to lay the picture out"
    assert caught.value.facts == {"DOT text": f"written to {tmp_path / f'g{suffix}.dot'}"}
    assert caught.value.mend.startswith("pip install graphviz-pure, or install Graphviz so that `dot` is on PATH")
    assert [path.name for path in tmp_path.iterdir()] == [f"g{suffix}.dot"]
    assert (tmp_path / f"g{suffix}.dot").read_text(encoding="utf-8").startswith("digraph ")
    with pytest.raises(cp.CpgraphError, match="there is no Graphviz here"):
        graph.render()
    for needs_none in (".dot", ".mmd"):
        graph.render(tmp_path / f"g{needs_none}")
    shown = graph._repr_mimebundle_()
    assert "no picture: there is no Graphviz here" in shown["text/plain"]


def program(path: Path, body: str) -> str:
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


ECHO = "sys.stdout.write('<svg>' + sys.argv[2] + str('digraph' in sys.stdin.read()) + '</svg>')"
needs_scripts = pytest.mark.skipif(os.name == "nt", reason="a script is no program there")


@needs_scripts
def test_the_ladder(bare: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    graph = cp.Graph(a)
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder / "dot", ECHO)
    bare.setenv("PATH", str(folder))
    assert "Generated by graphviz" in graph.render()  # the one that came with the package, before PATH
    bare.setattr(graphviz_binary, "bundled", lambda: None)
    assert graph.render() == "<svg>-TsvgTrue</svg>"  # then PATH
    named = program(tmp_path / "mine", ECHO.replace("<svg>", "<svg>mine "))
    bare.setenv("CPGRAPH_DOT", named)
    assert graph.render() == "<svg>mine -TsvgTrue</svg>"  # what is named, before all
    assert caplog.text == ""


@needs_scripts
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "No such file or directory"),
        ("sys.exit('Error: syntax error in line 1')", "Error: syntax error in line 1"),
        ("sys.exit(3)", "exit status 3, nothing said"),
        ("sys.exit(0)", "exit status 0, nothing said"),
    ],
)
def test_a_rung_that_breaks_is_told_and_the_next_is_taken(
    bare: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, body: str | None, said: str
) -> None:
    broken = str(tmp_path / "none") if body is None else program(tmp_path / "broken", body)
    bare.setenv("CPGRAPH_DOT", broken)
    assert "Generated by graphviz" in cp.Graph(a).render()
    assert caplog.messages == [f"CPGRAPH_DOT={broken} could not lay the picture out: {said}"]
    bare.setattr(graphviz_binary, "bundled", lambda: None)
    with pytest.raises(cp.CpgraphError, match="no Graphviz here lays the picture out") as caught:
        cp.Graph(a).render()
    assert caught.value.facts == {f"CPGRAPH_DOT={broken}": said}


@needs_scripts
def test_a_program_that_does_not_end_is_ended(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setattr(graphviz_binary, "TIMEOUT", 0.2)
    bare.setattr(graphviz_binary, "bundled", lambda: None)
    bare.setenv("CPGRAPH_DOT", program(tmp_path / "waits", "import signal; signal.pause()"))
    with pytest.raises(cp.CpgraphError, match=r"not ready after 0.2 s"):
        cp.Graph(a).render()


@needs_scripts
def test_a_pdf_is_drawn_by_a_program_that_can_before_one_that_only_paints(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path / "dot", ECHO.replace("<svg>", "%PDF"))
    bare.setenv("PATH", str(tmp_path))
    assert Path(cp.Graph(a).render(tmp_path / "a.pdf")).read_text(encoding="utf-8").startswith("%PDF-TpdfTrue")


# Files


@pytest.mark.parametrize("name", ["site.jpg", "site", "site.svg.gz", ".svg"])
def test_an_unknown_suffix_is_refused_before_anything_is_drawn(tmp_path: Path, name: str) -> None:
    with pytest.raises(cp.CpgraphError, match=r"no picture is written with (.|\n)*Mend: use one of .svg .png .pdf .dot .gv .mmd"):
        cp.Graph(a).render(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_nearest_suffix_is_named() -> None:
    with pytest.raises(cp.CpgraphError, match=r"Did you mean '.svg'\?"):
        cp.Graph(a).render("site.svgz")


def test_a_picture_takes_the_place_of_an_older_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "g.dot"
    path.write_text("old", encoding="utf-8")
    link = tmp_path / "link.dot"
    link.symlink_to(path)
    assert cp.Graph(a).render(link) == str(link)
    assert link.is_symlink()
    assert path.read_text(encoding="utf-8").startswith("digraph a ")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["g.dot", "link.dot"]


def test_a_place_that_cannot_be_written_to_is_told_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "taken.svg").mkdir()
    for path in (tmp_path / "taken.svg", tmp_path / "none" / "g.svg"):
        with pytest.raises(cp.CpgraphError, match=r"the picture cannot be written(.|\n)*Mend: give a path in a folder"):
            cp.Graph(a).render(path)
    assert [found.name for found in tmp_path.iterdir()] == ["taken.svg"]


# Words


def test_shortening() -> None:
    assert shorten("a" * 44) == "a" * 44
    assert shorten("a" * 45) == "a" * 43 + "…"
    assert shorten("a\x00b\u202e\n c") == "a b c"


def test_counting_and_timing() -> None:
    assert counted({"closed": 1, "computed": 12_000, "failed": 0}) == "12,000 computed · 1 closed"
    assert [duration(seconds) for seconds in (0, 0.9994, 9.94, 59.4, 61, 7_260)] == [
        "under 1 ms", "999 ms", "9.9 s", "59 s", "1 min 1 s", "2 h 1 min",
    ]  # fmt: skip
