"""The local engine: a transformers model on CPU, CUDA or MPS, in large batches that compute what rows share once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.backends.local.decoding import Decoder, eos_ids
from harness.backends.local.forward import arithmetic
from harness.backends.local.padded import pad
from harness.backends.local.scoring import score
from harness.backends.protocol import Answer, GenerateRequest, ScoreRequest
from harness.models import LoadedModel
from harness.records import Loglikelihood
from harness.tokens.encode import bos_text, eos_text

__all__ = ["TransformersBackend", "pad"]

#: Tokens of one forward pass on a CPU: more only leave its caches.
_CPU_PASS = 2048


class TransformersBackend:
    """Scores and generates with a loaded model. ``budget`` is the tokens held at a time, ``most`` the rows decoded at a time."""

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
            **(
                {"eos": " ".join(map(str, sorted(ends)))}
                if (ends := eos_ids(self.loaded)) != {self.loaded.tokenizer.eos_token_id}
                else {}
            ),
            **(
                {"arithmetic": products}
                if (products := arithmetic(self.loaded)) != self.loaded.dtype
                else {}
            ),
            **({"quantisation": str(self.loaded.quantisation)} if self.loaded.quantisation else {}),
        }

    @property
    def no_loglikelihood(self) -> str:
        return ""

    @property
    def bos_token(self) -> str:
        return bos_text(self.loaded.tokenizer)

    @property
    def eos_token(self) -> str:
        return eos_text(self.loaded.tokenizer)

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[list[tuple[str, Answer]]]:
        """Answers, greedy or drawn. Rows that have stopped make room for others. A prompt that fills the model's window is left out."""
        decoder = Decoder(self.loaded, budget=self.budget, most=self.most, pass_budget=self._pass())
        yield from decoder.run(
            [row for row in map(decoder.prepare, requests) if row.max_new_tokens > 0]
        )

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[list[tuple[str, list[Loglikelihood]]]]:
        """Log-probabilities of the answers' own words. What several answers or requests begin with is run once."""
        yield from score(requests, self.loaded, self._pass())

    def _pass(self) -> int:
        return min(self.budget, _CPU_PASS) if self.loaded.device == "cpu" else self.budget
