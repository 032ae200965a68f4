import numpy as np
import pytest

import jnr

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


@pytest.mark.parametrize("make", [jnr.shapes.cube, lambda: jnr.shapes.icosphere(2), lambda: jnr.shapes.uv_sphere(5, 7)])
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
]


@pytest.mark.validation
@pytest.mark.parametrize(("name", "least", "make", "value"), INVALID_COUNTS)
def test_count_that_is_too_small_or_not_an_int_is_named_in_the_error(name, least, make, value):
    with pytest.raises(ValueError, match=rf"^{name} must be an int of at least {least}, got {value!r}\.$"):
        make(**{name: value})
