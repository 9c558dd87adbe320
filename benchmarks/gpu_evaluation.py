"""Scoring, generation and agreement parts of benchmarks/gpu.py: our backend, lm-evaluation-harness,
and transformers' ``generate`` and ``generate_batch``, on the same requests.
"""

from __future__ import annotations

import contextlib
import io
import statistics
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from benchmarks.evaluate_sides import choice_requests, prompt_requests, split
from benchmarks.gpu_measure import Bench, Kernels, clean, peaks, timed
from benchmarks.gpu_models import open_model

#: Runs of a measurement, unless those before took as many seconds.
RUNS, LONG_S = 3, 4.0
FORMATS = ("smollm2", "chatml", "alpaca-newline", "plain-qa", "zephyr")


def sizes(bench: Bench) -> dict[str, int]:
    """How many requests of each kind."""
    if bench.rehearse:
        return {"items": 2, "formats": 2, "prompts": 6, "new_tokens": 4}
    return {"items": 40, "formats": 8, "prompts": 256, "new_tokens": 64}


def measure(
    bench: Bench,
    work: Callable[[], Any],
    warm: Callable[[], Any] | None = None,
    *,
    profiled: bool = True,
) -> tuple[dict[str, Any], Any]:
    """Seconds, busy share and memory of ``work``, and what it returned.

    The seconds are the median of up to three runs, of fewer where they take long. ``profiled``
    runs it once more; the share is the time of its kernels by the median without profiler.
    """
    (warm or work)()
    clean(bench)
    taken: list[float] = []
    while not taken or (len(taken) < RUNS and sum(taken) < LONG_S and not bench.rehearse):
        seconds, found = timed(bench, work)
        taken.append(seconds)
    median = statistics.median(taken)
    facts = {"seconds": median, "runs_s": taken, **peaks(bench)}
    kernels = Kernels(bench)
    if profiled:
        with kernels:
            work()
    busy = kernels.seconds / median if kernels.count else None
    return {**facts, "busy": busy, "kernels": kernels.count}, found


# ------------------------------------------------------------------ scoring


def score_ours(bench: Bench, model: str) -> None:
    from harness.backends.local.backend import TransformersBackend

    loaded = open_model(bench, model)
    backend = TransformersBackend(loaded)
    planned = choices(bench, backend)
    requests = [item.request for item in planned]

    def work() -> dict[str, list[float]]:
        return {
            key: [scoring.logprob for scoring in scorings]
            for batch in backend.score(requests)
            for key, scorings in batch
        }

    facts, found = measure(bench, work)
    order = [value for item in planned for value in found[item.key]]
    bench.say(
        work="scoring",
        model=model,
        side="ours",
        variant="defaults",
        engine=backend.fingerprint["engine"],
        first_logprobs=order[:8],
        **rates(facts, loaded, planned),
    )


