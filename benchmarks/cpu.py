"""Times silhouettes on this machine: forward, and forward with the gradient to the vertices.

    python benchmarks/cpu.py [--repeats 30] [--backend xla]

Loss: sum((alpha - reference)^2); the reference is the same mesh, turned and stretched. Medians after warm-up. Other
renderers that can be imported (pip install deodr) do the same work in turn with jnr, call by call.
"""

import argparse
import importlib.util
import json
import platform
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from cpu_peers import PEERS

import jnr

CAMERA = jnr.Camera(jnr.LookAt((1.62, 1.3, 1.77)))  # 2.732 from the origin
STRETCH = (1.1, 0.8, 1.0)
WARM_UP = 0.5  # seconds


def workloads():
    """Name, mesh, image size, batch."""
    yield "teapot, 256 x 256", jnr.shapes.teapot(6), 256, None
    yield "320 faces, 256 x 256", jnr.shapes.icosphere(2), 256, None
    yield "5120 faces, 256 x 256", jnr.shapes.icosphere(4), 256, None
    yield "8 x 5120 faces, 128 x 128", jnr.shapes.icosphere(4), 128, 8
    yield "5120 faces, 1024 x 1024", jnr.shapes.icosphere(4), 1024, None
    yield "327,680 faces, 256 x 256", jnr.shapes.icosphere(7), 256, None


def measure(functions, repeats):
    """Median milliseconds of a call of each, called in turn."""
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--backend", choices=["xla", "cpu"], help="default: the kernels, if they are there")
    options = parser.parse_args()
    print(f"jax {jax.__version__}, {platform.processor() or platform.machine()}, {jax.devices()[0].device_kind}")
    results = []
    for name, mesh, size, batch in workloads():

        def silhouette(vertices, mesh=mesh, size=size):
            return jnr.render_silhouette(vertices, mesh.faces, camera=CAMERA, image_size=size, backend=options.backend)

        vertices = mesh.vertices
        render = silhouette
        if batch:
            vertices = jnp.stack([vertices * (0.9 + 0.02 * i) for i in range(batch)])
            render = jax.vmap(silhouette)
        reference = jax.jit(render)(jnp.roll(vertices, 1, axis=-1) * jnp.array(STRETCH))

        def loss(vertices, render=render, reference=reference):
            return jnp.sum((render(vertices) - reference) ** 2)

        forward, both = jax.jit(render), jax.jit(jax.value_and_grad(loss))
        contestants: dict[str, tuple[Callable, Callable]] = {
            "jnr": (lambda f=forward, v=vertices: f(v), lambda f=both, v=vertices: f(v))
        }
        batched = vertices if batch else vertices[None]
        clip = np.asarray(jax.vmap(CAMERA.clip_positions)(batched))
        for peer, (module, make) in PEERS.items():
            if importlib.util.find_spec(module):
                contestants[peer] = make(clip, np.asarray(mesh.faces), np.asarray(reference).reshape(-1, size, size))
        figures = [measure(functions, options.repeats) for functions in zip(*contestants.values(), strict=True)]
        for k, contestant in enumerate(contestants):
            forward_ms, both_ms = (float(medians[k]) for medians in figures)
            ratio = figures[1][0] / figures[1][k]
            results.append(
                {
                    "workload": name,
                    "renderer": contestant,
                    "forward_ms": round(forward_ms, 3),
                    "forward_backward_ms": round(both_ms, 3),
                    "jnr_over_it": round(float(ratio), 3),
                }
            )
            print(
                f"{name:28} {contestant:6} forward {forward_ms:8.2f} ms   forward+backward {both_ms:8.2f} ms   "
                f"jnr/it {ratio:5.2f}",
                flush=True,
            )
    print(json.dumps(results))


if __name__ == "__main__":
    main()
