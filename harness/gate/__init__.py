"""Baseline and verdicts (pure), and the pytest plugin (hooks only)."""
