"""The benchmarks, so small that they take seconds: that they run, check what they measure, and say it. Never how quick it was."""

import json
from pathlib import Path

import pytest

from bench import jobs
from bench.__main__ import main, row, table
from bench.figures import FIGURES, Measured

ROWS = {
    "speed": ["cold", "cold, CPU", "warm", "warm, CPU", "incremental, 1 changed", "incremental, CPU"],
    "queries": ["one query each", "one query each, CPU"],
    "fan-out": ["fan-out, threads", "fan-out, async"],
    "growth": ["growth", "growth, CPU"],
    "calls": ["calls per node, cold", "calls per node, warm"],
    "disk": ["bytes per node on disk", "files", "commits per 1,000 nodes"],
    "memory": ["memory at 90 nodes", "memory per further node"],
    "import": ["import, CPU over bare Python"],
    "guard": ["guard, 400 over 40", "guard, CPU"],
    "chain": ["chain of steps, 60 over 6", "chain of steps, CPU"],
    "wide graph": ["wide graph, 80 over 8", "wide graph, CPU"],
    "loop": ["loop of creations, 60 over 6", "loop of creations, CPU"],
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_measured_and_written(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    main(["--quick", "--rounds", "1", "--only", name, "--out", str(out), "--dir", str(tmp_path)])
    found = json.loads(out.read_text())
    assert [figure["figure"] for figure in found["figures"]] == ROWS[name]
    for figure in found["figures"]:
        assert figure["measured"] >= 0
        assert figure["floor"] > 0
        assert figure["goal"] > 0
        assert figure["within"] in ("goal", "2x goal", "no")
        assert len(figure["rounds"]) == found["rounds"] == 1
    shown = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in shown[1:-1]] == ROWS[name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json"]  # the stores are gone


def test_what_a_job_runs_is_counted(tmp_path: Path) -> None:
    place = str(tmp_path / "store")
    assert jobs.trivial(place, 20, 60)["computed"] == 60
    assert jobs.trivial(place, 20, 0)["computed"] == 0
    assert jobs.trivial(place, 20, 3, changed=10)["computed"] == 3
    with pytest.raises(AssertionError):
        jobs.trivial(place, 20, 60)  # nothing is left to compute


def test_what_is_said_of_several_rounds_is_the_median() -> None:
    found = row([Measured("f", value, "us", floor, 2) for value, floor in ((2.0, 2.0), (9.0, 3.0), (40.0, 4.0))])
    assert (found["measured"], found["floor"], found["ratio"], found["within"]) == (9.0, 3.0, 3.0, "2x goal")
    assert row([Measured("f", 4.1, "us", 1.0, 2)])["within"] == "no"
    assert row([Measured("f", 2.0, "us", 1.0, 2)])["within"] == "goal"
    assert table([found]).splitlines()[1].split() == ["f", "9", "us", "3", "3.00", "2", "4", "2x", "goal"]


def test_what_is_asked_for_wrongly_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--only", "nothing"], ["--rounds", "0"]):
        with pytest.raises(SystemExit) as raised:
            main([*wrong, "--out", str(tmp_path / "bench.json")])
        assert raised.value.code == 2
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
