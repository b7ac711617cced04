"""The rules, made runnable: what a graph's answer is, worked out in the plainest way.

One node after another, everything from scratch, no files, no cache, no concurrency. The library is compared with this, so nothing
here is taken from its compiler, store or scheduler: only declarations (`pipeline`, `step`, changes) are read.

Three kinds of task make up a run: the opening of a pipeline, an instance of an `each`, and a node (a step in an instance). Each
waits for parts of the graph; what it waited for, and what that waited for, are its ancestors (`anc`), kept as an explicit set.
Whatever a rule calls "before" is membership in that set, so `order=random.Random(n)`, which runs tasks in any order that waiting
allows, must not change the answer.

Left out, because the clock is let in: guards whose answer depends on what is not before them, `on_error="stop"` where something
fails, unordered creates of one id with different content (the first committed stands).
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any, NamedTuple

import attrs

from cpgraph.digest import digest
from cpgraph.errors import RecordNotFound
from cpgraph.models import Change, Create, Delete, File, Files, Result, Update, is_model, model_name
from cpgraph.pipelines import Group, Pipeline, Selection
from cpgraph.steps import Alias, Parameter, Step, parameters_of, read_step, step_name

Ids = tuple[Any, ...]
Key = tuple[type, Any]  # a record's: model and id


class Rejected(Exception):
    """A node's changes were refused (C3, C4, V1) for another reason than a record that is not there."""


@attrs.define(eq=False, repr=False)
class Part:
    """A place in the graph: a step, a pipeline, or a group (a list, and the graph itself)."""

    up: Part | None
    index: int
    what: Step | Pipeline | Group
    parts: list[Part] = attrs.field(factory=list)
    before: list[Part] = attrs.field(factory=list)  # what stands or is named before it: parts whose end it waits for
    predicate: tuple[Parameter, ...] = ()  # of open=
    asked: tuple[Parameter, ...] = ()  # of where(), without the record asked about

    around: list[Part] = attrs.field(init=False)  # from the graph down to the part itself
    levels: list[Part] = attrs.field(init=False)  # the each-pipelines strictly around it
    each: Any = attrs.field(init=False)
    model: type | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.around = [*(self.up.around if self.up else []), self]
        self.levels = [part for part in self.around[:-1] if part.each is not None]
        self.each = self.what.each if isinstance(self.what, Pipeline) else None
        self.model = self.each.model if isinstance(self.each, Selection) else self.each if isinstance(self.each, type) else None

    def skips(self) -> bool:
        return isinstance(self.what, Pipeline) and self.what.on_error == "skip"


class Task(NamedTuple):
    """`kind` is "open", "instance" or "node"; `ids` has one id per each around it (an instance's own too)."""

    kind: str
    part: Part
    ids: Ids


class End(NamedTuple):
    """Among a task's ancestors: it comes after the end of this part."""

    part: Part
    ids: Ids


@attrs.define
class Instance:
    item: Any  # None for records
    index: int  # place among items
    home: Part


@attrs.define(eq=False)
class Write:
    task: Task
    key: Key
    kind: str  # "create", "update", "delete"
    fields: dict[str, Any]
    ordinal: int
    keep: bool = False


@attrs.define
class Conflict:
    part: Part
    ids: Ids
    field: str
    record: Any
    first: Task
    second: Task


@attrs.define
class Outcome:
    """What a run must have come to."""

    store: dict[str, list[dict[str, Any]]]
    values: dict[str, Any]
    ended: dict[str, str]
    failures: list[tuple[str, str]]
    joined: dict[str, dict[str, Any]]
    conflicts: list[str]  # the later node of each conflict, record by record
    clock: bool  # something in it is left to time, whatever the rules say: not to be compared
    reads: dict[str, list[Any]]  # what each node was given: arguments, and answers of the store


