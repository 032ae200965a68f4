"""Visibility gradients in the renderer, custom gradients, and the figures of jnr.viz."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jnr

FACES = jnp.array([[0, 1, 2]])
BALL = jnr.shapes.icosphere(1)


def test_opendr_and_the_edge_sweep_are_different_gradients_of_the_same_image():
    def loss(vertices, gradient):
        rendering = jnr.render(vertices, BALL.faces, BALL.vertices, image_size=32, gradient=gradient)
        return jnp.sum((rendering.rgb - 0.3) ** 2) + jnp.sum(rendering.alpha), rendering

    results = [jax.grad(loss, has_aux=True)(BALL.vertices, name) for name in ("edge_sweep", "opendr", None)]
    for _, rendering in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, rendering, results[0][1])
    grads = [np.asarray(grad) for grad, _ in results]
    assert all(np.isfinite(grad).all() and np.any(grad) for grad in grads)
    assert not any(np.allclose(a, b) for a, b in zip(grads, grads[1:] + grads[:1], strict=True))


@pytest.mark.parametrize("gradient", ["edge_sweep", "opendr"])
def test_vmapped_step_holds_one_backward_call_and_equals_a_loop(gradient):
    def step(vertices):
        def loss(v):
            alpha = jnr.render_silhouette(v, BALL.faces, image_size=16, gradient=gradient)
            return jnp.sum((alpha - 0.4) ** 2)

        return jax.grad(loss)(vertices)

    batch = BALL.vertices * jnp.linspace(0.8, 1.2, 3)[:, None, None]
    jaxpr = str(jax.make_jaxpr(jax.vmap(step))(batch))
    assert jaxpr.count(f"jnr_{gradient}_bwd[") == 1
    found, one = jax.jit(jax.vmap(step))(batch), jax.jit(step)
    for item, expected in zip(found, map(one, batch), strict=True):
        np.testing.assert_allclose(item, expected, rtol=1e-5, atol=1e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("name", ["edge_sweep", "opendr"])
def test_forward_mode_is_an_error_with_the_reason(name):
    def alpha(vertices):
        return jnr.render_silhouette(vertices, BALL.faces, image_size=8, gradient=name)

    with pytest.raises(TypeError, match=f"^{name} has no forward-mode derivative"):
        jax.jvp(alpha, (BALL.vertices,), (BALL.vertices,))


def test_custom_gradient_of_ten_lines_trains_a_mesh():
    def blurred(image, cotangent, clip_positions, faces, fragments):
        """Moves every vertex by the gradient of a blurred image at its pixel."""
        del faces, fragments
        height, width, _ = image.shape
        soft = jax.image.resize(jax.image.resize(image, (8, 8, 1), "linear"), image.shape, "cubic")
        x, y = clip_positions[:, 0] / clip_positions[:, 3], clip_positions[:, 1] / clip_positions[:, 3]
        row, column = ((1 - y) * height / 2).astype(int), ((x + 1) * width / 2).astype(int)
        slope_y, slope_x = (jnp.sum(-s * cotangent, axis=-1)[row, column] for s in jnp.gradient(soft, axis=(0, 1)))
        zero = jnp.zeros_like(slope_x)
        return jnp.stack([slope_x, -slope_y, zero, zero], axis=-1)

    vertices = jnr.shapes.icosphere(2).vertices * 0.7
    faces = jnr.shapes.icosphere(2).faces
    target = jnr.render_silhouette(vertices + jnp.array([0.3, 0.2, 0.0]), faces, image_size=48)

    def loss(shift):
        alpha = jnr.render_silhouette(vertices + shift, faces, image_size=48, gradient=blurred)
        return jnr.losses.silhouette_iou(alpha, target)

    optimizer = optax.adam(0.02)
    shift = jnp.zeros(3)
    state = optimizer.init(shift)
    step = jax.jit(jax.value_and_grad(loss))
    before = step(shift)[0]
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        for _ in range(60):
            updates, state = optimizer.update(step(shift)[1], state)
            shift = optax.apply_updates(shift, updates)
    assert before > 0.4
    assert step(shift)[0] < 0.1


def test_gradient_of_the_wrong_shape_is_an_error():
    def wrong(image, cotangent, clip_positions, faces, fragments):
        return clip_positions[:, :3]

    with pytest.raises(
        ValueError, match=r"^gradient must return an array like clip_positions, \(42, 4\), got \(42, 3\)"
    ):
        jax.grad(lambda v: jnr.render_silhouette(v, BALL.faces, image_size=8, gradient=wrong).sum())(BALL.vertices)


def test_deterministic_edge_sweep_gives_the_same_gradient():
    def grad(deterministic):
        sweep = jnr.gradients.EdgeSweep(deterministic=deterministic)
        return jax.grad(lambda v: jnr.render_silhouette(v, BALL.faces, image_size=16, gradient=sweep).sum())

    np.testing.assert_array_equal(grad(True)(BALL.vertices), grad(False)(BALL.vertices))


INVALID = [
    ("eps", lambda: jnr.gradients.EdgeSweep(eps=-1), ValueError, r"^eps must be a finite number that is not negative"),
    ("deterministic", lambda: jnr.gradients.EdgeSweep(deterministic=1), TypeError, r"^deterministic must be True or F"),  # pyright: ignore[reportArgumentType]: wrong on purpose
    ("backend", lambda: jnr.gradients.EdgeSweep(backend="cuda"), ValueError, r"^backend must be None or one of"),  # pyright: ignore[reportArgumentType]: wrong on purpose
    ("boundary", lambda: jnr.gradients.OpenDR("edges"), ValueError, r"^boundary must be one of None, 'occlusion', got"),  # pyright: ignore[reportArgumentType]: wrong on purpose
    (
        "no_function",
        lambda: jnr.with_gradient(
            jnp.zeros((4, 4, 1)),
            jnp.zeros((3, 4)),
            FACES,
            jnr.rasterize(jnp.zeros((3, 4)), FACES, 4),
            3,  # pyright: ignore[reportArgumentType]: wrong on purpose
        ),
        TypeError,
        r"^gradient must be a function",
    ),
    (
        "descents_of_none",
        lambda: jnr.viz.pixel_descents(*BALL[:2], gradient=None),  # pyright: ignore[reportArgumentType]
        ValueError,
        r"^gradient must be a name or a function, got None\.",
    ),
]


@pytest.mark.validation
@pytest.mark.parametrize(("call", "error", "message"), [b[1:] for b in INVALID], ids=[b[0] for b in INVALID])
def test_invalid_options_are_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("gradient", ["edge_sweep", "opendr"])
def test_pixel_descents_equal_the_gradient_steps_of_the_renderer(gradient):
    camera, size = jnr.Camera(jnr.LookAt((0.0, 0.3, 3.0))), (7, 9)
    found = jnr.viz.pixel_descents(
        BALL.vertices, BALL.faces, camera=camera, image_size=size, gradient=gradient, brighter=False
    )
    assert found.shape == (*size, 42, 2)

    # When the world moves to the right, each vertex moves by a number of pixels that depends on its depth.
    def pixel_positions(shift):
        clip = camera.clip_from_world(9 / 7) @ jnp.concatenate([BALL.vertices.T + shift[:, None], jnp.ones((1, 42))])
        return ((clip[0] / clip[3] + 1) * 9 - 1) / 2, ((1 - clip[1] / clip[3]) * 7 - 1) / 2

    _, moves = jax.jvp(pixel_positions, (jnp.zeros(3),), (jnp.array([1.0, 0.0, 0.0]),))
    moves = jnp.stack(moves, axis=-1)

    def alpha(shift):
        return jnr.render_silhouette(
            BALL.vertices + shift, BALL.faces, camera=camera, image_size=size, gradient=gradient
        )

    for pixel in ((3, 4), (2, 3), (1, 4)):
        grad = jax.grad(lambda shift, pixel=pixel: alpha(shift)[pixel])(jnp.zeros(3))
        np.testing.assert_allclose(-grad[0], jnp.sum(found[pixel] * moves), rtol=1e-3, atol=1e-4)


def test_figures_show_the_image_with_arrows_and_the_reach_map():
    pytest.importorskip("matplotlib", reason="the figures need Matplotlib")

    def loss(vertices):
        return jnp.sum(jnr.render_silhouette(vertices, BALL.faces, image_size=12))

    figure = jnr.viz.descent_arrows(loss, BALL.vertices, BALL.faces, image_size=12)
    (axes,) = figure.axes
    assert axes.images[0].get_array().shape == (12, 12, 3)
    arrows = [c for c in axes.collections if hasattr(c, "U")]
    lengths = np.hypot(arrows[0].U, arrows[0].V)
    np.testing.assert_allclose(lengths.max(), 0.15 * 12, rtol=1e-5)

    figure = jnr.viz.reach_map(BALL.vertices, BALL.faces, image_size=8, gradient="opendr")
    colors = figure.axes[0].images[0].get_array()
    descents = jnr.viz.pixel_descents(BALL.vertices, BALL.faces, image_size=8, gradient="opendr")
    grey = np.all(colors == [0.85, 0.85, 0.85, 1.0], axis=-1)
    np.testing.assert_array_equal(grey, ~np.any(descents, axis=(2, 3)))


def test_vertices_of_zero_gradient_are_dots_on_the_given_axes():
    figure = pytest.importorskip("matplotlib.figure", reason="the figures need Matplotlib").Figure()
    axes = figure.subplots(1, 2)
    image = np.full((10, 14, 1), 0.5)
    found = jnr.viz.descent_arrows(lambda v: 0 * v.sum(), *BALL[:2], image=image, ax=axes[1])
    assert found is figure
    assert not axes[0].collections
    (dots,) = axes[1].collections
    x, y = np.asarray(dots.get_offsets()).T
    clip = jnr.Camera().clip_positions(BALL.vertices, 14 / 10)
    np.testing.assert_allclose(x, ((clip[:, 0] / clip[:, 3] + 1) * 14 - 1) / 2, atol=1e-4)
    np.testing.assert_allclose(y, ((1 - clip[:, 1] / clip[:, 3]) * 10 - 1) / 2, atol=1e-4)


def test_figure_without_matplotlib_is_an_error_with_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'^jnr\.viz needs Matplotlib; pip install "jnr\[examples\]"'):
        jnr.viz.reach_map(BALL.vertices, BALL.faces, image_size=4)
