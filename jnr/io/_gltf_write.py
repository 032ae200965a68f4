"""Writer of binary (.glb) glTF 2.0 files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from jnr.io import _parts
from jnr.io._gltf_materials import WRAPS
from jnr.io._parts import Content

MAX_PRIMITIVES = 2**20


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
    attributes |= {"TEXCOORD_0": writer.floats(flipped(uv)), "_UV": writer.floats(uv)}
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


def flipped(uv: np.ndarray) -> np.ndarray:
    """Converts between v upwards (jnr) and v downwards (glTF)."""
    return np.stack([uv[:, 0], 1 - uv[:, 1]], axis=-1)


def _add_materials(writer, texture):
    document = writer.document
    document |= {"materials": [], "textures": [], "samplers": [], "images": []}
    for k, (image, wrap) in enumerate(zip(texture.images, texture.wraps, strict=True)):
        document["samplers"].append(_sampler(wrap))
        document["images"].append({"bufferView": writer.view(_parts.png(image)), "mimeType": "image/png"})
        document["textures"].append({"sampler": k, "source": k})
        surface = {"baseColorTexture": {"index": k}, "metallicFactor": 0.0, "roughnessFactor": 1.0}
        document["materials"].append({"pbrMetallicRoughness": surface, **_alpha_mode(texture, k)})


def _sampler(wrap):
    codes = {name: code for code, name in WRAPS.items()}
    across, up = (wrap, wrap) if isinstance(wrap, str) else wrap
    if across not in codes or up not in codes:
        raise ValueError(f"wrap must be 'repeat', 'mirror' or 'clamp' to be saved as .glb, got {wrap!r}.")
    return {"wrapS": codes[across], "wrapT": codes[up]}


def _alpha_mode(texture, k):
    """What the material says of opacity. Four channels that are no opacity are written as if they were."""
    if texture.images[k].shape[-1] == 3:
        return {}
    if texture.alphas is None or texture.alphas[k] == "blend":
        return {"alphaMode": "BLEND"}
    return {"alphaMode": "MASK", "alphaCutoff": texture.cutoffs[k]}
