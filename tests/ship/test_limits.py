"""Contexts, Ollama's defaults and stops at their edges."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.conversation import Conversation, Message
from harness.ship.checks.completions import check_completions
from harness.ship.checks.ends import Ends, check_ends
from harness.ship.checks.run_settings import (
    folder_settings,
    modelfile_settings,
    server_settings,
)
from harness.ship.checks.runtime_checks import check_folder
from harness.ship.checks.server_pages import ServerPages
from harness.ship.checks.server_runtime import served_model
from harness.ship.checks.trained_texts import trained_texts
from tests.ship.artefacts import (
    FORMATS,
    change,
    kinds,
    tokenizer_of,
    trained_in,
    write_folder,
    write_modelfile,
)
from tests.ship.fake_servers import Vllm, running

pytestmark = pytest.mark.local


@pytest.mark.parametrize(("more", "found"), [(0, set()), (-1, {"context-too-short"})])
def test_a_context_of_exactly_the_longest_row_is_enough(tmp_path, more, found):
    trained = trained_in("chatml")
    limit = trained.longest + more
    folder = write_folder(tmp_path, "chatml")
    change(folder / "config.json", max_position_embeddings=limit)
    assert kinds([folder_settings(trained, folder)]) == found
    change(folder / "config.json", max_position_embeddings=None, text_config={"x": 1})
    assert kinds([folder_settings(trained, folder)]) == set()
    change(folder / "config.json", text_config={"max_position_embeddings": limit})
    assert kinds([folder_settings(trained, folder)]) == found
    change(folder / "config.json", text_config=None, n_positions=limit)  # GPT-2's name for it
    assert kinds([folder_settings(trained, folder)]) == found
    change(folder / "tokenizer_config.json", model_max_length=limit)
    assert len(folder_settings(trained, folder).findings) == 2 * len(found)
    assert kinds([server_settings(trained, "vllm", limit, {})]) == found


def test_the_answer_counts_too():
    """The longest row is longer than its prompt."""
    row = Conversation("row", (Message("user", "Hi"), Message("assistant", "the fox " * 200)))
    trained = trained_texts(FORMATS["chatml"], tokenizer_of("bytes"), [row])
    assert trained.longest > 400 > max(len(prompt.ids) for prompt in trained.prompts)


def test_ollamas_context_where_nothing_is_said(tmp_path):
    """4096 tokens: a row of more is cut, one of less is not."""
    text = write_modelfile(tmp_path / "Modelfile", "chatml").read_text()
    text = text.replace("PARAMETER num_ctx 2048\n", "")
    for words, found in ((1000, set()), (4200, {"context-too-short"})):
        row = Conversation("row", (Message("user", "!" * words), Message("assistant", "Hi")))
        trained = trained_texts(FORMATS["chatml"], tokenizer_of("bytes"), [row])
        assert (trained.longest > 4096) == bool(found)
        assert kinds([modelfile_settings(trained, text)]) == found


@pytest.mark.parametrize("given", [None, "warm", 0.7])
def test_a_temperature_that_is_no_number_is_that_of_transformers(tmp_path, given):
    folder = write_folder(tmp_path, "chatml")
    file = folder / "generation_config.json"
    file.write_text(json.dumps({"do_sample": True, "temperature": given}))
    [found] = folder_settings(trained_in("chatml"), folder).findings
    assert found.kind == "sampling" and f"temperature {given if given == 0.7 else 1}," in str(found)


def test_a_template_in_either_file_of_a_folder(tmp_path):
    folder = write_folder(tmp_path, "chatml")
    file, trained = folder / "chat_template.jinja", trained_in("chatml")
    ours = file.read_text()
    file.unlink()
    assert kinds([folder_settings(trained, folder)]) == {"missing-template"}
    change(folder / "tokenizer_config.json", chat_template=ours)
    assert kinds([folder_settings(trained, folder)]) == set()
    file.write_text(ours)
    assert kinds([folder_settings(trained, folder)]) == set()
    change(folder / "tokenizer_config.json", chat_template=[{"name": "default", "template": ours}])
    assert kinds([folder_settings(trained, folder)]) == set()


def test_a_template_that_is_no_text_is_not_checked(tmp_path):
    folder = write_folder(tmp_path, "chatml")
    change(folder / "tokenizer_config.json", chat_template="{{ messages }}")
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe{")
    *_, settings = check_folder(folder, trained_in("chatml"))
    assert settings.state == "not checked" and "not UTF-8" in settings.reason


def test_a_server_without_settings_is_not_checked():
    checked = server_settings(trained_in("chatml"), "webui", None, {})
    assert checked.state == "not checked"
    drawn = server_settings(trained_in("chatml"), "llamacpp", 4096, {"temperature": 0.8})
    assert drawn.state == "equal" and "sampled at 0.8" in drawn.reason


def test_ends_by_id_and_by_string():
    trained = trained_in("chatml")

    def found(*ids, strings=None):
        return kinds([check_ends(trained, Ends("x", frozenset(ids), strings), "hf")])

    assert found(2) == found(0, 2) == found(strings=("<|im_end|>",)) == set()
    assert found() == {"missing-eos"} and found(0) == {"wrong-eos"}
    assert found(strings=("### User",)) == {"missing-stop"}
    assert found(0, strings=()) == {"missing-stop"}
    assert found(strings=("",)) == {"missing-stop"}, "an empty stop ends nothing"


def test_an_end_that_is_plain_text():
    """Some answers end in EOS, earlier ones in the next header: that one goes with a request."""
    trained = trained_in("plain-qa")
    assert trained.tails == ("<|im_end|>",)
    rounds = trained_in("human-assistant")
    assert set(rounds.tails) == {"<|im_end|>", "\n\nHuman:"}
    checked = check_ends(rounds, Ends("x", frozenset({2})), "hf")
    assert checked.state == "equal"
    assert checked.reason == (
        "'\\n\\nHuman:' is plain text: give it as a stop string with each request"
    )
    assert check_ends(trained, Ends("x", frozenset({2})), "hf").reason == ""
    tokens = replace(rounds, tails=(*rounds.tails, "<|endoftext|>"))  # an open end by its id
    opened = check_ends(tokens, Ends("x", frozenset({2})), "hf").findings
    assert [one.kind for one in opened] == ["missing-stop"] * 2
    closed = check_ends(rounds, Ends("x", frozenset({2}), ("### Else",)), "ollama")
    assert kinds([closed]) == {"missing-stop"}
    only_text = check_ends(trained_in("dolly-v2"), Ends("x", frozenset({2})), "hf")
    assert kinds([only_text]) == {"missing-stop"}


def test_twenty_texts_are_sent_as_they_are():
    rows = [
        Conversation(f"row {at}", (Message("user", f"{at}"), Message("assistant", "x")))
        for at in range(30)
    ]
    trained = trained_texts(FORMATS["chatml"], tokenizer_of("bytes"), rows)
    with running(Vllm(tokenizer_of("bytes"), tokenizer_of("bytes").chat_template)) as server:
        pages = ServerPages(server.url)
        checked = check_completions(pages, served_model(pages), trained, "vllm")
    assert checked.state == "equal" and checked.reason.startswith("20 prompts as texts")


@pytest.mark.parametrize("key", ["repeat_penalty", "presence_penalty", "frequency_penalty"])
def test_every_penalty_of_a_modelfile(tmp_path, key):
    text = write_modelfile(tmp_path / "Modelfile", "chatml").read_text()
    found = modelfile_settings(trained_in("chatml"), f"{text}PARAMETER {key} 0.5\n")
    assert kinds([found]) == {"repeat-penalty"} and key in found.findings[0].where
    words = text.replace("num_ctx 2048", "num_ctx many")
    assert modelfile_settings(trained_in("chatml"), words).state == "equal", "no number, no limit"
    none = modelfile_settings(trained_in("chatml"), f"{text}PARAMETER presence_penalty 0\n")
    assert none.state == "equal"
