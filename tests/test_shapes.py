import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import spatial

import jnr

CLOUD = np.random.default_rng(0).normal(size=(60, 3))
# Steps of unequal height, so that cells are not flat.
STEPS = np.random.default_rng(1).uniform(0.1, 0.4, (4, 6))
# Corners, points on edges and sides, and points inside.
LATTICE = np.stack(np.meshgrid(np.arange(4.0), np.arange(3.0), np.arange(5.0)), axis=-1).reshape(-1, 3)

CLOSED = [
    ("icosphere_0", lambda: jnr.shapes.icosphere(0), 2),
    ("icosphere_2", lambda: jnr.shapes.icosphere(2), 2),
    ("uv_sphere", lambda: jnr.shapes.uv_sphere(5, 7), 2),
    ("smallest_uv_sphere", lambda: jnr.shapes.uv_sphere(2, 3), 2),
    ("torus", lambda: jnr.shapes.torus(rows=5, columns=7), 0),
    ("smallest_torus", lambda: jnr.shapes.torus(rows=3, columns=3), 0),
    ("torus_knot", lambda: jnr.shapes.torus_knot(), 0),
    ("other_knot", lambda: jnr.shapes.torus_knot(3, 2, tube=0.05, rows=5, columns=120), 0),
    ("cube", jnr.shapes.cube, 2),
    ("box", lambda: jnr.shapes.box((0.5, 0.4, 0.3)), 2),
    ("divided_box", lambda: jnr.shapes.box((0.5, 0.4, 0.3), (2, 3, 4)), 2),
    ("cylinder", lambda: jnr.shapes.cylinder(0.4, 0.7, rows=3, columns=5, cap_rows=2), 2),
    ("smallest_cylinder", lambda: jnr.shapes.cylinder(columns=3), 2),
    ("capsule", lambda: jnr.shapes.capsule(0.4, 0.7, rows=3, columns=5, cap_rows=2), 2),
    ("smallest_capsule", lambda: jnr.shapes.capsule(columns=3, cap_rows=1), 2),
    ("ellipsoid", lambda: jnr.shapes.ellipsoid((0.5, 0.4, 0.3), 5, 7), 2),
    ("height_field", lambda: jnr.shapes.height_field(STEPS, (0.6, 0.4), bottom=-0.1), 2),
    ("smallest_height_field", lambda: jnr.shapes.height_field(np.array([[1.0, 2.0], [3.0, 4.0]]), bottom=0.5), 2),
    ("hull_of_a_cloud", lambda: jnr.shapes.convex_hull(CLOUD), 2),
    ("hull_of_a_lattice", lambda: jnr.shapes.convex_hull(LATTICE), 2),
]


def arrays(mesh):
    assert mesh.vertices.dtype == np.float32
    assert mesh.faces.dtype == np.int32
    assert mesh.textures is None
    return np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces)


def directed_edges(faces):
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def volume(vertices, faces):
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    return np.sum(a * np.cross(b, c)) / 6


def doubled_normals(vertices, faces):
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    return np.cross(b - a, c - a)


def area(vertices, faces):
    return np.linalg.norm(doubled_normals(vertices, faces), axis=-1).sum() / 2


@pytest.mark.parametrize(("make", "euler"), [c[1:] for c in CLOSED], ids=[c[0] for c in CLOSED])
def test_closed_shape_is_watertight_and_consistently_oriented(make, euler):
    vertices, faces = arrays(make())
    edges = directed_edges(faces)
    # Each edge occurs once in each direction: no hole, no edge of three faces, no inconsistent orientation.
    assert len(np.unique(edges, axis=0)) == len(edges)
    np.testing.assert_array_equal(np.unique(edges, axis=0), np.unique(edges[:, ::-1], axis=0))
    # Every vertex is used, and no two coincide.
    np.testing.assert_array_equal(np.unique(faces), np.arange(len(vertices)))
    assert len(np.unique(vertices.round(5), axis=0)) == len(vertices)
    assert len(vertices) - len(edges) // 2 + len(faces) == euler
    assert volume(vertices, faces) > 0
    assert np.linalg.norm(doubled_normals(vertices, faces), axis=-1).min() > 1e-5


