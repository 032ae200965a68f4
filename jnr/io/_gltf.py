"""Reader of binary (.glb) and JSON (.gltf) glTF 2.0 files and writer of binary ones."""

from __future__ import annotations

import base64
import json
import struct
import urllib.parse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jnr.io import _parts
from jnr.io._parts import Content, Files, Texture

DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
WRAPS = {10497: "repeat", 33648: "mirror", 33071: "clamp"}
# Extensions that a file may require: supported here, or without effect on what is read.
EXTENSIONS = {"KHR_materials_unlit", "KHR_texture_transform", "KHR_mesh_quantization", "KHR_lights_punctual"}
# A small file may instance one mesh many times, so the number of vertices and corners is limited to the size of the
# file in bytes plus MAX_SCENE.
MAX_SCENE = 2**24
MAX_PRIMITIVES = 2**20


class _Part(NamedTuple):
    """Vertices and the faces of all primitives that share them."""

    vertices: np.ndarray
    faces: np.ndarray
    material: np.ndarray
    colors: np.ndarray | None
    uv: np.ndarray | None
    uv_faces: np.ndarray | None


class _Material(NamedTuple):
    factor: np.ndarray | None = None
    texture: int | None = None
    uv_set: int = 0
    transform: dict | None = None
    opaque: bool = True


