"""A model's NaN or infinity is not scored, never stored, and fails the gate by name."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends import GenerateRequest
from harness.backends.local.backend import TransformersBackend, isolated
from harness.backends.protocol import NOT_FINITE, Answer, ScoreRequest, Unscored, why_unscored
from harness.cli.main import main
from harness.conversation import Conversation, Message
from harness.evaluation.execute import execute
from harness.evaluation.run import evaluate
from harness.evaluation.settings import EvalSettings
from harness.evaluation.store.payloads import from_payload, to_payload
from harness.evaluation.store.results_file import Store
from harness.formats import load_formats
from harness.formats.render import render
from harness.gate.baseline import to_baseline
from harness.gate.compare_baselines import compare_baselines
from harness.gate.thresholds import Tolerance
from harness.records import Loglikelihood
from tests.device import chosen_device
from tests.evaluation.test_results_file import GROUPS, Named, plan
from tests.tiny import build_model

BROKEN = [math.nan, math.inf, -math.inf]


class Broken(Named):
    """Gives ``value`` as the log-probability of renderings with ``word``."""

    def __init__(self, value, word="", **changes):
        super().__init__(**changes)
        healthy = self._logprob
        self._logprob = lambda text: value if word in text.text else healthy(text)


class Numb(Named):
    """Gives a NaN for everything, as a model with NaN weights."""

    def generate(self, requests):
        yield [
            (each.key, Unscored(f"{NOT_FINITE} a logit is NaN or infinite")) for each in requests
        ]

    def score(self, requests):
        for each in requests:
            yield [(each.key, [Loglikelihood(math.nan, 1)] * len(each.answers))]


def run(backend, cases, formats, store):
    return evaluate(
        backend, cases, formats, GROUPS, "chatml", store, EvalSettings(max_new_tokens=8), quiet=True
    )


@pytest.mark.parametrize("value", BROKEN)
def test_a_log_probability_that_is_not_finite_is_not_scored_with_its_reason(
    tmp_path, cases, formats, value
):
    [choice] = [case for case in cases if case.choices][:1]
    word = choice.messages[-1].content
    with Store(tmp_path / "r.sqlite") as store:
        found = run(Broken(value, word), cases, formats, store)
        stored = [json.loads(payload) for (payload,) in store.select("SELECT payload FROM cell")]
    here = [s for s in found.scores if s.case == choice.id and s.metric in ("choice", "brier")]
    assert here and all(score.value is None for score in here)
    assert all(score.why.startswith(f"{NOT_FINITE} a log-probability is") for score in here)
    others = [s for s in found.scores if s.case != choice.id and s.metric == "choice"]
    assert others and all(score.value is not None for score in others)  # the control
    text = json.dumps(stored)
    assert "NaN" not in text and "Infinity" not in text
    found.refuse_if_nothing_scored()


def test_the_same_command_on_a_healthy_model_computes_what_was_missing(tmp_path, cases, formats):
    with Store(tmp_path / "r.sqlite") as store:
        assert execute(plan(cases, formats), Numb(), store, quiet=True) == 0
    with Store(tmp_path / "r.sqlite") as store:
        assert execute(plan(cases, formats), Named(), store, quiet=True) == len(
            plan(cases, formats)
        )


def test_what_an_earlier_version_stored_is_computed_again(tmp_path, cases, formats, capsys):
    """A NaN and a cut payload in the file: the planted faults; the other payloads stay."""
    requests = plan(cases, formats)
    path = tmp_path / "r.sqlite"
    with Store(path) as store:
        execute(requests, Named(), store, quiet=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        keys = [key for (key,) in db.execute("SELECT key FROM cell ORDER BY key")]
        for key, payload in (
            (keys[0], '[{"logprob": NaN, "tokens": 1}]'),
            (keys[1], '{"text": "half'),
            (keys[2], "[]"),
            (keys[3], "[" * 100_000),
            (keys[4], '[{"logprob": -1' + "0" * 400 + ', "tokens": 1}]'),
        ):
            db.execute("UPDATE cell SET payload = ? WHERE key = ?", (payload, key))
    with Store(path) as store:
        assert execute(requests, Named(), store, quiet=True) == 5
        assert execute(requests, Named(), store, quiet=True) == 0
    assert "5 stored results cannot be read and are computed again" in capsys.readouterr().err


def test_a_model_full_of_nan_is_refused_as_a_whole(tmp_path, cases, formats):
    from harness.errors import HarnessError

    with Store(tmp_path / "r.sqlite") as store:
        found = run(Numb(), cases, formats, store)
    with pytest.raises(HarnessError, match="NaN or infinite log-probabilities"):
        found.refuse_if_nothing_scored()


def test_one_nan_fails_the_gate_by_name(tmp_path, cases, formats):
    """Without the rule the other cases would be paired, and the gate would be green."""
    [choice] = [case for case in cases if case.choices][:1]
    with Store(tmp_path / "r.sqlite") as store:
        healthy = to_baseline(run(Named(), cases, formats, store))
    with Store(tmp_path / "s.sqlite") as store:
        found = run(Broken(math.nan, choice.messages[-1].content), cases, formats, store)
    tolerances = {"choice": Tolerance("choice", 0.08)}
    again = compare_baselines(healthy, healthy, tolerances)
    assert not any(check.fails for check in again)
    failed = [v for v in compare_baselines(healthy, to_baseline(found), tolerances) if v.fails]
    assert {check.format for check in failed} >= {one.id for one in formats}
    assert all("log-probability is NaN" in check.why for check in failed)


def test_the_local_model_with_nan_weights(tiny, tmp_path):
    """Answers end at the first token, and nothing of them is taken for text."""
    chatml = load_formats()["chatml"]
    conversation = Conversation("c", (Message("user", "fox?"),))
    prompt = render(conversation, chatml, add_generation_prompt=True)
    said = Conversation("c", (Message("user", "fox?"), Message("assistant", "dog")))
    requests = [GenerateRequest("a", prompt, 6), GenerateRequest("b", prompt, 6, language="en")]
    scored = [ScoreRequest("s", (render(said, chatml),), "en")]
    backend = TransformersBackend(tiny)
    healthy = dict(pair for batch in backend.generate(requests) for pair in batch)
    assert all(isinstance(answer, Answer) for answer in healthy.values())
    assert not any(why_unscored(each) for batch in backend.score(scored) for _, each in batch)
    tiny.model.model.layers[1].mlp.down_proj.weight.data[0, 0] = math.nan
    broken = dict(pair for batch in backend.generate(requests) for pair in batch)
    assert all(why_unscored(answer).startswith(NOT_FINITE) for answer in broken.values())
    assert all(why_unscored(each) for batch in backend.score(scored) for _, each in batch)


@pytest.fixture(scope="module")
def with_a_broken_token(tmp_path_factory):
    """A tiny model in which reading one token ("fo" of fox) gives NaN, and no other does."""
    from harness.models import load

    folder = tmp_path_factory.mktemp("untied")
    build_model(folder, tie_word_embeddings=False)
    loaded = load(str(folder), dtype="float32", device=chosen_device())
    [broken, *_] = loaded.tokenizer("fox", add_special_tokens=False).input_ids
    loaded.model.model.embed_tokens.weight.data[broken] = math.nan
    return loaded


QUESTIONS = ("the dog?", "fox fox?", "what is it?", "a", "b", "fox")


@pytest.mark.parametrize("most", [128, 1])
def test_a_nan_of_one_cell_stays_in_it(with_a_broken_token, most):
    """In a batch it would spread to all: 0 times NaN is NaN in attention, and in a reused slot."""
    chatml = load_formats()["chatml"]
    asked = [Conversation(q, (Message("user", q),)) for q in QUESTIONS]
    said = [Conversation(q, (Message("user", q), Message("assistant", "lazy"))) for q in QUESTIONS]
    prompts = [render(each, chatml, add_generation_prompt=True) for each in asked]
    requests = [GenerateRequest(q, p, 6) for q, p in zip(QUESTIONS, prompts, strict=True)]
    scored = [ScoreRequest(each.id, (render(each, chatml),)) for each in said]
    backend = TransformersBackend(with_a_broken_token, most=most)
    for run, some in ((backend.generate, requests), (backend.score, scored)):
        found = dict(pair for batch in run(some) for pair in batch)
        assert {q for q, result in found.items() if why_unscored(result)} == {"fox fox?", "fox"}
        for request in some:
            [[(key, alone)]] = list(run([request]))
            assert bool(why_unscored(alone)) == bool(why_unscored(found[key]))
            if isinstance(alone, Answer):
                assert alone == found[key]


@pytest.mark.parametrize(("broken", "runs"), [(0, 1), (1, 2), (8, 9), (9, 9), (30, 9)])
def test_a_model_that_is_broken_throughout_is_not_asked_for_each_cell_again(broken, runs):
    """Eight in a row are tried alone; a good one among them starts the count again."""
    requests = [GenerateRequest(str(at), None, 1) for at in range(40)]
    calls = []

    def run(some):
        calls.append(len(some))
        unscored = Unscored(f"{NOT_FINITE} x")
        yield [
            (each.key, unscored if int(each.key) < broken else Answer("a", "stop", ""))
            for each in some
        ]

    found = [pair for batch in isolated(requests, run) for pair in batch]
    assert sorted(key for key, _ in found) == sorted(each.key for each in requests)
    assert len(calls) == runs
    assert sum(isinstance(result, Unscored) for _, result in found) == broken


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_eval_of_a_nan_model_is_one_line(tiny_model, tmp_path, capsys, temperature):
    import shutil

    from transformers import AutoModelForCausalLM

    folder = tmp_path / "nan_model"
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] = math.nan
    model.save_pretrained(folder)
    command = ["eval", str(folder), "--formats", "chatml", "--limit", "2"]
    command += ["--out", str(tmp_path / "ev"), "--temperature", str(temperature)]
    assert main(command) == 2
    shown = capsys.readouterr()
    [line] = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert "NaN or infinite log-probabilities" in line and "next:" not in shown.out
    assert not (tmp_path / "ev" / "report.html").exists()


# payloads

numbers = st.floats(max_value=0, allow_nan=False, allow_infinity=False)
results = st.one_of(
    st.builds(
        Answer,
        st.text(),
        st.sampled_from(["stop", "length", "error"]),
        st.text(),
        st.lists(st.integers(0, 9)).map(tuple),
        st.lists(st.floats(0, 1)).map(tuple),
    ),
    st.builds(Loglikelihood, numbers, st.integers(1, 9), st.lists(numbers).map(tuple)).map(
        lambda scoring: [scoring]
    ),
)


def planned(result):
    """A planned request that this result could answer."""
    from types import SimpleNamespace

    request = GenerateRequest("k", None, 1)
    if not isinstance(result, Answer):
        request = ScoreRequest("k", (None,) * len(result))
    return SimpleNamespace(request=request)


@given(results)
def test_every_usable_result_is_read_back_equal(result):
    assert from_payload(planned(result), json.dumps(to_payload(result), allow_nan=False)) == result


@given(results, st.data())
def test_a_payload_that_was_changed_is_read_or_refused_by_a_value_error(result, data):
    text = json.dumps(to_payload(result))
    cut = data.draw(st.integers(0, len(text)))
    inserted = data.draw(st.sampled_from(["", "null", "NaN", "[]", "{}", '"', "1e999", "true"]))
    rest = data.draw(st.integers(cut, len(text)))
    try:
        found = from_payload(planned(result), text[:cut] + inserted + text[rest:])
    except ValueError:
        return
    assert why_unscored(found) == ""


@pytest.mark.parametrize("value", [*BROKEN, 5.0, 0.01])
def test_no_such_number_becomes_a_payload(value):
    for bad in (
        [Loglikelihood(value, 1)],
        [Loglikelihood(-1.0, 2, (-1.0, value))],
        [Loglikelihood(-1.0, 1), Loglikelihood(value, 1)],
    ):
        with pytest.raises(ValueError, match="log-probability"):
            to_payload(bad)
    if not math.isfinite(value):
        with pytest.raises(ValueError, match="off-script"):
            to_payload(Answer("x", "stop", "", (1,), (value,)))
        with pytest.raises(ValueError, match="off-script"):
            to_payload([Loglikelihood(-1.0, 1, (-1.0,), (value,))])
    to_payload([Loglikelihood(0.0005, 1, (-1.0,), (0.5,))])  # rounding
