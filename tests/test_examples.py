"""Runs every example at reduced size and checks its printed result and the files it writes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import jnr

FOLDER = Path(__file__).parent.parent / "examples"
SMALL = "--steps 2 --size 16 --views 4 --batch 2 --frames 2"
POSES = "--runs 2 --size 16 --steps 1 --adam-steps 1 --images silhouette --angles 60"
VIDEO = "--runs 1 --frames 2 --size 16 --adam-steps 1 --steps 1"
# Name, arguments, printed text, written files (a suffix is appended to the name). In the order of the examples.
EXAMPLES = [
    ("01_turntable", "--steps 3 --size 32", "3 frames of 2256 faces", ".png .gif"),
    ("02_fit_silhouettes", SMALL, "mean IoU", ".png .gif teapot.obj fitted.obj"),
    ("03_fit_textures", SMALL, "PSNR", ".png .gif"),
    ("03_fit_textures", f"cube.obj --texture cubes {SMALL}", "PSNR", ".png .gif"),
    ("04_camera_pose", "--steps 2 --size 32", "after 2 steps; the eye is", ".png .gif"),
    ("05_shape_texture_light", SMALL, "lamp's direction", ".png .gif"),
    ("06_reconstruction", "--steps 2 --size 32 --objects 1 --tests 1 --batch 2", "nearest template", ".png"),
    ("07_many_meshes", "--steps 3 --size 16 --meshes 9 --views 4 --batch 2", "IoU", ".png"),
    ("08_sharded", "--devices 2 --steps 3 --size 16 --views 3", "devices", ".png"),
    ("09_style_transfer", "cube.obj --steps 2 --size 16", "randomly initialized filters", ".png"),
    ("10_deep_dream", "cube.obj --steps 2 --size 16", "randomly initialized filters", ".png"),
    ("11_cube_resolution", "--steps 2 --size 4 --gradients edge_sweep", "continuous", ".png"),
    ("12_least_squares_pose", f"cube.obj {POSES}", "Adam, then least squares", ".png"),
    ("13_cartpoles", "--environments 3 --steps 2 --size 16", "| both |", ".png"),
    ("14_physics_from_video", VIDEO, "then least squares, blocks of 2 x 2", ".png"),
    ("15_hand_eye", "--runs 1 --views 1 --size 32 --steps 1 --adam-steps 1", "joints | per link", ".png"),
]


def run_example(folder, name, *arguments):
    command = [sys.executable, FOLDER / f"{name}.py", *arguments, "--out", "out"]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("name", "arguments", "printed", "files"), EXAMPLES, ids=[row[0] for row in EXAMPLES])
def test_example_runs_at_reduced_size(tmp_path, name, arguments, printed, files):
    jnr.save(tmp_path / "cube.obj", jnr.shapes.cube())
    output = run_example(tmp_path, name, *arguments.split())
    assert printed in output
    assert " s in total" in output
    written = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert set(written) == {name + file if file.startswith(".") else file for file in files.split()}
    assert min(written.values()) > 200


def test_every_numbered_example_is_tested():
    assert {row[0] for row in EXAMPLES} == {path.stem for path in FOLDER.glob("[0-9]*.py")}


def test_fitted_silhouettes_hold_in_views_that_were_not_used(tmp_path):
    short = ["--steps", "400", "--batch", "6", "--frames", "1"]
    printed = run_example(tmp_path, "02_fit_silhouettes", *short)
    assert float(re.findall(r"held-out views: ([\d.]+)", printed)[0]) >= 0.95


def test_camera_is_found_by_the_originals_criterion(tmp_path):
    loss, steps = re.findall(r"loss ([\d.]+) after (\d+) steps", run_example(tmp_path, "04_camera_pose"))[0]
    assert float(loss) < 70
    assert int(steps) <= 1000


def test_gradient_comparison_runs_at_reduced_size(tmp_path):
    arguments = ["--steps", "2", "--size", "8", "--seeds", "2", "--views", "2", "--out", "out"]
    command = [sys.executable, FOLDER / "compare_gradients.py", *arguments]
    run = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert len([line for line in run.stdout.splitlines() if line.startswith("|")]) == 6
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"compare_gradients.png", "compare_gradients.svg"}
