"""The PTX emulator on short pieces of PTX with known results; needs neither Triton nor a GPU."""

import numpy as np
import pytest
from ptx_emulator import GpuError, Launch, read_launch, run

WARP = 32
NAN, INF = np.float32("nan"), np.float32("inf")
SUBNORMAL = np.float32(1e-40)


def launch(text, *, arrays=1, threads=WARP, programs=1, shared_bytes=512):
    """A kernel `k` with pointers to arrays in %rd1, %rd2, ..., %tid.x in %r1, and instructions divided by lines or `;`.

    The instruction `ret` is added at the end.
    """
    pointers = ",\n".join(f".param .u64 .ptr k_param_{i}" for i in range(arrays + 2))
    start = "".join(f"ld.param.b64 %rd{i + 1}, [k_param_{i}];\n" for i in range(arrays))
    lines = text.replace(";", ";\n").replace(":", ":\n").replace(":\n:\n", "::")
    code = f".visible .entry k(\n{pointers}\n)\n.reqntid {threads}\n{{\n{start}mov.u32 %r1, %tid.x;\n{lines}\nret;\n}}"
    return Launch("k", code, threads // WARP, shared_bytes, programs, (("array", 0),) * arrays)


def run_lanes(text, *inputs, dtype, threads=WARP):
    """Runs instructions with one element of each input per thread.

    The inputs are in {a}, {b} and {c}. Returns the register {d} of every thread that has an element.
    """
    inputs = [np.asarray(x) for x in inputs]
    size = max(x.size for x in inputs)
    operands = [np.resize(x, threads) for x in inputs]
    names, loads = {"d": "%r50" if np.dtype(dtype).itemsize == 4 else "%rd50"}, ""
    for i, operand in enumerate(operands):
        register = f"%r{i + 40}" if operand.itemsize == 4 else f"%rd{i + 40}"
        names["abc"[i]] = register
        loads += f"mad.wide.u32 %rd30, %r1, {operand.itemsize}, %rd{i + 1};"
        loads += f"ld.global.b{8 * operand.itemsize} {register}, [%rd30];"
    result = np.empty(threads, dtype)
    store = f"mad.wide.u32 %rd30, %r1, {result.itemsize}, %rd{len(operands) + 1};"
    store += f"st.global.b{8 * result.itemsize} [%rd30], {{d}};"
    run(launch((loads + text + store).format(**names), arrays=len(operands) + 1, threads=threads), operands, [result])
    return result[:size]


def assert_same_bits(found, expected):
    expected = np.asarray(expected, found.dtype)
    np.testing.assert_array_equal(found.view(f"u{found.itemsize}"), expected.view(f"u{found.itemsize}"))


def f32(*values):
    return np.array(values, np.float32)


def s32(*values):
    return np.array(values, np.int32)


def u32(*values):
    return np.array(values, np.uint32)


def s64(*values):
    return np.array(values, np.int64)


# Floating-point arithmetic


@pytest.mark.parametrize(
    ("instruction", "inputs", "expected"),
    [
        # Half of the last place is rounded to even, more than half upwards.
        ("add.rn.f32 {d}, {a}, {b};", (f32(1, 1, 1 + 2**-23), f32(2**-24, 2**-24 + 2**-40, 2**-24)),
         f32(1, 1 + 2**-23, 1 + 2**-22)),
        ("sub.rn.f32 {d}, {a}, {b};", (f32(1, INF), f32(2**-26, INF)), f32(1, NAN)),
        # (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24, of which the last term is half of the last place.
        ("mul.rn.f32 {d}, {a}, {a};", (f32(1 + 2**-12, 3e38),), f32(1 + 2**-11, INF)),
        ("div.rn.f32 {d}, {a}, {b};", (f32(1, 1, -1), f32(3, 0, 0)), f32(1 / 3, INF, -INF)),
        ("div.full.f32 {d}, {a}, {b};", (f32(6, 1), f32(-2, INF)), f32(-3, 0)),
        ("abs.f32 {d}, {a};", (f32(-2, -0.0),), f32(2, 0)),
        ("neg.f32 {d}, {a};", (f32(2, 0),), f32(-2, -0.0)),
        # Only the conversions flush subnormal numbers.
        ("mul.rn.f32 {d}, {a}, 0f3F000000;", (SUBNORMAL,), SUBNORMAL / 2),
    ],
)  # fmt: skip
def test_float_arithmetic_is_rounded_to_nearest_even(instruction, inputs, expected):
    found = run_lanes(instruction, *inputs, dtype=np.float32)
    np.testing.assert_array_equal(found, expected)
    finite = ~np.isnan(found)
    assert_same_bits(found[finite], np.atleast_1d(expected)[finite])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("min.f32", [1, 1, 1, NAN]),
        ("max.f32", [2, 1, 1, NAN]),
        ("min.NaN.f32", [1, NAN, NAN, NAN]),
        ("max.NaN.f32", [2, NAN, NAN, NAN]),
    ],
)
def test_minimum_and_maximum_return_the_number_or_with_the_mode_nan_the_nan(name, expected):
    found = run_lanes(f"{name} {{d}}, {{a}}, {{b}};", f32(1, 1, NAN, NAN), f32(2, NAN, 1, NAN), dtype=np.float32)
    np.testing.assert_array_equal(found, f32(*expected))


