"""Recovers how a double pendulum started, and how heavy its parts are, from a video, through renderer and physics.

    python examples/14_physics_from_video.py

MuJoCo simulates a double pendulum, and one camera films it: 16 frames of 64 x 64 pixels with noise, 0.96 s in all.
Sought are both angles and both angular velocities in the first frame, and the ratio of the masses. The mass is not seen
in any single frame; it shows in how the arms move. The model is the whole chain, `render(scan(mjx.step))`: a function
from five numbers to a video, which jax.grad differentiates through MJX's physics and jnr's edges.

The first guess is wrong by up to 20 degrees, 90 degrees per second and a factor of 2. Two methods go from there:

- Adam with the edge sweep, in reverse mode through renderer and physics.
- Levenberg-Marquardt (optimistix) with the derivative of the picture (`gradient="boundary"`), in forward mode, since
  there are five unknowns and 196608 residuals. As in example 12, residuals are means over blocks of pixels.

A wrong guess is a little wrong at first and far off later. Both methods therefore look at the first frames alone, and
at more and more of them.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names come from compiled modules)

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "disable")  # MuJoCo simulates, and jnr draws

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import optax
import optimistix
from jax import lax
from mujoco import mjx

import jnr
import jnr.mujoco

# Without contacts, limits and friction there is no solver: its loop of unknown length has no reverse mode.
XML = """
<mujoco model="double pendulum">
  <option timestep="0.02"><flag constraint="disable"/></option>
  <visual>
    <quality numslices="16" numstacks="8"/>
    <headlight ambient="0.5 0.5 0.5" diffuse="0.5 0.5 0.5" specular="0 0 0"/>
  </visual>
  <worldbody>
    <camera name="front" pos="0 -3.3 0" xyaxes="1 0 0 0 0 1" fovy="48"/>
    <geom name="wall" type="plane" pos="0 1 0" zaxis="0 -1 0" size="6 6 12" rgba="0.9 0.92 0.95 1"/>
    <geom name="hub" type="sphere" size="0.14" rgba="0.4 0.4 0.45 1"/>
    <body name="upper">
      <joint name="shoulder" type="hinge" axis="0 1 0"/>
      <geom name="arm" type="capsule" fromto="0 -0.2 0 0 -0.2 -0.6" size="0.09" mass="1" rgba="0.15 0.4 0.8 1"/>
      <body name="lower" pos="0 0 -0.6">
        <joint name="elbow" type="hinge" axis="0 1 0"/>
        <geom name="forearm" type="capsule" fromto="0 -.4 0 0 -.4 -.55" size="0.08" mass="0.4" rgba="0.95 0.6 0.1 1"/>
        <geom name="bob" type="sphere" pos="0 -0.4 -0.55" size="0.16" mass="0.6" rgba="0.8 0.15 0.25 1"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""
MODEL = mujoco.MjModel.from_xml_string(XML)
SUBSTEPS = 3  # of the physics, per frame
LOWER, WALL = MODEL.body("lower").id, MODEL.geom("wall").id
BLOCKS = (8, 2)  # heights and widths in pixels, of least squares
PHYSICS, EMPTY, SCENE = mjx.put_model(MODEL), mjx.make_data(MODEL), jnr.mujoco.load(MODEL)
# Shortens the compilation, which takes most of the time.
QUICKLY = {"xla_llvm_disable_expensive_passes": True}
# Of the unknowns: two angles and two velocities in radians, and the logarithm of the ratio of the masses.
SPREAD = np.array([1.5, 1.5, 2.0, 2.0, np.log(2)])  # of the truth
OFFSET = np.array([np.radians(20), np.radians(20), np.radians(90), np.radians(90), np.log(2)])  # of the first guess


def camera():
    """Returns the model's camera, which does not move."""
    data = mujoco.MjData(MODEL)
    mujoco.mj_forward(MODEL, data)
    return SCENE.camera(data, "front", image_size=(64, 64))


CAMERA = camera()


