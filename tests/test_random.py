"""Random programs, run by the library and by the naive interpreter: the answers must agree, in every executor.

`python -m tests.test_random 2000 [seed] [executor …]` is the long run: it goes on through failures, and prints each failing
program as small as it gets.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import cpgraph as cp
from tests.naive import Outcome, id_text, interpret
from tests.programs import Log, Program, generate, smaller

EXECUTORS = ("inline", "threads", "processes", "foreign threads", "foreign processes")


@attrs.define
class Expected:
    """What the interpreter says, and which calls it made: those that gave a result, and those that failed."""

    outcome: Outcome
    calls: Counter[str]
    failed: set[str]


class Bench:
    """A folder in which programs are written and run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = Log(folder / "calls.log")
        self.count = 0

    def expect(self, program: Program) -> tuple[Any, Expected]:
        module = program.load(self.folder)
        self.log.take()
        calls: Counter[str] = Counter()
        failed: set[str] = set()

        def watch(node: str, ended: str) -> None:
            lines = self.log.take()
            calls.update(lines)
            failed.update(lines if ended == "failed" else ())

        outcome = interpret(module.PIPELINES, module.DATA, watch=watch)
        return module, Expected(outcome, calls, failed)

    def fresh(self) -> Path:
        self.count += 1
        return self.folder / f"kept{self.count}"

    def go(self, verb: str, module: Any, kept: Path | None, executor: str, *start: Any) -> tuple[Any, Counter[str]]:
        """Run or resume; gives the run, and the calls that were made."""
        self.log.take()
        graph = cp.Graph(*module.PIPELINES, models=[module.A, module.B])
        data = [record for records in module.DATA.values() for record in records]
        with executor_for(executor) as found, contextlib.redirect_stderr(io.StringIO()):  # what it tells people
            if verb == "run":
                run = graph.run(data, dir=kept, executor=found)
            else:
                run = graph.resume(*start, dir=kept, executor=found)
        return run, self.log.take()


@contextlib.contextmanager
def executor_for(name: str) -> Iterator[Any]:
    if name == "foreign threads":
        with ThreadPoolExecutor(3) as pool:
            yield pool
    elif name == "foreign processes":
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            yield pool
    else:
        yield name