# Conversions


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        (np.int32, [1, -1, 0, 2**31 - 1, -(2**31), 2**31 - 1, -(2**31), 0]),
        (np.uint32, [1, 0, 0, 2**32 - 1, 0, 2**32 - 1, 0, 0]),
        # The PTX ISA says 1 << 63 for NaN, see the emulator's docstring.
        (np.int64, [1, -1, 0, 2**63 - 1, -(2**63), 10**10, -(10**10), 0]),
    ],
)
def test_float_to_integer_rounds_towards_zero_and_clamps(to, expected):
    to = np.dtype(to)
    values = f32(1.99, -1.99, -0.5, INF, -INF, 1e10, -1e10, NAN)
    found = run_lanes(f"cvt.rzi.{to.kind.replace('i', 's')}{8 * to.itemsize}.f32 {{d}}, {{a}};", values, dtype=to)
    np.testing.assert_array_equal(found, np.array(expected, to))


def test_largest_floats_inside_the_range_of_an_integer_are_exact():
    values = np.nextafter(f32(2**31, -(2**31)), f32(0))
    found = run_lanes("cvt.rzi.s32.f32 {d}, {a};", values, dtype=np.int32)
    np.testing.assert_array_equal(found, [2**31 - 128, -(2**31) + 128])


@pytest.mark.parametrize(
    ("instruction", "values", "expected"),
    [
        # 2^24 + 1 is between two floats and goes to the even one.
        ("cvt.rn.f32.s32", s32(2**24 + 1, 2**24 + 3, -7), f32(2**24, 2**24 + 4, -7)),
        ("cvt.rn.f32.u32", u32(2**32 - 1, 5), f32(2**32, 5)),
    ],
)
def test_integer_to_float_rounds_to_nearest_even(instruction, values, expected):
    assert_same_bits(run_lanes(f"{instruction} {{d}}, {{a}};", values, dtype=np.float32), expected)


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("cvt.rmi.ftz.f32.f32", f32(1, -2, 0, -0.0, INF, NAN)),
        ("cvt.rpi.ftz.f32.f32", f32(2, -1, 0, -0.0, INF, NAN)),
    ],
)
def test_floor_and_ceiling_flush_subnormal_numbers_and_keep_their_sign(instruction, expected):
    values = f32(1.5, -1.5, SUBNORMAL, -SUBNORMAL, INF, NAN)
    found = run_lanes(f"{instruction} {{d}}, {{a}};", values, dtype=np.float32)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found[:4]), np.signbit(expected[:4]))


def test_integers_are_extended_by_their_sign_or_by_zeros_and_cut():
    values = s32(-1, 5)
    np.testing.assert_array_equal(run_lanes("cvt.s64.s32 {d}, {a};", values, dtype=np.int64), [-1, 5])
    np.testing.assert_array_equal(run_lanes("cvt.u64.u32 {d}, {a};", values, dtype=np.int64), [2**32 - 1, 5])
    wide = s64(-(2**40) + 3, 2**35 + 9)
    np.testing.assert_array_equal(run_lanes("cvt.u32.u64 {d}, {a};", wide, dtype=np.uint32), [3, 9])


# Integers


