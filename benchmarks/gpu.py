"""Runs kernel tests, memory checker and benchmarks on a machine with an NVIDIA GPU.

    python benchmarks/gpu.py [--quick] [--out FILE]

It runs unattended from a fresh checkout within ten minutes and prints its table last. Other renderers ("peers") that
can be imported are measured in the same run; missing ones are listed. The loss is sum((alpha - reference)^2), or the
mean square of rgb. Times are medians in milliseconds. Several calls are queued at a time, so that host overhead is
hidden.
"""

import argparse
import datetime
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
# Leaves memory to the peers.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np
from peers import PEERS

import jnr
from jnr._camera import transform
from jnr._ops.gather.definition import weighted_scatter_add as weighted_scatter_add_xla
from jnr.triton_kernels.edge_sweep import edge_sweep_bwd
from jnr.triton_kernels.gather import weighted_scatter_add
from jnr.triton_kernels.launch import versions
from jnr.triton_kernels.rasterize import rasterize

# Name, mesh, image size, batch.
WORKLOADS = [
    ("teapot, 256", lambda: jnr.shapes.teapot(6), 256, 1),
    *((f"5120 faces, {size}", lambda: jnr.shapes.icosphere(4), size, 1) for size in (64, 256, 512, 1024, 2048)),
    ("38,916 faces, 1024", lambda: jnr.shapes.uv_sphere(139, 141), 1024, 1),
    *((f"81,920 faces, {size}", lambda: jnr.shapes.icosphere(6), size, 1) for size in (256, 1024)),
    *((f"327,680 faces, {size}", lambda: jnr.shapes.icosphere(7), size, 1) for size in (256, 1024)),
    ("64 x 5120 faces, 128", lambda: jnr.shapes.icosphere(4), 128, 64),
]
# Float32 operations per second of an H100 or H200 according to the data sheet. Bytes per second are measured.
OPERATIONS = 67e12
COLUMNS = ("rasterize", "sweep", "forward", "both", "optax step", "rgb, both", "sums", "sums, XLA", "floor, both")
TEST_SECONDS, SANITIZER_SECONDS, ALL_SECONDS = 200, 100, 520


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the first three workloads, no memory checker")
    parser.add_argument("--out", type=Path, help="file for the table; the numbers go beside it as .json")
    options = parser.parse_args()
    if jax.default_backend() != "gpu":
        sys.exit(f"No GPU: jax.default_backend() is {jax.default_backend()}.")
    start = time.monotonic()
    bandwidth = measure_bandwidth()
    lines = [run_tests(), "memory checker: skipped" if options.quick else run_sanitizer()]
    results = []
    for workload in WORKLOADS[:3] if options.quick else WORKLOADS:
        if time.monotonic() - start > ALL_SECONDS:
            lines.append(f"{workload[0]}: skipped, out of time")
            continue
        results.append(measure(*workload, bandwidth))
        print(results[-1], flush=True)
    lines.append(f"copy bandwidth {bandwidth / 1e12:.2f} TB/s (reads plus writes)")
    text = "\n".join([*lines, *table(results)])
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
        options.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(0 if " 0 failed" in lines[0] else 1)


def run_tests():
    """Runs the GPU-marked tests and the golden data on the device; returns a summary line."""
    command = [sys.executable, "-m", "pytest", "-q", "-W", "default", "-o", "addopts=", "-p", "no:cacheprovider"]
    comparisons = ("renderer_draws_the_originals_images", "render_has_the_originals_gradients")
    tests = ["tests/ops/test_gpu.py", "tests/test_golden.py"]
    tests += [f"tests/test_compat.py::test_{name}" for name in comparisons]
    try:
        result = _run([*command, *tests], TEST_SECONDS)
    except subprocess.TimeoutExpired as error:
        print((error.stdout or b"").decode()[-3000:])
        return f"tests: not finished within {TEST_SECONDS} s"
    print(result.stdout[-6000:])
    return f"tests:{'' if result.returncode else ' 0 failed,'} {result.stdout.strip().splitlines()[-1]}"


