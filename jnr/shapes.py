"""Procedural meshes.

Vertices are float32 and faces int32, counter-clockwise seen from outside. Closed shapes are watertight, without
duplicate vertices; `plane` and `teapot` have open boundaries. The shapes have no textures and no gradients.
"""

import jax.numpy as jnp
import numpy as np

from jnr import _checks
from jnr._mesh import Mesh


def icosphere(subdivisions: int = 3) -> Mesh:
    """Returns the unit sphere as a subdivided icosahedron.

    Args:
        subdivisions: How often every face is split into four, at most 10; the mesh has 20 * 4**subdivisions faces.

    Raises:
        ValueError: If `subdivisions` is not an int from 0 to 10.
    """
    _check_count(subdivisions, "subdivisions", 0, 10)
    golden = (1 + 5**0.5) / 2
    ring = [(-1, golden, 0), (1, golden, 0), (-1, -golden, 0), (1, -golden, 0)]
    vertices = np.array(ring + [(z, x, y) for x, y, z in ring] + [(y, z, x) for x, y, z in ring], float)
    # The faces are the twenty triples of vertices at mutual distance 2, the edge length.
    distance = np.linalg.norm(vertices[:, None] - vertices, axis=-1)
    near = np.isclose(distance, 2)
    faces = np.array(
        [(i, j, k) for i in range(12) for j in range(i) for k in range(j) if near[i, j] and near[j, k] and near[i, k]]
    )
    for _ in range(subdivisions):
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
        unique, inverse = np.unique(edges, axis=0, return_inverse=True)
        middle = (inverse.reshape(3, -1) + len(vertices)).T
        vertices = np.concatenate([vertices, vertices[unique].mean(axis=1)])
        a, b, c = faces.T
        ab, bc, ca = middle.T
        faces = np.concatenate([np.stack(f, axis=1) for f in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])
    vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    corner = vertices[faces]
    inward = np.einsum("fi,fi->f", np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), corner[:, 0]) < 0
    faces[inward] = faces[inward][:, ::-1]
    return _mesh(vertices, faces)


