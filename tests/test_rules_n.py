"""Names and parameters: rules N1 to N10, each through the public API alone."""

import os
import random
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import pytest

import cpgraph as cp
from cpgraph.models import Create
from cpgraph.testing import Log


@cp.model
class Order:
    id: int
    amount: str = "1"
    total: float | None = None


@cp.model
class Pointed:
    id: int
    point: object = None


@cp.model
class Odd:
    id: int
    store: str = "shop"
    record: int = 7
    stream: str = "rhine"


@cp.model
class Line:
    id: int
    order_id: int = 1
    amount: int = 5
    price: float = 2.0
    note: str = ""


@cp.model
class Plain:
    id: str
    n: int = 0


both = pytest.mark.parametrize("executor", ["inline", "threads"])
FILE = "test_rules_n.py:"


def go(*pipelines: Any, data: Any = None, executor: Any = "inline", **options: Any) -> cp.Run:
    options.setdefault("dir", None)
    return cp.Graph(*pipelines, models=[Order, Line, Plain]).run(data, executor=executor, **options)


def refused(*pipelines: Any, **options: Any) -> str:
    with pytest.raises(cp.CompileError) as caught:
        cp.Graph(*pipelines, **options)
    return str(caught.value)


def has(text: str, *words: str) -> bool:
    missing = [word for word in words if word not in text]
    assert not missing, f"{missing} not in:\n{text}"
    return True


def one() -> int:
    return 1


def plain(n: int) -> int:
    return n


# N1


def test_n1_step_names_are_unique_in_a_graph() -> None:
    """Wherever they stand; the mend is an alias."""

    @cp.step(name="one")
    def other() -> int:
        return 2

    for pipelines in (
        [cp.pipeline(one, one)],
        [cp.pipeline(one), cp.pipeline(one)],
        [cp.pipeline([one, cp.pipeline(one)])],
        [one, other],
        [cp.pipeline(one), cp.pipeline(cp.pipeline(one, each=Order))],
        [one, cp.alias(plain, "one", inputs={"n": "one"})],
    ):
        has(refused(*pipelines), "'one'", "twice", FILE, "Mend:", "cp.alias(")


@both
def test_n1_an_alias_is_a_second_use_that_leaves_the_function_as_it_is(executor: str) -> None:
    """`inputs` says which step's value a parameter gets; the rest are options of `@step`."""

    def fetch(text: str) -> str:
        return text.upper()

    def text() -> str:
        return "a"

    def clean_text(text: str) -> str:
        return text + "b"

    fast = cp.alias(fetch, "fetch_fast", inputs={"text": "clean_text"}, retries=2)
    run = go(cp.pipeline(text, clean_text, [fetch, fast]), executor=executor)
    assert run.ok and run.value(fetch) == "A" and run.value("fetch_fast") == "AB" and run.value(fast) == "AB"
    assert fetch("x") == "X" and not hasattr(fetch, "__cpgraph_step__")
    assert go(cp.pipeline(text, fetch), executor=executor).value(fetch) == "A"


@both
def test_n1_the_options_of_an_alias_are_its_own(executor: str) -> None:
    """Those of the function's `@step` go on to hold where it says nothing else; `sets` and `after` serve as well."""
    calls = []

    @cp.step(version="1", retries=3)
    def flaky(id: int) -> float:
        calls.append(id)
        if len(calls) < 3:
            raise ValueError("again")
        return 1.5

    run = go(cp.pipeline(cp.alias(flaky, "again", sets="total"), each=Order), data=[Order(id=1)], executor=executor)
    assert run.ok and run.store.find(Order, 1).total == 1.5 and len(calls) == 3
    calls.clear()
    run = go(cp.pipeline(cp.alias(flaky, "never", retries=0), each=Order), data=[Order(id=1)], executor=executor)
    assert not run.ok and len(calls) == 1


def test_n1_inputs_may_name_the_step_itself_and_wait_for_it() -> None:
    """Given as a function or by its name; wherever it stands."""
    log = Log()
    by_function = cp.alias(plain, "by_function", inputs={"n": one})
    by_name = cp.alias(plain, "by_name", inputs={"n": "one"})
    run = go(cp.pipeline([by_function, by_name]), cp.pipeline(one), stream=log.stream)
    assert run.value("by_function") == run.value("by_name") == 1
    assert log.computed[0] == "one"


def test_n1_what_an_alias_may_not() -> None:
    has(refused(one, cp.alias(plain, "two", inputs={"m": "one"})), "'two'", "'m'", "n", "Mend:")
    has(refused(one, cp.alias(plain, "two", inputs={"n": "onne"})), "'two'", "'onne'", "Did you mean 'one'?")
    with pytest.raises(cp.CompileError, match="retry"):
        cp.alias(one, "two", retry=2)
    has(refused(cp.alias(one, "a/b")), "'a/b'", "printable")


def test_n1_lambdas_without_names_are_an_error_with_the_mend() -> None:
    has(refused(cp.pipeline(lambda: 1, lambda: 2)), "lambda", FILE, "cp.alias(", "Mend:")
    run = go(cp.pipeline(cp.alias(lambda: 1, "first"), cp.alias(lambda first: first + 1, "second")))
    assert run.value("first") == 1 and run.value("second") == 2


def test_n1_a_parameter_is_fixed_by_a_function_that_calls_the_other() -> None:
    def scaled(amount: int, factor: int) -> int:
        return amount * factor

    def double(amount: int) -> int:
        return scaled(amount, 2)

    assert go(cp.pipeline(double, each=Line), data=[Line(id=1)]).value(double, 1) == 10


def test_n1_what_no_function_is_no_alias_is_made_of() -> None:
    def work(text: str) -> str:
        return text

    first = cp.alias(work, "first")
    for made, words in (
        (lambda: cp.alias(3, "x"), ["alias()", "3 (int)"]),  # type: ignore[arg-type]
        (lambda: cp.alias(Line, "x"), ["alias()", "model Line"]),
        (lambda: cp.alias(first, "second"), ["'second'", "alias of an alias", "'first'"]),  # type: ignore[arg-type]
        (lambda: cp.alias(work, "x", inputs=3), ["inputs=3", "alias"]),  # type: ignore[arg-type]
        (lambda: cp.alias(work, "x", inputs={3: "one"}), ["inputs=", "alias"]),  # type: ignore[dict-item]
        (lambda: cp.alias(work, "x", inputs={"text": 3}), ["'text'", "3 (int)"]),
    ):
        with pytest.raises(cp.CompileError) as caught:
            made()
        has(str(caught.value), *words, FILE, "Mend:")
    has(refused(cp.alias(work, "x", inputs={"txet": "one"}), one), "'txet'", "Did you mean 'text'?", FILE)


