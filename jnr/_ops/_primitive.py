"""Primitives that carry a batch of their own, so that `vmap` of any depth is one call."""

import contextlib
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from jnr._backend import has_cpu_kernels, has_triton, interpreted, load_kernels


def batched_primitive(
    name: str,
    implementation: Callable[..., jax.Array],
    shape: Callable[..., tuple[tuple[int, ...], Any]],
    *,
    cpu: Callable[..., jax.Array] | None = None,
    kernels: tuple[str, str] | None = None,
    split: bool = True,
) -> Primitive:
    """A primitive whose operands all have a leading batch axis, of one size or of size 1 where shared.

    `vmap` folds the mapped axes of every operand into that axis. An operand that no `vmap` maps keeps its
    size of 1: it is neither copied nor repeated. The result's batch is the operands', or, where there is a parameter
    `sums`, that many sums over parts of it.

    Args:
        name: Shown in jaxprs.
        implementation: The op in plain JAX; keyword arguments are the primitive's parameters without `backend`.
        shape: Shape without the batch axis, and dtype, of the result from the operands' and the parameters.
        cpu: The op as kernels for the CPU, if there are any. An op that a backend has no kernels of is plain JAX there.
        kernels: File and name of the launch function that does the same with Triton kernels, if there are any.
        split: Whether a batch on several devices is split by what is said here; if not, XLA splits the plain JAX.
    """
    primitive = Primitive(name)

    def abstract(*operands, **params):
        result, dtype = shape(*operands, **params)
        return _result_type(operands, (params.get("sums", batch_size(operands)), *result), dtype)

    def anywhere(*operands, backend, **params):
        if (backend == "triton" and kernels) or (backend == "cpu" and cpu):
            device = "NVIDIA GPUs" if backend == "triton" else "CPUs"
            raise NotImplementedError(
                f'backend="{backend}" runs on {device} only, and {name} is being compiled for another device. Use '
                'backend=None or "xla", or "interpret" to try the Triton kernels without a GPU.'
            )
        if kernels and backend == "interpret":
            with interpreted():
                return load_kernels(*kernels)(*operands, **params)
        return implementation(*operands, **params)

    def on_cpu(*operands, backend, **params):
        if cpu and (backend == "cpu" or (backend is None and has_cpu_kernels())):
            return cpu(*operands, **params)
        return anywhere(*operands, backend=backend, **params)

    def cuda(*operands, backend, **params):
        # The kernels compute in float32; who did not ask for them gets other numbers from plain JAX.
        numbers = (x.dtype for x in operands if jnp.issubdtype(x.dtype, jnp.inexact))
        in_float32 = all(dtype == jnp.float32 for dtype in numbers)
        if kernels and (backend == "triton" or (backend is None and in_float32 and has_triton())):
            return load_kernels(*kernels)(*operands, **params)
        return anywhere(*operands, backend=backend, **params)

    @functools.cache
    def compiled(params):
        return jax.jit(functools.partial(primitive.bind, **dict(params)))

    _ask_for_devices(primitive)
    primitive.def_abstract_eval(abstract)
    primitive.def_impl(lambda *operands, **params: compiled(tuple(sorted(params.items())))(*operands))
    plain = None if split else implementation
    for function, platform in ((anywhere, None), (on_cpu, "cpu"), (cuda, "cuda")):
        mlir.register_lowering(primitive, functools.partial(_lower, function, plain), platform=platform)
    batching.primitive_batchers[primitive] = functools.partial(_batch, primitive)
    return primitive


def _result_type(operands, shape, dtype):
    """The result's type, which under `shard_map` says over which axes of the mesh it varies."""
    widest = max(operands, key=lambda operand: len(operand.manual_axis_type.varying))
    varying = widest.manual_axis_type
    if not all(operand.manual_axis_type.varying <= varying.varying for operand in operands):
        raise NotImplementedError(
            "The operands of jnr's ops vary over different axes of a shard_map, and no operand over all of them. Use "
            "jax.lax.pcast on one of them, or shard_map(..., check_vma=False)."
        )
    if any(axis is not None for operand in operands for axis in operand.sharding.spec):
        raise NotImplementedError(
            "jnr's ops do not work on arrays split over explicit axes of a mesh of devices. Make the axes automatic: "
            "jax.sharding.auto_axes(function, out_sharding=...), or jax.make_mesh(..., axis_types=...)."
        )
    if not varying.varying:
        return ShapedArray(shape, dtype)
    replicated = NamedSharding(widest.sharding.mesh, PartitionSpec(*(None for _ in shape)))
    return ShapedArray(shape, dtype, sharding=replicated, manual_axis_type=varying)


