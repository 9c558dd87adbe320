"""Each kind of cache against the plain model row by row; the probes see planted defects."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from harness.backends import GenerateRequest, ScoreRequest
from harness.backends.local import engine, probe
from harness.backends.local.backend import TransformersBackend
from harness.backends.local.engine import describe, longest_packed, row_engine
from harness.backends.local.forward import ModuleForward
from harness.backends.local.limits import attention_window, rotation_turn, windows
from harness.backends.local.packing import tensors
from harness.backends.local.padded import Padded
from harness.backends.local.probe import why_not_cached, why_not_packed, why_not_padded
from harness.tokens.encode import encode, prompt_ids
from tests.backends.cache_models import MODELS, PADDED, SINGLE, UNCACHED, WINDOW, cache_model
from tests.backends.test_local_backend import answered, asked
from tests.device import chosen_device

#: In tokens of the prompt: shorter and longer than each window, chunk and block of the models.
QUESTIONS = [
    "What is the capital?",
    "fox",
    "pack my box with five dozen jugs; " * 3,
    "judge my vow",
]
#: Rows end at different tokens, the longest prompt neither first nor last.
ROOMS = (5, 1, 9, 12)
OPTIONS = ("Oslo", "the lazy dog jumps over", "x")


@pytest.fixture
def model(tiny):
    return lambda name: cache_model(name, tiny)


def plain(loaded, ids):
    """Logits of a row alone, with no cache, no mask and no positions given."""
    with torch.no_grad():
        return (
            loaded.model(input_ids=torch.tensor([ids], device=chosen_device()), use_cache=False)
            .logits[0]
            .float()
        )


def greedy(loaded, ids, room):
    """The plain model's own answer, as far as it does not stop."""
    tokens = []
    while len(tokens) < room:
        token = int(plain(loaded, [*ids, *tokens])[-1].argmax())
        if token == loaded.tokenizer.eos_token_id:
            break
        tokens.append(token)
    return tokens


def assert_equal(loaded, *, questions=QUESTIONS, most=3):
    """Answers and log-probabilities are those of the plain model, row by row."""
    backend = TransformersBackend(loaded, budget=4000, most=most)
    requests = [
        GenerateRequest(str(at), asked("chatml", question, backend), ROOMS[at % len(ROOMS)])
        for at, question in enumerate(questions)
    ]
    found = dict(pair for batch in backend.generate(requests) for pair in batch)
    for request in requests:
        ids = prompt_ids(request.prompt, loaded.tokenizer)
        wanted = greedy(loaded, ids, request.max_new_tokens)
        assert list(found[request.key].token_ids) == wanted, request.key
    scored = [
        ScoreRequest(str(at), tuple(answered("chatml", question, o, backend) for o in OPTIONS))
        for at, question in enumerate(questions)
    ]
    found = dict(pair for batch in backend.score(scored) for pair in batch)
    for request in scored:
        for scoring, rendered in zip(found[request.key], request.answers, strict=True):
            encoded = encode(rendered, loaded.tokenizer)
            places = [at for at, content in enumerate(encoded.content) if content]
            # what comes after the last of them may turn the rotation of all
            logprobs = torch.log_softmax(plain(loaded, encoded.ids[: places[-1] + 1]), -1)
            wanted = [logprobs[at - 1, encoded.ids[at]].item() for at in places]
            assert list(scoring.token_logprobs) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_rows_that_stop_apart_equal_the_plain_model(model, name):
    loaded = model(name)
    assert describe(loaded).startswith(MODELS[name][2])
    assert_equal(loaded)


def test_rows_on_both_sides_of_the_turn_of_the_rotation_equal_the_plain_model(model):
    """Prompts below it, some that cross it while decoding, and prompts beyond."""
    loaded = model("phi3 with longrope")
    questions = ["jug " * n for n in (8, 39, 40, 41, 42, 44, 50, 60)]
    backend = TransformersBackend(loaded)
    lengths = [len(prompt_ids(asked("chatml", q, backend), loaded.tokenizer)) for q in questions]
    turn = rotation_turn(loaded)
    assert turn == 96 and min(lengths) + max(ROOMS) < turn < sorted(lengths)[-2], lengths
    assert (
        sum(length <= turn < length + room for length, room in zip(lengths, ROOMS * 2, strict=True))
        > 1
    )
    assert_equal(loaded, questions=questions)


