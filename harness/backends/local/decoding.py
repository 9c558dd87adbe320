"""Continuous batching: rows leave as they end and others enter; stops are tokens or text."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from harness.backends.local.engine import longest_packed, row_engine
from harness.backends.local.forward import Forward, forward_of
from harness.backends.local.limits import most_positions, rotation_turn
from harness.backends.local.off_script import off_script_mass
from harness.backends.local.out_of_memory import attempt, nothing_fits
from harness.backends.local.padded import Padded, Recomputed
from harness.backends.local.room import Room
from harness.backends.local.slots import Slots
from harness.backends.protocol import NOT_FINITE, Answer, Answers, GenerateRequest, Unscored
from harness.backends.sampling import Sampling, choose
from harness.models import LoadedModel
from harness.records import Finish
from harness.tokens.encode import prompt_ids

if TYPE_CHECKING:
    import torch

#: Rows shorter than this share KV-cache slots of one width; above, each doubling has its own.
_NARROWEST = 256
#: A greedy answer is endless when its last tokens, at least LOOP_TOKENS, are LOOP_REPEATS or more
#: copies of at most LOOP_PERIOD tokens. It is looked at every LOOK_EVERY tokens.
LOOP_TOKENS, LOOP_REPEATS, LOOP_PERIOD, LOOK_EVERY = 96, 6, 32, 16
#: The engines that run several rows at a time.
_SHARING = ("packs", "padded rows")
#: Ended answers are yielded, to be stored, when there are this many.
_YIELDED = 16


class Engine(Protocol):
    """Runs rows that enter and leave: Slots, Padded, Recomputed, or two of them side by side."""

    def free(self, alive: int) -> int:
        """How many rows may enter now."""
        ...

    def enter(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Run the prompts of new rows. Logits of their next tokens, [rows, vocabulary]."""
        ...

    def step(self, ids: Sequence[int]) -> torch.Tensor:
        """Give each row its newest token. Logits of the next ones, [rows, vocabulary]."""
        ...

    def keep(self, order: Sequence[int]) -> None:
        """Continue with these rows in this order."""
        ...


@dataclass
class DecodingRow:
    """An answer that is being generated."""

    key: str
    ids: list[int]
    max_new_tokens: int
    stops: tuple[str, ...]
    stop_ids: frozenset[int]
    language: str = ""
    sampling: Sampling | None = None
    tokens: list[int] = field(default_factory=list)
    off_script: list[float] = field(default_factory=list)
    answer: Answer | Unscored | None = None

    @property
    def room(self) -> int:
        """The most tokens that it may hold."""
        return len(self.ids) + self.max_new_tokens

    @property
    def window(self) -> int:
        """How many of the last tokens are sure to hold a stop that has just been completed."""
        return max(len(stop.encode()) for stop in self.stops) + 4

    def restart(self) -> None:
        """Forget what was generated."""
        self.tokens, self.off_script, self.answer = [], [], None


def eos_ids(loaded: LoadedModel) -> frozenset[int]:
    """The tokens that end any answer: EOS of the generation config and of the tokenizer.

    They differ where a user changed the generation config.
    """
    configured = getattr(loaded.model.generation_config, "eos_token_id", None)
    ends = configured if isinstance(configured, list) else [configured]
    return frozenset(end for end in [*ends, loaded.tokenizer.eos_token_id] if end is not None)