def uv_sphere(rows: int = 16, columns: int = 32) -> Mesh:
    """Returns the unit sphere as a latitude-longitude grid with its poles on the y axis.

    Args:
        rows: Number of bands from pole to pole, at least 2.
        columns: Number of sectors around the y axis, at least 3.

    Raises:
        ValueError: If a count is not an int, too small, or more than 8192.
    """
    _check_count(rows, "rows", 2)
    _check_count(columns, "columns", 3)
    latitude = np.pi * np.arange(1, rows) / rows
    longitude = 2 * np.pi * np.arange(columns) / columns
    ring = np.stack(
        [
            np.outer(np.sin(latitude), np.sin(longitude)),
            np.outer(np.cos(latitude), np.ones(columns)),
            np.outer(np.sin(latitude), np.cos(longitude)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    vertices = np.concatenate([ring, [(0, 1, 0), (0, -1, 0)]])
    north, south, last = len(ring), len(ring) + 1, (rows - 2) * columns
    column = np.arange(columns)
    following = (column + 1) % columns
    caps = [
        np.stack([np.full(columns, north), column, following], axis=1),
        np.stack([np.full(columns, south), last + following, last + column], axis=1),
    ]
    return _mesh(vertices, np.concatenate([_grid_faces(rows - 1, columns, wrap=(False, True)), *caps]))


def torus(radius: float = 0.7, tube: float = 0.3, rows: int = 24, columns: int = 48) -> Mesh:
    """Returns a torus around the y axis.

    Args:
        radius: Distance from the axis to the centre of the tube.
        tube: Radius of the tube.
        rows: Number of segments around the tube, at least 3.
        columns: Number of segments around the axis, at least 3.

    Raises:
        ValueError: If a count is not an int, too small, or more than 8192.
    """
    _check_count(rows, "rows", 3)
    _check_count(columns, "columns", 3)
    radius, tube = _checks.as_number(radius, "radius"), _checks.as_number(tube, "tube")
    around_tube, around_axis = (2 * np.pi * np.arange(n) / n for n in (rows, columns))
    distance = radius + tube * np.cos(around_tube)
    vertices = np.stack(
        [
            np.outer(distance, np.sin(around_axis)),
            np.outer(-tube * np.sin(around_tube), np.ones(columns)),
            np.outer(distance, np.cos(around_axis)),
        ],
        axis=-1,
    )
    return _mesh(vertices.reshape(-1, 3), _grid_faces(rows, columns, wrap=(True, True)))


def torus_knot(p: int = 2, q: int = 3, tube: float = 0.18, rows: int = 12, columns: int = 192) -> Mesh:
    """Returns a tube along the (p, q) torus knot on a torus of radii 0.6 and 0.25 around the y axis.

    Args:
        p: Number of turns around the y axis.
        q: Number of turns around the tube of that torus. The tube is a single closed knot if p and q are coprime.
        tube: Radius of the tube.
        rows: Number of segments around the tube, at least 3.
        columns: Number of segments along the knot, at least 8.

    Raises:
        ValueError: If a count is not an int, too small, or more than 8192.
    """
    _check_count(rows, "rows", 3)
    _check_count(columns, "columns", 8)
    _check_count(p, "p", 0)
    _check_count(q, "q", 0)
    tube = _checks.as_number(tube, "tube")
    t = 2 * np.pi * np.arange(columns) / columns
    distance = 0.6 + 0.25 * np.cos(q * t)
    center = np.stack([distance * np.sin(p * t), 0.25 * np.sin(q * t), distance * np.cos(p * t)], axis=1)
    tangent = np.roll(center, -1, axis=0) - np.roll(center, 1, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    # Frame of the tube: the direction away from the ring, orthogonal to the knot. It is periodic, so the tube closes.
    outward = center - 0.6 * np.stack([np.sin(p * t), np.zeros(columns), np.cos(p * t)], axis=1)
    outward -= tangent * np.sum(outward * tangent, axis=1, keepdims=True)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    sideways = np.cross(tangent, outward)
    angle = 2 * np.pi * np.arange(rows)[:, None, None] / rows
    vertices = center + tube * (np.cos(angle) * outward + np.sin(angle) * sideways)
    return _mesh(vertices.reshape(-1, 3), _grid_faces(rows, columns, wrap=(True, True)))


def cube() -> Mesh:
    """Returns the cube of side 1 centred at the origin, with 8 vertices and 12 faces."""
    vertices = np.array([(x, y, z) for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)]) / 2
    quads = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]
    return _mesh(vertices, np.array([f for a, b, c, d in quads for f in ((a, b, c), (a, c, d))]))


def plane(rows: int = 1, columns: int = 1) -> Mesh:
    """Returns the square of side 1 centred at the origin in the plane z = 0, facing +z.

    Args:
        rows: Number of cells along y, at least 1.
        columns: Number of cells along x, at least 1. Each cell has two faces.

    Raises:
        ValueError: If a count is not an int, too small, or more than 8192.
    """
    _check_count(rows, "rows", 1)
    _check_count(columns, "columns", 1)
    y, x = np.meshgrid(np.linspace(0.5, -0.5, rows + 1), np.linspace(-0.5, 0.5, columns + 1), indexing="ij")
    vertices = np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3)
    return _mesh(vertices, _grid_faces(rows + 1, columns + 1, wrap=(False, False)))


# Newell's teapot (1975) with its base at y = 0, as cubic Bezier curves. Body and lid are surfaces of revolution, given
# by profiles (radius, height). Handle and spout are given by their upper and lower curve (x, height) in the plane of
# symmetry, and by the half width between the two.
_BODY = [
    [(1.4, 2.25), (1.3375, 2.38125), (1.4375, 2.38125), (1.5, 2.25)],
    [(1.5, 2.25), (1.75, 1.725), (2.0, 1.2), (2.0, 0.75)],
    [(2.0, 0.75), (2.0, 0.3), (1.5, 0.075), (1.5, 0.0)],
    [(1.5, 0.0), (1.0, 0.0), (0.5, 0.0), (0.0, 0.0)],
]
_LID = [
    [(0.0, 3.0), (0.8, 3.0), (0.0, 2.7), (0.2, 2.55)],
    [(0.2, 2.55), (0.4, 2.4), (1.3, 2.4), (1.3, 2.25)],
]
_HANDLE = [
    ([(-1.6, 1.875), (-2.3, 1.875), (-2.7, 1.875), (-2.7, 1.65)],
     [(-1.5, 2.1), (-2.5, 2.1), (-3.0, 2.1), (-3.0, 1.65)], [0.3] * 4),
    ([(-2.7, 1.65), (-2.7, 1.425), (-2.5, 0.975), (-2.0, 0.75)],
     [(-3.0, 1.65), (-3.0, 1.2), (-2.65, 0.7875), (-1.9, 0.45)], [0.3] * 4),
]  # fmt: skip
_SPOUT = [
    ([(1.7, 1.275), (2.6, 1.275), (2.3, 1.95), (2.7, 2.25)],
     [(1.7, 0.45), (3.1, 0.675), (2.4, 1.875), (3.3, 2.25)], [0.66, 0.66, 0.25, 0.25]),
    ([(2.7, 2.25), (2.8, 2.325), (2.9, 2.325), (2.8, 2.25)],
     [(3.3, 2.25), (3.525, 2.34375), (3.45, 2.3625), (3.2, 2.25)], [0.25, 0.25, 0.15, 0.15]),
]  # fmt: skip
# Length of the control tangents of a unit quarter circle in Newell's data.
_QUARTER = 0.56


def teapot(divisions: int = 6) -> Mesh:
    """Returns the Utah teapot, tessellated from its 32 Bezier patches.

    The spout points along +x and the lid along +y. The mesh is centred and scaled to x in [-1, 1]. Its parts are open
    surfaces that intersect each other.

    Args:
        divisions: Number of segments along each side of a patch, at most 512; a patch has at most 2 * divisions**2
            faces.

    Raises:
        ValueError: If `divisions` is not an int from 1 to 512.

    References:
        Newell, The utilization of procedure models in digital image synthesis, 1975.
    """
    _check_count(divisions, "divisions", 1, 512)
    quads = []
    for profile in (*_BODY, *_LID):
        for turn in range(4):
            start = np.array([np.cos(turn * np.pi / 2), np.sin(turn * np.pi / 2)]).round()
            end = np.array([-start[1], start[0]])
            arc = [start, start + _QUARTER * end, end + _QUARTER * start, end]
            patch = [[(radius * x, height, -radius * z) for x, z in arc] for radius, height in profile]
            quads.append(_patch(np.array(patch), divisions))
    for tube in (_HANDLE, _SPOUT):
        for upper, lower, half_width in tube:
            for side in (1, -1):
                patch = []
                for (x0, y0), (x1, y1), width in zip(upper, lower, half_width, strict=True):
                    patch.append([(x0, y0, 0), (x0, y0, side * width), (x1, y1, side * width), (x1, y1, 0)])
                # The two halves are mirror images, so one of them is reversed to face outwards.
                quads.append(_patch(np.array(patch)[:, ::-side], divisions))
    corners = np.concatenate(quads)
    rounded = np.round(corners.reshape(-1, 3), 9) + 0.0
    vertices, faces = np.unique(rounded, axis=0, return_inverse=True)
    faces = faces.reshape(-1, 3)
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return _mesh((vertices - (low + high) / 2) * 2 / (high - low).max(), faces)


def _patch(control, divisions):
    """Returns the triangles `(faces, 3, 3)` of a bicubic Bezier patch with control points `(4, 4, 3)`."""
    t = np.linspace(0, 1, divisions + 1)[:, None]
    basis = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
    points = np.einsum("ui,vj,ijk->uvk", basis, basis, control).reshape(-1, 3)
    return points[_grid_faces(divisions + 1, divisions + 1, wrap=(False, False))]


def _grid_faces(rows, columns, wrap):
    """Returns two faces per cell of a row-major vertex grid, `(faces, 3)`.

    Seen from outside, rows run downwards and columns to the right. `wrap` states per axis whether the grid is closed.
    """
    row, column = np.meshgrid(np.arange(rows - (not wrap[0])), np.arange(columns - (not wrap[1])), indexing="ij")
    below, right = (row + 1) % rows, (column + 1) % columns
    a, b, c, d = ((r * columns + k).ravel() for r, k in ((row, column), (below, column), (below, right), (row, right)))
    return np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])


def _check_count(value, name, least, most=2**13):
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an int of at least {least}, got {value!r}.")
    if value > most:
        raise ValueError(f"{name} must be at most {most}, got {value!r}.")


def _mesh(vertices, faces):
    return Mesh(jnp.asarray(vertices, jnp.float32), jnp.asarray(faces, jnp.int32))
