"""The state of the emulated GPU: global memory, shared memory, and the threads with their registers."""

import collections

import numpy as np

WARP_SIZE = 32
# Entries of the tables of who used a word of shared memory, beside the numbers of warps.
NO_WARP, SEVERAL_WARPS = -1, -2
# Distance between arrays in global memory, at least.
GAP_BYTES = 4096


class GpuError(AssertionError):
    """An action that a GPU would answer with an error or with an undefined value."""


class GlobalMemory:
    """Arrays at made-up addresses, with gaps between them that must not be accessed."""

    def __init__(self, arrays: list[np.ndarray], num_operands: int):
        """Copies the arrays. All may be read; those after the first `num_operands` may be written too."""
        self.arrays = arrays
        self.addresses, end = [], GAP_BYTES
        for array in arrays:
            self.addresses.append(end)
            end += -(-array.nbytes // 256) * 256 + GAP_BYTES
        self.data = np.zeros(end, np.uint8)
        self.readable, self.writable = np.zeros((2, end), bool)
        for i, (array, address) in enumerate(zip(arrays, self.addresses, strict=True)):
            self.data[address : address + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            self.readable[address : address + array.nbytes] = True
            self.writable[address : address + array.nbytes] = i >= num_operands

    def clear(self, i: int, num_bytes: int) -> None:
        """Sets an array to zero, as jaxlib does before a launch. `num_bytes` is the array's size, or 0 to keep it."""
        if num_bytes not in (0, self.arrays[i].nbytes):
            raise GpuError(f"the launch clears {num_bytes} bytes of an array of {self.arrays[i].nbytes}")
        self.data[self.addresses[i] : self.addresses[i] + num_bytes] = 0

    def copy_to(self, i: int, array: np.ndarray) -> None:
        """Copies the present contents of array `i` to `array`."""
        address = self.addresses[i]
        array.reshape(-1).view(np.uint8)[:] = self.data[address : address + array.nbytes]

    def read(self, machine, active, address, size):
        return self.data.view(f"u{size}")[self._indices(self.readable, address, size)]

    def write(self, machine, active, address, values):
        self.data.view(values.dtype)[self._indices(self.writable, address, values.itemsize)] = values

    def update(self, function: np.ufunc, address, values) -> None:
        """Applies an atomic operation, in the order of the threads."""
        function.at(self.data.view(values.dtype), self._indices(self.writable, address, values.itemsize), values)

    def _indices(self, allowed, address, size):
        """Checks addresses and returns them as indices of elements of `size` bytes."""
        if (address % size).any():
            raise GpuError(f"an address is not a multiple of {size}")
        inside = ((address >= 0) & (address < allowed.size - size)).all()
        if not inside or not (allowed[address] & allowed[address + size - 1]).all():
            raise GpuError(f"an address is outside of the {'results' if allowed is self.writable else 'arrays'}")
        return address // size


class SharedMemory:
    """The shared memory of every program, and which warps used its 4-byte words since the last barrier."""

    def __init__(self, num_programs: int, num_bytes: int):
        self.num_bytes = num_bytes
        self.stride = -(-num_bytes // 16) * 16
        # All bits set: NaN as a float, -1 as an integer, so that uninitialized values show.
        self.data = np.full(num_programs * self.stride, 255, np.uint8)
        self.writer, self.reader = np.full((2, num_programs, self.stride // 4), NO_WARP)

    def barrier(self, programs: np.ndarray) -> None:
        """Orders all accesses of the chosen programs so far before those that follow."""
        self.writer[programs] = self.reader[programs] = NO_WARP

    def read(self, machine, active, address, size):
        data, indices, words = self._locate(machine, active, address, size)
        warp = machine.warp[active]
        writer, reader = self.writer.reshape(-1), self.reader.reshape(-1)
        for word in words:
            if _used_by_another(writer[word], warp).any():
                raise GpuError("a warp reads shared memory that another wrote, with no barrier between them")
            reader[word] = np.where(_used_by_another(reader[word], warp), SEVERAL_WARPS, warp)
            # Of several warps that read a word in this instruction, the assignment above keeps one.
            reader[word[reader[word] != warp]] = SEVERAL_WARPS
        return data[indices]

    def write(self, machine, active, address, values):
        data, indices, words = self._locate(machine, active, address, values.itemsize)
        warp = machine.warp[active]
        writer, reader = self.writer.reshape(-1), self.reader.reshape(-1)
        # Several warps may hold the same part of a block and write the same value, which is no race.
        changes = data[indices] != values
        data[indices] = values
        for word in words:
            for user in (writer, reader):
                if (changes & _used_by_another(user[word], warp)).any():
                    raise GpuError("a warp writes shared memory that another uses, with no barrier between them")
            writer[word] = warp
        if (data[indices] != values).any():
            raise GpuError("threads write different values to the same address of shared memory")

    def _locate(self, machine, active, address, size):
        """Checks addresses. Returns the memory as elements of `size` bytes, their indices, and those of the words."""
        if (address % size).any() or (address < 0).any() or (address + size > self.num_bytes).any():
            raise GpuError("an address is outside of the program's shared memory, or misaligned")
        address = address + machine.program[active] * self.stride
        words = [(address + offset) // 4 for offset in range(0, size, 4)]
        return self.data.view(f"u{size}"), address // size, words


def _used_by_another(user, warp):
    return (user != NO_WARP) & (user != warp)


class Machine:
    """The threads of a few programs that run side by side: registers, positions in the code, and memory.

    An instruction is a function of the machine and of the indices of the threads that execute it, the active threads.
    """

    def __init__(self, kernel, programs, num_programs, shared_bytes, global_memory, parameters):
        """Places all threads of `programs`, which are numbers below `num_programs`, at the start of the kernel."""
        num_threads = programs.size * kernel.threads
        self.kernel, self.global_memory, self.parameters = kernel, global_memory, parameters
        self.shared_memory = SharedMemory(programs.size, shared_bytes)
        self.program = np.repeat(np.arange(programs.size), kernel.threads)
        self.warp = np.arange(num_threads) // WARP_SIZE
        self.special_registers = {
            "%tid.x": np.tile(np.arange(kernel.threads, dtype=np.uint32), programs.size),
            "%ctaid.x": programs.astype(np.uint32)[self.program],
            "%nctaid.x": np.full(num_threads, num_programs, np.uint32),
        }
        self.registers = {name: np.zeros(num_threads, dtype) for name, dtype in kernel.registers.items()}
        self.position = np.zeros(num_threads, np.int64)
        self.ended, self.waiting = np.zeros((2, num_threads), bool)

    def jump(self, active, target):
        self.position[active] = target

    def end(self, active):
        self.ended[active] = True

    def wait(self, active):
        """Stops threads at a barrier."""
        self.waiting[active] = True

    def by_warp(self, active, values):
        """Reshapes one value per active thread to (warps, lanes). All lanes of these warps must be active."""
        threads = active.reshape(-1, WARP_SIZE) if active.size % WARP_SIZE == 0 else None
        if threads is None or (threads[:, 0] % WARP_SIZE).any() or (np.diff(threads, axis=1) != 1).any():
            raise GpuError("lanes of a warp exchange values, and not all of the warp are active")
        return values.reshape(-1, WARP_SIZE)

    def run(self, executed: collections.Counter) -> None:
        """Runs all threads to their end and adds the instructions that warps execute to `executed`.

        The threads that are furthest behind go first, so that diverged threads reconverge.
        """
        with np.errstate(all="ignore"):
            while not self.ended.all():
                ready = ~self.ended & ~self.waiting
                if ready.any():
                    position = self.position[ready].min()
                    self._run_until_divergence(position, np.flatnonzero(ready & (self.position == position)), executed)
                else:
                    self._release_barriers()

    def _run_until_divergence(self, position, active, executed):
        """Runs threads from a common position until some jump, wait or end, or until others may join them."""
        num_warps = np.unique(self.warp[active]).size
        while True:
            instruction = self.kernel.instructions[position]
            self.position[active] = position + 1
            executed[instruction.name] += num_warps
            try:
                instruction.execute(self, active)
            except GpuError as error:
                error.add_note(f"PTX instruction: {instruction.text}")
                raise
            position += 1
            stopped = self.ended[active] | self.waiting[active] | (self.position[active] != position)
            if stopped.any() or position in self.kernel.branch_targets:
                break

    def _release_barriers(self):
        """Lets programs go on whose threads all wait at the same barrier."""
        shape = -1, self.kernel.threads
        waiting, ended, position = (a.reshape(shape) for a in (self.waiting, self.ended, self.position))
        programs = waiting.any(axis=1)
        if ended[programs].any():
            raise GpuError("threads wait at a barrier, and others of their program have ended")
        if (position[programs] != position[programs, :1]).any():
            raise GpuError("threads of a program wait at different barriers")
        waiting[programs] = False
        self.shared_memory.barrier(np.asarray(programs))