def score_lm_eval(bench: Bench, model: str, batches: Sequence[int] = (64, 128, 256)) -> None:
    """lm-evaluation-harness's HFLM at several batch sizes, a line for each."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from harness.backends.local.backend import TransformersBackend

    loaded = open_model(bench, model)
    planned = choices(bench, TransformersBackend(loaded))
    asks = [
        Instance(request_type="loglikelihood", doc={}, arguments=split(answer), idx=at)
        for at, answer in enumerate(chain(*(item.request.answers for item in planned)))
    ]
    for batch in batches[:1] if bench.rehearse else batches:
        with contextlib.redirect_stdout(io.StringIO()):
            lm = HFLM(
                pretrained=loaded.model,
                tokenizer=loaded.tokenizer,
                batch_size=batch,
                device=bench.device,
                add_bos_token=False,
            )
            facts, found = measure(
                bench,
                lambda lm=lm: lm.loglikelihood(asks, disable_tqdm=True),
                lambda lm=lm, batch=batch: lm.loglikelihood(asks[:batch], disable_tqdm=True),
                profiled=batch == batches[0],
            )
        bench.say(
            work="scoring",
            model=model,
            side="lm-eval",
            variant=f"batch {batch}",
            first_logprobs=[value for value, _ in found[:8]],
            **rates(facts, loaded, planned),
        )


def choices(bench: Bench, backend: Any) -> Any:
    return choice_requests(backend, sizes(bench)["items"], sizes(bench)["formats"])


def rates(facts: dict[str, Any], loaded: Any, planned: Any) -> dict[str, Any]:
    """Answers scored a second, and the tokens that scoring each alone would read."""
    answers = [answer.text for item in planned for answer in item.request.answers]
    tokens = sum(map(len, loaded.tokenizer(answers, add_special_tokens=False).input_ids))
    seconds = facts["seconds"]
    return {
        "requests": len(answers),
        "requests_s": len(answers) / seconds,
        "tokens_s": tokens / seconds,
        **facts,
    }


# ------------------------------------------------------------------ generation


def prompts(bench: Bench, backend: Any) -> Any:
    return prompt_requests(backend, sizes(bench)["prompts"], sizes(bench)["new_tokens"], FORMATS)


def generate_ours(bench: Bench, model: str) -> None:
    from harness.backends.local.backend import TransformersBackend

    loaded = open_model(bench, model)
    backend = TransformersBackend(loaded)
    requests = prompts(bench, backend)

    def work() -> int:
        answers = [answer for batch in backend.generate(requests) for _, answer in batch]
        return sum(len(answer.token_ids) + (answer.finish == "stop") for answer in answers)

    facts, tokens = measure(bench, work)
    say_generated(bench, model, "ours", "defaults", len(requests), tokens, facts)


def say_generated(
    bench: Bench,
    model: str,
    side: str,
    variant: str,
    requests: int,
    tokens: int,
    facts: dict[str, Any],
) -> None:
    seconds = facts["seconds"]
    bench.say(
        work="generation",
        model=model,
        side=side,
        variant=variant,
        requests=requests,
        tokens=tokens,
        requests_s=requests / seconds,
        tokens_s=tokens / seconds,
        **facts,
    )


def prompt_ids(bench: Bench, loaded: Any) -> list[list[int]]:
    """The prompts' ids, longest first, so that a batch pads little."""
    from harness.backends.local.backend import TransformersBackend

    texts = [request.prompt.text for request in prompts(bench, TransformersBackend(loaded))]
    rows = loaded.tokenizer(texts, add_special_tokens=False).input_ids
    return sorted(rows, key=len, reverse=True)


def generate_hf(bench: Bench, model: str, batches: Sequence[int] = (256, 128)) -> None:
    """transformers' ``generate`` at several batch sizes, a line for each."""
    import torch

    loaded = open_model(bench, model)
    rows, ending = prompt_ids(bench, loaded), loaded.tokenizer.eos_token_id

    def answer(some: list[list[int]]) -> int:
        width = max(map(len, some))
        ids = [[ending] * (width - len(row)) + row for row in some]
        seen = [[0] * (width - len(row)) + [1] * len(row) for row in some]
        with torch.inference_mode():
            out = loaded.model.generate(
                torch.tensor(ids, device=bench.device),
                attention_mask=torch.tensor(seen, device=bench.device),
                max_new_tokens=sizes(bench)["new_tokens"],
                do_sample=False,
                eos_token_id=ending,
                pad_token_id=ending,
            )
        return sum(until_end(row, ending) for row in out[:, width:].tolist())

    for batch in batches[:1] if bench.rehearse else batches:
        cut = [rows[at : at + batch] for at in range(0, len(rows), batch)]
        facts, tokens = measure(
            bench,
            lambda cut=cut: sum(map(answer, cut)),
            lambda: answer(rows[:8]),
            profiled=batch == batches[0],
        )
        say_generated(bench, model, "generate", f"batch {batch}", len(rows), tokens, facts)


def until_end(row: Sequence[int], ending: int) -> int:
    """How many tokens an answer has, its end included."""
    return next((at + 1 for at, token in enumerate(row) if token == ending), len(row))


