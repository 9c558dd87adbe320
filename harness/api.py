"""The Python interface: the functions that ``import harness`` offers, and their results.

Each function does what the command of the same name does. Mistakes in the input raise HarnessError.
A result prints as one line and shows as a table in a notebook (``_repr_html_``); ``rows()`` returns
the table as dictionaries and, with pandas installed, ``to_pandas()`` as a data frame.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from harness import formats as _formats
from harness.api_results import (
    ComparisonResult,
    DriftResult,
    EvaluationResult,
    RecallResult,
    SweepResult,
    TrainResult,
    drift_summary,
    recall_summary,
)
from harness.conversation import Conversation
from harness.errors import HarnessError, nearest
from harness.extras import explain_missing
from harness.records import Encoded, Format, Rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from harness.data.outputs import Output
    from harness.evaluation.results import Evaluation
    from harness.evaluation.settings import EvalJob
    from harness.formats import FormatSet
    from harness.gate.baseline import Baseline
    from harness.metrics.copies.recall_index import RecallIndex
    from harness.training.config import TrainConfig

Messages = Conversation | Sequence[Mapping[str, Any]]
"""A conversation, or its messages as ``{"role": …, "content": …}`` as a file has them."""
Texts = str | Path | Sequence[str]
"""A file of outputs, as the commands read it, or a list of texts."""


def evaluate(
    model: str | Path,
    *,
    adapter: str | Path | None = None,
    formats: Iterable[str] | None = None,
    cases: Iterable[str | Path] | None = None,
    limit: int | None = None,
    full: bool = False,
    out: str | Path | None = None,
    endpoint: str | None = None,
    quiet: bool = True,
    **options: Any,
) -> EvaluationResult:
    """Measure a model across prompt formats.

    ``model`` is a model or run folder, a GGUF file, a hub id or a packaged model such as
    SmolLM2-135M-Instruct. With ``endpoint``, the address of an OpenAI-compatible server, it is the
    model's name there. ``formats`` defaults to the common formats, ``cases`` to the shipped cases.
    ``limit`` is the number of cases of each kind in every format, and ``full`` asks all; without
    either this is a first look, as in ``harness eval``. ``out`` is a folder for results and
    reports: a second call with the same folder computes only what is missing. Without it nothing is
    kept. ``options`` are further fields of ``EvalJob`` and ``EvalSettings``: ``native="chatml"``,
    ``max_new_tokens=32``.

    Raises HarnessError for a mistake in the input, and if nothing could be scored.
    """
    from harness.evaluation.settings import EvalJob, EvalSettings

    settings = {name: options.pop(name) for name in _fields(EvalSettings) & options.keys()}
    if unknown := options.keys() - _fields(EvalJob):
        known = _fields(EvalSettings) | _fields(EvalJob)
        raise HarnessError(
            f"evaluate: unknown option {min(unknown)!r}", hint=nearest(min(unknown), known)
        )
    if endpoint is not None:
        options |= {"engine": "openai", "engine_options": {"url": endpoint}}
    place = TemporaryDirectory() if out is None else nullcontext(str(out))
    with explain_missing("harness.evaluate of a model on this machine"), place as folder:
        from harness.evaluation.run import run_job

        job = EvalJob(
            model=str(model),
            adapter=None if adapter is None else str(adapter),
            formats=tuple(formats or ()),
            cases=tuple(map(str, cases or ())),
            limit=limit,
            out=Path(folder),
            settings=EvalSettings(**settings),
            **options,
        )
        evaluation = run_job(job if full else job.as_first_look(), quiet=quiet)
        evaluation.refuse_if_nothing_scored()
        files = () if out is None else tuple(write_files([evaluation], job))
    return EvaluationResult(evaluation, files)


def _fields(kind: type) -> set[str]:
    return {each.name for each in fields(kind)}


def write_files(evaluations: Sequence[Evaluation], job: EvalJob) -> list[Path]:
    """Write the report of a job's evaluations, and the scores of each, which come last."""
    from harness.evaluation.analysis.build_report import write_evaluation_report
    from harness.gate.baseline import to_baseline
    from harness.gate.baseline_file import SCORES_FILE, write_baseline

    files = write_evaluation_report(
        evaluations, job.out, model=job.model, limit=job.limit, cases=job.cases
    )
    for evaluation in evaluations:
        folder = job.out / evaluation.label if len(evaluations) > 1 else job.out
        write_baseline(to_baseline(evaluation, job.formats), folder / SCORES_FILE)
        files.append(folder / SCORES_FILE)
    return files


