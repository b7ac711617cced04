"""YAML and JSON files, read as data and nothing else, and written so that nobody ever finds half of one.

A file is somebody else's: it may be broken, hostile, or simply not what its writer thinks. So it is read event by event,
without recursion, and refused with file and line where it repeats a key, asks for a Python object, nests too deep, or
unfolds to more than it seems to be (rule S6).
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import re
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any, Final, NoReturn

import attrs

from cpgraph.errors import DataError, StorageError
from cpgraph.scalars import FLOAT, INT, TAG, TAGGED, guess, read_float, read_int

__all__ = ["Document", "dump", "gc_paused", "is_json", "parse", "read", "write", "write_whole"]

DEEPEST: Final = 200
LONGEST: Final = 4_300  # digits of a number
MOST: Final = 1_000_000  # nodes that aliases may stand for
BINARY: Final[int] = getattr(os, "O_BINARY", 0)
SUFFIXES: Final = (".yml", ".yaml", ".json")


@attrs.frozen
class Document:
    """What a file says, and on which lines the keys of its rows stand."""

    data: Any
    lines: dict[int, list[int]] = attrs.field(factory=dict, repr=False)

    def line(self, row: Any, field: object = None) -> int | None:
        """Give the line of a field of a row, or that the row begins on; None if it is not known."""
        lines = self.lines.get(id(row))
        if not lines:
            return None
        keys = list(row) if isinstance(row, dict) else []
        return lines[1 + keys.index(field)] if field in keys and len(lines) == len(keys) + 1 else lines[0]


@contextlib.contextmanager
def gc_paused() -> Iterator[None]:
    """Keep the garbage collector from looking through what is only being built: it takes most of the time of a large load."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def is_json(path: str) -> bool:
    """Tell by its suffix whether a file is JSON or YAML, and refuse any other."""
    suffix = PurePath(path).suffix.lower()
    if suffix not in SUFFIXES:
        _bad(path, "the suffix does not say whether this is YAML or JSON", f"name the file with one of {', '.join(SUFFIXES)}.")
    return suffix == ".json"


def _bad(where: str, said: str, mend: str) -> NoReturn:
    raise DataError(f"{where}: {said}", mend=mend)


