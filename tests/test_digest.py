"""Values that differ have other digests, equal ones the same: in every process and Python version."""

import array
import collections
import copy
import datetime as dt
import decimal
import enum
import fractions
import functools
import operator
import os
import pathlib
import pickle
import random
import re
import socket
import subprocess
import sys
import threading
import types
import uuid
import zoneinfo
from dataclasses import dataclass, field
from typing import Any

import attrs
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpgraph.digest import (
    Undigestible,
    Walk,
    dict_digest,
    digest,
    digest_many,
    list_digest,
    main_name,
    qualified_name,
    register,
    resolve,
)
from cpgraph.errors import CpgraphError


@attrs.frozen(kw_only=True)
class Order:
    id: int
    amount: str = "0"
    tags: list[str] = attrs.field(factory=list)


@attrs.define(slots=False)
class Twin:
    id: int
    amount: str = "0"
    tags: list[str] = attrs.field(factory=list)


@attrs.frozen
class Empty:
    pass


@dataclass
class Line:
    id: int
    price: float = 1.0
    total: float = field(init=False, default=2.0)


@dataclass(frozen=True, slots=True)
class Slotted:
    id: int


class Plain:
    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


class WithSlots:
    __slots__ = ("a", "b")

    def __init__(self, a: int) -> None:
        self.a = a


class Reduced:
    def __init__(self, kept: int, cache: object = None) -> None:
        self.kept, self.cache = kept, cache

    def __reduce__(self) -> Any:
        return Reduced, (self.kept,)


class Stateful(Plain):
    def __getstate__(self) -> Any:
        return {key: value for key, value in self.__dict__.items() if key != "cache"}


class Text(str):
    pass


class Numbers(list[int]):
    pass


class Names(set[str]):
    pass


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Size(enum.IntEnum):
    RED = 1


class Flags(enum.Flag):
    A = 1
    B = 2


Point = collections.namedtuple("Point", "x y")
Other = collections.namedtuple("Other", "x y")


@functools.lru_cache
def kept() -> None: ...


class Sentinel:
    def __reduce__(self) -> str:
        return "SENTINEL"


class Weird:
    def __reduce__(self) -> Any:
        raise RuntimeError("I will not")


def helper() -> None: ...


