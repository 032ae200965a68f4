"""Neural Renderer's interface against data recorded from both originals (conventions: tests/golden.py)."""

import inspect
from functools import cache
from pathlib import Path
from typing import Any

import golden
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jnr
from jnr.compat import neural_renderer as nr
from jnr.compat.neural_renderer import chainer

cv2 = pytest.importorskip("cv2", reason="calibrated cameras are compared with OpenCV")

ROOT = Path(__file__).parent.parent
TORUS = "e2e_torus_look_is32"
# Weights of the cotangents of rgb, depth and alpha.
OF_RENDER = {"rgba": (1, 0, 1), "rgb": (1, 0, 0), "depth": (0, 1, 0)}


def set_up(renderer, case):
    """Gives a renderer the settings with which the case was recorded."""
    given = {key[4:]: value.tolist() for key, value in case.items() if key.startswith("cfg_")}
    names = {"background": "background_color", "direction": "camera_direction"}
    light = {"i": "light_intensity_", "c": "light_color_", "a": "ambient", "d": "directional"}
    names |= {a + b: light[a] + light[b] for a in "ic" for b in "ad"} | {"ld": "light_direction"}
    for key, value in ({"camera_mode": "look_at"} | given).items():
        name = names.get(key, key)
        assert hasattr(renderer, name)
        setattr(renderer, name, value)
    return renderer


@cache
def scene(name):
    case = golden.load(name)
    return case, set_up(nr.Renderer(), case), *(jnp.asarray(case[key]) for key in ("vertices", "faces", "textures"))


@cache
def pulled_back(name):
    """Returns a function from cotangent weights to the images of `render` and its gradients (vertices, textures)."""
    case, renderer, vertices, faces, textures = scene(name)

    @jax.jit
    def compiled(vertices, textures, cotangents):
        images, pull = jax.vjp(lambda v, t: renderer(v, faces, t), vertices, textures)
        return images, pull(cotangents)

    def run(*weights):
        given = zip(("g_rgb", "g_depth", "g_alpha"), weights, strict=True)
        return compiled(vertices, textures, tuple(jnp.asarray(case[key] * np.float32(w)) for key, w in given))

    return run


@pytest.mark.parametrize("name", golden.E2E_CASES)
def test_renderer_draws_the_originals_images(name):
    case = golden.load(name)
    rgb, depth, alpha = pulled_back(name)(0, 0, 0)[0]
    # golden/README.md, section 6. Parallel projection is among the cases, with the originals' interpolation.
    np.testing.assert_allclose(alpha, case["alpha"], atol=1e-4)
    np.testing.assert_allclose(depth, case["depth"], atol=1e-4)
    np.testing.assert_allclose(rgb, case["rgb"], atol=2e-3 if "teapot" in name else 1e-4)


def check_gradient(case, kind, value):
    reference = case[f"grad_vertices_{kind}"]
    # The difference to the original's own float64 run, at most 3.7e-3, measures the conditioning of a case.
    bound = max(2e-3, 1.5 * golden.relative_l2(case[f"grad_vertices_{kind}_f64"], reference))
    assert bound < 6e-3
    assert golden.relative_l2(np.asarray(value), reference) < bound


@pytest.mark.parametrize("kind", OF_RENDER)
@pytest.mark.parametrize("name", golden.E2E_CASES)
def test_render_has_the_originals_gradients(name, kind):
    case = golden.load(name)
    vertices, textures = pulled_back(name)(*OF_RENDER[kind])[1]
    check_gradient(case, kind, vertices)
    if kind == "depth":
        np.testing.assert_array_equal(textures, 0)
    else:
        assert golden.relative_l2(np.asarray(textures), case["grad_textures"]) < 3e-3


@pytest.mark.parametrize("name", golden.E2E_CASES)
def test_silhouettes_have_the_originals_gradient_of_their_own_eps(name):
    case, renderer, vertices, faces, _ = scene(name)

    @jax.jit
    def compiled(vertices, cotangent):
        alpha, pull = jax.vjp(lambda v: renderer(v, faces, mode="silhouettes"), vertices)
        return alpha, pull(cotangent)[0]

    alpha, grad = compiled(vertices, case["g_alpha"])
    np.testing.assert_allclose(alpha, case["alpha"], atol=1e-4)
    check_gradient(case, "silhouettes", grad)