class _Reader:
    """Reads the scene of a glTF document and its buffers."""

    def __init__(self, document: dict, binary: bytes | None, files: Files, wrap: str):
        self.document, self.files, self.wrap = document, files, wrap
        self.binary = binary
        self.contents: dict[str, bytes] = {}
        self.images: dict[Any, np.ndarray] = {}
        unknown = set(document.get("extensionsRequired", [])) - EXTENSIONS
        if unknown:
            raise ValueError(f"it requires the unsupported extension {', '.join(sorted(map(str, unknown)))}")
        if len(document.get("materials", [])) > _parts.MAX_IMAGES:
            raise ValueError(f"it has more than {_parts.MAX_IMAGES} materials")
        self.materials = [self._material(entry) for entry in document.get("materials", [])]

    def item(self, kind: str, index: Any) -> dict:
        """Returns entry `index` of the document's list `kind`."""
        entries = self.document.get(kind, [])
        if not 0 <= _natural(index) < len(entries):
            raise ValueError(f"it has {len(entries)} {kind} and refers to index {index}")
        return entries[index]

    def _material(self, entry) -> _Material:
        surface = entry.get("pbrMetallicRoughness", {})
        factor, texture = surface.get("baseColorFactor"), surface.get("baseColorTexture")
        opaque = entry.get("alphaMode", "OPAQUE") == "OPAQUE"
        if factor is not None:
            factor = _finite(factor, 4, "baseColorFactor")
        if texture is None:
            return _Material(factor, opaque=opaque)
        transform = texture.get("extensions", {}).get("KHR_texture_transform")
        uv_set = texture.get("texCoord", 0) if transform is None else transform.get("texCoord", 0)
        return _Material(factor, _natural(texture["index"]), _natural(uv_set), transform, opaque)

    def accessor(self, index: Any, *widths: int) -> np.ndarray:
        """Returns the rows of an accessor, `(count, width)`; normalized integers are converted to fractions."""
        entry = self.item("accessors", index)
        if "sparse" in entry or "bufferView" not in entry:
            raise ValueError(f"its accessor {index} is sparse or has no bufferView, which is not supported")
        dtype, width = np.dtype(DTYPES[entry["componentType"]]), WIDTHS.get(entry["type"])
        count = _natural(entry["count"])
        if width not in widths:
            raise ValueError(f"its accessor {index} has the unexpected type {entry['type']}")
        view = self.item("bufferViews", entry["bufferView"])
        data = self.view(entry["bufferView"])
        size = dtype.itemsize * width
        stride, offset = _natural(view.get("byteStride", size)), _natural(entry.get("byteOffset", 0))
        if stride < size:
            raise ValueError(f"its accessor {index} has a byteStride of {stride} for rows of {size} bytes")
        if count and offset + stride * (count - 1) + size > len(data):
            raise ValueError(f"its accessor {index} declares {count} rows, more than its bufferView contains")
        if not count:
            return np.zeros((0, width), dtype)
        rows = np.ndarray((count, width), dtype, data, offset, (stride, dtype.itemsize))
        if entry.get("normalized") and dtype.kind != "f":
            return np.maximum(rows / np.float32(np.iinfo(dtype).max), -1)
        return rows

    def view(self, index: Any) -> memoryview:
        """Returns the bytes of a buffer view."""
        entry = self.item("bufferViews", index)
        data = self._buffer(entry["buffer"])
        start, length = _natural(entry.get("byteOffset", 0)), _natural(entry["byteLength"])
        if start + length > len(data):
            raise ValueError(f"its bufferView {index} declares {start + length} bytes of {len(data)}")
        return memoryview(data)[start : start + length]

    def _buffer(self, index) -> bytes:
        entry = self.item("buffers", index)
        if "uri" in entry:
            data = self._content(entry["uri"])
        elif index == 0 and self.binary is not None:
            data = self.binary
        else:
            raise ValueError(f"its buffer {index} does not exist")
        if len(data) < _natural(entry["byteLength"]):
            raise ValueError(f"its buffer {index} declares {entry['byteLength']} bytes of {len(data)}")
        return data

    def _content(self, uri: str) -> bytes:
        if uri.startswith("data:"):
            if uri not in self.contents:
                self.contents[uri] = base64.b64decode(uri.partition(",")[2], validate=True)
            return self.contents[uri]
        path = self.files.find(urllib.parse.unquote(uri))
        if path is None:
            raise ValueError(f"its file {uri[:80]!r} does not exist")
        # Keyed by path, because one file has many spellings.
        if str(path) not in self.contents:
            self.contents[str(path)] = path.read_bytes()
        return self.contents[str(path)]

    def scene(self, *, textures: bool) -> Content:
        """Returns the concatenated mesh of the scene."""
        parts, total, num_primitives = [], 0, 0
        for index in range(len(self.document.get("buffers", []))):
            self._buffer(index)
        limit = MAX_SCENE + sum(map(len, self.contents.values())) + len(self.binary or b"")
        for mesh, transform in self._nodes():
            groups = []
            for primitive in mesh["primitives"]:
                num_primitives += 1
                if num_primitives > MAX_PRIMITIVES:
                    raise ValueError(f"its scene has more than {MAX_PRIMITIVES} primitives")
                if primitive.get("mode", 4) not in (4, 5, 6) or "POSITION" not in primitive["attributes"]:
                    continue
                key = (primitive["attributes"], self._uv_source(primitive))
                if not groups or groups[-1][0] != key:
                    groups.append((key, []))
                    total += _natural(self.item("accessors", primitive["attributes"]["POSITION"])["count"])
                total += self._num_corners(primitive)
                groups[-1][1].append(primitive)
                if total > limit:
                    raise ValueError(f"its scene has more than {limit} vertices and corners")
            parts += [self._part(primitives, transform, textures) for _, primitives in groups]
        if not parts:
            raise ValueError("its scene has no triangles")
        return self._concatenated(parts, textures=textures)

    def _nodes(self):
        """Yields the meshes of the scene in depth-first order, each with its world matrix."""
        nodes = self.document.get("nodes", [])
        if self.document.get("scenes"):
            roots = self.item("scenes", self.document.get("scene", 0)).get("nodes", [])
        else:
            children = {child for node in nodes for child in node.get("children", [])}
            roots = [k for k in range(len(nodes)) if k not in children]
        if not nodes:
            for mesh in self.document.get("meshes", []):
                yield mesh, np.eye(4)
        seen = set()
        stack = [(index, np.eye(4)) for index in reversed(roots)]
        while stack:
            index, parent = stack.pop()
            node = self.item("nodes", index)
            if index in seen:
                raise ValueError(f"its node {index} occurs in the scene twice")
            seen.add(index)
            transform = parent @ _matrix(node)
            if "mesh" in node:
                yield self.item("meshes", node["mesh"]), transform
            stack += [(child, transform) for child in reversed(node.get("children", []))]

    def _material_of(self, primitive) -> _Material:
        return _Material() if "material" not in primitive else self.materials[self._material_index(primitive)]

    def _material_index(self, primitive):
        """Returns the material index of a primitive; the default material comes after all others."""
        if "material" not in primitive:
            return len(self.materials)
        self.item("materials", primitive["material"])
        return primitive["material"]

    def _uv_source(self, primitive):
        """Returns what determines the texture coordinates of a primitive: attribute name and transform."""
        material = self._material_of(primitive)
        return f"TEXCOORD_{material.uv_set}", material.transform

    def _num_corners(self, primitive):
        if "indices" in primitive:
            return _natural(self.item("accessors", primitive["indices"])["count"])
        return _natural(self.item("accessors", primitive["attributes"]["POSITION"])["count"])

    def _part(self, primitives, transform, textures) -> _Part:
        """Reads primitives that share their attributes, and applies the world matrix."""
        attributes = primitives[0]["attributes"]
        vertices = self.accessor(attributes["POSITION"], 3)
        faces, materials = [], []
        for primitive in primitives:
            faces.append(self._faces(primitive, len(vertices)))
            materials.append(np.full(len(faces[-1]), self._material_index(primitive)))
        part = _Part(vertices, np.concatenate(faces), np.concatenate(materials), None, None, None)
        if textures:
            part = self._with_attributes(part, attributes, *self._uv_source(primitives[0]))
            part = self._restored(part, attributes)
        if np.array_equal(transform, np.eye(4)):
            return part
        vertices = part.vertices @ transform[:3, :3].T + transform[:3, 3]
        if np.linalg.det(transform[:3, :3]) >= 0:
            return part._replace(vertices=vertices)
        # A reflection reverses the orientation of faces.
        uv_faces = None if part.uv_faces is None else part.uv_faces[:, ::-1]
        return part._replace(vertices=vertices, faces=part.faces[:, ::-1], uv_faces=uv_faces)

    def _faces(self, primitive, num_vertices) -> np.ndarray:
        mode = primitive.get("mode", 4)
        if "indices" in primitive:
            corners = self.accessor(primitive["indices"], 1)[:, 0].astype(np.int64)
        else:
            corners = np.arange(num_vertices)
        if corners.size and not 0 <= corners.min() <= corners.max() < num_vertices:
            raise ValueError(f"it has a face with vertex index {corners.max()}, but {num_vertices} vertices")
        if mode == 4:
            if len(corners) % 3:
                raise ValueError(f"it has a triangle primitive with {len(corners)} corners, not a multiple of 3")
            return corners.reshape(-1, 3)
        k = np.arange(max(len(corners) - 2, 0))
        if mode == 5:
            return corners[np.stack([k, k + 1 + k % 2, k + 2 - k % 2], axis=-1)]
        return corners[np.stack([np.zeros_like(k), k + 1, k + 2], axis=-1)]

    def _with_attributes(self, part, attributes, uv_name, transform) -> _Part:
        """Adds vertex colours and texture coordinates."""
        colors = uv = None
        if "COLOR_0" in attributes:
            colors = self.accessor(attributes["COLOR_0"], 3, 4)[:, :3]
            if colors.dtype.kind != "f":
                colors = colors / np.float32(np.iinfo(colors.dtype).max)
        if uv_name in attributes:
            uv = self.accessor(attributes[uv_name], 2)
            uv = uv if uv.dtype.kind == "f" else uv.astype(np.float32)
            if transform is not None:
                uv = uv @ _uv_matrix(transform) + _finite(transform.get("offset", [0, 0]), 2, "offset")
            uv = _flipped(uv)
        for array in (colors, uv):
            if array is not None and len(array) != len(part.vertices):
                raise ValueError(f"it has {len(part.vertices)} vertices and {len(array)} rows of another attribute")
        return part._replace(colors=colors, uv=uv)

    def _restored(self, part, attributes) -> _Part:
        """Restores the mesh that `write` stored, if its private attributes are present and consistent.

        `_UV` holds the exact texture coordinates, `_VERTEX` the original index of each vertex, `_UV_ROW` its row of
        `uv`. The mesh of a file that another program has changed is returned as it is.
        """
        if "_UV" not in attributes:
            return part
        uv = self.accessor(attributes["_UV"], 2)
        # Flipped twice, as TEXCOORD_0 is by writing and reading, which rounds v.
        if part.uv is None or not np.array_equal(_flipped(_flipped(uv)), part.uv):
            return part
        if "_VERTEX" not in attributes or "_UV_ROW" not in attributes:
            return part._replace(uv=uv)
        vertex, row = (self.accessor(attributes[name], 1)[:, 0] for name in ("_VERTEX", "_UV_ROW"))
        if not len(vertex) == len(row) == len(uv) or not np.all(np.isfinite(vertex) & np.isfinite(row)):
            return part
        vertex, row = vertex.astype(np.int64), row.astype(np.int64)
        count, rows = vertex.max(initial=-1) + 1, np.unique(row[row >= 0], return_index=True)
        consistent = (
            vertex.min(initial=0) >= 0
            and count <= len(vertex)
            and np.array_equal(vertex[:count], np.arange(count))
            and np.array_equal(rows[0], np.arange(len(rows[0])))
            and np.array_equal(part.vertices, part.vertices[vertex])
            and row[part.faces].min(initial=0) >= 0
        )
        if not consistent:
            return part
        restored_uv = uv[row >= 0][rows[1]]
        if not np.array_equal(uv[row >= 0], restored_uv[row[row >= 0]]):
            return part
        return _Part(part.vertices[:count], vertex[part.faces], part.material, None, restored_uv, row[part.faces])

    def _concatenated(self, parts, *, textures) -> Content:
        vertices = np.concatenate([part.vertices for part in parts])
        first = np.cumsum([0, *(len(part.vertices) for part in parts)])
        faces = np.concatenate([part.faces + start for part, start in zip(parts, first, strict=False)])
        if not textures:
            return Content(vertices, faces)
        material = np.concatenate([part.material for part in parts])
        used = [self.materials[k] for k in np.unique(material) if k < len(self.materials)]
        colors = None
        if all(part.colors is not None for part in parts):
            colors = np.concatenate([part.colors for part in parts])
        has_images = any(entry.texture is not None for entry in used)
        if not has_images and (colors is not None or all(entry.factor is None for entry in used)):
            return Content(vertices, faces, colors)
        uvs = [np.zeros((len(part.vertices), 2)) if part.uv is None else part.uv for part in parts]
        uv_faces = None
        if any(part.uv_faces is not None for part in parts):
            first = np.cumsum([0, *map(len, uvs)])
            all_uv_faces = [part.faces if part.uv_faces is None else part.uv_faces for part in parts]
            uv_faces = np.concatenate([one + start for one, start in zip(all_uv_faces, first, strict=False)])
        images, wraps = self._images(with_default=bool(np.any(material == len(self.materials))))
        return Content(vertices, faces, None, Texture(images, wraps, np.concatenate(uvs), uv_faces, material))

    def _images(self, *, with_default):
        """Returns the image and wrap mode of every material, and of the default material if asked for."""
        images, wraps = [], []
        for entry in [*self.materials, *([_Material()] if with_default else [])]:
            factor = np.ones(4) if entry.factor is None else entry.factor
            if entry.texture is None:
                # A 1 x 1 image of a colour is clamped in place of "border", so that no border colour is seen.
                wraps.append("clamp" if self.wrap == "border" else self.wrap)
                image = np.ones((1, 1, 3), np.float32)
            else:
                texture = self.item("textures", entry.texture)
                wraps.append(self._wrap(texture))
                image = self._image(texture)
            key = (entry.texture, factor.tobytes(), entry.opaque)
            if key not in self.images:
                self.images[key] = self._multiplied(image, factor, entry.opaque)
            images.append(self.images[key])
        return _parts.with_equal_channels(images), wraps

    def _multiplied(self, image, factor, opaque):
        """Returns an image times a colour. Opaque materials ignore alpha."""
        if opaque:
            image, factor = image[..., :3], factor[:3]
        elif image.shape[-1] == 3:
            if factor[3] == 1:
                factor = factor[:3]
            else:
                image = np.concatenate([image, np.ones_like(image[..., :1])], axis=-1)
        if np.all(factor == 1):
            return image
        self.files.count(image.shape[0] * image.shape[1])
        return image * factor.astype(np.float32)

    def _image(self, texture) -> np.ndarray:
        if "source" not in texture:
            raise ValueError("it has a texture without an image in a supported format")
        index = texture["source"]
        entry = self.item("images", index)
        if index not in self.images:
            if "bufferView" in entry:
                image = self.files.decode(bytes(self.view(entry["bufferView"])), f"{index}")
            elif entry["uri"].startswith("data:"):
                image = self.files.decode(self._content(entry["uri"]), f"{index}")
            else:
                image = self.files.image(urllib.parse.unquote(entry["uri"]), f"texture {index}")
            self.images[index] = image
        return self.images[index]

    def _wrap(self, texture) -> str:
        sampler = self.item("samplers", texture["sampler"]) if "sampler" in texture else {}
        wraps = [WRAPS[sampler[key]] for key in ("wrapS", "wrapT") if key in sampler]
        if (len(wraps) == 1 and wraps[0] != "repeat") or len(set(wraps)) > 1:
            raise ValueError(f"it has an image with different wrap modes along its axes, {sampler}")
        return wraps[0] if wraps else self.wrap