# Values of which no two are the same, with their digests: these may never change, or every cache in the world is lost.
FROZEN: list[tuple[Any, str]] = [
    (None, "738096e476d3c5447c3cb95c39bfc964"),
    (True, "0583525866ce6d4c711b8d319b34a247"),
    (False, "3662d6121c293c1c21dc4d3401650d44"),
    (0, "6e832dc87f86242279522aefa15cd066"),
    (1, "cd1333bde0e79c7f8da49c4d5ef8327e"),
    (-1, "8f8035f5353c5b4cce58e78f31f60a01"),
    (255, "bcfb16ab23351bce66d319764c831928"),
    (256, "965ccbcb21eccdfbd400daa026b6cf27"),
    (2**63 - 1, "17b5844fc788ebfcb219c16cc133d328"),
    (2**63, "cb596bc3f469239e559ec0c67a3683c3"),
    (-(2**63), "d36a8e091efd95214f82558733e1972e"),
    (-(2**63) - 1, "8ecdbfa6cf01d10a4865a55c1e4ce0f3"),
    (10**40, "1ce83615731a70f0e241dd4d44bcb93d"),
    (0.0, "2a791bda24597c7f91aaaa0edf449665"),
    (-0.0, "e1ebd447d3de8834cb9e59316b0f4ddd"),
    (1.0, "4d4346ac1a663fd98f65ca64cfb41948"),
    (1.5, "ad63c8fa7d1cc4c26efa73c470a1cf9a"),
    (float("inf"), "ff388e181a5821036902bae3a47e01d0"),
    (float("-inf"), "c6d60cb1848619f0c239c7775ee1f19d"),
    (complex(1, 2), "143c4927e6b368d0f4ae28a20cad2203"),
    ("", "3299dc3d5be4287be154be13ee163ecd"),
    ("1", "9da68e24be2e54a6c65bf00564671761"),
    ("text", "51b07d8b6b34b3e17326710cf19da902"),
    ("€ \U0001f600", "ee00e976e16d727416a214741938c9ad"),
    (b"", "8e93b0f4c91ab797943fd990c8b04b44"),
    (b"1", "588197ce31ae972a27d0420882e2aee8"),
    (bytearray(b"1"), "c52a99ab63bc682e6f3ffbd5f5dc5576"),
    ([], "a1f1fcca070b315977ab1012bd5ba11b"),
    ([1], "41f6f611eb890b0d99b58f83cfd592b8"),
    ([1, 2], "4960e76368d62d22ff59c44d62e3ded4"),
    (["text", None, [1.0]], "61a683031af3b04c0e3773895064fa5b"),
    ((), "0c5432e86a2fba95403776cd5302be11"),
    ((1,), "488d19cde5d8ce74692bbe6f421c0ac8"),
    ((1, 2), "1f0993fdb15175f2f8ad70cbb0fe603b"),
    (((1,), 2), "495a31cff109f775f33749451348f94e"),
    ({}, "9f4a5492fd33ea80fd4ae0b88baedb60"),
    ({"a": 1}, "c11327ada1a589bbe74c265f7a7d41c1"),
    ({"a": 1, "b": 2}, "0848aaf6aefda653aebca471f3fc2c14"),
    ({"b": 2, "a": 1}, "9397d8adb6357c5a221f57e77e8ae835"),
    ({1: {"x": [True]}}, "6a56e91bc7e74abbd15db3e7d4c0fd63"),
    (set(), "2ff4b605d628bee1ee63fef64ae37c61"),
    ({1, 2}, "47f7eb4903594f842fbd3d79bf410207"),
    ({"a", "b", "c"}, "050ff3ea98e96202e455ca2eb9cf9d42"),
    (frozenset(), "be6b2de8050204429cfa0b2fdb4e1e7d"),
    (frozenset({1, 2}), "4b1ac20ff47fa77f363ba6262268e5a1"),
    (range(3), "c32186aa97519cb6cb8c54f7ca4ac574"),
    (slice(1, 2), "d0a0539384b015db68fa4d203bff7199"),
    (decimal.Decimal("1.0"), "006dd347e9893795d25eacfc791e3f15"),
    (fractions.Fraction(1, 3), "53bb28ab866ab37cd0422b921c874aa6"),
    (dt.date(2026, 1, 2), "013faced78daaccfcae20375e04078dd"),
    (dt.datetime(2026, 1, 2), "6a2f8f1fc365bd88278a63ea544feb3f"),
    (dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC), "3b717a502ffff7999c095f468c7713b7"),
    (dt.time(1, 2, 3), "776b13d071c7f394a0dec7aa1a8c479c"),
    (dt.timedelta(days=1, microseconds=2), "7dcb1db5ad9527d511d5f49bf044a888"),
    (uuid.UUID("12345678123456781234567812345678"), "1c8d8f2b2ccab31b51d2d2ba27640805"),
    (pathlib.PurePosixPath("a/b"), "edb02d4b7e453b1c4beec883d3d24d9b"),
    (re.compile("a+"), "226c0747e9a7a56e1e9c71c8c2fa890f"),
    (collections.OrderedDict(a=1), "24f20a818cfcfde08628471ef99b61f4"),
    (collections.Counter("aab"), "fd303243a07b498006cf15694f83f00f"),
    (functools.partial(int, base=16), "63d967ce1f8bca85e5694e160fef1436"),
    (types.SimpleNamespace(a=1, b=[2]), "7c2c95f5ad58db1a7cdd60d9e78e09c9"),
    (ValueError("text", 1), "b7f1ae29ea6faa2d484405782f1b8bcd"),
    (numpy.arange(3, dtype="<i8"), "968f37e487913673d632027ab173a349"),
    (numpy.float64(1.5), "39d642d33205e2e3749029c94a98fd09"),
]


def test_the_digests_of_known_values_never_change() -> None:
    assert [(value, digest(value).hex()) for value, _ in FROZEN] == FROZEN


