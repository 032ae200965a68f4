"""What the documents name exists."""

import re
from pathlib import Path

import pytest

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
