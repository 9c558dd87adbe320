"""The adapter that a loaded base carries, and the base that an adapter was trained on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.files import read_json_object
from harness.models.adapter_weights import ADAPTER_FILE, wrap
from harness.models.added_tokens import add_tokens
from harness.models.digest import digest_folder
from harness.models.loaded import LoadedModel
from harness.models.lora_forward import install_lean_lora, leave_casts_to_autocast
from harness.models.quantisation import Quantisation
from harness.models.quiet import quiet, refusal
from harness.run_file import ADAPTER_CONFIG

BASE_FILE = "base.json"
"""Written beside an adapter: the digest and shape of the base it was trained on."""


def attach_adapter(loaded: LoadedModel, adapter: str) -> None:
    """Put an adapter on a loaded model, in float32.

    Raises HarnessError for an adapter of another base, for one whose weights and layers do not
    match one to one, for a folder without a usable adapter, and on a base that accelerate moves
    about.
    """
    folder = Path(adapter)
    if not (folder / ADAPTER_CONFIG).is_file():
        raise HarnessError(
            f"no {ADAPTER_CONFIG}", where=adapter, hint="give the folder that harness train wrote"
        )
    if not (folder / ADAPTER_FILE).is_file():
        raise HarnessError(
            f"no {ADAPTER_FILE}",
            where=adapter,
            hint="a pickled adapter_model.bin is never loaded: save it as safetensors",
        )
    if any(parameter.is_meta for parameter in loaded.model.parameters()):
        raise HarnessError(
            "an adapter cannot be put on a base that is partly in main memory or on disk",
            where=adapter,
            hint="load the base with --load-in-4bit, or merge the adapter first: harness merge",
        )
    _fit_base(folder, loaded)
    with quiet():
        try:
            model = wrap(loaded.model, loaded.name, folder)
        except Exception as error:  # peft and safetensors raise anything for a damaged file
            raise refusal(
                f"the adapter does not fit {loaded.name}, or is damaged", error, adapter
            ) from None
    loaded.model = model.eval()
    note_adapter(loaded, folder)


def switch_adapter(loaded: LoadedModel, adapter: str | None) -> None:
    """Replace the adapter that the model carries by another, or by none. Nothing is merged."""
    remove_adapter(loaded)
    if adapter is not None:
        attach_adapter(loaded, adapter)


def remove_adapter(loaded: LoadedModel) -> None:
    """Take the adapter off a loaded base, so that the base need not be loaded again."""
    unload = getattr(loaded.model, "unload", None)
    if unload is not None:
        loaded.model = unload()
    loaded.adapter, loaded.adapter_digest = None, ""
    loaded.lean_lora, loaded.lean_training = True, False


@contextlib.contextmanager
def base_only(loaded: LoadedModel) -> Iterator[None]:
    """Switch the adapter off inside the block: the base needs no second copy in memory."""
    disable = getattr(loaded.model, "disable_adapter", None)
    has_adapter = disable and hasattr(loaded.model, "peft_config")
    training = loaded.model.training
    loaded.model.eval()
    try:
        with disable() if disable and has_adapter else contextlib.nullcontext():
            yield
    finally:
        loaded.model.train(training)


def note_adapter(loaded: LoadedModel, folder: Path) -> None:
    """Remember which adapter the model now carries, and let autocast alone cast its factors."""
    leave_casts_to_autocast(loaded.model)
    loaded.lean_lora, loaded.lean_training = install_lean_lora(loaded.model), False
    loaded.adapter = str(folder)
    loaded.adapter_digest = digest_folder(folder)


def describe_base(loaded: LoadedModel) -> dict[str, Any]:
    """What an adapter remembers of its base."""
    text = loaded.model.config.get_text_config()
    return {
        "name": loaded.name,
        "digest": loaded.source.digest,
        "model_type": loaded.model.config.model_type,
        "hidden_size": getattr(text, "hidden_size", None),
        "num_hidden_layers": getattr(text, "num_hidden_layers", None),
        "vocab_size": getattr(text, "vocab_size", None),
        "dtype": loaded.dtype,
        "quantisation": loaded.quantisation.as_dict() if loaded.quantisation else None,
        "added_tokens": list(loaded.added_tokens),
    }


def read_base(folder: Path) -> dict[str, Any]:
    """What an adapter remembers of its base; empty for one of a foreign trainer."""
    file = folder / BASE_FILE
    if not file.is_file():
        return {}
    found = read_json_object(file)
    if missing := {"name", "digest"} - found.keys():
        raise HarnessError(f"no key {min(missing)!r}", where=str(file))
    return found


def require_base(folder: Path) -> dict[str, Any]:
    """What an adapter of ours remembers of its base. Raises HarnessError when it says nothing."""
    base = read_base(folder)
    if not base:
        raise HarnessError(
            f"no {BASE_FILE}", where=str(folder), hint="give what harness train wrote"
        )
    return base


def trained_quantisation(folder: Path) -> Quantisation:
    """How the base was stored when this adapter was trained."""
    stored = read_base(folder).get("quantisation") or {}
    try:
        return Quantisation(**stored)
    except TypeError:
        raise HarnessError(f"unknown quantisation {stored}", str(folder / BASE_FILE)) from None


def _fit_base(folder: Path, loaded: LoadedModel) -> None:
    """Give the base the control tokens that the adapter was trained with.

    Raises HarnessError when the adapter says that it was trained on another base. An adapter of a
    foreign trainer says nothing and is checked by peft alone.
    """
    base = read_base(folder)
    if not base:
        return
    if base["digest"] != loaded.source.digest:
        raise HarnessError(
            f"this adapter was trained on {base['name']} ({base['digest']}), "
            f"not on {loaded.name} ({loaded.source.digest})",
            where=str(folder),
            hint="give the base it was trained on",
        )
    add_tokens(loaded, base.get("added_tokens", ()))
