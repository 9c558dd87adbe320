"""The two sides of benchmarks/evaluate.py: our engine, and lm-evaluation-harness with ``generate``.

Each holds the model in a process of its own, and makes the same requests from the same cases.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MODEL = "SmolLM2-135M-Instruct"


class Side:
    """What both sides share: the model, and the same requests made from the same cases."""

    def __init__(self, options: argparse.Namespace) -> None:
        import torch

        from harness.backends.local.backend import TransformersBackend
        from harness.models import load

        torch.set_num_threads(options.threads)
        self.options = options
        self.loaded = load(MODEL, dtype=options.dtype)
        self.backend = TransformersBackend(self.loaded)

    def choices(self, items: int) -> Any:
        return choice_requests(self.backend, items, self.options.formats)

    def prompts(self, count: int) -> Any:
        return prompt_requests(self.backend, count, self.options.new_tokens, ("smollm2", "chatml"))

    def whole_job(self, limit: int, out: Path) -> Any:
        """The whole evaluation that both sides do."""
        from dataclasses import replace

        from harness.demo import SETTINGS
        from harness.evaluation.settings import EvalJob

        settings = replace(SETTINGS, recall_examples=self.options.recall)
        return EvalJob(model=MODEL, limit=limit, out=out, recall=True, settings=settings)


def choice_requests(backend: Any, items: int, formats: int) -> Any:
    """The first four-option items in the first default formats, each answer to be scored."""
    from harness.evaluation.cases.case_files import load_cases
    from harness.evaluation.requests import RequestBuilder
    from harness.formats import load_formats

    known = load_formats()
    cases = [case for case in load_cases() if len(case.choices) == 4]
    if len(cases) < items:
        raise SystemExit(f"there are {len(cases)} four-option items, not {items}")
    chosen = known.select(known.default)[:formats]
    return RequestBuilder(backend, 1).build(cases[:items], chosen)


def prompt_requests(backend: Any, count: int, new_tokens: int, formats: Sequence[str]) -> Any:
    """Different prompts in these formats, whose answers end with a token or by length, cut at no
    text.
    """
    from dataclasses import replace

    from harness.backends import GenerateRequest
    from harness.evaluation.cases.case_files import load_cases
    from harness.formats import load_formats
    from harness.formats.adapt import adapt_to_format
    from harness.formats.render import render

    known = load_formats()
    places = [(case, known[id]) for case in load_cases() if not case.choices for id in formats]
    if len(places) < count:
        raise SystemExit(f"there are {len(places)} different prompts, not {count}")
    rendered = [
        render(
            adapt_to_format(case.conversation, format),
            format,
            add_generation_prompt=True,
            bos_token="",
            eos_token=backend.eos_token,
        )
        for case, format in places[:count]
    ]
    return [
        GenerateRequest(str(at), replace(prompt, stops=()), new_tokens)
        for at, prompt in enumerate(rendered)
    ]


class Ours(Side):
    def scoring(self, items: int) -> Any:
        planned = self.choices(items)
        started = now()
        found = {
            key: [s.logprob for s in scorings]
            for batch in self.backend.score([item.request for item in planned])
            for key, scorings in batch
        }
        return since(started), [max(range(4), key=found[item.key].__getitem__) for item in planned]

    def generation(self, count: int, _batch: int) -> Any:
        requests = self.prompts(count)
        started = now()
        found = {key: answer for batch in self.backend.generate(requests) for key, answer in batch}
        took = since(started)
        return took, sum(
            len(answer.token_ids) + (answer.finish == "stop") for answer in found.values()
        )

    def whole(self, limit: int) -> Any:
        from harness.evaluation.run import run_job

        started = now()
        with tempfile.TemporaryDirectory() as folder:
            job = self.whole_job(limit, Path(folder))
            evaluation = run_job(job, loaded=self.loaded, quiet=True)
        return since(started), evaluation.computed


class Theirs(Side):
    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            from lm_eval.models.huggingface import HFLM

            self.lm = HFLM(
                pretrained=self.loaded.model,
                tokenizer=self.loaded.tokenizer,
                batch_size=options.peer_batch,
                device="cpu",
                add_bos_token=False,
            )

    def instances(self, kind: str, arguments: list[Any]) -> Any:
        from lm_eval.api.instance import Instance

        return [
            Instance(request_type=kind, doc={}, arguments=args, idx=at)
            for at, args in enumerate(arguments)
        ]  # type: ignore[arg-type]

    def scoring(self, items: int) -> Any:
        planned = self.choices(items)
        asks = self.instances(
            "loglikelihood", [split(answer) for item in planned for answer in item.request.answers]
        )
        started = now()
        found = [value for value, _ in self.lm.loglikelihood(asks, disable_tqdm=True)]
        took = since(started)
        return took, [
            max(range(4), key=found[at : at + 4].__getitem__) for at in range(0, len(found), 4)
        ]

    def generation(self, count: int, batch: int) -> Any:
        import torch

        from harness.backends.local.decoding import eos_ids
        from harness.backends.local.padded import pad

        requests = self.prompts(count)
        ends = sorted(eos_ids(self.loaded))
        started = now()
        tokens = 0
        rows = sorted(
            (
                self.loaded.tokenizer(r.prompt.text, add_special_tokens=False).input_ids
                for r in requests
            ),
            key=len,
            reverse=True,
        )
        for at in range(0, len(rows), batch):
            ids, mask = pad(rows[at : at + batch], self.loaded, left=True)
            with torch.inference_mode():
                out = self.loaded.model.generate(
                    ids,
                    attention_mask=mask,
                    max_new_tokens=self.options.new_tokens,
                    do_sample=False,
                    eos_token_id=ends,
                )
            for row in out[:, ids.shape[1] :].tolist():
                end = next((place + 1 for place, id in enumerate(row) if id in ends), len(row))
                tokens += end
        return since(started), tokens

    def whole(self, limit: int) -> Any:
        from harness.backends.protocol import ScoreRequest

        requests = self.whole_requests(limit)
        scores = self.instances(
            "loglikelihood",
            [
                split(answer)
                for r in requests
                if isinstance(r, ScoreRequest)
                for answer in r.answers
            ],
        )
        texts = self.instances(
            "generate_until",
            [
                (
                    r.prompt.text + r.prefix,
                    {
                        "until": [*r.prompt.stops, *r.stop_tokens],
                        "max_gen_toks": r.max_new_tokens,
                        "do_sample": False,
                    },
                )
                for r in requests
                if not isinstance(r, ScoreRequest)
            ],
        )
        started = now()
        self.lm.loglikelihood(scores, disable_tqdm=True)
        self.lm.generate_until(texts, disable_tqdm=True)
        return since(started), len(requests)

    def whole_requests(self, limit: int) -> list[Any]:
        """This share of what our evaluation asks, each request once, longest first."""
        from harness.evaluation.cases.case_files import limit_cases, load_cases
        from harness.evaluation.plan import pick_recall_formats, plan_recall
        from harness.evaluation.recall_rows import recall_sets_of
        from harness.evaluation.requests import RequestBuilder

        job, cases = self.whole_job(limit, Path()), load_cases()
        settings = job.settings.with_length_budget(cases)
        formats, groups = self.whole_formats()
        few = pick_recall_formats(formats, groups, settings.recall_formats)
        recall = plan_recall(
            self.backend, None, recall_sets_of(job), few, settings.recall_continued
        )
        builder = RequestBuilder(self.backend, settings.max_new_tokens)
        planned = [*builder.build(limit_cases(cases, limit), formats), *recall.requests]
        longest_first = sorted(planned, key=lambda item: -item.length)
        which, of = map(int, self.options.share.split("/"))
        return [item.request for item in {item.key: item for item in longest_first}.values()][
            which - 1 :: of
        ]

    def whole_formats(self) -> tuple[list[Any], Any]:
        """The default formats with the native one, which comes first, and the group of each."""
        from harness.evaluation.format_groups import group_formats, native_format_id
        from harness.formats import load_formats

        known = load_formats()
        native = native_format_id(self.loaded.tokenizer, known.values())
        formats = sorted(known.select(known.default), key=lambda format: format.id)
        formats = [known[native], *(format for format in formats if format.id != native)]
        return formats, group_formats(formats, native, ())


def split(rendered: Any) -> tuple[str, str]:
    """A rendering as context and continuation: the last answer's words are what is asked for."""
    last = max(span.message for span in rendered.spans if span.trained and span.kind == "content")
    words = [
        span
        for span in rendered.spans
        if span.kind == "content" and span.message == last and span.trained
    ]
    return rendered.text[: words[0].start], rendered.text[words[0].start : words[-1].end]


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(then: tuple[float, float]) -> tuple[float, float]:
    return time.perf_counter() - then[0], time.process_time() - then[1]