def vary_alike(*operands: jax.Array) -> list[jax.Array]:
    """Operands that vary over the same axes under `shard_map`, so that the gradient of a shared one is added up."""
    varying = [jax.typeof(operand).manual_axis_type.varying for operand in operands]
    missing = [tuple(frozenset().union(*varying) - own) for own in varying]
    return [
        jax.lax.pcast(operand, axes, to="varying") if axes else operand
        for operand, axes in zip(operands, missing, strict=True)
    ]


def _ask_for_devices(primitive):
    """Makes JAX say, when the primitive is lowered, which devices share the program; there is no public way."""
    with contextlib.suppress(ImportError, AttributeError):  # then sharded batches are gathered, the results the same
        from jax._src import dispatch

        dispatch.prim_requires_devices_during_lowering.add(primitive)


def _device_count(context):
    """How many devices share the program, 1 where that is unknown and where each has a program of its own."""
    return len(getattr(context.module_context.axis_context, "device_assignment", None) or (None,))


def _partitioned(function, operands):
    """A function whose batch may lie on several devices, each of which does its own part of it."""
    batch = batch_size(operands)

    def part(*arguments):
        # XLA asks for it in the middle of a compilation, when the caller's mesh with explicit axes may be set.
        with jax.sharding.use_abstract_mesh(AbstractMesh((), ())):
            return function(*arguments)

    def place(mesh, shapes, result):
        """The result keeps its batch where it is, with the operands' parts of it; all else is on every device."""
        axis = result.sharding.spec[0]
        places = [NamedSharding(mesh, PartitionSpec(axis if s.shape[0] == batch else None)) for s in shapes]
        return mesh, part, NamedSharding(mesh, PartitionSpec(axis)), tuple(places)

    # Shardy's rule: "b" is the batch; every other axis has a name of its own and is not split.
    names, terms, whole = (f"a{k}" for k in itertools.count()), [], []
    for operand in (*operands, jax.eval_shape(function, *operands)):
        own = [next(names) for _ in operand.shape]
        if operand.shape[0] == batch:
            own[0] = "b"
        whole += [name for name in own if name != "b"]
        terms.append(" ".join(own))
    split = custom_partitioning(part)
    split.def_partition(
        place, sharding_rule=f"{', '.join(terms[:-1])} -> {terms[-1]}", need_replication_factors=tuple(whole)
    )
    return split


def _lower(function, plain, context, *operands, **params):
    """Lowers a function in which nothing is said about a surrounding `shard_map`: it sees one device's part."""
    avals_in, avals_out = (
        [ShapedArray(aval.shape, aval.dtype) for aval in avals] for avals in (context.avals_in, context.avals_out)
    )
    context = context.replace(avals_in=avals_in, avals_out=avals_out)
    divided = _device_count(context) > 1
    if divided and plain is not None:
        function = functools.partial(plain, **{name: value for name, value in params.items() if name != "backend"})
    else:
        function = functools.partial(function, **params)
        # Python's callbacks, of which the interpreter is one, do not outlive the partitioning that makes them.
        if divided and params["backend"] != "interpret":
            function = _partitioned(function, avals_in)
    return mlir.lower_fun(function, multiple_results=False)(context, *operands)


def batch_size(operands) -> int:
    """The size of the operands' common batch axis."""
    return _common({operand.shape[0] for operand in operands})


def _common(sizes):
    sizes = sizes - {1}
    assert len(sizes) <= 1, sizes
    return sizes.pop() if sizes else 1


def _batch(primitive, operands, axes, **params):
    mapped = next(x.shape[a] for x, a in zip(operands, axes, strict=True) if a is not None)
    moved = [x if a is None else jnp.moveaxis(x, a, 0) for x, a in zip(operands, axes, strict=True)]
    is_mapped = [a is not None for a in axes]
    inner = _common({x.shape[1] if m else x.shape[0] for x, m in zip(moved, is_mapped, strict=True)})

    def fold(x, m):
        own = x.shape[1] if m else x.shape[0]
        if not m and own == 1:
            return x
        if not m:
            x = jnp.broadcast_to(x, (mapped, *x.shape))
        elif own != inner:
            x = jnp.broadcast_to(x, (mapped, inner, *x.shape[2:]))
        return x.reshape(mapped * inner, *x.shape[2:])

    if "sums" in params:
        params["sums"] *= mapped
    out = primitive.bind(*(fold(x, m) for x, m in zip(moved, is_mapped, strict=True)), **params)
    return out.reshape(mapped, out.shape[0] // mapped, *out.shape[1:]), 0
