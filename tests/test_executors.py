"""What runs the calls: the same answer everywhere, nothing lost, nothing waited for that does not come."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import Executor as Pool
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from cpgraph.errors import CpgraphError, Retry
from cpgraph.events import ABSENT
from cpgraph.execute import STREAM, Call, Joined, Outcome, Target, pack
from cpgraph.executors import open_executor
from cpgraph.models import create, delete, model, result, update

PATIENCE = 60  # seconds after which a test gives up; never waited for when things are right


@model
class Order:
    id: int
    amount: str = "0"
    tags: object = ()


def target(function, **options):
    code = function.__code__
    options.setdefault("is_async", asyncio.iscoroutinefunction(function))
    return Target(function.__name__, function, code.co_varnames[: code.co_argcount], where=f"{__file__}:1", **options)


class Harness:
    """An executor and the queue it answers to."""

    def __init__(self, spec, width=None, targets=()):
        self.returned = SimpleQueue()
        self.executor = open_executor(spec, width, self.returned, targets)
        self.tokens = iter(range(1_000_000))

    def submit(self, function, *args, own=None, **options):
        token = next(self.tokens)
        step = function if isinstance(function, Target) else target(function, **options)
        self.executor.submit(Call(token, step, args, own))
        return token

    def take(self):
        return self.returned.get(timeout=PATIENCE)

    def outcome(self):
        while not isinstance(item := self.take(), Outcome):
            pass
        return item

    def run(self, function, *args, **options):
        token = self.submit(function, *args, **options)
        outcome = self.outcome()
        assert outcome.token == token
        return outcome

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.executor.close(wait=False)


class InlinePool(Pool):
    """The least that is an executor: it runs what it is given on the spot."""

    def submit(self, function, /, *args, **keywords):
        future = Future()
        try:
            future.set_result(function(*args, **keywords))
        except BaseException as error:
            future.set_exception(error)
        return future


def spawning():
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


# The same answer everywhere (promise 4)


class Awkward(Exception):
    """Takes more than one argument, so that pickle cannot make it again."""

    def __init__(self, code, text):
        self.code = code
        super().__init__(text)


class Mute(Exception):
    def __str__(self):
        raise ValueError


def total(rows, factor):
    rows.append(100)
    return [row * factor for row in rows]


def tag(record):
    record.tags.append("seen")
    return result(record.tags, update(tags=record.tags), create(Order(id=7)), delete(Order, 3))


def write():
    return [update(Order, 1, amount="5"), create(Order(id=2, tags=[1]), if_exists="keep")]


def alter(record):
    return Order(id=record.id, amount="9")


def generate():
    return (n for n in range(3))


def division(a):
    return 1 / a


def awkward():
    raise Awkward(4, "does not pickle")


def mute():
    raise Mute


def leave():
    raise SystemExit(3)


def again():
    raise Retry(2.5)


def local_class():
    class Local(ValueError):
        pass

    raise Local("made inside")


def lock():
    return update(Order, 1, tags=threading.Lock())


def by_name(totals):
    return totals


def progress(stream, n):
    state = {}
    for state["n"] in range(n):
        stream.push("progress", state)
    stream.push("bell")
    return n


ORDER = Order(id=1, tags=[])
PROGRAM = [
    (total, ([1, 2], 3), None),
    (total, (pack([1, 2]), 3), None),
    (tag, (ORDER,), ORDER),
    (write, (), None),
    (alter, (ORDER,), ORDER),
    (generate, (), None),
    (division, (0,), None),
    (awkward, (), None),
    (mute, (), None),
    (leave, (), None),
    (again, (), None),
    (local_class, (), None),
    (lock, (), None),
    (by_name, (Joined([pack([1]), pack("a")], [3, "3"]),), None),
    (progress, (STREAM, 3), None),
]


def seen(outcome):
    """What of an outcome has to be the same in all executors."""
    error = outcome.error
    try:
        text = str(error)
    except ValueError:
        text = "(none)"
    return {
        "error": error and (type(error).__name__, text, getattr(error, "code", None), getattr(error, "after", None)),
        "bases": [kind for kind in (ValueError, Awkward, Mute, Retry, SystemExit, CpgraphError) if isinstance(error, kind)],
        "value": outcome.value and (outcome.value.digest, outcome.value.load(), outcome.value.problem),
        "changes": outcome.changes,
        "shape": outcome.shape,
        "hints": outcome.hints,
        "place": outcome.place,
        "text": outcome.traceback.splitlines()[-1:],
    }


def answers(spec):
    targets = [target(function) for function, _, _ in PROGRAM]
    with Harness(spec, 1, targets) as harness:
        found = []
        for step, (_, args, own) in zip(targets, PROGRAM, strict=True):
            token = harness.submit(step, *args, own=own)
            pushed = []
            while not isinstance(item := harness.take(), Outcome):
                pushed.append(item)
            assert item.token == token
            found.append((seen(item), [(kind, name, payload) for kind, _, name, payload in pushed]))
        return found


@pytest.fixture(scope="module")
def inline():
    return answers("inline")


@pytest.mark.parametrize("spec", ["threads", "processes", InlinePool, lambda: ThreadPoolExecutor(1), spawning])
def test_every_executor_gives_the_same(spec, inline):
    if isinstance(spec, str):
        assert answers(spec) == inline
    else:
        with spec() as pool:
            assert answers(pool) == inline


def test_what_the_program_gives(inline):
    found = {function.__name__: (seen, pushed) for (function, _, _), (seen, pushed) in zip(PROGRAM, inline, strict=True)}
    assert found["total"][0]["value"][1] == [3, 6, 300]
    assert found["tag"][0]["changes"][0] == ("update", None, None, {"tags": ["seen"]})
    assert found["awkward"][0]["error"] == ("Awkward", "does not pickle", 4, None)
    assert found["again"][0]["error"][3] == 2.5
    assert found["leave"][0]["bases"] == [SystemExit]
    assert found["local_class"][0]["bases"] == [ValueError]
    assert found["progress"][1] == [("push", "progress", {"n": n}) for n in range(3)] + [("push", "bell", ABSENT)]
    assert ORDER.tags == []


# Inline


def test_inline_pushes_go_straight_on():
    pushed = []
    executor = open_executor("inline", None, returned := SimpleQueue(), (), lambda *push: pushed.append(push))
    executor.submit(Call(1, target(progress), (STREAM, 1)))
    assert pushed == [(1, "progress", {"n": 0}), (1, "bell", ABSENT)]
    assert returned.get_nowait().value.load() == 1


def test_inline_a_keyboard_interrupt_is_an_interruption():  # F2
    def step():
        raise KeyboardInterrupt

    with Harness("inline") as harness, pytest.raises(KeyboardInterrupt):
        harness.submit(step)


async def wait_a_turn(a):
    await asyncio.sleep(0)
    return [a]


def test_inline_runs_async_steps_also_inside_a_running_loop():  # R8
    async def notebook():
        with Harness("inline") as harness:
            return harness.run(wait_a_turn, 1).value.load()

    with Harness("inline") as harness:
        assert harness.run(wait_a_turn, 1).value.load() == [1]
        assert harness.run(wait_a_turn, 2).value.load() == [2]
    assert asyncio.run(notebook()) == [1]


# Threads


def test_threads_run_as_many_at_once_as_the_width_says_and_start_no_more_than_they_need():
    barrier = threading.Barrier(4)
    with Harness("threads", 4) as harness:
        harness.run(lambda: 1)
        assert len(harness.executor._seats) == 1
        for _ in range(4):
            harness.submit(lambda: barrier.wait(PATIENCE))
        assert sorted(harness.outcome().value.load() for _ in range(4)) == [0, 1, 2, 3]
        for n in range(20):
            harness.submit(lambda n: n, n)
        assert sorted(harness.outcome().value.load() for _ in range(20)) == list(range(20))
        assert len(harness.executor._seats) == 4


def test_a_thread_that_timed_out_no_longer_counts_and_is_replaced():  # F3
    begun, release = threading.Event(), threading.Event()

    def hang():
        begun.set()
        release.wait(PATIENCE)

    with Harness("threads", 1) as harness:
        token = harness.submit(hang)
        waiting = harness.submit(lambda: "next")
        assert begun.wait(PATIENCE)
        assert harness.executor.started(token) is not None
        assert harness.executor.started(waiting) is None
        harness.executor.abandon(token)
        assert harness.outcome().token == waiting
        assert harness.executor.hanging == 1
        left, _ = harness.executor._left[0]
        release.set()
        left.thread.join(PATIENCE)
        assert harness.executor.hanging == 0
        assert harness.run(lambda: "after").value.load() == "after"
        assert harness.returned.empty(), "what the abandoned call came to is dropped"


def test_what_has_not_begun_is_taken_back():
    begun, release = threading.Event(), threading.Event()

    def hold():
        begun.set()
        return release.wait(PATIENCE)

    with Harness("threads", 1) as harness:
        first = harness.submit(hold)
        assert begun.wait(PATIENCE)
        rest = [harness.submit(lambda: None) for _ in range(3)]
        assert harness.executor.recall() == rest
        release.set()
        assert harness.outcome().token == first
        harness.executor.close(wait=True)
        assert harness.returned.empty()


def test_closing_waits_for_what_runs():
    begun = threading.Event()

    def step():
        begun.set()
        return 1

    harness = Harness("threads", 2)
    harness.submit(step)
    begun.wait(PATIENCE)
    harness.executor.close(wait=True)
    assert harness.returned.get_nowait().value.load() == 1


HANGING = """
import threading, queue
from cpgraph.execute import Call, Target
from cpgraph.executors import open_executor
begun = threading.Event()
def hang():
    begun.set()
    threading.Event().wait()
