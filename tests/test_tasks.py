"""Runs benchmarks/tasks.py at reduced size, and checks what it computes beside the renderings."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr

PROGRAM = Path(__file__).parent.parent / "benchmarks" / "tasks.py"


@pytest.fixture
def tasks(monkeypatch):
    monkeypatch.syspath_prepend(PROGRAM.parent)
    return importlib.import_module("tasks")


def run(folder, *arguments):
    command = [sys.executable, PROGRAM, "--quick", "--json", "tasks.json", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.splitlines()


def test_a_cell_is_printed_saved_and_not_run_again(tmp_path):
    arguments = ["--only", "teapot", "--gradients", "none"]
    printed = run(tmp_path, *arguments)
    # Without a visibility gradient, a silhouette stays where it is.
    expected = [f"| teapot, {n} px away, px | {n}.00 / {n}.00, 0 of 2 |" for n in (4, 8, 16, 32)]
    assert [line for line in printed if line.startswith("| teapot")] == expected
    saved = json.loads((tmp_path / "tasks.json").read_text())
    assert list(saved) == ["teapot, none"]
    saved["teapot, none"]["values"][0] = [0.25, 0.75]
    (tmp_path / "tasks.json").write_text(json.dumps(saved))
    assert "| teapot, 4 px away, px | 0.50 / 0.75, 2 of 2 |" in run(tmp_path, *arguments)


def test_worst_is_the_smallest_where_more_is_better(tasks):
    assert tasks.cell(tasks.TASKS["sphere"], [0.95, 0.5, 0.92]) == "0.920 / 0.500, 2 of 3"
    assert tasks.cell(tasks.TASKS["pose"], [0.5, 90.0, 4.0]) == "4.00 / 90.00, 2 of 3"


def test_symmetries_are_the_24_rotations_of_a_cube(tasks):
    corners = np.asarray(jnr.shapes.cube().vertices)
    turned = np.asarray(jax.vmap(lambda q: tasks.rotate(q, corners))(tasks.SYMMETRIES))
    # float32 rotations of numbers of size 0.5
    for vertices in turned:
        np.testing.assert_allclose(np.linalg.norm(vertices[:, None] - corners, axis=-1).min(0), 0, atol=1e-6)
    assert len({tuple(np.round(vertices.ravel(), 3) + 0.0) for vertices in turned}) == 24


def test_quaternions_turn_as_their_matrices(tasks):
    a, b = (tasks.random_quaternion(jax.random.key(i)) for i in range(2))
    points = jnp.eye(3)
    both = tasks.rotate(tasks.product(a, b), points)
    np.testing.assert_allclose(both, tasks.rotate(a, tasks.rotate(b, points)), atol=1e-6)
    quarter = jnp.array([np.cos(np.pi / 4), 0.0, 0.0, np.sin(np.pi / 4)])
    np.testing.assert_allclose(tasks.rotate(quarter, points)[0], [0, 1, 0], atol=1e-6)
    # Both signs of a quaternion are the same rotation; a third of it goes the short way.
    third = tasks.scaled(-quarter, 1 / 3)
    np.testing.assert_allclose(third, [np.cos(np.pi / 12), 0, 0, np.sin(np.pi / 12)], atol=1e-6)