def interpret(
    pipelines: Any,
    data: Mapping[Any, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    order: Random | None = None,
    watch: Callable[[str, str], None] | None = None,
) -> Outcome:
    """Run the pipelines as given to `Graph`, over {model: [records]}; `watch` is told of every call: node, and how it ended."""
    return _Run(pipelines, data or {}, params or {}, watch).run(order)


class Again(str):
    """The id of a further item that is equal to an earlier one (E3)."""


def id_text(value: Any) -> str:
    """An id as a node's id shows it (N3)."""
    text = str(value)
    if not isinstance(value, str) or isinstance(value, Again):
        return text
    try:
        float(text)
    except ValueError:
        if text and not set(text) & set(",[]~'\""):
            return text
    return json.dumps(text, ensure_ascii=False)


class _Run:
    def __init__(self, pipelines: Any, data: Mapping[Any, Any], params: Mapping[str, Any], watch: Any) -> None:
        self.params = params
        self.watch = watch
        self.initial: dict[Key, Any] = {(type(r), r.id): r for records in data.values() for r in records}
        self.models = {model_name(m): m for m in [*data, *(model for model, _ in self.initial)] if isinstance(m, type)}
        self.steps: dict[str, Part] = {}
        self.pipes: list[Part] = []
        self.pasts: dict[Part, set[Part]] = {}
        self.root = self.read(Group(tuple(pipelines)), None, 0)
        self.link()
        self.instances: dict[tuple[Part, Ids], dict[Any, Instance]] = {}
        self.anc: dict[Task, set[Task | End]] = {}
        self.ended: dict[Task, str] = {}
        self.blockers: dict[Task, list[Task | Conflict]] = {}  # of a failed or blocked task: where its failure began
        self.values: dict[Task, Any] = {}
        self.errors: list[tuple[str, Task]] = []
        self.conflicts: list[Conflict] = []
        self.log: list[Write] = []
        self.unseen: set[Key] = set()  # of a node's own record, none of whose creators is in its view
        self.circular = False
        self.guards: list[Task] = []
        self.ages: dict[Any, dict[Key, float]] = {}  # of the task and log looked at last, and its keys
        self.keys: dict[Any, tuple[Any, ...]] = {}
        self.joins: dict[str, dict[str, Any]] = {}
        self.reads: dict[str, list[Any]] = {}

    # Reading the declaration: the tree of parts, and what each waits for

    def read(self, what: Any, up: Part | None, index: int) -> Part:
        part = Part(up, index, what if isinstance(what, Pipeline | Group) else read_step(what))
        if isinstance(part.what, Step):
            self.steps[part.what.name] = part
            return part
        part.parts = [self.read(inner, part, n) for n, inner in enumerate(part.what.parts)]
        if isinstance(part.what, Pipeline):
            self.pipes.append(part)
            if part.model:
                self.models[model_name(part.model)] = part.model
            if part.what.open:
                part.predicate, _ = parameters_of(part.what.open, "open")
            if isinstance(part.each, Selection) and part.each.predicate:
                part.asked = parameters_of(part.each.predicate, "where")[0][1:]
        return part

    def link(self) -> None:
        for part in [*self.steps.values(), *self.pipes]:
            at = part
            while at.up and not isinstance(at.up.what, Pipeline):
                at = at.up
            if at.up:  # what stands before it in its pipeline
                part.before += at.up.parts[: at.index]
            named: list[Any] = []
            if isinstance(part.what, Step):
                named += part.what.options.after
                named += [u for p in part.what.parameters if (u := self.source(part, p, part.what.inputs))]
            elif isinstance(part.what, Pipeline):
                named += part.what.after
                named += [u for p in part.predicate if (u := self.source(part, p, {}, own=True))]
                named += [u for p in part.asked if (u := self.source(part, p, {}))]
                if isinstance(part.each, dict) and (u := self.origin(part)):
                    named.append(u)
            part.before += [self.end_of(self.find(name), part) for name in named]
        for part in [*self.steps.values(), *self.pipes]:  # what is before a part's inside is before what comes after the part,
            for known in part.before:  # also where an each in between has no instance
                inside = [other for other in [*self.steps.values(), *self.pipes] if known in other.around]
                outer = [earlier for other in inside for earlier in other.before if known not in earlier.around]
                part.before += [earlier for earlier in outer if earlier not in part.before]

    def past(self, part: Part) -> set[Part]:
        """All parts that a part comes after, whatever instances there are."""
        if part not in self.pasts:
            known = [before for outer in part.around for before in outer.before]
            inside = [other for other in [*self.steps.values(), *self.pipes] if any(before in other.around for before in known)]
            self.pasts[part] = set(inside).union(*(self.past(other) for other in inside))
        return self.pasts[part]

    def find(self, name: Any) -> Part:
        if isinstance(name, Part):
            return name
        for part in self.pipes:
            if part.what is name or (isinstance(name, str) and part.what.name == name):  # type: ignore[union-attr]
                return part
        return self.steps[name if isinstance(name, str) else step_name(name)]

    def end_of(self, named: Part, asker: Part) -> Part:
        """What naming a part means to wait for: the outermost each around it that is not around the asker, or itself (N5, E7)."""
        outside = [part for part in named.around if part.each is not None and part not in asker.around[:-1]]
        return outside[0] if outside else named

    def origin(self, part: Part) -> Part | None:
        """The step that gives the items of an each, if a step gives them (E3)."""
        (source,) = part.each.values()
        if isinstance(source, str | Alias) or (callable(source) and not isinstance(source, type)):
            return self.find(source)
        return None

    def meaning(self, asker: Part, p: Parameter, inputs: Mapping[str, str], own: bool = False) -> tuple[Any, ...]:
        """Which row of the table of design §3.3 a parameter fits (N4-N6)."""
        levels = [*asker.levels, *([asker] if own and asker.each is not None else [])]
        models = [(n, level.model) for n, level in reversed(list(enumerate(levels))) if level.model]
        kind = getattr(p.annotation, "__name__", p.annotation) if p.annotated else None
        if p.name in inputs:
            return "value", self.steps[inputs[p.name]]
        if p.optional:
            return "parameter", p.default
        if kind in ("Store", "Stream") or (kind is None and p.name in ("store", "stream")):
            return (str(kind or p.name).lower(),)
        for n, model in models:
            if p.annotation is model or p.annotation == model_name(model) or (kind is None and p.name == "record"):
                return "record", n, model
        for n, level in enumerate(levels):
            if isinstance(level.each, dict) and p.name in level.each:
                return "item", n
        for n, model in models:
            if p.name in attrs.fields_dict(model):
                return "field", n, model
        if p.name in self.steps:
            return "value", self.steps[p.name]
        return "parameter", None

    def source(self, asker: Part, p: Parameter, inputs: Mapping[str, str], own: bool = False) -> Part | None:
        kind, *rest = self.meaning(asker, p, inputs, own)
        return rest[0] if kind == "value" else None

    # What there is to do, and what it waits for

    def tasks(self, part: Part, ids: Ids, held_by: Part) -> Iterator[Task]:
        """All tasks in a part, without instances whose home is larger than `held_by` (E2)."""
        if isinstance(part.what, Step):
            yield Task("node", part, ids)
            return
        inside = [ids]
        if isinstance(part.what, Pipeline):
            yield Task("open", part, ids)
            if part.each is not None:
                found = self.instances.get((part, ids), {})
                inside = [(*ids, id) for id, instance in found.items() if held_by in instance.home.around]
                yield from (Task("instance", part, deeper) for deeper in inside)
        for deeper in inside:
            for inner in part.parts:
                yield from self.tasks(inner, deeper, held_by)

    def waits(self, task: Task) -> tuple[list[Task], list[End]]:
        if task.kind == "instance":
            return [Task("open", task.part, task.ids[:-1])], []
        pipes = [part for part in task.part.around[:-1] if isinstance(part.what, Pipeline)]
        outer = [Task("open" if pipes[-1].each is None else "instance", pipes[-1], task.ids)] if pipes else []
        return outer, [End(part, task.ids[: len(part.levels)]) for part in task.part.before]

    def ready(self, task: Task) -> bool:
        outer, ends = self.waits(task)
        return all(t in self.ended for t in outer) and all(t in self.ended for end in ends for t in self.tasks(*end, end.part))

    def run(self, order: Random | None) -> Outcome:
        while waiting := [task for task in self.tasks(self.root, (), self.root) if task not in self.ended]:
            able = [task for task in waiting if self.ready(task)]
            if not able:
                raise AssertionError(f"nothing can run: {waiting}")
            for task in [order.choice(able)] if order else able:
                self.do(task)
        return self.outcome()

    def do(self, task: Task) -> None:
        outer, ends = self.waits(task)
        self.anc[task] = {*outer, *ends}.union(*(self.anc[t] for t in outer))
        for end in ends:
            for t in self.tasks(*end, end.part):
                self.anc[task] |= {t} | self.anc[t]
        failed = [t for t in self.anc[task] if isinstance(t, Task) and t in self.blockers.get(t, ())]
        began: list[Task | Conflict] = [t for t in failed if not self.contained(t.part, task.part)]
        began += [c for c in self.conflicts if self.after(task, c) and not self.contained(c.part.up, task.part)]
        ending = "blocked" if began else "closed" if self.is_closed(task, outer) else ""
        arguments: dict[str, Any] = {}
        reads = self.reads[self.name(task)] = []
        if not began:
            try:
                arguments = {} if ending else self.arguments(task)
            except _Missing as missing:
                ending = ending or missing.ended
                began = [task] if ending == "blocked" else []
        if began:
            self.blockers[task] = began
        self.ended[task] = ending or "computed"
        if task.kind == "node":
            if not ending:
                reads.append({k: v for k, v in arguments.items() if not isinstance(v, _View | _NoStream)})
                self.call(task, arguments)
                if self.watch:
                    self.watch(self.name(task), self.ended[task])
        elif task.kind == "instance" or task.part.each is None:
            ask = task.part.what.open  # type: ignore[union-attr]
            if any(isinstance(argument, _View) for argument in arguments.values()):
                self.guards.append(task)
            self.ended[task] = "closed" if not ending and ask and not ask(**arguments) else self.ended[task]  # G1, G3
        if task.kind == "open" and task.part.each is not None:
            self.fan_out(task, bool(ending))

    def is_closed(self, task: Task, outer: list[Task]) -> bool:
        """Under something closed, or one of its records is gone (C5)."""
        if any(self.ended[t] == "closed" for t in outer):
            return True
        if task.kind != "node" and not task.part.what.open:  # type: ignore[union-attr]
            return False  # it asks nothing: its nodes see for themselves
        return any(self.record(task, n) is None for n, level in enumerate(self.levels(task)) if level.model)

    # Failures (F1) and conflicts (C2)

    def contained(self, failed: Part | None, asker: Part) -> bool:
        return any(part.skips() and part not in asker.around for part in (failed.around if failed else []))

    def after(self, task: Task, conflict: Conflict) -> bool:
        around = conflict.part.around
        return any(isinstance(t, End) and t.part in around and t.ids == conflict.ids[: len(t.ids)] for t in self.anc[task])

    def before(self, one: Write, two: Write) -> bool:
        if one.task == two.task:
            return one.ordinal < two.ordinal
        own = one.kind == "create" and two.kind != "create" and one.key in self.records(two.task)
        return one.task in self.anc[two.task] or (own and two.task not in self.anc[one.task])  # else it is created anew

    def disagree(self, one: Write, two: Write) -> list[str]:
        """The fields over which two writes are in conflict, if neither is before the other."""
        kinds = {one.kind, two.kind}
        if one.key != two.key or one.task == two.task or self.before(one, two) or self.before(two, one) or kinds == {"delete"}:
            return []
        if "delete" in kinds:
            return sorted({*one.fields, *two.fields} - {"id"}) if "create" not in kinds else ["id"]
        if kinds == {"create"}:
            return ["id"] if one.fields != two.fields and not (one.keep or two.keep) else []
        return sorted(set(one.fields) & set(two.fields)) if kinds == {"update"} else []

    def smallest(self, one: Task, two: Task) -> tuple[Part, Ids]:
        """The smallest part that holds both tasks; one in a late instance is held by that instance's home at the least (E2)."""
        part, ids = self.root, ()
        for a, b in zip(one.part.around, two.part.around, strict=False):
            if a is not b:
                break
            part = a
            if a.each is not None:
                n = len(ids)
                if len(one.ids) <= n or len(two.ids) <= n or one.ids[n] != two.ids[n]:
                    break
                ids = (*ids, one.ids[n])
        for task in (one, two):
            for n, level in enumerate(self.levels(task)):
                if n >= len(ids):
                    home = self.instances[level, task.ids[:n]][task.ids[n]].home
                    if home in part.around:
                        part, ids = home, ids[: len(home.levels)]
        return part, ids

    # What a task sees (C1), and in which order (C6)

    def levels(self, task: Task) -> list[Part]:
        return [*task.part.levels, task.part] if task.kind == "instance" else task.part.levels

    def records(self, task: Task) -> list[Key]:
        return [(level.model, id) for level, id in zip(self.levels(task), task.ids, strict=True) if level.model]

    def mine(self, task: Task) -> Key:
        if not self.records(task):
            raise Rejected
        return self.records(task)[-1]

    def record(self, task: Task, n: int) -> Any:
        return self.see(task, (self.levels(task)[n].model, task.ids[n]))  # type: ignore[arg-type]

    def see(self, task: Task | None, key: Key) -> Any:
        """A record as a task sees it (as the run ends: None), or None."""
        writes = [w for w in self.log if w.key == key and self.visible(task, w)]
        deletes = [w for w in writes if w.kind == "delete"]
        deletes = [d for d in deletes if not any(self.disagree(d, w) and self.first(w, d) for w in writes)]
        live = [w for w in writes if w.kind != "delete" and not any(self.before(w, d) or self.disagree(w, d) for d in deletes)]
        creates = [w for w in live if w.kind == "create"]
        if creates:
            fields = dict(creates[0].fields)
        elif key in self.initial and not deletes:
            fields = attrs.asdict(self.initial[key], recurse=False)
        else:
            return None
        for field in fields:
            updates = [w for w in live if w.kind == "update" and field in w.fields]
            last = [w for w in updates if not any(self.before(w, other) for other in updates)]
            if last:
                fields[field] = min(last, key=lambda w: self.node_key(w.task)).fields[field]
        return key[0](**fields)

    def first(self, one: Write, two: Write) -> bool:
        return self.node_key(one.task) < self.node_key(two.task)

    def visible(self, task: Task | None, write: Write) -> bool:
        return task is None or write.task in self.anc[task] or (write.kind == "create" and write.key in self.records(task))

    def all(self, task: Task | None, model: type) -> list[Any]:
        keys = {key: None for key in [*self.initial, *(w.key for w in self.log)] if key[0] is model}
        found = [(self.record_key(key, task), record) for key in keys if (record := self.see(task, key)) is not None]
        return [record for _, record in sorted(found, key=lambda pair: pair[0])]

    def creators(self, key: Key, task: Task | None) -> list[Write]:
        every = [w for w in self.log if w.key == key and w.kind == "create"]
        if seen := [w for w in every if task is None or w.task in self.anc[task]]:
            return seen
        assert task is not None
        if key not in self.records(task):
            return every
        made = [n for n, level in enumerate(self.levels(task)) if (level.model, task.ids[n]) == key]
        pipe, ids = self.levels(task)[made[0]], task.ids[: made[0]]  # its own record, made by nodes that it does not see
        self.unseen.add(key)
        return [w for w in every if self.takes(pipe, ids, w)]

    def generations(self, task: Task | None) -> dict[Key, float]:
        """How many creations lie between each record and the data: the least that any of its creators makes it."""
        found: dict[Key, float] = dict.fromkeys(self.initial, 0)
        made = {w.key: self.creators(w.key, task) for w in self.log if w.kind == "create" and w.key not in found}
        for _ in made:
            for key, writes in made.items():
                found[key] = 1 + min(self.age(w, found) for w in writes)
        return found

    def age(self, write: Write, generations: dict[Key, float]) -> float:
        return max([0, *(generations.get(key, float("inf")) for key in self.records(write.task))])

    def record_key(self, key: Key, task: Task | None) -> tuple[Any, ...]:
        if key in self.initial:
            return 0, list(self.initial).index(key)
        if (task, len(self.log), key) not in self.keys:
            if (task, len(self.log)) not in self.ages:
                self.ages = {(task, len(self.log)): self.generations(task)}
                self.keys = {}
            ages = self.ages[task, len(self.log)]
            if ages[key] == float("inf"):  # made by nodes of records that it made: only what the asker does not see began it
                self.circular = True
                return ages[key], str(key)
            first = [w for w in self.creators(key, task) if ages[key] == 1 + self.age(w, ages)]
            least = min((self.node_key(w.task, task), w.ordinal) for w in first)
            self.keys[task, len(self.log), key] = (ages[key], *least)
        return self.keys[task, len(self.log), key]

    def node_key(self, at: Task, task: Task | None = None) -> tuple[Any, ...]:
        """The place of a node in graph order: the places of its parts, and inside an each that of its record or item."""
        key: list[Any] = []
        for part in at.part.around:
            key.append(part.index)
            if part.each is not None:
                n = len(part.levels)
                if part.model:
                    key.append(self.record_key((part.model, at.ids[n]), task))
                else:
                    key.append(self.instances[part, at.ids[:n]][at.ids[n]].index)
        return tuple(key)

    # Arguments, and joins (V2, E4)

    def arguments(self, task: Task) -> dict[str, Any]:
        part = task.part
        if isinstance(part.what, Step):
            asked = {p: self.meaning(part, p, part.what.inputs) for p in part.what.parameters}
        elif task.kind == "instance" or part.each is None:
            asked = {p: self.meaning(part, p, {}, own=True) for p in part.predicate}
        else:
            asked = {p: self.meaning(part, p, {}) for p in part.asked}
            if isinstance(part.each, dict) and (source := self.origin(part)):
                asked[Parameter(next(iter(part.each)))] = ("value", source)
        lists = [m[1] for p, m in asked.items() if m[0] == "value" and not self.is_dict(p)]
        given = {p.name: self.give(task, p, m, lists) for p, m in asked.items()}
        for ended in ("blocked", "closed"):
            for value in given.values():
                if isinstance(value, _Missing) and value.ended == ended:
                    raise value
        return copy.deepcopy(given)

    def is_dict(self, p: Parameter) -> bool:
        kind = getattr(p.annotation, "__origin__", p.annotation)
        return isinstance(kind, type) and issubclass(kind, Mapping | dict)

    def give(self, task: Task, p: Parameter, meaning: tuple[Any, ...], lists: list[Part]) -> Any:
        kind, *rest = meaning
        if kind == "store":
            return _View(self, task)
        if kind == "stream":
            return _NoStream()
        if kind in ("record", "field"):
            record = self.record(task, rest[0])
            if record is None:  # a node before deleted it
                return _Missing("closed")
            return record if kind == "record" else getattr(record, p.name)
        if kind == "item":
            level = self.levels(task)[rest[0]]
            return self.instances[level, task.ids[: rest[0]]][task.ids[rest[0]]].item
        if kind == "parameter":
            return self.params.get(p.name, rest[0])
        (step,) = rest
        shared = [level for level in step.levels if level in task.part.around[:-1]]
        left = step.levels[len(shared) :]
        if left:
            value = self.join(task, step, left, task.ids[: len(shared)], [] if self.is_dict(p) else lists, self.is_dict(p))
            self.joins.setdefault(self.name(task), {})[p.name] = value
            return value
        node = Task("node", step, task.ids[: len(shared)])
        if node in self.values:
            return self.values[node]
        return _Missing("closed" if self.ended[node] == "closed" else "blocked")

    def join(self, task: Task, step: Part, left: list[Part], ids: Ids, lists: list[Part], as_dict: bool) -> Any:
        if not left:
            return self.values[Task("node", step, ids)]
        pipe, inside = left[0], {}
        for id in self.in_order(pipe, ids, task):
            deeper = (*ids, id)
            asked = [other for other in [step, *lists] if other.levels and other.levels[-1] is pipe]
            if self.is_joined(task, pipe, deeper) and all(Task("node", other, deeper) in self.values for other in asked):
                inside[id] = self.join(task, step, left[1:], deeper, lists, as_dict)
        return inside if as_dict else list(inside.values())

    def in_order(self, pipe: Part, ids: Ids, task: Task | None) -> list[Any]:
        found = self.instances.get((pipe, ids), {})
        return sorted(found, key=lambda id: self.record_key((pipe.model, id), task) if pipe.model else found[id].index)

    def is_joined(self, task: Task, pipe: Part, ids: Ids) -> bool:
        if Task("instance", pipe, ids) not in self.anc[task]:
            return False  # its home is not before the asker (E2)
        if pipe.model and self.see(task, (pipe.model, ids[-1])) is None:
            return False  # deleted (C5)

        def within(place: Part | None) -> bool:  # a failure in the instance that no pipeline in it contains
            return not any(part.skips() and pipe in part.around[:-1] for part in (place.around if place else []))

        for part in pipe.parts:
            for t in self.tasks(part, ids, pipe):
                for began in self.blockers.get(t, ()):
                    if within(began.part if isinstance(began, Task) else began.part.up):
                        return False
        return not any(pipe in c.part.around and c.ids[: len(ids)] == ids and within(c.part.up) for c in self.conflicts)

    # Doing: calls, changes, instances

    def call(self, task: Task, arguments: dict[str, Any]) -> None:
        step: Step = task.part.what  # type: ignore[assignment]
        try:
            value = step.function(**arguments)
            if inspect.isawaitable(value):
                value = asyncio.run(value)  # type: ignore[arg-type]
            value, changes = self.split(task, value, step)
            writes = self.changes(task, changes)
        except BaseException as error:
            self.ended[task], self.blockers[task] = "failed", [task]
            self.errors.append((type(error).__name__, task))
            return
        self.values[task] = copy.deepcopy(value)
        for write in writes:
            for other in self.log:
                for field in self.disagree(write, other):
                    part, ids = self.smallest(write.task, other.task)
                    field = f"{model_name(write.key[0])}.{field}"
                    self.conflicts.append(Conflict(part, ids, field, write.key[1], write.task, other.task))
        self.log += writes
        for write in writes:
            if write.kind == "create":
                for pipe, ids in [(t.part, t.ids) for t in list(self.ended) if t.kind == "open"]:
                    self.offer(pipe, ids, write)

    def split(self, task: Task, value: Any, step: Step) -> tuple[Any, list[Change]]:
        """V1: a value, or changes, or both."""
        if isinstance(value, Result):
            return value.value, list(value.changes)
        one, many = isinstance(value, Change), isinstance(value, list) and any(isinstance(v, Change) for v in value)
        if not one and not many:
            return value, [Update(None, None, {step.options.sets: value})] if step.options.sets else []
        changes = [value] if one else value
        if step.options.sets or not all(isinstance(change, Change) for change in changes):
            raise Rejected
        ids = [c.record.id if isinstance(c, Create) else c.id if c.model else self.mine(task)[1] for c in changes]
        return ids[0] if one else ids, changes

    def changes(self, task: Task, changes: list[Change]) -> list[Write]:
        """C3, C4: each on the result of those before, all or none; what comes of it per record."""
        now: dict[Key, Any] = {}
        made: dict[Key, list[Write]] = {}

        def look(key: Key) -> Any:
            return now[key] if key in now else self.see(task, key)

        for ordinal, change in enumerate(changes):
            if isinstance(change, Create):
                key = (type(change.record), change.record.id)
                if look(key) is not None:
                    if change.if_exists == "error":
                        raise Rejected
                    continue
                now[key] = change.record
                fields = attrs.asdict(change.record, recurse=False)
                made.setdefault(key, []).append(Write(task, key, "create", fields, ordinal, change.if_exists == "keep"))
                continue
            key = (change.model, change.id) if change.model else self.mine(task)
            if look(key) is None:
                raise RecordNotFound(f"no {model_name(key[0])} {key[1]!r}")
            if isinstance(change, Delete):
                now[key] = None
                created = [w for w in made.get(key, []) if w.kind == "create"]
                made[key] = [] if created else [Write(task, key, "delete", {}, ordinal)]
                continue
            if "id" in change.fields or set(change.fields) - set(attrs.fields_dict(key[0])):
                raise Rejected
            now[key] = attrs.evolve(look(key), **change.fields)
            if made.get(key) and made[key][-1].kind != "delete":
                made[key][-1].fields.update(change.fields)
            else:
                made.setdefault(key, []).append(Write(task, key, "update", dict(change.fields), ordinal))
        for write in (found := [write for writes in made.values() for write in writes]):
            write.fields = copy.deepcopy(write.fields)
        return found

    def fan_out(self, task: Task, unasked: bool) -> None:
        """The instances an each has from the start (E1, E3)."""
        pipe, ids = task.part, task.ids
        found = self.instances.setdefault((pipe, ids), {})
        if pipe.model:
            for record in self.all(task, pipe.model):
                if self.selected(task, record):
                    found[record.id] = Instance(None, 0, pipe)
            for write in [w for w in self.log if w.kind == "create"]:
                self.offer(pipe, ids, write)
            return
        (source,) = pipe.each.values()
        try:
            items = self.arguments(task)[next(iter(pipe.each))] if self.origin(pipe) else source
        except _Missing:  # of a pipeline that is not opened: items that are not known cannot be counted (O2)
            return
        if isinstance(items, Files):
            items = items.expand()
        pairs = list(items.items()) if isinstance(items, dict) else [(None, item) for item in items]
        for index, (id, item) in enumerate(pairs):
            plain = id = item_id(item) if id is None else id
            again = 2
            while id in found:
                id, again = Again(f"{id_text(plain)}~{again}"), again + 1
            found[id] = Instance(item, index, pipe)

    def selected(self, opening: Task, record: Any) -> bool:
        select = opening.part.each
        if not isinstance(select, Selection):
            return True
        if any(getattr(record, field) != value for field, value in select.equal.items()):
            return False
        try:
            return select.predicate is None or bool(select.predicate(record, **self.arguments(opening)))
        except _Missing:
            return False

    def takes(self, pipe: Part, ids: Ids, write: Write) -> bool:
        opening, creator = Task("open", pipe, ids), write.task
        if pipe.model is not write.key[0] or creator in self.anc[opening]:
            return False
        if pipe in self.past(creator.part):
            return False  # the creator comes after the pipeline
        levels = enumerate(pipe.levels)  # else: made inside another outer instance
        return all(creator.ids[n] == ids[n] for n, level in levels if level in creator.part.around)

    def offer(self, pipe: Part, ids: Ids, write: Write) -> None:
        """A record was created: does an open each take it in, and where does its instance belong (E1, E2)?"""
        opening = Task("open", pipe, ids)
        if not self.takes(pipe, ids, write) or self.see(opening, write.key) is not None:
            return
        home, _ = self.smallest(opening, write.task)
        found = self.instances[pipe, ids]
        if (there := found.get(write.key[1])) is not None:
            there.home = max(there.home, home, key=lambda part: len(part.around))  # of several creators, the smallest part
        elif self.selected(opening, write.key[0](**write.fields)):
            found[write.key[1]] = Instance(None, 0, home)

    # The answer

    def later(self, group: Callable[[Conflict], Any]) -> list[str]:
        """The later node, in graph order, of the first conflict of each group."""
        pairs: dict[Any, list[tuple[Any, Any, str]]] = {}
        for c in self.conflicts:
            first, second = sorted((c.first, c.second), key=self.node_key)
            pairs.setdefault(group(c), []).append((self.node_key(first), self.node_key(second), self.name(second)))
        return sorted(min(found)[2] for found in pairs.values())

    def clock(self) -> bool:
        """What lets the clock in (C1): unordered creates of one id with different content, writes under a guard that is open.

        Nor is the place told of a node's own record that several made.
        Of a record that is deleted and then created anew the rules do not say whose record a node of its id stands on.
        """
        creates = [w for w in self.log if w.kind == "create"]
        makers = [[w for w in creates if w.key == key] for key in self.unseen]
        pairs = [(a, b) for a in creates for b in creates if a.key == b.key and a.fields != b.fields]
        unlike = any(not self.before(a, b) and not self.before(b, a) for a, b in pairs)
        gone = [w for w in self.log if w.kind == "delete"]
        anew = any(a.key == b.key and a.task in self.anc[b.task] for a in gone for b in creates)
        asked_again = any(guard.part in w.task.part.around for guard in self.guards for w in self.log)
        return self.circular or unlike or anew or asked_again or any(len(found) > 1 for found in makers)

    def name(self, task: Task) -> str:
        inner = f"[{','.join(map(id_text, task.ids))}]" if task.ids else ""
        if isinstance(task.part.what, Step):
            return f"{task.part.what.name}{inner}"
        return f"{task.kind} {'.'.join(str(part.index) for part in task.part.around)}{inner}"

    def outcome(self) -> Outcome:
        nodes = [task for task in self.ended if task.kind == "node"]
        failures = [(kind, self.name(task)) for kind, task in self.errors]
        failures += [("ConflictError", node) for node in self.later(lambda c: (c.part, c.ids, c.field))]
        return Outcome(
            store={
                name: [attrs.asdict(r, recurse=False) for r in self.all(None, model)]
                for name, model in self.models.items()
                if is_model(model)
            },
            values={self.name(t): v for t, v in self.values.items()},
            ended={self.name(t): self.ended[t] for t in nodes},
            failures=sorted(failures),
            joined=self.joins,
            conflicts=self.later(lambda c: (c.part, c.ids, c.field, c.record)),
            clock=self.clock(),
            reads={self.name(t): self.reads[self.name(t)] for t in nodes if self.ended[t] in ("computed", "failed")},
        )


def item_id(item: Any) -> Any:
    """The id an item has (E3)."""
    if isinstance(item, int) or (isinstance(item, str) and len(item) <= 64):
        return item
    if isinstance(item, File):
        return item.path
    return item.id if hasattr(item, "id") else digest(item).hex()[:16]


class _Missing(Exception):
    """A single value that is not there (F1, G3); `ended` is how the asker ends."""

    def __init__(self, ended: str) -> None:
        self.ended = ended


class _NoStream:
    def push(self, kind: str, payload: Any = None) -> None:
        pass

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class _View:
    """The store as a step is given it (C9); it notes its answers."""

    def __init__(self, run: _Run, task: Task) -> None:
        self._run, self._task = run, task

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def _note(self, answer: Any) -> Any:
        self._run.reads[self._run.name(self._task)].append(copy.deepcopy(answer))
        return answer

    def find(self, model: type, id: Any) -> Any:
        if (record := self.get(model, id)) is None:
            raise RecordNotFound(f"no {model_name(model)} {id!r}")
        return record

    def get(self, model: type, id: Any) -> Any:
        return self._note(self._run.see(self._task, (model, id)))

    def all(self, model: type) -> list[Any]:
        return self._note(self._run.all(self._task, model))

    def where(self, model: type, predicate: Callable[[Any], Any] | None = None, **equal: Any) -> list[Any]:
        every = self._run.all(self._task, model)
        fits = [r for r in every if all(getattr(r, field) == value for field, value in equal.items())]
        return self._note([r for r in fits if predicate is None or predicate(r)])

    def count(self, model: type, predicate: Callable[[Any], Any] | None = None, **equal: Any) -> int:
        return self._note(len(self.where(model, predicate, **equal)))

    def values(self, model: type, *fields: str) -> list[Any]:
        found = [tuple(getattr(r, field) for field in fields) for r in self._run.all(self._task, model)]
        return self._note([row[0] for row in found] if len(fields) == 1 else found)
