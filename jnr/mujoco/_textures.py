"""Texture coordinates of MuJoCo's geoms, as MuJoCo's renderer computes them.

v grows downwards, since the first row of MuJoCo's images is OpenGL's v = 0; `coordinates` turns it upwards at the end.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jnr.mujoco import _geoms
from jnr.mujoco._geoms import BOX, CAPSULE, CYLINDER, HFIELD, MESH, PLANE, SPHERE, Outline, mujoco

_RGB = int(mujoco.mjtTextureRole.mjTEXROLE_RGB)
_FLAT = int(mujoco.mjtTexture.mjTEXTURE_2D)
_SRGB = int(mujoco.mjtColorSpace.mjCOLORSPACE_SRGB)
# Axes of the two coordinates of the images +x, -x, +y, -y, +z and -z in OpenGL's cube maps.
CUBE = (
    ((0, 0, -1), (0, -1, 0)),
    ((0, 0, 1), (0, -1, 0)),
    ((1, 0, 0), (0, 0, 1)),
    ((1, 0, 0), (0, 0, -1)),
    ((1, 0, 0), (0, -1, 0)),
    ((-1, 0, 0), (0, -1, 0)),
)


class Coating(NamedTuple):
    """How a geom is textured.

    Attributes:
        texture: MuJoCo's index of the texture, -1 for none.
        scale: Factors of the coordinates that MuJoCo generates.
        shift: Added to the coordinates of a 2D texture.
        kind: "explicit" and "generated" for 2D textures, "cube", or "none".
    """

    texture: int = -1
    kind: str = "none"
    scale: tuple[float, ...] = ()
    shift: float = 0.0


def coating_of(model: Any, geom: int) -> Coating:
    """How MuJoCo textures a geom."""
    material = int(model.geom_matid[geom])
    texture = int(model.mat_texid[material][_RGB]) if material >= 0 else -1
    if texture < 0 or model.tex_nchannel[texture] not in (3, 4):
        return Coating()
    kind, data = _geoms.type_of(model, geom), int(model.geom_dataid[geom])
    size, repeat = _size(model, geom), np.asarray(model.mat_texrepeat[material], float)
    uniform = np.where((size > 0) & bool(model.mat_texuniform[material]), size, 1)
    has_coordinates = kind == MESH and model.mesh_texcoordadr[data] >= 0
    if model.tex_type[texture] != _FLAT:
        # MuJoCo takes the coordinates of a mesh for those of a 2D texture, of which there is none.
        return Coating() if has_coordinates else Coating(texture, "cube", tuple(uniform.tolist()))
    if has_coordinates or kind not in (MESH, HFIELD):
        is_endless = kind == PLANE and not np.all(size[:2] > 0)
        scale = np.where(repeat > 0, repeat, 1) * uniform[:2]
        return Coating(texture, "explicit", tuple(scale.tolist()), -0.5 if is_endless else 0.0)
    scale = repeat * uniform[:2] / np.where(size[:2] > 0, size[:2], 1)
    return Coating(texture, "generated", tuple(scale.tolist()), -0.5)


def _size(model, geom):
    """Half sizes of a geom as MuJoCo's renderer has them."""
    a, b, c = map(float, model.geom_size[geom])
    kind = int(model.geom_type[geom])
    return np.array({SPHERE: (a, a, a), CAPSULE: (a, a, b), CYLINDER: (a, a, b)}.get(kind, (a, b, c)))


def images_of(model: Any, texture: int) -> list[np.ndarray]:
    """The image of a 2D texture, the six of a cube, or one of a cube whose sides are the same."""
    rows, columns, channels = (int(a[texture]) for a in (model.tex_height, model.tex_width, model.tex_nchannel))
    first = int(model.tex_adr[texture])
    texels = np.asarray(model.tex_data[first : first + rows * columns * channels])
    image = texels.reshape(rows, columns, channels)[..., :3].astype(np.float32) / 255
    if model.tex_colorspace[texture] == _SRGB:
        image = np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4).astype(np.float32)
    if model.tex_type[texture] == _FLAT or rows == columns:
        return [image]
    return list(image.reshape(6, columns, columns, 3))


def skybox_of(model: Any) -> list[np.ndarray] | None:
    """The images of the skybox, the first one as in MuJoCo; None if there is none."""
    is_sky = np.asarray(model.tex_type) == int(mujoco.mjtTexture.mjTEXTURE_SKYBOX)
    return images_of(model, int(np.argmax(is_sky))) if is_sky.any() else None