def test_calls_for_one_image_have_its_values_and_gradients():
    case, renderer, vertices, faces, textures = scene(TORUS)

    @jax.jit
    def compiled(vertices):
        rgb, from_rgb = jax.vjp(lambda v: renderer(v, faces, textures, mode="rgb"), vertices)
        depth, from_depth = jax.vjp(lambda v: renderer(v, faces, mode="depth"), vertices)
        return rgb, depth, from_rgb(case["g_rgb"])[0], from_depth(case["g_depth"])[0]

    rgb, depth, from_rgb, from_depth = compiled(vertices)
    expected = pulled_back(TORUS)(0, 0, 0)[0]
    np.testing.assert_allclose(rgb, expected[0], atol=1e-6)
    np.testing.assert_allclose(depth, expected[1], atol=1e-6)
    check_gradient(case, "rgb", from_rgb)
    check_gradient(case, "depth", from_depth)
    # The argument names of the originals.
    names = ["vertices", "faces", "textures", "mode", "K", "R", "t", "dist_coeffs", "orig_size"]
    assert [*inspect.signature(renderer.forward).parameters] == names


def test_parallel_rays_are_interpolated_as_under_perspective_unlike_in_jnr():
    case, renderer, vertices, faces, _ = scene("e2e_ico_ortho_is32")
    camera = jnr.Camera(jnr.LookAt(renderer.eye, handedness="left"), jnr.Orthographic(1.0))
    options = {"camera": camera, "image_size": 32, "antialias": 2, "cull": "back"}
    linear = jax.jit(lambda vertices: jnr.render_depth(vertices, faces[0], **options))(vertices[0])
    inside = case["alpha"][0] == 1
    # Linear and perspective interpolation agree at corners and differ inside faces; the originals use the latter.
    assert 1e-3 < np.abs(linear - case["depth"][0])[inside].max() < 3e-2


def test_chainers_renderer_draws_rgb_alone_and_takes_camera_space():
    case, _, vertices, faces, textures = scene(TORUS)
    renderer = set_up(chainer.Renderer(), case)

    @jax.jit
    def compiled(vertices):
        seen = chainer.look(vertices, renderer.eye, renderer.camera_direction)
        renderer.camera_mode = "look"
        images = renderer.render(vertices, faces, textures), renderer.render_silhouettes(vertices, faces)
        renderer.camera_mode = "projection"  # an unknown name: vertices in camera space
        return *images, renderer.render_silhouettes(seen, faces), renderer.render_depth(seen, faces)

    rgb, alpha, same_alpha, depth = compiled(vertices)
    np.testing.assert_allclose(rgb, case["rgb"], atol=1e-4)
    np.testing.assert_array_equal(alpha, case["kato_silhouettes"])
    np.testing.assert_array_equal(same_alpha, case["kato_silhouettes"])
    np.testing.assert_allclose(depth, case["depth"], atol=1e-4)


# --- settings

DEFAULTS = {
    "image_size": 256,
    "anti_aliasing": True,
    "background_color": (0, 0, 0),
    "fill_back": True,
    "perspective": True,
    "viewing_angle": 30,
    "eye": (0, 0, -(3**0.5 + 1)),
    "camera_direction": (0, 0, 1),
    "near": 0.1,
    "far": 100,
    "light_intensity_ambient": 0.5,
    "light_intensity_directional": 0.5,
    "light_color_ambient": (1, 1, 1),
    "light_color_directional": (1, 1, 1),
    "light_direction": (0, 1, 0),
    "rasterizer_eps": 1e-3,
    "silhouettes_eps": 1e-4,
}


@pytest.mark.parametrize(("make", "camera_mode"), [(nr.Renderer, "projection"), (chainer.Renderer, "look_at")])
def test_defaults_are_the_originals(make, camera_mode):
    renderer = make()
    assert renderer.camera_mode == camera_mode
    for name, value in DEFAULTS.items():
        np.testing.assert_allclose(getattr(renderer, name), value, rtol=1e-6, err_msg=name)
    assert (renderer.K, renderer.R, renderer.t, renderer.orig_size) == (None, None, None, 1024)
    np.testing.assert_array_equal(renderer.dist_coeffs, np.zeros((1, 5)))


@pytest.mark.validation
def test_constructor_takes_the_ports_arguments_in_its_order():
    names = [
        *("image_size", "anti_aliasing", "background_color", "fill_back", "camera_mode", "K", "R", "t", "dist_coeffs"),
        *("orig_size", "perspective", "viewing_angle", "camera_direction", "near", "far", "light_intensity_ambient"),
        *("light_intensity_directional", "light_color_ambient", "light_color_directional", "light_direction"),
    ]
    values: dict[int, Any] = dict(enumerate(names)) | {4: "look"} | {11: 45}
    renderer = nr.Renderer(*values.values())
    for k, name in enumerate(names):
        assert getattr(renderer, name) == values[k]
    # The default eye for viewing_angle 45: 1 / tan(45°) + 1.
    np.testing.assert_allclose(renderer.eye, (0, 0, -2))


BALL = jnr.shapes.icosphere(1)
BATCH = (jnp.stack([BALL.vertices, 0.7 * BALL.vertices]), jnp.stack([BALL.faces] * 2))