def run_sanitizer():
    """Runs a small forward and backward pass under compute-sanitizer; returns its summary line."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return "memory checker: compute-sanitizer is not installed"
    code = (
        "import jax, jnr; m = jnr.shapes.icosphere(2)\n"
        "f = lambda v: sum((x**2).sum() for x in jnr.render(v, m.faces, image_size=(37, 61)))\n"
        "jax.block_until_ready(jax.jit(jax.vmap(jax.grad(f)))(jax.numpy.stack([m.vertices, 0.7 * m.vertices])))"
    )
    command = [tool, "--tool", "memcheck", sys.executable, "-c", code]
    try:
        result = _run(command, SANITIZER_SECONDS)
    except subprocess.TimeoutExpired:
        return f"memory checker: not finished within {SANITIZER_SECONDS} s"
    summary = [line for line in (result.stdout + result.stderr).splitlines() if "ERROR SUMMARY" in line]
    return f"memory checker: {summary[-1].strip('= ') if summary else 'no summary, exit ' + str(result.returncode)}"


def _run(command, seconds):
    # An empty XLA_FLAGS keeps tests/conftest.py from turning the compiler's optimizations off.
    environment = {"XLA_FLAGS": ""} | os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds)


def measure_bandwidth(num_bytes=2**30):
    """Returns the bytes per second that an elementwise addition reads and writes."""
    array = jnp.zeros(num_bytes // 4, jnp.float32)
    return 2 * num_bytes / (1e-3 * timed(jax.jit(lambda a: a + 1), array, repeats=5, inner=5))


def measure(name, make_mesh, size, batch, bandwidth):
    """Returns the times in milliseconds of jnr and its peers for one workload."""
    mesh = make_mesh()
    vertices = mesh.vertices * jnp.linspace(0.9, 1.1, batch)[:, None, None]
    camera = jnr.Camera()

    def silhouette(vertices):
        return jnr.render_silhouette(vertices, mesh.faces, image_size=size, camera=camera)

    reference = jax.jit(silhouette)(mesh.vertices * jnp.array([1.1, 0.8, 1.0]) * 0.9 + 0.05)

    def loss(vertices):
        return jnp.sum((silhouette(vertices) - reference) ** 2)

    def rgb(vertices):
        return jnp.mean(jnr.render(vertices, mesh.faces, image_size=size, camera=camera).rgb ** 2)

    step = jax.jit(jax.vmap(jax.value_and_grad(loss)))
    clip = jax.jit(jax.vmap(lambda v: transform(camera.clip_from_world(1.0), v)))(vertices)
    rasterize_clip = jax.jit(lambda c: rasterize(c, mesh.faces[None], height=size, width=size, cull=None))
    face_index = rasterize_clip(clip)
    alpha = (face_index >= 0).astype(jnp.float32)[..., None]
    cotangent = 2 * (alpha - reference[..., None])
    sweep = jax.jit(lambda i, g, c, f: edge_sweep_bwd(i, g, c, mesh.faces[None], f, jnp.zeros((1, 0, 0)), eps=1e-3))
    # Operands of the gradient with respect to three colours per face corner.
    colors = jnp.ones((batch, size * size, 3))
    corners = colors, colors, face_index.reshape(batch, -1, 1)
    sizes = {"rows": 3 * mesh.faces.shape[0], "sums": batch}
    jnr_times = {
        "rasterize": timed(rasterize_clip, clip),
        "sweep": timed(sweep, alpha, cotangent, clip, face_index),
        "forward": timed(jax.jit(jax.vmap(silhouette)), vertices),
        "both": timed(step, vertices),
        "optax step": timed_optax(step, vertices),
        "rgb, both": timed(jax.jit(jax.vmap(jax.value_and_grad(rgb))), vertices),
        "sums": timed(jax.jit(partial(weighted_scatter_add, **sizes)), *corners),
        "sums, XLA": timed(jax.jit(partial(weighted_scatter_add_xla, **sizes)), *corners),
        "floor, both": floor(face_index, cotangent, mesh.faces.shape[0], bandwidth),
    }
    arrays = [np.asarray(a) for a in (clip, mesh.faces, reference)]
    peers = {}
    for peer, (module, run) in PEERS.items():
        if importlib.util.find_spec(module) is None:
            continue
        try:
            peers[peer] = run(*arrays)
        # A peer that fails is reported in the table and does not end the benchmark.
        except Exception as error:
            peers[peer] = {"error": f"{type(error).__name__}: {error}"[:200]}
    return {"workload": name, "jnr": {k: round(v, 4) for k, v in jnr_times.items()}, "peers": peers}


def floor(face_index, cotangent, num_faces, bandwidth):
    """Returns a lower bound in milliseconds: each array read and written once, or the operations of the sweeps."""
    face_index, cotangent = np.asarray(face_index), np.asarray(cotangent)[..., 0]
    batch, height, width = face_index.shape
    # Keys are cleared, written and read. Both axes read face indices, colours and cotangents; one axis is transposed.
    num_bytes = batch * (height * width * (24 + 2 * 12 + 2 * 12) + num_faces * (12 + 48 + 2 * 20))
    operations = 0
    for axis in (1, 2):
        crossings = (np.diff(face_index, axis=axis) != 0).sum(axis=axis)
        active = (cotangent != 0).sum(axis=axis)
        # On average half of a line's pixels lie beyond a crossing. One sweep starts on each covered side.
        operations += 15 * float((crossings * active).sum())
    return 1e3 * max(num_bytes / bandwidth, operations / OPERATIONS)


def timed_optax(step, vertices):
    import optax

    optimizer = optax.adam(1e-3)

    @jax.jit
    def update(vertices, state):
        updates, state = optimizer.update(step(vertices)[1], state, vertices)
        return optax.apply_updates(vertices, updates), state

    return timed(update, vertices, optimizer.init(vertices))


def timed(function, *arguments, repeats=20, inner=20):
    """Returns the median milliseconds per call."""
    for _ in range(3):
        jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        out = [function(*arguments) for _ in range(inner)]
        jax.block_until_ready(out)
        times.append((time.perf_counter() - start) / inner)
    return 1e3 * statistics.median(times)


def table(results):
    yield f"{datetime.date.today()}, {jax.devices()[0].device_kind}, {versions()}"
    missing = [peer for peer, (module, _) in PEERS.items() if importlib.util.find_spec(module) is None]
    yield f"peers not installed: {', '.join(missing) or 'none'}"
    yield ""
    yield f"| ms | {' | '.join(COLUMNS)} | peers: forward / both (speed-up of jnr in both) |"
    yield "|---|" + "---|" * (len(COLUMNS) + 1)
    for result in results:
        times = " | ".join(f"{result['jnr'][column]:.3f}" for column in COLUMNS)
        yield f"| {result['workload']} | {times} | {'; '.join(_peers(result))} |"


def _peers(result):
    for peer, times in result["peers"].items():
        if "error" in times:
            yield f"{peer}: {times['error']}"
        else:
            ratio = times["both"] / result["jnr"]["both"]
            yield f"{peer} {times['forward']:.3f} / {times['both']:.3f} ({ratio:.1f}x)"


if __name__ == "__main__":
    main()
