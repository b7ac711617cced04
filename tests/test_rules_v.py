"""Values: rules V1 to V7, each through the public API alone."""

import gc
import io
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, NamedTuple  # noqa: UP035

import attrs
import pytest

import cpgraph as cp
from cpgraph.testing import Log


@cp.model
class Item:
    id: int
    n: int = 0
    tags: list[str] = attrs.Factory(list)


@cp.model
class Made:
    id: str = cp.auto_id()
    n: int = 0


both = pytest.mark.parametrize("executor", ["inline", "threads"])


def go(*pipelines: Any, data: Any = None, executor: Any = "inline", **options: Any) -> cp.Run:
    options.setdefault("dir", None)
    return cp.Graph(*pipelines, models=[Item, Made], name="rules").run(data, executor=executor, **options)


def items(*ns: int) -> list[Item]:
    return [Item(id=number, n=n) for number, n in enumerate(ns, 1)]


def kinds(run: cp.Run) -> list[str]:
    return [hint.kind for hint in run.hints]


def ended(run: cp.Run) -> dict[str, str]:
    return {node.id: node.ended for node in run.nodes}


def the_failure(run: cp.Run, of: type[BaseException] = cp.CpgraphError) -> Any:
    (failure,) = run.failures
    assert isinstance(failure.error, of), failure.traceback
    return failure


def refused(*pipelines: Any, **options: Any) -> str:
    with pytest.raises(cp.CompileError) as caught:
        cp.Graph(*pipelines, **options)
    return str(caught.value)


# V1

CHANGES: dict[str, tuple[Any, Any]] = {
    "a creation": (lambda: cp.create(Item(id=9)), 9),
    "an update of its own record": (lambda: cp.update(n=5), 1),
    "an update": (lambda: cp.update(Item, 2, n=5), 2),
    "a deletion": (lambda: cp.delete(Item, 2), 2),
    "a list of one": (lambda: [cp.update(n=5)], [1]),
    "a list": (lambda: [cp.create(Item(id=9)), cp.update(n=1), cp.update(Item, 2, n=2)], [9, 1, 2]),
    "a tuple": (lambda: (cp.update(n=1), cp.delete(Item, 2)), [1, 2]),
    "a value and changes": (lambda: cp.result("value", cp.update(n=5)), "value"),
    "a value and no changes": (lambda: cp.result("value"), "value"),
    "None and changes": (lambda: cp.result(None, cp.update(n=5)), None),
    "nothing": (lambda: None, None),
    "an empty list": (list, []),
}


@both
@pytest.mark.parametrize("case", CHANGES)
def test_v1_the_value_of_one_that_gives_only_changes_is_their_ids(case: str, executor: str, tmp_path: Path) -> None:
    """Of a change its id, of a list of changes the list of ids; also from the cache, and for who asks for it."""
    change, value = CHANGES[case]

    def work(record: Item) -> Any:
        return change() if record.id == 1 else None

    def ask(work: Any) -> Any:
        return work

    for expected in ("computed", "cached"):
        run = go(cp.pipeline(work, ask, each=Item), data=items(0, 0), executor=executor, dir=tmp_path)
        assert run.ok, run.failures
        assert run.value(work, 1) == value == run.value(ask, 1)
        assert ended(run)["work[1]"] == expected


@both
def test_v1_the_value_of_an_auto_id_is_the_id(executor: str) -> None:
    def make() -> Any:
        return [cp.create(Made(n=1)), cp.create(Made(n=2))]

    def ask(make: list[str], store: cp.Store) -> list[int]:
        return [store.find(Made, id).n for id in make]

    run = go(cp.pipeline(make, ask), executor=executor)
    assert run.value(ask) == [1, 2] and run.value(make) == [made["id"] for made in run.data["Made"]]


@both
def test_v1_nothing_is_visible_before_the_step_has_succeeded(executor: str) -> None:
    """Neither the value nor the changes of one that fails; nobody after it runs."""

    def work(record: Item) -> Any:
        made = cp.result("value", cp.update(n=5))
        if record.id == 2:
            raise ValueError(made)
        return made

    def ask(work: str) -> str:
        return work

    run = go(cp.pipeline(work, ask, each=Item), data=items(0, 0), executor=executor)
    assert run.values(ask) == {1: "value"} and run.store.values(Item, "n") == [5, 0]
    assert ended(run) == {"work[1]": "computed", "ask[1]": "computed", "work[2]": "failed", "ask[2]": "blocked"}


@attrs.define
class Given:
    one: Any
    other: Any


@dataclass
class Plain:
    things: list[Any]


class Named(NamedTuple):
    thing: Any


