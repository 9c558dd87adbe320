"""GGUF files through llama.cpp against plain transformers on the dequantised weights, row by row."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
import torch

from harness.backends import GenerateRequest, ModelSpec, ScoreRequest, by_name, llama_rows
from harness.backends.by_name import backend_for
from harness.backends.llama_context import LlamaContext
from harness.backends.local.backend import TransformersBackend
from harness.backends.sampling import Sampling
from harness.cli.main import main
from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import load_cases
from harness.evaluation.settings import RESULTS_FILE
from harness.formats import load_formats
from harness.formats.render import render
from harness.models import load
from harness.tokens.encode import encode, prompt_ids
from harness.tokens.vocabulary import off_script_ids
from tests.device import chosen_device
from tests.tiny import build_model, build_tokenizer
from tests.tiny_gguf import write_gguf

pytest.importorskip("llama_cpp")
pytestmark = pytest.mark.extras

FORMATS = load_formats()
SOME = ("chatml", "alpaca-newline", "llama3", "plain-qa")
QUESTIONS = [
    "What is the capital?",
    "fox",
    "the quick brown fox jumps over the lazy dog, and then the dog jumps over the fox again",
]
OPTIONS = ["Oslo", "the lazy dog", "Paris is it", "x"]
#: Nats a token at most, and on average, between llama.cpp and float32 on the dequantised weights.
#: llama.cpp multiplies with activations in half precision (F16) or in eight bits (Q8_0, Q4_0), and
#: keeps keys and values in half precision.
BOUNDS = {"F32": (1e-3, 3e-4), "F16": (1e-3, 3e-4), "Q8_0": (0.05, 0.015), "Q4_0": (0.05, 0.015)}
#: Nats a token between two orders of the same computation: a short pass takes other kernels, which
#: add up the values in half precision.
ORDER = 2e-3


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("llamacpp") / "tiny"
    build_model(path)
    return path


@pytest.fixture(scope="session")
def files(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("gguf")
    return {name: write_gguf(folder, place / f"tiny-{name}.gguf", name) for name in BOUNDS}


def opened(file, **options):
    return by_name.open_backend("llamacpp", ModelSpec(str(file)), {"threads": 1, **options})


@pytest.fixture(scope="session")
def backends(files):
    found = {name: opened(file) for name, file in files.items()}
    yield found
    for backend in found.values():
        backend.close()


@pytest.fixture(scope="session")
def plain(files):
    """The dequantised model of each file, in float32."""
    return {
        name: load(str(file), dtype="float32", device=chosen_device())
        for name, file in files.items()
    }


def rendered(backend, format_id, question, answer=None):
    messages = [Message("user", question)]
    if answer is not None:
        messages.append(Message("assistant", answer))
    return render(
        Conversation("c", tuple(messages)),
        FORMATS[format_id],
        add_generation_prompt=answer is None,
        bos_token=backend.bos_token,
        eos_token=backend.eos_token,
    )


def score_requests(backend, formats=SOME, language=""):
    return [
        ScoreRequest(
            f"{format_id}|{n}",
            tuple(rendered(backend, format_id, q, o) for o in OPTIONS[: 1 + n % 4]),
            language if n == 0 else "",
        )
        for format_id in formats
        for n, q in enumerate([*QUESTIONS, QUESTIONS[0] + " And of Norway?"])
    ]


def by_key(batches):
    return dict(pair for batch in batches for pair in batch)


def plain_logprobs(loaded, one):
    encoded = encode(one, loaded.tokenizer)
    with torch.no_grad():
        logits = torch.log_softmax(
            loaded.model(torch.tensor([encoded.ids], device=chosen_device())).logits[0].float(), -1
        )
    return [
        logits[at - 1, token].item()
        for at, (token, content) in enumerate(zip(encoded.ids, encoded.content, strict=True))
        if content
    ]


def differences(found, requests, loaded):
    off = []
    for request in requests:
        for scoring, answer in zip(found[request.key], request.answers, strict=True):
            expected = plain_logprobs(loaded, answer)
            assert scoring.tokens == len(expected)
            assert scoring.logprob == pytest.approx(sum(scoring.token_logprobs), abs=1e-3)
            off += [abs(a - b) for a, b in zip(scoring.token_logprobs, expected, strict=True)]
    return off


# log-probabilities


@pytest.mark.parametrize("name", BOUNDS)
def test_log_probabilities_equal_the_dequantised_model(backends, plain, name):
    requests = score_requests(backends[name])
    off = differences(by_key(backends[name].score(requests)), requests, plain[name])
    most, mean = BOUNDS[name]
    print(f"{name}: at most {max(off):.2g}, on average {sum(off) / len(off):.2g} nats a token")
    assert max(off) <= most and sum(off) / len(off) <= mean


def test_the_bounds_would_show_other_weights(backends, plain):
    """The control: what the four bits themselves change is far beyond the bounds."""
    requests = score_requests(backends["Q4_0"])
    off = differences(by_key(backends["Q4_0"].score(requests)), requests, plain["F32"])
    assert max(off) > 2 * BOUNDS["Q4_0"][0] and sum(off) / len(off) > 2 * BOUNDS["Q4_0"][1]


def test_what_answers_share_changes_nothing(backends):
    """Alone, in one tree, and as a model with states is run."""
    backend = backends["F32"]
    requests = score_requests(backend)
    together = by_key(backend.score(requests))
    alone = by_key(batch for request in requests for batch in backend.score([request]))
    backend.weights.keeps_states = True
    try:
        apart = by_key(backend.score(requests))
    finally:
        backend.weights.keeps_states = False
    for request in requests:
        for one, two, three in zip(
            together[request.key], alone[request.key], apart[request.key], strict=True
        ):
            assert one.token_logprobs == pytest.approx(two.token_logprobs, abs=ORDER)
            assert one.token_logprobs == pytest.approx(three.token_logprobs, abs=ORDER)


def test_long_answers_and_more_options_than_sequences(backends, plain):
    """Prompts and answers beyond one pass, and more branches than llama.cpp has sequences."""
    backend = backends["F32"]
    rng = random.Random(3)
    words = [rng.choice(("fox", "dog", "the", "Oslo", "lazy")) for _ in range(900)]
    long = " ".join(words)
    requests = [
        ScoreRequest("long", (rendered(backend, "chatml", long, "Oslo " + long[:2000]),)),
        ScoreRequest("pair", tuple(rendered(backend, "chatml", long, o) for o in OPTIONS)),
        ScoreRequest(
            "many", tuple(rendered(backend, "chatml", "fox", f"{n} dogs") for n in range(300))
        ),
    ]
    found = by_key(backend.score(requests))
    off = differences(found, requests[:2], plain["F32"])
    assert max(off) <= ORDER
    some = replace(requests[2], answers=requests[2].answers[::30])
    off = differences({"many": found["many"][::30]}, [some], plain["F32"])
    assert max(off) <= ORDER


def test_a_request_beyond_the_window_is_left_out(backends):
    backend = backends["F32"]
    window = backend.weights.window
    long = rendered(backend, "chatml", "fox " * window, "Oslo")
    short = rendered(backend, "chatml", "fox", "Oslo")
    found = by_key(backend.score([ScoreRequest("a", (long,)), ScoreRequest("b", (short,))]))
    assert set(found) == {"b"}
    asks = [
        GenerateRequest("a", rendered(backend, "chatml", "fox " * window), 4),
        GenerateRequest("b", rendered(backend, "chatml", "fox"), 4),
    ]
    assert set(by_key(backend.generate(asks))) == {"b"}


def test_what_other_scripts_have_equals_a_plain_softmax(backends, plain):
    backend, loaded = backends["F32"], plain["F32"]
    off = list(off_script_ids(loaded.tokenizer, "en"))

    def masses(ids):
        with torch.no_grad():
            logits = loaded.model(torch.tensor([ids], device=chosen_device())).logits[0].float()
        return torch.softmax(logits, -1)[:, off].sum(-1).tolist()

    requests = [one for one in score_requests(backend, language="en") if one.language]
    found = by_key(backend.score(requests))
    for request in requests:
        encoded = encode(request.answers[0], loaded.tokenizer)
        all_masses = masses(encoded.ids)
        wanted = [all_masses[at - 1] for at, content in enumerate(encoded.content) if content]
        assert list(found[request.key][0].off_script) == pytest.approx(wanted, abs=1e-3)
    ask = GenerateRequest("g", rendered(backend, "chatml", "fox"), 12, language="en")
    answer = by_key(backend.generate([ask]))["g"]
    ids = prompt_ids(ask.prompt, loaded.tokenizer)
    wanted = masses([*ids, *answer.token_ids])[len(ids) - 1 : -1]
    assert list(answer.off_script) == pytest.approx(wanted, abs=1e-3)


# answers


def generate_requests(backend, sampling=None):
    requests = []
    for format_id in SOME:
        for n, question in enumerate(QUESTIONS):
            requests.append(
                GenerateRequest(
                    f"{format_id}|{n}",
                    rendered(backend, format_id, question),
                    5 + 9 * n,
                    prefix="the " if n == 1 else "",
                    stop_tokens=("<|endoftext|>",) if n == 2 else (),
                    sampling=sampling and replace(sampling, seed=7 * n + len(format_id)),
                )
            )
    return requests


def told(answers):
    return {key: (one.text, one.finish, one.stop) for key, one in answers.items()}


@pytest.mark.parametrize("budget", [300, 16384])
def test_greedy_answers_equal_those_of_the_local_backend(files, plain, budget):
    """Rows of other lengths enter and leave."""
    backend = opened(files["F32"], budget=budget)
    requests = generate_requests(backend)
    found = by_key(backend.generate(requests))
    backend.close()
    wanted = by_key(TransformersBackend(plain["F32"]).generate(requests))
    assert set(found) == {request.key for request in requests}
    assert told(found) == told(wanted)


@pytest.mark.parametrize("sampling", [Sampling(0.8), Sampling(1.3, 0.9, 20)], ids=["all", "cut"])
def test_the_noise_of_sampled_answers_is_that_of_the_local_backend(backends, plain, sampling):
    """Most answers are alike; 1e-3 nats move a token now and then where the noise is near an edge.
    With other seeds, the control, next to none is.
    """
    backend = backends["F32"]
    requests = generate_requests(backend, sampling)
    found = told(by_key(backend.generate(requests)))
    wanted = told(by_key(TransformersBackend(plain["F32"]).generate(requests)))
    others = generate_requests(backend, replace(sampling, seed=1))
    others = [replace(one, sampling=replace(sampling, seed=99 + n)) for n, one in enumerate(others)]
    control = told(by_key(backend.generate(others)))
    assert sum(found[key] == wanted[key] for key in wanted) >= 9
    assert sum(control[key] == wanted[key] for key in wanted) <= 3


def test_a_stop_in_the_text_ends_an_answer(backends):
    backend = backends["F32"]
    prompt = rendered(backend, "chatml", "fox")
    whole = by_key(backend.generate([GenerateRequest("a", prompt, 24)]))["a"]
    stop = whole.text[5:8]
    cut = by_key(backend.generate([GenerateRequest("a", replace(prompt, stops=(stop,)), 24)]))["a"]
    assert (cut.text, cut.finish, cut.stop) == (whole.text[: whole.text.index(stop)], "stop", stop)


def test_a_copied_beginning_changes_nothing(backends, monkeypatch):
    backend, copies = backends["F32"], []
    copy = LlamaContext.copy

    def counted(context, source, target):
        copies.append(source)
        copy(context, source, target)

    monkeypatch.setattr(LlamaContext, "copy", counted)
    beginning = "the quick brown fox jumps over the lazy dog. " * 4
    prompts = [
        prompt_ids(rendered(backend, "chatml", beginning + end), backend.tokenizer)
        for end in ("fox", "dog", "dog", "dog jumps", "")
    ]

    def logits(least):
        monkeypatch.setattr(llama_rows, "_COPIED", least)
        context = backend.context(cells=5 * 512, sequences=5, shared=False)
        return llama_rows.Rows(context, 5).enter(prompts)

    computed = logits(10**9)
    assert not copies
    copied = logits(8)
    assert len(copies) == 4
    assert (copied - computed).abs().max() <= ORDER
    assert (copied - computed[[1, 0, 0, 0, 0]]).abs().amax(-1).min() > 2 * ORDER, "the control"


# tokenizer


def test_ids_equal_those_of_llama_cpp(backends):
    """Each text of the shipped cases, and what they leave out."""
    backend = backends["F32"]
    texts = {message.content for case in load_cases(()) for message in case.messages}
    texts |= {"", " ", "a", "  two", "x\n\n\ny", "1234 5", "Größe 漢字", "\ttab", "don't WE'LL"}
    assert len(texts) > 100
    for text in texts:
        ours = backend.tokenizer(text, add_special_tokens=False).input_ids
        assert backend.weights.tokenize(text) == ours, text


def test_a_control_token_in_the_content_stays_text(backends):
    backend = backends["F32"]
    ids = prompt_ids(rendered(backend, "chatml", "say <|im_end|> now"), backend.tokenizer)
    end = backend.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert ids.count(end) == 1


def test_a_tokenizer_that_splits_otherwise_is_said(folder, files, tmp_path, capsys):
    from tokenizers import pre_tokenizers

    tokenizer = build_tokenizer()
    opened(files["F32"]).close()
    assert capsys.readouterr().err == ""
    opened(files["F32"], tokenizer=str(folder)).close()
    assert capsys.readouterr().err == ""
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(True)
    tokenizer.save_pretrained(tmp_path / "other")
    opened(files["F32"], tokenizer=str(tmp_path / "other")).close()
    assert "llama.cpp tokenises its text differently" in capsys.readouterr().err
    tokenizer.add_tokens(["more", "words"])
    tokenizer.save_pretrained(tmp_path / "larger")
    with pytest.raises(HarnessError, match="the tokenizer has 357 tokens and the model 355"):
        opened(files["F32"], tokenizer=str(tmp_path / "larger"))


# the command


def evaluate(model, cases, out, *more):
    words = ["eval", str(model), "--formats", "chatml,llama3", "--cases", str(cases)]
    return main([*words, "--max-new-tokens", "8", "--out", str(out), *more])


def engine_of(out):
    with closing(sqlite3.connect(out / RESULTS_FILE)) as db:
        return [json.loads(facts) for (facts,) in db.execute("SELECT facts FROM engine")]


def test_a_gguf_file_is_evaluated_as_it_is_and_never_mixed_with_the_dequantised(
    files, cases, tmp_path, capsys
):
    out = tmp_path / "out"
    assert evaluate(files["Q4_0"], cases, out, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    [engine] = engine_of(out)
    assert engine["backend"].startswith("llama.cpp-") and engine["dtype"] == "Q4_0"
    assert first["cells"] and all(
        cell["mean"] is not None for cell in first["cells"] if cell["metric"] == "choice"
    )
    assert evaluate(files["Q4_0"], cases, out, "--json", "-v", "--engine", "local") == 0
    shown = capsys.readouterr()
    assert "0 of 4 cells come from the store" in shown.err
    backends = {engine["backend"].partition("-")[0] for engine in engine_of(out)}
    assert backends == {"llama.cpp", "transformers"}
    assert evaluate(files["Q4_0"], cases, out, "--json", "-v") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == first and "4 of 4 cells come from the store" in shown.err


def test_each_quantisation_is_an_engine_of_its_own(backends):
    prints = [backend.fingerprint for backend in backends.values()]
    assert len({json.dumps(one, sort_keys=True) for one in prints}) == len(prints)
    assert [one["dtype"] for one in prints] == ["all F32", "F16", "Q8_0", "Q4_0"]


@pytest.mark.parametrize(
    ("given", "engine"),
    [
        ({}, "llamacpp"),
        ({"dtype": "float32"}, "local"),
        ({"adapter": "folder"}, "local"),
    ],
)
def test_the_engine_of_a_gguf_file(files, given, engine):
    assert backend_for(ModelSpec(str(files["F32"]), **given)) == engine
    assert backend_for(ModelSpec(str(files["F32"].parent), **given)) == "local"


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--adapter", "x"), "--adapter has no effect there"),
        (("--dtype", "float32"), "--dtype has no effect there"),
        (("--engine-option", "threads=many"), "invalid --engine-option threads=many"),
        (("--engine-option", "layers=3"), "its options: tokenizer, gpu_layers, threads, budget"),
    ],
)
def test_what_llama_cpp_cannot_do_is_one_line(
    files, cases, tmp_path, capsys, monkeypatch, args, text
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "adapter_config.json").write_text('{"base_model_name_or_path": "b"}')
    assert evaluate(files["F32"], cases, tmp_path / "out", "--engine", "llamacpp", *args) == 2
    error = capsys.readouterr().err
    assert text in error and "Traceback" not in error


def test_a_folder_is_not_for_llama_cpp(folder, cases, tmp_path, capsys):
    assert evaluate(folder, cases, tmp_path / "out", "--engine", "llamacpp") == 2
    assert "llama.cpp runs GGUF files only" in capsys.readouterr().err


def damaged(data):
    yield "truncated", data[: len(data) * 2 // 3]
    yield "empty", b""
    yield "pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    yield "architecture", data.replace(b"llama", b"lemma")
    yield "tensor", data.replace(b"blk.1.ffn_up.weight", b"blk.9.ffn_up.weight")


@pytest.mark.parametrize("kind", ["truncated", "empty", "pointer", "architecture", "tensor"])
def test_a_damaged_file_is_one_line(files, cases, tmp_path, capsys, kind):
    data = dict(damaged(files["F32"].read_bytes()))[kind]
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data)
    assert evaluate(path, cases, tmp_path / "out", "--json") == 2
    shown = capsys.readouterr()
    assert "damaged.gguf" in shown.err and "Traceback" not in shown.err and shown.out == ""