LAYERS = [
    "full_attention",
    "sliding_attention",
    "chunked_attention",
    "indexed_attention",
    "conv",
    "linear_attention",
    "hybrid",
    "hybrid_sliding",
    "dummy",
]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
def test_every_kind_of_cache_layer_keeps_the_chosen_rows(tiny, kind, static):
    """Row r of every tensor holds r; rows 2 and 0 stay, in this order."""
    from transformers import cache_utils

    kinds = (
        cache_utils.STATIC_LAYER_TYPE_MAPPING if static else cache_utils.DYNAMIC_LAYER_TYPE_MAPPING
    )
    layer = kinds[kind](sliding_window=8, max_cache_len=8, number_of_states=1)
    rows = torch.arange(3.0)
    if kind != "dummy" and hasattr(layer, "update"):
        layer.update(*[rows.view(3, 1, 1, 1).expand(3, 2, 4, 4)] * 2)
    if hasattr(layer, "update_indexer"):
        layer.update_indexer(rows.view(3, 1, 1).expand(3, 4, 4))
    if hasattr(layer, "update_conv_state"):
        layer.update_conv_state(rows.view(3, 1, 1).expand(3, 4, 4))
        layer.update_recurrent_state(rows.view(3, 1, 1, 1).expand(3, 2, 4, 4))
    engine = Padded(tiny, 3)
    engine.memory = ("past_key_values", cache_utils.Cache(layers=[layer]))
    engine.mask = torch.ones(3, 1)
    engine.keep([2, 0])
    held = [tensor for tensor in tensors_in(vars(layer)) if tensor.dim()]
    assert held or kind == "dummy"
    for tensor in held:
        assert len(tensor) == 2 and tensor[0].max() == 2 and tensor[1].abs().max() == 0


def tensors_in(value):
    """Every tensor in a layer's attributes, in dictionaries and lists too."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(part)


# planted defects


def keep_no_row(self, order):
    self.mask = self.mask[torch.tensor(order)]


def keep_only_keys(self, order):
    self.memory[1].batch_select_indices(torch.tensor(order))
    self.mask = self.mask[torch.tensor(order)]


def shifted(self, ids, positions):
    return forward(self, ids, positions + (ids.shape[1] == 1))


def unmasked(self, ids, positions):
    self.has_padding = False
    return forward(self, ids, positions)


forward = Padded._forward
DEFECTS = {
    "no row leaves": ("keep", keep_no_row),
    "only keys leave": ("keep", keep_only_keys),
    "positions are off by one": ("_forward", shifted),
    "padding is seen": ("_forward", unmasked),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_probe_of_padded_rows_sees_a_defect(model, monkeypatch, defect):
    loaded = model("qwen3_5")
    assert not why_not_padded(loaded), "control"
    monkeypatch.setattr(Padded, *DEFECTS[defect])
    assert why_not_padded(loaded)
    assert row_engine(loaded) == (UNCACHED if defect == "positions are off by one" else SINGLE)


def sees_all(*args):
    ids, positions, bias = tensors(*args)
    return ids, positions, torch.zeros_like(bias)


def in_a_line(*args):
    ids, positions, bias = tensors(*args)
    return ids, torch.arange(ids.shape[1], device=ids.device).expand_as(positions).clone(), bias


@pytest.mark.parametrize("wrong", [sees_all, in_a_line])
def test_the_probe_of_packs_sees_a_wrong_mask_and_wrong_positions(model, monkeypatch, wrong):
    loaded = model("qwen3")
    assert not why_not_packed(loaded, 1024), "control"
    monkeypatch.setattr("harness.backends.local.probe.tensors", wrong)
    assert why_not_packed(loaded, 1024)


def test_the_probe_of_packs_reaches_the_last_positions(model, monkeypatch):
    """Planted: positions beyond 900 are those of 900."""
    packs = ModuleForward.packs

    def near_only(self, ids, positions, *more):
        return packs(self, ids, positions.clamp(max=900), *more)

    monkeypatch.setattr(ModuleForward, "packs", near_only)
    assert why_not_packed(model("qwen3"), 1024) and not why_not_packed(model("qwen3"), 800)


def test_the_probe_of_packs_decodes(model, monkeypatch):
    """Planted: a new token attends to the whole slot, not only to its own row's keys."""
    tokens = ModuleForward.tokens

    def all_keys(self, ids, positions, places, bias):
        return tokens(self, ids, positions, places, torch.zeros_like(bias))

    monkeypatch.setattr(ModuleForward, "tokens", all_keys)
    assert why_not_packed(model("qwen3"), 1024)


