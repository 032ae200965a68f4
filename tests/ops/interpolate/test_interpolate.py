import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jnr

HEIGHT, WIDTH = 13, 17
NUM_FACES = 4


def random_triangles(seed):
    """Separate triangles in clip space with varying depths and w from 0.7 to 3, in float64."""
    rng = np.random.default_rng(seed)
    w = rng.uniform(0.7, 3, (3 * NUM_FACES, 1))
    ndc = np.concatenate([rng.uniform(-1.2, 1.2, (3 * NUM_FACES, 2)), rng.uniform(-0.9, 0.9, (3 * NUM_FACES, 1))], 1)
    return np.concatenate([ndc * w, w], axis=1), np.arange(3 * NUM_FACES, dtype=np.int32).reshape(-1, 3)


def rasterize(clip_positions, faces):
    return jnr.rasterize(jnp.asarray(clip_positions), jnp.asarray(faces), (HEIGHT, WIDTH))


def weights_by_plane(corners, row, column):
    """Barycentrics where the pixel's ray hits the plane of the face, which is where x = x_ndc w and y = y_ndc w."""
    x_ndc, y_ndc = (2 * column + 1) / WIDTH - 1, 1 - (2 * row + 1) / HEIGHT
    x, y, _, w = corners.T
    return np.linalg.solve(np.stack([x - x_ndc * w, y - y_ndc * w, np.ones(3)]), [0, 0, 1])


@pytest.mark.parametrize("seed", range(4))
def test_values_are_those_where_the_pixels_ray_hits_the_face(seed):
    clip_positions, faces = random_triangles(seed)
    clip_positions = clip_positions.astype(np.float32)
    attributes = np.random.default_rng(seed + 100).normal(size=(len(clip_positions), 2)).astype(np.float32)
    fragments = rasterize(clip_positions, faces)
    face_index = np.asarray(fragments.face_index)
    assert (face_index >= 0).sum() > 20
    out = np.asarray(jnr.interpolate(jnp.asarray(attributes), faces, fragments, background=7.0))
    for row, column in np.ndindex(HEIGHT, WIDTH):
        face = face_index[row, column]
        if face < 0:
            np.testing.assert_array_equal(out[row, column], 7)
            np.testing.assert_array_equal(fragments.barycentric[row, column], 0)
            continue
        corners = clip_positions[faces[face]].astype(np.float64)
        weights = weights_by_plane(corners, row, column)
        # float32 minors of the corners cancel, most in slivers; the largest error observed is 2e-5
        np.testing.assert_allclose(fragments.barycentric[row, column], weights, atol=1e-4)
        np.testing.assert_allclose(out[row, column], weights @ attributes[faces[face]], atol=3e-4)
        np.testing.assert_allclose(fragments.clip_w[row, column], weights @ corners[:, 3], rtol=1e-4)


def test_interpolated_clip_w_equals_that_of_the_fragments():
    clip_positions, faces = random_triangles(0)
    clip_positions = clip_positions.astype(np.float32)
    fragments = rasterize(clip_positions, faces)
    w = jnr.interpolate(clip_positions[:, 3:], faces, fragments)
    # float32
    np.testing.assert_allclose(w[..., 0], fragments.clip_w, rtol=1e-6)


def test_ones_interpolate_to_ones():
    clip_positions, faces = random_triangles(1)
    fragments = rasterize(clip_positions.astype(np.float32), faces)
    ones = jnr.interpolate(jnp.ones((len(clip_positions), 1)), faces, fragments)[..., 0]
    # weights sum to one up to float32 rounding
    np.testing.assert_allclose(ones, fragments.face_index >= 0, atol=3e-7)


def test_per_corner_equals_per_vertex_where_corners_share_their_values():
    clip_positions, faces = random_triangles(0)
    fragments = rasterize(clip_positions.astype(np.float32), faces)
    attributes = jnp.asarray(np.random.default_rng(1).normal(size=(len(clip_positions), 2)), jnp.float32)
    np.testing.assert_array_equal(
        jnr.interpolate(attributes[faces], faces, fragments), jnr.interpolate(attributes, faces, fragments)
    )


def test_per_corner_values_differ_on_faces_that_share_vertices():
    square = np.array([[-1, -1, 0, 1], [1, -1, 0, 1], [1, 1, 0, 1], [-1, 1, 0, 1]], np.float32)
    faces = jnp.array([[0, 1, 2], [0, 2, 3]])
    fragments = jnr.rasterize(square, faces, (HEIGHT, WIDTH))
    attributes = jnp.stack([jnp.full((3, 1), 2.0), jnp.full((3, 1), 5.0)])
    out = jnr.interpolate(attributes, faces, fragments)[..., 0]
    # weights sum to one up to float32 rounding
    np.testing.assert_allclose(out, np.where(np.asarray(fragments.face_index) == 0, 2, 5), rtol=1e-6)


