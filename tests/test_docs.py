"""What the documents name exists, and what they say to run runs."""

import importlib
import inspect
import operator
import re
from pathlib import Path

import jax
import pytest

import jnr.applications
from jnr.compat import neural_renderer as nr
from jnr.compat.neural_renderer import chainer

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
# A block that cannot run here says why in a comment before it.
BLOCK = re.compile(r"^(<!-- not run: .+ -->\n+)?```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """First line and text of a page's Python blocks, but those that are not to be run."""
    text = (ROOT / page).read_text()
    return [(text.count("\n", 0, m.start(2)), m[2]) for m in BLOCK.finditer(text) if not m[1]]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_every_python_block_of_a_page_runs_after_those_before_it(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    # As users run them, who have not asked for strict promotion.
    with jax.numpy_dtype_promotion("standard"):
        for line, block in blocks(page):
            # Empty lines in front, so that an error names the page's line.
            exec(compile("\n" * line + block, ROOT / page, "exec"), names)


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


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_and_file_that_a_page_links_to_is_there(page):
    path = ROOT / page
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        assert link.startswith("https://") or (path.parent / link).is_file(), link


def test_every_page_is_in_the_table_of_contents():
    contents = re.findall(r"```\{toctree\}\n(.*?)```", (ROOT / "docs" / "index.md").read_text(), re.DOTALL)
    lines = "".join(contents).splitlines()
    listed = {f"docs/{line}.md" for line in lines if line and not line.startswith(":")}
    assert listed | {"README.md", "docs/index.md"} == set(PAGES)


def public(module):
    """What a module's users are meant to use: of a package all that it gathers, else what is defined there."""
    gathers = hasattr(module, "__path__") or module in (jnr.gradients, chainer)
    for name, value in vars(module).items():
        home = getattr(value, "__module__", None) or ""
        if not name.startswith("_") and (home.startswith("jnr.") if gathers else home == module.__name__):
            yield name, value


@pytest.mark.parametrize(
    "module",
    [
        jnr, jnr.gradients, jnr.shapes, jnr.losses, jnr.optim, jnr.viz, jnr.applications, jnr.applications.features,
        nr, chainer,
    ],
    ids=lambda module: module.__name__,
)  # fmt: skip
def test_every_public_name_is_in_the_api_reference(module):
    text = (ROOT / "docs" / "api.md").read_text()
    entries = re.findall(r"^\.\. auto(?:function|class):: jnr\.([\w.]+)$", text, re.MULTILINE)
    for name in {entry.rpartition(".")[0] for entry in entries} - {""}:
        importlib.import_module(f"jnr.{name}")
    documented = [operator.attrgetter(entry)(jnr) for entry in entries]
    names = dict(public(module))
    assert names
    for name, value in names.items():
        assert any(value is other for other in documented), name
