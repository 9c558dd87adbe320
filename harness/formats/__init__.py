"""Prompt formats: one Jinja file each, loaded, listed and checked. Never imports torch."""

from harness.formats.format_set import FormatSet, load_format, load_formats

__all__ = ["FormatSet", "load_format", "load_formats"]
