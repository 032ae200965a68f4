"""Reader and writer of PLY files, with one texture coordinate per face corner as in MeshLab's files."""

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
    count: np.dtype | None  # dtype of the length of a list; None for a scalar property


class _Element(NamedTuple):
    name: str
    length: int
    properties: list[_Property]

    def min_row_size(self, *, text: bool) -> int:
        """Lower bound of the bytes of a row."""
        if text:
            return 2 * len(self.properties)
        return sum((prop.count or prop.dtype).itemsize for prop in self.properties)


class _Column(NamedTuple):
    values: np.ndarray  # of all rows, concatenated
    counts: np.ndarray | None  # length of each list; None for a scalar property


class _Header(NamedTuple):
    order: str | None  # byte order, "<" or ">"; None for text
    elements: list[_Element]
    images: list[str]
    wrap: str | None
    size: int  # in bytes


def read(path: Path, files: Files, wrap: str, *, textures: bool) -> Content:
    """Reads a PLY file and its images."""
    content = path.read_bytes()
    header = _header(content)
    body = memoryview(content)[header.size :]
    for element in header.elements:
        # + 1: no space is needed after the last number of a text.
        if element.length * element.min_row_size(text=header.order is None) > len(body) + 1:
            raise ValueError(f"it declares {element.length} rows of {element.name}, more than it contains")
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
                    raise ValueError(f"its list {name!r} has lengths of type {count}")
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
        names = [prop.name for prop in element.properties]
        if len(set(names)) < len(names):
            raise ValueError(f"its element {element.name!r} has two properties of the same name")
    orders = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}
    if kind not in orders:
        raise ValueError(f"its format is {kind!r}, not one of {', '.join(orders)}")
    return _Header(orders[kind], elements, images, wrap, min(newline + 1, len(content)))


def _tables(elements, read_table) -> dict[str, dict[str, _Column]]:
    """Reads the elements in turn; the result maps the name of an element to its columns by property name."""
    tables, at = {}, 0
    for element in elements:
        if element.length and element.properties:
            table, at = read_table(element, at)
            tables.setdefault(element.name, table)
    return tables


def _binary_table(element, source, at, order):
    def values_at(prop, number, at):
        end = at + number * prop.dtype.itemsize
        if end > len(source):
            raise ValueError(f"it ends within {prop.name}")
        return np.frombuffer(source, prop.dtype.newbyteorder(order), number, at), end

    # Fast path: in most files all lists of a property have the length of the first row.
    lengths, end = _first_lengths(element, values_at, at)
    if (end - at) * element.length > len(source) - at:
        return _ragged_table(element, values_at, at)
    fields = []
    for prop, length in zip(element.properties, lengths, strict=True):
        if prop.count is not None:
            fields.append((f"number of {prop.name}", prop.count.newbyteorder(order)))
        fields.append((prop.name, prop.dtype.newbyteorder(order), () if length is None else (length,)))
    rows = np.frombuffer(source, np.dtype(fields), element.length, at)
    table = {}
    for prop, length in zip(element.properties, lengths, strict=True):
        if length is not None and not np.all(rows[f"number of {prop.name}"] == length):
            return _ragged_table(element, values_at, at)
        counts = None if length is None else np.full(element.length, length)
        table[prop.name] = _Column(rows[prop.name].reshape(-1), counts)
    return table, at + (end - at) * element.length


def _first_lengths(element, values_at, at):
    """Returns the length of each list in the first row, None for scalar properties, and the end of the row."""
    lengths = []
    for prop in element.properties:
        length = None
        if prop.count is not None:
            count, at = values_at(prop._replace(dtype=prop.count), 1, at)
            length = _length(count[0])
        _, at = values_at(prop, 1 if length is None else length, at)
        lengths.append(length)
    return lengths, at


