"""The job that the options of ``harness eval`` describe."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.arguments import at_least, split_commas
from harness.cli.eval_options import EvalOptions
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.evaluation.settings import EvalJob, EvalSettings
    from harness.models.quantisation import Quantisation


def default_out(model: str, adapters: Sequence[str]) -> Path:
    """The folder of a model's results, which no other model's overwrite."""
    names = [model, *(adapter_name(adapter) for adapter in adapters)]
    plain = (re.sub(r"[^\w.-]+", "-", name).strip("-.") for name in names)
    return Path("build", "eval", "+".join(filter(None, plain)) or "model")


def adapter_name(adapter: str) -> str:
    """``runs/mine`` and ``runs/mine/adapter`` → ``runs-mine``."""
    parts = [part for part in Path(adapter).parts if part not in ("..", "/")]
    return "-".join(parts[:-1] if parts[-1:] == ["adapter"] and len(parts) > 1 else parts)


def job_of(options: EvalOptions) -> EvalJob:
    """The job that the options describe. Raises HarnessError for a wrong or excluded value."""
    from harness.backends.by_name import AUTO
    from harness.evaluation.cases.variants import read_variants
    from harness.evaluation.settings import EvalJob

    _refuse_wrong(options)
    engine, engine_options = _engine(options)
    if len(options.adapter) > 1 and engine not in (AUTO, "local"):
        raise HarnessError(
            "several adapters need the local engine",
            hint="give one --adapter with --engine ray, none with --endpoint",
        )
    job = EvalJob(
        model=options.model,
        adapter=options.adapter[0] if options.adapter else None,
        formats=split_commas(options.formats),
        formats_dirs=options.formats_dir,
        cases=options.cases,
        metrics=options.metrics,
        limit=options.limit,
        out=Path(options.out) if options.out else default_out(options.model, options.adapter),
        dtype=options.dtype,
        quantisation=_quantisation(options),
        device=options.device,
        device_map=options.device_map or "",
        batch_size=_limit("--batch-size", options.batch_size),
        max_tokens_per_batch=_limit("--max-tokens-per-batch", options.max_tokens_per_batch),
        native=options.native,
        recall=options.recall,
        train=options.train,
        controls=options.controls,
        engine=engine,
        engine_options=engine_options,
        variants=read_variants(
            *map(split_commas, (options.depths, options.positions, options.turns))
        ),
        settings=_settings(options),
    )
    # Several adapters are compared with each other, on the same cases.
    return job if options.full or len(options.adapter) > 1 else job.as_first_look()


def _refuse_wrong(options: EvalOptions) -> None:
    """Refuse numbers out of range, and options that exclude each other or need another one."""
    if options.full and options.limit is not None:
        raise HarnessError(
            "--full and --cases-per-format (--limit) exclude each other",
            hint="leave --cases-per-format out to ask all cases",
        )
    if not options.report_to and (options.run_name or options.project != "formatproof"):
        raise HarnessError(
            "--run-name and --project are for trackers", hint="add --report-to wandb"
        )
    at_least(options, 1, "limit", "max_new_tokens", "samples_per_case", "concurrency")
    at_least(options, 1, "recall_examples")
    at_least(options, 0, "recall_continued")
    at_least(options, 0, "temperature", "top_k", "retries", "workers", "seed", "thought_tokens")
    if options.formats and not split_commas(options.formats):
        raise HarnessError("--formats needs a value", hint="see: harness formats list")


def _limit(flag: str, text: str) -> int:
    """A number of at least 1; 0 for ``auto``."""
    if text == "auto":
        return 0
    if not text.isdecimal() or not int(text):
        raise HarnessError(f"invalid {flag} {text!r}: expected auto or a whole number from 1")
    return int(text)


def _quantisation(options: EvalOptions) -> Quantisation:
    """The quantisation asked for; prints a note when an adapter was trained on another one."""
    from harness.models import trained_quantisation
    from harness.models.quantisation import Quantisation
    from harness.run_file import find_adapter

    asked = Quantisation(load_in_4bit=options.load_in_4bit, load_in_8bit=options.load_in_8bit)
    adapters = (find_adapter(Path(adapter))[0] for adapter in options.adapter)
    trained = next(filter(None, map(trained_quantisation, adapters)), asked)
    if trained and not asked:
        flag = "--load-in-8bit" if trained.load_in_8bit else "--load-in-4bit"
        print(
            f"note: this adapter was trained on a base in {trained} and is measured on a 16-bit "
            f"or 32-bit one; {flag} measures it as it was trained",
            file=sys.stderr,
        )
    return asked


def _settings(options: EvalOptions) -> EvalSettings:
    from harness.evaluation.settings import EvalSettings

    find = ",".join(split_commas(options.find))
    budget = options.budget if options.budget is not None else "10%" if find else ""
    _refuse_wrong_search(options, find, budget)
    _refuse_wrong_sampling(options)
    return EvalSettings(
        max_new_tokens=options.max_new_tokens or 0,
        thought_tokens=options.thought_tokens,
        seed=options.seed,
        recall_examples=options.recall_examples,
        recall_continued=options.recall_continued,
        flips=options.flips,
        budget=budget,
        find=find,
        find_by=options.find_metric,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        samples_per_case=options.samples_per_case,
    )


def _refuse_wrong_search(options: EvalOptions, find: str, budget: str) -> None:
    """Find mistakes of a search or a budget before the model is loaded."""
    from harness.evaluation.search.budget import pairs_in_budget
    from harness.evaluation.search.thompson import read_goals

    if find:
        read_goals(find)
    if options.budget is not None:
        pairs_in_budget(options.budget, 1)
    if options.find_metric and not find:
        raise HarnessError("--find-metric is for a search", hint="add --find best,worst")
    if budget and options.flips:
        raise HarnessError(
            "--flips and --budget exclude each other", hint="run --flips apart, in a few formats"
        )
    if budget and options.samples_per_case > 1:
        raise HarnessError(
            "--samples-per-case and --budget exclude each other",
            hint="sample several answers in another run",
        )


def _refuse_wrong_sampling(options: EvalOptions) -> None:
    if not 0 < options.top_p <= 1:
        raise HarnessError(f"invalid --top-p {options.top_p}: expected above 0 and at most 1")
    if not options.temperature and (
        options.samples_per_case > 1 or options.top_p < 1 or options.top_k
    ):
        raise HarnessError(
            "greedy answers are always the same: --samples-per-case, --top-p and --top-k need a "
            "temperature",
            hint="give --temperature 0.7",
        )


def _engine(options: EvalOptions) -> tuple[str, dict[str, Any]]:
    """The name of the backend and its options."""
    from harness.backends.by_name import AUTO, find_backend
    from harness.models.source import OLLAMA

    given = _pairs(options.engine_option)
    server = {
        "chat": options.chat,
        "concurrency": options.concurrency,
        "retries": options.retries,
        **given,
    }
    if options.endpoint is not None:
        if options.engine not in (AUTO, "local", "openai"):
            raise HarnessError(
                "--endpoint and --engine exclude each other: a server runs the model itself",
                hint=f"leave --engine {options.engine} or --endpoint out",
            )
        key = os.environ.get(options.api_key_env) or "none"
        return "openai", {"url": options.endpoint, "api_key": key, **server}
    if options.engine == "ollama" or (options.engine == AUTO and options.model.startswith(OLLAMA)):
        return "ollama", server
    if options.chat:
        raise HarnessError(
            "--chat needs a server", hint="give its address: --endpoint http://localhost:8080/v1"
        )
    if options.engine == "ray":
        return "ray", {"address": options.address, "workers": options.workers, **given}
    if options.address is not None or options.workers:
        raise HarnessError("--address and --workers are for a cluster", hint="add --engine ray")
    if options.engine != AUTO:
        find_backend(options.engine)
    return options.engine, given


def _pairs(texts: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE texts as a table."""
    for text in texts:
        if "=" not in text.strip("="):
            raise HarnessError(f"invalid --engine-option {text!r}: expected KEY=VALUE")
    return dict(text.split("=", 1) for text in texts)
