"""One call: what the step gets, what becomes of what it gave, how its failure is told."""

import asyncio
import decimal
import threading
from functools import cached_property

import attrs
import pytest

import cpgraph.execute
from cpgraph.copies import immutable
from cpgraph.digest import digest
from cpgraph.errors import CpgraphError, Retry
from cpgraph.events import ABSENT
from cpgraph.execute import STREAM, Call, Joined, Outcome, Target, Value, pack, perform, perform_async
from cpgraph.models import File, auto_id, create, delete, model, result, update
from cpgraph.pickles import dumps, loads
from cpgraph.tracebacks import shortened, text_of


@model
class Order:
    id: int
    amount: str = "0"
    tags: object = ()


@model
class Page:
    id: str = auto_id()
    url: str = "/"
    parent: object = None


def target(function, *, sets=None, keywords=(), **options):
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    return Target(function.__name__, function, names, keywords, sets=sets, where="orders.py:7", **options)


def call(function, *args, own=None, **options) -> Outcome:
    return perform(Call(7, target(function, **options), args, own), lambda *pushed: None)


def given(function, *args, **options):
    """Call a step that is to succeed, and load its value."""
    outcome = call(function, *args, **options)
    assert outcome.error is None, outcome.traceback
    return outcome.value.load()


# What a step gets


def test_arguments_by_position_and_by_keyword():
    def step(a, *, b, c=0):
        return [a, b, c]

    assert given(step, 1, 2, 3, keywords=("b", "c")) == [1, 2, 3]


def test_a_value_is_a_fresh_copy_for_each_step():  # V3, promise 11
    kept = []

    def step(rows):
        kept.append(rows)
        rows.append(4)
        return rows

    value = pack([1, 2, 3])
    assert given(step, value) == [1, 2, 3, 4]
    assert given(step, value) == [1, 2, 3, 4]
    assert kept[0] is not kept[1]
    assert value.load() == [1, 2, 3]


def test_what_a_step_gave_is_kept_as_it_was_then():
    mine = [1]
    outcome = call(lambda: mine)
    mine.append(2)
    assert outcome.value.load() == [1]


def test_any_other_argument_is_copied_if_it_can_be_mutated():
    def step(item):
        item["n"] += 1
        return item["n"]

    item = {"n": 1}
    assert given(step, item) == given(step, item) == 2
    assert item == {"n": 1}


def test_a_record_is_shared_if_nothing_in_it_can_be_altered_and_copied_else():
    frozen, loose = Order(id=1, tags=("a", 1)), Order(id=1, tags=["a"])
    seen = []
    call(lambda record: seen.append(record), frozen)
    call(lambda record: seen.append(record), loose)
    assert seen[0] is frozen
    assert seen[1] == loose
    assert seen[1] is not loose
    assert seen[1].tags is not loose.tags


def test_immutable():
    @attrs.frozen
    class Cached:
        id: int

        @cached_property
        def words(self):
            return []

    @attrs.frozen(slots=False)
    class Open:
        id: int

    assert immutable(File("a"))
    assert immutable((1, ("a", None), frozenset([b""])))
    for mutable in ([], {}, (1, []), Cached(1), Open(1), object(), Order(id=1, tags={})):
        assert not immutable(mutable)


def test_joined_values_are_a_list_or_a_dict_of_copies():
    inner = Joined([pack([1]), pack(2)])
    assert given(lambda rows: rows, Joined([inner, Joined([])])) == [[[1], 2], []]
    assert given(lambda rows: rows, Joined([pack("a"), pack("b")], [1, "1"])) == {1: "a", "1": "b"}


def test_a_stored_value_is_fetched_when_a_step_asks_for_it():
    fetched = []

    def fetch():
        fetched.append(threading.current_thread())
        return dumps([1])

    value = Value.stored(digest([1]), fetch)
    assert not fetched
    assert given(lambda rows: rows, value) == [1]
    assert value.load() == value.load() == [1]
    assert len(fetched) == 1


def test_a_value_that_cannot_be_read_back_names_the_parameter():
    outcome = call(lambda total: total, Value.stored(b"x", lambda: b"nonsense"))
    assert "'total'" in str(outcome.error)
    assert "orders.py:7" in str(outcome.error)


def test_what_is_pushed_is_as_it_was_when_it_was_pushed():
    def step(stream):
        state = {"done": 0}
        for _ in range(3):
            state["done"] += 1
            stream.push("progress", state)
        stream.push("bell")
        return state["done"]

    pushed = []
    outcome = perform(Call(7, target(step), (STREAM,)), lambda *args: pushed.append(args))
    assert outcome.value.load() == 3
    assert pushed == [*((7, "progress", {"done": done}) for done in (1, 2, 3)), (7, "bell", ABSENT)]


