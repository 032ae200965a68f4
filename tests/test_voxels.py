import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr


def centers(size):
    """Centres of the cells of the default grid, (size, size, size, 3)."""
    return (np.moveaxis(np.indices((size, size, size)), 0, -1) + 0.5) * 2 / size - 1


def winding(mesh, points):
    """Winding number of a mesh at each point, from the solid angles of its faces (Van Oosterom and Strackee 1983)."""
    corners = np.asarray(mesh.vertices, np.float64)[np.asarray(mesh.faces)] - points[:, None, None]
    a, b, c = np.moveaxis(corners, 2, 0)
    la, lb, lc = (np.linalg.norm(v, axis=-1) for v in (a, b, c))
    top = np.sum(a * np.cross(b, c), axis=-1)
    dot = lambda u, v: np.sum(u * v, axis=-1)  # noqa: E731
    below = la * lb * lc + dot(a, b) * lc + dot(b, c) * la + dot(c, a) * lb
    return np.sum(2 * np.arctan2(top, below), axis=1) / (4 * np.pi)


def shifted(mesh):
    """Scales and shifts a mesh so that no cell centre lies on its surface."""
    return mesh._replace(vertices=mesh.vertices * 0.8 + jnp.array([0.013, 0.027, 0.041]))


def test_cube_between_centres_is_exact():
    grid = np.asarray(jnr.voxelize(*jnr.shapes.cube()[:2], 16))
    np.testing.assert_array_equal(grid, np.all(np.abs(centers(16)) < 0.5, axis=-1))
    assert grid.mean() * 8 == 1


@pytest.mark.parametrize("rule", ["winding", "parity"])
@pytest.mark.parametrize("name", ["icosphere", "torus", "torus_knot"])
def test_cells_are_inside_where_the_winding_number_is_not_zero(name, rule):
    mesh = shifted({"icosphere": jnr.shapes.icosphere(2)}.get(name) or getattr(jnr.shapes, name)(rows=8, columns=24))
    grid = jnr.voxelize(mesh.vertices, mesh.faces, 12, rule=rule)
    expected = winding(mesh, centers(12).reshape(-1, 3)).reshape(12, 12, 12)
    assert np.all(np.abs(expected - np.round(expected)) < 1e-6)
    np.testing.assert_array_equal(grid, np.round(expected) != 0)
    assert 0 < grid.mean() < 1


def test_volume_of_sphere_is_the_closed_form():
    ball = jnr.shapes.icosphere(3)
    grid = jnr.voxelize(ball.vertices * 0.9, ball.faces, 32)
    # The faces lie up to 0.3 percent inside the sphere. About 2600 of 12500 cells intersect the surface; the errors of
    # half a cell largely cancel.
    assert grid.mean() * 8 == pytest.approx(4 / 3 * np.pi * 0.9**3, rel=0.015)


def test_rays_through_vertices_and_along_edges_are_counted_once():
    # An octahedron: its edges lie in the coordinate planes and its vertices on the axes, where an odd grid has centres.
    vertices = 0.9 * jnp.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    faces = [(0, 2, 4), (2, 1, 4), (1, 3, 4), (3, 0, 4), (2, 0, 5), (1, 2, 5), (3, 1, 5), (0, 3, 5)]
    for rule in ("winding", "parity"):
        grid = jnr.voxelize(vertices, jnp.array(faces), 17, rule=rule)
        np.testing.assert_array_equal(grid, np.abs(centers(17)).sum(axis=-1) < 0.9)
        # Faces without shared vertices, as in an STL file, give the same result.
        soup = jnr.voxelize(vertices[jnp.array(faces).reshape(-1)], jnp.arange(24).reshape(8, 3), 17, rule=rule)
        np.testing.assert_array_equal(soup, grid)


def test_grid_spans_low_to_high_with_x_as_the_first_axis():
    cube = jnr.shapes.cube()
    box = cube.vertices * jnp.array([1.0, 2.0, 3.0]) + jnp.array([0.5, 1.0, 1.5])
    grid = np.asarray(jnr.voxelize(box, cube.faces, 8, low=(0, 0, 0), high=(4, 4, 4)))
    expected = np.zeros((8, 8, 8), bool)
    expected[:2, :4, :6] = True
    np.testing.assert_array_equal(grid, expected)
    # A mesh that encloses the grid fills it.
    assert np.all(jnr.voxelize(cube.vertices * 10, cube.faces, 8))


