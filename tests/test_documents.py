"""YAML and JSON are read as data alone, safely, and written whole (promise 13, rules S6, R7; issue item 11)."""

import datetime
import gc
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cpgraph import documents
from cpgraph.documents import dump, parse, read, write
from cpgraph.errors import DataError, StorageError


def refused(text: str, *, as_json: bool = False) -> str:
    with pytest.raises(DataError) as caught:
        parse(text, "o.json" if as_json else "o.yml", json=as_json)
    assert "\nMend: " in str(caught.value)
    return str(caught.value)


# YAML, and what is wrong with it


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-7", -7),
        ("0x1F", 31),
        ("0o17", 15),
        ("0b101", 5),
        ("1_000", 1000),
        ("3.5", 3.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-1.5e-3", -0.0015),
        ("-.inf", -math.inf),
        ("true", True),
        ("No", False),
        ("off", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("2024-12-31", datetime.date(2024, 12, 31)),
        ("2024-12-31 23:59:59", datetime.datetime(2024, 12, 31, 23, 59, 59)),
        ("2024-12-31T23:59:59Z", datetime.datetime(2024, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)),
        ("012", "012"),  # neither 12 nor 10
        ("12:30:00", "12:30:00"),  # not 45000
        ("1.2.3", "1.2.3"),
        ("2024-13-45", "2024-13-45"),
        ("=", "="),
        ("y", "y"),
        ("nan", "nan"),
        ("'7'", "7"),
        ('"no"', "no"),
        ("!!str 7", "7"),
        ("! 7", "7"),
        ("!!int '7'", 7),
        ("!!float 7", 7.0),
        ("!!binary aGk=", b"hi"),
        ("!!set {a, b}", {"a", "b"}),
        ("|\n a\n b\n", "a\nb\n"),
        ("{a: {b: [1, [2]]}}", {"a": {"b": [1, [2]]}}),
        ("[&a {x: 1}, *a]", [{"x": 1}, {"x": 1}]),
        ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}),
        ("b: {<<: [{x: 1}, {x: 2, y: 2}], z: 3}", {"b": {"x": 1, "y": 2, "z": 3}}),
        ("'<<': 1", {"<<": 1}),
        ("{}", {}),
        ("--- 1\n", 1),
        ("# nothing\n", None),
    ],
)
def test_a_value_in_yaml(text: str, value: Any) -> None:
    found = parse(text, "o.yml").data
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "o.yml:2: is no YAML"),
        ("a: 'x", "o.yml:1: is no YAML"),
        ("a:\n  b: 1\n c: 2", "o.yml:3: is no YAML"),
        ("a: 1\nb: 2\na: 3", "o.yml:3: the key 'a' is there twice"),
        ("x:\n- {a: 1,\n   a: 2}", "o.yml:3: the key 'a' is there twice"),
        ("1: a\n1.0: b", "o.yml:2: the key 1.0 is there twice"),
        ("? [1]\n: 2", "o.yml:1: a list or mapping cannot be a key"),
        ("a: *b", "o.yml:1: the alias *b names nothing"),
        ("a: 1\nb: &b [*b]", "o.yml:2: the alias *b is inside of what it names"),
        ("<<: 3", "o.yml:1: `<<` merges mappings alone"),
        ("--- 1\n--- 2", "o.yml:2: a second document"),
        ("a: 1\nb: \x07", "o.yml:2: is no YAML"),
        ("a: !!int x", "o.yml:1: 'x' cannot be read as what it looks like"),
        ("a: !!bool maybe", "cannot be read"),
        ("a: !!binary '*'", "cannot be read"),
        ("a: 0x_", "cannot be read"),
        ("a: !!timestamp 3", None),
    ],
)
def test_broken_yaml_is_refused_with_its_line(text: str, said: str | None) -> None:
    if said is None:
        assert parse(text, "o.yml").data == {"a": "3"}
    else:
        assert said in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch pwned']",
        "a: !!python/name:os.system",
        "- !!python/tuple [1]",
        "a: !mine {b: 1}",
        "a: !!omap [b: 1]",
    ],
)
def test_13_tags_that_make_objects_are_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "o.yml:1: the tag" in refused(text)
    assert not list(tmp_path.iterdir())