def test_different_values_have_different_digests() -> None:
    different: list[Any] = [value for value, _ in FROZEN]
    different += [
        [[1], 2],
        [1, [2]],
        [[1, 2]],
        ([1], 2),
        (1, (2,)),
        ["a", "b"],
        ["ab"],
        ["ab", ""],
        {"a": {"b": 1}},
        {"a": [("b", 1)]},
        [None],
        [()],
        ((),),
        {1: "a"},
        {"1": "a"},
        {True: "a"},
        {(1, 2): 3},
        {1: {2: 3}},
        {"a", ("b",)},
        {frozenset({"a"}), "b"},
        frozenset({frozenset({"a"}), "b"}),
        "\ud800",
        "\ud800\udc00".encode("utf-16", "surrogatepass").decode("utf-16"),
        range(0, 3, 2),
        range(1),
        slice(0),
        slice(0, 0),
        1j,
        complex(1, -0.0),
        complex(1, 0.0),
        decimal.Decimal("1.00"),
        decimal.Decimal("NaN"),
        decimal.Decimal("sNaN"),
        decimal.Decimal("-0"),
        dt.datetime(2026, 1, 2, fold=1),
        dt.datetime(2026, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        dt.datetime(2026, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=1), "X")),
        dt.datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo("UTC")),
        zoneinfo.ZoneInfo("UTC"),
        dt.time(1),
        dt.time(1, fold=1),
        pathlib.PurePosixPath("a"),
        pathlib.PureWindowsPath("a"),
        re.compile("a", re.IGNORECASE),
        re.compile(b"a"),
        Color.RED,
        Color.BLUE,
        Size.RED,
        Flags.A,
        Flags.A | Flags.B,
        Color,
        Order(id=1),
        Order(id=2),
        Order(id=1, amount="1"),
        Order(id=1, tags=["a"]),
        Twin(id=1),
        Empty(),
        Line(1),
        Line(1, 2.0),
        Slotted(1),
        Plain(),
        Plain(a=1),
        Plain(a=1.0),
        Plain(b=1),
        WithSlots(1),
        WithSlots(2),
        Reduced(1),
        Reduced(2),
        Text("text"),
        Numbers([1]),
        Numbers([2]),
        Names({"a"}),
        Names({"a", "b"}),
        Point(1, 2),
        Point(2, 1),
        Other(1, 2),
        collections.OrderedDict(a=1, b=2),
        collections.OrderedDict(b=2, a=1),
        collections.Counter("ab"),
        collections.defaultdict(list, a=1),
        collections.defaultdict(dict, a=1),
        collections.deque([1, 2]),
        collections.deque([1, 2], maxlen=2),
        collections.deque([1, 2], maxlen=3),
        types.SimpleNamespace(a=1),
        types.MappingProxyType({"a": 1}),
        functools.partial(int, base=2),
        functools.partial(int, base=3),
        operator.attrgetter("a"),
        operator.attrgetter("b"),
        operator.itemgetter(1),
        array.array("d", [1.0]),
        array.array("f", [1.0]),
        random.Random(1),
        random.Random(2),
        list[int],
        list[str],
        ValueError("a"),
        ValueError("b"),
        KeyError("a"),
        Sentinel(),
        kept,
        types.SimpleNamespace.__init__,
        object(),
        NotImplemented,
        Ellipsis,
        len,
        print,
        str.upper,
        "a".upper,
        "b".upper,
        [].append,
        dict.fromkeys,
        helper,
        os.path.join,
        int,
        type,
        Order,
        uuid.UUID(int=1),
        fractions.Fraction(1, 2),
        fractions.Fraction(2, 3),
        dt.timedelta(seconds=1),
        dt.timedelta(days=1),
        dt.UTC,
    ]
    seen: dict[bytes, Any] = {}
    for value in different:
        assert digest(value) not in seen, (value, seen[digest(value)])
        seen[digest(value)] = value


