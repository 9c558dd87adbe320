"""One model evaluated: the whole way from cases and formats to scores and cells."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.backends.sampling import Sampling
from harness.evaluation.cases.variants import Variants
from harness.models import Dtype
from harness.models.quantisation import Quantisation


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """What decides the numbers besides model, cases and formats."""

    max_new_tokens: int = 64
    seed: int = 0
    recall_examples: int = 32
    recall_formats: int = 4
    flips: bool = False
    """Also ask each choice again after the right option was given and doubted."""
    budget: str = ""
    """Compute only so many cells (``10%`` or a number), and estimate the rest."""
    find: str = ""
    """Spend the budget on the search for the best or the worst format: ``best,worst``, or one of them."""
    find_by: str = ""
    """The measure to search by."""
    temperature: float = 0.0
    """0: the likeliest token. Above: answers are drawn, with a seed of its own for each (seed, case, format, draw)."""
    top_p: float = 1.0
    top_k: int = 0
    draws: int = 1
    """Answers drawn for each case in each format; their scores are averaged."""

    @property
    def sampling(self) -> Sampling | None:
        """How answers are drawn, or None where they are greedy."""
        return (
            Sampling(self.temperature, self.top_p, self.top_k, self.seed)
            if self.temperature
            else None
        )

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values; a budget that was not set is left out, so that older baselines stay comparable."""
        return {key: value for key, value in asdict(self).items() if value != ""}


RESULTS_FILE = "results.sqlite"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible server that runs the model. ``chat`` sends messages, so that the server's own template is measured."""

    url: str
    api_key: str = "none"
    chat: bool = False
    concurrency: int = 8
    retries: int = 8


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray cluster that holds the model on many workers. No address: one is started here; no number of workers: one a GPU or machine."""

    address: str | None = None
    workers: int = 0


@dataclass(frozen=True, slots=True)
class EvalJob:
    """What to evaluate. Empty ``formats`` mean the common ones and all of ``formats_dirs``, empty ``cases`` all that are shipped."""

    model: str
    adapter: str | None = None
    formats: tuple[str, ...] = ()
    formats_dirs: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    limit: int | None = None
    out: Path = Path("build/eval")
    dtype: Dtype = "auto"
    quantisation: Quantisation = field(default_factory=Quantisation)
    native: str | None = None
    trained_families: tuple[str, ...] = ()
    variants: Variants = field(default_factory=Variants)
    endpoint: Endpoint | None = None
    cluster: Cluster | None = None
    recall: bool = False
    train: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()
    label: str = "evaluate"
    settings: EvalSettings = field(default_factory=EvalSettings)