BAD_OPTIONS: dict[str, Any] = {
    "limit": 3,
    "retry_on": 3,
    "retries": "x",
    "timeout": "x",
    "backoff": "x",
    "sets": 3,
    "cache": "no",
    "version": ["x"],
}


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_n1_options_of_a_wrong_kind_are_told_where_they_are_given(option: str) -> None:
    """Of a step as of an alias; design 3.3 has the options."""

    def work() -> int:
        return 1

    given = {option: BAD_OPTIONS[option]}
    for made in (lambda: cp.step(**given)(work), lambda: cp.alias(work, "x", **given)):
        with pytest.raises(cp.CompileError) as caught:
            made()
        has(str(caught.value), f"{option}=", FILE, "Mend: give")
    with pytest.raises(cp.CompileError, match=r"(?s)sets=\['total'\].*one field"):
        cp.step(sets=["total"])(work)  # type: ignore[call-overload]
    with pytest.raises(cp.CompileError, match=r"Did you mean 'retries'\?"):
        cp.step(retires=3)(work)  # type: ignore[call-overload]
    assert not hasattr(work, "__cpgraph_step__")


def test_n1_what_cannot_be_marked_is_no_step() -> None:
    for thing, words in (
        (Line, ["class Line"]),
        (3, ["3 (int)"]),
        (len, ["builtins (len)", "cp.alias("]),
        (Line.__eq__.__get__(Line(id=1)), ["cp.alias("]),
    ):
        with pytest.raises(cp.CompileError) as caught:
            cp.step(thing)  # type: ignore[type-var]
        has(str(caught.value), "@step", *words, FILE, "Mend:")


@both
def test_n1_callable_objects_partials_and_builtins_serve_and_are_told_by_their_place(executor: str) -> None:
    class Adder:
        def __call__(self, one: int) -> int:
            return one + 1

    run = go(cp.pipeline(one, [cp.alias(Adder(), "add"), cp.alias(partial(plain, n=3), "three")]), executor=executor)
    assert run.value("add") == 2 and run.value("three") == 3

    class Wrong:
        def __call__(self, nothing_like_it: int) -> int:
            return 1

    for step, place in ((Wrong(), FILE), (partial(plain), FILE), (len, "builtins (len)")):
        text = refused(cp.alias(step, "it"))
        has(text, place)
        assert " at 0x" not in text


@both
def test_n1_an_object_with_an_async_call_is_an_async_step(executor: str) -> None:
    class Fetch:
        async def __call__(self, one: int) -> int:
            return one + 1

    def after(fetch: int) -> int:
        return fetch + 1

    run = go(cp.pipeline(one, cp.alias(Fetch(), "fetch"), after), executor=executor)
    assert run.value("fetch") == 2 and run.value(after) == 3


# N2

