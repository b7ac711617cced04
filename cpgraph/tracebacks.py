"""Telling what a step raised: the text, and where in the user's code it happened (rule F2)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cpgraph.packages import USER, origin_of_file

if TYPE_CHECKING:
    from traceback import TracebackException

__all__ = ["message_of", "shortened", "text_of", "told"]

LONGEST: Final = 10_000  # characters of an error's text or traceback that are kept
HERE: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep


def told(error: BaseException) -> tuple[str, str]:
    """Give the traceback as text, without what is above the user's frames, and file:line of the deepest of these.

    The error keeps its traceback without those frames, too.
    """
    import traceback

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((HERE, "<frozen ")):
        trace = trace.tb_next
    error.__traceback__ = trace
    try:
        shown = traceback.TracebackException(type(error), error, trace, compact=True)
        _leave_ours_out(shown)
        text = "".join(shown.format())
        frames = traceback.extract_tb(trace, limit=-100)
        own = [frame for frame in frames if _is_users(frame.filename)] or frames
        return shortened(text), f"{own[-1].filename}:{own[-1].lineno}" if own else ""
    except Exception:  # an error that cannot even be shown
        return text_of(error), ""


def _leave_ours_out(shown: TracebackException) -> None:
    """Take this library's frames out of what an error came from, and what has no others: the error says it already."""
    links: list[tuple[TracebackException, str, TracebackException]] = []
    waiting = [shown]
    while waiting:
        above = waiting.pop()
        for way in ("__cause__", "__context__"):
            before: TracebackException | None = getattr(above, way)
            if before is not None:
                links.append((above, way, before))
                waiting.append(before)
    for above, way, before in reversed(links):  # the first causes first
        frames = list(before.stack or ())
        left = [frame for frame in frames if not frame.filename.startswith(HERE)]
        if len(left) < len(frames):
            if before.__cause__ or before.__context__ or any(_is_users(frame.filename) for frame in left):
                before.stack[:] = left
            else:
                setattr(above, way, None)


def _is_users(file: str) -> bool:
    if file.startswith("<"):
        return not file.startswith("<frozen")
    return origin_of_file(os.path.abspath(file)) is USER


def text_of(error: BaseException) -> str:
    """Say an error in words, by its type alone if it has none to be had (rule F2)."""
    name, text = type(error).__qualname__, message_of(error)
    return f"{name}: {text}" if text else name


def message_of(error: BaseException) -> str:
    """Give the text of an error without its type; nothing if it cannot be had."""
    try:
        return shortened(str(error))
    except BaseException:
        return ""


def shortened(text: str) -> str:
    """Leave out the middle of a text that is too long to be read.

    >>> len(shortened("x" * 50_000)) < 10_100
    True
    """
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
