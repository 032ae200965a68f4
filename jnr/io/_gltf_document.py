"""Access to a glTF document: its entries, buffers and accessors, with a bound on what a small file may ask for."""

from __future__ import annotations

import base64
import urllib.parse
from typing import Any

import numpy as np

from jnr.io import _parts
from jnr.io._parts import Files

DRACO = "KHR_draco_mesh_compression"
DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
# A small file may draw one mesh many times, so the numbers of a scene (coordinates of vertices and corners of faces)
# are limited to MAX_SCENE plus PER_BYTE for each byte of the file and its buffers.
MAX_SCENE = 2**25
PER_BYTE = 8
MAX_NAMES = 8  # in one entry of what was left out


class Document:
    """A glTF document and its buffers."""

    def __init__(self, entries: dict, binary: memoryview | None, files: Files, size: int):
        self.entries, self.binary, self.files, self.size = entries, binary, files, size
        self.required = set(entries.get("extensionsRequired", []))
        self.spent = 0
        self.contents: dict[str, bytes] = {}
        self.buffers: dict[int, bytes | memoryview] = {}
        self.decoded: dict[int, Any] = {}

    def items(self, kind: str) -> list:
        """Returns the entries of a kind; none if the document has no such list."""
        return self.entries.get(kind, [])

    def item(self, kind: str, index: Any) -> dict:
        """Returns entry `index` of the document's list `kind`."""
        entries = self.entries.get(kind, [])
        if type(index) is not int or not 0 <= index < len(entries):
            natural(index)
            raise ValueError(f"it has {len(entries)} {kind} and refers to index {index}")
        return entries[index]

    def spend(self, numbers: int) -> None:
        """Adds to the numbers of the scene; raises ValueError when they are too many for the size of the file."""
        self.spent += numbers
        limit = MAX_SCENE + PER_BYTE * self.size
        if self.spent > limit:
            raise ValueError(f"its scene has more than {limit} coordinates and corners, the limit for its size")

    def count(self, index: Any) -> int:
        """Returns the number of rows that an accessor declares. Its buffer is opened, which sets the limit."""
        entry = self.item("accessors", index)
        if "bufferView" in entry:
            self._buffer(self.item("bufferViews", entry["bufferView"])["buffer"])
        return natural(entry["count"])

    def accessor(
        self, index: Any, *widths: int, rows: int | None = None, decoded: np.ndarray | None = None
    ) -> np.ndarray:
        """Returns the rows of an accessor, `(count, width)`; normalized integers are converted to fractions.

        `decoded` takes the place of the accessor's own data.
        """
        entry = self.item("accessors", index)
        dtype, width = np.dtype(DTYPES[entry["componentType"]]), WIDTHS.get(entry["type"])
        count = natural(entry["count"])
        if width not in widths:
            raise ValueError(f"its accessor {index} has the unexpected type {entry['type']}")
        if rows is not None and count != rows:
            raise ValueError(f"it has {rows} vertices and {count} rows of another attribute")
        owner = f"accessor {index}"
        if decoded is not None:
            if decoded.shape != (count, width):
                raise ValueError(f"its {owner} declares {count} x {width} numbers, but {decoded.shape} were compressed")
            values = decoded
        elif "bufferView" in entry:
            values = self._rows(entry, (count, width), dtype, owner)
        else:
            values = np.broadcast_to(np.zeros(1, dtype), (count, width))
        if "sparse" in entry:
            values = self._replaced(values, entry["sparse"], owner)
        if entry.get("normalized") and values.dtype.kind != "f":
            return np.maximum(values / np.float32(np.iinfo(values.dtype.name).max), -1)
        return values

    def attribute(self, primitive: dict, name: str, *widths: int, rows: int | None = None) -> np.ndarray:
        """Returns the rows of a vertex attribute, which may be compressed."""
        data = self.compressed(primitive)
        decoded = None
        if data is not None and name in data["attributes"]:
            found = self._decode(data).get_attribute_by_unique_id(natural(data["attributes"][name]))
            if found is None:
                raise ValueError(f"its {DRACO} data has no {name}")
            decoded = found["data"]
        return self.accessor(primitive["attributes"][name], *widths, rows=rows, decoded=decoded)

    def indices(self, primitive: dict) -> np.ndarray | None:
        """Returns the vertex index of each corner, None if corners are the vertices in order."""
        data = self.compressed(primitive)
        if "indices" not in primitive:
            if data is not None:
                raise ValueError(f"it has {DRACO} data without indices")
            return None
        decoded = None if data is None else np.asarray(self._decode(data).faces).reshape(-1, 1)
        return self.accessor(primitive["indices"], 1, decoded=decoded)[:, 0]

    def compressed(self, primitive: dict) -> dict | None:
        """Returns the Draco extension of a primitive that has no other data."""
        data = primitive.get("extensions", {}).get(DRACO)
        if data is None or "bufferView" in self.item("accessors", primitive["attributes"]["POSITION"]):
            return None
        return data

    def _decode(self, data):
        draco = _parts.require("DracoPy", "DracoPy", f"glTF files compressed by {DRACO}")
        index = natural(data["bufferView"])
        if index not in self.decoded:
            try:
                mesh = draco.decode(bytes(self.view(index)))
                if not hasattr(mesh, "faces"):
                    raise ValueError("it has points alone")
                self.decoded[index] = mesh
            except Exception as error:  # the decoder raises many types of exceptions on invalid data
                raise ValueError(f"its {DRACO} data cannot be decoded: {error}") from error
        return self.decoded[index]

    def _rows(self, entry, shape, dtype, owner):
        """Rows of a buffer view, as an accessor or a part of a sparse one describes them."""
        count, size = shape[0], dtype.itemsize * shape[1]
        view = self.item("bufferViews", entry["bufferView"])
        data = self._bytes(view, entry["bufferView"])
        stride, offset = natural(view.get("byteStride", size)), natural(entry.get("byteOffset", 0))
        if stride < size:
            raise ValueError(f"its {owner} has a byteStride of {stride} for rows of {size} bytes")
        if count and offset + stride * (count - 1) + size > len(data):
            raise ValueError(f"its {owner} declares {count} rows, more than its bufferView contains")
        if not count:
            return np.zeros(shape, dtype)
        return np.ndarray(shape, dtype, data, offset, (stride, dtype.itemsize))

    def _replaced(self, values, sparse, owner):
        """A copy of an accessor's rows, some of which are replaced."""
        count, places = natural(sparse["count"]), sparse["indices"]
        indices = self._rows(places, (count, 1), np.dtype(DTYPES[places["componentType"]]), owner)[:, 0]
        if indices.dtype.kind == "f" or indices.max(initial=0) >= max(len(values), 1):
            raise ValueError(f"its {owner} replaces row {indices.max()} of {len(values)}")
        self.spend(values.size)
        values = values.copy()
        values[indices] = self._rows(sparse["values"], (count, values.shape[1]), values.dtype, owner)
        return values

    def view(self, index: Any) -> memoryview:
        """Returns the bytes of a buffer view."""
        return self._bytes(self.item("bufferViews", index), index)

    def _bytes(self, view, index):
        data = self._buffer(view["buffer"])
        start, length = natural(view.get("byteOffset", 0)), natural(view["byteLength"])
        if start + length > len(data):
            raise ValueError(f"its bufferView {index} declares {start + length} bytes of {len(data)}")
        return memoryview(data)[start : start + length]

    def _buffer(self, index):
        if natural(index) not in self.buffers:
            entry = self.item("buffers", index)
            if "uri" in entry:
                data = self.content(entry["uri"])
            elif index == 0 and self.binary is not None:
                data = self.binary
            elif "EXT_meshopt_compression" in entry.get("extensions", {}):
                raise ValueError("it requires the unsupported extension EXT_meshopt_compression")
            else:
                raise ValueError(f"its buffer {index} does not exist")
            if len(data) < natural(entry["byteLength"]):
                raise ValueError(f"its buffer {index} declares {entry['byteLength']} bytes of {len(data)}")
            self.buffers[index] = data
        return self.buffers[index]

    def content(self, uri: str) -> bytes:
        """Returns the bytes of a data URI or of a file."""
        if uri.startswith("data:"):
            if uri not in self.contents:
                self.contents[uri] = _embedded(uri)
            return self.contents[uri]
        path = self.files.find(urllib.parse.unquote(uri))
        if path is None:
            raise ValueError(f"its file {uri[:80]!r} does not exist")
        # Keyed by path, because one file has many spellings.
        if str(path) not in self.contents:
            self.contents[str(path)] = path.read_bytes()
            self.size += len(self.contents[str(path)])
        return self.contents[str(path)]


