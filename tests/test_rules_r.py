"""Rules R: run, resume and the directory. Each test names its rule; what ran is told by logs, not by answers alone."""

import asyncio
import logging
import os
import threading
from pathlib import Path

import pytest
from scripts import KILLED, Script

import cpgraph as cp
from cpgraph.events import NodeEnded

EXECUTORS = ["threads", "processes", "inline"]


@cp.model
class Row:
    id: int
    text: str = "1"
    number: float | None = None


def rows(*ids, **fields):
    return [Row(id=id, **fields) for id in ids]


def kinds(run):
    return [hint.kind for hint in run.hints]


def ended(run, step):
    return {node.key[0] if node.key else None: node.ended for node in run.nodes if node.step == step}


# R1: a line of its own


def test_r1_each_run_begins_at_its_data(tmp_path):
    """Nothing is carried over but the cache; `history[0]` is the data."""

    @cp.step(sets="number")
    def parse(text: str) -> float:
        return float(text)

    graph = cp.Graph(cp.pipeline(parse, each=Row))
    first = graph.run(rows(1, 2), dir=tmp_path)
    second = graph.run(rows(2, 3), dir=tmp_path)
    assert first.history[0].data == {"Row": [{"id": 1, "text": "1", "number": None}, {"id": 2, "text": "1", "number": None}]}
    assert second.history[0].data == {"Row": [{"id": 2, "text": "1", "number": None}, {"id": 3, "text": "1", "number": None}]}
    assert [row["id"] for row in second.data["Row"]] == [2, 3]
    assert second.counts == {"parse": {"cached": 2}}, "equal work, whatever the record"
    assert [row["id"] for row in cp.runs(tmp_path)[0].data["Row"]] == [1, 2], "the first line is as it was"
    third = graph.run(dir=tmp_path)
    assert third.data == {} and third.history[0].data == {} and len(third.nodes) == 0


def test_r1_run_without_data_takes_the_graphs_own(tmp_path, capsys):
    """A function is called and a path read at each `run`; data given win."""
    calls = []

    def data():
        calls.append(1)
        return rows(*range(len(calls)))

    def count(store: cp.Store) -> int:
        return store.count(Row)

    graph = cp.Graph(count, models=[Row], data=data)
    assert [graph.run(dir=tmp_path / "a").value(count) for _ in range(3)] == [1, 2, 3]
    assert graph.run(rows(7), dir=tmp_path / "a").value(count) == 1 and len(calls) == 3
    assert "no records" not in capsys.readouterr().err

    path = tmp_path / "rows.yml"
    path.write_text("Row:\n- {id: 1}\n")
    graph = cp.Graph(count, models=[Row], data=path)
    assert graph.run(dir=tmp_path / "b").value(count) == 1
    path.write_text("Row:\n- {id: 1}\n- {id: 2}\n")
    assert graph.run(dir=tmp_path / "b").value(count) == 2


def test_r1_run_without_any_data_says_so_in_its_first_line(tmp_path, capsys):
    """`run` remembers results, `resume` remembers everything."""

    @cp.step(sets="number")
    def parse(text: str) -> float:
        return float(text)

    graph = cp.Graph(cp.pipeline(parse, each=Row))
    graph.run(rows(1), dir=tmp_path)
    capsys.readouterr()
    for more in (" (resume would go on with those of run 1)", ""):
        assert graph.run(dir=tmp_path).data == {}
        first = capsys.readouterr().err.splitlines()[0]
        assert first.endswith(f"{os.sep}; no data given: it begins without records{more}")


def test_r1_a_version_or_run_serves_as_data(tmp_path):
    """`run(version)` takes that version's store as data."""

    def grow(id: int, text: str):
        return [cp.update(text=text + "!"), cp.create(Row(id=id + 10), if_exists="keep")] if id < 10 else None

    graph = cp.Graph(cp.pipeline(grow, each=Row))
    first = graph.run(rows(1, 2), dir=tmp_path, concurrency=1)
    begin = first.history[1]
    for place in ("other", "."):
        run = graph.run(begin, dir=tmp_path / place)
        assert run.history[0].data == begin.data and run.data != begin.data
    assert graph.run(first, dir=tmp_path).history[0].data == first.data
    found = cp.runs(tmp_path)[0].history[1]
    assert graph.run(found, dir=tmp_path / "third").history[0].data == begin.data


def test_r1_defaults_of_the_graph_serve_script_and_command(tmp_path):
    """`Graph(…, data=, dir=, params=)` are for both alike."""
    script = Script(
        tmp_path,
        """
        @cp.model
        class Row:
            id: int
        def total(store: cp.Store, factor: int) -> int:
            note("total", factor)
            return factor * sum(store.values(Row, "id"))
        graph = cp.Graph(total, models=[Row], data="rows.yml", dir="kept", params={"factor": 3})
        if __name__ == "__main__":
            print(graph.run().value(total))
        """,
    )
    (tmp_path / "rows.yml").write_text("Row: [{id: 1}, {id: 4}]")
    done = script.run()
    assert done.out == "15\n" and done.log == ["total 3"]
    assert "kept" in done.first and (tmp_path / "kept").is_dir() and not (tmp_path / ".cpgraph").exists()
    done = script.command("run", "job.py")
    assert done.log == [] and "kept" in done.first and "1 cached" in done.last
    done = script.command("run", "job.py", "--set", "factor=4", "--dir", "elsewhere")
    assert done.log == ["total 4"] and (tmp_path / "elsewhere").is_dir()


# R2: versions


def test_r2_each_computed_node_with_changes_makes_a_version(tmp_path):
    """In commit order; one without changes makes none; what is cached may share one, and `.nodes` names them."""

    def quiet(id: int) -> int:
        return id

    def change(id: int):
        return cp.update(text=f"t{id}")

    graph = cp.Graph(cp.pipeline(quiet, change, each=Row))
    order = []
    stream = cp.Stream()
    stream.on(NodeEnded)(lambda event: order.append(event.node))
    run = graph.run(rows(1, 2, 3), dir=tmp_path, stream=stream)
    changes = [node for node in order if node.startswith("change")]
    assert [version.node for version in run.history[1:]] == changes
    assert [version.nodes for version in run.history[1:]] == [[node] for node in changes]
    assert [str(version.diff) for version in run.history[1:]] == [f"update Row {n[7]} (text: '1' → 't{n[7]}')" for n in changes]
    assert run.history[0].nodes == [] and run.history[0].node is None and run.history[0].number == 0
    again = graph.run(rows(1, 2, 3), dir=tmp_path)
    assert again.data == run.data and 1 <= len(again.history[1:]) <= 3
    assert sorted(node for version in again.history for node in version.nodes) == sorted(changes)


