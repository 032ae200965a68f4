"""Measures the run time of rendering on a CPU: forward, and forward with gradient.

    python benchmarks/cpu.py [--repeats 30] [--threads 1] [--backend xla] [--memory] [--json cpu.json]

Workloads render silhouettes with the loss sum((alpha - reference)^2) and its gradient with respect to the vertices.
Workloads with "rgb" in their names render vertex colours under jnr's default light and include the gradient with
respect to the colours. The reference is the same mesh, turned and stretched. "jnr" has the default gradient, the edge
sweep, and "jnr, boundary" the boundary gradient, with the derivative inside faces. Times are medians after warm-up.
Other renderers that can be imported (pip install deodr) run the same workloads, alternating with jnr call by call.

"floor" is a lower bound of the time: the bytes that must be moved at the rate of a copy, or the arithmetic at the rate
of a matrix product, whichever takes longer, both measured on the same processors (see `floor_ms`). With --memory each
workload runs once more in its own process, and the peak memory of that whole process is printed.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

WARM_UP = 0.5  # seconds
# jnr's gradients by the names of the rows.
GRADIENTS = {"jnr": "edge_sweep", "jnr, boundary": "boundary"}


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, help="number of processors (default: all)")
    parser.add_argument("--backend", choices=["xla", "cpu"], help="default: the C++ kernels where they are built")
    parser.add_argument("--only", default="", help="run only workloads whose names contain this text")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too; Linux only")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--arrays", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def workloads(jnr):
    """Yields (name, mesh, image size, batch, in colour) per workload."""
    ball = jnr.shapes.icosphere
    teapot = jnr.shapes.teapot(6)
    yield "teapot, 256 x 256", teapot, 256, None, False
    yield "teapot, rgb, 256 x 256", teapot, 256, None, True
    yield "8 x 5120 faces, 64 x 64", ball(4), 64, 8, False
    yield "8 x 5120 faces, 128 x 128", ball(4), 128, 8, False
    yield "320 faces, 256 x 256", ball(2), 256, None, False
    yield "5120 faces, 256 x 256", ball(4), 256, None, False
    yield "20,480 faces, 256 x 256", ball(5), 256, None, False
    yield "81,920 faces, 256 x 256", ball(6), 256, None, False
    yield "327,680 faces, 256 x 256", ball(7), 256, None, False
    yield "5120 faces, 512 x 512", ball(4), 512, None, False
    yield "5120 faces, 1024 x 1024", ball(4), 1024, None, False


def measure(functions, repeats):
    """Returns the median milliseconds per call of each function. Calls alternate between the functions."""
    import jax

    start = time.perf_counter()
    while time.perf_counter() - start < WARM_UP * len(functions):
        for function in functions:
            jax.block_until_ready(function())
    times = np.empty((repeats, len(functions)))
    for row in times:
        for k, function in enumerate(functions):
            start = time.perf_counter()
            jax.block_until_ready(function())
            row[k] = time.perf_counter() - start
    return 1e3 * np.median(times, axis=0)


def build(jnr, mesh, size, batch, in_colour, backend, gradient="edge_sweep"):
    """Returns jitted forward and value-and-gradient functions, their arguments, clip positions and reference image."""
    import jax
    import jax.numpy as jnp

    camera = jnr.Camera(jnr.LookAt((1.62, 1.3, 1.77)))  # 2.732 from the origin

    def image(vertices, colors):
        settings = {"camera": camera, "image_size": size, "backend": backend, "gradient": gradient}
        if in_colour:
            return jnr.render(vertices, mesh.faces, colors, **settings).rgb
        return jnr.render_silhouette(vertices, mesh.faces, **settings)[..., None]

    vertices, colors = mesh.vertices, jnp.ones((len(mesh.vertices), 1))
    if in_colour:
        colors = jnp.asarray(np.random.default_rng(0).uniform(size=mesh.vertices.shape), jnp.float32)
    if batch:
        vertices = jnp.stack([vertices * (0.9 + 0.02 * i) for i in range(batch)])
        image = jax.vmap(image, in_axes=(0, None))
    reference = jax.jit(image)(jnp.roll(vertices, 1, axis=-1) * jnp.array([1.1, 0.8, 1.0]), colors)

    def loss(vertices, colors):
        return jnp.sum((image(vertices, colors) - reference) ** 2)

    both = jax.value_and_grad(loss, argnums=(0, 1) if in_colour else 0)
    clip = jax.vmap(camera.clip_positions)(vertices if batch else vertices[None])
    return jax.jit(image), jax.jit(both), (vertices, colors), clip, reference


def rates(threads):
    """Returns bytes per second of 4 MiB copies, one per thread, and operations per second of a matrix product."""
    import jax
    import jax.numpy as jnp

    source, target, square = np.ones(2**20, np.float32), np.ones(2**20, np.float32), jnp.ones((1024, 1024))
    product = jax.jit(lambda x: x @ x)
    copy_ms, product_ms = measure([lambda: np.copyto(target, source), lambda: product(square)], 20)
    return threads * 2 * source.nbytes / copy_ms * 1e3, 2 * 1024**3 / product_ms * 1e3


def floor_ms(num_vertices, num_faces, pixels, channels, images, bytes_per_s, operations_per_s):
    """Returns a lower bound of forward + backward in milliseconds, if each use of an array touches it once.

    Bytes per vertex: the position is read, the clip position is written and read by rasterizer and sweep, and the same
    in the backward pass. Bytes per face: its indices in rasterizer and sweep. Bytes per pixel: the face index is
    written, and read for the image and along both axes of the sweep; image, reference and cotangent, two of which the
    sweep reads along both axes. Operations: two matrix products per vertex; edges, plane and bounds per face; per pixel
    three edges, one depth, the loss and one step of the sweep. Pixels that crossings sum over and hidden faces are not
    counted.
    """
    moved = 104 * num_vertices + 24 * num_faces + (16 + 32 * channels) * pixels
    operations = 100 * num_vertices + 150 * num_faces + (30 + 10 * channels) * pixels
    return 1e3 * images * max(moved / bytes_per_s, operations / operations_per_s)


def peak_mib():
    """Returns the peak memory of this process; the resource usage of a child may include its parent's."""
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def run_in_this_process(chosen):
    """Runs the workload of one renderer three times in this process and prints its peak memory in MiB."""
    if chosen.alone in GRADIENTS:
        import jax

        import jnr

        (work,) = (work for work in workloads(jnr) if work[0] == chosen.only)
        _, both, arguments, *_ = build(jnr, *work[1:], chosen.backend, GRADIENTS[chosen.alone])
        for _ in range(3):
            jax.block_until_ready(both(*arguments))
    else:
        from cpu_peers import PEERS

        with np.load(chosen.arrays) as arrays:
            _, both = PEERS[chosen.alone][1](*(arrays[f"arr_{k}"] for k in range(len(arrays.files))))
        for _ in range(3):
            both()
    print(peak_mib())


