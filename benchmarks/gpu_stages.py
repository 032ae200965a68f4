"""The stages of benchmarks/gpu.py. Each runs in a process of its own: `python benchmarks/gpu_stages.py STAGE ...`.

Every result is a line of records.jsonl, written at once: stage, name, whether it is as expected, and numbers.
"""

# pyright: reportMissingImports=false
import argparse
import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

import gpu_workloads as work
import jax
import numpy as np
from gpu_records import append_record, read_records

# Seconds after the start of gpu.py; what starts later may not end in time.
NO_WORKLOAD_AFTER = 420
# Relative error of a gradient's norm: the order of float32 sums differs, and terms as large as 1 / eps partly cancel.
TOLERANCE = 1e-3


class Run:
    """What a stage knows of the run: its folders, when it began, whether it is a rehearsal."""

    def __init__(self, options):
        self.stage, self.prepared, self.out = options.stage, options.prepared, options.out
        self.start, self.rehearse = options.start, options.rehearse
        self.workloads = work.TINY if self.rehearse else work.WORKLOADS
        # The interpreter takes seconds per step; only tests and `sanitized` are rehearsed with it.
        self.backend: Any = "cpu" if self.rehearse else "triton"
        # Timings: calls in a queue, and how often each is repeated.
        self.calls, self.repeats = (2, 2) if self.rehearse else (20, 15)

    def record(self, name: str, ok: bool, **numbers) -> None:
        """Appends a result to records.jsonl."""
        second = round(time.time() - self.start, 1)
        record = {"stage": self.stage, "name": name, "ok": bool(ok), "run": self.start, "second": second, **numbers}
        append_record(self.out, record)
        print(record, flush=True)

    def attempt(self, name, function, *arguments) -> None:
        """Records what a function returns, or the exception that it raises, and goes on.

        The name is recorded before, so that one sees where a process crashed or was ended. gpu.py starts a crashed
        stage again, which leaves out what has been recorded.
        """
        if any(self.start == record["run"] for record in read_records(self.out, self.stage, name)):
            return
        self.record(name, ok=False, error="started and not ended")
        try:
            self.record(name, **function(*arguments))
        except Exception as error:
            traceback.print_exc()
            self.record(name, ok=False, error=f"{type(error).__name__}: {error}"[:500])
            if "CUDA_ERROR" in str(error):
                # After a fault on the GPU, nothing works in this process any more.
                sys.exit("CUDA error")


def smoke(run):
    """Under a minute: versions, the device, and one tiny step of every kind compared with the CPU."""
    packages = ("jax", "jaxlib", "jax-triton", "triton", "numpy", "jax-cuda13-plugin", "nvidia-cuda-nvcc")
    run.record("versions", True, python=sys.version.split()[0], **{name: _version(name) for name in packages})
    for tool, command in {
        "ptxas": ["ptxas", "--version"],
        "nvidia-smi": ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.sm", "--format=csv,noheader"],
    }.items():
        run.attempt(tool, _output, command)
    device = jax.devices()[0]
    run.record("device", run.rehearse or device.platform == "gpu", kind=device.device_kind)
    for workload in work.TINY:
        run.attempt(workload.name, _check, run, workload, "live")
    run.attempt("bandwidth", _bandwidth, run, 2**16 if run.rehearse else 2**30)


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _output(command):
    result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    return {"ok": result.returncode == 0, "output": (result.stdout + result.stderr).strip().splitlines()[-2:]}


