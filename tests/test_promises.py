"""The promises of the design that are about answers, for every executor: order, once, all or nothing, the same answer whatever
the timing, failures are no values, isolation.

Steps stand at module level, so that processes can have them. What must not depend on time is tried with every order forced by
events, never by waiting.
"""

import itertools
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest

import cpgraph as cp
from cpgraph.testing import Log

EXECUTORS = ["inline", "threads", "processes", "foreign", "backwards"]
every = pytest.mark.parametrize("executor", EXECUTORS, indirect=True)


class Backwards(Executor):
    """Makes calls in this thread, the latest first, a few at a time: as unlike the order of the graph as can be."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Any, Any, Any]] = []
        self.lock = threading.Lock()
        self.wake = threading.Condition(self.lock)
        self.over = False
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def submit(self, function: Any, /, *args: Any, **keywords: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self.wake:
            self.waiting.append((future, function, args, keywords))
            self.wake.notify()
        return future

    def work(self) -> None:
        while True:
            with self.wake:
                while not self.waiting and not self.over:
                    self.wake.wait()
                if not self.waiting:
                    return
                future, function, args, keywords = self.waiting.pop()
            try:
                future.set_result(function(*args, **keywords))
            except BaseException as error:
                future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self.wake:
            self.over = True
            self.wake.notify()
        self.thread.join()


@pytest.fixture
def executor(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "foreign":
        with ThreadPoolExecutor(3) as pool:
            yield pool
    elif request.param == "backwards":
        with Backwards() as pool:
            yield pool
    else:
        yield request.param


@cp.model
class Row:
    id: int
    n: int = 0
    text: str = ""
    tags: list[int] = attrs.Factory(list)


@cp.model
class Made:
    id: str = cp.auto_id()
    n: int = 0


def rows(count: int) -> list[Row]:
    return [Row(id=id, n=id) for id in range(1, count + 1)]


def go(*pipelines: Any, data: Any = None, executor: Any = "inline", **options: Any) -> cp.Run:
    options.setdefault("dir", None)
    return cp.Graph(*pipelines, models=[Row, Made], name="promises").run(data, executor=executor, **options)


def ended(run: cp.Run) -> dict[str, str]:
    return {node.id: node.ended for node in run.nodes}


# The steps


def first() -> int:
    return 1


def left(first: int) -> int:
    return first + 1


def right(first: int) -> int:
    return first + 2


def last(left: int, right: int) -> int:
    return left * right


def double(n: int) -> int:
    return 2 * n


def broken(n: int) -> int:
    if n % 3 == 0:
        raise ValueError(f"no {n}")
    return n


def behind(broken: int) -> int:
    return broken + 100


def total(behind: list[int]) -> int:
    return sum(behind)


def beside(double: dict[int, int]) -> dict[int, int]:
    return double


def write(record: Row) -> Any:
    return cp.result(record.n, cp.update(text=f"n{record.n}"), cp.create(Made(n=record.n)))


def half(record: Row) -> Any:
    return [cp.update(text="half"), cp.create(Made(n=1)), cp.update(Row, 99, text="half")]


def half_raises(record: Row) -> Any:
    made = [cp.update(text="half"), cp.create(Made(n=1))]
    raise ValueError(made)


def see(store: cp.Store) -> list[Any]:
    return [store.values(Row, "text"), [made.n for made in store.all(Made)]]


def spoil(tags: list[int], record: Row, shared: list[int]) -> list[int]:
    tags.append(1)
    record.tags.append(2)
    shared.append(3)
    return [len(tags), len(record.tags), len(shared)]


def spoil_again(tags: list[int], record: Row, shared: list[int]) -> list[int]:
    shared.append(5)
    record.tags.append(5)
    return [len(tags), len(record.tags), len(shared)]


def shared() -> list[int]:
    return [0]


def grow(record: Row) -> Any:
    if record.id >= 40:
        return None
    return [cp.create(Row(id=record.id * 3 + 1, n=record.n + 1)), cp.create(Row(id=record.id * 3 + 2, n=record.n + 1))]


def clash(record: Row) -> Any:
    return cp.update(Row, 1, n=record.id)


# 1. Order


@every
def test_promise_1_nothing_starts_before_all_it_depends_on(executor: Any) -> None:
    """And it is given what they gave."""
    log = Log()
    run = go(
        cp.pipeline(first, [right, left], last),
        cp.pipeline(cp.pipeline(double, each=Row), beside),
        data=rows(5),
        executor=executor,
        stream=log.stream,
    )
    assert run.ok and run.value(last) == 6 and run.value(beside) == {id: 2 * id for id in range(1, 6)}
    started = [text.removesuffix(" started") for text in log if text.endswith("started")]
    assert sorted(started) == sorted([node.id for node in run.nodes])
    assert started.index("first") < min(started.index("left"), started.index("right"))
    assert max(started.index("left"), started.index("right")) < started.index("last")
    assert max(started.index(f"double[{id}]") for id in range(1, 6)) < started.index("beside")


def test_promise_1_nothing_waits_for_more_than_that() -> None:
    """A record goes on while another one is still at its first step; a pipeline beside goes on, too."""
    far = threading.Event()
    passed: list[str] = []

    def begin(id: int) -> int:
        if id == 1:
            assert far.wait(20)
        return id

    def end(begin: int) -> int:
        return begin + 1

    def other() -> str:
        return "other"

    stream = cp.Stream()

    @stream.on(cp.events.NodeEnded)
    def note(event: Any) -> None:
        passed.append(event.node)
        if {"end[2]", "end[3]", "other"} <= set(passed):
            far.set()

    run = go(cp.pipeline(begin, end, each=Row), cp.pipeline(other), data=rows(3), executor="threads", stream=stream)
    assert run.ok and passed.index("begin[1]") > passed.index("end[3]")


@every
def test_promise_1_skipped_and_closed_let_go_on_failed_does_not(executor: Any) -> None:
    def graph(on_error: Any) -> cp.Graph:
        return cp.Graph(
            cp.pipeline(cp.pipeline(broken, cp.pipeline(behind, open=lambda n: n != 4), each=Row, on_error=on_error), total)
        )

    run = graph("skip").run(rows(5), dir=None, executor=executor)
    assert run.value(total) == 101 + 102 + 105 and run.counts["behind"] == {"computed": 3, "blocked": 1, "closed": 1}
    assert not run.ok


@every
def test_promise_1_what_is_behind_a_failure_is_blocked(executor: Any) -> None:
    log = Log()
    run = go(cp.pipeline(cp.pipeline(broken, behind, each=Row), total), data=rows(3), executor=executor, stream=log.stream)
    assert ended(run)["total"] == "blocked" == ended(run)["behind[3]"]
    assert not {"total started", "behind[3] started"} & set(log)


# 2. Once


@every
def test_promise_2_a_nodes_result_is_committed_once(executor: Any) -> None:
    """Every node ends once, and each of its changes is there once."""
    log = Log()
    run = go(cp.pipeline(cp.pipeline(write, each=Row), see), data=rows(20), executor=executor, stream=log.stream)
    ends = [text for text in log if not text.endswith("started") and not text.startswith("told")]
    assert sorted(ends) == sorted([*(f"write[{id}] computed" for id in range(1, 21)), "see computed"])
    assert len(run.data["Made"]) == 20 and len(run.history) == 21
    assert sorted(node for version in run.history[1:] for node in version.nodes) == sorted(f"write[{id}]" for id in range(1, 21))


@every
def test_promise_2_equal_work_in_flight_is_done_once(executor: Any) -> None:
    log = Log()
    data = [Row(id=id, n=id % 2) for id in range(1, 11)]
    run = go(cp.pipeline(double, each=Row), data=data, executor=executor, stream=log.stream)
    assert sum(text.endswith("started") for text in log) == 2
    assert run.values(double) == {id: 2 * (id % 2) for id in range(1, 11)} and run.counts == {
        "double": {"computed": 2, "cached": 8}
    }
    assert {id for id, how in ended(run).items() if how == "computed"} == {"double[1]", "double[2]"}


def test_promise_2_equal_work_waits_for_the_one_that_is_at_it() -> None:
    calls: list[int] = []
    lock = threading.Lock()

    def slow(n: int) -> int:
        with lock:
            calls.append(n)
        return n

    assert go(cp.pipeline(slow, each=Row), data=[Row(id=id) for id in range(1, 60)], executor="threads").ok
    assert calls == [0]


# 3. All or nothing


@every
@pytest.mark.parametrize("step", [half, half_raises])
def test_promise_3_changes_are_committed_together_after_success_or_not_at_all(step: Any, executor: Any) -> None:
    run = go(cp.pipeline(step, each=Row), data=rows(3), executor=executor)
    assert len(run.failures) == 3 and len(run.history) == 1
    assert run.data == {"Row": [{"id": id, "n": id, "text": "", "tags": []} for id in (1, 2, 3)]}


def test_promise_3_every_version_has_all_changes_of_its_node_or_none() -> None:
    run = go(cp.pipeline(write, each=Row), data=rows(10), executor="threads")
    for version in run.history[1:]:
        assert len(version.diff) == 2 * len(version.nodes)
        written = [row.id for row in version.store.all(Row) if row.text]
        assert sorted(made.n for made in version.store.all(Made)) == written


# 4. The same answer whatever the timing


def program() -> list[Any]:
    """Loops, conflicts, failures, joins over what came late, reads beside writes: whatever time could get into."""
    return [
        cp.pipeline(
            [cp.pipeline(grow, each=Row), cp.pipeline(write, each=cp.where(Row, lambda row: row.id % 2 == 0))],
            [see, cp.pipeline(cp.pipeline(broken, behind, each=Row, on_error="skip"), total)],
        ),
        cp.pipeline(cp.alias(see, "see_beside", version="1")),
        cp.pipeline(cp.pipeline(clash, each=cp.where(Row, lambda row: row.id < 4)), cp.alias(first, "after_clash", version="2")),
    ]


def answer(run: cp.Run) -> Any:
    """Everything that must not depend on time."""
    return (
        run.data,
        ended(run),
        {name: run.values(name) for name in ("behind", "write", "broken")},
        {name: run.value(name, default="none") for name in ("see", "total", "see_beside", "after_clash")},
        sorted((failure.node, type(failure.error).__name__, str(failure.error)) for failure in run.failures),
        run.counts,
    )


@pytest.fixture(scope="module")
def expected() -> Any:
    return answer(go(*program(), data=rows(3)))


@every
def test_promise_4_the_same_in_every_executor(executor: Any, expected: Any) -> None:
    assert answer(go(*program(), data=rows(3), executor=executor)) == expected


@pytest.mark.parametrize("workers", [1, 2, 64])
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_promise_4_the_same_with_any_number_of_workers(workers: int, kind: str, expected: Any) -> None:
    if kind == "processes" and workers == 64:
        workers = 3
    assert answer(go(*program(), data=rows(3), executor=kind, concurrency=workers)) == expected


def test_promise_4_all_cache_keys_are_the_same(tmp_path: Path) -> None:
    """What one executor computed, every other one finds."""
    first_run = go(*program(), data=rows(3), executor="threads", dir=tmp_path)
    assert first_run.failures
    with Backwards() as backwards:
        for executor in ("inline", "processes", backwards):
            log = Log()
            again = go(*program(), data=rows(3), executor=executor, dir=tmp_path, stream=log.stream)
            failed = [failure for failure in again.failures if not isinstance(failure.error, cp.ConflictError)]
            started = {text.removesuffix(" started") for text in log if text.endswith("started")}
            assert started <= {failure.node for failure in failed}, "failures alone are tried again"
            assert len(started) == len({str(failure.error) for failure in failed}) > 1, "and of equal ones one"
            assert again.data == first_run.data


class Ordered(Executor):
    """Makes and answers the first calls in an order of its own, once all of them are there; later ones as they come."""

    def __init__(self, order: Sequence[int]) -> None:
        self.order = order
        self.waiting: list[tuple[Future[Any], Any, Any]] = []

    def submit(self, function: Any, /, *args: Any, **keywords: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, function, (args, keywords)))
        if len(self.waiting) >= len(self.order):
            order, self.order = self.order or [0], []
            batch, self.waiting = self.waiting, []
            for place in order:
                answered, call, (given, named) = batch[place]
                answered.set_result(call(*given, **named))
        return future


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_promise_4_whichever_came_first(order: Any) -> None:
    """Two that write one field: the one first in graph order stands, and `.node` is the later, in every order of ending."""

    def one() -> Any:
        return [cp.update(Row, 1, n=100), cp.create(Made(id="one"))]

    def two() -> Any:
        return [cp.update(Row, 1, n=200), cp.create(Made(id="two"))]

    def three() -> Any:
        return [cp.update(Row, 1, n=300), cp.create(Made(id="three"))]

    run = go(*map(cp.pipeline, (one, two, three)), data=rows(1), executor=Ordered(order))
    (failure,) = run.failures
    assert isinstance(failure.error, cp.ConflictError) and failure.node == "two"
    assert "one" in str(failure.error) and "3" in str(failure.error)
    assert run.store.find(Row, 1).n == 100 and [made["id"] for made in run.data["Made"]] == ["one", "two", "three"]


@pytest.mark.parametrize("seed", range(5))
def test_promise_4_in_random_orders(seed: int) -> None:
    """Every record writes its own, and each join and store has the order of the data."""
    order = list(range(12))
    random.Random(seed).shuffle(order)
    run = go(
        cp.pipeline(cp.pipeline(write, each=Row), [see, cp.alias(lambda write: write, "joined")]),
        data=rows(12),
        executor=Ordered(order),
    )
    assert run.value(see) == [[f"n{id}" for id in range(1, 13)], list(range(1, 13))]
    assert run.value("joined") == list(range(1, 13))


# 7. Failed is not a value


@every
def test_promise_7_a_failure_is_recorded_never_cached_and_tried_again(executor: Any, tmp_path: Path) -> None:
    graph = cp.Graph(cp.pipeline(broken, behind, each=Row), name="failing")
    for computed in (["behind[1]", "behind[2]", "broken[1]", "broken[2]"], []):
        log = Log()
        run = graph.run(rows(3), dir=tmp_path, executor=executor, stream=log.stream)
        (failure,) = run.failures
        assert (failure.node, failure.step, failure.record) == ("broken[3]", "broken", Row(id=3, n=3))
        assert type(failure.error) is ValueError and str(failure.error) == "no 3"
        assert "test_promises.py" in failure.traceback and "ValueError: no 3" in failure.traceback and failure.attempts == 1
        assert run.status == "failed" and not run.ok and sorted(log.computed) == computed
        assert "broken[3] started" in log and "broken[3] failed" in log
        assert run.values(behind) == {1: 101, 2: 102}
    kept = cp.runs(tmp_path)[-1].failures[0]
    assert type(kept.error).__name__ == "ValueError" and str(kept.error) == "no 3" and "test_promises.py" in kept.traceback


def test_promise_7_what_has_failed_is_tried_again_and_may_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(id: int) -> str:
        return (tmp_path / "file").read_text()

    graph = cp.Graph(cp.pipeline(work, each=Row), name="again")
    run = graph.run(rows(1), dir=tmp_path / "kept", executor="inline")
    assert isinstance(run.failures[0].error, FileNotFoundError)
    (tmp_path / "file").write_text("there")
    run = graph.run(rows(1), dir=tmp_path / "kept", executor="inline")
    assert run.ok and run.value(work, 1) == "there"


# 11. Isolation


@every
def test_promise_11_a_step_that_mutates_its_argument_harms_nobody(executor: Any, tmp_path: Path) -> None:
    """Neither another step, nor the cache, nor the data given."""
    data = [Row(id=1, tags=[7]), Row(id=2, tags=[7])]
    graph = cp.Graph(cp.pipeline(shared, cp.pipeline([spoil, spoil_again], each=Row)), name="isolated")
    for expected in ({"computed"}, {"cached"}):
        run = graph.run(data, dir=tmp_path, executor=executor)
        assert run.ok, run.failures[0].traceback
        assert run.values(spoil) == {1: [2, 2, 2], 2: [2, 2, 2]} and run.values(spoil_again) == {1: [1, 2, 2], 2: [1, 2, 2]}
        assert run.value(shared) == [0] and run.data["Row"][0]["tags"] == [7] and data[0].tags == [7]
        assert {how for node, how in ended(run).items() if node == "shared"} == expected


@every
def test_promise_11_what_the_store_hands_out_is_a_copy(executor: Any) -> None:
    run = go(cp.pipeline(spoil_store, read_store), data=[Row(id=1, tags=[7])], executor=executor)
    assert run.ok and run.value(read_store) == [[7]] and run.data["Row"][0]["tags"] == [7]


def spoil_store(store: cp.Store) -> int:
    for row in store.all(Row):
        row.tags.append(8)
    store.find(Row, 1).tags.append(8)
    for tags in store.values(Row, "tags"):
        tags.append(8)
    return store.count(Row)


def read_store(store: cp.Store) -> list[list[int]]:
    return store.values(Row, "tags")
