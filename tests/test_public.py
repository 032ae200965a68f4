"""Checks of what jnr makes public: its names, their docstrings and their annotations."""

import importlib
import inspect
import typing
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import jnr

MODULES = {"gradients", "io", "losses", "optim", "shapes", "viz"}
COMPAT = "jnr.compat.neural_renderer"
# Modules with public names besides jnr itself.
ANNOTATED = [
    "jnr",
    *sorted(f"jnr.{name}" for name in MODULES),
    "jnr.applications",
    "jnr.applications.deep_dream",
    "jnr.applications.features",
    "jnr.applications.style_transfer",
    "jnr.mujoco",
    COMPAT,
    f"{COMPAT}.chainer",
    f"{COMPAT}.optimizers",
]


def public_functions(module: ModuleType) -> Iterator[tuple[str, Callable]]:
    """Yields the public functions and classes of a module, and the public methods of the classes."""
    # A package's names come from its private modules; other modules' names are those they define.
    reexports = hasattr(module, "__path__") or module.__name__ == "jnr.gradients"
    for name, value in vars(module).items():
        home = getattr(value, "__module__", None) or ""
        public = callable(value) and not name.startswith("_")
        if public and (home.startswith("jnr.") if reexports else home == module.__name__):
            yield name, value
            yield from ((f"{name}.{method}", function) for method, function in public_methods(value))


def public_methods(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields the public methods and properties that a class defines, its constructor and its `__call__`."""
    for name, member in vars(value).items() if inspect.isclass(value) else ():
        function = member.fget if isinstance(member, property) else inspect.unwrap(getattr(member, "__func__", member))
        own = inspect.isfunction(function) and function.__qualname__.startswith(value.__qualname__)
        if own and (not name.startswith("_") or name in ("__init__", "__call__")):
            yield name, function


def test_names_of_the_package_are_those_of_all():
    assert dir(jnr) == jnr.__all__ == sorted(jnr.__all__)
    for name in jnr.__all__:
        assert hasattr(jnr, name), name


def test_modules_of_the_package_are_the_intended_ones():
    assert {name for name in jnr.__all__ if inspect.ismodule(getattr(jnr, name))} == MODULES


@pytest.mark.parametrize("name", ["camera", "geometry", "lights", "mesh", "render", "shading", "textures", "voxels"])
def test_private_module_has_no_public_name(name):
    assert not inspect.ismodule(getattr(jnr, name, None))
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"jnr.{name}")


def test_render_is_the_function():
    assert inspect.isfunction(jnr.render)


@pytest.mark.parametrize("name", [name for name in jnr.__all__ if name != "__version__"])
def test_public_name_has_a_docstring_of_its_own(name):
    value = getattr(jnr, name)
    # A dataclass without a docstring has its signature as one.
    assert value.__doc__
    assert not value.__doc__.startswith(f"{name}(")


@pytest.mark.parametrize("module", ANNOTATED)
def test_parameters_of_public_functions_have_annotations_that_resolve(module):
    functions = dict(public_functions(importlib.import_module(module)))
    assert functions
    for name, function in functions.items():
        hints = typing.get_type_hints(function)
        if not inspect.isclass(function):
            bare = inspect.signature(function).parameters.keys() - hints.keys() - {"self", "cls"}
            assert not bare, (name, bare)
