"""What a server makes of a text sent to ``/v1/completions``: how formats are measured there.

The server's tokenizer may add a BOS, or add none although training had one. Evaluations send the
text without BOS (harness.backends.openai).
"""

from __future__ import annotations

from typing import Any

from harness.ship.checks.compare_runtime import Found
from harness.ship.checks.id_kinds import id_kinds, id_window
from harness.ship.checks.server_pages import ServerPages
from harness.ship.checks.server_runtime import LLAMA, SGLANG, VLLM, ServedModel, token_ids
from harness.ship.checks.text_kinds import without_bos
from harness.ship.checks.trained_texts import TrainedTexts
from harness.ship.findings import Checked

COMPLETIONS = "completions"
_PROMPTS = 20
_SHORT = "One two three."


def check_completions(
    pages: ServerPages, served: ServedModel, trained: TrainedTexts, runtime: str
) -> Checked:
    """Compare the ids of texts without BOS, and say whether an echo gives log-probabilities."""
    if served.kind not in (LLAMA, VLLM, SGLANG):
        return Checked.not_checked(
            COMPLETIONS, runtime, "it cannot tokenise a text without a template"
        )
    found, prompts = Found(), trained.prompts[:_PROMPTS]
    for prompt in prompts:
        text = without_bos(prompt.rendered.text, trained.bos_written)[0]
        ids = _tokenised(pages, served, text)
        if ids is None:
            reason = "the server did not tokenise the text"
            return Checked.not_checked(COMPLETIONS, runtime, reason)
        for kind in id_kinds(trained, prompt, ids):
            found.add(kind, prompt.where, id_window(trained, prompt.ids, ids))
    findings = found.findings(COMPLETIONS, runtime, len(prompts))
    reason = f"{len(prompts)} prompts as texts; {_echo(pages, served)}"
    return Checked.of(COMPLETIONS, runtime, findings, reason)


def _tokenised(pages: ServerPages, served: ServedModel, text: str) -> tuple[int, ...] | None:
    if served.kind == LLAMA:
        body: dict[str, Any] = {"content": text, "add_special": True, "parse_special": True}
    else:
        body = {"model": served.model, "prompt": text, "add_special_tokens": True}
    return token_ids(pages.post("/tokenize", body).get("tokens"))


def _echo(pages: ServerPages, served: ServedModel) -> str:
    """Whether an echo gives the log-probabilities of a prompt, and which numbers are wrong."""
    body = {"model": served.model, "prompt": _SHORT, "max_tokens": 1, "temperature": 0}
    page = pages.post("/v1/completions", {**body, "echo": True, "logprobs": 1})
    choices = page.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    given = first.get("logprobs") if isinstance(first, dict) else None
    tokens = given.get("tokens") if isinstance(given, dict) else None
    values = given.get("token_logprobs") if isinstance(given, dict) else None
    if not isinstance(tokens, list) or not isinstance(values, list):
        return "it gives no log-probabilities of a prompt"
    joined = "".join(map(str, tokens))
    if _SHORT not in joined:
        return "its echo does not contain the prompt, so nothing can be scored"
    notes = [f"log-probabilities by echo of {len(tokens) - 1} tokens"]
    offsets = given.get("text_offset") if isinstance(given, dict) else None
    if isinstance(offsets, list) and any(isinstance(one, int) and one < 0 for one in offsets):
        notes.append("its text_offset is −1 and is not used")
    before = joined.partition(_SHORT)[0]
    if before:
        notes.append(f"{before!r} comes before the prompt and is left out")
    return ", ".join(notes)