@pytest.mark.parametrize(
    ("instruction", "inputs", "expected"),
    [
        ("add.s32 {d}, {a}, {b};", (s32(2**31 - 1, -5), s32(1, 3)), s32(-(2**31), -2)),
        ("sub.s64 {d}, {a}, {b};", (s64(-(2**63), 2**40), s64(1, 1)), s64(2**63 - 1, 2**40 - 1)),
        ("mul.lo.s32 {d}, {a}, {b};", (s32(2**16 + 1, -3), s32(2**16, 7)), s32(2**16, -21)),
        ("mul.lo.s64 {d}, {a}, {b};", (s64(2**33), s64(-3)), s64(-3 * 2**33)),
        ("mul.wide.s32 {d}, {a}, {b};", (s32(-(2**31)), s32(2**31 - 1)), s64(-(2**31) * (2**31 - 1))),
        ("mul.wide.u32 {d}, {a}, {b};", (u32(2**32 - 1), u32(2**32 - 1)), np.uint64((2**32 - 1) ** 2)),
        ("mul.hi.s32 {d}, {a}, {b};", (s32(-7, 2**31 - 1), s32(2**30, 4)), s32(-2, 1)),
        ("mul.hi.u32 {d}, {a}, {b};", (u32(2**32 - 1), u32(2**32 - 1)), u32(2**32 - 2)),
        ("mad.lo.s32 {d}, {a}, {b}, {c};", (s32(3), s32(-4), s32(5)), s32(-7)),
        ("mad.wide.u32 {d}, {a}, 8, {b};", (u32(2**31), s64(2**40)), s64(2**34 + 2**40)),
        ("div.s32 {d}, {a}, {b};", (s32(7, -7, 7, -7, -(2**31), 6), s32(2, 2, -2, -2, 2, -3)),
         s32(3, -3, -3, 3, -(2**30), -2)),
        ("min.s32 {d}, {a}, {b};", (s32(-1, 4), s32(1, 9)), s32(-1, 4)),
        ("min.u32 {d}, {a}, {b};", (s32(-1, 4), s32(1, 9)), s32(1, 4)),
        ("max.u32 {d}, {a}, {b};", (s32(-1, 4), s32(1, 9)), s32(-1, 9)),
        ("neg.s32 {d}, {a};", (s32(5, -(2**31)),), s32(-5, -(2**31))),
        ("not.b32 {d}, {a};", (s32(0, 5),), s32(-1, -6)),
        ("xor.b32 {d}, {a}, 0xFF;", (s32(0b1010),), s32(0xF5)),
        ("or.b64 {d}, {a}, {b};", (s64(2**40), s64(3)), s64(2**40 + 3)),
        ("bfe.u32 {d}, {a}, 4, 8;", (u32(0xABCD),), u32(0xBC)),
        ("bfe.u32 {d}, {a}, 0, 32;", (u32(2**32 - 1),), u32(2**32 - 1)),
        ("add.s32 {d}, {a}, -3;", (s32(1),), s32(-2)),
    ],
)  # fmt: skip
def test_integer_arithmetic_wraps_around(instruction, inputs, expected):
    expected = np.atleast_1d(expected)
    assert_same_bits(run_lanes(instruction, *inputs, dtype=expected.dtype), expected)


@pytest.mark.parametrize(
    ("instruction", "value", "expected"),
    [
        ("shl.b32", s32(-1), [-1, -2, -(2**31), 0, 0]),
        ("shr.u32", s32(-1), [-1, 2**31 - 1, 1, 0, 0]),
        ("shr.s32", s32(-4), [-4, -2, -1, -1, -1]),
    ],
)
def test_shifts_beyond_the_width_leave_zeros_or_the_sign(instruction, value, expected):
    found = run_lanes(f"{instruction} {{d}}, {{a}}, {{b}};", value, u32(0, 1, 31, 32, 2**32 - 1), dtype=np.int32)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("shl.b64", [-4, -4 * 2**32, -(2**63), 0]),
        ("shr.s64", [-4, -1, -1, -1]),
        ("shr.u64", [-4, 2**32 - 1, 7, 0]),
    ],
)
def test_shifts_of_64_bits(instruction, expected):
    found = run_lanes(f"{instruction} {{d}}, {{a}}, {{b}};", s64(-4), u32(0, 32, 61, 64), dtype=np.int64)
    np.testing.assert_array_equal(found, expected)


