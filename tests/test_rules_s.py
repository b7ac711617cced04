"""Rules S, as users meet them: the directory, through graphs and the command. (The journal has tests of its own.)"""

import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from scripts import KILLED, Script

import cpgraph as cp
from cpgraph.events import Damaged, NodeEnded

EXECUTORS = ["threads", "processes", "inline"]


@cp.model
class Row:
    id: int | str
    text: str = ""


def rows(*ids, **fields):
    return [Row(id=id, **fields) for id in ids]


def fill(id: int | str):
    return cp.result(f"value of {id!r}", cp.update(text=f"text of {id!r}"))


def count(fill: list[str]) -> int:
    return len(fill)


def graph():
    return cp.Graph(cp.pipeline(cp.pipeline(fill, each=Row), count), name="g")


def one() -> int:
    return 1


def contents(path):
    """What is in a directory or file, byte for byte."""
    if not path.is_dir():
        return path.read_bytes() if path.exists() else None
    return {
        str(file.relative_to(path)): file.read_bytes() if file.is_file() else file.is_dir() for file in sorted(path.rglob("*"))
    }


# S1: whatever goes wrong with it


def spoil_file(path):
    path.write_text("I am a file")


def spoil_garbage(path):
    path.mkdir(mode=0o700)
    (path / "journal.sqlite").write_bytes(b"not a database at all" * 100)


def spoil_empty(path):
    path.mkdir(mode=0o700)
    (path / "journal.sqlite").write_bytes(b"")


def spoil_other_database(path):
    path.mkdir(mode=0o700)
    with sqlite3.connect(path / "journal.sqlite") as other:
        other.execute("CREATE TABLE mine (a)")
    other.close()


def spoil_directory_for_the_journal(path):
    (path / "journal.sqlite").mkdir(parents=True, mode=0o700)
    path.chmod(0o700)


def spoil_newer(path):
    graph().run(rows(1), dir=path)
    with sqlite3.connect(path / "journal.sqlite") as journal:
        (version,) = journal.execute("PRAGMA user_version").fetchone()
        journal.execute(f"PRAGMA user_version = {version + 1000}")
    journal.close()


SPOILS = [spoil_file, spoil_garbage, spoil_empty, spoil_other_database, spoil_directory_for_the_journal, spoil_newer]


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_s1_what_is_wrong_with_it_is_a_storage_error(tmp_path, spoil):
    """With `.path`; the text names the path and ends with a line `Mend: …`; nothing is altered; nothing has run."""
    path = tmp_path / "kept"
    spoil(path)
    before = contents(path)
    ran = []

    def work() -> int:
        ran.append(1)
        return 1

    bad = cp.Graph(work)
    for attempt in (
        lambda: bad.run(dir=path),
        lambda: bad.resume(dir=path),
        lambda: bad.plan(dir=path),
        lambda: [run.counts for run in cp.runs(path)],
    ):
        with pytest.raises(cp.StorageError) as error:
            attempt()
        text = str(error.value)
        assert error.value.path.startswith(str(path)) and error.value.path in text
        assert text.splitlines()[-1].startswith("Mend: ")
        assert isinstance(error.value, cp.CpgraphError)
        assert error.value.__cause__ is None or not isinstance(error.value.__cause__, cp.StorageError)
    assert contents(path) == before and not ran


@pytest.mark.parametrize("spoil", [spoil_file, spoil_garbage], ids=lambda spoil: spoil.__name__)
def test_s1_the_command_says_it_without_a_traceback(tmp_path, spoil):
    """Status 2, for every command."""
    script = Script(tmp_path, "def one(): return 1\ngraph = cp.Graph(one)\n")
    spoil(tmp_path / ".cpgraph")
    for command in (["run", "job.py"], ["resume", "job.py"], ["plan", "job.py"], ["status"], ["history"], ["why", "one"], ["gc"]):
        done = script.command(*command, status=2)
        assert ".cpgraph" in done.err and done.err.strip().splitlines()[-1].startswith("Mend:")
        assert "Traceback" not in done.err and "sqlite3" not in done.err


