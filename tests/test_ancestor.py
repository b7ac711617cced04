"""What the tool this descends from did, and ours may not do less: its 21 behaviours, each with a test of its number."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from attrs.exceptions import FrozenInstanceError

import cpgraph as cp
from cpgraph.testing import Log
from cpgraph.testing import run as run_here


@cp.model
class Parcel:
    id: int
    weight: float
    state: str = "new"

    @property
    def heavy(self) -> bool:
        return self.weight > 10


@cp.model
class Label:
    id: str = cp.auto_id()
    text: str


def weigh(record: Parcel) -> Any:
    return cp.update(state="weighed")


PARCELS = [Parcel(id=1, weight=2.0), Parcel(id=2, weight=12.0)]


def test_a1_steps_run_in_order_and_the_run_is_true_only_if_all_succeeded() -> None:
    def pack() -> str:
        return "packed"

    def ship(pack: str) -> str:
        return f"{pack}, shipped"

    def lose(ship: str) -> None:
        raise LookupError("lost")

    log = Log()
    run = run_here(cp.Graph(cp.pipeline(pack, ship)), stream=log.stream)
    assert run
    assert log.computed == ["pack", "ship"]
    bad = cp.Graph(cp.pipeline(pack, ship, lose)).run(dir=None)
    assert not bad
    assert bad.counts["lose"] == {"failed": 1}


def test_a2_nothing_after_a_group_starts_before_all_of_it_succeeded() -> None:
    together = threading.Barrier(2, timeout=30)
    order: list[str] = []

    def left() -> None:
        together.wait()
        order.append("left")

    def right() -> None:
        together.wait()
        order.append("right")

    def after() -> None:
        order.append("after")

    def never() -> None:
        raise ValueError("no")

    assert cp.Graph(cp.pipeline([left, right], after)).run(dir=None)
    assert sorted(order[:2]) == ["left", "right"]
    assert order[2:] == ["after"]
    order.clear()
    assert cp.Graph(cp.pipeline([never, left, right], after)).run(dir=None).counts["after"] == {"blocked": 1}
    assert "after" not in order


def test_a3_pipelines_of_a_graph_run_concurrently() -> None:
    meet = threading.Barrier(3, timeout=30)

    def one() -> int:
        return meet.wait()

    def two() -> int:
        return meet.wait()

    def three() -> int:
        return meet.wait()

    assert cp.Graph(cp.pipeline(one), cp.pipeline(two), cp.pipeline(three)).run(dir=None)


def test_a4_each_runs_records_concurrently_and_never_more_than_asked() -> None:
    inside, most, lock = 0, 0, threading.Lock()
    meet = threading.Barrier(2, timeout=30)

    def work(record: Parcel) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        meet.wait()
        with lock:
            inside -= 1

    run = cp.Graph(cp.pipeline(work, each=Parcel, concurrency=2)).run([Parcel(id=n, weight=1.0) for n in range(10)], dir=None)
    assert run.counts == {"work": {"computed": 10}}
    assert most == 2


def test_a5_records_created_while_running_are_picked_up() -> None:
    def split(record: Parcel) -> Any:
        if not record.heavy:
            return cp.update(state="fits")
        half = record.weight / 2
        return [cp.delete(record), *(cp.create(Parcel(id=record.id * 10 + n, weight=half)) for n in (1, 2))]

    run = run_here(cp.Graph(cp.pipeline(split, each=Parcel)), [Parcel(id=1, weight=40.0)])
    assert {row["id"]: row["weight"] for row in run.data["Parcel"]} == {111: 10.0, 112: 10.0, 121: 10.0, 122: 10.0}


def test_a6_models_have_attributes_methods_and_an_id_that_may_be_made() -> None:
    assert PARCELS[1].heavy
    with pytest.raises(cp.ModelError, match="id"):

        @cp.model
        class Nameless:
            text: str

    def make() -> Any:
        return [cp.create(Label(text="a")), cp.create(Label(text="a"))]

    graph = cp.Graph(make, models=[Label])
    one, two = run_here(graph), run_here(graph)
    assert len({row["id"] for row in one.data["Label"]}) == 2
    assert one.data == two.data


def test_a7_records_are_immutable() -> None:
    with pytest.raises(FrozenInstanceError):
        PARCELS[0].state = "other"  # type: ignore[misc]


def test_a8_a_failing_step_leaves_no_partial_write() -> None:
    def half(record: Parcel) -> Any:
        return [cp.update(state="half"), cp.update(Parcel, 99, state="half")]

    run = cp.Graph(cp.pipeline(half, each=Parcel)).run(PARCELS, dir=None)
    assert {row["state"] for row in run.data["Parcel"]} == {"new"}
    assert len(run.history) == 1


def test_a9_reads_by_id_all_and_filtered() -> None:
    def read(store: cp.Store) -> Any:
        heavy = store.where(Parcel, lambda parcel: parcel.heavy, state="new")
        return store.find(Parcel, 1).weight, store.get(Parcel, 9), len(store.all(Parcel)), [parcel.id for parcel in heavy]

    assert run_here(cp.Graph(read, models=[Parcel]), PARCELS).value(read) == (2.0, None, 2, [2])


def test_a10_initial_data_in_every_way(tmp_path: Path) -> None:
    graph = cp.Graph(cp.pipeline(weigh, each=Parcel))
    file = tmp_path / "parcels.yml"
    file.write_text("Parcel:\n- {id: 1, weight: 2.0}\n- {id: 2, weight: 12.0}\n")
    rows = [{"id": 1, "weight": 2.0}, {"id": 2, "weight": 12.0}]
    first = run_here(graph, PARCELS)
    changes = [cp.create(parcel) for parcel in PARCELS]
    ways = [{"Parcel": rows}, {Parcel: rows}, str(file), file, lambda: PARCELS, changes, first.history[0]]
    assert [run_here(graph, way).data for way in ways] == [first.data] * len(ways)


def test_a11_data_is_plain() -> None:
    data = run_here(cp.Graph(cp.pipeline(weigh, each=Parcel)), PARCELS).data
    assert data == {"Parcel": [{"id": 1, "weight": 2.0, "state": "weighed"}, {"id": 2, "weight": 12.0, "state": "weighed"}]}


def test_a12_every_commit_makes_a_version_and_old_ones_stay_readable() -> None:
    history = run_here(cp.Graph(cp.pipeline(weigh, each=Parcel)), PARCELS).history
    assert [version.store.count(Parcel, state="weighed") for version in history] == [0, 1, 2]
    assert [version.store.find(Parcel, 1).state for version in history] == ["new", "weighed", "weighed"]


def test_a13_a_version_says_what_changed_and_who_did_it() -> None:
    run = run_here(cp.Graph(cp.pipeline(weigh, each=Parcel)), PARCELS)
    version = run.history[1]
    (change,) = version.diff
    assert (change.action, change.model, change.id, dict(change.fields)) == ("update", "Parcel", 1, {"state": ("new", "weighed")})
    assert version.node == "weigh[1]"
    assert version.time >= run.started
    assert next(node for node in run.nodes if node.id == "weigh[1]").ended == "computed"


def test_a14_work_carries_on_from_a_version(tmp_path: Path) -> None:
    ran: list[int] = []

    def work(record: Parcel) -> Any:
        ran.append(record.id)
        return cp.update(state="done")

    graph = cp.Graph(cp.pipeline(work, each=Parcel, concurrency=1))
    run = graph.run(PARCELS, dir=tmp_path / "one")
    ran.clear()
    again = graph.resume(run.history[1], dir=tmp_path / "two")
    assert ran == [2]
    assert again.data == run.data


def test_a15_and_through_a_file_that_a_person_edits(tmp_path: Path) -> None:
    graph = cp.Graph(cp.pipeline(weigh, each=Parcel, concurrency=1))
    file = tmp_path / "half.yml"
    run_here(graph, PARCELS).history[1].save(file)
    file.write_text(file.read_text().replace("weight: 12.0", "weight: 13.0"))
    again = graph.resume(file, dir=tmp_path / "dir")
    assert again.counts == {"weigh": {"computed": 1, "cached": 1}}
    assert [row["weight"] for row in again.data["Parcel"]] == [2.0, 13.0]


def test_a16_an_edited_structure_has_a_clear_rule(tmp_path: Path) -> None:
    def stamp(record: Parcel) -> str:
        return f"stamp {record.id}"

    cp.Graph(cp.pipeline(weigh, each=Parcel), name="post").run(PARCELS, dir=tmp_path)
    run = cp.Graph(cp.pipeline(weigh, stamp, each=Parcel), name="post").resume(dir=tmp_path)
    assert run.counts == {"weigh": {"cached": 2}, "stamp": {"computed": 2}}
    assert "steps-new" in [hint.kind for hint in run.hints]


def test_a17_pushes_reach_handlers_during_the_run() -> None:
    stream, seen, got = cp.Stream(), threading.Event(), []

    @stream.on("weight")
    def take(payload: float) -> None:
        got.append(payload)
        if len(got) == 20:
            seen.set()

    @stream.on("end")
    def end() -> None:
        got.append(-1.0)

    def push(record: Parcel, stream: cp.Stream) -> None:
        stream.push("weight", record.weight)
        stream.push("nobody listens")

    def wait(push: list[None], stream: cp.Stream) -> None:
        assert seen.wait(30)
        stream.push("end")

    assert cp.Graph(cp.pipeline(cp.pipeline(push, each=Parcel), wait)).run(
        [Parcel(id=n, weight=float(n)) for n in range(20)], dir=None, stream=stream
    )
    assert sorted(got) == [-1.0, *map(float, range(20))]
    assert got[-1] == -1.0


def test_a18_guards_hold_open_and_hang_nothing() -> None:
    def last() -> str:
        return "closing"

    graph = cp.Graph(
        cp.pipeline(weigh, each=Parcel, concurrency=1, open=lambda store: store.count(Parcel, state="weighed") < 3),
        cp.pipeline(last, open=lambda store: store.count(Parcel, state="weighed") >= 3),
    )
    run = graph.run([Parcel(id=n, weight=1.0) for n in range(30)], dir=None)
    assert run.value(last) == "closing"
    assert 3 <= run.store.count(Parcel, state="weighed") <= 4
    never = cp.Graph(cp.pipeline(weigh, each=Parcel, open=lambda store: False)).run(PARCELS, dir=None)
    assert never.counts == {"weigh": {"closed": 2}}


def test_a19_a_raising_step_stops_its_own_record_only() -> None:
    def check(record: Parcel) -> None:
        if record.heavy:
            raise ValueError(f"{record.weight} kg is too heavy")

    def send(check: None, record: Parcel) -> Any:
        return cp.update(state="sent")

    run = cp.Graph(cp.pipeline(check, send, each=Parcel)).run(PARCELS, dir=None)
    assert not run.ok
    assert [row["state"] for row in run.data["Parcel"]] == ["sent", "new"]
    (failure,) = run.failures
    assert (failure.node, failure.record, str(failure.error)) == ("check[2]", PARCELS[1], "12.0 kg is too heavy")


def test_a20_state_is_on_disk_as_work_proceeds(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(weigh: list[int]) -> None:
        (running,) = cp.runs(tmp_path)
        seen.append(len(running.history))

    stream = cp.Stream()
    committed: list[str] = []

    @stream.on(cp.events.NodeEnded)
    def ended(event: cp.events.NodeEnded) -> None:
        (running,) = cp.runs(tmp_path)
        assert event.node in [node.id for node in running.nodes]
        committed.append(event.node)

    assert cp.Graph(cp.pipeline(cp.pipeline(weigh, each=Parcel), look)).run(PARCELS, dir=tmp_path, stream=stream)
    assert committed == ["weigh[1]", "weigh[2]", "look"]


def test_a21_waiting_overlaps() -> None:
    meet = threading.Barrier(8, timeout=30)

    def wait(n: int) -> None:
        meet.wait()

    assert cp.Graph(cp.pipeline(wait, each={"n": range(8)})).run(dir=None, concurrency=8)
