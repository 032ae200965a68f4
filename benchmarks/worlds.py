"""Measures many small images of MuJoCo models on a CPU, beside MuJoCo's own renderer.

    MUJOCO_GL=osmesa python benchmarks/worlds.py [--repeats 5] [--only humanoid]

Each environment has a random state of its own and is drawn at 64 x 64 from one camera: colour under the model's lights,
depth and geom ids. jnr draws all environments by one compiled program. MuJoCo's renderer draws them one after the
other, in one process per processor; it needs a pass per image, and OpenGL, on a CPU by OSMesa (libosmesa6). Both draw
the same tessellated shapes, without shadows and antialiasing. Times are medians of calls after a first one; those of
the two renderers alternate. "memory" is what the compiled program allocates, results included, per environment.
"""

import argparse
import importlib
import multiprocessing
import os
import platform
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

SIZE = 64
ENVIRONMENTS = (1, 16, 256, 1024, 4096)
# That MuJoCo's renderer draws, per process.
SHARE = 64
CART_POLE = """
<mujoco model="cart-pole">
  <worldbody>
    <camera name="side" pos="0 -4 0.6" xyaxes="1 0 0 0 0.15 1"/>
    <geom type="plane" pos="0 0 -1.1" size="6 6 12"/>
    <geom type="capsule" fromto="-1.7 0 0 1.7 0 0" size="0.04" rgba="0.5 0.5 0.55 1"/>
    <body>
      <joint type="slide" axis="1 0 0" range="-1 1"/>
      <geom type="box" size="0.28 0.18 0.14" rgba="0.15 0.35 0.75 1"/>
      <body pos="0 -0.24 0">
        <joint type="hinge" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 0 0 0.9" size="0.06" rgba="0.95 0.5 0.1 1"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


def imported(name) -> Any:
    """A module of compiled code, whose types are not known."""
    return importlib.import_module(name)


def load(name):
    """A model without shadows and antialiasing, and the name or index of its camera."""
    mujoco = imported("mujoco")
    if name == "cart-pole":
        model = mujoco.MjModel.from_xml_string(CART_POLE)
    else:
        folder = Path(imported("mujoco.mjx").__file__).parent / "test_data"
        model = mujoco.MjModel.from_xml_path(str(folder / name / f"{name}.xml"))
    model.vis.quality.offsamples = 0
    model.vis.global_.offheight = model.vis.global_.offwidth = SIZE
    model.light_castshadow[:] = False
    model.mat_reflectance[:] = 0
    return model, 0 if model.ncam else -1


def states(model, count, seed=0):
    """Random positions of the joints around the model's first, `(count, nq)`."""
    rng, qpos = np.random.default_rng(seed), np.empty((count, model.nq))
    for row in qpos:
        row[:] = model.qpos0
        imported("mujoco").mj_integratePos(model, row, rng.normal(scale=0.3, size=model.nv), 1)
    return qpos


def serve(name, seed, connection):
    """Draws `SHARE` environments with MuJoCo's renderer for every message, and answers with the seconds taken."""
    mujoco = imported("mujoco")
    model, camera = load(name)
    data, drawn = mujoco.MjData(model), states(model, SHARE, seed)
    with mujoco.Renderer(model, SIZE, SIZE) as renderer:
        while connection.recv():
            begin = time.perf_counter()
            for qpos in drawn:
                data.qpos = qpos
                mujoco.mj_kinematics(model, data)
                mujoco.mj_camlight(model, data)
                renderer.update_scene(data, camera)
                renderer.render()
                renderer.enable_depth_rendering()
                renderer.render()
                renderer.disable_depth_rendering()
                renderer.enable_segmentation_rendering()
                renderer.render()
                renderer.disable_segmentation_rendering()
            connection.send(time.perf_counter() - begin)


class Servers:
    """Processes that draw with MuJoCo's renderer, one per processor."""

    def __init__(self, name):
        context, self.pipes = multiprocessing.get_context("spawn"), []
        os.environ["LP_NUM_THREADS"] = "0"  # the rasterizer's own threads, beside the processes
        for seed in range(os.cpu_count() or 1):
            own, other = context.Pipe()
            context.Process(target=serve, args=(name, seed, other), daemon=True).start()
            self.pipes.append(own)
        self.rate()

    def rate(self):
        """Images per second of all processes together."""
        for pipe in self.pipes:
            pipe.send(True)
        return sum(SHARE / pipe.recv() for pipe in self.pipes)

    def close(self):
        """Ends the processes."""
        for pipe in self.pipes:
            pipe.send(False)


def measure(name, options):
    import jax
    import jax.numpy as jnp

    import jnr.mujoco

    mujoco = imported("mujoco")
    model, camera = load(name)
    scene, data = jnr.mujoco.load(model, resolution=options.resolution), mujoco.MjData(model)
    fields, values = ("geom_xpos", "geom_xmat", "cam_xpos", "cam_xmat", "xpos", "xmat", "subtree_com"), []
    for qpos in states(model, max(options.environments)):
        data.qpos = qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        values.append([getattr(data, field).astype(np.float32) for field in fields])
    every = [jnp.asarray(np.stack(rows)) for rows in zip(*values, strict=True)]

    @jax.jit
    def draw(scene, *rows):
        def one(*row):
            seen = scene.render(SimpleNamespace(**dict(zip(fields, row, strict=True))), camera, image_size=SIZE)
            return seen.rgb, seen.depth, seen.instance

        return jax.vmap(one)(*rows)

    servers = None if os.environ.get("MUJOCO_GL") is None else Servers(name)
    faces = len(scene.place(data).mesh.faces)
    for count in options.environments:
        rows = [array[:count] for array in every]
        program = draw.lower(scene, *rows).compile()
        jax.block_until_ready(program(scene, *rows))
        times, rates = [], []
        for _ in range(options.repeats):
            if servers:
                rates.append(servers.rate())
            begin = time.perf_counter()
            jax.block_until_ready(program(scene, *rows))
            times.append(time.perf_counter() - begin)
        used: Any = program.memory_analysis()
        memory = (used.output_size_in_bytes + used.temp_size_in_bytes) / count / 1e3
        rate = count / np.median(times)
        line = f"{name:10} {faces:6} faces  {count:5} environments  jnr {rate:8.0f} images per second"
        line += f"  {1e6 / rate:7.0f} us per image  memory {memory:6.0f} kB"
        if rates:
            line += f"  MuJoCo {np.median(rates):7.0f}  ratio {rate / np.median(rates):6.2f}"
        print(line, flush=True)
    if servers:
        servers.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("cart-pole", "humanoid"), help="measure one model only")
    parser.add_argument("--environments", type=int, nargs="+", default=ENVIRONMENTS)
    parser.add_argument("--resolution", type=int, nargs=2, help="slices and stacks of round shapes in jnr alone")
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors, {platform.platform()}, Python {platform.python_version()}")
    for name in ("cart-pole", "humanoid"):
        if options.only in (None, name):
            measure(name, options)


if __name__ == "__main__":
    main()
