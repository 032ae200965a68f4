"""Times silhouettes on this machine: forward, and forward with the gradient to the vertices.

    python benchmarks/cpu.py [--repeats 30]

Loss: sum((alpha - reference)^2); the reference is the same mesh, turned and stretched. Medians after warm-up.
"""

import argparse
import json
import platform
import time

import jax
import jax.numpy as jnp
import numpy as np

import jnr

EYE = (1.62, 1.3, 1.77)  # 2.732 from the origin
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


def measure(function, argument, repeats):
    """Median milliseconds of a call."""
    start = time.perf_counter()
    while time.perf_counter() - start < WARM_UP:
        jax.block_until_ready(function(argument))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(argument))
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    print(f"jax {jax.__version__}, {platform.processor() or platform.machine()}, {jax.devices()[0].device_kind}")
    results = []
    for name, mesh, size, batch in workloads():

        def silhouette(vertices, eye=EYE, mesh=mesh, size=size):
            camera = jnr.Camera(jnr.LookAt(eye))
            return jnr.render_silhouette(vertices, mesh.faces, camera=camera, image_size=size)

        vertices = mesh.vertices
        render = silhouette
        if batch:
            vertices = jnp.stack([vertices * (0.9 + 0.02 * i) for i in range(batch)])
            render = jax.vmap(silhouette)
        reference = jax.jit(render)(jnp.roll(vertices, 1, axis=-1) * jnp.array(STRETCH))

        def loss(vertices, render=render, reference=reference):
            return jnp.sum((render(vertices) - reference) ** 2)

        forward = measure(jax.jit(render), vertices, options.repeats)
        both = measure(jax.jit(jax.value_and_grad(loss)), vertices, options.repeats)
        results.append({"workload": name, "forward_ms": round(forward, 2), "forward_backward_ms": round(both, 2)})
        print(f"{name:28} forward {forward:8.2f} ms   forward+backward {both:8.2f} ms", flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