def test_r2_numbers_go_on_through_the_directory(tmp_path):
    """Also from other graphs and other processes; version 0 of each line is its data."""

    def change(id: int, text: str):
        return cp.update(text=text + str(id))

    graph = cp.Graph(cp.pipeline(change, each=Row))
    other = cp.Graph(cp.pipeline(change, each=Row), name="other")
    runs = [graph.run(rows(1, 2), dir=tmp_path), other.run(rows(7), dir=tmp_path), graph.resume(data=rows(1, 2, 3), dir=tmp_path)]
    numbers = [version.number for run in runs for version in run.history if version.number]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [run.history[0].number for run in runs] == [0, 0, 0]
    assert numbers == [v.number for run in cp.runs(tmp_path) for v in run.history if v.number]


def test_r2_a_rerun_writes_next_to_nothing(tmp_path):
    """Changes only for what changed, and some 20 bytes for each node it looked at."""

    def fill(id: int):
        return cp.update(text=str(id) * 400)

    graph = cp.Graph(cp.pipeline(fill, each=Row))
    data = rows(*range(3000))

    def size():
        return sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())

    graph.run(data, dir=tmp_path)
    sizes = [size()]
    for _ in range(5):
        assert graph.run(data, dir=tmp_path).counts == {"fill": {"cached": 3000}}
        sizes.append(size())
    assert sizes[-1] - sizes[0] < 5 * 3000 * 40 < sizes[0]
    changed = [*rows(*range(2999)), Row(id=5000)]
    before = size()
    assert graph.run(changed, dir=tmp_path).counts == {"fill": {"cached": 2999, "computed": 1}}
    assert size() - before < 3000 * 120


# R3: resume


STORY = """
    @cp.model
    class Row:
        id: int
        text: str
        number: float | None = None
    def first(id: int) -> int:
        note("first", id)
        return id
    @cp.step(sets="number")
    def parse(first: int, text: str) -> float:
        note("parse", first)
        return float(text)
    def last(parse: float) -> float:
        note("last", parse)
        return -parse
    def total(last: list[float]) -> float:
        note("total")
        return sum(last)
    graph = cp.Graph(cp.pipeline(cp.pipeline(first, parse, last, each=Row), total), data="rows.yml")
    if __name__ == "__main__":
        run = getattr(graph, sys.argv[1])(executor=sys.argv[2])
        import json
        print(json.dumps([run.status, run.value("total", default=None), run.counts]))
    """
DATA = "Row:\n" + "".join(f"- {{id: {n}, text: '{n}'}}\n" for n in range(1, 6))
BROKEN = DATA.replace("'3'", "'3,5'")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_r3_resume_keeps_what_worked_and_takes_failed_records_from_the_top(tmp_path, executor):
    """The fingerprint is not compared, unless a node of the same record failed: that one is looked at anew from its top."""
    script = Script(tmp_path, STORY)
    (tmp_path / "rows.yml").write_text(BROKEN)
    done = script.run("run", executor)
    assert done.answer[0] == "failed" and sorted(done.log) == sorted(
        [*(f"first {n}" for n in range(1, 6)), *(f"parse {n}" for n in range(1, 6)), *(f"last {n}.0" for n in (1, 2, 4, 5))]
    )
    # every step is edited: of the failed record all runs anew, of the others nothing
    script.edit("return float(text)", "return float(text.replace(',', '.'))")
    script.edit("    return id\n", "    return 0 + id\n")
    script.edit("return -parse", "return 0 - parse")
    done = script.run("resume", executor)
    assert done.log == ["first 3", "parse 3", "last 3.5", "total"] and done.answer[:2] == ["ok", -15.5]
    assert done.answer[2]["first"] == {"computed": 1, "cached": 4}
    done = script.run("resume", executor)
    assert done.log == [] and done.answer[:2] == ["ok", -15.5], "kept is kept"
    done = script.run("run", executor)
    assert sorted(done.log) == sorted(
        [*(f"first {n}" for n in (1, 2, 4, 5)), *(f"parse {n}" for n in (1, 2, 4, 5)), *(f"last {n}.0" for n in (1, 2, 4, 5))]
    )
    assert script.run("run", executor).log == []


def test_r3_of_a_failed_record_what_was_not_edited_is_taken_from_the_cache(tmp_path):
    """Looked at anew means: as `run` would; what is before the failure and unedited does not run."""
    script = Script(tmp_path, STORY)
    (tmp_path / "rows.yml").write_text(BROKEN)
    script.run("run", "threads")
    script.edit("return float(text)", "return float(text.replace(',', '.'))")
    assert script.run("resume", "threads").log == ["parse 3", "last 3.5", "total"]


def test_r3_failed_again_is_looked_at_again(tmp_path):
    """A resume that fails again is resumed; what it completed meanwhile is kept, also of edited code."""
    script = Script(tmp_path, STORY)
    (tmp_path / "rows.yml").write_text(BROKEN)
    script.run("run", "threads")
    for _ in range(3):
        script.edit("float(text", "0 + float(text")
        done = script.run("resume", "threads")
        assert done.answer[0] == "failed" and done.log == ["parse 3"]
    (tmp_path / "rows.yml").write_text(DATA)
    assert script.run("resume", "threads").log == ["parse 3", "last 3.0", "total"]


def test_r3_data_are_compared(tmp_path):
    """A path is read anew; a changed record runs with the code as it is now, a missing one is gone, a new one runs."""
    script = Script(tmp_path, STORY)
    (tmp_path / "rows.yml").write_text(DATA)
    script.run("run", "threads")
    script.edit("return float(text)", "return 100 + float(text)")
    data = DATA.replace("'2'", "'20'").replace("- {id: 4, text: '4'}\n", "")
    (tmp_path / "rows.yml").write_text(data + "- {id: 9, text: '9'}\n")
    done = script.run("resume", "threads")
    assert sorted(done.log) == sorted(["parse 2", "last 120.0", "first 9", "parse 9", "last 109.0", "total"])
    assert done.answer[1] == -(1 + 120 + 3 + 5 + 109)
    assert done.answer[2]["parse"] == {"computed": 2, "cached": 3}


