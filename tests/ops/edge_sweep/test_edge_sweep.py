import golden as reference_data
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from scenes import KERNELS, NEEDS, NOTHING_HIDES, SCENES, check_sweep, golden_soup, on, on_gpu, padded

import jnr
from jnr._ops.edge_sweep import edge_sweep_bwd_p
from jnr._ops.edge_sweep.definition import edge_sweep_bwd as edge_sweep_definition
from jnr._ops.rasterize.definition import rasterize as rasterize_definition

reference = jax.jit(edge_sweep_definition, static_argnames="eps")
rasterize = jax.jit(rasterize_definition, static_argnames=("height", "width", "cull"))


def run(*operands, backend, eps=1e-3, deterministic=False):
    options = {"eps": eps, "deterministic": deterministic, "silhouettes_only": False}
    return np.asarray(edge_sweep_bwd_p.bind(*map(jnp.asarray, (*operands, NOTHING_HIDES)), backend=backend, **options))


def compare(clip, faces, height, width, channels, **options):
    face_index = rasterize(clip[None], faces[None], height=height, width=width, cull=None)
    rng = np.random.default_rng(0)
    image, cotangent = rng.normal(size=(2, 1, height, width, channels)).astype(np.float32)
    operands = image, cotangent, clip[None], faces[None], face_index
    expected = np.asarray(reference(*operands, NOTHING_HIDES, eps=1e-3))
    assert np.isfinite(expected).all()
    check_sweep(run(*operands, **options), expected)


# The interpreter takes seconds per scene; test_edge_sweep_emulated.py runs the same kernel compiled on more scenes.
AWKWARD = ["degenerate", "near_plane", "not_finite", "padding", "shared_edges", "ties"]
CASES = [on("cpu", scene, channels) for scene in AWKWARD for channels in (1, 3)]
CASES += [on("interpret", "not_finite", 1), on("interpret", "ties", 3)]


@pytest.mark.parametrize(("backend", "scene", "channels"), CASES)
def test_kernel_agrees_with_plain_jax(backend, scene, channels):
    clip, faces = padded(scene)
    if scene in ("shared_edges", "ties"):
        # An edge through a pixel centre contributes 1 / eps with the sign of a rounding error, so edges are moved off.
        clip[:, :2] += np.random.default_rng(1).uniform(-0.02, 0.02, (len(clip), 2)).astype(np.float32)
    compare(clip, faces, 12, 18, channels, backend=backend)


UNUSUAL = ["no_faces", "one_pixel", "odd_sizes", "wider_than_a_block"]


@pytest.mark.parametrize(
    ("backend", "scene"),
    [on("cpu", scene) for scene in UNUSUAL] + [on("interpret", scene) for scene in UNUSUAL if scene != "odd_sizes"],
)
def test_kernel_agrees_with_plain_jax_at_unusual_sizes(backend, scene):
    compare(*SCENES[scene], channels=2, backend=backend)


@NEEDS["interpret"]
@pytest.mark.parametrize("scene", ["odd_sizes"])
def test_fixed_point_sums_agree_with_plain_jax(scene):
    compare(*SCENES[scene], channels=2, deterministic=True, backend="interpret")


@NEEDS["interpret"]
def test_fixed_point_sums_convert_to_float32_up_to_rounding():
    from jnr.triton_kernels.edge_sweep import _from_fixed_point

    terms = np.array([3.0, -1e-6, 2e-38, -5e37, 1.5], np.float32)
    largest = np.abs(terms).view(np.int32)
    bits = 40
    unit = np.ldexp(1.0, np.clip((largest >> 23) - 127, -126, 126)).astype(np.float64)
    words = np.trunc(terms / unit * 2.0**bits).astype(np.int64)
    sums = words.view(np.uint32).reshape(-1, 2)
    np.testing.assert_allclose(_from_fixed_point(jnp.asarray(sums), jnp.asarray(largest), bits), terms, rtol=2e-7)
    # Sums that cancel to a few units in the last place.
    small = np.array([-3, 5], np.int64).view(np.uint32).reshape(-1, 2)
    one = np.array([1.0, 1.0], np.float32).view(np.int32)
    np.testing.assert_array_equal(
        _from_fixed_point(jnp.asarray(small), jnp.asarray(one), bits), [-3 * 2.0**-40, 5 * 2.0**-40]
    )
    overflow = np.array([np.nan, np.inf], np.float32).view(np.int32)
    assert np.isnan(_from_fixed_point(jnp.asarray(small), jnp.asarray(overflow), bits)).all()


