"""Names, modules, attributes and settings with which programs written for Neural Renderer use it."""

import importlib
import inspect
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr
from jnr.compat import neural_renderer as nr
from jnr.compat.neural_renderer import chainer

# The public names of each module of the port, of the Chainer original, or of both.
BOTH = {
    "get_points_from_angles": ["get_points_from_angles"],
    "lighting": ["lighting"],
    "load_obj": ["load_obj"],
    "look": ["look"],
    "look_at": ["look_at"],
    "mesh": ["Mesh"],
    "perspective": ["perspective"],
    "rasterize": ["Rasterize", "rasterize", "rasterize_depth", "rasterize_rgbad", "rasterize_silhouettes"],
    "renderer": ["Renderer"],
    "save_obj": ["save_obj"],
    "vertices_to_faces": ["vertices_to_faces"],
}
PORT = BOTH | {"projection": ["projection"]}
CHAINER = BOTH | {"cross": ["cross"], "optimizers": ["Adam"]}
MODULES = [(nr, name, names) for name, names in PORT.items()] + [
    (chainer, name, names) for name, names in CHAINER.items()
]


@pytest.mark.parametrize(("package", "module", "names"), MODULES, ids=lambda part: getattr(part, "__name__", str(part)))
def test_name_is_found_in_the_package_in_its_module_and_through_the_packages_attribute(package, module, names):
    imported = importlib.import_module(f"{package.__name__}.{module}")
    assert inspect.ismodule(imported)
    for name in names:
        assert getattr(imported, name) is getattr(package, name)
        # `nr.projection` is a function, `nr.renderer` a module.
        assert getattr(getattr(package, module), name) is getattr(package, name)
        assert inspect.isfunction(getattr(package, module)) == (module in names)


def test_module_of_the_rasterizer_has_its_defaults():
    defaults = {name: getattr(nr.rasterize, f"DEFAULT_{name.upper()}") for name in ("image_size", "near", "far", "eps")}
    assert defaults == {"image_size": 256, "near": 0.1, "far": 100, "eps": 1e-4}
    parameters = inspect.signature(nr.rasterize_rgbad).parameters
    assert {name: parameters[name].default for name in defaults} == defaults
    assert (nr.rasterize.DEFAULT_ANTI_ALIASING, nr.rasterize.DEFAULT_BACKGROUND_COLOR) == (True, (0, 0, 0))


def test_version_is_that_of_the_originals():
    assert nr.__version__ == chainer.__version__ == "1.1.3"


def test_optimizer_is_a_name_of_the_package():
    assert nr.Adam is nr.optimizers.Adam is chainer.Adam


BALL = jnr.shapes.icosphere(1)
ONE = (BALL.vertices[None], BALL.faces[None])


def test_mesh_knows_its_sizes():
    mesh = nr.Mesh(*BALL[:2], texture_size=3)
    assert (mesh.num_vertices, mesh.num_faces, mesh.texture_size) == (42, 80, 3)
    # The port's size of given textures is their number of faces.
    assert nr.Mesh(*BALL[:2], jnp.zeros((80, 2, 2, 2, 3))).texture_size == 2


@pytest.mark.parametrize("returned", [(True, True, False), (False, True, True)])
def test_rasterizer_class_returns_its_images_from_bottom_to_top(returned):
    corners = nr.vertices_to_faces(nr.perspective(nr.look_at(ONE[0] + jnp.array([0.2, 0.4, 0]), [0, 0, -3])), ONE[1])
    corners = corners[:, :, ::-1]  # counter-clockwise in mirrored images
    textures = jax.random.uniform(jax.random.key(0), (1, 80, 2, 2, 2, 3)) if returned[0] else None
    # The planes cut the ball, whose depths are 2 to 4.
    options = {"near": 2.1, "far": 2.7, "eps": 1e-3, "background_color": (0.1, 0.2, 0.3) if returned[0] else None}
    draw = nr.Rasterize(16, *options.values(), *returned)
    images = jax.jit(draw)(corners, textures)
    options["background_color"] = (0.1, 0.2, 0.3)
    expected: dict[str, Any] = nr.rasterize_rgbad(corners, textures, 16, False, **options)
    assert 50 < np.sum(expected["alpha"]) < 200
    assert [image is not None for image in images] == [*returned]
    for name, image in zip(("rgb", "alpha", "depth"), images, strict=True):
        if image is not None:
            image = np.moveaxis(image, -1, 1) if name == "rgb" else image
            np.testing.assert_allclose(image[..., ::-1, :], expected[name], atol=1e-6)
    assert nr.Rasterize.forward is nr.Rasterize.__call__


def test_overridden_forward_is_called():
    class Gray(nr.Renderer):
        def forward(self, *args, **kwargs):
            return jnp.mean(super().forward(*args, **kwargs, mode="rgb"), axis=1)

    renderer = Gray(image_size=8, camera_mode="look_at")
    assert renderer(*ONE).shape == (1, 8, 8)


