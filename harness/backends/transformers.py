"""The local engine: a transformers model on CPU, CUDA or MPS, in large padded batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.backends.batches import by_length
from harness.backends.decoding import Decoder
from harness.backends.protocol import Answer, GenerateRequest, ScoreRequest
from harness.encode import bos_text, encode, eos_text
from harness.logits import only_at
from harness.models import LoadedModel
from harness.records import Encoded, Scoring
from harness.vocabulary import off_script_ids

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class _Scored:
    """A request with its encodings. ``shared`` is how many leading ids all answers have in common before their words."""

    key: str
    encoded: tuple[Encoded, ...]
    shared: int
    language: str = ""

    def width(self) -> int:
        return max(len(e.ids) for e in self.encoded)


class TransformersBackend:
    """Scores and generates with a loaded model. ``budget`` is the padded tokens of a batch, ``most`` its rows."""

    def __init__(self, loaded: LoadedModel, *, budget: int = 16384, most: int = 128) -> None:
        self.loaded = loaded
        self.budget = budget
        self.most = most

    @property
    def fingerprint(self) -> dict[str, str]:
        import transformers

        return {
            "backend": f"transformers-{transformers.__version__}",
            "model": self.loaded.digest,
            "adapter": self.loaded.adapter_digest,
            "tokenizer": self.loaded.tokenizer_digest,
            "dtype": self.loaded.dtype,
            "device": self.loaded.device.split(":")[0],
            **({"quantisation": str(self.loaded.quantisation)} if self.loaded.quantisation else {}),
        }

    @property
    def unscorable(self) -> str:
        return ""

    @property
    def bos_token(self) -> str:
        return bos_text(self.loaded.tokenizer)

    @property
    def eos_token(self) -> str:
        return eos_text(self.loaded.tokenizer)

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[list[tuple[str, Answer]]]:
        """Greedy answers. Rows that have stopped leave the batch early."""
        decoder = Decoder(self.loaded)
        prepared = [decoder.prepare(request) for request in requests]
        for batch in by_length(prepared, lambda row: len(row.ids) + row.max_new_tokens, self.budget, self.most):
            yield decoder.run(batch)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[list[tuple[str, list[Scoring]]]]:
        """Log-probabilities of the answers' own words. The prompt that several answers share is run once."""
        prepared = [self._prepare(request) for request in requests]
        single = [item for item in prepared if len(item.encoded) == 1 or item.shared < 1]
        several = [item for item in prepared if len(item.encoded) > 1 and item.shared >= 1]
        for batch in by_length(single, _Scored.width, self.budget, self.most):
            yield self._score_whole(batch)
        for batch in by_length(several, _Scored.width, self.budget // 2, self.most):
            yield self._score_shared(batch)

    def _prepare(self, request: ScoreRequest) -> _Scored:
        encoded = tuple(encode(answer, self.loaded.tokenizer) for answer in request.answers)
        shared = min(_first(e.content) for e in encoded)
        first = encoded[0].ids
        for other in encoded[1:]:
            while other.ids[:shared] != first[:shared]:
                shared -= 1
        return _Scored(request.key, encoded, shared, request.language)

    def _score_whole(self, batch: list[_Scored]) -> list[tuple[str, list[Scoring]]]:
        import torch

        rows = [(item, encoded) for item in batch for encoded in item.encoded]
        ids, mask = pad([_until_last(e) for _, e in rows], self.loaded, left=False)
        wanted = torch.zeros_like(mask, dtype=torch.bool)
        for row, (_, encoded) in enumerate(rows):
            for at, content in enumerate(encoded.content):
                if content:
                    wanted[row, at - 1] = True
        with self.loaded.inference(), only_at(self.loaded.model, wanted):
            logits = self.loaded.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0]
        targets = torch.cat([torch.tensor([i for i, c in zip(e.ids, e.content, strict=True) if c], device=ids.device) for _, e in rows])
        scorings = _gather(batch, _logprobs(logits, targets))
        return self._with_off_script(batch, scorings, logits) if any(item.language for item in batch) else scorings

    def _with_off_script(self, batch: list[_Scored], scorings: list[tuple[str, list[Scoring]]], logits: Any) -> list[tuple[str, list[Scoring]]]:
        """Add what other scripts had at each token. Requests with several answers are left as they are."""
        done, at = [], 0
        for item, (key, found) in zip(batch, scorings, strict=True):
            size = sum(sum(encoded.content) for encoded in item.encoded)
            if item.language and len(found) == 1:
                masses = off_script_mass(logits[at : at + size], self.loaded, item.language)
                done.append((key, [replace(found[0], off_script=tuple(round(mass, 5) for mass in masses.tolist()))]))
            else:
                done.append((key, found))
            at += size
        return done

    def _score_shared(self, batch: list[_Scored]) -> list[tuple[str, list[Scoring]]]:
        """Prompt once with its keys and values kept, then every answer's rows on a copy of them."""
        import torch

        model = self.loaded.model
        ids, mask = pad([item.encoded[0].ids[: item.shared] for item in batch], self.loaded, left=True)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        last = torch.zeros_like(mask, dtype=torch.bool)
        last[:, -1] = True
        with self.loaded.inference():
            with only_at(model, last):
                out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True)
            owner = [row for row, item in enumerate(batch) for _ in item.encoded]
            tails = [_until_last(e)[item.shared :] for item in batch for e in item.encoded]
            owners = torch.tensor(owner, device=ids.device)
            first = torch.log_softmax(out.logits[0].float(), -1)
            cache = out.past_key_values
            cache.batch_select_indices(owners)
            later, later_mask = pad(tails, self.loaded, left=False)
            start = mask.sum(1)[owners].unsqueeze(1)
            wanted = later_mask.bool().clone()
            for row, tail in enumerate(tails):
                wanted[row, len(tail) - 1] = False  # the last token predicts nothing we ask for
            logprobs = torch.empty(0)
            if wanted.any():
                with only_at(model, wanted):
                    logits = model(
                        input_ids=later,
                        attention_mask=torch.cat([mask[owners], later_mask], 1),
                        position_ids=start + torch.arange(later.shape[1], device=ids.device),
                        past_key_values=cache,
                        use_cache=True,
                    ).logits[0]
                targets = torch.cat([torch.tensor(tail[1:], dtype=torch.long, device=ids.device) for tail in tails])
                logprobs = _logprobs(logits, targets)
        flat: list[torch.Tensor] = []
        at, row = 0, 0
        for item in batch:
            for encoded in item.encoded:
                tail = tails[row]
                values = torch.cat([first[owner[row], tail[0]].view(1), logprobs[at : at + len(tail) - 1].to(first.device)])
                keep = torch.tensor(encoded.content[item.shared : item.shared + len(tail)], device=values.device)
                flat.append(values[keep])
                at += len(tail) - 1
                row += 1
        return _gather(batch, torch.cat(flat))


