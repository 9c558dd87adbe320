"""Measures of an answer (METRICS.md): pure functions on text and numbers. Never imports torch, never runs a model."""
