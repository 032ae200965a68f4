"""Calibrates a camera against a robot arm, and then reads the arm's joint angles off a picture, both from masks.

    python examples/15_hand_eye.py

The arm has six joints and stands about 1 m from the camera. Its links are boxes, cylinders and capsules. The pose of a
link is a product of matrices, one per joint before it, and `jnr.Scene` places the parts.

1. Hand-eye calibration: where is the camera relative to the arm's base? Given are masks of the arm, without its links
   told apart, in 8 configurations with known joint angles. The start is 10 to 20 degrees and 10 to 20 cm off. Masks are
   coverages, or binary: a pixel is on if the arm covers half of it.
2. Joint angles: given the camera of step 1 and one mask per link in a single picture, which angles does the arm have?
   Every angle starts up to 15 degrees off.

Adam with the edge sweep goes first. Its loss is one minus the IoU of the masks. Then optimistix's Levenberg-Marquardt
takes a few steps with `gradient="boundary"`, in forward mode. Its residuals are means over blocks of pixels, as in
example 12. Values come from 6 x 6 samples per pixel, because the place where the solver ends depends on them, and
derivatives from 2 x 2, because they cost most. Adam alone takes more steps, in about the same time. Given masks have
8 x 8 samples per pixel.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix
from jax import lax

import jnr
from jnr.shapes import box, capsule, cylinder

# Each joint: its origin in the frame of the link before it, in metres, and its axis.
JOINTS = [
    ((0, 0, 0.08), (0, 0, 1)),
    ((0, 0, 0.12), (0, 1, 0)),
    ((0, 0, 0.30), (0, 1, 0)),
    ((0, 0, 0.07), (0, 0, 1)),
    ((0, 0, 0.19), (0, 1, 0)),
    ((0, 0, 0.06), (0, 0, 1)),
]
ORIGINS, AXES = (jnp.array(numbers, jnp.float32) for numbers in zip(*JOINTS, strict=True))
LIMITS = jnp.radians(jnp.array([(-150.0, 150), (-30, 45), (30, 120), (-120, 120), (-90, 90), (-150, 150)]))
UPRIGHT, ACROSS = (1, 0, 0, 0), (1, 1, 0, 0)  # quaternions; the second turns a shape's axis from z to -y
# The parts of each link from the base to the hand: shape, centre, rotation. The last joint would be hard to see if the
# fingers were alike.
LINKS = [
    [(box((0.10, 0.08, 0.015)), (0, 0, 0.015), UPRIGHT), (cylinder(0.065, 0.025), (0, 0, 0.055), UPRIGHT)],
    [(cylinder(0.055, 0.03), (0, 0, 0.03), UPRIGHT), (cylinder(0.055, 0.075), (0, 0, 0.12), ACROSS)],
    [(box((0.04, 0.03, 0.13)), (0, 0, 0.15), UPRIGHT)],
    [(cylinder(0.045, 0.06), (0, 0, 0), ACROSS), (cylinder(0.035, 0.02), (0, 0, 0.05), UPRIGHT)],
    [(box((0.022, 0.032, 0.085)), (0, 0, 0.085), UPRIGHT), (box((0.018, 0.024, 0.05)), (0.035, 0, 0.05), UPRIGHT)],
    [(capsule(0.03, 0.03, cap_rows=4), (0, 0, 0), ACROSS)],
    [
        (cylinder(0.022, 0.025), (0, 0, -0.01), UPRIGHT),
        (box((0.025, 0.06, 0.012)), (0, 0, 0.024), UPRIGHT),
        (box((0.012, 0.008, 0.04)), (0, 0.045, 0.07), UPRIGHT),
        (box((0.012, 0.015, 0.03)), (0, -0.045, 0.06), UPRIGHT),
    ],
]
HUES = [(0.55, 0.55, 0.6), (0.85, 0.3, 0.2), (0.95, 0.65, 0.15), (0.3, 0.65, 0.3), (0.2, 0.6, 0.85), (0.45, 0.35, 0.8)]
TOOL = jnp.array([0, 0, 0.1, 1])  # a point between the fingers, in the frame of the last link

HEIGHT, WIDTH = 120, 160  # of the image that FOCAL is for
FOCAL = 140.0
BLOCK = 8  # height and width of the blocks over which residuals are means, in pixels
CENTER = jnp.array([0, 0, 0.3])  # middle of the arm
GIVEN, FINE, COARSE = 8, 6, 2  # samples per pixel and axis of given masks, residuals and derivatives


def assembled(parts):
    """Returns one mesh of parts."""
    shapes, centers, turns = zip(*parts, strict=True)
    return jnr.Scene(shapes).place((jnp.array(centers, jnp.float32), jnp.array(turns, jnp.float32))).mesh


ARM = jnr.Scene([assembled(parts) for parts in LINKS], colors=jnp.array([*HUES, (0.9, 0.45, 0.7)]))


def camera_at(pose):
    """Returns the camera for OpenCV's matrix (4, 4) from the arm's base to the camera."""
    calibration = jnp.array([(FOCAL, 0, (WIDTH - 1) / 2), (0, FOCAL, (HEIGHT - 1) / 2), (0, 0, 1)])
    return jnr.Camera.from_opencv(calibration, pose[:3, :3], pose[:3, 3], (HEIGHT, WIDTH))


def link_poses(angles):
    """Returns the matrices (links, 4, 4) from the links to the arm's base; link 0 is the base."""
    half = angles[:, None] / 2
    joints = jnr.pose_matrices(ORIGINS, jnp.concatenate([jnp.cos(half), jnp.sin(half) * AXES], axis=1))
    poses = [jnp.eye(4)]
    for joint in joints:
        poses.append(poses[-1] @ joint)
    return jnp.stack(poses)


