"""The masking rules give the labels that TRL, axolotl and unsloth themselves give.

axolotl and unsloth pin other versions of torch, so they are installed without what they depend on
(``tox -e peers``); where one is missing, its tests are skipped.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from harness.conversation import Conversation, Message
from harness.formats import load_formats
from harness.formats.trainers.axolotl import AxolotlSettings, axolotl_mask
from harness.formats.trainers.trainer_mask import row_of
from harness.formats.trainers.trl import TrlSettings, trl_mask
from harness.formats.trainers.unsloth import UnslothSettings, unsloth_markers, unsloth_mask
from harness.tokens.trainer_tokens import template_of
from tests.tiny import build_model, build_tokenizer

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
TALK = Conversation(
    "talk",
    (
        Message("system", "Be kind."),
        Message("user", "What is the capital of Norway?"),
        Message("assistant", "Oslo (the capital)."),
        Message("user", "Why?"),
        Message("assistant", "\n Because the king lives there. 😀"),
    ),
)
SHORT = Conversation("short", TALK.messages[1:3])
FORMATS = (
    "smollm2",
    "chatml",
    "llama3",
    "mistral-v3",
    "phi3",
    "zephyr",
    "gemma",
    "vicuna-v1.1",
    "alpaca-newline",
    "bailing",
)
EOS = {"smollm2": "<|im_end|>", "chatml": "<|endoftext|>"}


@pytest.fixture(scope="module", params=FORMATS)
def tokenizer(request):
    """A byte-level tokenizer that knows the marks of one format, with its template."""
    chosen = load_formats()[request.param]
    made = build_tokenizer()
    made.chat_template = chosen.template
    marks = [stop for stop in chosen.stops if stop.startswith("<") and stop.endswith(">")]
    made.add_special_tokens({"additional_special_tokens": [*marks, "<|im_start|>"]})
    made.eos_token = EOS.get(request.param, marks[0] if marks else "<|endoftext|>")
    return made


def rows(tokenizer):
    kept = []
    for talk in (TALK, SHORT):
        row = row_of(talk)
        try:
            tokenizer.apply_chat_template(row["messages"], tokenize=False)
        except Exception:  # no system prompt here
            row["messages"] = row["messages"][1:] if talk is TALK else row["messages"]
        kept.append(row)
    return kept


def labels_of(mask, template):
    """The mask as a trainer's labels: ids, and −100 where nothing is trained."""
    return [
        token.id if any(start <= token.start < end for start, end in mask.trained) else -100
        for token in template.tokenise(mask.text)
    ]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    build_model(folder)
    return str(folder)


@pytest.mark.parametrize(
    "settings",
    [
        TrlSettings(),
        TrlSettings(assistant_only_loss=True),
        TrlSettings(assistant_only_loss=True, max_length=40),
        TrlSettings(max_length=30, truncation_mode="keep_end"),
        TrlSettings(completion_only_loss=False, max_length=None),
    ],
    ids=lambda s: ",".join(f"{k}={v}" for k, v in vars(s).items() if v != vars(TrlSettings())[k]),
)
def test_trl(tokenizer, tiny, tmp_path, settings):
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    facts = {
        "assistant_only_loss": settings.assistant_only_loss,
        "completion_only_loss": settings.completion_only_loss,
        "max_length": settings.max_length,
        "truncation_mode": settings.truncation_mode,
    }
    every = rows(tokenizer)
    if settings.completion_only_loss is not None:
        every = [{"prompt": r["messages"][:-1], "completion": r["messages"][-1:]} for r in every]
    template = template_of(tokenizer)
    ours = [trl_mask(template, row, settings) for row in every]
    arguments = trl.SFTConfig(
        str(tmp_path), use_cpu=True, report_to=[], bf16=False, max_steps=1, **facts
    )
    trainer = trl.SFTTrainer(
        tiny,
        args=arguments,
        train_dataset=datasets.IterableDataset.from_generator(lambda: iter(every)),
        processing_class=tokenizer,
    )
    kept = [mask for mask in ours if not mask.left_out]
    trained = list(trainer.train_dataset)
    assert len(kept) == len(trained)
    for mask, row in zip(kept, trained, strict=True):
        labels = labels_of(mask, template)
        if mask.kept:
            labels = (
                labels[: settings.max_length]
                if settings.truncation_mode == "keep_start"
                else labels[-settings.max_length :]
            )
        assert labels == row["labels"]


@pytest.mark.parametrize(
    "settings",
    [
        AxolotlSettings(),
        AxolotlSettings(train_on_eos="last"),
        AxolotlSettings(train_on_eos="all"),
        AxolotlSettings(train_on_inputs=True),
        AxolotlSettings(roles_to_train=("human", "gpt")),
    ],
    ids=str,
)
def test_axolotl(tokenizer, settings):
    chat = pytest.importorskip("axolotl.prompt_strategies.chat_template")
    prompter = chat.ChatTemplatePrompter(tokenizer, chat_template=tokenizer.chat_template)
    strategy = chat.ChatTemplateStrategy(
        prompter,
        tokenizer,
        settings.train_on_inputs,
        2048,
        roles_to_train=list(settings.roles_to_train),
        train_on_eos=settings.train_on_eos,
    )
    template = template_of(tokenizer)
    for row in rows(tokenizer):
        mask = axolotl_mask(template, row, settings)
        assert not mask.error
        assert labels_of(mask, template) == strategy.tokenize_prompt(row)["labels"]


@pytest.fixture
def unsloth(monkeypatch):
    """The one module of unsloth_zoo with the rule; the package itself wants a GPU."""
    found = find_spec("unsloth_zoo")
    if found is None:
        pytest.skip("unsloth_zoo is not installed")
    folder = Path(found.origin).parent
    package = ModuleType("unsloth_zoo")
    package.__path__ = [str(folder)]
    monkeypatch.setitem(sys.modules, "unsloth_zoo", package)
    spec = spec_from_file_location("unsloth_zoo.dataset_utils", folder / "dataset_utils.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("last", [False, True])
def test_unsloth(tokenizer, unsloth, last):
    template = template_of(tokenizer)
    try:
        found = unsloth.get_chat_template_parts(tokenizer)
    except ValueError:
        with pytest.raises(ValueError):
            unsloth_markers(template)
        return
    assert unsloth_markers(template) == found
    rule = unsloth.train_on_responses_only(
        None, *found, tokenizer=tokenizer, return_function=True, last_response_only=last
    )
    for row in rows(tokenizer):
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        mask = unsloth_mask(template, row, UnslothSettings(*found, last_response_only=last))
        assert labels_of(mask, template) == rule({"input_ids": [ids]})["labels"][0]