WRONG: dict[str, tuple[Any, list[str]]] = {
    "changes and values": (lambda: [cp.update(n=1), 5], ["mixes", "int", "cp.result(value, *changes)"]),
    "values and changes": (lambda: [5, cp.update(n=1)], ["mixes", "int"]),
    "changes and None": (lambda: [cp.update(n=1), None], ["mixes", "NoneType"]),
    "changes and a record": (lambda: [cp.update(n=1), Item(id=1)], ["mixes", "Item"]),
    "a tuple that mixes": (lambda: (5, cp.update(n=1)), ["mixes"]),
    "changes in a dict": (lambda: {"a": cp.update(n=1)}, ["dict", "cp.result"]),
    "changes in lists in a list": (lambda: [[cp.update(n=1)]], ["list"]),
    "a result whose value is a change": (lambda: cp.result(cp.update(n=1)), ["change", "cp.result(value, *changes)"]),
    "a result in a result": (lambda: cp.result(cp.result(1, cp.update(n=1))), ["result()", "another result"]),
    "results in a list": (lambda: [cp.result(1, cp.update(n=1))], ["list", "cp.result(value, *changes)"]),
    "results and changes": (lambda: [cp.result(1), cp.update(n=1)], ["mixes", "Result"]),
    "a result in a dict of a result": (lambda: cp.result({"a": cp.result(1, cp.update(n=1))}), ["change"]),
    "changes in an attrs value": (lambda: Given(1, cp.update(n=1)), ["Given", "cp.result(value, *changes)"]),
    "changes in a list of a dataclass": (lambda: Plain([cp.update(n=1)]), ["Plain", "cp.result(value, *changes)"]),
    "changes in a named tuple": (lambda: Named(cp.update(n=1)), ["Named", "cp.result(value, *changes)"]),
    "changes in the value of a result": (lambda: cp.result(Given(cp.update(n=1), 2)), ["change"]),
    "a generator": (lambda: (n for n in range(3)), ["generator", "list"]),
    "a result whose value is a generator": (lambda: cp.result(n for n in range(3)), ["generator", "list"]),
    "what is no change after the value": (lambda: cp.result(1, 2), ["result()", "int"]),  # type: ignore[arg-type]
}


@both
@pytest.mark.parametrize("case", WRONG)
def test_v1_what_a_step_may_not_give(case: str, executor: str) -> None:
    make, words = WRONG[case]

    def work(record: Item) -> Any:
        return make()

    run = go(cp.pipeline(work, each=Item), data=items(0), executor=executor)
    failure = the_failure(run)
    assert failure.node == "work[1]"
    assert all(word in str(failure.error) for word in [*words, "Mend:"]), failure.error
    assert run.store.values(Item, "n") == [0] and len(run.history) == 1


def test_v1_a_generator_function_is_a_compile_error() -> None:
    def work(n: int) -> Iterator[int]:
        yield n

    async def later(n: int) -> AsyncIterator[int]:
        yield n

    for step in (work, later):
        text = refused(cp.pipeline(step, each=Item))
        assert (
            repr(step.__name__) in text and "generator" in text and "test_rules_v.py:" in text and "Mend: return a list" in text
        )


@both
def test_v1_sets_beside_returned_changes_is_an_error(executor: str) -> None:
    @cp.step(sets="n")
    def work(record: Item):  # type: ignore[no-untyped-def]
        return cp.update(tags=["x"])

    failure = the_failure(go(cp.pipeline(work, each=Item), data=items(0), executor=executor))
    assert "sets='n'" in str(failure.error) and "'work'" in str(failure.error) and "test_rules_v.py:" in str(failure.error)


@both
def test_v1_sets_beside_a_result_writes_both(executor: str) -> None:
    @cp.step(sets="n")
    def work(record: Item):  # type: ignore[no-untyped-def]
        return cp.result(5, cp.update(tags=["x"]))

    run = go(cp.pipeline(work, each=Item), data=items(0), executor=executor)
    assert run.value(work, 1) == 5 and run.data == {"Item": [{"id": 1, "n": 5, "tags": ["x"]}]}
    assert len(run.history) == 2


@both
def test_v1_a_returned_record_is_a_value(executor: str) -> None:
    """Never a write; its own record, altered, is told, with `update` as the mend."""

    def same(record: Item) -> Item:
        return record

    def altered(record: Item) -> Item:
        return attrs.evolve(record, n=9)

    def another(record: Item) -> Item:
        return Item(id=99, n=9)

    run = go(cp.pipeline([same, altered, another], each=Item), data=items(0), executor=executor)
    assert run.ok and run.data == {"Item": [{"id": 1, "n": 0, "tags": []}]}
    assert run.value(altered, 1) == Item(id=1, n=9) and run.value(another, 1) == Item(id=99, n=9)
    (hint,) = run.hints
    assert "'altered'" in hint.text and "update" in hint.mend and hint.nodes == ("altered[1]",)


# V2


@both
def test_v2_from_the_same_or_an_inner_instance_it_is_that_instances_own_value(executor: str) -> None:
    def outside() -> str:
        return "o"

    def own(id: int) -> int:
        return id * 10

    def inner(part: str, own: int, outside: str) -> str:
        return f"{outside}{own}{part}"

    def beside(own: int) -> int:
        return own + 1

    run = go(
        cp.pipeline(outside, cp.pipeline(own, [cp.pipeline(inner, each={"part": ["a", "b"]}), beside], each=Item)),
        data=items(0, 0),
        executor=executor,
    )
    assert run.values(inner) == {(1, "a"): "o10a", (1, "b"): "o10b", (2, "a"): "o20a", (2, "b"): "o20b"}
    assert run.values(beside) == {1: 11, 2: 21}


