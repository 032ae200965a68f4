"""How a batch is divided over devices: by `jit` on sharded arrays, or by `shard_map`."""

import contextlib
import functools
import itertools
import math

import jax
from jax import lax
from jax.core import ShapedArray
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from jnr._ops.batching import batch_size


def abstract_result(operands, shape, dtype):
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
            "jnr's ops do not work on arrays divided over explicit axes of a device mesh. Make the axes automatic: "
            "jax.sharding.auto_axes(function, out_sharding=...), or jax.make_mesh(..., axis_types=...)."
        )
    if not varying.varying:
        return ShapedArray(shape, dtype)
    replicated = NamedSharding(widest.sharding.mesh, PartitionSpec(*(None for _ in shape)))
    return ShapedArray(shape, dtype, sharding=replicated, manual_axis_type=varying)


def vary_alike(*operands: jax.Array) -> list[jax.Array]:
    """Operands that vary over the same axes under `shard_map`, so that the cotangent of a shared one is summed."""
    varying = [jax.typeof(operand).manual_axis_type.varying for operand in operands]
    missing = [tuple(frozenset().union(*varying) - own) for own in varying]
    return [
        jax.lax.pcast(operand, axes, to="varying") if axes else operand
        for operand, axes in zip(operands, missing, strict=True)
    ]


def require_devices(primitive):
    """Makes JAX say, when the primitive is lowered, which devices share the program; there is no public way."""
    with contextlib.suppress(ImportError, AttributeError):  # then divided batches are gathered, the results the same
        from jax._src import dispatch

        dispatch.prim_requires_devices_during_lowering.add(primitive)


def device_count(context):
    """How many devices share the program, 1 where that is unknown and where each has a program of its own."""
    return len(getattr(context.module_context.axis_context, "device_assignment", None) or (None,))


def divided(function, operands, params, devices):
    """A function of which each device computes its part of the batch."""
    batch = batch_size(operands)
    result = jax.eval_shape(functools.partial(function, **params), *operands)
    sums = result.shape[0]

    def place(mesh, shapes, result):
        """What a device computes, and where the operands and the result lie."""
        specs = [array.sharding.spec for array in (*shapes, result) if array.shape[0] == batch > 1]
        axis = next((spec[0] for spec in specs if spec and spec[0] is not None), None)
        names = (axis,) if isinstance(axis, str) else axis or ()
        parts = math.prod(mesh.shape[name] for name in names)
        if sums > 1 and sums % parts:
            axis, names, parts = None, (), 1
        own = params | ({"sums": max(sums // parts, 1)} if "sums" in params else {})

        def part(*arguments):
            # XLA calls it in the middle of a compilation, when the caller's mesh with explicit axes may be set.
            with jax.sharding.use_abstract_mesh(AbstractMesh((), ())):
                out = function(*arguments, **own)
            return lax.psum(out, names) if sums == 1 and parts > 1 else out

        divided = [NamedSharding(mesh, PartitionSpec(axis if array.shape[0] == batch else None)) for array in shapes]
        return mesh, part, NamedSharding(mesh, PartitionSpec(axis if sums > 1 else None)), tuple(divided)

    # Shardy's rule. The batch is "b", or "s" sums of "e" items each where the devices can share the sums evenly. Every
    # other axis has a name of its own and is not divided.
    sums_are_shared = 1 < sums < batch and sums % devices == 0
    operand_batch, result_batch = ("(s e)", "s") if sums_are_shared else ("b", "b" if sums == batch else "s")
    names, terms, whole = (f"a{k}" for k in itertools.count()), [], []
    for array, batch_term in (*((operand, operand_batch) for operand in operands), (result, result_batch)):
        own = [next(names) for _ in array.shape]
        if array is result or array.shape[0] == batch:
            own[0] = batch_term
        whole += [name for name in own if name.startswith("a") or (name == "s" and not sums_are_shared)]
        terms.append(" ".join(own))
    split = custom_partitioning(lambda *arguments: function(*arguments, **params))
    split.def_partition(
        place,
        sharding_rule=f"{', '.join(terms[:-1])} -> {terms[-1]}",
        need_replication_factors=tuple(whole),
        **({"e": batch // sums} if sums_are_shared else {}),
    )
    return split
