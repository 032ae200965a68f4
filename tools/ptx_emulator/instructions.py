"""PTX instructions: parses a kernel's code into functions that the emulated machine calls."""

import dataclasses
import functools
import operator
import re
from collections.abc import Callable

import numpy as np

from ptx_emulator.machine import WARP_SIZE, GpuError

TYPES = {
    "pred": np.dtype(np.bool_),
    "f32": np.dtype(np.float32),
    **{f"s{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"{kind}{bits}": np.dtype(f"uint{bits}") for kind in "ub" for bits in (8, 16, 32, 64)},
}
REGISTER_TYPES = {
    "p": np.dtype(np.bool_),
    "rs": np.dtype(np.uint16),
    "r": np.dtype(np.uint32),
    "rd": np.dtype(np.uint64),
}
# A symbol that stands for the first address of shared memory.
SHARED_MEMORY = "global_smem"


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of PTX: its text, its name with types and modes, and what it does to a machine's active threads."""

    text: str
    name: str
    execute: Callable


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A parsed kernel. Positions are indices of `instructions`."""

    instructions: list[Instruction]
    branch_targets: frozenset[int]
    registers: dict[str, np.dtype]
    parameters: tuple[str, ...]  # types
    threads: int  # per program


class _UnsupportedError(NotImplementedError):
    """What is not supported. `_parse_instruction` adds the instruction's text."""


@functools.lru_cache(maxsize=64)
def parse(code: str, name: str) -> Kernel:
    """Returns the kernel called `name` in a PTX module."""
    entry = re.search(rf"\.entry {name}\((.*?)\)\s*\.reqntid (\d+).*?^\{{(.*?)^\}}", code, re.S | re.M)
    if not entry:
        raise NotImplementedError(f"The code has no entry {name} with a number of threads (.reqntid).")
    head, threads, body = entry.groups()
    labels, texts = {}, []
    for line in re.sub(r"//.*", "", body).splitlines():
        line = line.strip()
        if label := re.fullmatch(r"(\$[\w$]+):", line):
            labels[label[1]] = len(texts)
        elif line not in ("", "{", "}") and not line.startswith("."):
            texts.append(line)
    registers = re.findall(r"%(?:p|rs|rd|r)\d+\b", "\n".join(texts))
    return Kernel(
        instructions=[_parse_instruction(text, labels) for text in texts],
        branch_targets=frozenset(labels.values()),
        registers={register: _register_type(register) for register in registers},
        parameters=tuple(re.findall(r"\.param \.(\w+)", head)),
        threads=int(threads),
    )


def _parse_instruction(text, labels):
    match = re.fullmatch(r"(?:@(!?)(%p\d+)\s+)?([\w.:]+)\s*(.*?);", text)
    if not match:
        raise NotImplementedError(f"The PTX emulator cannot parse this line: {text}")
    negated, predicate, name, rest = match.groups()
    # A vector {...} and an address [...] are one operand each.
    operands = [operand.strip() for operand in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*", rest)]
    # .shared::cta is the same as .shared.
    words = name.replace("::", ".").split(".")
    try:
        if words[0] == "bra":
            execute = _branch(labels[operands[0]])
        else:
            execute = _BUILDERS.get(words[0], _arithmetic)(words, operands)
    except _UnsupportedError as error:
        raise NotImplementedError(f"The PTX emulator does not support {error}: {text}") from None
    return Instruction(text, name, execute if predicate is None else _conditional(execute, predicate, not negated))


def _conditional(execute, predicate, wanted):
    def execute_where(machine, active):
        chosen = active[machine.registers[predicate][active] == wanted]
        if chosen.size:
            execute(machine, chosen)

    return execute_where


# Each function below takes an instruction's name, split at the dots, and its operands. It returns a function of the
# machine and the active threads.


def _branch(target):
    return lambda machine, active: machine.jump(active, target)


def _return(words, operands):
    return lambda machine, active: machine.end(active)


def _require(condition, what):
    if not condition:
        raise _UnsupportedError(what)


def _type(kind):
    _require(kind in TYPES, f"the type or operation {kind}")
    return TYPES[kind]


def _register_type(text):
    match = re.fullmatch(r"%(p|rs|rd|r)\d+", text)
    _require(match, f"the register {text}")
    return REGISTER_TYPES[match[1]]  # pyright: ignore[reportOptionalSubscript]: _require raises


def _parts(text):
    """Splits a vector or an address into its parts; anything else is one part."""
    return [part.strip() for part in text.strip("{}[] ").split(",")]


def _source(text, kind):
    """Returns a function that reads an operand of the active threads as a PTX type."""
    dtype = _type(kind)
    if text in ("%tid.x", "%ctaid.x", "%nctaid.x"):
        return lambda machine, active: machine.special_registers[text][active].view(dtype)
    if text.startswith("%"):
        _require(_register_type(text).itemsize == dtype.itemsize, f"{text} as {kind}")
        return lambda machine, active: machine.registers[text][active].view(dtype)
    constant = _constant(text, dtype)
    return lambda machine, active: np.full(active.size, constant, dtype)


def _constant(text, dtype):
    if text == SHARED_MEMORY:
        number = 0
    elif text.startswith("0f"):
        number = int(text[2:], 16)
    else:
        _require(re.fullmatch(r"-?(\d+|0x[\da-fA-F]+)", text), f"the operand {text}")
        number = int(text, 0)
    if dtype == np.bool_:
        return np.bool_(number != 0)
    return np.array(number & (2 ** (8 * dtype.itemsize) - 1), f"u{dtype.itemsize}").view(dtype)


def _destination(text):
    """Returns a function that writes values to a register, extended with zeros; `_` discards them."""
    if text == "_":
        return lambda machine, active, values: None
    dtype = _register_type(text)

    def write(machine, active, values):
        if values.dtype != np.bool_:
            values = values.view(f"u{values.itemsize}")
        machine.registers[text][active] = values.astype(dtype)

    return write


def _elementwise(function, destination, sources):
    """Returns an instruction that applies a function of arrays to its sources."""
    write = _destination(destination)
    return lambda machine, active: write(machine, active, function(*(read(machine, active) for read in sources)))


def _divide_integers(a, b):
    """Divides and rounds towards zero."""
    if (b == 0).any():
        raise GpuError("an integer is divided by zero")
    quotient = a // b
    return quotient + ((quotient * b != a) & ((a < 0) != (b < 0))).astype(a.dtype)


def _shift(function):
    def apply(a, b):
        bits = 8 * a.dtype.itemsize
        shifted = function(a, np.minimum(b, bits - 1).astype(a.dtype))
        # NumPy does not define shifts by the width and more; in PTX only the sign's copies are left.
        return np.where(b < bits, shifted, function(shifted, a.dtype.type(1)))

    return apply


def _multiply_add(a, b, c):
    return a * b + c


def _high_product(a, b):
    """The upper half of the product of 32-bit integers."""
    wide = np.dtype(f"{a.dtype.kind}8")
    return (a.astype(wide) * b.astype(wide) >> 32).astype(a.dtype)


_FLOAT_OPERATIONS = {
    "add": np.add,
    "add.rn": np.add,
    "sub": np.subtract,
    "sub.rn": np.subtract,
    "mul": np.multiply,
    "mul.rn": np.multiply,
    "div.rn": np.divide,
    "div.full": np.divide,
    "abs": np.abs,
    "neg": np.negative,
    # Without .NaN, the operand that is a number wins over NaN.
    "min": np.fmin,
    "max": np.fmax,
    "min.NaN": np.minimum,
    "max.NaN": np.maximum,
}
_INTEGER_OPERATIONS = {
    "add": np.add,
    "sub": np.subtract,
    "mul.lo": np.multiply,
    "mul.hi": _high_product,
    "mul.wide": np.multiply,
    "mad.lo": _multiply_add,
    "mad.wide": _multiply_add,
    "div": _divide_integers,
    "abs": np.abs,
    "neg": np.negative,
    "min": np.minimum,
    "max": np.maximum,
    "shl": _shift(np.left_shift),
    "shr": _shift(np.right_shift),
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
}
_PREDICATE_OPERATIONS = {name: _INTEGER_OPERATIONS[name] for name in ("and", "or", "xor", "not")}


def _arithmetic(words, operands):
    name, kind = ".".join(words[:-1]), words[-1]
    operations = {"f": _FLOAT_OPERATIONS, "b": _PREDICATE_OPERATIONS}.get(_type(kind).kind, _INTEGER_OPERATIONS)
    _require(name in operations, f"the operation {name} on {kind}")
    _require(name != "mul.hi" or kind in ("s32", "u32"), f"the operation {name} on {kind}")
    function, kinds = operations[name], [kind] * (len(operands) - 1)
    if words[0] in ("shl", "shr"):
        kinds[1] = "u32"
    if words[1] == "wide":
        wide = f"{kind[0]}{2 * int(kind[1:])}"
        kinds[2:] = [wide] * (len(kinds) - 2)
        function = _widening(function, _type(wide))
    sources = [_source(operand, kind) for operand, kind in zip(operands[1:], kinds, strict=True)]
    return _elementwise(function, operands[0], sources)


def _widening(function, dtype):
    return lambda a, b, *c: function(a.astype(dtype), b.astype(dtype), *c)


def _move(words, operands):
    if operands[0].startswith("{"):
        return _unpack(words, operands)
    _require(len(words) == 2, f"the operation {'.'.join(words)}")
    return _elementwise(lambda a: a, operands[0], [_source(operands[1], words[1])])


def _unpack(words, operands):
    """Splits a 64-bit register into its low and its high half."""
    _require(words == ["mov", "b64"], f"the operation {'.'.join(words)} with a vector")
    writes, read = [_destination(part) for part in _parts(operands[0])], _source(operands[1], "b64")

    def execute(machine, active):
        halves = np.ascontiguousarray(read(machine, active)).view(np.uint32).reshape(-1, 2)
        for i, write in enumerate(writes):
            write(machine, active, np.ascontiguousarray(halves[:, i]))

    return execute


def _convert(words, operands):
    *modes, to, kind = words[1:]
    function = _conversion(modes, _type(to), _type(kind))
    _require(function, f"the operation {'.'.join(words)}")
    source, dtype = operands[1], TYPES[kind]
    # Unlike other instructions, this one may read the low part of a wider register.
    _require(_register_type(source).itemsize >= dtype.itemsize, f"{source} as {kind}")

    def read(machine, active):
        return machine.registers[source][active].astype(f"u{dtype.itemsize}").view(dtype)

    return _elementwise(function, operands[0], [read])


def _conversion(modes, to, source):
    """The conversion's function of an array, or None where it is not supported."""
    match modes, source.kind == "f", to.kind == "f":
        case ["rmi", "ftz"], True, True:
            return lambda a: np.floor(_flush_subnormals(a))
        case ["rpi", "ftz"], True, True:
            return lambda a: np.ceil(_flush_subnormals(a))
        case ["rzi"], True, False:
            return functools.partial(_truncate, dtype=to)
        case (["rn"], False, True) | ([], False, False):
            return lambda a: a.astype(to)


def _flush_subnormals(a):
    return np.where(np.abs(a) < np.finfo(np.float32).tiny, np.float32(0) * a, a)


def _truncate(a, dtype):
    """Rounds towards zero and clamps to the range of an integer type. NaN becomes 0."""
    info = np.iinfo(dtype)
    exact = np.trunc(np.where(np.isnan(a), 0, a.astype(np.float64)))
    low, high = exact <= info.min, exact >= info.max
    inside = np.where(low | high, 0, exact).astype(dtype)
    return np.where(low, info.min, np.where(high, info.max, inside)).astype(dtype)


_COMPARISONS = {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}


def _compare(words, operands):
    _require(len(words) == 3, f"the operation {'.'.join(words)}")
    _, name, kind = words
    is_float = _type(kind).kind == "f"
    # An unordered comparison is true, and an ordered one is false, if an operand is NaN.
    unordered = is_float and name.endswith("u")
    name = name.removesuffix("u") if unordered else name
    _require(name in _COMPARISONS, f"the comparison {name} of {kind}")
    comparison = _COMPARISONS[name]

    def compare(a, b):
        result = comparison(a, b)
        if is_float:
            nan = np.isnan(a) | np.isnan(b)
            result = result | nan if unordered else result & ~nan
        return result

    return _elementwise(compare, operands[0], [_source(operand, kind) for operand in operands[1:]])


def _select(words, operands):
    a, b = (_source(operand, words[1]) for operand in operands[1:3])
    return _elementwise(np.where, operands[0], [_source(operands[3], "pred"), a, b])


def _extract_bits(words, operands):
    _require(words == ["bfe", "u32"], f"the operation {'.'.join(words)}")

    def extract(value, start, length):
        value, start, length = (a.astype(np.uint64) for a in (value, start, length))
        return ((value >> start) & ((np.uint64(1) << length) - np.uint64(1))).astype(np.uint32)

    return _elementwise(extract, operands[0], [_source(operand, "u32") for operand in operands[1:]])


def _shuffle(words, operands):
    # The operand that bounds the source lane, if the whole warp takes part.
    bounds = {"bfly": "31", "up": "0", "idx": "31"}
    mode = words[2]
    _require(operands[3] == bounds.get(mode), "this shuffle, or shuffles within parts of a warp")
    a, b = _source(operands[1], "u32"), _source(operands[2], "u32")
    write, lane = _destination(operands[0]), np.arange(WARP_SIZE)

    def execute(machine, active):
        values = machine.by_warp(active, a(machine, active))
        by = machine.by_warp(active, b(machine, active) & 31).astype(int)
        source = {"bfly": lane ^ by, "up": lane - by, "idx": by}[mode]
        # Without a source lane, the lane keeps its own value.
        source = np.where(source < 0, lane, source)
        write(machine, active, np.take_along_axis(values, source, axis=1).reshape(-1))

    return execute


def _reduce_warp(words, operands):
    functions = {"add": np.add, "max": np.maximum, "min": np.minimum}
    _require(words[2] in functions, f"the operation {'.'.join(words)}")
    function = functions[words[2]]
    read, write = _source(operands[1], words[3]), _destination(operands[0])

    def execute(machine, active):
        values = machine.by_warp(active, read(machine, active))
        write(machine, active, np.repeat(function.reduce(values, axis=1, dtype=values.dtype), WARP_SIZE))

    return execute


def _address(text):
    """Returns a function that computes addresses from an operand `[register+offset]`."""
    base, _, offset = text.strip("[] ").partition("+")
    base = base.strip()
    read = _source(base, "u64" if base.startswith("%rd") else "u32")
    return lambda machine, active: read(machine, active).astype(np.int64) + int(offset or 0)


def _memory(words):
    """Returns a function that picks the memory which a load or store names."""
    _require("shared" in words or "global" in words, f"the operation {'.'.join(words)}")
    return operator.attrgetter("shared_memory" if "shared" in words else "global_memory")


def _check_alignment(address, size):
    if (address % size).any():
        raise GpuError(f"an address is not a multiple of {size}, the size of the value or vector")


def _load(words, operands):
    dtype = _type(words[-1])
    _require(dtype.kind != "i" or dtype.itemsize >= 4, "loads that extend the sign")
    writes = [_destination(part) for part in _parts(operands[0])]
    if "param" in words:
        (write,), (name,) = writes, _parts(operands[1])
        return lambda machine, active: write(
            machine, active, np.full(active.size, machine.parameters[name]).view(dtype)
        )
    address, memory = _address(operands[1]), _memory(words)

    def execute(machine, active):
        first = address(machine, active)
        _check_alignment(first, len(writes) * dtype.itemsize)
        for i, write in enumerate(writes):
            values = memory(machine).read(machine, active, first + i * dtype.itemsize, dtype.itemsize)
            write(machine, active, values)

    return execute


def _store(words, operands):
    size = _type(words[-1]).itemsize
    reads = [_source(part, f"b{8 * size}") for part in _parts(operands[1])]
    address, memory = _address(operands[0]), _memory(words)

    def execute(machine, active):
        first = address(machine, active)
        _check_alignment(first, len(reads) * size)
        for i, read in enumerate(reads):
            memory(machine).write(machine, active, first + i * size, read(machine, active))

    return execute


def _load_matrix(words, operands):
    """Lanes 8 i to 8 i + 7 hold the addresses of the rows of matrix i; each lane gets one word of every matrix."""
    writes, address = [_destination(part) for part in _parts(operands[0])], _address(operands[1])
    known = ["ldmatrix", "sync", "aligned", "m8n8", f"x{len(writes)}", "shared", "b16"]
    _require(words == known, f"the operation {'.'.join(words)}")

    def execute(machine, active):
        rows = machine.by_warp(active, address(machine, active))
        lane = np.arange(WARP_SIZE)
        for i, write in enumerate(writes):
            word = rows[:, 8 * i + lane // 4] + 4 * (lane % 4)
            write(machine, active, machine.shared_memory.read(machine, active, word.reshape(-1), 4))

    return execute


def _atomic(words, operands):
    functions = {"add": np.add, "max": np.maximum}
    known = words[1:4] == ["global", "gpu", "relaxed"] and words[-2] in functions
    _require(known, f"the operation {'.'.join(words)}")
    function = functions[words[-2]]
    *previous, address, value = operands
    address, read = _address(address), _source(value, words[-1])
    # Older versions of Triton always ask for the previous value, which jnr's kernels do not use.
    writes = [_destination(register) for register in previous]

    def execute(machine, active):
        values = read(machine, active)
        machine.global_memory.update(function, address(machine, active), values)
        for write in writes:
            write(machine, active, np.full(active.size, -1).astype(f"u{values.itemsize}"))

    return execute


def _barrier(words, operands):
    if words == ["bar", "warp", "sync"]:
        # The threads of a warp run in lockstep, so they only have to be complete.
        return lambda machine, active: machine.by_warp(active, active)
    _require(words == ["bar", "sync"] and operands == ["0"], f"the operation {'.'.join(words)} {', '.join(operands)}")
    return lambda machine, active: machine.wait(active)


_BUILDERS = {
    "ret": _return,
    "mov": _move,
    "cvt": _convert,
    "setp": _compare,
    "selp": _select,
    "bfe": _extract_bits,
    "shfl": _shuffle,
    "redux": _reduce_warp,
    "ld": _load,
    "st": _store,
    "red": _atomic,
    "atom": _atomic,
    "bar": _barrier,
    "ldmatrix": _load_matrix,
}
