"""Pixels of 1024 cart-poles: one compiled step of MJX's physics and of images.

    python examples/13_cartpoles.py

One environment's step is a function of its state and of a force on the cart: MJX takes a step, and jnr draws the geoms
at their poses as the model's camera sees them, in colour, with depth and with each pixel's geom id. `vmap` makes it the
step of all environments, which share the model's meshes. Poles start at random angles, and forces are random.

MuJoCo's own renderer draws the same environments beside it on the CPU, where its OpenGL is to be had: with OSMesa
(Debian's libosmesa6), or with what the environment variable MUJOCO_GL names. It takes a pass for each of the three
images. The model has neither shadows nor antialiasing, and its shapes are the same meshes in both renderers.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names come from compiled modules)

import argparse
import ctypes.util
import os
import time
from pathlib import Path

if "MUJOCO_GL" not in os.environ:  # MuJoCo reads it when it is imported
    os.environ["MUJOCO_GL"] = "osmesa" if ctypes.util.find_library("OSMesa") else "disable"

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

import jnr
import jnr.mujoco

# A spring holds the cart near the middle of the rail: joint limits would do so with constraints, whose solver takes
# longer to compile than everything else.
XML = """
<mujoco model="cart-pole">
  <option timestep="0.02"><flag constraint="disable"/></option>
  <visual>
    <quality numslices="16" numstacks="8" offsamples="0"/>
    <headlight ambient="0.35 0.35 0.35" diffuse="0.65 0.65 0.65" specular="0 0 0"/>
  </visual>
  <worldbody>
    <camera name="side" pos="0 -3.2 0.7" xyaxes="1 0 0 0 0.2 1" fovy="45"/>
    <!-- The third size of a plane divides it into squares: one square here, the whole plane. -->
    <geom name="floor" type="plane" pos="0 0 -1.1" size="6 6 12" rgba="0.45 0.5 0.5 1"/>
    <geom name="wall" type="plane" pos="0 2 0" zaxis="0 -1 0" size="6 6 12" rgba="0.85 0.88 0.92 1"/>
    <geom name="rail" type="capsule" fromto="-1.3 0 0 1.3 0 0" size="0.04" rgba="0.5 0.5 0.55 1"/>
    <body name="cart">
      <joint name="slide" type="slide" axis="1 0 0" stiffness="10" damping="0.5"/>
      <geom name="cart" type="box" size="0.28 0.18 0.14" mass="1" rgba="0.15 0.35 0.75 1"/>
      <body name="pole" pos="0 -0.24 0">
        <joint name="hinge" type="hinge" axis="0 1 0"/>
        <geom name="pole" type="capsule" fromto="0 0 0 0 0 0.9" size="0.07" mass="0.2" rgba="0.95 0.5 0.1 1"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="slide" gear="10"/></actuator>
