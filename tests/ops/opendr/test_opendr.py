"""Properties of OpenDR's gradient, and its values recorded from OpenDR."""

from functools import partial

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import triangles

import jnr
from jnr._ops.opendr.definition import occlusion_boundary, opendr_bwd

BALL = jnr.shapes.icosphere(1)
NO_FACE = 4294967295  # OpenDR's index of pixels without a face


@pytest.fixture(scope="module")
def triangle():
    return triangles.small_triangle(lambda case: jnr.gradients.OpenDR())


def test_opendr_is_exactly_zero_for_pixels_outside_the_face(triangle):
    assert np.any(triangle["gradients"])
    np.testing.assert_array_equal(triangle["gradients"][:, ~triangle["inside"]], 0)


def test_opendr_is_exactly_zero_more_than_two_pixels_from_the_edge(triangle):
    far = triangle["inside"] & (triangle["distance"] > 2)
    assert far.any()
    np.testing.assert_array_equal(triangle["gradients"][:, far], 0)


def test_recorded_opendr_reaches_less_than_a_pixel_outside_the_face(triangle):
    # OpenDR also renders the outline as lines, whose pixels count as covered. jnr does not.
    recorded = np.abs(triangle["case"]["odr_closed_J"]).max(axis=(2, 3)) > 0
    outside = recorded & ~triangle["inside"]
    assert outside.any()
    # Pixels that an OpenGL line of width one covers are at most sqrt(1/2) from it.
    assert triangle["distance"][outside].max() <= np.sqrt(0.5) + 1e-6


def test_opendr_for_a_brighter_pixel_is_exactly_minus_that_for_a_darker_one(triangle):
    darker, brighter = triangle["gradients"]
    np.testing.assert_array_equal(brighter, -darker)


def test_opendr_moves_vertices_for_pixels_that_are_already_bright(triangle):
    brighter = triangle["gradients"][1]
    edge = triangle["inside"] & (triangle["distance"] < 1)
    assert np.abs(brighter[edge]).max() > 0


def jacobian(image, faces, visibility, barycentric, boundary, num_vertices):
    """Derivative of the image by the vertices' pixel coordinates, y down: (height, width, channels, vertices, 2)."""
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
@pytest.mark.parametrize("name", triangles.NAMES)
def test_opendr_equals_the_recorded_jacobian(name, variant, boundary):
    case = golden.load(name)
    if variant.startswith("fn"):
        image, covered, barycentric = case["nr_alpha"], case["nr_alpha"] > 0, case["nr_weight"]
    else:
        image, barycentric = case[f"{variant}_image"], case[f"{variant}_barycentric"]
        covered = case[f"{variant}_visibility"] != NO_FACE
    visibility = np.where(covered, 0, -1).astype(np.int32)
    mask = None if boundary is None else case[boundary] > 0
    found = jacobian(image[..., None], np.array([[0, 1, 2]], np.int32), visibility, barycentric, mask, 3)
    # README.md of the golden data, section 7: tolerance of comparisons of functions.
    np.testing.assert_allclose(found[:, :, 0], case[f"{variant}_J"], atol=1e-5)


