"""Checks and measures the kernels on a machine with an NVIDIA GPU, in one command of at most ten minutes.

    python benchmarks/gpu.py prepare    # first, where the GPU machine lacks a C++ compiler or packages
    python benchmarks/gpu.py            # on the GPU machine
    python benchmarks/gpu.py table      # the summary again, from the records

`prepare` fills `build/gpu`, which has to be taken to the GPU machine. It writes what the tests and the workloads must
result in, computed by the C++ kernels, and exported programs where jax-triton 0.4 is installed. What the GPU machine
lacks and cannot fetch goes into the same folder: wheels of pure Python into `build/gpu/wheels` (jax-triton 0.3.1 works
with jax 0.11 and triton 3.6), sources of other renderers, one folder or archive each, into `build/gpu/peers`.

Without a command, the stages below run in order of worth. Each has a process group of its own, which ends with its
limit, so that nothing is left on the GPU. Whatever has been found is on the disk at once, in four files of `out/gpu`:

    records.jsonl   a line per result: stage, name, whether it is as expected, numbers
    log.txt         what the stages print
    table.md        the summary, written after every stage
    ncu.txt         counters of the sweep and the rasterizer

A skipped test, a missing tool and a stage that did not end are failures. Times are medians per call in milliseconds:
`queued` with 20 calls in a queue, `latency` of a call that is waited for, `host` of that until it returns to Python.
GPU time is the sum of a step's kernels in the profiler's trace. `--rehearse` runs everything without a GPU, on tiny
meshes.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

from gpu_records import append_record, read_records

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "benchmarks"
NO_GRAPHS = {"XLA_FLAGS": "--xla_gpu_enable_command_buffer="}
# With XLA's own allocator all arrays lie in one allocation, in which an overrun is no error.
SANITIZED = NO_GRAPHS | {"XLA_PYTHON_CLIENT_ALLOCATOR": "platform"}
# Float32 operations per second of an H100 or H200 according to the data sheet. Bytes per second are measured.
OPERATIONS = 67e12
# How often a stage is started.
RESTARTS = 4


class Stage(NamedTuple):
    """A function of gpu_stages.py, the seconds that it may take, and its variables of the environment."""

    name: str
    limit: float
    environment: dict[str, str]


STAGES = [
    Stage("smoke", 60, {}),
    Stage("exported", 130, {}),
    Stage("tests", 150, {}),
    Stage("live", 150, {}),
    Stage("kernels", 60, NO_GRAPHS),
    Stage("exported_without_graphs", 60, NO_GRAPHS),
    Stage("memcheck", 90, SANITIZED),
    Stage("initcheck", 90, SANITIZED),
    Stage("racecheck", 90, SANITIZED),
    Stage("ncu", 60, NO_GRAPHS),
    Stage("peers", 250, {}),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=["prepare", "run", "table"], default="run")
    parser.add_argument("--prepared", type=Path, default=ROOT / "build" / "gpu", help="folder for what is prepared")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "gpu", help="folder for the results")
    parser.add_argument("--stages", default=",".join(stage.name for stage in STAGES), help="comma-separated")
    parser.add_argument("--seconds", type=float, default=570, help="for all stages")
    parser.add_argument("--rehearse", action="store_true", help="without a GPU, on tiny meshes")
    options = parser.parse_args()
    if options.command == "prepare":
        prepare(options.prepared, rehearse=options.rehearse)
    elif options.command == "run":
        sys.exit(run(options))
    else:
        print(table(read_records(options.out)))


def prepare(folder, *, rehearse):
    """Writes the results to compare with, and exported programs where that is possible."""
    sys.path[:0] = [str(ROOT), str(HERE), str(ROOT / "tests"), str(ROOT / "tests" / "ops")]
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import gpu_cases  # pyright: ignore[reportMissingImports]: in tests/ops
    import gpu_workloads as work

    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in gpu_cases.CASES if not rehearse or "one_pixel" in name]
    gpu_cases.write(folder / "expected.npz", names)
    workloads = work.TINY if rehearse else [*work.TINY, *work.WORKLOADS]
    for workload in workloads:
        work.write_case(workload, folder)
        print(f"{workload.name}: results", flush=True)
    if rehearse:
        platform, context, workloads = "cpu", contextlib.nullcontext(), workloads[:1]
    else:
        try:
            from jnr.triton_kernels import launch

            is_old = launch._jax_triton().is_old
        except ImportError as error:
            print(f"No exported programs: {error}")
            return
        if is_old:
            print("No exported programs: run this again with jax-triton 0.4, whose programs run without jax-triton.")
            return
        platform, context = "cuda", launch.compile_for(work.CAPABILITY)
    with context:
        for workload in workloads:
            work.export_programs(workload, work.read_case(workload, folder), folder, platform)
            print(f"{workload.name}: exported", flush=True)


def run(options):
    """Runs the stages; returns the exit code."""
    start = time.time()
    # A killed run ends its stage's processes, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    options.out.mkdir(parents=True, exist_ok=True)
    if not (options.prepared / "expected.npz").is_file():
        command = [sys.executable, __file__, "prepare", "--prepared", str(options.prepared)]
        on_cpu = os.environ | {"JAX_PLATFORMS": "cpu"}
        subprocess.run(command + ["--rehearse"] * options.rehearse, check=True, env=on_cpu)
    environment = stage_environment(options)
    chosen = options.stages.split(",")
    stages = [stage for stage in STAGES if stage.name in chosen]
    if unknown := set(chosen) - {stage.name for stage in STAGES}:
        sys.exit(f"No such stages: {', '.join(sorted(unknown))}.")
    for stage in stages:
        begin = time.time()
        end = min(begin + stage.limit, start + options.seconds)
        command = [sys.executable, str(HERE / "gpu_stages.py"), stage.name, "--start", str(start)]
        command += ["--prepared", str(options.prepared.resolve()), "--out", str(options.out.resolve())]
        command += ["--rehearse"] if options.rehearse else []
        outcome = "not started: out of time"
        # A stage that has crashed, by a fault on the GPU for example, goes on behind the result that it was at.
        for _ in range(RESTARTS):
            if end - time.time() < 5 or outcome == "exit 0":
                break
            with (options.out / "log.txt").open("a") as log:
                print(f"\n=== {stage.name}", file=log, flush=True)
                outcome = run_group(command, end - time.time(), environment | stage.environment, log)
        now = time.time()
        result = {"stage": stage.name, "name": "stage", "ok": outcome == "exit 0", "run": start}
        result |= {"second": round(now - start, 1), "seconds": round(now - begin, 1), "outcome": outcome}
        append_record(options.out, result)
        print(f"{stage.name}: {outcome}, {result['seconds']} s", flush=True)
        (options.out / "table.md").write_text(table(read_records(options.out)) + "\n")
    print(table(read_records(options.out)))
    return 0 if all(record["ok"] for record in read_records(options.out)) else 1


def stage_environment(options):
    """Variables of the stages: what the caller has set, with our folders and the carried wheels on the path."""
    unpacked = tempfile.mkdtemp(prefix="gpu_wheels_")
    for wheel in (options.prepared / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as file:
            file.extractall(unpacked)
    path = [str(ROOT), str(HERE), str(ROOT / "tests"), str(ROOT / "tests" / "ops"), unpacked]
    # An empty XLA_FLAGS keeps tests/conftest.py from turning the compiler's optimizations off. Peers need memory, too.
    defaults = {"XLA_FLAGS": "", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    environment = defaults | os.environ | {"JNR_GPU_REFERENCES": str(options.prepared.resolve() / "expected.npz")}
    environment["PYTHONPATH"] = os.pathsep.join([*path, *filter(None, [os.environ.get("PYTHONPATH")])])
    if options.rehearse:
        environment |= {"JNR_GPU_BACKEND": "interpret", "JAX_PLATFORMS": "cpu"}
    return environment


def run_group(command, limit, environment, log):
    """Runs a command in a process group of its own, and ends the whole group at the limit or when this program ends."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return f"exit {process.wait(limit)}"
    except subprocess.TimeoutExpired:
        return f"ended after {limit:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def table(records):
    """The summary as Markdown: versions, stages, what failed, and the times of the workloads."""
    found = {(record["stage"], record["name"]): record for record in records}
    versions = {key: value for key, value in found.get(("smoke", "versions"), {}).items() if key not in METADATA}
    device = found.get(("smoke", "device"), {}).get("kind", "unknown device")
    bandwidth = found.get(("smoke", "bandwidth"), {}).get("bytes_per_second")
    lines = [f"{time.strftime('%Y-%m-%d')}, {device}, {', '.join(f'{k} {v}' for k, v in versions.items())}"]
    lines += [f"copy: {bandwidth / 1e12:.2f} TB/s" if bandwidth else "copy: not measured", ""]
    lines += ["| stage | end | s | as expected | failed |", "|---|---|---|---|---|"]
    for stage in dict.fromkeys(record["stage"] for record in records):
        results = [record for record in records if record["stage"] == stage and record["name"] != "stage"]
        failed = [record["name"] for record in results if not record["ok"]]
        end = found.get((stage, "stage"), {"outcome": "unknown", "seconds": ""})
        shown = "; ".join(failed[:6]) + (f" and {len(failed) - 6} more" if len(failed) > 6 else "")
        lines.append(f"| {stage} | {end['outcome']} | {end['seconds']} | {len(results) - len(failed)} | {shown} |")
    columns = "ms, program, wrong faces, gradient, step: queued, latency, host, GPU, forward: queued, floor of step"
    lines += ["", f"| {columns.replace(', ', ' | ')} |", "|---" * 10 + "|"]
    for source in ("exported", "exported_without_graphs", "live"):
        for stage, name in found:
            if stage == source and (source, f"{name}: step") in found:
                step, forward = found[source, f"{name}: step"], found.get((source, f"{name}: forward"), {})
                check, gpu = found[stage, name], found.get(("kernels", name), {})
                row = [name, source, check.get("wrong_faces", ""), _number(check.get("gradient_error"), ".1e")]
                row += [_number(step.get(f"{kind}_ms")) for kind in ("queued", "latency", "host")]
                row += [_number(gpu.get("total_us"), scale=1e-3), _number(forward.get("queued_ms"))]
                row += [_floor(step, bandwidth)]
                lines.append(f"| {' | '.join(map(str, row))} |")
    peers = [record for record in records if record["stage"] == "peers" and "both" in record]
    lines += ["", *(f"{peer['name']}: forward {peer['forward']:.3f}, both {peer['both']:.3f}" for peer in peers)]
    return "\n".join(lines).strip()


METADATA = ("stage", "name", "ok", "run", "second")


def _number(value, form=".3f", scale=1.0):
    return "" if value is None else f"{value * scale:{form}}"


def _floor(step, bandwidth):
    if not bandwidth or "floor_bytes" not in step:
        return ""
    return _number(1e3 * max(step["floor_bytes"] / bandwidth, step["floor_operations"] / OPERATIONS))


if __name__ == "__main__":
    main()
