"""Finds the pose of an object in one image by nonlinear least squares, beside Adam from the same starts.

    python examples/12_least_squares_pose.py [mesh.obj]

Every run has a target of its own: the mesh in a random rotation, in colours or as a silhouette. The start is turned by
8 or 60 degrees about a random axis, shifted by up to 3 % of the mesh's size and up to 3 % larger or smaller. Sought are
rotation, shift parallel to the image, and size, which one perspective image does not tell from distance.

Least squares is optimistix's Levenberg-Marquardt with the derivative of the picture (`gradient="boundary"`) in forward
mode. A sample sees a face or does not, so the image is piecewise constant in the pose. The solver accepts a step if the
sum of squares falls, which that noise must not decide. Pixels are therefore means over 2 x 2 samples, and residuals are
means over blocks of 8 x 8 pixels, then of 2 x 2. Blocks also extend the reach: a residual is linear in the place of a
boundary as long as the boundary is within the block. The number of steps is fixed. The solver tests its tolerances
after accepted steps only, and at the end steps that move no sample are rejected.

The edge sweep reaches further: from 60 degrees, Adam goes first. Adam alone takes as many steps as both together.
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
import optimistix
from jax import lax

import jnr

CAMERA = jnr.Camera(jnr.LookAt((0, 0, 3.2)), jnr.Perspective(fov=45))
BLOCKS = (8, 2)  # heights and widths in pixels
NEAR = 10  # degrees from which least squares starts without Adam
OFFSET = 0.03  # largest shift of a start along each axis, in sizes of the mesh, and largest change of its size


def painted(mesh):
    """Returns a mesh of size 2 with waves of colour."""
    mesh = jnr.normalize(mesh)
    waves = jnp.array([[5.0, 0.0, 3.0], [1.0, 6.0, 0.0], [0.0, 2.0, 5.0]])
    return mesh._replace(textures=0.5 + 0.5 * jnp.sin(mesh.vertices @ waves))


def rotation(turn):
    """Returns the rotation matrix of the quaternion (1, x, y, z)."""
    x, y, z = turn
    cross = jnp.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return jnp.eye(3) + 2 * (cross + cross @ cross) / (1 + turn @ turn)


def place(mesh, base, pose):
    """Returns the mesh rotated by `base` and moved to a pose: turn, shift in mesh sizes, logarithm of the size."""
    turn, shift, size = pose[:3], 2 * pose[3:5], pose[5]  # a normalised mesh has size 2
    return mesh._replace(vertices=jnp.exp(size) * mesh.vertices @ (rotation(turn) @ base).T + jnp.pad(shift, (0, 1)))


def draw(mesh, kind, image_size, gradient=None):
    """Returns an image (height, width, channels)."""
    options = {"camera": CAMERA, "image_size": image_size, "antialias": 2, "gradient": gradient}
    if kind == "rgb":
        return jnr.render(mesh, **options).rgb
    return jnr.render_silhouette(mesh, **options)[..., None]


def random_run(key, angle):
    """Returns target and start, each as a rotation and a pose relative to it; `angle` degrees are between them."""
    keys = jax.random.split(key, 4)
    w, *turn = jax.random.normal(keys[0], (4,))
    base = rotation(jnp.stack(turn) / w)
    axis = jax.random.normal(keys[1], (3,))
    turned = rotation(jnp.tan(jnp.radians(angle) / 2) * axis / jnp.linalg.norm(axis)) @ base
    target = jnp.pad(jax.random.uniform(keys[2], (2,), minval=-0.1, maxval=0.1), (3, 1))
    offset = jnp.pad(jax.random.uniform(keys[3], (3,), minval=-OFFSET, maxval=OFFSET), (3, 0))
    return (base, target), (turned, target + offset)


def least_squares(mesh, kind, steps, blocks, base, target, pose):
    """Returns the pose after at most `steps` steps on means over blocks, with `blocks` from `averages`."""

    def residuals(pose, _):
        difference = draw(place(mesh, base, pose), kind, len(target), "boundary") - target
        return jnp.einsum("ij,jkc,lk->ilc", blocks, difference, blocks)

    solver = optimistix.LevenbergMarquardt(rtol=1e-6, atol=1e-6)
    return optimistix.least_squares(residuals, solver, pose, max_steps=steps, throw=False).value


def averages(length, block):
    """Returns the matrix (length, length) that replaces numbers by means over blocks."""
    return np.kron(np.eye(length // block), np.full((block, block), 1 / block)).astype(np.float32)


def adam(mesh, kind, steps, base, target, pose):
    """Returns the pose after `steps` steps of Adam with the edge sweep."""
    optimizer = optax.adam(lambda i: 0.05 * (0.505 + 0.495 * jnp.cos(jnp.pi * i / steps)))

    def loss(pose):
        return jnp.mean((draw(place(mesh, base, pose), kind, len(target), "edge_sweep") - target) ** 2)

    def step(_, carry):
        pose, state = carry
        updates, state = optimizer.update(jax.grad(loss)(pose), state)
        return optax.apply_updates(pose, updates), state

    return lax.fori_loop(0, steps, step, (pose, optimizer.init(pose)))[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", nargs="?", type=Path, help="OBJ, PLY, STL, OFF or glTF file (default: the teapot)")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--images", nargs="+", default=["rgb", "silhouette"], choices=["rgb", "silhouette"])
    parser.add_argument("--angles", type=float, nargs="+", default=[8, 60], help="degrees from start to target")
    parser.add_argument("--size", type=int, default=96, help="image height and width in pixels, a multiple of 8")
    parser.add_argument("--steps", type=int, default=5, help="steps of least squares per size of blocks")
    parser.add_argument("--adam-steps", type=int, default=90, help="steps of Adam that go before, from afar")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    begin = time.perf_counter()

    mesh = painted(jnr.shapes.teapot() if options.mesh is None else jnr.load(options.mesh, textures=False))
    keys = jax.random.split(jax.random.key(options.seed), options.runs)
    blocks = [averages(options.size, block) for block in BLOCKS]
    fine_steps = len(blocks) * options.steps

    print(f"{options.runs} runs: those that end below 0.1 degrees and below 1 degree, median and 90 % quantile of the")
    print("rotation error in degrees, median errors of position and size in % of the mesh's size, and time")
    print("| image | start | method | steps | below 0.1 | below 1 | median | 90 % | position | size | time |")
    print("|" + "---|" * 11, flush=True)
    tiles = []
    for kind in options.images:
        problems = [random_problem(mesh, kind, options.size, keys, angle) for angle in options.angles]
        fine = compiled(partial(least_squares, mesh, kind, options.steps), blocks[0], *problems[0][1:])
        coarse = compiled(partial(adam, mesh, kind), np.int32(1), *problems[0][1:])
        for angle, (truth, *runs) in zip(options.angles, problems, strict=True):
            row = f"| {kind} | {angle:.0f} degrees |"
            search = [(coarse, np.int32(options.adam_steps))] if angle > NEAR else []
            poses, seconds = follow(search + [(fine, block) for block in blocks], *runs)
            name = "Adam, then least squares" if search else "least squares"
            steps = len(search) * options.adam_steps + fine_steps
            print(f"{row} {name} | {steps} | {errors(truth, runs[0], poses[-1])} | {seconds:.1f} s |", flush=True)
            tiles += [row_of_tiles(mesh, kind, truth, runs[0], poses[i]) for i in (0, len(search), -1)[not search :]]

            steps = options.adam_steps + fine_steps
            poses, seconds = follow([(coarse, np.int32(steps))], *runs)
            print(f"{row} Adam alone | {steps} | {errors(truth, runs[0], poses[-1])} | {seconds:.1f} s |", flush=True)

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "12_least_squares_pose.png"
    iio.imwrite(path, np.concatenate(tiles))
    print(f"{time.perf_counter() - begin:.0f} s in total; {path} shows starts, poses after Adam and poses")
    print("after least squares, one run per column, with the outline of the target")


def random_problem(mesh, kind, size, keys, angle):
    """Returns the targets' rotations and poses, the starts' rotations, the target images and the starts' poses."""
    truth, (base, start) = jax.vmap(partial(random_run, angle=angle))(keys)
    target = jax.vmap(lambda base, pose: draw(place(mesh, base, pose), kind, size))(*truth)
    return truth, base, target, start