def read(path: Path, files: Files, wrap: str, *, textures: bool) -> Content:
    """Reads a glTF file, its buffers and its images."""
    content = path.read_bytes()
    binary = None
    if path.suffix.lower() == ".glb":
        content, binary = _chunks(content)
    document = json.loads(content, parse_constant=_reject_constant)
    if not isinstance(document, dict):
        raise ValueError("its JSON is not an object")
    if not str(document.get("asset", {}).get("version", "")).startswith("2"):
        raise ValueError("its version is not 2")
    return _Reader(document, binary, files, wrap).scene(textures=textures)


def _chunks(content):
    """Returns the JSON chunk and the binary chunk, None if there is none, of a binary glTF file."""
    if len(content) < 20 or content[:4] != b"glTF":
        raise ValueError("it does not start with a binary glTF header")
    version, length, json_length, kind = struct.unpack_from("<III4s", content, 4)
    if version != 2 or kind != b"JSON" or length > len(content) or 20 + json_length > length:
        raise ValueError(f"its header declares version {version} and {length} bytes of {len(content)}")
    binary, at = None, 20 + json_length
    while binary is None and at + 8 <= length:
        size, kind = struct.unpack_from("<I4s", content, at)
        if at + 8 + size > length:
            raise ValueError(f"its chunk declares {size} bytes, more than the file contains")
        if kind == b"BIN\0":
            binary = content[at + 8 : at + 8 + size]
        at += 8 + size
    return content[20 : 20 + json_length], binary


