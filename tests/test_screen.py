"""Progress on a terminal: what is seen, whoever writes to it meanwhile (rules R8, R10)."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from cpgraph.screen import Row, Screen, fitting, is_terminal
from cpgraph.workers import OverRows
from tests.terminal import Terminal


class Watched:
    """Something to watch, which can be waited for: `looked` is set whenever rows are asked for."""

    def __init__(self, *rows: Row) -> None:
        self.shown = list(rows)
        self.looked = threading.Event()

    def rows(self) -> list[Row]:
        self.looked.set()
        return list(self.shown)

    def foot(self) -> str:
        return "3 s, 2 at work"

    def await_look(self) -> None:
        self.looked.clear()
        assert self.looked.wait(60)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    made = Terminal()
    yield made
    made.close()


@pytest.fixture
def streams(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let stdout and stderr go to the terminal; to be called in the test itself, before which pytest sets them."""

    def set_them() -> None:
        monkeypatch.setattr(sys, "stdout", terminal.stream())
        monkeypatch.setattr(sys, "stderr", terminal.stream())

    return set_them


def opened(terminal: Terminal, watched: Watched) -> Screen:
    screen = Screen(watched, sys.stderr, delay=0)
    screen.open()
    terminal.await_text("at work")
    return screen


def seen(terminal: Terminal) -> list[str]:
    terminal.close()
    terminal.close = lambda: None  # type: ignore[method-assign]
    return terminal.lines


def test_the_last_state_stays_below_what_was_printed(terminal: Terminal, streams: Callable[[], None]) -> None:
    streams()
    watched = Watched(Row("parse", 2, 1_000), Row("report", 0, None))
    screen = opened(terminal, watched)
    print("a step prints")
    print("to stderr", file=sys.stderr)
    watched.shown = [Row("parse", 1_000, 1_000, {"computed": 996, "failed": 3, "blocked": 1}), Row("report", 1, 1)]
    screen.close()
    print("after it")
    lines = seen(terminal)
    assert lines[:2] == ["a step prints", "to stderr"]
    assert [line.split()[:2] for line in lines[2:4]] == [["parse", "1,000/1,000"], ["report", "1/1"]]
    assert lines[2].endswith("3 failed  1 blocked")
    assert lines[4:] == ["after it"]


def test_while_it_goes_on_rows_and_foot_are_seen(terminal: Terminal, streams: Callable[[], None]) -> None:
    streams()
    opened(terminal, Watched(Row("parse", 250, 1_000, {"cached": 200}), Row("report", 0, None))).close()
    before_the_end = terminal.raw
    assert "250/1,000" in before_the_end
    assert "200 cached" in before_the_end
    assert "waiting" in before_the_end
    assert "3 s, 2 at work" in before_the_end
    assert "at work" not in "".join(seen(terminal))