def pad(rows: Sequence[Sequence[int]], loaded: LoadedModel, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, [rows, longest]. Padding is told by the mask alone, never by an id."""
    import torch

    width = max(map(len, rows))
    fill = loaded.tokenizer.pad_token_id or 0
    ids = torch.full((len(rows), width), fill, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for row, values in enumerate(rows):
        if values:
            place = slice(width - len(values), width) if left else slice(0, len(values))
            ids[row, place] = torch.tensor(values, dtype=torch.long)
            mask[row, place] = 1
    return ids.to(loaded.device), mask.to(loaded.device)


def off_script_mass(logits: torch.Tensor, loaded: LoadedModel, language: str) -> torch.Tensor:
    """The probability of tokens in scripts that the language does not use, [positions] of logits [positions, vocabulary]."""
    import torch

    ids = torch.tensor(off_script_ids(loaded.tokenizer, language), dtype=torch.long, device=logits.device)
    return (logits[:, ids].float().logsumexp(-1) - logits.float().logsumexp(-1)).exp()


def _first(flags: tuple[bool, ...]) -> int:
    return flags.index(True) if True in flags else len(flags)


def _until_last(encoded: Encoded) -> tuple[int, ...]:
    """The ids up to the last content token: nothing after it is asked for."""
    end = len(encoded.ids) - _first(encoded.content[::-1])
    return encoded.ids[:end]


def _logprobs(logits: Any, targets: Any) -> torch.Tensor:
    import torch

    return torch.log_softmax(logits.float(), -1).gather(1, targets.unsqueeze(1)).squeeze(1)


def _gather(batch: list[_Scored], logprobs: torch.Tensor) -> list[tuple[str, list[Scoring]]]:
    values = logprobs.tolist()
    results = []
    at = 0
    for item in batch:
        scorings = []
        for encoded in item.encoded:
            size = sum(encoded.content)
            part = values[at : at + size]
            at += size
            scorings.append(Scoring(sum(part), size, tuple(round(v, 5) for v in part)))
        results.append((item.key, scorings))
    return results
