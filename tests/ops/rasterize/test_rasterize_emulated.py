"""The compiled Triton kernels of the rasterizer on the PTX emulator; needs no GPU."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import NAMES, SCENES

launch = pytest.importorskip("jnr.triton_kernels.launch", reason="triton is not installed", exc_type=ImportError)

from jnr._ops.rasterize import definition
from jnr.triton_kernels import rasterize

plain_rasterize = jax.jit(definition.rasterize, static_argnames=("height", "width", "cull"))


@pytest.mark.parametrize("cull", [None, "back"])
@pytest.mark.parametrize("scene", NAMES)
def test_faces_equal_plain_jax(scene, cull, launches):
    clip, faces, height, width = SCENES[scene]
    arguments = {"height": height, "width": width, "cull": cull}
    out = rasterize.rasterize(jnp.asarray(clip[None]), jnp.asarray(faces[None]), **arguments)
    np.testing.assert_array_equal(out, plain_rasterize(clip[None], faces[None], **arguments))


@pytest.mark.parametrize("shared", ["faces", "clip_positions"])
def test_batch_shares_operands_of_batch_size_one(shared, launches):
    clip, faces, height, width = SCENES["odd_sizes"]
    clips, many_faces = (
        np.stack([clip, clip * np.array([-1, 1, 1, 1], np.float32)]),
        np.stack([faces, faces[::-1, [1, 0, 2]]]),
    )
    operands = (clips, many_faces[:1]) if shared == "faces" else (clips[:1], many_faces)
    out = rasterize.rasterize(*map(jnp.asarray, operands), height=height, width=width, cull="back")
    np.testing.assert_array_equal(out, plain_rasterize(*operands, height=height, width=width, cull="back"))
    assert not np.array_equal(*out)


def test_ptx_version_is_readable_by_older_assemblers(launches):
    clip, faces, height, width = SCENES["one_pixel"]
    rasterize.rasterize(jnp.asarray(clip[None]), jnp.asarray(faces[None]), height=height, width=width, cull=None)
    versions = [re.search(r"\.version (\d+)\.(\d+)", launched.code).groups() for launched, _ in launches]
    # jax-triton 0.3 cannot choose the version; pyproject.toml then requires an nvidia-cuda-nvcc that reads 9.4.
    newest = max((int(major), int(minor)) for major, minor in versions)
    assert newest <= ((9, 4) if launch._jax_triton().is_old else divmod(launch.PTX_VERSION, 10))
