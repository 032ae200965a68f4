"""The program for machines with a GPU, benchmarks/gpu.py, rehearsed without one."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jnr import _backend

ROOT = Path(__file__).parent.parent
PROGRAM = ROOT / "benchmarks" / "gpu.py"
# Tools of a GPU machine: they run what follows the name of the Python interpreter, as the real ones do.
TOOL = f"""#!/bin/sh
echo "$@" >>"$0.log"
while [ $# -gt 0 ] && [ "$1" != "{sys.executable}" ]; do shift; done
"$@" || exit 1
echo "========= ERROR SUMMARY: 0 errors"
echo "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"
"""
sys.path.append(str(PROGRAM.parent))

gpu = importlib.import_module("gpu")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc, which Linux has")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with what `prepare` writes, and the environment of a machine whose tools are faked."""
    for package in ("triton", "flatbuffers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    if not _backend.has_cpu_kernels():
        pytest.skip("jnr was installed without a C++ compiler")
    folder, tools = tmp_path_factory.mktemp("prepared"), tmp_path_factory.mktemp("tools")
    for name in ("compute-sanitizer", "ncu", "nvidia-smi", "ptxas"):
        (tools / name).write_text(TOOL)
        (tools / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(PROGRAM), "prepare", "--prepared", str(folder), "--rehearse"]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return folder, environment


def start(prepared, out, *arguments):
    folder, environment = prepared
    command = [sys.executable, str(PROGRAM), "--prepared", str(folder), "--out", str(out), "--rehearse", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_rehearsal_runs_every_stage_and_finds_nothing_wrong(prepared, tmp_path):
    process = start(prepared, tmp_path)
    output, _ = process.communicate()
    records = gpu.read_records(tmp_path)
    assert [record for record in records if not record["ok"]] == [], (tmp_path / "log.txt").read_text()
    assert process.returncode == 0, output
    found = {(record["stage"], record["name"]): record for record in records}
    assert [stage for stage, name in found if name == "stage"] == [stage.name for stage in gpu.STAGES]
    assert found["live", "80 faces, 24"]["wrong_faces"] == 0
    assert found["live", "80 faces, 24: step"]["queued_ms"] > 0
    assert found["live", "cube, rgb, 20: sums of colours"]["kernel_ms"] > 0
    assert sum(stage == "tests" for stage, _ in found) >= 4
    table = (tmp_path / "table.md").read_text()
    assert table in output
    assert "| 80 faces, 24 | live | 0 |" in table
    # The harness leaves few and small files, which a machine may have to send back.
    assert {path.name for path in tmp_path.iterdir()} == {"records.jsonl", "log.txt", "table.md", "ncu.txt"}


def test_what_was_found_before_a_kill_is_on_the_disk_and_no_process_is_left(prepared, tmp_path):
    process = start(prepared, tmp_path, "--stages", "smoke,live")
    try:
        wait_for(lambda: any(r["ok"] for r in gpu.read_records(tmp_path) if r["stage"] == "live"), 200)
    finally:
        process.kill()
        process.communicate()
    wait_for(lambda: not processes_that_name(tmp_path), 20)
    found = {(record["stage"], record["name"]): record for record in gpu.read_records(tmp_path)}
    assert found["smoke", "stage"]["outcome"] == "exit 0"
    assert found["smoke", "80 faces, 24"]["wrong_faces"] == 0
    assert ("live", "80 faces, 24") in found
    assert ("live", "stage") not in found
    assert "| smoke | exit 0 |" in (tmp_path / "table.md").read_text()
    assert "| live | unknown |" in gpu.table(gpu.read_records(tmp_path))


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def processes_that_name(folder):
    """Processes with a folder in their command lines; Linux only."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in file.read_bytes():
                found.append(file)
        except OSError:
            continue
    return found


def test_a_stage_that_hangs_is_ended_with_its_children(tmp_path):
    sleep = "import time; time.sleep(100)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{sleep}', sys.argv[1]])"
    begin = time.monotonic()
    outcome = gpu.run_group([sys.executable, "-c", code, str(tmp_path)], 2, os.environ, subprocess.DEVNULL)
    assert outcome == "ended after 2 s"
    assert time.monotonic() - begin < 20
    wait_for(lambda: not processes_that_name(tmp_path), 20)


CRASHING_STAGES = f"""
import os, sys
sys.path.insert(0, {str(PROGRAM.parent)!r})
import gpu_stages

def fault():
    raise RuntimeError("CUDA_ERROR_X")

def smoke(run):
    run.attempt("before", lambda: {{"ok": True}})
    run.attempt("crash", os._exit, 9)
    run.attempt("fault", fault)
    run.attempt("after", lambda: {{"ok": True}})

gpu_stages.STAGES["smoke"] = smoke
gpu_stages.main()
"""


def test_a_crashed_stage_goes_on_behind_the_crash(tmp_path, monkeypatch):
    (tmp_path / "gpu_stages.py").write_text(CRASHING_STAGES)
    (tmp_path / "expected.npz").touch()
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    monkeypatch.setattr(gpu.signal, "signal", lambda *_: None)
    out = tmp_path / "out"
    options = {"prepared": tmp_path, "out": out, "stages": "smoke", "seconds": 200, "rehearse": True}
    assert gpu.run(type("Options", (), options)) == 1
    found = {record["name"]: record for record in gpu.read_records(out)}
    assert [name for name in found if found[name]["ok"]] == ["before", "after", "stage"]
    assert found["crash"]["error"] == "started and not ended"
    assert found["fault"]["error"] == "RuntimeError: CUDA_ERROR_X"
    assert (out / "log.txt").read_text().count("=== smoke") == 3
    # Another run into the same folder leaves nothing out.
    (tmp_path / "gpu_stages.py").write_text(CRASHING_STAGES.replace("os._exit, 9", "dict, (('ok', True),)"))
    assert gpu.run(type("Options", (), options)) == 1
    assert [record["name"] for record in gpu.read_records(out) if not record["ok"]] == ["fault"]


def test_termination_ends_the_stage(prepared, tmp_path):
    process = start(prepared, tmp_path, "--stages", "tests")
    wait_for(lambda: len(processes_that_name(tmp_path)) >= 2, 60)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode != 0
    wait_for(lambda: not processes_that_name(tmp_path), 20)


def test_a_missing_tool_and_a_stage_without_time_are_failures(prepared, tmp_path):
    folder, environment = prepared
    process = start((folder, environment | {"PATH": os.environ["PATH"]}), tmp_path, "--stages", "initcheck")
    process.communicate()
    assert process.returncode == 1
    assert "| initcheck | exit 0 | " in (tmp_path / "table.md").read_text()
    assert gpu.read_records(tmp_path)[0]["error"] == "compute-sanitizer is not installed"
    process = start(prepared, tmp_path / "late", "--stages", "smoke,peers", "--seconds", "3")
    process.communicate()
    assert process.returncode == 1
    assert [record["outcome"] for record in gpu.read_records(tmp_path / "late")] == ["not started: out of time"] * 2


def test_stages_keep_the_path_of_the_caller_and_see_the_wheels(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    import zipfile

    with zipfile.ZipFile(wheels / "carried-1.0-py3-none-any.whl", "w") as file:
        file.writestr("carried.py", "number = 7\n")
        file.writestr("carried-1.0.dist-info/METADATA", "Name: carried\nVersion: 1.0\n")
    options = type("Options", (), {"prepared": tmp_path, "rehearse": True})
    environment = gpu.stage_environment(options)
    assert environment["PYTHONPATH"].endswith(f"{os.pathsep}/elsewhere")
    code = "import carried, importlib.metadata as m; print(carried.number, m.version('carried'))"
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "7 1.0\n"


def test_a_line_that_was_cut_off_costs_no_other(tmp_path):
    whole = {"stage": "smoke", "name": "device", "ok": True, "second": 1.0, "kind": "H100"}
    (tmp_path / "records.jsonl").write_text(json.dumps(whole) + "\n" + json.dumps(whole)[:20])
    assert gpu.read_records(tmp_path) == [whole]
    assert "H100" in gpu.table([whole])
