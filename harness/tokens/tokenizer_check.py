"""Check a format against a tokenizer and its embedding, without running the model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats.adapt import adapt_to_format
from harness.formats.properties import FormatReport, check_format
from harness.formats.render import render
from harness.records import Format, Rendered
from harness.tokens.encode import bos_text, encode, eos_text, special_texts

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

_TURNS = (
    Message("system", "the rules"),
    Message("user", "first question"),
    Message("assistant", "first answer"),
    Message("user", "second question"),
    Message("assistant", "second answer"),
)
#: Text that looks like a control string: <|im_end|>, </s>, [INST], <<SYS>>.
_TAG = re.compile(r"<\|[^\s|<>]+\|>|<<?/?[A-Za-z_]+>>?|\[/?[A-Z_]+\]|<｜[^｜<>]+｜>")
#: A tag whose embedding is shorter than this fraction of the median row was hardly trained.
_UNTRAINED = 0.4
_SHORT_CONTEXT = 1024


def check_tokenizer(
    report: FormatReport,
    chat_format: Format,
    tokenizer: PreTrainedTokenizerBase,
    norms: np.ndarray[Any, Any] | None = None,
) -> FormatReport:
    """Add to a format's report the properties that depend on the tokenizer.

    ``norms`` are the lengths of the embedding's rows, [vocabulary].
    """
    if not report.properties.get("lossless"):
        return report
    properties, findings = dict(report.properties), list(report.findings)
    whole = _rendered(chat_format, tokenizer, _TURNS)
    encoded = encode(whole, tokenizer)
    unsplit = tuple(tokenizer(whole.text, add_special_tokens=False).input_ids)
    for name, value, finding in (
        _prompt_ids(report, chat_format, tokenizer, encoded.ids),
        ("boundary_safe", unsplit == encoded.ids, ""),
        _bos(tokenizer, encoded.ids),
        _tags(chat_format, tokenizer, whole.text),
        _untrained(tokenizer, whole.text, norms),
        _stop_ids(chat_format, tokenizer, whole, encoded.ids, encoded.trained),
        _injection(chat_format, tokenizer),
        _truncation(tokenizer),
    ):
        properties[name] = value
        if finding:
            findings.append(finding)
    return replace(report, properties=properties, findings=tuple(findings))


def training_findings(chat_format: Format, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What is wrong with training in a format: a sentence for each fault.

    No stop is trained, or nothing at all; the text begins with two BOS, or not with the prompt.
    The other findings of ``check_tokenizer`` do not keep a model from learning.
    """
    report = check_format(chat_format)
    findings = list(report.findings)
    if report.properties.get("lossless"):
        ids = encode(_rendered(chat_format, tokenizer, _TURNS), tokenizer).ids
        findings.append(_prompt_ids(report, chat_format, tokenizer, ids)[2])
        _, count, finding = _bos(tokenizer, ids)
        findings.append(finding if count > 1 else "")
    return [finding for finding in findings if finding]


#: The input embedding's name in the known layouts.
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")