CONVEX = [
    jnr.shapes.cube,
    lambda: jnr.shapes.icosphere(2),
    lambda: jnr.shapes.uv_sphere(5, 7),
    lambda: jnr.shapes.box((0.5, 0.4, 0.3), (2, 3, 4)),
    lambda: jnr.shapes.cylinder(rows=2, columns=7, cap_rows=2),
    lambda: jnr.shapes.capsule(rows=2, columns=7, cap_rows=3),
    lambda: jnr.shapes.ellipsoid((0.5, 0.4, 0.3), 5, 7),
    lambda: jnr.shapes.convex_hull(CLOUD),
]


@pytest.mark.parametrize("make", CONVEX)
def test_faces_of_a_convex_shape_face_away_from_its_centre(make):
    vertices, faces = arrays(make())
    assert np.sum(doubled_normals(vertices, faces) * vertices[faces].mean(axis=1), axis=-1).min() > 0


@pytest.mark.parametrize("subdivisions", [0, 1, 3])
def test_each_subdivision_of_the_icosphere_splits_faces_into_four(subdivisions):
    vertices, faces = arrays(jnr.shapes.icosphere(subdivisions))
    assert faces.shape == (20 * 4**subdivisions, 3)
    assert vertices.shape == (10 * 4**subdivisions + 2, 3)
    # float32 coordinates of unit vectors
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 1, rtol=2e-7)


def test_faces_of_the_icosahedron_have_equal_areas():
    vertices, faces = arrays(jnr.shapes.icosphere(0))
    size = np.linalg.norm(doubled_normals(vertices, faces), axis=-1)
    # float32 coordinates
    np.testing.assert_allclose(size, size[0], rtol=1e-6)


def test_uv_sphere_has_two_poles_and_rings_at_equal_latitude_steps():
    vertices, faces = arrays(jnr.shapes.uv_sphere(5, 7))
    assert vertices.shape == (4 * 7 + 2, 3)
    assert faces.shape == (2 * 7 + 3 * 7 * 2, 3)
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 1, rtol=2e-7)
    assert np.sum(np.abs(vertices[:, 1]) == 1) == 2
    heights = np.unique(vertices[:, 1])
    np.testing.assert_allclose(heights, -np.cos(np.pi * np.arange(6) / 5), atol=1e-7)  # float32 coordinates


def test_torus_vertices_lie_on_a_tube_around_the_y_axis():
    vertices, faces = arrays(jnr.shapes.torus(0.8, 0.1, rows=5, columns=7))
    assert vertices.shape == (5 * 7, 3)
    assert faces.shape == (2 * 5 * 7, 3)
    from_ring = np.hypot(np.hypot(vertices[:, 0], vertices[:, 2]) - 0.8, vertices[:, 1])
    np.testing.assert_allclose(from_ring, 0.1, atol=1e-7)  # float32 coordinates


def test_torus_knot_vertices_lie_at_the_tube_radius_from_the_knot():
    rows, columns = 6, 96
    vertices, faces = arrays(jnr.shapes.torus_knot(2, 3, tube=0.1, rows=rows, columns=columns))
    assert vertices.shape == (rows * columns, 3)
    assert faces.shape == (2 * rows * columns, 3)
    rings = vertices.reshape(rows, columns, 3)
    from_middle = np.linalg.norm(rings - rings.mean(axis=0), axis=-1)
    np.testing.assert_allclose(from_middle, 0.1, atol=1e-6)  # float32 coordinates, a mean of six


def test_cube_has_side_one_and_eight_corners():
    vertices, faces = arrays(jnr.shapes.cube())
    np.testing.assert_array_equal(np.abs(vertices), np.full((8, 3), 0.5))
    assert faces.shape == (12, 3)
    assert volume(vertices, faces) == pytest.approx(1, abs=1e-12)
    assert area(vertices, faces) == pytest.approx(6, abs=1e-12)