def peak_memory(renderer, name, arrays, backend):
    """Returns the peak memory in MiB of a renderer that runs a workload in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "arrays.npz"
        np.savez(file, *arrays)
        command = [sys.executable, __file__, "--alone", renderer, "--only", name, "--arrays", str(file)]
        command += ["--backend", backend] if backend else []
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main():
    chosen = options()
    if chosen.alone:
        run_in_this_process(chosen)
        return
    if chosen.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: chosen.threads])
    # Imported after the number of processors is set: XLA reads it once.
    import jax
    from cpu_peers import PEERS

    import jnr

    threads = len(os.sched_getaffinity(0))
    print(f"jax {jax.__version__}, {platform.processor() or platform.machine()}, {threads} processors")
    bytes_per_s, operations_per_s = rates(threads)
    print(f"copy {bytes_per_s / 1e9:.0f} GB/s, matrix product {operations_per_s / 1e9:.0f} GFLOP/s")
    results = []
    for name, mesh, size, batch, in_colour in workloads(jnr):
        if chosen.only not in name:
            continue
        renderers: dict[str, tuple[Callable, Callable]] = {}
        compile_s = {}
        for row, gradient in GRADIENTS.items():
            *functions, arguments, clip, reference = build(jnr, mesh, size, batch, in_colour, chosen.backend, gradient)
            start = time.perf_counter()
            forward, both = (f.lower(*arguments).compile() for f in functions)
            compile_s[row] = time.perf_counter() - start
            renderers[row] = (lambda f=forward, a=arguments: f(*a)), (lambda f=both, a=arguments: f(*a))
        images = np.asarray(reference).reshape(-1, *reference.shape[-3:])
        arrays = np.asarray(clip), np.asarray(mesh.faces), np.asarray(arguments[1]), images
        for peer, (module, make) in PEERS.items():
            if importlib.util.find_spec(module):
                renderers[peer] = make(*arrays)
        figures = [measure(functions, chosen.repeats) for functions in zip(*renderers.values(), strict=True)]
        for k, renderer in enumerate(renderers):
            forward_ms, both_ms = (float(medians[k]) for medians in figures)
            result = {
                "workload": name,
                "renderer": renderer,
                "threads": threads,
                "forward_ms": round(forward_ms, 3),
                "forward_backward_ms": round(both_ms, 3),
                "jnr_over_it": round(float(figures[1][0] / figures[1][k]), 3),
            }
            if renderer in compile_s:
                result["compile_s"] = round(compile_s[renderer], 2)
                count = len(mesh.vertices), len(mesh.faces), size**2, images.shape[-1], len(images)
                result["floor_ms"] = round(floor_ms(*count, bytes_per_s, operations_per_s), 3)
            if chosen.memory:
                result["peak_mib"] = round(peak_memory(renderer, name, arrays, chosen.backend))
            results.append(result)
            ratio = f"jnr/it {result['jnr_over_it']:5.2f}"
            print(
                f"{name:26} {renderer:13} forward {forward_ms:8.2f} ms   forward+backward {both_ms:8.2f} ms   "
                + (
                    f"{ratio}   floor {result['floor_ms']:5.2f} ms   compiled in {compile_s[renderer]:.1f} s"
                    if renderer in compile_s
                    else ratio
                )
                + (f"   peak {result['peak_mib']} MiB" if chosen.memory else ""),
                flush=True,
            )
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
