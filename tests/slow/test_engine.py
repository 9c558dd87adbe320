"""The engine on the real SmolLM2-135M in float32 against plain transformers, one sequence at a
time.
"""

from __future__ import annotations

import pytest
import torch

from harness.backends import GenerateRequest
from harness.backends.local.backend import TransformersBackend
from harness.backends.local.engine import longest_packed
from harness.evaluation.cases.case_files import load_cases
from harness.evaluation.requests import RequestBuilder
from harness.formats import load_formats
from harness.models import load
from harness.tokens.encode import prompt_ids
from tests.backends.test_local_backend import plain_logprobs
from tests.device import chosen_device

pytestmark = pytest.mark.slow
MODEL = "SmolLM2-135M-Instruct"
FORMATS = ("chatml", "alpaca-newline", "llama3")


@pytest.fixture(scope="module")
def loaded():
    return load(MODEL, dtype="float32", device=chosen_device())


def test_log_probabilities_equal_one_sequence_at_a_time(loaded):
    backend = TransformersBackend(loaded)
    cases = [case for case in load_cases() if case.choices][:4] + [
        case for case in load_cases() if case.reference
    ][:2]
    planned = RequestBuilder(backend, 1).build(cases, load_formats().select(FORMATS))
    found = dict(
        pair for batch in backend.score([item.request for item in planned]) for pair in batch
    )
    for item in planned:
        for scoring, rendered in zip(found[item.key], item.request.answers, strict=True):
            assert list(scoring.token_logprobs) == pytest.approx(
                plain_logprobs(loaded, rendered), abs=1e-4
            )


def test_answers_equal_generate_row_by_row(loaded):
    """Four slots for nine prompts, so that rows enter beside rows under way."""
    backend = TransformersBackend(loaded, most=4)
    cases = [case for case in load_cases() if case.checks][:3]
    planned = RequestBuilder(backend, 12).build(cases, load_formats().select(FORMATS))
    requests = [item.request for item in planned]
    found = dict(pair for batch in backend.generate(requests) for pair in batch)
    assert len(found) == len(planned) == 9
    for request in requests:
        assert isinstance(request, GenerateRequest)
        ids = torch.tensor([prompt_ids(request.prompt, loaded.tokenizer)])
        out = loaded.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )[0, ids.shape[1] :].tolist()
        got = list(found[request.key].token_ids)
        assert out[: len(got)] == got and (found[request.key].finish == "stop" or len(got) == 12)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_model_is_packed(dtype):
    """In 16 bits too, where the probe that decides it meets rounding."""
    assert longest_packed(load(MODEL, dtype=dtype, device=chosen_device())) > 8192