DEEP = ["[" * 201, "[" * 100_000, "- " * 100_000, "{a: " * 100_000, "\n".join(" " * n + "a:" for n in range(300))]


@pytest.mark.parametrize("text", DEEP, ids=["201", "lists", "dashes", "mappings", "indented"])
def test_s6_yaml_nested_too_deep_is_refused(text: str) -> None:
    said = refused(text)
    assert "nested deeper than 200 levels" in said
    assert said.startswith("o.yml:")


def test_s6_200_levels_are_not_too_deep() -> None:
    depth, value = 0, parse("[" * 200 + "]" * 200, "o.yml").data
    while value:
        depth, value = depth + 1, value[0]
    assert depth == 199


@pytest.mark.parametrize("number", ["9" * 4301, "1." + "0" * 4300, "0x" + "f" * 4300])
def test_s6_a_number_of_too_many_digits_is_refused(number: str) -> None:
    assert "o.yml:2: a number of 4,30" in refused(f"a: 1\nb: {number}")
    assert parse(f"b: '{number}'", "o.yml").data == {"b": number}


def test_s6_aliases_that_stand_for_too_much_are_refused() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    assert "o.yml:6: aliases stand for more than 1,000,000 values" in refused(bomb)


def test_s6_many_plain_values_are_none_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MOST", 10)
    assert len(parse("[" + "1, " * 100 + "]", "o.yml").data) == 100
    assert "stand for more" in refused("[&a [1, 2, 3, 4, 5], *a, *a]")


def test_without_libyaml_the_same_is_read_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert parse("a: [1, {b: 1e3}]\nc: &x no\nd: *x\n", "o.yml").data == {"a": [1, {"b": 1000.0}], "c": False, "d": False}
    assert "o.yml:2: is no YAML" in refused("a: 1\nb: \x07")
    assert "o.yml:1: the tag" in refused("!!python/object/apply:os.system [x]")
    for text in ("[" * 10_000, "- " * 1_000):
        assert "nested deeper" in refused(text)


def test_lines_of_rows_and_their_fields() -> None:
    document = parse("# a row\nOrder:\n- id: 1\n  amount: |\n    a\n    b\n  total: 3\n- {id: 2,\n   total: 4}\n- 7\n", "o.yml")
    first, second, third = document.data["Order"]
    assert [document.line(first, field) for field in ("id", "amount", "total", "missing")] == [3, 4, 7, 3]
    assert [document.line(second, field) for field in ("id", "total")] == [8, 9]
    assert document.line(third) is None


# JSON


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,\n "b": }', "o.json:2: is no JSON"),
        ('{"a": 1}\n{"b": 2}', "o.json:2: is no JSON"),
        ("a: 1", "o.json:1: is no JSON"),
        ('{"a": "x', "o.json:1: is no JSON"),
        ('{"a": 1,\n "a": 2}', "o.json:2: the key 'a' is there twice"),
        ('{"b": {"a": 1,\n "a": 2}}', "o.json:2: the key 'a' is there twice"),
        ('{"a":\n' + "9" * 4301 + "}", "o.json:2: a number of 4,301 digits"),
        ("[" * 201, "nested deeper than 200 levels"),
        ("\n" + "[" * 100_000, "o.json:2: is nested deeper than 200 levels"),
        ('{"a":' * 100_000, "nested deeper than 200 levels"),
    ],
)
def test_broken_json_is_refused_with_its_line(text: str, said: str) -> None:
    assert said in refused(text, as_json=True)


def test_brackets_in_json_texts_are_no_levels() -> None:
    text = json.dumps({"a": '["\\' * 300})
    assert parse(text, "o.json", json=True).data == {"a": '["\\' * 300}


