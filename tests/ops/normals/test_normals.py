"""Normals of faces and vertices, unit vectors, and their derivatives in every mode, on every backend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr
from jnr._backend import has_cpu_kernels
from jnr._ops.normals import face_normals, face_sides, unit_vectors, vertex_normals

BACKENDS = [
    "xla",
    pytest.param("cpu", marks=pytest.mark.skipif(not has_cpu_kernels(), reason="installed without kernels")),
]
DTYPES = [jnp.float32, jnp.float64]


def uneven_mesh(dtype=jnp.float64):
    """A ball with a face twice, a padding face, a collinear face, one beyond the last vertex and one with a NaN."""
    ball = jnr.shapes.icosphere(1)
    vertices = np.asarray(ball.vertices, np.float64) * [1.0, 0.7, 1.3]
    count = len(vertices)
    vertices = np.concatenate([vertices, [[0, 0, 0], [0.1, 0.2, 0.3], [0.2, 0.4, 0.6], [np.nan, 0, 0]]])
    more = [[0, 2, 1], [-1, -1, -1], [count, count + 1, count + 2], [0, 1, 99], [0, 1, count + 3]]
    return jnp.asarray(vertices, dtype), jnp.asarray(np.concatenate([ball.faces, more]), jnp.int32)


def normals_by_numpy(vertices, faces):
    """Products of sides per face, zero for those without a normal."""
    vertices, products = np.asarray(vertices, np.float64), []
    for a, b, c in np.asarray(faces):
        if min(a, b, c) < 0 or max(a, b, c) >= len(vertices):
            products.append(np.zeros(3))
            continue
        product = np.cross(vertices[b] - vertices[a], vertices[c] - vertices[a])
        products.append(product if np.all(np.isfinite(product)) and np.linalg.norm(product) > 1e-6 else np.zeros(3))
    return np.array(products)


def normalized(vectors):
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 1e-12, vectors / np.where(length > 1e-12, length, 1), 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_normals_of_indexed_faces(backend, dtype):
    with jax.enable_x64(True):
        vertices, faces = uneven_mesh(dtype)
        index = jnp.asarray(np.random.default_rng(0).integers(-1, len(faces) + 2, (9, 31)), jnp.int32)
        found = face_normals(vertices, faces, index, backend=backend)
        of_faces = np.concatenate([normalized(normals_by_numpy(vertices, faces)), np.zeros((3, 3))])
        assert found.dtype == dtype
        np.testing.assert_allclose(found, of_faces[np.asarray(index)], atol=3e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_normals_of_vertices_are_weighted_by_area(backend):
    with jax.enable_x64(True):
        vertices, faces = uneven_mesh()
        sums = np.zeros(vertices.shape)
        for face, product in zip(np.asarray(faces), normals_by_numpy(vertices, faces), strict=True):
            if np.any(product != 0):
                sums[face] += product
        np.testing.assert_allclose(vertex_normals(vertices, faces, backend=backend), normalized(sums), atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sides_by_the_camera(backend):
    cube = jnr.shapes.cube()
    index = jnp.arange(-1, 12, dtype=jnp.int32)
    eye = np.array([0.3, 0.8, 3.0])
    middle = np.asarray(cube.vertices)[np.asarray(cube.faces)].mean(axis=1)
    seen = np.sum(normals_by_numpy(cube.vertices, cube.faces) * (eye - middle), axis=1) > 0
    camera = jnr.Camera(jnr.LookAt(tuple(eye)))
    mirror = jnp.diag(jnp.array([-1.0, 1, 1, 1]))
    for matrix in (camera.clip_from_world(), mirror @ camera.clip_from_world()):
        clip = jnp.concatenate([cube.vertices, jnp.ones((8, 1))], axis=1) @ matrix.T
        sides = face_sides(clip, cube.faces, index, matrix, backend=backend)
        np.testing.assert_array_equal(sides[1:], np.where(seen, 1, -1))


def functions(backend):
    """Functions of the vertices, by name."""
    faces = uneven_mesh()[1]
    index = jnp.asarray(np.random.default_rng(1).integers(-1, len(faces), (6, 40)), jnp.int32).at[2].set(7)
    yield "faces", lambda v: face_normals(v, faces, index, backend=backend)
    yield "vertices", lambda v: vertex_normals(v, faces, backend=backend)
    yield "unit vectors", lambda v: unit_vectors(jnp.pad(v, ((0, 0), (0, 1))), backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["faces", "vertices", "unit vectors"])
def test_derivatives_of_every_mode_and_order(name, backend):
    with jax.enable_x64(True):
        vertices, function = uneven_mesh()[0], dict(functions(backend))[name]
        rng = np.random.default_rng(2)
        # Vertices of the collinear face, and the one that is not finite, stay where they are.
        tangent = jnp.asarray(rng.normal(size=vertices.shape)).at[-4:].set(0)
        weights = jnp.asarray(rng.normal(size=function(vertices).shape))

        def loss(v):
            return jnp.sum(weights * function(v))

        def difference(f):
            step = 1e-5 * tangent
            return (f(vertices + step) - f(vertices - step)) / 2e-5

        np.testing.assert_allclose(jax.jvp(function, (vertices,), (tangent,))[1], difference(function), atol=1e-7)
        gradient = jax.grad(loss)
        np.testing.assert_allclose(jnp.vdot(gradient(vertices), tangent), difference(loss), rtol=1e-7)
        second = jax.jvp(gradient, (vertices,), (tangent,))[1]
        np.testing.assert_allclose(second, difference(gradient), atol=1e-6 * float(jnp.abs(second).max()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["faces", "vertices", "unit vectors"])
def test_vmap_is_a_loop(name, backend):
    with jax.enable_x64(True):
        vertices, function = uneven_mesh()[0], dict(functions(backend))[name]
        batch = jnp.stack([vertices, vertices * 1.1 + 0.2 * vertices[:, ::-1]])
        weights = jnp.asarray(np.random.default_rng(3).normal(size=(2, *function(vertices).shape)))

        def gradient(v, w):
            return jax.grad(lambda v: jnp.sum(w * function(v)))(v)

        each = [gradient(v, w) for v, w in zip(batch, weights, strict=True)]
        np.testing.assert_allclose(jax.vmap(gradient)(batch, weights), jnp.stack(each), atol=1e-12)
        # Items that share the vertices: their cotangents are added up.
        shared = jax.grad(lambda v: jnp.sum(jax.vmap(lambda w: jnp.sum(w * function(v)))(weights)))(vertices)
        np.testing.assert_allclose(shared, gradient(vertices, weights.sum(axis=0)), atol=1e-12)
        of_both = jax.grad(lambda v: jnp.sum(weights * jax.vmap(lambda s: function(s * v))(jnp.array([1.0, 1.5]))))
        expected = sum(s * gradient(s * vertices, w) for s, w in zip((1.0, 1.5), weights, strict=True))
        np.testing.assert_allclose(of_both(vertices)[:-1], expected[:-1], atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_normals_of_the_vertices_that_are_seen(backend):
    with jax.enable_x64(True):
        vertices, faces = uneven_mesh()
        seen = jnp.asarray([[3, -1, 3], [len(faces), 17, 40]], jnp.int32)
        corners = np.unique(np.asarray(faces)[[3, 17, 40]])
        weights = np.zeros(vertices.shape)
        weights[corners] = np.random.default_rng(4).normal(size=(len(corners), 3))

        def loss(vertices, seen, backend):
            return jnp.sum(weights * vertex_normals(vertices, faces, seen, backend=backend))

        found = vertex_normals(vertices, faces, seen, backend=backend)
        every = vertex_normals(vertices, faces, backend="xla")
        np.testing.assert_allclose(found[corners], every[corners], atol=1e-14)
        gradient = jax.grad(loss)(vertices, seen, backend)
        np.testing.assert_allclose(gradient, jax.grad(loss)(vertices, None, "xla"), atol=1e-14)


def test_views_of_one_mesh_share_its_normals():
    vertices, faces = uneven_mesh(jnp.float32)
    seen = jnp.asarray([[3, 5], [17, -1], [40, 41]], jnp.int32)
    normals = jax.vmap(lambda s: vertex_normals(vertices, faces, s))
    sums = [e for e in jax.make_jaxpr(normals)(seen).eqns if e.primitive.name == "jnr_normal_sums"]
    assert [e.outvars[0].aval.shape for e in sums] == [(1, len(vertices), 4)]
    every = vertex_normals(vertices, faces)
    for of_view, named in zip(normals(seen), np.asarray(seen), strict=True):
        corners = np.unique(np.asarray(faces)[named[named >= 0]])
        np.testing.assert_allclose(of_view[corners], every[corners], atol=1e-6)
