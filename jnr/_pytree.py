"""Dataclasses that are pytrees, and short representations of classes with arrays."""

import dataclasses
from collections.abc import Iterable
from typing import Any, dataclass_transform

import jax
import numpy as np
from jax.core import Tracer

# Arrays with at most so many elements are shown with their values.
SHOWN = 4


@dataclass_transform(frozen_default=True, eq_default=False)
def pytree(*, static: tuple[str, ...] = ()):
    """Makes a class a frozen dataclass and a pytree; the named fields are constants to JAX.

    Instances compare by identity, since arrays have no truth value. JAX rebuilds an instance without its constructor,
    so `__post_init__` checks what a user passes and never JAX's placeholders.
    """

    def register(cls):
        cls = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
        names = [field.name for field in dataclasses.fields(cls) if field.name not in static]

        def flatten_with_keys(instance):
            children = [(jax.tree_util.GetAttrKey(name), getattr(instance, name)) for name in names]
            return children, tuple(getattr(instance, name) for name in static)

        def flatten(instance):
            return [getattr(instance, name) for name in names], tuple(getattr(instance, name) for name in static)

        def unflatten(constants, children):
            instance = object.__new__(cls)
            for name, value in (*zip(names, children, strict=True), *zip(static, constants, strict=True)):
                object.__setattr__(instance, name, value)
            return instance

        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
        cls.__repr__ = lambda self: described(self, [field.name for field in dataclasses.fields(cls)])
        return cls

    return register


def described(instance: Any, names: Iterable[str]) -> str:
    """A representation with the shapes of arrays, and with the values of small ones."""
    fields = ", ".join(f"{name}={_value(getattr(instance, name))}" for name in names)
    return f"{type(instance).__name__}({fields})"


def _value(value):
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_value, value))})" if any(hasattr(item, "dtype") for item in value) else repr(value)
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):
        return repr(value)
    if value.size <= SHOWN and not isinstance(value, (Tracer, jax.ShapeDtypeStruct)):
        return str(np.asarray(value).tolist())
    return f"{np.dtype(value.dtype).name}[{','.join(map(str, value.shape))}]"