def embedding_norms(folder: str) -> np.ndarray[Any, Any] | None:
    """The lengths of the input embedding's rows, read from a folder's safetensors.

    None where there are none (GGUF, other layouts).
    """
    import torch
    from safetensors import safe_open

    for file in sorted(Path(folder).glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                name = next((key for key in tensors.keys() if key.endswith(_EMBEDDINGS)), "")  # noqa: SIM118  # no mapping
                weight = tensors.get_tensor(name) if name else None
        except Exception as error:  # safetensors has exceptions of its own for each kind of damage
            reason = str(error).partition("\n")[0]
            raise HarnessError(f"cannot read the tensors: {reason}", where=str(file)) from None
        if weight is not None:
            norms: np.ndarray[Any, Any] = torch.linalg.vector_norm(weight.float(), dim=1).numpy()
            return norms
    return None


def control_strings(chat_format: Format, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The strings of a format that look like control tokens, known to this tokenizer or not."""
    return _tags_in(_rendered(chat_format, tokenizer, _TURNS).text)


def untrained_tokens(
    tokenizer: PreTrainedTokenizerBase, strings: list[str], norms: np.ndarray[Any, Any]
) -> list[str]:
    """Those of these control tokens whose embeddings are so short that nothing trained them."""
    import numpy as np

    limit = _UNTRAINED * float(np.median(norms))
    known = special_texts(tokenizer)
    return [
        text
        for text in strings
        if text in known and norms[tokenizer.convert_tokens_to_ids(text)] < limit
    ]


def _rendered(
    chat_format: Format,
    tokenizer: PreTrainedTokenizerBase,
    messages: tuple[Message, ...],
    *,
    prompt: bool = False,
) -> Rendered:
    conversation = adapt_to_format(Conversation("probe", messages), chat_format)
    options: dict[str, Any] = {
        "add_generation_prompt": prompt,
        "bos_token": bos_text(tokenizer),
        "eos_token": eos_text(tokenizer),
    }
    try:
        return render(conversation, chat_format, **options)
    except HarnessError:
        return render(Conversation("probe", messages[1:]), chat_format, **options)


def _prompt_ids(
    report: FormatReport,
    chat_format: Format,
    tokenizer: PreTrainedTokenizerBase,
    ids: tuple[int, ...],
) -> tuple[str, bool, str]:
    """Whether the trained ids begin with those of the last answer's prompt."""
    prompt = _rendered(chat_format, tokenizer, _TURNS[:-1], prompt=True)
    sent = encode(prompt, tokenizer).ids
    is_prefix = ids[: len(sent)] == sent
    finding = (
        "The ids of the prompt are not a prefix of the trained ids, so the model is prompted in a "
        "form it was not trained on: begin the answer inside the generation block."
    )
    wrong = report.properties["prefix_stable"] and not is_prefix
    return "prompt_is_token_prefix", is_prefix, finding if wrong else ""


def _bos(tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...]) -> tuple[str, int, str]:
    bos = tokenizer.bos_token_id
    count = 0 if bos is None else ids[:2].count(bos)
    adds = bos is not None and tokenizer("", add_special_tokens=True).input_ids[:1] == [bos]
    finding = ""
    if count == 2:
        finding = (
            "The ids begin with two BOS: the template writes one too many. Write bos_token once."
        )
    elif adds and not count:
        finding = (
            "The tokenizer puts a BOS before every text and this format writes none, so the model "
            "is prompted in a form it was not trained on: begin the template with bos_token."
        )
    return "bos_count", count, finding


def _tags_in(text: str) -> list[str]:
    return sorted(set(_TAG.findall(text)))


def _tags(
    chat_format: Format, tokenizer: PreTrainedTokenizerBase, text: str
) -> tuple[str, dict[str, int], str]:
    """Each control string of the format with its number of ids."""
    known = special_texts(tokenizer)
    counts = {
        tag: 1
        if tag in known
        else len(tokenizer("x" + tag, add_special_tokens=False).input_ids) - 1
        for tag in _tags_in(text)
    }
    split = [tag for tag in chat_format.stop_tokens if tag not in known]
    if not split:
        return "tags", counts, ""
    verb, them = ("is", "it") if len(split) == 1 else ("are", "them")
    finding = (
        f"{', '.join(split)} {verb} plain text to this tokenizer: the model must learn to spell "
        f"{them}; add {them} as special tokens or choose a format without {them}."
    )
    return "tags", counts, finding


def _untrained(
    tokenizer: PreTrainedTokenizerBase, text: str, norms: np.ndarray[Any, Any] | None
) -> tuple[str, list[str] | None, str]:
    if norms is None:
        return "untrained_tags", None, ""
    tags = untrained_tokens(tokenizer, _tags_in(text), norms)
    finding = (
        f"{', '.join(tags)}: in the vocabulary, but hardly trained (short embedding). Train the "
        "embedding too (trainable_token_indices), or choose another format."
    )
    return "untrained_tags", tags, finding if tags else ""


def _stop_ids(
    chat_format: Format,
    tokenizer: PreTrainedTokenizerBase,
    whole: Rendered,
    ids: tuple[int, ...],
    trained: tuple[bool, ...],
) -> tuple[str, bool, str]:
    """Whether an id that ends generation is trained: EOS, or a stop that is a single token."""
    ends = {
        tokenizer.eos_token_id,
        *(
            tokenizer.convert_tokens_to_ids(token)
            for token in chat_format.stop_tokens
            if token in special_texts(tokenizer)
        ),
    }
    trained_text = "".join(
        whole.text[span.start : span.end] for span in whole.spans if span.trained
    )
    is_trained = any(
        flag and token_id in ends for token_id, flag in zip(ids, trained, strict=True)
    ) or any(stop.strip() and stop in trained_text for stop in whole.stops)
    finding = "No trained id ends generation: put eos_token or the stop before endgeneration."
    return "stop_in_trained_ids", is_trained, "" if is_trained else finding


def _injection(chat_format: Format, tokenizer: PreTrainedTokenizerBase) -> tuple[str, bool, str]:
    """Whether control strings in a question are encoded as text."""
    controls = {tokenizer.convert_tokens_to_ids(text) for text in special_texts(tokenizer)}

    def count(words: str) -> int:
        rendered = _rendered(
            chat_format,
            tokenizer,
            (Message("system", "the rules"), Message("user", words)),
            prompt=True,
        )
        return sum(1 for token_id in encode(rendered, tokenizer).ids if token_id in controls)

    safe = count("a question") == count("a question" + "".join(_hostile(chat_format, tokenizer)))
    finding = (
        "A control string in a question becomes a control token, so a user can close the turn: "
        "this tokenizer cannot encode it as text."
    )
    return "injection_safe", safe, "" if safe else finding


def _hostile(chat_format: Format, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    yield from chat_format.stops
    yield from special_texts(tokenizer)


def _truncation(tokenizer: PreTrainedTokenizerBase) -> tuple[str, int | None, str]:
    longest = tokenizer.model_max_length if tokenizer.model_max_length < 10**9 else None
    finding = (
        f"The tokenizer cuts conversations to {longest} tokens wherever truncation is requested: "
        "check max_length in training and serving."
    )
    return "longest", longest, finding if longest is not None and longest < _SHORT_CONTEXT else ""
