"""Tables of numbers in binary files and in text, whose rows may hold lists of different lengths."""

from __future__ import annotations

import contextlib
import re
import struct
from typing import NamedTuple

import numpy as np

from jnr.io import _parts, _polygons
from jnr.io._parts import Files

# Characters of the module struct for the length of a list.
CODES = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q", "f8": "d"}
# Name of the column of the numbers that a line of text has beyond its properties.
REST = ""


class Property(NamedTuple):
    """A column of a table."""

    name: str
    dtype: np.dtype
    count: np.dtype | None = None  # dtype of the length of a list; None for one number per row


class Element(NamedTuple):
    """What is known of a table before it is read."""

    name: str
    length: int
    properties: list[Property]


class Column(NamedTuple):
    """The values of a property."""

    values: np.ndarray  # of all rows, concatenated
    counts: np.ndarray | None = None  # length of each row's list; None for one number per row


Tables = dict[str, dict[str, Column]]


def read_binary(elements: list[Element], source: bytes, at: int, names: tuple[str, ...]) -> Tables:
    """Reads the elements `names`, which follow others from the byte `at`; those after the last are not looked at."""
    _check_lengths(elements, len(source) - at, [_min_size(element) for element in elements])
    wanted = [k for k, element in enumerate(elements) if element.name in names]
    return _read(elements[: max(wanted, default=-1) + 1], source, at, names)[0]


def _read(elements, source, at, names):
    """The tables, and the byte after them."""
    tables = {}
    for element in filter(has_rows, elements):
        if element.name in names:
            tables[element.name], at = _table(element, source, at)
        else:
            at = _starts(element, source, at)[-1]
    return tables, at


def read_text(elements: list[Element], text: bytes, names: tuple[str, ...], files: Files) -> Tables:
    """Reads the elements `names` of a text. Its lines are the rows, which may have more numbers than properties.

    If they cannot be the rows, only the order of the numbers counts.
    """
    _check_lengths(elements, len(text) + 1, [2 * len(element.properties) for element in elements])
    number = np.dtype("<f8")
    elements = [
        element._replace(properties=[Property(prop.name, number, prop.count and number) for prop in element.properties])
        for element in filter(has_rows, elements)
    ]
    if b"\n" not in text:
        text = text.replace(b"\r", b"\n")
    text = text.strip()
    rows = sum(element.length for element in elements)
    if text.count(b"\n") + 1 != rows:
        text = re.sub(rb"\n\s+", b"\n", text)  # blank lines
    lines = text.count(b"\n") + 1
    if lines == rows:
        with contextlib.suppress(ValueError):
            return _lines(elements, text, names)
    try:
        return _numbers(elements, text, names)
    except ValueError:
        if lines <= rows:
            raise
    tables = _lines(elements, text, names)
    files.leave_out("lines after the last row that its header declares")
    return tables


def _numbers(elements, text, names):
    """Reads elements whose rows are numbers that follow each other, in lines of any length."""
    source = _parts.all_numbers(text).tobytes()
    tables, end = _read(elements, source, 0, names)
    if end < len(source):
        raise ValueError("it has more numbers than its header declares")
    return tables


def _lines(elements, text, names):
    """Reads elements of which each row is one line."""
    ends = np.flatnonzero(np.frombuffer(text + b"\n", np.uint8) == 10)
    tables, line = {}, 0
    for element in elements:
        start, line = 0 if line == 0 else ends[line - 1] + 1, line + element.length
        if element.name in names:
            tables[element.name] = _lines_of(element, text[start : ends[line - 1]])
    return tables


def _lines_of(element, block):
    source = _parts.all_numbers(block).tobytes()
    if len(source) % element.length == 0:
        table, end = _equal_rows(element, source, 0)
        if table is not None and end == len(source):
            return table
    is_space = np.frombuffer(b"\n" + block, np.uint8) <= 32
    words = np.flatnonzero(is_space[:-1] & ~is_space[1:])
    line_ends = np.flatnonzero(np.frombuffer(block + b"\n", np.uint8) == 10)
    table, ends = _rows(element, source, 8 * np.concatenate([[0], np.searchsorted(words, line_ends)]))
    counts = (8 * np.searchsorted(words, line_ends) - ends) // 8
    if counts.any():
        table[REST] = Column(_values(element, source, np.dtype("<f8"), _spread(ends, counts, 8)), counts)
    return table


def has_rows(element: Element) -> bool:
    """Whether there is anything to read."""
    return element.length > 0 and bool(element.properties)


def _min_size(element):
    return sum((prop.count or prop.dtype).itemsize for prop in element.properties)


def _check_lengths(elements, size, row_sizes):
    for element, row_size in zip(elements, row_sizes, strict=True):
        if element.length * row_size > size:
            raise ValueError(f"it declares {element.length} rows of {element.name}, more than it contains")


def _table(element, source, at):
    """The columns of the rows that begin at the byte `at`, and the byte after them."""
    table, end = _equal_rows(element, source, at)
    if table is None:
        starts = _starts(element, source, at)
        table, end = _rows(element, source, starts)[0], starts[-1]
    return table, end


