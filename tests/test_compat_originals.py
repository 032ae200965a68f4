"""The test suites of Neural Renderer's two versions in our words: their cases, numbers and tolerances, for both.

Their reference pictures are replaced by closed forms and by data recorded from the originals (tests/golden.py).
"""

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr
from jnr.compat import neural_renderer as nr
from jnr.compat.neural_renderer import chainer

RENDERERS = {"port": lambda: nr.Renderer(camera_mode="look_at"), "chainer": chainer.Renderer}


@pytest.fixture(params=RENDERERS.values(), ids=list(RENDERERS))
def renderer(request):
    """A renderer of 64 x 64 pixels without antialiasing and without shading."""
    renderer = request.param()
    renderer.image_size, renderer.anti_aliasing = 64, False
    renderer.light_intensity_ambient, renderer.light_intensity_directional = 1.0, 0.0
    return renderer


def rgb(renderer, *mesh):
    images = renderer.render(*mesh)
    return images[0] if isinstance(images, tuple) else images


def item_of_four(k, *arrays):
    """Returns batches of four with the arrays as item k; the others are zeros: one point, listed as every face."""
    batches = [np.zeros((4, *array.shape), array.dtype) for array in arrays]
    for batch, array in zip(batches, arrays, strict=True):
        batch[k] = array
    return batches


def white(faces):
    return np.ones((len(faces), 4, 4, 4, 3), np.float32)


# --- functions