def test_r3_steps_outside_of_any_each_are_kept_though_edited_and_that_is_told(tmp_path):
    """With `redo=`: the way to have them computed."""
    log = []

    def graph(factor):
        namespace = {"log": log, "cp": cp, "factor": factor}
        exec(  # edited as in a file: another body under the same name
            f"def before() -> int:\n    log.append('before')\n    return {factor}\n"
            f"def each_one(id: int, before: int) -> int:\n    log.append(id)\n    return id * before + {factor} - {factor}\n"
            f"def after(each_one: list) -> int:\n    log.append('after')\n    return sum(each_one) + {factor}\n",
            namespace,
        )
        before, each_one, after = namespace["before"], namespace["each_one"], namespace["after"]
        return cp.Graph(cp.pipeline(before, cp.pipeline(each_one, each=Row), after), name="g")

    graph(2).run(rows(1, 2), dir=tmp_path)
    log.clear()
    run = graph(3).resume(dir=tmp_path)
    assert log == [] and run.value("after") == 2 + 4 + 2
    told = {hint.text.split()[3]: hint for hint in run.hints if hint.kind == "kept-other-code"}
    assert set(told) == {"before", "each_one", "after"} and all("redo=" in hint.mend for hint in told.values())
    run = graph(3).resume(dir=tmp_path, redo="before")
    assert log[0] == "before" and sorted(map(str, log[1:])) == ["1", "2", "after"], "what follows ran, as a value changed"
    assert run.value("after") == 3 + 6 + 3


def test_r3_a_join_that_gained_an_entry_runs(tmp_path):
    """With the code as it is now; and its old value is not mixed in."""
    script = Script(tmp_path, STORY)
    (tmp_path / "rows.yml").write_text(DATA)
    script.run("run", "threads")
    (tmp_path / "rows.yml").write_text(DATA + "- {id: 6, text: '6'}\n")
    script.edit("return sum(last)", "return 1000 + sum(last)")
    done = script.run("resume", "threads")
    assert done.log == ["first 6", "parse 6", "last 6.0", "total"] and done.answer[1] == 1000 - 21


def test_r3_a_noted_read_is_compared(tmp_path):
    """Where the store gives another answer, the node runs; what it did not ask for does not count."""
    log = []

    def total(store: cp.Store) -> float:
        log.append("total")
        return sum(float(text) for text in store.values(Row, "text"))

    graph = cp.Graph(total, models=[Row])
    graph.run(rows(1, 2), dir=tmp_path)
    assert graph.resume(data=rows(1, 2, number=5.0), dir=tmp_path).value(total) == 2.0 and log == ["total"]
    assert graph.resume(data=[*rows(1), Row(id=2, text="9")], dir=tmp_path).value(total) == 10.0 and log == ["total"] * 2


def test_r3_parameters_not_given_are_those_of_the_run_resumed(tmp_path):
    """Given, they mean what they mean for `run`; one left at its default is no input, so a changed default keeps results."""
    log = []

    def make(day, limit=5) -> str:
        log.append((day, limit))
        return f"{day} {limit}"

    def edited(day, limit=7) -> str:
        log.append((day, limit))
        return f"{day} {limit}!"

    def graph(step):
        return cp.Graph(cp.alias(step, "make"), name="g", params=["day"])

    graph(make).run(dir=tmp_path, params={"day": "mo"})
    assert graph(make).resume(dir=tmp_path).value("make") == "mo 5" and log == [("mo", 5)]
    assert graph(edited).resume(dir=tmp_path).value("make") == "mo 5" and log == [("mo", 5)], "a default is no input here"
    assert graph(edited).resume(dir=tmp_path, params={"limit": 6}).value("make") == "mo 6!"
    assert graph(edited).resume(dir=tmp_path).value("make") == "mo 6!", "and is remembered"
    assert graph(edited).resume(dir=tmp_path, params={"day": "tu"}).value("make") == "tu 6!"
    assert log == [("mo", 5), ("mo", 6), ("tu", 6)]
    with pytest.raises(cp.CpgraphError, match="'day' has no value"):
        graph(edited).run(dir=tmp_path)


def test_r3_data_not_given_are_those_of_the_run_resumed(tmp_path):
    """Records given to `run` are remembered, a function is called anew."""
    log = []

    def look(id: int) -> int:
        log.append(id)
        return id

    graph = cp.Graph(cp.pipeline(look, each=Row), data=lambda: rows(*range(10)))
    graph.run(rows(1, 2), dir=tmp_path)
    assert graph.resume(dir=tmp_path).values(look) == {1: 1, 2: 2} and sorted(log) == [1, 2]

    log.clear()
    more = [3]
    graph = cp.Graph(cp.pipeline(look, each=Row), data=lambda: rows(*more), name="by function")
    graph.run(dir=tmp_path)
    more.append(44)
    assert graph.resume(dir=tmp_path).values(look) == {3: 3, 44: 44} and log == [3, 44]


def test_r3_given_data_are_compared_and_what_changed_is_told(tmp_path):
    """A changed record runs again, a missing one is gone, both told."""

    def look(id: int, text: str) -> str:
        return text

    graph = cp.Graph(cp.pipeline(look, each=Row))
    graph.run(rows(1, 2, 3), dir=tmp_path)
    run = graph.resume(data=[*rows(1), Row(id=2, text="new")], dir=tmp_path)
    assert run.values(look) == {1: "1", 2: "new"} and run.counts == {"look": {"computed": 1, "cached": 1}}
    text = " ".join(f"{hint.text} {hint.nodes}" for hint in run.hints)
    assert "Row 2" in text and "Row 3" in text, run.hints
    assert graph.resume(dir=tmp_path).hints == [] or "Row 3" not in str(graph.resume(dir=tmp_path).hints)


KILLER = """
    from cpgraph.events import NodeEnded
    @cp.model
    class Row:
        id: int
    def work(id: int) -> int:
        note("work", id)
        if id >= 20 and "HANG" in os.environ:
            open(os.environ["HANG"]).close()
        return id
    def total(work: list[int]) -> int:
        note("total")
        return sum(work)
    graph = cp.Graph(cp.pipeline(cp.pipeline(work, each=Row), total), data=lambda: [Row(id=n) for n in range(40)])
    if __name__ == "__main__":
        stream, seen = cp.Stream(), []
        @stream.on(NodeEnded)
        def ended(event):
            if event.ended == "computed":
                seen.append(event.node)
            with open("seen.txt", "a") as file:
                print(event.node, event.ended, file=file)
            if len(seen) == int(os.environ.get("KILL_AT", -1)):
                os.kill(os.getpid(), signal.SIGKILL)
        run = getattr(graph, sys.argv[1])(executor=sys.argv[2], concurrency=2, stream=stream)
        print(run.value("total"))
    """


