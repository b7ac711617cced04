"""Starting runs: what is told before anything runs."""

import gc
from pathlib import Path

import pytest

import cpgraph as cp
from cpgraph import disk


def one() -> int:
    return 1


def test_s2_a_directory_on_the_network_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = cp.Graph(one)
    assert [hint.kind for hint in graph.run(dir=tmp_path / "near").hints] == []
    monkeypatch.setattr(disk, "network_file_system", lambda path: "nfs4")
    (hint,) = graph.run(dir=tmp_path / "far").hints
    assert hint.kind == "network"
    assert "far is on a file system of the network (nfs4)" in hint.text
    assert hint.mend.startswith("name a directory on a local disk")


def test_a_run_in_memory_is_closed_with_what_asks_of_it(recwarn: pytest.WarningsRecorder) -> None:
    run = cp.Graph(one).run(dir=None)
    assert run.value(one) == 1
    del run
    gc.collect()
    assert not [warning for warning in recwarn if warning.category is ResourceWarning]
