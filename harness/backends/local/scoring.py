"""Log-probabilities of answers' own words, in packs or in padded rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.backends.local.batches import by_length
from harness.backends.local.forward import Forward, forward_of
from harness.backends.local.off_script import off_script_mass
from harness.backends.local.packing import Pack, longest_packed, most_positions, pack, tensors
from harness.backends.local.padded import pad
from harness.backends.protocol import ScoreRequest
from harness.models import LoadedModel
from harness.models.logits import only_at
from harness.records import Encoded, Loglikelihood
from harness.tokens.encode import encode

if TYPE_CHECKING:
    import torch

Scored = list[tuple[str, list[Loglikelihood]]]
#: Rows of logits turned to float32 at a time.
_ROWS = 64


@dataclass(frozen=True, slots=True)
class Answers:
    """A request with its answers' ids up to the last one asked for, and where in them the asked-for ones stand."""

    key: str
    ids: tuple[tuple[int, ...], ...]
    asked: tuple[tuple[int, ...], ...]
    language: str = ""

    def width(self) -> int:
        return max(map(len, self.ids))

    @classmethod
    def of(cls, request: ScoreRequest, loaded: LoadedModel) -> Answers:
        """Encode a request. Nothing after the last word of an answer is run, and the first id of a text is not asked for."""
        encoded = [encode(answer, loaded.tokenizer) for answer in request.answers]
        asked = tuple(
            tuple(at for at, content in enumerate(e.content) if content and at) for e in encoded
        )
        language = request.language if len(encoded) == 1 else ""
        return cls(
            request.key,
            tuple(_until(e, places) for e, places in zip(encoded, asked, strict=True)),
            asked,
            language,
        )


@dataclass(frozen=True, slots=True)
class _Lookup:
    """For every asked-for token of a batch, in order: the row of the logits that predicts it, and its id. ``sizes`` part it by answer."""

    places: list[int]
    rows: list[int]
    ids: list[int]
    sizes: list[int]


def score(requests: Sequence[ScoreRequest], loaded: LoadedModel, budget: int) -> Iterator[Scored]:
    """Score requests batch by batch, a batch being a pass of at most ``budget`` tokens. What does not fit into the model's window is left out."""
    most = most_positions(loaded)
    prepared = [
        item
        for item in (Answers.of(request, loaded) for request in requests)
        if item.width() <= most
    ]
    longest = longest_packed(loaded)
    packed = [item for item in prepared if item.width() <= longest]
    if packed:
        forward = forward_of(loaded, max(item.width() for item in packed))
        for packs in by_length(pack([item.ids for item in packed]), len, budget, budget):
            yield _score_packs(packed, packs, loaded, forward)
    rows = [item for item in prepared if item.width() > longest]
    for batch in by_length(rows, lambda item: item.width() * len(item.ids), budget, budget):
        yield _score_rows(batch, loaded)


def _score_packs(
    items: Sequence[Answers], packs: list[Pack], loaded: LoadedModel, forward: Forward
) -> Scored:
    """One pass over packs. The logits behind a prompt are made once for all its options."""
    import torch

    ids, positions, bias = tensors(packs, getattr(torch, loaded.dtype), loaded.device)
    batch = [items[number] for tree in packs for number in tree.groups]
    nodes = [
        [at * ids.shape[1] + node for node in path]
        for at, tree in enumerate(packs)
        for paths in tree.paths
        for path in paths
    ]
    lookup = _lookup(batch, nodes)
    with loaded.inference():
        logits = forward.packs(
            ids, positions, bias, torch.tensor(lookup.places, dtype=torch.long, device=ids.device)
        )
        return _read(batch, lookup, logits, loaded)


def _score_rows(batch: list[Answers], loaded: LoadedModel) -> Scored:
    """One pass over padded rows, an answer a row."""
    import torch

    ids, mask = pad([row for item in batch for row in item.ids], loaded, left=False)
    nodes = [range(at * ids.shape[1], (at + 1) * ids.shape[1]) for at in range(len(ids))]
    lookup = _lookup(batch, nodes)
    with (
        loaded.inference(),
        only_at(loaded.model, torch.tensor(lookup.places, dtype=torch.long, device=ids.device)),
    ):
        logits = loaded.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0]
        return _read(batch, lookup, logits, loaded)


def _lookup(batch: Sequence[Answers], nodes: Sequence[Sequence[int]]) -> _Lookup:
    places: dict[int, int] = {}
    rows, ids, sizes = [], [], []
    answers = [
        (row, asked) for item in batch for row, asked in zip(item.ids, item.asked, strict=True)
    ]
    for (row, asked), path in zip(answers, nodes, strict=True):
        for at in asked:
            rows.append(places.setdefault(path[at - 1], len(places)))
            ids.append(row[at])
        sizes.append(len(asked))
    return _Lookup(list(places), rows, ids, sizes)


def _read(
    batch: Sequence[Answers], lookup: _Lookup, logits: torch.Tensor, loaded: LoadedModel
) -> Scored:
    """Log-probabilities, and where a language is given what other scripts had at each token."""
    import torch

    rows, ids = (
        torch.tensor(values, dtype=torch.long, device=logits.device)
        for values in (lookup.rows, lookup.ids)
    )
    normaliser = torch.cat(
        [logits[at : at + _ROWS].float().logsumexp(-1) for at in range(0, len(logits), _ROWS)]
    )
    values = (logits[rows, ids].float() - normaliser[rows]).tolist()
    masses = {
        language: off_script_mass(logits, loaded, language)[rows].tolist()
        for language in {item.language for item in batch} - {""}
    }
    results: Scored = []
    sizes = iter(lookup.sizes)
    at = 0
    for item in batch:
        scorings = []
        for _ in item.ids:
            here = slice(at, at := at + next(sizes))
            mass = (
                tuple(round(value, 5) for value in masses[item.language][here])
                if item.language
                else ()
            )
            scorings.append(
                Loglikelihood(
                    sum(values[here]),
                    here.stop - here.start,
                    tuple(round(value, 5) for value in values[here]),
                    mass,
                )
            )
        results.append((item.key, scorings))
    return results


def _until(encoded: Encoded, asked: Sequence[int]) -> tuple[int, ...]:
    return encoded.ids[: asked[-1] + 1 if asked else 1]