SMOOTH = [
    ("icosphere", lambda n: jnr.shapes.icosphere(n + 1), 4 / 3 * np.pi, 4 * np.pi),
    ("uv_sphere", lambda n: jnr.shapes.uv_sphere(8 * 2**n, 16 * 2**n), 4 / 3 * np.pi, 4 * np.pi),
    (
        "torus",
        lambda n: jnr.shapes.torus(0.7, 0.3, rows=12 * 2**n, columns=24 * 2**n),
        2 * np.pi**2 * 0.7 * 0.3**2,
        4 * np.pi**2 * 0.7 * 0.3,
    ),
    (
        "cylinder",
        lambda n: jnr.shapes.cylinder(0.4, 0.7, rows=2, columns=16 * 2**n, cap_rows=2),
        2 * np.pi * 0.4**2 * 0.7,
        2 * np.pi * 0.4 * (2 * 0.7 + 0.4),
    ),
    (
        "capsule",
        lambda n: jnr.shapes.capsule(0.4, 0.7, columns=16 * 2**n, cap_rows=4 * 2**n),
        2 * np.pi * 0.4**2 * 0.7 + 4 / 3 * np.pi * 0.4**3,
        4 * np.pi * 0.4 * (0.7 + 0.4),
    ),
    (
        "prolate_spheroid",
        lambda n: jnr.shapes.ellipsoid((0.3, 0.3, 0.5), 8 * 2**n, 16 * 2**n),
        4 / 3 * np.pi * 0.3**2 * 0.5,
        2 * np.pi * 0.3 * (0.3 + 0.5 * np.arcsin(0.8) / 0.8),  # of eccentricity 0.8
    ),
]


@pytest.mark.parametrize(("make", "exact_volume", "exact_area"), [s[1:] for s in SMOOTH], ids=[s[0] for s in SMOOTH])
def test_refined_shape_converges_to_its_analytic_volume_and_area(make, exact_volume, exact_area):
    meshes = [arrays(make(n)) for n in range(3)]
    for measure, exact in ((volume, exact_volume), (area, exact_area)):
        missing = np.array([1 - measure(*mesh) / exact for mesh in meshes])
        assert np.all(missing > 0)  # chords lie inside
        assert missing[-1] < 0.02
        # The error of a chord is of second order in its length; the bounds leave room for the next order.
        assert np.all((missing[1:] / missing[:-1] > 0.22) & (missing[1:] / missing[:-1] < 0.28)), missing


def test_plane_is_a_square_of_side_one_that_faces_up_z():
    vertices, faces = arrays(jnr.shapes.plane(2, 3))
    assert vertices.shape == (3 * 4, 3)
    assert faces.shape == (2 * 2 * 3, 3)
    np.testing.assert_array_equal(vertices.min(axis=0), [-0.5, -0.5, 0])
    np.testing.assert_array_equal(vertices.max(axis=0), [0.5, 0.5, 0])
    normals = doubled_normals(vertices, faces)
    np.testing.assert_array_equal(normals[:, :2], 0)
    # Cells are 1/2 by 1/3, each of two equal faces; float32 coordinates.
    np.testing.assert_allclose(normals[:, 2], 1 / 6, rtol=1e-6)


def test_plane_without_arguments_has_two_faces():
    vertices, faces = arrays(jnr.shapes.plane())
    assert vertices.shape == (4, 3)
    assert faces.shape == (2, 3)


def test_box_has_every_lattice_point_of_its_sides_once_and_its_exact_volume_and_area():
    half, divisions = np.array([0.5, 0.25, 1.5]), (2, 3, 4)
    vertices, faces = arrays(jnr.shapes.box(half, divisions))
    assert faces.shape == (4 * (2 * 3 + 3 * 4 + 4 * 2), 3)
    axes = [np.linspace(-h, h, n + 1) for h, n in zip(half, divisions, strict=True)]
    lattice = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 3)
    outer = lattice[np.any(np.abs(lattice) == half, axis=1)]
    # float32 coordinates; exact where they are at an end
    np.testing.assert_allclose(vertices, outer[np.lexsort(outer.T)], atol=1e-7)
    assert np.all(np.any(np.abs(vertices) == half, axis=1))
    assert volume(vertices, faces) == pytest.approx(8 * half.prod(), rel=1e-6)
    assert area(vertices, faces) == pytest.approx(8 * (0.5 * 0.25 + 0.25 * 1.5 + 1.5 * 0.5), rel=1e-6)
    # Each side is a grid of equal cells.
    sides = doubled_normals(vertices, faces)
    for axis, cell in enumerate([(0.5 / 3) * (3 / 4), (3 / 4) * (1 / 2), (1 / 2) * (0.5 / 3)]):
        size = np.abs(sides[:, axis])
        np.testing.assert_allclose(size[size > 1e-6], cell, rtol=1e-6)


def test_one_number_of_divisions_is_that_of_every_edge():
    once, thrice = (arrays(jnr.shapes.box((1, 2, 3), divisions)) for divisions in (2, (2, 2, 2)))
    for a, b in zip(once, thrice, strict=True):
        np.testing.assert_array_equal(a, b)