BAD_NAMES = ["a/b", "a[1]", "a]", "a,b", 'a"b', "a'b", "", "a\nb", "a\tb", "\x00", "a\u200bb"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_n2_a_name_is_printable_text_without_a_few_signs(name: str) -> None:
    """Of steps, of aliases, of pipelines, of graphs."""
    has(refused(cp.step(name=name)(lambda: 1)) if name else refused(cp.alias(one, name)), repr(name), "printable")
    has(refused(cp.alias(one, name)), repr(name), "Mend:")
    with pytest.raises(cp.CompileError) as caught:
        cp.pipeline(one, name=name)
    has(str(caught.value), repr(name), FILE)
    has(refused(one, name=name), repr(name))


@pytest.mark.parametrize("name", ["größe", "a b", "a.b", "a-b", "数", "a~b", "100%", "step 1 (of 2)"])
def test_n2_any_other_name_will_do(name: str) -> None:
    run = cp.Graph(cp.pipeline(cp.alias(one, name), name=name), name=name).run(dir=None)
    assert run.value(name) == 1 and run.graph == name and [node.id for node in run.nodes] == [name]


def test_n2_a_name_that_is_no_text_is_an_error() -> None:
    with pytest.raises(cp.CompileError):
        cp.pipeline(one, name=5)  # type: ignore[arg-type]
    refused(one, name=5)
    refused(cp.alias(one, 5))  # type: ignore[arg-type]


def test_n2_an_unnamed_graph_is_called_as_its_first_step() -> None:
    def first() -> int:
        return 1

    graph = cp.Graph(cp.pipeline(cp.pipeline([first], name="inner"), one, name="outer"))
    assert graph.name == "first" and graph.run(dir=None).graph == "first"
    assert cp.Graph(first, name="mine").name == "mine"


def test_n2_a_resume_that_finds_no_run_of_that_name_lists_those_there_are(tmp_path: Path) -> None:
    for name in ("orders", "crawl"):
        cp.Graph(one, name=name).run(dir=tmp_path)
    with pytest.raises(cp.CpgraphError) as caught:
        cp.Graph(one, name="order").resume(dir=tmp_path)
    has(str(caught.value), "'order'", "orders", "crawl", "Mend:")


def test_n2_wrapping_parts_in_one_more_pipeline_keeps_every_result(tmp_path: Path) -> None:
    """Nodes are found by step and ids."""

    def work(amount: str) -> int:
        return int(amount)

    def total(work: list[int]) -> int:
        return sum(work)

    data = [Order(id=1), Order(id=2, amount="2")]
    graph = cp.Graph(cp.pipeline(cp.pipeline(work, each=Order), total), name="wrap")
    assert graph.run(data, dir=tmp_path, executor="inline").ok
    wrapped = cp.Graph(
        cp.pipeline(cp.pipeline(cp.pipeline(cp.pipeline(work, name="x"), each=Order, name="y"), name="z"), [cp.pipeline(total)]),
        name="wrap",
    )
    run = wrapped.run(data, dir=tmp_path, executor="inline")
    assert run.counts == {"work": {"cached": 2}, "total": {"cached": 1}}
    run = wrapped.resume(dir=tmp_path, executor="inline")
    assert run.ok and run.counts == {"work": {"cached": 2}, "total": {"cached": 1}} and run.value(total) == 3


def test_n2_an_empty_name_is_refused_and_not_ignored() -> None:
    def work() -> int:
        return 1

    has(refused(cp.step(work, name="")), "step name ''", FILE, "Mend:")  # type: ignore[call-overload]


# N3

IDS: list[tuple[Any, str]] = [
    (3, "f[3]"),
    ("3", 'f["3"]'),
    (-3, "f[-3]"),
    ("-3", 'f["-3"]'),
    ("3.5", 'f["3.5"]'),
    ("1e5", 'f["1e5"]'),
    ("a", "f[a]"),
    ("a b", "f[a b]"),
    ("a.b/c", "f[a.b/c]"),
    ("é", "f[é]"),
    ("", 'f[""]'),
    ("a,b", 'f["a,b"]'),
    ("a[b", 'f["a[b"]'),
    ("a]b", 'f["a]b"]'),
    ("a~2", 'f["a~2"]'),
    ('a"b', 'f["a\\"b"]'),
    ("a'b", 'f["a\'b"]'),
    ("a\nb", 'f["a\\nb"]'),
    ("a\x7f\u2028é", 'f["a\\u007f\\u2028é"]'),
    ("x" * 300, f"f[{'x' * 300}]"),
]


@pytest.mark.parametrize(("id", "text"), IDS)
def test_n3_a_nodes_id_is_the_step_and_the_id(id: Any, text: str) -> None:
    def f(it: int) -> int:
        return it

    run = go(cp.pipeline(f, each={"it": {id: 1}}))
    (node,) = run.nodes
    assert node.id == text and run.value(f, id) == 1 and list(run.values(f)) == [id]
    model = str(type(id).__name__)
    assert model in ("int", "str")


def test_n3_an_id_breaks_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    def f(it: str) -> int:
        return int(it)

    run = cp.Graph(cp.pipeline(f, each={"it": ["one\ntwo", "one\ntwo"]})).run(dir=None)
    assert [node.id for node in run.nodes] == ['f["one\\ntwo"]', "f[one\\ntwo~2]"]
    assert '["one\\ntwo"], f[one\\ntwo~2]' in capsys.readouterr().err and run.value(f, "one\ntwo", default=0) == 0


@both
def test_n3_an_int_and_a_str_are_two_nested_ids_have_commas_and_outside_there_are_no_brackets(executor: str) -> None:
    def f(it: str, record: Plain) -> str:
        return it

    def g() -> int:
        return 1

    run = go(
        cp.pipeline(cp.pipeline(f, each={"it": {3: "int", "3": "str"}}), each=Plain),
        g,
        data=[Plain(id="a"), Plain(id="1")],
        executor=executor,
    )
    assert sorted(node.id for node in run.nodes) == sorted(["f[a,3]", 'f[a,"3"]', 'f["1",3]', 'f["1","3"]', "g"])
    assert run.value(f, ("a", 3)) == "int" and run.value(f, ("a", "3")) == "str" and run.value(g) == 1


# N4


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (lambda amount, mount: mount, ["'mount'", "Did you mean 'amount'?"]),
        (lambda prase: prase, ["'prase'", "Did you mean 'parse'?", "field of Order"]),
        (lambda recrod: recrod, ["'recrod'"]),
        (lambda kee: kee, ["'kee'", "Did you mean 'key'?"]),
        (lambda zzzzz: zzzzz, ["'zzzzz'", "field of Order", "earlier step or parameter"]),
    ],
)
def test_n4_a_parameter_must_fit_a_row(second: Any, words: list[str]) -> None:
    """With the step, the name, the near one, file and line."""

    def parse(amount: str, key: str) -> float:
        return float(amount)

    has(refused(cp.pipeline(parse, cp.alias(second, "save"), each=Order), params=["key"]), "'save'", FILE, "Mend:", *words)


def test_n4_the_sentence_of_the_design() -> None:
    def parse(record: Order) -> None: ...

    def save(prase) -> None:  # type: ignore[no-untyped-def]
        ...

    text = refused(cp.pipeline(parse, save, each=Order))
    assert text.splitlines()[0] == (
        "step 'save' asks for 'prase': no field of Order, earlier step or parameter is called that. Did you mean 'parse'?"
    )


def test_n4_outside_of_an_each_there_is_no_record() -> None:
    def work(record: Order) -> int:
        return record.id

    def field(amount: str) -> str:
        return amount

    has(refused(work, models=[Order]), "'record'", "each=", "Mend:")
    has(refused(field, models=[Order]), "'amount'", "Mend:")


@pytest.mark.parametrize(
    "clash", ["field and step", "item and step", "param and field", "param and step", "field and item", "record and field"]
)
def test_n4_two_rows_that_both_fit_are_an_error(clash: str) -> None:
    """Naming both, with the mend."""

    @cp.step(name="amount")
    def a_step() -> str:
        return "1"

    def work(amount) -> Any:  # type: ignore[no-untyped-def]
        return amount

    def annotated(amount: Order) -> Any:
        return amount

    text = {
        "field and step": lambda: refused(cp.pipeline(a_step, cp.pipeline(work, each=Order))),
        "item and step": lambda: refused(cp.pipeline(a_step, cp.pipeline(work, each={"amount": ["1"]}))),
        "param and field": lambda: refused(cp.pipeline(work, each=Order), params=["amount"]),
        "param and step": lambda: refused(cp.pipeline(a_step, work), params={"amount": "1"}),
        "field and item": lambda: refused(cp.pipeline(cp.pipeline(work, each={"amount": ["1"]}), each=Order)),
        "record and field": lambda: refused(cp.pipeline(annotated, each=Order)),
    }[clash]()
    has(text, "'amount'", "two things", FILE, "Mend:", *clash.replace("param", "parameter").split(" and "))


@pytest.mark.parametrize("clash", ["field", "step", "item"])
def test_n4_one_with_a_default_is_a_run_parameter_and_nothing_else(clash: str) -> None:
    @cp.step(name="extra")
    def a_step() -> int:
        return 1

    def work(price: float = 1.0) -> float:
        return price

    def other(extra: int = 1) -> int:
        return extra

    text = {
        "field": lambda: refused(cp.pipeline(work, each=Line)),
        "step": lambda: refused(cp.pipeline(a_step, other)),
        "item": lambda: refused(cp.pipeline(other, each={"extra": [1]})),
    }[clash]()
    has(text, "default", clash, FILE, "Mend:", "inputs=")


