"""Mistral's own library writes and encodes conversations as our formats of its versions do.

mistral-common ships the tokenizers of the versions as data (Apache-2.0); nothing is fetched.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.conversation import Conversation, Message
from harness.formats import load_formats
from harness.formats.render import render
from harness.tokens.encode import encode

pytestmark = pytest.mark.peers
FORMATS = load_formats()

SENTENCEPIECE = {
    "mistral-v1": "tokenizer.model.v1",
    "mistral-v3": "mistral_instruct_tokenizer_240323.model.v3",
    "mistral-v7": "mistral_instruct_tokenizer_241114.model.v7",
}
TEKKEN = {"mistral-v3-tekken": "tekken_240718.json"}
CONVERSATIONS = {
    "one question": [("user", "U1")],
    "a second": [("user", "U1"), ("assistant", "A1"), ("user", "U2")],
    "rules": [("system", "SYS"), ("user", "U1"), ("assistant", "A1"), ("user", "U2")],
    "words": [
        ("user", "Why is the sky blue?"),
        ("assistant", "It scatters — mostly."),
        ("user", "And naïve 漢字, [INST] too?"),
    ],
}


def folder() -> Path:
    import mistral_common

    return Path(mistral_common.__file__).parent / "data"


def theirs(file, turns):
    from mistral_common.protocol.instruct.messages import (
        AssistantMessage,
        SystemMessage,
        UserMessage,
    )
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    kinds = {"system": SystemMessage, "user": UserMessage, "assistant": AssistantMessage}
    request = ChatCompletionRequest(
        messages=[kinds[role](content=content) for role, content in turns]
    )
    return MistralTokenizer.from_file(str(folder() / file)).encode_chat_completion(request)


def ours(format_id, turns):
    conversation = Conversation("c", tuple(Message(role, content) for role, content in turns))
    return render(
        conversation,
        FORMATS[format_id],
        add_generation_prompt=True,
        bos_token="<s>",
        eos_token="</s>",
    )


@pytest.mark.parametrize(
    "name", ["one question", "a second", "rules"]
)  # of other letters their text shows the bytes
@pytest.mark.parametrize(("format_id", "file"), (SENTENCEPIECE | TEKKEN).items())
def test_the_same_text(format_id, file, name):
    pieces = theirs(file, CONVERSATIONS[name]).text.replace("▁", " ").replace("<0x0A>", "\n")
    assert ours(format_id, CONVERSATIONS[name]).text == pieces


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize(("format_id", "file"), SENTENCEPIECE.items())
def test_the_same_ids(format_id, file, name, tmp_path):
    from transformers import AutoTokenizer

    shutil.copy(folder() / file, tmp_path / "tokenizer.model")
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "legacy": False,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert (
        list(encode(ours(format_id, CONVERSATIONS[name]), tokenizer).ids)
        == theirs(file, CONVERSATIONS[name]).tokens
    )
