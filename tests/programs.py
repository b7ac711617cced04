"""Random programs: as data that can be edited and made smaller, written out as the source of a module.

A program is a tree of steps, groups and pipelines, made so that it compiles: whatever is named stands earlier in one fixed
order, and only then are parts that have no order among them shuffled. What a step does is made of a few pieces: it mixes what it
is given and what it reads of the store into a number, notes that it ran, perhaps fails, and returns a value, changes, or both.
Everything is plain module-level functions, so that any executor can call them.

A record's content when it is created follows from its id alone, and chains of creations are bounded by id.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import attrs

HEADER = """
import os
import cpgraph as cp

@cp.model
class A:
    id: int
    v: int = 0
    w: int = 0
    x: int = 0
    s: int | None = None

@cp.model
class B:
    id: int
    of: int = 0
    v: int = 0
    y: int = 0
    s: int | None = None

def mix(*things):
    total = 0
    for thing in things:
        if isinstance(thing, (list, tuple)):
            thing = mix(*thing) + len(thing)
        elif isinstance(thing, dict):
            thing = mix(*thing, *thing.values())
        elif isinstance(thing, (A, B)):
            thing = mix(thing.id, thing.v, thing.s or 0)
        elif isinstance(thing, str):
            thing = len(thing)
        total = (total * 3 + (thing or 0)) % 101
    return total

def note(name, *things):
    line = name + " " + repr(things) + chr(10)
    with open(os.environ["CPGRAPH_TEST_LOG"], "ab", buffering=0) as log:
        log.write(line.encode())
