"""Checks that code in the documentation runs and that names, links and files in it exist."""

import importlib
import inspect
import operator
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jnr.applications
import jnr.mujoco
from jnr.compat import neural_renderer as nr
from jnr.compat.neural_renderer import chainer

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
# A block that cannot run here is preceded by a comment that gives the reason.
BLOCK = re.compile(r"^(<!-- not run: .+ -->\n+)?```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """Returns first line number and text of a page's Python blocks, except those marked as not run."""
    text = (ROOT / page).read_text()
    return [(text.count("\n", 0, m.start(2)), m[2]) for m in BLOCK.finditer(text) if not m[1]]


# What holds after a page's code has run.
RESULTS = {
    "README.md": lambda n: n["value"] < 0.1,
    "docs/migration.md": lambda names: (
        jnp.array_equal(names["images"], names["same"]) & jnp.any(names["gradient"] != 0)
    ),
}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_python_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    # Users run them with JAX's default dtype promotion.
    with jax.numpy_dtype_promotion("standard"):
        for line, block in blocks(page):
            # Leading empty lines make error messages show the page's line number.
            exec(compile("\n" * line + block, ROOT / page, "exec"), names)
    assert RESULTS.get(page, lambda _: True)(names)


@pytest.mark.parametrize("page", ["parity.md", "files.md"])
def test_every_test_named_in_a_table_exists(page):
    text = (ROOT / "docs" / page).read_text()
    names = re.findall(r"`((?:\w+/)*test_\w+\.py)?(?:::(\w+))?`", text)
    file, found = "", 0
    for named_file, test in names:
        file = named_file or file
        if not file:
            continue
        source = (ROOT / "tests" / file).read_text()
        assert not test or f"def {test}(" in source, f"{file}::{test}"
        found += bool(test)
    assert found > 40


def test_parity_table_and_compatibility_interface_have_the_same_names():
    text = (ROOT / "docs" / "parity.md").read_text()
    named = set(re.findall(r"`nr\.([\w.]+)`", text))
    for name in named:
        module = chainer if name.startswith("chainer.") else nr
        assert operator.attrgetter(name.removeprefix("chainer."))(module), name
    public = {name for name, value in vars(nr).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public <= named
    # The renderer's attributes and arguments.
    for name in vars(nr.Renderer()):
        assert f"`{name}`" in text or f"`{name} = " in text, name


@pytest.mark.parametrize("line", ["| |", "|  |", "TODO"])
def test_parity_table_has_no_empty_cells(line):
    assert line not in (ROOT / "docs" / "parity.md").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_linked_images_and_files_exist(page):
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
    """Yields a module's public names: for a package what it re-exports, else what it defines."""
    reexports = hasattr(module, "__path__") or module is jnr.gradients
    for name, value in vars(module).items():
        home = getattr(value, "__module__", None) or ""
        if not name.startswith("_") and (home.startswith("jnr.") if reexports else home == module.__name__):
            yield name, value


@pytest.mark.parametrize(
    "module",
    [
        jnr, jnr.gradients, jnr.shapes, jnr.losses, jnr.optim, jnr.viz, jnr.applications, jnr.applications.features,
        jnr.mujoco, nr, chainer,
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