@pytest.mark.parametrize(
    "background", [3, -0.5, jnp.array([1.0, 2.0]), np.array(4.0)], ids=["int", "float", "channels", "0d"]
)
def test_background_is_the_value_of_uncovered_pixels(background):
    clip_positions, faces = random_triangles(2)
    fragments = rasterize(clip_positions.astype(np.float32), faces)
    attributes = jnp.ones((len(clip_positions), 2))
    out = jnr.interpolate(attributes, faces, fragments, background=background)
    empty = np.asarray(fragments.face_index) < 0
    assert 0 < empty.sum() < empty.size
    np.testing.assert_array_equal(out[empty], np.broadcast_to(np.asarray(background), (empty.sum(), 2)))
    np.testing.assert_array_equal(out[~empty], jnr.interpolate(attributes, faces, fragments)[~empty])


def test_background_is_differentiable():
    clip_positions, faces = random_triangles(2)
    fragments = rasterize(clip_positions.astype(np.float32), faces)
    attributes = jnp.ones((len(clip_positions), 2))
    gradient = jax.grad(lambda b: jnr.interpolate(attributes, faces, fragments, background=b).sum())(jnp.zeros(2))
    np.testing.assert_array_equal(gradient, (np.asarray(fragments.face_index) < 0).sum())


def test_derivatives_equal_finite_differences_in_both_modes():
    clip_positions, faces = random_triangles(3)
    rng = np.random.default_rng(4)

    def image(per_vertex, per_corner, clip_positions):
        fragments = rasterize(clip_positions, faces)
        images = [jnr.interpolate(attributes, faces, fragments) for attributes in (per_vertex, per_corner)]
        return *images, fragments.barycentric, fragments.clip_w

    arguments = rng.normal(size=(3 * NUM_FACES, 2)), rng.normal(size=(NUM_FACES, 3, 2)), clip_positions
    with jax.enable_x64(True):
        # Clip z only decides which face is visible, and no pixel changes its face within the step.
        check_grads(
            lambda *a: image(*map(jnp.asarray, a)),
            arguments,
            1,
            modes=("fwd", "rev"),
            atol=1e-6,  # central differences of step 1e-6; third derivatives of the weights reach 1e3
            rtol=1e-6,
            eps=1e-6,
        )
        total = jax.grad(lambda *a: sum(jnp.sum(o**2) for o in image(*a)), argnums=(0, 1, 2))
        *to_attributes, to_positions = map(np.asarray, total(*map(jnp.asarray, arguments)))
    for gradient in to_attributes:
        assert np.any(gradient != 0)
    assert np.all(np.any(to_positions[:, [0, 1, 3]] != 0, axis=0))
    np.testing.assert_array_equal(to_positions[:, 2], 0)


def test_gradient_to_attributes_is_the_sum_of_the_weights():
    clip_positions, faces = random_triangles(0)
    fragments = rasterize(clip_positions.astype(np.float32), faces)
    gradient = jax.grad(lambda a: jnr.interpolate(a, faces, fragments).sum())(jnp.zeros((3 * NUM_FACES, 1)))
    expected = np.zeros(3 * NUM_FACES)
    for face in range(NUM_FACES):
        for corner in range(3):
            seen = np.asarray(fragments.face_index) == face
            expected[3 * face + corner] = np.asarray(fragments.barycentric, np.float64)[seen, corner].sum()
    # float32 sums of at most 221 weights
    np.testing.assert_allclose(gradient[:, 0], expected, rtol=1e-5)


def test_values_of_invisible_faces_may_be_nan():
    clip_positions, faces = random_triangles(0)
    behind = clip_positions[:3] - np.array([0, 0, 0, 9])
    hidden = np.concatenate([clip_positions, behind]).astype(np.float32)
    faces = np.concatenate([[[12, 13, 14], [-1, -1, -1]], faces]).astype(np.int32)
    fragments = jnr.rasterize(hidden, faces, (HEIGHT, WIDTH))
    attributes = jnp.ones((15, 1)).at[12:].set(jnp.nan)

    def total(a):
        return jnr.interpolate(a, faces, fragments).sum()

    assert np.isfinite(total(attributes))
    assert np.all(np.isfinite(jax.grad(total)(attributes)))
    corners = jnp.ones((6, 3, 1)).at[:2].set(jnp.nan)
    assert np.isfinite(total(corners))
    assert np.all(np.isfinite(jax.grad(total)(corners)))


