"""An export renders in the other program as the format does here."""

from __future__ import annotations

import pytest

from harness.cli.main import main
from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.exchange.exporting import TARGETS, export_format
from harness.formats.exchange.importing import import_format
from harness.formats.exchange.sources import read_source
from harness.formats.render import render

FORMATS = load_formats()
TURNS = (
    Message("system", "Be brief."),
    Message("user", "One?"),
    Message("assistant", "1"),
    Message("user", "Two?"),
    Message("assistant", "2"),
)


#: Formats that a program cannot express; every other program can write every format.
REFUSED = {
    "sillytavern": """
        alpaca-input chatglm2 codellama-70b deepseek-r1 gemma3 gemma4 gigachat glm4.7
        harmony llama2-chat minimax-m2 mistral-v1 mistral-v3 mistral-v3-tekken nemotron-nano2
        nemotron3 qwen3 qwen3-thinking qwen3.5 qwen3.6 qwq roleplay-markdown yandexgpt
    """,
    "ollama": """
        alpaca-input chatglm2 codellama-70b deepseek-r1 gemma4 gigachat glm4.7 harmony minimax-m2
        mistral-v3 mistral-v3-tekken nemotron-nano2 nemotron3 qwen3 qwen3-thinking qwen3.5 qwen3.6
        qwq roleplay-markdown yandexgpt
    """,
    "llamafactory": """
        airoboros-v2 alpaca-input alpaca-stanford amberchat baichuan2 bailing baize chatglm2
        chatglm3 chatqa codellama-70b deepseek-r1 exaone3 falcon-instruct gemma gemma3
        gemma4 glm-edge glm4 glm4.5 glm4.7 granite-code guanaco harmony human-assistant jamba
        kimi-k2 koala llama-nemotron llama-nemotron-nano llama2-chat llama3.1 llama3.2 magicoder
        metamath metharme minicpm minimax-m2 mistral-v0.1-hub mistral-v0.2-hub mistral-v1 mistral-v3
        mistral-v3-tekken mpt-instruct nemotron-nano2 nemotron3 orion phi3 phi4-mini phi4-reasoning
        phind qwen3 qwen3-thinking qwen3.5 qwen3.6 qwq redpajama-incite robin roleplay-lightning
        roleplay-markdown roleplay-names rwkv-world snoozy solar stable-vicuna stablelm-alpha
        synthia tulu vicuna-v0 vicuna-v1.1 wizardlm-13b yandexgpt
    """,
}


@pytest.mark.parametrize("format_id", FORMATS)
def test_a_format_is_written_for_every_program_that_can_express_it(format_id):
    refused = []
    for target in TARGETS:
        try:
            export_format(FORMATS[format_id], target)
        except HarnessError as error:
            assert error.message.startswith(f"{format_id} cannot be written for {target}: ")
            refused.append(target)
    assert refused == [
        target for target, formats in REFUSED.items() if format_id in formats.split()
    ]


@pytest.mark.parametrize(
    "format_id",
    sorted(format_id for format_id in FORMATS if "strftime_now" not in FORMATS[format_id].template),
)  # that date is frozen here
def test_transformers_writes_the_exported_template_as_we_do(format_id, tokenizer):
    chat_format = FORMATS[format_id]
    messages = TURNS if chat_format.system != "unsupported" else TURNS[1:]
    rows = [{"role": m.role, "content": m.content} for m in messages]
    for count, prompt in ((len(rows), False), (len(rows) - 1, True)):
        ours = render(
            Conversation("c", messages[:count]),
            chat_format,
            add_generation_prompt=prompt,
            bos_token=tokenizer.bos_token,
            eos_token=tokenizer.eos_token,
        ).text
        for target in ("hf", "hf-training"):
            text = export_format(chat_format, target).text
            assert (
                tokenizer.apply_chat_template(
                    rows[:count], chat_template=text, tokenize=False, add_generation_prompt=prompt
                )
                == ours
            )


def test_transformers_masks_what_we_train(tokenizer):
    chat_format = FORMATS["chatml"]
    rows = [{"role": m.role, "content": m.content} for m in TURNS]
    encoded = tokenizer.apply_chat_template(
        rows,
        chat_template=export_format(chat_format, "hf-training").text,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    masked = tokenizer.decode(
        [
            token_id
            for token_id, trained in zip(
                encoded["input_ids"], encoded["assistant_masks"], strict=True
            )
            if trained
        ]
    )
    rendered = render(
        Conversation("c", TURNS),
        chat_format,
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
    )
    assert (
        masked
        == "".join(rendered.text[s.start : s.end] for s in rendered.spans if s.trained)
        == "1<|im_end|>2<|im_end|>"
    )


@pytest.mark.parametrize("format_id", ["chatml", "guanaco", "solar", "llama3", "metharme"])
def test_a_preset_is_imported_again(tmp_path, format_id):
    (tmp_path / "preset.json").write_text(
        export_format(FORMATS[format_id], "sillytavern").text, encoding="utf-8"
    )
    again = import_format(read_source(tmp_path / "preset.json"), "again").format
    for messages in (TURNS[:4], TURNS[1:4], TURNS[1:2]):
        texts = [
            render(
                Conversation("c", messages),
                f,
                add_generation_prompt=True,
                bos_token="",
                eos_token="</s>",
            ).text
            for f in (FORMATS[format_id], again)
        ]
        assert texts[0] == texts[1]


def test_yaml_is_read_as_its_programs_read_it():
    import yaml

    plain = export_format(FORMATS["llama2-chat"], "hf").text
    assert yaml.safe_load(export_format(FORMATS["llama2-chat"], "webui").text)[
        "instruction_template"
    ] == plain.rstrip("\n")
    axolotl = yaml.safe_load(export_format(FORMATS["chatml"], "axolotl").text)
    assert axolotl["chat_template"] == "jinja" and axolotl["eot_tokens"] == ["<|im_end|>"]
    assert axolotl["chat_template_jinja"] == export_format(FORMATS["chatml"], "hf").text.rstrip(
        "\n"
    )


def test_what_cannot_be_said_is_refused(capsys):
    assert main(["formats", "export", "qwen3", "--to", "sillytavern"]) == 2
    assert (
        "qwen3 cannot be written for sillytavern: an earlier answer begins differently"
        in capsys.readouterr().err
    )


def test_a_file_is_written(tmp_path, capsys):
    assert (
        main(
            ["formats", "export", "chatml", "--to", "ollama", "--out", str(tmp_path / "Modelfile")]
        )
        == 0
    )
    assert 'PARAMETER stop "<|im_end|>"' in (tmp_path / "Modelfile").read_text()
    assert main(["formats", "export", "vicuna-v1.1", "--to", "ollama"]) == 0
    assert "EOS is spelt" in capsys.readouterr().err


def test_every_target_is_offered():
    from typing import get_args

    from harness.cli.exchange import Target

    assert set(get_args(Target)) == set(TARGETS)
