"""Least squares with the derivative of the picture in forward mode: what a solver needs of `gradient="boundary"`."""

import functools
import os
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

import jnr

EXAMPLE = Path(__file__).parent.parent / "examples" / "12_least_squares_pose.py"
NIGHTLY = os.environ.get("JNR_NIGHTLY", "0") != "0"
CUBE = jnr.shapes.cube()
COLORS = CUBE.vertices + 0.5
CAMERA = jnr.Camera(jnr.LookAt((1.3, 1.0, 1.6)))
POSE = jnp.array([0.2, -0.3, 0.1, 0.05, -0.08, 0.02])


def _draw(pose, gradient: Literal["boundary"] | None = "boundary", size=8):
    """Colour, coverage and depth of the cube, turned (to first order), shifted and scaled."""
    turned = CUBE.vertices + jnp.cross(pose[:3], CUBE.vertices)
    vertices = jnp.exp(pose[5]) * turned + jnp.pad(pose[3:5], (0, 1))
    options = {"camera": CAMERA, "image_size": size, "antialias": 2, "gradient": gradient}
    rendering = jnr.render(vertices, CUBE.faces, COLORS, **options)
    return jnp.concatenate([rendering.rgb, rendering.alpha[..., None], rendering.depth[..., None] / 10], axis=-1)


def test_forward_and_reverse_mode_are_the_same_derivative():
    forward = np.asarray(jax.jit(jax.jacfwd(_draw))(POSE))
    reverse = np.asarray(jax.jit(jax.jacrev(_draw))(POSE))
    within_faces = np.asarray(jax.jit(jax.jacfwd(lambda pose: _draw(pose, None)))(POSE))
    for channel in range(5):
        largest = np.abs(forward[..., channel, :]).max()
        assert largest > 0.1
        # float32 sums of tens of terms in another order
        np.testing.assert_allclose(forward[..., channel, :], reverse[..., channel, :], rtol=0, atol=1e-5 * largest)
        # Boundaries are part of each image's derivative.
        assert np.abs(forward - within_faces)[..., channel, :].max() > 0.1 * largest


def _gauss_newton_step(pose, target):
    def residuals(pose):
        difference = (_draw(pose, size=len(target)) - target).ravel()
        return difference, difference

    jacobian, difference = jax.jacfwd(residuals, has_aux=True)(pose)
    return pose - jnp.linalg.solve(jacobian.T @ jacobian + 1e-3 * jnp.eye(6), jacobian.T @ difference)


def test_gauss_newton_step_of_16_poses_is_one_program():
    poses = POSE + 0.03 * jax.random.normal(jax.random.key(0), (16, 6))
    target = _draw(POSE, None, 32)
    step = jax.jit(jax.vmap(_gauss_newton_step, in_axes=(0, None)))
    jaxpr = str(jax.make_jaxpr(step)(poses, target))
    assert jaxpr.count("jnr_rasterize[") == jaxpr.count("jnr_boundary_crossings[") == 1
    stepped = np.asarray(step(poses, target))
    # One row is the step of one pose, whose sums have other rounding errors.
    np.testing.assert_allclose(stepped[3], jax.jit(_gauss_newton_step)(poses[3], target), rtol=0, atol=1e-4)
    before, after = (np.sum(np.square(pose - POSE), axis=1) for pose in (poses, stepped))
    assert np.all(after < before)
    assert np.mean(after) < 0.4 * np.mean(before)


def test_least_squares_finds_every_pose_to_a_tenth_of_a_degree():
    example = SimpleNamespace(**runpy.run_path(str(EXAMPLE)))
    keys = jax.random.split(jax.random.key(0), 20 if NIGHTLY else 2)
    mesh, size, steps = example.painted(jnr.shapes.teapot()), 96, 5
    truth, base, target, pose = example.random_problem(mesh, "rgb", size, keys, 8.0)
    np.testing.assert_allclose(example.degrees_from(truth, base, pose), 8, rtol=1e-3)
    solve = functools.partial(example.least_squares, mesh, "rgb", steps)
    solve = jax.jit(jax.vmap(solve, in_axes=(None, 0, 0, 0)))
    for block in example.BLOCKS:
        pose = solve(example.averages(size, block), base, target, pose)
    assert len(example.BLOCKS) * steps <= 20
    assert np.all(example.degrees_from(truth, base, pose) < 0.1)
