"""Packages that not every user of jnr has."""

import importlib


def require(module: str, package: str, what: str, *, extra: str = "io"):
    """Imports a module, or says how to install the package that it comes with."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'{what} need {package}. Install it with: pip install "jnr[{extra}]"') from error
