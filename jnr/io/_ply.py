"""PLY files, with one texture coordinate a corner of a face as MeshLab writes them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jnr._textures import WRAPS
from jnr.io import _parts
from jnr.io._parts import Content, Files, Texture

MAX_HEADER = 2**20
TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"}
TYPES |= {"float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"}
TYPES |= {"int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"}
UV_NAMES = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"), ("texture_s", "texture_t"))


class _Property(NamedTuple):
    name: str
    dtype: np.dtype
    count: np.dtype | None  # of a list


class _Element(NamedTuple):
    name: str
    length: int
    properties: list[_Property]

    def smallest(self, *, text: bool) -> int:
        """Bytes that a row has at least."""
        if text:
            return 2 * len(self.properties)
        return sum((own.count or own.dtype).itemsize for own in self.properties)


class _Column(NamedTuple):
    values: np.ndarray
    counts: np.ndarray | None  # of a list


class _Header(NamedTuple):
    order: str | None  # of bytes; None where the file is text
    elements: list[_Element]
    images: list[str]
    wrap: str | None
    size: int


def read(path: Path, files: Files, wrap: str, *, textures: bool) -> Content:
    """Reads a PLY file and its images."""
    content = path.read_bytes()
    header = _header(content)
    body = memoryview(content)[header.size :]
    for element in header.elements:
        # The last number of a text needs no space behind it.
        if element.length * element.smallest(text=header.order is None) > len(body) + 1:
            raise ValueError(f"it promises {element.length} rows of {element.name}, more than it holds")
    if header.order is None:
        source = _parts.all_numbers(bytes(body))
        tables = _tables(header.elements, lambda element, at: _text_table(element, source, at))
    else:
        source = bytes(body)
        tables = _tables(header.elements, lambda element, at: _binary_table(element, source, at, header.order))
    return _content(tables, header, files, wrap, textures=textures)


def _header(content) -> _Header:
    end = content.find(b"end_header", 0, MAX_HEADER)
    newline = content.find(b"\n", end)
    if not content.startswith(b"ply") or end < 0:
        raise ValueError("it has no header from 'ply' to 'end_header'")
    if newline < 0:
        newline = len(content)
    lines = content[:end].decode("utf-8", "surrogateescape").replace("\r", "\n").split("\n")
    kind, elements, images, wrap = None, [], [], None
    for line in lines[1:]:
        words = line.split()
        match words:
            case ["format", kind, _]:
                pass
            case ["element", name, length] if length.isdecimal() and len(length) < 19:
                elements.append(_Element(name, int(length), []))
            case ["property", "list", count, kind_of, name] if elements and {count, kind_of} <= TYPES.keys():
                if TYPES[count][0] == "f":
                    raise ValueError(f"its list {name!r} has a length of type {count}")
                elements[-1].properties.append(_Property(name, np.dtype(TYPES[kind_of]), np.dtype(TYPES[count])))
            case ["property", kind_of, name] if elements and kind_of in TYPES:
                elements[-1].properties.append(_Property(name, np.dtype(TYPES[kind_of]), None))
            case ["comment", "TextureFile", *_]:
                images.append(line.strip().split(None, 2)[2] if len(words) > 2 else "")
            case ["comment", "TextureWrap", word] if word in WRAPS:
                wrap = word
            case [] | ["comment" | "obj_info", *_]:
                pass
            case _:
                raise ValueError(f"its header has the line {line[:80]!r}")
    for element in elements:
        names = [own.name for own in element.properties]
        if len(set(names)) < len(names):
            raise ValueError(f"its element {element.name!r} has two properties of one name")
    orders = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}
    if kind not in orders:
        raise ValueError(f"its format is {kind!r}, not one of {', '.join(orders)}")
    return _Header(orders[kind], elements, images, wrap, min(newline + 1, len(content)))


def _tables(elements, read_table) -> dict[str, dict[str, _Column]]:
    tables, at = {}, 0
    for element in elements:
        if element.length and element.properties:
            table, at = read_table(element, at)
            tables.setdefault(element.name, table)
    return tables


def _binary_table(element, source, at, order):
    def values_at(own, number, at):
        end = at + number * own.dtype.itemsize
        if end > len(source):
            raise ValueError(f"it ends within {own.name}")
        return np.frombuffer(source, own.dtype.newbyteorder(order), number, at), end

    # The lists of most files have one length, seen in the first row.
    lengths, end = _first_lengths(element, values_at, at)
    if (end - at) * element.length > len(source) - at:
        return _ragged(element, values_at, at)
    fields = []
    for own, length in zip(element.properties, lengths, strict=True):
        if own.count is not None:
            fields.append((f"number of {own.name}", own.count.newbyteorder(order)))
        fields.append((own.name, own.dtype.newbyteorder(order), () if length is None else (length,)))
    rows = np.frombuffer(source, np.dtype(fields), element.length, at)
    table = {}
    for own, length in zip(element.properties, lengths, strict=True):
        if length is not None and not np.all(rows[f"number of {own.name}"] == length):
            return _ragged(element, values_at, at)
        counts = None if length is None else np.full(element.length, length)
        table[own.name] = _Column(rows[own.name].reshape(-1), counts)
    return table, at + (end - at) * element.length


def _first_lengths(element, values_at, at):
    """The length of each list in the first row, None for what is no list, and where the row ends."""
    lengths = []
    for own in element.properties:
        length = None
        if own.count is not None:
            count, at = values_at(own._replace(dtype=own.count), 1, at)
            length = _length(count[0])
        _, at = values_at(own, 1 if length is None else length, at)
        lengths.append(length)
    return lengths, at


def _text_table(element, source, at):
    def values_at(own, number, at):
        if at + number > len(source):
            raise ValueError(f"it ends within {own.name}")
        return source[at : at + number], at + number

    lengths, end = _first_lengths(element, values_at, at)
    width = end - at
    if width * element.length > len(source) - at:
        return _ragged(element, values_at, at)
    rows = source[at : at + width * element.length].reshape(-1, width)
    table, column = {}, 0
    for own, length in zip(element.properties, lengths, strict=True):
        counts = None
        if length is not None:
            if not np.all(rows[:, column] == length):
                return _ragged(element, values_at, at)
            counts, column = np.full(element.length, length), column + 1
        values = rows[:, column : column + (1 if length is None else length)]
        table[own.name], column = _Column(values.reshape(-1), counts), column + values.shape[1]
    return table, at + width * element.length


def _ragged(element, values_at, at):
    """A table of lists of different lengths, row by row."""
    values = {own.name: [] for own in element.properties}
    counts = {own.name: [] for own in element.properties if own.count is not None}
    for _ in range(element.length):
        for own in element.properties:
            number = 1
            if own.count is not None:
                count, at = values_at(own._replace(dtype=own.count), 1, at)
                number = _length(count[0])
                counts[own.name].append(number)
            row, at = values_at(own, number, at)
            values[own.name].append(row)
    table = {
        name: _Column(np.concatenate(rows), np.array(counts[name]) if name in counts else None)
        for name, rows in values.items()
    }
    return table, at


def _length(count) -> int:
    if not 0 <= count < 2**31 or count != int(count):
        raise ValueError(f"it has a list of length {count}")
    return int(count)


def _content(tables, header, files, wrap, *, textures) -> Content:
    vertex, face = tables.get("vertex", {}), tables.get("face", {})
    vertices = _columns(vertex, ("x", "y", "z"))
    index = face.get("vertex_indices", face.get("vertex_index"))
    if vertices is None or index is None or index.counts is None:
        raise ValueError("it has no vertices of x, y and z or no faces of vertex_indices")
    triangles, polygon = _parts.fan(index.counts)
    if not np.all(index.values == np.floor(index.values)):
        raise ValueError("it has a vertex index that is not a whole number")
    faces = np.clip(index.values, -1, 2**31).astype(np.int64)[triangles]
    if not textures:
        return Content(vertices, faces)
    colors = _columns(vertex, ("red", "green", "blue"))
    dtype = next(
        (own.dtype for e in header.elements if e.name == "vertex" for own in e.properties if own.name == "red"), None
    )
    if colors is not None and dtype is not None and dtype.kind != "f":
        colors = colors / np.float32(np.iinfo(dtype).max)
    if not header.images:
        return Content(vertices, faces, colors)
    uv, uv_faces = _columns(vertex, *UV_NAMES), None
    wedges = face.get("texcoord")
    if wedges is not None and wedges.counts is not None:
        uv, uv_faces = _wedges(wedges, index.counts), triangles
    if uv is None:
        return Content(vertices, faces, colors)
    return Content(vertices, faces, None, _texture(header, files, wrap, uv, uv_faces, face, polygon))


def _texture(header, files, wrap, uv, uv_faces, face, polygon):
    if len(header.images) > _parts.MAX_IMAGES:
        raise ValueError(f"it has more than {_parts.MAX_IMAGES} images")
    images = _parts.alike([files.image(name, "comment TextureFile") for name in header.images])
    number = face.get("texnumber")
    material = np.zeros(len(polygon), np.int64)
    if number is not None and number.counts is None:
        if not np.all((number.values >= 0) & (number.values < len(images))):
            raise ValueError(f"it has {len(images)} images and a face whose texnumber is not one of theirs")
        material = number.values.astype(np.int64)[polygon]
    elif len(images) > 1:
        raise ValueError(f"it has {len(images)} images but no texnumber that says which a face has")
    return Texture(images, [header.wrap or wrap] * len(images), uv, uv_faces, material)


def _wedges(wedges, corners):
    """One texture coordinate a corner; (0, 0) at faces that have none."""
    has = wedges.counts > 0
    if np.any(wedges.counts[has] != 2 * corners[has]):
        raise ValueError("it has a face whose texcoord does not have two numbers a corner")
    uv = np.zeros((corners.sum(), 2))
    uv[np.repeat(has, corners)] = wedges.values.reshape(-1, 2)
    return uv


def _columns(table, *names):
    for own in names:
        if all(name in table and table[name].counts is None for name in own):
            return np.stack([table[name].values for name in own], axis=-1)
    return None


def write(path: Path, content: Content) -> dict[Path, bytes]:
    """The PLY file and its image."""
    vertices, faces, colors, texture = content
    files = {}
    header = ["ply", "format binary_little_endian 1.0"]
    fields = [("position", "<f4", 3)]
    lists = [("corners", "u1"), ("faces", "<i4", 3)]
    if texture is not None:
        if len(texture.images) > 1:
            raise ValueError(
                f"images must be one to be saved as .ply, got {len(texture.images)}: use .obj or .glb for several."
            )
        if texture.wraps[0] == "border":
            raise ValueError("wrap must be 'repeat', 'mirror' or 'clamp' to be saved as .ply, got 'border'.")
        image = path.with_suffix(".png")
        if image.name != image.name.strip() or any(ord(letter) < 32 for letter in image.name):
            raise ValueError(
                f"path must have a name without a space at an end and without control characters to be saved with "
                f"textures, got {path.name!r}."
            )
        files[image] = _parts.png(texture.images[0])
        header += [f"comment TextureFile {image.name}", f"comment TextureWrap {texture.wraps[0]}"]
        lists += [("numbers", "u1"), ("uv", "<f4", (3, 2))]
    header += [f"element vertex {len(vertices)}", *(f"property float {name}" for name in "xyz")]
    if colors is not None:
        fields.append(("color", "u1", 3))
        header += [f"property uchar {name}" for name in ("red", "green", "blue")]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    if texture is not None:
        header.append("property list uchar float texcoord")
    vertex_rows, face_rows = np.zeros(len(vertices), np.dtype(fields)), np.zeros(len(faces), np.dtype(lists))
    vertex_rows["position"] = vertices
    face_rows["corners"], face_rows["faces"] = 3, faces
    if colors is not None:
        vertex_rows["color"] = _parts.eight_bits(colors)
    if texture is not None:
        face_rows["numbers"] = 6
        face_rows["uv"] = texture.uv[faces if texture.uv_faces is None else texture.uv_faces]
    text = "\n".join([*header, "end_header", ""]).encode("utf-8", "surrogateescape")
    return {**files, path: text + vertex_rows.tobytes() + face_rows.tobytes()}