def test_64_bit_register_is_split_into_its_halves():
    wide = s64(7 * 2**32 + 5)
    assert run_lanes("mov.b64 {{%r20, {d}}}, {a};", wide, dtype=np.int32) == 7
    assert run_lanes("mov.b64 {{{d}, _}}, {a};", wide, dtype=np.int32) == 5


# Predicates


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        ("eq.s32", [0, 1, 0]), ("ne.s32", [1, 0, 1]), ("lt.s32", [1, 0, 0]),
        ("le.s32", [1, 1, 0]), ("gt.s32", [0, 0, 1]), ("ge.s32", [0, 1, 1]),
        # As unsigned numbers the negative one is the larger.
        ("lt.u32", [0, 0, 0]), ("gt.u32", [1, 0, 1]),
    ],
)  # fmt: skip
def test_integers_are_compared_and_selected(comparison, expected):
    text = f"setp.{comparison} %p1, {{a}}, {{b}}; selp.b32 {{d}}, 1, 0, %p1;"
    np.testing.assert_array_equal(run_lanes(text, s32(-2, 3, 5), s32(1, 3, 4), dtype=np.int32), expected)


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        ("lt", [1, 0, 0, 0]), ("ltu", [1, 0, 1, 1]), ("ge", [0, 1, 0, 0]), ("geu", [0, 1, 1, 1]),
        ("eq", [0, 1, 0, 0]), ("ne", [1, 0, 0, 0]), ("neu", [1, 0, 1, 1]),
    ],
)  # fmt: skip
def test_comparison_with_nan_is_false_or_if_unordered_true(comparison, expected):
    text = f"setp.{comparison}.f32 %p1, {{a}}, {{b}}; selp.b32 {{d}}, 1, 0, %p1;"
    found = run_lanes(text, f32(1, 0.0, NAN, NAN), f32(2, -0.0, 1, NAN), dtype=np.int32)
    np.testing.assert_array_equal(found, expected)


def test_instructions_with_a_predicate_change_the_threads_where_it_holds():
    text = "setp.lt.s32 %p1, {a}, 2; mov.u32 {d}, 9; @%p1 mov.u32 {d}, 5; @!%p1 add.s32 {d}, {d}, {a};"
    np.testing.assert_array_equal(run_lanes(text, s32(0, 1, 2, 3), dtype=np.int32), [5, 5, 11, 12])


def test_predicates_are_combined():
    text = """setp.lt.s32 %p1, {a}, 2; setp.ge.s32 %p2, {a}, 1; and.pred %p3, %p1, %p2; xor.pred %p4, %p3, -1;
        selp.b32 {d}, 1, 0, %p4;"""
    np.testing.assert_array_equal(run_lanes(text, s32(0, 1, 2), dtype=np.int32), [1, 0, 1])


# Control flow


def test_threads_diverge_and_reconverge():
    # Both sides of the branch meet before the reduction, which needs the whole warp.
    text = """setp.lt.u32 %p1, %r1, 7; @%p1 bra $THEN; mov.u32 %r2, 1; bra.uni $JOIN; $THEN: mov.u32 %r2, 100; $JOIN:
        redux.sync.add.s32 {d}, %r2, -1;"""
    np.testing.assert_array_equal(run_lanes(text, s32(0), dtype=np.int32), 7 * 100 + 25)


