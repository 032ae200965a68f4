"""Reads what XLA writes about a compiled program: its thunks, which are what a GPU is told to do, and its buffers."""

import dataclasses
import re
from collections import defaultdict
from pathlib import Path

CUSTOM_CALL = "triton_kernel_call"


@dataclasses.dataclass(frozen=True)
class Buffer:
    """A value's place: bytes `offset` to `offset + size` of an allocation."""

    allocation: int
    offset: int
    size: int

    def overlaps(self, other: "Buffer") -> bool:
        """Whether the two share a byte."""
        ends = self.offset + self.size, other.offset + other.size
        return self.allocation == other.allocation and self.offset < ends[1] and other.offset < ends[0]


@dataclasses.dataclass(frozen=True)
class Launch:
    """The buffers of a kernel that jnr launches."""

    name: str
    operands: tuple[Buffer, ...]
    results: tuple[Buffer, ...]


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
        top_level: Kinds of the thunks that the host issues one by one; a command buffer is one.
        thunks: Kind and name of every thunk, those in command buffers included.
        launches: jnr's kernels.
    """

    top_level: tuple[str, ...]
    thunks: tuple[tuple[str, str], ...]
    launches: tuple[Launch, ...]

    @property
    def others(self) -> tuple[str, ...]:
        """Names of the thunks that XLA adds to jnr's launches: fusions, copies, memsets, loops."""
        return tuple(name for kind, name in self.thunks if kind != "kCustomCall")


def read_program(folder: Path, name: str) -> Program:
    """Reads the dump of the module `jit_<name>` that was compiled for a GPU."""
    sequence = [*_lines(folder, name, "thunk_sequence.txt")]
    # Written if anything moved into command buffers.
    after = [*_lines(folder, name, "thunk_sequence_after_thunk_passes.txt", optional=True)] or sequence
    top_level = tuple(_thunk(line)[0] for line in after if re.match(r"\d+:", line))
    thunks = tuple(map(_thunk, sequence))
    launches = _launches(
        _lines(folder, name, "gpu_after_optimizations-buffer-assignment.txt"),
        _lines(folder, name, "gpu_after_optimizations-buffer-assignment-values.txt"),
    )
    return Program(top_level, thunks, launches)


def _lines(folder, name, suffix, *, optional=False):
    files = [*folder.glob(f"module_*.jit_{name}.*{suffix}")]
    if not files and optional:
        return []
    (file,) = files
    return file.read_text().splitlines()


def _thunk(line):
    # 005: kCustomKernel [prev=004 (1) | next=006 (1)] input_reduce_fusion grid: [4, 1, 1] ...
    found = re.match(r"\s*\d+: (\w+) +\[[^]]*\] ?(\S*)", line)
    assert found, line
    return found[1], found[2]


def _launches(assignment, values):
    """The operands and results of each custom call: one file says where values lie, the other which values they are."""
    buffers = {}
    for line in assignment:
        if found := re.match(r"allocation (\d+):", line):
            allocation = int(found[1])
        elif found := re.match(r" value: <(\d+) .*? \(size=(\d+),offset=(\d+)\)", line):
            buffers[int(found[1])] = Buffer(allocation, int(found[3]), int(found[2]))
    operands, results = defaultdict(dict), defaultdict(dict)
    for line in values:
        if found := re.match(r"<(\d+) ", line):
            value = int(found[1])
        elif found := re.match(rf"  ({CUSTOM_CALL}\S*), operand (\d+)$", line):
            operands[found[1]][int(found[2])] = buffers[value]
        # The result, or an element of it; the tuple that lists the elements is {}.
        elif found := re.match(rf"  ({CUSTOM_CALL}[^\s,]*)(?: {{(\d+)}})?$", line):
            results[found[1]][int(found[2] or 0)] = buffers[value]
    return tuple(Launch(name, _in_order(operands[name]), _in_order(results[name])) for name in operands)


def _in_order(buffers):
    """The buffers by their number, none of which is missing."""
    return tuple(buffers[i] for i in range(len(buffers)))
