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
    "corner": ["tests/kernels/test_rasterize.py", "-k", "no_corner and xla"],
    "brighter": ["tests/kernels/test_edge_sweep.py", "-k", "brighter and xla"],
    "properties": ["tests/test_properties.py", "-k", "xla and not shift"],
    "interpolate": ["tests/test_interpolate.py", "-k", "background or corner or ray"],
    "rows": ["tests/test_rows.py", "-k", "xla and (matrix or multiplied or loop)"],
    "render": ["tests/test_render.py", "-k", "one_output or antialias or derivatives"],
    "triton_rasterize": ["tests/kernels/test_rasterize.py", "-k", "interpret and (corner or tie or agrees)"],
    "voxels": ["tests/test_voxels.py", "-k", "no_area"],
    "triton_rows": ["tests/kernels/test_spread_rows.py", "-k", "interpreter and (added_up or zero)"],
    "triton_edge_sweep": ["tests/kernels/test_edge_sweep.py", "-k", "interpret and (brighter or agrees)"],
}

RASTERIZE, EDGE_SWEEP = "jnr/_xla/rasterize.py", "jnr/_xla/edge_sweep.py"
RESOLVE, GEOMETRY, ROWS = "jnr/_xla/resolve.py", "jnr/_xla/geometry.py", "jnr/_xla/rows.py"
OPS, TRITON = "jnr/_ops/", "triton_kernels/"