@both
def test_v2_from_outside_it_is_a_list_with_one_level_per_each_left(executor: str) -> None:
    def inner(part: str, record: Item) -> str:
        return f"{record.id}{part}"

    def within(inner: list[str]) -> list[str]:
        return inner

    def after(inner: list[list[str]], within: list[list[str]]) -> Any:
        return inner, within

    run = go(
        cp.pipeline(cp.pipeline(cp.pipeline(inner, each={"part": ["b", "a"]}), within, each=Item), after),
        data=items(0, 0),
        executor=executor,
    )
    assert run.value(within, 1) == ["1b", "1a"]
    assert run.value(after) == ([["1b", "1a"], ["2b", "2a"]],) * 2


def as_plain(work: dict) -> Any:  # type: ignore[type-arg]
    return work


def as_dict(work: dict[int, int]) -> Any:
    return work


def as_old_dict(work: Dict[int, int]) -> Any:  # noqa: UP006
    return work


def as_mapping(work: Mapping[int, int]) -> Any:
    return work


def as_text(work: "dict[int, int]") -> Any:
    return work


@both
@pytest.mark.parametrize("ask", [as_plain, as_dict, as_old_dict, as_mapping, as_text])
def test_v2_annotated_as_a_mapping_it_is_by_id(ask: Any, executor: str) -> None:
    def work(n: int) -> int:
        return n

    run = go(cp.pipeline(cp.pipeline(work, each=Item), ask), data=[Item(id=7, n=1), Item(id=3, n=2)], executor=executor)
    assert run.value(ask) == {7: 1, 3: 2} and list(run.value(ask)) == [7, 3]


@both
def test_v2_dicts_are_nested_for_nested_levels(executor: str) -> None:
    def inner(part: str, record: Item) -> int:
        return record.n

    def after(inner: dict[int, dict[str, int]]) -> Any:
        return inner

    run = go(
        cp.pipeline(cp.pipeline(cp.pipeline(inner, each={"part": ["b", "a"]}), each=Item), after),
        data=items(5, 6),
        executor=executor,
    )
    assert run.value(after) == {1: {"b": 5, "a": 5}, 2: {"b": 6, "a": 6}}


def test_v2_an_alias_may_ask_for_lists_and_dicts_as_well() -> None:
    def work(n: int) -> int:
        return n

    def show(it: dict[int, int]) -> Any:
        return it

    def listed(it) -> Any:  # type: ignore[no-untyped-def]
        return it

    run = go(
        cp.pipeline(
            cp.pipeline(work, each=Item),
            cp.alias(show, "one", inputs={"it": "work"}),
            cp.alias(listed, "two", inputs={"it": work}),
        ),
        data=items(5),
    )
    assert run.value("one") == {1: 5} and run.value("two") == [5]


class Loud:
    """Counts how often it is made from its bytes."""

    loaded = 0

    def __init__(self, n: int) -> None:
        self.n = n

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).loaded += 1
        self.__dict__.update(state)


def make_loud(n: int) -> Loud:
    return Loud(n)


def test_v2_v3_no_value_is_loaded_to_compare_or_to_be_handed_on(tmp_path: Path) -> None:
    """A list's digest is made of its values' digests; a rerun of nothing loads nothing."""

    def total(make_loud: list[Any]) -> int:
        return sum(loud.n for loud in make_loud)

    graph = cp.Graph(cp.pipeline(cp.pipeline(make_loud, each=Item), total), name="loud")
    assert graph.run(items(1, 2, 3), dir=tmp_path, executor="inline").value(total) == 6
    Loud.loaded = 0
    run = graph.run(items(1, 2, 3), dir=tmp_path, executor="inline")
    assert Loud.loaded == 0 and run.counts == {"make_loud": {"cached": 3}, "total": {"cached": 1}}
    assert run.value(total) == 6 and Loud.loaded == 0
    assert run.value(make_loud, 2).n == 2 and Loud.loaded == 1


@both
def test_v2_a_join_runs_again_only_if_a_value_or_the_order_changed(executor: str, tmp_path: Path) -> None:
    def parity(n: int) -> int:
        return n % 2

    def total(parity: list[int]) -> list[int]:
        return parity

    graph = cp.Graph(cp.pipeline(cp.pipeline(parity, each=Item), total), name="join")

    def computed(*ns: int) -> list[str]:
        log = Log()
        assert graph.run(items(*ns), dir=tmp_path, executor=executor, stream=log.stream).ok
        return sorted(log.computed)

    assert computed(1, 2) == ["parity[1]", "parity[2]", "total"]
    assert computed(3, 2) == ["parity[1]"], "an equal value: the join is cached"
    assert computed(3, 2, 4) == ["parity[3]", "total"]
    assert computed(2, 3) == ["total"]
    assert computed(1, 2) == []