def small(**settings):
    renderer = nr.Renderer(image_size=16, anti_aliasing=False, camera_mode="look_at")
    for name, value in settings.items():
        setattr(renderer, name, value)
    return renderer


def test_items_of_a_batch_have_settings_of_their_own():
    rows = {
        "eye": np.array([[2, 1, -2], [0, 2, 2]], np.float32),
        "background_color": np.array([[0, 0, 0], [0.2, 0.4, 0.6]], np.float32),
        "light_color_ambient": np.array([[1, 0, 1], [0, 1, 1]], np.float32),
        "light_color_directional": np.array([[1, 1, 0], [1, 1, 1]], np.float32),
        "light_direction": np.array([[0, 1, 0], [1, 0, 0]], np.float32),
    }
    draw = jax.jit(lambda rows: small(**rows)(*(jnp.stack([array[0]] * 2) for array in BATCH)))  # pyright: ignore[reportArgumentType]: unpacked
    found = {
        name: draw({key: row[::-1] if key == name else row for key, row in rows.items()}) for name in (None, *rows)
    }
    turned = draw({name: row[::-1] for name, row in rows.items()})
    for image, expected in zip(turned, found[None], strict=True):
        np.testing.assert_array_equal(image, expected[::-1])
    # Every setting changes the image.
    for name in rows:
        assert np.abs(found[name][0] - found[None][0]).max() > 0.1, name
    # Equal rows give equal images.
    equal = draw({name: np.stack([row[0]] * 2) for name, row in rows.items()})[0]
    np.testing.assert_array_equal(equal[0], found[None][0][0])
    np.testing.assert_array_equal(equal[1], found[None][0][0])


def test_attributes_may_be_traced_and_have_gradients():
    weight = np.random.default_rng(0).uniform(0.5, 1, (2, 3, 16, 16)).astype(np.float32)

    def loss(values):
        rgb, depth, alpha = small(**values)(*BATCH)
        return jnp.sum(rgb * weight) + jnp.mean(depth) + jnp.sum(alpha[:, 4] * 0.1), alpha

    values = {
        "eye": jnp.array([0.3, 0.5, -2.7]),
        "background_color": jnp.array([0.1, 0.2, 0.3]),
        "light_intensity_ambient": jnp.float32(0.4),
        "viewing_angle": jnp.float32(30),
        "far": jnp.float32(50),
    }
    grads, alpha = jax.tree.map(np.asarray, jax.jit(jax.grad(loss, has_aux=True))(values))
    # White faces under white light have the colour of the intensity.
    np.testing.assert_allclose(grads["light_intensity_ambient"], np.sum(weight * alpha[:, None]), rtol=1e-5)
    np.testing.assert_allclose(
        grads["background_color"], np.sum(weight * (1 - alpha[:, None]), axis=(0, 2, 3)), rtol=1e-5
    )
    np.testing.assert_allclose(grads["far"], np.mean(1 - alpha), rtol=1e-5)
    for name in ("eye", "viewing_angle"):
        assert np.all(np.isfinite(grads[name]))
        assert np.all(grads[name] != 0)


def test_near_and_far_hold_for_every_image():
    # The eye is 2.732 from the centre of a ball of radius 1: its front is nearer than 2.5, all of it nearer than 4.
    @jax.jit
    def drawn(near, far):
        renderer = small(near=near, far=far)
        return renderer.render_depth(*BATCH), renderer.render_silhouettes(*BATCH)

    middle = np.s_[:, 8, 8]
    assert np.all(drawn(0.1, 100.0)[0][middle] < 2.5)
    depth, alpha = drawn(2.5, 4.0)
    assert np.all((depth[middle] > 2.5) & (depth[middle] < 4))  # the inside of the back
    assert np.all(depth[alpha == 0] == 4)
    assert np.all(drawn(0.1, 1.5)[1] == 0)


def test_arguments_are_not_changed():
    vertices, faces = (np.array(array) for array in BATCH)
    textures = np.full((2, faces.shape[1], 2, 2, 2, 3), 0.5, np.float32)
    corners = np.array(nr.vertices_to_faces(vertices, faces))
    before = corners.copy()
    # The port's lighting modifies the caller's textures.
    assert np.abs(nr.lighting(corners, textures) - textures).max() > 0.1
    np.testing.assert_array_equal(corners, before)
    np.testing.assert_array_equal(textures, 0.5)
    np.testing.assert_array_equal(vertices, BATCH[0])