@pytest.mark.parametrize("executor", EXECUTORS)
def test_r3_a_killed_run_counts_from_its_first_commit_on(tmp_path, executor):
    """Whatever it had reported is kept, also where the code was edited since; the rest runs as it is now."""
    script = Script(tmp_path, KILLER)
    os.mkfifo(tmp_path / "never")
    hang = {} if executor == "inline" else {"HANG": "never"}  # half of the work does not end before the run does
    script.run("run", executor, status=KILLED, KILL_AT="10", **hang)
    seen = {line.split()[0] for line in (tmp_path / "seen.txt").read_text().splitlines() if line.endswith("computed")}
    assert len(seen) >= 10
    script.edit("    return id\n", "    return 100 + id\n")
    done = script.run("resume", executor)
    ran = {f"work[{line.split()[1]}]" for line in done.log if line.startswith("work")}
    assert not ran & seen and done.log.count("total") == (1 if hang else len(done.log) and 1)
    kept = 40 - len(ran)
    assert int(done.out) == sum(range(40)) + 100 * len(ran) and kept >= 10 and (len(ran) >= 20 or not hang)
    assert script.run("resume", executor).log == []


def test_r3_a_run_killed_before_its_first_commit_does_not_count(tmp_path):
    """The one before it is resumed."""
    script = Script(
        tmp_path,
        """
        def work() -> int:
            note("work")
            if "KILL" in os.environ:
                os.kill(os.getpid(), signal.SIGKILL)
            return 1
        def more() -> int:
            note("more")
            return 2
        graph = cp.Graph(work, more)
        if __name__ == "__main__":
            getattr(graph, sys.argv[1])(executor="inline")
        """,
    )
    assert script.run("run").log == ["work", "more"]
    script.edit("return 1", "return 11")
    assert script.run("run", status=KILLED, KILL="1").log == ["work"]
    assert script.run("resume").log == []
    assert [run.status for run in cp.runs(tmp_path / ".cpgraph")] == ["ok", "killed", "ok"]


@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_r3_what_a_broken_off_resume_had_not_come_to_stands_as_in_the_run_it_resumed(tmp_path, how):
    """A killed or interrupted resume loses nothing."""
    script = Script(
        tmp_path,
        """
        from cpgraph.events import NodeEnded
        @cp.model
        class Row:
            id: int
        def work(id: int) -> int:
            note("work", id)
            return id
        def gate(work: list[int]) -> int:
            note("gate")
            return 0
        def rest(id: int, gate: int) -> int:
            note("rest", id)
            return -id
        graph = cp.Graph(cp.pipeline(cp.pipeline(work, each=Row), gate, cp.pipeline(rest, each=Row)),
                         data=lambda: [Row(id=n) for n in range(10)])
        if __name__ == "__main__":
            stream = cp.Stream()
            @stream.on(NodeEnded)
            def ended(event):
                if event.step == os.environ.get("BREAK_AT"):
                    os.kill(os.getpid(), getattr(signal, os.environ["HOW"]))
            run = getattr(graph, sys.argv[1])(redo=sys.argv[2:], stream=stream)
            print(run.status)
        """,
    )
    script.run("run")
    script.edit("return -id", "return -1 * id")
    script.edit("    return id\n", "    return 1 * id\n")
    script.edit("return 0", "return 0 * 1")
    signal_name, status = ("SIGKILL", KILLED) if how == "kill" else ("SIGINT", 0)
    done = script.run("resume", "gate", status=status, BREAK_AT="gate", HOW=signal_name)
    assert done.log == ["gate"]
    assert script.run("resume").log == [], "rest had not been come to, and stands"
    done = script.run("resume", "work", status=status, BREAK_AT="work", HOW=signal_name)
    done = script.run("resume")
    assert not [line for line in done.log if line.startswith("rest")]


def test_r3_without_any_run_there_is_an_error_that_says_run(tmp_path):
    """Also on the command line, with status 2; and one for a name that never ran lists those there are (N2)."""

    def one() -> int:
        return 1

    for place in (tmp_path / "nothing", None):
        with pytest.raises(cp.CpgraphError, match="run"):
            cp.Graph(one).resume(dir=place)
    cp.Graph(one, name="known").run(dir=tmp_path / "d")
    with pytest.raises(cp.CpgraphError, match="known"):
        cp.Graph(one, name="unknown").resume(dir=tmp_path / "d")
    script = Script(tmp_path / "s", "def one(): return 1\ngraph = cp.Graph(one)\n")
    done = script.command("resume", "job.py", status=2)
    assert "run" in done.err and "Mend:" in done.err and "Traceback" not in done.err


def test_r3_resuming_a_successful_run_runs_only_what_is_new(tmp_path):
    """New steps run, vanished ones are dropped, both told; edited ones are kept."""
    script = Script(tmp_path, STORY)
    (tmp_path / "rows.yml").write_text(DATA)
    script.run("run", "threads")
    script.edit("return -parse", "return -parse * 2")
    script.edit("graph = cp.Graph(cp.pipeline(cp.pipeline(first, parse, last, each=Row), total)",
                "def extra(total: float) -> float:\n    note('extra')\n    return total\n"
                "graph = cp.Graph(cp.pipeline(cp.pipeline(first, parse, last, each=Row), total, extra)")  # fmt: skip
    done = script.run("resume", "threads")
    assert done.log == ["extra"] and done.answer[1] == -15
    assert "extra" in done.err and "new" in done.err
    script.edit(", total, extra)", ", total)")
    done = script.run("resume", "threads")
    assert done.log == [] and "extra" in done.err, "what was dropped is told"


def test_r3_nested_each_looks_at_the_failed_innermost_record_alone(tmp_path):
    """The instances around it are kept; where their code has changed since, that is told, with `redo=`."""

    @cp.model
    class Outer:
        id: int

    log = []

    def graph(fails, body="id"):
        namespace = {"log": log, "fails": fails, "Outer": Outer}
        exec(
            f"def outer(id: int) -> int:\n    log.append(('outer', id))\n    return {body}\n"
            "def inner(n: int, outer: int) -> int:\n    log.append(('inner', outer, n))\n"
            "    if (outer, n) in fails: raise ValueError('edge')\n    return n\n",
            namespace,
        )
        outer, inner = namespace["outer"], cp.step(version="1")(namespace["inner"])
        return cp.Graph(cp.pipeline(outer, cp.pipeline(inner, each={"n": [1, 2]}), each=Outer), name="g")

    assert not graph({(1, 2)}).run([Outer(id=1), Outer(id=2)], dir=tmp_path).ok
    log.clear()
    run = graph(set(), body="id + 0").resume(dir=tmp_path)
    assert run.ok and log == [("inner", 1, 2)]
    assert any("outer" in hint.text and "redo=" in hint.mend for hint in run.hints)