def test_s1_a_path_that_cannot_be_made(tmp_path):
    """Under a file; with a null byte; too long."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "below", f"{tmp_path}/nul\0byte", tmp_path / ("x" * 5000)):
        with pytest.raises(cp.StorageError) as error:
            graph().run(dir=path)
        assert str(error.value).splitlines()[-1].startswith("Mend: ")


def test_s1_a_value_that_cannot_be_written_is_a_storage_error_with_its_node(tmp_path):
    """A file stands where large values belong."""
    path = tmp_path / "kept"
    graph().run(rows(1), dir=path)
    shutil.rmtree(path / "values", ignore_errors=True)
    (path / "values").write_text("a file where a directory belongs")
    large = cp.Graph(cp.pipeline(big, each=Row))
    with pytest.raises(cp.StorageError) as error:
        large.run(rows(1), dir=path)
    assert "values" in error.value.path and error.value.node == "big[1]" and error.value.run.graph == "big"
    (path / "values").unlink()
    assert large.run(rows(1), dir=path).ok


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_s1_if_it_fails_in_mid_run_nothing_more_is_started_and_run_raises(tmp_path, executor):
    """With `.run` (the run so far) and `.node`; the next run carries on from the last commit."""
    path, pipe = tmp_path / "kept", tmp_path / "pipe"
    os.mkfifo(pipe)
    seen = []
    stream = cp.Stream()

    @stream.on(NodeEnded)
    def ended(event):
        seen.append(event.node)
        if len(seen) == 1:
            (path / "journal.sqlite").rename(tmp_path / "aside")
            threading.Thread(target=lambda: pipe.open("w").close()).start()  # the second step goes on

    chain = cp.Graph(cp.pipeline(first, second, third))
    with pytest.raises(cp.StorageError) as error:
        chain.run(dir=path, executor=executor, stream=stream, params={"log": str(tmp_path / "log"), "pipe": str(pipe)})
    (path / "journal.sqlite").unlink(missing_ok=True)
    (tmp_path / "aside").rename(path / "journal.sqlite")
    assert error.value.run is not None and error.value.run.graph == "first"
    assert error.value.node in ("first", "second", "third") and error.value.node not in seen
    log = (tmp_path / "log").read_text().split()
    again = chain.resume(dir=path, executor=executor, params={"pipe": ""})
    assert again.ok and again.value(third) == 3
    assert {node.id for node in again.nodes if node.ended == "cached"} >= set(seen)
    assert log == ["first", "second", "third"][: len(log)]


def _note(log, word):
    if log:
        with open(log, "a") as file:
            print(word, file=file)


def first(log="") -> int:
    _note(log, "first")
    return 1


def second(first: int, log="", pipe="") -> int:
    _note(log, "second")
    if pipe:
        open(pipe).close()
    return first + 1


def third(second: int, log="") -> int:
    _note(log, "third")
    return second + 1


# S2: whose it is


def test_s2_it_is_made_for_its_owner_alone(tmp_path):
    """Mode 0700, whatever the umask; and what is in it is not for others either."""
    before = os.umask(0)
    try:
        graph().run(rows(1), dir=tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702])
def test_s2_one_that_others_may_write_to_is_refused_unread_and_untouched(tmp_path, mode, monkeypatch):
    """With the mend; `CPGRAPH_TRUST_DIR=1` for containers."""
    path = tmp_path / "kept"
    graph().run(rows(1), dir=path)
    path.chmod(mode)
    before = contents(path)
    for attempt in (
        lambda: graph().run(rows(1), dir=path),
        lambda: graph().resume(dir=path),
        lambda: graph().plan(rows(1), dir=path),
        lambda: cp.runs(path),
    ):
        with pytest.raises(cp.StorageError) as error:
            attempt()
        assert "chmod go-w" in str(error.value) and "CPGRAPH_TRUST_DIR" in str(error.value)
    assert contents(path) == before and stat.S_IMODE(path.stat().st_mode) == mode
    monkeypatch.setenv("CPGRAPH_TRUST_DIR", "1")
    assert graph().run(rows(1), dir=path).counts["fill"] == {"cached": 1}
    monkeypatch.delenv("CPGRAPH_TRUST_DIR")
    path.chmod(0o755)
    assert graph().run(rows(1), dir=path).counts["fill"] == {"cached": 1}, "others may read"


def test_s2_links_inside_are_not_followed_and_the_directory_may_be_one(tmp_path):
    """A link to it is it."""
    path = tmp_path / "kept"
    graph().run(rows(1), dir=path)
    (tmp_path / "link").symlink_to(path)
    assert graph().run(rows(1), dir=tmp_path / "link").counts["fill"] == {"cached": 1}
    elsewhere = tmp_path / "elsewhere"
    (path / "journal.sqlite").rename(elsewhere)
    (path / "journal.sqlite").symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    with pytest.raises(cp.StorageError):
        graph().run(rows(1), dir=path)
    assert elsewhere.read_bytes() == before


# S3: damage


def big(id: int | str) -> bytes:
    return bytes([len(str(id))]) * 300_000


def size(big: list[bytes]) -> int:
    return sum(map(len, big))


def test_s3_a_damaged_value_is_told_and_its_node_runs_again(tmp_path):
    """Event `Damaged` with `.path` and `.what`; a count in `status`; never served."""
    big_graph = cp.Graph(cp.pipeline(cp.pipeline(big, each=Row), size))
    run = big_graph.run(rows("a", "bb"), dir=tmp_path)
    files = [file for file in (tmp_path / "values").rglob("*") if file.is_file()]
    assert files, "large values have files of their own"
    body = files[0].read_bytes()
    files[0].write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    told = []
    stream = cp.Stream()
    stream.on(Damaged)(told.append)
    again = big_graph.run(rows("a", "bb"), dir=tmp_path, stream=stream, redo="size")
    assert again.value(size) == 600_000 == run.value(size)
    assert again.counts["big"] == {"computed": 1, "cached": 1}
    assert told and all(isinstance(event.path, str) and event.what for event in told) and str(tmp_path) in told[0].path
    assert big_graph.run(rows("a", "bb"), dir=tmp_path).counts["big"] == {"cached": 2}


def test_s3_damage_is_counted_in_status(tmp_path):
    """And the summary of a run that met it says so."""
    script = Script(
        tmp_path,
        """
        def big(n: int) -> bytes:
            note("big", n)
            return bytes([n]) * 300_000
        def size(big: list[bytes]) -> int:
            return sum(map(len, big))
        graph = cp.Graph(cp.pipeline(cp.pipeline(big, each={"n": [1, 2]}), size))
        """,
    )
    script.command("run", "job.py")
    assert script.command("status", "--json").answer["damaged"] == 0
    file = next(file for file in (tmp_path / ".cpgraph" / "values").rglob("*") if file.is_file())
    file.write_bytes(b"x" + file.read_bytes()[1:])
    facts = script.command("status", "--json").answer
    assert facts["damaged"] >= 1 and "damaged" in script.command("status").out
    done = script.command("run", "job.py", "--redo", "size")
    assert len(done.log) == 1 and "damaged" in done.err


def test_s3_results_out_of_order_are_told_and_nobody_reads_them_for_ever(tmp_path):
    """One byte of one row's number: those who go through all rows by number must come to an end."""

    def work(n):
        return n

    cp.Graph(cp.pipeline(work, each={"n": list(range(20))})).run(dir=tmp_path)
    file = tmp_path / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as database:
        ((root,),) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'results'")
        ((size,),) = database.execute("PRAGMA page_size")
    body = bytearray(file.read_bytes())
    page = (root - 1) * size
    cells = int.from_bytes(body[page + 3 : page + 5], "big")
    cell = page + int.from_bytes(body[page + 6 + 2 * cells : page + 8 + 2 * cells], "big")
    while body[cell] & 0x80:  # the length of the row comes before its number
        cell += 1
    assert body[cell + 1] == 20
    body[cell + 1] = 1
    file.write_bytes(body)
    script = Script(tmp_path, "")
    assert script.command("status", "--json", "--dir", tmp_path).answer["damaged"] >= 1
    refused = script.command("gc", "--dir", tmp_path, status=2)
    assert "the journal is damaged: its results are not in order" in refused.err