SAME: list[tuple[Any, Any]] = [
    (float("nan"), -float("nan")),
    (float("nan"), float("inf") - float("inf")),
    ({"a", "b", "c"}, {"c", "b", "a"}),
    (frozenset("abc"), frozenset("cba")),
    (Names("abc"), Names("cba")),
    ([[1], [1]], [[1]] * 2),
    (Reduced(1, "x"), Reduced(1, "y")),
    (Stateful(a=1, cache=2), Stateful(a=1)),
    (dt.datetime(2026, 1, 2), dt.datetime(2026, 1, 2)),
    (dt.UTC, dt.timezone(dt.timedelta(0))),
    (types.MappingProxyType({"a": 1}), types.MappingProxyType({"a": 1})),
    (pathlib.PurePosixPath("a//b/"), pathlib.PurePosixPath("a/b")),
    (object(), object()),
    ("".join(["a", "b"]), "ab"),
    (10**30, int("1" + "0" * 30)),
    (fractions.Fraction(2, 4), fractions.Fraction(1, 2)),
    (type("A", (), {}), type("A", (), {})),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_a_step_cannot_tell_apart_has_one_digest(one: Any, other: Any) -> None:
    assert digest(one) == digest(other)


def test_the_order_of_a_dict_counts() -> None:
    assert digest({"a": 1, "b": 2}) != digest({"b": 2, "a": 1})


def test_a_value_that_contains_itself() -> None:
    def ring(value: int, size: int = 1) -> list[Any]:
        items: list[Any] = [value]
        items.append([items] if size > 1 else items)
        return items

    assert digest(ring(1)) == digest(ring(1))
    assert len({digest(ring(1)), digest(ring(2)), digest(ring(1, 2)), digest([1, [1]])}) == 4
    loop: dict[str, Any] = {}
    loop["self"] = Plain(back=loop)
    assert digest(loop) == digest(copy.deepcopy(loop))


def test_a_list_has_a_digest_made_of_its_items_digests() -> None:
    assert digest([1, "a", [2]]) == list_digest([digest(1), digest("a"), digest([2])])
    assert digest([]) == list_digest([])


def test_a_dict_has_a_digest_made_of_its_values_digests() -> None:
    pairs: list[tuple[Any, Any]] = [("a", [1]), (2, "b"), (("c", 1), None)]
    assert digest(dict(pairs)) == dict_digest([(key, digest(value)) for key, value in pairs])
    assert digest({}) == dict_digest([])


def test_pieces_of_any_length_are_told_apart() -> None:
    assert len({digest_many(parts) for parts in [[], [b""], [b"", b""], [b"ab"], [b"a", b"b"], [b"ab", b""]]}) == 6
    assert digest_many([digest(1)]) != list_digest([digest(1)])


def test_a_digest_has_16_bytes() -> None:
    assert {len(digest(value)) for value in (None, "a", [1], {}, Order(id=1))} == {16}


# What has none


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        (threading.Lock(), "value", "_thread.lock"),
        ({"x": [1, {"lock": threading.Lock()}]}, "value['x'][1]['lock']", "_thread.lock"),
        ({3: (1, threading.Event())}, "value[3][1]._cond._lock", "_thread.lock"),
        (Plain(a=1, held=threading.Lock()), "value.held", "_thread.lock"),
        (Twin(id=1, amount=threading.Lock()), "value.amount", "_thread.lock"),  # type: ignore[arg-type]
        (attrs.evolve(Order(id=1), tags=[threading.Lock()]), "value.tags[0]", "_thread.lock"),  # type: ignore[list-item]
        ((n for n in ()), "value", "builtins.generator"),
        (sys, "value", "builtins.module"),
        ({"k": lambda: 1}, "value['k']", "builtins.function"),
        (functools.partial(lambda: 1), "value[0]", "builtins.function"),
        (memoryview(b"a"), "value", "builtins.memoryview"),
        ({}.keys(), "value", "builtins.dict_keys"),
        ([Weird()], "value[0]", f"{__name__}.Weird"),
        ({(Weird(), 1): 2}, "value[tuple][0]", f"{__name__}.Weird"),
        ([{Weird()}], "value[0]{…}", f"{__name__}.Weird"),
        (collections.OrderedDict(a=Weird()), "value['a']", f"{__name__}.Weird"),
    ],
)
def test_what_has_no_digest_says_where_and_what_it_is(value: Any, path: str, kind: str) -> None:
    with pytest.raises(Undigestible) as caught:
        digest(value)
    assert (caught.value.path, caught.value.type) == (path, kind)
    assert str(caught.value).startswith(f"{path} cannot be digested\n")
    assert "\nMend: " in str(caught.value)
    assert isinstance(caught.value, CpgraphError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.path, again.type, str(again)) == (path, kind, str(caught.value))


