"""Batches and scenes of meshes of different sizes."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr

SIZE = 32


def different_meshes(kind):
    """Ten meshes of different sizes, with textures of the given kind."""
    rng = np.random.default_rng(0)
    shapes = [
        jnr.shapes.cube(),
        jnr.shapes.icosphere(0),
        jnr.shapes.icosphere(2),
        jnr.shapes.torus(rows=5, columns=9),
        jnr.shapes.uv_sphere(4, 7),
        jnr.shapes.plane(2, 3),
        jnr.shapes.torus_knot(rows=3, columns=24),
        jnr.shapes.teapot(2),
        jnr.shapes.torus(rows=3, columns=3),
        jnr.shapes.plane(),
    ]
    meshes = []
    for k, mesh in enumerate(shapes):
        vertices, faces = mesh.vertices, mesh.faces
        count, num_faces = len(vertices), len(faces)
        if kind == "none":
            textures = None
        elif kind == "colors":
            textures = jnp.asarray(rng.uniform(size=(count, 3)), jnp.float32)
        elif kind == "cubes":
            textures = jnp.asarray(rng.uniform(size=(num_faces, 2, 2, 2, 3)), jnp.float32)
        else:
            images = [jnp.asarray(rng.uniform(size=(*rng.integers(1, 9, 2), 3)), jnp.float32) for _ in range(k % 3 + 1)]
            material = jnp.asarray(rng.integers(0, len(images), num_faces))
            uv = jnp.asarray(rng.uniform(-1, 2, (3 * num_faces, 2)), jnp.float32)
            uv_faces = jnp.arange(3 * num_faces).reshape(-1, 3)
            textures = jnr.UVTexture(images, uv, uv_faces, material, "mirror", kind)
        meshes.append(jnr.Mesh(vertices, faces, textures))
    return meshes


def render(mesh):
    return jnr.render(*mesh, image_size=SIZE, normals="smooth", lights=(jnr.PointLight(),))


def with_arrays(mesh, vertices, arrays):
    """The mesh with its vertices and the float arrays of its textures replaced."""
    textures = mesh.textures
    if isinstance(textures, jnr.UVTexture):
        textures = dataclasses.replace(textures, images=arrays[0], uv=arrays[1])
    elif textures is not None:
        textures = arrays
    return jnr.Mesh(vertices, mesh.faces, textures)


def float_arrays(mesh):
    textures = mesh.textures
    return (textures.images, textures.uv) if isinstance(textures, jnr.UVTexture) else textures


def gradient(mesh, weights):
    """Gradient of a weighted sum of the rendering with respect to positions and textures."""

    def loss(vertices, arrays):
        rendering = jnr.render(*with_arrays(mesh, vertices, arrays), image_size=SIZE, lights=())
        terms = (image * weights[..., : image.shape[-1]] for image in (rendering.rgb, rendering.alpha[..., None]))
        return sum(jnp.sum(term) for term in terms)

    return jax.grad(loss, argnums=(0, 1))(mesh.vertices, float_arrays(mesh))


def check_equal_to_loop(meshes, equal=np.testing.assert_array_equal, equal_gradient=np.testing.assert_array_equal):
    batch = jnr.stack(meshes)
    renderings = jax.jit(jax.vmap(render))(batch)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(SIZE, SIZE, 3)), jnp.float32)
    gradients = jax.jit(jax.vmap(partial(gradient, weights=weights)))(batch)
    single, single_gradient = jax.jit(render), jax.jit(partial(gradient, weights=weights))
    for k, mesh in enumerate(meshes):
        for found, expected in zip(renderings, single(mesh), strict=True):
            equal(found[k], expected)
        found, expected = jax.tree.map(lambda leaf, k=k: leaf[k], gradients), single_gradient(mesh)
        assert np.any(expected[0] != 0)
        padded = found[1][0] if isinstance(mesh.textures, jnr.UVTexture) else ()
        if len(padded):
            # Images that pad this mesh's list have zero gradient.
            assert all(np.all(image == 0) for image in padded[len(expected[1][0]) :])
            found = found[0], (list(padded[: len(expected[1][0])]), found[1][1])
            expected = expected[0], (list(expected[1][0]), expected[1][1])
        for padded_leaf, leaf in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            inside = tuple(slice(size) for size in leaf.shape)
            equal_gradient(padded_leaf[inside], leaf)
            assert np.count_nonzero(padded_leaf) == np.count_nonzero(leaf)  # zero in the padding


def check_close(found, expected):
    """Compares to rounding, because one program may fuse a product and a sum that the other does not."""
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_batch_of_ten_meshes_equals_ten_renderings_bit_for_bit():
    check_equal_to_loop(different_meshes("none"))


@pytest.mark.parametrize("kind", ["colors", "cubes"])
def test_batch_of_textured_meshes_equals_single_renderings_bit_for_bit(kind):
    check_equal_to_loop(different_meshes(kind)[:4])


@pytest.mark.parametrize("kind", ["bilinear", "trilinear"])
def test_batch_of_meshes_with_uv_textures_equals_single_renderings_to_rounding(kind):
    check_equal_to_loop(
        different_meshes(kind)[:2], partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), check_close
    )


def test_gradient_of_a_lit_batch_equals_that_of_single_renderings():
    def loss(mesh, vertices):
        return jnp.sum(render(mesh._replace(vertices=vertices)).rgb ** 2)

    meshes = different_meshes("colors")[:2]
    batch = jnr.stack(meshes)
    found = jax.jit(jax.vmap(jax.grad(loss, argnums=1)))(batch, batch.vertices)
    for k, mesh in enumerate(meshes):
        expected = jax.jit(jax.grad(loss, argnums=1))(mesh, mesh.vertices)
        check_close(found[k, : len(expected)], expected)
        assert np.all(found[k, len(expected) :] == 0)


def test_batch_is_padded_to_the_largest_numbers_of_vertices_and_faces():
    cube, ball = jnr.shapes.cube(), jnr.shapes.icosphere(1)
    batch = jnr.stack([cube, ball])
    assert batch.vertices.shape == (2, 42, 3)
    assert batch.faces.shape == (2, 80, 3)
    np.testing.assert_array_equal(batch.vertices[0, 8:], 0)
    np.testing.assert_array_equal(batch.faces[0, 12:], -1)
    np.testing.assert_array_equal(batch.faces[1], ball.faces)
    assert batch.textures is None


def test_mesh_without_textures_is_white_beside_textured_ones():
    cube = jnr.shapes.cube()
    textures = {
        "colors": jnp.full((8, 3), 0.25),
        "cubes": jnp.full((12, 2, 2, 2, 3), 0.25),
        "image": jnr.UVTexture(jnp.full((2, 2, 3), 0.25), jnp.zeros((8, 2))),
        "corners": jnr.UVTexture(jnp.full((2, 2, 3), 0.25), jnp.zeros((1, 2)), jnp.zeros((12, 3), jnp.int32)),
    }
    ball = jnr.shapes.icosphere(1)
    for texture in textures.values():
        batch = jnr.stack([ball, cube._replace(textures=texture)])
        renderings = jax.vmap(lambda mesh: jnr.render(*mesh, lights=(), image_size=8).rgb)(batch)
        assert set(np.unique(np.round(renderings[0], 5))) == {0, 1}
        assert set(np.unique(np.round(renderings[1], 5))) == {0, 0.25}
        scene = jnr.concatenate([ball._replace(vertices=ball.vertices - 2), cube._replace(textures=texture)])
        assert set(np.unique(np.round(jnr.render(*scene, lights=(), image_size=48).rgb, 5))) == {0, 0.25, 1}


@pytest.mark.parametrize("kind", ["none", "colors", "cubes", "bilinear"])
def test_scene_shows_each_mesh_where_it_is_nearest(kind):
    meshes = [
        mesh._replace(vertices=mesh.vertices * 0.5 + jnp.asarray([np.cos(k), np.sin(k), k / 10]))
        for k, mesh in enumerate(different_meshes(kind)[:5])
    ]
    scene = jnr.concatenate(meshes)
    assert len(scene.vertices) == sum(len(mesh.vertices) for mesh in meshes)
    whole = jnr.render(*scene, image_size=SIZE)
    parts = [jnr.render(*mesh, image_size=SIZE) for mesh in meshes]
    nearest = np.argmin([part.depth for part in parts], axis=0)
    for name in ("rgb", "alpha", "depth", "normals"):
        expected = np.stack([np.asarray(getattr(part, name)) for part in parts])
        expected = np.take_along_axis(expected, nearest.reshape(1, SIZE, SIZE, *[1] * (expected.ndim - 3)), axis=0)[0]
        np.testing.assert_allclose(getattr(whole, name), expected, atol=1e-5)
    assert len(np.unique(nearest[np.asarray(whole.alpha) == 1])) == 5


def test_textures_of_a_scene_keep_their_own_wrap():
    plane = jnr.shapes.plane()
    rng = np.random.default_rng(0)
    meshes = [
        jnr.Mesh(
            plane.vertices + jnp.array([k - 0.5, 0, 0]),
            plane.faces,
            jnr.UVTexture(rng.uniform(size=(4, 4 + k, 3)).astype(np.float32), plane.vertices[:, :2] * 4, wrap=wrap),
        )
        for k, wrap in enumerate(("clamp", "mirror"))
    ]
    whole = jnr.render(*jnr.concatenate(meshes), image_size=SIZE).rgb
    np.testing.assert_allclose(whole, sum(jnr.render(*mesh, image_size=SIZE).rgb for mesh in meshes), atol=1e-6)


def test_sizes_of_padded_images_are_kept_in_scenes_and_batches():
    plane = jnr.shapes.plane()
    images = [jnp.full((2, 5, 3), 0.25), jnp.full((4, 3, 3), 0.75)]
    meshes = [plane._replace(textures=jnr.UVTexture(image, plane.vertices[:, :2])) for image in images]
    batch = jnr.stack(meshes)
    parts = [jax.tree.map(lambda leaf, k=k: leaf[k], batch) for k in range(2)]
    scene = jnr.concatenate([*parts, meshes[0]])
    np.testing.assert_array_equal(scene.textures.sizes, [(2, 5), (4, 3), (2, 5)])
    np.testing.assert_array_equal([image.shape for image in scene.textures.images], [(4, 5, 3), (4, 5, 3), (2, 5, 3)])
    again = jnr.stack(parts)
    np.testing.assert_array_equal(again.textures.sizes, [[(2, 5), (4, 3)]])
    np.testing.assert_array_equal(again.textures.images, batch.textures.images)


def test_padding_faces_stay_padding_in_a_scene():
    cube = jnr.shapes.cube()
    padded = cube._replace(faces=jnp.concatenate([cube.faces, jnp.full((2, 3), -1)]))
    scene = jnr.concatenate([padded, padded])
    np.testing.assert_array_equal(scene.faces[12:14], -1)
    np.testing.assert_array_equal(scene.faces[26:], -1)
    np.testing.assert_array_equal(scene.faces[14:26], cube.faces + 8)


def test_batches_and_scenes_are_differentiable():
    ball, cube = jnr.shapes.icosphere(1), jnr.shapes.cube()

    def loss(scale):
        meshes = [ball._replace(vertices=ball.vertices * scale), cube._replace(vertices=cube.vertices * scale)]
        batch = jnr.stack(meshes)
        alphas = jax.vmap(lambda v, f: jnr.render_silhouette(v, f, image_size=16))(batch.vertices, batch.faces)
        scene = jnr.concatenate(meshes)
        return -jnp.sum(alphas) - jnp.sum(jnr.render_silhouette(scene.vertices, scene.faces, image_size=16))

    assert jax.grad(loss)(0.5) < 0  # scaling up covers more pixels


def test_normalized_mesh_fills_the_unit_box_as_in_neural_renderer():
    mesh = jnr.shapes.teapot(3)
    mesh = mesh._replace(vertices=mesh.vertices * 7 + jnp.array([100.0, -3, 5]), textures=mesh.vertices)
    result = jnr.normalize(mesh)
    # The operations of Neural Renderer's load_obj, in its order.
    expected = np.asarray(mesh.vertices) - np.asarray(mesh.vertices).min(0)
    expected /= np.abs(expected).max()
    expected *= 2
    expected -= expected.max(0) / 2
    np.testing.assert_allclose(result.vertices, expected, atol=1e-5)
    np.testing.assert_allclose(np.abs(result.vertices).max(), 1, atol=1e-6)
    assert result.faces is mesh.faces
    assert result.textures is mesh.textures


def textured(**changes):
    texture = jnr.UVTexture(np.zeros((2, 2, 3)), np.zeros((8, 2)))
    return jnr.shapes.cube()._replace(textures=dataclasses.replace(texture, **changes))


CUBE = jnr.shapes.cube()
INVALID = {
    "none": (jnr.stack, [], ValueError, r"meshes must hold at least one mesh, got none\."),
    "mesh": (jnr.concatenate, CUBE, TypeError, r"meshes must be a sequence of meshes, got Mesh\."),
    "kinds": (
        jnr.stack,
        [CUBE._replace(textures=np.zeros((8, 3))), textured()],
        ValueError,
        r"meshes must have textures of one kind, got UV textures and vertex colours\. See jnr\.uv_to_cubes",
    ),
    "cubes": (
        jnr.concatenate,
        [CUBE._replace(textures=np.zeros((12, t, t, t, 3))) for t in (2, 3)],
        ValueError,
        r"meshes must have textures of one size but for their length, got \(2, 2, 2, 3\), \(3, 3, 3, 3\)\.",
    ),
    "filters": (
        jnr.concatenate,
        [textured(), textured(filter="nearest")],
        ValueError,
        r"meshes must have one filter, got bilinear, nearest\.",
    ),
    "wraps": (jnr.stack, [textured(), textured(wrap="clamp")], ValueError, r"meshes must have one wrap, got"),
    "channels": (
        jnr.stack,
        [textured(), textured(images=np.zeros((2, 2, 4)))],
        ValueError,
        r"meshes must have images of one number of channels, got 3, 4\.",
    ),
    "uv_faces": (
        jnr.stack,
        [textured(), textured(uv_faces=np.zeros((12, 3), int))],
        ValueError,
        r"meshes must have uv_faces all or none, got True, False\.",
    ),
    "borders": (
        jnr.concatenate,
        [textured(wrap="border", border=0.0), textured(wrap="border", border=1.0)],
        ValueError,
        r"meshes must have one border, got 0\.0, 1\.0\.",
    ),
    "vertices": (
        jnr.stack,
        [CUBE._replace(vertices=np.zeros((8, 2)))],
        ValueError,
        r"vertices must have shape \(vertices, 3\), got \(8, 2\)\.",
    ),
    "one_place": (
        jnr.normalize,
        CUBE._replace(vertices=np.ones((8, 3))),
        ValueError,
        r"vertices must not all coincide, got a bounding box of size 0\.",
    ),
    "empty": (jnr.normalize, CUBE._replace(vertices=np.zeros((0, 3))), ValueError, r"vertices must not be empty"),
}


@pytest.mark.validation
@pytest.mark.parametrize(("function", "argument", "error", "message"), INVALID.values(), ids=INVALID)
def test_incompatible_meshes_are_an_error_with_the_reason(function, argument, error, message):
    with pytest.raises(error, match=f"^{message}"):
        function(argument)


@pytest.mark.validation
def test_scene_with_too_many_vertices_for_32_bit_indices_is_an_error():
    large = jnr.Mesh(jax.ShapeDtypeStruct((2**30, 3), jnp.float32), jax.ShapeDtypeStruct((1, 3), jnp.int32))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^meshes must have fewer than 2\*\*31 vertices in all, got 2147483648\."):
        jax.eval_shape(lambda *meshes: jnr.concatenate(meshes), large, large)


def test_batch_of_images_that_differ_in_width_alone_equals_single_renderings():
    plane = jnr.shapes.plane()
    images = [jnp.asarray(np.random.default_rng(0).uniform(size=(2, width, 3)), jnp.float32) for width in (2, 5)]
    uv = plane.vertices[:, :2] + 0.5
    meshes = [plane._replace(textures=jnr.UVTexture(image, uv, filter="nearest")) for image in images]

    def render(mesh):
        return jnr.render(mesh, lights=(), image_size=6).rgb

    batch = jnr.stack(meshes)
    assert isinstance(batch.textures, jnr.UVTexture)
    assert [size.tolist() for size in batch.textures.sizes or ()] == [[[2, 2], [2, 5]]]
    np.testing.assert_allclose(jax.vmap(render)(batch), jnp.stack([render(mesh) for mesh in meshes]), atol=1e-6)
