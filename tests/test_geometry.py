import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jnr


def perturbed(mesh, seed=0, size=0.1):
    """The mesh's vertices in float64, with normal noise."""
    vertices = np.asarray(mesh.vertices, np.float64)
    return vertices + np.random.default_rng(seed).normal(0, size, vertices.shape)


def padded(mesh):
    """The mesh with padding faces before, between and after its own, and with two unused vertices."""
    faces = np.asarray(mesh.faces)
    none = np.full((1, 3), -1, np.int32)
    faces = np.concatenate([none, faces[:5], none, faces[5:], none])
    return jnr.Mesh(jnp.concatenate([mesh.vertices, jnp.full((2, 3), 50.0)]), jnp.asarray(faces))


def test_areas_and_volume_of_a_cube_equal_the_closed_forms():
    cube = padded(jnr.shapes.cube())
    areas = jax.jit(jnr.face_areas)(cube.vertices, cube.faces)
    np.testing.assert_allclose(areas, np.where(cube.faces[:, 0] < 0, 0, 0.5), rtol=1e-6)
    volume = jax.jit(jnr.volume)
    assert volume(cube.vertices, cube.faces) == pytest.approx(1, rel=1e-6)
    assert volume(cube.vertices, cube.faces[:, ::-1]) == pytest.approx(-1, rel=1e-6)
    # Coordinates near 1000 have float32 steps of 6e-5.
    assert volume(cube.vertices + 1000, cube.faces) == pytest.approx(1, rel=1e-3)


def test_volume_and_areas_of_a_sphere_approach_the_closed_forms():
    ball = jnr.shapes.icosphere(4)
    # Chords of length h lie up to h^2 / 8 below the sphere: about 1e-3 for h = 0.07.
    assert jnr.volume(ball.vertices, ball.faces) == pytest.approx(4 / 3 * np.pi, rel=3e-3)
    assert jnr.face_areas(ball.vertices, ball.faces).sum() == pytest.approx(4 * np.pi, rel=2e-3)


def test_gradients_of_areas_and_volume_equal_finite_differences():
    mesh = jnr.shapes.cube()
    weights = np.random.default_rng(1).normal(size=12)
    with jax.enable_x64(True):

        def both(vertices):
            vertices = jnp.asarray(vertices)
            return jnp.sum(jnr.face_areas(vertices, mesh.faces) * weights) + jnr.volume(vertices, mesh.faces)

        check_grads(jax.jit(both), (perturbed(mesh),), order=1, modes=("rev",), atol=1e-7, rtol=1e-6, eps=1e-6)


def test_area_of_a_degenerate_face_has_zero_gradient():
    vertices = jnp.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    with jax.debug_nans(True):
        gradient = jax.jit(jax.grad(lambda v: jnr.face_areas(v, jnp.array([[0, 1, 2]]))[0]))(vertices)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(("num_vertices", "num_faces"), [(0, 0), (5, 0), (0, 2)], ids=["empty", "no_faces", "padding"])
def test_empty_mesh_has_zero_normals_and_zero_volume(num_vertices, num_faces):
    vertices, faces = jnp.ones((num_vertices, 3)), jnp.full((num_faces, 3), -1)
    np.testing.assert_array_equal(jnr.vertex_normals(vertices, faces), np.zeros((num_vertices, 3)))
    volume, gradient = jax.value_and_grad(jnr.volume)(vertices, faces)
    assert volume == 0
    np.testing.assert_array_equal(gradient, np.zeros((num_vertices, 3)))


def test_subdivided_mesh_has_the_same_surface_in_four_times_as_many_faces():
    mesh = jnr.shapes.torus(rows=5, columns=7)
    finer = jnr.subdivide(mesh)
    assert finer.faces.shape == (4 * len(mesh.faces), 3)
    assert len(finer.vertices) == len(mesh.vertices) + 3 * len(mesh.faces) // 2
    edges, pairs = jnr.unique_edges(finer.faces)
    assert len(edges) == len(pairs) == 6 * len(mesh.faces)  # closed: every edge has two faces
    # Every child has the normal and a quarter of the area of its parent.
    products = []
    for vertices, faces in (mesh[:2], finer[:2]):
        a, b, c = np.moveaxis(np.asarray(vertices, np.float64)[np.asarray(faces)], 1, 0)
        products.append(np.cross(b - a, c - a))
    # Midpoints are rounded to float32; edges are at least 0.1 long.
    np.testing.assert_allclose(products[1], products[0].repeat(4, axis=0) / 4, atol=1e-7)


