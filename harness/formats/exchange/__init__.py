"""Read, import, detect and export formats of other programs. Never imports torch."""