def test_lines_of_threads_stay_whole(terminal: Terminal, streams: Callable[[], None]) -> None:
    streams()
    screen = opened(terminal, Watched(Row("parse", 1, 2)))
    meet = threading.Barrier(2)

    def talk(word: str) -> None:
        print(word, end="")
        meet.wait(60)  # both are in the middle of a line
        print(word)

    threads = [threading.Thread(target=talk, args=(word,)) for word in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    screen.close()
    assert sorted(seen(terminal)[:2]) == ["oneone", "twotwo"]


def test_what_is_flushed_is_seen_at_once_and_its_line_can_be_finished(terminal: Terminal, streams: Callable[[], None]) -> None:
    streams()
    watched = Watched(Row("parse", 1, 2))
    screen = opened(terminal, watched)
    print("how many? ", end="", flush=True)
    terminal.await_text("how many? ")
    watched.await_look()
    print("three")
    screen.close()
    assert seen(terminal)[0] == "how many? three"


def test_what_others_write_straight_to_the_terminal_is_not_wiped_out(terminal: Terminal, streams: Callable[[], None]) -> None:
    streams()
    watched = Watched(Row("parse", 1, 2))
    screen = opened(terminal, watched)
    subprocess.run(["echo", "a command prints"], stdout=terminal.descriptor, check=True)
    watched.await_look()
    watched.await_look()
    screen.close()
    lines = seen(terminal)
    assert lines[0] == "a command prints"
    assert lines[1].startswith("parse")


def test_lines_of_worker_processes_are_not_mixed_with_the_rows(terminal: Terminal, streams: Callable[[], None]) -> None:
    """Any number of them, and long ones, until rows are drawn again."""
    streams()
    watched = Watched(*(Row(f"step {n}", n, 9) for n in range(6)))
    out = OverRows(terminal.stream())
    screen = opened(terminal, watched)
    lines = [*(f"line {n}" for n in range(20)), "long " * 18]
    print(*lines[:3], sep="\n", file=out)
    out.writelines(f"{line}\n" for line in lines[3:])
    watched.await_look()
    watched.await_look()
    screen.close()
    shown = seen(terminal)
    assert shown[:21] == [line.rstrip() for line in lines]
    assert len(shown) == 27 and all(line.startswith("step") for line in shown[21:])


def test_lines_of_a_worker_s_threads_are_whole_and_in_order() -> None:
    """Also of texts that are of a class of their own, and of lines that are written piece by piece."""

    class Text(str):
        pass

    under = io.StringIO()
    out = OverRows(under)
    out.write("first ")
    out.write(Text("second\n"))
    threads = [threading.Thread(target=lambda n=n: [print(f"{n}" * 9, file=out) for _ in range(300)]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out.flush()
    lines = under.getvalue().replace("\x1b[J", "").splitlines()
    assert lines[0] == "first second"
    assert "".join(sorted("".join(lines[1:]))) == "".join(f"{n}" * 9 * 300 for n in range(4))


def test_logging_goes_above_the_rows_and_is_given_back(terminal: Terminal, streams: Callable[[], None]) -> None:
    streams()
    handler = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("tests.screen")
    logger.addHandler(handler)
    stream, out = handler.stream, sys.stdout
    try:
        screen = opened(terminal, Watched(Row("parse", 1, 2)))
        assert handler.stream is not stream
        logger.warning("something is odd")
        screen.close()
        assert handler.stream is stream
    finally:
        logger.removeHandler(handler)
    assert sys.stdout is out
    assert seen(terminal)[0] == "something is odd"


def test_whoever_has_kept_the_stream_may_go_on_with_it(terminal: Terminal, streams: Callable[[], None]) -> None:
    streams()
    screen = opened(terminal, Watched(Row("parse", 1, 2)))
    kept = sys.stdout
    kept.write("begun, ")
    screen.close()
    kept.write("and gone on with\n")
    kept.flush()
    assert seen(terminal)[-1] == "begun, and gone on with"


def test_a_stdout_that_goes_elsewhere_is_left_alone(
    terminal: Terminal, streams: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    streams()
    elsewhere = io.StringIO()
    monkeypatch.setattr(sys, "stdout", elsewhere)
    screen = opened(terminal, Watched(Row("parse", 1, 2)))
    assert sys.stdout is elsewhere
    print("into the file")
    screen.close()
    assert elsewhere.getvalue() == "into the file\n"
    assert "into the file" not in seen(terminal)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # what Python says of this is what the test is about
def test_a_forked_child_prints_as_ever(terminal: Terminal, streams: Callable[[], None]) -> None:
    streams()
    screen = opened(terminal, Watched(Row("parse", 1, 2)))
    with screen._lock:  # as if rows were being drawn just now
        child = os.fork()
        if not child:
            print("from the child", flush=True)
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    screen.close()
    seen(terminal)
    assert "from the child" in terminal.raw


def test_one_run_at_a_time_has_the_screen(terminal: Terminal, streams: Callable[[], None]) -> None:
    streams()
    screen = opened(terminal, Watched(Row("parse", 1, 2)))
    other = Watched(Row("other", 1, 2))
    second = Screen(other, sys.stderr, delay=0)
    second.open()
    second.close()
    screen.close()
    assert not other.looked.is_set()
    third = opened(terminal, Watched(Row("third", 1, 2)))
    third.close()
    assert seen(terminal)[-1].startswith("third")


def test_what_cannot_be_shown_ends_nothing(terminal: Terminal, streams: Callable[[], None]) -> None:
    streams()

    class Broken(Watched):
        def rows(self) -> list[Row]:
            super().rows()
            raise ValueError("no rows")

    out, watched = sys.stdout, Broken()
    screen = Screen(watched, sys.stderr, delay=0)
    screen.open()
    assert watched.looked.wait(60)
    screen.close()
    assert sys.stdout is out
    assert seen(terminal) == []


def test_no_color(terminal: Terminal, streams: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    streams()
    monkeypatch.setenv("NO_COLOR", "1")
    opened(terminal, Watched(Row("parse", 1, 2, {"failed": 1}))).close()
    seen(terminal)
    assert "1 failed" in terminal.raw
    assert not re.search(r"\x1b\[(3|4|9|10)\d[\d;]*m", terminal.raw)


def test_a_run_that_ends_at_once_shows_no_progress(terminal: Terminal, streams: Callable[[], None]) -> None:
    streams()
    watched = Watched(Row("parse", 1, 2))
    screen = Screen(watched, sys.stderr, delay=600)
    screen.open()
    screen.close()
    assert seen(terminal) == []
    assert not watched.looked.is_set()


@pytest.mark.parametrize("columns", [30, 60, 200])
def test_rows_fit_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal(columns=columns, rows=12)
    stream = terminal.stream()
    watched = Watched(
        *(Row(f"a_step_with_a_long_name_{n}", n, 40, {"failed": 3, "blocked": 5, "cached": 2_000}) for n in range(40))
    )
    screen = Screen(watched, stream, delay=0)
    screen.open()
    watched.await_look()
    watched.await_look()
    screen.close()
    terminal.close()
    assert max(map(len, terminal.lines)) <= columns
    assert len(terminal.lines) <= 12


def test_steps_of_a_part_share_a_row_where_there_are_too_many() -> None:
    rows = [Row(f"s{n}", n, 10, {"failed": 1}, "crawl") for n in range(8)] + [Row("report", 0, None, {}, "report")]
    assert fitting(rows, 9) == (rows, 0)
    assert fitting(rows, 5) == ([Row("crawl", 28, 80, {"failed": 8}, ""), Row("report", 0, None, {}, "")], 0)


def test_where_even_parts_are_too_many_those_that_go_on_are_seen() -> None:
    rows = [Row(f"s{n}", 10 if n < 5 else 3 if n == 5 else 0, 10, {}, f"s{n}") for n in range(20)]
    found, left_out = fitting(rows, 3)
    assert [row.name for row in found] == ["s5", "s6", "s7"]
    assert left_out == 17


def test_what_is_a_terminal(terminal: Terminal, streams: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    streams()
    assert is_terminal(sys.stderr)
    assert not is_terminal(None)
    assert not is_terminal(io.StringIO())
    closed = io.StringIO()
    closed.close()
    assert not is_terminal(closed)
    monkeypatch.setenv("TERM", "dumb")
    assert not is_terminal(sys.stderr)