@pytest.mark.parametrize("why_not", [why_not_padded, why_not_cached])
def test_a_probe_that_raises_has_failed(model, monkeypatch, why_not):
    def broken(*args):
        raise TypeError("not this way")

    loaded = model("llama")
    monkeypatch.setattr(Padded, "_forward", broken)
    assert why_not(loaded).endswith("raise TypeError")
    assert row_engine(loaded) == UNCACHED


@pytest.mark.parametrize("name", ["mistral", "gpt_neo", "recurrent_gemma", "llama4", "gemma2"])
def test_every_window_of_a_configuration_is_found(model, name):
    assert WINDOW in windows(model(name))


def test_numbers_beside_a_window_are_none(model):
    """Gemma's ``sliding_window_pattern`` and Qwen's ``max_window_layers`` are counts of layers."""
    assert windows(model("gemma2")) == [WINDOW] and windows(model("qwen3")) == []


def test_a_window_that_no_layer_has_limits_nothing(model):
    loaded = model("mistral")
    assert attention_window(loaded) == longest_packed(loaded) == WINDOW
    loaded.model.config.layer_types = ["full_attention", "full_attention"]
    assert attention_window(loaded) > WINDOW


# how it is named


def test_the_engine_and_the_reason_are_in_the_fingerprint(model):
    assert TransformersBackend(model("llama")).fingerprint["engine"] == "fast"
    named = TransformersBackend(model("minimax")).fingerprint["engine"]
    assert named.startswith(f"{SINGLE} (") and "linear_attention" in named
    assert "padded rows" in named, named


def test_a_model_is_probed_once(model, monkeypatch):
    loaded = model("lfm2")
    assert row_engine(loaded) == PADDED
    monkeypatch.setattr(engine, "why_not_padded", lambda loaded: pytest.fail("probed again"))
    assert describe(loaded).startswith(PADDED) and longest_packed(loaded) == 0


def test_rows_that_are_never_longer_are_not_probed(model, monkeypatch):
    monkeypatch.setattr(engine, "why_not_padded", lambda loaded: pytest.fail("probed"))
    assert describe(model("qwen3")) == "modules"


def test_the_engine_is_printed_with_what_is_reused(tiny, tmp_path, capsys):
    from harness.evaluation.execute import execute
    from harness.evaluation.store.results_file import Store

    with Store(tmp_path / "results.sqlite") as store:
        execute([], TransformersBackend(tiny), store, quiet=True, verbose=True)
        assert ", fast\n" in capsys.readouterr().err
        execute([], TransformersBackend(tiny), store, quiet=True)
        assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("dtype", "off", "near"),
    [
        ("float32", 0.002, True),
        ("float32", 0.01, False),
        ("bfloat16", 0.06, True),
        ("bfloat16", 0.5, False),
        ("float16", 0.5, False),
    ],
)
def test_logits_may_differ_by_rounding_only(dtype, off, near):
    """The distances were measured (docs/log.md): .06 is noise of 16 bits, .5 wrong positions."""
    wanted = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(3, 200, generator=torch.Generator().manual_seed(1))
    size = (wanted - wanted.mean(-1, keepdim=True)).norm()
    found = wanted + noise * (off * size / noise.norm())
    assert probe.near(found, wanted, SimpleNamespace(dtype=dtype)) is near
