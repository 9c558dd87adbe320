"""Greedy decoding of many rows at once, with textual stops and early retirement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.backends.protocol import Answer, GenerateRequest
from harness.encode import prompt_ids
from harness.models import LoadedModel
from harness.records import Finish

if TYPE_CHECKING:
    import torch

_COMPACT_BELOW = 0.75


@dataclass
class Row:
    """One answer in the making."""

    key: str
    ids: list[int]
    max_new_tokens: int
    stops: tuple[str, ...]
    stop_ids: frozenset[int]
    language: str = ""
    tokens: list[int] = field(default_factory=list)
    off_script: list[float] = field(default_factory=list)
    answer: Answer | None = None


class Decoder:
    """Runs prepared rows through a model, all to their end."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.tokenizer = loaded.tokenizer
        configured = getattr(loaded.model.generation_config, "eos_token_id", None)
        ends = configured if isinstance(configured, list) else [configured]
        self.eos_ids = frozenset(id for id in [*ends, self.tokenizer.eos_token_id] if id is not None)

    def prepare(self, request: GenerateRequest) -> Row:
        """Encode a request: prompt, given prefix, and what may stop it, as ids and as text."""
        ids = prompt_ids(request.prompt, self.tokenizer)
        if request.prefix:
            ids += self.tokenizer(request.prefix, add_special_tokens=False).input_ids
        known = {str(t.content): id for id, t in self.tokenizer.added_tokens_decoder.items()}
        stop_ids = self.eos_ids | {known[text] for text in (*request.stop_tokens, *request.prompt.stops) if text in known}
        return Row(request.key, ids, request.max_new_tokens, request.prompt.stops, stop_ids, request.language)

    def run(self, batch: list[Row]) -> list[tuple[str, Answer]]:
        """Decode a batch to the end. Each row's answer depends on its own prompt only."""
        import torch

        from harness.backends.transformers import pad

        ids, mask = pad([row.ids for row in batch], self.loaded, left=True)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        alive = list(batch)
        cache = None
        with self.loaded.inference():
            while alive:
                out = self.loaded.model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache = out.past_key_values
                chosen = out.logits[:, -1].argmax(-1)
                self._watch(alive, out.logits[:, -1])
                for row, id in zip(alive, chosen.tolist(), strict=True):
                    if row.answer is None:
                        self._take(row, id)
                keep = [index for index, row in enumerate(alive) if row.answer is None]
                mask = torch.cat([mask, mask.new_ones(len(alive), 1)], 1)
                ids, positions = chosen.unsqueeze(1), positions[:, -1:] + 1
                if len(keep) < _COMPACT_BELOW * len(alive) or not keep:
                    alive = [alive[index] for index in keep]
                    if alive:
                        ids, mask, positions = self._compact(keep, ids, mask, positions, cache)
        return [(row.key, row.answer) for row in batch if row.answer is not None]

    def _watch(self, alive: list[Row], logits: torch.Tensor) -> None:
        """Note what other scripts had at this token, in the rows that ask for it."""
        from harness.backends.transformers import off_script_mass

        for language in {row.language for row in alive if row.language and row.answer is None}:
            asking = [at for at, row in enumerate(alive) if row.language == language and row.answer is None]
            for at, mass in zip(asking, off_script_mass(logits[asking], self.loaded, language).tolist(), strict=True):
                alive[at].off_script.append(round(mass, 5))

    def _compact(
        self, keep: list[int], ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: object
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        import torch

        chosen = torch.tensor(keep, device=ids.device)
        cache.batch_select_indices(chosen)  # type: ignore[attr-defined]  # every transformers Cache has it
        return ids[chosen], mask[chosen], positions[chosen]

    def _take(self, row: Row, id: int) -> None:
        """Add one token to a row and see whether it ends there."""
        if id in row.stop_ids:
            text = self._text(row.tokens)
            row.answer = _answer(row, text, "stop", self._text([id]))
            return
        row.tokens.append(id)
        if row.stops and self._ends(row):
            return
        if len(row.tokens) >= row.max_new_tokens:
            row.answer = _answer(row, self._text(row.tokens), "length", "")

    def _ends(self, row: Row) -> bool:
        """Look for a textual stop in the last few tokens; a token holds at least one byte, so as many as the longest stop has."""
        window = self._text(row.tokens[-(max(len(stop.encode()) for stop in row.stops) + 4) :])
        if not any(stop in window for stop in row.stops):
            return False
        text = self._text(row.tokens)
        found = [(text.index(stop), stop) for stop in row.stops if stop in text]
        if not found:
            return False
        at, stop = min(found)
        row.answer = _answer(row, text[:at], "stop", stop)
        return True

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _answer(row: Row, text: str, finish: Finish, stop: str) -> Answer:
    return Answer(text, finish, stop, tuple(row.tokens), tuple(row.off_script[: len(row.tokens)]))
