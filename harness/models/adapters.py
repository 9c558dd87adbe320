"""The adapter that a loaded base carries: put on, noted, taken off."""

from __future__ import annotations

from pathlib import Path

from harness.errors import HarnessError
from harness.models.added_tokens import grow
from harness.models.base_record import ADAPTER_FILE, read_base
from harness.models.digest import digest_folder
from harness.models.loaded import LoadedModel
from harness.models.lora_forward import install_lean_lora, leave_casts_to_autocast
from harness.models.quiet import first_line, quiet


def attach_adapter(loaded: LoadedModel, adapter: str) -> None:
    """Put a LoRA adapter on a loaded model, in float32. Raises HarnessError if it was made for another base."""
    folder = Path(adapter)
    if not (folder / "adapter_config.json").is_file():
        raise HarnessError(
            "no adapter_config.json", where=adapter, hint="give the folder that harness train wrote"
        )
    if not (folder / ADAPTER_FILE).is_file():
        raise HarnessError(
            f"no {ADAPTER_FILE}",
            where=adapter,
            hint="a pickled adapter_model.bin is never loaded: save it as safetensors",
        )
    _fit(folder, loaded)
    with quiet():
        from peft import PeftModel  # inside: importing it is noisy

        try:
            loaded.model = PeftModel.from_pretrained(loaded.model, adapter)
        except (OSError, ValueError, RuntimeError) as error:
            raise HarnessError(
                f"the adapter does not fit {loaded.name}: {first_line(error)}", where=adapter
            ) from None
    loaded.model.eval()
    note_adapter(loaded, folder)


def switch_adapter(loaded: LoadedModel, adapter: str | None) -> None:
    """Take off the adapter that the model carries and put on another, or none. The base stays as it is in memory: nothing is merged into it."""
    remove_adapter(loaded)
    if adapter is not None:
        attach_adapter(loaded, adapter)


def remove_adapter(loaded: LoadedModel) -> None:
    """Take the adapter off a loaded base, so that it can carry the next one: between the runs of a sweep the base is never loaded again."""
    unload = getattr(loaded.model, "unload", None)
    if unload is not None:
        loaded.model = unload()
    loaded.adapter, loaded.adapter_digest, loaded.lean_lora = None, "", True


def note_adapter(loaded: LoadedModel, folder: Path) -> None:
    """Remember which adapter the model now carries, and let its factors be cast by autocast alone."""
    leave_casts_to_autocast(loaded.model)
    loaded.lean_lora = install_lean_lora(loaded.model)
    loaded.adapter = str(folder)
    loaded.adapter_digest = digest_folder(folder)


def _fit(folder: Path, loaded: LoadedModel) -> None:
    """Raise HarnessError when the adapter says that it was trained on another base, and give the base the control tokens it was trained with.

    An adapter of a foreign trainer is checked by peft alone.
    """
    made_for = read_base(folder)
    if not made_for:
        return
    if made_for["digest"] != loaded.source.digest:
        raise HarnessError(
            f"this adapter was trained on {made_for['name']} ({made_for['digest']}), not on {loaded.name} ({loaded.source.digest})",
            where=str(folder),
            hint="give the base it was trained on",
        )
    grow(loaded, made_for.get("added_tokens", ()))