def _bandwidth(run, num_bytes):
    """Bytes per second that an elementwise addition reads and writes, on random numbers."""
    array = jax.random.uniform(jax.random.key(0), (num_bytes // 4,))
    milliseconds = _times(run, jax.jit(lambda a: a + 1), array)["queued_ms"]
    return {"ok": True, "bytes_per_second": 2e3 * num_bytes / milliseconds}


def exported(run):
    """Programs that jax-triton 0.4 has exported elsewhere: checked and timed; each is one CUDA graph."""
    if any(run.prepared.glob("*.exported")):
        _measure_all(run, run.workloads[:1] if run.rehearse else run.workloads, "exported")
    else:
        run.record("programs", False, error="no exported programs were prepared")


def exported_without_graphs(run):
    """The same without command buffers, for the first workloads."""
    _measure_all(run, run.workloads[: 1 if run.rehearse else 4], "exported")


def live(run):
    """Programs that the jax-triton of this machine compiles: checked and timed."""
    _measure_all(run, run.workloads, "live")


def _measure_all(run, workloads, source):
    for workload in workloads:
        if time.time() - run.start > NO_WORKLOAD_AFTER:
            run.record(workload.name, False, error=f"not started: {NO_WORKLOAD_AFTER} s have passed")
            continue
        run.attempt(workload.name, _check, run, workload, source)
        for program in ("step", "forward"):
            run.attempt(f"{workload.name}: {program}", _time, run, workload, source, program)
        if source == "live" and workload.kind == "rgb":
            run.attempt(f"{workload.name}: sums of colours", _time_sums, run, workload)


def _load(run, workload, source, program):
    """A program that has run once, its arguments on the device, its result, and the seconds that it took to compile."""
    case = work.read_case(workload, run.prepared)
    if source == "exported":
        function = work.load_program(workload, program, run.prepared)
    else:
        function = work.programs(workload, run.backend)[program]
    arguments = jax.device_put(case.arguments(program))
    start = time.perf_counter()
    function = jax.jit(function)
    result = jax.block_until_ready(function(*arguments))
    return case, function, arguments, result, time.perf_counter() - start


def _check(run, workload, source):
    """Compares faces, exactly, and the gradient with those of the CPU."""
    case, _, _, result, seconds = _load(run, workload, source, "check")
    face_index, gradient = map(np.asarray, result)
    wrong = int((face_index != case.face_index).sum())
    error = float(np.linalg.norm(gradient - case.gradient) / np.linalg.norm(case.gradient))
    return {
        "ok": wrong == 0 and error <= TOLERANCE,
        "wrong_faces": wrong,
        "gradient_error": error,
        "compile_s": seconds,
    }


def _time(run, workload, source, program):
    case, function, arguments, result, seconds = _load(run, workload, source, program)
    numbers = {"compile_s": seconds, **_times(run, function, *arguments)}
    if program == "step":
        # The camera's rounding moves the mesh, so that pixels at its edge may differ; the loss hardly changes.
        numbers["value_error"] = float(np.max(np.abs(np.asarray(result[0]) / case.value - 1)))
    if workload.kind == "silhouette":
        numbers["floor_bytes"], numbers["floor_operations"] = work.floor(case)
    return {"ok": numbers.get("value_error", 0) <= TOLERANCE, **numbers}


def _time_sums(run, workload):
    """The gradient of three colours per face corner, by the kernel and by XLA's scatter."""
    from jnr._ops.gather import weighted_scatter_add_p

    case = work.read_case(workload, run.prepared)
    index = case.face_index.reshape(workload.batch, -1, 1)
    values, weights = np.random.default_rng(0).random((2, *index.shape[:2], 3), np.float32)
    operands = jax.device_put((values, weights, index))
    times = {}
    for name, backend in (("kernel", run.backend), ("xla", "xla")):
        options = {"rows": 3 * len(case.faces), "sums": workload.batch, "backend": backend}
        sums = jax.jit(functools.partial(weighted_scatter_add_p.bind, **options))
        times[f"{name}_ms"] = _times(run, sums, *operands)["queued_ms"]
    return {"ok": True, **times}


def _times(run, function, *arguments):
    """Medians in milliseconds per call: of calls in a queue, of one that is waited for, and of the host's part."""
    for _ in range(3):
        jax.block_until_ready(function(*arguments))
    queued, latency, host = [], [], []
    for _ in range(run.repeats):
        start = time.perf_counter()
        for _ in range(run.calls):
            # Each call frees the results of the last one, so that XLA reuses their addresses and keeps its CUDA graph.
            out = function(*arguments)
        jax.block_until_ready(out)
        queued.append((time.perf_counter() - start) / run.calls)
        start = time.perf_counter()
        out = function(*arguments)
        host.append(time.perf_counter() - start)
        jax.block_until_ready(out)
        latency.append(time.perf_counter() - start)
    medians = {"queued_ms": queued, "latency_ms": latency, "host_ms": host}
    return {name: 1e3 * statistics.median(values) for name, values in medians.items()}


def tests(run):
    """The tests that are marked `gpu`, one record each; a skipped one has failed."""
    import pytest

    class Recorder:
        def pytest_runtest_logreport(self, report):
            if report.when == "call" or report.outcome != "passed":
                name = report.nodeid.removeprefix("tests/ops/")
                error = {} if report.outcome == "passed" else {"error": str(report.longrepr)[-500:]}
                run.record(name, report.outcome == "passed", outcome=report.outcome, **error)

    os.chdir(ROOT)
    command = ["-v", "-m", "gpu", "tests/ops", "-W", "default", "-o", "addopts=", "-p", "no:cacheprovider"]
    if importlib.util.find_spec("xdist"):
        # A fault on the GPU ends one worker's process, and pytest starts another.
        command += ["-n", "2" if run.rehearse else "4"]
    if run.rehearse:
        command += ["-k", "one_pixel-1-False or barycentrics_agree[one_pixel]"]
    code = pytest.main(command, plugins=[Recorder()])
    run.record("pytest", code == 0, exit_code=int(code))


def sanitized(run):
    """The launch functions on awkward meshes, called one by one, so that every array is an allocation of its own."""
    import jax.numpy as jnp

    from jnr.triton_kernels import boundary, edge_sweep, gather, launch, rasterize

    rng = np.random.default_rng(0)
    scenes = [(1, 1, 1)] if run.rehearse else [(1, 1, 1), (150, 37, 61), (9, 130, 5), (700, 64, 64)]
    with launch.interpreted() if run.rehearse else contextlib.nullcontext():
        for num_faces, height, width in scenes:
            w = rng.uniform(0.5, 3, (2, 3 * num_faces, 1))
            clip = jnp.asarray(np.concatenate([rng.uniform(-1.3, 1.3, (*w.shape[:2], 3)) * w, w], axis=-1), jnp.float32)
            faces = jnp.arange(3 * num_faces, dtype=jnp.int32).reshape(1, -1, 3)
            image, cotangent = (jnp.asarray(rng.normal(size=(2, height, width, 3)), jnp.float32) for _ in range(2))
            index = rasterize.rasterize(clip, faces, height=height, width=width, cull=None)
            for deterministic in (False, True):
                options = {"eps": 1e-3, "deterministic": deterministic}
                edge_sweep.edge_sweep_bwd(image, cotangent, clip, faces, index, jnp.zeros((1, 0, 0)), **options)
            crossings = boundary.boundary_crossings(clip, faces, index, jnp.ones((2, 2, height, width), bool))
            boundary.crossing_motion_bwd(jnp.ones((2, 2, height, width)), crossings, clip, faces, index, sums=2)
            pixels = image.reshape(2, -1, 3)
            sums = gather.weighted_scatter_add(pixels, pixels, index.reshape(2, -1, 1), rows=3 * num_faces, sums=2)
            jax.block_until_ready(sums)
            print(num_faces, height, width, "ran", flush=True)


def _sanitize(run, tool):
    command = [sys.executable, __file__, "sanitized", *sys.argv[2:]]
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        return {"ok": False, "error": "compute-sanitizer is not installed"}
    result = subprocess.run([sanitizer, "--tool", tool, *command], capture_output=True, text=True)
    text = result.stdout + result.stderr
    print(text[-20_000:], flush=True)
    summaries = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: .*", text)
    clean = result.returncode == 0 and bool(summaries) and all(re.search(r": 0 ", line) for line in summaries)
    return {"ok": clean, "output": summaries or text.splitlines()[-3:], "exit_code": result.returncode}


def memcheck(run):
    """Compute-sanitizer: addresses outside of allocations."""
    run.attempt("memcheck", _sanitize, run, "memcheck")


def racecheck(run):
    """Compute-sanitizer: races in shared memory."""
    run.attempt("racecheck", _sanitize, run, "racecheck")


def initcheck(run):
    """Compute-sanitizer: reads of memory that nothing has written."""
    run.attempt("initcheck", _sanitize, run, "initcheck")


def kernels(run):
    """GPU time of every kernel of a step, from the profiler's trace, without command buffers, which hide kernels."""
    for workload in run.workloads[: 1 if run.rehearse else 5]:
        exists = workload.file(run.prepared, "step.exported").is_file()
        run.attempt(workload.name, _profile, run, workload, "exported" if exists else "live")


def _profile(run, workload, source):
    _, function, arguments, *_ = _load(run, workload, source, "step")
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(run.calls):
                jax.block_until_ready(function(*arguments))
        (file,) = Path(folder).rglob("*.xplane.pb")
        planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    device = "/host:CPU" if run.rehearse else "/device:GPU:0"
    totals = {}
    for plane in planes:
        for line in plane.lines if plane.name == device else ():
            # Other lines repeat the time of a stream's kernels by operation and by program.
            for event in line.events if run.rehearse or line.name.startswith("Stream") else ():
                totals[event.name] = totals.get(event.name, 0) + event.duration_ns / run.calls / 1e3
    longest = dict(sorted(totals.items(), key=lambda item: -item[1])[:40])
    names = [[plane.name, *(line.name for line in plane.lines)] for plane in planes]
    return {"ok": bool(totals), "total_us": sum(totals.values()), "us": longest, "planes": names[:4]}


def ncu(run):
    """Nsight Compute's counters of the sweep and the rasterizer in a step of the first workload, into ncu.txt."""
    tool = shutil.which("ncu")
    if tool is None:
        run.record("ncu", False, error="ncu is not installed")
        return
    names = "regex:edge_sweep_bwd_kernel|rasterize_fwd_kernel"
    command = [tool, "--clock-control", "none", "--set", "detailed", "-k", names, "-c", "3"]
    command += [sys.executable, __file__, "one_step", *sys.argv[2:]]
    with (run.out / "ncu.txt").open("w") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    run.record("ncu", code == 0, exit_code=code)


def one_step(run):
    """A step of the first workload, for a tool that watches it."""
    _load(run, run.workloads[0], "live", "step")


def peers(run):
    """Other renderers on the first workloads: those that can be imported, and those whose sources were carried."""
    from peers import PEERS

    installed = tempfile.mkdtemp()
    sys.path.append(installed)
    for source in sorted((run.prepared / "peers").glob("*")):
        command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation"]
        run.attempt(f"build {source.name}", _build, [*command, "--target", installed, str(source)])
    importlib.invalidate_caches()
    for name, (module, function) in PEERS.items():
        if importlib.util.find_spec(module) is None:
            run.record(name, True, missing=True)
            continue
        for workload in [w for w in run.workloads[:4] if w.kind == "silhouette"]:
            case = work.read_case(workload, run.prepared)
            run.attempt(f"{name}: {workload.name}", _measure_peer, function, case)


def _measure_peer(function, case):
    return {"ok": True, **function(case.clip, case.faces, case.reference)}


def _build(command):
    environment = {"MAX_JOBS": str(os.cpu_count()), "TORCH_CUDA_ARCH_LIST": "9.0"} | os.environ
    result = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    print((result.stdout + result.stderr)[-5000:], flush=True)
    return {"ok": result.returncode == 0, "exit_code": result.returncode}


def _end_with_parent(parent):
    """Ends this process and its children soon after the process that started it has ended, by whatever means."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


STAGES = {
    stage.__name__: stage
    for stage in (
        *(smoke, exported, exported_without_graphs, live, tests, sanitized, memcheck, racecheck, initcheck),
        *(kernels, ncu, one_step, peers),
    )
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=float, required=True)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    if os.getpgrp() == os.getpid():
        _end_with_parent(os.getppid())
    STAGES[options.stage](Run(options))


if __name__ == "__main__":
    main()