ERRORS = {
    "camera_mode": (lambda: nr.Renderer(camera_mode="top"), r"camera_mode must be one of 'projection', 'look', 'look_"),
    "set_camera_mode": (lambda: small(camera_mode="top").render_depth(*BATCH), r"camera_mode must be one of 'project"),
    "mode": (lambda: small()(*BATCH, mode="alpha"), r"mode must be one of None, 'rgb', 'silhouettes', 'depth', got 'a"),  # pyright: ignore[reportArgumentType]: wrong on purpose
    "no_K": (lambda: nr.Renderer()(*BATCH), r"K must be given if camera_mode is 'projection', got None\."),
    "no_batch": (lambda: small()(BATCH[0][0], BATCH[1][0]), r"vertices must have shape \(batch, vertices, 3\), got"),
    "faces": (lambda: small()(BATCH[0], BATCH[1][:1]), r"faces must be an array of shape \(2, faces, 3\), got \(1,"),
    "index": (lambda: small()(BATCH[0], BATCH[1] + 9), r"faces must hold vertex indices from 0 to 41"),
    "eye": (
        lambda: small(eye=np.zeros((3, 3)))(*BATCH),
        r"eye must have 1 axes, or 2 axes of which the first is the batch of length 2 or 1, got shape \(3, 3\)\.",
    ),
    "eye_at_centre": (lambda: small(eye=[0, 0, 0])(*BATCH), r"at must differ from eye"),
    "textures": (lambda: small()(*BATCH, np.ones((2, 9, 2, 2, 2, 3))), r"textures must have shape \(2, 80, t, t, t, c"),
    "lighting": (lambda: nr.lighting(np.zeros((1, 2, 3, 3)), None), r"textures must be texture cubes, got None\."),  # pyright: ignore[reportArgumentType]: wrong on purpose
    "wrapping": (lambda: nr.load_obj("a.obj", texture_wrapping="TILE"), r"texture_wrapping must be one of 'REPEAT'"),
    "filename": (lambda: nr.save_obj("a.ply", *BALL[:2]), r"filename must end in \.obj, got 'a\.ply'\."),
}


