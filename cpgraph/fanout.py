"""The items an `each` ranges over, and their ids (rule E3)."""

from __future__ import annotations

from typing import Any

from cpgraph.contents import as_data, met
from cpgraph.digest import Undigestible, Unreadable
from cpgraph.errors import CpgraphError
from cpgraph.models import File

__all__ = ["Again", "items_of", "plain_id"]

LONGEST_ID = 64


class Again(str):
    """The id of a further item with an id that is taken: `a~2` is not the item "a~2"."""

    __slots__ = ()


def plain_id(id: Any) -> Any:
    """Give an id as a user has it: of a further item, a str like any other.

    >>> type(plain_id(Again("a~2"))), plain_id(3)
    (<class 'str'>, 3)
    """
    return str(id) if type(id) is Again else id


def items_of(source: Any, what: str) -> list[tuple[Any, Any, bytes]]:
    """Give the items of a list, tuple, range or dict as (id, item, digest); equal ids get `~2`, `~3`.

    The digest of an item that is or holds a File is left empty: it is for the node that asks for the file to look at it.

    >>> [id for id, _, _ in items_of(["a", "b", "a", 3], "each")]
    ['a', 'b', 'a~2', 3]
    >>> [id for id, _, _ in items_of({"x": 1.5}, "each")]
    ['x']
    """
    if isinstance(source, dict):
        for key in source:
            if isinstance(key, bool) or not isinstance(key, int | str):
                raise CpgraphError(
                    f"the keys of a dict to run over are ids, and {key!r} is neither an int nor a str",
                    {"given by": what},
                    "use ints or strings.",
                )
        return [(key, item, _digest(item, what)[1]) for key, item in source.items()]
    if not isinstance(source, list | tuple | range):
        raise CpgraphError(
            f"each= runs over a list, tuple, range or dict, not {type(source).__name__}",
            {"given by": what},
            "return a list of the items.",
        )
    seen: dict[Any, int] = {}
    found = []
    for item in source:
        address, part = _digest(item, what)
        id = _id_of(item, address)
        first, count = id, seen.get(id, 0) + 1
        while id in seen:
            id = Again(f"{first}~{count}")
            count += 1
        seen[first] = seen.get(first, 0) + 1
        seen.setdefault(id, 1)
        found.append((id, item, part))
    return found


def _digest(item: Any, what: str) -> tuple[bytes, bytes]:
    before = met.count
    try:
        address = as_data(item)
    except Unreadable:
        raise
    except Undigestible as error:
        mend = "run over what it is made of: numbers, text, lists, dicts, instances of your classes."
        facts = {"given by": what, "item": f"a {type(item).__name__}", **error.facts}
        raise CpgraphError("an item to run over cannot be digested", facts, mend) from error
    return address, address if met.count == before else b""


def _id_of(item: Any, address: bytes) -> int | str:
    if isinstance(item, File):
        return item.path
    own = item if isinstance(item, int | str) else getattr(item, "id", None)
    if isinstance(own, int) and not isinstance(own, bool):
        return own
    if isinstance(own, str) and len(own) <= LONGEST_ID:
        return own
    return address.hex()[:16]
