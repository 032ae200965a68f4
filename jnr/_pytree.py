"""Small classes that JAX can look into."""

import dataclasses
import typing

import jax


@typing.dataclass_transform(frozen_default=True)
def pytree(*, static: tuple[str, ...] = ()):
    """Makes a class a frozen dataclass and a pytree; the named fields are constants to JAX."""

    def register(cls):
        cls = dataclasses.dataclass(frozen=True)(cls)
        names = [field.name for field in dataclasses.fields(cls) if field.name not in static]
        return jax.tree_util.register_dataclass(cls, names, list(static))

    return register
