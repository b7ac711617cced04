"""Values as bytes: what a script defines is found again however it is run (rule K1), and showing a value imports nothing."""

import collections
import datetime
import decimal
import enum
import os
import pathlib
import pickle
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from cpgraph.errors import CpgraphError
from cpgraph.models import AUTO, Create, File, create, model, update
from cpgraph.pickles import StandIn, Unpicklable, dumps, loads, loads_plain

SCRIPT = textwrap.dedent('''
    """Writes, and reads what others have written, each way it can be run."""
    import enum, functools, multiprocessing, sys
    from pathlib import Path
    import attrs
    from cpgraph.pickles import Unpicklable, dumps, loads

    @attrs.frozen
    class Order:
        id: int
        class Line:
            pass

    class Colour(enum.Enum):
        RED = 1

    class Only:
        def __reduce__(self):
            return "ONLY"

    ONLY = Only()

    def double(number):
        return 2 * number

    def values():
        made = [Order(1), Order(2), Order, Order.Line, Colour.RED, double, ONLY]
        return [*made, functools.partial(double, 3), {"Order": (Order(3),)}]

    def check(made):
        assert made[:7] == values()[:7] and made[7]() == 6 and made[8] == {"Order": (Order(3),)}, made
        assert type(made[0]) is made[2] is Order and made[3] is Order.Line and made[5] is double and made[6] is ONLY
        assert made[4] is Colour.RED

    def exchange(path):
        for other in Path(path).glob("*.blob"):
            check(loads(other.read_bytes()))
        blob = dumps(values())
        assert b"__main__" not in blob and b"__mp_main__" not in blob
        check(loads(blob))
        Path(path, f"{__name__}.blob").write_bytes(blob)
        return blob

    if __name__ == "__main__":
        exchange(sys.argv[1])
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            check(loads(pool.apply(exchange, sys.argv[1:])))
        exchange(sys.argv[1])
''')
COMMAND = "import sys, orders; orders.exchange(sys.argv[1])"


def test_k1_script_command_and_worker_read_what_each_other_wrote(tmp_path: Path) -> None:
    (tmp_path / "orders.py").write_text(SCRIPT, encoding="utf-8")
    for _ in range(2):
        for call in (["orders.py"], ["-c", COMMAND]):
            command = [sys.executable, *call, str(tmp_path)]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("*.blob")) == ["__main__.blob", "__mp_main__.blob", "orders.blob"]


def test_k1_what_was_typed_in_and_has_no_file_is_found_in_main(tmp_path: Path) -> None:
    code = """
    from cpgraph.pickles import dumps, loads
    class Order: pass
    assert type(loads(dumps(Order()))) is Order and loads(dumps("__main__")) == "__main__"
    """
    code = textwrap.dedent(code)
    done = subprocess.run([sys.executable], input=code, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@attrs.frozen
class Order:
    id: int
    amount: str = "0"


@model
class Page:
    id: int


class Loud(Exception):
    pass


class Bag(list[int]):
    pass


class Slots:
    __slots__ = ("a", "b")

    def __init__(self) -> None:
        self.a = 1


class Colour(enum.Enum):
    RED = 1


PLAIN: list[Any] = [
    None,
    [1, 2.5, 3j, "x", b"y", bytearray(b"z"), True, ..., range(3), slice(1, 2)],
    {"a": (1,), "b": {1, 2}, "c": frozenset([3])},
    [datetime.date(2024, 1, 2), datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC), datetime.timedelta(1), datetime.time(1)],
    [decimal.Decimal("1.5"), uuid.UUID(int=7)],
    [collections.OrderedDict(a=1), collections.deque([1]), collections.Counter("aab"), collections.defaultdict(list, {1: [2]})],
    [File("a.txt"), update(total=3), AUTO],
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_values_come_back_in_both_ways(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert loads_plain(dumps(value)) == value


def test_paths_and_errors_are_shown_as_what_they_are() -> None:
    assert loads_plain(dumps(pathlib.Path("a/b"))) == pathlib.PurePath("a/b")
    assert repr(loads_plain(dumps(ValueError("bad")))) == "ValueError('bad')"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Order(1), "Order(id=1, amount='0')"),
        ([Order(1), Order], f"[Order(id=1, amount='0'), {__name__}.Order]"),
        (Bag([1, 2]), "Bag(1, 2)"),
        (Slots(), "Slots(a=1)"),
        (Loud("x"), "Loud('x')"),
        (Order(1).__repr__, "getattr(Order(id=1, amount='0'), '__repr__')"),
        (create(Page(id=1)), "Create(record=Page(id=1), if_exists='error')"),
        (update(Page, 1, total=2), f"Update(model={__name__}.Page, id=1, fields={{'total': 2}})"),
        ({Order(2): 1}, "{Order(id=2, amount='0'): 1}"),
    ],
    ids=repr,
)
def test_what_is_not_plain_is_shown_by_a_stand_in(value: Any, shown: str) -> None:
    made = loads_plain(dumps(value))
    assert repr(made) == shown
    assert type(made) is not type(value) or type(value) in (list, dict) or type(value).__module__ == "cpgraph.models"