def test_subdivision_keeps_padding_faces_and_unused_vertices():
    mesh = padded(jnr.shapes.cube())
    finer = jnr.subdivision(mesh.faces, len(mesh.vertices))
    np.testing.assert_array_equal(np.all(finer.faces < 0, axis=1), (mesh.faces[:, 0] < 0).repeat(4))
    np.testing.assert_array_equal(finer.parents, np.arange(len(mesh.faces)).repeat(4))
    values = finer.values(mesh.vertices)
    np.testing.assert_array_equal(values[: len(mesh.vertices)], mesh.vertices)
    assert int(finer.faces.max()) == len(values) - 1
    assert not set(np.asarray(finer.faces).ravel()) & {8, 9}


def test_textures_of_a_subdivided_mesh_are_interpolated_at_its_corners():
    plane = jnr.shapes.plane(2, 2)
    place = lambda xy: xy @ jnp.array([[0.5, 0.1], [0.2, 0.8]]) + 0.3  # noqa: E731
    corners = place(plane.vertices[plane.faces.reshape(-1), :2])
    images = (jnp.ones((1, 1, 3)), jnp.zeros((1, 1, 3)))
    by_corner = jnr.UVTexture(images, corners, jnp.arange(24).reshape(8, 3), jnp.arange(8) % 2)
    finer = jnr.subdivide(plane._replace(textures=by_corner))
    assert isinstance(finer.textures, jnr.UVTexture)
    expected = place(finer.vertices[:, :2])[finer.faces]
    # float32 sums of three products
    np.testing.assert_allclose(finer.textures.uv[finer.textures.uv_faces], expected, atol=1e-6)
    np.testing.assert_array_equal(finer.textures.material, (np.arange(8) % 2).repeat(4))
    by_vertex = jnr.subdivide(plane._replace(textures=jnr.UVTexture(images[0], place(plane.vertices[:, :2]))))
    assert isinstance(by_vertex.textures, jnr.UVTexture)
    assert by_vertex.textures.uv_faces is None
    np.testing.assert_allclose(by_vertex.textures.uv[by_vertex.faces], expected, atol=1e-6)
    colors = jnr.subdivide(plane._replace(textures=plane.vertices))
    np.testing.assert_array_equal(colors.textures, colors.vertices)


def test_gradient_of_a_midpoint_is_halved_between_its_ends():
    finer = jnr.subdivision(jnp.array([[0, 1, 2]]), 3)
    gradient = jax.jit(jax.grad(lambda v: finer.values(v)[3:].sum()))(jnp.zeros((3, 1)))
    np.testing.assert_array_equal(gradient, 1)


@pytest.mark.validation
def test_subdividing_traced_faces_or_texture_cubes_is_an_error():
    with pytest.raises(TypeError, match=r"^faces must be concrete to be divided"):
        jax.jit(lambda faces: jnr.subdivision(faces, 3).faces)(jnp.array([[0, 1, 2]]))
    cubes = jnr.shapes.cube()._replace(textures=jnp.zeros((12, 2, 2, 2, 3)))
    with pytest.raises(
        ValueError, match=r"^textures must be .* got shape \(12, 2, 2, 2, 3\)\. See jnr\.cubes_to_uv\.$"
    ):
        jnr.subdivide(cubes)


@jax.jit
def sampled(key, vertices, faces):
    return jnr.sample_surface(key, vertices, faces, 4000)


def test_samples_are_distributed_by_area_and_uniformly_within_faces():
    mesh = padded(jnr.shapes.cube())
    vertices = jnp.asarray(mesh.vertices * jnp.array([4.0, 1.0, 1.0]))
    samples = sampled(jax.random.key(0), vertices, mesh.faces)
    areas = np.asarray(jnr.face_areas(vertices, mesh.faces))
    count = np.bincount(samples.face, minlength=len(areas))
    expected = 4000 * areas / areas.sum()
    # Five standard deviations of each count.
    assert np.all(np.abs(count - expected) <= 5 * np.sqrt(expected))
    # Weights of uniform points in a triangle have the mean 1/3, within five standard errors, and the variance 1/18.
    weights = np.asarray(samples.barycentric)
    assert np.all(weights >= 0)
    np.testing.assert_allclose(weights.mean(axis=0), 1 / 3, atol=5 * np.sqrt(1 / 18 / 4000))
    np.testing.assert_allclose(weights.var(axis=0), 1 / 18, rtol=0.1)
    # The weights do not correlate with the face.
    for k in range(3):
        assert abs(np.corrcoef(weights[:, k], samples.face)[0, 1]) < 5 / np.sqrt(4000)
    corners = np.asarray(vertices)[np.asarray(mesh.faces)[samples.face]]
    np.testing.assert_allclose(samples.points, np.einsum("nk,nkc->nc", weights, corners), atol=1e-6)
    again = sampled(jax.random.key(0), vertices, mesh.faces)
    np.testing.assert_array_equal(samples.points, again.points)


