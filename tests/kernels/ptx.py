"""A GPU made of NumPy arrays: runs the machine-independent code (PTX) that Triton compiles kernels to.

Triton's interpreter runs a kernel's Python text, one program at a time on whole blocks. Here run the instructions that
a GPU gets, for all threads of a few programs side by side, started as jaxlib starts them. An address outside of the
arrays, a barrier that not all threads reach, an exchange between threads that are not all there, and shared memory that
two warps use without a barrier between them are errors. Only the instructions that jnr's kernels need are known.

Semantics: Parallel Thread Execution ISA, NVIDIA.
"""

import collections
import contextlib
import dataclasses
import functools
import operator
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxlib.mlir import ir

WARP = 32
# Threads that run side by side; more programs wait for their turn.
THREADS = 4096
# Instead of a warp's number.
SEVERAL = -2
FLOATS = {"f32": np.float32}
INTEGERS = {f"{kind}{bits}": np.dtype(f"{name}{bits}") for kind, name in (("s", "int"), ("u", "uint"), ("b", "uint"))
            for bits in (8, 16, 32, 64)}  # fmt: skip
TYPES = {**FLOATS, **INTEGERS, "pred": np.bool_}
REGISTERS = {"p": np.bool_, "rs": np.uint16, "r": np.uint32, "rd": np.uint64}


class GpuError(AssertionError):
    """What a GPU would answer with an error, or with whatever happens to be there."""


@dataclasses.dataclass(frozen=True)
class Launch:
    """What a custom call tells jaxlib: the code, how many programs and threads, and the parameters in their order.

    A parameter is ("array", bytes to clear before) or (type, value).
    """

    name: str
    code: str
    warps: int
    shared_bytes: int
    programs: int
    parameters: tuple


def _fields(message):
    """Numbers and values of a protocol buffer's fields."""
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
            case wire:
                size = {1: 8, 5: 4}.get(wire) or varint()
                yield key >> 3, message[at : at + size]
                at += size


def read_launch(message: bytes) -> Launch:
    """Decodes jaxlib's `TritonAnyKernelCall`."""
    call = list(_fields(dict(_fields(message))[1]))
    kernel = dict(_fields(dict(call)[1]))
    parameters = []
    for number, value in call:
        if number == 5:
            ((kind, value),) = _fields(value)
            match kind:
                case 1:
                    parameters.append(("array", dict(_fields(value)).get(1, 0)))
                case 3 | 5:
                    bits = 32 if kind == 3 else 64
                    parameters.append((f"u{bits}", value & (2**bits - 1)))
                case 4 | 6:
                    parameters.append(("u32" if kind == 4 else "u64", value))
                case 7:
                    parameters.append(("f32", np.frombuffer(value, np.float32)[0]))
                case _:
                    raise NotImplementedError(f"a parameter of kind {kind}")
    grid = {number: value for number, value in call if number in (2, 3, 4)}
    assert grid.get(3, 1) == grid.get(4, 1) == 1
    return Launch(
        kernel[1].decode(), kernel[4].decode(), kernel[2], kernel.get(3, 0), grid.get(2, 1), tuple(parameters)
    )


@contextlib.contextmanager
def emulated_gpu():
    """Launch functions called in this context, outside of `jit`, are lowered for a GPU and run here.

    Yields a list that gets each `Launch` with the instructions that its warps executed, counted by name.
    """
    from jnr.triton_kernels import launch

    call, launches = launch.call, []

    def run_here(kernel, *args, results, **options):
        arrays = [np.asarray(arg) for arg in args if isinstance(arg, jax.Array)]

        def on_device(*operands):
            left = iter(operands)
            operands = (next(left) if isinstance(arg, jax.Array) else arg for arg in args)
            return call(kernel, *operands, results=results, **options)

        with launch.compile_for(90):
            lowered = jax.jit(on_device).trace(*arrays).lower(lowering_platforms=("cuda",))
        (message,) = _custom_calls(lowered.compiler_ir("stablehlo").operation)
        outputs = [np.empty(r.shape, r.dtype) for r in results]
        for output in outputs:
            # NaN as a float, -1 as an integer: what is not written is found out.
            output.view(np.uint8)[...] = 255
        told = read_launch(message)
        launches.append((told, run(told, arrays, outputs)))
        return [jnp.asarray(output) for output in outputs]

    launch.call = run_here
    try:
        yield launches
    finally:
        launch.call = call