def train(
    config: str | Path | Mapping[str, Any] | TrainConfig,
    *,
    trainer: str = "",
    quiet: bool = True,
    **settings: Any,
) -> TrainResult:
    """Train a LoRA adapter across prompt formats.

    An interrupted run is resumed; a finished one is returned at once. ``config`` is a TOML file, a
    configuration, script or notebook of axolotl, LLaMA-Factory, TRL or unsloth (``trainer`` says
    whose, where its keys do not), a dictionary of the shape of the TOML file, or a TrainConfig.
    ``settings`` change single settings by name: ``learning_rate=1e-4``, ``output_dir="runs/a"``.
    ``notes`` of the result say what was read of another trainer's file, and which of its keys are
    not kept; they are printed on standard error unless ``quiet``.

    Raises HarnessError for a mistake in the input.
    """
    from harness.training.runs.overrides import settings_of

    chosen, lines = settings_of(config, trainer, settings, "train")
    _say(lines, quiet)
    with explain_missing("harness.train"):
        from harness.training import start

        adapter = start.train(chosen, quiet=quiet)
    return TrainResult(adapter, adapter.parent, lines)


def sweep(
    config: str | Path | Mapping[str, Any] | TrainConfig,
    grid: Mapping[str, Iterable[Any]],
    *,
    trainer: str = "",
    jobs: int = 1,
    raw_alpha: bool = False,
    quiet: bool = True,
    **settings: Any,
) -> SweepResult:
    """Train over a grid of settings, each combination a run; the same call resumes a sweep.

    ``grid`` is a setting's name → its values: ``{"learning_rate": [1e-4, 1e-3]}``. ``config``,
    ``trainer`` and ``settings`` are those of ``train``; ``jobs`` and ``raw_alpha`` are the options
    of ``harness sweep``. The folder ``output_dir`` gets sweep.json and the map.

    Raises HarnessError for a mistake in the input.
    """
    from harness.training.runs.overrides import settings_of

    chosen, lines = settings_of(config, trainer, settings, "sweep")
    if jobs < 1:
        raise HarnessError(f"invalid jobs {jobs}: expected at least 1")
    with explain_missing("harness.sweep"):
        from harness.report.sweep_document import Sweep
        from harness.report.sweep_map import write_sweep_map
        from harness.training.sweep import grid_as_text, run_sweep, sweep_points

        points = sweep_points(chosen, grid_as_text(grid), compensate=not raw_alpha)
        _say(lines, quiet)
        rows = run_sweep(points, jobs=jobs, quiet=quiet)
        folder = Path(chosen.output_dir)
        write_sweep_map(Sweep.from_points(rows), folder)
    return SweepResult(folder, tuple(rows), lines)


def _say(lines: Sequence[str], quiet: bool) -> None:
    if lines and not quiet:
        print("\n".join(lines), file=sys.stderr)


def compare(
    before: str | Path | EvaluationResult,
    after: str | Path | EvaluationResult,
    *,
    metrics: Iterable[str] | None = None,
    thresholds: str | Path | None = None,
) -> ComparisonResult:
    """Compare two evaluations case by case, with intervals.

    Each is a result of ``evaluate``, its ``out`` folder, or a baseline file of the gate.
    ``thresholds`` is a TOML file with the loss that is tolerated in each metric; the default is the
    shipped file. Raises HarnessError if the two have no format and metric in common.
    """
    from harness.gate.compare_baselines import compare_baselines
    from harness.gate.thresholds import THRESHOLDS_FILE, read_thresholds
    from harness.resources import data_dir

    first, second = _scores(before), _scores(after)
    file = Path(thresholds) if thresholds else data_dir("eval") / THRESHOLDS_FILE
    tolerances = dict(read_thresholds(file).tolerances)
    chosen = tuple(metrics or tolerances)
    for name in chosen:
        if name not in tolerances:
            raise HarnessError(f"unknown metric {name!r}", hint=nearest(name, tolerances))
    checks = compare_baselines(first, second, {name: tolerances[name] for name in chosen})
    if not any(each.baseline is not None and each.current is not None for each in checks):
        raise HarnessError(
            "the two evaluations have no format and metric in common",
            where="" if isinstance(after, EvaluationResult) else str(after),
            hint="evaluate both in the same formats, on the same cases",
        )
    return ComparisonResult(first, second, tuple(checks))


def _scores(run: str | Path | EvaluationResult) -> Baseline:
    from harness.gate.baseline import to_baseline
    from harness.gate.baseline_file import SCORES_FILE, read_baseline

    if isinstance(run, EvaluationResult):
        return to_baseline(run.evaluation)
    path = Path(run)
    if not path.exists():
        raise HarnessError(
            "no such file or folder",
            where=str(path),
            hint=f"give the --out folder of a harness eval, its {SCORES_FILE}, or a baseline",
        )
    if path.is_dir() and not (path / SCORES_FILE).is_file():
        raise HarnessError(
            f"the folder has no {SCORES_FILE}",
            where=str(path),
            hint=f"harness eval MODEL --out {path} writes it",
        )
    return read_baseline(path / SCORES_FILE if path.is_dir() else path)


