"""The checks of texts, ids, stops and settings of everything that was written."""

from __future__ import annotations

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
from harness.ship.runtime_files import MODELFILE
from harness.ship.shipment import ShipJob
from harness.ship.trained_model import Trained, find_trained

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def texts_of(trained: Trained, data: tuple[str, ...]) -> TrainedTexts:
    """What a model was trained on, or would be: the rows of these files in its format.

    Raises HarnessError for a file that cannot be read, and for a format without any prompt.
    """
    rows = load_conversations(data) if data else ()
    return trained_texts(trained.format, _tokenizer(trained), rows)


def _tokenizer(trained: Trained) -> PreTrainedTokenizerBase:
    """The tokenizer of the training: the base's, with the tokens that it added."""
    tokenizer = load_tokenizer(trained.source)
    added = read_base(trained.adapter).get("added_tokens") if trained.adapter else None
    return with_tokens(tokenizer, added) if added else tokenizer


def text_checks(made: Made) -> Iterator[Checked]:
    """The checks of each runtime that the job names. Files are named by their place in the folder.

    vLLM reads the same folder as transformers, so the check of the one is that of the other.
    """
    texts, job = texts_of(made.trained, made.job.data), made.job
    checks: list[Checked] = []
    if "hf" in job.to or "vllm" in job.to:
        found = check_folder(made.model.path, texts)
        checks += found if "hf" in job.to else []
        checks += [_for_vllm(one) for one in found] if "vllm" in job.to else []
    if "llamacpp" in job.to:
        stops = _stops_of_requests(made)
        for kind, file in made.gguf.items():
            for one in check_gguf(file, texts, stops=stops):
                checks.append(replace(one, runtime=f"llamacpp {kind}") if made.several else one)
    if "ollama" in job.to:
        gguf = next(reversed(made.gguf.values()), None)
        checks += check_modelfile(made.folder / "ollama" / MODELFILE, texts, gguf=gguf)
    for one in checks:
        yield _with_short_places(one, f"{made.folder}/")


def server_checks(job: ShipJob, url: str, model: str, api_key: str) -> list[Checked]:
    """The checks of a running server that is to run this job's model.

    Raises HarnessError for a server that cannot be reached, or that is none of those known.
    """
    pages = ServerPages(url, api_key=api_key)
    return check_server(pages, texts_of(find_trained(job), job.data), model)


def _stops_of_requests(made: Made) -> tuple[str, ...] | None:
    file = made.folder / "llamacpp" / "request.json"
    return tuple(read_json_object(file).get("stop", ())) if file.is_file() else None


def _for_vllm(one: Checked) -> Checked:
    reason = "; ".join(filter(None, (one.reason, "the files that vLLM reads; no vLLM was run")))
    return replace(one, runtime="vllm", reason=reason)


def _with_short_places(one: Checked, folder: str) -> Checked:
    findings = tuple(
        replace(found, where=found.where.replace(folder, "")) for found in one.findings
    )
    return replace(one, findings=findings, reason=one.reason.replace(folder, ""))
