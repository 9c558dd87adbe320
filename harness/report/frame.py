"""What all pages share: one self-contained file, readable without scripts, with a policy that lets nothing in but itself."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from harness.report.text import visible

HERE = Path(__file__).parent


@lru_cache
def _template(path: Path) -> Template:
    env = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FileSystemLoader(HERE))
    env.filters["visible"] = visible
    return env.from_string(path.read_text(encoding="utf-8"))


def render(template: Path, *, title: str, skip: str = "", live: str = "", **values: Any) -> str:
    """A page from a template; what is not Markup in ``values`` is escaped. Its only script is ours, named by its digest.

    ``skip`` is the id of what a keyboard's first link leads to. ``live`` is the version of a page that is served: its script asks
    the server for another one and loads it.
    """
    script = (HERE / "page.js").read_text(encoding="utf-8")
    page = _template(template).render(
        title=title,
        skip=skip,
        live=live,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704  # our own file
        script=Markup(script),  # noqa: S704  # our own file
        script_digest=source_digest(script),
        **values,
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def source_digest(script: str) -> str:
    """A script as a Content-Security-Policy allows it: by the digest of its text, so that no other one runs."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
