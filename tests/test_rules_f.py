"""Rules F: failures. What they stop, what they leave alone, and what is said of them."""

import asyncio
import os
import subprocess
import sys
import threading
import time

import pytest
from scripts import KILLED, Script

import cpgraph as cp

EXECUTORS = ["threads", "processes", "inline"]


@cp.model
class Row:
    id: int
    text: str = "1"


@cp.model
class Part:
    id: str
    row: int = 0


def rows(*ids, **fields):
    return [Row(id=id, **fields) for id in ids]


def ends(run, step):
    """How the nodes of a step ended, by ids."""
    return {node.key[0] if len(node.key) == 1 else node.key: node.ended for node in run.nodes if node.step == step}


def fail_2(id: int) -> int:
    if id == 2:
        raise ValueError("edge-case")
    return id


def go_on(fail_2: int) -> int:
    return fail_2 * 10


def total(go_on: list[int]) -> int:
    return sum(go_on)


def beside() -> str:
    return "untouched"


def after(beside: str) -> str:
    return beside


# F1: what a failure stops


@pytest.mark.parametrize("executor", EXECUTORS)
def test_f1_isolate_stops_the_record_and_what_joins_it(tmp_path, executor):
    """A failed record stops alone, the others go on, what joins after it is blocked, what stands beside it goes on."""
    graph = cp.Graph(cp.pipeline(cp.pipeline(fail_2, go_on, each=Row), total), cp.pipeline(beside, after))
    run = graph.run(rows(1, 2, 3), dir=tmp_path, executor=executor)
    assert run.status == "failed" and not run.ok and not bool(run)
    assert run.counts == {
        "fail_2": {"computed": 2, "failed": 1},
        "go_on": {"computed": 2, "blocked": 1},
        "total": {"blocked": 1},
        "beside": {"computed": 1},
        "after": {"computed": 1},
    }
    assert ends(run, "go_on") == {1: "computed", 2: "blocked", 3: "computed"}
    with pytest.raises(cp.NoValue, match="blocked"):
        run.value(total)
    assert "fail_2[2]" in run.why("total") and "fail_2[2]" in run.why("go_on", 2)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_f1_skip_contains_a_failure_and_the_run_is_still_not_ok(tmp_path, executor, capsys):
    """The join goes on without it, and says so; summed up as skipped as asked."""
    graph = cp.Graph(cp.pipeline(cp.pipeline(fail_2, go_on, each=Row, on_error="skip", name="records"), total, after), beside)
    run = graph.run(rows(1, 2, 3), dir=tmp_path, executor=executor)
    assert run.status == "failed" and run.value(total) == 40 and run.value(after) == "untouched"
    assert [failure.node for failure in run.failures] == ["fail_2[2]"]
    said = capsys.readouterr().err
    assert "skipped as asked: 1 of records" in said
    told = [hint for hint in run.hints if hint.kind == "joined-fewer"]
    assert "2 of 3" in told[0].text


def test_f1_after_a_skip_a_step_that_asks_for_a_single_missing_value_is_blocked(tmp_path):
    """One that does not ask for it goes on."""

    def bad() -> int:
        raise ValueError

    def needs(bad: int) -> int:
        return bad

    def waits() -> int:
        return 1

    graph = cp.Graph(cp.pipeline(cp.pipeline(bad, on_error="skip"), [needs, waits]))
    run = graph.run(dir=tmp_path)
    assert run.counts == {"bad": {"failed": 1}, "needs": {"blocked": 1}, "waits": {"computed": 1}} and not run.ok


def test_f1_a_pipeline_without_each_is_one_instance(tmp_path):
    """So what is beside a failure in it goes on; what comes after it is blocked."""

    def bad() -> int:
        raise ValueError

    def good() -> int:
        return 1

    def join() -> int:
        return 2

    def elsewhere() -> int:
        return 3

    run = cp.Graph(cp.pipeline(cp.pipeline([bad, good]), join), elsewhere).run(dir=tmp_path)
    assert run.counts == {
        "bad": {"failed": 1}, "good": {"computed": 1}, "join": {"blocked": 1}, "elsewhere": {"computed": 1},
    }  # fmt: skip