@pytest.mark.parametrize("part", range(12))
def test_s3_flipped_bytes_anywhere_give_the_right_answer_or_an_error(tmp_path, part):
    """Nothing is decoded from bytes that do not agree with their digest: a rerun is right, or it says what is wrong."""
    path = tmp_path / "kept"
    data = rows(*range(30))
    good = graph().run(data, dir=path)
    expected, values = good.data, good.values(fill)
    journal = path / "journal.sqlite"
    body = bytearray(journal.read_bytes())
    for place in range(100 + part * 37, len(body), len(body) // 6 + 11):
        body[place] ^= 0xFF
    for name in ("journal.sqlite-wal", "journal.sqlite-shm"):
        (path / name).unlink(missing_ok=True)
    journal.write_bytes(body)
    for _ in range(2):
        try:
            run = graph().run(data, dir=path)
        except cp.StorageError as error:
            refused = error.path, str(error).splitlines()[-1][:6]
            assert refused == (str(journal), "Mend: ")
            return
        assert run.ok and run.data == expected and run.values(fill) == values and run.value(count) == 30


def test_s3_a_damaged_version_is_listed_as_such_and_the_others_stay_readable(tmp_path):
    """Of a run of many commits one is damaged."""

    def heavy(id: int | str):
        return cp.update(text=f"{id:04}" * 1000)

    steps = cp.Graph(cp.pipeline(heavy, each=Row))
    run = steps.run(rows(*range(10)), dir=tmp_path, concurrency=1)
    numbers = [version.number for version in run.history]
    journal = tmp_path / "journal.sqlite"
    with sqlite3.connect(journal) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    body = journal.read_bytes()
    needle = b"0007" * 200
    assert needle in body
    journal.write_bytes(body.replace(needle, b"0008" * 200))
    (found,) = cp.runs(tmp_path)
    assert [version.number for version in found.history] == numbers
    damaged = [version.number for version in found.history if version.damaged]
    place = next(version.place for version in found.history if version.damaged)
    assert damaged and damaged[0] == found.history[place].number
    assert found.history[place - 1].store.count(Row) == 10
    with pytest.raises(cp.CpgraphError, match="damaged"):
        found.history[place].store.all(Row)
    script = Script(tmp_path / "s", "")
    listed = script.command("history", "--dir", str(tmp_path)).out
    assert "damaged" in listed and "v1 " in listed


# S4: reported means on disk


@pytest.mark.parametrize("executor", EXECUTORS)
def test_s4_whoever_has_seen_a_node_end_may_rely_on_it(tmp_path, executor):
    """In the handler, another reader of the directory finds it, with its value and its changes."""
    checked = []
    stream = cp.Stream()

    @stream.on(NodeEnded)
    def ended(event):
        run = cp.runs(tmp_path)[-1]
        found = {node.id: node.ended for node in run.nodes}
        assert found[event.node] == event.ended
        if event.step == "fill":
            assert run.value(fill, event.record.id) == f"value of {event.record.id!r}"
        checked.append(event.node)

    assert graph().run(rows(1, "1", 2), dir=tmp_path, executor=executor, stream=stream).ok
    assert sorted(checked) == ["count", 'fill["1"]', "fill[1]", "fill[2]"]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_s4_kill_at_the_moment_of_a_report_loses_nothing_that_was_reported(tmp_path, executor):
    """Killed at each of the first reports in turn, on one directory: each time what was reported is cached."""
    script = Script(
        tmp_path,
        """
        from cpgraph.events import NodeEnded
        @cp.model
        class Row:
            id: int
            text: str = ""
        def work(id: int):
            note("work", id)
            return cp.update(text=str(id))
        def more(text: str) -> str:
            note("more", text)
            return text
        graph = cp.Graph(cp.pipeline(work, more, each=Row, concurrency=2), data=lambda: [Row(id=n) for n in range(6)])
        if __name__ == "__main__":
            stream = cp.Stream()
            @stream.on(NodeEnded)
            def ended(event):
                if event.ended == "computed":
                    with open("seen.txt", "a") as file:
                        print(event.node, file=file, flush=True)
                    os.kill(os.getpid(), signal.SIGKILL)
            run = graph.run(executor=sys.argv[1], concurrency=1, stream=stream)
            print(run.data["Row"] == [{"id": n, "text": str(n)} for n in range(6)])
        """,
    )
    for _ in range(14):
        process = subprocess.run([sys.executable, "job.py", executor], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert process.returncode in (0, KILLED), process.stderr
        if process.returncode == 0:
            break
    assert process.stdout == "True\n"
    seen = (tmp_path / "seen.txt").read_text().split()
    assert len(seen) == len(set(seen)), "what was reported as computed was not computed again"
    assert "work" not in script.run(executor).log


# S5 (as far as it shows without time): a killed process leaves nothing to wait for


def test_s5_nothing_a_killed_process_left_makes_anyone_wait_or_clean(tmp_path):
    """Killed in the middle of a step, with a second process reading and a third running meanwhile."""
    script = Script(
        tmp_path,
        """
        def one() -> int:
            return 1
        def two(one: int) -> int:
            if "HANG" in os.environ:
                print("in the middle", flush=True)
                sys.stdin.readline()
            return 2
        graph = cp.Graph(cp.pipeline(one, two))
        if __name__ == "__main__":
            print(graph.run().value(two), flush=True)
        """,
    )
    process = script.start(HANG="1")
    assert process.stdout.readline() == "in the middle\n"
    assert script.run().out == "2\n", "another run of the same graph meanwhile"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert [run.status for run in cp.runs(tmp_path / ".cpgraph")] == ["killed", "ok"]
    assert script.run().out == "2\n" and script.command("resume", "job.py").last.startswith("ok: 0 computed")


# S6: ids, and what is refused in YAML

IDS = [
    *[1, "1", -1, 0, "0", "1.5", "nan", "true", "None", "1_000", 10**30, -(10**400), "x" * 10_000],
    *["", " ", "a/b", "../../etc/passwd", "/abs", "nul\0byte", "line\nbreak", "tab\t", "é", "漢字", "\U0001f600"],
    *["con", ".", "..", "~", "a~2", "[x]", 'quo"te', "it's"],
]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_s6_ids_are_int_or_str_of_any_content_and_size(tmp_path, executor):
    """Compared by type and value; kept, read back and found; never a file name."""
    data = rows(*IDS)
    run = graph().run(data, dir=tmp_path / "kept", executor=executor)
    assert run.ok and run.value(count) == len(IDS)
    assert run.values(fill) == {id: f"value of {id!r}" for id in IDS}
    assert [row["id"] for row in run.data["Row"]] == IDS
    assert [type(row["id"]) for row in run.data["Row"]] == [type(id) for id in IDS]
    assert run.value(fill, 1) == "value of 1" and run.value(fill, "1") == "value of '1'"
    assert run.store.find(Row, "1").text == "text of '1'" and run.store.find(Row, 1).text == "text of 1"
    assert len({node.id for node in run.nodes if node.step == "fill"}) == len(IDS)
    found = cp.runs(tmp_path / "kept")[0]
    assert found.values(fill) == run.values(fill)
    again = graph().resume(dir=tmp_path / "kept", executor=executor)
    assert again.counts == {"fill": {"cached": len(IDS)}, "count": {"cached": 1}}
    names = {file.name for file in tmp_path.rglob("*")}
    assert not names & {str(id) for id in IDS} and {path.name for path in tmp_path.iterdir()} == {"kept"}


def test_s6_other_ids_are_refused(tmp_path):
    """One error that names each row; a bool is no int."""
    for wrong in (True, 1.5, None, (1, 2), b"x", [1]):
        with pytest.raises(cp.CpgraphError, match="id"):
            graph().run({"Row": [{"id": wrong}]}, dir=tmp_path)
    assert cp.runs(tmp_path) == []


def test_s6_the_same_id_twice_is_an_error_but_1_and_text_1_are_two(tmp_path):
    """By type and value."""
    assert graph().run(rows(1, "1"), dir=tmp_path).value(count) == 2
    for twice in ([1, 1], ["1", "1"]):
        with pytest.raises(cp.DataError):
            graph().run(rows(*twice), dir=tmp_path)


def test_s6_yaml_that_is_a_bomb_is_refused_with_file_and_line(tmp_path):
    """Deeper than 200 levels; numbers over 4,300 digits; aliases that stand for over a million nodes; tags."""
    deep = "Row:\n- id: 1\n  text: " + "[" * 300 + "]" * 300 + "\n"
    number = "Row:\n- id: 1\n- id: " + "9" * 5000 + "\n"
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    tagged = "Row:\n- id: !!python/object/apply:os.system ['touch pwned']\n"
    cyclic = "Row:\n- &x {id: 1, text: *x}\n"
    for name, text, line in [
        ("deep", deep, 3), ("number", number, 3), ("laughs", laughs, None), ("tagged", tagged, 2), ("cyclic", cyclic, 2),
    ]:  # fmt: skip
        path = tmp_path / f"{name}.yml"
        path.write_text(text)
        with pytest.raises(cp.DataError) as error:
            graph().run(path, dir=tmp_path / "kept")
        assert f"{name}.yml:{line or ''}" in str(error.value), error.value
    assert not (tmp_path / "pwned").exists() and not Path("pwned").exists() and cp.runs(tmp_path / "kept") == []


def test_two_threads_of_one_process_share_a_directory(tmp_path):
    """Each its own run; both right (promise 9)."""
    found = {}

    def go(name):
        found[name] = cp.Graph(cp.pipeline(cp.pipeline(fill, each=Row), count), name=name).run(rows(*range(50)), dir=tmp_path)

    threads = [threading.Thread(target=go, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {name: run.value(count) for name, run in found.items()} == dict.fromkeys("abc", 50)
    assert sorted(run.number for run in cp.runs(tmp_path)) == [1, 2, 3]