# R4: kept adds nothing to the cache; redo


def test_r4_keeping_adds_nothing_to_the_cache(tmp_path):
    """What was done in a directory before never changes what `run` answers."""
    script = Script(tmp_path, STORY)
    (tmp_path / "rows.yml").write_text(DATA)
    script.run("run", "threads")
    script.edit("return float(text)", "return 2 * float(text)")
    assert script.run("resume", "threads").answer[1] == -15
    done = script.run("run", "threads")
    assert done.answer[1] == -30 and sum(line.startswith("parse") for line in done.log) == 5
    script.edit("return 2 * float(text)", "return float(text)")
    done = script.run("run", "threads")
    assert done.answer[1] == -15 and done.log == []


def test_r4_a_run_that_will_compute_what_was_kept_says_so_in_its_first_line(tmp_path):
    """With count and expected time; when there is nothing to warn of, it does not."""
    script = Script(tmp_path, STORY)
    (tmp_path / "rows.yml").write_text(DATA)
    script.run("run", "threads")
    script.edit("return float(text)", "return 2 * float(text)")
    script.run("resume", "threads")
    first = script.run("run", "threads").first
    assert "5 results" in first and " s)" in first and "kept" in first
    first = script.run("run", "threads").first
    assert "5" not in first.replace(str(tmp_path), ""), first


def test_r4_counts_are_by_the_fingerprint_that_made_the_result(tmp_path):
    """`run.nodes` says run and fingerprint of what made each; a join over several says so."""
    script = Script(tmp_path, STORY)
    (tmp_path / "rows.yml").write_text(BROKEN)
    script.run("run", "threads")
    script.edit("return float(text)", "return float(text.replace(',', '.'))")
    script.edit("return -parse", "return 0 - parse")
    script.run("resume", "threads")
    run = cp.runs(tmp_path / ".cpgraph")[-1]
    made = {node.id: (node.run, node.fingerprint) for node in run.nodes if node.step == "parse"}
    assert {number for number, _ in made.values()} == {1, 2} and len({print for _, print in made.values()}) == 2
    assert made["parse[3]"][0] == 2 and made["parse[1]"][0] == 1
    (told,) = [hint for hint in run.hints if hint.kind == "joined-mixed"]
    assert told.text.startswith("total joins results of last") and told.nodes == ("total",) and "run" in told.mend
    script.run("run", "threads")
    assert "joined-mixed" not in kinds(cp.runs(tmp_path / ".cpgraph")[-1])


def test_r4_redo_of_an_id_that_reads_as_a_number_is_of_that_one_alone(tmp_path):
    """f[3] and f["3"] are two (N3); where there is one of them only, it may be written without quotes."""

    def f(it):
        return 1

    def ran(ids, redo):
        run = cp.Graph(cp.pipeline(f, each={"it": ids}), dir=tmp_path).run(redo=redo)
        return [node.id for node in run.nodes if node.ended == "computed"]

    both = {3: "int", "3": "text"}
    ran(both, ())
    assert ran(both, "f[3]") == ["f[3]"]
    assert ran(both, 'f["3"]') == ['f["3"]']
    assert ran({"3": "text"}, "f[3]") == ['f["3"]']
    long = "9" * 5_000  # more digits than Python reads as a number
    assert ran({long: "long"}, f"f[{long}]") == [f'f["{long}"]']


def test_r4_one_result_of_other_code_is_one(tmp_path, capsys):
    def graph(factor):
        def parse(id: int) -> int:
            return id * factor

        return cp.Graph(cp.pipeline(parse, each=Row), name="edited")

    graph(1).run(rows(1), dir=tmp_path)
    assert "from run 1 (ok), 1 node done;" in graph(1).plan(dir=tmp_path, resume=True).line
    graph(2).run(rows(1), dir=tmp_path)
    said = capsys.readouterr().err
    assert "; 1 result of run 1 is of other code and is computed now (about" in said and "resume would keep it\n" in said


def test_r4_what_redo_computes_anew_is_not_told_as_kept(tmp_path):
    """A step of which single nodes are asked for is kept but for these, and told."""

    def graph(factor):
        def parse(id: int) -> int:
            return id * factor

        return cp.Graph(cp.pipeline(parse, each=Row), name="edited")

    for place, redo, told in (("a", (), ["kept-other-code"]), ("b", "parse[1]", ["kept-other-code"]), ("c", "parse", [])):
        graph(1).run(rows(1, 2), dir=tmp_path / place)
        assert kinds(graph(2).resume(dir=tmp_path / place, redo=redo)) == told


@pytest.mark.parametrize("verb", ["run", "resume"])
def test_r4_redo_takes_steps_names_and_node_ids(tmp_path, verb):
    """Computed though cached or kept; what follows runs only if a value changed."""
    log, factor = [], [1]

    @cp.step(version="1")
    def work(id: int) -> int:
        log.append(id)
        return id * factor[0]

    @cp.step
    def total(work: list[int]) -> int:
        log.append("total")
        return sum(work)

    graph = cp.Graph(cp.pipeline(cp.pipeline(work, each=Row), total))
    graph.run(rows(1, 2), dir=tmp_path)

    def ran(redo):
        log.clear()
        run = getattr(graph, verb)(*([rows(1, 2)] if verb == "run" else []), dir=tmp_path, redo=redo)
        assert run.ok
        return sorted(map(str, log))

    assert ran(work) == ran("work") == ran([work]) == ran({"work"}) == ["1", "2"]
    assert ran("work[2]") == ran(["work[2]"]) == ["2"]
    assert ran(("work[2]", total)) == ["2", "total"]
    factor[0] = 5
    assert ran("work[1]") == ["1", "total"]
    assert ran(()) == []
    for wrong in ("wrok", "wrok[1]", "work[1", ["work", "nothing"]):
        with pytest.raises(cp.CpgraphError, match=r"redo.*(wrok|work\[1|nothing)"):
            ran(wrong)


