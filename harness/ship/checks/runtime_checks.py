"""The entrance: the checks of texts, ids, stops and settings, one function for each runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.errors import HarnessError
from harness.files import read_text
from harness.ship.checks.compare_runtime import IDS, TEXTS, Sender, compare_runtime
from harness.ship.checks.completions import COMPLETIONS, check_completions
from harness.ship.checks.ends import (
    STOPS,
    Ends,
    check_ends,
    check_modelfile_ends,
    ends_of_folder,
)
from harness.ship.checks.llamacpp.gguf_metadata import EOS_KEY, GgufMetadata
from harness.ship.checks.llamacpp.llamacpp_runtime import LlamaCppRuntime
from harness.ship.checks.ollama_runtime import OllamaRuntime
from harness.ship.checks.run_settings import (
    SETTINGS,
    folder_settings,
    gguf_settings,
    modelfile_settings,
    server_settings,
)
from harness.ship.checks.server_pages import ServerPages
from harness.ship.checks.server_runtime import OLLAMA, ServedModel, ServerRuntime, served_model
from harness.ship.checks.trained_texts import TrainedTexts
from harness.ship.checks.transformers_runtime import TransformersRuntime
from harness.ship.findings import Checked


def check_folder(folder: Path, trained: TrainedTexts) -> list[Checked]:
    """A model folder or an exported adapter in transformers, which vLLM reads alike."""
    return [
        *_compared(TransformersRuntime(folder, trained)),
        _one(STOPS, "hf", lambda: check_ends(trained, ends_of_folder(folder), "hf")),
        _one(SETTINGS, "hf", lambda: folder_settings(trained, folder)),
    ]


def check_gguf(
    gguf: Path,
    trained: TrainedTexts,
    *,
    stops: tuple[str, ...] | None = None,
    engine: str | None = None,
) -> list[Checked]:
    """A GGUF file in llama.cpp.

    ``stops`` are the stop strings of its requests, if they are known. ``engine`` is the llama.cpp
    that is asked, of ``llama_engines``; by default the best one that is installed.
    """
    try:
        metadata = GgufMetadata.read(gguf)
    except HarnessError as error:
        return _none_checked(LlamaCppRuntime.name, error)
    runtime = LlamaCppRuntime(gguf, metadata, trained, engine=engine)

    def ends() -> Checked:
        ids, how = runtime.ends()
        return check_ends(trained, Ends(f"{gguf}: {EOS_KEY}", ids, stops), runtime.name, how)

    return [
        *_compared(runtime),
        _one(STOPS, runtime.name, ends),
        gguf_settings(trained, gguf, metadata),
    ]


def check_modelfile(
    modelfile: Path, trained: TrainedTexts, *, gguf: Path | None = None, engine: str | None = None
) -> list[Checked]:
    """A Modelfile by our rules. ``gguf`` is the file that it names."""
    text = read_text(modelfile)
    try:
        metadata = GgufMetadata.read(gguf) if gguf else None
    except HarnessError as error:
        return _none_checked(OLLAMA, error)
    runtime = OllamaRuntime(text, trained, metadata=metadata, gguf=gguf, engine=engine)
    return _modelfile_checks(runtime, text, metadata)


def check_server(pages: ServerPages, trained: TrainedTexts, model: str = "") -> list[Checked]:
    """A running llama-server, vLLM, SGLang, Ollama or text-generation-webui.

    Raises HarnessError where none of them answers, or where it does not have the model.
    """
    served = served_model(pages, model)
    if served.kind == OLLAMA:
        return _ollama(pages, served, trained)
    runtime = ServerRuntime(pages, served, trained)
    return [
        *_compared(runtime),
        Checked.not_checked(
            STOPS, runtime.name, "a server does not say where it ends: check its files"
        ),
        server_settings(trained, runtime.name, served.context, dict(served.sampling)),
        _one(
            COMPLETIONS,
            runtime.name,
            lambda: check_completions(pages, served, trained, runtime.name),
        ),
    ]


def _ollama(pages: ServerPages, served: ServedModel, trained: TrainedTexts) -> list[Checked]:
    page = pages.post("/api/show", {"model": served.model})
    modelfile = page.get("modelfile")
    if not isinstance(modelfile, str):
        reason = str(page.get("error", "no Modelfile"))
        raise HarnessError(f"Ollama does not show the model {served.model!r}: {reason}", pages.url)
    info = page.get("model_info")
    metadata = GgufMetadata.of(info) if isinstance(info, dict) and info else None
    runtime = OllamaRuntime(modelfile, trained, metadata=metadata, pages=pages, model=served.model)
    return _modelfile_checks(runtime, modelfile, metadata)


def _modelfile_checks(
    runtime: OllamaRuntime, modelfile: str, metadata: GgufMetadata | None
) -> list[Checked]:
    return [
        *_compared(runtime),
        check_modelfile_ends(runtime.trained, modelfile, metadata),
        modelfile_settings(runtime.trained, modelfile),
    ]


def _compared(runtime: Sender) -> list[Checked]:
    try:
        return compare_runtime(runtime)
    except HarnessError as error:
        return [Checked.not_checked(check, runtime.name, str(error)) for check in (TEXTS, IDS)]


def _none_checked(name: str, error: HarnessError) -> list[Checked]:
    return [Checked.not_checked(one, name, str(error)) for one in (TEXTS, IDS, STOPS, SETTINGS)]


def _one(check: str, name: str, make: Callable[[], Checked]) -> Checked:
    try:
        return make()
    except HarnessError as error:
        return Checked.not_checked(check, name, str(error))
