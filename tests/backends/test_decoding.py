"""Answers depend neither on the rest of the batch nor on its size or cache."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.backends import GenerateRequest, ScoreRequest
from harness.backends.local import decoding, scoring
from harness.backends.local.backend import TransformersBackend
from harness.backends.local.decoding import (
    LOOK_EVERY,
    LOOP_PERIOD,
    LOOP_REPEATS,
    LOOP_TOKENS,
    Decoder,
    DecodingRow,
    loops,
)
from harness.backends.local.engine import MOST_PACKED, longest_packed
from harness.backends.local.room import Room
from harness.backends.sampling import Sampling
from harness.metrics.loops import loop
from harness.tokens.encode import prompt_ids
from tests.backends.test_local_backend import OPTIONS, QUESTIONS, answered, asked, plain_logprobs
from tests.device import chosen_device

FEW = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
IDS = ("chatml", "alpaca-newline", "llama3")
picks = st.lists(st.integers(0, 17), min_size=1, max_size=12, unique=True)
rooms = st.sampled_from([(70, 1), (200, 2), (300, 3), (16384, 128)])


def requests_of(backend):
    """Rows of several lengths and settings; some prompts come twice, with other noise."""
    samplings = (
        None,
        Sampling(1.0, 0.9, 0, 1),
        Sampling(0.8, 1.0, 20, 2),
        Sampling(1.3, 1.0, 0, 3),
    )
    rows = [(format_id, question) for format_id in IDS for question in QUESTIONS] * 2
    return [
        GenerateRequest(
            str(at), asked(format_id, q, backend), 3 + at % 9, sampling=samplings[at % 4]
        )
        for at, (format_id, q) in enumerate(rows)
    ]


def answers_of(backend, requests):
    return dict(pair for batch in backend.generate(requests) for pair in batch)


@pytest.fixture
def alone(tiny):
    backend = TransformersBackend(tiny)
    return {
        request.key: answers_of(backend, [request])[request.key] for request in requests_of(backend)
    }


@FEW
@given(picks, rooms)
def test_an_answer_does_not_depend_on_the_batch(tiny, alone, picked, room):
    backend = TransformersBackend(tiny, budget=room[0], most=room[1])
    requests = requests_of(backend)
    found = answers_of(backend, [requests[at] for at in picked])
    assert found == {str(at): alone[str(at)] for at in picked}


@FEW
@given(picks, st.sampled_from([40, 150, 16384]))
def test_a_log_probability_does_not_depend_on_the_batch(tiny, picked, budget):
    backend = TransformersBackend(tiny, budget=budget)
    rows = [(format_id, question) for format_id in IDS for question in QUESTIONS] * 2
    requests = [
        ScoreRequest(
            str(at), tuple(answered(*rows[at], o, backend) for o in OPTIONS[at % 3 :]), "en"
        )
        for at in picked
    ]
    found = dict(pair for batch in backend.score(requests) for pair in batch)
    assert set(found) == {request.key for request in requests}
    for request in requests:
        for scored, rendered in zip(found[request.key], request.answers, strict=True):
            assert list(scored.token_logprobs) == pytest.approx(
                plain_logprobs(tiny, rendered), abs=1e-4
            )


def test_padded_rows_give_the_same(tiny, alone, monkeypatch):
    """The way of models that cannot be packed."""
    monkeypatch.setattr(decoding, "longest_packed", lambda loaded: 0)
    monkeypatch.setattr(scoring, "longest_packed", lambda loaded: 0)
    backend = TransformersBackend(tiny, budget=500, most=4)
    assert answers_of(backend, requests_of(backend)) == alone
    request = ScoreRequest(
        "k", tuple(answered("chatml", "fox", option, backend) for option in OPTIONS)
    )
    [[(_, found)]] = list(backend.score([request]))
    for scored, rendered in zip(found, request.answers, strict=True):
        assert list(scored.token_logprobs) == pytest.approx(
            plain_logprobs(tiny, rendered), abs=1e-4
        )


def other_models(tokenizer):
    from transformers import BloomConfig, GPT2Config, MambaConfig, MistralConfig

    size, ends = (
        len(tokenizer),
        {
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
    )
    heads = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return {
        "mistral": (MistralConfig(vocab_size=size, sliding_window=100, **heads, **ends), 100),
        "gpt2": (
            GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=256, **ends),
            MOST_PACKED,
        ),
        "bloom": (BloomConfig(vocab_size=size, hidden_size=32, n_layer=2, n_head=2, **ends), 0),
        "mamba": (
            MambaConfig(vocab_size=size, hidden_size=32, num_hidden_layers=2, state_size=4, **ends),
            0,
        ),
    }


@pytest.mark.parametrize("name", ["mistral", "gpt2", "bloom"])
def test_other_attention_is_packed_only_where_that_is_right(tiny, name):
    """A window, learnt positions, ALiBi: the answers are those of generate in any case."""
    from transformers import AutoModelForCausalLM

    config, longest = other_models(tiny.tokenizer)[name]
    torch.manual_seed(0)
    other = replace(tiny, model=AutoModelForCausalLM.from_config(config).eval().to(tiny.device))
    assert longest_packed(other) == longest
    backend = TransformersBackend(other, budget=400)
    requests = [
        GenerateRequest(f"{format_id}|{q}", asked(format_id, q, backend), 8)
        for format_id in IDS
        for q in QUESTIONS
    ]
    for key, answer in answers_of(backend, requests).items():
        ids = torch.tensor(
            [prompt_ids(next(r.prompt for r in requests if r.key == key), other.tokenizer)],
            device=chosen_device(),
        )
        out = other.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False
        )[0, ids.shape[1] :].tolist()
        assert out[: len(answer.token_ids)] == list(answer.token_ids)


def test_a_model_with_a_state_is_not_packed(tiny):
    from transformers import AutoModelForCausalLM

    config, longest = other_models(tiny.tokenizer)["mamba"]
    assert (
        longest_packed(
            replace(tiny, model=AutoModelForCausalLM.from_config(config).eval().to(tiny.device))
        )
        == longest
    )


@pytest.mark.parametrize("stop", ["é", "né.", "fox\n", "日"])
def test_a_stop_is_seen_in_whichever_pieces_it_comes(tiny, stop):
    """A letter may take several tokens: the stop is found with its last byte, not later."""
    decoder = Decoder(tiny, Room(100, 1, 100))
    pieces = tiny.tokenizer("the lazy " + stop + "!", add_special_tokens=False).input_ids
    whole = len(tiny.tokenizer("the lazy " + stop, add_special_tokens=False).input_ids)
    row = DecodingRow("k", [1], 99, (stop, "never"), frozenset())
    for token in pieces:
        decoder._take(row, token)
        decoder._stop_at_texts([row])
        if row.answer is not None:
            break
    assert row.answer is not None and len(row.tokens) == whole
    assert (row.answer.text, row.answer.finish, row.answer.stop) == ("the lazy ", "stop", stop)


def test_the_earliest_of_two_stops_ends_an_answer(tiny):
    decoder = Decoder(tiny, Room(100, 1, 100))
    row = DecodingRow(
        "k",
        [1],
        99,
        ("dog", "lazy dog"),
        frozenset(),
        tokens=tiny.tokenizer("the lazy dog", add_special_tokens=False).input_ids,
    )
    decoder._stop_at_texts([row])
    assert row.answer is not None and (row.answer.text, row.answer.stop) == ("the ", "lazy dog")


@pytest.mark.parametrize("stop", ["né.", "fox\n", "\nUser:"])
def test_the_tokens_of_an_answer_do_not_hold_its_textual_stop(tiny, stop):
    """Planted: off-script probability 1 at each token of the stop, which no hazard may count."""
    decoder = Decoder(tiny, Room(100, 1, 100))
    before = tiny.tokenizer("the lazy ", add_special_tokens=False).input_ids
    after = tiny.tokenizer(stop, add_special_tokens=False).input_ids
    masses = [0.25] * len(before) + [1.0] * len(after)
    row = DecodingRow(
        "k", [1], 99, (stop,), frozenset(), tokens=[*before, *after], off_script=masses
    )
    decoder._stop_at_texts([row])
    assert row.answer is not None and row.answer.stop == stop
    assert row.answer.text == "the lazy " == tiny.tokenizer.decode(row.answer.token_ids)
    assert row.answer.token_ids == tuple(before)
    assert row.answer.off_script == (0.25,) * len(before)


def test_an_answer_that_is_only_a_stop_has_no_tokens(tiny):
    decoder = Decoder(tiny, Room(100, 1, 100))
    tokens = tiny.tokenizer("fox", add_special_tokens=False).input_ids
    row = DecodingRow(
        "k", [1], 99, ("fox",), frozenset(), tokens=tokens, off_script=[1.0] * len(tokens)
    )
    decoder._stop_at_texts([row])
    assert row.answer is not None and (row.answer.text, row.answer.stop) == ("", "fox")
    assert row.answer.token_ids == row.answer.off_script == ()


def test_a_token_that_holds_the_end_of_the_text_and_the_stop_stays(tiny):
    """Control: a stop inside a token cannot be cut off without losing the text before it."""
    decoder = Decoder(tiny, Room(100, 1, 100))
    tokens = tiny.tokenizer("the lazy dog", add_special_tokens=False).input_ids
    pieces = [tiny.tokenizer.decode([token]) for token in tokens]
    last = pieces[-1]
    assert len(last) > 1, "the test needs a token of several letters"
    row = DecodingRow("k", [1], 99, (last[1:],), frozenset(), tokens=tokens)
    decoder._stop_at_texts([row])
    assert row.answer is not None and row.answer.text == "".join(pieces)[: -len(last[1:])]
    assert row.answer.token_ids == tuple(tokens)


def copies(period, count):
    """A start of eight other tokens, then ``count`` tokens of a stretch that repeats."""
    return [*range(900, 908), *(at % period for at in range(count))]


@pytest.mark.parametrize(
    ("period", "count", "endless"),
    [
        (1, LOOP_TOKENS, True),
        (1, LOOP_TOKENS - 1, False),
        (5, LOOP_TOKENS, True),
        (16, LOOP_TOKENS, True),
        (20, LOOP_REPEATS * 20, True),
        (20, LOOP_REPEATS * 20 - 1, False),
        (LOOP_PERIOD, LOOP_REPEATS * LOOP_PERIOD, True),
        (LOOP_PERIOD + 1, LOOP_REPEATS * (LOOP_PERIOD + 1), False),
    ],
)
def test_an_answer_is_endless_from_six_copies_and_ninety_six_tokens(period, count, endless):
    assert loops(copies(period, count)) is endless
    assert not loops([*copies(period, count), 999])


def test_a_greedy_answer_that_repeats_itself_ends_early_and_is_a_beginning(tiny, monkeypatch):
    """An untrained model soon repeats itself. A sampled answer and a changing one go on."""
    backend = TransformersBackend(tiny)
    greedy = [
        GenerateRequest(f"{name}{at}", asked(name, q, backend), 300)
        for name in IDS
        for at, q in enumerate(QUESTIONS)
    ]
    sampled = [replace(r, key=f"s{r.key}", sampling=Sampling(1.0, 1.0, 0, 1)) for r in greedy[:2]]
    found = answers_of(backend, [*greedy, *sampled])
    monkeypatch.setattr(decoding, "loops", lambda tokens: False)
    whole = answers_of(backend, greedy)
    cut = [r.key for r in greedy if len(found[r.key].token_ids) < len(whole[r.key].token_ids)]
    assert cut
    for key in cut:
        assert found[key].finish == whole[key].finish == "length"
        assert len(found[key].token_ids) % LOOK_EVERY == 0
        assert whole[key].text.startswith(found[key].text)
        assert loop(found[key].text).looping == loop(whole[key].text).looping
    for key in set(found) - set(cut) - {r.key for r in sampled}:
        assert found[key] == whole[key]
    assert all(not loops(found[r.key].token_ids) for r in sampled)
