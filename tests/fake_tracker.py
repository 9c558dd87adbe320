"""A tracker of accelerate's kind that keeps what it gets."""

from __future__ import annotations

from typing import Any

import pytest


def keep_trackio(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Put it in trackio's place; the list grows with each call."""
    import accelerate.tracking as theirs
    from accelerate import PartialState

    told: list[Any] = []
    PartialState._reset_state()  # as in a new process

    class Kept(theirs.GeneralTracker):
        name, requires_logging_directory, tracker = "trackio", False, None

        def __init__(self, project, **settings):
            super().__init__()
            told.append(("open", project, settings))

        def store_init_configuration(self, values):
            told.append(("settings", values))

        def log(self, values, step=None, **kwargs):
            told.append((step, values))

        def finish(self):
            theirs.logger.debug("closed")  # as accelerate's own trackers do
            told.append("closed")

    monkeypatch.setitem(theirs.LOGGER_TYPE_TO_CLASS, "trackio", Kept)
    monkeypatch.setattr(
        theirs, "_available_trackers", [*theirs._available_trackers, theirs.LoggerType.TRACKIO]
    )
    monkeypatch.setattr("harness.tracking.check_trackers", lambda names: None)
    return told
