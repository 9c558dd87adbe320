"""Control tokens that the base lacks or never trained: added, trained, saved, and loaded again by
plain peft."""

from __future__ import annotations

import shutil

import pytest
import torch

from harness.backends.local.backend import TransformersBackend
from harness.conversation import Conversation, Message
from harness.formats import load_formats
from harness.formats.render import render
from harness.models import load, load_tokenizer, locate
from harness.tokens.encode import encode
from harness.training.start import train
from harness.training.step.lora import add_control_tokens, missing_tokens
from tests.device import chosen_device
from tests.training.small import STORED_NF4, load_adapted, make_trainer, small_config, weights_of

FORMATS = load_formats()
IDS = torch.arange(3, 60, device=chosen_device()).unsqueeze(0)


@pytest.fixture
def untied(tiny_model, tmp_path):
    """The tiny model with a head of its own."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "untied"
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone() * 1.5)
    model.save_pretrained(folder)
    return folder


def test_what_is_missing(tokenizer):
    assert missing_tokens(tokenizer, [FORMATS["chatml"]]) == ()
    assert missing_tokens(tokenizer, [FORMATS["llama3"]]) == (
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|start_header_id|>",
    )
    assert missing_tokens(tokenizer, [FORMATS["llama2-chat"], FORMATS["alpaca-newline"]]) == (), (
        "[INST] and ### are text"
    )
    assert missing_tokens(tokenizer, [FORMATS["gemma"]]) == ("<end_of_turn>", "<start_of_turn>")
    assert missing_tokens(tokenizer, [FORMATS["mistral-v3"]]) == ("[/INST]", "[INST]"), (
        "declared as a token there"
    )


def test_the_tokenizer_that_was_given_stays_as_it_is(tiny):
    given, size = tiny.tokenizer, len(tiny.tokenizer)
    add_control_tokens(tiny, [FORMATS["llama3"]])
    assert (
        len(given) == size
        and len(tiny.tokenizer) == size + 3 == tiny.model.get_input_embeddings().weight.shape[0]
    )
    assert tiny.trained_tokens == (size, size + 1, size + 2)
    rendered = render(
        Conversation("c", (Message("user", "dog"),)),
        FORMATS["llama3"],
        add_generation_prompt=True,
        bos_token="",
        eos_token="<|im_end|>",
    )
    assert set(tiny.trained_tokens) <= set(encode(rendered, tiny.tokenizer).ids), (
        "each is one token now"
    )
    add_control_tokens(tiny, [FORMATS["llama3"]])
    assert tiny.trained_tokens == (size, size + 1, size + 2) and len(tiny.tokenizer) == size + 3


def test_a_token_that_was_never_trained_is_found(tiny):
    with torch.no_grad():
        tiny.model.get_input_embeddings().weight[1] *= 0.01
    add_control_tokens(tiny, [FORMATS["chatml"]])
    assert tiny.trained_tokens == (1, 2), (
        "<|im_start|>, and <|im_end|>, whose row is zero since it is the padding"
    )


@pytest.mark.parametrize("stored", [None, STORED_NF4], ids=str)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_only_their_rows_move_and_input_and_head_go_together(
    tiny_model, untied, tmp_path, tied, stored
):
    config = small_config(
        tiny_model if tied else untied,
        tmp_path,
        formats=("llama3",),
        adapter={"train_control_tokens": True},
    )
    trainer = make_trainer(config, stored)
    rows = [name for name in weights_of(trainer) if "trainable_tokens" in name]
    assert len(rows) == (1 if tied else 2)
    before = {name: weight.clone() for name, weight in weights_of(trainer).items()}
    frozen = {
        name: p.clone() for name, p in trainer.model.named_parameters() if not p.requires_grad
    }
    for number in range(4):
        trainer.step(number, 0.0)
    for name in rows:
        assert (
            weights_of(trainer)[name].dtype == torch.float32
            and (weights_of(trainer)[name] != before[name]).any(1).all()
        ), name
    assert all(
        torch.equal(p, frozen[name])
        for name, p in trainer.model.named_parameters()
        if not p.requires_grad
    )


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_plain_peft_loads_them_and_so_do_we(tiny_model, untied, tmp_path, tied):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = tiny_model if tied else untied
    adapter = train(
        small_config(base, tmp_path, formats=("llama3",), adapter={"train_control_tokens": True}),
        quiet=True,
    )
    ours = load_adapted(base, adapter)
    again = AutoTokenizer.from_pretrained(adapter)
    assert (
        again.convert_tokens_to_ids("<|eot_id|>")
        == ours.tokenizer.convert_tokens_to_ids("<|eot_id|>")
        >= len(load_tokenizer(locate(str(base))))
    )
    plain = AutoModelForCausalLM.from_pretrained(base)
    plain.resize_token_embeddings(len(again), mean_resizing=False)
    plain = PeftModel.from_pretrained(plain, str(adapter)).eval().to(chosen_device())
    ids = torch.cat(
        [
            IDS,
            torch.tensor(
                [again.convert_tokens_to_ids(["<|eot_id|>", "<|start_header_id|>"])],
                device=chosen_device(),
            ),
        ],
        1,
    )
    with torch.no_grad():
        assert torch.allclose(plain(ids).logits, ours.model(ids).logits, atol=1e-5)
    checkpoint = load(
        str(base),
        adapter=str(sorted(adapter.parent.glob("checkpoint-*"))[0]),
        dtype="float32",
        device=chosen_device(),
    )
    assert len(checkpoint.tokenizer) == len(again)
    assert TransformersBackend(checkpoint).fingerprint != TransformersBackend(ours).fingerprint
