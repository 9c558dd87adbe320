"""harness eval --dry-run: its counts are those of the evaluation, and nothing is loaded."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace

import pytest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.evaluation.forecast import forecast
from harness.evaluation.run import run_job
from harness.evaluation.settings import EvalJob, EvalSettings
from harness.evaluation.speed import Speed

pytestmark = pytest.mark.local
FORMATS = ("chatml", "llama3")


@pytest.fixture
def job(tmp_path, tiny_model):
    cases = [
        {"id": f"a{at}", "messages": [{"role": "user", "content": "fox?"}], **facts}
        for at in range(4)
        for facts in ({"checks": [{"contains": ["dog"]}]},)
    ]
    cases += [
        {**cases[0], "id": f"c{at}", "checks": [], "choices": ["dog", "the lazy"], "answer": 0}
        for at in range(3)
    ]
    for case in cases:
        if not case["checks"]:
            del case["checks"]
    cases.append({"id": "r", "messages": cases[0]["messages"], "reference": "over the lazy dog"})
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    return EvalJob(
        str(tiny_model),
        formats=FORMATS,
        cases=(str(tmp_path / "cases.jsonl"),),
        out=tmp_path / "out",
        native="chatml",
        settings=EvalSettings(max_new_tokens=5),
    )


def test_the_counts_are_those_of_the_evaluation(job):
    found = forecast(job)
    assert not job.out.exists() and found.stored is None
    done = run_job(job, quiet=True)
    assert found.requests == dict(Counter(one.request_type for one in done.requests))
    assert found.most_requests == len(done.requests) == 16
    assert found.formats == done.groups and found.native == "chatml"
    assert found.cases == {"answer": 4, "choice": 3, "reference": 1}
    assert found.tokens[1] == 8 * 5
    assert forecast(job).stored == str(job.out / "results.sqlite")


def test_no_weights_are_loaded(job, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the weights are read")

    monkeypatch.setattr("harness.models.loading.load", refuse)
    monkeypatch.setattr("harness.backends.local.backend.load_model", refuse)
    assert forecast(job).requests


def test_tokens_of_a_shared_prompt_are_counted_once(job, tokenizer):
    from dataclasses import replace

    choice = replace(job, cases=job.cases, limit=1, formats=("chatml",))
    texts = [len(tokenizer(text)["input_ids"]) for text in ("dog", "the lazy")]
    found = forecast(choice)
    # chatml alone: one answer, one choice with two texts, one reference
    assert found.requests == {"answer": 1, "choice": 1, "reference": 1}
    without = replace(choice, settings=EvalSettings(max_new_tokens=50))
    assert forecast(without).tokens[0] == found.tokens[0]
    prompt = (found.tokens[0] - sum(texts) - len(tokenizer("over the lazy dog")["input_ids"])) / 3
    assert prompt == int(prompt) > 0


def test_a_budget_pays_for_its_part(job):
    from dataclasses import replace

    some = replace(job, settings=replace(job.settings, budget="50%"))
    found = forecast(some)
    assert found.most_requests == 7 == sum(found.requests.values()) // 2


def test_a_first_look_asks_between_both_numbers(tiny_model, tmp_path):
    job = EvalJob(
        str(tiny_model),
        formats=FORMATS,
        out=tmp_path / "out",
        native="chatml",
        settings=EvalSettings(max_new_tokens=2),
    ).as_first_look()
    found = forecast(job)
    done = run_job(job, quiet=True)
    assert sum(found.requests.values()) <= len(done.requests) <= found.most_requests


def test_the_time_is_of_both_ends():
    speed = Speed("cpu", "float32", 1_000_000, 1e9, 1e8)
    assert speed.seconds(1000, 0) == pytest.approx(2.0)
    assert speed.seconds(1000, 1000) == pytest.approx(22.0)


def test_it_is_printed(job, capsys):
    words = ["eval", job.model, "--dry-run", "--formats", "chatml,llama3", "--native", "chatml"]
    words += ["--cases", *job.cases, "--limit", "2", "--out", str(job.out)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "requests: 4 answer, 4 choice, 2 reference; at most 10" in out
    assert "cases: 2 answer, 2 choice, 1 reference" in out and "if none ends by itself" in out
    assert main([*words, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["requests"]["answer"] == 4 and table["seconds"][0] <= table["seconds"][1]
    assert not job.out.exists()


def test_a_folder_that_may_not_be_written_to_is_no_obstacle(job, monkeypatch):
    """It may be somebody else's: nothing is written. The evaluation is refused before it loads."""
    job.out.mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert forecast(job).requests
    with pytest.raises(HarnessError, match="the folder may not be written to"):
        run_job(replace(job, model="nowhere"))