def test_cylinder_vertices_lie_on_its_side_and_its_ends():
    vertices, faces = arrays(jnr.shapes.cylinder(0.5, 1.5, rows=3, columns=8, cap_rows=4))
    assert vertices.shape == (8 * (4 + 2 * 3) + 2, 3)
    assert faces.shape == (2 * 8 * (3 + 2 * 3) + 2 * 8, 3)
    from_axis, height = np.hypot(vertices[:, 0], vertices[:, 1]), vertices[:, 2]
    is_end = np.abs(height) == 1.5
    np.testing.assert_allclose(from_axis[~is_end], 0.5, rtol=2e-7)  # float32 coordinates
    np.testing.assert_allclose(np.unique(height), [-1.5, -0.5, 0.5, 1.5], rtol=2e-7)
    np.testing.assert_allclose(np.unique(from_axis.round(6)), np.arange(5) / 8, atol=1e-6)
    assert vertices[0].tolist() == [0.125, 0, 1.5]  # the first sector begins at +x


def test_prism_in_a_cylinder_has_the_volume_and_area_of_the_prism():
    vertices, faces = arrays(jnr.shapes.cylinder(0.5, 1.5, rows=2, columns=6, cap_rows=3))
    hexagon = 3 / 2 * 3**0.5 * 0.5**2
    assert volume(vertices, faces) == pytest.approx(3 * hexagon, rel=1e-6)
    assert area(vertices, faces) == pytest.approx(2 * hexagon + 6 * 0.5 * 3, rel=1e-6)


def test_capsule_vertices_lie_at_its_radius_from_a_segment_of_the_z_axis():
    vertices, faces = arrays(jnr.shapes.capsule(0.5, 1.5, rows=3, columns=8, cap_rows=4))
    assert vertices.shape == (8 * (4 + 2 * 3) + 2, 3)
    assert faces.shape == (2 * 8 * (3 + 2 * 3) + 2 * 8, 3)
    nearest = np.stack([0 * vertices[:, 2], 0 * vertices[:, 2], vertices[:, 2].clip(-1.5, 1.5)], axis=1)
    # float32 coordinates of up to 2
    np.testing.assert_allclose(np.linalg.norm(vertices - nearest, axis=1), 0.5, atol=4e-7)
    polar = np.degrees(np.arcsin((np.abs(vertices[:, 2]) - 1.5).clip(0) / 0.5))
    np.testing.assert_allclose(np.unique(polar.round(3)), [0, 22.5, 45, 67.5, 90], atol=1e-3)
    assert vertices[:, 2].max() == -vertices[:, 2].min() == 2


def test_capsule_without_bands_on_its_half_spheres_has_cones():
    vertices, faces = arrays(jnr.shapes.capsule(0.5, 1.5, columns=4, cap_rows=1))
    assert volume(vertices, faces) == pytest.approx(2 * 0.5**2 * (2 * 1.5 + 2 * 0.5 / 3), rel=1e-6)


def test_ellipsoid_vertices_fulfil_its_equation():
    half = np.array([0.5, 0.25, 2.0])
    vertices, faces = arrays(jnr.shapes.ellipsoid(half, 6, 8))
    assert faces.shape == (2 * 8 + 2 * 4 * 8, 3)
    np.testing.assert_allclose(np.sum((vertices / half) ** 2, axis=1), 1, rtol=5e-7)  # float32 coordinates
    np.testing.assert_array_equal(vertices.max(axis=0), half)
    np.testing.assert_array_equal(vertices[-2:], [[0, 0, 2], [0, 0, -2]])


def test_volume_of_an_ellipsoid_is_in_proportion_to_its_half_axes():
    unit, stretched = (arrays(jnr.shapes.ellipsoid(half, 6, 8)) for half in ((1, 1, 1), (0.5, 0.25, 2)))
    assert volume(*stretched) == pytest.approx(0.25 * volume(*unit), rel=1e-6)


