"""Metrics of answers, choices and references: pure functions on text and numbers.

Never imports torch, never runs a model.
"""