@pytest.mark.parametrize("backend", ["xla", *KERNELS])
def test_corner_at_a_pixel_centre_contributes_once_in_any_order_of_corners(backend):
    # The face is visible in one pixel, whose centre is one of its corners.
    clip = jnp.array([[0, 0, 0, 1], [0, 1 / 64, 0, 1], [1 / 16, 1 / 16, 0, 1]], jnp.float32)
    image = jnp.zeros((1, 16, 16, 1)).at[0, 7, 8].set(1)
    cotangent = -jnp.ones_like(image)
    face_index = jnp.where(image[..., 0] > 0, 0, -1).astype(jnp.int32)
    grads = [
        run(image, cotangent, clip[None], jnp.array([[face]], jnp.int32), face_index, backend=backend)[0]
        for face in ([0, 1, 2], [1, 2, 0], [2, 0, 1])
    ]
    # Each of the 7 pixels on its right contributes 1 / (distance + eps), each of the 8 on its left the negative.
    ndc = 2 / 16 * np.arange(1, 9)
    assert grads[0][2, 0] == pytest.approx(np.sum(1 / (ndc + 1e-3)) - np.sum(1 / (ndc[:7] + 1e-3)), rel=1e-4)
    for grad in grads[1:]:
        np.testing.assert_allclose(grad, grads[0], rtol=1e-5)


@pytest.mark.parametrize("backend", ["xla", *KERNELS])
def test_gradient_of_a_loss_that_falls_with_brighter_pixels_equals_the_oracle(backend):
    # Sweeps skip pixels with a zero cotangent, but not those with a negative one.
    clip, faces, height, width = SCENES["odd_sizes"]
    face_index = np.asarray(rasterize(clip[None], faces[None], height=height, width=width, cull=None))
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, height, width, 1)).astype(np.float32)
    cotangent = -rng.random(image.shape).astype(np.float32)
    out = run(image, cotangent, clip[None], faces[None], face_index, backend=backend)[0]
    swept = oracle.edge_sweep(image[0], cotangent[0], clip, faces, face_index[0])
    assert swept.clear.mean() > 0.8
    assert np.abs(swept.gradient).max() > 0
    assert np.all(np.abs(out - swept.gradient)[swept.clear] <= swept.rounding[swept.clear])


@pytest.mark.parametrize("backend", KERNELS)
def test_zero_cotangents_give_zero(backend):
    clip, faces, height, width = SCENES["odd_sizes"]
    face_index = rasterize(clip[None], faces[None], height=height, width=width, cull=None)
    image = np.random.default_rng(0).normal(size=(1, height, width, 1)).astype(np.float32)
    assert not run(image, 0 * image, clip[None], faces[None], face_index, backend=backend).any()


@pytest.mark.parametrize("shared", ["faces", "image", "nothing"])
@pytest.mark.parametrize("backend", KERNELS)
def test_batch_equals_a_loop_over_its_items(backend, shared):
    (clip, faces, *_), height, width = SCENES["odd_sizes"], 6, 14
    rng = np.random.default_rng(0)
    clips = np.stack([clip, clip * np.array([-1, 1, 1, 1], np.float32)])
    many_faces = np.stack([faces, faces[::-1]])
    image, cotangent = rng.normal(size=(2, 2, height, width, 2)).astype(np.float32)
    many_faces = many_faces[:1] if shared == "faces" else many_faces
    image = image[:1] if shared == "image" else image
    face_index = np.asarray(rasterize(clips, many_faces, height=height, width=width, cull=None))
    out = run(image, cotangent, clips, many_faces, face_index, backend=backend)
    for i in range(2):
        item = (a[min(i, len(a) - 1)][None] for a in (image, cotangent, clips, many_faces, face_index))
        # Both add their terms in the same order.
        np.testing.assert_allclose(out[i], run(*item, backend=backend)[0], rtol=1e-5, atol=1e-4)


SMALL = ["soup_F1_is32", "soup_F64_is32", "occlusion_pairs", "offscreen", "thin", "nearfar", "single_tri_case2"]


LARGE = [name for name in reference_data.KERNEL_CASES if not name.startswith("illcond") and name not in SMALL]


