"""Meshes of MuJoCo's geoms, as MuJoCo's renderer draws them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jnr._extras import require
from jnr.mujoco import _standin as shapes

mujoco: Any = require("mujoco", "mujoco", "MuJoCo models", extra="mujoco")
# Plain ints: MuJoCo's enumerators do not equal numbers of NumPy on either side.
PLANE, HFIELD, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX, MESH, SDF = (
    int(getattr(mujoco.mjtGeom, f"mjGEOM_{name}"))
    for name in ("PLANE", "HFIELD", "SPHERE", "CAPSULE", "ELLIPSOID", "CYLINDER", "BOX", "MESH", "SDF")
)


class Outline(NamedTuple):
    """A mesh with a normal per corner, before it is textured.

    Attributes:
        vertices: Positions, of unit size where geoms of different sizes share the mesh.
        faces: Vertex indices.
        normals: Unit normals, (faces, 3, 3).
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray

    @property
    def corners(self) -> np.ndarray:
        """Positions of every face's corners."""
        return self.vertices[self.faces]


EMPTY = Outline(np.zeros((0, 3)), np.zeros((0, 3), np.int32), np.zeros((0, 3, 3)))


def scale_of(model: Any, geom: int) -> np.ndarray:
    """Factors along a geom's axes from its outline to its size."""
    a, b, c = model.geom_size[geom]
    kind = int(model.geom_type[geom])
    if kind == PLANE:
        return np.array([*half_sizes_of_plane(model, geom), 1])
    if kind in (SPHERE, CAPSULE):
        return np.array([a, a, a])
    if kind == CYLINDER:
        return np.array([a, a, b])
    if kind in (ELLIPSOID, BOX):
        return np.array([a, b, c])
    return np.ones(3)


def key_of(model: Any, geom: int) -> tuple:
    """Geoms of one key share an outline."""
    kind = int(model.geom_type[geom])
    if kind == CAPSULE:
        radius, half_length, _ = model.geom_size[geom]
        return kind, float(np.float32(half_length / radius))
    if kind in (MESH, SDF, HFIELD):
        return MESH if kind == SDF else kind, int(model.geom_dataid[geom])
    return SPHERE if kind == ELLIPSOID else kind, None


def outline(model: Any, key: tuple, slices: int, stacks: int, rows: int = 1) -> Outline:
    """The outline of a key; `rows` divides the sides of capsules and cylinders."""
    kind, detail = key
    if kind == PLANE:
        return _plane()
    if kind == SPHERE:
        mesh = shapes.ellipsoid((1, 1, 1), rows=stacks, columns=slices)
        vertices, faces = _arrays(mesh)
        return Outline(vertices, faces, vertices[faces])
    if kind == CAPSULE:
        vertices, faces = _arrays(shapes.capsule(1, detail, rows=rows, columns=slices, cap_rows=max(stacks // 2, 1)))
        middle = np.clip(vertices[:, 2], -detail, detail)
        return Outline(vertices, faces, _unit(vertices - middle[:, None] * (0, 0, 1))[faces])
    if kind == CYLINDER:
        vertices, faces = _arrays(shapes.cylinder(1, 1, rows=rows, columns=slices))
        flat = _face_normals(vertices[faces])
        is_side = np.abs(flat[:, 2]) < 0.5
        normals = np.where(is_side[:, None, None], vertices[faces] * (1, 1, 0), np.round(flat)[:, None])
        return Outline(vertices, faces, normals)
    if kind == BOX:
        return _flat(*_arrays(shapes.box((1, 1, 1))))
    if kind == HFIELD:
        return _height_field(model, detail)
    if kind == MESH:
        return _mesh(model, detail)
    raise NotImplementedError(f"geoms must be of a type that jnr draws, got type {kind}.")


def half_sizes_of_plane(model: Any, geom: int) -> np.ndarray:
    """Half the lengths of a plane; along an infinite axis, of what MuJoCo draws of it."""
    step = step_of_plane(model, geom)
    return np.where(step > 0, 1.05 * far_of(model) + step, model.geom_size[geom, :2])


def step_of_plane(model: Any, geom: int) -> np.ndarray:
    """Half of the steps in which an infinite plane follows the camera, zero along a finite axis."""
    material = model.geom_matid[geom]
    repeat = model.mat_texrepeat[material] if material >= 0 else np.zeros(2)
    # Two copies of a texture, so that following the camera does not move it; 200 is MuJoCo's mjMAXPLANEGRID.
    step = np.where(repeat > 0, 2 / np.where(repeat > 0, repeat, 1), 2.1 * far_of(model) / 198)
    return np.where(model.geom_size[geom, :2] > 0, 0, step)


def far_of(model: Any) -> float:
    """Distance of the far plane."""
    return float(model.vis.map.zfar * model.stat.extent)


def _plane() -> Outline:
    vertices = np.array([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)], float)
    # Both sides, since MuJoCo shows a plane from below although it omits the backs of other geoms.
    faces = np.array([(0, 1, 2), (0, 2, 3), (0, 2, 1), (0, 3, 2)])
    return _flat(vertices, faces)


def _height_field(model, field) -> Outline:
    rows, columns = int(model.hfield_nrow[field]), int(model.hfield_ncol[field])
    first = model.hfield_adr[field]
    half_x, half_y, top, base = model.hfield_size[field]
    heights = top * model.hfield_data[first : first + rows * columns].reshape(rows, columns).astype(float)
    return _flat(*_arrays(shapes.height_field(heights, (half_x, half_y), bottom=-base)))


def _mesh(model, mesh) -> Outline:
    def rows(array, first, count):
        return np.asarray(array[first : first + count])

    vertices = rows(model.mesh_vert, model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]).astype(float)
    faces = rows(model.mesh_face, model.mesh_faceadr[mesh], model.mesh_facenum[mesh])
    normals = rows(model.mesh_normal, model.mesh_normaladr[mesh], model.mesh_normalnum[mesh]).astype(float)
    normals = normals[rows(model.mesh_facenormal, model.mesh_faceadr[mesh], model.mesh_facenum[mesh])]
    if model.mesh_texcoordadr[mesh] < 0:
        # MuJoCo's rule for edges that stay sharp.
        flat = _face_normals(vertices[faces])[:, None]
        normals = np.where(np.sum(flat * normals, axis=-1, keepdims=True) < 0.8, flat, normals)
    return Outline(vertices, faces, normals)


def _arrays(mesh):
    return np.asarray(mesh.vertices, float), np.asarray(mesh.faces)


def _flat(vertices, faces) -> Outline:
    return Outline(vertices, faces, np.repeat(_face_normals(vertices[faces])[:, None], 3, axis=1))


def _face_normals(corners):
    return _unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))


def _unit(vectors):
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