def test_every_thread_leaves_a_loop_at_its_own_iteration():
    text = """mov.u32 {d}, 0; mov.u32 %r2, 0; $LOOP: setp.ge.u32 %p1, %r2, {a}; @%p1 bra $END;
        add.s32 {d}, {d}, %r2; add.s32 %r2, %r2, 1; bra $LOOP; $END:"""
    count = np.arange(WARP, dtype=np.uint32)
    np.testing.assert_array_equal(run_lanes(text, count, dtype=np.uint32), count * (count - 1) // 2)


def test_threads_may_end_before_others():
    result = np.zeros(WARP, np.int32)
    text = "setp.lt.u32 %p1, %r1, 5; @%p1 ret; mad.wide.u32 %rd2, %r1, 4, %rd1; st.global.b32 [%rd2], %r1;"
    run(launch(text), [], [result])
    np.testing.assert_array_equal(result, np.where(np.arange(WARP) < 5, 0, np.arange(WARP)))


def test_warps_count_an_instruction_once_and_once_more_for_each_side_of_a_branch():
    text = """setp.lt.u32 %p1, %r1, 40; @%p1 bra $L; neg.s32 %r2, %r1; $L: not.b32 %r2, %r1;
        @%p1 abs.s32 %r2, %r1;"""
    executed = run(launch(text, threads=128), [], [np.zeros(1, np.int32)])
    # The branch is taken by all of warp 0 and by part of warp 1.
    assert executed["setp.lt.u32"] == executed["bra"] == executed["not.b32"] == executed["abs.s32"] == 4
    assert executed["neg.s32"] == 3
    assert executed["ret"] == 4


def test_programs_know_their_number_also_if_they_do_not_all_run_side_by_side():
    programs = 150
    result = np.zeros((programs, 2), np.int32)
    text = """mov.u32 %r2, %ctaid.x; mov.u32 %r3, %nctaid.x; mad.wide.u32 %rd2, %r2, 8, %rd1;
        st.global.v2.b32 [%rd2], {%r2, %r3};"""
    run(launch(text, programs=programs), [], [result])
    np.testing.assert_array_equal(result, np.stack([np.arange(programs), np.full(programs, programs)], axis=1))


# Warps


@pytest.mark.parametrize(
    ("operands", "source"),
    [
        ("bfly.b32 {d}, {a}, 5, 31", np.arange(WARP) ^ 5),
        ("idx.b32 {d}, {a}, 9, 31", np.full(WARP, 9)),
        # Lanes that have no source keep their own value.
        ("up.b32 {d}, {a}, 3, 0", np.where(np.arange(WARP) < 3, np.arange(WARP), np.arange(WARP) - 3)),
    ],
)
def test_shuffles_exchange_values_within_each_warp(operands, source):
    values = np.arange(2 * WARP, dtype=np.int32) * 10
    found = run_lanes(f"shfl.sync.{operands}, -1;", values, dtype=np.int32, threads=2 * WARP)
    np.testing.assert_array_equal(found, np.concatenate([values[source], values[WARP + source]]))


@pytest.mark.parametrize(("name", "function"), [("add", np.sum), ("max", np.max), ("min", np.min)])
def test_reductions_give_every_lane_the_result_of_its_warp(name, function):
    values = np.random.default_rng(0).integers(-9, 9, 2 * WARP).astype(np.int32)
    found = run_lanes(f"redux.sync.{name}.s32 {{d}}, {{a}}, -1;", values, dtype=np.int32, threads=2 * WARP)
    np.testing.assert_array_equal(found, np.repeat([function(values[:WARP]), function(values[WARP:])], WARP))


# Shared memory and barriers

# %r2 is the address of the thread's own word, %r4 that of a thread of another warp; %rd2 is its element of the result.
ADDRESSES = """shl.b32 %r2, %r1, 2; xor.b32 %r4, %r2, 128; setp.lt.u32 %p1, %r1, 7; mad.wide.u32 %rd2, %r1, 4, %rd1;"""


def run_warps(text, programs=1):
    """Runs instructions after `ADDRESSES` in programs of two warps. Returns the result, one element per thread."""
    result = np.zeros(2 * WARP, np.int32)
    run(launch(ADDRESSES + text, threads=2 * WARP, programs=programs, shared_bytes=256), [], [result])
    return result


def test_barrier_lets_warps_exchange_values_through_shared_memory():
    text = "st.shared.b32 [%r2], %r1; bar.sync 0; ld.shared.b32 %r3, [%r4]; st.global.b32 [%rd2], %r3;"
    np.testing.assert_array_equal(run_warps(text), np.arange(2 * WARP) ^ 32)


def test_programs_have_shared_memory_of_their_own():
    result = np.zeros((3, 2 * WARP), np.int32)
    text = """mov.u32 %r5, %ctaid.x; mad.lo.s32 %r6, %r5, 64, %r1; st.shared::cta.b32 [%r2], %r6; bar.sync 0;
        ld.shared.b32 %r3, [%r4]; mad.wide.u32 %rd3, %r5, 256, %rd2; st.global.b32 [%rd3], %r3;"""
    run(launch(ADDRESSES + text, threads=2 * WARP, programs=3, shared_bytes=256), [], [result])
    np.testing.assert_array_equal(result, (np.arange(3 * 2 * WARP) ^ 32).reshape(3, -1))


def test_uninitialized_shared_memory_has_all_bits_set():
    np.testing.assert_array_equal(run_warps("ld.shared.b32 %r3, [%r2]; st.global.b32 [%rd2], %r3;"), -1)


def test_barrier_works_without_shared_memory():
    run(launch("bar.sync 0;", shared_bytes=0, programs=2), [], [np.zeros(1, np.int32)])


def test_vectors_are_loaded_and_stored():
    result = np.zeros((WARP, 4), np.int32)
    text = """shl.b32 %r2, %r1, 4; neg.s32 %r3, %r1; st.shared.v4.b32 [%r2], {%r1, %r3, 7, %r1};
        ld.shared.v2.b64 {%rd3, %rd4}, [%r2]; mad.wide.u32 %rd2, %r1, 16, %rd1; st.global.b64 [%rd2+8], %rd3;
        st.global.b64 [%rd2], %rd4;"""
    run(launch(text), [], [result])
    lane = np.arange(WARP)
    np.testing.assert_array_equal(result, np.stack([np.full(WARP, 7), lane, lane, -lane], axis=1))


def test_matrices_are_loaded_by_rows_whose_addresses_some_lanes_hold():
    # Lane i writes word i; the row at the address of lane i / 4 starts at word i - i % 4.
    text = """shl.b32 %r2, %r1, 2; st.shared.b32 [%r2], %r1; bar.warp.sync -1; shl.b32 %r3, %r1, 4;
        and.b32 %r3, %r3, 127; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{{d}}}, [%r3];"""
    found = run_lanes(text, np.zeros(WARP, np.int32), dtype=np.int32)
    np.testing.assert_array_equal(found, np.arange(WARP))


# Atomics


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("add.f32", np.float32, WARP * 2.5),
        ("add.u64", np.uint64, WARP * (2**63 + 1) % 2**64),
        ("max.s32", np.int32, -2),
        ("max.u64", np.uint64, 2**63 + 1),
    ],
)
def test_atomics_of_a_warp_on_one_address_all_count(name, dtype, expected):
    values = np.full(WARP, {np.float32: 2.5, np.uint64: 2**63 + 1, np.int32: -2}[dtype], dtype)
    if dtype == np.int32:
        values[5:] = -9
    result = np.full(1, -5 if dtype == np.int32 else 0, dtype)
    bits, prefix = 8 * values.itemsize, "%r" if values.itemsize == 4 else "%rd"
    text = f"""mad.wide.u32 %rd3, %r1, {values.itemsize}, %rd1; ld.global.b{bits} {prefix}9, [%rd3];
        red.global.gpu.relaxed.{name} [%rd2], {prefix}9;"""
    run(launch(text, arrays=2), [values], [result])
    assert result[0] == dtype(expected)