@pytest.mark.parametrize(
    ("backend", "case", "outputs"),
    # The tests above interpret other numbers of channels; test_edge_sweep_emulated.py runs them compiled.
    [on("interpret", case, "rgba") for case in ("soup_F1_is32", "thin")]
    + [on("cpu", case, outputs) for case in SMALL + LARGE for outputs in ("alpha", "rgb", "rgba")]
    + [on_gpu(case, outputs) for case in reference_data.STORED_SOUPS for outputs in ("alpha", "rgba")],
)
def test_gradient_equals_the_golden_data(backend, case, outputs):
    clip, faces, data = golden_soup(case)
    # Items are independent images, so two cover the batch axis. Row 0 of the golden maps is at the bottom.
    kept = slice(2)
    names = {"alpha": ["alpha"], "rgb": ["rgb"], "rgba": ["rgb", "alpha"]}[outputs]

    def stack(pattern):
        maps = (data[pattern.format(name)][kept, ::-1] for name in names)
        return np.concatenate([m.reshape(*m.shape[:3], -1) for m in maps], axis=-1)

    face_index = np.ascontiguousarray(data["face_index_map"][kept, ::-1])
    out = run(stack("{}_map"), stack("g_{}"), clip[kept], faces, face_index, backend=backend, eps=float(data["eps"]))
    # Clip x is x * z, so the gradient by NDC x is the gradient by clip x times z.
    depth = data["faces_xyz"][kept, ..., 2:]
    out = out[..., :2].reshape(*depth.shape[:-1], 2) * depth
    expected = data[f"grad_faces_{outputs}"][kept, ..., :2]
    # Quirks 3 and 7 of the original (README.md of the golden data, section 5) are not reproduced.
    usable = (depth > 0).all(axis=(2, 3)) & ~data.get("trunc_quirk_faces", np.zeros(depth.shape[:2], bool))[kept]
    assert usable.any()
    assert np.abs(expected[usable]).max() > 0 or case == "backfacing"
    # Tolerance: README.md of the golden data, section 6.
    assert reference_data.relative_l2(out[usable], expected[usable]) <= 2e-3


@pytest.mark.parametrize("backend", KERNELS)
def test_kernels_run_inside_jit_vmap_and_grad(backend):
    mesh = jnr.shapes.icosphere(0)
    vertices = mesh.vertices * jnp.array([0.83, 1.13])[:, None, None] + jnp.array([0.03, 0.05, 0.0])

    def loss(vertices, backend):
        alpha = jnr.render_silhouette(vertices, mesh.faces, image_size=(11, 17), backend=backend)
        return jnp.sum((alpha - 0.3) ** 2)

    def step(backend):
        return jax.jit(jax.vmap(jax.value_and_grad(lambda v: loss(v, backend))))(vertices)

    value, grad = step(backend)
    expected_value, expected_grad = step("xla")
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    assert np.abs(expected_grad).max() > 0
    # The camera's matrix products add rounding errors.
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-3, atol=1e-3 * float(np.abs(expected_grad).max()))


@NEEDS["cpu"]
@pytest.mark.parametrize("corner", range(3))
@pytest.mark.parametrize("index", [-1, 3, 2**31 - 1])
def test_no_kernel_reads_a_vertex_out_of_range(corner, index):
    clip, faces, *_ = SCENES["one_pixel"]
    faces = faces.copy()
    faces[0, corner] = index
    face_index = np.zeros((1, 4, 4), np.int32)
    image, cotangent = np.random.default_rng(0).normal(size=(2, 1, 4, 4, 1)).astype(np.float32)
    out = run(image, cotangent, clip[None], faces[None], face_index, backend="cpu")
    np.testing.assert_array_equal(out, np.zeros((1, 3, 4)))


@NEEDS["cpu"]
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_color_that_is_not_a_number_is_in_every_gradient_that_depends_on_it(channels):
    # Many short faces of one colour in each line, so that the C++ kernel lists the gains that they share.
    clip, faces, height, width = SCENES["more_faces_than_a_block"]
    face_index = rasterize(clip[None], faces[None], height=height, width=width, cull=None)
    image = np.ones((1, height, width, channels), np.float32)
    image[0, :, -1, -1] = image[0, -1, :, -1] = np.nan
    cotangent = np.random.default_rng(0).uniform(0.5, 1, image.shape).astype(np.float32)
    operands = image, cotangent, clip[None], faces[None], face_index
    # Plain JAX adds fractions over a common denominator, so a few more of its sums are NaN.
    allowed = np.isnan(np.asarray(reference(*operands, NOTHING_HIDES, eps=1e-3)))
    found = np.isnan(run(*operands, backend="cpu"))
    assert 0.1 < allowed[..., :2].mean() < 1
    assert not np.any(found & ~allowed)
    assert found.sum() >= 0.95 * allowed.sum()