@pytest.mark.parametrize("name", ["opendr_ico1_is48", "opendr_bumpy"])
@pytest.mark.parametrize("matrix", ["J", "J2"])
def test_opendr_equals_the_recorded_jacobian_of_a_shaded_mesh(name, matrix):
    case = golden.load(name)
    size = int(case["image_size"])
    expected = np.zeros(tuple(case["J_shape"]), np.float32)
    np.add.at(expected, (case[f"{matrix}_row"], case[f"{matrix}_col"]), case[f"{matrix}_val"])
    visibility = np.where(case["visibility"] == NO_FACE, -1, case["visibility"]).astype(np.int32)
    boundary = case["boundary"] > 0 if matrix == "J" else None
    operands = case["image"], case["faces"], visibility, case["barycentric"], boundary
    found = jacobian(*operands, len(case["vertices_px"])).reshape(size * size * 3, -1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_opendr_without_a_boundary_equals_the_recorded_jacobian():
    case = golden.load("opendr_tri16")
    variant = "odr_nooverdraw"
    visibility = np.where(case[f"{variant}_visibility"] != NO_FACE, 0, -1).astype(np.int32)
    fragments = jnr.Fragments(visibility, case[f"{variant}_barycentric"], np.ones((16, 16), np.float32))  # pyright: ignore[reportArgumentType]
    image = case[f"{variant}_image"][..., None]
    cotangent = np.random.default_rng(0).normal(size=image.shape).astype(np.float32)

    @partial(jax.jit, static_argnums=0)
    def gradient(boundary):
        clip = jnp.tile(jnp.array([[0.0, 0, 0, 1]]), (3, 1))
        return jax.vjp(lambda c: jnr.opendr(image, c, triangles.FACES, fragments, boundary=boundary), clip)[1](
            cotangent
        )[0]

    found = gradient(None)[:, :2] * jnp.array([2 / 16, -2 / 16])
    expected = np.tensordot(cotangent[..., 0], case[f"{variant}_J"], 2)
    # Sums of 256 terms that each agree to 1e-5.
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(gradient(None) - gradient("occlusion")).max() > 0.1


def test_occlusion_boundary_of_a_closed_mesh_equals_the_recorded_one():
    case = golden.load("opendr_ico1_is48")
    size, depth = int(case["image_size"]), case["depth"][:, None]
    ndc = (2 * case["vertices_px"] + 1) / size - 1
    clip = np.concatenate([ndc * [1, -1] * depth, (depth - 4) / 2 * depth, depth], axis=-1)
    face_index = np.where(case["visibility"] == NO_FACE, -1, case["visibility"]).astype(np.int32)
    found = np.asarray(occlusion_boundary(jnp.asarray(clip, jnp.float32), jnp.asarray(case["faces"]), face_index))  # pyright: ignore[reportArgumentType]
    recorded = (case["boundary"] > 0) & (face_index >= 0)
    # OpenDR draws lines along silhouette edges, which may miss a pixel at a corner.
    assert (found != recorded).sum() <= 2


def test_occlusion_boundary_is_the_rim_of_each_of_two_squares_in_front_of_one_another():
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
def test_curved_surface_of_faces_smaller_than_a_pixel_has_no_inner_occlusion_boundary(bend):
    grid = jnr.shapes.plane(150, 150)
    x, y = 1.4 * grid.vertices[:, 0], 1.4 * grid.vertices[:, 1]
    clip = jnp.stack([x, y, bend * (x**2 + y**2), jnp.ones_like(x)], axis=-1)
    face_index = jnr.rasterize(clip, grid.faces, 64).face_index
    covered = np.asarray(face_index) >= 0
    inner = np.logical_and.reduce([np.roll(covered, shift, axis) for axis in (0, 1) for shift in (-1, 0, 1)])
    assert inner.sum() > 1000
    found = jax.jit(occlusion_boundary)(clip, grid.faces, face_index)
    np.testing.assert_array_equal(found, covered & ~inner)


def test_opendr_moves_a_mesh_that_overlaps_its_target_towards_it():
    target = jnr.render_silhouette(BALL.vertices + jnp.array([0.05, 0.0, 0.0]), BALL.faces, image_size=64)

    def loss(shift):
        alpha = jnr.render_silhouette(BALL.vertices + shift, BALL.faces, image_size=64, gradient="opendr")
        return jnp.sum((alpha - target) ** 2)

    assert jax.grad(loss)(jnp.zeros(3))[0] < 0


def test_opendr_of_invalid_faces_is_zero_and_never_nan():
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
def test_opendr_of_a_mesh_without_faces_is_zero(num_vertices):
    vertices, faces = jnp.ones((num_vertices, 3)), jnp.zeros((0, 3), jnp.int32)
    rgb, pull = jax.vjp(lambda v: jnr.render(v, faces, image_size=6, gradient="opendr").rgb, vertices)
    np.testing.assert_array_equal(rgb, 0)
    np.testing.assert_array_equal(pull(jnp.ones_like(rgb))[0], np.zeros((num_vertices, 3)))


def planes(*depths_and_slopes):
    """Large triangles that share no vertex, each with a depth at x = 0 and a slope by x."""
    corners = [(-9.0, -9.0), (9.0, -9.0), (0.0, 9.0)]
    clip = [(x, y, depth + slope * x, 1.0) for depth, slope in depths_and_slopes for x, y in corners]
    return jnp.array(clip), jnp.arange(3 * len(depths_and_slopes), dtype=jnp.int32).reshape(-1, 3)


def test_slope_of_background_does_not_hide_an_occlusion_boundary():
    clip, faces = planes((0.0, 10.0), (-0.5, 0.0), (0.5, 0.0))
    boundary = occlusion_boundary(clip, faces, jnp.array([[1, 2, -1]], jnp.int32))
    assert boundary.tolist() == [[True, True, False]]


def test_slope_of_the_opposite_side_of_the_image_does_not_hide_an_occlusion_boundary():
    # Two pixels at x = -0.5 and 0.5; beyond the second there is no third.
    clip, faces = planes((1.0, 3.0), (0.5, 0.0))
    assert occlusion_boundary(clip, faces, jnp.array([[0, 1]], jnp.int32))[0, 0]
