"""Worker processes: what travels to them, what comes back, and what happens when one of them, or the run itself, dies."""

import os
import signal
import subprocess
import sys
from queue import SimpleQueue
from textwrap import dedent

import pytest

from cpgraph.execute import STREAM, Call, Outcome, Target
from cpgraph.processes import Processes

PATIENCE = 60  # seconds after which a test gives up; never waited for when things are right


def target(function):
    code = function.__code__
    return Target(function.__name__, function, code.co_varnames[: code.co_argcount], where="orders.py:1")


class Harness:
    def __init__(self, width, *functions):
        self.returned = SimpleQueue()
        self.targets = {function: target(function) for function in functions}
        self.executor = Processes(width, self.returned, list(self.targets.values()))

    def submit(self, token, function, *args):
        self.executor.submit(Call(token, self.targets[function], args))

    def outcome(self):
        while not isinstance(item := self.returned.get(timeout=PATIENCE), Outcome):
            pass
        return item

    def outcomes(self, count):
        return {outcome.token: outcome for outcome in (self.outcome() for _ in range(count))}

    def warm(self, function, *args):
        """Let the executor learn that the step is fast, so that several of its calls go together."""
        for token in range(8):
            self.submit(-token, function, *args)
        self.outcomes(8)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.executor.close(wait=False)


def double(n):
    if n == 13:
        os._exit(3)
    if n == 14:
        os.kill(os.getpid(), signal.SIGKILL)
    return n * 2


def hold(path):
    """Wait until somebody writes to a named pipe."""
    if path:
        with open(path) as pipe:
            return pipe.read()
    return ""


def push_and_hold(path, stream):
    stream.push("progress", os.getpid())
    return hold(path)


def whoami():
    return os.getpid()


def measure(data):
    return data[:10], data


@pytest.fixture
def pipe(tmp_path):
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    return path


def release(path):
    with open(path, "w") as pipe:
        pipe.write("released")


# Death of a worker


def test_a_worker_that_dies_is_a_failure_of_its_node_alone():
    with Harness(2, double) as harness:
        harness.warm(double, 1)
        for n in range(1, 41):
            harness.submit(n, double, n)
        ended = harness.outcomes(40)
    failed = {n for n, outcome in ended.items() if outcome.error}
    assert failed == {13, 14}
    assert {n: ended[n].value.load() for n in ended if n not in failed} == {n: n * 2 for n in ended if n not in failed}
    assert "worker died: it ended with exit status 3 while it ran step 'double'" in str(ended[13].error)
    assert "signal 9 (SIGKILL)" in str(ended[14].error)
    assert "Mend:" in ended[14].traceback


def test_a_worker_that_dies_between_calls_is_replaced_and_nobody_pays():
    with Harness(1, whoami) as harness:
        harness.submit(1, whoami)
        first = harness.outcome().value.load()
        os.kill(first, signal.SIGKILL)
        harness.executor._seats[0].process.join(PATIENCE)
        harness.submit(2, whoami)
        assert harness.outcome().value.load() != first


def test_a_call_that_timed_out_is_killed_and_no_other_pays(pipe):
    with Harness(1, hold) as harness:
        harness.warm(hold, "")
        harness.submit(1, hold, pipe)
        for token in range(2, 6):
            harness.submit(token, hold, "")
        hands = harness.executor._seats[0]
        with open(pipe, "w"):  # it is in the step
            assert harness.executor.started(5) is None
            harness.executor.abandon(1)
            assert sorted(harness.outcomes(4)) == [2, 3, 4, 5]
        assert harness.executor.hanging == 0
        assert hands.calls == {}
        harness.submit(6, hold, "")
        assert harness.outcome().token == 6
        assert harness.returned.empty()


def test_what_has_not_begun_is_taken_back(pipe):
    with Harness(1, hold) as harness:
        harness.submit(1, hold, pipe)
        with open(pipe, "w") as writer:
            assert harness.executor.started(1) is not None
            for token in (2, 3):
                harness.submit(token, hold, "")
            assert harness.executor.recall() == [2, 3]
            writer.write("x")
        assert harness.outcome().value.load() == "x"


# Going together


def test_calls_that_go_together_with_one_that_takes_long_are_given_to_others(pipe):
    with Harness(2, hold) as harness:
        harness.warm(hold, "")
        for token in range(1, 101):
            harness.submit(token, hold, pipe if token == 3 else "")
        others = harness.outcomes(99)
        assert sorted(others) == [token for token in range(1, 101) if token != 3]
        assert harness.executor.started(3) is not None
        release(pipe)
        assert harness.outcome().value.load() == "released"