def differences(expected: Outcome, run: Any) -> list[str]:
    """Where a run is not what it must be, a line each."""
    found = []

    def check(what: str, want: Any, got: Any) -> None:
        if want != got:
            found.append(f"{what}:\n    expected {want!r}\n    got      {got!r}")

    ended = plain({node.id: "computed" if node.ended == "cached" else node.ended for node in run.nodes})
    want_ended = plain(expected.ended)
    for node in sorted({*want_ended, *ended}):
        check(f"ended {node}", want_ended.get(node), ended.get(node))
    data = {model: records for model, records in run.data.items() if records}
    check("store", {model: records for model, records in expected.store.items() if records}, data)
    failed = sorted((type(failure.error).__name__, failure.node.replace('"', "")) for failure in run.failures)
    conflicts = {node for kind, node in failed if kind == "ConflictError"}
    least = {node for kind, node in expected.failures if kind == "ConflictError"}
    if not least <= conflicts <= set(expected.conflicts):
        check("conflicts", sorted(least), sorted(conflicts))
    others = [(kind, node) for kind, node in expected.failures if kind != "ConflictError"]
    got = [(kind, node) for kind, node in failed if kind != "ConflictError"]
    check("failed", sorted(node for _, node in others), sorted(node for _, node in got))
    unnamed = {node for kind, node in others if kind == "Rejected"}  # the rules do not name the class of these
    check("errors", [kind for kind, node in others if node not in unnamed], [kind for kind, node in got if node not in unnamed])
    check("ok", not expected.failures and "blocked" not in expected.ended.values(), run.ok)
    for step in sorted({node.step for node in run.nodes}):
        want = {node: value for node, value in expected.values.items() if node == step or node.startswith(f"{step}[")}
        found_values = {
            f"{step}[{','.join(map(id_text, id if isinstance(id, tuple) else (id,)))}]" if id != () else step: value
            for id, value in values_of(run, step).items()
        }
        check(f"values of {step}", plain(want), plain(found_values))
    return found


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Ids without the quotes that N3 puts round some: how they are written has tests of its own."""
    return {node.replace('"', ""): value for node, value in values.items()}


def values_of(run: Any, step: str) -> dict[Any, Any]:
    if any(node.id == step for node in run.nodes):
        nothing = object()
        value = run.value(step, default=nothing)
        return {} if value is nothing else {(): value}
    found: dict[Any, Any] = run.values(step)
    return found


def ran(expected: Expected, calls: Counter[str], before: Expected | None = None) -> list[str]:
    """What ran and should not have, or the reverse; `before`: what is in the cache."""
    known = set(before.calls) - before.failed if before else set()
    must = set(expected.calls) - known
    may = must | expected.failed
    found = [f"did not run: {line}" for line in sorted(must - set(calls) - expected.failed)]
    found += [f"ran: {line}" for line in sorted(set(calls) - may)]
    return found + [f"ran {n} times: {line}" for line, n in calls.items() if n > max(expected.calls[line], 1)]


def examine(program: Program, bench: Bench, executor: str = "inline", seed: int = 0, deep: bool = True) -> list[str]:
    """Everything that is to hold of one program; gives what does not."""
    random = Random(seed)
    name, other = program.edited(random)
    _, changed = bench.expect(other)
    module, expected = bench.expect(program)
    if expected.outcome.clock or changed.outcome.clock:
        return []
    kept = bench.fresh()
    try:
        run, calls = bench.go("run", module, kept, executor)
        found = [f"cold: {line}" for line in [*differences(expected.outcome, run), *ran(expected, calls)]]
        if found or not deep:
            return found
        again, calls = bench.go("run", module, kept, executor)
        found = [f"warm: {line}" for line in [*differences(expected.outcome, again), *ran(expected, calls, expected)]]
        versions = list(run.history)
        for version in random.sample(versions, min(2, len(versions))):
            resumed, _ = bench.go("resume", module, random.choice([kept, bench.fresh()]), executor, version)
            found += [f"resume {version}: {line}" for line in differences(expected.outcome, resumed)]
        if found:
            return found
        module = other.load(bench.folder)
        run, calls = bench.go("run", module, kept, executor)
        lines = [*differences(changed.outcome, run), *ran(changed, calls, expected)]
        return [f"edited {name}: {line}" for line in lines]
    finally:
        for path in bench.folder.glob("kept*"):
            shutil.rmtree(path)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    before = list(sys.path), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # an edited module may have the size and time of the one before
    yield Bench(tmp_path_factory.mktemp("random"))
    sys.path[:], sys.dont_write_bytecode = before
    sys.modules.pop("random_program", None)


def hold(program: Program, bench: Bench, executor: str) -> None:
    found = examine(program, bench, executor)
    if found:
        program = smaller(program, lambda other: compiles(other, bench) and bool(examine(other, bench, executor)), 60)
        pytest.fail("\n".join([*examine(program, bench, executor), *found, program.source()]), pytrace=False)


def compiles(program: Program, bench: Bench) -> bool:
    try:
        bench.expect(program)
        bench.go("run", program.load(bench.folder), None, "inline")
    except Exception:
        return False
    return True


programs = st.integers(0, 2**32).map(lambda seed: generate(Random(seed)))  # made smaller by `smaller`, not by Hypothesis
quiet = settings(deadline=None, database=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck))


@settings(quiet, max_examples=50)
@given(programs)
def test_inline(bench: Bench, program: Program) -> None:
    """Promises 1-7: the answer, what a warm run, an edit and a resume do."""
    hold(program, bench, "inline")


@settings(quiet, max_examples=30)
@given(programs)
def test_threads(bench: Bench, program: Program) -> None:
    """Promise 4: the same answer whatever the timing."""
    hold(program, bench, "threads")


@settings(quiet, max_examples=10)
@given(programs)
def test_foreign_threads(bench: Bench, program: Program) -> None:
    """Promise 4, in an executor that is not ours."""
    hold(program, bench, "foreign threads")


@pytest.mark.parametrize("seed", range(3))
def test_processes(bench: Bench, seed: int) -> None:
    """Promise 4, in processes."""
    hold(generate(Random(f"processes {seed}"), 6), bench, "processes")


@pytest.mark.parametrize("seed", range(20))
def test_the_interpreter_does_not_depend_on_its_order(bench: Bench, seed: int) -> None:
    """What the library is compared with is itself a function of program and data."""
    module, expected = bench.expect(generate(Random(f"order {seed}")))
    for number in range(3):
        other = interpret(module.PIPELINES, module.DATA, order=Random(number))
        assert expected.outcome.clock or other.clock or expected.outcome == other


# The long run


def main(count: int, first: int, executors: list[str]) -> int:
    sys.dont_write_bytecode = True
    folder = Path(tempfile.mkdtemp(prefix="cpgraph-random-"))
    bench, failing, started = Bench(folder), 0, time.monotonic()

    def tried(program: Program, executor: str, seed: int) -> list[str]:
        def late(*_: Any) -> None:
            raise TimeoutError("the run does not end")

        signal.signal(signal.SIGALRM, late)
        signal.alarm(60)
        try:
            return examine(program, bench, executor, seed)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return [f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)[-6:])]
        finally:
            signal.alarm(0)

    for seed in range(first, first + count):
        executor = executors[seed % len(executors)]
        program = generate(Random(seed), 4 + seed % 8)
        found = tried(program, executor, seed)
        if not found:
            continue
        failing += 1
        kind = found[0].split(":")[0].split()[0]

        def same(other: Program, executor: str = executor, seed: int = seed, kind: str = kind) -> bool:
            try:
                bench.expect(other)
            except Exception:
                return False
            lines = tried(other, executor, seed)
            return bool(lines) and lines[0].split(":")[0].split()[0] == kind

        program = smaller(program, same, 250)
        found = tried(program, executor, seed) or found
        print(
            f"\n=== seed {seed}, {executor}", *found, program.source().split("log.write(line.encode())")[1], sep="\n", flush=True
        )
    print(f"{count} programs from {first} in {', '.join(executors)}: {failing} failing, {time.monotonic() - started:.0f} s")
    shutil.rmtree(folder)
    return 1 if failing else 0


if __name__ == "__main__":
    number, start, *names = [*sys.argv[1:], *["1000", "0"][len(sys.argv) - 1 :]]
    sys.exit(main(int(number), int(start), names or ["inline", "threads"]))
