"""Decoding many rows at once: rows leave as they end and others enter, with stops in tokens and in text."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.backends.local.forward import Forward, forward_of
from harness.backends.local.off_script import off_script_mass
from harness.backends.local.packing import longest_packed, most_positions
from harness.backends.local.padded import Padded
from harness.backends.local.slots import Slots
from harness.backends.protocol import Answer, GenerateRequest
from harness.backends.sampling import Sampling, choose
from harness.models import LoadedModel
from harness.records import Finish
from harness.tokens.encode import prompt_ids

if TYPE_CHECKING:
    import torch

#: Rows shorter than this share their slots; above, each doubling has slots of its own.
_NARROWEST = 256
#: Answers are given out, to be stored, when so many have ended.
_HANDED_OUT = 16


@dataclass
class Row:
    """One answer in the making."""

    key: str
    ids: list[int]
    max_new_tokens: int
    stops: tuple[str, ...]
    stop_ids: frozenset[int]
    language: str = ""
    sampling: Sampling | None = None
    tokens: list[int] = field(default_factory=list)
    off_script: list[float] = field(default_factory=list)
    answer: Answer | None = None

    @property
    def room(self) -> int:
        """The tokens it may come to hold."""
        return len(self.ids) + self.max_new_tokens

    @property
    def window(self) -> int:
        """How many last tokens surely hold a stop that has just been completed."""
        return max(len(stop.encode()) for stop in self.stops) + 4


def eos_ids(loaded: LoadedModel) -> frozenset[int]:
    """The tokens that end any answer: those of the model's generation config, which a user may have mended, and the tokenizer's."""
    configured = getattr(loaded.model.generation_config, "eos_token_id", None)
    ends = configured if isinstance(configured, list) else [configured]
    return frozenset(id for id in [*ends, loaded.tokenizer.eos_token_id] if id is not None)


class Decoder:
    """Runs prepared rows through a model, all to their end. Each row's answer depends on its own prompt and seed only."""

    def __init__(self, loaded: LoadedModel, *, budget: int, most: int, pass_budget: int) -> None:
        self.loaded = loaded
        self.budget = budget
        self.pass_budget = pass_budget
        self.most = most
        self.tokenizer = loaded.tokenizer
        self.eos_ids = eos_ids(loaded)
        self.window = most_positions(loaded)

    def prepare(self, request: GenerateRequest) -> Row:
        """Encode a request: prompt, given prefix, and what may stop it, as ids and as text."""
        ids = prompt_ids(request.prompt, self.tokenizer)
        if request.prefix:
            ids += self.tokenizer(request.prefix, add_special_tokens=False).input_ids
        known = {str(t.content): id for id, t in self.tokenizer.added_tokens_decoder.items()}
        stop_ids = self.eos_ids | {
            known[text] for text in (*request.stop_tokens, *request.prompt.stops) if text in known
        }
        return Row(
            request.key,
            ids,
            min(request.max_new_tokens, self.window - len(ids)),
            request.prompt.stops,
            stop_ids,
            request.language,
            request.sampling,
        )

    def run(self, rows: Sequence[Row]) -> Iterator[list[tuple[str, Answer]]]:
        """Decode all rows, giving them out as they end, some at a time. Rows whose prompts begin alike enter together."""
        longest = longest_packed(self.loaded)
        packed = [row.room for row in rows if row.room <= longest]
        forward = forward_of(self.loaded, max(packed)) if packed else None
        classes: dict[tuple[bool, int], list[Row]] = {}
        for row in rows:
            classes.setdefault(
                (row.room > longest, max(_NARROWEST, row.room - 1).bit_length()), []
            ).append(row)
        for (beyond, _), alike in sorted(classes.items(), reverse=True):
            yield from self._decode(
                deque(sorted(alike, key=lambda row: row.ids)), None if beyond else forward
            )

    def _decode(
        self, waiting: deque[Row], forward: Forward | None
    ) -> Iterator[list[tuple[str, Answer]]]:
        """Rows enter where others have left: no row waits for the longest of a batch."""
        engine = self._engine(waiting, forward)
        alive: list[Row] = []
        ended: list[tuple[str, Answer]] = []
        while alive or waiting:
            with self.loaded.inference():
                if waiting and (room := engine.free(len(alive))):
                    entering = [waiting.popleft() for _ in range(min(room, len(waiting)))]
                    self._extend(entering, engine.enter([row.ids for row in entering]))
                    alive += entering
                else:
                    self._extend(alive, engine.step([row.tokens[-1] for row in alive]))
                order = _staying(alive)
                ended += [(row.key, row.answer) for row in alive if row.answer is not None]
                if len(order) < len(alive):
                    engine.keep(order)
                alive = [alive[at] for at in order]
            if len(ended) >= _HANDED_OUT or (ended and not alive and not waiting):
                yield ended
                ended = []

    def _engine(self, rows: Sequence[Row], forward: Forward | None) -> Slots | Padded:
        width = max(row.room for row in rows)
        slots = max(1, min(self.most, self.budget // width, len(rows)))
        return (
            Padded(self.loaded, slots)
            if forward is None
            else Slots(self.loaded, forward, slots, width, self.pass_budget)
        )

    def _extend(self, rows: list[Row], logits: torch.Tensor) -> None:
        """Give each row its next token, and see which end there."""
        self._watch(rows, logits)
        chosen = choose(logits, [row.sampling for row in rows], [len(row.tokens) for row in rows])
        for row, id in zip(rows, chosen, strict=True):
            self._take(row, id)
        self._stop_at_texts([row for row in rows if row.answer is None and row.stops])
        for row in rows:
            if row.answer is None and len(row.tokens) >= row.max_new_tokens:
                row.answer = _answer(row, self._text(row.tokens), "length", "")

    def _watch(self, rows: list[Row], logits: torch.Tensor) -> None:
        """Note what other scripts had at this token, in the rows that ask for it."""
        for language in {row.language for row in rows if row.language}:
            asking = [at for at, row in enumerate(rows) if row.language == language]
            of = logits if len(asking) == len(rows) else logits[asking]
            for at, mass in zip(
                asking, off_script_mass(of, self.loaded, language).tolist(), strict=True
            ):
                rows[at].off_script.append(round(mass, 5))

    def _take(self, row: Row, id: int) -> None:
        if id in row.stop_ids:
            row.answer = _answer(row, self._text(row.tokens), "stop", self._text([id]))
        else:
            row.tokens.append(id)

    def _stop_at_texts(self, rows: list[Row]) -> None:
        """Look for textual stops in each row's last few tokens: a token holds at least a byte, so as many as the longest stop has.

        The window is decoded together, so a stop is seen whichever tokens, or halves of a letter, it came in.
        """
        if not rows:
            return
        windows = self.tokenizer.backend_tokenizer.decode_batch(
            [row.tokens[-row.window :] for row in rows], skip_special_tokens=False
        )
        for row, window in zip(rows, windows, strict=True):
            if any(stop in window for stop in row.stops):
                text = self._text(row.tokens)
                found = [(text.index(stop), stop) for stop in row.stops if stop in text]
                if found:
                    at, stop = min(found)
                    row.answer = _answer(row, text[:at], "stop", stop)

    def _text(self, ids: list[int]) -> str:
        return str(
            self.tokenizer.decode(
                ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )


def _staying(rows: Sequence[Row]) -> list[int]:
    """The rows that go on. One that has ended gives its place to the last of them, so only that one moves."""
    order = list(range(len(rows)))
    at = 0
    while at < len(order):
        if rows[order[at]].answer is None:
            at += 1
        else:
            last = order.pop()
            if at < len(order):
                order[at] = last
    return order


def _answer(row: Row, text: str, finish: Finish, stop: str) -> Answer:
    return Answer(text, finish, stop, tuple(row.tokens), tuple(row.off_script[: len(row.tokens)]))