"""

MODELS = {"A": ("id", "v", "w", "x"), "B": ("id", "of", "v", "y")}
BOUND = 8  # no record with a larger id is made by another record


@attrs.define(eq=False)
class S:
    """A step: `takes` are its parameters as written, `asks` the names among them that are steps."""

    name: str
    k: int
    takes: list[str] = attrs.field(factory=list)
    asks: list[str] = attrs.field(factory=list)  # "s1" or "s1: dict"
    reads: list[str] = attrs.field(factory=list)  # queries of the store
    fails: int = 0  # raises where the mixed number is a multiple of it
    does: str = "value"
    target: str = "A"  # model that it creates, or updates by id
    field: str = "v"
    after: list[str] = attrs.field(factory=list)
    is_async: bool = False
    same_as: str = ""  # an alias of that step

    def source(self) -> str:
        takes = [*self.takes, *(["store"] if self.reads else []), *self.asks]
        takes.sort(key=lambda take: "=" in take)
        given = [take.partition(":")[0] for take in takes if take != "store"]
        options = [f"after={self.after!r}"] if self.after and not self.same_as else []
        options += ['sets="s"'] if self.does == "sets" else []
        lines = [f"@cp.step({', '.join(options)})"] if options else []
        lines += [f"{'async ' if self.is_async else ''}def {self.name}({', '.join(takes)}):"]
        lines += [f"    read = [{', '.join(self.reads)}]"]
        lines += [f"    note({', '.join([repr(self.name), str(self.k), *given, 'read'])})"]
        lines += [f"    n = mix({', '.join([str(self.k), *given, 'read'])})"]
        if self.fails:
            lines += [f"    if n % {self.fails} == 0:", "        raise ValueError('edge-case')"]
        made = f"cp.create({self.target}(id=new, v=new % 3), if_exists={'keep' if self.k % 2 else 'error'!r})"
        body = {
            "value": ["return n"],
            "items": ["return [n % 3, n % 2, 7][: n % 4]"],
            "names": ["return ['a', 'b', 'c'][: n % 4]"],
            "table": ["return {'p': n % 2, 'q': n % 3}"],
            "sets": ["return n % 5"],
            "update": [f"return cp.result(n, cp.update({self.field}=n % 5))"],
            "maybe": [f"return cp.update({self.field}=n % 5) if n % 2 else None"],
            "other": [f"return cp.update({self.target}, {self.k % 3 + 1}, {self.field}=n % 5)"],
            "delete": ["return cp.delete(record) if n % 3 == 0 else None"],
            "make": [f"new = {self.k % 4 + 3}", f"return {made}"],
            "grow": [f"new = id + {self.k % 2 + 1}", f"return {made} if id < {BOUND} else None"],
            "both": [
                f"new = id + {self.k % 3 + 1}",
                f"return cp.result(n, cp.update({self.field}=n % 5), *([{made}] if id < {BOUND} else []))",
            ],
        }[self.does]
        return "\n".join(lines + [f"    {line}" for line in body])

    def written(self) -> str:
        if not self.same_as:
            return self.name
        inputs = [f"{old!r}: {new!r}" for old, new in (ask.split("=") for ask in self.asks)]
        after = f", after={self.after!r}" if self.after else ""
        return f"cp.alias({self.same_as}, {self.name!r}, inputs={{{', '.join(inputs)}}}{after})"


@attrs.define(eq=False)
class G:
    """A list."""

    parts: list[Any]

    def written(self) -> str:
        return f"[{', '.join(part.written() for part in self.parts)}]"


@attrs.define(eq=False)
class Open:
    """A condition, or a guard: yes where the mixed number is no multiple of `mod` (0: never)."""

    name: str
    k: int
    takes: list[str]
    asks: list[str]
    mod: int
    guard: bool = False

    def source(self) -> str:
        takes = [*self.takes, *self.asks]
        if self.guard and not self.mod:
            return f"def {self.name}(store):\n    return store.count(A, v={self.k}) > 1000"
        if self.guard:
            return f"def {self.name}(store):\n    return mix({self.k}, store.values(A, 'v')) % {self.mod} != 0"
        return f"def {self.name}({', '.join(takes)}):\n    return mix({', '.join([str(self.k), *takes])}) % {self.mod} != 0"


@attrs.define(eq=False)
class P:
    """A pipeline; `each` is "", "A", "A where v" (by equality), "A pick" (by predicate), "n0 in step" or "n0 = [1, 2]"."""

    name: str
    parts: list[Any]
    each: str = ""
    k: int = 0
    open: Open | None = None
    after: list[str] = attrs.field(factory=list)
    on_error: str = "isolate"
    concurrency: int = 0
    around: str = ""  # for a predicate: the model around that it also asks for

    def source(self) -> str:
        if " pick" not in self.each:
            return ""
        more = f", record: {self.around}" if self.around else ""
        other = ", record.id" if self.around else ""
        return f"def pick_{self.name}(it{more}):\n    return mix({self.k}, it.id, it.v{other}) % 3 != 0"

    def written(self) -> str:
        options = [f"name={self.name!r}"]
        if self.each:
            name, _, rest = self.each.partition(" ")
            each = name
            if rest.startswith("where"):
                each = f"cp.where({name}, v={self.k % 3})"
            elif rest.startswith("pick"):
                each = f"cp.where({name}, pick_{self.name})"
            elif rest:
                each = f"{{{name!r}: {rest.split(' ', 1)[1]}}}"
            options.append(f"each={each}")
        options += [f"open={self.open.name}"] if self.open else []
        options += [f"after={self.after!r}"] if self.after else []
        options += [f"concurrency={self.concurrency}"] if self.concurrency else []
        options += [f"on_error={self.on_error!r}"] if self.on_error != "isolate" else []
        return f"cp.pipeline({', '.join([*(part.written() for part in self.parts), *options])})"


@attrs.define(eq=False)
class Program:
    pipelines: list[P]
    data: dict[str, list[dict[str, int]]]

    def walk(self) -> Iterator[Any]:
        waiting: list[Any] = list(self.pipelines)
        while waiting:
            part = waiting.pop(0)
            yield part
            waiting[:0] = [] if isinstance(part, S) else part.parts

    def source(self) -> str:
        parts = list(self.walk())
        functions = [part.source() for part in parts if not isinstance(part, G) and not getattr(part, "same_as", "")]
        functions += [part.open.source() for part in parts if isinstance(part, P) and part.open]
        rows = [f"    {model}: [{', '.join(f'{model}(**{row!r})' for row in rows)}]," for model, rows in self.data.items()]
        graph = ["", "", "PIPELINES = [", *(f"    {pipe.written()}," for pipe in self.pipelines), "]"]
        return "\n\n\n".join([HEADER.strip(), *filter(None, functions)]) + "\n".join([*graph, "DATA = {", *rows, "}", ""])

    def load(self, folder: Path, name: str = "random_program") -> ModuleType:
        """Write the module and import it anew."""
        (folder / f"{name}.py").write_text(self.source())
        sys.modules.pop(name, None)
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        import linecache

        linecache.clearcache()
        return importlib.import_module(name)

    def edited(self, random: Random) -> tuple[str, Program]:
        """One random edit: another constant in one step. Gives the step's name and the edited program."""
        import copy

        other = copy.deepcopy(self)
        step = random.choice([part for part in other.walk() if isinstance(part, S) and not part.same_as])
        step.k += 2 * random.randint(1, 9)
        return step.name, other


# Making one


def generate(random: Random, size: int = 8) -> Program:
    """A random program of up to `size` steps or so."""
    return _Maker(random, size).program()


