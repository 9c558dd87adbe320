"""Rendered × tokenizer → Encoded: one function for training and evaluation.

The text is split where an answer begins and ends, and each part is tokenised alone. So the ids
before an answer are exactly those that inference sends ("train as you infer"), whatever the first
letters of the answer are, and no label is ever found by searching tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import HarnessError
from harness.records import Encoded, Rendered, Span, SpanKind

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ANCHOR = "\n"


class TokenSpan(NamedTuple):
    """A token and its characters ``[start, end)`` of the rendered text.

    ``message`` is that of the first span of its part, ``kind`` that of the span in which it begins.
    The tokens of one character (bytes of an emoji) share its place; a token of no character has
    ``start == end``.
    """

    id: int
    start: int
    end: int
    trained: bool
    message: int
    weight: float
    kind: SpanKind


def bos_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """The BOS text that a template may write, or "" if the model was not trained with one.

    A tokenizer can name a BOS that it never puts before a text (SmolLM2 names ``<|im_start|>``). It
    counts only when the tokenizer adds it by itself or the model's own chat template writes it.
    """
    bos = tokenizer.bos_token
    if not bos:
        return ""
    added = tokenizer.bos_token_id in tokenizer("", add_special_tokens=True).input_ids
    return str(bos) if added or "bos_token" in str(tokenizer.chat_template) else ""


def eos_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's EOS text. Raises HarnessError when it has none."""
    if not tokenizer.eos_token:
        raise HarnessError(
            "the tokenizer has no EOS token",
            where=str(tokenizer.name_or_path),
            hint="set eos_token in tokenizer_config.json",
        )
    return str(tokenizer.eos_token)


