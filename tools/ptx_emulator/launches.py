"""Kernel launches: reads them from programs lowered for a GPU, and runs them on the emulated machine."""

import collections
import contextlib
import dataclasses
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxlib.mlir import ir

from ptx_emulator.instructions import TYPES, parse
from ptx_emulator.machine import WARP_SIZE, GlobalMemory, GpuError, Machine

# Threads that run side by side. Further programs start when these have ended.
MAX_THREADS = 4096
COMPUTE_CAPABILITY = 90


@dataclasses.dataclass(frozen=True)
class Launch:
    """A kernel's code, how many programs of how many warps to start, and its parameters in order.

    A parameter is ("array", number of bytes to set to zero before the launch) or (PTX type, value).
    """

    name: str
    code: str
    warps: int
    shared_bytes: int
    programs: int
    parameters: tuple


@contextlib.contextmanager
def emulated_gpu() -> Iterator[list[tuple[Launch, collections.Counter]]]:
    """Lowers launches that are made in this context, outside of `jit`, for a GPU and runs them on the emulator.

    Yields a list to which every launch appends the `Launch` and the result of `run`.
    """
    from jnr.triton_kernels import launch as launcher

    original_call, launches = launcher.call, []

    def emulated_call(kernel, *args, results, **options):
        operands = [np.asarray(arg) for arg in args if isinstance(arg, jax.Array)]

        def call_on_device(*arrays):
            remaining = iter(arrays)
            device_args = [next(remaining) if isinstance(arg, jax.Array) else arg for arg in args]
            return original_call(kernel, *device_args, results=results, **options)

        with launcher.compile_for(COMPUTE_CAPABILITY):
            lowered = jax.jit(call_on_device).trace(*operands).lower(lowering_platforms=("cuda",))
        (message,) = _launch_messages(lowered.compiler_ir("stablehlo").operation)  # pyright: ignore[reportOptionalMemberAccess]
        launch = read_launch(message)
        outputs = [_uninitialized(result) for result in results]
        launches.append((launch, run(launch, operands, outputs)))
        return [jnp.asarray(output) for output in outputs]

    launcher.call = emulated_call
    try:
        yield launches
    finally:
        launcher.call = original_call


def _uninitialized(result):
    """An array with all bits set, NaN as a float and -1 as an integer, so that elements left out show."""
    output = np.empty(result.shape, result.dtype)
    output.view(np.uint8)[...] = 255
    return output


def _launch_messages(operation) -> Iterator[bytes]:
    """Yields what the custom calls of a module pass to jaxlib."""
    for region in operation.regions:
        for inner in (inner for block in region.blocks for inner in block.operations):
            if inner.operation.name == "stablehlo.custom_call":
                attributes = inner.attributes
                if "mhlo.backend_config" in attributes:
                    message = ir.DictAttr(attributes["mhlo.backend_config"])["opaque"]
                else:
                    # jax-triton before 0.4
                    message = attributes["backend_config"]
                yield zlib.decompress(ir.StringAttr(message).value_bytes)
            yield from _launch_messages(inner.operation)


def read_launch(message: bytes) -> Launch:
    """Returns the launch that a serialized `TritonAnyKernelCall` describes.

    The field numbers are those of jaxlib's jaxlib/gpu/triton.proto.
    """
    call = list(_fields(dict(_fields(message))[1]))
    kernel: dict[int, Any] = dict(_fields(dict(call)[1]))
    grid: dict[int, Any] = {number: value for number, value in call if number in (2, 3, 4)}
    if not grid.get(3, 1) == grid.get(4, 1) == 1:
        raise NotImplementedError(f"The PTX emulator supports grids of one dimension, got {grid}.")
    return Launch(
        name=kernel[1].decode(),
        code=kernel[4].decode(),
        warps=kernel[2],
        shared_bytes=kernel.get(3, 0),
        programs=grid.get(2, 1),
        parameters=tuple(_read_parameter(value) for number, value in call if number == 5),
    )


def _read_parameter(message):
    ((kind, value),) = _fields(message)
    match kind:
        case 1:
            return "array", dict(_fields(value)).get(1, 0)
        case 3:
            return "u32", value & (2**32 - 1)
        case 4:
            return "u32", value
        case 5 | 6:
            return "u64", value
        case 7:
            return "f32", np.frombuffer(value, np.float32)[0]
    raise NotImplementedError(f"The PTX emulator does not support parameters of kind {kind} in triton.proto.")


def _fields(message):
    """Yields the number and the value of each field of a serialized protocol buffer."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        match key & 7:
            case 0:
                yield key >> 3, varint()
            case wire_type:
                size = {1: 8, 5: 4}.get(wire_type) or varint()
                yield key >> 3, message[at : at + size]
                at += size


def run(launch: Launch, operands: list[np.ndarray], results: list[np.ndarray]) -> collections.Counter:
    """Runs all programs of a launch and returns how many instructions the warps executed, by the instruction's name.

    `results` holds what the kernel finds in its results, and afterwards what it wrote there.
    """
    kernel = parse(launch.code, launch.name)
    if kernel.threads != launch.warps * WARP_SIZE:
        raise GpuError(f"the code is for {kernel.threads} threads, and the launch has {launch.warps * WARP_SIZE}")
    memory = GlobalMemory([*operands, *results], len(operands))
    parameters = _parameter_values(launch, kernel, memory)
    executed = collections.Counter()
    side_by_side = max(1, MAX_THREADS // kernel.threads)
    for first in range(0, launch.programs, side_by_side):
        programs = np.arange(first, min(first + side_by_side, launch.programs))
        Machine(kernel, programs, launch.programs, launch.shared_bytes, memory, parameters).run(executed)
    for i, array in enumerate(results, start=len(operands)):
        memory.copy_to(i, array)
    return executed


def _parameter_values(launch, kernel, memory):
    """Prepares the arrays in memory as the launch demands, and returns the kernel's parameters by name."""
    arrays, values = iter(range(len(memory.arrays))), []
    for kind, value in launch.parameters:
        if kind == "array":
            i = next(arrays)
            memory.clear(i, value)
            values.append(np.uint64(memory.addresses[i]))
        else:
            values.append(TYPES[kind].type(value))
    if next(arrays, None) is not None:
        raise GpuError("there are more arrays than the launch has parameters for")
    # jaxlib adds two pointers to scratch memory, which these kernels do not use.
    values += [np.uint64(0)] * 2
    if [TYPES[kind].itemsize for kind in kernel.parameters] != [value.nbytes for value in values]:
        raise GpuError(
            f"{launch.name} has parameters of the types {kernel.parameters}, "
            f"and the launch passes {launch.parameters} and 2 pointers"
        )
    return {f"{launch.name}_param_{i}": value for i, value in enumerate(values)}
