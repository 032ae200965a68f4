"""What the documents name exists."""

import inspect
import operator
import re
from pathlib import Path

import pytest

from jnr.compat import neural_renderer as nr
from jnr.compat.neural_renderer import chainer

ROOT = Path(__file__).parent.parent


def test_every_test_named_in_the_parity_table_exists():
    text = (ROOT / "docs" / "parity.md").read_text()
    names = re.findall(r"`(test_\w+\.py)?(?:::(\w+))?`", text)
    file, found = "", 0
    for named_file, test in names:
        file = named_file or file
        if not file:
            continue
        source = (ROOT / "tests" / file).read_text()
        assert not test or f"def {test}(" in source, f"{file}::{test}"
        found += bool(test)
    assert found > 40


def test_every_name_of_the_interface_is_in_the_parity_table_and_the_other_way_round():
    text = (ROOT / "docs" / "parity.md").read_text()
    named = set(re.findall(r"`nr\.([\w.]+)`", text))
    for name in named:
        module = chainer if name.startswith("chainer.") else nr
        assert operator.attrgetter(name.removeprefix("chainer."))(module), name
    public = {name for name, value in vars(nr).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public <= named
    # The attributes and arguments of the class.
    for name in vars(nr.Renderer()):
        assert f"`{name}`" in text or f"`{name} = " in text, name


@pytest.mark.parametrize("line", ["| |", "|  |", "TODO"])
def test_no_row_of_the_parity_table_is_open(line):
    assert line not in (ROOT / "docs" / "parity.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/gallery.md"])
def test_every_picture_that_a_page_shows_is_there(page):
    path = ROOT / page
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", path.read_text())
    assert pictures
    for picture in pictures:
        assert (path.parent / picture).is_file(), picture