def _embedded(uri):
    """The bytes of a data URI, which may be broken into lines."""
    kind, _, text = uri.partition(",")
    if not kind.rstrip().endswith(";base64"):
        return urllib.parse.unquote_to_bytes(text)
    text = "".join(text.split())
    return base64.b64decode(urllib.parse.unquote(text) if "%" in text else text, validate=True)


def natural(value: Any) -> int:
    """Returns a non-negative integer as it is."""
    if type(value) is not int or value < 0:
        raise ValueError(f"it has {str(value)[:80]!r} in place of a non-negative integer")
    return value


def finite(values: Any, length: int, what: str) -> np.ndarray:
    """Returns `length` finite numbers in double precision."""
    return finite_rows([values], length, what)[0]


def finite_rows(rows: list, length: int, what: str) -> np.ndarray:
    """Returns rows of `length` finite numbers in double precision."""
    try:
        array = np.array(rows, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"it has a {what} that is not {length} finite numbers") from error
    if array.shape != (len(rows), length) or not np.all(np.isfinite(array)):
        raise ValueError(f"it has a {what} that is not {length} finite numbers")
    return array


def listed(names: set[str]) -> str:
    """Returns names in order, the first of them if there are many."""
    first = sorted(names)[:MAX_NAMES]
    return ", ".join(first) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")