def test_a_member_of_an_enum_is_shown_by_name_or_value() -> None:
    assert repr(loads_plain(dumps(Colour.RED))) in ("Colour(1)", f"{__name__}.Colour.RED")  # as this Python pickles it


def test_a_stand_in_that_holds_itself_can_be_shown() -> None:
    bag: Any = Bag()
    bag.append(bag)
    assert repr(loads_plain(dumps(bag))) == "Bag(…)"


class Call:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.parts = function, args

    def __reduce__(self) -> Any:
        return self.parts


def test_showing_a_value_calls_and_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    blob = pickle.dumps(Order(1), 5)
    name = blob[blob.index(b"\x8c") + 2 :][: blob[blob.index(b"\x8c") + 1]]
    evil = "evil_pickles".rjust(len(name), "_")[-len(name) :]
    (tmp_path / f"{evil}.py").write_text("import os\nos.mkdir('imported')\nclass Order: pass\n", encoding="utf-8")
    blob = blob.replace(name, evil.encode())
    assert repr(loads_plain(blob)) == "Order(id=1, amount='0')"
    for dangerous in (
        Call(os.mkdir, "called"),
        Call(eval, "os.mkdir('called')"),
        Call(exec, "import os; os.mkdir('called')"),
        Call(getattr, Order, "amount"),
        Call(__import__, evil),
        Call(open, "called", "w"),
    ):
        made = loads_plain(dumps(dangerous))
        assert issubclass(made if isinstance(made, type) else type(made), StandIn)
    assert os.listdir() == [f"{evil}.py"]
    assert evil not in sys.modules


def test_a_step_s_class_that_is_gone_is_told_with_its_name() -> None:
    blob = dumps(Order(1)).replace(b"Order", b"Gone!")
    with pytest.raises(Unpicklable, match="a stored value cannot be read back") as caught:
        loads(blob)
    assert caught.value.type == f"{__name__}.Gone!"
    assert isinstance(caught.value.__cause__, AttributeError)
    assert "\nMend: " in str(caught.value)


@pytest.mark.parametrize("blob", [b"", b"garbage", dumps([1, 2, 3])[:-4], b"\x80\x05K\x01Q."])
@pytest.mark.parametrize("read", [loads, loads_plain])
def test_bytes_that_are_no_value_are_told(blob: bytes, read: Callable[[bytes], Any]) -> None:
    with pytest.raises(Unpicklable, match="Mend: "):
        read(blob)


class Quits:
    def __reduce__(self) -> Any:
        raise SystemExit(3)


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError


class Silent:
    def __reduce__(self) -> Any:
        raise Mute


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (threading.Lock, "_thread.lock"),
        (lambda: lambda: 0, "function"),
        (lambda: {"a": threading.Lock()}, "dict"),
        (lambda: (number for number in ()), "generator"),
        (Quits, f"{__name__}.Quits"),
        (Silent, f"{__name__}.Silent"),
        (deep, "list"),
        (lambda: type("Local", (), {})(), f"{__name__}.Local"),
    ],
)
def test_v5_what_does_not_pickle_is_one_error_that_names_the_type(make: Callable[[], Any], kind: str) -> None:
    value = make()
    with pytest.raises(Unpicklable) as caught:
        dumps(value)
    assert caught.value.type == kind
    assert str(caught.value).startswith(f"a value of type {kind} does not pickle\n")
    assert isinstance(caught.value, CpgraphError)
    assert caught.value.__cause__ is not None
    while isinstance(value, list) and value:  # let go of it level by level
        value = value[0]


def test_an_interrupt_is_not_swallowed() -> None:
    class Interrupts:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dumps(Interrupts())


def test_changes_survive_with_their_records() -> None:
    assert loads(dumps(create(Page(id=3)))) == Create(Page(id=3))
