"""Emulates an NVIDIA GPU with NumPy: runs the PTX that Triton compiles jnr's kernels to, on machines without a GPU.

Triton's interpreter runs the Python source of a kernel, one program after another, on whole blocks. This emulator runs
the compiled instructions for every thread of several programs side by side, with the launch parameters that jaxlib
would use. It therefore also covers what Triton and jax-triton generate, and how threads synchronize.

    with ptx_emulator.emulated_gpu() as launches:
        face_index = rasterize.rasterize(clip_positions, faces, height=24, width=24, cull=None)

`GpuError` is raised for

- an address outside of the arrays or of shared memory, a write to an operand, or a misaligned address;
- a barrier that not all threads of a program reach;
- an exchange between the lanes of a warp of which some are absent;
- shared memory that two warps use without a barrier between them;
- the division of an integer by zero.

Instructions, modes and types that no kernel of jnr uses raise `NotImplementedError`.

Differences from hardware:

- NaN converts to 0. By the PTX ISA it converts to 1 << 63 if the result is s64 or u64.
- Atomic float32 additions keep subnormal numbers. Hardware flushes them to zero (RED.FTZ).
- `div.full.f32` is correctly rounded. Hardware has an error of up to 2 ulp.
- Products and sums without `.rn` are never contracted. An assembler may contract them.
- The payload of a NaN, and the sign of zero that `min` and `max` return, are NumPy's.
- Atomics return all bits set instead of the previous value, so that a kernel which used the result would fail.
- Atomics apply in the order of the threads, and programs start in order. Races in global memory are not detected.
- A loop without an end is not detected. Time is not modelled; `run` only counts instructions.

It goes when CI has an NVIDIA GPU: tests/ops/test_gpu.py then proves the same.

Semantics: NVIDIA, Parallel Thread Execution ISA.
"""

from ptx_emulator.launches import Launch, emulated_gpu, read_launch, run
from ptx_emulator.machine import GpuError

__all__ = ["GpuError", "Launch", "emulated_gpu", "read_launch", "run"]
