"""Rules K: what is code. One name for a script however it is loaded; what runs counts, not what the disk has."""

import sys

import pytest
from scripts import Script

import cpgraph as cp


def kinds(run):
    return [hint.kind for hint in run.hints]


# K1: one name for a script

ONE = """
    import enum
    class Colour(enum.Enum):
        RED = 1
    class Money:
        def __init__(self, amount):
            self.amount = amount
    @cp.model
    class Row:
        id: int
        colour: Colour = Colour.RED
        money: object = None
    def helper(n):
        return n + 1
    def make(id: int) -> Money:
        note("make", id)
        return Money(helper(id))
    @cp.step(sets="money")
    def use(record: Row, make: Money) -> Money:
        note("use", record.id)
        assert type(make) is Money and record.colour is Colour.RED
        return make
    def total(use: list[Money]) -> int:
        note("total")
        return sum(money.amount for money in use)
    graph = cp.Graph(cp.pipeline(cp.pipeline(make, use, each=Row), total), data=lambda: [Row(id=1), Row(id=2)])
    if __name__ == "__main__":
        run = getattr(graph, sys.argv[1])(executor=sys.argv[2])
        print(run.value(total), type(run.value(make, 1)) is Money, type(run.store.find(Row, 2).money) is Money)
    """


@pytest.mark.parametrize("first", ["script", "command", "processes"])
def test_k1_script_command_and_worker_share_one_directory(tmp_path, first):
    """`python x.py`, then every command, then `--executor processes` on one directory: nothing reruns."""
    script = Script(tmp_path, ONE)
    ways = {
        "script": lambda: script.run("run", "threads"),
        "script by processes": lambda: script.run("run", "processes"),
        "command": lambda: script.command("run", "job.py"),
        "command by name": lambda: script.command("run", "job:graph"),
        "processes": lambda: script.command("run", "job.py", "--executor", "processes"),
        "inline": lambda: script.command("run", "job.py:graph", "--executor", "inline"),
        "resume": lambda: script.command("resume", "job.py"),
        "resume by script": lambda: script.run("resume", "processes"),
    }
    assert sorted(ways.pop(first)().log) == ["make 1", "make 2", "total", "use 1", "use 2"]
    for way, run in ways.items():
        done = run()
        assert done.log == [] and done.last.startswith("ok: 0 computed, 5 cached"), way
        if done.out:
            assert done.out == "5 True True\n", "read back to whichever is loaded"
    plan = script.command("plan", "job.py").out
    assert "to compute" not in plan and "5" not in plan.split("results are kept")[0]
    assert "cached" in script.command("why", "make[1]").out or "did not run" in script.command("why", "make[1]").out


def test_k1_values_are_read_back_by_a_script_from_runs(tmp_path):
    """What the command computed, the script loads; and a reader elsewhere loads by import."""
    script = Script(tmp_path, ONE)
    script.command("run", "job.py")
    script.edit("run = getattr(graph, sys.argv[1])(executor=sys.argv[2])", 'run = cp.runs(".cpgraph")[-1]')
    assert script.run().out == "5 True True\n"


def test_k1_a_record_with_the_scripts_classes_in_a_saved_or_resumed_run(tmp_path):
    """Data of a script's own classes are read back when the command resumes."""
    script = Script(tmp_path, ONE.replace("lambda: [Row(id=1), Row(id=2)]", "[Row(id=1, money=Money(3)), Row(id=2)]"))
    script.run("run", "threads")
    done = script.command("resume", "job.py", "--redo", "use")
    assert sorted(done.log) == ["use 1", "use 2"], "the values are equal, so total stays"


# K2: what runs, not what the disk has


def test_k2_a_script_edited_while_it_runs_keeps_the_code_that_was_loaded(tmp_path):
    """Fingerprints are of live objects: a run that goes on after the edit does not file results under the new code."""
    script = Script(
        tmp_path,
        """
        def one() -> int:
            note("one")
            return 1
        def two(one: int) -> int:
            note("two")
            return 10
        graph = cp.Graph(cp.pipeline(one, two))
        if __name__ == "__main__":
            print("loaded", flush=True)
            sys.stdin.readline()
            print(graph.run().value(two))
        """,
    )
    process = script.start()
    assert process.stdout.readline() == "loaded\n"
    script.edit("return 10", "return 20")
    out, err = process.communicate("go on\n", timeout=60)
    assert process.returncode == 0 and out == "10\n", err
    assert "what is loaded is not what" in err, "told"
    script.log()
    done = script.command("run", "job.py")
    assert done.log == ["two"] and cp.runs(tmp_path / ".cpgraph")[-1].value("two") == 20
    script.edit("return 20", "return 10")
    assert cp.runs(tmp_path / ".cpgraph")[0].value("two") == 10


EDITED = """
    import helpers
    def one() -> int:
        return 1
    def two(one: int) -> int:
        return one + helpers.amount()
    graph = cp.Graph(cp.pipeline(one, two))
    if __name__ == "__main__":
        if sys.argv[1] == "run":
            import pathlib
            pathlib.Path({path!r}).write_text({text!r})
        run = getattr(graph, sys.argv[1])(executor="processes", concurrency=1)
        print(run.value(two, default=None), [(f.node, str(f.error).splitlines()[0]) for f in run.failures])
    """


