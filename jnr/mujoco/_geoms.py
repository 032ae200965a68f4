"""Meshes of MuJoCo's geoms, as MuJoCo's renderer draws them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jnr import shapes
from jnr._extras import require

mujoco: Any = require("mujoco", "mujoco", "MuJoCo models", extra="mujoco")
# Plain ints: MuJoCo's enumerators are not equal to NumPy's numbers in every comparison.
PLANE, HFIELD, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX, MESH, SDF = (
    int(getattr(mujoco.mjtGeom, f"mjGEOM_{name}"))
    for name in ("PLANE", "HFIELD", "SPHERE", "CAPSULE", "ELLIPSOID", "CYLINDER", "BOX", "MESH", "SDF")
)
# MuJoCo divides what it draws of an infinite plane into so many cells per axis.
MAX_PLANE_GRID = 200


class Outline(NamedTuple):
    """A mesh before it is textured. Vertices at sharp edges are several, one per normal.

    Attributes:
        vertices: Positions, of unit size where geoms of different sizes share the mesh.
        normals: Unit normal of each vertex.
        faces: Vertex indices.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray

    @property
    def corners(self) -> np.ndarray:
        """Positions of every face's corners."""
        return self.vertices[self.faces]


EMPTY = Outline(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3), np.int32))


def type_of(model: Any, geom: int) -> int:
    """The type of a geom, with the types that are drawn as one."""
    kind = int(model.geom_type[geom])
    return {SDF: MESH, ELLIPSOID: SPHERE}.get(kind, kind)


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


def key_of(model: Any, geom: int) -> tuple[int, Any]:
    """Geoms of one key share an outline: their type, and what is not a scale along their axes."""
    kind = type_of(model, geom)
    if kind == CAPSULE:
        radius, half_length, _ = model.geom_size[geom]
        return kind, float(np.float32(half_length / radius))
    return kind, int(model.geom_dataid[geom]) if kind in (MESH, HFIELD) else None


def outline_of(model: Any, key: tuple[int, Any], slices: int, stacks: int, rows: int) -> Outline:
    """The outline of a key; `rows` divides the sides of boxes, capsules and cylinders."""
    kind, detail = key
    if kind == PLANE:
        square = np.array([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)], float)
        # Both sides: MuJoCo shows a plane from below, although it omits the backs of other geoms.
        return _flat(square, np.array([(0, 1, 2), (0, 2, 3), (0, 2, 1), (0, 3, 2)]))
    if kind == BOX:
        return _flat(*_arrays(shapes.box((1, 1, 1), divisions=rows)))
    if kind == SPHERE:
        vertices, faces = _arrays(shapes.ellipsoid((1, 1, 1), rows=stacks, columns=slices))
        return Outline(vertices, _unit(vertices), faces)
    if kind == CAPSULE:
        vertices, faces = _arrays(shapes.capsule(1, detail, rows=rows, columns=slices, cap_rows=stacks // 2))
        middle = np.clip(vertices[:, 2:], -detail, detail) * (0, 0, 1)
        return Outline(vertices, _unit(vertices - middle), faces)
    if kind == CYLINDER:
        vertices, faces = _arrays(shapes.cylinder(1, 1, rows=rows, columns=slices))
        flat = _face_normals(vertices[faces])[:, None]
        is_side = np.abs(flat[..., 2:]) < 0.5
        return _split(vertices, faces, np.where(is_side, _unit(vertices * (1, 1, 0))[faces], np.round(flat)))
    if kind == HFIELD:
        return _height_field(model, detail)
    return _mesh(model, detail)


def half_sizes_of_plane(model: Any, geom: int) -> np.ndarray:
    """Half the lengths of a plane; along an infinite axis, of what MuJoCo draws of it."""
    step = step_of_plane(model, geom)
    return np.where(step > 0, 1.05 * far_of(model) + step / 2, model.geom_size[geom, :2])


def step_of_plane(model: Any, geom: int) -> np.ndarray:
    """Steps in which what is drawn of an infinite plane follows the camera; zero along a finite axis."""
    material = model.geom_matid[geom]
    repeat = np.asarray(model.mat_texrepeat[material], float) if material >= 0 else np.zeros(2)
    # The texture looks as if it did not move.
    step = np.where(repeat > 0, 4 / np.where(repeat > 0, repeat, 1), 4.2 * far_of(model) / (MAX_PLANE_GRID - 2))
    return np.where(model.geom_size[geom, :2] > 0, 0, step)


def far_of(model: Any) -> float:
    """Distance of the far plane."""
    return float(model.vis.map.zfar * model.stat.extent)


def joined(corners: np.ndarray, *values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rows of values per corner, each once, with the faces' indices of them last."""
    rows = np.concatenate([corners, *values], axis=-1)
    width = rows.shape[-1]
    _, first, faces = np.unique(
        rows.reshape(-1, width).astype(np.float32), axis=0, return_index=True, return_inverse=True
    )
    chosen = rows.reshape(-1, width)[first]
    splits = np.cumsum([array.shape[-1] for array in (corners, *values)])[:-1]
    return *np.split(chosen, splits, axis=-1), faces.reshape(-1, 3)


def _height_field(model, field) -> Outline:
    rows, columns = int(model.hfield_nrow[field]), int(model.hfield_ncol[field])
    first = int(model.hfield_adr[field])
    half_x, half_y, top, base = map(float, model.hfield_size[field])
    heights = top * model.hfield_data[first : first + rows * columns].reshape(rows, columns).astype(float)
    return _flat(*_arrays(shapes.height_field(heights, (half_x, half_y), bottom=-base)))


def _mesh(model, mesh) -> Outline:
    def rows(array, first, count):
        return np.asarray(array[int(first) : int(first) + int(count)])

    faces, of_normals = (
        rows(array, model.mesh_faceadr[mesh], model.mesh_facenum[mesh])
        for array in (model.mesh_face, model.mesh_facenormal)
    )
    vertices = rows(model.mesh_vert, model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]).astype(float)
    normals = rows(model.mesh_normal, model.mesh_normaladr[mesh], model.mesh_normalnum[mesh]).astype(float)[of_normals]
    if model.mesh_texcoordadr[mesh] < 0:
        # MuJoCo's rule for edges that stay sharp.
        flat = np.broadcast_to(_face_normals(vertices[faces])[:, None], normals.shape)
        normals = np.where(np.sum(flat * normals, axis=-1, keepdims=True) < 0.8, flat, normals)
    return _split(vertices, faces, normals)


def _arrays(mesh):
    return np.asarray(mesh.vertices, float), np.asarray(mesh.faces)


def _flat(vertices, faces) -> Outline:
    return _split(vertices, faces, np.repeat(_face_normals(vertices[faces])[:, None], 3, axis=1))


def _split(vertices, faces, normals) -> Outline:
    return Outline(*joined(vertices[faces], np.broadcast_to(normals, (*faces.shape, 3))))


def _face_normals(corners):
    return _unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))


def _unit(vectors):
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