def test_open_files_and_sockets_have_none(tmp_path: pathlib.Path) -> None:
    with open(tmp_path / "file", "w") as file, socket.socket() as connection:
        for value in (file, connection):
            with pytest.raises(Undigestible):
                digest(value)


def test_a_function_made_in_another_has_none_but_a_class_does() -> None:
    class Local:
        pass

    def local() -> None: ...

    assert digest(Local()) == digest(Local())
    with pytest.raises(Undigestible):
        digest(local)


@pytest.mark.parametrize(
    "shape", [lambda value: [value], lambda value: (value,), lambda value: {"k": value}, lambda value: Plain(a=value)]
)
def test_what_is_nested_too_deep_has_none_and_nothing_crashes(shape: Any) -> None:
    value: Any = 1
    for _ in range(90):
        value = shape(value)
    assert digest(value)
    for _ in range(10_000):
        value = shape(value)
    with pytest.raises(Undigestible, match="nested"):
        digest(value)
    while not isinstance(value, int):  # taken apart here, as Python's own way to free it goes deep too
        value = next(
            iter(value.values() if isinstance(value, dict) else vars(value).values() if isinstance(value, Plain) else value)
        )


def test_a_field_that_was_never_set() -> None:
    with pytest.raises(Undigestible, match="a field has no value"):
        digest(Order.__new__(Order))


# Foreign types


class Foreign:
    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = threading.Lock()


class Derived(Foreign):
    pass


def test_a_registered_type_is_digested_by_its_stand_in() -> None:
    with pytest.raises(Undigestible):
        digest(Foreign("a"))
    register(Foreign, lambda foreign: foreign.path)
    assert digest(Foreign("a")) == digest(Foreign("a"))
    assert len({digest(Foreign("a")), digest(Foreign("b")), digest("a"), digest(Derived("a"))}) == 4
    register(Foreign, lambda foreign: foreign.missing)  # type: ignore[attr-defined]
    with pytest.raises(Undigestible, match="AttributeError"):
        digest([Foreign("a")])


@pytest.mark.parametrize("kind", [int, str, list, dict])
def test_a_built_in_type_keeps_its_rule(kind: type) -> None:
    with pytest.raises(CpgraphError, match="has a rule of its own"):
        register(kind, repr)


def test_a_walk_may_see_every_part() -> None:
    class Seen(Walk):
        def special(self, value: Any) -> bytes | None:
            return b"seen" if isinstance(value, Plain) else None

        def refused(self, value: Any, reason: str) -> bytes:
            return b"lock"

    def encoded(value: Any) -> bytes:
        return Seen().encode(value)

    assert encoded((Plain(a=threading.Lock()), 1)) == encoded((Plain(), 1)) != encoded((Plain(), 2))
    assert encoded([threading.Lock()]) == encoded([threading.RLock()])


# Arrays