def arm_masks(pose, angles, **options):
    """Returns the masks of the whole arm (pictures, height, width)."""
    draw = partial(jnr.render_silhouette, camera=camera_at(pose), **options)
    return jax.vmap(lambda angles: draw(ARM.place(link_poses(angles)).mesh))(angles)


def link_masks(pose, angles, **options):
    """Returns one mask per link (links, height, width)."""
    mesh, instance = ARM.place(link_poses(angles))
    return jnr.render_masks(mesh, instance=instance, count=ARM.count, camera=camera_at(pose), **options)


def move_camera(pose, angles, parameters):
    """Turns the arm by the quaternion (1, x, y, z) about its middle and shifts it, as the camera sees it."""
    turned = jnr.pose_matrices(parameters[3:], jnp.concatenate([jnp.ones(1), parameters[:3]]))
    return pose @ turned.at[:3, 3].add(CENTER - turned[:3, :3] @ CENTER), angles


def move_joints(pose, angles, parameters):
    return pose, angles + parameters


def adam(masks, target, steps):
    """Returns the parameters after `steps` steps of Adam from 0 on the IoU of the masks."""
    optimizer = optax.adam(lambda i: 0.02 * (0.505 + 0.495 * jnp.cos(jnp.pi * i / steps)))

    def loss(parameters):
        return jnr.losses.silhouette_iou(masks(parameters, gradient="edge_sweep"), target)

    def step(_, carry):
        parameters, state = carry
        updates, state = optimizer.update(jax.grad(loss)(parameters), state)
        return optax.apply_updates(parameters, updates), state

    return lax.fori_loop(0, steps, step, (jnp.zeros(6), optimizer.init(jnp.zeros(6))))[0]


