"""Files as inputs and outputs: by path as written, and by content (rule V4)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cpgraph as cp
from cpgraph import contents, data
from cpgraph.contents import as_data, content, content_if_any, files_in
from cpgraph.digest import Undigestible, Unreadable, digest
from cpgraph.models import File

OLD = 3_000_000_000  # nanoseconds: beyond the age at which a file is taken to be settled


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory of its own, and nothing known of files."""
    monkeypatch.chdir(tmp_path)
    contents._known.clear()
    yield tmp_path
    contents._known.clear()


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that are hashed."""
    found: list[str] = []
    real = contents._hashed

    def noted(file: Any) -> bytes:
        found.append(file.name)
        return real(file)

    monkeypatch.setattr(contents, "_hashed", noted)
    return found


def aged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the clock say that all files are old."""
    real = contents.time_ns
    monkeypatch.setattr(contents, "time_ns", lambda: real() + OLD)


# The digest


def test_v4_a_file_is_its_path_as_written_and_its_content() -> None:
    Path("a").write_text("x")
    Path("b").write_text("x")
    before = digest(File("a"))
    assert before == digest([File("a")][0]) != digest(File("b"))
    assert before != digest(File("./a")), "the path counts as it is written"
    Path("a").write_text("y")
    assert before != digest(File("a"))
    assert digest({"deep": [(File("a"), 1)]}) != digest({"deep": [(File("b"), 1)]})


@pytest.mark.parametrize("path", ["none", "none/deeper", "", "nul\0"])
def test_v4_a_missing_file_is_an_error_that_names_it(path: str) -> None:
    with pytest.raises(Unreadable) as caught:
        digest([1, {"a": (File(path),)}])
    assert repr(path) in str(caught.value)
    assert caught.value.file == path
    assert "Mend: " in str(caught.value)
    assert isinstance(caught.value, Undigestible)
    assert content_if_any(path) == bytes(16)


def test_v4_only_files_have_a_content(here: Path) -> None:
    with pytest.raises(Unreadable, match="is a directory"):
        content(str(here))
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe")
        with pytest.raises(Unreadable, match="a device, pipe or socket"):
            content("pipe")


def test_v4_as_data_a_file_is_its_path(hashed: list[str]) -> None:
    assert as_data(File("none")) == as_data(File("none")) != as_data(File("other"))
    assert as_data(File("none")) != as_data("none")
    assert files_in({"a": [File("x")], "b": (File("y"), File("x"))}) == [File("x"), File("y"), File("x")]
    loaded = data.load({"Doc": [{"id": 1, "file": "none"}], "Page": [{"file": "none"}]}, [Doc, Page])
    assert [record.file for record in loaded.records] == [File("none")] * 2
    assert hashed == []


@cp.model
class Doc:
    id: int
    file: cp.File
    size: int = 0


@cp.model
class Page:
    id: str = cp.auto_id()
    file: cp.File


# Sparing the hashing


def test_v4_a_settled_file_is_hashed_once(monkeypatch: pytest.MonkeyPatch, hashed: list[str]) -> None:
    Path("a").write_text("x")
    content("a")
    content("a")
    assert len(hashed) == 2, "a file that was just written may be written to again in the same tick"
    aged(monkeypatch)
    assert content("a") == content("a") == content("a")
    assert len(hashed) == 3


def rewritten(path: str, text: str) -> None:
    """Write another content of the same size, and set the times of modification back."""
    before = os.stat(path)
    while os.stat(path).st_ctime_ns == before.st_ctime_ns:  # until the clock of the file system has gone on
        Path(path).write_text(text)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_v4_an_edit_of_the_same_size_and_time_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a").write_text("one")
    aged(monkeypatch)
    before = content("a")
    rewritten("a", "two")
    assert os.stat("a").st_size == 3
    assert content("a") != before