def test_height_field_is_a_grid_whose_rows_run_along_y_and_columns_along_x():
    heights = np.arange(12.0).reshape(3, 4)
    vertices, faces = arrays(jnr.shapes.height_field(heights, (1.5, 2.0)))
    assert faces.shape == (2 * 2 * 3, 3)
    grid = vertices.reshape(3, 4, 3)
    np.testing.assert_array_equal(grid[..., 2], heights)
    np.testing.assert_array_equal(grid[..., 0], np.broadcast_to([-1.5, -0.5, 0.5, 1.5], (3, 4)))
    np.testing.assert_array_equal(grid[..., 1], np.broadcast_to([[-2], [0], [2]], (3, 4)))
    # Cells are 1 by 2, of two faces each, seen from above.
    np.testing.assert_array_equal(doubled_normals(vertices, faces)[:, 2], 2)
    edges = directed_edges(faces)
    single = {tuple(edge) for edge in edges} - {tuple(edge[::-1]) for edge in edges}
    assert len(single) == 2 * (2 + 3)
    assert len(edges) == len(np.unique(edges, axis=0))


def test_faces_of_a_cell_meet_along_the_diagonal_from_its_lowest_x_and_y():
    # Of a cell with one high corner on that diagonal, both faces rise; with one beside it, one does.
    for corner, rising in (((0, 0), 2), ((1, 1), 2), ((0, 1), 1), ((1, 0), 1)):
        heights = np.zeros((2, 2))
        heights[corner] = 1
        normals = doubled_normals(*arrays(jnr.shapes.height_field(heights)))
        assert np.sum(np.any(normals[:, :2] != 0, axis=1)) == rising


def test_closed_height_field_has_the_volume_under_its_faces_and_vertical_sides():
    vertices, faces = arrays(jnr.shapes.height_field(STEPS, (0.6, 0.4), bottom=-0.1))
    low, right, up, far = STEPS[:-1, :-1], STEPS[:-1, 1:], STEPS[1:, :-1], STEPS[1:, 1:]
    cell = 1.2 / 5 * 0.8 / 3
    exact = cell * np.sum((low + right + far) / 6 + (low + up + far) / 6 + 0.1)
    assert volume(vertices, faces) == pytest.approx(exact, rel=1e-6)
    normals = doubled_normals(vertices, faces)
    rim, middle = 2 * (3 + 5), vertices[faces].mean(axis=1)
    assert len(faces) == 2 * 3 * 5 + 3 * rim
    sides = normals[30 : 30 + 2 * rim]
    np.testing.assert_array_equal(sides[:, 2], 0)
    assert np.all(np.sum(sides * middle[30 : 30 + 2 * rim], axis=1) > 0)
    np.testing.assert_array_equal(vertices[faces[30 + 2 * rim :], 2], np.float32(-0.1))
    assert np.sum(normals[30 + 2 * rim :, 2]) == pytest.approx(-2 * 1.2 * 0.8, rel=1e-6)
    surface = arrays(jnr.shapes.height_field(STEPS, (0.6, 0.4)))
    np.testing.assert_array_equal(vertices[: STEPS.size], surface[0])
    np.testing.assert_array_equal(faces[:30], surface[1])


@pytest.mark.parametrize("bottom", [None, -0.1])
def test_gradient_reaches_heights(bottom):
    def height_of_vertices(heights):
        mesh = jnr.shapes.height_field(heights, bottom=bottom)
        return jnp.vdot(jnp.arange(len(mesh.vertices), dtype=jnp.float32), mesh.vertices[:, 2])

    heights = jnp.asarray(STEPS, jnp.float32)
    np.testing.assert_array_equal(jax.jit(jax.grad(height_of_vertices))(heights), np.arange(24).reshape(4, 6))
    batch = jax.vmap(lambda heights: jnr.shapes.height_field(heights, bottom=bottom).vertices)(jnp.stack([heights] * 2))
    np.testing.assert_array_equal(batch[1], jnr.shapes.height_field(heights, bottom=bottom).vertices)


def test_hull_has_the_volume_area_and_corners_of_the_points():
    points = CLOUD.astype(np.float32)
    vertices, faces = arrays(jnr.shapes.convex_hull(points))
    hull = spatial.ConvexHull(points.astype(np.float64))
    assert volume(vertices, faces) == pytest.approx(hull.volume, rel=1e-9)
    assert area(vertices, faces) == pytest.approx(hull.area, rel=1e-9)
    np.testing.assert_array_equal(vertices, points[np.sort(hull.vertices)])
    assert len(vertices) < len(points)
    # No point lies outside of a face's plane.
    normals = doubled_normals(vertices, faces)
    offsets = points @ normals.T - np.sum(normals * vertices[faces[:, 0]], axis=1)
    assert offsets.max() < 1e-12


