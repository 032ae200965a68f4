"""The claims about the two gradients of visibility, and gradients of one's own."""

import sys
from functools import partial

import golden
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jnr
from jnr._ops.opendr.definition import occlusion_boundary, opendr_bwd

TRIANGLES = ["opendr_tri16", "opendr_tri64"]
FACES = jnp.array([[0, 1, 2]])
COLORED = jnr.shapes.icosphere(1)


def pixels_of(case):
    """Clip positions (w = 1) and vertices in pixels, x right and y down, of a recorded triangle."""
    pixels, size = case["vertices_px"], int(case["image_size"])
    ndc = (2 * pixels + 1) / size - 1
    clip = np.stack([ndc[:, 0], -ndc[:, 1], 0 * ndc[:, 0], 1 + 0 * ndc[:, 0]], axis=-1)
    return jnp.asarray(clip, jnp.float32), size


def fields(clip, size, gradient):
    """NDC gradient (y up) of the vertices, for each pixel alone made darker and brighter: (2, size, size, 3, 2)."""
    fragments = jnr.rasterize(clip, FACES, size)
    alpha = (fragments.face_index >= 0).astype(jnp.float32)[..., None]
    pixels = jnp.eye(size * size).reshape(-1, size, size, 1)

    @jax.jit
    def field(cotangents):
        return jax.lax.map(lambda c: gradient(alpha, c, clip, FACES, fragments)[:, :2], cotangents, batch_size=64)

    return np.stack([field(sign * pixels).reshape(size, size, 3, 2) for sign in (1, -1)]), np.asarray(alpha)[..., 0]


