"""Import of optional dependencies."""

import importlib


def require(module: str, package: str, what: str, *, extra: str = "io"):
    """Returns the imported `module`; if `package` is missing, raises ImportError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'{what} need {package}. Install it with: pip install "jnr[{extra}]"') from error
