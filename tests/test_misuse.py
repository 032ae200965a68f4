"""Every public function with wrong kinds, shapes and numbers: a clear error, or a result that a rule allows."""

import inspect
import math
from collections import Counter

import jax
import numpy as np
import pytest
from calls import CALLS, public_callables

pytestmark = pytest.mark.validation

# Classes that only hold results, protocols, deprecated names, and functions of files, which have tests of their own.
WITHOUT_CALLS = {
    "Arriving", "Flow", "Fragments", "Light", "Mesh", "PlacedScene", "Rendering", "Shader", "Subdivision", "Surface",
    "SurfaceSamples", "applications.Fit", "gradients.Gradient", "load", "losses.unique_edges", "mujoco.ModelScene",
    "optim.AdamState", "optim.LargeSteps", "optim.adam", "save",
}  # fmt: skip

WRONG = {
    "object": object(),
    "complex": 1 + 2j,
    "ragged": [[1.0], [1.0, 2.0]],
    "name": "nonsense",
    "names": ["first", "second"],
    "beyond_64_bits": 2**70,
    "list_beyond_64_bits": [2**70],
    "rank_6": np.zeros((1, 2, 1, 2, 1, 2), np.float32),
    "none": None,
    "dict": {"a": 1.0},
    "true": True,
    "function": len,
    "nan": math.nan,
    "infinity": math.inf,
    "array_of_nan": np.full(3, math.nan, np.float32),
    "2**31": 2**31,
    "2**63": 2**63,
    "fraction": 2.5,
    "negative": -3,
    "empty": np.zeros(0, np.float32),
    "columns": np.zeros((3, 7), np.float32),
}
# Kinds of values that are right for some arguments. No argument takes any other.
NUMBERS = {"beyond_64_bits", "2**31", "2**63", "fraction", "negative"}
ARRAYS = {"rank_6", "empty", "columns"}
NONFINITE = {"nan", "infinity", "array_of_nan"}
# Arguments of which Python calls the value in the middle of JAX's work: what it raises is its own.
CALLED = {"features", "gradient", "learning_rate", "loss", "shader"}


def is_allowed(call, name, kind):
    """Whether an argument's rule allows a value of a kind."""
    parameters = inspect.signature(call.function).parameters
    # What a function passes on is an argument of that other function.
    passed_on = inspect.signature(CALLS["viz.pixel_descents"].function).parameters
    annotation = str((parameters if name in parameters else passed_on)[name].annotation)
    if kind in NUMBERS:
        return any(word in annotation for word in ("float", "ArrayLike", "PyTree"))
    if kind in ARRAYS:
        # Any shape broadcasts here; images have any leading axes, masks and heights any size.
        broadcasts = name in ("distance", "elevation", "azimuth", "images")
        return broadcasts or (kind == "columns" and name in ("mask", "heights"))
    if kind in NONFINITE:
        # A value that marks the background, and Matplotlib's transparent colour.
        return (call.function.__name__, name) in {("interpolate", "background"), ("draw_arrows", "color")}
    if kind == "none":
        return "None" in annotation or "Optional" in annotation
    return kind == "true" and "bool" in annotation


def outcome(call, name, value):
    """What comes of a call with one wrong argument: clear, obscure, silent (accepted with NaN) or accepted."""
    try:
        result = call.run(**{name: value})
    except (TypeError, ValueError, NotImplementedError) as error:
        # A shape may not fit that of another argument, which is then named.
        is_array = isinstance(value, np.ndarray) and value.ndim > 1
        names = call.arguments if is_array else (name,)
        return ("clear" if any(one in str(error) for one in names) else "obscure"), f"{type(error).__name__}: {error}"
    except Exception as error:
        return "obscure", f"{type(error).__name__}: {error}"
    numbers = [np.asarray(leaf) for leaf in jax.tree.leaves(result) if hasattr(leaf, "dtype")]
    is_finite = all(np.isfinite(array).all() for array in numbers if array.dtype.kind == "f")
    return "accepted" if is_finite else "silent", ""


def test_every_public_function_and_class_has_a_call():
    public = public_callables()
    assert public.keys() - CALLS.keys() == WITHOUT_CALLS
    of_classes = {name.removesuffix("." + name.split(".")[-1]) for name in CALLS.keys() - public.keys()}
    assert of_classes == {"Camera", "Scene", "mujoco.ModelScene", "optim.LargeSteps"}
    for name, call in CALLS.items():
        missing = inspect.signature(call.function).parameters.keys() - call.arguments.keys()
        assert missing <= {"handedness", "options", "backend", "self"}, (name, missing)


@pytest.mark.parametrize("function", CALLS)
def test_wrong_argument_is_a_clear_error(function):
    call, counts, faults = CALLS[function], Counter(), []
    for name in call.arguments:
        for kind, value in WRONG.items():
            allowed = is_allowed(call, name, kind)
            # An application would run with it, for minutes.
            if (kind == "function" and name in CALLED) or (allowed and function.startswith("applications")):
                continue
            got, message = outcome(call, name, value)
            counts[got] += 1
            if got == "obscure" or (got in ("accepted", "silent") and not allowed):
                faults.append(f"{name}, {kind}: {got} {message[:200]}")
    print(function, dict(counts))
    assert not faults, "\n".join(faults)
