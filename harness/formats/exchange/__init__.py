"""Formats from and for other programs: read, import, detect, export. Never imports torch."""