@pytest.mark.parametrize("what", ["helper", "script"])
def test_k2_a_worker_that_loaded_other_code_ends_its_nodes(tmp_path, what):
    """With an error that says: edited while running; `resume` goes on."""
    helper = "def amount():\n    return {}\n"
    text = EDITED
    if what == "helper":
        text = text.replace("{path!r}", "'helpers.py'").replace("{text!r}", repr(helper.format(2000)))
    else:
        text = text.replace("{path!r}", "'job.py'").replace("{text!r}", "open('job.py').read().replace('one + ', '2 * one + ')")
    script = Script(tmp_path, text)
    (tmp_path / "helpers.py").write_text(helper.format(100))
    done = script.run("run")
    assert done.out.startswith("None") and "step 'two' was edited while the run went on" in done.out
    assert "resume" in done.err
    done = script.run("resume")
    assert done.out == f"{2001 if what == 'helper' else 102} []\n"


def test_k2_module_state_set_outside_of_the_import_is_told_by_a_worker(tmp_path):
    """Make it a parameter."""
    script = Script(
        tmp_path,
        """
        FACTOR = 1
        def two() -> int:
            return 2 * FACTOR
        graph = cp.Graph(two)
        if __name__ == "__main__":
            FACTOR = 21
            run = graph.run(executor=sys.argv[1])
            print(run.value(two, default=None), [str(f.error) for f in run.failures])
        """,
    )
    done = script.run("processes")
    assert done.out.startswith("None") and "module state" in done.out and "parameter" in done.out
    assert script.run("threads").out == "42 []\n"


def test_k2_code_made_by_exec_counts_though_it_has_no_source(tmp_path):
    """Where there is no source, the code object counts (told): another constant is another step."""

    def graph(body):
        namespace = {}
        exec(f"def made() -> int:\n    return {body}\n", namespace)
        return cp.Graph(namespace["made"])

    assert graph("1").run(dir=tmp_path).value("made") == 1
    run = graph("2").run(dir=tmp_path)
    assert run.value("made") == 2 and kinds(run) == ["source"]
    assert graph("1").run(dir=tmp_path).counts == {"made": {"cached": 1}}


# K3: globals are looked up when a run begins


def test_k3_a_redefined_helper_counts_for_an_existing_graph(tmp_path, monkeypatch):
    """As in a notebook; so does a monkeypatch, and taking it back finds the earlier result."""
    graph = cp.Graph(uses_helper)
    assert graph.run(dir=tmp_path).value(uses_helper) == 1
    monkeypatch.setattr(sys.modules[__name__], "helper", other_helper)
    run = graph.run(dir=tmp_path)
    assert run.value(uses_helper) == 2 and run.counts == {"uses_helper": {"computed": 1}}
    monkeypatch.undo()
    assert graph.run(dir=tmp_path).counts == {"uses_helper": {"cached": 1}}


def helper():
    return 1


def other_helper():
    return 2


def uses_helper() -> int:
    return helper()


def test_k3_a_redefined_step_does_not_count_and_that_is_told(tmp_path):
    """The graph holds the old one."""
    script = Script(
        tmp_path,
        """
        def one() -> int:
            return 1
        graph = cp.Graph(one)
        def one() -> int:
            return 2
        class Kit:
            def two(self) -> int:
                return 3
        def traced(function):
            import functools
            return functools.wraps(function)(lambda *a, **k: function(*a, **k))
        def three() -> int:
            return 4
        others = cp.Graph(Kit().two, three)
        three = traced(three)
        if __name__ == "__main__":
            run = graph.run()
            print(run.value("one"), [(hint.kind, hint.text) for hint in run.hints])
            print([hint.kind for hint in others.run().hints])
        """,
    )
    done = script.run()
    assert done.out.startswith("1 [('redefined', \"step 'one' was redefined") and done.out.endswith("]\n[]\n"), done.out


def test_k3_a_helper_redefined_in_mid_run_counts_as_it_was_at_the_beginning(tmp_path, monkeypatch):
    """Keys are made of the code at the beginning; the next run sees the new one."""

    def change() -> int:
        monkeypatch.setattr(sys.modules[__name__], "helper", other_helper)
        return 0

    graph = cp.Graph(uses_helper)
    before = cp.Graph(cp.alias(uses_helper, "uses_helper", version="x"))
    assert before.run(dir=tmp_path).ok
    assert graph.run(dir=tmp_path).value(uses_helper) == 1
    change()
    assert graph.run(dir=tmp_path).value(uses_helper) == 2
    assert before.run(dir=tmp_path).value(uses_helper) == 1, "a stated version is all there is"


# K4: calling a step is calling a function


def test_k4_a_step_that_calls_another_calls_a_function(tmp_path):
    """No node; its code is in the fingerprint."""
    script = Script(
        tmp_path,
        """
        @cp.step(retries=3)
        def half(n: int) -> int:
            return n // 2
        def ten() -> int:
            note("ten")
            return half(20)
        graph = cp.Graph(ten, params=["n"] if "N" in os.environ else ())
        if __name__ == "__main__":
            run = graph.run()
            print(run.value(ten), [node.id for node in run.nodes])
        """,
    )
    done = script.run()
    assert done.out == "10 ['ten']\n" and done.log == ["ten"]
    assert script.run().log == []
    script.edit("n // 2", "n // 4")
    done = script.run()
    assert done.out == "5 ['ten']\n" and done.log == ["ten"]


def test_k4_a_parameter_is_fixed_by_a_function_that_calls_the_other(tmp_path):
    """Two lines; both are steps of one graph."""

    def scaled(n: int, factor: int) -> int:
        return n * factor

    def doubled(n: int) -> int:
        return scaled(n, 2)

    run = cp.Graph(doubled, scaled, params={"n": 4, "factor": 10}).run(dir=tmp_path)
    assert run.value(doubled) == 8 and run.value(scaled) == 40
