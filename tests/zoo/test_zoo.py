"""Each architecture through each step: it ends right, or is refused in one line.

Right is what plain transformers and peft compute of the same folder, one row at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from harness.conversation import Conversation, Message
from harness.formats import load_formats
from harness.formats.render import render
from harness.records import Encoded, Rendered
from tests.zoo.attempt import ROWS, Attempt, command

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("default")]

FORMATS = load_formats()
CASES = (
    {"id": "a", "question": "fox", "choices": ["dog", "fox"], "answer": 0},
    {"id": "b", "question": "the lazy dog?", "reference": "over it"},
    {"id": "c", "question": "What?", "checks": [{"max_words": 90}]},
)
QUESTIONS = (
    "What is the capital?",
    "fox",
    "the quick brown fox jumps over the lazy dog, and then the dog",
    "fox " * 14,
    "a",
    "hello world hello",
)
LENGTHS = (3, 12, 7, 10, 5, 9)
OPTIONS = ("Oslo", "the lazy dog", "Paris is it", "x")


def rendered(chat_format: str, question: str, answer: str | None, tokenizer: Any) -> Rendered:
    from harness.tokens.encode import bos_text, eos_text

    turns = (Message("user", question), *([Message("assistant", answer)] if answer else []))
    return render(
        Conversation("c", turns),
        FORMATS[chat_format],
        add_generation_prompt=answer is None,
        bos_token=bos_text(tokenizer),
        eos_token=eos_text(tokenizer),
    )


def answers_greedily(attempt: Attempt, chat_format: str, lengths: Sequence[int]) -> None:
    """The engine's answers to the questions, of these lengths, are the plain model's."""
    from harness.backends import GenerateRequest
    from harness.backends.local.backend import TransformersBackend
    from harness.tokens.encode import prompt_ids
    from tests.zoo.plain import is_greedy

    tokenizer = attempt.loaded.tokenizer
    requests = [
        GenerateRequest(question, rendered(chat_format, question, None, tokenizer), length)
        for question, length in zip(QUESTIONS, lengths, strict=True)
    ]
    batches = TransformersBackend(attempt.loaded).generate(requests)
    found = dict(pair for batch in batches for pair in batch)
    assert found.keys() == set(QUESTIONS)
    for request in requests:
        ids, answer = prompt_ids(request.prompt, tokenizer), found[request.key]
        assert answer.token_ids or answer.finish == "stop"
        assert is_greedy(attempt.reference, ids, answer.token_ids), request.key


def test_evaluate(attempt: Attempt):
    """The command measures each case in each format."""
    cases = attempt.work / "cases.jsonl"
    rows = (
        {"messages": [{"role": "user", "content": case["question"]}]}
        | {key: value for key, value in case.items() if key != "question"}
        for case in CASES
    )
    cases.write_text("".join(json.dumps(row) + "\n" for row in rows))
    formats = ("chatml", "alpaca-newline", "llama3")
    out = attempt.work / "eval"
    command(
        *("eval", attempt.folder, "--cases", cases, "--formats", ",".join(formats)),
        *("--max-new-tokens", 8, "--json", "--out", out),
    )
    report = json.loads((out / "report.json").read_text())
    cells = [cell for run in report["runs"] for cell in run["cells"]]
    scored = {(cell["format"], cell["metric"]) for cell in cells if cell["n"]}
    assert {(f, metric) for f in formats for metric in ("choice", "nll", "stopped")} <= scored
    assert not any(cell["not_scored"] for cell in cells if cell["metric"] in ("choice", "nll"))


def test_rows_that_stop_apart(attempt: Attempt):
    """Rows of a batch that end at different tokens stay the plain model's greedy answers."""
    answers_greedily(attempt, "chatml", LENGTHS)


def test_equals_plain(attempt: Attempt, record_property: Callable[[str, object], None]):
    """Log-probabilities and greedy answers are the plain model's, whatever shares their batch."""
    from harness.backends import ScoreRequest
    from harness.backends.local.backend import TransformersBackend
    from harness.tokens.encode import encode
    from tests.zoo.plain import CLOSE, logits

    backend = TransformersBackend(attempt.loaded)
    record_property("engine", engine_of(backend))
    requests = [
        ScoreRequest(
            f"{chat_format}|{question}",
            tuple(
                rendered(chat_format, question, option, backend.tokenizer)
                for option in OPTIONS[: 1 + n % 4]
            ),
        )
        for chat_format in ("chatml", "alpaca-newline", "llama3")
        for n, question in enumerate(QUESTIONS)
    ]
    found = dict(pair for batch in backend.score(requests) for pair in batch)
    assert found.keys() == {request.key for request in requests}
    for request in requests:
        for scoring, answer in zip(found[request.key], request.answers, strict=True):
            row = encode(answer, backend.tokenizer)
            after = logits(attempt.reference, row.ids).log_softmax(-1)
            places = [at for at, content in enumerate(row.content) if content and at]
            plain = [after[at - 1, row.ids[at]].item() for at in places]
            assert list(scoring.token_logprobs) == pytest.approx(plain, abs=CLOSE), request.key
    answers_greedily(attempt, "alpaca-newline", [8] * len(QUESTIONS))