class _Maker:
    def __init__(self, random: Random, size: int) -> None:
        self.random = random
        self.left = random.randint(1, size)
        self.failing = random.random() < 0.5
        self.steps: list[tuple[S, list[P]]] = []  # made so far, with the pipelines around
        self.pipes: list[tuple[P, list[P]]] = []  # ended
        self.sets: set[str] = set()
        self.count = 0

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def name(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count - 1}"

    def program(self) -> Program:
        pipelines = []
        while self.left > 0 and len(pipelines) < 3:
            pipelines.append(self.pipe([], top=True))
        if len(pipelines) == 1 and self.chance(0.2):  # everything in it is before or after its parts: guards may be yes
            for part in pipelines[0].parts:
                if isinstance(part, P) and not pipelines[0].each and not part.open and self.chance(0.4):
                    part.open = Open(self.name("g"), self.random.randint(0, 9), [], [], 3, guard=True)
        rows = {
            "A": [{"id": i, "v": self.random.randint(0, 2)} for i in range(1, self.random.randint(1, 4))],
            "B": [{"id": i, "of": self.random.randint(1, 3), "v": i % 2} for i in range(1, self.random.randint(1, 3))],
        }
        self.shuffle(pipelines)
        if self.chance(0.3):
            rows["A"].reverse()
        return Program(pipelines, rows)

    def shuffle(self, parts: list[Any]) -> None:
        self.random.shuffle(parts)
        waiting = list(parts)
        while waiting:
            part = waiting.pop()
            if isinstance(part, G):
                self.random.shuffle(part.parts)
            waiting += [] if isinstance(part, S) else part.parts

    def part(self, around: list[P], depth: int) -> Any:
        roll = self.random.random()
        if depth > 3 or self.left <= 1 or roll < 0.55:
            return self.step(around)
        if roll < 0.7:
            return G([self.part(around, depth + 1) for _ in range(self.random.randint(2, 3))])
        return self.pipe(around, depth=depth + 1)

    def pipe(self, around: list[P], depth: int = 0, top: bool = False) -> P:
        pipe = P(self.name("p"), [], k=self.random.randint(0, 9))
        inside = [*around, pipe]
        each = self.random.random()
        levels = [p for p in around if p.each]
        if each < 0.65 and len(levels) < 2:
            model = self.random.choice("AAB")
            kind = self.random.random()
            pipe.each = model if kind < 0.6 else f"{model} where" if kind < 0.75 else f"{model} pick"
            if kind > 0.85 and levels and levels[-1].each[0] in MODELS:
                pipe.around = levels[-1].each[0]
        elif each < 0.85 and len(levels) < 2:
            name = self.name("n")
            sources = [s.name for s, _ in self.steps if s.does in ("items", "names", "table") and not s.same_as]
            literal = self.random.choice(["[1, 2]", "['a', 'b', 'a']", "range(2)", "{'k': 1, 'l': 2}", "()"])
            pipe.each = f"{name} in {self.random.choice(sources)}" if sources and self.chance(0.8) else f"{name} = {literal}"
        if self.chance(0.15):
            pipe.open = self.condition(inside)
        if self.chance(0.08) and not pipe.open:
            pipe.open = Open(self.name("g"), self.random.randint(0, 9), [], [], 0, guard=True)
        pipe.on_error = self.random.choice(["isolate", "isolate", "skip"])
        pipe.after = self.earlier(around) if self.chance(0.1) else []
        pipe.concurrency = self.random.choice([1, 1, 2]) if self.chance(0.15) else 0
        for _ in range(self.random.randint(1, 3)):
            if not pipe.parts or self.left > 0:
                pipe.parts.append(self.part(inside, depth))
        self.pipes.append((pipe, around))
        return pipe

    def earlier(self, around: list[P]) -> list[str]:
        known = [s.name for s, _ in self.steps] + [p.name for p, _ in self.pipes]
        return [self.random.choice(known)] if known else []

    def asks(self, around: list[P]) -> list[str]:
        """Names of earlier steps; a list or a dict where they stand in an each that is not around."""
        found = []
        for step, places in self.random.sample(self.steps, min(len(self.steps), self.random.choice([0, 1, 1, 2]))):
            outside = any(p.each and p not in around for p in places)
            found.append(f"{step.name}: dict" if outside and self.chance(0.25) else step.name)
        return found

    def fields(self, around: list[P]) -> list[str]:
        models = [p.each[0] for p in around if p.each and p.each[0] in MODELS]
        items = [p.each.split()[0] for p in around if p.each and p.each[0] not in MODELS]
        names = sorted({field for model in models for field in MODELS[model]})
        return [*self.random.sample(names, min(len(names), self.random.randint(0, 2))), *(n for n in items if self.chance(0.8))]

    def condition(self, around: list[P]) -> Open:
        asks = [ask for ask in self.asks(around[:-1]) if ":" not in ask]
        return Open(self.name("c"), self.random.randint(0, 9), self.fields(around), asks, 3)

    def step(self, around: list[P]) -> S:
        self.left -= 1
        step = S(self.name("s"), self.random.randint(0, 9))
        models = [p.each[0] for p in around if p.each and p.each[0] in MODELS]
        plain = [s for s, _ in self.steps if s.asks and not s.takes and not s.reads and s.does == "value" and not s.same_as]
        if plain and self.chance(0.3):
            other = self.random.choice(plain)
            step.same_as = other.name
            names = [s.name for s, _ in self.steps]
            step.asks = [f"{ask.partition(':')[0]}={self.random.choice(names)}" for ask in other.asks]
        else:
            step.takes = self.fields(around)
            step.asks = self.asks(around)
            self.behaviour(step, models)
            if self.failing and self.chance(0.25):
                step.fails = self.random.choice([2, 3, 4, 5])
            if self.chance(0.1):
                step.takes.append("p0: int = 3")
            step.is_async = self.chance(0.1)
        if self.chance(0.08):
            step.after = self.earlier(around)
        self.steps.append((step, around))
        return step

    def behaviour(self, step: S, models: list[str]) -> None:
        choices = ["value", "value", "items", "names", "table", "make", "other"]
        if models:
            choices += ["update", "maybe", "delete", "both", "grow", "update", "grow"]
            choices += ["sets"] if models[-1] not in self.sets else []
        step.does = self.random.choice(choices)
        step.target = self.random.choice("AB")
        step.field = self.random.choice(
            {"A": "vwx", "B": "vy"}[step.target if step.does == "other" or not models else models[-1]]
        )
        if step.does in ("grow", "both") and "id" not in step.takes:
            step.takes.append("id")
        if step.does == "delete" or (models and self.chance(0.3)):
            step.takes.append(f"record: {models[-1]}")
        if step.does == "sets":
            self.sets.add(models[-1])
        if self.chance(0.3):
            queries = ["store.values(A, 'v')", "store.count(A, v=1)", "store.all(B)", "store.where(A, w=0)", "store.get(B, 1)"]
            queries += ["store.values(B, 'id', 'y')", "store.count(A)", "store.values(A, 'id')", "store.all(A)"]
            step.reads = self.random.sample(queries, self.random.randint(1, 2))
            if self.failing and self.chance(0.1):
                step.reads.append("store.find(A, 2)")


