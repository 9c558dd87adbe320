"""Cells → report.json → report.md and report.html. Pure functions of the document; never imports torch."""
