"""Find the shipped data in a wheel, an editable install or a bare checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from harness.errors import HarnessError

DataKind = Literal["formats", "eval", "recipes", "trainset"]

_PACKAGE = Path(__file__).resolve().parent


def data_dir(kind: DataKind) -> Path:
    """The folder of shipped formats, evaluation cases, recipes or training conversations.

    A wheel has them as ``harness/_data/<kind>``, a checkout beside the package or in ``docs``.
    Raises HarnessError when none is there.
    """
    checkout = _PACKAGE.parent
    for folder in (_PACKAGE / "_data" / kind, checkout / kind, checkout / "docs" / kind):
        if folder.is_dir():
            return folder
    raise HarnessError(
        f"the shipped folder {kind!r} is missing", where=str(_PACKAGE), hint="reinstall the package"
    )
