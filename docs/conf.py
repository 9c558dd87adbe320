"""The site of these pages: ``sphinx-build -W docs build/docs`` (``tox -e docs``).

The pages are plain Markdown and read as such on a code host. What only the site needs is added here
while it is built: its table of contents, made of the links of index.md, and the docstrings of the
modules that reference/python.md names. Why Sphinx: decisions/017-docs-generator.md.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))  # the modules are imported from the checkout

project = "formatproof"
copyright = "its authors, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = project
html_show_sphinx = False
exclude_patterns = ["_build"]
nitpicky = False  # docstrings name types of other projects, whose sites are not asked

myst_heading_anchors = 4
myst_enable_extensions = ["html_image"]  # a picture with a width is an <img> on a code host
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

_HIDDEN = "```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n"


def _contents(index: str) -> str:
    """The site's table of contents: a part for each heading of index.md, with its linked pages.

    Sphinx warns of a page that index.md does not link, and ``-W`` makes that a failure.
    """
    parts = re.split(r"^## (.+)\n", index, flags=re.M)[1:]
    trees = []
    for caption, text in zip(parts[::2], parts[1::2], strict=True):
        pages = dict.fromkeys(re.findall(r"\]\(([^):#]+)\.md\)", text))
        trees.append(_HIDDEN.format(caption=caption, pages="\n".join(pages)))
    return "\n".join(trees)


def _complete(_app: object, docname: str, source: list[str]) -> None:
    """Add to a page what only the site needs."""
    if docname == "index":
        source[0] += "\n" + _contents(source[0])
    elif docname == "decisions/README":
        source[0] += "\n```{toctree}\n:maxdepth: 1\n:glob:\n\n0*\n```\n"
    elif docname == "reference/python":
        source[0] = re.sub(
            r"^(<!-- members of ([\w.]+) -->)$",
            r"\1\n\n```{eval-rst}\n.. automodule:: \2\n   :members:\n```",
            source[0],
            flags=re.M,
        )
    folder = (DOCS / docname).parent
    # a link to a folder leads somewhere on a code host, and nowhere in a site
    source[0] = re.sub(
        r"\[([^\]]+)\]\(([^):#]+)\)",
        lambda found: found[1] if (folder / found[2]).is_dir() else found[0],
        source[0],
    )


def _light(_app: object, error: Exception | None) -> None:
    """The reference needs no torch, so that the site is built in seconds and everywhere."""
    if error is None and "torch" in sys.modules:
        raise RuntimeError("building the docs imported torch")


def setup(app: object) -> None:
    """Sphinx's hook."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    app.connect("source-read", _complete)  # type: ignore[attr-defined]
    app.connect("build-finished", _light)  # type: ignore[attr-defined]
