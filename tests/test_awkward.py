"""Meshes of numbers that no one means, and meshes in numbers that no one expects: nothing NaN, nothing else changed.

Single awkward cases are in test_render.py. JNR_NIGHTLY=1 tries many more meshes.
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
# 12 vertices and 8 faces are a tetrahedron's and sound, the rest is awkward.
SOUND_VERTICES, SOUND_FACES, VERTICES, FACES = 12, 8, 36, 24
BACKENDS = [
    "xla",
    pytest.param("cpu", marks=pytest.mark.skipif(not _backend.has_cpu_kernels(), reason="without a C++ compiler")),
]

BROKEN = [np.nan, np.inf, -np.inf]
SMALL = [0.0, -0.0, 1e-45, -1e-45, 1e-39, 1e-38, 1e-30, -1e-20, 1e-7]
# Squares of what is larger leave float32, and gradients with them; pictures have no such limit.
LARGE = [1e6, -1e8, 1e10, -1e15]
ENORMOUS = [*LARGE, 1e20, -1e30, 3.4e38, -3.4e38]


def _sound(rng):
    """Twelve corners of two tetrahedra in front of the default camera, and their faces."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.5
    vertices = np.concatenate([corners + rng.normal(0, 0.2, (4, 3)) for _ in range(3)])
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    return vertices, np.concatenate([faces, faces + 4])


def _numbers(rng, kind, shape):
    """Coordinates of a kind."""
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
    if kind == "lattice":  # coincident, collinear and coplanar everywhere, corners on pixels' rays
        return rng.integers(-2, 3, shape) / 2
    if kind == "needles":  # collinear but for the last bits
        start, along = rng.normal(0, 1, (2, shape[0] // 3, 1, 3))
        return (start + rng.normal(0, 1, (shape[0] // 3, 3, 1)) * along).reshape(shape) + rng.normal(0, 1e-7, shape)
    if kind == "in_camera_plane":
        usual[:, 2] = 2.732 + rng.choice([0, 1e-7, -1e-7, 0.1, 3.0], shape[0])
        return usual
    raise ValueError(kind)


KINDS = ["small", "tiny", "large", "lattice", "needles", "in_camera_plane", "broken", "mixed", "enormous"]


def _mesh(kind, seed):
    rng = np.random.default_rng((KINDS.index(kind), seed))
    vertices, faces = _sound(rng)
    vertices = np.concatenate([vertices, _numbers(rng, kind, (VERTICES - SOUND_VERTICES, 3))])
    with np.errstate(over="ignore", under="ignore"):
        vertices = vertices.astype(np.float32)
    unsound = rng.integers(SOUND_VERTICES, VERTICES, (FACES - SOUND_FACES, 3))
    unsound[:8] = np.arange(SOUND_VERTICES, VERTICES).reshape(-1, 3)[:8]
    return vertices, np.concatenate([faces, unsound]).astype(np.int32)


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
def _program(backend, gradient, shaded):
    """Gradients to everything, and the picture, of a batch of meshes."""

    def loss(moving, faces, weights):
        vertices, colors, camera, lights = moving
        options = {"camera": camera, "image_size": SIZE, "backend": backend}
        if shaded:
            picture = jnr.render(
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
            picture = jnr.Rendering(alpha[..., None], alpha, depth, *jnp.zeros((2, *SIZE, 3)))
        images = picture.rgb, picture.alpha[..., None], picture.depth[..., None], picture.normals
        return sum(jnp.sum(weights * jnp.sum(image, axis=-1)) for image in images), picture

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
def test_picture_and_gradients_are_finite_and_a_corner_that_is_no_number_only_removes_its_faces(
    backend, gradient, shaded
):
    draw = _program(backend, gradient, shaded)
    covered = 0
    for seed in range(SEEDS):
        (vertices, *others), faces, weights = _batch(seed)
        gradients, picture = draw((vertices, *others), faces, weights)
        covered += np.mean(picture.alpha > 0) / SEEDS
        for path, leaf in jax.tree_util.tree_leaves_with_path({"picture": picture, "gradient": gradients}):
            for item, kind in enumerate(KINDS if "picture" in str(path) else KINDS[:-1]):
                assert np.all(np.isfinite(leaf[item])), (jax.tree_util.keystr(path), f"seed {seed}", kind)

        broken = ~np.all(np.isfinite(vertices), axis=-1)
        gone = np.any(np.take_along_axis(broken, faces.reshape(len(KINDS), -1), axis=1).reshape(faces.shape), axis=-1)
        assert 0 < gone.sum() < gone.size
        without = np.where(broken[..., None], 0, vertices), *others
        expected = draw(without, np.where(gone[..., None], -1, faces), weights)
        for got, want in zip(jax.tree.leaves((gradients, picture)), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(got, want)
    assert 0.05 < covered < 0.95


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_hundred_thousand_faces_in_one_pixel(backend):
    count = 100_000
    rng = np.random.default_rng(0)
    # Around the centre of pixel (2, 3), each nearer than the one before; the last two are at one depth.
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
    # Of all faces only the one that is seen is pulled, and outwards: all pixels want to be covered.
    gradient = np.array(gradient).reshape(count, 3, 4)
    assert np.all(np.isfinite(gradient))
    assert np.abs(gradient[count - 2, :, :2]).max() > 0
    gradient[count - 2] = 0
    np.testing.assert_array_equal(gradient, 0)


# --- the same bits

AS_USERS_HAVE_IT = pytest.mark.skipif(
    "optimization_level=0" in os.environ["XLA_FLAGS"],
    reason="needs programs compiled as users have them: XLA_FLAGS= python -m pytest",
)

SAME_BITS = """
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
        picture = jnr.render(vertices, mesh.faces, mesh.vertices, image_size=64, backend=backend)
        return jnp.sum(weights * picture.alpha), picture

    return jax.grad(loss, has_aux=True)(vertices)


for backend in ["xla"] + ["cpu"] * _backend.has_cpu_kernels():
    compiled = jax.jit(jax.vmap(lambda v: step(v, backend)))
    for _ in range(3):
        leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(compiled(vertices))]
        print(backend, hashlib.sha256(b"".join(leaves)).hexdigest())
"""


@AS_USERS_HAVE_IT
def test_pictures_and_gradients_have_the_same_bits_in_every_run_and_with_any_number_of_threads():
    printed = set()
    for threads in (1, 5):
        # NPROC is the number of XLA's threads.
        environment = {**os.environ, "NPROC": str(threads)}
        command = [sys.executable, "-c", SAME_BITS]
        folder = Path(jnr.__file__).parents[1]
        run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        printed.update(run.stdout.splitlines())
    assert len(printed) == len({line.split()[0] for line in printed}), printed


@AS_USERS_HAVE_IT
@pytest.mark.parametrize("backend", BACKENDS)
def test_fragments_have_the_same_bits_in_a_batch_as_alone(backend):
    (vertices, _, camera, _), faces, _ = _batch(0)
    clip = jax.vmap(lambda v, c: c.clip_positions(v, SIZE[1] / SIZE[0]))(vertices, camera)

    def draw(clip, faces):
        return jnr.rasterize(clip, faces, SIZE, backend=backend)

    draw = jax.jit(jax.vmap(draw))
    expected = draw(clip, faces)
    for item in range(len(KINDS)):
        for got, want in zip(draw(clip[item : item + 1], faces[item : item + 1]), expected, strict=True):
            np.testing.assert_array_equal(got[0], want[item])