@pytest.mark.parametrize("where", ["inner", "outer", "nowhere"])
def test_f1_a_failure_fails_the_enclosing_instances_until_a_skip_contains_it(tmp_path, where):
    """Nested: of outer record 1 one inner item fails."""

    def inner(id: int, n: int) -> int:
        if (id, n) == (1, 2):
            raise ValueError
        return n

    def sums(inner: list[int]) -> int:
        return sum(inner)

    def all_of(sums: dict) -> dict:
        return sums

    skip = {"inner": ["skip", "isolate"], "outer": ["isolate", "skip"], "nowhere": ["isolate", "isolate"]}[where]
    graph = cp.Graph(
        cp.pipeline(
            cp.pipeline(cp.pipeline(inner, each={"n": [1, 2, 3]}, on_error=skip[0]), sums, each=Row, on_error=skip[1]), all_of
        )
    )
    run = graph.run(rows(1, 2), dir=tmp_path)
    assert not run.ok and run.counts["inner"] == {"computed": 5, "failed": 1}
    assert run.values(sums) == ({1: 4, 2: 6} if where == "inner" else {2: 6})
    assert ends(run, "sums") == {1: "computed" if where == "inner" else "blocked", 2: "computed"}
    expected = {"inner": {1: 4, 2: 6}, "outer": {2: 6}, "nowhere": None}[where]
    assert run.value(all_of, default=None) == expected


@pytest.mark.parametrize("executor", ["threads", "inline"])
def test_f1_stop_starts_no_further_record_and_lets_started_ones_finish(tmp_path, executor):
    """Instances of which no node has started end as blocked."""
    failed, log = threading.Event(), []

    def work(id: int) -> int:
        log.append(("work", id))
        if id == 2:
            failed.set()
            raise ValueError
        if executor == "threads":
            failed.wait(60)
        return id

    def more(work: int) -> int:
        log.append(("more", work))
        return work

    graph = cp.Graph(cp.pipeline(work, more, each=Row, on_error="stop"))
    run = graph.run(rows(*range(1, 11)), dir=tmp_path, executor=executor, concurrency=2)
    begun = [id for step, id in log if step == "work"]
    assert 2 in begun and len(begun) < 10 and not run.ok
    assert sorted(id for step, id in log if step == "more") == sorted(set(begun) - {2}), "what was started finished"
    assert [id for id, end in ends(run, "work").items() if end == "blocked"] == sorted(set(range(1, 11)) - set(begun))
    assert "stopped" in run.why("work", 10)
    again = graph.resume(dir=tmp_path, executor=executor)
    assert not again.ok and ends(again, "work")[2] == "failed"


def test_f1_exit_status_is_1_whatever_on_error_says(tmp_path):
    """Also where every failure was skipped as asked."""
    for number, how in enumerate(("isolate", "skip", "stop")):
        script = Script(
            tmp_path / str(number),
            f"""
            def work(n: int) -> int:
                return 1 // n
            graph = cp.Graph(cp.pipeline(work, each={{"n": [1, 0]}}, on_error="{how}"))
            """,
        )
        done = script.command("run", "job.py", status=1)
        assert ("skipped as asked" in done.err) == (how == "skip") and "ZeroDivisionError" in done.err
        assert script.command("run", "job.py", "--json", status=1).answer["ok"] is False