def test_hull_of_a_lattice_is_its_box():
    vertices, faces = arrays(jnr.shapes.convex_hull(LATTICE))
    corners = np.array([(x, y, z) for x in (0, 3) for y in (0, 2) for z in (0, 4)])
    np.testing.assert_array_equal(vertices[np.lexsort(vertices.T[::-1])], corners)
    assert volume(vertices, faces) == 24
    assert area(vertices, faces) == 2 * (6 + 8 + 12)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1, 1e30])
def test_hull_scales_with_its_points(scale):
    # Far from the origin: the rounding of float32 is up to 4e-6 of the radius.
    points = np.random.default_rng(2).normal(size=(300, 3))
    points = points / np.linalg.norm(points, axis=1, keepdims=True) + [0, 0, 100]
    vertices, faces = arrays(jnr.shapes.convex_hull(points * scale))
    exact = spatial.ConvexHull(points)
    assert len(vertices) == 300
    moved = vertices / scale - [0, 0, 100]
    assert volume(moved, faces) == pytest.approx(exact.volume, rel=1e-4)
    edges = directed_edges(faces)
    np.testing.assert_array_equal(np.unique(edges, axis=0), np.unique(edges[:, ::-1], axis=0))


@pytest.mark.parametrize("sides", [5, 40])
@pytest.mark.parametrize("seed", range(10))
def test_turned_prism_with_many_points_in_a_plane_is_watertight(sides, seed):
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * np.arange(sides) / sides
    ring = np.stack([np.cos(angle), np.sin(angle), np.ones(sides)], axis=1)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    vertices, faces = arrays(jnr.shapes.convex_hull(np.concatenate([ring, ring * [1, 1, -1]]) @ turn))
    edges = directed_edges(faces)
    assert len(np.unique(edges, axis=0)) == len(edges)
    np.testing.assert_array_equal(np.unique(edges, axis=0), np.unique(edges[:, ::-1], axis=0))
    assert len(faces) == 2 * len(vertices) - 4 == 4 * sides - 4
    assert volume(vertices, faces) == pytest.approx(sides * np.sin(2 * np.pi / sides), rel=1e-6)


TURN = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
FLAT = np.random.default_rng(4).normal(size=(50, 3)) * [1, 1, 0]
PLANAR = {
    "plane": FLAT,
    "turned_plane": FLAT @ TURN,
    "far_plane": FLAT @ TURN + 1000 * TURN[2],
    "four_points": FLAT[:4] @ TURN,
    "line": FLAT * [1, 0, 0] @ TURN,
    "point": np.tile(TURN[0], (9, 1)),
    "origin": np.zeros((4, 3)),
}


@pytest.mark.parametrize("name", PLANAR)
def test_points_in_a_plane_are_an_error_that_says_so(name):
    points = PLANAR[name]
    message = rf"^points must not lie in a plane, got {len(points)} points within [\d.e-]+ of one\.$"
    with pytest.raises(ValueError, match=message):
        jnr.shapes.convex_hull(points)


def test_points_a_little_out_of_a_plane_have_a_hull():
    points = np.concatenate([FLAT, [[0, 0, 1e-4]]]) @ TURN
    vertices, faces = arrays(jnr.shapes.convex_hull(points))
    base = spatial.ConvexHull(FLAT[:, :2])
    # float32 coordinates move the points by up to 1e-3 of the height.
    assert volume(vertices, faces) == pytest.approx(base.volume * 1e-4 / 3, rel=0.01)


@pytest.mark.validation
@pytest.mark.parametrize("count", [0, 1, 3])
def test_fewer_than_four_points_are_an_error(count):
    with pytest.raises(ValueError, match=rf"^points must have at least four rows, got {count}\.$"):
        jnr.shapes.convex_hull(CLOUD[:count])


def test_missing_scipy_is_an_error_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.spatial", None)
    with pytest.raises(ImportError, match=r'^Convex hulls need SciPy\. Install it with: pip install "jnr\[shapes\]"$'):
        jnr.shapes.convex_hull(CLOUD)


@pytest.mark.parametrize("divisions", [1, 3, 6])
def test_teapot_is_centred_with_its_longest_side_from_minus_one_to_one(divisions):
    vertices, faces = arrays(jnr.shapes.teapot(divisions))
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    np.testing.assert_allclose(low + high, 0, atol=1e-6)  # float32 coordinates
    assert np.argmax(high - low) == 0
    assert low[0] == -1
    assert high[0] == 1
    # 32 patches, of which those at the axis lose faces
    assert 24 * 2 * divisions**2 < len(faces) <= 32 * 2 * divisions**2
    np.testing.assert_array_equal(np.unique(faces), np.arange(len(vertices)))


