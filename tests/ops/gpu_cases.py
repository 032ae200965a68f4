"""What the tests on a GPU compute, and the results that they expect, which a CPU has computed.

A program in plain JAX takes XLA's compiler for GPUs a minute. So the expected results come from the C++ kernels, which
contract no products and sums, like the Triton kernels. `write` computes all of them beforehand for a machine where jnr
has no C++ kernels; the tests read them if the variable JNR_GPU_REFERENCES names that file.
"""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
from scenes import NAMES, SCENES

import jnr
from jnr import _backend
from jnr._ops.barycentrics import barycentrics_bwd_p
from jnr._ops.boundary import boundary_crossings_p, crossing_motion_bwd_p

CHANNELS = (1, 3, 4)


def sweep(scene, channels, *, backend, **options):
    """Faces, and the gradient of the edge sweep for a random image and cotangent."""
    clip, faces, height, width = SCENES[scene]
    image, cotangent = np.random.default_rng(0).normal(size=(2, height, width, int(channels))).astype(np.float32)

    @jax.jit
    def run(clip):
        fragments = jnr.rasterize(clip, faces, (height, width), backend=backend)

        def loss(clip):
            return jnp.sum(jnr.edge_sweep(image, clip, faces, fragments, backend=backend, **options) * cotangent)

        return fragments.face_index, jax.grad(loss)(clip)

    return run(clip)


def interpolation(scene, *, backend):
    """Faces, and the gradients of interpolation with respect to attributes and barycentrics."""
    clip, faces, height, width = SCENES[scene]
    rng = np.random.default_rng(0)
    attributes = rng.normal(size=(len(clip), 3)).astype(np.float32)
    cotangent = rng.normal(size=(height, width, 3)).astype(np.float32)
    fragments = jnr.rasterize(clip, faces, (height, width), backend=backend)
    operands = jnp.asarray(cotangent)[None], jnp.asarray(clip)[None], faces[None], fragments.face_index[None]

    def loss(attributes):
        return jnp.vdot(jnr.interpolate(attributes, faces, fragments, backend=backend), cotangent)

    gradients = jax.grad(loss)(attributes), barycentrics_bwd_p.bind(*operands, sums=1, backend=backend)
    return fragments.face_index, *gradients


def boundary(scene, *, backend, crossings=None):
    """Crossings where every gap is active, and the gradient of their motion, for those crossings or given ones."""
    clip, faces, height, width = SCENES[scene]
    face_index = jnr.rasterize(clip, faces, (height, width), backend=backend).face_index
    mesh = jnp.asarray(clip)[None], jnp.asarray(faces)[None], face_index[None]
    active = jnp.ones((1, 2, height, width), bool)
    found = boundary_crossings_p.bind(*mesh, active, backend=backend)
    cotangent = jnp.asarray(np.random.default_rng(0).normal(size=active.shape), jnp.float32)
    crossings = found if crossings is None else jnp.asarray(crossings)
    return found, crossing_motion_bwd_p.bind(cotangent, crossings, *mesh, sums=1, backend=backend)


CASES = {
    **{
        f"sweep {scene} {channels}": functools.partial(sweep, scene, channels)
        for scene in NAMES
        for channels in CHANNELS
    },
    **{f"interpolation {scene}": functools.partial(interpolation, scene) for scene in NAMES},
    **{f"boundary {scene}": functools.partial(boundary, scene) for scene in NAMES},
}


@functools.cache
def expected(name):
    """The arrays that the case of this name results in on a CPU."""
    if path := os.environ.get("JNR_GPU_REFERENCES"):
        with np.load(path) as file:
            return [file[key] for key in sorted(key for key in file if key.rpartition(" ")[0] == name)]
    if not _backend.has_cpu_kernels():
        raise RuntimeError(
            "The expected results need the C++ kernels: install jnr with a C++ compiler, or let "
            "JNR_GPU_REFERENCES name a file that `python benchmarks/gpu.py prepare` has written on another machine."
        )
    with jax.default_device(jax.devices("cpu")[0]):
        return [np.asarray(array) for array in CASES[name](backend="cpu")]


def write(path, names=tuple(CASES)):
    """Writes the expected results to a file."""
    arrays = {f"{name} {i}": array for name in names for i, array in enumerate(expected(name))}
    np.savez_compressed(path, **arrays)
