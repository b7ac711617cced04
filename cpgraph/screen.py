"""Progress on a terminal: a few rows below whatever else is written, drawn anew some times a second.

The cursor is left in an empty line above the rows. So what this process prints through `sys.stdout` and `sys.stderr` can take the
rows away first (`_Above`), and so does what worker processes print (`workers.OverRows`). What commands that steps start write
straight to the terminal begins in a line of its own and is never wiped out. A process that is killed leaves nothing to repair.

Rows are drawn by a thread of its own from counts that the run keeps anyway: a node costs nothing, and nobody waits for it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

import attrs

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Row", "Screen", "is_terminal"]

DELAY: Final = 0.3  # seconds; a run that ends before shows no progress
TICK: Final = 0.125
SLOWEST: Final = 1.0
SHARE: Final = 30  # drawing takes one part in so many of the time, if it is less often for that
PATIENCE: Final = 1.0  # seconds that an unfinished line is waited for
BAR: Final = 24
NOTES: Final = {"cached": "dim", "failed": "red", "blocked": "yellow", "closed": "dim"}


@attrs.frozen
class Row:
    """What is shown of a step, or of the steps of a part together. total: None while it is not known."""

    name: str
    done: int
    total: int | None
    counts: Mapping[str, int] = attrs.field(factory=dict)  # how many ended in a way worth a word
    part: str = ""  # what a row for all steps of its pipeline is called

    @property
    def going(self) -> bool:
        return 0 < self.done < (self.total or 0)

    @property
    def over(self) -> bool:
        return self.total is not None and self.done >= self.total


class Watched(Protocol):
    """What the screen looks at, from its own thread."""

    def rows(self) -> list[Row]: ...

    def foot(self) -> str: ...


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether rows can be drawn where this stream goes."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    except (OSError, ValueError):  # closed
        return False


class Screen:
    """Draws what it watches from `open` to `close`; only one at a time does."""

    _one: Final = threading.Lock()

    def __init__(self, watched: Watched, stream: TextIO, delay: float = DELAY) -> None:
        self._watched = watched
        self._stream = stream
        self._delay = delay
        self._over = threading.Event()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._text = ""
        self._drawn = False
        self._open_line = 0.0  # since when somebody is in the middle of a line
        self._given_back: list[Callable[[], None]] = []

    def open(self) -> None:
        """Begin, unless another run of this process has the screen."""
        if not self._one.acquire(blocking=False):
            return
        self._thread = threading.Thread(target=self._work, name="cpgraph-progress", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads: then without
            self._thread = None
            self._one.release()

    def close(self) -> None:
        """Draw the last state, and give back what was taken over."""
        if self._thread is None:
            return
        self._over.set()
        self._thread.join()
        self._thread = None
        self._one.release()

    def _work(self) -> None:
        if self._over.wait(self._delay):
            return
        try:
            self._draw_until_over()
        except Exception:
            import logging

            logging.getLogger("cpgraph").debug("progress cannot be shown", exc_info=True)
        finally:
            for give_back in reversed(self._given_back):
                give_back()

    def _draw_until_over(self) -> None:
        from rich.console import Console

        console = Console(file=self._stream)
        if not console.is_terminal or console.legacy_windows:
            return
        self._take_over()
        over = False
        while not over:
            before = time.thread_time()
            over = self._over.is_set()
            text = self._render(console, over)
            with self._lock:
                if over or not self._open_line or time.monotonic() - self._open_line > PATIENCE:
                    self._draw(text, over)
            self._over.wait(min(max(TICK, SHARE * (time.thread_time() - before)), SLOWEST))

    # Rows

    def _render(self, console: Console, over: bool) -> str:
        from rich.console import ConsoleDimensions
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        with suppress(OSError, ValueError):
            console.size = ConsoleDimensions(*os.get_terminal_size(self._stream.fileno()))
        height = max(3, console.size.height - 5)
        rows, left_out = fitting(self._watched.rows(), height)
        bar = max(0, min(BAR, console.width - 55))
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(12, console.width // 3))
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, width=bar)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for row in rows:
            count = f"{row.done:,}/{row.total:,}" if row.total is not None else "" if over else "waiting"
            drawn = ProgressBar(row.total or 1, row.done, width=bar) if bar and row.total is not None else ""
            notes = Text("  ").join(Text(f"{row.counts[end]:,} {end}", NOTES[end]) for end in NOTES if row.counts.get(end))
            table.add_row(Text(row.name), count, drawn, notes)
        with console.capture() as captured:
            console.print(table, no_wrap=True, crop=True)
        foot = ", ".join([self._watched.foot(), *([f"and {left_out:,} more"] if left_out else [])])
        return captured.get() + (foot[: console.width - 1] + "\n" if not over else "")

    def _draw(self, text: str, over: bool) -> None:
        """Draw rows below the cursor, and go back to the empty line above them."""
        before = "\n" if self._open_line else ""
        self._open_line = 0.0
        self._text, self._drawn = text, not over
        if over:
            self._write(f"{before}\r\x1b[J{text}")
        else:
            rows = text.count("\n")
            self._write(f"{before}\r\x1b[J\n{text}\x1b[{rows + 1}A")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # nobody looks any more
            self._over.set()

    # What else is written

    def above(self, stream: TextIO, text: str) -> None:
        """Write something above the rows."""
        with self._lock:
            drawn, self._drawn = self._drawn, False
            if drawn:
                self._write("\r\x1b[J")
            stream.write(text)
            stream.flush()
            self._open_line = 0.0 if text.endswith("\n") else time.monotonic()
            if drawn and not self._open_line:
                self._draw(self._text, False)

    def _take_over(self) -> None:
        """See to it that what is printed takes the rows away first."""
        mine = _device(self._stream)
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and mine is not None and _device(stream) == mine:
                above = _Above(self, stream)
                setattr(sys, name, above)
                self._given_back.append(lambda name=name, above=above: _put_back(name, above))  # type: ignore[misc]
                for handler in _log_handlers(stream):
                    handler.setStream(above)
                    self._given_back.append(lambda handler=handler, stream=stream: handler.setStream(stream))  # type: ignore[misc]


class _Above:
    """Stands for a stream while rows are drawn below it: hands on whole lines, and what is flushed."""

    def __init__(self, screen: Screen, stream: TextIO) -> None:
        self._screen = screen
        self._stream = stream
        self._begun: dict[int, str] = {}  # lines that threads have not finished
        self._ended = False
        _standing.append(self)

    def write(self, text: str) -> int:
        if self._ended or type(text) is not str:  # of anything else the stream says what is wrong with it
            return self._stream.write(text)
        me = threading.get_ident()
        whole, newline, rest = (self._begun.pop(me, "") + text).rpartition("\n")
        if rest:
            self._begun[me] = rest
        if newline:
            self._screen.above(self._stream, whole + newline)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        text = self._begun.pop(threading.get_ident(), "")
        if text and not self._ended:
            self._screen.above(self._stream, text)
        else:
            self._stream.flush()

    def end(self) -> None:
        """Hand on what is left, and from now on everything."""
        self._ended = True
        _standing.remove(self)
        for text in self._begun.values():
            self._stream.write(text)
        self._begun.clear()
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_standing: Final[list[_Above]] = []


def _end_in_child() -> None:
    """Let a forked child print as ever: the thread that draws, and may hold the lock just now, is not there."""
    for above in _standing:
        above._ended = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_end_in_child)


def _put_back(name: str, above: _Above) -> None:
    above.end()
    if getattr(sys, name) is above:
        setattr(sys, name, above._stream)


def _device(stream: TextIO) -> int | None:
    """Tell terminals apart."""
    try:
        return os.fstat(stream.fileno()).st_rdev if stream.isatty() else None
    except (AttributeError, OSError, ValueError):
        return None


def _log_handlers(stream: TextIO) -> Iterator[Any]:
    """Give the handlers of loggers that write to this stream; none if nobody logs."""
    logging = sys.modules.get("logging")
    if logging is not None:
        for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
            handlers = getattr(logger, "handlers", ())  # a placeholder has none
            yield from (handler for handler in handlers if getattr(handler, "stream", None) is stream)


def fitting(rows: list[Row], height: int) -> tuple[list[Row], int]:
    """Choose rows for a screen of this height: of steps, else of parts; those that go on, then those to come, then the others.

    >>> rows = [Row("a", 5, 5, part="one"), Row("b", 2, 5, part="two"), Row("c", 0, None, part="two"), Row("d", 0, 1, part="d")]
    >>> [row.name for row in fitting(rows, 3)[0]], [row.name for row in fitting(rows, 2)[0]]
    (['one', 'two', 'd'], ['two', 'd'])
    """
    if len(rows) > height:
        rows = [_together(list(group)) for _, group in groupby(rows, key=lambda row: row.part)]
    if len(rows) <= height:
        return rows, 0
    places = sorted(range(len(rows)), key=lambda place: (not rows[place].going, rows[place].over, place))[:height]
    return [rows[place] for place in sorted(places)], len(rows) - height


def _together(rows: list[Row]) -> Row:
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row.counts)
    known = [row.total for row in rows if row.total is not None]
    return Row(rows[0].part, sum(row.done for row in rows), sum(known) if known else None, counts)
