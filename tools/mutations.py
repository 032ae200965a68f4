"""Mutation testing: applies faults to a copy of the repository, one at a time, and reports which the tests catch.

    python tools/mutations.py [number ...]

The numbers are indices of `FAULTS` in faults.py; without any, all faults run. A fault that survives shows that a test
is missing. All faults are in Python files, so that the C++ kernels are not compiled again. The exit status is the
number of faults that survived.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from faults import FAULTS, TESTS

ROOT = Path(__file__).parents[1]
LIMIT = 900  # seconds; tests that take longer hang, and the fault counts as caught


def passes(folder, tests):
    """Whether tests, which are named as in `FAULTS`, pass in a copy of the repository."""
    chosen = TESTS.get(tests) or shlex.split(tests)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *chosen]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return False
    # Other codes mean that no test was found or that pytest itself failed.
    if result.returncode not in (0, 1):
        raise RuntimeError(result.stdout[-2000:] + result.stderr[-2000:])
    return result.returncode == 0


def is_caught(folder, number):
    """Whether the tests fail in a copy of the repository to which a fault is applied for the time of the call."""
    _, file, before, after, tests = FAULTS[number]
    path = folder / file
    text = path.read_text()
    if text.count(before) != 1:
        raise ValueError(f"{file} must contain this exactly once: {before!r}")
    path.write_text(text.replace(before, after))
    try:
        return not passes(folder, tests)
    finally:
        path.write_text(text)


def main():
    numbers = [int(number) for number in sys.argv[1:]] or range(len(FAULTS))
    survived = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "copy"
        shutil.copytree(ROOT, folder, symlinks=True, ignore=shutil.ignore_patterns(".git", "build", "__pycache__"))
        for tests in dict.fromkeys(FAULTS[number][-1] for number in numbers):
            if not passes(folder, tests):
                raise RuntimeError(f"The tests {tests!r} fail without any fault.")
        for number in numbers:
            what, file, *_ = FAULTS[number]
            caught = is_caught(folder, number)
            survived += [] if caught else [number]
            print(f"{number:3} {'caught  ' if caught else 'SURVIVED'} {file}: {what}", flush=True)
    total = f"{len(numbers) - len(survived)} of {len(numbers)} caught"
    print(total + (f", survived: {survived}" if survived else ""))
    return len(survived)


if __name__ == "__main__":
    sys.exit(main())