@pytest.mark.parametrize("verb", ["run", "resume"])
def test_r4_arguments_that_cannot_be_are_refused_before_anything_runs(tmp_path, verb):
    """Each with what is wrong and a mend; no run is begun."""
    wrong = [
        {"executor": "thraeds"}, {"executor": 5}, {"concurrency": 0}, {"concurrency": -1}, {"concurrency": "2"}, {"stop": 5},
        {"stream": "x"}, {"params": [1]}, {"redo": "nothing"},
    ]  # fmt: skip
    graph = cp.Graph(cp.pipeline(first, second))
    graph.run(dir=tmp_path)
    for arguments in wrong:
        (name,) = arguments
        with pytest.raises(cp.CpgraphError, match=name) as error:
            getattr(graph, verb)(dir=tmp_path, **arguments)
        assert "Mend:" in str(error.value)
    assert len(cp.runs(tmp_path)) == 1


# R5: cache=False


def test_r5_a_step_that_is_not_cached_runs_once_per_node_in_each_run(tmp_path):
    """Neither kept in the cache nor merged; its value is an input by content."""
    log = []

    @cp.step(cache=False)
    def look(text: str) -> str:
        log.append("look")
        return text

    @cp.step
    def after(look: str) -> str:
        log.append("after")
        return look

    graph = cp.Graph(cp.pipeline(look, after, each=Row))
    graph.run(rows(1, 2, 3), dir=tmp_path)
    assert sorted(log) == ["after", "look", "look", "look"], "equal work, done for each node; what follows is merged"
    log.clear()
    run = graph.run(rows(1, 2, 3), dir=tmp_path)
    assert log == ["look"] * 3 and run.counts == {"look": {"computed": 3}, "after": {"cached": 3}}


def test_r5_resume_keeps_what_is_not_cached_if_completed(tmp_path):
    """So what worked is not done again; a failed one is."""
    log, bad = [], [2]

    @cp.step(cache=False)
    def send(id: int) -> int:
        log.append(id)
        if id in bad:
            raise ValueError(id)
        return id

    graph = cp.Graph(cp.pipeline(send, each=Row))
    graph.run(rows(1, 2, 3), dir=tmp_path)
    bad.clear()
    log.clear()
    assert graph.resume(dir=tmp_path).ok and log == [2]
    assert graph.resume(dir=tmp_path).ok and log == [2]
    assert graph.run(rows(1, 2, 3), dir=tmp_path).ok and sorted(log) == [1, 2, 2, 3]


# R6: readers


def test_r6_runs_gives_the_runs_of_a_directory_newest_last(tmp_path):
    """Each the same `Run`, with how it ended, what failed, and what was told."""

    def parse(text: str) -> float:
        return float(text)

    graph = cp.Graph(cp.pipeline(parse, each=Row), name="g")
    made = [graph.run(rows(1, 2), dir=tmp_path), graph.run([*rows(1), Row(id=2, text="x")], dir=tmp_path)]
    found = cp.runs(tmp_path)
    assert [run.number for run in found] == [run.number for run in made] == [1, 2]
    for run, again in zip(made, found, strict=True):
        assert (again.status, again.ok, again.graph) == (run.status, run.ok, run.graph)
        assert (again.data, again.counts) == (run.data, run.counts)
        assert [(n.id, n.ended, n.fingerprint) for n in again.nodes] == [(n.id, n.ended, n.fingerprint) for n in run.nodes]
        assert again.values("parse") == run.values("parse") and again.why("parse", 2) == run.why("parse", 2)
        assert [(f.node, type(f.error).__name__, str(f.error)) for f in again.failures] == [
            (f.node, type(f.error).__name__, str(f.error)) for f in run.failures
        ]
        assert [(v.number, v.nodes) for v in again.history] == [(v.number, v.nodes) for v in run.history]
    assert cp.runs(str(tmp_path / "nothing here")) == [] and not (tmp_path / "nothing here").exists()