# V3


@both
def test_v3_each_step_gets_its_own_copy_of_what_can_be_mutated(executor: str) -> None:
    """Of values, of fields, of records, of items, of parameters, of defaults."""

    def source() -> list[int]:
        return [1]

    def spoil(source: list[int], tags: list[str], record: Item, it: list[int], given: list[int], left: list[int] = [0]) -> Any:  # noqa: B006
        seen = [list(thing) for thing in (source, tags, record.tags, it, given, left)]
        for thing in (source, tags, record.tags, it, given, left):
            thing.append(9)  # type: ignore[arg-type]
        return seen

    graph = cp.Graph(
        cp.pipeline(
            source,
            cp.pipeline(
                cp.pipeline(
                    [spoil, cp.alias(spoil, "again", version="2")], cp.alias(spoil, "third", version="3"), each={"it": [[4]]}
                ),
                each=Item,
            ),
        ),
        params=["given"],
    )
    data, given = [Item(id=1, tags=["t"]), Item(id=2, tags=["t"])], [5]
    run = graph.run(data, dir=None, executor=executor, params={"given": given})
    assert run.ok, run.failures[0].traceback
    for step in ("spoil", "again", "third"):
        assert set(map(str, run.values(step).values())) == {"[[1], ['t'], ['t'], [4], [5], [0]]"}
    assert run.value(source) == [1] and run.store.values(Item, "tags") == [["t"], ["t"]]
    assert data[0].tags == ["t"] and given == [5]


@both
def test_v3_what_a_step_gave_is_kept_as_it_was(executor: str) -> None:
    kept: list[Any] = []

    @cp.step(version="1")
    def source() -> list[int]:
        made = [1]
        kept.append(made)
        return made

    @cp.step(version="1")
    def later(source: list[int]) -> list[int]:
        kept[0].append(2)
        return source

    run = go(cp.pipeline(source, later), executor=executor)
    assert run.value(later) == [1] and run.value(source) == [1]


def test_v3_run_value_copies_too() -> None:
    def source() -> dict[str, list[int]]:
        return {"a": [1]}

    run = go(cp.pipeline(source, cp.pipeline(cp.alias(source, "each"), each=Item)), data=items(0))
    run.value(source)["a"].append(2)
    run.values("each")[1]["a"].append(2)
    run.data["Item"][0]["tags"].append("x")
    run.store.find(Item, 1).tags.append("x")
    assert run.value(source) == {"a": [1]} and run.values("each") == {1: {"a": [1]}}
    assert run.data["Item"][0]["tags"] == [] and run.store.find(Item, 1).tags == []


# V4


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(path: str, text: str) -> str:
    Path(path).write_text(text)
    return path


def test_v4_a_dict_of_files_by_the_ids_of_equal_items_is_cached(tmp_path):
    def write(n) -> cp.File:
        (tmp_path / "out.txt").write_text("x")
        return cp.File(str(tmp_path / "out.txt"))

    def joins(write: dict):
        return sorted(write)

    graph = cp.Graph(cp.pipeline(cp.pipeline(write, each={"n": ["a", "a"]}), joins))
    assert graph.run(dir=tmp_path / "kept").value(joins) == ["a", "a~2"]
    run = graph.run(dir=tmp_path / "kept")
    assert run.counts["joins"] == {"cached": 1} and run.hints == []


def test_v4_files_in_a_default_are_inputs_however_deep(tmp_path):
    path = tmp_path / "a.txt"

    def read(files=({"one": cp.File(str(path))},)):
        return Path(files[0]["one"]).read_text()

    for text in ("one", "two"):
        path.write_text(text)
        run = cp.Graph(read).run(dir=tmp_path / "kept")
        assert run.value(read) == text
    assert run.why(read) == "read ran: its input 'files' is another."


def test_v4_the_content_of_a_default_file_is_an_input_and_no_code(tmp_path):
    """Another content makes the step run again, for `run` and `resume`; nothing is told of edited code."""
    path = tmp_path / "a.txt"

    def read(file: cp.File = cp.File(str(path))):
        return Path(file).read_text()

    def calls():
        return read()

    graph = cp.Graph(read, calls, name="files")
    for verb, text in (("run", "one"), ("resume", "two"), ("run", "three")):
        path.write_text(text)
        run = getattr(graph, verb)(dir=tmp_path / "kept")
        assert run.value(read) == text and run.hints == [hint for hint in run.hints if "calls" in hint.text]
    assert run.why(read) == "read ran: its input 'file' is another."
    assert run.value(calls) == "three", "as a helper, the content of its default counts as code"


def test_v4_a_file_is_a_path_and_made_without_touching_the_disk(folder: Path) -> None:
    file = cp.File("not/there.txt")
    assert os.fspath(file) == file.path == str(file) == "not/there.txt" and isinstance(file, os.PathLike)
    assert cp.File(Path("a") / "b").path == os.path.join("a", "b") and cp.File("x") == cp.File("x") != cp.File("y")
    assert not list(folder.iterdir())