@pytest.mark.validation
@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=ERRORS)
def test_impossible_argument_is_an_error_that_names_it(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


# --- functions


def calibrated(seed=0):
    """Calibration, rotation, translation and distortion of two images of 200 x 200."""
    rng = np.random.default_rng(seed)
    focal = rng.uniform(180, 240, (2, 2))
    matrices = np.array([[[f, 0, 97], [0, g, 104], [0, 0, 1]] for f, g in focal], np.float32)
    rotations = np.stack([cv2.Rodrigues(rng.normal(size=3))[0] for _ in range(2)]).astype(np.float32)
    translations = np.concatenate([rng.normal(0, 0.2, (2, 1, 2)), np.full((2, 1, 1), 4)], axis=-1).astype(np.float32)
    distortions = np.array([[0.1, 0.02, 0.01, -0.02, 0.01], [-0.1, 0.03, 0.002, 0.004, 0.0]], np.float32)
    return matrices, rotations, translations, distortions


def test_projection_agrees_with_opencv():
    matrices, rotations, translations, distortions = calibrated()
    points = np.random.default_rng(1).uniform(-1, 1, (2, 30, 3)).astype(np.float32)
    projected = jax.jit(lambda *arrays: nr.projection(points, *arrays, 200))  # pyright: ignore[reportCallIssue]: unpacked
    found = np.asarray(projected(matrices, rotations, translations, distortions))
    for k in range(2):
        given = (points[k], cv2.Rodrigues(rotations[k])[0], translations[k, 0], matrices[k], distortions[k])
        pixels = cv2.projectPoints(*(a.astype(np.float64) for a in given))[0][:, 0]
        # From pixels, with y down, to [-1, 1], with y up.
        expected = (pixels / 100 - 1) * [1, -1]
        np.testing.assert_allclose(found[k, :, :2], expected, atol=2e-5)  # float32
        np.testing.assert_allclose(found[k, :, 2], (points[k] @ rotations[k].T + translations[k])[:, 2], rtol=1e-5)
    # One camera for all, without distortion.
    shared = projected(matrices[0], rotations[0], translations[0], None)
    x, y, z = np.moveaxis(points @ rotations[0].T + translations[0], -1, 0)
    expected = (matrices[0, 0, 0] * x / z - 3) / 100, -(matrices[0, 1, 1] * y / z + 4) / 100
    np.testing.assert_allclose(np.moveaxis(np.asarray(shared), -1, 0), [*expected, z], atol=2e-5)


@pytest.mark.parametrize("shape", [(5,), (1, 5)])
def test_distortion_of_zeros_costs_nothing(shape):
    matrices, rotations, translations, _ = calibrated()
    points = jnp.ones((2, 3, 3))

    def jaxpr(distortion):
        project = lambda v: nr.projection(v, matrices, rotations, translations, distortion, 200)  # noqa: E731
        return str(jax.make_jaxpr(project)(points))

    assert jaxpr(np.zeros(shape)) == jaxpr(None) != jaxpr(np.full(shape, 0.01))


def with_back(faces, textures):
    """What the originals render for fill_back: every face and its reverse, with the cube axes reversed."""
    both = jnp.concatenate([faces, faces[:, :, ::-1]], axis=1)
    return both, jnp.concatenate([textures, textures.transpose(0, 1, 4, 3, 2, 5)], axis=1)


def test_functions_one_by_one_draw_the_originals_image():
    case, renderer, vertices, faces, textures = scene(TORUS)

    @jax.jit
    def drawn(vertices, textures):
        both, cubes = with_back(faces, textures)
        lit = nr.lighting(nr.vertices_to_faces(vertices, both), cubes)
        seen = nr.perspective(nr.look(vertices, renderer.eye, renderer.camera_direction), renderer.viewing_angle)
        return nr.rasterize(nr.vertices_to_faces(seen, both), lit, image_size=32)

    np.testing.assert_allclose(drawn(vertices, textures), case["rgb"], atol=1e-4)


def test_calibrated_camera_draws_what_the_functions_draw():
    matrices, rotations, translations, distortions = calibrated()
    textures = jax.random.uniform(jax.random.key(0), (2, 80, 2, 2, 2, 3))
    camera = (matrices, rotations, translations, distortions, 200)
    renderer = nr.Renderer(16, K=matrices, R=rotations, t=translations, orig_size=200)

    @jax.jit
    def drawn(vertices, direction):
        renderer.light_direction = direction
        faces, cubes = with_back(BATCH[1], textures)
        lit = nr.lighting(nr.vertices_to_faces(vertices, faces), cubes, direction=direction)
        soup = nr.vertices_to_faces(nr.projection(vertices, *camera), faces)
        return renderer(vertices, BATCH[1], textures, dist_coeffs=distortions), nr.rasterize_rgbad(soup, lit, 16)

    (rgb, depth, alpha), images = drawn(BATCH[0], np.array([0.6, 0, 0.8], np.float32))
    np.testing.assert_allclose(alpha, images["alpha"], atol=1e-6)
    np.testing.assert_allclose(depth, images["depth"], atol=1e-4)
    np.testing.assert_allclose(rgb, images["rgb"], atol=1e-5)
    # The light matters: without a direction, or from the other side, the image differs.
    for direction in ([0, 0, 0], [-0.6, 0, -0.8]):
        other = drawn(BATCH[0], np.array(direction, np.float32))[0][0]
        assert np.abs(other - rgb).max() > 0.1
    # Arguments of a call do not change the attributes.
    np.testing.assert_array_equal(renderer.dist_coeffs, 0)


def test_look_at_and_look_put_the_eye_at_the_origin_with_z_forward():
    points = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 1], [0, 1, 0]]], np.float32)
    eye = np.array([[0, 0, -3], [2, 0, 0]], np.float32)
    expected = np.array([[[0, 0, 3], [1, 0, 3], [0, 1, 3]], [[0, 0, 2], [1, 0, 2], [0, 1, 2]]])
    np.testing.assert_allclose(nr.look_at(points, eye), expected, atol=1e-6)
    np.testing.assert_allclose(
        nr.look_at(points, np.add(eye, [0, 1, 0]), at=[0, 1, 0]), expected - [0, 1, 0], atol=1e-6
    )
    np.testing.assert_allclose(nr.look(points, eye, -eye), expected, atol=1e-6)
    # The port's own default direction is parallel to up.
    np.testing.assert_allclose(nr.look(points, [0, 0, -3])[0], expected[0], atol=1e-6)


def test_perspective_divides_by_depth_and_the_half_angles_tangent():
    points = np.array([[[1, 2, 4]], [[3, -1, 2]]], np.float32)
    found = nr.perspective(points, 45.0)
    np.testing.assert_allclose(found, [[[0.25, 0.5, 4]], [[1.5, -0.5, 2]]], rtol=1e-6)
    np.testing.assert_allclose(nr.perspective(points)[..., :2], np.asarray(found)[..., :2] * 3**0.5, rtol=1e-6)
    slope = jax.grad(lambda angle: jnp.sum(nr.perspective(points, angle)[0, 0, 0]))(45.0)
    # The derivative of x / (z tan(angle)) by degrees, at 45, is -2 x / z times pi / 180.
    np.testing.assert_allclose(slope, -0.5 * np.pi / 180, rtol=1e-5)


def test_small_functions_are_their_formulas():
    np.testing.assert_allclose(nr.get_points_from_angles(2.0, 30, 90), (3**0.5, 1, 0), atol=1e-6)
    np.testing.assert_allclose(nr.get_points_from_angles(2.0, 0.0, np.array([0.0, np.pi]), False)[:, 2], (-2, 2))
    a, b = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(nr.cross(a, b), np.cross(a, b), atol=1e-6)
    corners = nr.vertices_to_faces(BATCH[0], BATCH[1].at[0, 0].set(-1))
    np.testing.assert_array_equal(corners[1], np.asarray(BATCH[0])[1][np.asarray(BATCH[1])[1]])
    np.testing.assert_array_equal(corners[0, 0], 0)
    for flag in (True, False):
        assert nr.use_unsafe_rasterizer(flag) is None