def test_atomics_of_all_programs_count_and_do_not_return_the_previous_value():
    results = [np.zeros(1, np.int32), np.zeros(WARP, np.int32)]
    text = """atom.global.gpu.relaxed.add.s32 %r3, [%rd1], 1; mad.wide.u32 %rd3, %r1, 4, %rd2;
        st.global.b32 [%rd3], %r3;"""
    run(launch(text, arrays=2, programs=200), [], results)
    assert results[0] == 200 * WARP
    np.testing.assert_array_equal(results[1], -1)


# Errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Races: barriers are missing, or threads disagree.
        ("st.shared.b32 [%r2], %r1; ld.shared.b32 %r3, [%r4];", "reads shared memory that another wrote"),
        ("ld.shared.b32 %r3, [%r4]; st.shared.b32 [%r2], %r1;", "writes shared memory that another uses"),
        ("ld.shared.b32 %r3, [0]; @%p1 st.shared.b32 [%r2], %r1;", "writes shared memory that another uses"),
        ("st.shared.b32 [%r2], %r1; st.shared.b32 [%r4], %r2;", "writes shared memory that another uses"),
        ("st.shared.b32 [global_smem], %r1;", "different values|no barrier"),
        # Addresses.
        ("st.shared.b32 [%r2+4], %r1;", "outside of the program's shared memory"),
        ("ld.shared.b32 %r3, [%r2+-4];", "outside of the program's shared memory"),
        ("ld.shared.b32 %r3, [%r2+2];", "not a multiple of 4"),
        ("st.global.b32 [%rd2+4], %r1;", "outside of the results"),
        ("ld.global.b32 %r3, [%rd2+4];", "outside of the arrays"),
        ("ld.global.b32 %r3, [%rd2+-4];", "outside of the arrays"),
        ("mov.b64 %rd3, -16384; ld.global.b32 %r3, [%rd3];", "outside of the arrays"),
        ("ld.global.b32 %r3, [%rd2+2];", "not a multiple of 4"),
        ("ld.global.v2.b32 {%r3, %r4}, [%rd2+-4];", "not a multiple of 8"),
        ("red.global.gpu.relaxed.add.f32 [%rd2+4], %r1;", "outside of the results"),
        ("red.global.gpu.relaxed.add.f32 [%rd2+2], %r1;", "not a multiple of 4"),
        # Exchanges with lanes that are absent.
        ("@%p1 shfl.sync.bfly.b32 %r3, %r1, 1, 31, -1;", "not all of the warp are active"),
        ("@%p1 redux.sync.add.s32 %r3, %r1, -1;", "not all of the warp are active"),
        ("@%p1 bar.warp.sync -1;", "not all of the warp are active"),
        ("div.s32 %r3, %r2, %r1;", "divided by zero"),
    ],
)
def test_faults_of_kernels_are_errors_that_quote_the_instruction(text, message):
    with pytest.raises(GpuError, match=message) as caught:
        run_warps(text)
    (note,) = caught.value.__notes__
    assert note.removeprefix("PTX instruction: ") in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@%p1 bar.sync 0;", "others of their program have ended"),
        ("@%p1 bra $L; bar.sync 0; bra $M; $L: bar.sync 0; $M:", "different barriers"),
    ],
)
def test_barrier_that_not_all_threads_reach_is_an_error(text, message):
    with pytest.raises(GpuError, match=message):
        run_warps(text)


