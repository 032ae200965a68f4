"""Reader of binary (.glb) and JSON (.gltf) glTF 2.0 files."""

from __future__ import annotations

import itertools
import json
import struct
from pathlib import Path

import numpy as np

from jnr.io import _gltf_nodes as nodes
from jnr.io._gltf_document import DRACO, Document
from jnr.io._gltf_materials import BASISU, SPECULAR_GLOSSINESS, Materials
from jnr.io._gltf_nodes import INSTANCING, VISIBILITY, Use
from jnr.io._gltf_primitives import Part, Primitives
from jnr.io._gltf_write import write as write
from jnr.io._parts import Content, Files, Texture

# Extensions that a file may require, because they are read.
EXTENSIONS = {"KHR_texture_transform", "KHR_mesh_quantization", "EXT_texture_webp", BASISU}
EXTENSIONS |= {DRACO, INSTANCING, VISIBILITY, SPECULAR_GLOSSINESS}
# Extensions that a file may require, because the mesh and its base colours do not need them.
EXTENSIONS |= {"KHR_lights_punctual", "EXT_lights_image_based", "KHR_xmp", "KHR_xmp_json_ld", "KHR_animation_pointer"}
EXTENSIONS |= {
    f"KHR_materials_{name}"
    for name in (
        *("unlit", "ior", "clearcoat", "transmission", "specular", "sheen", "volume", "iridescence", "anisotropy"),
        *("dispersion", "variants", "emissive_strength", "diffuse_transmission"),
    )
}


def read(path: Path, files: Files, wrap: str, *, textures: bool) -> Content:
    """Reads a glTF file, its buffers and its images."""
    content = memoryview(path.read_bytes())
    size, binary = len(content), None
    if path.suffix.lower() == ".glb" or content[:4] == b"glTF":
        content, binary = _chunks(content)
    entries = json.loads(bytes(content), parse_constant=_reject_constant)
    if not isinstance(entries, dict):
        raise ValueError("its JSON is not an object")
    if not str(entries.get("asset", {}).get("version", "")).startswith("2"):
        raise ValueError("its version is not 2")
    document = Document(entries, binary, files, size)
    unknown = document.required - EXTENSIONS
    if unknown:
        raise ValueError(f"it requires the unsupported extension {', '.join(sorted(map(str, unknown)))}")
    everything = itertools.chain(*(mesh["primitives"] for mesh in document.items("meshes")))
    if DRACO in document.required and not any(DRACO in primitive.get("extensions", {}) for primitive in everything):
        raise ValueError(f"it requires {DRACO}, but has no compressed triangles")
    return _scene(document, wrap, textures=textures)


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


def _scene(document, wrap, *, textures) -> Content:
    """Returns the concatenated mesh of the scene."""
    materials, scene = Materials(document, wrap), nodes.scene(document)
    primitives = Primitives(document, materials, scene.uses, textures=textures)
    slots: dict[Use, list[int]] = {}
    for slot, use in enumerate(scene.uses):
        slots.setdefault(use, []).append(slot)
    drawn: list[list[Part]] = [[] for _ in scene.uses]
    is_moved = np.any(scene.matrices != np.eye(4), axis=(1, 2))
    is_reversed = nodes.reversing(scene.matrices)
    for use, own in slots.items():
        joints = None if use.skin is None else scene.joints[use.skin]
        for part in primitives.parts(use, len(own)):
            if joints is not None and part.joints is not None:
                copies = [_skinned(part, joints)] * len(own)
            elif is_moved[own].any():
                copies = _placed(part, scene.matrices[own], is_reversed[own].tolist())
            else:
                copies = [part] * len(own)
            for slot, copy in zip(own, copies, strict=True):
                drawn[slot].append(copy)
    parts = list(itertools.chain(*drawn))
    if not parts:
        raise ValueError("its scene has no triangles")
    content = _concatenated(parts, primitives if textures else None)
    materials.record()
    primitives.record()
    _record(document)
    return content


def _record(document):
    """Records what else the document has."""
    for kind in ("cameras", "animations"):
        if document.items(kind):
            document.files.leave_out(kind)
    if document.entries.get("extensions", {}).get("KHR_lights_punctual", {}).get("lights"):
        document.files.leave_out("lights")
    if len(document.items("scenes")) > 1:
        document.files.leave_out("scenes other than the default")