def test_alpha_of_an_image_is_no_channel_of_the_cubes(tmp_path):
    pil = pytest.importorskip("PIL.Image", reason="textures need the io extra")
    texels = np.array([[[255, 0, 0, 255]], [[0, 255, 0, 255]]], np.uint8)
    pil.fromarray(texels).save(tmp_path / "a.png")
    (tmp_path / "a.mtl").write_text("newmtl a\nmap_Kd a.png\n")
    corners = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0.5 0.25\nvt 0.5 0.25\nvt 0.5 0.75\n"
    (tmp_path / "a.obj").write_text(f"mtllib a.mtl\n{corners}usemtl a\nf 1/1 2/2 3/3\n")
    cubes = nr.load_obj(tmp_path / "a.obj", texture_size=2, load_texture=True)[2]
    np.testing.assert_allclose([cubes[0, 1, 0, 0], cubes[0, 0, 0, 1]], [[0, 1, 0], [1, 0, 0]], atol=1e-6)


# --- cameras


def test_default_points_and_directions_may_be_none():
    eye = [0.3, 0.5, -2]
    np.testing.assert_array_equal(
        nr.look_at(ONE[0], eye, at=None, up=None), nr.look_at(ONE[0], eye, (0, 0, 0), (0, 1, 0))
    )
    np.testing.assert_array_equal(nr.look(ONE[0], eye, None, None), nr.look(ONE[0], eye, (0, 0, 1), (0, 1, 0)))


def small(make=nr.Renderer, **settings):
    renderer = make()
    for name, value in ({"image_size": 16, "anti_aliasing": False, "camera_mode": "look_at"} | settings).items():
        setattr(renderer, name, value)
    return renderer


@pytest.mark.parametrize("make", [nr.Renderer, chainer.Renderer])
def test_camera_mode_none_takes_vertices_as_they_are(make):
    # Screen coordinates in the port; in the Chainer original, which still divides by depth, camera coordinates.
    textures = jax.random.uniform(jax.random.key(0), (1, 80, 2, 2, 2, 3))
    seen = ONE[0] + jnp.array([0.1, 0.2, 3])
    screen = seen if make is nr.Renderer else nr.perspective(seen, 20)

    @jax.jit
    def drawn(seen, textures):
        renderer = small(make, camera_mode="none", viewing_angle=20, fill_back=False)
        lit = nr.lighting(nr.vertices_to_faces(seen, ONE[1]), textures)
        images = nr.rasterize_rgbad(nr.vertices_to_faces(screen, ONE[1]), lit, 16, False)
        renderings = renderer.render_rgb(seen, ONE[1], textures), renderer.render_silhouettes(seen, ONE[1])
        flat = small(make, camera_mode="none", perspective=False, fill_back=False)
        return images, (*renderings, renderer.render_depth(seen, ONE[1])), flat.render_depth(seen, ONE[1])

    images, renderings, flat = drawn(seen, textures)
    assert 50 < np.sum(images["alpha"]) < 250
    for name, found in zip(("rgb", "alpha", "depth"), renderings, strict=True):
        np.testing.assert_allclose(found, images[name], atol=1e-5)
    # Without `perspective` the two agree.
    corners = nr.vertices_to_faces(seen, ONE[1])
    np.testing.assert_allclose(flat, nr.rasterize_depth(corners, 16, False), atol=1e-5)


@pytest.mark.validation
def test_unknown_camera_mode_of_the_port_is_an_error():
    for mode in ("none", "top", None):
        with pytest.raises(ValueError, match=r"^camera_mode must be one of 'projection', 'look', 'look_at', got"):
            nr.Renderer(camera_mode=mode)  # pyright: ignore[reportArgumentType]: wrong on purpose
    with pytest.raises(ValueError, match=r"^camera_mode must be .* 'look_at', 'none', got 'top'\."):
        small(camera_mode="top").render_silhouettes(*ONE)


EYES = np.array([[0, 0, -3], [2, 1, -2], [1, 2, 2]], np.float32)


def test_one_mesh_is_rendered_from_every_eye():
    textures = jax.random.uniform(jax.random.key(0), (1, 80, 2, 2, 2, 3))
    light = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]], np.float32)

    @jax.jit
    def drawn(vertices, eyes):
        def images(vertices, faces, textures):
            return small(eye=eyes, light_direction=light)(vertices, faces, textures)

        repeated = (jnp.repeat(array, 3, axis=0) for array in (vertices, ONE[1], textures))
        return images(vertices, ONE[1], textures), images(*repeated)

    shared, repeated = drawn(ONE[0], EYES)
    for found, expected in zip(shared, repeated, strict=True):
        assert found.shape[0] == 3
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(shared[0][0] - shared[0][1]).max() > 0.1