def test_samples_move_with_the_vertices_of_their_face():
    mesh = padded(jnr.shapes.cube())
    key = jax.random.key(1)
    gradient = jax.jit(jax.grad(lambda v: sampled(key, v, mesh.faces).points[:, 0].sum()))(mesh.vertices)
    samples = sampled(key, mesh.vertices, mesh.faces)
    expected = np.zeros(10)
    np.add.at(expected, np.asarray(mesh.faces)[samples.face], np.asarray(samples.barycentric))
    np.testing.assert_allclose(gradient[:, 0], expected, rtol=1e-4)  # float32 sums of 1500 terms
    np.testing.assert_array_equal(gradient[:, 1:], 0)


def test_mesh_of_zero_area_has_no_samples():
    mesh = padded(jnr.shapes.cube())
    samples = sampled(jax.random.key(0), jnp.ones_like(mesh.vertices), mesh.faces)
    np.testing.assert_array_equal(samples.face, -1)
    np.testing.assert_array_equal(samples.points, 0)
    empty = jnr.sample_surface(jax.random.key(0), jnp.zeros((3, 3)), jnp.zeros((0, 3), jnp.int32), 5)
    assert empty.points.shape == (5, 3)
    np.testing.assert_array_equal(empty.face, -1)


@pytest.mark.parametrize("third", ["the_first", "the_second", "on_the_line"])
def test_faces_whose_area_is_a_rounding_error_have_zero_area_and_normals(third):
    # x y - y x is not zero if the compiler fuses one product with the subtraction.
    first, second = np.random.default_rng(0).normal(size=(2, 50, 3)).astype(np.float32)
    last = {"the_first": first, "the_second": second, "on_the_line": 2 * first - second}[third]
    vertices = jnp.asarray(np.concatenate([first, second, last]))
    index = np.arange(50)
    normals = jax.jit(lambda v, f: (jnr.face_normals(v, f), jnr.vertex_normals(v, f), jnr.face_areas(v, f)))
    gradient = jax.jit(jax.grad(lambda v, f: jnp.sum(jnr.face_normals(v, f)) + jnp.sum(jnr.face_areas(v, f))))
    laplacian = jax.jit(jnr.losses.cotangent_laplacian)
    for order in itertools.permutations((index, index + 50, index + 100)):
        faces = jnp.asarray(np.stack(order, axis=1))
        for values in (*normals(vertices, faces), gradient(vertices, faces), laplacian(vertices, faces)):
            np.testing.assert_array_equal(values, 0)


def test_normals_of_a_flattened_surface_are_zero_where_its_sides_cancel():
    sphere = jnr.shapes.icosphere(1)

    def normals(vertices):
        return jnr.vertex_normals(vertices, sphere.faces)

    for axis in range(3):
        flat = sphere.vertices.at[:, axis].set(0)
        lengths = jnp.linalg.norm(normals(flat), axis=-1)
        # Inner vertices see as much area from above as from below.
        assert float(lengths.min()) == 0
        assert set(np.asarray(lengths).round(5)) <= {0, 1}
        gradient = jax.grad(lambda v: jnp.sum(normals(v) * jnp.arange(3.0)))(flat)
        assert float(jnp.abs(gradient).max()) < 100
    # A surface that is thin but has a side keeps its normals.
    thin = sphere.vertices * jnp.array([1.0, 1.0, 1e-3])
    np.testing.assert_allclose(jnp.linalg.norm(normals(thin), axis=-1), 1, atol=1e-6)


def test_smooth_normals_that_cancel_within_a_face_leave_no_direction():
    plane = jnr.shapes.plane()
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 1.0)), jnr.Orthographic(0.5))
    normals = jnp.array([[0.0, 0, 1]] * 4) * jnp.array([[1.0], [-1.0], [1.0], [-1.0]])

    def middle(normals):
        return jnr.render(*plane[:2], camera=camera, normals=normals, image_size=3).normals[1, 1]

    # In the middle of the square two opposite corners have equal weights.
    assert plane.faces[0].tolist() in ([0, 2, 3], [0, 2, 1])
    opposite = normals.at[2].set(-normals[0])
    np.testing.assert_array_equal(middle(opposite), 0)
    assert float(jnp.abs(jax.grad(lambda n: middle(n).sum())(opposite)).max()) < 10
