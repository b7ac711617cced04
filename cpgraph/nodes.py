"""A node while it is in flight, and how results are found for it: in what a run left, and in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import attrs

from cpgraph.digest import Undigestible, dict_digest, digest, list_digest
from cpgraph.execute import Joined, Value
from cpgraph.fanout import Again
from cpgraph.fingerprint import Fingerprint
from cpgraph.instances import Asker, Instance, World
from cpgraph.journal import Journal, Row
from cpgraph.results import DEFAULT_PART, PART, Head, read_head
from cpgraph.store import Store, ask
from cpgraph.structure import Unit

__all__ = ["Kept", "Node", "Result", "Results", "Work", "moved_inputs", "node_id", "stand", "twin_of"]


def node_id(step: str, key: Iterable[Any]) -> str:
    """Write a node's id (rule N3).

    >>> node_id("f", ()), node_id("f", (3,)), node_id("f", ("3",)), node_id("f", ("a", 1))
    ('f', 'f[3]', 'f["3"]', 'f[a,1]')
    >>> print(node_id("f", ("one\\ntwo",)))
    f["one\\ntwo"]
    """
    parts = [_id_text(part) for part in key]
    return f"{step}[{','.join(parts)}]" if parts else step


def _id_text(part: Any) -> str:
    if not isinstance(part, str) or isinstance(part, Again):
        return _printable(str(part))
    if part and part.isprintable() and not set(part) & set(",[]~\"'") and not _reads_as_number(part):
        return part
    import json

    return _printable(json.dumps(part, ensure_ascii=False))


def _printable(text: str) -> str:
    """Escape what would break a line, or not be seen, as JSON does."""
    if text.isprintable():
        return text
    import json

    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


Work = tuple[bytes, int]
"""What is done once if several want it at the same time: this call of this function.

Two functions that happen to be written alike (two barriers) are two works while neither has a result.
"""


class Node:
    """One step for one record or item, from when its inputs are known until it has ended."""

    __slots__ = (
        "args",
        "asker",
        "attempts",
        "followers",
        "has_files",
        "inputs",
        "instance",
        "key",
        "parked",
        "reads",
        "route",
        "store",
        "token",
        "uncached",
        "unit",
        "work",
    )

    def __init__(self, unit: Unit, instance: Instance, args: list[Any], key: bytes = b"", inputs: Sequence[bytes] = ()) -> None:
        self.unit = unit
        self.instance = instance
        self.args = args
        self.key = key
        self.inputs = inputs  # a digest for each that counts, zeros for a parameter left at its default
        self.asker: Asker | None = None
        self.attempts = 0
        self.followers: list[Node] | None = None  # those with the same work, when there are any
        self.token = -1
        self.work: Work | None = None
        self.route: Any = None  # how it is handed out
        self.parked = False  # whether it waits for a place in a pipeline with `concurrency=`
        self.reads: list[Any] | None = None
        self.store: Store | None = None
        self.has_files = False  # whether there are files among its inputs
        self.uncached = False  # whether its result is not to be found by its key: a file among its inputs moved, say

    @property
    def id(self) -> str:
        assert self.unit.step is not None
        return node_id(self.unit.step.name, self.instance.key)

    @property
    def kept(self) -> bytes:
        """What is kept of its inputs with the result."""
        if len(self.inputs) == 1:
            return self.inputs[0][:PART]
        return b"".join([part[:PART] for part in self.inputs])

    @property
    def over(self) -> bool:
        """Tell whether it ended without a call, with its instance or part."""
        return bool(self.instance.ended[self.unit.slot])

    @property
    def has_room(self) -> bool:
        """Tell whether a worker is free for it."""
        return bool(self.route.lane.has_room)

    def eyes(self) -> Asker:
        if self.asker is None:
            self.asker = Asker(self.instance.world, self.unit.index, self.instance)
        return self.asker


@attrs.define(eq=False)
class Result:
    """What a node has: the value, and the head that says where it is from. `row`: its id in the journal."""

    row: int
    head: Head
    value: Value


@attrs.frozen(eq=False)
class Kept:
    """What the run to be resumed completed: results by node, and the instances in which something failed (rule R3).

    `scopes`: in which scope each step was. `inputs`: what its inputs were called. `rows`: results that are in no journal, for a
    plan.
    """

    results: Mapping[tuple[str, tuple[Any, ...]], int]
    failed: frozenset[tuple[int, tuple[Any, ...]]]
    scopes: Mapping[str, int]
    inputs: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    rows: Mapping[int, Row] = attrs.field(factory=dict)


class Results:
    """Finds results in the journal. A result serves if all that was noted when it was made would be the same again."""

    def __init__(
        self,
        world: World,
        journal: Journal,
        fingerprints: Mapping[str, Fingerprint],
        kept: Kept | None,
        redo: Any,
        inputs_of: Callable[[int, int, str, tuple[str, ...] | None], tuple[str, ...] | None],
    ) -> None:
        self.world = world
        self.journal = journal
        self.fingerprints = fingerprints
        self.codes = {name: b"key 1" + found.digest for name, found in fingerprints.items()}
        self.kept = kept
        self.redo = redo
        self.inputs_of = inputs_of

    def key(self, step: str, parts: list[bytes]) -> bytes:
        """Make the address of a call's result: the code, and the inputs."""
        return blake2b(self.codes[step] + b"".join(parts), digest_size=16).digest()

    def is_redone(self, node: Node) -> bool:
        """Tell whether a node is to be computed again whatever there is."""
        if self.redo is None:
            return False
        as_text = [node.id.replace('"', "")] if '"' in node.id and not _has_twin(node.instance) else []
        return bool(self.redo(node.unit.name, node.id, *as_text))

    def find(self, nodes: list[Node]) -> Iterator[Result | None]:
        """Look many nodes up at once; each result is made when it is taken."""
        kept = self._kept_rows(nodes) if self.kept is not None else {}
        keys = [node.key for node in nodes if node.unit.step.options.cache]  # type: ignore[union-attr]
        found = self.journal.find(keys) if keys else {}
        for node in nodes:
            result: Result | None = None
            if self.redo is None or not self.is_redone(node):
                if kept and (row := kept.get(node)) is not None:
                    result = self._keep(node, row)
                if result is None and found and node.key in found and node.unit.step.options.cache:  # type: ignore[union-attr]
                    for row in found[node.key]:
                        head = read_head(row.head)
                        result = self._serve(node, row, head, head.reads or ())
                        if result is not None:
                            break
            yield result

    def _kept_rows(self, nodes: list[Node]) -> dict[Node, Row]:
        """Give what the run to be resumed had completed, of these nodes."""
        kept = self.kept
        assert kept is not None
        ids = {}
        for node in nodes:
            name, key = node.unit.name, node.instance.key
            if not key or (kept.scopes.get(name), key) not in kept.failed:
                ids[node] = kept.results.get((name, key), 0)
        rows = kept.rows or self.journal.rows([id for id in ids.values() if id])
        return {node: rows[id] for node, id in ids.items() if id in rows}

    def _keep(self, node: Node, row: Row) -> Result | None:
        head = read_head(row.head)
        names = self.inputs_of(head.run, head.unit, node.unit.name, self.kept.inputs.get(node.unit.name) if self.kept else None)
        mine = tuple(binding.name for binding in node.unit.bindings if binding.kind not in ("store", "stream"))
        if names is None or not _agree(names, head.parts, mine, node.kept):
            return None
        return self._serve(node, row, head, [(query, answer) for query, answer in head.reads or () if query[0] != "code"])

    def _serve(self, node: Node, row: Row, head: Head, reads: Sequence[tuple[Any, bytes]]) -> Result | None:
        """Check what was read, and that the value and its files are still there."""
        if head.for_one_run:
            return None
        if reads and not stand(node, reads):
            return None
        if row.value is not None:
            value = Value(head.digest, row.value, has_files=head.has_files, code=head.code)
        else:
            blob = self.journal.value(row.id)
            if blob is None:
                return None
            value = Value.stored(head.digest, lambda: self.journal.value(row.id) or blob, head.has_files, head.code)
        if head.has_files and not _files_stand(value):
            return None
        if value.digest is None:
            value.digest = node.key
        return Result(row.id, head, value)