def test_teapot_is_symmetric_in_z():
    vertices, _ = arrays(jnr.shapes.teapot(5))
    mirrored = vertices * [1, 1, -1]
    distance = np.linalg.norm(vertices[:, None] - mirrored, axis=-1).min(axis=1)
    assert distance.max() < 1e-6  # float32 coordinates


def test_teapot_has_its_spout_towards_x_and_its_handle_behind():
    vertices, _ = arrays(jnr.shapes.teapot(6))
    right, left = vertices[vertices[:, 0] > 0.8], vertices[vertices[:, 0] < -0.8]
    # The mouth of the spout is at the height of the rim, the outermost part of the handle at half that height.
    assert right[:, 1].mean() > left[:, 1].mean() + 0.1
    # The handle is 0.6 wide and the mouth 0.5, of a teapot 6.43 long.
    assert np.ptp(left[:, 2]) > np.ptp(right[:, 2])


def test_teapot_body_faces_outwards():
    vertices, faces = arrays(jnr.shapes.teapot(6))
    normals = doubled_normals(vertices, faces)
    middle = vertices[faces].mean(axis=1)
    axis = vertices[np.argmax(vertices[:, 1])] * [1, 0, 1]
    from_axis = middle * [1, 0, 1] - axis
    distance = np.linalg.norm(from_axis, axis=-1)
    height = middle[:, 1] - vertices[:, 1].min()
    # Outside the half width 0.21 of the tubes, between base and rim, all faces belong to the body.
    body = (np.abs(middle[:, 2]) > 0.21) & (height > 0.01) & (height < 0.69)
    assert body.sum() > 100
    assert np.sum(normals * from_axis, axis=-1)[body].min() > 0
    base = (distance < 0.45) & (height < 1e-3)
    assert base.sum() > 100
    assert normals[base, 1].max() < 0


def test_teapot_is_consistently_oriented():
    _, faces = arrays(jnr.shapes.teapot(6))
    edges = directed_edges(faces)
    # The parts are open and intersect each other, but no directed edge occurs twice.
    assert len(np.unique(edges, axis=0)) == len(edges)


@pytest.mark.parametrize("side", [1, -1], ids=["spout", "handle"])
def test_teapot_spout_and_handle_face_outwards(side):
    vertices, faces = arrays(jnr.shapes.teapot(8))
    normals = doubled_normals(vertices, faces)
    middle = vertices[faces].mean(axis=1)
    # Outside the body, and below the lip of the spout, which turns inwards, the flanks of a tube face away from z = 0.
    flank = (side * middle[:, 0] > 0.72) & (middle[:, 1] < 0.2)
    flank &= np.abs(normals[:, 2]) > 0.5 * np.linalg.norm(normals, axis=-1)
    assert flank.sum() > 20
    assert np.all(normals[flank, 2] * middle[flank, 2] > 0)


INVALID_COUNTS = [
    ("subdivisions", 0, jnr.shapes.icosphere, -1),
    ("subdivisions", 0, jnr.shapes.icosphere, 1.0),
    ("subdivisions", 0, jnr.shapes.icosphere, True),
    ("rows", 2, jnr.shapes.uv_sphere, 1),
    ("columns", 3, jnr.shapes.uv_sphere, 2),
    ("rows", 3, jnr.shapes.torus, 2),
    ("columns", 3, jnr.shapes.torus, "many"),
    ("rows", 3, jnr.shapes.torus_knot, 2),
    ("columns", 8, jnr.shapes.torus_knot, 7),
    ("rows", 1, jnr.shapes.plane, 0),
    ("columns", 1, jnr.shapes.plane, None),
    ("divisions", 1, jnr.shapes.teapot, 0),
    ("divisions", 1, functools.partial(jnr.shapes.box, (1, 1, 1)), 0),
    ("divisions", 1, functools.partial(jnr.shapes.box, (1, 1, 1)), 2.0),
    ("rows", 1, jnr.shapes.cylinder, 0),
    ("columns", 3, jnr.shapes.cylinder, 2),
    ("cap_rows", 1, jnr.shapes.cylinder, 0),
    ("rows", 1, jnr.shapes.capsule, 0),
    ("columns", 3, jnr.shapes.capsule, 2),
    ("cap_rows", 1, jnr.shapes.capsule, 0),
    ("rows", 2, functools.partial(jnr.shapes.ellipsoid, (1, 1, 1)), 1),
    ("columns", 3, functools.partial(jnr.shapes.ellipsoid, (1, 1, 1)), 2),
]


