"""Reader and writer of PLY files, with one texture coordinate per face corner as in MeshLab's files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jnr._textures import WRAPS
from jnr.io import _parts, _tables
from jnr.io._parts import Content, Files, Texture
from jnr.io._tables import Column, Element, Property

MAX_HEADER = 2**20
TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"}
TYPES |= {"float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"}
TYPES |= {"int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"}
TYPES |= {"int64": "i8", "uint64": "u8", "long": "i8", "ulong": "u8", "float16": "f2", "half": "f2"}
INDEX_NAMES = ("vertex_indices", "vertex_index")
UV_NAMES = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"), ("texture_s", "texture_t"))
COLOR_NAMES = (("red", "green", "blue", "alpha"), ("r", "g", "b", "a"))
COLOR_NAMES += (("diffuse_red", "diffuse_green", "diffuse_blue", "diffuse_alpha"),)
NORMAL_NAMES = ("nx", "ny", "nz")


class _Header(NamedTuple):
    order: str | None  # byte order, "<" or ">"; None for text
    elements: list[Element]
    images: list[str]
    wrap: str | None
    size: int  # in bytes

    def dtype(self, element: str, name: str) -> np.dtype:
        """The dtype that the header declares for a property."""
        return next(p.dtype for e in self.elements if e.name == element for p in e.properties if p.name == name)


def read(path: Path, files: Files, wrap: str, *, textures: bool) -> Content:
    """Reads a PLY file and its images."""
    content = path.read_bytes().removeprefix(_parts.BOM)
    header = _header(content)
    names = ("vertex", "face", "tristrips")
    if header.order is None:
        tables = _tables.read_text(header.elements, content[header.size :], names, files)
    else:
        tables = _tables.read_binary(header.elements, content, header.size, names)
    return _content(tables, header, files, wrap, textures=textures)


def _header(content) -> _Header:
    end = re.search(rb"[\r\n][ \t]*end_header[ \t]*(\r\n|[\r\n]|$)", content[:MAX_HEADER])
    if not content.startswith(b"ply") or end is None:
        raise ValueError("it has no header from 'ply' to 'end_header'")
    # Where a carriage return alone ends lines, a line feed that follows belongs to the body.
    is_mac = b"\n" not in content[: end.start(1)]
    size = end.start(1) + 1 if is_mac and end[1] else end.end()
    lines = content[: end.start()].decode("utf-8", "surrogateescape").replace("\r", "\n").split("\n")
    kind, elements, images, wrap = None, [], [], None
    for line in lines[1:]:
        words = line.split()
        match words:
            case ["format", kind, _]:
                pass
            case ["element", name, length] if length.isdecimal() and len(length) < 19:
                elements.append(Element(name, int(length), []))
            case ["property", "list", count, kind_of, *name] if elements and {count, kind_of} <= TYPES.keys():
                if TYPES[count][0] == "f":
                    raise ValueError(f"its list {' '.join(name)!r} has lengths of type {count}")
                elements[-1].properties.append(
                    Property(" ".join(name), np.dtype(TYPES[kind_of]), np.dtype(TYPES[count]))
                )
            case ["property", kind_of, *name] if elements and kind_of in TYPES:
                elements[-1].properties.append(Property(" ".join(name), np.dtype(TYPES[kind_of])))
            case ["comment", word, *_] if word.lower() == "texturefile":
                images.append(line.strip().split(None, 2)[2].strip("\"'") if len(words) > 2 else "")
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
    if len({element.name for element in elements}) < len(elements):
        raise ValueError("it has two elements of the same name")
    orders = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}
    if kind not in orders:
        raise ValueError(f"its format is {kind!r}, not one of {', '.join(orders)}")
    order = orders[kind]
    if order is not None:
        elements = [
            element._replace(properties=[_ordered(p, order) for p in element.properties]) for element in elements
        ]
    return _Header(order, elements, images, wrap, size)


def _ordered(prop, order):
    """A property with the byte order of the file."""
    return Property(prop.name, prop.dtype.newbyteorder(order), prop.count and prop.count.newbyteorder(order))


def _content(tables, header, files, wrap, *, textures) -> Content:
    # Properties are taken out of the tables; those that stay are left out of the mesh.
    vertex, face = tables.get("vertex", {}), tables.get("face", {})
    vertices = _taken(vertex, ("x", "y", "z"))
    index = _polygons(face, tables.get("tristrips"), files)
    if vertices is None or index is None:
        raise ValueError("it has no vertices with x, y and z or no faces with vertex_indices")
    triangles = _tables.triangles(vertices, index, files)
    content = Content(vertices, triangles.faces, normals=_taken(vertex, NORMAL_NAMES))
    if not textures:
        return content
    texture = _texture(header, files, wrap, vertex, face, index.counts, triangles)
    colors, face_colors = _colors(vertex, header, "vertex", files), _colors(face, header, "face", files)
    _record_others(tables, header, files)
    kind = "texture" if header.images else "white"
    return _parts.with_look(
        content, files, triangles.polygon, colors=colors, face_colors=face_colors, **{kind: texture}
    )


def _polygons(face, strips, files) -> Column | None:
    """Vertex indices of the faces, with those of triangle strips behind them; None if there are none."""
    index = next((face.pop(name) for name in INDEX_NAMES if name in face and face[name].counts is not None), None)
    strip = next((strips.pop(name) for name in INDEX_NAMES if strips and name in strips), None)
    if strip is None or strip.counts is None:
        return index
    more = _triangles_of_strips(strip)
    if index is None:
        return more
    if face:
        files.leave_out("the properties of faces, which its triangle strips lack")
        face.clear()
    counts = np.concatenate([np.asarray(index.counts), np.asarray(more.counts)])
    return Column(np.concatenate([index.values, more.values]), counts)


def _triangles_of_strips(strip) -> Column:
    """The triangles of strips that end at -1 or with their list; those of two equal corners only turn a strip."""
    values = strip.values
    is_first = np.zeros(len(values) + 1, bool)
    is_first[np.cumsum(strip.counts) - strip.counts] = True
    is_first[1:] |= values == -1
    first = np.flatnonzero(is_first)
    strips = np.cumsum(is_first[:-1])
    place = np.arange(len(values)) - first[strips - 1]
    corners = np.stack([values[:-2], values[1:-1], values[2:]], axis=-1)
    # Every other triangle of a strip winds the other way.
    odd = place[:-2] % 2 == 1
    corners[odd] = corners[odd][:, [1, 0, 2]]
    is_flat = (values[:-2] == values[1:-1]) | (values[1:-1] == values[2:]) | (values[:-2] == values[2:])
    corners = corners[(strips[:-2] == strips[2:]) & (values[2:] != -1) & ~is_flat]
    return Column(corners.reshape(-1), np.full(len(corners), 3))


def _colors(table, header, element, files):
    """Colours in [0, 1], (rows, 3), or 4 columns with opacity; None if there are none."""
    for *names, alpha in COLOR_NAMES:
        if _has(table, names):
            groups = [group for group in (names, [alpha]) if _has(table, group)]
            columns = [(_stacked(table, group), header.dtype(element, group[0])) for group in groups]
            return np.concatenate([_parts.fractions(values, files, dtype) for values, dtype in columns], axis=1)
    return None


def _record_others(tables, header, files):
    """Records the properties that nobody took out of the tables, and the other elements."""
    if [table.pop(_tables.REST) for table in tables.values() if _tables.REST in table]:
        files.leave_out("the numbers of a line beyond its properties")
    for name in NORMAL_NAMES:  # which follow from the vertices
        tables.get("face", {}).pop(name, None)
    others = [f"{element} {name}" for element, table in tables.items() for name in table]
    others += [element.name for element in header.elements if _tables.has_rows(element) and element.name not in tables]
    if others:
        files.leave_out(f"what a picture does not show ({', '.join(others)})")


def _texture(header, files, wrap, vertex, face, counts, triangles) -> Texture | None:
    """The texture coordinates and the images that faces use; None if there are no texture coordinates."""
    number = face.pop("texnumber", None)
    uv, uv_faces = _wedges(face, counts), triangles.corners
    if uv is None:
        uv, uv_faces = next((_taken(vertex, names) for names in UV_NAMES if _has(vertex, names)), None), None
    if uv is None:
        if header.images:
            files.leave_out("images, because it has no texture coordinates")
        return None
    if not header.images:
        if not uv.any():
            return None
        if not np.all(np.isfinite(uv)):
            files.leave_out("texture coordinates, of which some are not finite")
            return None
        return _parts.white(uv, uv_faces, len(triangles.faces), wrap)
    if len(header.images) > _parts.MAX_IMAGES:
        raise ValueError(f"it has more than {_parts.MAX_IMAGES} images")
    material = np.zeros(len(triangles.faces), np.int64)
    if number is not None and number.counts is None:
        if not np.all((number.values >= 0) & (number.values < len(header.images))):
            raise ValueError(f"it has {len(header.images)} images and a face whose texnumber is out of range")
        material = number.values.astype(np.int64)[triangles.polygon]
    used, material = np.unique(material, return_inverse=True)
    if len(used) < len(header.images):
        files.leave_out(f"{len(header.images) - len(used)} images that no texnumber assigns to faces")
    images = [files.image(header.images[k], "comment TextureFile") for k in used]
    images = _parts.with_equal_channels(images)
    alphas = ["blend"] * len(images) if images and images[0].shape[-1] == 4 else None
    return Texture(images, [header.wrap or wrap] * len(images), uv, uv_faces, material, alphas)


def _wedges(face, corners):
    """Returns one texture coordinate per corner, (0, 0) for faces without; None if there are none."""
    if "texcoord" not in face or face["texcoord"].counts is None:
        return None
    values, counts = face.pop("texcoord")
    has_uv = counts > 0
    if np.any(counts[has_uv] != 2 * corners[has_uv]):
        raise ValueError("it has a face whose texcoord does not have two numbers per corner")
    uv = np.zeros((corners.sum(), 2))
    uv[np.repeat(has_uv, corners)] = values.reshape(-1, 2)
    return uv


def _has(table, names):
    """Whether a table has scalar properties of these names."""
    return all(name in table and table[name].counts is None for name in names)


def _stacked(table, names):
    """Takes scalar properties out of a table."""
    return np.stack([table.pop(name).values for name in names], axis=-1)


def _taken(table, names):
    """The same, or None if the table does not have all of them."""
    return _stacked(table, names) if _has(table, names) else None


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
        if texture.wraps[0] not in ("repeat", "mirror", "clamp"):
            raise ValueError(
                f"wrap must be 'repeat', 'mirror' or 'clamp' to be saved as .ply, got {texture.wraps[0]!r}."
            )
        if texture.alphas is not None and texture.alphas[0] == "mask":
            raise ValueError("alpha must be 'blend' or None to be saved as .ply, got 'mask'.")
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
