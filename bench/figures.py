"""The figures: what is measured in one round, its floor, and the goal for what it is a multiple of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import NamedTuple

from bench.child import do, python

US = 1e6
MIB = 2**20


class Sizes(NamedTuple):
    """How large the runs are."""

    records: int = 10_000
    small: int = 1_000
    large: int = 100_000
    profiled: int = 3_000
    memory: tuple[int, int] = (10_000, 30_000)
    threads: tuple[int, int] = (2_000, 200)
    tasks: tuple[int, int] = (10_000, 2_000)
    guarded: int = 100_000
    chain: int = 10_000
    wide: int = 12_000
    loop: int = 9_000


FULL = Sizes()
QUICK = Sizes(60, 30, 90, 30, (30, 60), (20, 10), (40, 20), 400, 60, 80, 60)


class Measured(NamedTuple):
    """One figure of one round. `floor` is 1 where the goal is the figure itself; `ratio` is what the goal is for."""

    figure: str
    value: float
    unit: str
    floor: float
    goal: float

    @property
    def ratio(self) -> float:
        return self.value / self.floor


Found = Iterator[Measured]


def speed(dir: str, sizes: Sizes) -> Found:
    """Cold, warm in a fresh process, and after one record of many was changed."""
    cold = do("cold_with_floor", dir=f"{dir}/store", records=sizes.records)
    yield Measured("cold", US * cold["wall"], "us/node", US * cold["floor wall"], 2)
    yield Measured("cold, CPU", US * cold["cpu"], "us/node", US * cold["floor cpu"], 2)
    warm = do("warm_with_floor", dir=f"{dir}/store", records=sizes.records)
    yield Measured("warm", US * warm["wall"], "us/node", US * warm["floor wall"], 2)
    yield Measured("warm, CPU", US * warm["cpu"], "us/node", US * warm["floor cpu"], 2)
    again = do("trivial", dir=f"{dir}/store", records=sizes.records, computed=3, changed=sizes.records // 2)
    yield Measured("incremental, 1 changed", US * again["wall"], "us/node", US * warm["wall"], 1.2)
    yield Measured("incremental, CPU", US * again["cpu"], "us/node", US * warm["cpu"], 1.2)


def queries(dir: str, sizes: Sizes) -> Found:
    """Steps with one noted query each, beside the same without."""
    found = do("queries", dir=dir, records=sizes.records)
    yield Measured("one query each", US * found["wall"], "us/node", US * found["floor wall"], 1.5)
    yield Measured("one query each, CPU", US * found["cpu"], "us/node", US * found["floor cpu"], 1.5)


def fan_out(dir: str, sizes: Sizes) -> Found:
    """Calls that wait, in threads and on the event loop."""
    for kind, (calls, width), goal in (("threads", sizes.threads, 1.15), ("async", sizes.tasks, 1.3)):
        found = do("fan_out", dir=f"{dir}/{kind}", calls=calls, width=width, kind=kind)
        yield Measured(f"fan-out, {kind}", found["wall"], "s", found["floor wall"], goal)


def growth(dir: str, sizes: Sizes) -> Found:
    """What a node costs among many, over what it costs among few."""
    small = do("trivial", dir=f"{dir}/small", records=sizes.small, computed=3 * sizes.small)
    large = do("trivial", dir=f"{dir}/large", records=sizes.large, computed=3 * sizes.large)
    yield Measured("growth", US * large["wall"], "us/node", US * small["wall"], 1.5)
    yield Measured("growth, CPU", US * large["cpu"], "us/node", US * small["cpu"], 1.5)


def calls(dir: str, sizes: Sizes) -> Found:
    """Calls of Python for a node, all in one thread."""
    cold = do("calls", dir=dir, records=sizes.profiled, computed=3 * sizes.profiled)
    warm = do("calls", dir=dir, records=sizes.profiled, computed=0)
    yield Measured("calls per node, cold", cold["calls"], "calls", 1, 60)
    yield Measured("calls per node, warm", warm["calls"], "calls", 1, 25)


def disk(dir: str, sizes: Sizes) -> Found:
    """Bytes, files and transactions."""
    small = do("disk", dir=f"{dir}/small", records=sizes.small)
    found = do("disk", dir=f"{dir}/store", records=sizes.records)
    yield Measured("bytes per node on disk", found["bytes"], "B", 1, 200)
    yield Measured("files", found["files"], f"files, at {sizes.small:,} records", small["files"], 1)
    yield Measured("commits per 1,000 nodes", found["commits"], "commits", 1, 5)


def memory(dir: str, sizes: Sizes) -> Found:
    """Memory at some nodes, and for each further one."""
    few, many = sizes.memory
    one = do("memory", dir=f"{dir}/few", records=few)["bytes"]
    other = do("memory", dir=f"{dir}/many", records=many)["bytes"]
    yield Measured(f"memory at {3 * few:,} nodes", one / MIB, "MiB", 1, 90)
    yield Measured("memory per further node", max(other - one, 0) / (3 * (many - few)), "B", 1, 400)


def importing(dir: str, sizes: Sizes) -> Found:
    """CPU time of `import cpgraph`, over Python alone."""
    said = "import time; print(time.process_time())"
    bare = median(float(python("-c", said)) for _ in range(5))
    full = median(float(python("-c", f"import cpgraph; {said}")) for _ in range(5))
    yield Measured("import, CPU over bare Python", 1e3 * (full - bare), "ms", 1, 60)


def shape(name: str, job: str, size: int, goal: float, **rest: str) -> Callable[[str], Found]:
    """Make the measure of a shape: what a node costs at full size, over what it costs at a tenth of it."""

    def measure(dir: str) -> Found:
        argument = "count" if job == "steps" else "records"
        small = do(job, dir=f"{dir}/small", **{argument: size // 10}, **rest)
        large = do(job, dir=f"{dir}/large", **{argument: size}, **rest)
        yield Measured(f"{name}, {size:,} over {size // 10:,}", US * large["wall"], "us/node", US * small["wall"], goal)
        yield Measured(f"{name}, CPU", US * large["cpu"], "us/node", US * small["cpu"], goal)

    return measure


def guard(dir: str, sizes: Sizes) -> Found:
    """Records under a guard that counts."""
    return shape("guard", "guard", sizes.guarded, 1.5)(dir)


def chain(dir: str, sizes: Sizes) -> Found:
    """A long chain of steps."""
    return shape("chain of steps", "steps", sizes.chain, 1.5, shape="chain")(dir)


def wide(dir: str, sizes: Sizes) -> Found:
    """Many steps with 3.5 edges each."""
    return shape("wide graph", "steps", sizes.wide, 1.5, shape="wide")(dir)


def loop(dir: str, sizes: Sizes) -> Found:
    """A long chain of records, each created by the one before."""
    return shape("loop of creations", "loop", sizes.loop, 1.5)(dir)


FIGURES: dict[str, Callable[[str, Sizes], Found]] = {
    "speed": speed,
    "queries": queries,
    "fan-out": fan_out,
    "growth": growth,
    "calls": calls,
    "disk": disk,
    "memory": memory,
    "import": importing,
    "guard": guard,
    "chain": chain,
    "wide graph": wide,
    "loop": loop,
}
