"""Sphinx's settings for the documentation."""

import re

import jnr

project = "jnr"
author = "the authors of jnr"
version = release = jnr.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
# Headings can be linked to, as on GitHub.
myst_heading_anchors = 3

# Docstrings write code in single backticks; those that name something in jnr become links.
default_role = "py:obj"
napoleon_use_ivar = True
napoleon_use_rtype = False
# The signature has them.
napoleon_attr_annotations = False
autodoc_member_order = "bysource"
# Shapes are in the types, so a signature has a line for each parameter.
python_maximum_signature_line_length = 88
python_trailing_comma_in_multi_line_signatures = False
add_module_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "jnr"
html_copy_source = False
html_show_copyright = False


# Files beside this folder that are pages here, and links to them, which as they are written work on GitHub.
ELSEWHERE = {"../benchmarks/README.md": "benchmarks.md", "../triton_kernels/README.md": "derivations.md"}


def link_pages(app, page, text):
    """Makes links to files that are pages lead to the pages."""
    del app, page
    for file, own in ELSEWHERE.items():
        text[0] = text[0].replace(f"]({file})", f"]({own})")


def sign(app, what, name, obj, options, signature, returns):
    """Leaves protocols without a signature, and says which of the classes called Mesh is meant elsewhere."""
    del app, what, options
    if getattr(obj, "_is_protocol", False):
        return "", None
    if name.startswith("jnr.compat."):
        return None
    return tuple(text and re.sub(r"(?<![\w.])Mesh\b", "jnr.Mesh", text) for text in (signature, returns))


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", link_pages)
    app.connect("autodoc-process-signature", sign)
