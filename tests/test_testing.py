"""`cpgraph.testing`: a run in a test, and its log asserted literally (issue item 6)."""

from __future__ import annotations

from pathlib import Path

import pytest

import cpgraph as cp
from cpgraph.testing import Log, run


@cp.model
class Order:
    id: int
    amount: str = "1"
    done: bool = False


def parse(amount: str) -> float:
    return float(amount)


def save(parse: float) -> cp.models.Update:
    return cp.update(done=parse > 0)


def report(parse: list[float]) -> float:
    return sum(parse)


graph = cp.Graph(cp.pipeline(cp.pipeline(parse, save, each=Order), report), name="orders")


def test_it_runs_in_this_thread_and_in_memory_and_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = run(graph, [Order(id=1, amount="2"), Order(id=2)])
    assert made.value(report) == 3.0
    assert made.data == {"Order": [{"id": 1, "amount": "2", "done": True}, {"id": 2, "amount": "1", "done": True}]}
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_failures_are_raised_as_they_were() -> None:
    with pytest.raises(ExceptionGroup, match="2 failures in run 1 of orders") as caught:
        run(graph, [Order(id=1, amount="x"), Order(id=2), Order(id=3, amount="y")])
    assert [type(error) for error in caught.value.exceptions] == [ValueError, ValueError]
    assert "could not convert" in str(caught.value.exceptions[0])


def test_options_are_those_of_run() -> None:
    def scaled(n: int, by: int = 2) -> int:
        return n * by

    scaling = cp.Graph(scaled, params=["n"], name="scaling")
    assert run(scaling, params={"n": 4, "by": 3}).value("scaled") == 12
    assert run(scaling, params={"n": 4}, executor="threads", concurrency=2).value("scaled") == 8
    with pytest.raises(TypeError, match="unexpected keyword argument 'parms'"):
        run(scaling, parms={"n": 4})


def test_what_happened_can_be_asserted_literally() -> None:
    log = Log()
    run(graph, [Order(id=1), Order(id=2, amount="2")], stream=log.stream)
    assert log == [
        "parse[1] started",
        "parse[1] computed",
        "save[1] started",
        "save[1] computed",
        "parse[2] started",
        "parse[2] computed",
        "save[2] started",
        "save[2] computed",
        "report started",
        "report computed",
    ]


def test_nothing_ran_again_is_an_empty_list(tmp_path: Path) -> None:
    log = Log()
    run(graph, [Order(id=1), Order(id=2, amount="2")], dir=tmp_path, stream=log.stream)
    log.clear()
    run(graph, [Order(id=1), Order(id=2, amount="2")], dir=tmp_path, stream=log.stream)
    assert log.computed == []
    assert log == ["parse[1] cached", "parse[2] cached", "save[1] cached", "save[2] cached", "report cached"]
    log.clear()
    run(graph, [Order(id=1), Order(id=2, amount="3")], dir=tmp_path, stream=log.stream)
    assert log.computed == ["parse[2]", "save[2]", "report"]


def test_failed_and_blocked_are_in_the_log() -> None:
    log = Log()
    with pytest.raises(ExceptionGroup):
        run(graph, [Order(id=1, amount="x")], stream=log.stream)
    assert log == ["parse[1] started", "parse[1] failed", "save[1] blocked", "report blocked"]
    assert log.ended("blocked") == ["save[1]", "report"]


def test_pushes_guards_and_hints_are_in_the_log() -> None:
    def work(record: Order, stream: cp.Stream) -> cp.models.Update:
        stream.push("progress", {"id": record.id})
        stream.push("unasked", 1)
        stream.push("beat")
        return cp.update(done=True)

    def last(store: cp.Store) -> int:
        return store.count(Order, done=True)

    guarded = cp.Graph(
        cp.pipeline(work, each=Order),
        cp.pipeline(last, name="last part", open=lambda store: store.count(Order, done=True) >= 2),
        name="guarded",
    )
    log = Log("progress", "beat")
    run(guarded, [Order(id=1), Order(id=2)], stream=log.stream)
    assert [text for text in log if not text.startswith("told ")] == [
        "work[1] started",
        "progress {'id': 1}",
        "beat",
        "work[1] computed",
        "work[2] started",
        "progress {'id': 2}",
        "beat",
        "work[2] computed",
        "guard of last part opened",
        "last started",
        "last computed",
    ]


def test_a_stream_of_ones_own_can_be_logged() -> None:
    stream = cp.Stream()
    log = Log(stream=stream)
    run(graph, [], stream=stream)
    assert log == ["report started", "report computed"]
