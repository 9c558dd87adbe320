"""The local backend: a transformers model on CPU, CUDA or MPS, run in large batches."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from harness.backends.local.decoding import Decoder, eos_ids
from harness.backends.local.engine import describe
from harness.backends.local.forward import arithmetic
from harness.backends.local.room import ON_CPU, Room, room_for
from harness.backends.local.scoring import score
from harness.backends.protocol import (
    Answers,
    Backend,
    GenerateRequest,
    ModelSpec,
    Result,
    ScoreRequest,
    Scorings,
    Unscored,
    why_unscored,
)
from harness.models import LoadedModel
from harness.models.adapters import base_only
from harness.tokens.encode import bos_text, eos_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENGINE_VERSION = 4
"""Raise it by one with every change of ``harness.backends.local``, ``harness.backends.sampling`` or
``harness.models`` that changes an answer, a log-probability or an off-script probability by more
than rounding. It is part of the address of every stored result, so older ones are computed again.
"""
RequestT = TypeVar("RequestT", GenerateRequest, ScoreRequest)
ResultT = TypeVar("ResultT", bound=Result)
Batch = Sequence[tuple[str, ResultT | Unscored]]
#: Requests in a row that give no usable result alone before the others are not tried alone.
_IN_VAIN = 8


def open_backend(model: ModelSpec) -> TransformersBackend:
    """Load a model into this process."""
    return TransformersBackend.of(load_model(model), model)


def load_model(model: ModelSpec) -> LoadedModel:
    """Load a model as the user names it. Raises as ``harness.models.load``."""
    from harness.models import load

    return load(
        model.model,
        adapter=model.adapter,
        dtype=model.dtype,
        device=model.device,
        device_map=model.device_map,
        quantisation=model.quantisation,
    )


def isolated(
    requests: Sequence[RequestT], run: Callable[[Sequence[RequestT]], Iterator[Batch[ResultT]]]
) -> Iterator[Batch[ResultT]]:
    """Results batch by batch; those that are not usable come last, each computed again alone.

    In a batch a NaN spreads: attention gives the keys of the others a weight of 0, and 0 times NaN
    is NaN. When several in a row are no better alone, the model itself is broken, and the rest stay
    as they are.
    """
    broken: list[tuple[str, ResultT | Unscored]] = []
    for batch in run(requests):
        good = [pair for pair in batch if not why_unscored(pair[1])]
        broken += [pair for pair in batch if why_unscored(pair[1])]
        if good:
            yield good
    by_key = {request.key: request for request in requests}
    in_vain = 0 if len(requests) > 1 else _IN_VAIN
    for key, result in broken:
        if in_vain == _IN_VAIN:
            yield [(key, result)]
            continue
        for batch in run([by_key[key]]):
            in_vain = in_vain + 1 if any(why_unscored(again) for _, again in batch) else 0
            yield batch


def decode(decoder: Decoder, requests: Sequence[GenerateRequest]) -> Iterator[Answers]:
    """Answers, ``isolated``. A prompt that fills the model's window is left out."""

    def run(some: Sequence[GenerateRequest]) -> Iterator[Answers]:
        rows = map(decoder.prepare, some)
        return decoder.run([row for row in rows if row.max_new_tokens > 0])

    return isolated(requests, run)


class InProcessBackend(Backend):
    """What backends share whose model is in this process: its names, tokens and decoding."""

    loaded: LoadedModel

    @property
    def bos_token(self) -> str:
        return bos_text(self.loaded.tokenizer)

    @property
    def eos_token(self) -> str:
        return eos_text(self.loaded.tokenizer)

    @property
    def model_name(self) -> str:
        return self.loaded.name

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.loaded.tokenizer

    @abstractmethod
    def _decoder(self) -> Decoder:
        """Decodes the rows of one call of ``generate``."""

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Answers]:
        """Answers, greedy or drawn. Rows that have stopped make room for others.

        A prompt that fills the model's window is left out.
        """
        yield from decode(self._decoder(), requests)


class TransformersBackend(InProcessBackend):
    """Scores and generates with a loaded model.

    ``budget`` limits the tokens held at a time, ``most`` the rows decoded at a time. None: as many
    as are useful and fit into the memory that is free when the first request comes.
    """

    def __init__(
        self, loaded: LoadedModel, *, budget: int | None = None, most: int | None = None
    ) -> None:
        self.loaded = loaded
        self.budget = budget
        self.most = most

    @classmethod
    def of(cls, loaded: LoadedModel, model: ModelSpec) -> TransformersBackend:
        """A loaded model, computed in batches as the user asks."""
        return cls(loaded, budget=model.max_tokens_per_batch or None, most=model.batch_size or None)

    @classmethod
    def steady(cls, loaded: LoadedModel) -> TransformersBackend:
        """A loaded model, computed in the same batches whatever memory is free.

        A resumed run then measures its checkpoints as an uninterrupted one: 16 bits round with the
        batch.
        """
        budget, most, _ = ON_CPU
        return cls(loaded, budget=budget, most=most)

    @functools.cached_property
    def room(self) -> Room:
        """The limits of this run, which shrink where memory ends."""
        return room_for(self.loaded, tokens=self.budget, rows=self.most)

    @property
    def fingerprint(self) -> dict[str, str]:
        import transformers

        loaded = self.loaded
        facts = {
            "backend": f"transformers-{transformers.__version__}",
            "engine_version": str(ENGINE_VERSION),
            "engine": describe(loaded),
            "model": loaded.digest,
            "adapter": loaded.adapter_digest,
            "tokenizer": loaded.tokenizer_digest,
            "dtype": loaded.dtype,
            "device": loaded.device.split(":")[0],
        }
        if (ends := eos_ids(loaded)) != {loaded.tokenizer.eos_token_id}:
            facts["eos"] = " ".join(map(str, sorted(ends)))
        if (multiplied := arithmetic(loaded)) != loaded.dtype:
            facts["arithmetic"] = multiplied
        if loaded.quantisation:
            facts["quantisation"] = str(loaded.quantisation)
        if loaded.stored_as:
            facts["dequantised_from"] = loaded.stored_as
        return facts

    def _decoder(self) -> Decoder:
        return Decoder(self.loaded, self.room)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Scorings]:
        """Log-probabilities of the answers' own words.

        A beginning that several answers or requests share is computed once.
        """

        def run(some: Sequence[ScoreRequest]) -> Iterator[Scorings]:
            yield from score(some, self.loaded, self.room)

        yield from isolated(requests, run)


class BaseBackend(TransformersBackend):
    """Scores with the model as it is without its adapter, which stays where it is."""

    @property
    def fingerprint(self) -> dict[str, str]:
        return {**super().fingerprint, "adapter": ""}

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Scorings]:
        """Log-probabilities of the answers' own words, by the base."""
        with base_only(self.loaded):
            yield from super().score(requests)


def base_of(backend: Backend) -> BaseBackend | None:
    """The base below an adapter, or None where the backend has none here."""
    if isinstance(backend, TransformersBackend) and backend.loaded.adapter:
        base = BaseBackend(backend.loaded, budget=backend.budget, most=backend.most)
        base.room = backend.room
        return base
    return None