async def block():
    begun.set()
    threading.Event().wait()
executor = open_executor({spec!r}, 1, queue.SimpleQueue())
executor.submit(Call(1, Target("hang", {function}, is_async={is_async})))
begun.wait()
executor.close(wait=False)
print("ended")
"""


@pytest.mark.parametrize(("spec", "function", "is_async"), [("threads", "hang", False), ("loop", "block", True)])
def test_a_step_that_hangs_does_not_keep_the_interpreter(spec, function, is_async):  # F3
    code = HANGING.format(spec=spec, function=function, is_async=is_async)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == "ended\n"


# The event loop


def test_async_steps_run_at_once_on_one_loop():
    loops = set()

    async def meet(n):
        loops.add(asyncio.get_running_loop())
        if len(waiting) == 99:
            for future in waiting:
                future.set_result(None)
        else:
            waiting.append(future := asyncio.get_running_loop().create_future())
            await future
        return n

    waiting = []
    with Harness("loop") as harness:
        for n in range(100):
            harness.submit(meet, n)
        assert sorted(harness.outcome().value.load() for _ in range(100)) == list(range(100))
    assert len(loops) == 1


def test_the_loop_runs_no_more_than_its_width():
    running, most = [], []

    async def step():
        running.append(1)
        most.append(len(running))
        await asyncio.sleep(0)
        running.pop()

    with Harness("loop", 3) as harness:
        for _ in range(20):
            harness.submit(step)
        assert all(harness.outcome().error is None for _ in range(20))
    assert max(most) == 3


def test_an_async_step_that_timed_out_is_cancelled():
    begun, cancelled = threading.Event(), threading.Event()

    async def hang():
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    with Harness("loop", 1) as harness:
        token = harness.submit(hang)
        assert begun.wait(PATIENCE)
        assert harness.executor.started(token) is not None
        harness.executor.abandon(token)
        assert cancelled.wait(PATIENCE)
        assert harness.run(wait_a_turn, 2).value.load() == [2]
        assert harness.executor.hanging == 0
        assert harness.returned.empty()


def test_a_step_that_blocks_the_loop_and_times_out_is_left_behind():
    begun, release = threading.Event(), threading.Event()

    async def block():
        begun.set()
        release.wait(PATIENCE)

    with Harness("loop") as harness:
        token = harness.submit(block)
        other = harness.submit(wait_a_turn, 1)
        assert begun.wait(PATIENCE)
        harness.executor.abandon(token)
        assert harness.outcome().token == other
        assert harness.executor.hanging == 1
        left, _ = harness.executor._left[0]
        release.set()
        left.thread.join(PATIENCE)
        assert harness.executor.hanging == 0
        assert harness.returned.empty()


def test_a_task_that_exits_ends_neither_the_loop_nor_other_steps():
    async def child():
        raise SystemExit

    async def step():
        await asyncio.gather(asyncio.create_task(child()))

    with Harness("loop") as harness:
        assert type(harness.run(step).error) is SystemExit
        assert harness.run(wait_a_turn, 1).value.load() == [1]


def test_tasks_that_a_step_leaves_behind_end_with_the_loop():
    ended = threading.Event()

    async def forever():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    async def step():
        step.task = asyncio.create_task(forever())
        await asyncio.sleep(0)

    with Harness("loop") as harness:
        harness.run(step)
        harness.executor.close(wait=True)
    assert ended.is_set()


def test_async_pushes_and_waiting_calls_are_taken_back():
    begun, release = threading.Event(), []

    async def hold(stream):
        stream.push("progress", 1)
        release.append((asyncio.get_running_loop(), future := asyncio.get_running_loop().create_future()))
        begun.set()
        await future

    with Harness("loop", 1) as harness:
        token = harness.submit(hold, STREAM)
        rest = [harness.submit(wait_a_turn, n) for n in range(3)]
        assert begun.wait(PATIENCE)
        assert harness.take() == ("push", token, "progress", 1)
        assert sorted(harness.executor.recall()) == rest
        loop, future = release[0]
        loop.call_soon_threadsafe(future.set_result, None)
        assert harness.outcome().token == token


# Any concurrent.futures.Executor


def test_a_pool_in_this_process_calls_the_function_as_it_is():
    kept = []

    def step(n, stream):
        stream.push("progress", n)
        kept.append(n)
        return n

    for pool in (ThreadPoolExecutor(1), InlinePool()):
        with pool, Harness(pool) as harness:
            token = harness.submit(step, 1, STREAM)
            assert harness.take() == ("push", token, "progress", 1)
            assert harness.outcome().value.load() == 1
    assert kept == [1, 1]


def test_a_pool_of_processes_gets_local_functions_by_value():
    factor = [3]

    def step(n):
        return n * factor[0]

    with spawning() as pool, Harness(pool, targets=[target(step)]) as harness:
        assert harness.run(step, 2).value.load() == 6
        assert harness.run(lambda n: n + 1, 2).value.load() == 3
        failure = harness.run(lambda n: n / 0, 2)
        assert failure.place.startswith(__file__ + ":")
        assert "harness.run(lambda n: n / 0, 2)" in failure.traceback


def test_what_does_not_pickle_names_the_argument():
    def give(handle):
        return handle

    step = target(give)
    for spec in ("processes", spawning()):
        with Harness(spec, targets=[step]) as harness:
            outcome = harness.run(step, threading.Lock())
            assert "'handle'" in str(outcome.error)
            assert "Mend:" in str(outcome.error)
            assert harness.run(step, 1).value.load() == 1
        if not isinstance(spec, str):
            spec.shutdown()


def die():
    os._exit(3)


def test_a_pool_that_breaks_is_an_error_of_its_nodes():
    with spawning() as pool, Harness(pool) as harness:
        for _ in range(2):  # the second submit raises
            outcome = harness.run(die)
            assert "ProcessPoolExecutor did not run step 'die'" in str(outcome.error)
            assert "BrokenProcessPool" in outcome.traceback


def test_a_pool_that_refuses_is_an_error_of_the_node():
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with Harness(pool) as harness:
        outcome = harness.run(lambda: 1)
        assert "cannot schedule new futures" in str(outcome.error)


def test_a_pool_is_given_up_and_taken_back_from():
    begun, release = threading.Event(), threading.Event()

    def hang():
        begun.set()
        release.wait(PATIENCE)

    with ThreadPoolExecutor(1) as pool, Harness(pool) as harness:
        token = harness.submit(hang)
        rest = [harness.submit(lambda: None) for _ in range(2)]
        assert begun.wait(PATIENCE)
        assert harness.executor.started(token) is not None
        assert harness.executor.started(rest[0]) is None
        harness.executor.abandon(token)
        assert harness.executor.hanging == 1
        assert harness.executor.recall() == rest
        release.set()
        assert harness.run(lambda: "after").value.load() == "after"
        assert harness.executor.hanging == 0
        assert harness.returned.empty()


# Opening


def test_an_unknown_executor_is_refused():
    for spec in ("thread", 5):
        with pytest.raises(CpgraphError, match="is not known"):
            open_executor(spec, None, SimpleQueue())


def test_defaults():  # E6
    returned = SimpleQueue()
    assert open_executor("threads", None, returned).width == 32
    assert open_executor("loop", None, returned).width == 1_000
    assert open_executor("processes", None, returned).width >= 1
    with ThreadPoolExecutor(5) as pool:
        assert open_executor(pool, None, returned).width == 5
        assert open_executor(pool, 3, returned).width == 3