@pytest.mark.parametrize(
    "text",
    [
        # Two warps read the same word; a warp uses its own words; several write what is there already.
        "ld.shared.b32 %r3, [0];",
        "st.shared.b32 [%r2], %r1; ld.shared.b32 %r3, [%r2]; st.shared.b32 [%r2], %r2;",
        "st.shared.b32 [0], 7; st.shared.b32 [0], 7;",
        "ld.shared.b32 %r3, [%r4]; bar.sync 0; st.shared.b32 [%r2], %r1; bar.sync 0; st.shared.b32 [%r4], %r2;",
    ],
)
def test_accesses_that_are_not_races_pass(text):
    run_warps(text, programs=2)


def test_operands_cannot_be_written():
    with pytest.raises(GpuError, match="outside of the results"):
        run(launch("st.global.b32 [%rd1], %r1;", arrays=2), [np.zeros(4, np.int32)], [np.zeros(4, np.int32)])


@pytest.mark.parametrize(
    "instruction",
    [
        "fma.rn.f32 %r2, %r1, %r1, %r1;",
        "mad.rn.f32 %r2, %r1, %r1, %r1;",
        "add.rz.f32 %r2, %r1, %r1;",
        "add.f64 %rd2, %rd1, %rd1;",
        "mul.hi.u64 %rd2, %rd1, %rd1;",
        "mul.s32 %r2, %r1, %r1;",
        "add.pred %p1, %p1, %p1;",
        "add.s32 %r2, %rd1, %r1;",
        "cvt.rni.s32.f32 %r2, %r1;",
        "cvt.rmi.f32.f32 %r2, %r1;",
        "cvt.rn.s32.f32 %r2, %r1;",
        "setp.nan.f32 %p1, %r1, %r1;",
        "setp.lt.and.s32 %p1, %r1, %r1, %p2;",
        "mov.u32 %r2, %laneid;",
        "mov.b64 %rd2, {%r1, %r1};",
        "shfl.sync.down.b32 %r2, %r1, 1, 31, -1;",
        "shfl.sync.bfly.b32 %r2, %r1, 1, 0x1c1f, -1;",
        "redux.sync.and.b32 %r2, %r1, -1;",
        "ld.local.b32 %r2, [%rd1];",
        "ld.global.s8 %r2, [%rd1];",
        "red.shared.gpu.relaxed.add.f32 [%r2], %r1;",
        "atom.global.gpu.relaxed.cas.b32 %r2, [%rd1], %r1;",
        "bar.sync 1, 32;",
        "ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%r2}, [%r1];",
        "trap;",
    ],
)
def test_unknown_instruction_is_an_error_that_quotes_it(instruction):
    with pytest.raises(NotImplementedError, match="The PTX emulator does not support") as caught:
        run(launch(instruction), [], [np.zeros(1, np.int32)])
    assert instruction in str(caught.value)