def encode(rendered: Rendered, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """The ids of a rendered text, which of them are trained, and which carry the last answer.

    Content that spells a control token of this tokenizer is encoded as plain text, so a user cannot
    close a turn. A token is ``content`` when it carries at least one character of the last trained
    answer's words. An answer of weight 0, or a part of one that the loss leaves out, is tokenised
    like any other and not trained.
    """
    last = max(
        (span.message for span in rendered.spans if span.trained and span.kind == "content"),
        default=-1,
    )
    words = [
        (s.start, s.end)
        for s in rendered.spans
        if s.kind == "content" and s.trained and s.message == last
    ]
    ids: list[int] = []
    trained: list[bool] = []
    content: list[bool] = []
    weights: list[float] = []
    kinds: list[SpanKind] = []
    for token in token_spans(rendered, tokenizer):
        ids.append(token.id)
        trained.append(token.trained)
        content.append(any(token.start < b and a < token.end for a, b in words))
        weights.append(token.weight)
        if token.trained:
            kinds.append(token.kind)
    return Encoded(
        tuple(ids),
        tuple(trained),
        tuple(content),
        tuple(weights) if rendered.weights else (),
        tuple(kinds),
    )


def token_spans(rendered: Rendered, tokenizer: PreTrainedTokenizerBase) -> Iterator[TokenSpan]:
    """The ids of ``encode`` one by one, each with its characters.

    An answer is tokenised alike, whichever of its parts are trained.
    """
    spans, context = rendered.spans, frozenset(rendered.context)
    at = 0
    for part in _parts(spans):
        begin, end = part[0].start, part[-1].end
        weight = _weight(rendered, part)
        trained = part[0].trained and weight > 0
        for token_id, start, stop in _tokens(rendered, part, begin, end, tokenizer):
            while spans[at].end <= begin + start < end:
                at += 1
            yield TokenSpan(
                token_id,
                begin + start,
                begin + stop,
                trained and at not in context,
                part[0].message,
                weight,
                spans[at].kind,
            )


def _weight(rendered: Rendered, part: list[Span]) -> float:
    """The loss weight of a part: its message's where it is an answer, else 1."""
    message = part[0].message
    return (
        rendered.weights[message] if rendered.weights and part[0].trained and message >= 0 else 1.0
    )


def first_ids(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The first id of each text when it continues other text. No text may be empty."""
    anchor = _anchor_after_text(tokenizer, 1)
    skipped = len(tokenizer(anchor, add_special_tokens=False).input_ids)
    return [
        ids[skipped]
        for ids in tokenizer([anchor + text for text in texts], add_special_tokens=False).input_ids
    ]


def texts_of(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The characters that each id adds to a text, its leading space included."""
    before = tokenizer(_ANCHOR, add_special_tokens=False).input_ids
    skipped = len(tokenizer.decode(before, clean_up_tokenization_spaces=False))
    return [
        text[skipped:]
        for text in tokenizer.batch_decode(
            [[*before, token_id] for token_id in ids], clean_up_tokenization_spaces=False
        )
    ]


def prompt_ids(rendered: Rendered, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of a text that ends with a generation prompt, as sent to the model."""
    return list(encode(rendered, tokenizer).ids)


@lru_cache(maxsize=16)
def special_texts(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The texts that this tokenizer turns into a single control token."""
    return tuple(
        sorted(
            set(tokenizer.all_special_tokens)
            | {str(t.content) for t in tokenizer.added_tokens_decoder.values()}
        )
    )


def _parts(spans: tuple[Span, ...]) -> Iterator[list[Span]]:
    """Runs of spans that are tokenised together: a new one where an answer begins or ends."""
    run: list[Span] = []
    for span in spans:
        if run and (
            span.trained != run[-1].trained or (span.trained and span.message != run[-1].message)
        ):
            yield run
            run = []
        run.append(span)
    if run:
        yield run


def _tokens(
    rendered: Rendered, part: list[Span], begin: int, end: int, tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[int, int, int]]:
    """Yield (id, start, end) with offsets relative to ``begin``."""
    text = rendered.text
    control = _control_pattern(tokenizer)
    marks = (
        [m.span() for run in _own_runs(part, rendered.plain) for m in control.finditer(text, *run)]
        if control
        else []
    )
    if not control or not _spelt_in_content(control, text, begin, end, marks):
        yield from _encode_text(text, begin, end, tokenizer)
        return
    # Content spells a control token: only the format's marks are tokens, all between them is text.
    strips = _strips(tokenizer)
    at, anchor = begin, _anchor_after_text(tokenizer, begin)
    for start, stop in [*marks, (end, end)]:
        left, right = strips.get(text[start:stop], (False, False))
        plain = len(text[at:start].rstrip()) + at if left else start
        yield from (
            (token_id, a + at - begin, b + at - begin)
            for token_id, a, b in _encode_text(
                text, at, plain, tokenizer, anchor=anchor, as_text=True
            )
        )
        if stop > start:
            at = stop + (len(text[stop:end]) - len(text[stop:end].lstrip()) if right else 0)
            yield tokenizer.convert_tokens_to_ids(text[start:stop]), plain - begin, at - begin
            anchor = _anchor_after_control(tokenizer)


def _spelt_in_content(
    control: re.Pattern[str], text: str, begin: int, end: int, marks: list[tuple[int, int]]
) -> bool:
    """Whether the content, and not the format, spells a control token."""
    return [m.span() for m in control.finditer(text, begin, end)] != marks


def _own_runs(part: list[Span], plain: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int]]:
    """The ranges of the format's own text: what is no content, and no text of a thought or call."""
    for is_content, spans in groupby(part, key=lambda span: span.kind == "content"):
        if is_content:
            continue
        run = list(spans)
        at, last = run[0].start, run[-1].end
        for start, end in plain:
            if at <= start and end <= last:
                yield at, start
                at = end
        yield at, last


def _encode_text(
    text: str,
    start: int,
    end: int,
    tokenizer: PreTrainedTokenizerBase,
    *,
    anchor: str | None = None,
    as_text: bool = False,
) -> list[tuple[int, int, int]]:
    """Tokens of ``text[start:end]`` with offsets relative to ``start``.

    ``anchor`` is tokenised before the text, and its tokens are dropped.
    """
    anchor = _anchor_after_text(tokenizer, start) if anchor is None else anchor
    extra: dict[str, Any] = {"split_special_tokens": True} if as_text else {}
    batch = tokenizer(
        anchor + text[start:end], add_special_tokens=False, return_offsets_mapping=True, **extra
    )
    size = len(anchor)
    return [
        (token_id, start - size, end - size)
        for token_id, (start, end) in zip(batch["input_ids"], batch["offset_mapping"], strict=True)
        if end > size or (start == end and start > size)
    ]


def _anchor_after_text(tokenizer: PreTrainedTokenizerBase, start: int) -> str:
    """The anchor that keeps a tokenizer from adding a space where a text continues."""
    return _ANCHOR if start and _adds_leading_space(tokenizer) else ""


@lru_cache(maxsize=16)
def _anchor_after_control(tokenizer: PreTrainedTokenizerBase) -> str:
    """The anchor behind a control token, where only some tokenizers add a space."""
    control = next(iter(special_texts(tokenizer)))
    behind = tokenizer(control + "x", add_special_tokens=False).input_ids[1:]
    return (
        ""
        if behind == tokenizer("x", add_special_tokens=False).input_ids
        else _anchor_after_text(tokenizer, 1)
    )


@lru_cache(maxsize=16)
def _control_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    texts = sorted(filter(None, special_texts(tokenizer)), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, texts))) if texts else None


@lru_cache(maxsize=16)
def _strips(tokenizer: PreTrainedTokenizerBase) -> dict[str, tuple[bool, bool]]:
    """Whether each control token swallows the white space to its left and to its right."""
    return {
        str(token.content): (token.lstrip, token.rstrip)
        for token in tokenizer.added_tokens_decoder.values()
    }


@lru_cache(maxsize=16)
def _adds_leading_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether this tokenizer adds a space before a text (SentencePiece's dummy prefix)."""
    anchor = tokenizer(_ANCHOR, add_special_tokens=False).input_ids
    behind = tokenizer(_ANCHOR + "x", add_special_tokens=False).input_ids[len(anchor) :]
    return bool(behind != tokenizer("x", add_special_tokens=False).input_ids)
