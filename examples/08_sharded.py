"""Fits one mesh to many views that are sharded over all devices, and compares with a single device.

    python examples/08_sharded.py [--devices 8]

Each device renders its shard of the views. The gradients are averaged over the devices, and every device takes the same
optimiser step. `--devices 8` simulates eight devices on the CPU; they share its cores, so nothing gets faster.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jnr


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--devices", type=int, help="number of simulated CPU devices (default: use the existing devices)"
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", type=int, default=96, help="height and width of the silhouettes in pixels")
    parser.add_argument("--views", type=int, default=32, help="rounded up to a multiple of the number of devices")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    if options.devices is not None:
        # This must precede any other use of JAX's devices.
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", options.devices)
    start = time.perf_counter()
    devices = Mesh(np.array(jax.devices()), "views")
    over_views, everywhere = PartitionSpec("views"), PartitionSpec()

    target = jnr.shapes.teapot()
    sphere = jnr.shapes.icosphere(4)
    base = 0.7 * sphere.vertices
    edges, pairs = jnr.unique_edges(sphere.faces)

    def silhouettes(mesh, eyes):
        def one(eye):
            camera = jnr.Camera(jnr.LookAt(eye))
            return jnr.render_silhouette(mesh.vertices, mesh.faces, camera=camera, image_size=options.size)

        return jax.vmap(one)(eyes)

    count = -(-options.views // devices.size) * devices.size
    turn, height = np.arange(count) * 360 * 0.618034, np.rad2deg(np.arcsin(np.linspace(-0.85, 0.85, count)))
    eyes = jnr.points_from_angles(2.732, height, turn)
    targets = jax.jit(silhouettes)(target, eyes)

    def image_loss(vertices, eyes, targets):
        """Returns the mean loss over the given views."""
        return jnr.losses.silhouette_iou(silhouettes(sphere._replace(vertices=vertices), eyes), targets)

    @partial(jax.shard_map, mesh=devices, in_specs=(everywhere, over_views, over_views), out_specs=everywhere)
    def mean_over_devices(vertices, eyes, targets):
        # A copy of the vertices per device: each gradient is that of the device's own views, before the mean.
        own = lax.pcast(vertices, "views", to="varying")
        return lax.pmean(jax.value_and_grad(image_loss)(own, eyes, targets), "views")

    def regularity(vertices):
        smooth = jnr.losses.laplacian(vertices, edges)
        return 300 * smooth + 0.3 * jnr.losses.normal_consistency(vertices, sphere.faces, pairs)

    optimizer = optax.adam(optax.cosine_decay_schedule(0.01, options.steps, alpha=0.1))

    def fit(image_gradient, eyes, targets, vertices):
        """Returns the final vertices, the first gradient, the final loss and the seconds per step."""

        # Views are arguments: XLA would fold cameras of constant views at compile time, with other rounding.
        @jax.jit
        def step(vertices, state, eyes, targets):
            value, grad = image_gradient(vertices, eyes, targets)
            updates, state = optimizer.update(grad + jax.grad(regularity)(vertices), state)
            return optax.apply_updates(vertices, updates), state, value, grad

        vertices, state = jax.device_put((vertices, optimizer.init(vertices)), vertices.sharding)
        vertices, state, value, first = jax.block_until_ready(step(vertices, state, eyes, targets))
        begin = time.perf_counter()
        for _ in range(options.steps - 1):
            # One step at a time: simulated devices share the CPU's threads, and concurrent steps wait for each other.
            vertices, state, value, _ = jax.block_until_ready(step(vertices, state, eyes, targets))
        value = float(value)
        return vertices, first, value, (time.perf_counter() - begin) / max(options.steps - 1, 1)

    # Placed once: each device has its shard of the views and a copy of the vertices.
    sharded, replicated = (NamedSharding(devices, spec) for spec in (over_views, everywhere))
    eye_shards, target_shards = jax.device_put(eyes, sharded), jax.device_put(targets, sharded)
    many = fit(mean_over_devices, eye_shards, target_shards, jax.device_put(base, replicated))
    single = fit(jax.value_and_grad(image_loss), eyes, targets, base)

    gradients, vertices = ([np.asarray(run[k]) for run in (many, single)] for k in (1, 0))
    print(f"{count} views, devices: {devices.size} ({jax.devices()[0].platform}), {target_shards.sharding.spec}")
    for name, run in (("sharded", many), ("single device", single)):
        print(f"{name}: 1 - IoU {run[2]:.4f} after {options.steps} steps, {run[3] * 1e3:.1f} ms per step")
    difference = np.abs(gradients[0] - gradients[1]).max() / np.abs(gradients[1]).max()
    print(f"the first gradients differ by {difference:.1e} of the largest entry, the fitted vertices by ", end="")
    print(f"{np.abs(vertices[0] - vertices[1]).max():.1e}")

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "08_sharded.png"

    @jax.jit
    def shaded(mesh):
        camera = jnr.Camera(jnr.LookAt(jnr.points_from_angles(2.2, 28.0, 35.0)), jnr.Perspective(54.0))
        rendering = jnr.render(*mesh, camera=camera, image_size=256, antialias=2, background=1.0)
        return jnp.uint8(jnp.clip(rendering.rgb, 0, 1) * 255)

    row = [target, *(sphere._replace(vertices=jnp.asarray(v)) for v in vertices)]
    iio.imwrite(path, np.concatenate([np.asarray(shaded(mesh)) for mesh in row], axis=1))
    print(f"{time.perf_counter() - start:.0f} s in total; target, sharded fit and single-device fit in {path}")


if __name__ == "__main__":
    main()