def _reject_constant(name):
    raise ValueError(f"its JSON contains {name}, which JSON does not allow")


def _natural(value) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"it has {str(value)[:80]!r} in place of a non-negative integer")
    return value


def _finite(values, length, what) -> np.ndarray:
    array = np.array(values, np.float64)
    if array.shape != (length,) or not np.all(np.isfinite(array)):
        raise ValueError(f"it has a {what} that is not {length} finite numbers")
    return array


def _flipped(uv) -> np.ndarray:
    """Converts between v upwards (jnr) and v downwards (glTF)."""
    return np.stack([uv[:, 0], 1 - uv[:, 1]], axis=-1)


def _matrix(node) -> np.ndarray:
    if "matrix" in node:
        return _finite(node["matrix"], 16, "matrix").reshape(4, 4).T
    matrix = np.eye(4)
    if "rotation" in node:
        x, y, z, w = _finite(node["rotation"], 4, "rotation")
        matrix[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    matrix[:3, :3] *= _finite(node.get("scale", [1, 1, 1]), 3, "scale")
    matrix[:3, 3] = _finite(node.get("translation", [0, 0, 0]), 3, "translation")
    return matrix


def _uv_matrix(transform) -> np.ndarray:
    """Returns scale, then rotation of KHR_texture_transform, as a matrix to the right of uv rows."""
    (angle,) = _finite([transform.get("rotation", 0)], 1, "rotation")
    scale = _finite(transform.get("scale", [1, 1]), 2, "scale")
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale[:, None] * rotation


class _Writer:
    """Builds a glTF document and its binary buffer."""

    def __init__(self):
        self.document: dict[str, Any] = {"asset": {"version": "2.0", "generator": "jnr"}, "accessors": []}
        self.document |= {"bufferViews": [], "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}]}
        self.chunks, self.size = [], 0

    def view(self, data: bytes, **more: int) -> int:
        """Adds a buffer view, aligned to four bytes, and returns its index."""
        self.document["bufferViews"].append({"buffer": 0, "byteOffset": self.size, "byteLength": len(data)} | more)
        padded = data + b"\0" * (-len(data) % 4)
        self.chunks.append(padded)
        self.size += len(padded)
        return len(self.document["bufferViews"]) - 1

    def accessor(self, view: int, count: int, component: int, kind: str, **more: Any) -> int:
        """Adds an accessor of a view and returns its index."""
        entry = {"bufferView": view, "componentType": component, "count": count, "type": kind}
        self.document["accessors"].append(entry | more)
        return len(self.document["accessors"]) - 1

    def floats(self, array: np.ndarray, **more: Any) -> int:
        """Adds a float32 vertex attribute and returns its accessor index."""
        array = np.asarray(array, "<f4")
        kind = "SCALAR" if array.ndim == 1 else f"VEC{array.shape[1]}"
        return self.accessor(self.view(array.tobytes(), target=34962), len(array), 5126, kind, **more)

    def file(self) -> bytes:
        """Returns the contents of the .glb file."""
        self.document["buffers"] = [{"byteLength": self.size}]
        text = json.dumps(self.document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        length = 28 + len(text) + self.size
        if length >= 2**32:
            raise ValueError(f"mesh must fit into 2**32 bytes to be saved as .glb, got {length}.")
        head = struct.pack("<4sIII4s", b"glTF", 2, length, len(text), b"JSON")
        return b"".join([head, text, struct.pack("<I4s", self.size, b"BIN\0"), *self.chunks])


def write(path: Path, content: Content) -> dict[Path, bytes]:
    """Returns the contents of the binary glTF file, by path."""
    vertices, faces, colors, texture, *_ = content
    if not len(faces):
        raise ValueError("faces must hold at least one face to be saved as .glb, got none.")
    writer = _Writer()
    attributes, pieces = {}, [(0, len(faces), None)]
    if texture is not None:
        pieces = _parts.runs(texture.material)
        if len(pieces) > MAX_PRIMITIVES:
            raise ValueError(
                f"material must change at most {MAX_PRIMITIVES} times along the faces to be saved as .glb, got "
                f"{len(pieces)} runs: sort the faces by material."
            )
        vertices, faces, attributes = _with_uv(writer, vertices, faces, texture)
        _add_materials(writer, texture)
    limits = {"min": vertices.min(axis=0).tolist(), "max": vertices.max(axis=0).tolist()}
    attributes = {"POSITION": writer.floats(vertices, **limits), **attributes}
    if colors is not None:
        rgba = np.concatenate([_parts.eight_bits(colors), np.full((len(colors), 1), 255, np.uint8)], axis=1)
        view = writer.view(rgba.tobytes(), target=34962)
        attributes["COLOR_0"] = writer.accessor(view, len(rgba), 5121, "VEC4", normalized=True)
    view = writer.view(faces.astype("<u4").tobytes(), target=34963)
    primitives = []
    for start, end, material in pieces:
        indices = writer.accessor(view, 3 * (end - start), 5125, "SCALAR", byteOffset=12 * start)
        primitives.append({"attributes": attributes, "indices": indices})
        if material is not None:
            primitives[-1]["material"] = material
    writer.document["meshes"] = [{"primitives": primitives}]
    return {path: writer.file()}


def _with_uv(writer, vertices, faces, texture):
    """Splits vertices to have one texture coordinate each, as glTF requires; returns vertices, faces and attributes.

    The attributes `_VERTEX`, `_UV_ROW` and `_UV` let the reader restore the original mesh.
    """
    uv = texture.uv
    attributes = {}
    if texture.uv_faces is not None:
        if max(len(vertices), len(uv)) > 2**24:
            raise ValueError(
                f"uv_faces must index at most 2**24 vertices and rows of uv to be saved as .glb, got "
                f"{len(vertices)} and {len(uv)}."
            )
        origin, row, faces = _split(faces, texture.uv_faces, len(vertices), len(uv))
        vertices = vertices[origin]
        uv = np.where(row[:, None] < 0, np.float32(0), uv[np.maximum(row, 0)])
        attributes |= {"_VERTEX": writer.floats(origin), "_UV_ROW": writer.floats(row)}
    attributes |= {"TEXCOORD_0": writer.floats(_flipped(uv)), "_UV": writer.floats(uv)}
    return vertices, faces, attributes


def _split(faces, uv_faces, num_vertices, num_uv):
    """Splits vertices so that each has one row of uv: the original vertices first, then copies, then unused rows of uv.

    Returns:
        The original index of each new vertex, its row of uv (-1 where no face uses one), and the new faces.
    """
    pairs, corners = np.unique(faces.reshape(-1) * num_uv + uv_faces.reshape(-1), return_inverse=True)
    vertex, row = pairs // num_uv, pairs % num_uv
    is_first = np.concatenate([[True], vertex[1:] != vertex[:-1]])
    unused = np.setdiff1d(np.arange(num_uv), row)
    new_index = np.where(is_first, vertex, 0)
    new_index[~is_first] = num_vertices + np.arange(np.sum(~is_first))
    rows = np.full(num_vertices, -1)
    rows[vertex[is_first]] = row[is_first]
    origin = np.concatenate([np.arange(num_vertices), vertex[~is_first], np.zeros_like(unused)])
    return origin, np.concatenate([rows, row[~is_first], unused]), new_index[corners].reshape(-1, 3)


def _add_materials(writer, texture):
    document = writer.document
    codes = {name: code for code, name in WRAPS.items()}
    document |= {"materials": [], "textures": [], "samplers": [], "images": []}
    for k, (image, wrap) in enumerate(zip(texture.images, texture.wraps, strict=True)):
        if wrap not in codes:
            raise ValueError(f"wrap must be 'repeat', 'mirror' or 'clamp' to be saved as .glb, got {wrap!r}.")
        document["samplers"].append({"wrapS": codes[wrap], "wrapT": codes[wrap]})
        document["images"].append({"bufferView": writer.view(_parts.png(image)), "mimeType": "image/png"})
        document["textures"].append({"sampler": k, "source": k})
        surface = {"baseColorTexture": {"index": k}, "metallicFactor": 0.0, "roughnessFactor": 1.0}
        blend = {"alphaMode": "BLEND"} if image.shape[-1] == 4 else {}
        document["materials"].append({"pbrMetallicRoughness": surface, **blend})