def least_squares(masks, target, steps):
    """Returns the parameters after at most `steps` steps of Levenberg-Marquardt from 0."""

    def residuals(parameters, _):
        value = masks(lax.stop_gradient(parameters), antialias=FINE, gradient=None)
        slope = masks(parameters, antialias=COARSE, gradient="boundary")
        difference = value + (slope - lax.stop_gradient(slope)) - target
        rows, columns = (length // BLOCK for length in target.shape[-2:])
        return difference.reshape(-1, rows, BLOCK, columns, BLOCK).mean((2, 4))

    solver = optimistix.LevenbergMarquardt(rtol=1e-6, atol=1e-6)
    return optimistix.least_squares(residuals, solver, jnp.zeros(6), max_steps=steps, throw=False).value


class Problem(NamedTuple):
    """Runs of one problem. The first axis of every array is that of the runs.

    Attributes:
        move: Returns pose and angles moved by six parameters.
        masks: Returns the masks at a pose and angles.
        pose: The camera's matrix.
        angles: Joint angles, in radians.
        target: The masks that are given.
    """

    move: Callable
    masks: Callable
    pose: jax.Array
    angles: jax.Array
    target: jax.Array

    def programs(self, steps):
        """Returns programs for the runs of this problem: Adam, given its number of steps, and least squares."""
        return self._compiled(adam, np.int32(1)), self._compiled(partial(least_squares, steps=steps))

    def _compiled(self, method, *arguments):
        """Returns the program that solves all runs, one after the other; each keeps all cores busy."""

        def solve(arguments, run):
            pose, angles, target = run

            def masks(parameters, **options):
                return self.masks(*self.move(pose, angles, parameters), image_size=target.shape[-2:], **options)

            return self.move(pose, angles, method(masks, target, *arguments))

        program = jax.jit(lambda runs, *arguments: lax.map(partial(solve, arguments), runs))
        return program.lower(self[2:], *arguments).compile()


def timed(problem, program, *arguments):
    """Returns the problem at the poses and angles that the program finds, and the program's seconds."""
    begin = time.perf_counter()
    pose, angles = jax.block_until_ready(program(problem[2:], *arguments))
    return problem._replace(pose=pose, angles=angles), time.perf_counter() - begin


def unit(vector):
    return vector / jnp.linalg.norm(vector)


def random_start(key, pose):
    """Returns a pose 10 to 20 degrees and 10 to 20 cm from the given one."""
    keys = jax.random.split(key, 4)
    angle = jnp.radians(jax.random.uniform(keys[0], minval=10, maxval=20))
    turn = jnp.append(jnp.cos(angle / 2), jnp.sin(angle / 2) * unit(jax.random.normal(keys[1], (3,))))
    shift = jax.random.uniform(keys[2], minval=0.1, maxval=0.2) * unit(jax.random.normal(keys[3], (3,)))
    # Turned about the camera, and shifted.
    return jnr.pose_matrices(jnp.zeros(3), turn) @ jnr.pose_matrices(shift, jnp.array([1.0, 0, 0, 0])) @ pose


def random_angles(key, count):
    """Returns joint angles (count, 6) within the limits."""
    return jax.random.uniform(key, (count, 6), minval=LIMITS[:, 0], maxval=LIMITS[:, 1])


def camera_errors(pose, truth):
    """Returns the camera's errors in degrees and in millimetres, per run."""
    pose, truth = np.asarray(pose, np.float64), np.asarray(truth, np.float64)
    turn, eye = pose[:, :3, :3], -np.einsum("nji,nj->ni", pose[:, :3, :3], pose[:, :3, 3])
    degrees = np.degrees(2 * np.arcsin(np.linalg.norm(turn - truth[:3, :3], axis=(1, 2)) / np.sqrt(8)))
    return degrees, 1000 * np.linalg.norm(eye + truth[:3, :3].T @ truth[:3, 3], axis=-1)


def joint_errors(angles, truth):
    """Returns the largest error of a joint in degrees and that of the tool's place in millimetres, per run."""
    tool = jax.vmap(lambda angles: (link_poses(angles)[-1] @ TOOL)[:3])
    distance = np.linalg.norm(tool(angles) - tool(truth), axis=-1)
    return np.degrees(np.abs(angles - truth).max(-1)), 1000 * distance


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="random starts of each problem")
    parser.add_argument("--views", type=int, default=8, help="pictures for the calibration; as many are held out")
    parser.add_argument("--size", type=int, default=160, help="image width in pixels, a multiple of 32")
    parser.add_argument("--steps", type=int, default=4, help="steps of least squares")
    parser.add_argument(
        "--adam-steps", type=int, default=100, help="steps of Adam before; alone it takes three times as many"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    begin = time.perf_counter()

    size = (options.size * HEIGHT // WIDTH, options.size)
    see = {"image_size": size, "antialias": GIVEN, "gradient": None}
    from_look_at = jnp.diag(jnp.array([1.0, -1, -1, 1]))  # OpenCV's y and z point the other way
    truth = from_look_at @ jnr.LookAt((0.86, 0.48, 0.58), (0.12, 0, 0.3), up=(0, 0, 1)).camera_from_world()
    keys = jax.random.split(jax.random.key(options.seed), 5)
    given, unused = random_angles(keys[0], options.views), random_angles(keys[1], options.views)
    see_arm = jax.jit(partial(arm_masks, **see))
    seen, unseen = see_arm(truth, given), see_arm(truth, unused)
    starts = jax.vmap(random_start, (0, None))(jax.random.split(keys[2], options.runs), truth)

    @jax.jit
    def losses(poses):
        """Returns one minus the IoU of binary masks in configurations that are not used, per run."""
        draw = partial(arm_masks, angles=unused, **see | {"antialias": FINE})
        return lax.map(lambda pose: jnr.losses.silhouette_iou(jnp.round(draw(pose)), jnp.round(unseen)), poses)

    def describe_camera(problem):
        return *camera_errors(problem.pose, truth), 1 - np.asarray(losses(problem.pose))

    print(
        f"{options.runs} runs, images of {size[1]} x {size[0]}: median and worst error, and median IoU of the masks of"
    )
    print("configurations that are not used. Joints: the largest error of a joint, and the error of the tool's place")
    print("| sought | masks | method | steps | degrees | worst | mm | worst | IoU | time |")
    print("|" + "---|" * 10, flush=True)
    cameras, programs = [], None
    for kind, masks in (("coverage", seen), ("binary", jnp.round(seen))):
        alike = [jnp.broadcast_to(array, (options.runs, *array.shape)) for array in (given, masks)]
        problem = Problem(move_camera, arm_masks, starts, *alike)
        programs = programs or problem.programs(options.steps)
        cameras.append(solve(problem, programs, options, f"| camera | {kind}", describe_camera))
    # Masks that were not used decide among the runs, not the truth.
    calibrated = cameras[0].pose[np.argmin(losses(cameras[0].pose))]

    true_angles = random_angles(keys[3], options.runs)
    offset = jnp.radians(jax.random.uniform(keys[4], true_angles.shape, minval=-15, maxval=15))
    poses = jnp.broadcast_to(calibrated, (options.runs, 4, 4))
    masks = jax.jit(partial(lax.map, lambda angles: link_masks(truth, angles, **see)))(true_angles)
    problem = Problem(move_joints, link_masks, poses, true_angles + offset, masks)
    joints = solve(
        problem,
        problem.programs(options.steps),
        options,
        "| joints | per link",
        lambda problem: joint_errors(problem.angles, true_angles),
    )

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "15_hand_eye.png"
    worst = np.argmax(camera_errors(starts, truth)[0])
    views = [
        (given, jnp.broadcast_to(pose, (options.views, 4, 4)), given)
        for pose in (starts[worst], cameras[0].pose[worst])
    ]
    runs = [(true_angles, poses, angles) for angles in (problem.angles, joints.angles)]
    columns = range(min(4, options.runs, options.views))
    rows = [
        np.concatenate([tile(truth, *(array[i] for array in row)) for i in columns], axis=1) for row in views + runs
    ]
    iio.imwrite(path, np.concatenate(rows))
    print(f"{time.perf_counter() - begin:.0f} s in total; {path} shows the arm with outlines as seen from the camera")
    print("of the worst start and after its calibration, then with the joints of starts and after their fits")


def solve(problem, programs, options, name, describe):
    """Prints the table's rows of a problem, and returns it after Adam and least squares."""

    def row(method, steps, problem, seconds):
        degrees, distance, *iou = describe(problem)
        cells = [f"{summary(error):.3f}" for error in (degrees, distance) for summary in (np.median, np.max)]
        cells += [f"{np.median(value):.4f}" for value in iou] or [""]
        print(f"{name} | {method} | {steps} | {' | '.join(cells)} | {seconds:.1f} s |", flush=True)

    coarse, fine = programs
    row("start", 0, problem, 0)
    alone, seconds = timed(problem, coarse, np.int32(3 * options.adam_steps))
    row("Adam alone", 3 * options.adam_steps, alone, seconds)
    near, seconds = timed(problem, coarse, np.int32(options.adam_steps))
    end, more = timed(near, fine)
    row("Adam, then least squares", options.adam_steps + options.steps, end, seconds + more)
    return end


@jax.jit
def tile(truth, true_angles, pose, angles, size=(162, 216)):
    """Returns a picture of the arm with the outlines of its links as another camera sees them at other angles."""
    mesh, _ = ARM.place(link_poses(true_angles))
    lights = [jnr.AmbientLight(0.4), jnr.DirectionalLight(0.6, direction=(0.75, 0.25, 0.6))]
    image = jnr.render(mesh, camera=camera_at(truth), lights=lights, image_size=size, antialias=3, background=1.0).rgb
    posed = ARM.place(link_poses(angles))
    seen = jnr.render(posed.mesh, instance=posed.instance, camera=camera_at(pose), image_size=size).instance
    outline = (seen[:-1, :-1] != seen[1:, :-1]) | (seen[:-1, :-1] != seen[:-1, 1:])
    outline = jnp.pad(outline, ((0, 1), (0, 1)))[..., None]
    return jnp.uint8(255 * jnp.clip(jnp.where(outline, 0, image), 0, 1))


if __name__ == "__main__":
    main()