def twin_of(id: Any) -> Any:
    """Give the number that is written like a text but for the quotes, as f[3] beside f["3"] (rule N3); of all else the id itself.

    >>> twin_of("3"), twin_of("03"), twin_of(3)
    (3, '03', 3)
    """
    if not isinstance(id, str) or not id.isdecimal():
        return id
    try:
        number = int(id)
    except ValueError:  # of more digits than Python reads
        return id
    return number if str(number) == id else id


def _has_twin(instance: Instance) -> bool:
    """Tell whether there is a node that is written like this one but for the quotes."""
    twins = [(inner.key[-1], twin_of(inner.key[-1]), inner.fan) for inner in instance.chain]
    return any(fan is not None and twin is not id and twin in fan.by_id for id, twin, fan in twins)


def stand(node: Node, reads: Iterable[tuple[Any, bytes]]) -> bool:
    """Tell whether all that was read would be the same again; a file that is gone is no answer."""
    eyes = node.eyes().eyes()
    try:
        return all(ask(eyes, query) == answer for query, answer in reads)
    except Undigestible:
        return False


def _files_stand(value: Value) -> bool:
    try:
        return digest(value.load()) == value.digest
    except Exception:
        return False


def moved_inputs(node: Node) -> list[str]:
    """Name the inputs of a node of which a file is no longer what it was when the node's key was made."""
    found, place, kept = [], 0, node.kept
    for binding, arg in zip(node.unit.bindings, node.args, strict=True):
        if binding.kind in ("store", "stream"):
            continue
        part = kept[place : place + PART]
        place += PART
        try:
            if part not in (DEFAULT_PART, _digest_now(arg)[:PART]):
                found.append(binding.name)
        except Undigestible:
            found.append(binding.name)
    if node.store is not None and node.store.read_files and not stand(node, node.store.reads or ()):
        found.append("store")
    return found


def _digest_now(arg: Any) -> bytes:
    if isinstance(arg, Joined):
        parts = [_digest_now(value) for value in arg.values]
        return list_digest(parts) if arg.ids is None else dict_digest(list(zip(arg.ids, parts, strict=True)))
    if isinstance(arg, Value):
        return digest(arg.load()) if arg.has_files or arg.digest is None else arg.digest
    return digest(arg)


def _agree(names: tuple[str, ...], parts: bytes, mine: tuple[str, ...], kept: bytes) -> bool:
    """Compare inputs by name; a parameter left at its default is no input (its part is zeros)."""
    theirs = {name: parts[8 * n : 8 * n + 8] for n, name in enumerate(names)}
    ours = {name: kept[8 * n : 8 * n + 8] for n, name in enumerate(mine)}
    nothing = b"\0" * 8
    return {name: part for name, part in theirs.items() if part != nothing} == {
        name: part for name, part in ours.items() if part != nothing
    }
