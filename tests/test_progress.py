"""What a run says on stderr: its first line and its summary, literally (rules R8, O1, F4)."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

import cpgraph as cp
from cpgraph.summary import Origin, Outcomes, duration, last_line, short_path, summary


@cp.model
class Order:
    id: int
    amount: str = "1"
    total: float | None = None


@cp.step(sets="total")
def parse(amount: str) -> float:
    return float(amount)


@cp.step
def check(record: Order) -> None:
    if record.id == 3:
        raise KeyError("zip")


@cp.step
def report(store: cp.Store) -> float:
    return sum(total or 0.0 for total in store.values(Order, "total"))


def orders(**options: Any) -> cp.Graph:
    return cp.Graph(cp.pipeline(cp.pipeline(parse, check, each=Order, **options), report), name="orders")


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was printed to stderr, with times left out; nothing was to stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    return re.sub(r"in [\d.]+ s$", "in … s", err, flags=re.MULTILINE).splitlines()


BAD = [Order(id=1), Order(id=2, amount="1,5"), Order(id=3, amount="3"), Order(id=4, amount="2,5")]
PLACE = f"{short_path(__file__)}:{parse.__code__.co_firstlineno + 2}"
CHECK = f"{short_path(__file__)}:{check.__code__.co_firstlineno + 3}"


def test_r8_the_first_line_says_where_and_the_last_line_how_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orders().run([Order(id=1), Order(id=2, amount="2")], dir=tmp_path)
    assert said(capsys) == [
        f"cpgraph: run orders: results are kept in {tmp_path}{os.sep}",
        "cpgraph: ok: 5 computed in … s",
    ]


def test_r8_a_run_that_computed_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        orders().run([Order(id=1)], dir=tmp_path)
    assert said(capsys)[-1] == "cpgraph: ok: 0 computed, 3 cached: nothing had changed (redo=… computes it anew)"
    orders().resume(dir=tmp_path)
    assert said(capsys)[-1] == "cpgraph: ok: 0 computed, 3 cached: nothing was left to do (redo=… computes it anew)"


def test_a_failed_run_says_what_failed_and_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = orders().run(BAD, dir=tmp_path, executor="inline")
    assert not run.ok
    lines = said(capsys)
    shown = [line for line in lines if not line.lstrip().startswith(("File", "return float", "~~~", "^^^"))]
    assert shown == [
        f"cpgraph: run orders: results are kept in {tmp_path}{os.sep}",
        "cpgraph: 3 failures, of 2 kinds:",
        "  2 × ValueError, the first: could not convert string to float: '1,5'",
        f"      at {PLACE} in parse[2], parse[4]",
        "  1 × KeyError: 'zip'",
        f"      at {CHECK} in check[3]",
        "cpgraph: parse[2] in full:",
        "    given: Order(id=2, amount='1,5', total=None)",
        "    Traceback (most recent call last):",
        "    ValueError: could not convert string to float: '1,5'",
        "cpgraph: blocked behind what failed: 2 of check, 1 of report",
        "cpgraph: mend it, and go on:",
        f"  graph.resume(dir={str(tmp_path)!r})".ljust(len(lines[-2].split("  shows")[0]))
        + "  keeps what worked, and does the rest",
        f"  cpgraph why 'check[3]' --dir {tmp_path}  shows one failure in full",
        "cpgraph: failed: 3 computed, 3 failed, 3 blocked in … s",
    ]
    assert any(f'File "{__file__}"' in line for line in lines)


def test_f1_what_was_skipped_as_asked_is_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = orders(on_error="skip", name="each order").run(BAD, dir=tmp_path)
    lines = said(capsys)
    assert not run.ok
    assert 'cpgraph: skipped as asked: 3 of each order (on_error="skip")' in lines
    assert "cpgraph: blocked behind what failed: 2 of check" in lines


def test_f1_the_pipeline_that_skips_is_named_also_if_what_failed_is_deep_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    for parts, named in (
        ((cp.pipeline(parse), report), "the pipeline from parse to report"),
        ((cp.pipeline(parse),), "the pipeline of parse"),
    ):
        cp.Graph(cp.pipeline(*parts, each=Order, on_error="skip")).run(BAD, dir=None)
        assert f'cpgraph: skipped as asked: 2 of {named} (on_error="skip")' in said(capsys)


def test_o1_each_hint_once_with_its_mend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def count(parse: list[float]) -> int:
        return len(parse)

    graph = cp.Graph(cp.pipeline(cp.pipeline(parse, check, each=Order, on_error="skip"), count), name="orders")
    run = graph.run(BAD, dir=tmp_path)
    lines = said(capsys)
    assert run.hints
    assert lines.count("cpgraph: told:") == 1
    for hint in run.hints:
        (place,) = (n for n, line in enumerate(lines) if line.startswith(f"  {hint.text}"))
        assert lines[place + 1] == f"      Mend: {hint.mend}"


def test_r10_an_interrupted_run_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop, stream = threading.Event(), cp.Stream()
    stream.on(cp.events.NodeStarted)(lambda event: stop.set())
    graph = cp.Graph(cp.pipeline(parse, each=Order), name="asks")
    run = graph.run([Order(id=1), Order(id=2, amount="2")], dir=tmp_path, stop=stop, stream=stream, executor="inline")
    assert run.status == "interrupted"
    assert said(capsys)[1:] == [
        "cpgraph: go on:",
        f"  graph.resume(dir={str(tmp_path)!r})  keeps what worked, and does the rest",
        "cpgraph: interrupted: 1 computed in … s",
    ]


def test_in_memory_there_is_nothing_to_go_on_from(capsys: pytest.CaptureFixture[str]) -> None:
    orders().run(BAD, dir=None)
    lines = said(capsys)
    assert lines[0] == "cpgraph: run orders: results are kept in memory"
    assert lines[-2] == 'cpgraph: this run was kept in memory: give dir=".cpgraph" to be able to go on from one'


def test_a_graph_without_records_says_that_it_got_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    orders().run(dir=None)
    assert "no data given: it begins without records" in said(capsys)[0]
    orders().run([], dir=None)
    assert "no data" not in said(capsys)[0]


def test_a_conflict_is_counted_apart_from_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    def one() -> cp.models.Update:
        return cp.update(Order, 1, amount="2")

    def two() -> cp.models.Update:
        return cp.update(Order, 1, amount="3")

    run = cp.Graph(one, two, models=[Order], name="both").run([Order(id=1)], dir=None)
    lines = said(capsys)
    assert len(run.failures) == 1
    assert lines[1] == "cpgraph: 1 failure:"
    assert lines[2].startswith("  1 × ConflictError: two writes 'amount' of Order 1, and so does one")
    assert lines[-1] == "cpgraph: failed: 2 computed, 1 conflict in … s"


def test_a_run_inside_a_step_is_the_steps_to_report(capsys: pytest.CaptureFixture[str]) -> None:
    def outer() -> bool:
        return orders().run(BAD, dir=None, executor="inline").ok

    for executor in ("inline", "threads"):
        run = cp.Graph(outer, name="outer").run(dir=None, executor=executor)
        assert run.value("outer") is False
        assert said(capsys) == ["cpgraph: run outer: results are kept in memory", "cpgraph: ok: 1 computed in … s"]


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_a_stderr_that_is_gone_is_nobodys_failure(stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if stream is not None:
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    assert orders().run([Order(id=1)], dir=None).ok


def test_nobody_listens_for_the_sake_of_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = cp.Stream()
    orders().run([Order(id=1)], dir=None, stream=stream)
    assert not any(stream.listens(kind) for kind in (cp.events.NodeStarted, cp.events.NodeEnded, cp.events.Hint))


# From a script


SCRIPT = """
    import sys
    import cpgraph as cp

    @cp.model
    class Order:
        id: int
        amount: str

    def parse(amount: str, limit: int = 5) -> float:
        return float(amount)

    graph = cp.Graph(cp.pipeline(parse, each=Order), name="orders")
    {more}
    if __name__ == "__main__":
        graph.run([Order(id=1, amount="x")], {options})
