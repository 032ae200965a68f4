"""Array code that is one program also where nobody has put it into `jit`."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax

Function = TypeVar("Function", bound=Callable[..., Any])


def program(*static: str) -> Callable[[Function], Function]:
    """Decorates a function of arrays to be compiled as a whole where it is called outside of `jit`.

    Inside it changes nothing. Without it, JAX would compile each operation by itself: a first picture took 7 s so, and
    each one after it five times as long. Checks that look at numbers stay outside of such functions.

    Args:
        static: Names of arguments that are not arrays or trees of them.
    """
    return functools.partial(jax.jit, static_argnames=static, inline=True)  # pyright: ignore[reportReturnType]