def test_gradient_of_one_mesh_is_the_sum_over_the_eyes():
    def loss(vertices, eyes):
        weight = jnp.asarray(np.random.default_rng(0).normal(size=(3, 16, 16)).astype(np.float32))
        alpha = small(eye=eyes).render_silhouettes(vertices, jnp.repeat(ONE[1], vertices.shape[0], axis=0))
        return jnp.sum(alpha * weight)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    of_one, of_eyes = gradient(ONE[0], EYES)
    of_three, of_their_eyes = gradient(jnp.repeat(ONE[0], 3, axis=0), EYES)
    np.testing.assert_allclose(of_one[0], np.sum(of_three, axis=0), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(of_eyes, of_their_eyes, rtol=1e-4, atol=1e-3)
    assert np.abs(of_one).max() > 1


def test_functions_repeat_one_mesh_too():
    one, three = ONE[0], jnp.repeat(ONE[0], 3, axis=0)
    faces, corners = ONE[1], nr.vertices_to_faces(*ONE)
    cubes = jnp.ones((1, 80, 2, 2, 2, 3))
    matrices, angles = np.stack([CALIBRATION * s for s in (1, 2, 3)]), np.array([20, 30, 40], np.float32)
    pairs = [
        (nr.look_at(one, EYES), nr.look_at(three, EYES)),
        (nr.look(one, EYES, -EYES), nr.look(three, EYES, -EYES)),
        (nr.perspective(one + 2, angles), nr.perspective(three + 2, angles)),
        (nr.projection(one, matrices, *POSE, None, 200), nr.projection(three, matrices, *POSE, None, 200)),
        (
            nr.lighting(corners, cubes, direction=EYES),
            nr.lighting(
                nr.vertices_to_faces(three, jnp.repeat(faces, 3, axis=0)), jnp.repeat(cubes, 3, 0), direction=EYES
            ),
        ),
    ]
    for found, expected in pairs:
        assert found.shape[0] == 3
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.validation
def test_settings_of_one_mesh_must_have_one_length():
    with pytest.raises(ValueError, match=r"^light_direction must have 1 axes, or 2 .* the batch of length 3 or 1, got"):
        small(eye=EYES, light_color_ambient=np.ones((3, 3)), light_direction=np.ones((2, 3)))(*ONE)


# --- calibration

CALIBRATION = np.array([[150, 3, 97], [0, 180, 104], [0, 0, 1]], np.float32)
POSE = (np.eye(3, dtype=np.float32), np.array([[[0.1, -0.2, 4]]], np.float32))
UNUSUAL = {
    "last_row_of_zeros": CALIBRATION * [[1], [1], [0]],
    "other_last_row": np.array([*CALIBRATION[:2], [5, -3, 7]]),
    "mirrored_left_to_right": CALIBRATION * [[-1, 1, 1], [1, 1, 1], [1, 1, 1]],
    "turned_by_half": CALIBRATION * [[-1, 1, 1], [1, -1, 1], [1, 1, 1]],
    "axes_exchanged": np.array([[3, 150, 97], [180, -4, 104], [0, 0, 1]]),
}
DISTORTION = np.array([0.1, 0.02, 0.01, 0, 0.01], np.float32)


def projected(points, matrix, distortion):
    """The port's formula, in float64."""
    x, y, z = np.moveaxis(points.astype(float) @ POSE[0].T.astype(float) + POSE[1][0], -1, 0)
    x, y = x / z, y / z
    k1, k2, p1, p2, k3 = distortion
    s = x**2 + y**2
    radial = 1 + k1 * s + k2 * s**2 + k3 * s**3
    moved = radial * x + 2 * p1 * x * y + p2 * (s + 2 * x**2), radial * y + p1 * (s + 2 * y**2) + 2 * p2 * x * y
    u, v = matrix[:2] @ np.stack([*moved, np.ones_like(x)])
    return np.stack([u / 100 - 1, 1 - v / 100, z], axis=-1)


@pytest.mark.parametrize("matrix", UNUSUAL.values(), ids=list(UNUSUAL))
def test_any_matrix_is_a_calibration_alone_in_a_batch_and_traced(matrix):
    points = np.random.default_rng(0).uniform(-1, 1, (2, 30, 3)).astype(np.float32)
    matrix = matrix.astype(np.float32)
    expected = np.stack([projected(item, matrix.astype(float), DISTORTION) for item in points])
    project = lambda matrix: nr.projection(points, matrix, *POSE, DISTORTION, 200)  # noqa: E731
    for given in (matrix, matrix[None], np.stack([matrix] * 2)):
        np.testing.assert_allclose(project(given), expected, rtol=1e-5, atol=1e-5)
    found = jax.jit(project)(matrix)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@jax.jit
def drawn_in_two_ways(matrix, textures):
    faces = jnp.concatenate([ONE[1], ONE[1][:, :, ::-1]], axis=1)
    cubes = jnp.concatenate([textures, textures.transpose(0, 1, 4, 3, 2, 5)], axis=1)
    lit = nr.lighting(nr.vertices_to_faces(ONE[0], faces), cubes, direction=(0.6, 0, 0.8))
    corners = nr.vertices_to_faces(nr.projection(ONE[0], matrix, *POSE, DISTORTION, 200), faces)
    renderer = small(camera_mode="projection", light_direction=(0.6, 0, 0.8), orig_size=200)
    rgb, depth, alpha = renderer(ONE[0], ONE[1], textures, None, matrix, *POSE, DISTORTION)
    return nr.rasterize_rgbad(corners, lit, 16, False), {"rgb": rgb, "depth": depth, "alpha": alpha}


@pytest.mark.parametrize("matrix", UNUSUAL.values(), ids=list(UNUSUAL))
def test_renderer_draws_with_any_matrix(matrix):
    textures = jax.random.uniform(jax.random.key(0), (1, 80, 2, 2, 2, 3))
    expected, found = drawn_in_two_ways(matrix.astype(np.float32), textures)
    assert np.sum(expected["alpha"]) > 20
    for name, image in found.items():
        np.testing.assert_allclose(image, expected[name], atol=1e-4)


def test_distortion_with_a_coefficient_of_zero_is_not_left_out():
    points = np.random.default_rng(0).uniform(-1, 1, (1, 30, 3)).astype(np.float32)
    for k in range(5):
        coefficients = DISTORTION + np.float32(0.03)
        coefficients[k] = 0
        found = nr.projection(points, CALIBRATION, *POSE, coefficients, 200)
        np.testing.assert_allclose(found[0], projected(points[0], CALIBRATION, coefficients), rtol=1e-5, atol=1e-5)


def test_point_in_the_plane_of_the_camera_is_divided_by_eps():
    point = np.array([[[0.4, 0.2, -4]]], np.float32)  # at (0.5, 0, 0) from the camera
    found = nr.projection(point, CALIBRATION, *POSE, None, 200, eps=1e-3)
    np.testing.assert_allclose(found[0, 0], (150 * 0.5 / 100 / 1e-3, 0, 0), rtol=1e-5, atol=1e-3)


def test_size_of_the_calibrated_image_may_be_traced():
    project = lambda size: nr.projection(ONE[0], CALIBRATION, *POSE, None, size)  # noqa: E731
    for size in (200, 200.0):
        np.testing.assert_allclose(jax.jit(project)(size), project(200), rtol=1e-6, atol=1e-6)


CALL = {"K": CALIBRATION, "R": POSE[0], "t": POSE[1], "dist_coeffs": DISTORTION, "orig_size": 200}
WRONG = {
    "K_of_four_columns": ({"K": np.ones((3, 4))}, r"K must have shape \(3, 3\), got \(3, 4\)\."),
    "R_of_one_axis": ({"R": np.ones(3)}, r"R must have 2 axes, or 3 axes of which the first is the batch"),
    "t_of_two_rows": ({"t": np.ones((1, 2, 3))}, r"t must have shape \(batch, 1, 3\), got \(1, 2, 3\)\."),
    "three_coefficients": ({"dist_coeffs": np.zeros(3)}, r"dist_coeffs must be k1, k2, p1, p2 and perhaps k3, got sha"),
    "size_of_zero": ({"orig_size": 0}, r"orig_size must be positive and finite, got 0\."),
    "two_sizes": ({"orig_size": (480, 640)}, r"orig_size must have shape \(\), got \(2,\)\."),
}


@pytest.mark.validation
@pytest.mark.parametrize(("changed", "message"), WRONG.values(), ids=list(WRONG))
def test_impossible_calibration_is_an_error_that_names_the_argument(changed, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        nr.projection(ONE[0], **CALL | changed)


@pytest.mark.validation
@pytest.mark.parametrize("name", ["K", "R", "t", "dist_coeffs"])
def test_infinite_calibration_is_an_error_alone_and_in_a_batch(name):
    value = np.array(CALL[name], np.float32)
    value.flat[0] = np.inf
    batch = np.concatenate([CALL["t"], value]) if name == "t" else np.stack([CALL[name], value])
    for wrong in (value, batch):
        with pytest.raises(ValueError, match=f"^{re.escape(name)} must be finite, got"):
            nr.projection(ONE[0], **CALL | {name: wrong})  # pyright: ignore[reportArgumentType]: unpacked


@pytest.mark.validation
def test_rasterizer_needs_a_background_for_colours():
    with pytest.raises(ValueError, match=r"^background_color must be given if return_rgb is True, got None\."):
        nr.rasterize_rgbad(jnp.zeros((1, 1, 3, 3)), background_color=None)