def test_arrays_count_by_type_shape_and_content() -> None:
    different = [
        numpy.arange(6),
        numpy.arange(6).reshape(2, 3),
        numpy.arange(6).reshape(3, 2),
        numpy.arange(6, dtype="i4"),
        numpy.arange(6, dtype=">i8"),
        numpy.arange(6.0),
        numpy.array([]),
        numpy.zeros((0, 2)),
        numpy.zeros((2, 0)),
        numpy.array(1),
        numpy.int64(1),
        numpy.int32(1),
        numpy.float64(1),
        numpy.array(["a", "bb"]),
        numpy.array(["a", "bb"], dtype=object),
        numpy.array(["a", 1], dtype=object),
        numpy.array(["2026-01-02"], dtype="M8[D]"),
        numpy.array(["2026-01-02"], dtype="M8[s]"),
        numpy.array([(1, 2.0)], dtype=[("a", "u1"), ("b", "f8")]),
        numpy.array([(1, 3.0)], dtype=[("a", "u1"), ("b", "f8")]),
        numpy.array([(1, 2.0)], dtype=[("a", "u1"), ("c", "f8")]),
        numpy.longdouble(1) / 3,
        numpy.longdouble(1) / 3 + numpy.finfo(numpy.longdouble).eps,
        numpy.clongdouble(1j),
        numpy.dtype("f8"),
        numpy.dtype("f4"),
        numpy.void(b"abc"),
        numpy.ma.array([1, 2], mask=[0, 1]),
        numpy.ma.array([1, 2], mask=[1, 0]),
        [1, 2],
    ]
    assert len({digest(value) for value in different}) == len(different)


def test_how_an_array_lies_in_memory_does_not_count() -> None:
    array = numpy.arange(6).reshape(2, 3)
    for same in (numpy.asfortranarray(array), numpy.arange(12).reshape(2, 6)[:, ::2] // 2 + [[0], [0]], array.copy()):
        assert (digest(same) == digest(array)) is bool((same == array).all())
    padded = numpy.zeros(1, dtype=numpy.dtype([("a", "u1"), ("b", "f8")], align=True))
    dirty = numpy.frombuffer(b"\0" + b"x" * 7 + b"\0" * 8, dtype=padded.dtype)
    assert digest(padded) == digest(dirty)


def test_code_in_an_array_of_objects_is_seen() -> None:
    with pytest.raises(Undigestible, match="a lambda has no name"):
        digest(numpy.array([lambda: 1], dtype=object))


# The same everywhere


PRINT = "import sys, pickle, test_digest; print(*[d.hex() for d in test_digest.digests()])"


def digests() -> list[bytes]:
    values = [value for value, _ in FROZEN]
    sets: list[Any] = [
        {"a", "b", "c", "d", "e", (1, "x")},
        {"k": frozenset("abcdefg")},
        Names("abcdefg"),
        {Color.RED, Color.BLUE},
    ]
    return [
        digest(value)
        for value in [*values, *sets, Order(id=1), Line(2), Plain(a={"x", "y", "z"}), Flags.A | Flags.B, Point(1, 2)]
    ]


def test_digests_are_the_same_in_every_process() -> None:
    here = " ".join(found.hex() for found in digests())
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.path.dirname(__file__)}
        done = subprocess.run([sys.executable, "-c", PRINT], capture_output=True, text=True, env=environment)
        assert done.stdout.split() == here.split(), done.stderr


# Properties

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(),
    st.binary(),
    st.decimals(allow_nan=False),
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
    st.uuids(),
    st.fractions(),
)
keys = st.one_of(st.integers(), st.text(), st.booleans(), st.binary(), st.tuples(st.integers(), st.text()))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.frozensets(keys, max_size=4),
        st.sets(keys, max_size=4),
        st.builds(lambda amount, tags: Twin(1, amount, tags), inner, inner),
        st.builds(Line, inner, inner),
        st.builds(lambda a, b: Plain(a=a, b=b), inner, inner),
    ),
    max_leaves=8,
)


