"""The device that tests load models onto: ``pytest --device cuda``, by default the CPU."""

from __future__ import annotations

_chosen = "cpu"


def choose(name: str) -> None:
    """Called once, before tests are collected."""
    global _chosen  # noqa: PLW0603  # pytest's option reaches helpers that are no fixtures
    _chosen = name


def chosen_device() -> str:
    """As ``load(device=…)`` takes it."""
    return _chosen
