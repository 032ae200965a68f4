"""How an op is declared: its operands, its result, who can run it, and how a batch is divided over devices.

To read one op from the public function to the instructions, open its folder, for example `jnr/_ops/edge_sweep/`:
`__init__.py` has the public function, its checks and its declaration; `definition.py` computes the op in plain JAX and
is the reference for every other implementation; `README.md` derives it; `kernels.inc` holds the C++ kernels and
`binding.cc` what XLA calls. `triton_kernels/edge_sweep.py` holds the GPU kernel and its launch function, and
`tests/ops/edge_sweep/` the tests. `declare` has a worked example of a new op.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from jnr._backend import has_triton, interpreted, load_launch_function, warn_of_missing_triton
from jnr._ops import cpp
from jnr._ops.batching import batch_size, fold_batch, has_symbolic_batch, item_by_item
from jnr._ops.devices import abstract_result, device_count, divided, require_devices

FLOATS = ("float32", "float64")


@dataclasses.dataclass(frozen=True)
class Cpp:
    """The C++ kernel of an op: the custom call `jnr_<op>_<dtype>`.

    Attributes:
        dtypes: Number types that it is compiled for, by the first operand's.
        attributes: The call's attributes from the op's parameters.
    """

    dtypes: tuple[str, ...] = FLOATS
    attributes: Callable[..., dict[str, Any]] = lambda **_: {}


@dataclasses.dataclass(frozen=True)
class Triton:
    """The Triton kernel of an op.

    Attributes:
        file: Module in `triton_kernels/` that has the launch function. The function has the op's name, the
            definition's signature and its result.
        default: Whether `backend=None` takes it on NVIDIA GPUs. Without it XLA's code is taken there, which is fused
            with its neighbours.
    """

    file: str
    default: bool = True


@dataclasses.dataclass(frozen=True)
class Op:
    """A declared op; see `declare`."""

    name: str
    definition: Callable[..., jax.Array]
    result: Callable[..., tuple[tuple[int, ...], Any]]
    cpp: Cpp | None
    triton: Triton | None
    definition_only: bool
    on_gpu: Callable[..., jax.Array] | None

    def result_type(self, *operands: Any, **params: Any) -> tuple[tuple[int, ...], Any]:
        """Shape and dtype of the result, batch axis included."""
        shape, dtype = self.result(*operands, **params)
        return (params.get("sums", batch_size(operands)), *shape), dtype


def declare(
    definition: Callable[..., jax.Array],
    result: Callable[..., tuple[tuple[int, ...], Any]],
    *,
    cpp: Cpp | None = None,
    triton: Triton | None = None,
    definition_only: bool = False,
    on_gpu: Callable[..., jax.Array] | None = None,
) -> Primitive:
    """Declares an op as a JAX primitive with a batch axis of its own.

    Every operand has a leading batch axis, of one size or of size 1 where all items share the operand. `vmap` of any
    depth folds the mapped axes of every operand into that axis, so a batch is one call. An operand that no `vmap` maps
    keeps its size of 1 and is not copied. The result's batch is the operands'. An op with a parameter `sums` returns
    that many sums instead, each over consecutive items of the batch: the cotangent of a shared operand is one sum.

    `primitive.bind(*operands, backend=..., **params)` runs the op. A backend that is named runs or raises
    NotImplementedError; `backend=None` chooses by platform and falls back to the definition.

    A batch that is divided over devices stays divided: each device runs the op on its part, whatever the backend.

    Args:
        definition: The op in plain JAX. Its name is the op's. Keyword arguments are the op's parameters. It creates no
            array constants, which JAX's `custom_partitioning` refuses.
        result: Shape without the batch axis, and dtype, of the result, from the operands and the parameters.
        cpp: The C++ kernel for CPUs, if there is one.
        triton: The Triton kernel for NVIDIA GPUs, if there is one.
        definition_only: Whether the op is plain JAX on every backend. Its parameter `backend` then only reaches the
            ops of its derivatives.
        on_gpu: The op as a composition of other ops, in place of a Triton kernel: elementwise code that XLA fuses with
            its neighbours, to which a kernel would only add a launch. It has a parameter `backend` for those ops.

    Example: a new op that scales an image, `scaled[r, c] = image[r, c] * factor`.

        1. `jnr/_ops/scale/definition.py`, with a test against a closed form in `tests/ops/scale/`:

            def scale(image, factor):
                # (1 or batch, height, width) and (1 or batch, 1) -> (batch, height, width)
                return image * factor[..., None]

        2. `jnr/_ops/scale/__init__.py`, the declaration and the function that callers use:

            scale_p = declare(
                definition.scale,
                lambda image, factor, **_: (image.shape[1:], image.dtype),
                cpp=Cpp(),
                triton=Triton("scale"),
            )

            def scale(image, factor, *, backend=None):
                return scale_p.bind(image[None], factor[None], backend=backend)[0]

        3. `jnr/_ops/scale/kernels.inc` and `binding.cc`: a custom call named `jnr_scale_float32` with the operands in
           this order, listed in `pyproject.toml` and `jnr/_ops/cpp/kernels.cc`. A parameter reaches it through
           `Cpp(attributes=...)`.
        4. `triton_kernels/scale.py`: a kernel, and a launch function `scale(image, factor)`.
        5. Derivatives: `jax.interpreters.ad.primitive_jvps[scale_p]` and `primitive_transposes[scale_p]`; see
           `jnr/_ops/gather/`.
        6. Tests that run every backend on the scenes of `tests/ops/scenes.py`, and a row in `benchmarks/`.
    """
    op = Op(definition.__name__, definition, result, cpp, triton, definition_only, on_gpu)
    primitive = Primitive(f"jnr_{op.name}")

    @functools.cache
    def compiled(params):
        return jax.jit(functools.partial(primitive.bind, **dict(params)))

    def run(*operands, **params):
        # Outside of `jit`, also under `jax.disable_jit`, which would bind the primitive again without end.
        with jax.disable_jit(False):
            return compiled(tuple(sorted(params.items())))(*operands)

    require_devices(primitive)
    primitive.def_abstract_eval(
        lambda *operands, **params: abstract_result(operands, *op.result_type(*operands, **params))
    )
    primitive.def_impl(run)
    for platform in (None, "cpu", "cuda"):
        mlir.register_lowering(primitive, functools.partial(_lower, op, platform), platform=platform)
    batching.primitive_batchers[primitive] = functools.partial(fold_batch, primitive)
    return primitive


def _implementation(op, platform, backend, operands):
    """The function that runs an op on a platform, by the rules that `declare` states."""
    if op.definition_only or backend == "xla":
        return op.definition
    if op.on_gpu and (backend == "interpret" or (platform == "cuda" and backend != "cpu")):
        return functools.partial(op.on_gpu, backend=backend)
    if backend == "interpret":
        if op.triton is None:
            raise NotImplementedError(_no_kernel(op, backend, "Triton"))
        return functools.partial(_interpret, op)
    if backend == "cpu" or (backend is None and platform == "cpu" and op.cpp and cpp.library()):
        if op.cpp is None or operands[0].dtype not in op.cpp.dtypes:
            if backend is None:
                return op.definition
            raise NotImplementedError(_no_kernel(op, backend, f"C++ kernel for {operands[0].dtype}, or"))
        if platform != "cpu":
            raise NotImplementedError(_other_device(op, backend, "CPUs"))
        return functools.partial(_call_cpp, op)
    if backend == "triton" or (backend is None and platform == "cuda" and _triton_by_default(op, operands)):
        if platform != "cuda" and (op.triton or op.on_gpu):
            raise NotImplementedError(_other_device(op, backend, "NVIDIA GPUs"))
        if op.triton is None:
            raise NotImplementedError(_no_kernel(op, backend, "Triton"))
        return load_launch_function(op.triton.file, op.name)
    return op.definition


def _triton_by_default(op, operands):
    # The kernels compute in float32. Other number types keep their precision in plain JAX.
    floats = [x.dtype for x in operands if jnp.issubdtype(x.dtype, jnp.inexact)]
    if op.triton is None or not op.triton.default or any(d != jnp.float32 for d in floats):
        return False
    if not has_triton():
        warn_of_missing_triton()
        return False
    return True


def _no_kernel(op, backend, kind):
    return f'{op.name} has no {kind} kernel, which backend="{backend}" asks for. Use backend=None or "xla".'


def _other_device(op, backend, devices):
    return (
        f'backend="{backend}" runs on {devices} only, and {op.name} is being compiled for another device. Use '
        'backend=None or "xla".'
    )


def _interpret(op, *operands, **params):
    with interpreted():
        return load_launch_function(op.triton.file, op.name)(*operands, **params)


def _call_cpp(op, *operands, **params):
    shape, dtype = op.result_type(*operands, **params)
    target = cpp.target(op.name, operands[0].dtype.name)
    return jax.ffi.ffi_call(target, jax.ShapeDtypeStruct(shape, dtype))(*operands, **op.cpp.attributes(**params))


def _for_any_batch(op, backend):
    if backend not in (None, "xla"):
        raise NotImplementedError(
            f'{op.name} cannot run with backend="{backend}" on a batch of symbolic size (jax.export). Use '
            'backend="xla".'
        )
    return op.definition


def _broadcasting(function):
    """The function where a user has forbidden arrays of different ranks to meet, which concerns the user's own code."""

    def broadcasting(*operands, **params):
        with jax.numpy_rank_promotion("allow"):
            return function(*operands, **params)

    return broadcasting


def _lower(op, platform, context, *operands, backend, **params):
    # Without what the types say about a surrounding `shard_map`: an op sees one device's part.
    avals_in, avals_out = (
        [ShapedArray(aval.shape, aval.dtype) for aval in avals] for avals in (context.avals_in, context.avals_out)
    )
    context = context.replace(avals_in=avals_in, avals_out=avals_out)
    if has_symbolic_batch(avals_in):
        function = functools.partial(item_by_item, _broadcasting(_for_any_batch(op, backend)))
    else:
        function = _broadcasting(_implementation(op, platform, backend, avals_in))
    # Python callbacks, which run the interpreter, do not outlive the partitioning that makes them.
    devices = device_count(context)
    if devices > 1 and backend != "interpret":
        function = divided(function, avals_in, params, devices)
    else:
        function = functools.partial(function, **params)
    return mlir.lower_fun(function, multiple_results=False)(context, *operands)