def simulate(unknowns, frames):
    """Returns positions (frames, geoms, 3) and rotations (frames, geoms, 3, 3) of the geoms, by MJX."""
    ratio = jnp.exp(unknowns[4])
    physics = PHYSICS.replace(
        body_mass=PHYSICS.body_mass.at[LOWER].multiply(ratio),
        body_inertia=PHYSICS.body_inertia.at[LOWER].multiply(ratio),
    )

    def step(state, _):
        data = mjx.step(physics, EMPTY.replace(qpos=state[0], qvel=state[1]))
        return (data.qpos, data.qvel), (data.geom_xpos, data.geom_xmat)  # the geoms as the step found them

    _, poses = lax.scan(step, (unknowns[:2], unknowns[2:4]), length=frames * SUBSTEPS)
    return jax.tree.map(lambda array: array[::SUBSTEPS], poses)


def film(poses, size, gradient=None):
    """Returns a video (frames, height, width, 3) of geoms at positions and rotations."""

    def draw(position, rotation):
        data = EMPTY.replace(geom_xpos=position, geom_xmat=rotation)
        return SCENE.render(data, CAMERA, image_size=size, antialias=2, gradient=gradient).rgb

    return jax.vmap(draw)(*poses)


def recorded(unknowns, frames):
    """Returns what `simulate` returns, by MuJoCo."""
    model = mujoco.MjModel.from_xml_string(XML)
    model.body_mass[LOWER] *= np.exp(unknowns[4])
    model.body_inertia[LOWER] *= np.exp(unknowns[4])
    data = mujoco.MjData(model)
    mujoco.mj_setConst(model, data)
    data.qpos, data.qvel = unknowns[:2], unknowns[2:4]
    poses = []
    for _ in range(frames):
        mujoco.mj_forward(model, data)
        poses.append((data.geom_xpos.copy(), data.geom_xmat.reshape(-1, 3, 3).copy()))
        for _ in range(SUBSTEPS):
            mujoco.mj_step(model, data)
    return [np.stack(arrays).astype(np.float32) for arrays in zip(*poses, strict=True)]


def adam(steps, video, guess):
    """Returns the unknowns after `steps` steps, of which each sees more frames until the last third sees all."""
    frames, size = video.shape[:2]
    optimizer = optax.adam(lambda i: 0.05 * (0.505 + 0.495 * jnp.cos(jnp.pi * i / steps)))

    def loss(unknowns, seen):
        error = (film(simulate(unknowns, frames), size, "edge_sweep") - video) ** 2
        return jnp.sum(seen * jnp.mean(error, axis=(1, 2, 3))) / jnp.sum(seen)

    def step(i, carry):
        unknowns, state = carry
        seen = jnp.clip(3 + 1.5 * frames * i / steps - jnp.arange(frames), 0, 1)
        updates, state = optimizer.update(jax.grad(loss)(unknowns, seen), state)
        return optax.apply_updates(unknowns, updates), state

    return lax.fori_loop(0, steps, step, (guess, optimizer.init(guess)))[0]


def least_squares(steps, blocks, video, guess):
    """Returns the unknowns after at most `steps` steps on means over blocks, with `blocks` from `averages`."""
    frames, size = video.shape[:2]

    def difference(unknowns):
        error = film(simulate(unknowns, frames), size, "boundary") - video
        return jnp.einsum("ij,fjkc,lk->filc", blocks, error, blocks)

    @jax.custom_jvp
    def residuals(unknowns):
        return difference(unknowns)

    @residuals.defjvp
    def _(primals, tangents):
        # The whole Jacobian at once: the solver then differentiates a product with a matrix wherever it asks for
        # derivatives, and the chain is compiled once.
        values, columns = jax.vmap(lambda along: jax.jvp(difference, primals, (along,)), out_axes=(None, -1))(
            jnp.eye(5)
        )
        return values, columns @ tangents[0]

    solver = optimistix.LevenbergMarquardt(rtol=1e-6, atol=1e-6)
    return optimistix.least_squares(lambda x, _: residuals(x), solver, guess, max_steps=steps, throw=False).value


