"""A job after every check that needs no model: its formats, cases and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.protocol import Backend
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import limit_cases, load_cases
from harness.evaluation.cases.context_window import variants_of
from harness.evaluation.format_groups import NATIVE, group_formats
from harness.evaluation.recall_rows import recall_sets_of
from harness.evaluation.results import RecallSets
from harness.evaluation.settings import EvalJob, EvalSettings
from harness.formats import FormatSet, load_formats
from harness.metrics.registry import METRICS
from harness.records import GROUPS, Case, Format, Group
from harness.run_file import read_run_metadata, run_of

if TYPE_CHECKING:
    from harness.models import LoadedModel


@dataclass(frozen=True)
class CheckedJob:
    """What a job asks. ``groups`` is empty until the backend is known (``for_backend``)."""

    job: EvalJob
    known: FormatSet
    formats: list[Format]
    cases: list[Case]
    settings: EvalSettings
    recall: RecallSets | None
    groups: dict[str, Group] = field(default_factory=dict)

    def for_backend(
        self, backend: Backend, native: str | None, loaded: LoadedModel | None = None
    ) -> CheckedJob:
        """With the model's own format, the variants, and the cases of its abilities.

        ``loaded`` is the model where it is loaded here. Raises HarnessError where there is no
        format to measure.
        """
        job = self.job
        formats, groups = _formats_and_groups(job, backend, self.known, self.formats, native)
        settings = self.settings.with_thought_budget(formats, groups)
        longest = max(map(settings.most_tokens, formats))
        cases = self.cases + variants_of(job.variants, self.cases, formats, loaded, longest)
        if not job.cases:
            cases += limit_cases(cases_of_abilities(formats, groups), job.limit)
        return replace(self, formats=formats, groups=groups, settings=settings, cases=cases)


def check_job(job: EvalJob) -> CheckedJob:
    """Check everything that is cheap to check. Raises HarnessError for a mistake of the user's."""
    job = job.with_run()
    for file in job.metrics:
        METRICS.load_file(Path(file))
    known = load_formats(*map(Path, job.formats_dirs))
    names = [name for name in job.formats or known.default if name != NATIVE or name in known]
    formats = known.select(names)
    if job.native is not None:
        job = replace(job, native=known.select([job.native])[0].id)
    every_case = load_cases(job.cases)
    # The answers of a small --limit stay good for a larger one.
    settings = job.settings.with_length_budget(every_case)
    recall = recall_sets_of(job) if job.recall else None
    return CheckedJob(job, known, formats, limit_cases(every_case, job.limit), settings, recall)


def _formats_and_groups(
    job: EvalJob, backend: Backend, known: FormatSet, formats: list[Format], native: str | None
) -> tuple[list[Format], dict[str, Group]]:
    """The formats to measure, the model's own among them, in the order of their groups.

    Raises HarnessError where only the native format is asked for and the model has none.
    """
    if native and not any(one.id == native for one in formats):
        formats = [known[native], *formats]
    if backend.applies_template:
        formats = [known[native or "chatml"]]  # only a name: its own template decides
    if not formats:
        raise HarnessError(
            "no format to measure: the model has no native format",
            where=job.model,
            hint="name its format with --native FORMAT, or others with --formats",
        )
    groups = group_formats(formats, native, job.trained_families or _trained_families(job.adapter))
    return sorted(formats, key=lambda one: (GROUPS.index(groups[one.id]), one.id)), groups


def cases_of_abilities(formats: Sequence[Format], groups: Mapping[str, Group]) -> list[Case]:
    """The shipped cases with tools and with thoughts, for a model that is known to have either.

    It has where its native format or one that it was trained in has. No other model is asked: it
    would take long and fail through no fault of its own.
    """
    known = [one for one in formats if groups[one.id] != "held-out"]
    names = ["tools"] if any(one.calls for one in known) else []
    names += ["thoughts"] if any(one.reasoning != "none" for one in known) else []
    return load_cases(names) if names else []


def _trained_families(adapter: str | None) -> tuple[str, ...]:
    """The families of formats that an adapter was trained in, as its run.json says."""
    run = run_of(Path(adapter)) if adapter else None
    metadata = read_run_metadata(run) if run else None
    return metadata.trained_families if metadata else ()
