"""What arrays and frames are made of, so that they are digested by type, shape and content. Nothing is imported for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

__all__ = ["array_stand_in"]


def array_stand_in(kind: type) -> Callable[[Any], Any] | None:
    """Give what tells the parts of a value of this type, or None for a type of other libraries."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and hasattr(numpy, "generic"):
        if kind is numpy.ndarray:
            return _array
        if issubclass(kind, numpy.generic):
            return lambda value: _array(numpy.asarray(value))
        if issubclass(kind, numpy.dtype):
            return lambda value: value.descr if value.names else value.str
    if pandas is not None and hasattr(pandas, "Index"):
        if kind is pandas.DataFrame:
            return lambda frame: (frame.columns, frame.index, [_column(column) for _, column in frame.items()], frame.attrs)
        if kind is pandas.Series:
            return lambda series: (series.name, series.index, _column(series), series.attrs)
        if kind is pandas.Index:
            return lambda index: (list(index.names), _column(index))
    return None


def _array(array: Any) -> Any:
    """Give what a numpy array is made of: its type, shape and content, whatever the order in memory."""
    numpy = sys.modules["numpy"]
    kind = array.dtype
    if kind.names is not None:  # field by field: the gaps between them are arbitrary
        return kind.names, [_array(array[name]) for name in kind.names]
    if kind.hasobject:
        return kind.str, array.shape, array.ravel().tolist()
    if kind.char in "gG":  # so are the last bytes of a long double
        if kind.char == "G":
            return kind.str, _array(array.real), _array(array.imag)
        mantissa, exponent = numpy.frexp(array)
        high = mantissa.astype("f8")
        return kind.str, _array(high), _array((mantissa - high).astype("f8")), _array(exponent)
    flat = numpy.ascontiguousarray(array).reshape(-1)
    content = blake2b(flat.view("u1") if flat.size and kind.itemsize else b"", digest_size=16).digest()
    return kind.str, array.shape, content


def _column(column: Any) -> Any:
    """Give the values of one column or index: an array where it is one, else the values one by one."""
    numpy = sys.modules["numpy"]
    return column.to_numpy() if isinstance(column.dtype, numpy.dtype) else (column.dtype, list(column))