def generate_continuous(bench: Bench, model: str) -> None:
    """transformers' continuous batching with its own settings.

    The seconds are those from the first request's start to the last one's end, without the set-up
    of the cache and the capture of graphs; ``whole_s`` has these too.
    """
    from transformers import GenerationConfig

    loaded = open_model(bench, model)
    rows, ending = prompt_ids(bench, loaded), loaded.tokenizer.eos_token_id
    settings = GenerationConfig(
        max_new_tokens=sizes(bench)["new_tokens"],
        do_sample=False,
        eos_token_id=ending,
        pad_token_id=ending,
    )
    room: dict[str, Any] = {}
    if bench.rehearse:  # else it takes most of the machine's memory
        from transformers import ContinuousBatchingConfig

        few = ContinuousBatchingConfig(num_blocks=64, max_batch_tokens=256)
        room = {"continuous_batching_config": few, "warmup": False}
    whole, found = timed(
        bench,
        lambda: loaded.model.generate_batch(rows, generation_config=settings, **room),
    )
    answers = list(found.values())
    if len(answers) < len(rows) or any(answer.error for answer in answers):
        raise RuntimeError(f"generate_batch answered {len(answers)} of {len(rows)} requests")
    seconds = max(a.lifespan[1] for a in answers) - min(a.lifespan[0] for a in answers)
    tokens = sum(until_end(answer.generated_tokens, ending) for answer in answers)
    facts = {"seconds": seconds, "whole_s": whole, "busy": None, **peaks(bench)}
    say_generated(bench, model, "generate", "continuous batching", len(rows), tokens, facts)


# ------------------------------------------------------------------ agreement with the CPU


def agreement(bench: Bench, model: str) -> None:
    """Log-probabilities in float32, picks and greedy answers on the device and on the CPU.

    Then the same answers once more, one row at a time, in float32 and in bfloat16: in bfloat16 a
    greedy answer may depend on the rows beside it.
    """
    from dataclasses import replace

    from harness.backends.local.backend import TransformersBackend

    few = replace(bench, rehearse=True)
    scores, answers = [], []
    for device in (bench.device, "cpu"):
        loaded = open_model(replace(bench, device=device), model, "float32")
        backend = TransformersBackend(loaded)
        planned = choice_requests(backend, 2 if bench.rehearse else 6, 2 if bench.rehearse else 4)
        found = {
            key: [scoring.logprob for scoring in scorings]
            for batch in backend.score([item.request for item in planned])
            for key, scorings in batch
        }
        scores.append([found[item.key] for item in planned])
        answers.append(greedy(backend, questions(bench, backend)))
    far = max(abs(a - b) for x, y in zip(*scores, strict=True) for a, b in zip(x, y, strict=True))
    picks = sum(x.index(max(x)) == y.index(max(y)) for x, y in zip(*scores, strict=True))
    alike = sum(answers[0][key] == answers[1][key] for key in answers[1])
    bench.say(
        work="agreement",
        model=model,
        max_abs_nats=far,
        picks=f"{picks}/{len(scores[0])}",
        answers=f"{alike}/{len(answers[1])}",
        equal=picks == len(scores[0]) and alike == len(answers[1]),
    )
    for dtype in ("float32", "bfloat16"):
        backend = TransformersBackend(open_model(bench, model, dtype))
        asked = questions(few, backend)
        together = greedy(backend, questions(bench, backend))
        alone = [
            greedy(backend, [request]) == {request.key: together[request.key]} for request in asked
        ]
        bench.say(
            work="batch dependence",
            model=model,
            dtype=dtype,
            alike_alone=f"{sum(alone)}/{len(alone)}",
        )


def questions(bench: Bench, backend: Any) -> Any:
    return prompt_requests(
        backend, 6 if bench.rehearse else 16, 4 if bench.rehearse else 24, FORMATS
    )


def greedy(backend: Any, requests: Any) -> dict[str, tuple[int, ...]]:
    return {key: answer.token_ids for batch in backend.generate(requests) for key, answer in batch}
