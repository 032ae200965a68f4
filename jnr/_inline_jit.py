"""Array code that is compiled as a whole also outside of `jit`."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax

Function = TypeVar("Function", bound=Callable[..., Any])


def inline_jit(*static: str) -> Callable[[Function], Function]:
    """Decorates a function of arrays with `jax.jit(inline=True)`.

    Inside of another `jit` it changes nothing. Outside, JAX would otherwise compile and dispatch every operation on its
    own. Checks that look at values stay outside of such functions.

    Args:
        static: Names of arguments that are not arrays or trees of arrays.
    """
    return functools.partial(jax.jit, static_argnames=static, inline=True)  # pyright: ignore[reportReturnType]
