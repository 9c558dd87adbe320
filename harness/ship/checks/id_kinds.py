"""Name the difference between the ids that were trained and those that a runtime sends.

Used only if the texts are equal apart from BOS.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.ship.checks.text_kinds import without_bos
from harness.ship.checks.trained_texts import TrainedPrompt, TrainedTexts
from harness.tokens.encode import special_texts

OTHER = "other-tokenizer"
_SHOWN = 4


def id_kinds(trained: TrainedTexts, prompt: TrainedPrompt, sent: Sequence[int]) -> list[str]:
    """The kinds of difference, none if the ids are equal. BOS has kinds of its own."""
    bos = trained.tokenizer.bos_token_id
    mine, count = without_bos_ids(prompt.ids, bos)
    theirs, sent_count = without_bos_ids(sent, bos)
    kinds = []
    if sent_count != count:
        kinds.append(bos_kind(count, sent_count))
    if mine != theirs:
        kinds.append(_kind(trained, prompt, mine, theirs))
    return kinds


def bos_kind(trained: int, sent: int) -> str:
    """The kind of difference between two numbers of BOS at the beginning."""
    if sent > trained:
        return "double-bos" if trained else "unexpected-bos"
    return "missing-bos"


def without_bos_ids(ids: Sequence[int], bos: int | None) -> tuple[tuple[int, ...], int]:
    """The ids without BOS at their beginning, and how many there were."""
    count = 0
    while count < len(ids) and ids[count] == bos:
        count += 1
    return tuple(ids[count:]), count


def _kind(
    trained: TrainedTexts, prompt: TrainedPrompt, mine: tuple[int, ...], theirs: tuple[int, ...]
) -> str:
    tokenizer = trained.tokenizer
    if theirs[:-1] == mine and theirs[-1] == tokenizer.eos_token_id:
        return "added-eos"
    if theirs in (mine[: len(theirs)], mine[-len(theirs) :]):  # mine itself, if theirs is longer
        return "truncated"
    text = prompt.rendered.text
    bos = tokenizer.bos_token_id
    whole, _ = without_bos_ids(tokenizer(text, add_special_tokens=False).input_ids, bos)
    controls = {tokenizer.convert_tokens_to_ids(known) for known in special_texts(tokenizer)}
    controls.discard(tokenizer.unk_token_id)  # letters that the tokenizer lacks are text
    marks, sent_marks = (sum(1 for one in ids if one in controls) for ids in (mine, theirs))
    if theirs == whole:
        return "control-in-content" if sent_marks > marks else "edge-merged"
    if sent_marks < marks and (
        theirs in _spelt(trained, text) or _decoded(tokenizer, theirs) == _decoded(tokenizer, mine)
    ):
        return "special-as-text"
    return OTHER


def _spelt(trained: TrainedTexts, text: str) -> list[tuple[int, ...]]:
    """The ids of a text whose control tokens are read as text: with its BOS, and without BOS."""
    texts = [text, without_bos(text, trained.bos)[0]]
    options = {"add_special_tokens": False, "split_special_tokens": True}
    return [tuple(trained.tokenizer(one, **options).input_ids) for one in texts]


def _decoded(tokenizer: object, ids: Sequence[int]) -> str:
    decode = tokenizer.decode  # type: ignore[attr-defined]  # transformers is not typed
    text: str = decode(list(ids), clean_up_tokenization_spaces=False)
    return text.strip()


def id_window(trained: TrainedTexts, mine: Sequence[int], theirs: Sequence[int]) -> str:
    """The ids around the first difference, with their texts."""
    at = next(
        (at for at, (one, other) in enumerate(zip(mine, theirs, strict=False)) if one != other),
        min(len(mine), len(theirs)),
    )
    return f"trained {_shown(trained, mine, at)}, sent {_shown(trained, theirs, at)} at id {at}"


def _shown(trained: TrainedTexts, ids: Sequence[int], at: int) -> str:
    few = list(ids[at : at + _SHOWN])
    size = len(trained.tokenizer)
    words = "".join(
        trained.tokenizer.decode([one], clean_up_tokenization_spaces=False) if one < size else "�"
        for one in few
    )
    return f"{few}{'…' if len(ids) > at + _SHOWN else ''} {words!r}" if few else "nothing more"