@both
def test_n4_inputs_of_an_alias_make_one_with_a_default_a_steps_value(executor: str) -> None:
    def extra() -> int:
        return 5

    def other(extra: int = 1) -> int:
        return extra

    run = go(cp.pipeline(extra, cp.alias(other, "other", inputs={"extra": "extra"})), executor=executor)
    assert run.value("other") == 5


@both
def test_n4_defaults_of_one_name_may_differ_a_value_given_is_for_all(executor: str) -> None:
    def first(size: int = 1) -> int:
        return size

    def second(size: int = 2, *, other: str = "x") -> Any:
        return size, other

    graph = cp.Graph(cp.pipeline(first, second))
    run = graph.run(dir=None, executor=executor)
    assert run.value(first) == 1 and run.value(second) == (2, "x")
    run = graph.run(dir=None, executor=executor, params={"size": 7})
    assert run.value(first) == 7 and run.value(second) == (7, "x")


@both
def test_n4_a_steps_own_name_as_parameter_means_the_field(executor: str) -> None:
    """One that sets the field of its own name is that field afterwards: no clash."""

    @cp.step(sets="amount")
    def amount(amount: str) -> str:
        return amount + "0"

    def later(amount: str) -> str:
        return amount

    @cp.step(name="price")
    def own(price: float) -> float:
        return price * 2

    run = go(cp.pipeline(amount, later, each=Order), data=[Order(id=1, amount="5")], executor=executor)
    assert run.ok and run.value(later, 1) == "50" and run.value(amount, 1) == "50" and run.store.find(Order, 1).amount == "50"
    assert go(cp.pipeline(own, each=Line), data=[Line(id=1)], executor=executor).value(own, 1) == 4.0
    has(refused(cp.pipeline(own, cp.alias(lambda price: price, "later"), each=Line)), "'price'", "two things")


@both
def test_n4_naming_a_step_that_sets_its_field_waits_for_it_also_in_a_list(executor: str) -> None:
    @cp.step(sets="total")
    def total(amount: str) -> float:
        return float(amount)

    def show(total: float) -> float:
        return total

    run = go(cp.pipeline([show, total], each=Order), data=[Order(id=1, amount="5")], executor=executor)
    assert run.value(show, 1) == 5.0


@both
def test_n4_record_store_and_stream_count_only_where_not_annotated_otherwise(executor: str) -> None:
    def fields(store: str, record: int, stream: str) -> Any:
        return store, record, stream

    run = cp.Graph(cp.pipeline(fields, each=Odd)).run([Odd(id=1)], dir=None, executor=executor)
    assert run.value(fields, 1) == ("shop", 7, "rhine")

    def special(record, store, stream) -> Any:  # type: ignore[no-untyped-def]
        stream.push("x")
        return record.id, store.count(Line)

    assert go(cp.pipeline(special, each=Line), data=[Line(id=4)], executor=executor).value(special, 4) == (4, 1)

    def by_annotation(line: Line, db: cp.Store, out: cp.Stream, text: "Line") -> Any:
        return line.id, db.count(Line), text.id

    assert go(cp.pipeline(by_annotation, each=Line), data=[Line(id=4)], executor=executor).value(by_annotation, 4) == (4, 1, 4)

    def unannotated(record) -> Any:  # type: ignore[no-untyped-def]
        return record

    has(refused(cp.pipeline(unannotated, each=Odd)), "'record'", "two things")


def test_n4_star_arguments_are_refused() -> None:
    def spread(*things: Any) -> Any:
        return things

    def words(**things: Any) -> Any:
        return things

    for step in (spread, words):
        has(refused(step), f"'{step.__name__}'", "things", FILE, "Mend:")


def test_n4_stars_are_told_as_they_are_written() -> None:
    def words(**things: Any) -> Any:
        return things

    has(refused(words), "takes **things")


@pytest.mark.parametrize("name", ["store", "stream", "annotated store", "annotated stream"])
def test_n4_the_store_and_the_stream_have_no_default(name: str) -> None:
    """Such a parameter would be a run parameter, and get None in silence."""

    def store(store=None) -> Any: ...  # type: ignore[no-untyped-def]

    def stream(stream=None) -> Any: ...  # type: ignore[no-untyped-def]

    def db(db: cp.Store = None) -> Any: ...  # type: ignore[assignment]

    def out(out: cp.Stream = None) -> Any: ...  # type: ignore[assignment]

    step = {"store": store, "stream": stream, "annotated store": db, "annotated stream": out}[name]
    has(refused(cp.alias(step, "work")), "'work'", "default", f"the {name.split()[-1]}", FILE, "Mend:")
    has(refused(cp.pipeline(one, open=step)), "open=", "default", FILE)


@both
def test_n4_a_store_annotated_otherwise_may_have_a_default(executor: str) -> None:
    def work(store: str = "x", stream: int = 1) -> Any:
        return store, stream

    assert go(work, executor=executor, params={"stream": 2}).value(work) == ("x", 2)


@both
def test_n4_annotated_is_seen_through(executor: str) -> None:
    """For the record, the store, the stream, the dict of a join, and where annotations are compared."""

    def work(r: Annotated[Line, "the line"], s: Annotated[cp.Store, 1], out: Annotated[cp.Stream, 1]) -> Annotated[int, "id"]:
        out.push("seen")
        return r.id + s.count(Line)

    def joined(work: Annotated[dict[int, int], "by id"]) -> Any:
        return work

    run = go(cp.pipeline(cp.pipeline(work, each=Line), joined), data=[Line(id=4)], executor=executor)
    assert run.value(joined) == {4: 5}

    def wrong(work: Annotated[str, "no"]) -> Any:
        return work

    def amounts(amount: Annotated[str, "no"]) -> Any:
        return amount

    has(refused(cp.pipeline(work, wrong, each=Line)), "'wrong'", "'work'", "str", "int")
    has(refused(cp.pipeline(amounts, each=Line)), "'amounts'", "str", "int")