# Files


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("o.yml", b"", "holds no data"),
        ("o.yml", b"# only this\n", "holds no data"),
        ("o.json", b" \n", "holds no data"),
        ("o.yml", b"a: 1\nb: caf\xe9\n", "o.yml:2: is not UTF-8 (byte 0xe9)"),
        ("o.txt", b"a: 1", "the suffix does not say"),
        ("o", b"a: 1", "the suffix does not say"),
    ],
)
def test_a_file_that_cannot_be_read(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(str(path))
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\nMend: " in str(caught.value)


def test_a_path_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read(str(tmp_path / "o.yml"))
    (tmp_path / "d.yml").mkdir()
    with pytest.raises(DataError, match="this is a directory"):
        read(str(tmp_path / "d.yml"))
    with pytest.raises(DataError, match="cannot be read"):
        read("a\0.yml")
    with pytest.raises(DataError, match="cannot be read"):
        read(f"{'x' * 5000}.yml")


@pytest.mark.parametrize("name", ["o.yml", "o.yaml", "o.YML", "o.json"])
def test_suffixes_and_a_byte_order_mark(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b'\xef\xbb\xbf{"a": [1, "\xc3\xa9"]}\r\n')
    assert read(str(tmp_path / name)).data == {"a": [1, "é"]}


def test_the_collector_is_as_it_was(tmp_path: Path) -> None:
    for was in (True, False):
        (gc.enable if was else gc.disable)()
        try:
            parse("a: 1", "o.yml")
            refused("a: [")
            assert gc.isenabled() == was
        finally:
            gc.enable()


# Writing

ODD = ["", "no", "012", "1e3", "12:30:00", "2024-01-01", "=", "<<", "~", "#", "1_0", ".inf", "0b1", "|", "&a", "*a", "!x", "%"]
ODD += ["@", "`", "'", '"', "\\", "---", "...", "?", "é😀", "\x85", "\u2028", "\ufeff", "\x00", " a", "a ", "\ta", "a\n", "\na"]
ODD += ["a: b", "- a", "a\r\nb", "a #b", "a\n\n b\n"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(ODD)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
TIMES = st.datetimes(timezones=st.sampled_from([None, datetime.UTC])).map(lambda time: time.replace(fold=0))


def nested(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(scalars, lambda of: st.lists(of, max_size=4) | st.dictionaries(TEXTS, of, max_size=4), max_leaves=12)


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)


@settings(deadline=None)
@given(nested(SCALARS | st.binary(max_size=20) | st.dates() | TIMES))
def test_what_is_written_as_yaml_is_read_again_by_us_and_by_others(data: Any) -> None:
    text = dump([data])
    assert same(parse(text, "o.yml").data, [data])
    assert "!!python" not in text
    assert same(yaml.safe_load(text), [data])


@settings(deadline=None)
@given(nested(SCALARS))
def test_what_is_written_as_json_is_read_again(data: Any) -> None:
    assert same(parse(dump([data], json=True), "o.json", json=True).data, [data])


def test_yaml_is_written_for_people() -> None:
    shared = ["x"]
    assert dump({"Order": [{"id": 1, "text": "a\nb\n", "é": None, "z": shared, "a": shared}]}) == (
        "Order:\n- id: 1\n  text: |\n    a\n    b\n  é: null\n  z:\n  - x\n  a:\n  - x\n"
    )


@pytest.mark.parametrize("value", [object(), 10**5000, 1j, Path("x")], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_not_plain_is_not_written(value: Any, as_json: bool) -> None:
    with pytest.raises((TypeError, ValueError)):
        dump({"a": value}, json=as_json)


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "o.yml"
    write(str(path), "a: é\n")
    assert path.read_bytes() == "a: é\n".encode()
    write(str(path), "b: 1\n")
    assert path.read_bytes() == b"b: 1\n"
    assert os.listdir(tmp_path) == ["o.yml"]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "o.yml"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        write(str(path), "new")
    assert caught.value.path == str(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["o.yml"]
    with pytest.raises(UnicodeEncodeError):
        write(str(path), "\ud800")
    assert os.listdir(tmp_path) == ["o.yml"]


def test_a_place_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        write(str(tmp_path / "no" / "o.yml"), "a: 1")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.yml").write_text("old")
    (tmp_path / "link.yml").symlink_to("real.yml")
    write(str(tmp_path / "link.yml"), "new")
    assert (tmp_path / "link.yml").is_symlink()
    assert (tmp_path / "real.yml").read_text() == "new"