# Making one smaller


def smaller(program: Program, fails: Callable[[Program], bool], patience: int = 400) -> Program:
    """Take away what can be taken away while it still fails."""
    again = True
    while again and patience > 0:
        again = False
        for number in range(10_000):
            other = _without(program, number)
            if other is None:
                break
            patience -= 1
            if patience > 0 and fails(other):
                program, again = other, True
                break
    return program


def _without(program: Program, number: int) -> Program | None:
    """The `number`-th way of taking something away; None if there are no more."""
    import copy

    other = copy.deepcopy(program)
    ways: list[Callable[[], Any]] = []

    def drop(holder: list[Any], index: int) -> Callable[[], Any]:
        return lambda: holder.pop(index)

    def unwrap(holder: list[Any], index: int) -> Callable[[], Any]:
        return lambda: holder.__setitem__(slice(index, index + 1), holder[index].parts)

    def put(part: Any, field: str, value: Any) -> Callable[[], Any]:
        return lambda: setattr(part, field, value)

    holders = [other.pipelines, *(part.parts for part in other.walk() if not isinstance(part, S))]
    for holder in holders:
        ways += [drop(holder, index) for index in range(len(holder)) if len(holder) > 1]
        ways += [unwrap(holder, i) for i, part in enumerate(holder) if isinstance(part, P | G) and holder is not other.pipelines]
    for rows in other.data.values():
        ways += [drop(rows, index) for index in range(len(rows))]
    empty = {
        "open": None,
        "after": [],
        "on_error": "isolate",
        "concurrency": 0,
        "each": "",
        "reads": [],
        "fails": 0,
        "is_async": False,
    }
    for part in other.walk():
        ways += [put(part, field, value) for field, value in empty.items() if getattr(part, field, value) != value]
        if isinstance(part, S) and not part.same_as:
            ways += [drop(part.asks, index) for index in range(len(part.asks))]
            ways += [drop(part.takes, index) for index in range(len(part.takes))]
            ways += [put(part, "does", "value")] if part.does != "value" else []
    if number >= len(ways):
        return None
    ways[number]()
    return other


# What ran


class Log:
    """The file that steps note their calls in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.environ["CPGRAPH_TEST_LOG"] = str(path)
        path.write_bytes(b"")

    def take(self) -> Counter[str]:
        """What was noted since the last time."""
        lines = self.path.read_bytes().decode().splitlines()
        self.path.write_bytes(b"")
        return Counter(lines)