def test_n4_or_none_does_not_ask_for_the_record_or_the_store() -> None:
    def record(r: Line | None) -> Any: ...

    def optional(r: Optional[Line] = None) -> Any: ...  # noqa: UP045

    def store(s: cp.Store | None) -> Any: ...

    def default(s: cp.Store | None = None) -> Any: ...

    for step, name in ((record, "Line"), (optional, "Line"), (store, "Store"), (default, "Store")):
        has(refused(cp.pipeline(step, each=Line)), f"'{step.__name__}'", f"{name} or None", f"with {name} alone", FILE)

    def text(r: "Unseen | None") -> Any: ...

    @cp.model
    class Unseen:
        id: int

    has(refused(cp.pipeline(text, each=Unseen)), "'text'", "Unseen | None", "with Unseen alone", FILE)


@both
def test_n4_or_none_serves_where_the_name_says_what_it_is(executor: str) -> None:
    def found(store: cp.Store) -> Line | None:
        return store.get(Line, 4)

    def use(found: Line | None) -> Any:
        return found and found.amount

    assert go(cp.pipeline(found, use), data=[Line(id=4)], executor=executor).value(use) == 5


def test_n4_a_model_that_is_not_around_is_named() -> None:
    def work(r: Line) -> Any: ...

    def quoted(r: "Line") -> Any: ...

    for step in (work, quoted):
        has(refused(cp.pipeline(step, each=Plain), models=[Line]), "'r'", "no each= of Line", "each=Line", FILE)


def test_n4_the_name_that_is_refused_is_not_offered() -> None:
    def f(f: int) -> int:
        return f

    text = refused(f)
    assert "Did you mean" not in text and "its own value" in text

    @cp.step(sets="id")
    def g(amount: int) -> int:
        return amount

    text = refused(cp.pipeline(g, each=Line))
    assert "Did you mean" not in text and has(text, "'id'", "fields")


# N5


@both
def test_n5_any_step_of_the_graph_may_be_named_wherever_it_stands(executor: str) -> None:
    """Naming it is waiting for it; only the naming step waits, not its pipeline."""
    log = Log()

    def early(later: int) -> int:
        return later + 1

    def beside() -> int:
        return 1

    def later(before: int) -> int:
        return before + 1

    def before() -> int:
        return 5

    run = go(cp.pipeline([early, beside]), cp.pipeline(before, later), executor=executor, stream=log.stream)
    assert run.value(early) == 7 and run.value(beside) == 1
    assert [text for text in log if text.endswith("started")] == [
        f"{step} started" for step in ("beside", "before", "later", "early")
    ]


@both
def test_n5_in_a_list_a_step_that_names_another_waits_for_it(executor: str) -> None:
    def two(first: int) -> int:
        return first + 1

    def first() -> int:
        return 1

    assert go(cp.pipeline([two, first]), executor=executor).value(two) == 2


def test_n5_if_the_order_says_otherwise_it_is_a_compile_error_with_the_cycle() -> None:
    def two(three: int) -> int:
        return three

    def three() -> int:
        return 3

    def a(b: int) -> int:
        return b

    def b(a: int) -> int:
        return a

    def lonely(lonely: int) -> int:
        return lonely

    has(refused(cp.pipeline(two, three)), "two", "three", "→", FILE, "Mend:")
    has(refused(cp.pipeline([a, b])), "a → b", FILE)
    has(refused(lonely), "'lonely'")


def test_n5_a_step_outside_that_is_named_from_inside_an_each_comes_first() -> None:
    def inside(later: int, n: int) -> int:
        return later + n

    def later() -> int:
        return 5

    assert go(cp.pipeline(inside, each=Plain), later, data=[Plain(id="a", n=1)]).value(inside, "a") == 6
    has(refused(cp.pipeline(cp.pipeline(inside, each=Plain), later)), "inside", "later", "→")


# N6


@both
def test_n6_all_enclosing_records_and_items_are_in_reach(executor: str) -> None:
    """A bare field is of the innermost model that has it, `record` the innermost record, an annotation picks any."""

    def work(amount: Any, total: Any, note: str, record, order: Order, line: "Line", tag: str, id: int) -> Any:  # type: ignore[no-untyped-def]
        return amount, total, note, type(record).__name__, order.id, line.id, tag, id

    run = go(
        cp.pipeline(cp.pipeline(cp.pipeline(work, each={"tag": ["t"]}), each=Line), each=Order),
        data=[Order(id=1, amount="outer", total=9.0), Line(id=2, amount=5, note="n")],
        executor=executor,
    )
    assert run.value(work, (1, 2, "t")) == (5, 9.0, "n", "Line", 1, 2, "t", 2)


@both
def test_n6_sets_and_update_go_to_the_innermost_record(executor: str) -> None:
    @cp.step(sets="note")
    def work(tag: str, amount: int) -> str:
        return f"{tag}{amount}"

    def change(record) -> Any:  # type: ignore[no-untyped-def]
        return cp.update(amount=6)

    run = go(
        cp.pipeline(cp.pipeline(cp.pipeline(work, each={"tag": ["t"]}), change, each=Line), each=Order),
        data=[Order(id=1), Line(id=2)],
        executor=executor,
    )
    assert run.ok, run.failures[0].traceback
    assert run.store.find(Line, 2) == Line(id=2, note="t5", amount=6) and run.store.find(Order, 1) == Order(id=1)


def test_n6_update_of_a_field_only_the_outer_model_has_is_an_error() -> None:
    def work(record: Line) -> Any:
        return cp.update(total=1.0)

    run = go(cp.pipeline(cp.pipeline(work, each=Line), each=Order), data=[Order(id=1), Line(id=2)])
    has(str(run.failures[0].error), "total", "Line")

    @cp.step(sets="total")
    def sets(note: str) -> float:
        return 1.0

    has(refused(cp.pipeline(cp.pipeline(sets, each=Line), each=Order)), "'total'", "Line", FILE)


def test_n6_sets_needs_a_record_and_a_field_of_it() -> None:
    @cp.step(sets="totl")
    def misspelt(amount: str) -> float:
        return 1.0

    @cp.step(sets="total")
    def alone() -> float:
        return 1.0

    @cp.step(sets="id")
    def an_id(amount: str) -> int:
        return 1

    has(refused(cp.pipeline(misspelt, each=Order)), "'misspelt'", "'totl'", "Did you mean 'total'?", FILE)
    has(refused(alone), "'alone'", "each=")
    has(refused(cp.pipeline(an_id, each=Order)), "'id'")


# N7


