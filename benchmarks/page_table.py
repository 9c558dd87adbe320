"""A benchmark's table in its page of the docs, between two comments that name it."""

from __future__ import annotations

from pathlib import Path


def read_table(page: Path, name: str) -> str:
    """What lies between ``<!-- NAME:begin …-->`` and ``<!-- NAME:end -->``.

    Raises ValueError for a page without them.
    """
    return _parts(page, name)[1]


def write_table(page: Path, name: str, table: str) -> None:
    """Put the table there. Raises ValueError for a page without the comments."""
    head, _, tail = _parts(page, name)
    page.write_text(f"{head}{table}{tail}", encoding="utf-8")


def _parts(page: Path, name: str) -> tuple[str, str, str]:
    text = page.read_text(encoding="utf-8")
    start = text.index("-->\n", text.index(f"<!-- {name}:begin")) + len("-->\n")
    end = text.index(f"\n<!-- {name}:end -->", start)
    return text[:start], text[start:end], text[end:]