def test_overlap_is_inside_by_winding_and_outside_by_parity():
    cube = jnr.shapes.cube()
    half = jnp.array([0.25, 0.0, 0.0])
    both = jnr.concatenate([cube, cube._replace(vertices=cube.vertices + half)])
    first, second = (np.all(np.abs(centers(16) - shift) < 0.5, axis=-1) for shift in (0, np.array([0.25, 0, 0])))
    np.testing.assert_array_equal(jnr.voxelize(*both[:2], 16), first | second)
    np.testing.assert_array_equal(jnr.voxelize(*both[:2], 16, rule="parity"), first ^ second)
    # Parity ignores the orientation of faces.
    turned = both.faces.at[::2].set(both.faces[::2, ::-1])
    np.testing.assert_array_equal(jnr.voxelize(both.vertices, turned, 16, rule="parity"), first ^ second)


def test_hole_along_one_axis_is_corrected_by_the_other_rays():
    cube = jnr.shapes.cube()
    top = np.all(np.asarray(cube.vertices)[np.asarray(cube.faces), 2] > 0, axis=1)
    assert top.sum() == 2
    expected = np.all(np.abs(centers(16)) < 0.5, axis=-1)
    for faces in (cube.faces[~top], jnp.where(top[:, None], -1, cube.faces)):
        np.testing.assert_array_equal(jnr.voxelize(cube.vertices, faces, 16), expected)
    plane = jnr.shapes.plane()
    assert not np.any(jnr.voxelize(*plane[:2], 16))


def test_faces_that_are_not_finite_or_have_no_area_change_nothing():
    ball = shifted(jnr.shapes.icosphere(2))
    bad = jnp.array([[jnp.nan, 0.0, 0.0], [jnp.inf, 0.0, 0.0]])
    vertices = jnp.concatenate([ball.vertices, bad])
    faces = jnp.concatenate([ball.faces, jnp.array([[0, 1, 162], [0, 1, 163], [0, 0, 1], [2, 2, 2], [-1, -1, -1]])])
    np.testing.assert_array_equal(jnr.voxelize(vertices, faces, 12), jnr.voxelize(*ball[:2], 12))


@pytest.mark.parametrize(
    ("num_vertices", "num_faces"), [(0, 0), (5, 0), (0, 2)], ids=["nothing", "no_faces", "padding"]
)
def test_empty_mesh_fills_no_cell(num_vertices, num_faces):
    grid = jnr.voxelize(jnp.ones((num_vertices, 3)), jnp.full((num_faces, 3), -1), 4)
    assert grid.dtype == bool
    np.testing.assert_array_equal(grid, np.zeros((4, 4, 4)))


def test_vmap_over_meshes_equals_a_loop():
    batch = jnr.stack([shifted(jnr.shapes.cube()), shifted(jnr.shapes.icosphere(2))])
    grids = jax.jit(jax.vmap(lambda mesh: jnr.voxelize(mesh.vertices, mesh.faces, 12)))(batch)
    for grid, mesh in zip(grids, (jnr.shapes.cube(), jnr.shapes.icosphere(2)), strict=True):
        np.testing.assert_array_equal(grid, jnr.voxelize(*shifted(mesh)[:2], 12))


def test_voxel_iou_is_intersection_over_union():
    a, b = np.zeros((2, 4, 4, 4), bool)
    a[:2], b[1:3] = True, True
    assert jnr.voxel_iou(a, b) == pytest.approx(1 / 3)
    assert jnr.voxel_iou(a, a) == 1
    assert jnr.voxel_iou(a & False, b & False) == 1
    assert jnr.voxel_iou(a, b & False) == 0


@pytest.mark.validation
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v, f: jnr.voxelize(v, f, 0), r"size must be at least 1, got 0"),
        (lambda v, f: jnr.voxelize(v, f, 4, rule="odd"), r"rule must be one of 'winding', 'parity', got 'odd'"),  # pyright: ignore[reportArgumentType]: wrong on purpose
        (
            lambda v, f: jnr.voxelize(v, f, 4, low=(0, 0)),
            r"low must be a scalar or have one value per axis, .* got shape \(2,\)",
        ),
        (lambda v, f: jnr.voxelize(v, f, 4, low=1, high=(2, 2, 1)), r"low must be less than high, got"),
        (lambda v, f: jnr.voxel_iou(v > 0, f > 0), r"a and b must have the same shape, got \(8, 3\) and \(12, 3\)"),
    ],
    ids=["size", "rule", "low", "order", "shapes"],
)
def test_invalid_argument_is_named_in_the_error(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call(*jnr.shapes.cube()[:2])
