"""What `render` returns of the point that each pixel sees: face, instance, position and texture coordinates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jnr

HEIGHT, WIDTH = 20, 28
SIZE = HEIGHT, WIDTH
BALL = jnr.shapes.icosphere(1)
CAMERA = jnr.Camera(jnr.LookAt((1.2, 0.8, 2.2), (0.1, 0.0, 0.0)), jnr.Perspective(50.0))
# Ids of this size are not exact where they are interpolated.
INSTANCE = 7 + 1000 * jnp.arange(len(BALL.faces), dtype=jnp.int32)
UV = jnr.UVTexture(jnp.full((4, 4, 3), 0.5), BALL.vertices[:, :2] * 0.5 + 0.5)
POINT = ("face_index", "instance", "position", "uv")

render = functools.partial(jnr.render, camera=CAMERA, image_size=SIZE)


def pixel_of(camera, points, size=SIZE):
    """Column and row of points in an image; pixel centres are whole numbers."""
    height, width = size
    clip = np.asarray(camera.clip_positions(jnp.asarray(points).reshape(-1, 3), width / height), np.float64)
    ndc = clip[:, :2] / clip[:, 3:]
    return np.stack([(ndc[:, 0] + 1) * width / 2 - 0.5, (1 - ndc[:, 1]) * height / 2 - 0.5], axis=-1)


def test_face_and_instance_are_exact():
    rendering = render(BALL, instance=INSTANCE)
    clip = CAMERA.clip_positions(BALL.vertices, WIDTH / HEIGHT)
    expected = np.asarray(jnr.rasterize(clip, BALL.faces, SIZE).face_index)
    np.testing.assert_array_equal(rendering.face_index, expected)
    np.testing.assert_array_equal(rendering.instance, np.where(expected >= 0, INSTANCE[expected], -1))
    assert rendering.face_index.dtype == rendering.instance.dtype == jnp.int32
    assert len(np.unique(rendering.instance)) > 20
    np.testing.assert_array_equal(render(BALL).instance, np.where(expected >= 0, 0, -1))


@pytest.mark.parametrize("antialias", [2, 3])
def test_antialiased_pixel_has_the_point_of_the_sample_nearest_its_centre(antialias):
    samples = render(BALL, textures=UV, instance=INSTANCE, image_size=(HEIGHT * antialias, WIDTH * antialias))
    rendering = render(BALL, textures=UV, instance=INSTANCE, antialias=antialias)
    middle = slice(antialias // 2, None, antialias)
    for name in POINT:
        # float32; another size of the picture is another program
        expected = np.asarray(getattr(samples, name))[middle, middle]
        np.testing.assert_allclose(getattr(rendering, name), expected, atol=1e-6)


@pytest.mark.parametrize("antialias", [1, 3])
def test_position_projects_to_the_pixel_that_sees_it_and_has_its_depth(antialias):
    rendering = render(BALL, antialias=antialias)
    seen = np.asarray(rendering.face_index) >= 0
    assert 0.2 < seen.mean() < 0.9
    np.testing.assert_array_equal(np.asarray(rendering.position)[~seen], 0)
    points = np.asarray(rendering.position)[seen]
    row, column = np.nonzero(seen)
    # float32 barycentrics, in pixels
    np.testing.assert_allclose(pixel_of(CAMERA, points), np.stack([column, row], axis=-1), atol=1e-4)
    if antialias == 1:
        np.testing.assert_allclose(CAMERA.depth(points), np.asarray(rendering.depth)[seen], rtol=1e-5)


def test_texture_coordinates_are_those_of_the_position():
    rendering = render(BALL, textures=UV)
    seen = (np.asarray(rendering.face_index) >= 0)[..., None]
    # They are linear in the position. float32
    np.testing.assert_allclose(rendering.uv, np.where(seen, rendering.position[..., :2] * 0.5 + 0.5, 0), atol=1e-6)
    assert render(BALL).uv.shape == (*SIZE, 0)


def test_texture_coordinates_of_corners_and_of_faces_without_them():
    uv_faces = BALL.faces.at[::2].set(-1)
    rendering = render(BALL, textures=jnr.UVTexture(UV.images, UV.uv, uv_faces))
    without = np.asarray(rendering.face_index) % 2 == 0
    assert without.sum() > 20
    np.testing.assert_array_equal(np.asarray(rendering.uv)[without], 0)
    np.testing.assert_array_equal(
        np.asarray(rendering.uv)[~without], np.asarray(render(BALL, textures=UV).uv)[~without]
    )


def test_derivatives_of_position_and_texture_coordinates_equal_finite_differences():
    @jax.jit
    def images(vertices, eye, uv):
        camera = jnr.Camera(jnr.LookAt(eye), jnr.Perspective(50.0))
        texture = jnr.UVTexture(jnp.ones((2, 2, 3)), uv)
        rendering = jnr.render(vertices, BALL.faces, texture, camera=camera, lights=(), image_size=8, gradient=None)
        return rendering.position, rendering.uv

    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        vertices = np.asarray(BALL.vertices, np.float64) + rng.normal(0, 0.05, BALL.vertices.shape)
        arguments = vertices, np.array([1.2, 0.8, 2.2]), rng.uniform(size=(len(vertices), 2))
        # float64 central differences of step 1e-6 are accurate to about 1e-8
        options = {"modes": ("fwd", "rev"), "atol": 1e-6, "rtol": 1e-6, "eps": 1e-6}
        check_grads(lambda *a: images(*map(jnp.asarray, a)), arguments, 1, **options)


@pytest.mark.parametrize("gradient", ["edge_sweep", "boundary"])
def test_position_and_texture_coordinates_have_no_visibility_gradient(gradient):
    def loss(vertices, gradient):
        rendering = render(vertices, BALL.faces, UV, lights=(), gradient=gradient)
        return jnp.sum(rendering.position[..., 0]) + jnp.sum(rendering.uv * rendering.uv)

    expected = jax.grad(loss)(BALL.vertices, None)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(jax.grad(loss)(BALL.vertices, gradient), expected, rtol=1e-5, atol=1e-5)  # float32


@pytest.mark.parametrize("gradient", [None, "boundary"])
def test_whole_renderings_can_be_differentiated_in_both_modes(gradient):
    @jax.jit
    def draw(vertices):
        options = {"lights": (), "image_size": 6, "antialias": 2, "gradient": gradient}
        return jnr.render(vertices, BALL.faces, UV, instance=INSTANCE, **options)

    tangent = jnp.ones_like(BALL.vertices)
    rendering, push = jax.linearize(draw, BALL.vertices)
    change = push(tangent)
    assert change.face_index.dtype == change.instance.dtype == jax.dtypes.float0
    _, pull = jax.vjp(draw, BALL.vertices)
    (pulled,) = pull(jax.tree.map(lambda x: np.ones(x.shape, x.dtype), change))
    total = sum(np.asarray(x, np.float64).sum() for x in change if x.dtype != jax.dtypes.float0)
    np.testing.assert_allclose(np.sum(pulled), total, rtol=1e-3, atol=1e-3)  # float32 sums of a thousand terms
    batch = jax.vmap(draw)(jnp.stack([BALL.vertices, BALL.vertices * 0.5]))
    for image, one in zip(batch, rendering, strict=True):
        np.testing.assert_allclose(image[0], one, atol=1e-6)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("instance", "error", "message"),
    [
        (np.zeros(5, int), ValueError, r"instance must have shape \(80,\), got \(5,\)\."),
        (np.zeros((80, 1), int), ValueError, r"instance must have shape \(80,\), got \(80, 1\)\."),
        (np.zeros(80, np.float32), TypeError, r"instance must be integers, got dtype float32\."),
        (np.full(80, -2), ValueError, r"instance must hold numbers of instances from 0 .*\(or -1 .*, got -2 to -2\."),
        (np.full(80, 2**31), ValueError, r"instance must hold numbers of instances from 0 to 2147483647"),
    ],
    ids=["length", "rank", "floats", "negative", "64_bits"],
)
def test_invalid_instance_is_named_in_the_error(instance, error, message):
    with pytest.raises(error, match=f"^{message}"):
        render(BALL, instance=instance)
