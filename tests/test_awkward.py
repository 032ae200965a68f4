"""Robustness tests: extreme or invalid coordinates, very many faces, and deterministic results.

test_render.py has individual edge cases. JNR_NIGHTLY=1 tests many more meshes.
"""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr
from jnr import _backend

NIGHTLY = os.environ.get("JNR_NIGHTLY", "0") != "0"
SEEDS = 300 if NIGHTLY else 10
SIZE = 12, 17
# The first vertices and faces are valid tetrahedra; the others are awkward.
VALID_VERTICES, VALID_FACES, VERTICES, FACES = 12, 8, 36, 24
BACKENDS = [
    "xla",
    pytest.param("cpu", marks=pytest.mark.skipif(not _backend.has_cpu_kernels(), reason="needs the C++ kernels")),
]

BROKEN = [np.nan, np.inf, -np.inf]
SMALL = [0.0, -0.0, 1e-45, -1e-45, 1e-39, 1e-38, 1e-30, -1e-20, 1e-7]
# Squares of larger numbers overflow float32, and so do gradients. Images have no such limit.
LARGE = [1e6, -1e8, 1e10, -1e15]
ENORMOUS = [*LARGE, 1e20, -1e30, 3.4e38, -3.4e38]


def _valid(rng):
    """Returns 12 vertices in front of the default camera, and 8 faces of two tetrahedra on the first 8 of them."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.5
    vertices = np.concatenate([corners + rng.normal(0, 0.2, (4, 3)) for _ in range(3)])
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    return vertices, np.concatenate([faces, faces + 4])


def _numbers(rng, kind, shape):
    """Returns coordinates of the named kind."""
    usual = rng.normal(0, 1, shape)
    some = rng.random(shape) < 0.3
    if kind == "broken":
        return np.where(some, rng.choice(BROKEN, shape), usual)
    if kind == "small":
        return np.where(some, rng.choice(SMALL, shape), usual)
    if kind == "tiny":
        return rng.choice(SMALL, shape)
    if kind == "large":
        return np.where(some, rng.choice(LARGE, shape), usual)
    if kind == "enormous":
        return np.where(some, rng.choice(ENORMOUS, shape), usual)
    if kind == "mixed":
        return rng.choice([*BROKEN, *SMALL, *LARGE, 1.0, -0.5], shape)
    if kind == "lattice":  # many coincident, collinear and coplanar corners, some on pixel rays
        return rng.integers(-2, 3, shape) / 2
    if kind == "needles":  # collinear up to the last bits
        start, along = rng.normal(0, 1, (2, shape[0] // 3, 1, 3))
        return (start + rng.normal(0, 1, (shape[0] // 3, 3, 1)) * along).reshape(shape) + rng.normal(0, 1e-7, shape)
    if kind == "in_camera_plane":
        usual[:, 2] = 2.732 + rng.choice([0, 1e-7, -1e-7, 0.1, 3.0], shape[0])
        return usual
    raise ValueError(kind)


KINDS = ["small", "tiny", "large", "lattice", "needles", "in_camera_plane", "broken", "mixed", "enormous"]


def _mesh(kind, seed):
    rng = np.random.default_rng((KINDS.index(kind), seed))
    vertices, faces = _valid(rng)
    vertices = np.concatenate([vertices, _numbers(rng, kind, (VERTICES - VALID_VERTICES, 3))])
    with np.errstate(over="ignore", under="ignore"):
        vertices = vertices.astype(np.float32)
    awkward = rng.integers(VALID_VERTICES, VERTICES, (FACES - VALID_FACES, 3))
    awkward[:8] = np.arange(VALID_VERTICES, VERTICES).reshape(-1, 3)[:8]
    return vertices, np.concatenate([faces, awkward]).astype(np.int32)


def _camera(eye=(0.0, 0.0, 2.732), fov=60.0, near=0.1, far=100.0):
    return jax.tree.map(jnp.float32, jnr.Camera(jnr.LookAt(eye), jnr.Perspective(fov, near, far)))


CAMERAS = [
    _camera(),
    _camera(near=1e-6),
    _camera(near=1e-30, far=1e30),
    _camera(fov=179.9),
    _camera(fov=1e-3),
    _camera(eye=(0.0, 1e6, 1.0), near=1.0, far=1e7),
    _camera(eye=(1e-3, 0.0, 0.0), near=1e-4),
    _camera(near=2.5, far=2.6),
]
LIGHTS = jax.tree.map(
    jnp.float32,
    (
        jnr.AmbientLight(0.3),
        jnr.DirectionalLight(0.5, direction=(0.2, 1.0, 1.0)),
        jnr.PointLight(0.4, position=(0.5, 0.5, 1.0)),
    ),
)


@functools.cache
def _compiled_gradient(backend, gradient, shaded):
    """Returns a jitted function that computes all gradients and the rendering of a batch of meshes."""

    def loss(moving, faces, weights):
        vertices, colors, camera, lights = moving
        options = {"camera": camera, "image_size": SIZE, "backend": backend}
        if shaded:
            rendering = jnr.render(
                *(vertices, faces, colors),
                lights=lights,
                shader=jnr.Phong(),
                normals="smooth",
                gradient=gradient,
                interior=gradient == "edge_sweep",
                **options,
            )
        else:
            alpha = jnr.render_silhouette(vertices, faces, gradient=gradient, **options)
            depth = jnr.render_depth(vertices, faces, **options)
            rendering = jnr.Rendering(alpha[..., None], alpha, depth, *jnp.zeros((6, *SIZE, 3)))
        images = rendering.rgb, rendering.alpha[..., None], rendering.depth[..., None], rendering.normals
        images += (rendering.position,)
        return sum(jnp.sum(weights * jnp.sum(image, axis=-1)) for image in images), rendering

    return jax.jit(jax.vmap(jax.grad(loss, has_aux=True), in_axes=((0, 0, 0, None), 0, 0)))


def _batch(seed):
    rng = np.random.default_rng(seed)
    vertices, faces = (np.stack(a) for a in zip(*(_mesh(kind, seed) for kind in KINDS), strict=True))
    cameras = [CAMERAS[(item + seed) % len(CAMERAS)] for item in range(len(KINDS))]
    colors = rng.uniform(size=(len(KINDS), VERTICES, 3)).astype(np.float32)
    weights = rng.normal(size=(len(KINDS), *SIZE)).astype(np.float32)
    return (vertices, colors, jax.tree.map(lambda *leaves: jnp.stack(leaves), *cameras), LIGHTS), faces, weights


@pytest.mark.parametrize(
    ("backend", "gradient", "shaded"),
    [(None, "edge_sweep", True), ("xla", "edge_sweep", False), (None, "opendr", False)],
)
def test_results_are_finite_and_a_non_finite_vertex_only_removes_its_faces(backend, gradient, shaded):
    render = _compiled_gradient(backend, gradient, shaded)
    covered = 0
    for seed in range(SEEDS):
        (vertices, *others), faces, weights = _batch(seed)
        gradients, rendering = render((vertices, *others), faces, weights)
        covered += np.mean(rendering.alpha > 0) / SEEDS
        for path, leaf in jax.tree_util.tree_leaves_with_path({"rendering": rendering, "gradient": gradients}):
            for item, kind in enumerate(KINDS if "rendering" in str(path) else KINDS[:-1]):
                assert np.all(np.isfinite(leaf[item])), (jax.tree_util.keystr(path), f"seed {seed}", kind)

        broken = ~np.all(np.isfinite(vertices), axis=-1)
        removed = np.any(
            np.take_along_axis(broken, faces.reshape(len(KINDS), -1), axis=1).reshape(faces.shape), axis=-1
        )
        assert 0 < removed.sum() < removed.size
        repaired = np.where(broken[..., None], 0, vertices), *others
        expected = render(repaired, np.where(removed[..., None], -1, faces), weights)
        for value, reference in zip(jax.tree.leaves((gradients, rendering)), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(value, reference)
    assert 0.05 < covered < 0.95


@pytest.mark.parametrize("backend", BACKENDS)
def test_hundred_thousand_faces_in_one_pixel(backend):
    count = 100_000
    rng = np.random.default_rng(0)
    # Around the centre of pixel (2, 3), each nearer than the previous one; the last two have equal depth.
    angle = rng.uniform(0, 2 * np.pi, (count, 1)) + 2 * np.pi / 3 * np.arange(3)
    radius = rng.uniform(0.01, 0.1, (count, 1))
    z = np.repeat(np.append(np.linspace(0.9, -0.9, count - 1), -0.9)[:, None], 3, axis=1)
    clip = np.stack([-1 / 8 + radius * np.cos(angle), 3 / 8 + radius * np.sin(angle), z, np.ones_like(z)], axis=-1)
    faces = jnp.arange(3 * count, dtype=jnp.int32).reshape(-1, 3)

    def total(clip):
        fragments = jnr.rasterize(clip, faces, 8, backend=backend)
        alpha = (fragments.face_index >= 0)[..., None].astype(clip.dtype)
        return -jnp.sum(jnr.edge_sweep(alpha, clip, faces, fragments, backend=backend)), fragments

    positions = jnp.asarray(clip.reshape(-1, 4), jnp.float32)
    gradient, fragments = jax.jit(jax.grad(total, has_aux=True))(positions)
    expected = np.full((8, 8), -1)
    expected[2, 3] = count - 2
    np.testing.assert_array_equal(fragments.face_index, expected)
    # Only the visible face has a gradient; the loss rewards coverage, so it grows.
    gradient = np.array(gradient).reshape(count, 3, 4)
    assert np.all(np.isfinite(gradient))
    assert np.abs(gradient[count - 2, :, :2]).max() > 0
    gradient[count - 2] = 0
    np.testing.assert_array_equal(gradient, 0)


NEEDS_OPTIMIZATIONS = pytest.mark.skipif(
    "optimization_level=0" in os.environ["XLA_FLAGS"],
    reason="needs XLA's default optimizations: XLA_FLAGS= python -m pytest",
)

PRINT_HASHES = """
import hashlib
import jax, jax.numpy as jnp, numpy as np
import jnr
from jnr import _backend

