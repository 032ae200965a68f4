"""The triangles of glTF's meshes: vertices, faces and attributes of primitives, in the space of their mesh."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from jnr.io._gltf_document import DRACO, Document, finite, listed
from jnr.io._gltf_materials import WHITE, Material, Materials, Transform
from jnr.io._gltf_nodes import Use
from jnr.io._gltf_write import flipped

# Attributes of vertices that are read, besides texture coordinates, joints and weights.
ATTRIBUTES = frozenset(["POSITION", "NORMAL", "COLOR_0", "_UV", "_VERTEX", "_UV_ROW"])
TRIANGLES, STRIP, FAN = 4, 5, 6
# What each copy of a primitive, and reading a primitive, costs in numbers of the scene, see `Document.spend`.
DRAWN, READ = 64, 1024


class Part(NamedTuple):
    """Vertices and the faces of all primitives that share them. Normals, of any length, and colours are per vertex."""

    vertices: np.ndarray
    faces: np.ndarray
    material: np.ndarray
    normals: np.ndarray | None = None
    colors: np.ndarray | None = None
    uv: np.ndarray | None = None
    uv_faces: np.ndarray | None = None
    # Indices and weights of the joints that move each vertex.
    joints: tuple[np.ndarray, np.ndarray] | None = None


class _Primitive(NamedTuple):
    """A primitive of triangles, and its material."""

    entry: dict
    index: int
    material: Material

    @property
    def attributes(self) -> dict:
        """Accessors of its vertices by name."""
        return self.entry["attributes"]


class _Source(NamedTuple):
    """What determines the vertices of a primitive: neighbours of equal sources share them."""

    attributes: tuple
    compressed: int | None
    targets: tuple
    uv_name: str
    transform: Transform | None
    factor: tuple | None


class Primitives:
    """Reads the primitives of the meshes that the scene uses."""

    def __init__(self, document: Document, materials: Materials, uses: list[Use], *, textures: bool):
        self.document, self.files = document, document.files
        self.materials, self.textures = materials, textures
        self.others: set[str] = set()
        self.extensions: set[str] = set()
        meshes = {index: self._triangles(index) for index in dict.fromkeys(use.mesh for use in uses)}
        triangles = list(itertools.chain(*meshes.values()))
        self.used = {primitive.index for primitive in triangles}
        self.has_images = any(primitive.material.texture is not None for primitive in triangles)
        # Vertex colours cannot multiply an image; without images, they are all the colour that there is.
        self.is_colored = not self.has_images and any("COLOR_0" in primitive.attributes for primitive in triangles)
        self.groups = {
            index: [(source, list(group)) for source, group in itertools.groupby(own, self._source)]
            for index, own in meshes.items()
        }

    def _triangles(self, index) -> list[_Primitive]:
        """The primitives of a mesh that are triangles."""
        triangles = []
        for entry in self.document.item("meshes", index)["primitives"]:
            if entry.get("mode", TRIANGLES) not in (TRIANGLES, STRIP, FAN):
                self.files.leave_out("points and lines")
            elif "POSITION" not in entry["attributes"]:
                self.files.leave_out("primitives without positions")
            else:
                triangles.append(self._primitive(entry))
        return triangles

    def _primitive(self, entry) -> _Primitive:
        """Finds the material of a primitive, and notes what will not be read."""
        if entry.get("targets"):
            self.files.leave_out("morph targets other than by their default weights")
        if "extensions" in entry:
            self.extensions |= entry["extensions"].keys() - {DRACO}
        if not self.textures:
            return _Primitive(entry, 0, Material())
        index = self.materials.index(entry)
        material = self.materials[index]
        for name in entry["attributes"].keys() - ATTRIBUTES:
            if name != f"TEXCOORD_{material.uv_set}" and not name.startswith(("JOINTS_", "WEIGHTS_")):
                self.others.add(name)
        return _Primitive(entry, index, material)

    def record(self) -> None:
        """Records which attributes and extensions of the primitives were not read."""
        if self.others:
            self.files.leave_out(f"vertex attributes: {listed(self.others)}")
        if self.extensions:
            self.files.leave_out(f"extensions of primitives: {listed(self.extensions)}")

    def parts(self, use: Use, copies: int) -> list[Part]:
        """Returns the parts of a mesh, of which the scene draws a number of copies."""
        weights = self.document.item("meshes", use.mesh).get("weights", []) if use.weights is None else use.weights
        groups = self.groups[use.mesh]
        return [self._part(primitives, source, weights, use.skin, copies) for source, primitives in groups]

    def _source(self, primitive) -> _Source:
        attributes, material = primitive.attributes, primitive.material
        uv_name = f"TEXCOORD_{material.uv_set}"
        data = self.document.compressed(primitive.entry)
        targets = tuple((target.get("POSITION"), target.get("NORMAL")) for target in primitive.entry.get("targets", []))
        return _Source(
            tuple(map(attributes.get, (*ATTRIBUTES, uv_name, "JOINTS_0", "WEIGHTS_0"))),
            None if data is None else data["bufferView"],
            targets,
            uv_name,
            material.transform,
            material.factor if self.is_colored else None,
        )

    def _part(self, primitives, source, weights, skin, copies) -> Part:
        """Reads primitives that share their vertices."""
        entry = primitives[0].entry
        rows = self.document.count(entry["attributes"]["POSITION"])
        self.document.spend(len(weights) + READ * len(primitives) + copies * (DRAWN * len(primitives) + 3 * rows))
        self.document.spend(copies * sum(self._num_corners(primitive.entry) for primitive in primitives))
        vertices = self._morphed(entry, "POSITION", source.targets, weights, rows)
        faces = [self._faces(primitive.entry, rows) for primitive in primitives]
        material = np.repeat(np.array([p.index for p in primitives], np.int32), [len(own) for own in faces])
        part = Part(vertices, faces[0] if len(faces) == 1 else np.concatenate(faces), material)
        if "NORMAL" in entry["attributes"]:
            part = part._replace(normals=self._morphed(entry, "NORMAL", source.targets, weights, rows))
        if skin is not None:
            part = part._replace(joints=self._joints(entry, rows))
        if self.textures:
            colors, uv = self._colors(primitives[0], rows), self._uv(entry, source, rows)
            part = self._restored(part._replace(colors=colors, uv=uv), entry)
        return part

    def _num_corners(self, primitive):
        """Number of corners of the faces of a primitive."""
        index = primitive["indices"] if "indices" in primitive else primitive["attributes"]["POSITION"]
        return self.document.count(index) * (1 if primitive.get("mode", TRIANGLES) == TRIANGLES else 3)

    def _morphed(self, primitive, name, targets, weights, rows):
        """An attribute plus the weighted targets of it."""
        values = self.document.attribute(primitive, name, 3, rows=rows)
        for target, weight in zip(targets, finite(weights, len(weights), "weights"), strict=False):
            index = target[0] if name == "POSITION" else target[1]
            if weight and index is not None:
                self.document.spend(3 * rows)
                values = values + weight * self.document.accessor(index, 3, rows=rows)
        return values

    def _faces(self, primitive, num_vertices) -> np.ndarray:
        corners = self.document.indices(primitive)
        if corners is None:
            corners = np.arange(num_vertices)
        if corners.size and not 0 <= corners.min() <= corners.max() < num_vertices:
            raise ValueError(f"it has a face with vertex index {corners.max()}, but {num_vertices} vertices")
        corners, mode = corners.astype(np.int32), primitive.get("mode", TRIANGLES)
        if mode == TRIANGLES or self.document.compressed(primitive) is not None:
            if len(corners) % 3:
                raise ValueError(f"it has a triangle primitive with {len(corners)} corners, not a multiple of 3")
            return corners.reshape(-1, 3)
        k = np.arange(max(len(corners) - 2, 0), dtype=np.int32)
        if mode == STRIP:
            return corners[np.stack([k, k + 1 + k % 2, k + 2 - k % 2], axis=-1)]
        return corners[np.stack([np.zeros_like(k), k + 1, k + 2], axis=-1)]

    def _joints(self, primitive, rows):
        """Joints and weights of each vertex; weights add up to 1."""
        names = itertools.takewhile(lambda name: name in primitive["attributes"], map("JOINTS_{}".format, range(8)))
        joints = [self.document.attribute(primitive, name, 4, rows=rows) for name in names]
        if not joints:
            return None
        self.document.spend(16 * rows)  # a matrix for each vertex
        names = [f"WEIGHTS_{k}" for k in range(len(joints))]
        weights = [self.document.attribute(primitive, name, 4, rows=rows) for name in names]
        weights = np.concatenate(weights, axis=1, dtype=np.float64)
        weights[weights.sum(axis=1) == 0, 0] = 1
        return np.concatenate(joints, axis=1).astype(np.int64), weights / weights.sum(axis=1, keepdims=True)

    def _colors(self, primitive, rows):
        """Vertex colours times the colour of the material; None if the scene has images or no vertex colours."""
        material, colors = primitive.material, None
        if "COLOR_0" in primitive.attributes:
            colors = self.document.attribute(primitive.entry, "COLOR_0", 3, 4, rows=rows)
            if colors.dtype.kind != "f":
                colors = colors / np.float32(np.iinfo(colors.dtype).max)
            colors = self.materials.clipped(colors)
        if not self.is_colored:
            if colors is not None and not np.all(colors == 1):
                self.files.leave_out("vertex colours beside images")
            return None
        factor = np.array(material.factor or WHITE, np.float32)
        if colors is None:
            colors = np.ones((rows, 3), np.float32)
        has_opacity = factor[3] != 1 or (colors.shape[1] == 4 and not np.all(colors[:, 3] == 1))
        if has_opacity and material.alpha is not None:
            self.files.leave_out("opacity of vertex colours")
        return colors[:, :3] * factor[:3]

    def _uv(self, primitive, source, rows):
        if source.uv_name not in primitive["attributes"]:
            return None
        if self.is_colored:
            self.files.leave_out("texture coordinates beside vertex colours")
            return None
        uv = self.document.attribute(primitive, source.uv_name, 2, rows=rows)
        uv = uv if uv.dtype.kind == "f" else uv.astype(np.float32)
        return flipped(uv if source.transform is None else source.transform(uv))

    def _restored(self, part, primitive) -> Part:
        """Restores the mesh that `write` stored, if its private attributes are present and consistent.

        `_UV` holds the exact texture coordinates, `_VERTEX` the original index of each vertex, `_UV_ROW` its row of
        `uv`. The mesh of a file that another program has changed is returned as it is.
        """
        attributes = primitive["attributes"]
        if "_UV" not in attributes or part.uv is None:
            return part
        uv = self.document.attribute(primitive, "_UV", 2)
        # Flipped twice, as TEXCOORD_0 is by writing and reading, which rounds v.
        if not np.array_equal(flipped(flipped(uv)), part.uv):
            return part
        is_changed = part.normals is not None or part.joints is not None
        if "_VERTEX" not in attributes or "_UV_ROW" not in attributes or is_changed:
            return part._replace(uv=uv)
        vertex, row = (self.document.attribute(primitive, name, 1)[:, 0] for name in ("_VERTEX", "_UV_ROW"))
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
        vertices, faces = part.vertices[:count], vertex[part.faces].astype(np.int32)
        return Part(vertices, faces, part.material, uv=restored_uv, uv_faces=row[part.faces].astype(np.int32))
