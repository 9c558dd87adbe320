"""Check the texts, ids, stops and settings of everything that was written, or of a server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.data.conversations import load_conversations
from harness.files import read_json_object
from harness.models import load_tokenizer, read_base
from harness.models.added_tokens import with_tokens
from harness.ship.checks.runtime_checks import (
    check_folder,
    check_gguf,
    check_modelfile,
    check_server,
)
from harness.ship.checks.server_pages import ServerPages
from harness.ship.checks.trained_texts import TrainedTexts, trained_texts
from harness.ship.findings import Checked
from harness.ship.made import Made
from harness.ship.runtime_files import MODELFILE, REQUEST
from harness.ship.shipment import ShipJob
from harness.ship.trained_model import Trained, find_trained

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def texts_of(trained: Trained, data: tuple[str, ...]) -> TrainedTexts:
    """The prompts of a model's training: the rows of these files in its format.

    Raises HarnessError for an unreadable file, and for a format that renders none of the prompts.
    """
    rows = load_conversations(data) if data else ()
    return trained_texts(trained.format, _tokenizer(trained), rows)


def _tokenizer(trained: Trained) -> PreTrainedTokenizerBase:
    """The base's tokenizer with the tokens that the training added."""
    tokenizer = load_tokenizer(trained.source)
    added = read_base(trained.adapter).get("added_tokens") if trained.adapter else None
    return with_tokens(tokenizer, added) if added else tokenizer


def text_checks(made: Made, texts: TrainedTexts) -> Iterator[Checked]:
    """The checks of each runtime of the job. Files are named by their place in the folder.

    vLLM reads the same folder as transformers, so it is checked once for both.
    """
    job = made.job
    checks: list[Checked] = []
    if "hf" in job.to or "vllm" in job.to:
        found = check_folder(made.model.path, texts)
        checks += found if "hf" in job.to else []
        checks += [_for_vllm(one) for one in found] if "vllm" in job.to else []
    if "llamacpp" in job.to:
        stops = _stops_of_requests(made)
        for kind, file in made.gguf.items():
            found = check_gguf(file, texts, stops=stops)
            checks += [replace(one, runtime=f"llamacpp {kind}") for one in found]
    if "ollama" in job.to:
        gguf = next(reversed(made.gguf.values()), None)
        checks += check_modelfile(made.folder / "ollama" / MODELFILE, texts, gguf=gguf)
    for one in checks:
        yield _with_short_places(one, f"{made.folder}{os.sep}")


def server_checks(job: ShipJob, url: str, model: str, api_key: str) -> list[Checked]:
    """Check a running server against the model of this job.

    Raises HarnessError for a server that cannot be reached, or of an unknown kind.
    """
    pages = ServerPages(url, api_key=api_key)
    return check_server(pages, texts_of(find_trained(job), job.data), model)


def _stops_of_requests(made: Made) -> tuple[str, ...] | None:
    file = made.folder / "llamacpp" / REQUEST
    return tuple(read_json_object(file).get("stop", ())) if file.is_file() else None


def _for_vllm(one: Checked) -> Checked:
    reason = "; ".join(filter(None, (one.reason, "the files that vLLM reads; no vLLM was run")))
    return replace(one, runtime="vllm", reason=reason)


def _with_short_places(one: Checked, folder: str) -> Checked:
    findings = tuple(
        replace(found, where=found.where.replace(folder, "")) for found in one.findings
    )
    return replace(one, findings=findings, reason=one.reason.replace(folder, ""))