def test_lighting_is_ambient_plus_the_cosine():
    # Clockwise seen from +y, which is the lit side.
    face = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    faces = np.stack([face, face[::-1]])[None]
    textures = np.full((1, 2, 2, 2, 2, 3), 0.5, np.float32)
    options = {"color_ambient": (1, 0, 0), "color_directional": [[1, 1, 0.5]], "direction": (0.6, 0.8, 0)}
    lit = nr.lighting(faces, textures, 0.25, 0.5, **options)
    np.testing.assert_allclose(lit[0, 0, 0, 0, 0], [0.5 * (0.25 + 0.4), 0.2, 0.1], rtol=1e-6)
    np.testing.assert_allclose(lit[0, 1, 1, 0, 1], [0.125, 0, 0], atol=1e-7)


# --- rasterizer


def stacked(names):
    """Returns the settings of cases, which must be equal, and their arrays as one batch."""
    cases = [golden.load(name) for name in names]
    settings = [{key: float(case[key]) for key in ("image_size", "near", "far", "eps")} for case in cases]
    assert all(setting == settings[0] for setting in settings)
    for case in cases:
        case["background"] = np.broadcast_to(case["background"], (len(case["faces_xyz"]), 3))
    images = ("rgb_map", "alpha_map", "depth_map", "g_rgb", "g_alpha", "g_depth")
    keys = ("background", "faces_xyz", "textures", "grad_faces_rgba", "grad_faces_depth", "grad_textures", *images)
    batch = {key: np.concatenate([case[key] for case in cases]) for key in keys}
    return settings[0], batch | {key: golden.top_down(batch[key]) for key in images}


RASTERIZED = [("single_tri_case1", "single_tri_case2"), ("soup_F8_is64",), ("batch_meshes",)]


@pytest.mark.parametrize("names", RASTERIZED, ids=["single_tri", "soup", "batch_meshes"])
def test_faces_of_the_screen_are_drawn_as_by_the_original(names):
    settings, case = stacked(names)
    size = int(settings.pop("image_size"))

    @jax.jit
    def compiled(cotangents):
        def images(faces, textures):
            background = case["background"]
            found = nr.rasterize_rgbad(faces, textures, size, False, background_color=background, **settings)  # pyright: ignore[reportArgumentType]: unpacked
            return found["rgb"], found["alpha"], found["depth"]

        found, pull = jax.vjp(images, jnp.asarray(case["faces_xyz"]), jnp.asarray(case["textures"]))
        return found, pull(cotangents)

    g_rgb = np.moveaxis(case["g_rgb"], -1, 1)
    (rgb, alpha, depth), (grad, grad_textures) = compiled((g_rgb, case["g_alpha"], 0 * case["g_depth"]))
    grad_depth = compiled((0 * g_rgb, 0 * case["g_alpha"], case["g_depth"]))[1][0]
    np.testing.assert_array_equal(alpha, case["alpha_map"])
    # Tolerances: golden/README.md, section 6, here and for the gradients.
    np.testing.assert_allclose(depth, case["depth_map"], rtol=1e-4)
    rgb, covered = np.moveaxis(np.asarray(rgb), 1, -1), case["alpha_map"] == 1
    np.testing.assert_allclose(rgb, case["rgb_map"], atol=2e-3)
    np.testing.assert_array_equal(rgb[~covered], case["rgb_map"][~covered])
    # Per item, so that large gradients do not hide errors of small ones.
    for k in range(len(rgb)):
        assert golden.relative_l2(np.asarray(grad)[k], case["grad_faces_rgba"][k]) < 2e-3, k
        assert golden.relative_l2(np.asarray(grad_depth)[k], case["grad_faces_depth"][k]) < 2e-3, k
        assert golden.relative_l2(np.asarray(grad_textures)[k], case["grad_textures"][k]) < 3e-3, k