@pytest.mark.validation
@pytest.mark.parametrize(("name", "least", "make", "value"), INVALID_COUNTS)
def test_count_that_is_too_small_or_not_an_int_is_named_in_the_error(name, least, make, value):
    with pytest.raises(ValueError, match=rf"^{name} must be an int of at least {least}, got {value!r}\.$"):
        make(**{name: value})


@pytest.mark.validation
def test_divisions_that_are_not_three_ints_within_bounds_are_errors():
    for divisions, message in (
        ((1, 2), r"divisions must be an int or three ints, got \(1, 2\)"),
        ((1, 2, 0), "divisions must be an int of at least 1, got 0"),
        (4097, "divisions must be at most 4096, got 4097"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            jnr.shapes.box((1, 1, 1), divisions)


LENGTHS = [
    ("radius", jnr.shapes.cylinder, lambda x: x),
    ("half_length", jnr.shapes.cylinder, lambda x: x),
    ("radius", jnr.shapes.capsule, lambda x: x),
    ("half_length", jnr.shapes.capsule, lambda x: x),
    ("half_sizes", jnr.shapes.box, lambda x: (1, x, 1)),
    ("half_axes", jnr.shapes.ellipsoid, lambda x: (1, 1, x)),
    ("half_sizes", functools.partial(jnr.shapes.height_field, STEPS), lambda x: (x, 1)),
]


@pytest.mark.validation
@pytest.mark.parametrize(("name", "make", "value"), LENGTHS)
def test_length_that_is_not_positive_or_beyond_float32_is_an_error(name, make, value):
    for length in (0, -1.0, 1e-40, 1e39):
        with pytest.raises(ValueError, match=rf"^{name} must be (positive and )?in float32's range, got "):
            make(**{name: value(length)})
    with pytest.raises(ValueError, match=rf"^{name} must be finite, got "):
        make(**{name: value(np.nan)})
    with pytest.raises(TypeError, match=rf"^{name} must be (a real number|concrete), got "):
        jax.jit(lambda length: make(**{name: value(length)}))(1.0)


@pytest.mark.validation
@pytest.mark.parametrize("value", [(1.0, 1.0), 1.0, np.ones((3, 1))])
def test_other_than_three_half_sizes_are_an_error(value):
    for name, make in (("half_sizes", jnr.shapes.box), ("half_axes", jnr.shapes.ellipsoid)):
        with pytest.raises(ValueError, match=rf"^{name} must have shape \(3,\), got "):
            make(value)


@pytest.mark.validation
def test_heights_without_cells_and_a_bottom_that_is_not_below_are_errors():
    for shape in ((1, 3), (3, 1), (2, 8193)):
        with pytest.raises(ValueError, match=rf"^heights must have 2 to 8192 rows and columns, got {shape[0]} x"):
            jnr.shapes.height_field(np.zeros(shape))
    with pytest.raises(ValueError, match=r"^heights must have shape \(rows, columns\), got \(4,\)"):
        jnr.shapes.height_field(np.zeros(4))
    with pytest.raises(ValueError, match=r"^heights must be in float32's range, got 1e\+39"):
        jnr.shapes.height_field(np.full((2, 2), 1e39))
    # float32 does not tell the bottom and the lowest height of the last two.
    for lowest, bottom in ((0.25, 0.5), (0.25, 0.25), (0.25, 0.25 - 1e-9), (0.25 + 1e-9, 0.25)):
        make = functools.partial(jnr.shapes.height_field, np.array([[1, lowest], [1, 1]]), bottom=bottom)
        for wrapped in (make, jax.jit(make)):
            message = rf"^bottom must lie below all heights, of which the lowest is {lowest}, got {bottom}\."
            with pytest.raises(ValueError, match=message):
                wrapped()
    with pytest.raises(ValueError, match=r"^bottom must be finite"):
        jnr.shapes.height_field(np.zeros((2, 2)), bottom=-np.inf)
