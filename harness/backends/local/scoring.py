"""Log-probabilities of given answers, in prefix-tree packs, padded rows or single rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.backends.local.batches import by_length
from harness.backends.local.engine import longest_packed, row_engine
from harness.backends.local.forward import Forward, forward_of
from harness.backends.local.limits import most_positions, rotation_turn
from harness.backends.local.off_script import off_script_mass
from harness.backends.local.out_of_memory import attempt, nothing_fits
from harness.backends.local.packing import WIDTH, Pack, pack, tensors
from harness.backends.local.padded import logits_at
from harness.backends.local.room import Room
from harness.backends.protocol import ScoreRequest
from harness.models import LoadedModel
from harness.records import Encoded, Loglikelihood
from harness.tokens.encode import encode

if TYPE_CHECKING:
    import torch

Scored = list[tuple[str, list[Loglikelihood]]]
#: Rows of logits converted to float32 at a time.
_ROWS = 64


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """A request as ids: those of each answer up to the last scored one, and the places to score."""

    key: str
    ids: tuple[tuple[int, ...], ...]
    scored: tuple[tuple[int, ...], ...]
    language: str = ""

    @property
    def width(self) -> int:
        """The length of its longest sequence."""
        return max(map(len, self.ids))

    @classmethod
    def of(cls, request: ScoreRequest, loaded: LoadedModel) -> EncodedRequest:
        """Encode a request. The first id of a text has no prediction, so it is never scored."""
        encoded = [encode(answer, loaded.tokenizer) for answer in request.answers]
        scored = tuple(
            tuple(at for at, content in enumerate(e.content) if content and at) for e in encoded
        )
        language = request.language if len(encoded) == 1 else ""
        return cls(
            request.key,
            tuple(_until(e, places) for e, places in zip(encoded, scored, strict=True)),
            scored,
            language,
        )


@dataclass(frozen=True, slots=True)
class _Lookup:
    """For each scored token of a batch, in order: the row of the logits that predicts it, its id.

    ``places`` are the positions whose logits are computed; ``sizes`` are the tokens of each answer.
    """

    places: list[int]
    rows: list[int]
    ids: list[int]
    sizes: list[int]


def score(requests: Sequence[ScoreRequest], loaded: LoadedModel, room: Room) -> Iterator[Scored]:
    """Score requests in batches, each a forward pass of at most ``room.pass_tokens`` tokens.

    A pass that does not fit into the memory is halved and repeated, and so are those after it. A
    request that does not fit into the model's window is left out. Raises HarnessError when a
    request alone does not fit into the memory.
    """
    most = most_positions(loaded)
    prepared = [
        item
        for item in (EncodedRequest.of(request, loaded) for request in requests)
        if item.width <= most
    ]
    longest = longest_packed(loaded)
    packed = [item for item in prepared if item.width <= longest]
    if packed:
        forward = forward_of(loaded, max(item.width for item in packed))
        yield from _in_packs(packed, loaded, forward, room)
    yield from _in_rows([item for item in prepared if item.width > longest], loaded, room)


def _in_packs(
    waiting: Sequence[EncodedRequest], loaded: LoadedModel, forward: Forward, room: Room
) -> Iterator[Scored]:
    """Score requests in packs; what is left is packed again where the room has shrunk."""
    while waiting:
        done: set[int] = set()
        trees = pack([item.ids for item in waiting], min(WIDTH, room.pass_tokens))
        for packs in by_length(trees, len, room.pass_tokens, room.rows):
            found = attempt(loaded, _score_packs, waiting, packs, loaded, forward)
            if found is None:
                groups = sum(len(tree.groups) for tree in packs)
                _shrink(room, loaded, len(packs) * max(map(len, packs)), alone=groups == 1)
                break
            room.say_once()
            done.update(number for tree in packs for number in tree.groups)
            yield found
        waiting = [item for number, item in enumerate(waiting) if number not in done]


def _in_rows(
    waiting: Sequence[EncodedRequest], loaded: LoadedModel, room: Room
) -> Iterator[Scored]:
    """Score requests in rows, each an answer."""
    while waiting:
        done: set[int] = set()
        for batch in by_length(waiting, _padded_tokens, room.pass_tokens, room.rows):
            found = attempt(loaded, _score_rows, batch, loaded, room.pass_tokens)
            if found is None:
                tokens = len(batch) * max(map(_padded_tokens, batch))
                largest = min(room.pass_tokens, tokens)
                alone = len(batch) == 1 and (
                    largest < 2 * batch[0].width or row_engine(loaded) != "padded rows"
                )
                _shrink(room, loaded, tokens, alone=alone)
                break
            room.say_once()
            done.update(map(id, batch))
            yield found
        waiting = [item for item in waiting if id(item) not in done]


def _padded_tokens(item: EncodedRequest) -> int:
    return item.width * len(item.ids)


def _shrink(room: Room, loaded: LoadedModel, tokens: int, *, alone: bool) -> None:
    """Halve the room after a pass that did not fit. Raises HarnessError for a request alone."""
    if alone:
        raise nothing_fits(loaded, f"one request of {tokens} tokens", "")
    room.halve_pass(tokens)


def _score_packs(
    items: Sequence[EncodedRequest], packs: list[Pack], loaded: LoadedModel, forward: Forward
) -> Scored:
    """Score one batch of packs. The logits after a prompt are computed once for all its options."""
    import torch

    ids, positions, bias = tensors(packs, loaded.torch_dtype, loaded.device)
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


def _score_rows(batch: list[EncodedRequest], loaded: LoadedModel, budget: int) -> Scored:
    """Score one batch of rows, each an answer, in as few forward passes as the model allows.

    A pass over several rows has at most ``budget`` tokens.
    """
    import torch

    rows = [row for item in batch for row in item.ids]
    width = max(map(len, rows))
    lookup = _lookup(batch, [range(at * width, (at + 1) * width) for at in range(len(rows))])
    wanted: list[list[int]] = [[] for _ in rows]
    for place in lookup.places:
        wanted[place // width].append(place % width)
    logits: dict[int, torch.Tensor] = {}
    with loaded.inference():
        for group in _groups(rows, loaded, budget):
            found = logits_at([rows[at] for at in group], [wanted[at] for at in group], loaded)
            logits |= dict(zip(group, found, strict=True))
        return _read(batch, lookup, torch.cat([logits[at] for at in range(len(rows))]), loaded)


def _groups(rows: Sequence[Sequence[int]], loaded: LoadedModel, budget: int) -> list[list[int]]:
    """The rows that may share a forward pass of at most ``budget`` padded tokens, by number."""
    numbers = range(len(rows))
    if row_engine(loaded) != "padded rows":
        return [[at] for at in numbers]
    turn = rotation_turn(loaded)
    sides = [[at for at in numbers if (len(rows[at]) > turn) is beyond] for beyond in (True, False)]
    most = max(1, budget // max(map(len, rows)))
    return [side[at : at + most] for side in sides for at in range(0, len(side), most)]


def _lookup(batch: Sequence[EncodedRequest], nodes: Sequence[Sequence[int]]) -> _Lookup:
    places: dict[int, int] = {}
    rows, ids, sizes = [], [], []
    answers = [
        (row, scored) for item in batch for row, scored in zip(item.ids, item.scored, strict=True)
    ]
    for (row, scored), path in zip(answers, nodes, strict=True):
        for at in scored:
            rows.append(places.setdefault(path[at - 1], len(places)))
            ids.append(row[at])
        sizes.append(len(scored))
    return _Lookup(list(places), rows, ids, sizes)


def _read(
    batch: Sequence[EncodedRequest], lookup: _Lookup, logits: torch.Tensor, loaded: LoadedModel
) -> Scored:
    """Log-probabilities, and with a language the probability of other scripts, at each token."""
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


def _until(encoded: Encoded, scored: Sequence[int]) -> tuple[int, ...]:
    return encoded.ids[: scored[-1] + 1 if scored else 1]