def engine_of(backend: Any) -> str:
    """How the backend runs the model."""
    from harness.backends.local.engine import longest_packed, row_engine
    from harness.backends.local.forward import copyable_parts

    if copyable_parts(backend.loaded):
        return "own passes"
    return "packs" if longest_packed(backend.loaded) else row_engine(backend.loaded)


def test_two_steps(attempt: Attempt, record_property: Callable[[str, object], None]):
    """Training begins at the plain model's loss, and moves every factor.

    Loss and gradient of a batch are those of its rows alone.
    """
    from tests.zoo.plain import factors, row_losses

    rows = encoded_rows(attempt.run and attempt.loaded.tokenizer)
    log = (attempt.run / "metrics.jsonl").read_text().splitlines()
    steps = [entry for entry in map(json.loads, log) if entry["kind"] == "step"]
    losses = [loss.item() for row in rows for loss in row_losses(attempt.reference, row)]
    assert len(steps) == 2
    assert steps[0]["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert not [
        name for name, factor in factors(attempt.adapter) if "lora_B" in name and not factor.any()
    ]
    has_the_gradient_of_single_rows(attempt, rows, record_property)


def encoded_rows(tokenizer: Any) -> list[Encoded]:
    from harness.tokens.encode import encode

    return [encode(rendered("chatml", q, a, tokenizer), tokenizer) for q, a in ROWS]


def has_the_gradient_of_single_rows(
    attempt: Attempt,
    rows: Sequence[Encoded],
    record_property: Callable[[str, object], None],
) -> None:

    from harness.training.config import AdapterConfig
    from harness.training.data.examples import Example
    from harness.training.step.lora import add_adapter
    from harness.training.step.loss import token_losses
    from harness.training.step.row_packing import choose_packing, packing_rows
    from tests.factors import stir_factors
    from tests.zoo.plain import gradient, row_losses

    loaded = attempt.load()
    loaded.model = add_adapter(loaded, AdapterConfig(lora_r=4, lora_alpha=8), seed=0).eval()
    stir_factors(loaded.model)
    batch = [Example(str(at), "chatml", row) for at, row in enumerate(rows)]
    packing = choose_packing(loaded)
    with packing_rows(loaded, packing):
        token_losses(loaded, batch)[0].sum().backward()
    record_property("training_rows", packing.way)
    together = gradient(loaded.model)
    loaded.model.zero_grad()
    for row in rows:
        row_losses(loaded.model, row).sum().backward()
    alone = gradient(loaded.model)
    assert alone.norm() > 0
    assert (together - alone).norm() <= 1e-3 * alone.norm()


def test_resume(attempt: Attempt, monkeypatch: pytest.MonkeyPatch):
    """A run that is cut off before its second step, and resumed, ends in the same bytes."""
    from harness.training.loop import Trainer

    step, cut = Trainer.step, attempt.work / "cut"

    def stop(self: Trainer, number: int, sum_lr: float) -> Any:
        if number == 1:
            raise KeyboardInterrupt
        return step(self, number, sum_lr)

    whole = attempt.adapter
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", stop)
        attempt.train(cut)
    command("resume", cut)
    ends = [folder / "adapter_model.safetensors" for folder in (whole, cut / "adapter")]
    assert ends[0].read_bytes() == ends[1].read_bytes()


def test_merge(attempt: Attempt):
    """The merged folder is base and adapter in one, of the base's class, with all its weights."""
    from tests.zoo.plain import close, logits, plain_model, with_adapter

    merged = attempt.work / "merged"
    command(
        *("merge", attempt.adapter, "--base", attempt.folder, "--out", merged),
        *("--dtype", "float32"),
    )
    made = plain_model(merged)
    assert type(made) is type(attempt.reference)
    close(logits(made), logits(with_adapter(attempt.folder, attempt.adapter)))


def test_export(attempt: Attempt):
    """Plain transformers and peft load what is shared, and compute what the program computes."""
    from tests.zoo.plain import close, logits, with_adapter

    shared = attempt.work / "shared"
    command("export", attempt.adapter.parent, "--out", shared, "--format", "chatml")
    ours = attempt.load(attempt.adapter)
    theirs = logits(with_adapter(attempt.folder, shared))
    with ours.inference():
        close(logits(ours.model), theirs)
    assert (theirs - logits(attempt.reference)).abs().max() > 1e-3


def test_dry_run(attempt: Attempt):
    """The plan counts the adapter's weights as the training makes them, or refuses as it does."""
    from tests.zoo.plain import factors

    planned = json.loads(attempt.train(attempt.work / "planned", "--dry-run", "--json"))
    assert not attempt.refused, f"planned, but training is refused: {attempt.refused}"
    parts = {part["name"]: part["bytes"] for part in planned["memory"][0]["parts"]}
    assert planned["steps"] == 2
    assert parts["adapter"] == 4 * sum(factor.numel() for _, factor in factors(attempt.adapter))