def _custom_calls(operation):
    """What the custom calls in a module tell their targets."""
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
            yield from _custom_calls(inner.operation)


def run(launch: Launch, operands: list[np.ndarray], results: list[np.ndarray]) -> collections.Counter:
    """Runs all programs, which find in `results` what is there and write to it. Counts warps' instructions by name."""
    executed = collections.Counter()
    memory = _Memory([*operands, *results], len(operands))
    arrays, values = iter(range(len(memory.arrays))), []
    for kind, value in launch.parameters:
        if kind == "array":
            i = next(arrays)
            memory.clear(i, value)
            values.append(np.uint64(memory.addresses[i]))
        else:
            values.append(np.dtype(TYPES[kind]).type(value))
    if next(arrays, None) is not None:
        raise GpuError("there are arrays for which there is no parameter")
    kernel = _parse(launch.code, launch.name)
    if kernel.threads != launch.warps * WARP:
        raise GpuError(f"the code is for {kernel.threads} threads, {launch.warps * WARP} are started")
    # jaxlib adds two pointers to memory that these kernels do not use.
    values += [np.uint64(0)] * 2
    if [np.dtype(TYPES[kind]).itemsize for kind in kernel.parameters] != [value.nbytes for value in values]:
        raise GpuError(
            f"{launch.name} has the parameters {kernel.parameters} and gets {launch.parameters} and 2 pointers"
        )
    parameters = {f"{launch.name}_param_{i}": value for i, value in enumerate(values)}
    together = max(1, THREADS // kernel.threads)
    for first in range(0, launch.programs, together):
        programs = np.arange(first, min(first + together, launch.programs))
        _Group(kernel, programs, launch, parameters, memory).run(executed)
    for array, address in zip(results, memory.addresses[len(operands) :], strict=True):
        array.reshape(-1).view(np.uint8)[:] = memory.data[address : address + array.nbytes]
    return executed


class _Memory:
    """The arrays at made-up addresses, with gaps between them."""

    def __init__(self, arrays, num_operands):
        self.arrays = arrays
        self.addresses, end = [], 4096
        for array in arrays:
            self.addresses.append(end)
            end += -(-array.nbytes // 256) * 256 + 4096
        self.data = np.zeros(end, np.uint8)
        self.readable, self.writable = np.zeros((2, end), bool)
        for i, (array, address) in enumerate(zip(arrays, self.addresses, strict=True)):
            self.data[address : address + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            self.readable[address : address + array.nbytes] = True
            self.writable[address : address + array.nbytes] = i >= num_operands

    def clear(self, i, num_bytes):
        if num_bytes not in (0, self.arrays[i].nbytes):
            raise GpuError(f"{num_bytes} bytes of {self.arrays[i].nbytes} are cleared")
        self.data[self.addresses[i] : self.addresses[i] + num_bytes] = 0

    def read(self, group, threads, address, size):
        return self.data.view(f"u{size}")[self._locate(self.readable, address, size)]

    def write(self, group, threads, address, values):
        self.data.view(values.dtype)[self._locate(self.writable, address, values.itemsize)] = values

    def add_up(self, function, address, values):
        """An atomic operation, in the threads' order."""
        function.at(self.data.view(values.dtype), self._locate(self.writable, address, values.itemsize), values)

    def _locate(self, allowed, address, size):
        if (address % size).any():
            raise GpuError(f"an address is not a multiple of {size}")
        if (address >= allowed.size - size).any() or not (allowed[address] & allowed[address + size - 1]).all():
            raise GpuError(f"an address is outside of the {'results' if allowed is self.writable else 'arrays'}")
        return address // size


class _Shared:
    """Each program's shared memory, and which warp used its words since the last barrier."""

    def __init__(self, programs, num_bytes):
        self.stride = -(-num_bytes // 16) * 16
        self.num_bytes = num_bytes
        # All bits set, as in arrays that nobody has written to.
        self.data = np.full(programs * self.stride, 255, np.uint8)
        self.writer, self.reader = np.full((2, programs * self.stride // 4), -1)

    def barrier(self, programs):
        for user in (self.writer, self.reader):
            user.reshape(-1, self.stride // 4)[programs] = -1

    def read(self, group, threads, address, size):
        data, at, words, warp = self._locate(group, threads, address, size)
        for word in words:
            if ((self.writer[word] != -1) & (self.writer[word] != warp)).any():
                raise GpuError("a warp reads what another wrote to shared memory, and there is no barrier between them")
            mixed = (self.reader[word] != -1) & (self.reader[word] != warp)
            self.reader[word] = np.where(mixed, SEVERAL, warp)
            self.reader[word[self.reader[word] != warp]] = SEVERAL
        return data[at]

    def write(self, group, threads, address, values):
        data, at, words, warp = self._locate(group, threads, address, values.itemsize)
        # The same bits may be written twice: several warps may have the same part of a block.
        changes = data[at] != values
        data[at] = values
        for word in words:
            for user in (self.writer, self.reader):
                if (changes & (user[word] != -1) & (user[word] != warp)).any():
                    raise GpuError(
                        "a warp writes shared memory that another uses, and there is no barrier between them"
                    )
            self.writer[word] = warp
        if (data[at] != values).any():
            raise GpuError("threads write different values to one place of shared memory")

    def _locate(self, group, threads, address, size):
        if (address % size).any() or (address + size > self.num_bytes).any():
            raise GpuError("an address is outside of the program's shared memory, or not aligned")
        address = address + group.program[threads] * self.stride
        words = [(address + first) // 4 for first in range(0, size, 4)]
        return self.data.view(f"u{size}"), address // size, words, group.warp[threads]


@dataclasses.dataclass(frozen=True)
class _Kernel:
    texts: list
    names: list
    instructions: list
    starts: frozenset  # of the pieces that branches lead to
    registers: dict
    parameters: tuple
    threads: int


_REGISTER = re.compile(r"%(p|rs|rd|r)\d+$")


@functools.lru_cache(maxsize=64)
def _parse(code, name):
    entry = rf"\.entry {name}\((.*?)\)\s*\.reqntid (\d+).*?^\{{(.*?)^\}}"
    head, threads, body = re.search(entry, code, re.S | re.M).groups()
    body = re.sub(r"//.*", "", body)
    labels, texts = {}, []
    for line in body.splitlines():
        line = line.strip()
        if label := re.fullmatch(r"(\$[\w$]+):", line):
            labels[label[1]] = len(texts)
        elif line not in ("", "{", "}") and not line.startswith("."):
            texts.append(line)
    registers = {}
    instructions = [_instruction(text, labels, registers) for text in texts]
    targets = {labels[m[1]] for text in texts if (m := re.search(r"bra\S*\s+(\$[\w$]+)", text))}
    parameters = tuple(re.findall(r"\.param \.(\w+)", head))
    names = [re.sub(r"^@\S+\s+", "", text).split()[0] for text in texts]
    return _Kernel(texts, names, instructions, frozenset(targets), registers, parameters, int(threads))


def _instruction(text, labels, registers):
    """A function (group, threads) that does it; entries for the registers that it names."""
    predicate, operation, rest = re.fullmatch(r"(?:@(!?%p\d+)\s+)?([\w.:]+)\s*(.*?);", text).groups()
    operands = [operand.strip() for operand in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*", rest)]
    for register in re.findall(r"%(?:p|rs|rd|r)\d+\b", text):
        registers[register] = REGISTERS[_REGISTER.match(register)[1]]
    words = operation.replace("::", ".").split(".")
    act = _FAMILIES.get(words[0], _arithmetic)(words, operands, labels)
    if predicate is None:
        return act
    wanted = not predicate.startswith("!")
    register = predicate.lstrip("!")

    def conditional(group, threads):
        chosen = threads[group.registers[register][threads] == wanted]
        if chosen.size:
            act(group, chosen)

    return conditional


class _Group:
    """The threads of a few programs, and where each of them is."""

    def __init__(self, kernel, programs, launch, parameters, memory):
        count = programs.size * kernel.threads
        self.kernel, self.memory, self.parameters = kernel, memory, parameters
        self.shared = _Shared(programs.size, launch.shared_bytes)
        self.program = np.repeat(np.arange(programs.size), kernel.threads)
        self.warp = np.arange(count) // WARP
        self.special = {
            "%tid.x": np.tile(np.arange(kernel.threads, dtype=np.uint32), programs.size),
            "%ctaid.x": programs.astype(np.uint32)[self.program],
            "%nctaid.x": np.full(count, launch.programs, np.uint32),
        }
        self.registers = {name: np.zeros(count, dtype) for name, dtype in kernel.registers.items()}
        self.position = np.zeros(count, np.int64)
        self.ended, self.waits = np.zeros((2, count), bool)

    def jump(self, threads, target):
        self.position[threads] = target

    def end(self, threads):
        self.ended[threads] = True

    def wait(self, threads):
        self.waits[threads] = True

    def run(self, executed):
        """Lets the threads that are furthest behind go on, so that those which parted meet again."""
        instructions, starts = self.kernel.instructions, self.kernel.starts
        with np.errstate(all="ignore"):
            while not self.ended.all():
                ready = ~self.ended & ~self.waits
                if not ready.any():
                    self.release()
                    continue
                position = self.position[ready].min()
                threads = np.flatnonzero(ready & (self.position == position))
                num_warps = np.unique(self.warp[threads]).size
                while True:
                    self.position[threads] = position + 1
                    executed[self.kernel.names[position]] += num_warps
                    try:
                        instructions[position](self, threads)
                    except GpuError as error:
                        error.add_note(f"by {self.kernel.texts[position]}")
                        raise
                    moved = self.ended[threads] | self.waits[threads] | (self.position[threads] != position + 1)
                    position += 1
                    if moved.any() or position in starts:
                        break

    def release(self):
        """Ends the barriers at which all threads of a program wait."""
        shape = -1, self.kernel.threads
        waits, ended, position = (a.reshape(shape) for a in (self.waits, self.ended, self.position))
        meet = waits.any(axis=1)
        if (ended[meet]).any():
            raise GpuError("threads wait at a barrier and others of their program have ended")
        if not (waits[meet] & (position[meet] == position[meet, :1])).all():
            raise GpuError("threads of a program wait at different barriers")
        waits[meet] = False
        self.shared.barrier(meet)

    def warps(self, threads, values):
        """Values as [warp, lane], all of whose threads must be there."""
        lanes = threads.reshape(-1, WARP) if threads.size % WARP == 0 else None
        if lanes is None or (lanes[:, 0] % WARP).any() or (np.diff(lanes, axis=1) != 1).any():
            raise GpuError("threads exchange values and not all of the warp are there")
        return values.reshape(-1, WARP)


def _source(text, kind):
    """A function (group, threads) that reads an operand as a type."""
    dtype = np.dtype(TYPES[kind])
    if _REGISTER.match(text):

        def read(group, threads):
            values = group.registers[text][threads]
            if values.dtype.itemsize > dtype.itemsize:
                raise NotImplementedError(f"{text} is wider than {kind}")
            return values.view(dtype) if values.itemsize == dtype.itemsize else values.astype(dtype)

        return read
    if text.startswith("%"):
        return lambda group, threads: group.special[text][threads].view(dtype)
    if kind == "pred":
        constant = np.array(int(text) != 0)
    else:
        number = 0 if text == "global_smem" else int(text[2:], 16) if text.startswith("0f") else int(text, 0)
        constant = np.array(number & (2 ** (8 * dtype.itemsize) - 1), f"u{dtype.itemsize}").view(dtype)
    return lambda group, threads: np.full(threads.size, constant, dtype)


def _store(text):
    """A function (group, threads, values) that writes a register; narrow values are extended, `_` is dropped."""
    if text == "_":
        return lambda group, threads, values: None
    dtype = REGISTERS[_REGISTER.match(text)[1]]

    def write(group, threads, values):
        if values.dtype != np.bool_:
            values = values.view(f"u{values.itemsize}")
        group.registers[text][threads] = values.astype(dtype)

    return write


def _parts(text):
    return [part.strip() for part in text.strip("{}[] ").split(",")]


def _wide(kind):
    return f"{kind[0]}{2 * int(kind[1:])}"


def _round(function):
    def apply(a):
        # .ftz: what is too small for a normal number is zero.
        return function(np.where(np.abs(a) < np.finfo(np.float32).tiny, np.float32(0) * a, a)).astype(np.float32)

    return apply


def _to_integer(a, kind):
    """Towards zero; beyond the integers' ends the end, NaN is 0."""
    info = np.iinfo(TYPES[kind])
    exact = np.trunc(np.where(np.isnan(a), 0, a.astype(np.float64)))
    low, high = exact <= info.min, exact >= info.max
    inside = np.where(low | high, 0, exact).astype(info.dtype)
    return np.where(low, info.min, np.where(high, info.max, inside)).astype(info.dtype)


def _branch(words, operands, labels):
    target = labels[operands[0]]
    return lambda group, threads: group.jump(threads, target)


def _return(*_):
    return lambda group, threads: group.end(threads)


def _convert(words, operands, _):
    *modes, to, kind = words[1:]
    if modes in (["rmi", "ftz"], ["rpi", "ftz"]) and (to, kind) == ("f32", "f32"):
        function = _round(np.floor if modes[0] == "rmi" else np.ceil)
    elif modes == ["rzi"]:
        function = functools.partial(_to_integer, kind=to)
    elif modes in (["rn"], []):
        function = operator.methodcaller("astype", TYPES[to])
    else:
        raise NotImplementedError(".".join(words))
    # A wide register is read as its low part.
    source, write = operands[1], _store(operands[0])
    dtype = np.dtype(TYPES[kind])

    def act(group, threads):
        values = group.registers[source][threads]
        write(group, threads, function(values.astype(f"u{dtype.itemsize}").view(dtype)))

    return act


def _divide(a, b):
    if a.dtype.kind == "f":
        return a / b
    if (b == 0).any():
        raise GpuError("an integer is divided by zero")
    return np.where((a < 0) != (b < 0), -(np.abs(a) // np.abs(b)), np.abs(a) // np.abs(b)).astype(a.dtype)


def _shift(function):
    def apply(a, b):
        bits = 8 * a.dtype.itemsize
        clamped = np.minimum(b, bits - 1).astype(a.dtype)
        shifted = function(a, clamped)
        # Beyond the width, nothing is left but the sign.
        return np.where(b < bits, shifted, function(shifted, a.dtype.type(1)))

    return apply


_PLAIN = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": _divide,
    "abs": np.abs,
    "neg": np.negative,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "shl": _shift(np.left_shift),
    "shr": _shift(np.right_shift),
    "mad": lambda a, b, c: a * b + c,
    "mov": lambda a: a,
}
_MODES = {"rn", "full", "lo", "NaN", "wide"}


def _arithmetic(words, operands, _):
    name, *modes, kind = words
    if not set(modes) <= _MODES:
        raise NotImplementedError(".".join(words))
    if name == "mov" and "{" in operands[0]:
        return _unpack(operands)
    kinds = [kind] * (len(operands) - 1)
    if name in ("shl", "shr"):
        kinds[1] = "u32"
    if name in ("min", "max"):
        function = getattr(np, {"min": "minimum", "max": "maximum"}[name] if "NaN" in modes or kind not in FLOATS
                           else f"f{name}")  # fmt: skip
    elif name in _PLAIN:
        function = _PLAIN[name]
    else:
        raise NotImplementedError(".".join(words))
    if "wide" in modes:
        function = _widened(function, _wide(kind))
        kinds[2:] = [_wide(kind)] * (len(kinds) - 2)
    elif name == "mul" and kind not in FLOATS and "lo" not in modes:
        raise NotImplementedError(".".join(words))
    sources, write = [_source(o, k) for o, k in zip(operands[1:], kinds, strict=True)], _store(operands[0])
    return lambda group, threads: write(group, threads, function(*(read(group, threads) for read in sources)))


def _widened(function, kind):
    return lambda a, b, *c: function(a.astype(TYPES[kind]), b.astype(TYPES[kind]), *c)


def _unpack(operands):
    writes, read = [_store(part) for part in _parts(operands[0])], _source(operands[1], "u64")

    def act(group, threads):
        halves = np.ascontiguousarray(read(group, threads)).view(np.uint32).reshape(-1, 2)
        for i, write in enumerate(writes):
            write(group, threads, np.ascontiguousarray(halves[:, i]))

    return act


def _extract_bits(words, operands, _):
    assert words == ["bfe", "u32"]
    sources, write = [_source(o, "u32") for o in operands[1:]], _store(operands[0])

    def act(group, threads):
        value, start, length = (read(group, threads).astype(np.uint64) for read in sources)
        write(group, threads, ((value >> start) & ((np.uint64(1) << length) - np.uint64(1))).astype(np.uint32))

    return act


def _compare(words, operands, _):
    _, comparison, kind = words
    unordered = kind in FLOATS and comparison.endswith("u")
    function = getattr(operator, comparison.removesuffix("u") if unordered else comparison)
    a, b, write = _source(operands[1], kind), _source(operands[2], kind), _store(operands[0])

    def act(group, threads):
        x, y = a(group, threads), b(group, threads)
        result = function(x, y)
        if kind in FLOATS:
            nan = np.isnan(x) | np.isnan(y)
            result = result | nan if unordered else result & ~nan
        write(group, threads, result)

    return act


def _select(words, operands, _):
    a, b = (_source(o, words[1]) for o in operands[1:3])
    condition, write = _source(operands[3], "pred"), _store(operands[0])
    return lambda group, threads: write(
        group, threads, np.where(condition(group, threads), a(group, threads), b(group, threads))
    )


def _shuffle(words, operands, _):
    mode = words[2]
    a, b = _source(operands[1], "u32"), _source(operands[2], "u32")
    bound, write = int(operands[3]), _store(operands[0])
    assert bound == {"bfly": 31, "up": 0, "idx": 31}[mode], "parts of a warp"
    lane = np.arange(WARP)

    def act(group, threads):
        values, by = group.warps(threads, a(group, threads)), group.warps(threads, b(group, threads)).astype(int)
        source = {"bfly": lane ^ by, "up": lane - by, "idx": by & 31}[mode]
        source = np.where(source < 0, lane, source)
        write(group, threads, np.take_along_axis(values, source, axis=1).reshape(-1))

    return act


def _reduce_warp(words, operands, _):
    function = {"add": np.add, "max": np.maximum, "min": np.minimum}[words[2]]
    read, write = _source(operands[1], words[3]), _store(operands[0])

    def act(group, threads):
        values = group.warps(threads, read(group, threads))
        write(group, threads, np.repeat(function.reduce(values, axis=1, dtype=values.dtype), WARP))

    return act


def _address(text):
    base, _, offset = _parts(text)[0].partition("+")
    read = _source(base.strip(), "u64" if base.startswith("%rd") else "u32")
    return lambda group, threads: read(group, threads).astype(np.int64) + int(offset or 0)


def _space(words):
    return "shared" if "shared" in words else "memory"


def _load(words, operands, _):
    dtype = np.dtype(TYPES[words[-1]])
    writes = [_store(part) for part in _parts(operands[0])]
    if "param" in words:
        name = _parts(operands[1])[0]
        return lambda group, threads: writes[0](
            group, threads, np.full(threads.size, group.parameters[name]).view(dtype)
        )
    address, space = _address(operands[1]), _space(words)

    def act(group, threads):
        first = address(group, threads)
        _check_vector(first, len(writes) * dtype.itemsize)
        for i, write in enumerate(writes):
            write(
                group, threads, getattr(group, space).read(group, threads, first + i * dtype.itemsize, dtype.itemsize)
            )

    return act


def _check_vector(address, size):
    if (address % size).any():
        raise GpuError("a vector's address is not a multiple of its size")


def _store_memory(words, operands, _):
    kind = f"b{words[-1][1:]}"
    reads, address, space = [_source(part, kind) for part in _parts(operands[1])], _address(operands[0]), _space(words)
    size = np.dtype(TYPES[kind]).itemsize

    def act(group, threads):
        first = address(group, threads)
        _check_vector(first, len(reads) * size)
        for i, read in enumerate(reads):
            getattr(group, space).write(group, threads, first + i * size, read(group, threads))

    return act


def _atomic(words, operands, _):
    assert words[1:4] == ["global", "gpu", "relaxed"]
    *_, name, kind = words
    function = {"add": np.add, "max": np.maximum}[name]
    *old, address, value = operands
    address, read = _address(address), _source(value, kind)
    # What was there before is asked for by older versions of Triton, and used by no kernel: it is garbage here.
    writes = [_store(register) for register in old]

    def act(group, threads):
        values = read(group, threads)
        group.memory.add_up(function, address(group, threads), values)
        for write in writes:
            write(group, threads, np.full(threads.size, -1).astype(f"u{values.itemsize}"))

    return act


def _barrier(words, operands, _):
    if words[1] == "warp":
        # Threads of a warp run side by side here.
        return lambda group, threads: group.warps(threads, threads)
    return lambda group, threads: group.wait(threads)


def _load_matrix(words, operands, _):
    """Lanes 8 i to 8 i + 7 have the addresses of the rows of matrix i; each lane gets a word of every matrix."""
    assert [*words[1:4], *words[-2:]] == ["sync", "aligned", "m8n8", "shared", "b16"]
    writes, address = [_store(part) for part in _parts(operands[0])], _address(operands[1])

    def act(group, threads):
        rows = group.warps(threads, address(group, threads))
        lane = np.arange(WARP)
        for i, write in enumerate(writes):
            at = rows[:, 8 * i + lane // 4] + 4 * (lane % 4)
            write(group, threads, group.shared.read(group, threads, at.reshape(-1), 4))

    return act


_FAMILIES = {
    "bra": _branch,
    "ret": _return,
    "cvt": _convert,
    "setp": _compare,
    "selp": _select,
    "bfe": _extract_bits,
    "shfl": _shuffle,
    "redux": _reduce_warp,
    "ld": _load,
    "st": _store_memory,
    "red": _atomic,
    "atom": _atomic,
    "bar": _barrier,
    "ldmatrix": _load_matrix,
}
