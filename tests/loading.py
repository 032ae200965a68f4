"""Reading of mesh files in tests."""

import re

import pytest

import jnr


def read_with(path, *left_out):
    """Reads a file that leaves out what these regular expressions match, in one warning."""
    if not left_out:
        return jnr.io.read(path)
    with pytest.warns(UserWarning, match=rf"^{path.name} was loaded without: ") as caught:
        file = jnr.io.read(path)
    assert len(caught) == 1
    assert len(file.left_out) == len(left_out)
    for text, pattern in zip(file.left_out, left_out, strict=True):
        assert re.search(pattern, text), (text, pattern)
    return file