@both
def test_v4_an_input_by_path_as_written_and_content(executor: str, folder: Path) -> None:
    def size(file: cp.File) -> int:
        return len(Path(file).read_bytes())

    def computed(*paths: str) -> list[str]:
        log = Log()
        graph = cp.Graph(cp.pipeline(size, each={"file": [cp.File(path) for path in paths]}), name="files")
        run = graph.run(dir="kept", executor=executor, stream=log.stream)
        assert run.ok, run.failures
        return sorted(log.computed)

    written("a.txt", "aa"), written("b.txt", "bb")
    assert computed("a.txt", "b.txt") == ["size[a.txt]", "size[b.txt]"], "equal length, other paths"
    assert computed("a.txt", "b.txt") == []
    written("a.txt", "cc")
    assert computed("a.txt", "b.txt") == ["size[a.txt]"]
    written("a.txt", "aa")
    assert computed("a.txt", "b.txt") == [], "back again"
    os.utime("a.txt", (1, 1))
    assert computed("a.txt") == [], "the time of a file is not its content"
    assert computed("./a.txt") == ["size[./a.txt]"], "the path as written"


@both
def test_v4_a_step_that_gives_the_bytes_cuts_off_early(executor: str, folder: Path) -> None:
    def read(file: cp.File) -> bytes:
        return Path(file).read_bytes().strip()

    def words(read: bytes) -> int:
        return len(read.split())

    def computed() -> list[str]:
        log = Log()
        graph = cp.Graph(cp.pipeline(read, words, each={"file": [cp.File("a.txt")]}), name="files")
        assert graph.run(dir="kept", executor=executor, stream=log.stream).ok
        return log.computed

    written("a.txt", "one two")
    assert computed() == ["read[a.txt]", "words[a.txt]"]
    written("a.txt", "one two\n")
    assert computed() == ["read[a.txt]"]


@both
def test_v4_a_missing_file_fails_the_node_that_asks_for_it(executor: str, folder: Path) -> None:
    def read(file: cp.File) -> bytes:
        return Path(file).read_bytes()

    written("a.txt", "a")
    graph = cp.Graph(cp.pipeline(read, each={"file": [cp.File("a.txt"), cp.File("gone.txt")]}))
    run = graph.run(dir=None, executor=executor)
    (failure,) = run.failures
    assert failure.node == "read[gone.txt]" and "gone.txt" in str(failure.error)
    assert run.values(read) == {"a.txt": b"a"}


@both
def test_v4_a_default_or_parameter_is_digested_at_each_run(executor: str, folder: Path) -> None:
    def read(table: cp.File = cp.File("table.txt")) -> str:
        return Path(table).read_text()

    graph = cp.Graph(read, name="table")
    written("table.txt", "one"), written("other.txt", "one")
    assert graph.run(dir="kept", executor=executor).value(read) == "one"
    written("table.txt", "two")
    assert graph.run(dir="kept", executor=executor).value(read) == "two"
    run = graph.run(dir="kept", executor=executor, params={"table": "other.txt"})
    assert run.value(read) == "one" and run.counts == {"read": {"computed": 1}}
    written("other.txt", "three")
    assert graph.run(dir="kept", executor=executor, params={"table": cp.File("other.txt")}).value(read) == "three"


@both
def test_v4_a_returned_file_is_checked_when_it_is_taken_from_the_cache(executor: str, folder: Path) -> None:
    """Gone or altered means that the node runs again."""

    def write() -> cp.File:
        Path("out.txt").write_text("made")
        return cp.File("out.txt")

    def read(write: cp.File) -> str:
        return Path(write).read_text()

    graph = cp.Graph(cp.pipeline(write, read), name="out")

    def computed() -> list[str]:
        log = Log()
        run = graph.run(dir="kept", executor=executor, stream=log.stream)
        assert run.ok and run.value(read) == "made" and run.value(write) == cp.File("out.txt")
        return log.computed

    assert computed() == ["write", "read"]
    assert computed() == []
    written("out.txt", "edited")
    assert computed() == ["write"]
    os.unlink("out.txt")
    assert computed() == ["write"]
    assert computed() == []


@both
def test_v4_a_returned_file_that_is_not_there_is_an_error(executor: str, folder: Path) -> None:
    def write() -> cp.File:
        return cp.File("never.txt")

    failure = the_failure(go(write, executor=executor))
    assert "never.txt" in str(failure.error) and "Mend:" in str(failure.error)


@cp.model
class Doc:
    id: int
    file: cp.File | None = None


@both
def test_v4_as_data_it_is_an_input_too_and_as_plain_data_its_path(executor: str, folder: Path) -> None:
    def size(file: cp.File) -> int:
        return len(Path(file).read_text())

    written("a.txt", "a")
    graph = cp.Graph(cp.pipeline(size, each=Doc), name="docs")
    data = {"Doc": [{"id": 1, "file": "a.txt"}]}
    run = graph.run(data, dir="kept", executor=executor)
    assert run.value(size, 1) == 1 and run.data == data
    written("a.txt", "aaa")
    assert graph.run(data, dir="kept", executor=executor).value(size, 1) == 3