def test_v4_another_file_in_its_place_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a").write_text("one")
    Path("b").write_text("two")
    stamp = os.stat("a")
    os.utime("b", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    aged(monkeypatch)
    before = content("a")
    os.replace("b", "a")
    assert content("a") != before


def test_v4_what_changes_while_it_is_hashed_is_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a").write_text("one")
    real, edits = contents._hashed, ["two!"]

    def edited(file: Any) -> bytes:
        address = real(file)
        if edits:
            Path("a").write_text(edits.pop())
        return address

    monkeypatch.setattr(contents, "_hashed", edited)
    found = content("a")
    assert edits == []
    assert found == content("a") == digest_of("two!")


def digest_of(text: str) -> bytes:
    Path("another").write_text(text)
    return content("another")


def test_v4_what_never_stops_changing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("log").write_text("")
    real = contents._hashed

    def growing(file: Any) -> bytes:
        with open("log", "a") as log:
            log.write("more\n")
        return real(file)

    monkeypatch.setattr(contents, "_hashed", growing)
    with pytest.raises(Unreadable, match="'log' keeps being written to"):
        content("log")


# In a graph

RAN: list[str] = []


def go(graph: cp.Graph, data: Any = None, verb: str = "run", **options: Any) -> tuple[cp.Run, list[str]]:
    RAN.clear()
    given = [data] if verb == "run" else []
    run = getattr(graph, verb)(*given, dir="kept", **{"executor": "inline", **options})
    ran = list(RAN)
    RAN.clear()
    return run, ran


def read(file: cp.File) -> str:
    RAN.append("read")
    return Path(file).read_text()


def length(read: str) -> int:
    RAN.append("length")
    return len(read)


def text_of(table: cp.File = cp.File("table")) -> str:
    RAN.append("text_of")
    return Path(table).read_text()


@cp.step(version="1")
def versioned(table: cp.File = cp.File("table")) -> str:
    RAN.append("versioned")
    return Path(table).read_text()


def names_of(texts: list[cp.File] = cp.files("texts/*.txt")) -> list[str]:  # type: ignore[assignment]
    RAN.append("names_of")
    return [file.path for file in texts]


def docs() -> dict[str, Any]:
    for name in ("a", "b"):
        Path(name).write_text(name * 3)
    return {"Doc": [{"id": 1, "file": "a"}, {"id": 2, "file": "b"}]}


def test_v4_a_step_that_reads_gives_early_cutoff_on_content_alone() -> None:
    graph = cp.Graph(cp.pipeline(read, length, each=Doc))
    rows = docs()
    assert go(graph, rows)[1] == ["read", "length"] * 2
    os.replace("a", "moved")
    assert go(graph, {"Doc": [{"id": 1, "file": "moved"}, rows["Doc"][1]]})[1] == ["read"], "another path with the same content"
    Path("moved").write_text("new")
    assert go(graph, {"Doc": [{"id": 1, "file": "moved"}, rows["Doc"][1]]})[1] == ["read", "length"]


def test_v4_a_missing_file_is_the_failure_of_the_node_that_asks_for_it() -> None:
    rows = docs()
    os.remove("a")

    def ids(store: cp.Store) -> list[int]:
        return store.values(Doc, "id")

    def all_of(store: cp.Store) -> int:
        return len(store.all(Doc))

    graph = cp.Graph(cp.pipeline(read, length, each=Doc), ids, all_of)
    run, ran = go(graph, rows)
    assert ran == ["read", "length"]
    assert sorted(failure.node for failure in run.failures) == ["all_of", "read[1]"]
    assert all("the file 'a' is not there" in str(failure.error) for failure in run.failures)
    assert run.value(ids) == [1, 2], "who does not ask for the file does not miss it"
    Path("a").write_text("back")
    assert go(graph, verb="resume")[0].values(length) == {1: 4, 2: 3}


@pytest.mark.parametrize("step", [text_of, versioned])
def test_v4_a_file_that_is_a_default_is_looked_at_in_each_run(step: Callable[..., str]) -> None:
    graph = cp.Graph(step)
    run, _ = go(graph)
    assert [failure.node for failure in run.failures] == [step.__name__]
    for verb, text in (("run", "one"), ("run", "two"), ("resume", "three")):
        Path("table").write_text(text)
        run, ran = go(graph, verb=verb)
        assert (run.value(step), ran) == (text, [step.__name__])
        assert go(graph, verb=verb)[1] == []


def test_v4_a_file_that_is_a_parameter_is_looked_at_in_each_run() -> None:
    graph = cp.Graph(text_of)
    run, _ = go(graph, params={"table": cp.File("other")})
    assert "the file 'other' is not there" in str(run.failures[0].error)
    for text in ("one", "two"):
        Path("other").write_text(text)
        assert go(graph, params={"table": "other"})[0].value(text_of) == text, "as --set would give it"
    Path("other").write_text("three")
    run, ran = go(graph, verb="resume")
    assert (run.value(text_of), ran) == ("three", ["text_of"])


def test_v4_a_pattern_is_looked_up_in_each_run() -> None:
    graph = cp.Graph(names_of)
    assert go(graph)[0].value(names_of) == []
    os.mkdir("texts")
    for name in ("b", "a"):
        Path(f"texts/{name}.txt").write_text(name)
    assert go(graph)[0].value(names_of) == ["texts/a.txt", "texts/b.txt"]
    assert go(graph)[1] == []
    Path("texts/a.txt").write_text("other")
    assert go(graph)[1] == ["names_of"], "what is in them counts"
    given = {"texts": cp.files("texts/b*")}
    assert go(graph, params=given)[0].value(names_of) == ["texts/b.txt"]
    Path("texts/b2.txt").write_text("")
    assert go(graph, verb="resume")[0].value(names_of) == ["texts/b.txt", "texts/b2.txt"], "a resume looks the pattern up anew"


def test_v4_e3_each_file_of_a_pattern_has_its_path_as_id() -> None:
    os.mkdir("texts")
    for name in ("b", "a"):
        Path(f"texts/{name}.txt").write_text(name)
    graph = cp.Graph(cp.pipeline(read, length, each={"file": cp.files("texts/*.txt")}))
    run, ran = go(graph)
    assert run.values(read) == {"texts/a.txt": "a", "texts/b.txt": "b"}
    assert ran == ["read", "length", "read", "length"]
    Path("texts/a.txt").write_text("c")
    assert go(graph)[1] == ["read", "length"]
    assert go(graph, verb="resume")[1] == []


def test_v4_e3_the_id_of_an_item_that_holds_a_file_is_not_made_of_its_content() -> None:
    def size(pair: tuple[cp.File, int]) -> int:
        return len(Path(pair[0]).read_text()) * pair[1]

    graph = cp.Graph(cp.pipeline(size, each={"pair": [(cp.File("a"), 1), (cp.File("none"), 2)]}))
    docs()
    run, _ = go(graph)
    (id,) = run.values(size)
    assert [failure.step for failure in run.failures] == ["size"], "the missing one fails alone"
    Path("a").write_text("longer")
    assert go(graph)[0].values(size) == {id: 6}


# Returned


def draw() -> cp.File:
    RAN.append("draw")
    Path("out").write_text("picture")
    return cp.File("out")


def shown(draw: cp.File) -> str:
    RAN.append("shown")
    return Path(draw).read_text()


class Album:
    def __init__(self, picture: cp.File) -> None:
        self.picture = picture


WRAPPED: dict[str, Callable[[cp.File], Any]] = {
    "list": lambda file: [1, file],
    "dict": lambda file: {"a": {"b": file}},
    "tuple": lambda file: (file,),
    "record": lambda file: Doc(id=1, file=file),
    "object": Album,
}


@pytest.mark.parametrize("verb", ["run", "resume"])
def test_v4_a_returned_file_is_looked_at_when_it_is_taken_from_the_cache(verb: str) -> None:
    graph = cp.Graph(cp.pipeline(draw, shown))
    assert go(graph)[1] == ["draw", "shown"]
    assert go(graph, verb=verb)[1] == []
    os.remove("out")
    assert go(graph, verb=verb)[1] == ["draw"], "gone: it is made again, and is what it was"
    Path("out").write_text("altered")
    assert go(graph, verb=verb)[1] == ["draw"]
    assert Path("out").read_text() == "picture"
    assert go(graph, verb=verb)[1] == []


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_v4_files_inside_of_a_returned_value_count(kind: str, executor: str) -> None:
    wrap = WRAPPED[kind]

    def made() -> Any:
        return wrap(draw())

    graph = cp.Graph(made)
    assert go(graph, executor=executor)[1] == ["draw"]
    assert go(graph, executor=executor)[1] == []
    os.remove("out")
    assert go(graph, executor=executor)[1] == ["draw"]
    Path("out").write_text("altered")
    assert go(graph, executor=executor)[1] == ["draw"]
    assert go(graph, executor=executor)[1] == []


@pytest.mark.parametrize("way", ["sets", "update", "create"])
def test_v4_a_file_that_is_written_to_a_record_is_an_output_too(way: str) -> None:
    def update(id: int) -> Any:
        return cp.update(file=_made(id))

    @cp.step(sets="file")
    def sets(id: int) -> cp.File:
        return _made(id)

    def create(id: int) -> Any:
        return cp.create(Doc(id=id + 10, file=_made(id))) if id < 10 else None

    step = {"sets": sets, "update": update, "create": create}[way]
    graph = cp.Graph(cp.pipeline(cp.pipeline(step, each=Doc), cp.pipeline(read, each=Doc)))
    run, ran = go(graph, {"Doc": [{"id": 1, "file": "none"}]} if way != "create" else docs())
    assert "made" in ran
    assert run.ok
    assert go(graph, {"Doc": [{"id": 1, "file": "none"}]} if way != "create" else docs())[1] == []
    os.remove("out1")
    assert go(graph, {"Doc": [{"id": 1, "file": "none"}]} if way != "create" else docs())[1] == ["made"]
    assert Path("out1").read_text() == "made of 1"


def _made(id: int) -> cp.File:
    RAN.append("made")
    Path(f"out{id}").write_text(f"made of {id}")
    return cp.File(f"out{id}")


def test_v4_a_file_that_is_returned_before_it_is_written_fails_the_step() -> None:
    def early() -> cp.File:
        return cp.File("later")

    run, _ = go(cp.Graph(early))
    assert "step 'early' returned a File that cannot be kept: the file 'later' is not there" in str(run.failures[0].error)
    assert "Mend: " in str(run.failures[0].error)


def test_v4_processes_know_files_too(here: Path) -> None:
    graph = cp.Graph(cp.pipeline(draw, shown))
    assert go(graph, executor="processes", concurrency=1)[0].value(shown) == "picture"
    os.remove("out")
    assert go(graph, executor="processes", concurrency=1)[0].counts == {"draw": {"computed": 1}, "shown": {"cached": 1}}


# A file that is written to while a step is at it: its result is not what the key says


def spoiling(kind: str) -> tuple[Any, Any]:
    """A graph whose step gets the file `a` in one of the ways there are, and writes to it while it is at work; and its data."""

    def spoil(path: Any) -> str:
        RAN.append("at work")
        text = Path(path).read_text()
        if text == "old":
            Path("a").write_text("new")
        return text

    def parameter(given: cp.File = cp.File("a")) -> str:
        return spoil(given)

    def listed(given: list[cp.File] = cp.files("a*")) -> str:  # type: ignore[assignment]
        return spoil(given[0])

    def field(file: cp.File) -> str:
        return spoil(file)

    def record(record: Doc) -> str:
        return spoil(record.file)

    def stored(store: cp.Store) -> str:
        return spoil(store.find(Doc, 1).file)

    def searched(store: cp.Store) -> str:
        return spoil(store.all(Doc)[0].file)

    def source() -> cp.File:
        return cp.File("a")

    def value(source: cp.File) -> str:
        return spoil(source)

    def joined(field: list[str], named: dict[str, cp.File]) -> str:
        return spoil(named[1])  # type: ignore[index]

    def named(file: cp.File) -> cp.File:
        return file

    steps: dict[str, Any] = {"parameter": parameter, "listed": listed, "stored": stored, "searched": searched}
    rows = {"Doc": [{"id": 1, "file": "a"}]}
    if kind in steps:
        return cp.Graph(steps[kind], models=[Doc]), rows
    if kind == "item":
        return cp.Graph(cp.pipeline(field, each={"file": [cp.File("a")]})), None
    if kind == "value":
        return cp.Graph(cp.pipeline(source, value)), None
    if kind == "joined":
        field_ = cp.step(name="field")(lambda id: "x")
        return cp.Graph(cp.pipeline(cp.pipeline(field_, named, each=Doc), joined)), rows
    return cp.Graph(cp.pipeline({"field": field, "record": record}[kind], each=Doc)), rows


KINDS = ["parameter", "listed", "field", "record", "item", "stored", "searched", "value", "joined"]


@pytest.mark.parametrize("kind", KINDS)
def test_v4_a_result_of_a_file_that_moved_is_kept_for_no_other_run(kind: str) -> None:
    graph, rows = spoiling(kind)
    Path("a").write_text("old")
    run, ran = go(graph, rows)
    assert run.ok
    assert ran == ["at work"]
    (hint,) = [hint for hint in run.hints if hint.kind == "file-moved"]
    assert hint.nodes
    assert hint.mend
    assert Path("a").read_text() == "new"
    Path("a").write_text("old")
    run, ran = go(graph, rows)
    assert ran == ["at work"], "the same inputs as before, and no result that could be trusted"
    run, ran = go(graph, rows)
    assert ran == ["at work"]
    assert not [hint for hint in run.hints if hint.kind == "file-moved"]
    assert go(graph, rows)[1] == []
    assert go(graph, verb="resume")[1] == []


@pytest.mark.parametrize("kind", KINDS)
def test_v4_a_resume_keeps_no_result_of_a_file_that_moved(kind: str) -> None:
    graph, rows = spoiling(kind)
    Path("a").write_text("old")
    go(graph, rows)
    Path("a").write_text("old")
    assert go(graph, verb="resume")[1] == ["at work"]


def test_v4_an_input_that_the_step_removes_has_moved() -> None:
    def consume(given: cp.File = cp.File("a")) -> str:
        text = Path(given).read_text()
        os.remove(given)
        return text

    Path("a").write_text("once")
    run, _ = go(cp.Graph(consume))
    assert run.value(consume) == "once"
    assert [hint.kind for hint in run.hints] == ["file-moved"]


def test_v4_plan_names_a_missing_file() -> None:
    graph = cp.Graph(text_of)
    assert "the file 'table' is not there" in str(graph.plan(dir="kept"))
    Path("table").write_text("x")
    go(graph)
    assert graph.plan(dir="kept").computed == 0
    Path("table").write_text("y")
    assert graph.plan(dir="kept").computed == 1
