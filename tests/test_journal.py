"""The journal: what was committed is there, whatever happened then; what is damaged is told and never served."""

import errno
import os
import shutil
import signal
import sqlite3
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cpgraph import database, disk, journal, upkeep
from cpgraph.errors import StorageError
from cpgraph.journal import Batch, Journal, Row

BIG = b"big" * (journal.LARGE // 2)
MIDDLE = b"mid" * journal.INLINE


@pytest.fixture(params=["memory", "disk"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "memory" else tmp_path / "store"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


class Told:
    """Collects what is told of damage."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, path: str, what: str) -> None:
        self.lines.append(f"{Path(path).name}: {what}")


def key(number: int) -> bytes:
    return number.to_bytes(16)


def fill(store: Path, rows: int = 20) -> None:
    """One run that has ended, with some of everything."""
    with Journal(store) as made:
        run = made.begin("g", b"meta")
        for number in range(rows):
            made.put(key(number), b"head%d" % number, b"value%d" % number)
        made.put(key(1000), b"", MIDDLE)
        made.put(key(1001), b"", BIG)
        made.put(key(1002), b"none", None)
        made.put(None, b"no key", b"v")
        made.put_blob(b"blob")
        made.append(run, b"first", 2)
        made.append(run, b"second", 0)
        made.commit()
        made.append(run, b"third", 1)
        made.commit()
        made.end(run, "ok", b"end")


def listing(directory: Path) -> list[tuple[str, int, int]]:
    """What a directory holds, and when each part was last written."""
    return sorted((str(path.relative_to(directory)), (s := path.lstat()).st_mtime_ns, s.st_mode) for path in directory.rglob("*"))


# Results


def test_results_come_back_before_and_after_the_commit_newest_first(place: Path | None) -> None:
    with Journal(place) as made:
        first = made.put(key(1), b"head", b"value")
        second = made.put(key(1), b"later", None)
        other = made.put(None, b"", b"")
        assert made.rows([other, first]) == {other: Row(other, b"", b"", False), first: Row(first, b"head", b"value", False)}
        for _ in range(2):
            rows = [Row(second, b"later", None, False), Row(first, b"head", b"value", False)]
            assert made.find([key(1), key(2), key(1)]) == {key(1): rows}
            made.commit()
        third = made.put(key(1), b"newest", b"v")
        assert [row.id for row in made.find([key(1)])[key(1)]] == [third, second, first]
        assert made.value(first) == b"value"
        assert made.value(second) is None
        assert made.rows([]) == {}
        assert made.find([]) == {}
        assert made.damaged == 0


def test_many_keys_are_found_in_one_call_also_those_that_begin_alike(place: Path | None) -> None:
    alike = [key(1 << 127 | number) for number in range(1203)]
    with Journal(place) as made:
        ids = [made.put(each, each, b"v") for each in alike]
        made.commit()
        found = made.find([*alike, key(1 << 127 | 5000), b"", b"\0", b"short"])
        assert len(found) == len(alike)
        assert [[row.id for row in found[each]] for each in alike] == [[id] for id in ids]
        assert set(made.rows([*ids, 10**9])) == set(ids)


def test_keys_are_found_whether_merged_or_not(place: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MERGE", (50, 4))
    with Journal(place) as made:
        ids = []
        for number in range(400):
            ids.append(made.put(key(number * 2**90), b"h", b"v"))
            if number % 7 == 6:
                made.commit()
        assert made._db.rows("SELECT count(*) FROM keys")[0][0] >= 50
        assert made._db.rows("SELECT count(*) FROM fresh")[0][0] > 0
        found = made.find([key(number * 2**90) for number in range(400)])
        assert [found[key(number * 2**90)][0].id for number in range(400)] == ids


def test_large_values_are_loaded_when_asked_for(place: Path | None) -> None:
    with Journal(place) as made:
        ids = [made.put(key(size), b"head", bytes(size)) for size in (0, journal.INLINE, journal.INLINE + 1, journal.LARGE + 1)]
        twice = made.put(key(9), b"", bytes(journal.LARGE + 1))
        for _ in range(2):
            rows = made.rows(ids)
            assert [rows[id].large for id in ids] == [rows[id].value is None for id in ids] == [False, False, True, True]
            assert [len(made.value(id) or b"") for id in ids] == [0, journal.INLINE, journal.INLINE + 1, journal.LARGE + 1]
            assert made.value(twice) == bytes(journal.LARGE + 1)
            made.commit()
        if place:
            (path,) = (path for path in (place / "values").rglob("*") if path.is_file())
            assert path.stat().st_size == journal.LARGE + 1
            assert path.name == disk.digest_of(bytes(journal.LARGE + 1)).hex()


def test_blobs_are_kept_once_under_their_digest(place: Path | None) -> None:
    with Journal(place) as made:
        digests = [made.put_blob(body) for body in (b"one", b"two", b"one", BIG, BIG)]
        assert len(set(digests)) == 3
        assert made.blob(digests[0]) == b"one"
        assert made.blob(digests[3]) == BIG
        made.commit()
        made.put_blob(b"one")
        made.commit()
        assert made._db.rows("SELECT count(*) FROM blobs WHERE body = ?", (b"one",)) == [(1,)]
        assert (made.blob(digests[1]), made.blob(digests[3])) == (b"two", BIG)


def test_other_threads_load_values_while_one_commits(place: Path | None) -> None:
    with Journal(place) as made:
        ids: list[int] = []
        wrong: list[object] = []
        done = threading.Event()

        def load() -> None:
            while not done.is_set():
                for id in ids[-20:]:
                    if made.value(id) != b"%d" % id * 2000:
                        wrong.append(id)

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(300):
            id = next(made._ids, 0) or made._reserved()
            made._ids = iter([id, *made._ids])
            assert made.put(key(number), b"", b"%d" % id * 2000) == id
            ids.append(id)
            if number % 10 == 9:
                made.commit()
        done.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert made.damaged == 0


# Runs


def test_runs_and_versions_are_numbered_through_the_directory(place: Path | None) -> None:
    with Journal(place) as made:
        one = made.begin("g", b"one")
        made.append(one, b"a", 3)
        made.append(one, b"b", 0)
        assert made.commit() == [1, 4]
        assert made.commit() == []
        two = made.begin("h", b"two")
        made.append(two, b"c", 1)
        made.append(one, b"d", 2)
        assert made.commit() == [4, 5]
        made.append(one, b"e", 1)
        made.end(one, "failed", b"bye")
        assert (one, two) == (1, 2)
        first, second = made.runs()
        assert (first.number, first.graph, first.meta, first.alive) == (1, "g", b"one", False)
        assert (first.status, first.end_meta) == ("failed", b"bye")
        assert first.ended is not None
        assert first.ended >= first.started > 0
        assert (second.number, second.ended, second.status, second.end_meta, second.alive) == (2, None, None, None, True)
        assert [run.number for run in made.runs("h")] == [2]
        batches = list(made.batches(one))
        numbers = [(batch.first_version, batch.versions, batch.body) for batch in batches]
        assert numbers == [(1, 3, b"a"), (4, 0, b"b"), (5, 2, b"d"), (7, 1, b"e")]
        assert [b.body for b in made.batches(two)] == [b"c"]
        assert list(made.batches(77)) == []
        assert made.damaged == 0


def test_two_processes_share_a_directory(store: Path) -> None:
    with Journal(store) as one, Journal(store) as two:
        runs = one.begin("g", b""), two.begin("g", b"")
        ids = [made.put(key(number % 5), b"%d" % number, b"v") for number in range(30) for made in (one, two)]
        assert len(set(ids)) == 60
        one.append(runs[0], b"one", 5)
        two.append(runs[1], b"two", 5)
        assert sorted(one.commit() + two.commit()) == [1, 6]
        assert [len(rows) for rows in one.find([key(1)]).values()] == [12]
        assert one.find([key(1)]) == two.find([key(1)])
        assert [run.alive for run in one.runs()] == [True, True]
        two.end(runs[1], "ok", b"")
        assert [run.alive for run in one.runs()] == [True, False]
    with Journal(store) as three:
        assert three.begin("g", b"") == 3
        assert [(run.status, run.alive) for run in three.runs()] == [(None, False), ("ok", False), (None, True)]
        assert os.listdir(store / "live") == ["3"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_that_lives_on_does_not_keep_a_run_alive(store: Path) -> None:
    made = Journal(store)
    made.begin("g", b"")
    made.put_blob(BIG)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        made.close()  # not the child's to close
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        with Journal(store, writable=False) as reader:
            assert reader.runs()[0].alive
            made.commit()
            assert made.blob(made.put_blob(BIG)) == BIG
            made.close()
            assert not reader.runs()[0].alive
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)


# Readers (R6)


def test_r6_a_reader_creates_nothing_where_nothing_has_run(tmp_path: Path) -> None:
    for directory in (tmp_path / "a" / "b", tmp_path):
        with Journal(directory, writable=False) as reader:
            assert reader.empty
            assert reader.runs() == []
            assert reader.find([key(1)]) == {}
            assert reader.size() == 0
            assert reader.check() == 0
            with pytest.raises(StorageError, match="opened for reading"):
                reader.begin("g", b"")
            with pytest.raises(StorageError, match="opened for reading"):
                reader.put(None, b"", None)
    assert list(tmp_path.iterdir()) == []


def test_r6_a_reader_of_a_journal_at_rest_touches_nothing(store: Path) -> None:
    fill(store)
    before = listing(store)
    with Journal(store, writable=False) as reader:
        assert not reader.empty
        assert [run.status for run in reader.runs()] == ["ok"]
        assert len(reader.find([key(number) for number in range(20)])) == 20
        assert reader.check() == 0
        assert listing(store) == before
    assert listing(store) == before


def test_a_reader_sees_what_is_committed_while_it_reads(store: Path) -> None:
    fill(store)
    with Journal(store, writable=False) as reader:
        assert len(reader.runs()) == 1
        with Journal(store) as writer:
            writer.begin("g", b"")
            assert len(reader.runs()) == 2  # though it was opened when nobody wrote
            writer.put(key(5000), b"h", b"v")
            assert reader.find([key(5000)]) == {}
            writer.commit()
            assert len(reader.find([key(5000)])) == 1
        assert len(reader.runs()) == 2
    with Journal(store, writable=False) as reader:
        assert len(reader.runs()) == 2


def test_a_reader_notices_that_all_was_rewritten_behind_its_back(store: Path) -> None:
    fill(store)
    with Journal(store, writable=False) as reader:
        assert len(reader.runs()) == 1
        with Journal(store) as writer:
            writer.end(writer.begin("g", b""), "ok", b"")
        assert not (store / "journal.sqlite-wal").exists()
        assert len(reader.runs()) == 2


# The directory (S1, S2)


def test_s2_the_directory_is_made_for_its_owner_alone(store: Path) -> None:
    before = os.umask(0)
    try:
        fill(store)
        with Journal(store) as made:
            made.begin("g", b"")
            assert all(not path.stat().st_mode & 0o077 for path in (store, *store.rglob("*")))
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    assert (store / ".gitignore").read_text() == "*\n"
    assert (store / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55\n")


def test_a_directory_with_something_in_it_gets_no_gitignore(tmp_path: Path) -> None:
    (tmp_path / "orders.py").touch()
    with Journal(tmp_path) as made:
        made.begin("g", b"")
    assert not (tmp_path / ".gitignore").exists()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
@pytest.mark.parametrize("writable", [True, False])
def test_s2_a_directory_others_may_write_to_is_refused_untouched(
    store: Path, mode: int, writable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    store.chmod(mode)
    before = listing(store)
    with pytest.raises(StorageError, match="others may write to the directory") as caught:
        Journal(store, writable=writable)
    assert caught.value.path == str(store)
    assert f"\nMend: chmod go-w {store}, or set CPGRAPH_TRUST_DIR=1" in str(caught.value)
    assert listing(store) == before
    monkeypatch.setenv("CPGRAPH_TRUST_DIR", "1")
    with Journal(store, writable=writable) as trusted:
        assert len(trusted.runs()) == 1


def test_s2_a_directory_that_others_own_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    monkeypatch.setattr(os, "geteuid", lambda: store.stat().st_uid + 1)
    with pytest.raises(StorageError, match=r"belongs to somebody else[\s\S]*CPGRAPH_TRUST_DIR=1"):
        Journal(store)


@pytest.mark.parametrize("name", ["journal.sqlite", "journal.sqlite-wal", "values", "live", "generation"])
def test_s2_links_inside_are_not_followed(tmp_path: Path, name: str) -> None:
    store, other = tmp_path / "store", tmp_path / "other"
    fill(store)
    fill(other)
    if (store / name).is_dir():
        shutil.rmtree(store / name)
    else:
        (store / name).unlink(missing_ok=True)
    (store / name).symlink_to(other / name)
    before = listing(tmp_path)
    with pytest.raises(StorageError, match="a link") as caught:
        Journal(store)
    assert caught.value.path == str(store / name)
    assert listing(tmp_path) == before


def test_s2_a_link_that_is_put_in_place_of_a_value_is_not_followed(store: Path, tmp_path: Path) -> None:
    fill(store)
    (value,) = (path for path in (store / "values").rglob("*") if path.is_file())
    value.rename(tmp_path / "elsewhere")
    value.symlink_to(tmp_path / "elsewhere")
    told = Told()
    with Journal(store, on_damage=told) as made:
        row = made.find([key(1001)])[key(1001)][0]
        assert made.value(row.id) is None
    assert len(told.lines) == 1
    assert "cannot be read" in told.lines[0]


def test_s2_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    fill(tmp_path / "link")
    with Journal(tmp_path / "real", writable=False) as made:
        assert len(made.runs()) == 1


def not_a_directory(store: Path) -> None:
    store.write_text("a file")


def dangling(store: Path) -> None:
    store.symlink_to("nowhere")


def garbage(store: Path) -> None:
    store.mkdir(mode=0o700)
    (store / "journal.sqlite").write_bytes(b"no database at all" * 1000)


def empty_file(store: Path) -> None:
    store.mkdir(mode=0o700)
    (store / "journal.sqlite").touch()


def somebody_elses(store: Path) -> None:
    store.mkdir(mode=0o700)
    with sqlite3.connect(store / "journal.sqlite") as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE results (id)")
    db.close()


def destroyed(store: Path) -> None:
    fill(store)
    with open(store / "journal.sqlite", "r+b") as file:
        file.write(bytes(100))


def of_format(version: int) -> Callable[[Path], None]:
    def make(store: Path) -> None:
        fill(store)
        with open(store / "journal.sqlite", "r+b") as file:
            file.seek(60)
            file.write(struct.pack(">I", version))

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (not_a_directory, "is not a directory"),
        (dangling, "is not a directory"),
        (garbage, "the file is damaged"),
        (empty_file, "not a journal of cpgraph"),
        (somebody_elses, "not a journal of cpgraph"),
        (destroyed, "the file is damaged"),
        (of_format(database.FORMAT + 1), "made by a newer cpgraph"),
        (of_format(database.FORMAT - 1), "made by an older cpgraph"),
    ],
)
@pytest.mark.parametrize("writable", [True, False])
def test_s1_what_cannot_serve_is_told_and_not_touched(
    store: Path, make: Callable[[Path], None], said: str, writable: bool
) -> None:
    make(store)
    before = listing(store.parent)
    content = {path: path.read_bytes() for path in store.parent.rglob("*") if path.is_file()}
    with pytest.raises(StorageError, match=said) as caught:
        Journal(store, writable=writable)
    assert str(store) in caught.value.path
    assert caught.value.path in str(caught.value)
    assert str(caught.value).splitlines()[-1].startswith("Mend: ")
    assert listing(store.parent) == before
    assert content == {path: path.read_bytes() for path in content}


def test_s1_a_path_that_cannot_be_is_a_storage_error(tmp_path: Path) -> None:
    for name in ("nul\0", "x" * 300, "file/below"):
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="Mend: "):
            Journal(tmp_path / name)


def test_s1_asking_a_closed_journal_is_told(store: Path) -> None:
    fill(store)
    made = Journal(store)
    made.close()
    made.close()
    with pytest.raises(StorageError, match="has been closed"):
        made.runs()


def test_s1_a_full_disk_is_told_and_after_making_room_all_goes_on(store: Path) -> None:
    with Journal(store) as made:
        made.begin("g", b"")
        pages = made._db.rows("PRAGMA page_count")[0][0]
        made._db.rows(f"PRAGMA max_page_count = {pages}")
        ids = [made.put(key(number), b"h" * 100, b"v" * 100) for number in range(1000)]
        for _ in range(2):
            with pytest.raises(StorageError, match="the disk is full") as caught:
                made.commit()
        assert caught.value.path == str(store / "journal.sqlite")
        assert isinstance(caught.value.__cause__, sqlite3.Error)
        with Journal(store, writable=False) as reader:
            assert reader.rows(ids) == {}
        made._db.rows("PRAGMA max_page_count = 1000000")
        made.commit()
        assert len(made.rows(ids)) == 1000
        more = [made.put(key(number), b"h", b"v") for number in range(20_000)]
        made.commit()
        assert len({*ids, *more}) == 21_000


@pytest.mark.parametrize("failing", ["write_new", "sync_file", "sync_directory"])
def test_s1_a_disk_full_in_the_middle_of_a_value_leaves_nothing_half(
    store: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(store) as made:
        made.begin("g", b"")
        with monkeypatch.context() as patch:
            patch.setattr(disk, failing, full)
            with pytest.raises(StorageError, match="the disk is full") as caught:
                made.put(key(1), b"", BIG)
                made.commit()
            assert str(store / "values") in caught.value.path
        id = made.put(key(2), b"", BIG)
        made.commit()
        assert made.value(id) == BIG
        assert not list((store / "values").rglob("*.new"))


def test_s1_a_journal_that_is_removed_meanwhile_is_told(store: Path) -> None:
    with Journal(store) as made:
        made.begin("g", b"")
        shutil.rmtree(store)
        made.put(key(1), b"", b"")
        with pytest.raises(StorageError):
            made.commit()
        fill(store)
        with pytest.raises(StorageError, match="removed or replaced"):
            made.commit()


def test_s1_a_journal_that_stays_locked_is_told(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    monkeypatch.setattr(database, "BUSY", 0.001)
    with Journal(store) as one, Journal(store) as two:
        two.put(key(1), b"", b"")
        with one._db.transaction("hold"):
            assert len(two.runs()) == 1  # no reader waits
            with pytest.raises(StorageError, match="another process has kept it locked"):
                two.commit()
        two.commit()
        assert len(one.find([key(1)])[key(1)]) == 2
    with Journal(store) as three:
        three.begin("g", b"")


def test_a_new_journal_does_not_take_up_what_is_left_of_a_removed_one(store: Path) -> None:
    made = Journal(store)
    made.begin("g", b"")
    (store / "kept").write_bytes((store / "journal.sqlite-wal").read_bytes())
    made.close()
    (store / "journal.sqlite").unlink()
    (store / "kept").rename(store / "journal.sqlite-wal")
    told = Told()
    with Journal(store, on_damage=told) as again:
        assert again.runs() == []
        assert again.generation == 0
        assert again.begin("g", b"") == 1
    assert told.lines == []


# Damage (S3)


def served(store: Path, told: Callable[[str, str], None]) -> None:
    """Read everything and hold that nothing is served that was never stored."""
    with Journal(store, writable=False, on_damage=told) as made:
        for number, rows in made.find([key(number) for number in range(20)]).items():
            count = int.from_bytes(number)
            assert [(row.head, row.value) for row in rows] == [(b"head%d" % count, b"value%d" % count)]
        for id, row in made.rows(range(1, 30)).items():
            assert row in STORED(id)
        for number, body in ((1000, MIDDLE), (1001, BIG)):
            for row in made.find([key(number)]).get(key(number), ()):
                assert made.value(row.id) in (body, None)
        assert made.blob(disk.digest_of(b"blob")) in (b"blob", None)
        for run in made.runs():
            assert run.meta in (b"meta", None)
            assert run.end_meta in (b"end", None)
        batches = list(made.batches(1))
        assert [batch.body for batch in batches] == [
            body if batch.body else None for batch, body in zip(batches, (b"first", b"second", b"third"), strict=False)
        ]


def STORED(id: int) -> list[Row]:
    if id <= 20:
        return [Row(id, b"head%d" % (id - 1), b"value%d" % (id - 1), False)]
    return {
        21: [Row(21, b"", None, True)],
        22: [Row(22, b"", None, True)],
        23: [Row(23, b"none", None, False)],
        24: [Row(24, b"no key", b"v", False)],
    }.get(id, [])


def test_s3_a_flipped_byte_anywhere_is_never_served(store: Path, tmp_path: Path) -> None:
    fill(store)
    whole = (store / "journal.sqlite").read_bytes()
    told = Told()
    for place in range(0, len(whole), 97):
        bad = bytearray(whole)
        bad[place] ^= (1 << place % 8) if place % 3 else 0x0C  # the latter makes a null an empty blob
        (store / "journal.sqlite").write_bytes(bad)
        try:
            served(store, told)
        except StorageError as error:
            told("", str(error))
    assert all("Mend: " in line for line in told.lines if line.startswith(": "))
    assert any("does not agree" in line for line in told.lines)


def test_s3_every_byte_of_a_result_counts(store: Path) -> None:
    fill(store, rows=3)
    whole = (store / "journal.sqlite").read_bytes()
    start, end = whole.index(b"head1") - 24, whole.index(b"head1") + len(b"head1value1") + 8
    for place in range(start, end):
        bad = bytearray(whole)
        bad[place] ^= 0x41
        (store / "journal.sqlite").write_bytes(bad)
        told = Told()
        with Journal(store, writable=False, on_damage=told) as made:
            found = made.find([key(1)])
            if found:
                assert found == {key(1): [Row(2, b"head1", b"value1", False)]}
                assert place < whole.index(b"head1") - 16  # a byte of its neighbour
            assert made.rows([2]) in ({}, {2: Row(2, b"head1", b"value1", False)})
            assert made.check() > 0
            assert told.lines


def test_s3_a_truncated_file_is_told(store: Path) -> None:
    fill(store)
    whole = (store / "journal.sqlite").read_bytes()
    for size in [*range(0, len(whole), 4096), 100, 5000]:
        (store / "journal.sqlite").write_bytes(whole[:size])
        told = Told()
        try:
            served(store, told)
            with Journal(store, on_damage=told) as made:
                assert made.check() > 0
        except StorageError as error:
            told("", str(error))
        assert told.lines


@pytest.mark.parametrize("how", ["flipped", "truncated", "missing", "directory"])
def test_s3_a_damaged_value_file_is_told_and_not_served(store: Path, how: str) -> None:
    fill(store)
    (path,) = (path for path in (store / "values").rglob("*") if path.is_file())
    body = path.read_bytes()
    if how == "flipped":
        path.write_bytes(b"X" + body[1:])
    elif how == "truncated":
        path.write_bytes(body[:-1])
    else:
        path.unlink()
        if how == "directory":
            path.mkdir()
    told: list[tuple[str, str]] = []
    with Journal(store, on_damage=lambda *what: told.append(what)) as made:
        (row,) = made.find([key(1001)])[key(1001)]
        assert made.value(row.id) is None
        assert [where for where, _ in told] == [str(path)]
        assert made.damaged == 1
        assert made.check() >= 1


def test_s3_a_damaged_batch_comes_without_body_the_others_stay_readable(store: Path) -> None:
    fill(store)
    bad = (store / "journal.sqlite").read_bytes().replace(b"second", b"sEcond")
    (store / "journal.sqlite").write_bytes(bad)
    told = Told()
    with Journal(store, on_damage=told) as made:
        first, second, third = made.batches(1)
        assert (first.body, second.body, third.body) == (b"first", None, b"third")
        assert (second.first_version, second.versions) == (3, 0)
        made._db.connection.execute("DELETE FROM batches WHERE id >= (SELECT max(id) FROM batches)")
        assert list(made.batches(1))[2] == Batch(0, 0, 0.0, None)  # the end of the run says that there was one
    assert told.lines[0] == "journal.sqlite: batch 1 of run 1 does not agree with its checksum"
    assert told.lines[-1] == "journal.sqlite: batch 2 of run 1 is missing"


def test_s3_a_damaged_counter_goes_on_behind_what_there_is(store: Path) -> None:
    fill(store)
    with Journal(store) as made:
        made._db.connection.execute("UPDATE counters SET next = 1")
    told = Told()
    with Journal(store, on_damage=told) as made:
        run = made.begin("g", b"")
        assert run == 2
        assert made.put(key(1), b"", b"") > 24
        made.append(run, b"", 1)
        assert made.commit() == [4]
    assert "journal.sqlite: the counter 'run' does not agree with its checksum" in told.lines


def test_s3_commits_lost_from_the_end_are_told(store: Path) -> None:
    made = Journal(store)
    run = made.begin("g", b"")
    kept = (store / "journal.sqlite").read_bytes(), (store / "journal.sqlite-wal").read_bytes()
    for _ in range(3):
        made.append(run, b"lost", 1)
        made.commit()
    made.close()
    (store / "journal.sqlite").write_bytes(kept[0])
    (store / "journal.sqlite-wal").write_bytes(kept[1])
    for writable in (False, True):
        told = Told()
        with Journal(store, writable=writable, on_damage=told) as again:
            assert told.lines == ["journal.sqlite: the last 3 commits are missing"]
            assert list(again.batches(run)) == []
            if writable:
                again.begin("g", b"")
    with Journal(store, on_damage=told) as again:
        assert len(told.lines) == 1


def test_s3_a_torn_or_damaged_log_gives_what_was_committed_before(store: Path) -> None:
    with Journal(store) as made:
        run = made.begin("g", b"")
        for number in range(6):
            made.put(key(number), b"h", b"v" * 1500)
            made.append(run, b"%d" % number, 1)
            made.commit()
        files = {path: path.read_bytes() for path in store.glob("journal.sqlite*")}
    wal = store / "journal.sqlite-wal"
    counts = set()
    for size in [*range(0, len(files[wal]), 4001), len(files[wal])]:
        for torn in (files[wal][:size], files[wal][:size] + b"\xff" * 500 + files[wal][size + 500 :]):
            for path, body in files.items():
                path.write_bytes(body)
            wal.write_bytes(torn)
            (store / "journal.sqlite-shm").unlink()
            with Journal(store) as again:
                bodies = [batch.body for batch in again.batches(run)]
                assert bodies == [b"%d" % number for number in range(len(bodies))]
                assert set(again.find([key(number) for number in range(6)])) == {key(number) for number in range(len(bodies))}
                again.end(again.begin("g", b""), "ok", b"")
            counts.add(len(bodies))
    assert counts == {0, 1, 2, 3, 4, 5, 6}


# A kill at any moment


def work(store: Path, report: Callable[[str], object]) -> None:
    """What a run does to its directory; reports what it may rely on."""
    made = Journal(store)
    run = made.begin("g", b"meta")
    report(f"run {run}")
    for number in range(2):
        ids = [made.put(key(number * 10 + each), b"h", b"v%d" % each) for each in range(3)]
        ids.append(made.put(None, b"", BIG + b"%d" % number))
        made.append(run, b"%d" % number, 1)
        made.commit()
        report(f"ids {' '.join(map(str, ids))}")
    made.end(run, "ok", b"")
    report("ended")
    made.close()


def killed_at(moment: int, store: Path) -> tuple[list[str], bool]:
    """Do the work in a child that is killed at the given system call or statement; give what it reported."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        left = moment

        def tick(*args: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def hooked(call: Callable[..., object]) -> Callable[..., object]:
            def hook(*args: object, **kwargs: object) -> object:
                tick()
                done = call(*args, **kwargs)
                tick()
                return done

            return hook

        connect = sqlite3.connect

        def connect_and_trace(*args: object, **kwargs: object) -> sqlite3.Connection:
            made: sqlite3.Connection = connect(*args, **kwargs)  # type: ignore[call-overload]
            made.set_trace_callback(tick)
            made.set_progress_handler(tick, 200)
            return made

        for name in ("fsync", "replace", "unlink", "mkdir", "write", "close"):
            setattr(os, name, hooked(getattr(os, name)))
        sqlite3.connect = connect_and_trace  # type: ignore[assignment]
        write = os.write
        try:
            work(store, lambda line: write(writing, f"{line}\n".encode()))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="ascii") as file:
        lines = file.read().splitlines()
    return lines, os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_kill_at_any_moment_loses_nothing_that_was_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the system has been given outlives the process, so nothing need wait for the disk.
    monkeypatch.setattr(database, "SETTINGS", ("synchronous = OFF", *database.SETTINGS[1:]))
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    moment = 0
    again = True
    while again:
        moment += 1
        store = tmp_path / f"{moment}"
        lines, again = killed_at(moment, store)
        told = Told()
        with Journal(store, on_damage=told) as made:  # nothing to clean by hand
            runs = made.runs()
            assert len(runs) >= ("run 1" in lines)
            assert not any(run.alive for run in runs)
            reported = [int(id) for line in lines if line.startswith("ids") for id in line.split()[1:]]
            assert set(made.rows(reported)) == set(reported)
            assert all(made.value(id) is not None for id in reported)
            batches = list(made.batches(1))
            assert [batch.body for batch in batches] == [b"%d" % number for number in range(len(batches))]
            assert len(batches) >= sum(line.startswith("ids") for line in lines)
            if "ended" in lines:
                assert runs[0].status == "ok"
            run = made.begin("g", b"")
            assert run == len(runs) + 1
            id = made.put(key(1), b"again", BIG + b"0")
            made.append(run, b"on", 1)
            assert made.commit() == [sum(batch.versions for batch in batches) + 1]
            assert made.value(id) == BIG + b"0"
            assert os.listdir(store / "live") == [str(run)]
            made.end(run, "ok", b"")
            assert made.check() == 0
        assert told.lines == []
        shutil.rmtree(store)
    assert lines[-1] == "ended"
    assert moment > 100


# Cleaning up


def test_gc_removes_what_is_not_kept_and_nothing_else(place: Path | None) -> None:
    with Journal(place) as made:
        run = made.begin("g", b"")
        keep = [made.put(key(1), b"", b"keep"), made.put(key(2), b"", MIDDLE), made.put(key(3), b"", BIG)]
        drop = [made.put(key(1), b"", b"drop"), made.put(key(5), b"", MIDDLE + b"x"), made.put(key(6), b"", BIG + b"x")]
        blobs = made.put_blob(b"keep"), made.put_blob(b"drop")
        made.end(run, "ok", b"")
        if place:
            for path in (place / "values").rglob("*"):
                os.utime(path, (1, 1))
        freed = made.gc(set(keep), {blobs[0]}, made.generation)
        assert (freed.results, freed.blobs, freed.files, freed.held) == (3, 2 if place else 3, 1 if place else 0, False)
        assert set(made.rows([*keep, *drop])) == set(keep)
        assert [made.value(id) for id in keep] == [b"keep", MIDDLE, BIG]
        assert [row.value for row in made.find([key(1)])[key(1)]] == [b"keep"]
        assert made.blob(blobs[0]) == b"keep"
        assert made.damaged == 0
        assert made.blob(blobs[1]) is None
        assert made.delete([run, 99]) == [run, 99]
        assert made.runs() == []
        assert list(made.batches(run)) == []
        assert made.begin("g", b"") == run + 1


def test_a_run_that_is_stripped_keeps_only_what_tells_of_it(store: Path) -> None:
    fill(store)
    told = Told()
    with Journal(store, on_damage=told) as made:
        made.strip(1, b"less")
        made.strip(77, b"no such run")
        (run,) = made.runs()
        assert (run.graph, run.meta, run.status, run.end_meta) == ("", b"less", "ok", b"end")
        assert list(made.batches(1)) == []
        assert told.lines == []
        made._db.connection.execute("UPDATE runs SET status = 'bad'")
        made.strip(1, b"less")
        assert made.runs()[0].status is None  # what is damaged is not made good
        assert told.lines == ["journal.sqlite: the end of run 1 does not agree with its checksum"]


def test_gc_gives_room_back(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "SLICE", 300)
    with Journal(store) as made:
        run = made.begin("g", b"")
        ids = [made.put(key(number), b"h" * 500, b"v" * 500) for number in range(1000)]
        made.end(run, "ok", b"")
        before = made.size()
        freed = made.gc(set(ids[:10]), set(), made.generation)
        assert freed.results == 990
        assert freed.bytes > 990_000
        assert made.size() < before / 10
        assert len(made.find([key(number) for number in range(1000)])) == 10


def test_gc_leaves_all_to_a_run_that_goes_on(store: Path) -> None:
    with Journal(store) as made, Journal(store) as cleaner:
        run = made.begin("g", b"")
        id = made.put(key(1), b"", b"v")
        made.commit()
        generation = cleaner.generation
        assert cleaner.gc(set(), set(), generation).held
        assert cleaner.delete([run]) == []
        made.end(run, "ok", b"")
        assert cleaner.gc(set(), set(), generation).held  # something was written since
        assert made.rows([id])
        assert cleaner.gc(set(), set(), cleaner.generation).results == 1
        assert made.rows([id]) == {}


def test_gc_leaves_young_files_and_removes_what_a_killed_process_left(store: Path) -> None:
    fill(store)
    old, young = store / "values" / "ab" / "abc.77.new", store / "values" / "ab" / "abc.78.new"
    old.parent.mkdir(exist_ok=True)
    for path in (old, young):
        path.touch()
    os.utime(old, (1, 1))
    with Journal(store) as made:
        assert made.gc(set(), set(), made.generation).files == 1
    assert young.exists()
    assert not old.exists()
    assert len([path for path in (store / "values").rglob("*") if path.is_file()]) == 2


def test_a_value_that_is_stored_anew_counts_as_young(store: Path) -> None:
    fill(store)
    (path,) = (path for path in (store / "values").rglob("*") if path.is_file())
    os.utime(path, (1, 1))
    with Journal(store) as made:
        made.put_blob(BIG)
        made.commit()
        assert made.gc(set(), set(), made.generation).files == 0
    assert path.exists()


def test_the_network_is_told_by_its_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = f"{tmp_path}/far\\040away"
    mounts = f"/dev/vda / ext4 rw 0 0\nhost:/x {far} nfs4 rw 0 0\ntmpfs {far}/near tmpfs rw 0 0\n"
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: mounts)
    assert disk.network_file_system(tmp_path) is None
    assert disk.network_file_system(tmp_path / "far away" / "x") == "nfs4"
    assert disk.network_file_system(tmp_path / "far away" / "near") is None
    assert Journal(None).network is None


# What it costs


@pytest.fixture
def counted(store: Path) -> Iterator[tuple[Journal, list[str]]]:
    with Journal(store) as made:
        made.begin("g", b"")
        statements: list[str] = []
        made._db.connection.set_trace_callback(statements.append)
        yield made, statements


def test_a_thousand_results_are_one_transaction_and_few_bytes(counted: tuple[Journal, list[str]]) -> None:
    made, statements = counted
    for number in range(1000):
        made.put(bytes([number % 251]) + key(number)[1:], b"h" * 20, b"v" * 20)
    made.commit()
    assert statements.count("BEGIN IMMEDIATE") == statements.count("COMMIT") == 1
    for start in range(1000, 10_000, 1000):
        for number in range(start, start + 1000):
            made.put(bytes([number % 251]) + key(number)[1:], b"h" * 20, b"v" * 20)
        made.commit()
    made._db.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    assert os.path.getsize(made.path) / 10_000 < 120


def test_keys_are_looked_up_in_batches(counted: tuple[Journal, list[str]]) -> None:
    made, statements = counted
    made.find([key(number << 90) for number in range(1000)])
    assert len(statements) == 2