def test_v4_files_are_sorted_and_looked_up_at_each_run(folder: Path) -> None:
    def names(found: list[cp.File]) -> list[str]:
        return [file.path for file in found]

    for name in ("b.rst", "a.rst", "c.txt"):
        written(name, name)
    (folder / "deep").mkdir()
    written("deep/d.rst", "d")
    graph = cp.Graph(names, params={"found": cp.files("*.rst")}, name="found")
    assert graph.run(dir="kept").value(names) == ["a.rst", "b.rst"]
    written("0.rst", "0")
    assert graph.run(dir="kept").value(names) == ["0.rst", "a.rst", "b.rst"]
    assert graph.run(dir="kept", params={"found": cp.files("**/*.rst")}).value(names) == ["0.rst", "a.rst", "b.rst", "deep/d.rst"]


def test_v4_files_are_a_list_that_is_looked_up_when_it_is_asked(folder: Path) -> None:
    found = cp.files("*.rst")
    assert list(found) == [] and len(found) == 0
    written("b.rst", "b")
    written("a.rst", "a")
    assert [file.path for file in found] == ["a.rst", "b.rst"] and len(found) == 2
    assert found[0] == cp.File("a.rst") and found[-1:] == [cp.File("b.rst")] and cp.File("b.rst") in found


@both
def test_v4_a_bare_str_path_is_only_a_string(executor: str, folder: Path) -> None:
    def read(path: str) -> str:
        return Path(path).read_text()

    written("a.txt", "one")
    graph = cp.Graph(cp.pipeline(read, each={"path": ["a.txt"]}), name="str")
    graph.run(dir="kept", executor=executor)
    written("a.txt", "two")
    run = graph.run(dir="kept", executor=executor)
    assert run.counts == {"read": {"cached": 1}} and run.value(read, "a.txt") == "one"


# V5


class Reduced:
    """Has no rule of its own; what its `__reduce__` gives counts."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.noise = object()

    def __reduce__(self) -> Any:
        return Reduced, (self.n,)


def make_reduced(n: int) -> Reduced:
    return Reduced(n % 2)


def open_reduced(make_reduced: Reduced) -> int:
    return make_reduced.n


class Looked:
    """Says how often it was taken apart."""

    often = 0

    def __reduce__(self):
        Looked.often += 1
        return Looked, ()


def test_v5_a_parameter_is_looked_at_once_for_all_nodes(tmp_path):
    def given(n, table):
        return n

    looked = Looked()

    def default(n, other=looked):
        return n

    graph = cp.Graph(cp.pipeline(given, default, each={"n": list(range(50))}), params={"table": Looked()})
    for _ in range(2):
        Looked.often = 0
        assert graph.run(dir=tmp_path, executor="inline").ok
        assert Looked.often < 150, "a copy for each call that is made, and no look for each node"
    assert Looked.often < 20


def test_v5_what_has_no_digest_is_told_by_its_name_and_place():
    """Of parameters, defaults and items: which one, of what type, and why not."""

    def keyed(n, by=lambda value: value):
        return n

    def locked(n, lock):
        return n

    one = cp.pipeline(keyed, each={"n": [1]})
    with pytest.raises(cp.CpgraphError, match="the default of parameter 'by' cannot be digested") as caught:
        cp.Graph(one).run(dir=None)
    assert "test_rules_v.py" in str(caught.value) and "a lambda has no name" in str(caught.value)
    with pytest.raises(cp.CpgraphError, match="the value of parameter 'lock' cannot be digested"):
        cp.Graph(cp.pipeline(locked, each={"n": [1]}), params=["lock"]).run(dir=None, params={"lock": threading.Lock()})
    (failure,) = cp.Graph(cp.pipeline(locked, each={"n": [threading.Lock()]}), params={"lock": 1}).run(dir=None).failures
    assert "an item to run over cannot be digested" in str(failure.error) and "a lock" in str(failure.error)


def test_v5_a_value_without_a_rule_counts_by_what_reduce_gives(tmp_path: Path) -> None:
    graph = cp.Graph(cp.pipeline(make_reduced, open_reduced, each=Item), name="reduced")
    assert graph.run(items(1), dir=tmp_path, executor="inline").value(open_reduced, 1) == 1
    log = Log()
    run = graph.run(items(3), dir=tmp_path, executor="inline", stream=log.stream)
    assert log.computed == ["make_reduced[1]"] and run.hints == [], "an equal value: what follows is cached"


class Stubborn:
    """Pickles, and cannot be digested: what it is made of is a lock at one time, and nothing at another."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __reduce_ex__(self, protocol: Any) -> Any:
        if sys._getframe(1).f_globals.get("__name__", "").startswith("cpgraph.digest"):
            raise TypeError("not to be digested")
        return Stubborn, (self.n,)


def make_stubborn(n: int) -> Stubborn:
    return Stubborn(n % 2)