def test_rasterizers_for_one_image_are_parts_of_the_whole():
    case = golden.load("single_tri_case1")
    faces, textures = case["faces_xyz"], case["textures"]

    @jax.jit
    def drawn(faces, textures):
        parts = nr.rasterize(faces, textures, 16), nr.rasterize_silhouettes(faces, 16), nr.rasterize_depth(faces, 16)
        nothing = nr.rasterize_rgbad(faces, None, 16, return_rgb=False, return_alpha=False, return_depth=False)
        return nr.rasterize_rgbad(faces, textures, 16), parts, nothing

    whole, parts, nothing = drawn(faces, textures)
    for name, part in zip(("rgb", "alpha", "depth"), parts, strict=True):
        np.testing.assert_array_equal(part, whole[name])
    assert set(np.unique(whole["alpha"])) > {0, 1}  # 2 x 2 samples by default
    assert nothing == {"rgb": None, "alpha": None, "depth": None}
    for function in (nr.rasterize_rgbad, nr.rasterize, nr.rasterize_silhouettes, nr.rasterize_depth):
        given = inspect.signature(function).parameters
        expected = {"image_size": 256, "anti_aliasing": True, "near": 0.1, "far": 100, "eps": 1e-4}
        assert expected == {name: given[name].default for name in expected}


# --- files and meshes


def write_square(folder):
    """Writes a square with an image of 2 x 2 texels, and a triangle without a material."""
    image = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    cv2.imwrite(str(folder / "a.png"), image[..., ::-1])
    (folder / "a.mtl").write_text("newmtl a\nmap_Kd a.png\n")
    corners = "v 0 0 0\nv 4 0 0\nv 4 2 0\nv 0 2 0\nvt 1.25 0.25\nvt 1.75 0.25\nvt 1.75 0.75\nvt 1.25 0.75\n"
    path = folder / "a.obj"
    path.write_text(f"mtllib a.mtl\n{corners}f 1 2 3\nusemtl a\nf 1/1 2/2 3/3 4/4\n")
    return path