</mujoco>
"""
CAMERA = "side"
# Of geom ids in the picture: floor, wall, rail, cart, pole.
COLORS = np.array([(150, 120, 90), (240, 230, 180), (60, 60, 60), (30, 150, 90), (200, 40, 140)], np.uint8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=10, help="timed steps; the median counts")
    parser.add_argument("--size", type=int, default=64, help="image height and width in pixels")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    begin = time.perf_counter()
    count, size = options.environments, (options.size, options.size)

    model = mujoco.MjModel.from_xml_string(XML)
    model.vis.global_.offheight, model.vis.global_.offwidth = size
    physics, scene = mjx.put_model(model), jnr.mujoco.load(model)

    def move(data, force):
        data = mjx.step(physics, data.replace(ctrl=force))
        return mjx.kinematics(physics, data)  # a step leaves the geoms where they were before it

    def draw(data):
        seen = scene.render(data, CAMERA, image_size=size)
        return seen.rgb, seen.depth, seen.instance

    def step(data, force):
        data = move(data, force)
        return data, draw(data)

    random = np.random.default_rng(0)
    start = jnp.asarray(random.uniform((-0.7, -np.pi), (0.7, np.pi), (count, 2)), jnp.float32)
    empty = mjx.make_data(model)
    data = jax.vmap(lambda qpos: empty.replace(qpos=qpos))(start)
    forces = jnp.asarray(random.normal(size=(options.steps + 1, count, 1)), jnp.float32)

    print(f"{count} environments, {size[0]} x {size[1]} pixels: colour, depth and geom ids; medians of {options.steps}")
    print("| step | compilation | time | images per second | memory per environment |")
    print("|" + "---|" * 5, flush=True)
    _, _, data = measure("physics", lambda data, force: (move(data, force), ()), data, forces)
    measure("images", lambda data, _: (data, draw(data)), data, forces)
    seconds, program, before = measure("both", step, data, forces)
    images = [np.asarray(image) for image in program(before, forces[-1])[1]]
    compare(model, before, forces[-1], images, count / seconds)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "13_cartpoles.png"
    iio.imwrite(path, contact_sheet(*images))
    print(f"{time.perf_counter() - begin:.0f} s in total; {path} shows colour, depth and geom ids")


def measure(name, step, data, forces):
    """Prints a row of the table; returns the time of a step, the program of all environments, and their last state."""
    count = forces.shape[1]
    begin = time.perf_counter()
    program = jax.jit(jax.vmap(step)).lower(data, forces[0]).compile()
    compilation = time.perf_counter() - begin
    times, images = [], ()
    for force in forces:
        begin = time.perf_counter()
        data, images = jax.block_until_ready(program(data, force))
        times.append(time.perf_counter() - begin)
    seconds = np.median(times[1:])
    memory = program.memory_analysis()
    assert memory is not None
    used = (memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes) / count / 1000
    speed = f"{count / seconds:.0f}" if images else ""
    print(f"| {name} | {compilation:.1f} s | {1000 * seconds:.1f} ms | {speed} | {used:.1f} kB |", flush=True)
    return seconds, program, data


def compare(model, before, force, images, speed, most=256):
    """Lets MuJoCo take and draw the same step in the first environments; prints its speed and what differs."""
    if os.environ["MUJOCO_GL"] == "disable":
        print("MuJoCo's own renderer: skipped, since OSMesa is missing (Debian's libosmesa6)")
        return
    rgb, depth, ids = (image[:most] for image in images)
    states = [np.asarray(array)[:most] for array in (before.qpos, before.qvel, force)]
    own, times, drawn = mujoco.MjData(model), [], []
    with mujoco.Renderer(model, *ids.shape[1:]) as renderer:
        for qpos, qvel, ctrl in zip(*states, strict=True):
            begin = time.perf_counter()
            own.qpos, own.qvel, own.ctrl = qpos, qvel, ctrl
            mujoco.mj_step(model, own)
            mujoco.mj_forward(model, own)
            renderer.update_scene(own, CAMERA)
            times.append([time.perf_counter() - begin])
            image = []
            for switch in (None, "depth", "segmentation"):
                begin = time.perf_counter()
                if switch:
                    getattr(renderer, f"enable_{switch}_rendering")()
                image.append(renderer.render())
                if switch:
                    getattr(renderer, f"disable_{switch}_rendering")()
                times[-1].append(time.perf_counter() - begin)
            drawn.append(image)
    physics, *passes = np.median(times, axis=0)
    seconds = physics + sum(passes)
    print(
        f"MuJoCo, {len(ids)} environments one after the other: {1 / seconds:.0f} images per second with physics (ms: "
    )
    print(f"physics {1000 * physics:.2f}, colour {1000 * passes[0]:.2f}, depth {1000 * passes[1]:.2f}, ids ", end="")
    print(f"{1000 * passes[2]:.2f}); jnr with MJX draws {speed * seconds:.2f} times as many")
    other = [np.stack(images) for images in zip(*drawn, strict=True)]
    same = ids == other[2][..., 0]
    print(f"same geom in {100 * np.mean(same):.2f} % of pixels; there, the depth differs by at most ", end="")
    print(f"{1000 * np.max(np.abs(depth - other[1])[same]):.1f} mm and the colour on average by ", end="")
    print(f"{np.mean(np.abs(255 * rgb - other[0])[same]):.1f} of 255")


def contact_sheet(rgb, depth, ids):
    """Returns the first environments' images, 8 x 8 each of colour, depth and geom ids."""
    columns = 8
    near = np.clip((5.5 - depth) / 3.5, 0, 1)
    pictures = [np.uint8(255 * np.clip(rgb, 0, 1)), np.uint8(255 * near[..., None]).repeat(3, axis=-1), COLORS[ids]]
    sheets = []
    for picture in pictures:
        tiles = np.pad(picture[: columns**2], ((0, 0), (0, 2), (0, 2), (0, 0)), constant_values=255)
        rows = [np.concatenate(list(tiles[i : i + columns]), axis=1) for i in range(0, len(tiles), columns)]
        sheets.append(np.concatenate([row for row in rows if row.shape == rows[0].shape]))
    return np.concatenate(sheets, axis=1)


if __name__ == "__main__":
    main()