"""


def script(tmp_path: Path, options: str = "", more: str = "") -> list[str]:
    path = tmp_path / "orders.py"
    path.write_text(textwrap.dedent(SCRIPT).format(options=options, more=more), encoding="utf-8")
    done = subprocess.run([sys.executable, path.name], cwd=tmp_path, capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    start = lines.index("cpgraph: mend it, and go on:")
    return [line.split("  ")[1] for line in lines[start + 1 : -1]]


def test_f4_a_script_is_told_the_command_and_the_call(tmp_path: Path) -> None:
    assert script(tmp_path) == ["cpgraph resume orders.py", "graph.resume()", "cpgraph why 'parse[1]'"]


def test_f4_with_the_directory_and_parameters_of_the_run(tmp_path: Path) -> None:
    assert script(tmp_path, 'dir="my results", params={"limit": 7}') == [
        "cpgraph resume orders.py --dir 'my results' --set limit=7",
        "graph.resume(dir='my results', params={'limit': 7})",
        "cpgraph why 'parse[1]' --dir 'my results'",
    ]


def test_f4_of_several_graphs_the_one_that_ran_is_named(tmp_path: Path) -> None:
    assert script(tmp_path, more="other = cp.Graph(parse, params=['amount'])")[0] == "cpgraph resume orders.py:graph"


def test_k1_a_module_run_with_m_is_named_as_a_module(tmp_path: Path) -> None:
    script(tmp_path)
    (tmp_path / "shop").mkdir()
    (tmp_path / "orders.py").rename(tmp_path / "shop" / "orders.py")
    command = [sys.executable, "-m", "shop.orders"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, encoding="utf-8")
    assert "  cpgraph resume shop.orders  " in done.stderr


# The texts alone


def test_the_command_line_is_quoted_for_the_shell() -> None:
    origin = Origin("my orders.py", "", ("--set", "key=a b"), (), "x y")
    assert origin.command("resume") == "cpgraph resume 'my orders.py' --set 'key=a b'"
    assert origin.reader("why", 'f["3"]') == "cpgraph why 'f[\"3\"]' --dir 'x y'"


def test_long_texts_and_many_kinds_are_cut_short(tmp_path: Path) -> None:
    def burst(record: Order) -> None:
        kind = type(f"Error{record.id}", (Exception,), {})
        raise kind("word " * 1_000 + "\nsecond line")

    run = cp.Graph(cp.pipeline(burst, each=Order), name="burst").run([Order(id=n) for n in range(30)], dir=None)
    lines = summary(run, Outcomes({"burst": [0, 0, 30, 0, 0]}), Origin(directory=None))
    assert lines[0] == "30 failures, of 30 kinds:"
    assert "  and 20 kinds more: see run.failures" in lines
    heads = [line for line in lines if line.startswith("  1 × ")]
    assert len(heads) == 10
    assert max(map(len, heads)) < 180
    assert not any("second line" in line for line in heads)


def test_f4_texts_that_differ_in_a_group_are_not_passed_off_as_one(tmp_path: Path) -> None:
    """Grouped is by type and line; of failures that no line of the user's has raised, by what they say beside ids and numbers."""

    def weigh(record: Order) -> None:
        raise ValueError(f"too long: {record.id}")

    def same(record: Order) -> None:
        raise ValueError("too long")

    def write(record: Order) -> object:
        return cp.create(Order(id=record.id, amount="")) if record.id < 3 else cp.update(nothing=1)

    graph = cp.Graph(cp.pipeline([weigh, same, write], each=Order), name="burst")
    run = graph.run([Order(id=n, amount="") for n in range(7)], dir=None)
    lines = summary(run, Outcomes({"weigh": [0, 0, 7, 0, 0]}), Origin(directory=None))
    assert [line for line in lines if " × " in line] == [
        "  7 × ValueError, the first: too long: 0",
        "  7 × ValueError: too long",
        "  4 × CpgraphError: an update does not fit Order",
        "  3 × CpgraphError, the first: Order 0 exists already",
    ]
    assert (
        str(run.failures).splitlines()[3]
        == "3 × CpgraphError, the first: Order 0 exists already at write: write[0], write[1], write[2]"
    )