def open_stubborn(make_stubborn: Stubborn) -> int:
    return make_stubborn.n


def test_v5_a_steps_value_that_cannot_be_digested_counts_by_its_key(tmp_path: Path) -> None:
    """Cached, without early cutoff, told."""
    graph = cp.Graph(cp.pipeline(make_stubborn, open_stubborn, each=Item), name="stubborn")
    run = graph.run(items(1), dir=tmp_path, executor="inline")
    assert run.ok and run.value(open_stubborn, 1) == 1
    (hint,) = run.hints
    assert "'make_stubborn'" in hint.text and "digest" in hint.text and hint.mend and hint.nodes == ("make_stubborn[1]",)
    log = Log()
    assert graph.run(items(1), dir=tmp_path, executor="inline", stream=log.stream).ok and log.computed == []
    graph.run(items(3), dir=tmp_path, executor="inline", stream=log.stream)
    assert log.computed == ["make_stubborn[1]", "open_stubborn[1]"]


@both
def test_v5_a_value_that_does_not_pickle_stays_in_memory_for_this_run(executor: str, tmp_path: Path) -> None:
    """Its step is not cached, told, with the mend."""

    def make() -> Any:
        return threading.Lock()

    def use(make: Any) -> bool:
        return make.acquire(blocking=False)

    graph = cp.Graph(cp.pipeline(make, use), name="lock")
    for _ in range(2):
        run = graph.run(dir=tmp_path, executor=executor)
        assert run.ok and run.value(use) is True
        assert ended(run)["make"] == "computed"
        hints = {hint.kind: hint for hint in run.hints}
        assert "not cached" in hints["not-cached"].text and "'make'" in hints["not-cached"].text
        assert hints["not-cached"].mend and hints["not-cached"].nodes == ("make",)
    later = cp.runs(tmp_path)[-1]
    with pytest.raises(cp.NoValue, match="make"):
        later.value("make")


SCRIPT = """
import cpgraph as cp

print("begins")

def make():
    class Inner:
        pass

    return [Inner()]

run = cp.Graph(make).run(dir=None)
print(run.status, [hint.kind for hint in run.hints])
"""