def test_many_fast_calls():
    with Harness(2, double) as harness:
        for n in range(2_000):
            harness.submit(n, double, n + 100)
        ended = harness.outcomes(2_000)
        assert all(ended[n].value.load() == (n + 100) * 2 for n in range(2_000))


def test_large_values_both_ways():
    data = b"0123456789" * 1_000_000
    with Harness(1, measure) as harness:
        harness.submit(1, measure, data)
        assert harness.outcome().value.load() == (b"0123456789", data)


# While it runs


def test_pushes_arrive_while_the_step_runs(pipe):
    with Harness(1, push_and_hold) as harness:
        harness.submit(1, push_and_hold, pipe, STREAM)
        kind, token, name, worker = harness.returned.get(timeout=PATIENCE)
        assert (kind, token, name) == ("push", 1, "progress")
        os.kill(worker, signal.SIGINT)  # as a Ctrl-C at the terminal does; it is for the run to see
        release(pipe)
        assert harness.outcome().value.load() == "released"


def test_closing_ends_the_workers():
    harness = Harness(2, whoami)
    for token in range(4):
        harness.submit(token, whoami)
    workers = {outcome.value.load() for outcome in harness.outcomes(4).values()}
    harness.executor.close(wait=True)
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_closing_at_once_ends_what_runs(pipe):
    harness = Harness(1, hold)
    harness.submit(1, hold, pipe)
    with open(pipe, "w"):
        harness.executor.close(wait=False)
    assert harness.returned.empty()


# Scripts: what is imported, under which name, and what is told when it is not the same

PREFACE = """
import os, queue, re, sys, threading
from pathlib import Path
from cpgraph.execute import Call, Outcome, Target, perform
from cpgraph.executors import open_executor
from cpgraph.fingerprint import Fingerprinter
from cpgraph.models import model

fingerprinter = Fingerprinter()

def target(function, *names):
    found = fingerprinter.fingerprint(function)
    parts = frozenset(part.digest for part in found.parts)
    return Target(function.__name__, function, names, fingerprint=found.digest, parts=parts, where="orders.py:1")

def run(spec, step, *args):
    returned = queue.SimpleQueue()
    executor = open_executor(spec, 1, returned, [step])
    executor.submit(Call(1, step, args))
    outcome = returned.get()
    executor.close(True)
    return outcome

@model
class Order:
    id: int
"""