mesh = jnr.shapes.icosphere(3)
rng = np.random.default_rng(0)
vertices = mesh.vertices + jnp.asarray(rng.normal(0, 0.05, (6, *mesh.vertices.shape)), jnp.float32)
weights = jnp.asarray(rng.normal(size=(64, 64)), jnp.float32)


def step(vertices, backend):
    def loss(vertices):
        rendering = jnr.render(vertices, mesh.faces, mesh.vertices, image_size=64, backend=backend)
        return jnp.sum(weights * rendering.alpha), rendering

    return jax.grad(loss, has_aux=True)(vertices)


for backend in ["xla"] + ["cpu"] * _backend.has_cpu_kernels():
    compiled = jax.jit(jax.vmap(lambda v: step(v, backend)))
    for _ in range(3):
        leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(compiled(vertices))]
        print(backend, hashlib.sha256(b"".join(leaves)).hexdigest())
"""


@NEEDS_OPTIMIZATIONS
def test_results_are_bit_identical_across_runs_and_numbers_of_threads():
    printed = set()
    for threads in (1, 5):
        # NPROC sets the number of XLA's threads.
        environment = {**os.environ, "NPROC": str(threads)}
        command = [sys.executable, "-c", PRINT_HASHES]
        folder = Path(jnr.__file__).parents[1]
        run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        printed.update(run.stdout.splitlines())
    assert len(printed) == len({line.split()[0] for line in printed}), printed


@NEEDS_OPTIMIZATIONS
@pytest.mark.parametrize("backend", BACKENDS)
def test_fragments_of_a_batch_are_bit_identical_to_single_ones(backend):
    (vertices, _, camera, _), faces, _ = _batch(0)
    clip = jax.vmap(lambda v, c: c.clip_positions(v, SIZE[1] / SIZE[0]))(vertices, camera)

    def render(clip, faces):
        return jnr.rasterize(clip, faces, SIZE, backend=backend)

    render = jax.jit(jax.vmap(render))
    expected = render(clip, faces)
    for item in range(len(KINDS)):
        for value, reference in zip(render(clip[item : item + 1], faces[item : item + 1]), expected, strict=True):
            np.testing.assert_array_equal(value[0], reference[item])