class Decoder:
    """Generates the answers of prepared rows. Each depends on its own prompt and seed only.

    In 16 bits also on rounding, which differs with the rows of its batch. ``room`` limits the rows
    and tokens at a time.
    """

    def __init__(self, loaded: LoadedModel, room: Room) -> None:
        self.loaded = loaded
        self.room = room
        self.tokenizer = loaded.tokenizer
        self.eos_ids = eos_ids(loaded)
        self.window = most_positions(loaded)

    def prepare(self, request: GenerateRequest) -> DecodingRow:
        """Encode a request: the prompt, the given prefix, and its stops as ids and as text."""
        ids = prompt_ids(request.prompt, self.tokenizer)
        if request.prefix:
            ids += self.tokenizer(request.prefix, add_special_tokens=False).input_ids
        added = self.tokenizer.added_tokens_decoder.items()
        known = {str(token.content): token_id for token_id, token in added}
        stop_ids = self.eos_ids | {
            known[text] for text in (*request.stop_tokens, *request.prompt.stops) if text in known
        }
        return DecodingRow(
            request.key,
            ids,
            min(request.max_new_tokens, self.window - len(ids)),
            request.prompt.stops,
            stop_ids,
            request.language,
            request.sampling,
        )

    def run(self, rows: Sequence[DecodingRow]) -> Iterator[Answers]:
        """Decode all rows and yield them as they end. Similar prompts enter together.

        Where memory ends, half of the rows are decoded at a time from then on, and those that were
        being decoded begin again. Raises HarnessError when a row alone does not fit.
        """
        longest, turn = longest_packed(self.loaded), rotation_turn(self.loaded)
        packed = [row.room for row in rows if row.room <= longest]
        forward = forward_of(self.loaded, max(packed)) if packed else None
        classes: dict[tuple[int, bool, str], list[DecodingRow]] = {}
        for row in rows:
            width = max(_NARROWEST, row.room - 1).bit_length()
            alike = width, len(row.ids) > turn, self._engine_for(row, longest, turn)
            classes.setdefault(alike, []).append(row)
        for (_, _, name), some in sorted(classes.items(), reverse=True):
            waiting = deque(sorted(some, key=lambda row: row.ids))
            while waiting:
                width = max(row.room for row in waiting)
                slots = self.room.slots(width, len(waiting)) if name in _SHARING else 1
                engine = attempt(self.loaded, self._engine, name, slots, width, forward)
                if engine is not None:
                    yield from self._decode(waiting, engine)
                del engine  # before the next one is made
                if waiting:
                    self._shrink(slots, width)

    def _shrink(self, slots: int, width: int) -> None:
        """Halve the room after rows that did not fit. Raises HarnessError for a row alone."""
        if slots == 1:
            raise nothing_fits(
                self.loaded, f"one row of {width} tokens, prompt and answer,", "--max-new-tokens"
            )
        self.room.halve_cache(slots * width)

    def _engine_for(self, row: DecodingRow, longest: int, turn: int) -> str:
        if row.room <= longest:
            return "packs"
        if len(row.ids) <= turn < row.room:  # once it is longer, all its keys are others
            return "single rows without cache"
        return row_engine(self.loaded)

    def _decode(self, waiting: deque[DecodingRow], engine: Engine) -> Iterator[Answers]:
        """Let rows enter where others have left: no row waits for the longest of a batch.

        Where memory ends, the rows that have no answer are put back in front of ``waiting``.
        """
        alive: list[DecodingRow] = []
        ended: list[tuple[str, Answer | Unscored]] = []
        while alive or waiting:
            if not attempt(self.loaded, self._advance, waiting, alive, ended, engine):
                waiting.extendleft(reversed(alive))
                for row in waiting:
                    row.restart()
                if ended:
                    yield ended
                return
            self.room.say_once()
            if len(ended) >= _YIELDED or (ended and not alive and not waiting):
                yield ended
                ended = []

    def _advance(
        self,
        waiting: deque[DecodingRow],
        alive: list[DecodingRow],
        ended: list[tuple[str, Answer | Unscored]],
        engine: Engine,
    ) -> bool:
        """Let rows enter, or give those alive a token; move those that end to ``ended``.

        At each moment every row is in one of the three, whatever is raised.
        """
        with self.loaded.inference():
            if waiting and (room := engine.free(len(alive))):
                entering = [waiting[at] for at in range(min(room, len(waiting)))]
                self._extend(entering, engine.enter([row.ids for row in entering]))
                alive += [waiting.popleft() for _ in entering]
            else:
                self._extend(alive, engine.step([row.tokens[-1] for row in alive]))
            before, order = len(alive), _staying(alive)
            ended += [(row.key, row.answer) for row in alive if row.answer is not None]
            alive[:] = [alive[at] for at in order]
            if len(order) < before:
                engine.keep(order)
        return True

    def _engine(self, name: str, slots: int, width: int, forward: Forward | None) -> Engine:
        if name == "packs" and forward:
            return Slots(self.loaded, forward, slots, width, self.room.pass_tokens)
        if name == "single rows without cache":
            return Recomputed(self.loaded)
        return Padded(self.loaded, slots)

    def _extend(self, rows: list[DecodingRow], logits: torch.Tensor) -> None:
        """Give each row its next token, and end those that stop there."""
        self._read_off_script(rows, logits)
        chosen = choose(logits, [row.sampling for row in rows], [len(row.tokens) for row in rows])
        for row, token in zip(rows, chosen, strict=True):
            if token is None:
                row.answer = Unscored(f"{NOT_FINITE} a logit is NaN or infinite")
            else:
                self._take(row, token)
        self._stop_at_texts([row for row in rows if row.answer is None and row.stops])
        for row in rows:
            if row.answer is None and (
                len(row.tokens) >= row.max_new_tokens
                or (row.sampling is None and not len(row.tokens) % LOOK_EVERY and loops(row.tokens))
            ):
                row.answer = _answer(row, self._text(row.tokens), "length", "")

    def _read_off_script(self, rows: list[DecodingRow], logits: torch.Tensor) -> None:
        """Append the probability of other scripts at this token, in the rows that ask for it."""
        for language in {row.language for row in rows if row.language}:
            asking = [at for at, row in enumerate(rows) if row.language == language]
            of = logits if len(asking) == len(rows) else logits[asking]
            for at, mass in zip(
                asking, off_script_mass(of, self.loaded, language).tolist(), strict=True
            ):
                rows[at].off_script.append(round(mass, 5))

    def _take(self, row: DecodingRow, token: int) -> None:
        if token in row.stop_ids:
            row.answer = _answer(row, self._text(row.tokens), "stop", self._text([token]))
        else:
            row.tokens.append(token)

    def _stop_at_texts(self, rows: list[DecodingRow]) -> None:
        """Look for textual stops in the last few tokens of each row, and cut them off.

        A token holds at least a byte, so as many tokens as the longest stop has bytes are enough.
        They are decoded together, so a stop is seen in whichever tokens, or parts of a letter, it
        came.
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
                    count = self._tokens_of(text[:at], row.tokens)
                    row.answer = _answer(row, text[:at], "stop", stop, count)

    def _tokens_of(self, text: str, tokens: list[int]) -> int:
        """How many of the first tokens hold ``text``, with which ``tokens`` begin."""
        count = len(tokens) if text else 0
        while count and self._text(tokens[: count - 1]).startswith(text):
            count -= 1
        return count

    def _text(self, ids: list[int]) -> str:
        return str(
            self.tokenizer.decode(
                ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )


def loops(tokens: Sequence[int]) -> bool:
    """Whether an answer ends in copies of one short stretch, which greedy decoding never leaves.

    What is not generated would be more of the same, so no metric but the length changes.
    """
    for period in range(1, LOOP_PERIOD + 1):
        most = max(LOOP_TOKENS, LOOP_REPEATS * period)
        if len(tokens) >= most and tokens[-most + period :] == tokens[-most:-period]:
            return True
    return False


def _staying(rows: Sequence[DecodingRow]) -> list[int]:
    """The rows that continue, in their new order: the last one fills the place of an ended one."""
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


def _answer(
    row: DecodingRow, text: str, finish: Finish, stop: str, count: int | None = None
) -> Answer:
    """The answer that a row's first ``count`` tokens hold, or all of them."""
    tokens = tuple(row.tokens[:count])
    return Answer(text, finish, stop, tokens, tuple(row.off_script[: len(tokens)]))