@both
def test_n7_run_parameters_are_declared_by_name_with_defaults_or_in_a_signature(executor: str) -> None:
    def work(key: str, limit: int, size: int = 3) -> Any:
        return key, limit, size

    graph = cp.Graph(work, params={"key": "k", "limit": 5})
    assert graph.run(dir=None, executor=executor).value(work) == ("k", 5, 3)
    assert graph.run(dir=None, executor=executor, params={"key": "x", "size": 4}).value(work) == ("x", 5, 4)
    graph = cp.Graph(work, params=["key", "limit"])
    assert graph.run(dir=None, executor=executor, params={"key": "x", "limit": 1}).value(work) == ("x", 1, 3)


def test_n7_a_default_in_a_signature_declares_it_for_the_graph() -> None:
    """One name space: another step may ask for it without a default; then it has to be given."""

    def has_default(size: int = 3) -> int:
        return size

    def has_none(size: int) -> int:
        return size

    for pipelines in ([has_default, has_none], [has_none, has_default]):
        graph = cp.Graph(*pipelines)
        run = graph.run(dir=None, params={"size": 4})
        assert run.value(has_default) == run.value(has_none) == 4
        with pytest.raises(cp.CpgraphError) as caught:
            graph.run(dir=None)
        has(str(caught.value), "'size'", "no value", "params=")


def test_n7_a_declared_one_whose_askers_all_have_defaults_needs_no_value() -> None:
    def work(size: int = 3) -> int:
        return size

    assert cp.Graph(work, params=["size"]).run(dir=None).value(work) == 3
    assert cp.Graph(work, params={"size": 8}).run(dir=None).value(work) == 8, "what the graph says is for all"


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_n7_a_value_missing_or_undeclared_is_an_error_before_anything_runs(verb: str, tmp_path: Path) -> None:
    """With the nearest name."""
    ran: list[int] = []

    @cp.step(version="1")
    def work(limit: int, size: int = 3) -> int:
        ran.append(limit)
        return limit

    graph = cp.Graph(work, params=["limit"])
    for params, words in (
        ({}, ["'limit'", "limit", "--set limit=", "Mend:"]),
        (None, ["'limit'"]),
        ({"limt": 1}, ["'limt'", "Did you mean 'limit'?"]),
        ({"limit": 1, "sizes": 1}, ["'sizes'", "Did you mean 'size'?"]),
    ):
        with pytest.raises(cp.CpgraphError) as caught:
            getattr(graph, verb)(dir=tmp_path / "kept", params=params)
        has(str(caught.value), *words)
    assert ran == []


def test_n7_declared_and_asked_for_by_nobody_is_an_error_with_the_nearest_name() -> None:
    def work(limit: int = 1) -> int:
        return limit

    has(refused(work, params=["limt"]), "'limt'", "Did you mean 'limit'?", "Mend:")
    has(refused(one, params={"key": 1}), "'key'", "no step")


@both
def test_n7_conditions_guards_and_predicates_may_ask_for_them(executor: str) -> None:
    def work(id: str) -> str:
        return id

    data = [Plain(id="a", n=1), Plain(id="b", n=2)]
    for pipeline in (
        cp.pipeline(work, each=cp.where(Plain, lambda plain, least: plain.n >= least)),
        cp.pipeline(work, each=Plain, open=lambda n, least: n >= least),
    ):
        run = cp.Graph(pipeline, params=["least"]).run(data, dir=None, executor=executor, params={"least": 2})
        assert run.values(work) == {"b": "b"}
    graph = cp.Graph(cp.pipeline(work, each=Plain, open=lambda store, least=1: store.count(Plain) >= least))
    assert graph.run(data, dir=None, executor=executor).counts == {"work": {"computed": 2}}
    assert graph.run(data, dir=None, executor=executor, params={"least": 3}).counts == {"work": {"closed": 2}}


