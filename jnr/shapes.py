"""Procedural meshes.

Vertices are float32 and faces int32, counter-clockwise seen from outside. Closed shapes are watertight, without
duplicate vertices; `plane`, `teapot` and, without a bottom, `height_field` have open boundaries. The shapes have no
textures, and no gradients except those of `height_field`.

`box`, `cylinder`, `capsule`, `ellipsoid` and `height_field` are the shapes of physics engines. They have MuJoCo's half
sizes, and their axis or height is along z. `uv_sphere`, `torus`, `torus_knot` and `teapot` have their axis along y. Two
rotations lead from one to the other: `vertices[:, [1, 2, 0]]` turns z to y, and `vertices[:, [2, 0, 1]]` turns y to z.

The faces at a sharp edge share its vertices. `render` with `normals="smooth"` rounds it, the less the finer the mesh is
there.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from jnr import _checks
from jnr._extras import require
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
    vertices, faces = _sphere(rows, columns)
    return _mesh(vertices[:, [1, 2, 0]], faces)


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
    return box((0.5, 0.5, 0.5))


# The sides of a box by their four corners, counter-clockwise seen from outside. Corner k is at the upper end of x, y or
# z where bit 0, 1 or 2 of k is set.
_SIDES = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]


def box(half_sizes: ArrayLike | Sequence[float], divisions: int | Sequence[int] = 1) -> Mesh:
    """Returns a box centred at the origin.

    Args:
        half_sizes: Half of the lengths along x, y and z: the sizes of MuJoCo's box.
        divisions: Number of segments along each edge, one number or one per axis, at most 4096. Each side is a grid of
            cells with two faces each.

    Raises:
        TypeError: If `half_sizes` are not real numbers, or are traced.
        ValueError: If `half_sizes` are not three positive numbers, or `divisions` is not an int from 1 to 4096 or three
            of them.

    Example:
        >>> tile = jnr.shapes.box((0.5, 0.5, 0.02), divisions=(8, 8, 1))
    """
    half_sizes = _lengths(half_sizes, "half_sizes", 3)
    if isinstance(divisions, (tuple, list)) and len(divisions) != 3:
        raise ValueError(f"divisions must be an int or three ints, got {divisions!r}.")
    per_axis = list(divisions) if isinstance(divisions, (tuple, list)) else [divisions] * 3
    for count in per_axis:
        _check_count(count, "divisions", 1, 2**12)
    counts = np.array(per_axis)
    points, faces, first = [], [], 0
    for side in _SIDES:
        # Lattice points of the side, rows from its first corner to its second and columns from its first to its last.
        a, b, _, d = (counts * [corner >> axis & 1 for axis in range(3)] for corner in side)
        rows, columns = (int(np.abs(end - a).sum()) for end in (b, d))
        down, right = np.sign(b - a), np.sign(d - a)
        grid = a + np.arange(rows + 1)[:, None, None] * down + np.arange(columns + 1)[:, None] * right
        points.append(grid.reshape(-1, 3))
        faces.append(_grid_faces(rows + 1, columns + 1, wrap=(False, False)) + first)
        first += len(points[-1])
    # Points on edges and corners belong to several sides. Keys sort by z, then y, then x.
    lattice = np.concatenate(points)
    keys = lattice @ np.array([1, counts[0] + 1, (counts[0] + 1) * (counts[1] + 1)])
    _, chosen, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return _mesh(half_sizes * (2 * lattice[chosen] / counts - 1), inverse[np.concatenate(faces)])


def cylinder(
    radius: float = 0.5, half_length: float = 0.5, rows: int = 1, columns: int = 32, cap_rows: int = 1
) -> Mesh:
    """Returns a closed cylinder around the z axis, centred at the origin.

    Vertices lie on the surface, so that the mesh is a prism inside the cylinder.

    Args:
        radius: Radius: the first size of MuJoCo's cylinder.
        half_length: Half of the length along z: the second size of MuJoCo's cylinder.
        rows: Number of bands along z, at least 1.
        columns: Number of sectors around the z axis, at least 3. The first begins at +x.
        cap_rows: Number of rings of each end, from its centre to the rim, at least 1.

    Raises:
        TypeError: If a length is not a real number.
        ValueError: If a length is not positive, or a count is not an int, too small, or more than 8192.

    Example:
        >>> wheel = jnr.shapes.cylinder(0.3, 0.05, columns=64)
    """
    radius, half_length = _length(radius, "radius"), _length(half_length, "half_length")
    _check_rows(rows, columns, cap_rows)
    across = radius * np.arange(1, cap_rows) / cap_rows
    along = half_length * (1 - 2 * np.arange(rows + 1) / rows)
    at_end = np.full(cap_rows - 1, half_length)
    radii = np.concatenate([across, np.full(rows + 1, radius), across[::-1]])
    heights = np.concatenate([at_end, along, -at_end])
    return _mesh(*_revolved(radii, heights, columns, half_length))


def capsule(
    radius: float = 0.25, half_length: float = 0.25, rows: int = 1, columns: int = 32, cap_rows: int = 8
) -> Mesh:
    """Returns a capsule around the z axis, centred at the origin: a cylinder with half spheres at its ends.

    The length of the whole is 2 * (half_length + radius). Vertices lie on the surface.

    Args:
        radius: Radius of cylinder and half spheres: the first size of MuJoCo's capsule.
        half_length: Half of the length of the cylinder along z, without the half spheres: the second size of MuJoCo's
            capsule.
        rows: Number of bands of the cylinder along z, at least 1.
        columns: Number of sectors around the z axis, at least 3. The first begins at +x.
        cap_rows: Number of bands of each half sphere, from its pole to the cylinder, at least 1.

    Raises:
        TypeError: If a length is not a real number.
        ValueError: If a length is not positive, or a count is not an int, too small, or more than 8192.

    Example:
        >>> forearm = jnr.shapes.capsule(0.04, 0.12)
    """
    radius, half_length = _length(radius, "radius"), _length(half_length, "half_length")
    _check_rows(rows, columns, cap_rows)
    latitude = np.pi / 2 * np.arange(1, cap_rows) / cap_rows
    across, above = radius * np.sin(latitude), half_length + radius * np.cos(latitude)
    along = half_length * (1 - 2 * np.arange(rows + 1) / rows)
    radii = np.concatenate([across, np.full(rows + 1, radius), across[::-1]])
    heights = np.concatenate([above, along, -above[::-1]])
    return _mesh(*_revolved(radii, heights, columns, half_length + radius))


def ellipsoid(half_axes: ArrayLike | Sequence[float], rows: int = 16, columns: int = 32) -> Mesh:
    """Returns an ellipsoid centred at the origin, as a latitude-longitude grid with its poles on the z axis.

    Vertices lie on the surface.

    Args:
        half_axes: Half axes along x, y and z: the sizes of MuJoCo's ellipsoid. Three equal ones are a sphere.
        rows: Number of bands from pole to pole, at least 2.
        columns: Number of sectors around the z axis, at least 3. The first begins at +x.

    Raises:
        TypeError: If `half_axes` are not real numbers, or are traced.
        ValueError: If `half_axes` are not three positive numbers, or a count is not an int, too small, or more than
            8192.

    Example:
        >>> pebble = jnr.shapes.ellipsoid((0.3, 0.2, 0.1))
    """
    half_axes = _lengths(half_axes, "half_axes", 3)
    _check_count(rows, "rows", 2)
    _check_count(columns, "columns", 3)
    vertices, faces = _sphere(rows, columns)
    return _mesh(half_axes * vertices, faces)


def height_field(
    heights: Float[ArrayLike, "rows columns"],
    half_sizes: ArrayLike | Sequence[float] = (0.5, 0.5),
    *,
    bottom: float | None = None,
) -> Mesh:
    """Returns a surface z = heights over a grid of x and y, facing +z.

    Rows run along +y and columns along +x, as in MuJoCo's `hfield_data`: `heights[0, 0]` is at the lowest x and y,
    `heights[0, -1]` at the highest x. To have the first row of an image at the highest y, pass `image[::-1]`. Each cell
    has two faces, which meet along the diagonal from its lowest x and y to its highest.

    MuJoCo's height field of sizes (rx, ry, elevation, base) is `height_field(elevation * hfield_data, (rx, ry),
    bottom=-base)`.

    Gradients: reach `heights`.

    Args:
        heights: Heights, at least two rows and two columns, at most 8192. Vertex `row * columns + column` has
            `heights[row, column]`.
        half_sizes: Half of the lengths along x and y.
        bottom: z of a flat bottom. With it the mesh is closed by four vertical sides and the bottom. None leaves the
            surface open.

    Raises:
        TypeError: If an argument is not of real numbers, or `half_sizes` are traced.
        ValueError: If `heights` has another shape or is not finite in float32, `half_sizes` are not two positive
            numbers, or `bottom` is not below all heights. Of traced heights only the shape is checked.

    Example:
        >>> y, x = jnp.meshgrid(jnp.linspace(-3, 3, 40), jnp.linspace(-3, 3, 60), indexing="ij")
        >>> hills = jnr.shapes.height_field(0.1 * jnp.sin(x) * jnp.cos(y), (0.75, 0.5), bottom=-0.2)
    """
    known = _numbers(heights, "heights", "rows", "columns") if _checks.is_concrete(heights) else None
    heights = _checks.as_finite(heights, "heights", ("rows", "columns")).astype(jnp.float32)
    rows, columns = heights.shape
    if min(rows, columns) < 2 or max(rows, columns) > 2**13:
        raise ValueError(f"heights must have 2 to 8192 rows and columns, got {rows} x {columns}.")
    half_x, half_y = _lengths(half_sizes, "half_sizes", 2)
    x = np.broadcast_to(np.linspace(-half_x, half_x, columns), (rows, columns)).ravel()
    y = np.repeat(np.linspace(-half_y, half_y, rows), columns)
    # _grid_faces is for rows that run downwards, so its faces show their backs here.
    faces = _grid_faces(rows, columns, wrap=(False, False))[:, ::-1]
    z = heights.ravel()
    if bottom is not None:
        base = _numbers(_checks.as_number(bottom, "bottom"), "bottom").astype(np.float32)
        if known is not None and not base < known.min().astype(np.float32):
            raise ValueError(
                f"bottom must lie below all heights, of which the lowest is {known.min()}, got {bottom!r}."
            )
        index = np.arange(rows * columns).reshape(rows, columns)
        # The rim, counter-clockwise seen from above, and the same points of the bottom, with a last one in its middle.
        rim = np.concatenate([index[0, :-1], index[:-1, -1], index[-1, :0:-1], index[:0:-1, 0]])
        below = index.size + np.arange(len(rim))
        middle = np.full(len(rim), index.size + len(rim))
        sides = np.concatenate([rim, below])[_grid_faces(2, len(rim), wrap=(False, True))]
        faces = np.concatenate([faces, sides, np.stack([middle, np.roll(below, -1), below], axis=1)])
        x, y = np.append(x, [*x[rim], 0]), np.append(y, [*y[rim], 0])
        z = jnp.append(z, jnp.full(len(rim) + 1, base))
    return _mesh(jnp.stack([jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32), z], axis=1), faces)


def convex_hull(points: Float[ArrayLike, "points 3"]) -> Mesh:
    """Returns the convex hull of points.

    Its vertices are the points, rounded to float32, that are corners of the hull, in their order. Points inside of it
    and within its sides are left out. Needs SciPy (`pip install "jnr[shapes]"`).

    Args:
        points: Positions, at least four that do not lie in a plane.

    Raises:
        ImportError: If SciPy is missing.
        TypeError: If `points` are not real numbers, or are traced.
        ValueError: If `points` has another shape or fewer than four rows, is not finite in float32, or lies in a plane
            up to the rounding of float32.

    Example:
        >>> stone = jnr.shapes.convex_hull(np.random.default_rng(0).normal(size=(40, 3)))

    References:
        Barber, Dobkin and Huhdanpaa, The Quickhull algorithm for convex hulls, 1996.
    """
    spatial = require("scipy.spatial", "SciPy", "Convex hulls", extra="shapes")
    # Corners of the rounded points are corners of the mesh; those of the exact points may not be.
    rounded = _numbers(points, "points", "points", 3).astype(np.float32)
    if len(rounded) < 4:
        raise ValueError(f"points must have at least four rows, got {len(rounded)}.")
    exact = rounded.astype(np.float64)
    centred = exact - exact.mean(axis=0)
    # Rounding of three coordinates moves a point of a plane by at most half of this.
    noise = 3**0.5 * np.finfo(np.float32).eps * np.abs(exact).max()
    thickness = np.ptp(centred @ np.linalg.svd(centred, full_matrices=False)[2][2])
    if thickness <= 2 * noise:
        raise ValueError(f"points must not lie in a plane, got {len(rounded)} points within {thickness:.3g} of one.")
    hull = spatial.ConvexHull(centred / np.abs(centred).max())
    corner = hull.points[hull.simplices]
    normals = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    # Qhull's planes have outward normals; its faces have no order of their corners.
    inward = np.einsum("fi,fi->f", normals, hull.equations[:, :3]) < 0
    faces = np.where(inward[:, None], hull.simplices[:, ::-1], hull.simplices)
    chosen, faces = np.unique(faces, return_inverse=True)
    return _mesh(rounded[chosen], faces.reshape(-1, 3))


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


def _sphere(rows, columns):
    """Returns vertices and faces of the unit sphere with its poles on the z axis."""
    latitude = np.pi * np.arange(1, rows) / rows
    return _revolved(np.sin(latitude), np.cos(latitude), columns, 1)


def _revolved(radii, heights, columns, pole):
    """Returns vertices and faces of a closed surface around the z axis.

    It has a ring of `columns` vertices per pair of `radii` and `heights`, which are in order from the upper pole to the
    lower. The poles, at z = pole and z = -pole, are the last vertices.
    """
    longitude = 2 * np.pi * np.arange(columns) / columns
    rings = np.stack(
        [
            np.outer(radii, np.cos(longitude)),
            np.outer(radii, np.sin(longitude)),
            np.outer(heights, np.ones(columns)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    north, south, last = len(rings), len(rings) + 1, len(rings) - columns
    column = np.arange(columns)
    following = (column + 1) % columns
    caps = [
        np.stack([np.full(columns, north), column, following], axis=1),
        np.stack([np.full(columns, south), last + following, last + column], axis=1),
    ]
    faces = np.concatenate([_grid_faces(len(radii), columns, wrap=(False, True)), *caps])
    return np.concatenate([rings, [(0, 0, pole), (0, 0, -pole)]]), faces


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


def _check_rows(rows, columns, cap_rows):
    _check_count(rows, "rows", 1)
    _check_count(columns, "columns", 3)
    _check_count(cap_rows, "cap_rows", 1)


def _numbers(value: Any, name: str, *shape: int | str) -> np.ndarray:
    """Returns a float64 array of this shape from numbers that are not traced and in float32's range."""
    with np.errstate(over="ignore"):  # is an error below
        _checks.as_finite(value, name, shape)
    if not _checks.is_concrete(value):
        raise TypeError(f"{name} must be concrete, got a traced array. Make the shape outside jit.")
    numbers = np.asarray(value, np.float64)
    if np.any(np.abs(numbers) > float(np.finfo(np.float32).max)):
        raise ValueError(f"{name} must be in float32's range, got {np.abs(numbers).max()}.")
    return numbers


def _lengths(value: Any, name: str, count: int) -> np.ndarray:
    return np.array([_length(number, name) for number in _numbers(value, name, count)])


def _length(value: Any, name: str) -> float:
    """Returns a positive number that float32 can hold in full precision."""
    number, limits = _checks.as_number(value, name), np.finfo(np.float32)
    if not float(limits.tiny) <= number <= float(limits.max):
        raise ValueError(f"{name} must be positive and in float32's range, got {value!r}.")
    return number


def _mesh(vertices, faces):
    return Mesh(jnp.asarray(vertices, jnp.float32), jnp.asarray(faces, jnp.int32))