# What is wrong, where, the line's part as it is and as it becomes, and the tests that should notice.
FAULTS = [
    ("a face's boundary is outside", RASTERIZE, "(_minimum(edges) >= 0)", "(_minimum(edges) > 0)", "properties"),
    ("nothing is too near", RASTERIZE, " & (depth >= -1)", "", "oracle"),
    ("nothing is too far", RASTERIZE, " & (depth <= 1), depth", ", depth", "oracle"),
    ("culling is turned round", RASTERIZE, '(det > 0) if cull == "back"', '(det < 0) if cull == "front"', "oracle"),
    ("depths below zero are in the wrong order", RASTERIZE, "(bits < 0, ~bits,", "(bits < 0, bits,", "oracle"),
    ("bounds are too narrow", RASTERIZE, "margin = 2e-3", "margin = -0.7", "oracle"),
    ("last column of tiles is left out", RASTERIZE, "-1, width - 1))", "-1, width - 2))", "oracle_wide"),
    ("last row of tiles is left out", RASTERIZE, "-1, height - 1))", "-1, height - 2))", "oracle_wide"),
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
        "a pair is given to the wrong face",
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
    ("a reversed edge keeps its sign", GEOMETRY, "jnp.where(swap, 1.0, -1.0)", "jnp.where(swap, -1.0, -1.0)", "oracle"),
    (
        "neighbours form their edge differently",
        RASTERIZE,
        "vertex[:, i] > vertex[:, j])",
        "vertex[:, i] > -2)",
        "properties",
    ),
    ("rows are half a pixel too low", GEOMETRY, "((w - y) * height - w) * 0.5", "((w - y) * height) * 0.5", "oracle"),
    ("w gets the wrong sign", GEOMETRY, "jnp.where(placed, -toward", "jnp.where(placed, toward", "oracle"),
    ("w of a vertex behind the camera gets something", GEOMETRY, " & (clip_positions[..., 3] > 0)", "", "oracle"),
    (
        "y has the rows' direction",
        EDGE_SWEEP,
        "clip_cotangent(grad_x, -grad_y,",
        "clip_cotangent(grad_x, grad_y,",
        "oracle",
    ),
    (
        "content pixels pull too",
        EDGE_SWEEP,
        "jnp.where(exists, jnp.maximum(saving, 0), 0)",
        "jnp.where(exists, saving, 0)",
        "oracle",
    ),
    (
        "content pixels beyond pull too",
        EDGE_SWEEP,
        "jnp.where(beyond, jnp.maximum(saving, 0), 0)",
        "jnp.where(beyond, saving, 0)",
        "oracle",
    ),
    ("eps is missing inside", EDGE_SWEEP, " + scene.eps * jnp.abs(share[k])", "", "oracle"),
    (
        "eps is in pixels outside",
        EDGE_SWEEP,
        "scene.eps / scene.unit_ndc",
        "scene.eps / scene.pixel_ndc",
        "oracle_wide",
    ),
    ("inside pushes the wrong way", EDGE_SWEEP, "direction * push", "-direction * push", "oracle"),
    (
        "outside pulls the wrong way",
        EDGE_SWEEP,
        "-direction * _pick(slope, p)",
        "direction * _pick(slope, p)",
        "oracle",
    ),
    ("first pixel is no colour beyond", EDGE_SWEEP, "valid & (beyond >= 0)", "valid & (beyond > 0)", "oracle"),
    ("colour beyond is one further on", EDGE_SWEEP, "astype(jnp.int32) + 1)", "astype(jnp.int32) + 2)", "oracle"),
    ("last wanted pixel is not swept to", EDGE_SWEEP, "(column < last_wanted)", "(column < last_wanted - 1)", "oracle"),
    (
        "cotangents below zero are passed over",
        EDGE_SWEEP,
        "reshape(steps, -1) != 0",
        "reshape(steps, -1) > 0",
        "brighter",
    ),
    ("share and slope are mixed up", EDGE_SWEEP, "value * w[corner]", "value", "oracle"),
    ("the third corner is pulled", EDGE_SWEEP, "third[2] & ~third[0]", "third[2]", "properties"),
    (
        "weights below a tenth are lost",
        RESOLVE,
        "jnp.where(sound & (w > 0), w, 0)",
        "jnp.where(sound & (w > 0.1), w, 0)",
        "oracle",
    ),
    ("corners are in another order", RESOLVE, "((1, 2), (2, 0), (0, 1))", "((2, 0), (1, 2), (0, 1))", "oracle"),
    (
        "third corner is not interpolated",
        ROWS,
        "for k in range(weights.shape[1])",
        "for k in range(weights.shape[1] - 1)",
        "rows",
    ),
    ("rows of a group are taken backwards", ROWS, "* each + jnp.arange(each", "* each - jnp.arange(each", "rows"),
    (
        "what is multiplied with zero is asked for",
        ROWS,
        "jnp.where(values[:, None] == 0, 0,",
        "jnp.where(False, 0,",
        "rows",
    ),
    (
        "background is zero",
        OPS + "interpolate.py",
        "covered[..., None], total, background)",
        "covered[..., None], total, 0)",
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
        "the other corner's fraction",
        TRITON + "edge_sweep.py",
        "total_a += force * reach_b",
        "total_a += force * reach_a",
        "triton_edge_sweep",
    ),
    (
        "corners of an edge are exchanged",
        TRITON + "edge_sweep.py",
        "tl.where(edge == 0, v2s, tl.where(edge == 1, v0s, v1s))",
        "tl.where(edge == 0, v2s, tl.where(edge == 1, v1s, v0s))",
        "triton_edge_sweep",
    ),
    ("eps is missing inside", TRITON + "edge_sweep.py", " + eps * tl.abs(share)", "", "triton_edge_sweep"),
    (
        "cotangents below zero are passed over",
        TRITON + "edge_sweep.py",
        "found | (weight != 0)",
        "found | (weight > 0)",
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
        "tl.gather(nearest, source, 0)",
        "tl.gather(farthest, source, 0)",
        "triton_rasterize",
    ),
    (
        "sweeps start at the other side's crossing",
        TRITON + "edge_sweep.py",
        "return tl.where(is_left, ",
        "return tl.where(~is_left, ",
        "triton_edge_sweep",
    ),
    ("a program's last run is left out", TRITON + "rows.py", "(lane == BLOCK - 1) | ", "", "triton_rows"),
    (
        "a value of zero has a product",
        TRITON + "rows.py",
        "tl.where(value == 0, 0.0, value * weight)",
        "value * weight",
        "triton_rows",
    ),
    ("a run takes its neighbour in", TRITON + "rows.py", "lane - step >= start", "lane >= start", "triton_rows"),
    ("a point has sides", "jnr/voxels.py", " & ~point", "", "voxels"),
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