def averages(length, block):
    """Returns the matrix (length, length) that replaces numbers by means over blocks."""
    return np.kron(np.eye(length // block), np.full((block, block), 1 / block)).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2, help="videos, each with a state and a mass of its own")
    parser.add_argument("--frames", type=int, default=16, help="one per 0.06 s")
    parser.add_argument("--size", type=int, default=64, help="image height and width in pixels, a multiple of 8")
    parser.add_argument("--adam-steps", type=int, default=120)
    parser.add_argument("--steps", type=int, default=4, help="steps of least squares per size of blocks")
    parser.add_argument("--noise", type=float, default=0.02, help="standard deviation, for colours from 0 to 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    begin = time.perf_counter()

    random = np.random.default_rng(options.seed)
    shape = options.runs, len(SPREAD)
    truth = (random.uniform(-1, 1, shape) * SPREAD).astype(np.float32)
    offset = random.choice([-1, 1], shape) * random.uniform(0.5, 1, shape) * OFFSET
    guess = truth + offset.astype(np.float32)
    poses = [np.stack(arrays) for arrays in zip(*[recorded(one, options.frames) for one in truth], strict=True)]
    drawn = jax.jit(jax.vmap(partial(film, size=options.size)))(poses)
    video = drawn + np.float32(options.noise * random.normal(size=drawn.shape))

    print(f"{options.runs} runs: root mean square and largest error of angles (degrees), of velocities (degrees per")
    print("second) and of the ratio of the masses (%); time of all runs without compilation")
    print("| method | steps | angles | velocities | mass ratio | time |")
    print("|" + "---|" * 6)
    print(f"| first guess | | {errors(guess, truth)} | |", flush=True)

    blocks = [averages(options.size, block) for block in BLOCKS]
    programs = [
        jax.jit(adam).lower(np.int32(1), video[0], guess[0]),
        jax.jit(partial(least_squares, options.steps)).lower(blocks[0], video[0], guess[0]),
    ]
    with ThreadPoolExecutor() as pool:  # compilation takes longest
        search, refine = pool.map(lambda lowered: lowered.compile(QUICKLY), programs)

    def row(name, steps, program, argument, start):
        """Prints what a program makes of each run's start, one run after the other, and returns it."""
        begin = time.perf_counter()
        found = np.stack([program(argument, *run) for run in zip(video, start, strict=True)])
        print(f"| {name} | {steps} | {errors(found, truth)} | {time.perf_counter() - begin:.1f} s |", flush=True)
        return found

    found = row("Adam", options.adam_steps, search, np.int32(options.adam_steps), guess)
    for block, matrix in zip(BLOCKS, blocks, strict=True):
        found = row(f"then least squares, blocks of {block} x {block}", options.steps, refine, matrix, found)

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "14_physics_from_video.png"
    iio.imwrite(path, strips(truth[0], guess[0], found[0], options.frames))
    print(f"{time.perf_counter() - begin:.0f} s in total; {path} shows every second frame of the first run as filmed,")
    print("as the first guess has it, and as recovered, with the outline of what was filmed")


def errors(found, truth):
    """Returns cells of the table."""
    wrong = np.abs(found - truth)
    parts = np.degrees(wrong[:, :2]), np.degrees(wrong[:, 2:4]), 100 * np.expm1(wrong[:, 4])
    return " | ".join(f"{np.sqrt(np.mean(part**2)):.3f}, {np.max(part):.3f}" for part in parts)


def strips(truth, guess, found, frames, size=128):
    """Returns an image of three videos, one per row, with the outlines of the first in the others."""

    @jax.jit
    def draw(unknowns):
        def tile(position, rotation):
            data = EMPTY.replace(geom_xpos=position, geom_xmat=rotation)
            seen = SCENE.render(data, CAMERA, image_size=size, antialias=2)
            return seen.rgb, seen.instance != WALL

        poses = jax.tree.map(lambda array: array[::2], simulate(unknowns, frames))
        return jax.vmap(tile)(*poses)

    rows = [draw(unknowns) for unknowns in (truth, guess, found)]
    inside = np.asarray(rows[0][1])
    edge = np.zeros_like(inside)
    edge[:, 1:] |= inside[:, 1:] != inside[:, :-1]
    edge[:, :, 1:] |= inside[:, :, 1:] != inside[:, :, :-1]
    pictures = [np.array(rgb) for rgb, _ in rows]
    for picture in pictures[1:]:
        picture[edge] = (0.95, 0.1, 0.5)
    tiled = [np.concatenate(list(picture), axis=1) for picture in pictures]
    return np.uint8(255 * np.clip(np.concatenate(tiled), 0, 1))


if __name__ == "__main__":
    main()