@pytest.mark.parametrize("shape", [(3 * NUM_FACES, 2), (NUM_FACES, 3, 2)], ids=["per_vertex", "per_corner"])
def test_vmap_over_attributes_equals_a_loop(shape):
    clip_positions, faces = random_triangles(0)
    fragments = rasterize(clip_positions.astype(np.float32), faces)
    batch = jnp.asarray(np.random.default_rng(0).normal(size=(3, *shape)), jnp.float32)
    out = jax.vmap(lambda a: jnr.interpolate(a, faces, fragments, background=0.5))(batch)
    # float32 sums of three products, in another order
    np.testing.assert_allclose(
        out, [jnr.interpolate(a, faces, fragments, background=0.5) for a in batch], rtol=1e-5, atol=1e-6
    )


def test_floating_point_attributes_keep_their_dtype_and_integers_become_float32():
    clip_positions, faces = random_triangles(0)
    fragments = rasterize(clip_positions.astype(np.float32), faces)
    half = jnr.interpolate(jnp.full((3 * NUM_FACES, 1), 2, jnp.float16), faces, fragments, background=1)
    assert half.dtype == jnp.float16
    # three rounding errors of float16
    np.testing.assert_allclose(half[..., 0], np.where(fragments.face_index >= 0, 2, 1), rtol=3e-3)
    whole = jnr.interpolate(np.full((3 * NUM_FACES, 1), 2), faces, fragments)
    assert whole.dtype == jnp.float32


@pytest.mark.parametrize("shape", [(0, 2), (0, 3, 2), (3, 0)], ids=["no_vertices", "no_faces", "no_channels"])
def test_empty_operands_give_the_background(shape):
    faces = jnp.zeros((0, 3), jnp.int32)
    fragments = jnr.rasterize(jnp.zeros((shape[0] if len(shape) == 2 else 0, 4)), faces, (HEIGHT, WIDTH))
    out = jnr.interpolate(jnp.zeros(shape), faces, fragments, background=2.0)
    np.testing.assert_array_equal(out, np.full((HEIGHT, WIDTH, shape[-1]), 2))


@pytest.mark.validation
@pytest.mark.parametrize(
    ("attributes", "options", "error", "message"),
    [
        (np.zeros(12), {}, ValueError, r"attributes must have shape .*, got \(12,\)\."),
        (np.zeros((4, 3, 2, 1)), {}, ValueError, r"attributes must have shape .*, got \(4, 3, 2, 1\)\."),
        (np.zeros((5, 3, 2)), {}, ValueError, r"attributes must have shape \(4, 3, channels\), got \(5, 3, 2\)\."),
        (np.zeros((4, 2, 2)), {}, ValueError, r"attributes must have shape \(4, 3, channels\), got \(4, 2, 2\)\."),
        (np.zeros((11, 2)), {}, ValueError, r"faces must hold vertex indices from 0 to 10 .*, got 0 to 11\."),
        (np.zeros((12, 2), complex), {}, TypeError, r"attributes must be real numbers, got dtype complex"),
        (np.zeros((12, 2), bool), {}, TypeError, r"attributes must be real numbers, got dtype bool\."),
        ("colours", {}, TypeError, r"attributes must be an array of numbers, got str\."),
        (np.zeros((12, 2)), {"background": np.zeros(3)}, ValueError, r"background must .*2.*, got shape \(3,\)\."),
        (
            np.zeros((12, 2)),
            {"background": np.zeros((1, 1, 1, 2))},
            ValueError,
            r"background must .*, got shape \(1, 1, 1, 2\)\.",
        ),
        (np.zeros((12, 2)), {"background": "black"}, TypeError, r"background must be .*, got str\."),
    ],
    ids=[
        "rank_1",
        "rank_4",
        "faces",
        "corners",
        "vertices",
        "complex",
        "bool",
        "kind",
        "background",
        "background_rank",
        "background_kind",
    ],
)
def test_invalid_argument_is_named_in_the_error(attributes, options, error, message):
    clip_positions, faces = random_triangles(0)
    fragments = rasterize(clip_positions.astype(np.float32), faces)
    with pytest.raises(error, match=f"^{message}"):
        jnr.interpolate(attributes, faces, fragments, **options)
