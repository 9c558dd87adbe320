"""Where the shipped data lives, in a wheel, an editable install and a bare checkout alike."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from harness.errors import HarnessError

DataKind = Literal["formats", "eval", "trainset"]

_PACKAGE = Path(__file__).resolve().parent


def data_dir(kind: DataKind) -> Path:
    """The folder of shipped formats, evaluation cases or training conversations.

    A wheel carries them as ``harness/_data/<kind>``; a checkout has them beside the package.
    Raises HarnessError when neither is there.
    """
    for folder in (_PACKAGE / "_data" / kind, _PACKAGE.parent / kind):
        if folder.is_dir():
            return folder
    raise HarnessError(
        f"the shipped folder {kind!r} is missing", where=str(_PACKAGE), hint="reinstall the package"
    )
