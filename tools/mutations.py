"""Mutation testing: applies faults to a copy of the repository, one at a time, and reports which the tests catch.

    python tools/mutations.py [number ...]

The numbers are indices of `FAULTS`; without any, all faults run. A fault that survives shows that a test is missing.
All faults are in Python files, so that the C++ kernels are not compiled again. The exit status is the number of faults
that survived.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 900  # seconds; tests that take longer hang, and the fault counts as caught

TESTS = {
    "oracle": ["tests/test_oracle.py", "-k", "random and 16x16"],
    "oracle_wide": ["tests/test_oracle.py", "-k", "random and 9x33"],
    "oracle_many": ["tests/test_oracle.py", "-k", "more_faces"],
    "corner": ["tests/ops/rasterize/test_rasterize.py", "-k", "no_corner and xla"],
    "brighter": ["tests/ops/edge_sweep/test_edge_sweep.py", "-k", "brighter and xla"],
    "properties": ["tests/test_properties.py", "-k", "xla and not shift"],
    "interpolate": ["tests/ops/interpolate/test_interpolate.py", "-k", "background or corner or ray"],
    "gather": ["tests/ops/gather/test_gather.py", "-k", "xla and (matrix or multiplied or loop)"],
    "render": ["tests/test_render.py", "-k", "one_output or antialias or derivatives"],
    "triton_rasterize": ["tests/ops/rasterize/test_rasterize.py", "-k", "interpret and (corner or tie or agrees)"],
    "voxels": ["tests/test_voxels.py", "-k", "no_area"],
    "triton_gather": ["tests/ops/gather/test_gather_triton.py", "-k", "interpreter and (added_up or zero)"],
    "triton_edge_sweep": ["tests/ops/edge_sweep/test_edge_sweep.py", "-k", "interpret and (brighter or agrees)"],
}

OPS, TRITON = "jnr/_ops/", "triton_kernels/"
RASTERIZE, EDGE_SWEEP = OPS + "rasterize/definition.py", OPS + "edge_sweep/definition.py"
BARYCENTRICS, GATHER = OPS + "barycentrics/definition.py", OPS + "gather/definition.py"
PIXEL_SPACE = OPS + "pixel_space.py"

# What is wrong, where, the line's part as it is and as it becomes, and the tests that should notice.
FAULTS = [
    ("a face's boundary is outside", RASTERIZE, "(_minimum(edges) >= 0)", "(_minimum(edges) > 0)", "properties"),
    ("nothing is too near", RASTERIZE, " & (depth >= -1)", "", "oracle"),
    ("nothing is too far", RASTERIZE, " & (depth <= 1), depth", ", depth", "oracle"),
    ("culling is reversed", RASTERIZE, '(det > 0) if cull == "back"', '(det < 0) if cull == "front"', "oracle"),
    ("negative depths are in the wrong order", RASTERIZE, "(bits < 0, ~bits,", "(bits < 0, bits,", "oracle"),
    ("bounds are too narrow", RASTERIZE, "margin = 2e-3", "margin = -0.7", "oracle"),
    ("the last column of tiles is omitted", RASTERIZE, "-1, width - 1))", "-1, width - 2))", "oracle_wide"),
    ("the last row of tiles is omitted", RASTERIZE, "-1, height - 1))", "-1, height - 2))", "oracle_wide"),
    (
        "faces through the camera's plane have bounds",
        RASTERIZE,
        "_minimum(low_w) <= 0",
        "_minimum(low_w) < -9e9",
        "oracle",
    ),
    ("all corners behind near hide a face", RASTERIZE, "(_maximum(places) > 1)", "(_maximum(places) > 2)", "corner"),
    (
        "one pair in a block is skipped",
        RASTERIZE,
        "return first_pair + BLOCK,",
        "return first_pair + BLOCK + 1,",
        "oracle_many",
    ),
    (
        "a pair is assigned to the wrong face",
        RASTERIZE,
        "for k in range(GROUP - 1))",
        "for k in range(GROUP - 2))",
        "oracle",
    ),
    (
        "the highest face wins a tie",
        RASTERIZE,
        "| face[:, None].astype(jnp.uint64)",
        "| (num_faces - 1 - face)[:, None].astype(jnp.uint64)",
        "oracle",
    ),
    (
        "a reversed edge keeps its sign",
        PIXEL_SPACE,
        "jnp.where(swap, 1.0, -1.0)",
        "jnp.where(swap, -1.0, -1.0)",
        "oracle",
    ),
    (
        "two faces form their shared edge differently",
        RASTERIZE,
        "vertex[:, i] > vertex[:, j])",
        "vertex[:, i] > -2)",
        "properties",
    ),
    (
        "rows are half a pixel too low",
        PIXEL_SPACE,
        "((w - y) * height - w) * 0.5",
        "((w - y) * height) * 0.5",
        "oracle",
    ),
    ("w gets the wrong sign", PIXEL_SPACE, "jnp.where(projectable, -toward", "jnp.where(projectable, toward", "oracle"),
    ("w of a vertex behind the camera gets a cotangent", PIXEL_SPACE, " & (clip_positions[..., 3] > 0)", "", "oracle"),
    (
        "y points down",
        EDGE_SWEEP,
        "clip_cotangent(grad_x, -grad_y,",
        "clip_cotangent(grad_x, grad_y,",
        "oracle",
    ),
    (
        "gains below zero count",
        EDGE_SWEEP,
        "jnp.where(exists, jnp.maximum(gain, 0), 0)",
        "jnp.where(exists, gain, 0)",
        "oracle",
    ),
    (
        "gains below zero count beyond the crossing",
        EDGE_SWEEP,
        "jnp.where(beyond, jnp.maximum(gain, 0), 0)",
        "jnp.where(beyond, gain, 0)",
        "oracle",
    ),
    ("eps is missing in in terms", EDGE_SWEEP, " + lines.eps * jnp.abs(share[k])", "", "oracle"),
    (
        "eps is in pixels in out sweeps",
        EDGE_SWEEP,
        "lines.eps / lines.unit_ndc",
        "lines.eps / lines.pixel_ndc",
        "oracle_wide",
    ),
    ("in terms push the wrong way", EDGE_SWEEP, "direction * push", "-direction * push", "oracle"),
    (
        "out sweeps pull the wrong way",
        EDGE_SWEEP,
        "-direction * _pick(slope, p)",
        "direction * _pick(slope, p)",
        "oracle",
    ),
    ("the first pixel is not a colour beyond", EDGE_SWEEP, "valid & (beyond >= 0)", "valid & (beyond > 0)", "oracle"),
    ("the colour beyond is a pixel too far", EDGE_SWEEP, "astype(jnp.int32) + 1)", "astype(jnp.int32) + 2)", "oracle"),
    ("the last active pixel is missed", EDGE_SWEEP, "(column < last_active)", "(column < last_active - 1)", "oracle"),
    (
        "negative cotangents are skipped",
        EDGE_SWEEP,
        "reshape(steps, -1) != 0",
        "reshape(steps, -1) > 0",
        "brighter",
    ),
    ("share and slope are confused", EDGE_SWEEP, "value * w[corner]", "value", "oracle"),
    ("the third corner is pulled", EDGE_SWEEP, "third[2] & ~third[0]", "third[2]", "properties"),
    (
        "weights below a tenth are lost",
        BARYCENTRICS,
        "jnp.where(valid & (w > 0), w, 0)",
        "jnp.where(valid & (w > 0.1), w, 0)",
        "oracle",
    ),
    ("corners are in the wrong order", BARYCENTRICS, "((1, 2), (2, 0), (0, 1))", "((2, 0), (1, 2), (0, 1))", "oracle"),
    (
        "third corner is not interpolated",
        GATHER,
        "for k in range(weights.shape[1])",
        "for k in range(weights.shape[1] - 1)",
        "gather",
    ),
    (
        "rows of a group are taken backwards",
        GATHER,
        "* group + jnp.arange(group",
        "* group - jnp.arange(group",
        "gather",
    ),
    (
        "a value of zero is multiplied by its weight",
        GATHER,
        "jnp.where(values[:, None] == 0, 0,",
        "jnp.where(False, 0,",
        "gather",
    ),
    (
        "background is zero",
        OPS + "interpolate/__init__.py",
        "jnp.where(covered, values, background)",
        "jnp.where(covered, values, 0)",
        "interpolate",
    ),
    (
        "only the first image has a gradient",
        OPS + "visibility.py",
        "used = [i for i,",
        "used = [i for i in (0,) for",
        "render",
    ),
    (
        "a face's boundary is outside",
        TRITON + "rasterize.py",
        "(edges >= 0)",
        "(edges > 0)",
        "triton_rasterize",
    ),
    (
        "nothing is too far",
        TRITON + "rasterize.py",
        " & (tl.abs(depth) <= 1)",
        " & (depth >= -1)",
        "triton_rasterize",
    ),
    (
        "all corners behind near hide a face",
        TRITON + "rasterize.py",
        "place1), place2) > 1)",
        "place1), place2) > 2)",
        "triton_rasterize",
    ),
    (
        "the fractions of two corners are exchanged",
        TRITON + "edge_sweep.py",
        "sum_a += quotient * reach_b",
        "sum_a += quotient * reach_a",
        "triton_edge_sweep",
    ),
    (
        "corners of an edge are exchanged",
        TRITON + "edge_sweep.py",
        "tl.where(edge == 0, v2, tl.where(edge == 1, v0, v1))",
        "tl.where(edge == 0, v2, tl.where(edge == 1, v1, v0))",
        "triton_edge_sweep",
    ),
    ("eps is missing in in terms", TRITON + "edge_sweep.py", " + line.eps * tl.abs(share)", "", "triton_edge_sweep"),
    (
        "negative cotangents are skipped",
        TRITON + "edge_sweep.py",
        "channel, mask, CHANNELS) != 0",
        "channel, mask, CHANNELS) > 0",
        "triton_edge_sweep",
    ),
    (
        "the last pair of a face is the next face's",
        TRITON + "rasterize.py",
        "tl.where(end <= pair, half, 0)",
        "tl.where(end <= pair + 1, half, 0)",
        "triton_rasterize",
    ),
    (
        "a face's depth is that of its farthest corner",
        TRITON + "rasterize.py",
        "tl.gather(pair.nearest, lane, 0)",
        "tl.gather(pair.farthest, lane, 0)",
        "triton_rasterize",
    ),
    (
        "sweeps start at the other side's crossing",
        TRITON + "edge_sweep.py",
        "return tl.where(is_left, ",
        "return tl.where(~is_left, ",
        "triton_edge_sweep",
    ),
    ("a program's last run is omitted", TRITON + "gather.py", "(lane == BLOCK - 1) | ", "", "triton_gather"),
    (
        "a value of zero is multiplied by its weight",
        TRITON + "gather.py",
        "tl.where(value == 0, 0.0, value * weight)",
        "value * weight",
        "triton_gather",
    ),
    ("a run includes its neighbour", TRITON + "gather.py", "lane - step >= start", "lane >= start", "triton_gather"),
    ("a point has sides", "jnr/_voxels.py", " & ~point", "", "voxels"),
]


def passes(folder, tests):
    """Whether the chosen entry of `TESTS` passes in a copy of the repository."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *TESTS[tests]]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return False
    # Other codes mean that no test was found or that pytest itself failed.
    if result.returncode not in (0, 1):
        raise RuntimeError(result.stdout[-2000:] + result.stderr[-2000:])
    return result.returncode == 0