def test_obj_file_is_loaded_as_the_originals_did(tmp_path):
    path = write_square(tmp_path)
    vertices, faces = nr.load_obj(path)
    np.testing.assert_allclose(vertices, [[-1, -0.5, 0], [1, -0.5, 0], [1, 0.5, 0], [-1, 0.5, 0]])
    np.testing.assert_array_equal(faces, [[0, 1, 2], [0, 1, 2], [0, 2, 3]])
    np.testing.assert_array_equal(nr.load_obj(path, normalization=False)[0], 2 * np.asarray(vertices) + [2, 1, 0])
    corner = {}
    for wrapping in ("REPEAT", "MIRRORED_REPEAT", "CLAMP_TO_EDGE", "CLAMP_TO_BORDER"):
        cubes = nr.load_obj(path, True, 3, True, texture_wrapping=wrapping)[2]
        assert cubes.shape == (3, 3, 3, 3, 3)
        np.testing.assert_array_equal(cubes[0], 0.5)
        corner[wrapping] = np.asarray(cubes)[1, 2, 0, 0].tolist()
    # A quarter beyond the right edge: the lower left texel, its mirror image, the lower right texel, and black.
    assert corner["REPEAT"] == [0, 0, 1]
    assert corner["MIRRORED_REPEAT"] == corner["CLAMP_TO_EDGE"] == [1, 1, 1]
    assert corner["CLAMP_TO_BORDER"] == [0, 0, 0]
    # Half way between the lower texels bilinear sampling mixes them.
    for use_bilinear, expected in ((True, [0.5, 0.5, 1]), (False, [1, 1, 1])):
        cubes = nr.load_obj(path, True, 3, True, use_bilinear=use_bilinear)[2]
        np.testing.assert_allclose(cubes[1, 1, 1, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("lines", "value"),
    [("f 1 2 3\n", 0.5), ("vt 0 0\nf 1/1 2/1 3/1\n", 0.5), ("mtllib b.mtl\nusemtl white\nf 1 2 3\n", 1.0)],
)
def test_obj_file_without_materials_is_grey(tmp_path, lines, value):
    path = tmp_path / "b.obj"
    (tmp_path / "b.mtl").write_text("newmtl white\nKd 1 1 1\n")
    path.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n" + lines)
    np.testing.assert_array_equal(nr.load_obj(path, load_texture=True)[2], np.full((1, 4, 4, 4, 3), value))


def test_saved_mesh_is_loaded_again(tmp_path):
    colors = jax.random.uniform(jax.random.key(0), (BALL.vertices.shape[0], 3))
    textures = jnr.colors_to_cubes(colors, BALL.faces)
    path = tmp_path / "ball.obj"
    nr.save_obj(path, *BALL[:2], textures)
    vertices, faces, cubes = nr.load_obj(path, False, 2, True)
    np.testing.assert_array_equal(vertices, BALL.vertices)
    np.testing.assert_array_equal(faces, BALL.faces)
    # Texels on the plane of the corners, rounded to 8 bits.
    for k in range(3):
        index = (np.s_[:], *np.eye(3, dtype=int)[k])
        np.testing.assert_allclose(np.asarray(cubes)[index], np.asarray(textures)[index], atol=0.51 / 255)
    nr.save_obj(tmp_path / "plain.obj", *BALL[:2])
    np.testing.assert_array_equal(nr.load_obj(tmp_path / "plain.obj", False)[0], BALL.vertices)


def test_mesh_of_the_port_keeps_its_textures(tmp_path):
    textures = jnp.full((80, 2, 2, 2, 3), 0.3)
    np.testing.assert_array_equal(nr.Mesh(*BALL[:2], textures).textures, textures)
    assert nr.Mesh(*BALL[:2], texture_size=3).textures.shape == (80, 3, 3, 3, 3)
    mesh = nr.Mesh.fromobj(write_square(tmp_path), load_texture=True, texture_size=2)
    assert mesh.textures.shape == (3, 2, 2, 2, 3)
    assert float(mesh.vertices.max()) == 1
    assert nr.Mesh.fromobj(tmp_path / "a.obj", normalization=False).textures.shape == (3, 4, 4, 4, 3)


def test_mesh_of_chainer_makes_batches(tmp_path):
    mesh = chainer.Mesh(write_square(tmp_path), texture_size=2)
    assert mesh.to_gpu() is mesh
    # Standard deviation 0.05, as in the originals, estimated from 72 samples.
    assert 0.035 < float(jnp.std(mesh.textures)) < 0.065
    vertices, faces, textures = mesh.get_batch(3)
    assert (vertices.shape, faces.shape, textures.shape) == ((3, 4, 3), (3, 3, 3), (3, 3, 2, 2, 2, 3))
    np.testing.assert_allclose(textures[2], jax.nn.sigmoid(mesh.textures))
    assert float(chainer.Mesh(tmp_path / "a.obj", normalization=False).vertices.max()) == 4


def test_mesh_is_optimised_with_a_learning_rate_for_each_of_its_arrays():
    mesh = nr.Mesh(*BALL[:2], jnp.zeros((80, 2, 2, 2, 3)))
    mesh.set_lr(0.1, 2.0)

    @jax.jit
    def step(mesh, state):
        def loss(mesh):
            vertices, _, textures = mesh.get_batch(2)
            return jnp.sum(vertices) + jnp.sum(textures)

        updates, state = optimizer.update(jax.grad(loss)(mesh), state, mesh)
        return optax.apply_updates(mesh, updates), state

    optimizer = nr.optimizers.with_rates(optax.sgd(1.0))
    state = optimizer.init(mesh)  # pyright: ignore[reportArgumentType]: a pytree
    for k in (1, 2):
        moved, state = step(mesh, state)
        np.testing.assert_allclose(moved.vertices, mesh.vertices - 0.2, atol=1e-6)
        # The derivative of the sigmoid at 0 is 1/4.
        assert k == 2 or np.allclose(moved.textures, -2.0 * 2 * 0.25)
        mesh = moved
    assert isinstance(mesh, nr.Mesh)
    np.testing.assert_array_equal(mesh.faces, BALL.faces)
    assert step._cache_size() == 1


def test_static_fields_are_equal_if_faces_and_rates_are():
    mesh, same, turned, slow = (nr.Mesh(*BALL[:2]) for _ in range(4))
    turned.faces = turned.faces[:, ::-1]
    slow.set_lr(0.1, 1.0)
    constants = {own.tree_flatten()[1]: own for own in (mesh, same, turned, slow)}
    assert list(constants.values()) == [same, turned, slow]


def test_parameters_beside_a_mesh_keep_their_own_rate():
    mesh = nr.Mesh(*BALL[:2])
    mesh.set_lr(0.1, 0.0)
    params = {"mesh": mesh, "light": jnp.ones(3)}
    optimizer = nr.optimizers.with_rates(optax.sgd(1.0))
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params))
    np.testing.assert_array_equal(updates["light"], -1)
    np.testing.assert_allclose(updates["mesh"].vertices, -0.1)
    np.testing.assert_array_equal(updates["mesh"].textures, 0)


def test_adam_does_not_move_vertices_without_a_gradient():
    mesh = nr.Mesh(*BALL[:2], jnp.zeros((80, 2, 2, 2, 3)))
    mesh.set_lr(0.5, 1.0)
    optimizer = nr.optimizers.Adam(alpha=0.1)
    grad = jax.grad(lambda mesh: jnp.sum(mesh.vertices[:7] ** 2))(mesh)
    updates, _ = optimizer.update(grad, optimizer.init(mesh), mesh)  # pyright: ignore[reportArgumentType]: pytrees
    # The first step of Adam is minus the learning rate times the sign of the gradient.
    seen = np.abs(np.asarray(grad.vertices)) > 1e-3
    np.testing.assert_allclose(updates.vertices, np.where(seen, -0.05 * np.sign(grad.vertices), 0), atol=1e-6)
    assert seen.any()
    np.testing.assert_array_equal(updates.textures, 0)