# Launches


def protocol_buffer(*fields):
    """Serializes numbers, bytes, texts, floats and nested messages, given as pairs of field number and value."""
    message = b""
    for number, value in fields:
        if isinstance(value, int):
            message += varint(number << 3) + varint(value)
        elif isinstance(value, np.float32):  # pyright: ignore[reportArgumentType]: it is a class
            message += varint(number << 3 | 5) + value.tobytes()
        else:
            value = value.encode() if isinstance(value, str) else value
            message += varint(number << 3 | 2) + varint(len(value)) + value
    return message


def varint(value):
    value &= 2**64 - 1
    groups = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


def launch_message(*fields):
    kernel = protocol_buffer((1, "k"), (2, 4), (3, 300), (4, "code"))
    return protocol_buffer((1, protocol_buffer((1, kernel), *fields)))


def test_launch_is_read_from_its_protocol_buffer():
    parameters = [(1, b""), (1, protocol_buffer((1, 640))), (3, -2), (4, 7), (5, -(2**40)), (7, np.float32(0.5))]
    message = launch_message((2, 1000), *((5, protocol_buffer(parameter)) for parameter in parameters))
    assert read_launch(message) == Launch(
        name="k",
        code="code",
        warps=4,
        shared_bytes=300,
        programs=1000,
        parameters=(
            ("array", 0),
            ("array", 640),
            ("u32", 2**32 - 2),
            ("u32", 7),
            ("u64", 2**64 - 2**40),
            ("f32", 0.5),
        ),
    )


def test_launch_of_another_shape_is_an_error():
    with pytest.raises(NotImplementedError, match="grids of one dimension"):
        read_launch(launch_message((2, 8), (3, 2)))
    with pytest.raises(NotImplementedError, match="parameters of kind 8"):
        read_launch(launch_message((5, protocol_buffer((8, b"")))))


def with_parameters(*parameters, types=("u64",), text="", **options):
    parts = ",\n".join(f".param .{kind} k_param_{i}" for i, kind in enumerate((*types, "u64", "u64")))
    code = f".visible .entry k(\n{parts}\n)\n.reqntid 32\n{{\n{text}\nret;\n}}"
    return Launch("k", code, **({"warps": 1, "shared_bytes": 0, "programs": 1} | options), parameters=parameters)


def test_parameters_reach_the_kernel_in_order():
    text = """ld.param.b64 %rd1, [k_param_2];\nld.param.b32 %r1, [k_param_0];\nld.param.b64 %rd2, [k_param_1];
st.global.b32 [%rd1], %r1;\nst.global.b64 [%rd1+8], %rd2;"""
    kernel = with_parameters(("f32", 0.5), ("u64", 2**63 + 1), ("array", 0), types=("f32", "u64", "u64"), text=text)
    result = np.zeros(2, np.uint64)
    run(kernel, [], [result])
    np.testing.assert_array_equal(result, np.array([np.float32(0.5).view(np.uint32), 2**63 + 1], np.uint64))


def test_results_keep_their_contents_unless_the_launch_clears_them():
    for cleared, expected in ((0, 7), (12, 0)):
        result = np.full(3, 7, np.int32)
        run(with_parameters(("array", cleared)), [], [result])
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("parameters", "options", "message"),
    [
        ((("array", 4),), {}, "clears 4 bytes of an array of 12"),
        ((("array", 0),), {"warps": 2}, "for 32 threads, and the launch has 64"),
        ((("u64", 0),), {}, "more arrays than"),
        ((("array", 0), ("u32", 3)), {}, "has parameters of the types"),
        ((("array", 0),), {"types": ("u32",)}, "has parameters of the types"),
    ],
)
def test_launch_that_does_not_fit_its_kernel_is_an_error(parameters, options, message):
    with pytest.raises(GpuError, match=message):
        run(with_parameters(*parameters, **options), [], [np.zeros(3, np.int32)])


def test_code_without_the_kernel_is_an_error():
    with pytest.raises(NotImplementedError, match="has no entry other"):
        run(Launch("other", launch("").code, 1, 0, 1, (("array", 0),)), [], [np.zeros(1, np.int32)])
