"""Sphinx configuration of the documentation."""

import re

import jnr

project = "jnr"
author = "the authors of jnr"
version = release = jnr.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
# Headings get anchors like GitHub's, so that links to them work in both places.
myst_heading_anchors = 3

# Docstrings write code in single backticks; names of Python objects become links.
default_role = "py:obj"
napoleon_use_ivar = True
napoleon_use_rtype = False
# The signature already contains the types of attributes.
napoleon_attr_annotations = False
autodoc_member_order = "bysource"
# Types contain shapes and are long, so a signature has one line per parameter.
python_maximum_signature_line_length = 88
python_trailing_comma_in_multi_line_signatures = False
add_module_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "jnr"
html_copy_source = False
html_show_copyright = False


# Files outside this folder that are pages of the site. Links to them are written as GitHub needs them.
ELSEWHERE = {
    r"\.\./benchmarks/README\.md": "benchmarks.md",
    r"\.\./(triton_kernels|jnr/_ops)/[\w/]*README\.md": "derivations.md",
}


# How Sphinx writes `jax.typing.ArrayLike`.
ARRAY_LIKE = re.compile(
    r"~?jax\.jaxlib\._jax\.Array \| ~?numpy\.ndarray \| ~?numpy\.bool \| ~?numpy\.number"
    r" \| bool \| int \| float \| complex"
)


def link_pages(app, page, text):
    """Replaces links to the files in `ELSEWHERE` by links to their pages."""
    del app, page
    for file, own in ELSEWHERE.items():
        text[0] = re.sub(rf"\]\({file}\)", f"]({own})", text[0])


def sign(app, what, name, obj, options, signature, returns):
    """Removes the signatures of protocols, and shortens the types of others.

    `ArrayLike` stands for its members, and `jnr.Mesh` for `Mesh` outside `jnr.compat`, which has a class of that name.
    """
    del app, what, options
    if getattr(obj, "_is_protocol", False):
        return "", None

    def shortened(text):
        text = ARRAY_LIKE.sub("ArrayLike", text).replace("jaxlib._jax.Array", "Array")
        text = re.sub(r"([~\w.]+)\[Array, ('[^']*')\] \| \1\[ndarray, \2\]", r"\1[ArrayLike, \2]", text)
        return text if name.startswith("jnr.compat.") else re.sub(r"(?<![\w.])Mesh\b", "jnr.Mesh", text)

    return tuple(text and shortened(text) for text in (signature, returns))


def setup(app):
    """Registers the handlers above; Sphinx calls this function."""
    app.connect("source-read", link_pages)
    app.connect("autodoc-process-signature", sign)
