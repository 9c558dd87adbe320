"""Each fault of a format with a tokenizer is reported, and a matching pair has none."""

from __future__ import annotations

import numpy as np

from harness.cli.main import main
from harness.formats import load_formats
from harness.formats.frontmatter import parse_format
from harness.formats.properties import check_format
from harness.tokens.tokenizer_check import check_tokenizer, embedding_norms, training_findings
from tests.tiny import build_tokenizer

FORMATS = load_formats()


def look(format_id, tokenizer, norms=None):
    return check_tokenizer(check_format(FORMATS[format_id]), FORMATS[format_id], tokenizer, norms)


def adding_bos():
    from tokenizers.processors import TemplateProcessing

    tokenizer = build_tokenizer()
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", bos)]
    )
    return tokenizer


def test_a_matching_pair_has_no_finding(tokenizer):
    report = look("chatml", tokenizer)
    assert report.findings == ()
    assert report.properties["tags"] == {"<|im_end|>": 1, "<|im_start|>": 1}
    assert (
        report.properties["prompt_is_token_prefix"]
        and report.properties["injection_safe"]
        and report.properties["stop_in_trained_ids"]
    )


def test_split_tags_are_counted_and_reported(tokenizer):
    report = look("llama3", tokenizer)
    assert report.properties["tags"]["<|eot_id|>"] > 1
    assert "plain text to this tokenizer" in " ".join(report.findings)


def test_a_missing_bos_is_reported():
    tokenizer = adding_bos()
    assert "this format writes none" in " ".join(look("chatml", tokenizer).findings)
    assert look("alpaca-newline", tokenizer).properties["bos_count"] == 1


def test_two_bos_are_reported(tmp_path):
    source = (
        '{#---\nfamily = "toy"\n---#}\n{{ bos_token }}{{ bos_token }}{% for m in messages %}'
        "{% generation %}{{ m.content + eos_token }}{% endgeneration %}{% endfor %}"
    )
    chat_format = parse_format(source, tmp_path / "toy.jinja")
    report = check_tokenizer(check_format(chat_format), chat_format, adding_bos())
    for findings in (report.findings, training_findings(chat_format, adding_bos())):
        assert "The ids begin with two BOS" in " ".join(findings)


def test_a_prompt_that_the_trained_ids_do_not_begin_with(tmp_path, tokenizer):
    source = (
        '{#---\nfamily = "toy"\n---#}\n{% for m in messages %}{{ m.role + ":" }}'
        "{% generation %}{{ m.content + eos_token }}{% endgeneration %}{% endfor %}"
        "{% if add_generation_prompt %}bot:{% endif %}"
    )
    chat_format = parse_format(source, tmp_path / "toy.jinja")
    assert "The ids of the prompt are not a prefix" in " ".join(
        training_findings(chat_format, tokenizer)
    )


def test_what_does_not_keep_a_model_from_learning_is_no_finding_of_training(tokenizer):
    assert training_findings(FORMATS["chatml"], adding_bos()) == []
    assert training_findings(FORMATS["llama3"], tokenizer) == []


def test_a_tag_that_nothing_has_trained(tokenizer):
    norms = np.ones(len(tokenizer))
    assert look("chatml", tokenizer, norms).properties["untrained_tags"] == []
    norms[tokenizer.convert_tokens_to_ids("<|im_start|>")] = 0.1
    report = look("chatml", tokenizer, norms)
    assert report.properties["untrained_tags"] == [
        "<|im_start|>"
    ] and "trainable_token_indices" in " ".join(report.findings)


def test_a_short_limit_is_reported():
    tokenizer = build_tokenizer()
    tokenizer.model_max_length = 512
    assert "cuts conversations to 512 tokens" in " ".join(look("chatml", tokenizer).findings)


def test_the_lengths_of_the_embedding(tiny_model, tiny):
    norms = embedding_norms(str(tiny_model))
    expected = tiny.model.get_input_embeddings().weight.detach().norm(dim=1).cpu().numpy()
    assert np.allclose(norms, expected, atol=1e-4)
    assert embedding_norms(str(tiny_model.parent)) is None


def test_the_command_says_it(tiny_model, capsys):
    assert main(["formats", "check", "chatml", "--model", str(tiny_model)]) == 0
    assert "tags <|im_end|>×1 <|im_start|>×1" in capsys.readouterr().out
    assert main(["formats", "check", "llama3", "--model", str(tiny_model), "--strict"]) == 1