@pytest.mark.parametrize(
    ("annotation", "given", "value"),
    [
        (int, "3", 3),
        (float, "3.5", 3.5),
        (bool, "false", False),
        (bool, "true", True),
        (str, "3", "3"),
        (int | None, "3", 3),
        (Optional[int], None, None),  # noqa: UP045
        (list[int], [1, 2], [1, 2]),
        (cp.File, "f.csv", cp.File("f.csv")),
        (Any, "3", "3"),
    ],
)
def test_n7_values_are_converted_by_the_annotation(
    annotation: Any, given: Any, value: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.csv").write_text("1")

    def work(n) -> Any:  # type: ignore[no-untyped-def]
        return n

    work.__annotations__["n"] = annotation
    run = cp.Graph(work, params=["n"]).run(dir=None, params={"n": given})
    assert run.value(work) == value and type(run.value(work)) is type(value)


def test_n7_a_value_that_cannot_be_converted_is_an_error_that_names_it(tmp_path: Path) -> None:
    def work(n: int) -> int:
        return n

    with pytest.raises(cp.CpgraphError) as caught:
        cp.Graph(work, params=["n"]).run(dir=tmp_path / "kept", params={"n": "three"})
    has(str(caught.value), "'n'", "int", "three")


def test_n7_a_parameter_counts_only_for_those_who_ask(tmp_path: Path) -> None:
    def asks(size: int = 1) -> int:
        return size

    def other() -> int:
        return 2

    graph = cp.Graph(asks, other, name="asks")
    graph.run(dir=tmp_path, executor="inline")
    log = Log()
    graph.run(dir=tmp_path, executor="inline", params={"size": 2}, stream=log.stream)
    assert log.computed == ["asks"]
    log.clear()
    graph.run(dir=tmp_path, executor="inline", params={"size": 1}, stream=log.stream)
    assert log.computed == [], "the default, given: the same input"


def test_n7_what_declares_no_names_is_told() -> None:
    def work(key: int) -> int:
        return key

    for params, words in (
        (3, ["params=3"]),
        ("key", ["'key'", "params=['key']"]),
        ([3], ["names", "3 (int)"]),
        ({3: 4}, ["names", "3 (int)"]),
    ):
        has(refused(work, params=params), *words, FILE, "Mend:")


def test_n7_a_number_too_long_to_print_is_a_parameter_like_any_other(tmp_path: Path) -> None:
    def last(n: int) -> int:
        return n % 10

    graph = cp.Graph(last, params=["n"])
    for number, how in ((10**5000 + 3, "computed"), (10**5000 + 3, "cached"), (10**5000 + 4, "computed")):
        run = graph.run(dir=tmp_path, params={"n": number}, executor="inline")
        assert run.value(last) == number % 10 and run.counts["last"] == {how: 1}
    assert graph.resume(dir=tmp_path, executor="inline").value(last) == 4


# N8


@both
def test_n8_a_field_that_may_be_none_fits_a_parameter_that_may_not(executor: str) -> None:
    """An earlier step fills it."""

    @cp.step(sets="total")
    def fill(amount: str) -> float:
        return float(amount)

    def use(total: float) -> float:
        return total

    assert go(cp.pipeline(fill, use, each=Order), data=[Order(id=1)], executor=executor).value(use, 1) == 1.0


def gives_int() -> int:
    return 1


def gives_optional() -> int | None:
    return 1


def gives_anything():  # type: ignore[no-untyped-def]
    return 1


def gives_any() -> Any:
    return 1


@pytest.mark.parametrize(
    ("source", "annotation", "fits"),
    [
        (gives_int, int, True),
        (gives_int, float, True),
        (gives_int, int | None, True),
        (gives_int, "int", True),
        (gives_int, object, True),
        (gives_int, Any, True),
        (gives_int, str, False),
        (gives_int, "str", False),
        (gives_int, list, False),
        (gives_int, list[int], False),
        (gives_optional, int, False),
        (gives_optional, int | None, True),
        (gives_anything, str, True),
        (gives_any, str, True),
    ],
)
def test_n8_annotations_are_checked_where_both_sides_have_them(source: Any, annotation: Any, fits: bool) -> None:
    def use(it) -> Any:  # type: ignore[no-untyped-def]
        return it

    use.__annotations__["it"] = annotation
    pipeline = cp.pipeline(source, cp.alias(use, "use", inputs={"it": source.__name__}))
    if fits:
        assert go(pipeline).value("use") == 1
    else:
        has(refused(pipeline), "'use'", "'it'", "int", FILE, "Mend:")


def test_n8_fields_joins_and_sets_are_checked_as_well() -> None:
    def field(amount: int) -> int:
        return amount

    def single(n: int) -> int:
        return n

    def join(single: int) -> int:
        return single

    @cp.step(sets="total")
    def sets(amount: str) -> str:
        return amount

    has(refused(cp.pipeline(field, each=Order)), "'field'", "'amount'", "int", "str")
    has(refused(cp.pipeline(cp.pipeline(single, each=Plain), join)), "'join'", "'single'", "int", "list")
    has(refused(cp.pipeline(sets, each=Order)), "'sets'", "'total'", "str", "float")


def test_n8_joins_are_checked_by_what_is_in_them() -> None:
    """Lists and dicts, nested for nested levels; of a dict's keys nothing is known."""

    def a(n: int) -> int:
        return n

    def inner(a: int) -> float:
        return a

    def nobody_knows(a: int):  # type: ignore[no-untyped-def]
        return a

    def changes(n: int) -> list[Create]:
        return []

    def ask(kind: Any, step: Any = a) -> Any:
        def use(x: Any) -> Any:
            return x

        use.__annotations__["x"] = kind
        return cp.alias(use, "use", inputs={"x": step})

    one_level = cp.pipeline(a, [nobody_knows, changes], each=Plain)
    for kind in (list[str], dict[str, str], dict[int, list[int]], Annotated[list[str], 1], list[list[int]], Mapping[str, bytes]):
        has(refused(cp.pipeline(one_level, ask(kind))), "'use'", "'x'", "int", FILE, "Mend:")
    for kind in (
        list,
        list[int],
        list[float],
        dict[Any, int],
        dict[int, int],
        Sequence[int],
        list[Any],
        Iterable[int | str],
        "X",
    ):
        assert cp.Graph(cp.pipeline(one_level, ask(kind)))
    for step in (nobody_knows, changes):
        for kind in (list[str], dict[int, str], list):
            assert cp.Graph(cp.pipeline(one_level, ask(kind, step)))

    two_levels = cp.pipeline(cp.pipeline(a, inner, each=Line), each=Order)
    for kind in (list[float], list[list[str]], dict[int, float], dict[int, dict[int, str]], dict[int, list[float]]):
        has(refused(cp.pipeline(two_levels, ask(kind, inner)), params=["n"]), "'use'", "'x'", "float")
    for kind in (list[list[float]], list[list[Any]], dict[int, dict[int, float]], dict[str, Any], list):
        assert cp.Graph(cp.pipeline(two_levels, ask(kind, inner)), params=["n"])


ITEMS: list[tuple[Any, Any, bool]] = [
    (list[int], str, False),
    (list[int], int, True),
    (list[int], float, True),
    (tuple[int, ...], str, False),
    (tuple[int, str], str, True),
    (tuple[int, str], bytes, False),
    (range, str, False),
    (range, int, True),
    (dict[str, int], str, False),
    (dict[str, int], int, True),
    (list[int] | None, str, False),
    (list[int] | list[str], str, True),
    (Sequence[int], str, False),
    (Iterable[int], int, True),
    (list, str, True),
    (Any, str, True),
    (int, int, False),
    (str, str, False),
    (set[int], int, False),
    (None, int, False),
    (int | list[int], int, True),
    (object, int, True),
    ("Unseen", int, True),
]


@pytest.mark.parametrize(("source", "item", "fits"), ITEMS)
def test_n8_items_and_what_gives_them_are_checked(source: Any, item: Any, fits: bool) -> None:
    def src() -> Any:
        return []

    def it(n: Any) -> Any:
        return n

    src.__annotations__["return"], it.__annotations__["n"] = source, item
    part = cp.pipeline(src, cp.pipeline(it, each={"n": src}))
    if fits:
        assert cp.Graph(part)
    else:
        has(refused(part), "n", FILE, "Mend:")


def test_n8_files_and_joined_values_are_items_too() -> None:
    def text(f: str) -> Any:
        return f

    def path(f: cp.File) -> Any:
        return f

    def number(n: int) -> int:
        return n

    has(refused(cp.pipeline(text, each={"f": cp.files("*")})), "'f'", "str", "File")
    assert cp.Graph(cp.pipeline(path, each={"f": cp.files("*")}))
    has(refused(cp.pipeline(cp.pipeline(number, each=Plain), cp.pipeline(text, each={"f": number}))), "'f'", "str", "int")


# N9


def test_n9_the_code_of_what_a_step_with_a_stated_version_is_given_counts_for_nothing(tmp_path: Path) -> None:
    """Neither as an input, nor as an answer of the store."""
    codes = ["L1", "L2"]

    def graph() -> cp.Graph:
        space: dict[str, Any] = {"__name__": "points"}
        exec(f"class Point:\n    def label(self):\n        return {codes.pop(0)!r}\n", space)
        sys.modules["points"] = types.ModuleType("points")
        vars(sys.modules["points"]).update(space)

        @cp.step(version="1")
        def given(point: Any) -> Any:
            return point.label()

        @cp.step(version="1")
        def asks(store: cp.Store) -> Any:
            return [row.point.label() for row in store.all(Pointed)]

        point = space["Point"]()
        return cp.Graph(cp.pipeline(cp.pipeline(given, each=Pointed), asks), data=[Pointed(id=1, point=point)], name="points")

    try:
        assert graph().run(dir=tmp_path).counts == {"given": {"computed": 1}, "asks": {"computed": 1}}
        assert graph().run(dir=tmp_path).counts == {"given": {"cached": 1}, "asks": {"cached": 1}}
    finally:
        del sys.modules["points"]


def test_n9_what_cannot_change_an_answer_is_in_no_key(tmp_path: Path) -> None:
    """`stream` in a signature, retries, timeouts, limits, handlers."""

    def made(stream_too: bool, **options: Any) -> Any:
        if stream_too:

            @cp.step(name="work", **options)
            def work(amount: str, stream: cp.Stream) -> int:
                return int(amount)
        else:

            @cp.step(name="work", **options)
            def work(amount: str) -> int:
                return int(amount)

        return work

    def counts(step: Any, **run: Any) -> Any:
        return (
            cp.Graph(cp.pipeline(step, each=Order), name="keys").run([Order(id=1)], dir=tmp_path, executor="inline", **run).counts
        )

    assert counts(made(False)) == {"work": {"computed": 1}}
    for options in (
        {"retries": 2},
        {"timeout": 9},
        {"backoff": 1.0},
        {"retry_on": OSError},
        {"limit": cp.Limit(2)},
        {"after": ()},
    ):
        assert counts(made(False, **options)) == {"work": {"cached": 1}}, options
    assert counts(made(False), stream=Log().stream, concurrency=1) == {"work": {"cached": 1}}

    @cp.step(version="1", name="work")
    def quiet(amount: str) -> int:
        return int(amount)

    assert counts(quiet) == {"work": {"computed": 1}}


def test_n9_a_stream_more_in_the_signature_changes_no_key_of_a_stated_version(tmp_path: Path) -> None:
    def made(source: str) -> Any:
        names: dict[str, Any] = {"cp": cp, "__name__": "steps"}
        exec(source, names)
        return cp.step(version="1")(names["work"])

    def counts(source: str) -> Any:
        graph = cp.Graph(cp.pipeline(made(source), each=Order), name="keys")
        return graph.run([Order(id=1)], dir=tmp_path, executor="inline").counts

    assert counts("def work(amount): return 1") == {"work": {"computed": 1}}
    assert counts("def work(amount, stream): return 1") == {"work": {"cached": 1}}


def test_n9_a_version_stands_for_the_code(tmp_path: Path) -> None:
    """By the qualified name and that version; a parameter left at its default is then not in the key."""

    def made(source: str, **options: Any) -> Any:
        names: dict[str, Any] = {"cp": cp, "__name__": "steps"}
        exec(source, names)
        return cp.step(**options)(names["work"])

    def counts(step: Any, **run: Any) -> Any:
        return (
            cp.Graph(cp.pipeline(step, each=Order), name="keys").run([Order(id=1)], dir=tmp_path, executor="inline", **run).counts
        )

    plain_, other = "def work(amount): return 1", "def work(amount): return 2"
    grown = "def work(amount, size=5): return size"
    assert counts(made(plain_, version="1")) == {"work": {"computed": 1}}
    assert counts(made(other, version="1")) == {"work": {"cached": 1}}
    assert counts(made(other, version="2")) == {"work": {"computed": 1}}
    assert counts(made(plain_, version="1")) == {"work": {"cached": 1}}
    assert counts(made(grown, version="1")) == {"work": {"cached": 1}}, "adding one with a default keeps old results"
    assert counts(made(grown, version="1"), params={"size": 6}) == {"work": {"computed": 1}}
    assert counts(made(plain_)) == {"work": {"computed": 1}}
    assert counts(made(grown)) == {"work": {"computed": 1}}
    assert counts(made("def other(amount): return 1\nwork = other", version="1")) == {"other": {"computed": 1}}


# N10


def test_n10_what_is_read_from_the_environment_is_in_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def secret(id: int) -> str:
        return os.environ["CPGRAPH_TEST_SECRET"]

    graph = cp.Graph(cp.pipeline(secret, each=Order), name="env")
    monkeypatch.setenv("CPGRAPH_TEST_SECRET", "one")
    assert graph.run([Order(id=1)], dir=tmp_path, executor="inline").value(secret, 1) == "one"
    monkeypatch.setenv("CPGRAPH_TEST_SECRET", "two")
    run = graph.run([Order(id=1)], dir=tmp_path, executor="inline")
    assert run.value(secret, 1) == "one" and run.counts == {"secret": {"cached": 1}}


@both
def test_n10_the_recipe_for_chance(executor: str, tmp_path: Path) -> None:
    """`seed: int = 0` and `Random(f"{seed}/{id}")`."""

    def draw(id: int, seed: int = 0) -> float:
        return random.Random(f"{seed}/{id}").random()

    graph = cp.Graph(cp.pipeline(draw, each=Order), name="chance")
    data = [Order(id=1), Order(id=2)]
    first = graph.run(data, dir=tmp_path / "1", executor=executor).values(draw)
    assert graph.run(data, dir=tmp_path / "2", executor=executor).values(draw) == first and first[1] != first[2]
    run = graph.run(data, dir=tmp_path / "1", executor=executor, params={"seed": 1})
    assert run.counts == {"draw": {"computed": 2}} and run.values(draw) != first


def test_n10_the_clock_and_chance_are_in_no_key_either(tmp_path: Path) -> None:
    def chance(id: int) -> float:
        return random.random()

    graph = cp.Graph(cp.pipeline(chance, each=Order), name="chance")
    first = graph.run([Order(id=1)], dir=tmp_path, executor="inline").value(chance, 1)
    random.random()
    run = graph.run([Order(id=1)], dir=tmp_path, executor="inline")
    assert run.value(chance, 1) == first and run.hints == []