def _placed(part, matrices, is_reversed) -> list[Part]:
    """The part in the world, once per matrix. A reflection reverses the orientation of faces."""
    vertices = nodes.moved(part.vertices, matrices)
    normals = [None] * len(matrices) if part.normals is None else nodes.turned(part.normals, matrices)
    sides = [part, _reversed(part, slice(None)) if any(is_reversed) else part]
    rows = zip(is_reversed, vertices, normals, strict=True)
    return [sides[side]._replace(vertices=own, normals=normal) for side, own, normal in rows]


def _skinned(part, matrices) -> Part:
    """The part, each of whose vertices is moved by the weighted matrices of its joints."""
    joints, weights = part.joints
    if joints.size and not 0 <= joints.min() <= joints.max() < len(matrices):
        raise ValueError(f"it has a vertex that is moved by joint {joints.max()} of {len(matrices)}")
    blended = np.zeros((len(joints), 4, 4))
    for k in range(joints.shape[1]):
        blended += weights[:, k, None, None] * matrices[joints[:, k]]
    normals = None if part.normals is None else nodes.turned(part.normals[:, None], blended)[:, 0]
    moved = part._replace(vertices=nodes.moved(part.vertices[:, None], blended)[:, 0], normals=normals)
    return _reversed(moved, nodes.reversing(blended)[part.faces[:, 0]])


def _reversed(part, which) -> Part:
    """The part, some of whose faces have the opposite orientation."""
    faces, uv_faces = (None if own is None else own.copy() for own in (part.faces, part.uv_faces))
    for own in (faces, uv_faces):
        if own is not None:
            own[which] = own[which, ::-1]
    return part._replace(faces=faces, uv_faces=uv_faces)


def _concatenated(parts, primitives) -> Content:
    """The mesh of all parts; `primitives` is None if textures are not read."""
    counts = [len(part.vertices) for part in parts]
    vertices = np.concatenate([part.vertices for part in parts])
    faces = _joined([part.faces for part in parts], counts)
    content = Content(vertices, faces, normals=_normals(parts, vertices, faces))
    if primitives is None:
        return content
    if primitives.is_colored:
        return content._replace(colors=np.concatenate([part.colors for part in parts]))
    materials, used = primitives.materials, primitives.used
    has_uv = any(part.uv is not None for part in parts)
    if not (has_uv or primitives.has_images or any(materials[k].factor is not None for k in used)):
        return content
    uvs = [np.zeros((len(part.vertices), 2)) if part.uv is None else part.uv for part in parts]
    uv_faces = None
    if any(part.uv_faces is not None for part in parts):
        own = [part.faces if part.uv_faces is None else part.uv_faces for part in parts]
        uv_faces = _joined(own, [len(uv) for uv in uvs])
    images, wraps, alphas, cutoffs = materials.pictures(used)
    material = np.concatenate([part.material for part in parts])
    texture = Texture(images, wraps, np.concatenate(uvs), uv_faces, material, alphas, cutoffs)
    return content._replace(texture=texture)


def _joined(faces, counts):
    """Faces of parts with numbers of vertices `counts` as faces of the whole."""
    if len(faces) == 1:
        return faces[0]
    first = np.cumsum([0, *counts[:-1]], dtype=np.int32)
    return np.concatenate(faces) + np.repeat(first, [len(own) for own in faces])[:, None]


def _normals(parts, vertices, faces):
    """Normals per vertex, or per corner if some parts have none: these are flat. None if no part has any."""
    if not any(part.normals is not None for part in parts):
        return None
    if all(part.normals is not None for part in parts):
        return nodes.unit(np.concatenate([part.normals for part in parts]).astype(np.float32))
    corners = vertices[faces]
    flat = nodes.unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    normals = np.repeat(flat[:, None], 3, axis=1).astype(np.float32)
    first = 0
    for part in parts:
        if part.normals is not None:
            normals[first : first + len(part.faces)] = nodes.unit(part.normals.astype(np.float32))[part.faces]
        first += len(part.faces)
    return normals