def coordinates(
    model: Any, key: tuple, mesh: Outline, coating: Coating, half_sizes: np.ndarray
) -> tuple[Outline, np.ndarray, np.ndarray]:
    """Texture coordinates (faces, 3, 2) with v upwards, and the side of the cube of each face.

    The mesh is cut where a cube's sides meet.
    """
    kind, detail = key
    if coating.kind == "cube":
        directions = _object_space(kind, detail, mesh.vertices) * coating.scale
        mesh, directions = _cut_at_sides(mesh, directions)
        corners = directions[mesh.faces]
        middle = corners.mean(axis=1)
        side = 2 * np.argmax(np.abs(middle), axis=1)
        side += np.take_along_axis(middle, side[:, None] // 2, axis=1)[:, 0] < 0
        axes = np.array(CUBE, float)[side]
        depth = np.abs(np.take_along_axis(corners, side[:, None, None] // 2, axis=2))
        uv = np.einsum("fkc,fac->fka", corners, axes) / np.where(depth > 0, depth, 1) / 2 + 0.5
    elif coating.kind == "generated":
        uv = np.stack([0.5 * mesh.corners[..., 0], -0.5 * mesh.corners[..., 1]], axis=-1)
    elif kind == MESH:
        first, count = model.mesh_faceadr[detail], model.mesh_facenum[detail]
        rows = model.mesh_facetexcoord[first : first + count] + model.mesh_texcoordadr[detail]
        uv = np.asarray(model.mesh_texcoord, float)[rows]
    else:
        uv = _explicit(kind, detail, mesh, half_sizes, coating.shift != 0)
    if coating.kind != "cube":
        side = np.zeros(len(mesh.faces), int)
        uv = uv * coating.scale + coating.shift
    return mesh, uv * (1, -1) + (0, 1), side


def _object_space(kind, detail, vertices):
    """Positions in the units of MuJoCo's display lists, where capsules consist of unit parts."""
    if kind != CAPSULE:
        return vertices
    x, y, z = vertices.T
    beyond = np.maximum(np.abs(z) - detail, 0)
    return np.stack([x, y, np.sign(z) * (np.minimum(np.abs(z) / detail, 1) + beyond)], axis=1)


def _explicit(kind, detail, mesh, half_sizes, is_endless):
    x, y, z = np.moveaxis(mesh.corners, -1, 0)
    if kind == PLANE:
        if is_endless:
            return np.stack([0.5 * x * half_sizes[0], -0.5 * y * half_sizes[1]], axis=-1)
        return np.stack([x, -y], axis=-1) / 2 + 0.5
    normal = mesh.normals[mesh.faces].mean(axis=1)
    if kind == BOX:
        axis = np.argmax(np.abs(normal), axis=1)[:, None]
        across, down = np.where(axis == 0, y, x), np.where(axis == 2, y, z)
        return np.stack([across, -down], axis=-1) / 2 + 0.5
    turn = _turns(x, y)
    if kind == SPHERE:
        return np.stack([turn, 0.5 - np.arcsin(np.clip(z, -1, 1)) / np.pi], axis=-1)
    if kind == CYLINDER:
        is_cap = np.abs(normal[:, 2:]) > 0.5
        return np.stack([np.where(is_cap, x / 2 + 0.5, turn), np.where(is_cap, y / 2 + 0.5, (1 - z) / 2)], axis=-1)
    # A capsule's three parts have a copy of the image each.
    middle = z.mean(axis=1, keepdims=True)
    upward = np.arcsin(np.clip(np.abs(z) - detail, 0, 1)) / (np.pi / 2)
    down = np.where(middle > detail, 1 - upward, np.where(middle < -detail, upward, (1 - z / detail) / 2))
    return np.stack([turn, down], axis=-1)


def _turns(x, y):
    """Turns around the z axis of the corners of faces, from 0 to 1, continuous within a face."""
    turn = np.arctan2(y, x) / (2 * np.pi)
    is_pole = np.hypot(x, y) < 1e-6
    start = np.take_along_axis(turn, np.argmin(is_pole, axis=1)[:, None], axis=1)
    turn = start + (turn - start + 0.5) % 1 - 0.5
    others = np.sum(np.where(is_pole, 0, turn), axis=1, keepdims=True) / np.sum(~is_pole, axis=1, keepdims=True)
    turn = np.where(is_pole, others, turn)
    return turn - np.floor(turn.mean(axis=1, keepdims=True))


def _cut_at_sides(mesh, directions):
    """The mesh and its directions with the faces cut along the planes where the sides of a cube meet."""
    faces = np.concatenate([directions, mesh.vertices, mesh.normals], axis=1)[mesh.faces]
    for plane in ((1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1)):
        faces = _cut(faces, np.asarray(plane, float))
    vertices, normals, directions, faces = _geoms.joined(faces[..., 3:6], faces[..., 6:], faces[..., :3])
    return Outline(vertices, normals, faces), directions


def _cut(faces, plane):
    """Faces (faces, 3, values) cut where the first three values lie on a plane through the origin."""
    distance = faces[..., :3] @ plane
    distance = np.where(np.abs(distance) < 1e-6 * np.abs(faces[..., :3]).max(), 0, distance)
    is_cut = (distance.min(axis=1) < 0) & (distance.max(axis=1) > 0)
    whole, faces, distance = faces[~is_cut], faces[is_cut], distance[is_cut]
    if not len(faces):
        return whole
    # The corner that is alone on its side of the plane comes first; one that lies on the plane is not alone.
    sign = np.sign(distance)
    lone = np.argmax(np.where(sign == 0, -1, np.sum(sign[:, :, None] != sign[:, None], axis=2)), axis=1)
    order = (lone[:, None] + np.arange(3)) % 3
    faces = np.take_along_axis(faces, order[..., None], axis=1)
    distance = np.take_along_axis(distance, order, axis=1)
    a, b, c = np.moveaxis(faces, 1, 0)

    def between(k):
        weight = distance[:, :1] / (distance[:, :1] - distance[:, k : k + 1])
        return a + weight * (faces[:, k] - a)

    ab, ac = between(1), between(2)
    pieces = [np.stack(piece, axis=1) for piece in ((a, ab, ac), (ab, b, c), (ab, c, ac))]
    pieces = np.concatenate(pieces)
    # A corner on the plane leaves an empty piece.
    edges = pieces[:, 1:, 3:6] - pieces[:, :1, 3:6]
    return np.concatenate([whole, pieces[np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=-1) > 0]])