def test_no_frame_of_this_library_is_shown_of_what_a_failure_came_from() -> None:
    def missing() -> cp.File:
        return cp.File("there/is/none")

    def caused() -> int:
        try:
            return int("x")
        except ValueError as error:
            raise KeyError("outer") from error

    def named() -> int:
        raise KeyError("outer") from ValueError("raised by nobody")

    run = cp.Graph([missing, caused, named]).run(dir=None)
    texts = {failure.node: failure.traceback for failure in run.failures}
    assert "File " not in texts["missing"].replace("a File that", "") and texts["missing"].count("is not there") == 1
    assert texts["caused"].count("Traceback") == 2 and "invalid literal" in texts["caused"]
    assert "raised by nobody" in texts["named"]


def test_a_record_that_cannot_be_shown_is_named_by_its_type() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    def give() -> list[Odd]:
        return [Odd()]

    def fail(odd: Odd) -> None:
        raise ValueError("bad")

    run = cp.Graph(cp.pipeline(give, cp.pipeline(fail, each={"odd": give})), name="odd").run(dir=None)
    lines = summary(run, Outcomes({"fail": [0, 0, 1, 0, 0]}), Origin(directory=None))
    assert any(line.startswith("  1 × ValueError: bad") for line in lines)


def test_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    run = cp.Graph(cp.pipeline(parse, each=Order), name="orders").run([], dir=None)
    assert said(capsys)[-1] == "cpgraph: ok: 0 computed: there was nothing to do"
    assert last_line(run, Outcomes({"parse": [0, 1_234, 0, 0, 2]})) == (
        "ok: 0 computed, 1,234 cached, 2 closed: nothing had changed (redo=… computes it anew)"
    )


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0.0, 0.994, 9.96, 59.4, 3_599.0, 36_000.0)] == [
        "0.00 s",
        "0.99 s",
        "10.0 s",
        "59 s",
        "59 min 59 s",
        "10 h 0 min",
    ]
