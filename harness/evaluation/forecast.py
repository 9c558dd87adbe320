"""What an evaluation would ask, at no cost: the tokenizer is loaded, the model is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from harness.backends.by_name import AUTO, backend_for, open_backend
from harness.backends.protocol import Answers, Backend, GenerateRequest, ScoreRequest, Scorings
from harness.evaluation.cases.case_files import kind_of
from harness.evaluation.checked_job import CheckedJob, check_job
from harness.evaluation.engines import native_of
from harness.evaluation.first_look import PER_KIND, nested_rounds, round_sizes, sizes_of_kinds
from harness.evaluation.plan import (
    build_further_samples,
    pick_recall_formats,
    plain_requests,
    plan_recall,
    settings_builder,
)
from harness.evaluation.requests import PlannedRequest
from harness.evaluation.search.budget import budgeted, pairs_in_budget
from harness.evaluation.settings import RESULTS_FILE, EvalJob
from harness.evaluation.speed import Speed, measure_speed
from harness.models import load_tokenizer, locate
from harness.tokens.encode import bos_text, eos_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from harness.models import ModelSource

_SERVERS = ("openai", "ollama")
#: Texts that are tokenised at a time.
_TEXTS = 2000


@dataclass(frozen=True, slots=True)
class Forecast:
    """All that ``harness eval --dry-run`` says.

    ``formats`` have their group; ``cases`` and ``requests`` are counted by kind. A first look asks
    at least the ``requests``, its first round, and at most ``most_requests``. ``tokens`` are those
    that are read and those that are generated at most, for ``most_requests`` both; None where only
    a server has the tokenizer. ``seconds`` are the least and the most, None where they are unknown.
    """

    model: str
    adapter: str | None
    native: str | None
    formats: dict[str, str]
    cases: dict[str, int]
    requests: dict[str, int]
    most_requests: int
    untestable: int
    first_look: bool
    tokens: tuple[int, int] | None
    seconds: tuple[float, float] | None
    speed: Speed | None
    stored: str | None
    """A results file that is there: what it has is not computed again."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


class _WithoutWeights(Backend):
    """A model's tokenizer in place of the model: requests are built with it, and none is sent."""

    def __init__(self, source: ModelSource) -> None:
        self._tokenizer = load_tokenizer(source)

    @property
    def fingerprint(self) -> dict[str, str]:
        return {"backend": "dry run"}

    @property
    def bos_token(self) -> str:
        return bos_text(self._tokenizer)

    @property
    def eos_token(self) -> str:
        return eos_text(self._tokenizer)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self._tokenizer

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Answers]:
        raise NotImplementedError("a dry run sends no request")

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Scorings]:
        raise NotImplementedError("a dry run sends no request")


def forecast(job: EvalJob) -> Forecast:
    """Count what a job would ask. Raises HarnessError as the evaluation would before it loads.

    The folder ``job.out`` may be one that this user can only read: nothing is written.
    The time is estimated from the number of the model's weights and from the products of matrices
    that this machine computes in half a second.
    """
    checked = check_job(job)
    job = checked.job
    engine = backend_for(job.spec) if job.engine == AUTO else job.engine
    source = None if engine in _SERVERS else locate(job.model)
    backend: Backend = (
        open_backend(job.engine, job.spec, job.engine_options)
        if source is None
        else _WithoutWeights(source)
    )
    try:
        native = native_of(job, backend, checked.known)
        checked = checked.for_backend(backend, native)
        requests, share, untestable = _asked(checked, backend)
        least = _tokens(requests, backend.tokenizer) if backend.tokenizer else None
    finally:
        backend.close()
    most = (round(least[0] * share), round(least[1] * share)) if least else None
    speed = measure_speed(source, job) if source is not None and engine == "local" else None
    seconds = None
    if speed and least and most:
        seconds = (speed.seconds(min(least[0], most[0]), 0), speed.seconds(*most))
    stored = job.out / RESULTS_FILE
    return Forecast(
        model=job.model,
        adapter=job.adapter,
        native=native,
        formats={one.id: checked.groups[one.id] for one in checked.formats},
        cases=dict(Counter(kind_of(case) for case in checked.cases)),
        requests=dict(Counter(one.request_type for one in requests)),
        most_requests=round(len(requests) * share),
        untestable=untestable,
        first_look=job.settings.first_look,
        tokens=most,
        seconds=seconds,
        speed=speed,
        stored=str(stored) if stored.is_file() else None,
    )


def _asked(checked: CheckedJob, backend: Backend) -> tuple[list[PlannedRequest], float, int]:
    """Requests, how many times as many there may be, and the pairs that cannot be asked.

    Of a first look they are the first round; a budget pays for a part of them, less than once.
    """
    settings, formats, cases = checked.settings, checked.formats, checked.cases
    builder, share = settings_builder(backend, settings), 1.0
    if settings.first_look:
        kinds = sizes_of_kinds(cases)
        rounds = nested_rounds(cases, round_sizes(len(formats), max(kinds.values())))
        requests = builder.build(rounds[0], formats)
        first = len(rounds[0]) * len(formats)
        share = min(len(rounds[-1]) * len(formats), max(first, PER_KIND * len(kinds))) / first
    elif settings.budget:
        requests = builder.build(budgeted(cases, settings.find, settings.find_by), formats)
        share = pairs_in_budget(settings.budget, len(requests)) / max(1, len(requests))
    else:
        requests = plain_requests(builder, cases, formats, settings)
    for sample in build_further_samples(backend, settings, cases, formats):
        requests += sample
    if checked.recall is not None and not backend.no_loglikelihood:
        chosen = pick_recall_formats(formats, checked.groups, settings.recall_formats)
        base = backend if checked.job.adapter else None
        plan = plan_recall(backend, base, checked.recall, chosen, settings.recall_continued)
        requests += [*plan.requests, *plan.base_requests]
    return requests, share, len(builder.untestable)


def _tokens(
    requests: Sequence[PlannedRequest], tokenizer: PreTrainedTokenizerBase
) -> tuple[int, int]:
    """Tokens read, a prompt that several answers share once; and the most that are generated."""
    texts, sharing, generated = [], [], 0
    for one in requests:
        request = one.request
        if isinstance(request, GenerateRequest):
            texts.append(request.prompt.text + request.prefix)
            sharing.append(1)
            generated += request.max_new_tokens
        else:
            texts += [answer.text for answer in request.answers]
            sharing.append(len(request.answers))
    encoded: list[list[int]] = []
    for start in range(0, len(texts), _TEXTS):
        part = texts[start : start + _TEXTS]
        encoded += tokenizer(part, add_special_tokens=False)["input_ids"]
    read, at = 0, 0
    for count in sharing:
        together = encoded[at : at + count]
        shared = _shared(together)
        read += shared + sum(len(ids) - shared for ids in together)
        at += count
    return read, generated


def _shared(texts: Sequence[Sequence[int]]) -> int:
    """How many first tokens all texts have in common."""
    columns = enumerate(zip(*texts, strict=False))
    return next((at for at, ids in columns if len(set(ids)) > 1), min(map(len, texts)))
