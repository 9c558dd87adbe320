"""The settings of an evaluation, and the job that a user asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.backends.protocol import ModelSpec
from harness.backends.sampling import Sampling
from harness.errors import HarnessError
from harness.evaluation.cases.variants import Variants
from harness.models import DeviceMap, Dtype
from harness.models.quantisation import Quantisation
from harness.records import Case, Format, Group
from harness.run_file import base_of, find_adapter, is_trained, require_run_metadata

RESULTS_FILE = "results.sqlite"
#: The longest answer: this multiple of the longest reference, and at least this many tokens.
REFERENCES_LONG, LEAST_TOKENS = 4, 256
#: Room for a thought before the answer.
THOUGHT_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """Everything that decides the numbers besides the model, the cases and the formats."""

    max_new_tokens: int = 0
    """The longest answer in tokens. 0: what ``with_length_budget`` sets."""
    thought_tokens: int | None = None
    """How many tokens longer an answer may be where the format asks for a thought. None: what
    ``with_thought_budget`` sets."""
    seed: int = 0
    recall_examples: int = 100
    """At most this many trained rows and as many controls are scored."""
    recall_continued: int = 32
    """At most this many of either are also continued greedily, which takes far longer."""
    recall_formats: int = 4
    flips: bool = False
    """Also ask each choice again after the right option was given and challenged."""
    budget: str = ""
    """Compute only this many (case, format) pairs (``10%`` or a number), and estimate the rest."""
    find: str = ""
    """Spend the budget on a search for the best or worst format: ``best``, ``worst`` or both."""
    find_by: str = ""
    """The metric to search by."""
    first_look: bool = False
    """Ask few cases in every format, and more only where the verdict is still open."""
    temperature: float = 0.0
    """0: greedy. Above: answers are sampled, with a seed for each (case, format, sample)."""
    top_p: float = 1.0
    top_k: int = 0
    samples_per_case: int = 1
    """Answers sampled for each case in each format; their scores are averaged."""

    @property
    def sampling(self) -> Sampling | None:
        """How answers are sampled, or None where they are greedy."""
        if not self.temperature:
            return None
        return Sampling(self.temperature, self.top_p, self.top_k, self.seed)

    def with_length_budget(self, cases: Iterable[Case]) -> EvalSettings:
        """The settings with the longest answer that these cases ask for, unless one is set.

        Four times the longest reference and at least 256 tokens, so that a talkative model is not
        taken for one that never stops. A token is counted as four bytes, because a server does not
        show its tokenizer; the number is a multiple of 32.
        """
        if self.max_new_tokens:
            return self
        longest = max((len((case.reference or "").encode()) for case in cases), default=0)
        tokens = max(LEAST_TOKENS, REFERENCES_LONG * longest // 4)
        return replace(self, max_new_tokens=-(-tokens // 32) * 32)

    def with_thought_budget(
        self, formats: Iterable[Format], groups: Mapping[str, Group]
    ) -> EvalSettings:
        """The settings with the tokens that a thought may take, unless they are set.

        A model thinks whose own format does, or one that it was trained in. Another would fill
        the room with an answer that does not end.
        """
        if self.thought_tokens is not None:
            return self
        thinks = any(one.reasoning != "none" and groups[one.id] != "held-out" for one in formats)
        return replace(self, thought_tokens=THOUGHT_TOKENS if thinks else 0)

    def most_tokens(self, chat_format: Format) -> int:
        """The longest answer in a format."""
        return self.max_new_tokens + ((self.thought_tokens or 0) if chat_format.thinks else 0)

    def as_dict(self) -> dict[str, Any]:
        """The settings as baselines and reports store them.

        An empty text, a model without thoughts and a run that is no first look are left out, and
        ``samples_per_case`` is called ``draws``, so that older baselines stay comparable.
        """
        values = asdict(self)
        values["draws"] = values.pop("samples_per_case")
        values["thought_tokens"] = values["thought_tokens"] or ""
        values["first_look"] = values["first_look"] or ""
        return {key: value for key, value in values.items() if value != ""}


@dataclass(frozen=True, slots=True)
class EvalJob:
    """What to evaluate.

    Empty ``formats`` mean the common ones and all of ``formats_dirs``, empty ``cases`` all that
    are shipped. ``train`` and ``controls`` are files for recall: training conversations, and ones
    that were never trained on.
    """

    model: str
    adapter: str | None = None
    formats: tuple[str, ...] = ()
    formats_dirs: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    """Python files that declare further metrics."""
    limit: int | None = None
    out: Path = Path("build/eval")
    dtype: Dtype = "auto"
    quantisation: Quantisation = field(default_factory=Quantisation)
    device: str = "auto"
    device_map: DeviceMap = ""
    batch_size: int = 0
    """The most rows at a time. 0: what fits into the memory. Results do not depend on it."""
    max_tokens_per_batch: int = 0
    native: str | None = None
    trained_families: tuple[str, ...] = ()
    variants: Variants = field(default_factory=Variants)
    engine: str = "auto"
    """A backend of ``harness.backends.by_name``; ``auto`` is the one that fits the model."""
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    """The keyword arguments of its ``open_backend``."""
    recall: bool = False
    train: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    label: str = "evaluate"
    settings: EvalSettings = field(default_factory=EvalSettings)

    @property
    def spec(self) -> ModelSpec:
        """The model that a backend is to run, and how."""
        return ModelSpec(
            self.model,
            self.adapter,
            self.dtype,
            self.quantisation,
            self.device,
            self.device_map,
            self.batch_size,
            self.max_tokens_per_batch,
        )

    def as_first_look(self) -> EvalJob:
        """The job as a first look.

        It stays as it is where it says how many cases to ask, or needs the same in every format.
        """
        settings = self.settings
        chosen = self.limit is not None or settings.budget or settings.samples_per_case > 1
        if chosen or settings.flips or self.variants != Variants():
            return self
        return replace(self, settings=replace(settings, first_look=True))

    def with_run(self, command: str = "harness eval") -> EvalJob:
        """The job with what a run's folder says, where one is given as the adapter or the model.

        A run as the adapter means its adapter. As the model it means its base as it was
        trained on (quantised or not), its adapter and its own formats. Raises HarnessError for a
        folder without an adapter, and for an adapter that does not name its base.
        """
        if self.engine not in ("auto", "local", "ray"):
            return self
        if self.adapter is not None:
            return replace(self, adapter=str(find_adapter(Path(self.adapter))[0]))
        if not is_trained(Path(self.model)):
            return self
        adapter, run = find_adapter(Path(self.model))
        from harness.models import trained_quantisation

        base = base_of(adapter, run, f"{command} BASE --adapter {self.model}")
        folders = require_run_metadata(run).formats_dirs if run is not None else ()
        return replace(
            self,
            model=base,
            adapter=str(adapter),
            quantisation=self.quantisation or trained_quantisation(adapter),
            formats_dirs=self.formats_dirs or folders,
        )

    def __post_init__(self) -> None:
        settings = self.settings
        for name, value, least in (
            ("limit", self.limit, 1),
            ("batch_size", self.batch_size, 0),
            ("max_tokens_per_batch", self.max_tokens_per_batch, 0),
            ("max_new_tokens", settings.max_new_tokens, 0),
            ("thought_tokens", settings.thought_tokens, 0),
            ("samples_per_case", settings.samples_per_case, 1),
        ):
            if value is not None and value < least:
                raise HarnessError(f"invalid {name} {value}: expected at least {least}")