def script(tmp_path, text, *, notebook=False, modules=None, check=True):
    """Run a script, or the same without a file, as in a notebook; give what it printed."""
    for name, source in (modules or {}).items():
        (tmp_path / f"{name}.py").write_text(dedent(source))
    path = tmp_path / "orders.py"
    path.write_text(PREFACE + dedent(text))
    command = [sys.executable, "-c", path.read_text()] if notebook else [sys.executable, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=tmp_path, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout if check else done


SAME = """
def make(order):
    print("made", type(order).__module__, flush=True)
    return [order, Order(id=order.id + 1)]

if __name__ == "__main__":
    step = target(make, "order")
    here = perform(Call(1, step, (Order(id=1),)), None)
    for spec in ("processes", POOL):
        there = run(spec, step, Order(id=1))
        assert there.error is None, there.traceback
        assert there.value.digest == here.value.digest
        assert there.value.load() == [Order(id=1), Order(id=2)]
    print("same")
    if not isinstance(POOL, str):
        POOL.shutdown()
"""


@pytest.mark.parametrize("notebook", [False, True], ids=["script", "notebook"])
def test_what_the_script_defines_has_one_name_in_all_processes(tmp_path, notebook):  # K1
    pool = """
        import concurrent.futures, multiprocessing
        POOL = "threads"
        if __name__ == "__main__":
            POOL = concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    """
    printed = script(tmp_path, dedent(pool) + SAME, notebook=notebook).split("\n")
    assert printed[0] == "made __main__"
    assert [line for line in printed if line.startswith("made")][1:] == ["made __main__" if notebook else "made __mp_main__"] * 2
    assert "same" in printed


def test_a_step_whose_file_was_edited_while_the_run_goes_on_is_refused(tmp_path):  # K2
    printed = script(
        tmp_path,
        """
        import helper

        def step(n):
            return helper.add(n)

        if __name__ == "__main__":
            by_name, by_value = target(step, "n"), target(lambda n: helper.add(n), "n")
            for call in (by_name, by_value):
                assert run("processes", call, 1).value.load() == 2
            Path("helper.py").write_text("def add(n):\\n    return n + 20\\n")
            for call in (by_name, by_value):
                print(run("processes", call, 1).error)
        """,
        modules={"helper": "def add(n):\n    return n + 1\n"},
    )
    assert "step 'step' was edited while the run went on" in printed
    assert "step '<lambda>' was edited while the run went on" in printed
    assert printed.count("helper:add") == 2
    assert "go on with `resume`" in printed


def test_module_state_set_outside_of_the_import_is_refused(tmp_path):  # K2
    printed = script(
        tmp_path,
        """
        SETTINGS = {"factor": 1}

        def step(n):
            return n * SETTINGS["factor"]

        if __name__ == "__main__":
            SETTINGS["factor"] = 2
            print(run("processes", target(step, "n"), 1).error)
        """,
    )
    assert "other module state" in printed
    assert "SETTINGS" in printed
    assert "make it a parameter" in printed


def test_a_step_that_is_gone_from_its_file_is_told(tmp_path):  # K2
    printed = script(
        tmp_path,
        """
        import helper

        if __name__ == "__main__":
            step = target(helper.add, "n")
            Path("helper.py").write_text("")
            print(run("processes", step, 1).error)
        """,
        modules={"helper": "def add(n):\n    return n + 1\n"},
    )
    assert "is not found in the process" in printed
    assert "helper:add" in printed


def test_state_that_the_run_itself_alters_is_compared_before_that(tmp_path):  # K2, V6
    printed = script(
        tmp_path,
        """
        SEEN = {}

        def first(n):
            SEEN[n] = True
            return len(SEEN)

        def second(n):
            return len(SEEN) + n

        if __name__ == "__main__":
            steps = [target(first, "n"), target(second, "n")]
            returned = queue.SimpleQueue()
            executor = open_executor("processes", 1, returned, steps)
            for token, step in enumerate(steps):
                executor.submit(Call(token, step, (5,)))
            print([returned.get().value.load() for _ in steps])
            executor.close(True)
        """,
    )
    assert printed == "[1, 6]\n"


def test_a_script_without_a_guard_is_told(tmp_path):
    done = script(
        tmp_path,
        """
        def step(n):
            return n

        print(run("processes", target(step, "n"), 1).error)
        """,
        check=False,
    )
    assert done.returncode == 0
    assert "before it was ready" in done.stdout
    assert 'if __name__ == "__main__":' in done.stdout
    assert "comes upon a run in it" in done.stderr


def test_a_run_that_forgets_its_workers_ends_all_the_same(tmp_path):
    printed = script(
        tmp_path,
        """
        def step(n):
            threading.Event().wait() if n else None
            return n

        if __name__ == "__main__":
            returned = queue.SimpleQueue()
            executor = open_executor("processes", 2, returned, [step := target(step, "n")])
            executor.submit(Call(1, step, (0,)))
            returned.get()
            executor.submit(Call(2, step, (1,)))
            print("end")
        """,
    )
    assert printed == "end\n"


DEATH = """
import signal

def waits(n):
    print("in the step", flush=True)
    threading.Event().wait()

def holds_the_interpreter(n):
    print("in the step", flush=True)
    re.match(r"(a|a)*$", "a" * 60 + "b")

if __name__ == "__main__":
    step = target({step}, "n")
    executor = open_executor("processes", 1, queue.SimpleQueue(), [step])
    executor.submit(Call(1, step, (1,)))
    threading.Event().wait()
"""


@pytest.mark.parametrize(
    "step",
    ["waits", pytest.param("holds_the_interpreter", marks=pytest.mark.skipif(sys.platform != "linux", reason="needs O_ASYNC"))],
)
def test_workers_end_with_their_parent_also_in_the_middle_of_a_step(tmp_path, step):  # S5
    path = tmp_path / "orders.py"
    path.write_text(PREFACE + DEATH.format(step=step))
    parent = subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert parent.stdout.readline() == "in the step\n"
    parent.kill()
    rest, _ = parent.communicate(timeout=PATIENCE)  # the worker has the other end, too: this is over when it is
    assert rest == ""