def read(path: str) -> Document:
    """Read a YAML or JSON file; whatever is wrong with it is a `DataError` with file, line and mend."""
    json = is_json(path)
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except FileNotFoundError:
        mend = (
            f"correct the path, which is looked for from {os.getcwd()}; in Python data may be a dict or a list of records, too."
        )
        _bad(path, "there is no such file", mend)
    except IsADirectoryError:
        _bad(path, "this is a directory", "name a file in it.")
    except (OSError, ValueError) as error:
        _bad(path, f"cannot be read: {error}", "let it be read by you, or name another file.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        _bad(f"{path}:{line}", f"is not UTF-8 (byte 0x{raw[error.start]:02x})", "save the file as UTF-8.")
    document = parse(text, path, json=json)
    if document.data is None:
        _bad(path, "holds no data", "write `Model:` with a list of rows, or run without data.")
    return document


def parse(text: str, where: str, *, json: bool = False, deepest: int = DEEPEST) -> Document:
    """Read YAML or JSON; `where` is what errors call it, `deepest` how many levels JSON may have."""
    with gc_paused():
        return _parse_json(text, where, deepest) if json else _Builder(where).build(text)


# JSON


def _parse_json(text: str, where: str, deepest: int) -> Document:
    import json

    def fail(at: int, said: str, mend: str) -> NoReturn:
        line = text.count("\n", 0, at) + 1
        _bad(f"{where}:{line}", said, mend)

    def number(digits: str) -> int:
        if len(digits) > LONGEST:
            fail(max(text.find(digits), 0), f"a number of {len(digits):,} digits", "write it as a text.")
        return int(digits)

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            spots = [found.start() for found in re.finditer(rf"{re.escape(json.dumps(twice, ensure_ascii=False))}\s*:", text)]
            fail(spots[-1] if spots else 0, f"the key {twice!r} is there twice", "take out one of them.")
        return made

    depth = 0
    for found in re.finditer(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', text):
        if found[0] in "[{":
            depth += 1
            if depth > deepest:
                fail(found.start(), f"is nested deeper than {deepest} levels", "flatten it.")
        elif found[0] in "]}":
            depth -= 1
    if not text.strip():
        return Document(None)
    try:
        return Document(json.loads(text, object_pairs_hook=mapping, parse_int=number))
    except json.JSONDecodeError as error:
        fail(error.pos, f"is no JSON: {error.msg} (column {error.colno})", "correct it at that place.")


# YAML


@attrs.define(eq=False)
class _Open:
    """A list or mapping that has begun and not ended."""

    value: Any
    kind: str
    anchor: str | None
    lines: list[int] | None
    size: int = 1
    keyed: bool = False
    key: Any = None
    merge: list[Any] = attrs.field(factory=list)


MERGE: Final = object()


class _Builder:
    """Builds plain data from YAML events, and stops at the first thing that is wrong."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.line = 0
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Any, int] | None] = {}
        self.unfolded = 0
        self.lines: dict[int, list[int]] = {}
        self.documents = 0
        self.data: Any = None

    def build(self, text: str) -> Document:
        import yaml

        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        handle: dict[type, Callable[[Any], None]] = {
            yaml.ScalarEvent: self.scalar,
            yaml.MappingStartEvent: self.mapping,
            yaml.SequenceStartEvent: self.sequence,
            yaml.MappingEndEvent: self.end,
            yaml.SequenceEndEvent: self.end,
            yaml.AliasEvent: self.alias,
            yaml.DocumentStartEvent: self.document,
        }
        try:
            event: Any
            for event in yaml.parse(text, Loader=loader):
                handler = handle.get(type(event))
                if handler is not None:
                    self.line = event.start_mark.line + 1
                    handler(event)
        except yaml.MarkedYAMLError as error:
            mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
            said = " ".join(filter(None, [error.context, error.problem]))
            if "nesting depth" in said:  # libyaml has a limit of its own, and looks ahead
                self.too_deep()
            spot = f" (column {mark.column + 1})" if mark else ""
            self.line = mark.line + 1 if mark else self.line
            self.fail(f"is no YAML: {said}{spot}", "correct it at that place.")
        except yaml.YAMLError as error:  # a character that no YAML may have
            at = getattr(error, "position", 0)
            self.line = text.count("\n", 0, at) + 1
            self.fail(f"is no YAML: {' '.join(str(error).split())}", "take it out, or write it as \\x… in double quotes.")
        return Document(self.data, self.lines)

    def fail(self, said: str, mend: str) -> NoReturn:
        _bad(f"{self.where}:{self.line}", said, mend)

    def too_deep(self) -> NoReturn:
        self.fail(f"is nested deeper than {DEEPEST} levels", "flatten it.")

    def document(self, event: Any) -> None:
        self.documents += 1
        if self.documents > 1:
            self.fail("a second document begins (`---`)", "keep one document in a file.")

    def scalar(self, event: Any) -> None:
        text, tag = event.value, event.tag
        if tag is None:
            reader = guess(text) if event.implicit[0] else str
        else:
            reader = TAGGED.get(tag) or self.refuse(tag)
        if text == "<<" and reader is str and event.implicit[0] and self.open:
            around = self.open[-1]
            if around.kind == "map" and not around.keyed:
                around.keyed, around.key = True, MERGE
                return
        if (reader is read_int or reader is read_float) and len(text) > LONGEST:
            self.fail(f"a number of {len(text):,} digits", "quote it, if it is a text.")
        try:
            value = reader(text)
        except (ArithmeticError, KeyError, ValueError):
            self.fail(f"{text[:60]!r} cannot be read as what it looks like", "correct it, or quote it.")
        if event.anchor:
            self.anchors[event.anchor] = value, 1
        self.put(value, 1)

    def refuse(self, tag: str) -> NoReturn:
        self.fail(f"the tag {tag!r} is not allowed: data are texts, numbers, lists and mappings", "take it out.")

    def mapping(self, event: Any) -> None:
        if event.tag not in (None, f"{TAG}map", f"{TAG}set", "!"):
            self.refuse(event.tag)
        row = len(self.open) == 2 and self.open[1].kind == "list"
        self.begin(_Open({}, "set" if event.tag == f"{TAG}set" else "map", event.anchor, [self.line] if row else None))

    def sequence(self, event: Any) -> None:
        if event.tag not in (None, f"{TAG}seq", "!"):
            self.refuse(event.tag)
        self.begin(_Open([], "list", event.anchor, None))

    def begin(self, opened: _Open) -> None:
        if len(self.open) >= DEEPEST:
            self.too_deep()
        if opened.anchor:
            self.anchors[opened.anchor] = None
        self.open.append(opened)

    def end(self, event: Any) -> None:
        done = self.open.pop()
        value = done.value
        for source in done.merge:
            value = {**source, **value}
        if done.kind == "set":
            value = set(value)
        if done.lines is not None:
            self.lines[id(value)] = done.lines
        if done.anchor:
            self.anchors[done.anchor] = value, done.size
        self.put(value, done.size)

    def alias(self, event: Any) -> None:
        found = self.anchors.get(event.anchor)
        if found is None:
            said = "is inside of what it names" if event.anchor in self.anchors else "names nothing"
            self.fail(f"the alias *{event.anchor} {said}", "write the value out.")
        value, size = found
        self.unfolded += size
        if self.unfolded > MOST:
            self.fail(f"aliases stand for more than {MOST:,} values", "write the values out, or leave most of them out.")
        self.put(value, size)

    def put(self, value: Any, size: int) -> None:
        """Give a finished value to what is open around it."""
        if not self.open:
            self.data = value
            return
        into = self.open[-1]
        into.size += size
        if into.kind == "list":
            into.value.append(value)
        elif not into.keyed:
            try:
                known = value in into.value
            except TypeError:
                self.fail("a list or mapping cannot be a key", "write a text or a number before the colon.")
            if known:
                self.fail(f"the key {value!r} is there twice", "take out one of them.")
            into.keyed, into.key = True, value
            if into.lines is not None:
                into.lines.append(self.line)
        else:
            into.keyed = False
            if into.key is not MERGE:
                into.value[into.key] = value
            else:
                sources = value if isinstance(value, list) else [value]
                if not all(isinstance(source, dict) for source in sources):
                    self.fail("`<<` merges mappings alone", "name a mapping (`<<: *name`).")
                into.merge += sources


# Writing


def dump(data: Any, *, json: bool = False, compact: bool = False) -> str:
    """Write plain data as YAML for people, or as JSON; raises `TypeError` or `ValueError` for what is not plain.

    `compact`: what holds nothing but scalars is one line.
    """
    text: str
    if json:
        import json as codec

        text = codec.dumps(data, ensure_ascii=False, indent=1, default=_as_text) + "\n"
    else:
        import yaml

        style = None if compact else False
        text = yaml.dump(data, Dumper=_dumper(), sort_keys=False, allow_unicode=True, default_flow_style=style, width=120)
    text.encode()  # half of a surrogate pair is no text
    return text


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        import base64

        return base64.b64encode(value).decode()
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise TypeError(f"{type(value).__name__} is not plain")


@functools.cache
def _dumper() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc]
        """Writes no aliases, quotes what our reader would take for a number, and keeps the lines of a text apart."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

        def represent_undefined(self, data: Any) -> NoReturn:
            raise TypeError(f"{type(data).__name__} is not plain")

        def text(self, data: str) -> Any:
            lines = "\n" in data and all(line and line == line.rstrip() for line in data.split("\n")[:-1])
            return self.represent_scalar(f"{TAG}str", data, style="|" if lines and not data[:1].isspace() else None)

    Dumper.add_representer(str, Dumper.text)
    Dumper.add_representer(None, Dumper.represent_undefined)
    Dumper.add_implicit_resolver(f"{TAG}float", re.compile(rf"^(?:{FLOAT.pattern})$"), list("-+0123456789."))
    Dumper.add_implicit_resolver(f"{TAG}int", re.compile(rf"^(?:{INT.pattern})$"), list("-+0123456789"))
    return Dumper


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Put a file in its place whole: it is there with all of its content, or as it was."""
    target = os.path.realpath(path)
    fresh = f"{target}.{os.getpid():x}-{os.urandom(4).hex()}.tmp"
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def write(path: str, text: str) -> None:
    """Write a text as a file, whole or not at all."""
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise StorageError(
            f"the file cannot be written: {error.strerror or error}",
            path,
            mend="name a place that you may write to, with room on its disk.",
        ) from error