@pytest.fixture(scope="module")
def triangle():
    """Distances of pixels to the outline of the 16 x 16 triangle, and both gradients' fields on it."""
    case = golden.load("opendr_tri16")
    clip, size = pixels_of(case)
    corners = case["vertices_px"]
    pixel = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1)
    distance = np.full((size, size), np.inf)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        t = np.clip(((pixel - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
        distance = np.minimum(distance, np.linalg.norm(pixel - a - t[..., None] * (b - a), axis=-1))
    sweep, alpha = fields(clip, size, jnr.gradients.EdgeSweep(eps=float(case["nr_eps"])))
    opendr, _ = fields(clip, size, jnr.gradients.OpenDR())
    return {"inside": alpha > 0, "distance": distance, "sweep": sweep, "opendr": opendr, "case": case}


# --- claims about OpenDR's gradient


def test_opendr_is_exactly_zero_for_target_pixels_outside_the_polygon(triangle):
    assert np.any(triangle["opendr"])
    np.testing.assert_array_equal(triangle["opendr"][:, ~triangle["inside"]], 0)


def test_opendr_is_exactly_zero_more_than_two_pixels_from_the_edge(triangle):
    far = triangle["inside"] & (triangle["distance"] > 2)
    assert far.any()
    np.testing.assert_array_equal(triangle["opendr"][:, far], 0)


def test_recorded_opendr_reaches_outside_only_by_the_half_pixel_of_its_outline(triangle):
    # OpenDR draws the outline once more, a pixel wide: up to half a pixel outside counts as covered. jnr does not.
    recorded = np.abs(triangle["case"]["odr_closed_J"]).max(axis=(2, 3)) > 0
    outside = recorded & ~triangle["inside"]
    assert outside.any()
    # A line of GL is half a pixel wide along an axis, which is sqrt(1/2) at most across.
    assert triangle["distance"][outside].max() <= np.sqrt(0.5) + 1e-6


def test_opendr_brighter_is_exactly_minus_darker(triangle):
    darker, brighter = triangle["opendr"]
    np.testing.assert_array_equal(brighter, -darker)


def test_opendr_moves_vertices_for_pixels_that_are_already_bright(triangle):
    brighter = triangle["opendr"][1]
    edge = triangle["inside"] & (triangle["distance"] < 1)
    assert np.abs(brighter[edge]).max() > 0


# --- claims about Neural Renderer's gradient


def test_edge_sweep_is_not_zero_outside_and_moves_vertices_vertically_too(triangle):
    brighter = triangle["sweep"][1]
    case = triangle["case"]
    x, y = case["vertices_px"].T
    row, column = np.indices(triangle["inside"].shape)
    in_reach = ((row > y.min()) & (row < y.max())) | ((column > x.min()) & (column < x.max()))
    outside = ~triangle["inside"] & in_reach
    assert np.all(np.abs(brighter[outside]).max(axis=(-2, -1)) > 0)
    assert np.abs(brighter[outside][..., 1]).max() > 0


def test_edge_sweep_is_not_zero_more_than_two_pixels_inside(triangle):
    darker = triangle["sweep"][0]
    far = triangle["inside"] & (triangle["distance"] > 2)
    assert np.all(np.abs(darker[far]).max(axis=(-2, -1)) > 0)


def test_edge_sweep_moves_nothing_to_brighten_pixels_that_are_already_bright(triangle):
    np.testing.assert_array_equal(triangle["sweep"][1][triangle["inside"]], 0)


def test_edge_sweep_moves_nothing_to_darken_pixels_that_are_already_dark(triangle):
    np.testing.assert_array_equal(triangle["sweep"][0][~triangle["inside"]], 0)


def test_edge_sweep_pulls_vertices_towards_a_pixel_that_should_be_bright(triangle):
    brighter = triangle["sweep"][1]
    inside_columns = np.flatnonzero(triangle["inside"].any(axis=0))
    right = np.zeros_like(triangle["inside"])
    right[:, inside_columns.max() + 1 :] = True
    # Downhill is to the right.
    assert np.all(brighter[right][..., 0] <= 0)
    assert np.any(brighter[right][..., 0] < 0)


@pytest.mark.parametrize("name", TRIANGLES)
def test_edge_sweep_of_each_single_pixel_is_the_recorded_one(name):
    case = golden.load(name)
    clip, size = pixels_of(case)
    found, alpha = fields(clip, size, jnr.gradients.EdgeSweep(eps=float(case["nr_eps"])))
    np.testing.assert_array_equal(alpha, case["nr_alpha"])
    for field, direction in zip(found, ("darker", "brighter"), strict=True):
        # golden/README.md, section 6: re-runs of the original with other rounding stay below 6.1e-4.
        assert golden.relative_l2(field, case[f"nr_grad_{direction}"]) < 2e-3
        np.testing.assert_array_equal(field == 0, case[f"nr_grad_{direction}"] == 0)


# --- OpenDR's map, as recorded


def jacobian(image, faces, visibility, barycentric, boundary, num_vertices):
    """Derivative of each pixel's channels by the vertices' pixel coordinates, y down: (.., height, width, C, V, 2)."""
    height, width, channels = image.shape
    one_sided = boundary is not None
    boundary = np.zeros((height, width), bool) if boundary is None else boundary
    clip = np.tile(np.array([[0.0, 0, 0, 1]], np.float32), (num_vertices, 1))

    @jax.jit
    def pull(index):
        cotangent = jnp.zeros(image.size).at[index].set(1.0).reshape(image.shape)
        operands = image, cotangent, clip, faces, visibility, barycentric, boundary
        grad = opendr_bwd(*(jnp.asarray(o)[None] for o in operands), one_sided=one_sided)[0, :, :2]
        return grad * jnp.array([2 / width, -2 / height])

    pulls = jax.lax.map(pull, jnp.arange(image.size), batch_size=64)
    return np.asarray(pulls).reshape(height, width, channels, num_vertices, 2)


VARIANTS = [
    ("fn_nobnd", None),
    ("fn_bnd", "fn_boundary"),
    ("odr_open", "odr_open_boundary"),
    ("odr_closed", "odr_closed_boundary"),
    ("odr_nooverdraw", None),
]


@pytest.mark.parametrize(("variant", "boundary"), VARIANTS, ids=[v[0] for v in VARIANTS])
@pytest.mark.parametrize("name", TRIANGLES)
def test_opendr_is_the_recorded_map(name, variant, boundary):
    case = golden.load(name)
    if variant.startswith("fn"):
        image, covered, barycentric = case["nr_alpha"], case["nr_alpha"] > 0, case["nr_weight"]
    else:
        image, barycentric = case[f"{variant}_image"], case[f"{variant}_barycentric"]
        covered = case[f"{variant}_visibility"] != 4294967295
    visibility = np.where(covered, 0, -1).astype(np.int32)
    mask = None if boundary is None else case[boundary] > 0
    found = jacobian(image[..., None], np.array([[0, 1, 2]], np.int32), visibility, barycentric, mask, 3)
    # golden/README.md, section 7: function-level comparisons to 1e-5.
    np.testing.assert_allclose(found[:, :, 0], case[f"{variant}_J"], atol=1e-5)


@pytest.mark.parametrize("name", ["opendr_ico1_is48", "opendr_bumpy"])
@pytest.mark.parametrize("matrix", ["J", "J2"])
def test_opendr_is_the_recorded_map_of_a_shaded_mesh(name, matrix):
    case = golden.load(name)
    size = int(case["image_size"])
    expected = np.zeros(tuple(case["J_shape"]), np.float32)
    np.add.at(expected, (case[f"{matrix}_row"], case[f"{matrix}_col"]), case[f"{matrix}_val"])
    visibility = np.where(case["visibility"] == 4294967295, -1, case["visibility"]).astype(np.int32)
    boundary = case["boundary"] > 0 if matrix == "J" else None
    operands = case["image"], case["faces"], visibility, case["barycentric"], boundary
    found = jacobian(*operands, len(case["vertices_px"])).reshape(size * size * 3, -1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_opendr_that_treats_all_pixels_alike_is_the_recorded_map():
    case = golden.load("opendr_tri16")
    variant = "odr_nooverdraw"
    visibility = np.where(case[f"{variant}_visibility"] != 4294967295, 0, -1).astype(np.int32)
    fragments = jnr.Fragments(visibility, case[f"{variant}_barycentric"], np.ones((16, 16), np.float32))
    image = case[f"{variant}_image"][..., None]
    cotangent = np.random.default_rng(0).normal(size=image.shape).astype(np.float32)

    @partial(jax.jit, static_argnums=0)
    def gradient(boundary):
        clip = jnp.tile(jnp.array([[0.0, 0, 0, 1]]), (3, 1))
        return jax.vjp(lambda c: jnr.opendr(image, c, FACES, fragments, boundary=boundary), clip)[1](cotangent)[0]

    found = gradient(None)[:, :2] * jnp.array([2 / 16, -2 / 16])
    expected = np.tensordot(cotangent[..., 0], case[f"{variant}_J"], 2)
    # Sums of 256 terms that agree to 1e-5.
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(gradient(None) - gradient("occlusion")).max() > 0.1


def test_opendr_finds_the_recorded_boundary_of_a_closed_mesh():
    case = golden.load("opendr_ico1_is48")
    size, depth = int(case["image_size"]), case["depth"][:, None]
    ndc = (2 * case["vertices_px"] + 1) / size - 1
    clip = np.concatenate([ndc * [1, -1] * depth, (depth - 4) / 2 * depth, depth], axis=-1)
    face_index = np.where(case["visibility"] == 4294967295, -1, case["visibility"]).astype(np.int32)
    found = np.asarray(occlusion_boundary(jnp.asarray(clip, jnp.float32), jnp.asarray(case["faces"]), face_index))
    recorded = (case["boundary"] > 0) & (face_index >= 0)
    # OpenDR draws lines along silhouette edges, which may leave out a pixel at a corner.
    assert (found != recorded).sum() <= 2


def test_opendr_boundary_is_where_a_near_square_ends_in_front_of_a_far_one():
    near, far = ([[-s, -s], [s, -s], [s, s], [-s, s]] for s in (0.5, 0.9))
    xy = np.array([*near, *far], np.float32)
    clip = np.concatenate([xy, np.repeat([[-0.5, 1], [0.5, 1]], 4, axis=0)], axis=-1).astype(np.float32)
    faces = jnp.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    face_index = jnr.rasterize(clip, faces, 20).face_index
    boundary = np.asarray(occlusion_boundary(jnp.asarray(clip), faces, face_index))
    for square, rows in ((1, slice(5, 15)), (2, slice(1, 19))):
        covered = np.zeros((20, 20), bool)
        covered[rows, rows] = True
        rim = covered.copy()
        rim[rows.start + 1 : rows.stop - 1, rows.start + 1 : rows.stop - 1] = False
        seen = (np.asarray(face_index) // 2 == square - 1) & covered
        np.testing.assert_array_equal(boundary & seen, rim & seen)


@pytest.mark.parametrize("bend", [0.5, -0.5], ids=["bump", "dent"])
def test_opendr_finds_no_boundary_within_a_curved_surface_of_faces_smaller_than_a_pixel(bend):
    grid = jnr.shapes.plane(150, 150)
    x, y = 1.4 * grid.vertices[:, 0], 1.4 * grid.vertices[:, 1]
    clip = jnp.stack([x, y, bend * (x**2 + y**2), jnp.ones_like(x)], axis=-1)
    face_index = jnr.rasterize(clip, grid.faces, 64).face_index
    covered = np.asarray(face_index) >= 0
    inner = np.logical_and.reduce([np.roll(covered, shift, axis) for axis in (0, 1) for shift in (-1, 0, 1)])
    assert inner.sum() > 1000
    found = jax.jit(occlusion_boundary)(clip, grid.faces, face_index)
    np.testing.assert_array_equal(found, covered & ~inner)


# --- in the renderer


def test_opendr_and_the_sweep_are_two_gradients_of_one_picture():
    def loss(vertices, gradient):
        picture = jnr.render(vertices, COLORED.faces, COLORED.vertices, image_size=32, gradient=gradient)
        return jnp.sum((picture.rgb - 0.3) ** 2) + jnp.sum(picture.alpha), picture

    results = [jax.grad(loss, has_aux=True)(COLORED.vertices, name) for name in ("edge_sweep", "opendr", None)]
    for _, picture in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, picture, results[0][1])
    grads = [np.asarray(grad) for grad, _ in results]
    assert all(np.isfinite(grad).all() and np.any(grad) for grad in grads)
    assert not any(np.allclose(a, b) for a, b in zip(grads, grads[1:] + grads[:1], strict=True))


def test_opendr_pushes_a_mesh_that_overlaps_its_target_towards_it():
    target = jnr.render_silhouette(COLORED.vertices + jnp.array([0.05, 0.0, 0.0]), COLORED.faces, image_size=64)

    def loss(shift):
        alpha = jnr.render_silhouette(COLORED.vertices + shift, COLORED.faces, image_size=64, gradient="opendr")
        return jnp.sum((alpha - target) ** 2)

    assert jax.grad(loss)(jnp.zeros(3))[0] < 0


@pytest.mark.parametrize("gradient", ["edge_sweep", "opendr"])
def test_vmapped_step_holds_one_backward_call_and_equals_a_loop(gradient):
    def step(vertices):
        def loss(v):
            alpha = jnr.render_silhouette(v, COLORED.faces, image_size=16, gradient=gradient)
            return jnp.sum((alpha - 0.4) ** 2)

        return jax.grad(loss)(vertices)

    batch = COLORED.vertices * jnp.linspace(0.8, 1.2, 3)[:, None, None]
    jaxpr = str(jax.make_jaxpr(jax.vmap(step))(batch))
    assert jaxpr.count(f"jnr_{gradient}_bwd[") == 1
    found, one = jax.jit(jax.vmap(step))(batch), jax.jit(step)
    for item, expected in zip(found, map(one, batch), strict=True):
        np.testing.assert_allclose(item, expected, rtol=1e-5, atol=1e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("name", ["edge_sweep", "opendr"])
def test_forward_mode_is_an_error_that_says_why(name):
    def alpha(vertices):
        return jnr.render_silhouette(vertices, COLORED.faces, image_size=8, gradient=name)

    with pytest.raises(TypeError, match=f"^{name} has no forward-mode derivative"):
        jax.jvp(alpha, (COLORED.vertices,), (COLORED.vertices,))


def test_opendr_of_faces_that_cannot_be_drawn_is_zero_and_never_nan():
    clip = jnp.array([[-1, -1, 0, 1.0], [1, -1, 0, 1], [0, 1, 0, 1], [0, 0, jnp.nan, 1], [0, 0.5, 0, -1]])
    faces = jnp.array([[0, 1, 2], [0, 1, 3], [-1, -1, -1], [0, 0, 0], [1, 2, 4]])

    def loss(clip, faces):
        fragments = jnr.rasterize(clip, faces, (9, 13))
        image = (fragments.face_index >= 0).astype(jnp.float32)[..., None]
        return jnp.sum(jnr.opendr(image, clip, faces, fragments) * jnp.arange(13.0)[:, None])

    grad = jax.grad(loss)(clip, faces)
    assert np.isfinite(grad).all()
    assert np.any(grad)
    np.testing.assert_array_equal(grad[3], 0)
    np.testing.assert_array_equal(jax.grad(loss)(clip, faces[2:4]), 0)


@pytest.mark.parametrize("num_vertices", [0, 5])
def test_opendr_of_a_mesh_without_faces_moves_nothing(num_vertices):
    vertices, faces = jnp.ones((num_vertices, 3)), jnp.zeros((0, 3), jnp.int32)
    picture, pull = jax.vjp(lambda v: jnr.render(v, faces, image_size=6, gradient="opendr").rgb, vertices)
    np.testing.assert_array_equal(picture, 0)
    np.testing.assert_array_equal(pull(jnp.ones_like(picture))[0], np.zeros((num_vertices, 3)))


# --- a gradient of one's own


def test_gradient_written_in_ten_lines_trains_a_mesh():
    def blurred(image, cotangent, clip_positions, faces, fragments):
        """Moves every vertex as the picture around it, made soft, would have it."""
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
        jax.grad(lambda v: jnr.render_silhouette(v, COLORED.faces, image_size=8, gradient=wrong).sum())(
            COLORED.vertices
        )


def test_deterministic_is_an_option_of_the_sweep():
    def grad(deterministic):
        sweep = jnr.gradients.EdgeSweep(deterministic=deterministic)
        return jax.grad(lambda v: jnr.render_silhouette(v, COLORED.faces, image_size=16, gradient=sweep).sum())

    np.testing.assert_array_equal(grad(True)(COLORED.vertices), grad(False)(COLORED.vertices))


BAD = [
    ("eps", lambda: jnr.gradients.EdgeSweep(eps=-1), ValueError, r"^eps must be a finite number that is not negative"),
    ("deterministic", lambda: jnr.gradients.EdgeSweep(deterministic=1), TypeError, r"^deterministic must be True or F"),
    ("backend", lambda: jnr.gradients.EdgeSweep(backend="cuda"), ValueError, r"^backend must be None or one of"),
    ("boundary", lambda: jnr.gradients.OpenDR("edges"), ValueError, r"^boundary must be one of None, 'occlusion', got"),
    (
        "no_function",
        lambda: jnr.with_gradient(
            jnp.zeros((4, 4, 1)), jnp.zeros((3, 4)), FACES, jnr.rasterize(jnp.zeros((3, 4)), FACES, 4), 3
        ),
        TypeError,
        r"^gradient must be a function",
    ),
    (
        "descents_of_none",
        lambda: jnr.viz.pixel_descents(*COLORED[:2], gradient=None),
        ValueError,
        r"^gradient must be a name or a function, got None\.",
    ),
]


@pytest.mark.validation
@pytest.mark.parametrize(("call", "error", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_options_are_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- pictures of gradients


@pytest.mark.parametrize("gradient", ["edge_sweep", "opendr"])
def test_pixel_descents_are_what_the_renderer_would_do(gradient):
    camera, size = jnr.Camera(jnr.LookAt((0.0, 0.3, 3.0))), (7, 9)
    found = jnr.viz.pixel_descents(
        COLORED.vertices, COLORED.faces, camera=camera, image_size=size, gradient=gradient, brighter=False
    )
    assert found.shape == (*size, 42, 2)

    # A translation of the world to the right moves every vertex by its own number of pixels.
    def column(shift):
        clip = camera.clip_from_world(9 / 7) @ jnp.concatenate([COLORED.vertices.T + shift[:, None], jnp.ones((1, 42))])
        return ((clip[0] / clip[3] + 1) * 9 - 1) / 2, ((1 - clip[1] / clip[3]) * 7 - 1) / 2

    _, moves = jax.jvp(column, (jnp.zeros(3),), (jnp.array([1.0, 0.0, 0.0]),))
    moves = jnp.stack(moves, axis=-1)

    def alpha(shift):
        return jnr.render_silhouette(
            COLORED.vertices + shift, COLORED.faces, camera=camera, image_size=size, gradient=gradient
        )

    for pixel in ((3, 4), (2, 3), (1, 4)):
        grad = jax.grad(lambda shift, pixel=pixel: alpha(shift)[pixel])(jnp.zeros(3))
        np.testing.assert_allclose(-grad[0], jnp.sum(found[pixel] * moves), rtol=1e-3, atol=1e-4)


def test_figures_show_the_picture_the_arrows_and_the_map():
    pytest.importorskip("matplotlib", reason="the figures need Matplotlib")

    def loss(vertices):
        return jnp.sum(jnr.render_silhouette(vertices, COLORED.faces, image_size=12))

    figure = jnr.viz.descent_arrows(loss, COLORED.vertices, COLORED.faces, image_size=12)
    (axes,) = figure.axes
    assert axes.images[0].get_array().shape == (12, 12, 3)
    arrows = [c for c in axes.collections if hasattr(c, "U")]
    lengths = np.hypot(arrows[0].U, arrows[0].V)
    np.testing.assert_allclose(lengths.max(), 0.15 * 12, rtol=1e-5)

    figure = jnr.viz.reach_map(COLORED.vertices, COLORED.faces, image_size=8, gradient="opendr")
    colors = figure.axes[0].images[0].get_array()
    descents = jnr.viz.pixel_descents(COLORED.vertices, COLORED.faces, image_size=8, gradient="opendr")
    grey = np.all(colors == [0.85, 0.85, 0.85, 1.0], axis=-1)
    np.testing.assert_array_equal(grey, ~np.any(descents, axis=(2, 3)))


def test_vertices_that_stay_are_dots_on_the_axes_that_were_given():
    figure = pytest.importorskip("matplotlib.figure", reason="the figures need Matplotlib").Figure()
    axes = figure.subplots(1, 2)
    image = np.full((10, 14, 1), 0.5)
    found = jnr.viz.descent_arrows(lambda v: 0 * v.sum(), *COLORED[:2], image=image, ax=axes[1])
    assert found is figure
    assert not axes[0].collections
    (dots,) = axes[1].collections
    x, y = np.asarray(dots.get_offsets()).T
    clip = jnr.Camera().clip_positions(COLORED.vertices, 14 / 10)
    np.testing.assert_allclose(x, ((clip[:, 0] / clip[:, 3] + 1) * 14 - 1) / 2, atol=1e-4)
    np.testing.assert_allclose(y, ((1 - clip[:, 1] / clip[:, 3]) * 10 - 1) / 2, atol=1e-4)


def test_figure_without_matplotlib_is_an_error_with_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'^jnr\.viz needs Matplotlib; pip install "jnr\[examples\]"'):
        jnr.viz.reach_map(COLORED.vertices, COLORED.faces, image_size=4)