def is_caught(folder, number):
    """Whether the tests fail in a copy of the repository to which a fault is applied for the time of the call."""
    _, file, before, after, tests = FAULTS[number]
    path = folder / file
    text = path.read_text()
    if text.count(before) != 1:
        raise ValueError(f"{file} must contain this exactly once: {before!r}")
    path.write_text(text.replace(before, after))
    try:
        return not passes(folder, tests)
    finally:
        path.write_text(text)


def main():
    numbers = [int(number) for number in sys.argv[1:]] or range(len(FAULTS))
    survived = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "copy"
        shutil.copytree(ROOT, folder, symlinks=True, ignore=shutil.ignore_patterns(".git", "build", "__pycache__"))
        for tests in dict.fromkeys(FAULTS[number][-1] for number in numbers):
            if not passes(folder, tests):
                raise RuntimeError(f"The tests {tests!r} fail without any fault.")
        for number in numbers:
            what, file, *_ = FAULTS[number]
            caught = is_caught(folder, number)
            survived += [] if caught else [number]
            print(f"{number:3} {'caught  ' if caught else 'SURVIVED'} {file}: {what}", flush=True)
    total = f"{len(numbers) - len(survived)} of {len(numbers)} caught"
    print(total + (f", survived: {survived}" if survived else ""))
    return len(survived)


if __name__ == "__main__":
    sys.exit(main())