def test_v5_a_value_of_a_class_made_in_a_step_of_a_script_does_not_run_the_script_again(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["begins", "ok ['not-cached']"], done.stderr


@pytest.mark.parametrize("where", ["data", "params", "items"])
def test_v5_data_and_parameters_that_cannot_be_digested_are_an_error(where: str) -> None:
    @cp.model
    class Holder:
        id: int
        thing: Any = None

    def work(id: int, given: Any = None) -> int:
        return id

    def each_item(it: Any) -> Any:
        return it

    lock = threading.Lock()
    graph = cp.Graph(cp.pipeline(work, each=Holder))
    with pytest.raises(cp.CpgraphError) as caught:
        if where == "data":
            graph.run([Holder(id=1, thing=lock)], dir=None)
        elif where == "params":
            graph.run([Holder(id=1)], dir=None, params={"given": lock})
        else:
            run = cp.Graph(cp.pipeline(each_item, each={"it": [lock]})).run(dir=None)
            raise run.failures[0].error
    assert "lock" in str(caught.value)


@both
def test_v5_changes_that_cannot_be_digested_fail_their_node(executor: str) -> None:
    @cp.model
    class Holder:
        id: int
        thing: Any = None

    def make() -> Any:
        return cp.create(Holder(id=1, thing=threading.Lock()))

    run = cp.Graph(make, models=[Holder]).run(dir=None, executor=executor)
    assert "lock" in str(the_failure(run).error) and run.data == {}


# V6

TABLE = {"rate": 2}
LOCK = threading.Lock()


class Session:
    """Has settings, and a handle."""

    def __init__(self, base: int) -> None:
        self.base = base
        self.lock = threading.Lock()


SESSION = Session(1)


def rated(n: int) -> int:
    return n * TABLE["rate"]


def locked(n: int) -> int:
    with LOCK:
        return n


def based(n: int) -> int:
    with SESSION.lock:
        return n + SESSION.base


def run_again(step: Any, tmp_path: Path) -> tuple[list[str], cp.Run]:
    log = Log()
    run = cp.Graph(cp.pipeline(step, each=Item), name="code").run(items(1), dir=tmp_path, executor="inline", stream=log.stream)
    assert run.ok, run.failures
    return log.computed, run


def test_v6_what_code_reaches_counts_by_its_state_when_the_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_again(rated, tmp_path)[0] == ["rated[1]"] and run_again(rated, tmp_path)[0] == []
    monkeypatch.setitem(TABLE, "rate", 3)
    computed, run = run_again(rated, tmp_path)
    assert computed == ["rated[1]"] and run.value(rated, 1) == 3
    monkeypatch.setitem(TABLE, "rate", 2)
    assert run_again(rated, tmp_path)[0] == []


def test_v6_a_handle_counts_by_type_and_is_never_a_reason_not_to_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_again(locked, tmp_path)[0] == ["locked[1]"]
    monkeypatch.setitem(globals(), "LOCK", threading.Lock())
    computed, run = run_again(locked, tmp_path)
    assert computed == [] and run.hints == []


def test_v6_of_an_object_that_holds_a_handle_only_the_handle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_again(based, tmp_path)[0] == ["based[1]"]
    monkeypatch.setitem(globals(), "SESSION", Session(1))
    assert run_again(based, tmp_path)[0] == []
    monkeypatch.setitem(globals(), "SESSION", Session(2))
    assert run_again(based, tmp_path)[0] == ["based[1]"]


def test_v6_handles_are_listed_in_plan(tmp_path: Path) -> None:
    plan = str(cp.Graph(cp.pipeline(locked, based, each=Item), name="code").plan(items(1), dir=tmp_path))
    assert "LOCK" in plan and "SESSION" in plan and "lock" in plan


def test_v6_handles_of_all_kinds(tmp_path: Path) -> None:
    import socket
    import sqlite3

    with socket.socket() as plug, sqlite3.connect(":memory:") as base, open(os.devnull) as null:
        things = [plug, base, null, io.StringIO("text"), threading.Event(), threading.Condition()]

        def work(n: int) -> int:
            return n + len(things)

        assert run_again(work, tmp_path)[0] == ["work[1]"] and run_again(work, tmp_path)[0] == []
    base.close()
    gc.collect()


SEEN: list[int] = []


def remembers(n: int) -> int:
    SEEN.append(n)
    return len(SEEN)


def test_v6_module_state_that_the_run_itself_altered_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SEEN", [])
    _, run = run_again(remembers, tmp_path)
    (hint,) = run.hints
    assert "remembers" in hint.text and "SEEN" in hint.text and hint.mend
    assert run_again(rated, tmp_path)[1].hints == []


# V7


@both
def test_v7_values_by_step_and_name_and_id(executor: str) -> None:
    def alone() -> str:
        return "alone"

    def row(n: int) -> int:
        return n

    def inner(part: str, row: int) -> str:
        return f"{row}{part}"

    run = go(
        cp.pipeline(alone, cp.pipeline(row, cp.pipeline(inner, each={"part": ["a", "b"]}), each=Item)),
        data=items(5, 6),
        executor=executor,
    )
    assert run.value(alone) == run.value("alone") == "alone"
    assert run.value(row, 1) == run.value("row", 1) == run.value(row, (1,)) == 5
    assert run.value(inner, (2, "b")) == "6b"
    assert run.values(alone) == {(): "alone"} or run.values(alone) == {}
    assert run.values(row) == run.values("row") == {1: 5, 2: 6}
    assert run.values(inner) == {(1, "a"): "5a", (1, "b"): "5b", (2, "a"): "6a", (2, "b"): "6b"}


def test_v7_an_alias_by_name_and_itself() -> None:
    def one() -> int:
        return 1

    again = cp.alias(one, "again")
    run = go(cp.pipeline(one, again))
    assert run.value(again) == run.value("again") == 1


@both
def test_v7_what_has_no_value_raises_which_says_how_it_ended_and_why(executor: str) -> None:
    def broken(n: int) -> int:
        if n == 2:
            raise ValueError("the edge-case")
        return n

    def behind(broken: int) -> int:
        return broken

    def never(n: int) -> int:
        return n

    def last(behind: list[int]) -> int:
        return len(behind)

    run = go(
        cp.pipeline(cp.pipeline(broken, behind, cp.pipeline(never, open=lambda n: n < 0), each=Item), last),
        data=items(1, 2),
        executor=executor,
    )
    for (step, *id), words in {
        (broken, 2): ["broken[2]", "failed", "ValueError", "the edge-case"],
        (behind, 2): ["behind[2]", "blocked", "broken[2]"],
        (never, 1): ["never[1]", "closed", "condition"],
        (last,): ["last", "blocked", "broken[2]"],
        ("last",): ["last", "blocked"],
        (broken, 3): ["broken[3]", "no node"],
        (broken,): ["broken", "id", "run.values()"],
        (last, 1): ["last[1]"],
        (broken, (1, 2)): ["broken[1,2]"],
        (broken, "1"): ['broken["1"]'],
        ("brokn",): ["'brokn'", "Did you mean 'broken'?"],
    }.items():
        with pytest.raises(cp.NoValue) as caught:
            run.value(step, *id)
        assert all(word in str(caught.value) for word in words), caught.value
        if step != "brokn":
            assert run.value(step, *id, default="else") == "else"
    assert run.value(broken, 1, default="else") == 1 and run.value(broken, 2, default=None) is None
    assert run.values(broken) == {1: 1} and run.values(behind) == {1: 1} and run.values(last) == {}
    with pytest.raises(cp.NoValue, match="brokn"):
        run.values("brokn")


def test_v7_a_step_of_another_graph_has_no_value() -> None:
    def one() -> int:
        return 1

    def other() -> int:
        return 2

    with pytest.raises(cp.NoValue, match="other"):
        go(one).value(other)