def load_formats(*folders: str | Path) -> FormatSet:
    """The shipped prompt formats by id, and those of your folders, which override shipped ones."""
    return _formats.load_formats(*map(Path, folders))


def render(
    messages: Messages,
    chat_format: str | Format,
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
    bos_token: str = "",
    eos_token: str = "",
) -> Rendered:
    """Return a conversation's text in a format, with its spans and stop strings.

    ``tools`` are definitions as transformers takes them; a Conversation has its own.
    ``add_generation_prompt`` ends the text where the assistant's answer begins.
    Raises HarnessError if the format cannot write the conversation.
    """
    from harness.formats.render import render as render_conversation

    return render_conversation(
        _conversation(messages, tools),
        load_formats()[chat_format] if isinstance(chat_format, str) else chat_format,
        add_generation_prompt=add_generation_prompt,
        continue_final_message=continue_final_message,
        bos_token=bos_token,
        eos_token=eos_token,
    )


def encode(
    messages: Messages,
    chat_format: str | Format,
    tokenizer: str | Path | PreTrainedTokenizerBase,
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    add_generation_prompt: bool = False,
) -> Encoded:
    """Return a conversation's token ids in a format, and which of them are trained.

    ``tokenizer`` is a model's name or path, or a fast tokenizer of transformers.
    """
    from harness.tokens.encode import bos_text, eos_text
    from harness.tokens.encode import encode as encode_rendered

    with explain_missing("harness.encode"):
        if isinstance(tokenizer, str | Path):
            from harness.models import load_tokenizer, locate

            tokenizer = load_tokenizer(locate(str(tokenizer)))
        rendered = render(
            messages,
            chat_format,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            bos_token=bos_text(tokenizer),
            eos_token=eos_text(tokenizer),
        )
        return encode_rendered(rendered, tokenizer)


def _conversation(messages: Messages, tools: Sequence[Mapping[str, Any]]) -> Conversation:
    if isinstance(messages, Conversation):
        return messages
    from harness.data.conversations import parse_dialogue

    found = parse_dialogue(list(messages), list(tools), "messages")
    return Conversation("messages", found[0], tools=found[1])


def recall(
    outputs: Texts, against: Texts | RecallIndex, *, null: Texts | RecallIndex | None = None
) -> RecallResult:
    """Find which outputs copy a training text, and where.

    ``against`` is the training set: a file, a folder, a list of texts, or an index. ``null`` are
    texts of the same kind that were never trained on; what the outputs share with them is chance.
    """
    index, chance = _index(against), None if null is None else _index(null)
    found = _outputs(outputs)
    if not found or not len(index):
        raise _empty(against if found else outputs, "nothing to compare: ")
    hits = tuple(index.query(output.text, own=output.id) for output in found)
    return RecallResult(found, hits, recall_summary(found, hits, chance, len(index)), index)


def drift(outputs: Texts, expect: str | Sequence[str] = "en") -> DriftResult:
    """Find texts that slip into another language than the expected ones (``en``, ``zh-Hant``)."""
    from harness.metrics.drift import drift as judge
    from harness.metrics.language.scripts import given_languages

    languages = given_languages(expect)
    texts = _outputs(outputs)
    if not texts:
        raise _empty(outputs)
    found = tuple(judge(output.text, languages, output.prompt) for output in texts)
    return DriftResult(texts, found, drift_summary(found))


def _empty(texts: Texts | RecallIndex, problem: str = "") -> HarnessError:
    if isinstance(texts, str | Path):
        return HarnessError(f"{problem}the file is empty", where=str(texts))
    return HarnessError(f"{problem}the list is empty")


def _outputs(texts: Texts) -> tuple[Output, ...]:
    from harness.data.outputs import Output, read_outputs

    if isinstance(texts, str | Path):
        return tuple(read_outputs(str(texts)))
    return tuple(Output(str(number), text) for number, text in enumerate(texts))


def _index(texts: Texts | RecallIndex) -> RecallIndex:
    from harness.data.outputs import read_answers
    from harness.metrics.copies.recall_index import INDEX_FILE, RecallIndex

    if isinstance(texts, RecallIndex):
        return texts
    if not isinstance(texts, str | Path):
        return RecallIndex.build((str(number), text) for number, text in enumerate(texts))
    if (Path(texts) / INDEX_FILE).is_file():
        return RecallIndex.load(texts)
    return RecallIndex.build(read_answers(str(texts)))