def _equal_rows(element, source, at):
    """The columns of rows whose lists have the lengths of the first row's, None if they have not; and their end."""
    offsets, lengths, width = _first_row(element, source, at)
    end = at + width * element.length
    if end > len(source):
        return None, end
    table = {}
    for prop, offset, length in zip(element.properties, offsets, lengths, strict=True):
        counts = None
        if prop.count is not None:
            counts = np.ndarray(element.length, prop.count, source, at + offset - prop.count.itemsize, (width,))
            if not np.all(counts == length):
                return None, end
            counts = np.full(element.length, length)
        strides = (width, prop.dtype.itemsize)
        rows = np.ndarray((element.length, length), prop.dtype, source, at + offset, strides)
        table[prop.name] = Column(rows.reshape(-1), counts)
    return table, end


def _first_row(element, source, at):
    """The first byte and the length of each property's values in the first row, and the size of the row."""
    offsets, lengths, start = [], [], at
    for prop in element.properties:
        length = 1
        if prop.count is not None:
            length = int(_lengths(_values(element, source, prop.count, np.array([at])))[0])
            at += prop.count.itemsize
        offsets.append(at - start)
        lengths.append(length)
        at += length * prop.dtype.itemsize
    return offsets, lengths, at - start


def _starts(element, source, at):
    """The byte at which each row begins, and the byte after the last row."""
    lists, fixed = [], 0
    for prop in element.properties:
        if prop.count is None:
            fixed += prop.dtype.itemsize
        else:
            kind = prop.count.str
            unpack = struct.Struct(kind[0].replace("|", "=") + CODES[kind[1:]]).unpack_from
            lists.append((fixed, unpack, prop.count.itemsize, prop.dtype.itemsize))
            fixed = 0
    if not lists:
        return at + fixed * np.arange(element.length + 1)
    starts, size = [at], len(source)
    try:
        for _ in range(element.length):
            for skipped, unpack, count_size, itemsize in lists:
                at += skipped
                (count,) = unpack(source, at)
                if not 0 <= count <= size:
                    _lengths(np.array([count]))
                    raise ValueError(_cut(element))
                at += count_size + int(count) * itemsize
            at += fixed
            starts.append(at)
    except struct.error as error:
        raise ValueError(_cut(element)) from error
    return np.array(starts)


def _rows(element, source, starts):
    """The columns of rows of any lengths, and the byte after the last property of each row.

    `starts` has the byte at which each row begins, and the byte before which the last row ends.
    """
    table, at, ends = {}, starts[:-1], starts[1:]
    for prop in element.properties:
        counts, lengths = None, np.ones(element.length, np.int64)
        if prop.count is not None:
            counts = lengths = _lengths(_values(element, source, prop.count, at))
            at = at + prop.count.itemsize
        after = at + lengths * prop.dtype.itemsize
        if np.any(after > ends):
            raise ValueError(_cut(element))
        table[prop.name] = Column(
            _values(element, source, prop.dtype, _spread(at, lengths, prop.dtype.itemsize)), counts
        )
        at = after
    return table, at


def _spread(starts, counts, itemsize):
    """The bytes of all entries of lists, from the bytes of the first entries."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - itemsize * before, counts) + itemsize * np.arange(counts.sum())


def _values(element, source, dtype, at):
    """The numbers at the bytes `at`."""
    last = len(source) - dtype.itemsize
    if at.size and at.max() > last:
        raise ValueError(_cut(element))
    # Overlapping entries, one that begins at each byte.
    return np.ndarray(max(last + 1, 0), dtype, source, 0, (1,))[at]


def _lengths(counts):
    """Lengths of lists as int64."""
    counts = np.asarray(counts)
    wrong = ~((counts >= 0) & (counts < 2**31) & (counts == np.floor(counts)))
    if np.any(wrong):
        raise ValueError(f"it has a list of length {counts[wrong][0]:g}")
    return counts.astype(np.int64)


def _cut(element):
    return f"it ends within a row of {element.name}, so it is cut off or its header is wrong"


class Triangles(NamedTuple):
    """Triangles of polygons."""

    faces: np.ndarray  # vertex indices, (triangles, 3)
    corners: np.ndarray  # the same corners as numbers of polygon corners, consecutive over all polygons
    polygon: np.ndarray  # number of each triangle's polygon


def triangles(vertices: np.ndarray, index: Column, files: Files) -> Triangles:
    """Splits polygons, given by a column of lists of vertex indices, into triangles."""
    values, counts = index.values, np.asarray(index.counts)
    if values.dtype.kind == "f" and not np.all(values == np.floor(values)):
        raise ValueError("it has a vertex index that is not an integer")
    if values.dtype.itemsize == 8:  # of which not all fit into int64
        values = np.minimum(values, 2**31) if values.dtype.kind == "u" else np.clip(values, -1, 2**31)
    values = values.astype(np.int64)
    if np.all(counts == 3):
        corners = np.arange(len(values)).reshape(-1, 3)
        return Triangles(values.reshape(-1, 3), corners, np.arange(len(counts)))
    kept = counts >= 3
    if not kept.all():
        files.leave_out("faces of fewer than three corners")
    kept_corners = np.flatnonzero(np.repeat(kept, counts))
    corners, polygon = _polygons.triangulate(vertices, values[kept_corners], counts[kept], files)
    corners, polygon = kept_corners[corners], np.flatnonzero(kept)[polygon]
    return Triangles(values[corners], corners, polygon)
