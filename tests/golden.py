"""Reference data from running the original implementations, and what a test needs to use it.

Procedural cases are kept in tests/data/golden; the rest is read from ../shared/golden where that exists.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

HERE = Path(__file__).parent
FOLDERS = (HERE / "data" / "golden", HERE.parent.parent / "shared" / "golden")

# In the order of their images', textures' and meshes' sizes: neighbours mostly run in one process and share programs.
KERNEL_CASES = [
    *("backfacing", "nearfar", "offscreen", "soup_F1_is32", "soup_F64_is32", "soup_F512_is32", "thin"),
    *("occlusion_pairs", "batch_meshes", "grid_bumpy", "grid_flat", "ico2_fb_is64", "soup_F2_is64", "teapot_b_is64"),
    *("ico1_is64", "soup_F1_is64", "soup_F8_is64", "single_tri_case1", "single_tri_case2"),
    *("cube_ts6_is64", "soup_F64_is64", "soup_F8_is128", "soup_F64_is128", "soup_F512_is128", "torus_fb_is128"),
    *("teapot_a_is128", "teapot_c_is256", "illcond_degenerate", "illcond_pixel_aligned"),
]
E2E_CASES = [
    *("e2e_batch2_light_is48", "e2e_cube_noaa_is64_ts4", "e2e_ico1_aa_is64", "e2e_ico_ortho_is32"),
    *("e2e_teapot_aa_is128", "e2e_torus_look_is32"),
]


def load(name):
    """The arrays of a case; skips the test where the case is not at hand."""
    for folder in FOLDERS:
        if (folder / f"{name}.npz").is_file():
            with np.load(folder / f"{name}.npz") as data:
                return dict(data)
    pytest.skip(f"golden case {name} is neither in tests/data/golden nor in ../shared/golden")


def top_down(raw):
    """The kernel cases' images have row 0 at the bottom."""
    return np.ascontiguousarray(raw[:, ::-1])


def clip_from_screen(xyz, near, far):
    """Clip positions of the originals' rasterizer input: x, y in NDC, z the distance from the camera."""
    x, y, z = xyz[..., 0], xyz[..., 1], xyz[..., 2]
    return jnp.stack([x * z, y * z, ((far + near) * z - 2 * far * near) / (far - near), z], axis=-1)


def relative_l2(value, reference):
    """Norm of the difference over the norm of the reference, 0 where both are zero."""
    difference, norm = np.linalg.norm(value - reference), np.linalg.norm(reference)
    return difference / norm if norm else difference
