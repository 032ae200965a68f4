"""Dataclasses that are registered as pytrees."""

import dataclasses
import typing

import jax


@typing.dataclass_transform(frozen_default=True)
def pytree(*, static: tuple[str, ...] = ()):
    """Class decorator: makes a frozen dataclass that is a pytree. Fields named in `static` are static metadata."""

    def register(cls):
        cls = dataclasses.dataclass(frozen=True)(cls)
        names = [field.name for field in dataclasses.fields(cls) if field.name not in static]
        return jax.tree_util.register_dataclass(cls, names, list(static))

    return register
