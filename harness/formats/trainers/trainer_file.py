"""Read the file of another trainer's configuration: YAML, JSON, a script or a notebook."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.extras import require
from harness.files import parse_json, read_text
from harness.formats.trainers.trainer_script import script_settings

#: Names of axolotl's templates whose text one of our formats writes too.
AXOLOTL_TEMPLATES = {
    "chatml": "chatml",
    "llama3": "llama3",
    "phi_3": "phi3",
    "phi_4": "phi4",
    "gemma": "gemma",
    "gemma3": "gemma3",
    "qwen_25": "qwen2.5",
    "qwen3": "qwen3",
    "deepseek_v2": "deepseek-v2",
    "metharme": "metharme",
    "exaone": "exaone3",
}


def read_trainer_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The keys with values, and the names of those that a script computes.

    Raises HarnessError for a file that cannot be read or holds no keys.
    """
    text = read_text(path, "configuration")
    where, suffix = str(path), path.suffix.lower()
    try:
        if suffix in (".py", ".ipynb"):
            return script_settings(text, notebook=suffix == ".ipynb")
        if suffix == ".json":
            value = parse_json(text)
        else:
            require("yaml", "a YAML configuration", where)
            value = import_module("yaml").safe_load(text)
    except SyntaxError as error:
        raise HarnessError(f"not Python: {error.msg}", where=f"{where}:{error.lineno}") from None
    except Exception as error:  # YAML has exceptions of its own
        if isinstance(error, HarnessError):
            raise
        reason = " ".join(str(error).split())
        raise HarnessError(f"cannot be read: {reason}", where=where) from None
    if not isinstance(value, dict):
        raise HarnessError(
            "expected keys with values", where=where, hint="give a trainer's configuration file"
        )
    return value, []


def beside(path: Path, name: str) -> Path:
    """A file as the configuration names it: from here, or from its own folder."""
    return path.parent / name if (path.parent / name).exists() else Path(name)