def test_cross_product_and_its_derivative_are_numpys():
    a, b, weight = np.random.default_rng(0).normal(size=(3, 10, 3)).astype(np.float32)
    product, pull = jax.vjp(nr.cross, a, b)
    np.testing.assert_allclose(product, np.cross(a, b), rtol=1e-5, atol=1e-6)
    for found, expected in zip(pull(weight), (np.cross(b, weight), np.cross(weight, a)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_lighting_of_random_faces_is_ambient_plus_the_cosine():
    rng = np.random.default_rng(0)
    faces, textures = rng.normal(size=(64, 16, 3, 3)), rng.normal(size=(64, 16, 2, 2, 2, 3))
    normal = np.cross(faces[:, :, 0] - faces[:, :, 1], faces[:, :, 2] - faces[:, :, 1])
    light = 0.5 + 0.5 * np.maximum(normal[..., 1] / np.linalg.norm(normal, axis=-1), 0)
    found = nr.lighting(faces.astype(np.float32), textures.astype(np.float32))
    np.testing.assert_allclose(found, textures * light[..., None, None, None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("eye", "expected"),
    [
        ((1, 0, 1), (-(0.5**0.5), 0, 0.5**0.5)),
        ((0, 0, -10), (1, 0, 10)),
        ((-1, 1, 0), (0, 0.5**0.5, 1.5 * 2**0.5)),
    ],
)
def test_point_is_seen_from_three_eyes(eye, expected):
    point = np.array([[[1, 0, 0]]], np.float32)
    np.testing.assert_allclose(nr.look_at(point, np.array(eye, np.float32))[0, 0], expected, rtol=1e-5, atol=1e-7)


def test_point_is_projected_with_an_angle_of_30_degrees():
    point = np.array([[[1, 2, 10]]], np.float32)
    np.testing.assert_allclose(nr.perspective(point)[0, 0], (3**0.5 / 10, 3**0.5 / 5, 10), rtol=1e-5)


# --- files


def test_tetrahedron_is_loaded_with_and_without_normalization(tmp_path):
    path = tmp_path / "tetrahedron.obj"
    path.write_text("v 1 0 0\nv 0 1 0\nv 0 0 1\nv 0 0 0\nf 2 4 3\nf 4 2 1\nf 3 1 2\nf 1 3 4\n")
    expected = np.eye(4, 3)
    for normalization, corners in ((False, expected), (True, 2 * expected - 1)):
        vertices, faces = nr.load_obj(path, normalization)
        np.testing.assert_allclose(vertices, corners, atol=1e-7)
        np.testing.assert_array_equal(faces, [[1, 3, 2], [3, 1, 0], [2, 0, 1], [0, 2, 3]])


def test_teapot_is_saved_and_loaded(tmp_path):
    teapot = golden.load("teapot_mesh")
    path = tmp_path / "teapot.obj"
    nr.save_obj(path, teapot["vertices"], teapot["faces"])
    vertices, faces = nr.load_obj(path)
    assert (vertices.shape, faces.shape) == ((1292, 3), (2464, 3))
    # It was normalised when it was recorded.
    np.testing.assert_allclose(vertices, teapot["vertices"], atol=1e-6)
    np.testing.assert_array_equal(faces, teapot["faces"])


# --- images


def covered_pixels(corners):
    """Returns which pixel centres lie in a triangle, from screen coordinates (faces, 3, 2), row 0 at the top."""
    centre = (2 * np.arange(64) - 63) / 64
    x, y = np.meshgrid(centre, -centre)
    covered = np.zeros((64, 64), bool)
    for face in corners.astype(float):
        sides = []
        for (ax, ay), (bx, by) in zip(face, np.roll(face, -1, axis=0), strict=True):
            sides.append((bx - ax) * (y - ay) - (by - ay) * (x - ax))
        covered |= np.all(np.array(sides) >= 0, axis=0) | np.all(np.array(sides) <= 0, axis=0)
    return covered


def test_every_image_covers_the_projected_faces_and_empty_meshes_cover_nothing(renderer):
    ball = jnr.shapes.icosphere(1)
    vertices, faces, textures = item_of_four(2, np.asarray(ball.vertices), np.asarray(ball.faces), white(ball.faces))

    @jax.jit
    def drawn(vertices, eye):
        renderer.eye = eye
        color = rgb(renderer, vertices, faces, textures)
        return color, renderer.render_silhouettes(vertices, faces), renderer.render_depth(vertices, faces)

    for eye in (renderer.eye, [1, 1, -2.7]):
        color, alpha, depth = drawn(vertices, np.array(eye, np.float32))
        seen = np.asarray(nr.perspective(nr.look_at(vertices, eye)))[2]
        expected = covered_pixels(seen[faces[2]][..., :2])
        assert 1000 < expected.sum() < 3000
        np.testing.assert_array_equal(alpha[2], expected)
        np.testing.assert_array_equal(np.asarray(depth[2]) != 100, expected)
        np.testing.assert_allclose(np.mean(color[2], axis=0), expected, atol=1e-6)
        others = np.array([0, 1, 3])
        np.testing.assert_array_equal(alpha[others], 0)
        np.testing.assert_array_equal(color[others], 0)
        np.testing.assert_array_equal(depth[others], 100)


def test_faces_listed_twice_show_the_side_that_faces_the_camera(renderer):
    # As in ShapeNet's models, most triangles are listed once each way round, here with different textures. Of two
    # listings the original draws the one that is counter-clockwise in the image, and of one listing both sides.
    case = golden.load("e2e_doubled_is48")
    renderer.image_size, renderer.anti_aliasing, renderer.eye = 48, True, case["cfg_eye"].tolist()

    @jax.jit
    def drawn(vertices, textures):
        renderer.light_intensity_ambient = renderer.light_intensity_directional = 0.5
        lit = rgb(renderer, vertices, case["faces"], textures)
        renderer.light_intensity_ambient, renderer.light_intensity_directional = 1.0, 0.0
        _, pull = jax.vjp(lambda *mesh: rgb(renderer, mesh[0], case["faces"], mesh[1]), vertices, textures)
        depth = renderer.render_depth(vertices, case["faces"])
        return lit, depth, renderer.render_silhouettes(vertices, case["faces"]), pull(case["g_rgb"])

    color, depth, alpha, (grad_vertices, grad_textures) = drawn(case["vertices"], case["textures"])
    np.testing.assert_allclose(alpha, case["alpha"], atol=1e-6)
    np.testing.assert_allclose(depth, case["depth"], atol=1e-4)
    np.testing.assert_allclose(color, case["rgb"], atol=1e-4)
    # golden/README.md, section 6
    assert golden.relative_l2(np.asarray(grad_vertices), case["grad_vertices_ambient"]) < 5e-3
    assert golden.relative_l2(np.asarray(grad_textures), case["grad_textures_ambient"]) < 3e-3


# --- gradients

# A triangle, the row and column of one pixel, its wanted value, and the gradient of the absolute difference.
OUTSIDE = (
    ((0.8, 0.8, 1), (0, -0.5, 1), (0.2, -0.4, 1)),
    (25, 35, 1),
    ((1.6725862, -0.26021874, 0), (1.41986704, -1.64284933, 0), (0, 0, 0)),
)
INSIDE = (
    ((0.8, 0.8, 1), (-0.5, -0.8, 1), (0.8, -0.8, 1)),
    (40, 50, 0),
    ((0.98646867, 1.04628897, 0), (-1.03415668, -0.10403691, 0), (3.00094461, -1.55173182, 0)),
)


@pytest.mark.parametrize("image", ["rgb", "silhouettes"])
def test_gradient_of_one_pixel_is_the_published_one(renderer, image):
    renderer.perspective = False

    @jax.jit
    def gradient(vertices, faces, textures, row, column, wanted):
        def loss(vertices):
            if image == "rgb":
                images = jnp.mean(rgb(renderer, vertices, faces, textures), axis=1)
            else:
                images = renderer.render_silhouettes(vertices, faces)
            return jnp.sum(jnp.abs(images[:, row, column] - wanted))

        return jax.grad(loss)(vertices)

    for triangle, pixel, expected in (OUTSIDE, INSIDE):
        arrays = np.array(triangle, np.float32), np.array([[0, 1, 2]], np.int32), white([0])
        found = gradient(*item_of_four(2, *arrays), *(jnp.float32(p) if p < 2 else p for p in pixel))
        # The port's test has atol=1e-8; zeros are sums of two terms, here up to 6e-8.
        np.testing.assert_allclose(found, item_of_four(2, np.array(expected))[0], rtol=1e-2, atol=2e-7)


SLOPED = np.array([[-0.9, -0.9, 2], [-0.8, 0.8, 1], [0.8, 0.8, 0.5]], np.float32)


def test_depth_of_screen_coordinates_and_its_gradient(renderer):
    # The originals look at an item of the batch that holds nothing; this looks at the triangle.
    renderer.perspective, renderer.camera_mode = False, "none"
    vertices, faces = item_of_four(0, SLOPED, np.array([[0, 1, 2]], np.int32))

    @jax.jit
    def drawn(vertices):
        loss = lambda vertices: jnp.sum((renderer.render_depth(vertices, faces)[:, 15, 20] - 1) ** 2)  # noqa: E731
        return renderer.render_depth(vertices, faces), jax.grad(loss)(vertices)

    # 1 / z is linear in the image.
    x, y = (2 * 20 - 63) / 64, -(2 * 15 - 63) / 64

    def depth_at_pixel(vertices):
        corners = np.concatenate([vertices[:, :2], np.ones((3, 1))], axis=1)
        return 1 / np.dot((x, y, 1), np.linalg.solve(corners, 1 / vertices[:, 2]))

    depth, gradient = drawn(vertices)
    np.testing.assert_allclose(depth[0, 15, 20], depth_at_pixel(SLOPED.astype(float)), rtol=1e-5)
    np.testing.assert_array_equal(depth[1:], 100)
    expected = np.zeros((4, 3, 3))
    for index in np.ndindex(3, 3):
        step = np.zeros((3, 3))
        step[index] = 1e-5
        above, below = ((depth_at_pixel(SLOPED + sign * step) - 1) ** 2 for sign in (1, -1))
        expected[(0, *index)] = (above - below) / 2e-5
    assert np.abs(expected[0]).min() > 1e-3
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)