# F2: whatever a step raises


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class Awkward(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code = code


class Base(BaseException):
    pass


def exits() -> int:
    raise SystemExit(3)


def hard() -> int:
    sys.exit("leaving")


def base() -> int:
    raise Base("of its own")


def generator_exit() -> int:
    raise GeneratorExit


def mute() -> int:
    raise Mute


def awkward() -> int:
    raise Awkward(7, "two arguments")


def locked() -> int:
    error = ValueError("holds a lock")
    error.lock = threading.Lock()
    raise error


def long() -> int:
    raise ValueError("begin" + "x" * 1_000_000 + "end")


def grouped() -> int:
    raise ExceptionGroup("several", [ValueError(1), KeyError(2)])


def caused() -> int:
    try:
        {}["missing"]
    except KeyError as error:
        raise ValueError("told") from error


def deep() -> int:
    return deep()


def interrupts() -> int:
    raise KeyboardInterrupt


def fine() -> int:
    return 1


RAISING = [exits, hard, base, generator_exit, mute, awkward, locked, long, grouped, caused, deep]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_f2_whatever_a_step_raises_fails_its_node_alone(tmp_path, executor):
    """`SystemExit` and other `BaseException`s too; their text and type are told, as far as they can be had."""
    steps = RAISING if executor == "inline" else [*RAISING, interrupts]
    run = cp.Graph(*steps, fine).run(dir=tmp_path, executor=executor)
    assert run.status == "failed" and run.value(fine) == 1
    found = {failure.step: failure for failure in run.failures}
    assert set(found) == {step.__name__ for step in steps}
    types = {name: type(failure.error).__name__ for name, failure in found.items()}
    assert types["exits"] == "SystemExit" and types["base"] == "Base" and types["grouped"] == "ExceptionGroup"
    assert types["deep"] == "RecursionError" and types["mute"] == "Mute" and types["awkward"] == "Awkward"
    assert "leaving" in str(found["hard"].error) and "two arguments" in str(found["awkward"].error)
    assert "holds a lock" in str(found["locked"].error)
    assert isinstance(found["awkward"].error, Exception) and "in awkward" in found["awkward"].traceback
    assert "KeyError" in found["caused"].traceback and "direct cause" in found["caused"].traceback
    (again,) = cp.runs(tmp_path)
    kept = {failure.step: failure for failure in again.failures}
    assert kept["mute"].kind == "Mute" and type(kept["mute"].error).__name__ == "Mute"
    assert len(str(kept["long"].error)) < 12_000 and str(kept["long"].error).startswith("begin")
    assert str(kept["long"].error).endswith("end")
    with pytest.raises(ExceptionGroup) as group:
        run.raise_for_failures()
    assert len(group.value.exceptions) == len(steps)


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_f2_a_keyboard_interrupt_that_a_step_raises_is_its_own(tmp_path, executor):
    """Only a signal interrupts the run."""
    run = cp.Graph(interrupts, fine).run(dir=tmp_path, executor=executor)
    assert run.status == "failed" and run.counts == {"interrupts": {"failed": 1}, "fine": {"computed": 1}}


def test_f2_a_keyboard_interrupt_under_inline_counts_as_a_signal(tmp_path):
    """The run is interrupted, and goes on by resume."""
    again = []

    def maybe() -> int:
        if not again:
            raise KeyboardInterrupt
        return 5

    graph = cp.Graph(cp.pipeline(fine, cp.alias(maybe, "maybe", version="1")))
    run = graph.run(dir=tmp_path, executor="inline")
    assert run.status == "interrupted"
    again.append(1)
    resumed = graph.resume(dir=tmp_path, executor="inline")
    assert resumed.ok and resumed.value("maybe") == 5 and resumed.counts["fine"] == {"cached": 1}


INTERRUPTED = """
    from cpgraph.events import NodeEnded
    @cp.model
    class Row:
        id: int
    def work(id: int) -> int:
        note("work", id)
        if id >= 3 and "HANG" in os.environ:
            open("pipe").close()
        return id
    def total(work: list[int]) -> int:
        note("total")
        return sum(work)
    graph = cp.Graph(cp.pipeline(cp.pipeline(work, each=Row), total), data=lambda: [Row(id=n) for n in range(6)])
    def main():
        stream, seen = cp.Stream(), []
        @stream.on(NodeEnded)
        def ended(event):
            seen.append(event.node)
            if len(seen) == 3 and "HANG" in os.environ:
                os.kill(os.getpid(), signal.SIGINT)
                if os.environ["HANG"] == "twice":
                    os.kill(os.getpid(), signal.SIGINT)
                else:
                    threading.Thread(target=lambda: open("pipe", "w").close()).start()
        run = getattr(graph, sys.argv[1])(executor=sys.argv[2], concurrency=1, stream=stream)
        print(run.status, run.value(total, default=None), sorted(run.values(work)))
    if __name__ == "__main__":
        main()
    """


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_f2_one_signal_ends_the_run_cleanly(tmp_path, executor):
    """What runs ends and is kept, nothing more is started, and it is said how to go on (promise 14)."""
    os.mkfifo(tmp_path / "pipe")
    script = Script(tmp_path, INTERRUPTED)
    done = script.run("run", executor, HANG="once")
    assert done.out == "interrupted None [0, 1, 2, 3]\n" and sorted(set(done.log)) == [f"work {n}" for n in range(4)]
    assert "resume" in done.err and done.last.startswith("interrupted: 4 computed") and "Traceback" not in done.err
    done = script.run("resume", executor)
    assert done.out == "ok 15 [0, 1, 2, 3, 4, 5]\n" and done.log == ["work 4", "work 5", "total"]


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_f2_two_signals_end_it_at_once(tmp_path, executor):
    """What runs is left behind; what was reported is kept."""
    os.mkfifo(tmp_path / "pipe")
    script = Script(tmp_path, INTERRUPTED)
    done = script.run("run", executor, HANG="twice")
    assert done.out == "interrupted None [0, 1, 2]\n"
    assert script.run("resume", executor).log == ["work 3", "work 4", "work 5", "total"]


def test_f2_the_command_gives_130_when_interrupted(tmp_path):
    """By the same signal; what is suggested repeats what was asked."""
    script = Script(
        tmp_path,
        """
        def one() -> int:
            os.kill(os.getpid(), signal.SIGINT)
            return 1
        def two(one: int, key) -> int:
            return 2
        graph = cp.Graph(cp.pipeline(one, two), params=["key"])
        """,
    )
    done = script.command("run", "job.py", "--set", "key=a b", "--dir", "kept", status=130)
    assert "cpgraph resume job.py" in done.err and "--dir kept" in done.err and "--set 'key=a b'" in done.err
    assert cp.runs(tmp_path / "kept")[-1].status == "interrupted"


# F3: again, and time


@pytest.mark.parametrize("executor", EXECUTORS)
def test_f3_retries_and_what_they_are_for(tmp_path, executor):
    """An `AssertionError` is not tried again unless named; `attempts` counts the calls."""
    script_log = tmp_path / "log"
    graph = cp.Graph(
        *(
            cp.alias(step, step.__name__, retries=2, **options)
            for step, options in [
                (value_error, {}),
                (assertion, {}),
                (named, {"retry_on": (AssertionError,)}),
                (other, {"retry_on": KeyError}),
            ]
        ),
        params=["log"],
    )
    run = graph.run(dir=tmp_path / "d", executor=executor, params={"log": str(script_log)})
    assert {failure.step: failure.attempts for failure in run.failures} == {
        "value_error": 3, "assertion": 1, "named": 3, "other": 1,
    }  # fmt: skip
    assert sorted(script_log.read_text().split()) == ["assertion", *["named"] * 3, "other", *["value_error"] * 3]


def _said(log, word):
    with open(log, "a") as file:
        print(word, file=file)


def value_error(log) -> int:
    _said(log, "value_error")
    raise ValueError


def assertion(log) -> int:
    _said(log, "assertion")
    raise AssertionError("not so")


def named(log) -> int:
    _said(log, "named")
    raise AssertionError


def other(log) -> int:
    _said(log, "other")
    raise ValueError


def test_f3_a_step_that_succeeds_at_last_is_computed(tmp_path):
    """And is no failure; the pushes of each attempt are there."""
    tries = []

    @cp.step(retries=5, version="1")
    def flaky(stream) -> int:
        tries.append(1)
        stream.push("try", len(tries))
        if len(tries) < 3:
            raise ConnectionError
        return len(tries)

    stream, seen = cp.Stream(), []
    stream.on("try")(seen.append)
    run = cp.Graph(flaky).run(dir=tmp_path, stream=stream)
    assert run.ok and run.value(flaky) == 3 and seen == [1, 2, 3] and not run.failures


def test_f3_retry_asks_for_another_call(tmp_path):
    """`raise cp.Retry(after=…)`, also without retries=; with retries= so often and no more."""
    tries = []

    @cp.step(version="1")
    def flaky() -> int:
        tries.append(1)
        if len(tries) < 4:
            raise cp.Retry(after=0.001)
        return len(tries)

    assert cp.Graph(flaky).run(dir=tmp_path).value(flaky) == 4
    count = []

    @cp.step(retries=2, version="1")
    def never() -> int:
        count.append(1)
        raise cp.Retry

    run = cp.Graph(never).run(dir=tmp_path)
    assert len(count) == 3 and run.failures[0].attempts == 3 and "Retry" in run.failures[0].kind
    assert "1 × Retry: gave up after 3 attempts: retry after 0 s at " in str(run.failures)


def test_f3_backoff_waits_longer_each_time_and_holds_up_nobody_else(tmp_path):
    """A step that waits to be tried again leaves its thread to others."""
    order = []
    done = threading.Event()

    @cp.step(retries=1, backoff=1e-6, version="1")
    def waits() -> int:
        order.append("waits")
        if len(order) == 1:
            raise ValueError
        assert done.wait(60)
        return 1

    @cp.step(version="1")
    def free() -> int:
        done.set()
        return 1

    assert cp.Graph(waits, free).run(dir=tmp_path, concurrency=2).ok and order == ["waits", "waits"]


@pytest.mark.parametrize("option", ["timeout", "backoff"])
def test_f3_no_clock_waits_for_ever(option):
    with pytest.raises(cp.CompileError, match=option):
        cp.step(lambda: 1, **{option: float("inf")})


def test_f4_a_long_chain_of_causes_keeps_text_and_place(tmp_path):
    def deep():
        error = ValueError("first")
        for n in range(3_000):
            other = ValueError(str(n))
            other.__cause__ = error
            error = other
        raise error

    (failure,) = cp.Graph(deep).run(dir=tmp_path).failures
    assert "test_rules_f.py" in failure.place and "2999" in failure.traceback and "characters left out" in failure.traceback


def test_f3_inline_an_async_step_times_out_and_of_a_plain_one_it_is_told_that_it_cannot(tmp_path):
    @cp.step(timeout=0.1, retries=1)
    async def waits(n):
        if n == 1:
            await asyncio.sleep(600)
        return n

    @cp.step(timeout=60)
    def plain(waits):
        return waits

    graph = cp.Graph(cp.pipeline(waits, plain, each={"n": [1, 2, 3]}))
    run = graph.run(dir=tmp_path, executor="inline")
    (failure,) = run.failures
    assert failure.node == "waits[1]" and type(failure.error) is TimeoutError and failure.attempts == 2
    assert run.values(plain) == {2: 2, 3: 3}
    assert [hint.text.split()[0] for hint in run.hints if hint.kind == "no-timeout"] == ["plain"]
    assert [hint for hint in graph.run(dir=tmp_path).hints if hint.kind == "no-timeout"] == []


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_f3_a_timeout_fails_the_attempt(tmp_path, executor):
    """In seconds per attempt; what hangs no longer counts, the run says how many still hang, and the process ends."""
    os.mkfifo(tmp_path / "never")
    script = Script(
        tmp_path,
        """
        @cp.step(timeout=0.2, retries=1)
        def hangs() -> int:
            note("hangs")
            open("never").close()
            return 1
        def free() -> int:
            return 2
        graph = cp.Graph(hangs, free)
        if __name__ == "__main__":
            run = graph.run(executor=sys.argv[1], concurrency=1)
            (failure,) = run.failures
            print(run.status, run.value(free), type(failure.error).__name__, failure.attempts)
        """,
    )
    done = script.run(executor)
    assert done.out == "failed 2 TimeoutError 2\n" and done.log == ["hangs", "hangs"]
    if executor == "threads":
        assert "2 calls of steps that timed out still hang" in done.err


def test_f3_nodes_that_wait_for_equal_work_share_its_failure(tmp_path):
    """One call, and each fails with it."""
    calls = []

    @cp.step(version="1")
    def same(text: str) -> str:
        calls.append(text)
        raise ValueError(text)

    run = cp.Graph(cp.pipeline(same, each=Row)).run(rows(1, 2, 3), dir=tmp_path)
    assert calls == ["1"] and [failure.node for failure in run.failures] == ["same[1]", "same[2]", "same[3]"]
    assert run.counts == {"same": {"failed": 3}}


# F4: what is said of a failure


@pytest.mark.parametrize("executor", EXECUTORS)
def test_f4_a_failure_has_its_facts(tmp_path, executor):
    """`.record` is the record or item itself, None without; `.error` has its own type in the run that raised it."""
    graph = cp.Graph(cp.pipeline(fail_2, each=Row), cp.pipeline(awkward_item, each={"word": ["a", "b"]}), awkward)
    run = graph.run(rows(1, 2), dir=tmp_path, executor=executor)
    found = {failure.node: failure for failure in run.failures}
    assert set(found) == {"fail_2[2]", "awkward_item[b]", "awkward"}
    first = found["fail_2[2]"]
    assert (first.step, first.record, str(first.error), first.attempts) == ("fail_2", Row(id=2), "edge-case", 1)
    assert type(first.error) is ValueError and isinstance(first.traceback, str)
    assert 'raise ValueError("edge-case")' in first.traceback and "test_rules_f.py" in first.traceback
    assert "cpgraph/" not in first.traceback.replace(str(tmp_path), ""), "the library's own frames are left out"
    assert found["awkward_item[b]"].record == "b" and found["awkward"].record is None
    if executor != "processes":
        assert type(found["awkward"].error) is Awkward and found["awkward"].error.code == 7
    for failure in cp.runs(tmp_path)[-1].failures:
        assert (failure.step, failure.attempts, failure.traceback) == (
            found[failure.node].step, found[failure.node].attempts, found[failure.node].traceback,
        )  # fmt: skip


def awkward_item(word: str) -> str:
    if word == "b":
        raise ValueError(word)
    return word


def test_f4_an_item_that_is_no_plain_id_is_the_record_of_its_failure(tmp_path):
    """The item itself, not its id."""

    def look(pair) -> int:
        raise ValueError

    run = cp.Graph(cp.pipeline(look, each={"pair": [("a", 1), ("b", 2)]})).run(dir=tmp_path)
    assert [failure.record for failure in run.failures] == [("a", 1), ("b", 2)]
    assert [failure.record for failure in cp.runs(tmp_path)[0].failures] == [("a", 1), ("b", 2)]


def test_f4_equal_items_and_long_ones_are_themselves_in_their_failures(tmp_path):
    """`a~2` is an id, not the item; a text of more than 64 characters has a digest for an id."""

    @cp.step(cache=False)
    def look(word: str) -> int:
        raise ValueError

    words = ["a", "a", "b" * 100]
    run = cp.Graph(cp.pipeline(look, each={"word": words})).run(dir=tmp_path)
    assert [failure.record for failure in run.failures] == words and run.failures[1].node == "look[a~2]"
    assert [failure.record for failure in cp.runs(tmp_path)[0].failures] == words


def test_f4_the_record_of_a_failure_is_as_the_node_saw_it_come_in(tmp_path):
    """A record created in the run, too."""

    def make() -> str:
        return cp.create(Part(id="p", row=7))

    def look(record: Part) -> int:
        raise ValueError

    run = cp.Graph(cp.pipeline(make, cp.pipeline(look, each=Part))).run(dir=tmp_path)
    assert run.failures[0].record == Part(id="p", row=7) and cp.runs(tmp_path)[0].failures[0].record == Part(id="p", row=7)


def test_f4_failures_are_in_graph_order_and_iterate(tmp_path):
    """Whatever the clock did."""

    def bad(id: int) -> int:
        raise ValueError(id)

    def late(id: int) -> int:
        raise ValueError(id)

    graph = cp.Graph(cp.pipeline(bad, each=Row), cp.pipeline(late, each=Row))
    for executor in ("threads", "inline"):
        run = graph.run(rows(3, 1, 2), dir=tmp_path / executor, executor=executor)
        expected = [f"{step}[{n}]" for step in ("bad", "late") for n in (3, 1, 2)]
        assert [failure.node for failure in run.failures] == expected
        assert len(run.failures) == 6 and list(run.failures) == [run.failures[n] for n in range(6)]


def test_f4_the_summary_groups_by_type_and_deepest_line_of_the_users_code(tmp_path, capsys):
    """Not by text; two lines are two groups, and a line of a library is not the user's."""

    def bad(id: int) -> int:
        if id % 2:
            return int(f"x{id}")
        import json

        json.loads("{" * id)
        return id

    run = cp.Graph(cp.pipeline(bad, each=Row)).run(rows(1, 2, 3, 4, 5), dir=tmp_path)
    said = capsys.readouterr().err
    assert "5 failures, of 2 kinds" in said and "3 × ValueError" in said and "2 × JSONDecodeError" in said
    groups = run.failures.groups()
    assert [len(group) for group in groups] == [3, 2]
    assert all("test_rules_f.py" in group[0].place for group in groups)
    assert "3 × ValueError" in str(run.failures)


def test_f4_suggested_commands_repeat_dir_and_set(tmp_path):
    """And they work."""
    script = Script(
        tmp_path,
        """
        def work(key: str, n: int = 3) -> int:
            raise ValueError(key)
        graph = cp.Graph(work, params=["key"])
        if __name__ == "__main__":
            graph.run(dir="a place", params={"key": "it's", "n": 4})
        """,
    )
    import shlex

    def suggested(done):
        lines = [line.strip() for line in done.err.splitlines() if line.startswith("  cpgraph ")]
        return [shlex.split(line.partition("  ")[0])[1:] for line in lines]

    for done in (
        script.run(),
        script.command("run", "job.py", "--dir", "a place", "--set", "key=it's", "--set", "n=4", status=1),
    ):
        resume, why = suggested(done)
        assert resume == ["resume", "job.py", "--dir", "a place", "--set", "key=it's", "--set", "n=4"]
        assert why == ["why", "work", "--dir", "a place"]
        assert "ValueError: it's" in script.command(*resume, status=1).err
        assert "ValueError" in script.command(*why).out


# F5: shortages


def test_f5_a_shortage_met_by_a_step_is_its_nodes_failure(tmp_path):
    """Memory, files, threads."""

    def memory() -> int:
        raise MemoryError

    def files() -> int:
        raise OSError(24, "Too many open files")

    run = cp.Graph(memory, files, fine).run(dir=tmp_path)
    assert {failure.step: type(failure.error) for failure in run.failures} == {"memory": MemoryError, "files": OSError}
    assert run.value(fine) == 1


def test_f5_a_shortage_of_threads_met_by_the_library_says_what_it_was_doing(tmp_path, monkeypatch):
    """A `CpgraphError`, not a bare `RuntimeError`."""

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(cp.CpgraphError) as error:
        cp.Graph(fine).run(dir=tmp_path)
    assert "thread" in str(error.value) and "Mend:" in str(error.value)


def test_f5_a_shortage_of_files_met_by_the_library_says_what_it_was_doing(tmp_path):
    """In a process that may open no more."""
    script = Script(
        tmp_path,
        """
        def one() -> int:
            return 1
        graph = cp.Graph(one)
        if __name__ == "__main__":
            import resource, sqlite3, traceback, json
            graph.run(dir=None)
            held = []
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            try:
                while True:
                    held.append(open(os.devnull))
            except OSError:
                pass
            del held[-1:]
            try:
                graph.run(executor=sys.argv[1])
            except cp.CpgraphError as error:
                print(json.dumps(str(error)))
        """,
    )
    for executor in ("threads", "processes"):
        done = script.run(executor)
        assert "files" in done.answer or "open" in done.answer, done.answer
        assert "Mend:" in done.answer


def test_f5_a_full_disk_is_a_storage_error(tmp_path):
    """That says what it was doing, with the path; the next run carries on (S1)."""
    script = Script(
        tmp_path,
        """
        @cp.model
        class Row:
            id: int
            text: str = ""
        def fill(id: int):
            note("fill", id)
            return cp.update(text=os.urandom(2000).hex() if "LIMIT" in os.environ else "x")
        filled = cp.pipeline(cp.alias(fill, "fill", version="1"), each=Row)
        graph = cp.Graph(filled, data=lambda: [Row(id=n) for n in range(3000)])
        if __name__ == "__main__":
            import resource, json
            graph.run([])
            if "LIMIT" in os.environ:
                resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["LIMIT"]), resource.RLIM_INFINITY))
            try:
                run = graph.run()
                print(json.dumps([run.status]))
            except cp.StorageError as error:
                print(json.dumps([str(error), error.path, error.run.status, error.node]))
        """,
    )
    text, path, status, node = script.run(LIMIT="3000000").answer
    assert ".cpgraph" in path and path in text and text.splitlines()[-1].startswith("Mend:") and "Traceback" not in text
    assert "sqlite" not in text.lower() or "journal.sqlite" in text
    assert status not in ("ok", "running") and (node is None or node.startswith("fill["))
    done = script.run()
    assert done.answer == ["ok"]


def test_f2_killed_is_not_a_failure_of_a_node(tmp_path):
    """A run whose process died stands as killed, and its nodes as they were reported."""
    script = Script(
        tmp_path,
        """
        def dies() -> int:
            os.kill(os.getpid(), signal.SIGKILL)
        graph = cp.Graph(dies)
        if __name__ == "__main__":
            graph.run(executor=sys.argv[1])
        """,
    )
    script.run("threads", status=KILLED)
    assert [run.status for run in cp.runs(tmp_path / ".cpgraph")] == ["killed"]
    process = subprocess.run([sys.executable, "job.py", "processes"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, "a worker that dies takes its node along, not the run"
    run = cp.runs(tmp_path / ".cpgraph")[-1]
    assert run.status == "failed" and [failure.node for failure in run.failures] == ["dies"]


def test_f3_time_in_a_queue_is_no_part_of_a_timeout(tmp_path):
    """An attempt's seconds begin when it does."""
    entered = []

    @cp.step(timeout=30)
    def work(id: int) -> int:
        entered.append(time.monotonic())
        return id

    assert cp.Graph(cp.pipeline(work, each=Row)).run(rows(*range(50)), dir=tmp_path, concurrency=1).ok and len(entered) == 50
