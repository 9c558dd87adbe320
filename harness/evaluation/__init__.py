"""Evaluate a model: cases × formats → requests → scores → aggregates; run.py is the entrance."""