def test_r6_readers_import_no_user_code_and_never_write(tmp_path):
    """The script may be gone; `status`, `history`, `why` and `gc` go on, and the readers leave each byte as it was."""
    script = Script(tmp_path, STORY.replace("executor=sys.argv[2]", 'dir="kept"'))
    (tmp_path / "rows.yml").write_text(BROKEN)
    script.run("run")
    script.path.unlink()
    kept = tmp_path / "kept"
    before = {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    assert "failed" in script.command("status", "--dir", "kept").out
    history = script.command("history", "--dir", "kept").out
    assert "number: None → 1.0" in history and "parse[1]" in history
    why = script.command("why", "parse[3]", "--dir", "kept").out
    assert "ValueError" in why and "3,5" in why and "job.py" in why
    assert "parse[3]" in script.command("why", "last[3]", "--dir", "kept").out
    assert {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()} == before
    script.command("gc", "--dir", "kept")
    run = cp.runs(kept)[-1]
    assert run.status == "failed" and run.counts["parse"] == {"computed": 4, "failed": 1}


def test_r6_plain_parts_of_a_run_need_no_classes(tmp_path):
    """Only `value` and records need the user's classes."""
    script = Script(tmp_path, STORY)
    (tmp_path / "rows.yml").write_text(BROKEN)
    script.run("run", "threads")
    script.path.unlink()
    run = cp.runs(tmp_path / ".cpgraph")[-1]
    assert not run.ok and len(run.nodes) == 16 and run.why("parse", 3) and run.failures[0].node == "parse[3]"
    assert run.counts["first"] == {"computed": 5} and [version.nodes for version in run.history]


def test_r6_records_of_classes_that_cannot_be_found_are_shown_plain(tmp_path):
    """A script that is not importable from here, a class made in a function; asked for by a class, they are of it."""

    @cp.model
    class Local:
        id: int
        text: str = ""

    def change(record: Local):
        return cp.update(text="changed")

    run = cp.Graph(cp.pipeline(change, each=Local)).run([Local(id=1)], dir=tmp_path / "local")
    (found,) = cp.runs(tmp_path / "local")
    assert found.data == run.data == {"Local": [{"id": 1, "text": "changed"}]}
    assert found.store.find(Local, 1) == Local(id=1, text="changed") and found.store.where(Local, text="changed")
    assert [str(version.diff) for version in found.history] == [str(version.diff) for version in run.history]
    assert found.nodes[0].ended == "computed" and found.why("change", 1)

    script = Script(tmp_path / "script", STORY, name="not_to_be_found.py")
    (tmp_path / "script" / "rows.yml").write_text(BROKEN)
    script.run("run", "threads")
    (found,) = cp.runs(tmp_path / "script" / ".cpgraph")
    assert found.data["Row"][0] == {"id": 1, "text": "1", "number": 1.0} and found.values("parse")[5] == 5.0
    assert "number: None → 1.0" in "".join(str(version.diff) for version in found.history)


@pytest.mark.parametrize("command", [["status"], ["history"], ["why", "parse[1]"], ["gc"]])
def test_r6_where_nothing_has_run_that_is_said(tmp_path, command):
    """With status 0, and nothing is created."""
    script = Script(tmp_path, "")
    for where in ([], ["--dir", "some/where"]):
        done = script.command(*command, *where)
        assert "nothing has run" in done.out
    assert {path.name for path in tmp_path.iterdir()} == {"job.py"}


def test_r6_render_of_a_run(tmp_path):
    """`-o FILE`, SVG to stdout without, and `--run`."""
    script = Script(tmp_path, STORY)
    (tmp_path / "rows.yml").write_text(BROKEN)
    script.run("run", "threads")
    out = script.command("render", "job.py").out
    assert out.lstrip().startswith("<") and "</svg>" in out and "parse" in out
    assert script.command("render", "job.py", "-o", "g.svg").out == "" and "<svg" in (tmp_path / "g.svg").read_text()
    drawn = script.command("render", "job.py", "--run", "last").out
    assert "</svg>" in drawn and drawn != out


def test_r6_a_run_that_goes_on_can_be_read(tmp_path):
    """From another process, while it goes on; it is said to run, and nobody waits."""
    script = Script(
        tmp_path,
        """
        from cpgraph.events import NodeEnded
        def one() -> int:
            return 1
        def two(one: int) -> int:
            sys.stdin.readline()
            return 2
        graph = cp.Graph(one, two)
        if __name__ == "__main__":
            stream = cp.Stream()
            stream.on(NodeEnded)(lambda event: print(event.node, flush=True))
            graph.run(stream=stream)
        """,
    )
    process = script.start()
    try:
        assert process.stdout.readline() == "one\n"
        (run,) = cp.runs(tmp_path / ".cpgraph")
        assert run.status == "running" and run.counts == {"one": {"computed": 1}, "two": {}} and run.value("one") == 1
        assert "running" in script.command("status").out
    finally:
        process.communicate("go on\n")
    assert process.returncode == 0 and cp.runs(tmp_path / ".cpgraph")[0].status == "ok"


# R8: what is said, and where


def test_r8_dir_is_dot_cpgraph_in_the_working_directory_and_the_first_line_says_where(tmp_path, monkeypatch, capsys):
    """Unless said."""

    def one() -> int:
        return 1

    monkeypatch.chdir(tmp_path)
    cp.Graph(one).run()
    assert (tmp_path / ".cpgraph").is_dir()
    assert ".cpgraph" in capsys.readouterr().err.splitlines()[0]
    cp.Graph(one).run(dir="other")
    assert "other" in capsys.readouterr().err.splitlines()[0] and (tmp_path / "other").is_dir()
    cp.Graph(one).run(dir=None)
    assert "memory" in capsys.readouterr().err.splitlines()[0]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_r8_what_a_step_prints_goes_where_the_scripts_output_goes(tmp_path, executor):
    """On stdout the script's output alone; on stderr, which is no terminal, the first line and the summary, no progress."""
    script = Script(
        tmp_path,
        """
        def one() -> int:
            print("from the step", flush=True)
            return 1
        graph = cp.Graph(one)
        if __name__ == "__main__":
            print(graph.run(executor=sys.argv[1]).value(one))
        """,
    )
    done = script.run(executor)
    assert done.out.splitlines() == ["from the step", "1"]
    assert len(done.err.splitlines()) == 2 == len(done.said) and done.last.startswith("ok: 1 computed")


def test_r8_the_last_line_of_a_run_that_computed_nothing_says_so(tmp_path, capsys):
    """And how to make it."""

    def one() -> int:
        return 1

    def two(one: int) -> int:
        return one

    graph = cp.Graph(cp.pipeline(one, two))
    graph.run(dir=tmp_path)
    capsys.readouterr()
    graph.run(dir=tmp_path)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("cpgraph: ok: 0 computed, 2 cached: nothing had changed") and "redo" in last
    script = Script(tmp_path / "s", "def one(): return 1\ngraph = cp.Graph(one)\n")
    script.command("run", "job.py")
    last = script.command("run", "job.py").last
    assert last.startswith("ok: 0 computed, 1 cached: nothing had changed") and "--redo" in last


def test_r8_logging_goes_through_the_logger_cpgraph(tmp_path, caplog):
    """A handler that raises is reported there, and ends nothing."""

    def one(stream) -> int:
        stream.push("ping", 1)
        return 1

    stream = cp.Stream()

    @stream.on("ping")
    def broken(payload):
        raise ValueError("a broken handler")

    with caplog.at_level(logging.DEBUG):
        assert cp.Graph(one).run(dir=tmp_path, stream=stream).ok
    records = [record for record in caplog.records if "handler" in record.getMessage()]
    assert [record.name for record in records] == ["cpgraph"] and "a broken handler" in str(records[0].exc_info[1])


def test_r8_run_works_inside_a_running_event_loop(tmp_path):
    """As in notebooks; also with async steps."""

    async def slow(id: int) -> int:
        await asyncio.sleep(0)
        return id

    def plain(slow: list[int]) -> int:
        return sum(slow)

    graph = cp.Graph(cp.pipeline(cp.pipeline(slow, each=Row), plain))

    async def notebook(executor):
        return graph.run(rows(1, 2, 3), dir=tmp_path / executor, executor=executor)

    for executor in ("threads", "inline"):
        run = asyncio.run(notebook(executor))
        assert run.ok and run.value(plain) == 6


def test_r8_a_run_at_import_by_the_command_is_an_error_with_the_mend(tmp_path):
    """Nothing has run then."""
    script = Script(tmp_path, "def one():\n    note('one')\ngraph = cp.Graph(one)\ngraph.run()\n")
    done = script.command("run", "job.py", status=2)
    assert '__name__ == "__main__"' in done.err and done.log == [] and not (tmp_path / ".cpgraph").exists()
    assert script.run().log == ["one"]


# R9: sharing a directory


def test_r9_two_graphs_share_the_cache_not_the_line(tmp_path):
    """Each resumes its own."""

    def work(id: int) -> int:
        return id

    one, two = (cp.Graph(cp.pipeline(work, each=Row), name=name) for name in ("one", "two"))
    one.run(rows(1, 2), dir=tmp_path)
    run = two.run(rows(2, 3), dir=tmp_path)
    assert ended(run, "work") == {2: "cached", 3: "computed"} and run.values(work) == {2: 2, 3: 3}
    assert one.resume(dir=tmp_path).values(work) == {1: 1, 2: 2} and two.resume(dir=tmp_path).values(work) == {2: 2, 3: 3}
    assert [(run.graph, run.number) for run in cp.runs(tmp_path)] == [("one", 1), ("two", 2), ("one", 3), ("two", 4)]


def test_r9_runs_at_the_same_time_make_lines_of_their_own(tmp_path):
    """Neither's store contains the other's records; the numbers of their versions are all different."""
    meet = threading.Barrier(2, timeout=60)

    def graph(name, first):
        def make() -> list[int]:
            meet.wait()
            return [cp.create(Row(id=first + n)) for n in range(5)]

        def touch(id: int):
            meet.wait() if id == first else None
            return cp.update(text=name)

        return cp.Graph(cp.pipeline(make, cp.pipeline(touch, each=Row)), name=name, models=[Row])

    runs = {}
    threads = [
        threading.Thread(target=lambda name=name, first=first: runs.update({name: graph(name, first).run(dir=tmp_path)}))
        for name, first in (("a", 0), ("b", 100))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert runs["a"].ok and runs["b"].ok
    assert [row["id"] for row in runs["a"].data["Row"]] == [0, 1, 2, 3, 4]
    assert [row["id"] for row in runs["b"].data["Row"]] == [100, 101, 102, 103, 104]
    numbers = [version.number for run in runs.values() for version in run.history if version.number]
    assert len(numbers) == len(set(numbers)) == 12
    assert {run.graph: run.data for run in cp.runs(tmp_path)} == {name: run.data for name, run in runs.items()}


def test_r9_two_processes_of_one_script_at_once(tmp_path):
    """Both meet in the middle of their runs; both are right, and both lines are there."""
    script = Script(
        tmp_path,
        """
        @cp.model
        class Row:
            id: int
            text: str = ""
        def work(id: int):
            if id == 3:
                print("half way", flush=True)
                sys.stdin.readline()
            return cp.update(text=sys.argv[1] * id)
        graph = cp.Graph(cp.pipeline(cp.alias(work, "work", version=sys.argv[1]), each=Row))
        if __name__ == "__main__":
            run = graph.run([Row(id=n) for n in range(8)], concurrency=2)
            print([row["text"] for row in run.data["Row"]])
        """,
    )
    both = [script.start(name) for name in "ab"]
    for process in both:
        assert process.stdout.readline() == "half way\n"
    for name, process in zip("ab", both, strict=True):
        out, err = process.communicate("go on\n", timeout=60)
        assert process.returncode == 0, err
        assert out.strip() == str([name * n for n in range(8)])
    runs = cp.runs(tmp_path / ".cpgraph")
    assert [run.status for run in runs] == ["ok", "ok"]


def test_r9_a_run_inside_a_step_with_another_directory_or_none(tmp_path, capsys):
    """Is allowed; it says nothing of its own."""

    def inner() -> int:
        return 21

    def outer(twice: int = 2) -> int:
        small = cp.Graph(inner)
        return small.run(dir=None).value(inner) * twice + small.run(dir=tmp_path / "inner").value(inner) * 0

    for executor in ("threads", "inline"):
        assert cp.Graph(outer).run(dir=tmp_path / executor, executor=executor).value(outer) == 42
    assert len(capsys.readouterr().err.splitlines()) == 4, "first and last lines of the outer runs"


# R10: stopping from outside


@pytest.mark.parametrize("executor", EXECUTORS)
def test_r10_a_stop_event_cancels_and_resume_goes_on(tmp_path, executor):
    """What runs ends, the status is "interrupted", the rest runs at `resume`."""
    stop = threading.Event()
    stream = cp.Stream()
    stream.on("now")(stop.set)
    graph = cp.Graph(cp.pipeline(first, second), name="g")
    run = graph.run(dir=tmp_path, stop=stop, stream=stream, executor=executor)
    assert run.status == "interrupted" and not run.ok and run.counts == {"first": {"computed": 1}, "second": {}}
    assert cp.runs(tmp_path)[-1].status == "interrupted"
    again = graph.resume(dir=tmp_path, executor=executor)
    assert again.ok and again.counts == {"first": {"cached": 1}, "second": {"computed": 1}}


def first(stream: cp.Stream) -> int:
    stream.push("now")
    return 1


def second(first: int) -> int:
    return first + 1


def test_r10_a_stop_event_that_is_set_already_runs_nothing(tmp_path):
    """And nothing is lost."""
    stop = threading.Event()
    stop.set()
    run = cp.Graph(cp.pipeline(first, second)).run(dir=tmp_path, stop=stop)
    assert run.status == "interrupted" and run.counts == {"first": {}, "second": {}}


def test_r10_what_runs_ends(tmp_path):
    """The step under way is waited for and committed; nothing more is started."""
    stop, begun = threading.Event(), threading.Event()
    log = []

    def work(id: int) -> int:
        log.append(id)
        stop.set()
        begun.set()
        return id

    graph = cp.Graph(cp.pipeline(work, each=Row, concurrency=1))
    run = graph.run(rows(*range(20)), dir=tmp_path, stop=stop, concurrency=1)
    assert run.status == "interrupted" and begun.is_set()
    assert sorted(run.values(work)) == sorted(log) and len(log) < 20


def test_r10_no_color_is_honoured(tmp_path):
    """On a terminal, too."""
    pty = pytest.importorskip("pty")
    Script(tmp_path, "def one(): return 1\ngraph = cp.Graph(one)\nif __name__ == '__main__': graph.run(redo=one)\n")
    shown = {}
    for name, environment in (("plain", {"NO_COLOR": "1"}), ("colour", {})):
        master, slave = pty.openpty()
        import subprocess
        import sys

        kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "CI")}
        process = subprocess.Popen(
            [sys.executable, "job.py"], cwd=tmp_path, stderr=slave, env={**kept, "TERM": "xterm-256color", **environment}
        )
        os.close(slave)
        text = b""
        while True:
            try:
                chunk = os.read(master, 4096)
            except OSError:
                break
            if not chunk:
                break
            text += chunk
        assert process.wait(60) == 0
        os.close(master)
        shown[name] = text.decode()
    assert "\x1b[1;32m" in shown["colour"] or "\x1b[32m" in shown["colour"]
    import re

    colours = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
    assert not colours.search(shown["plain"]), shown["plain"]


def test_script_helper_keeps_the_directory_clean(tmp_path):
    """What the tests here rely on: each script has a directory of its own."""
    script = Script(tmp_path / "a", "note('x')\n")
    assert script.run().log == ["x"] and script.run().log == ["x"] and Path("log.txt").exists() is False