def compiled(solve, *arguments):
    """Returns the program that solves for all runs at once, with one first argument."""
    return jax.jit(jax.vmap(solve, in_axes=(None, 0, 0, 0))).lower(*arguments).compile()


def follow(path, base, target, start):
    """Returns the poses before and after each of the calls (program, first argument), and the calls' time."""
    poses, begin = [start], time.perf_counter()
    for program, argument in path:
        poses.append(jax.block_until_ready(program(argument, base, target, poses[-1])))
    return poses, time.perf_counter() - begin


def degrees_from(truth, base, pose):
    """Returns the angles between the rotations of poses and targets."""
    turned = jax.vmap(rotation)(pose[:, :3]) @ base
    return np.degrees(2 * np.arcsin(np.linalg.norm(turned - truth[0], axis=(1, 2)) / np.sqrt(8)))


def errors(truth, base, pose):
    """Returns cells of the table."""
    degrees = degrees_from(truth, base, pose)
    offset = 100 * np.abs(pose - truth[1])
    position, size = np.median(np.linalg.norm(offset[:, 3:5], axis=-1)), np.median(offset[:, 5])
    shares = f"{np.sum(degrees < 0.1)} of {len(degrees)} | {np.sum(degrees < 1)} of {len(degrees)}"
    return f"{shares} | {np.median(degrees):.3f} | {np.quantile(degrees, 0.9):.3f} | {position:.3f} | {size:.3f}"


def row_of_tiles(mesh, kind, truth, base, pose, columns=6, size=112):
    """Returns an image of the first runs side by side, with the outlines of the targets."""

    @jax.jit
    @jax.vmap
    def tile(truth, base, pose):
        placed = place(mesh, base, pose)
        image = jnp.broadcast_to(draw(placed, kind, size) * (1 if kind == "rgb" else 0.6), (size, size, 3))
        target = draw(place(mesh, *truth), "silhouette", size)
        outline = (target > 0) & (target < 1)
        return jnp.where(outline, jnp.array([0.95, 0.1, 0.5]), image + 1 - draw(placed, "silhouette", size))

    tiles = tile(*jax.tree.map(lambda array: array[:columns], (truth, base, pose)))
    return np.uint8(np.clip(np.concatenate(tiles, axis=1), 0, 1) * 255)


if __name__ == "__main__":
    main()