@given(values)
def test_a_copy_has_the_same_digest(value: Any) -> None:
    assert digest(copy.deepcopy(value)) == digest(value)
    assert digest(pickle.loads(pickle.dumps(value))) == digest(value)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Give the ways to all places in a value that can be set."""
    found = [path] if path else []
    if isinstance(value, list):
        inside: list[tuple[Any, Any]] = list(enumerate(value))
    elif isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, Twin | Line | Plain):
        inside = [(f".{name}", inner) for name, inner in vars(value).items()]
    else:
        inside = []
    return found + [way for key, inner in inside for way in leaves(inner, (*path, key))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    for key in path[:-1]:
        value = getattr(value, key[1:]) if not isinstance(value, list | dict) else value[key]
    if isinstance(value, list | dict):
        value[path[-1]] = new
    else:
        setattr(value, path[-1][1:], new)


@given(values, st.data())
def test_another_leaf_makes_another_digest(value: Any, data: st.DataObject) -> None:
    ways = leaves(value)
    if not ways:
        value, ways = [value], [(0,)]
    way = data.draw(st.sampled_from(ways))
    before = digest(value)
    put(value, way, "something else that no strategy draws")
    assert digest(value) != before


@given(scalars, scalars)
def test_two_scalars_are_equal_or_have_two_digests(one: Any, other: Any) -> None:
    same = type(one) is type(other) and one == other and str(one) == str(other)
    assert (digest(one) == digest(other)) is same


@given(st.lists(values, max_size=4))
def test_lists_compose(items: list[Any]) -> None:
    assert digest(items) == list_digest([digest(item) for item in items])


@given(st.dictionaries(keys, values, max_size=4))
def test_dicts_compose(items: dict[Any, Any]) -> None:
    assert digest(items) == dict_digest([(key, digest(item)) for key, item in items.items()])


@given(st.lists(keys, unique_by=lambda key: (type(key), key)))
def test_sets_have_no_order(items: list[Any]) -> None:
    shuffled = [*items]
    random.Random(1).shuffle(shuffled)
    assert digest(set(items)) == digest(set(shuffled)) or set(items) != set(shuffled) or len(set(items)) < len(items)


# Names (rule K1)


def test_names() -> None:
    assert qualified_name(Order) == f"{__name__}:Order"
    assert qualified_name(Plain.__init__) == f"{__name__}:Plain.__init__"
    assert qualified_name(len) == "builtins:len"
    assert qualified_name(pathlib.PosixPath) == "pathlib:PosixPath"
    assert qualified_name(str.upper) == "builtins:str.upper"


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"__spec__": None, "__file__": "/somewhere/orders.py"}, "orders"),
        ({"__spec__": None, "__file__": "my-orders.v2.py"}, "my-orders.v2"),
        ({"__spec__": types.SimpleNamespace(name="shop.orders"), "__file__": "/somewhere/orders.py"}, "shop.orders"),
        ({"__spec__": types.SimpleNamespace(name="shop.__main__"), "__file__": "/somewhere/__main__.py"}, "shop.__main__"),
        ({"__spec__": None}, "__main__"),
        ({"__spec__": types.SimpleNamespace(name="__main__"), "__file__": None}, "__main__"),
    ],
)
def test_k1_the_name_of_a_script(monkeypatch: pytest.MonkeyPatch, attributes: dict[str, Any], name: str) -> None:
    script = types.ModuleType("__main__")
    script.__dict__.update(attributes)
    exec("class Order:\n    def total(self): ...\n    class Inner: ...\ndef parse(): ...", script.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", script)
    assert main_name() == name
    assert qualified_name(script.Order.total) == f"{name}:Order.total"
    worker = types.ModuleType("__mp_main__")
    worker.__dict__.update(attributes)
    exec("def parse(): ...", worker.__dict__)
    assert worker.parse.__module__ == "__mp_main__"
    assert qualified_name(worker.parse) == qualified_name(script.parse)
    assert resolve(name, "Order.Inner") is script.Order.Inner
    assert resolve("__main__", "parse") is resolve("__mp_main__", "parse") is script.parse
    with pytest.raises(AttributeError):
        resolve("__main__", "nothing")


def test_k1_a_name_is_read_back_to_what_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("orders")
    exec("def parse(): ...", module.__dict__)
    monkeypatch.setitem(sys.modules, "orders", module)
    assert resolve("orders", "parse") is module.parse
    script = types.ModuleType("__main__")
    script.__dict__.update({"__file__": "orders.py", "__spec__": None})
    monkeypatch.setitem(sys.modules, "__main__", script)
    assert resolve("orders", "parse") is module.parse  # the script has none
    with pytest.raises(ModuleNotFoundError):
        resolve("no_such_module", "parse")
    assert resolve("xml.sax.saxutils", "escape").__name__ == "escape"