def test_a_step_cannot_listen_to_the_stream():
    outcome = call(lambda stream: stream.on("progress"), STREAM)
    assert "cannot listen" in str(outcome.error)


def test_no_context_variable_reaches_the_next_call():
    def step(digits):
        before = decimal.getcontext().prec
        decimal.getcontext().prec = digits
        return before

    assert [given(step, digits) for digits in (5, 6, 7)] == [28, 28, 28]


# What a step gives


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "a", b"b", 1j])
def test_a_scalar_is_shared_and_needs_no_bytes(value):
    packed = call(lambda: value).value
    assert packed.load() is value
    assert packed.blob is None
    assert packed.digest == digest(value)
    assert loads(packed.blob_bytes()) == value


def test_a_value_is_digested_and_pickled():
    packed = call(lambda: {"a": [1]}).value
    assert packed.digest == digest({"a": [1]})
    assert loads(packed.blob_bytes()) == {"a": [1]}
    assert not packed.problem
    assert not packed.undigestible


def test_a_value_that_does_not_pickle_stays_in_memory():  # V5
    lock = threading.Lock()
    packed = call(lambda: lock).value
    assert packed.load() is lock
    assert "lock" in packed.problem
    assert packed.digest is None
    assert packed.undigestible


def test_a_value_that_does_not_pickle_is_copied_by_other_means_where_that_goes():
    class Local:
        def __init__(self):
            self.rows = [1]

    packed = call(lambda: Local()).value
    assert packed.problem
    first = packed.load()
    first.rows.append(2)
    assert packed.load().rows == [1]


def test_only_one_change():  # V1
    outcome = call(lambda: update(amount="3"))
    assert outcome.shape == "change"
    assert outcome.changes == (("update", None, None, {"amount": "3"}),)


def test_a_list_of_changes():
    outcome = call(lambda: [update(Order, 2, amount="3"), create(Order(id=3), if_exists="keep"), delete(Order, 4)])
    assert outcome.shape == "changes"
    assert outcome.changes == (
        ("update", "Order", 2, {"amount": "3"}),
        ("create", "Order", {"id": 3, "amount": "0", "tags": ()}, "keep"),
        ("delete", "Order", 4),
    )
    assert call(lambda: (delete(Order, 1), delete(Order, 2))).shape == "changes", "a tuple is as good as a list"


def test_a_value_and_changes():
    outcome = call(lambda: result([1], delete(Order, 4)), sets="amount")
    assert outcome.shape == "value"
    assert outcome.value.load() == [1]
    assert outcome.changes == (("delete", "Order", 4),)


def test_no_changes_are_a_value():
    outcome = call(lambda changes: changes, pack([]))
    assert (outcome.shape, outcome.changes, outcome.value.load()) == ("value", (), [])


def test_fields_share_nothing_with_the_step():
    tags = ["a"]
    outcome = call(lambda: [create(Order(id=1, tags=tags)), update(Order, 2, tags=tags)])
    tags.append("b")
    assert [change[2 if change[0] == "create" else 3]["tags"] for change in outcome.changes] == [["a"], ["a"]]


def test_a_field_must_be_data():  # V5
    outcome = call(lambda: update(Order, 1, tags=threading.Lock()))
    assert outcome.value is None
    assert outcome.changes == ()
    assert "Order.tags" in str(outcome.error)
    assert "Mend:" in str(outcome.error)


def test_the_id_that_is_made_at_commit_is_for_the_id_alone():  # C7
    assert call(lambda: create(Page(url="/"))).error is None
    for step in (
        lambda: create(Page(id="a", parent=Page().id)),
        lambda: update(Page, "a", parent=Page().id),
        lambda: result(Page().id, create(Page())),
    ):
        assert 'f"{id}-{n}"' in str(call(step).error)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (lambda: [update(amount="1"), 5], "mixes changes and values"),
        (lambda: [5, update(amount="1")], "mixes changes and values"),
        (lambda: [[update(amount="1")]], "inside of a list"),
        (lambda: {"a": update(amount="1")}, "inside of a dict"),
        (lambda: {"a": [update(amount="1")]}, "inside of a dict"),
        (lambda: result(update(amount="1")), "value is a change"),
        (lambda: result([update(amount="1")]), "value is a change"),
        (lambda: (n for n in [1]), "a generator"),
        (lambda: result(n for n in [1]), "a generator"),
    ],
)
def test_what_is_no_clear_answer_fails_the_node(step, said):  # V1
    outcome = call(step)
    assert said in str(outcome.error)
    assert "orders.py:7" in str(outcome.error)
    assert "Mend:" in str(outcome.error)
    assert outcome.value is None
    assert outcome.changes == ()