def _text_table(element, source, at):
    def values_at(prop, number, at):
        if at + number > len(source):
            raise ValueError(f"it ends within {prop.name}")
        return source[at : at + number], at + number

    lengths, end = _first_lengths(element, values_at, at)
    width = end - at
    if width * element.length > len(source) - at:
        return _ragged_table(element, values_at, at)
    rows = source[at : at + width * element.length].reshape(-1, width)
    table, column = {}, 0
    for prop, length in zip(element.properties, lengths, strict=True):
        counts = None
        if length is not None:
            if not np.all(rows[:, column] == length):
                return _ragged_table(element, values_at, at)
            counts, column = np.full(element.length, length), column + 1
        values = rows[:, column : column + (1 if length is None else length)]
        table[prop.name], column = _Column(values.reshape(-1), counts), column + values.shape[1]
    return table, at + width * element.length


def _ragged_table(element, values_at, at):
    """Reads a table of lists of different lengths, row by row."""
    values = {prop.name: [] for prop in element.properties}
    counts = {prop.name: [] for prop in element.properties if prop.count is not None}
    for _ in range(element.length):
        for prop in element.properties:
            number = 1
            if prop.count is not None:
                count, at = values_at(prop._replace(dtype=prop.count), 1, at)
                number = _length(count[0])
                counts[prop.name].append(number)
            row, at = values_at(prop, number, at)
            values[prop.name].append(row)
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
        raise ValueError("it has no vertices with x, y and z or no faces with vertex_indices")
    triangles, polygon = _parts.fan(index.counts)
    if not np.all(index.values == np.floor(index.values)):
        raise ValueError("it has a vertex index that is not an integer")
    faces = np.clip(index.values, -1, 2**31).astype(np.int64)[triangles]
    if not textures:
        return Content(vertices, faces)
    colors = _columns(vertex, ("red", "green", "blue"))
    dtype = next(
        (prop.dtype for e in header.elements if e.name == "vertex" for prop in e.properties if prop.name == "red"), None
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
    images = _parts.with_equal_channels([files.image(name, "comment TextureFile") for name in header.images])
    texnumber = face.get("texnumber")
    material = np.zeros(len(polygon), np.int64)
    if texnumber is not None and texnumber.counts is None:
        if not np.all((texnumber.values >= 0) & (texnumber.values < len(images))):
            raise ValueError(f"it has {len(images)} images and a face whose texnumber is out of range")
        material = texnumber.values.astype(np.int64)[polygon]
    elif len(images) > 1:
        raise ValueError(f"it has {len(images)} images but no texnumber that assigns them to faces")
    return Texture(images, [header.wrap or wrap] * len(images), uv, uv_faces, material)


def _wedges(wedges, corners):
    """Returns one texture coordinate per corner; (0, 0) for faces without."""
    has_uv = wedges.counts > 0
    if np.any(wedges.counts[has_uv] != 2 * corners[has_uv]):
        raise ValueError("it has a face whose texcoord does not have two numbers per corner")
    uv = np.zeros((corners.sum(), 2))
    uv[np.repeat(has_uv, corners)] = wedges.values.reshape(-1, 2)
    return uv


def _columns(table, *alternatives):
    """Stacks the scalar properties of the first alternative that the table has; None if it has none of them."""
    for names in alternatives:
        if all(name in table and table[name].counts is None for name in names):
            return np.stack([table[name].values for name in names], axis=-1)
    return None


def write(path: Path, content: Content) -> dict[Path, bytes]:
    """Returns the contents of the PLY file and its image, by path."""
    vertices, faces, colors, texture, *_ = content
    files = {}
    header = ["ply", "format binary_little_endian 1.0"]
    fields = [("position", "<f4", 3)]
    lists = [("corners", "u1"), ("faces", "<i4", 3)]
    if texture is not None:
        if len(texture.images) > 1:
            raise ValueError(
                f"images must be a single one to be saved as .ply, got {len(texture.images)}: use .obj or .glb instead."
            )
        if texture.wraps[0] == "border":
            raise ValueError("wrap must be 'repeat', 'mirror' or 'clamp' to be saved as .ply, got 'border'.")
        image = path.with_suffix(".png")
        if image.name != image.name.strip() or any(ord(character) < 32 for character in image.name):
            raise ValueError(
                f"path must have a name without spaces at its ends and without control characters to be saved with "
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
