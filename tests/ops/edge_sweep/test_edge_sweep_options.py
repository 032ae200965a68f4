"""The options of the edge sweep that leave out what moving an edge would not change.

Most scenes have a loss in one row of 16 pixels. The edges that matter are vertical, at CROSSING or END, and reach
equally far above and below that row, so the crossing moves by half of what a vertex moves.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from scenes import KERNELS, NEEDS, NOTHING_HIDES, check_sweep, depth_limit_of, padded

import jnr
from jnr._ops.edge_sweep import edge_sweep_bwd_p

SIZE, ROW, EPS = 16, 8, 1e-3
ROW_Y = 1 - (2 * ROW + 1) / SIZE
CROSSING, END = 5.3, 10.3
# The interpreter takes seconds per call, so it runs some of the scenes.
FAST = ["xla", pytest.param("cpu", marks=NEEDS["cpu"])]


def corner(column, y, depth=0.5, w=1.0):
    """A clip position from a column, NDC y relative to the row, NDC depth and w."""
    return [((2 * column + 1) / SIZE - 1) * w, (ROW_Y + y) * w, depth * w, w]


def pull(*columns, crossing=CROSSING):
    """What pixels with a gain of 1 add to the gradient of one vertex of an edge, by NDC x."""
    return sum(np.sign(crossing - j) * 0.5 / (abs(j - crossing) * 2 / SIZE + EPS / 2) for j in columns)


def sweep(corners, faces, bright, wanted, backend, **options):
    """The gradient of clip x of the first eight vertices.

    Faces in `bright`, and with -1 the background, have colour 1 and the others 0; the loss falls as pixels in `wanted`
    get darker.
    """
    # Padded to the balls' size, so that plain JAX compiles once.
    clip = np.zeros((84, 4), np.float32)
    clip[: len(corners)] = corners
    faces = np.pad(faces, ((0, 160 - len(faces)), (0, 0)), constant_values=-1).astype(np.int32)
    fragments = jnr.rasterize(clip, faces, SIZE, backend="xla")
    image = jnp.asarray(np.isin(fragments.face_index, bright), jnp.float32)[..., None]
    cotangent = jnp.zeros_like(image).at[ROW, list(wanted)].set(1)
    gradient = jnr.gradients.EdgeSweep(EPS, backend=backend, **options)
    return np.asarray(gradient(image, cotangent, jnp.asarray(clip), jnp.asarray(faces), fragments))[:8, 0]


def behind_a_stripe(columns, depth, w=1.0, crossing=CROSSING):
    """A face that ends at the crossing, at a depth of 0.5 there and of 0.48 in the pixel before, and a stripe."""
    first, last = columns
    face = [corner(crossing, -2, 0.2), corner(crossing, 2, 0.8), corner(-16.5, 0.1, -0.9)]
    stripe = [corner(x, y, depth, w) for x in (first - 0.4, last + 0.4) for y in (-2, 2)]
    return [*face, *stripe], [[0, 1, 2], [3, 4, 5], [6, 5, 4]]


# The second and third are nearer than the crossing alone: than neither the face in the in-pixel, nor, by clip z, any.
NEARER = {"near": (0.2, 1), "between": (0.49, 1), "large_z": (0.4, 4)}
NOT_NEARER = {"equal": (0.5, 1), "farther": (0.6, 1), "small_z": (0.6, 0.25)}


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("stripe", [*NEARER, *NOT_NEARER])
def test_a_sweep_ends_at_the_first_pixel_that_sees_a_nearer_surface(stripe, backend):
    corners, faces = behind_a_stripe((9, 11), *(NEARER | NOT_NEARER)[stripe])
    # Pixels of the stripe and those on its other side gain as much as those before it.
    scene = corners, faces, (-1, 1, 2), range(6, 16), backend
    expected = pull(*range(6, 9 if stripe in NEARER else 16))
    np.testing.assert_allclose(sweep(*scene, occlusion=True), [expected] * 2 + [0] * 6, rtol=1e-4)
    if stripe == "near":
        np.testing.assert_allclose(sweep(*scene), [pull(*range(6, 16))] * 2 + [0] * 6, rtol=1e-4)


@pytest.mark.parametrize("backend", ["xla", *KERNELS])
def test_a_sweep_to_the_left_ends_at_the_first_pixel_that_sees_a_nearer_surface(backend):
    face = [corner(END, -2), corner(END, 2), corner(32, 0.1)]
    stripes = [corner(x, y, 0.2) for x in (2.6, 4.4) for y in (-2, 2)]
    scene = [*face, *stripes], [[0, 1, 2], [3, 4, 5], [6, 5, 4]], (-1, 1, 2), range(11), backend
    for options, first in (({"occlusion": True}, 5), ({}, 0)):
        expected = pull(*range(first, 11), crossing=END)
        np.testing.assert_allclose(sweep(*scene, **options), [expected] * 2 + [0] * 6, rtol=1e-4)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("crossing", [CROSSING, 7.3], ids=["beside_the_edge", "over_the_edge"])
def test_an_occluders_colour_is_not_the_colour_behind(crossing, backend):
    corners, faces = behind_a_stripe((6, 9), 0.2, crossing=crossing)
    # The face would get darker if the crossing moved left and uncovered the stripe's colour.
    scene = corners, faces, (0,), range(6), backend
    np.testing.assert_allclose(sweep(*scene)[:2], [pull(*range(6), crossing=crossing)] * 2, rtol=1e-4)
    np.testing.assert_array_equal(sweep(*scene, occlusion=True)[:3], 0)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("stripe", [((2, 3), 0.2), ((6, 9), 0.6)], ids=["before_the_edge", "farther"])
def test_the_colour_of_what_is_behind_counts(stripe, backend):
    corners, faces = behind_a_stripe(*stripe)
    seen = [j for j in range(6) if stripe[1] > 0.5 or j not in (2, 3)]
    found = sweep(corners, faces, (0,), seen, backend, occlusion=True)
    np.testing.assert_allclose(found[:2], [pull(*seen)] * 2, rtol=1e-4)


LEFT, RIGHT = corner(-16.5, 0.1), corner(32, 0.1)
EDGE = [corner(CROSSING, -2), corner(CROSSING, 2)]
SEAMS = {
    "joined": ([*EDGE, LEFT, RIGHT], [[0, 1, 2], [1, 0, 3]]),
    "one_vertex": ([*EDGE, LEFT, RIGHT, EDGE[1]], [[0, 1, 2], [4, 0, 3]]),
    "no_vertex": ([*EDGE, LEFT, RIGHT, *EDGE], [[0, 1, 2], [5, 4, 3]]),
}


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("seam", SEAMS)
def test_an_edge_between_two_seen_faces_that_share_it_is_left_out(seam, backend):
    corners, faces = SEAMS[seam]
    # The right face would get darker if the edge moved right: sweeps of the left face, and in terms of the right one.
    scene = corners, faces, (1,), range(SIZE), backend
    of_left = of_right = pull(*range(6, 16))
    owners = {"joined": [of_left + of_right] * 2, "one_vertex": [of_left + of_right, of_left, 0, 0, of_right]}
    expected = (owners | {"no_vertex": [of_left, of_left, 0, 0, of_right, of_right]})[seam]
    expected = [*expected, *[0] * (8 - len(expected))]
    np.testing.assert_allclose(sweep(*scene), expected, rtol=1e-4)
    only_silhouettes = sweep(*scene, silhouettes_only=True)
    np.testing.assert_allclose(only_silhouettes, np.zeros(8) if seam == "joined" else expected, rtol=1e-4)


@pytest.mark.parametrize("backend", ["xla", *KERNELS])
def test_only_the_outline_of_a_surface_is_pulled(backend):
    # A strip of three faces whose crossings are at 5.3, 7.8 and 10.3; the first face is the last in the row.
    corners = [*EDGE, LEFT, corner(END, -2), corner(END, 2)]
    scene = corners, [[0, 3, 4], [0, 1, 2], [1, 0, 4]], (-1,), range(11, 16), backend
    outline = pull(*range(11, 16), crossing=END)
    np.testing.assert_allclose(sweep(*scene, silhouettes_only=True), [0, 0, 0, outline, outline, 0, 0, 0], rtol=1e-4)
    left, diagonal = (pull(*range(11, 16), crossing=crossing) for crossing in (CROSSING, (CROSSING + END) / 2))
    published = [left + diagonal, left, 0, outline, outline + diagonal, 0, 0, 0]
    np.testing.assert_allclose(sweep(*scene), published, rtol=1e-4)


def backward_pass(image, cotangent, clip, faces, face_index, option, backend):
    """The gradient of one image, and the depth limit."""
    limit = depth_limit_of(clip, faces, face_index[None]) if option == "occlusion" else NOTHING_HIDES
    operands = (jnp.asarray(a)[None] for a in (image, cotangent, clip, faces, face_index, limit[0]))
    options = {"eps": EPS, "deterministic": False, "silhouettes_only": option == "silhouettes_only"}
    return np.asarray(edge_sweep_bwd_p.bind(*operands, backend=backend, **options))[0], limit[0]


@pytest.mark.parametrize("backend", ["xla", *KERNELS])
@pytest.mark.parametrize("option", ["occlusion", "silhouettes_only"])
def test_gradient_of_two_balls_equals_the_oracle(option, backend):
    ball = jnr.shapes.icosphere(1)
    # Sheared, since edges at exactly the depth of a face are ambiguous.
    around = ball.vertices @ jnp.array([[1, 0, 0.1], [0, 1, 0.2], [0, 0, 1]])
    vertices = jnp.concatenate(
        [0.9 * around + jnp.array([0.37, 0.11, 0]), 0.5 * around + jnp.array([-0.21, 0.05, 1.2])]
    )
    faces = np.concatenate([ball.faces, ball.faces + len(ball.vertices)])
    clip = np.asarray(jnr.Camera(projection=jnr.Perspective(near=1, far=5)).clip_positions(vertices))
    face_index = np.asarray(jnr.rasterize(clip, faces, SIZE, backend="xla").face_index)
    image, cotangent = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 1)).astype(np.float32)
    found, limit = backward_pass(image, cotangent, clip, faces, face_index, option, backend)
    options = {"depth": limit} if option == "occlusion" else {"silhouettes_only": True}
    swept = oracle.edge_sweep(image, cotangent, clip, faces, face_index, **options)
    published = oracle.edge_sweep(image, cotangent, clip, faces, face_index)
    assert swept.clear.mean() > 0.8
    assert np.linalg.norm(swept.gradient - published.gradient) > 0.3 * np.linalg.norm(published.gradient)
    assert np.all(np.abs(found - swept.gradient)[swept.clear] <= swept.rounding[swept.clear])


@NEEDS["cpu"]
@pytest.mark.parametrize("option", ["occlusion", "silhouettes_only"])
@pytest.mark.parametrize("scene", ["degenerate", "near_plane", "not_finite", "padding", "shared_edges", "ties"])
def test_kernel_with_an_option_agrees_with_plain_jax(scene, option):
    clip, faces = padded(scene, 84, 160)
    if scene in ("shared_edges", "ties"):
        # Edges are moved off pixel centres, where the gradient's sign is that of a rounding error.
        clip[:, :2] += np.random.default_rng(1).uniform(-0.02, 0.02, (len(clip), 2)).astype(np.float32)
    face_index = np.asarray(jnr.rasterize(clip, faces, SIZE, backend="xla").face_index)
    noise, cotangent = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 1)).astype(np.float32)
    # With one colour on all faces the C++ kernel lists the gains that they share.
    for image in (noise, np.float32(face_index >= 0)[..., None]):
        scene = image, cotangent, clip, faces, face_index, option
        check_sweep(backward_pass(*scene, "cpu")[0], backward_pass(*scene, "xla")[0])


def test_batch_with_occlusion_equals_a_loop_over_its_items():
    corners, faces = behind_a_stripe((9, 11), 0.2)
    clips = jnp.stack([jnp.asarray(corners, jnp.float32), jnp.asarray(corners, jnp.float32).at[3:, 2].set(0.7)])
    cotangent = jnp.asarray(np.random.default_rng(0).normal(size=(SIZE, SIZE, 1)), jnp.float32)

    def pulled(clip):
        fragments = jnr.rasterize(clip, np.array(faces), SIZE)
        image = jnp.where(fragments.face_index == 0, 0.0, 1.0)[..., None]
        attach = functools.partial(jnr.edge_sweep, image, faces=np.array(faces), fragments=fragments, occlusion=True)
        return jax.vjp(attach, clip)[1](cotangent)[0]

    together, alone = jax.jit(jax.vmap(pulled))(clips), jnp.stack([jax.jit(pulled)(clip) for clip in clips])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-4)
    # The second stripe is behind the face, and hides nothing.
    assert np.linalg.norm(alone[0, :2, 0] - alone[1, :2, 0]) > 0.1 * np.linalg.norm(alone[1, :2, 0])


@pytest.mark.validation
@pytest.mark.parametrize("option", ["occlusion", "silhouettes_only"])
def test_an_option_that_is_not_a_flag_is_an_error_that_names_it(option):
    with pytest.raises(TypeError, match=rf"^{option} must be True or False, got 1"):
        jnr.gradients.EdgeSweep(**{option: 1})  # pyright: ignore[reportArgumentType]: wrong on purpose