def test_a_coroutine_nobody_awaited_fails_the_node():
    async def inner():
        return 1

    assert "async def" in str(call(lambda: inner()).error)


def test_sets_beside_returned_changes():  # V1
    assert "sets='amount'" in str(call(lambda: update(amount="1"), sets="amount").error)


def test_records_made_and_returned_are_told_as_a_value():  # V1
    (told,) = call(lambda: [Order(id=1), Order(id=2)]).hints
    assert told[0] == "returned-record" and "Order records that it made" in told[1] and "cp.create" in told[2]
    assert call(lambda given: [given], Order(id=1)).hints == ()


def test_the_own_record_returned_altered_is_told():  # V1
    own = Order(id=1)
    outcome = call(lambda record: attrs.evolve(record, amount="2"), own, own=own)
    [(kind, text, mend)] = outcome.hints
    assert kind == "returned-record"
    assert "writes nothing" in text
    assert "cp.update" in mend
    assert outcome.value.load() == Order(id=1, amount="2")
    assert call(lambda record: record, own, own=own).hints == ()
    assert call(lambda record: Order(id=2), own, own=own).hints == ()


# What a step raises


def break_it(amount):
    return float(amount)


def test_a_failure_has_its_own_error_and_the_users_frames():  # promise 7
    outcome = call(break_it, "12,50")
    assert type(outcome.error) is ValueError
    assert outcome.value is None
    assert "in break_it" in outcome.traceback
    assert "12,50" in outcome.traceback
    assert cpgraph.execute.__file__ not in outcome.traceback
    assert outcome.place == f"{__file__}:{break_it.__code__.co_firstlineno + 1}"
    assert outcome.error.__traceback__.tb_frame.f_code is break_it.__code__


def test_the_place_is_the_deepest_line_of_the_users():
    def step(text):
        return loads_json(text)

    def loads_json(text):
        import json

        return json.loads(text)

    outcome = call(step, "{")
    assert outcome.place == f"{__file__}:{loads_json.__code__.co_firstlineno + 3}"
    assert "raw_decode" in outcome.traceback


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), KeyboardInterrupt(), asyncio.CancelledError(), Retry(2)])
def test_whatever_a_step_raises_is_its_own_failure(error):  # F2
    def step():
        raise error

    assert call(step).error is error


def test_an_error_that_cannot_be_shown_is_shown_by_its_type():  # F2
    class Broken(Exception):
        def __str__(self):
            raise SystemExit("no")

    class Odd(Exception):
        def __str__(self):
            return 5

    for kind in (Broken, Odd):

        def step(kind=kind):
            raise kind

        outcome = call(step)
        assert type(outcome.error) is kind
        assert kind.__name__ in outcome.traceback
        assert kind.__name__ in text_of(outcome.error)


def test_a_long_text_is_shortened_in_the_middle():  # F2
    def step():
        raise ValueError("begin" + "x" * 1_000_000 + "end")

    outcome = call(step)
    for text in (outcome.traceback, text_of(outcome.error)):
        assert len(text) < 10_200
        assert "begin" in text
        assert "characters left out" in text
        assert text.rstrip().endswith("end")
    assert shortened("short") == "short"


def test_a_recursion_without_end_is_a_failure():
    def step():
        return step()

    outcome = call(step)
    assert type(outcome.error) is RecursionError
    assert "step" in outcome.traceback


def test_a_value_nested_too_deep_is_kept_in_memory():
    value = []
    for _ in range(100_000):
        value = [value]
    packed = call(lambda: value).value
    assert packed.problem
    assert packed.undigestible
    while value:
        value = value.pop()


def test_times_are_of_the_call():
    outcome = call(lambda: 1)
    assert outcome.token == 7
    assert outcome.seconds >= 0
    assert outcome.started > 1e9


def test_async():
    async def step(a):
        await asyncio.sleep(0)
        return [a]

    async def bad():
        raise SystemExit

    outcome = asyncio.run(perform_async(Call(1, target(step), (2,)), lambda *pushed: None))
    assert outcome.value.load() == [2]
    outcome = asyncio.run(perform_async(Call(1, target(bad)), lambda *pushed: None))
    assert type(outcome.error) is SystemExit


def test_an_error_is_one_of_ours_where_it_is_the_users_to_mend():
    assert isinstance(call(lambda: [update(amount="1"), 5]).error, CpgraphError)
