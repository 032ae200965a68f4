"""Loads reference data produced by the original implementations, and converts their conventions.

Procedural cases are stored in tests/data/golden; the others are read from ../shared/golden if it exists.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

HERE = Path(__file__).parent
FOLDERS = (HERE / "data" / "golden", HERE.parent.parent / "shared" / "golden")

# Sorted by size of image, texture and mesh, so that neighbours, which mostly run in one process, share compiled code.
KERNEL_CASES = [
    *("backfacing", "nearfar", "offscreen", "soup_F1_is32", "soup_F64_is32", "soup_F512_is32", "thin"),
    *("occlusion_pairs", "batch_meshes", "grid_bumpy", "grid_flat", "ico2_fb_is64", "soup_F2_is64", "teapot_b_is64"),
    *("ico1_is64", "soup_F1_is64", "soup_F8_is64", "single_tri_case1", "single_tri_case2"),
    *("cube_ts6_is64", "soup_F64_is64", "soup_F8_is128", "soup_F64_is128", "soup_F512_is128", "torus_fb_is128"),
    *("teapot_a_is128", "teapot_c_is256", "illcond_degenerate", "illcond_pixel_aligned"),
]
# Those that the repository holds and that the edge sweep defines.
STORED_SOUPS = [
    case for case in KERNEL_CASES if (FOLDERS[0] / f"{case}.npz").is_file() and not case.startswith("illcond")
]
E2E_CASES = [
    *("e2e_batch2_light_is48", "e2e_cube_noaa_is64_ts4", "e2e_ico1_aa_is64", "e2e_ico_ortho_is32"),
    *("e2e_teapot_aa_is128", "e2e_torus_look_is32"),
]


def load(name):
    """Returns the arrays of a case; skips the test if the case is not available."""
    for folder in FOLDERS:
        if (folder / f"{name}.npz").is_file():
            with np.load(folder / f"{name}.npz") as data:
                return dict(data)
    pytest.skip(f"golden case {name} is neither in tests/data/golden nor in ../shared/golden")


def top_down(raw):
    """Returns kernel-case images with row 0 at the top instead of the bottom."""
    return np.ascontiguousarray(raw[:, ::-1])


def clip_from_screen(xyz, near, far):
    """Returns clip positions of the originals' rasterizer input: x and y in NDC, z as distance from the camera."""
    x, y, z = xyz[..., 0], xyz[..., 1], xyz[..., 2]
    return jnp.stack([x * z, y * z, ((far + near) * z - 2 * far * near) / (far - near), z], axis=-1)


def relative_l2(value, reference):
    """Returns the norm of the difference over the norm of the reference, or 0 if both are zero."""
    difference, norm = np.linalg.norm(value - reference), np.linalg.norm(reference)
    return difference / norm if norm else difference
