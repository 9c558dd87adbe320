"""Whatever happened to a file: it is read, or one line says what is wrong. Never a traceback."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli.formats import read_messages
from harness.data.conversations import Collection
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import parse_case
from harness.files import check_gguf, half_character, parse_json, read_json
from harness.formats.exchange.sources import read_source
from harness.formats.format_set import load_format
from harness.gate.baseline_file import read_baseline
from harness.gate.thresholds import read_thresholds
from harness.run_file import read_metrics, read_run_metadata
from harness.training.config import read_config
from tests.damage import damages
from tests.device import chosen_device
from tests.tiny import CHATML

#: Name → a healthy file, and how it is read.
TEXTS = {
    "tokenizer_config.json": (json.dumps({"chat_template": CHATML, "eos_token": "x"}), read_source),
    "preset.json": (json.dumps({"input_sequence": "Q", "output_sequence": "A"}), read_source),
    "toy.jinja": ('{#---\nfamily = "t"\n---#}\n' + CHATML, load_format),
    "run.toml": ('model = "m"\n[optimisation]\nlearning_rate = 1e-4\n', read_config),
    "thresholds.toml": ("[tolerances]\nstopped = 0.05\n", read_thresholds),
    "baseline.json": ('{"schema": 4, "name": "m", "cells": []}', read_baseline),
    "messages.json": (
        '[{"role": "user", "content": "hi 😀"}]',
        lambda path: read_messages(str(path)),
    ),
    "rows.jsonl": (
        '{"messages": [{"role": "user", "content": "hi"}]}\n' * 3,
        lambda path: Collection().read(str(path)),
    ),
    "rows.json": (
        '[{"prompt": "a", "completion": "b"}]',
        lambda path: Collection().read(str(path)),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


def assert_read_or_refused(path, reader):
    """A file is read, or refused in one line; any other exception fails. Returns what was found."""
    try:
        return reader(path)
    except HarnessError as error:
        assert len(str(error).splitlines()) == 1, str(error)
        return error


@pytest.mark.parametrize("name", TEXTS)
@given(damage=damages)
def test_a_damaged_text(folder, name, damage):
    text, reader = TEXTS[name]
    path = folder / name
    path.write_bytes(damage(text.encode()))
    assert_read_or_refused(path, reader)


@pytest.mark.parametrize("name", sorted(set(TEXTS) - {"baseline.json"}))
def test_the_healthy_text_is_read_with_and_without_a_byte_order_mark(folder, name):
    text, reader = TEXTS[name]
    path = folder / name
    for start in ("", "\ufeff"):
        path.write_text(start + text, encoding="utf-8")
        assert not isinstance(assert_read_or_refused(path, reader), HarnessError)


def test_a_trailing_comma_is_named_with_its_line(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text('{\n"chat_template": "x",}')
    with pytest.raises(HarnessError, match=r"tokenizer_config\.json:2: not JSON"):
        read_source(tmp_path)


def test_half_a_character_in_a_row_is_refused_with_its_place(tmp_path):
    row = {"messages": [{"role": "user", "content": "cut \ud83d"}]}
    whole = {"messages": [{"role": "user", "content": "whole \U0001f600"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(whole) + "\n" + json.dumps(row))
    found = Collection()
    found.read(str(tmp_path / "rows.jsonl"))
    [refusal] = found.refusals
    assert refusal.place.endswith("rows.jsonl:2") and "unpaired surrogate" in refusal.message
    assert len(found.conversations) == 1
    case = {"id": "c", "messages": whole["messages"], "reference": "cut \ud83d"}
    with pytest.raises(HarnessError, match="unpaired surrogate"):
        parse_case(case, "cases:1")
    parse_case({**case, "reference": "whole \U0001f600"}, "cases:1")


@given(st.text() | st.text().map(json.dumps))
def test_any_text_is_json_or_a_value_error(text):
    try:
        value = parse_json(text)
    except ValueError:
        return
    written = json.dumps(value, ensure_ascii=False)
    try:
        written.encode()
    except UnicodeEncodeError as error:
        assert half_character(written) == f"\\u{ord(written[error.start]):x}"
    else:
        assert not half_character(written)


def test_a_file_that_is_no_file(tmp_path):
    with pytest.raises(HarnessError, match="a folder, where a file is expected"):
        read_json(tmp_path)
    for path in (tmp_path / "none", Path("a\0b")):
        with pytest.raises(HarnessError, match="cannot read"):
            read_json(path)


# GGUF


def written(folder, **order) -> bytes:
    """The bytes of a GGUF file with a template, four tokens and a setting of each type."""
    gguf = pytest.importorskip("gguf")
    path = folder / "toy.gguf"
    writer = gguf.GGUFWriter(path, "llama", **order)
    writer.add_chat_template(CHATML)
    writer.add_token_list(["<s>", "</s>", "<|im_end|>", "a"])
    writer.add_token_types([3, 3, 3, 1])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for kind in ("uint8", "int8", "uint16", "int16", "int32", "uint64", "int64"):
        getattr(writer, f"add_{kind}")(f"toy.{kind}", 1)
    writer.add_bool("toy.bool", True)
    writer.add_float32("toy.float32", 1.0)
    writer.add_float64("toy.float64", 1.0)
    writer.add_array("toy.lists", [[1, 2], [3, 4]])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path.read_bytes()


@pytest.fixture(scope="module")
def gguf_bytes(folder):
    return written(folder)


@settings(max_examples=300)
@given(damage=damages)
def test_a_damaged_gguf_file(folder, gguf_bytes, damage):
    path = folder / "damaged.gguf"
    path.write_bytes(damage(gguf_bytes))
    assert_read_or_refused(path, read_source)


LENGTH = (2**60).to_bytes(8, "little")


@pytest.mark.parametrize("what", ["settings", "tensors", "entries of a list", "letters", "lists"])
def test_a_gguf_file_with_a_count_that_it_cannot_hold(folder, gguf_bytes, what):
    """The package gguf would make that many entries, until the system ends the process."""
    at = {
        "tensors": 8,
        "settings": 16,
        "entries of a list": gguf_bytes.index(b"tokenizer.ggml.tokens") + 21 + 8,
        "letters": gguf_bytes.index(b"general.architecture") - 8,
        "lists": gguf_bytes.index(b"tokenizer.ggml.token_type") + 25,
    }[what]
    path = folder / "counts.gguf"
    new = b"\x09\0\0\0" * 300 if what == "lists" else LENGTH
    path.write_bytes(gguf_bytes[:at] + new + gguf_bytes[at + len(new) :])
    from harness.models import load

    for reader in (read_source, lambda name: load(str(name))):
        found = assert_read_or_refused(path, reader)
        assert isinstance(found, HarnessError)
        assert "its metadata is cut or damaged" in str(found)


@pytest.mark.parametrize("cut", [0, 1, 4, 30])
@pytest.mark.parametrize("order", ["little", "big"])
def test_a_gguf_file_is_whole_to_its_last_byte(folder, cut, order):
    import gguf

    data = written(folder, endianess=gguf.GGUFEndian[order.upper()])
    path = folder / "cut.gguf"
    path.write_bytes(data[: len(data) - cut])
    found = assert_read_or_refused(path, check_gguf)
    assert isinstance(found, HarnessError) == bool(cut)


def test_a_gguf_file_with_a_tensor_is_whole_to_its_description(folder):
    import gguf
    import numpy as np

    path = folder / "tensor.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("weight", np.zeros((2, 3), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    check_gguf(path)
    end = path.read_bytes().index(b"weight") + len("weight") + 4 + 2 * 8 + 4 + 8
    path.write_bytes(path.read_bytes()[: end - 1])
    with pytest.raises(HarnessError, match="cut or damaged"):
        check_gguf(path)


def test_the_healthy_gguf_file(folder, gguf_bytes):
    path = folder / "healthy.gguf"
    path.write_bytes(gguf_bytes)
    assert read_source(path).bos_token == "<s>"


# models, adapters and runs


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    """A finished run of the tiny model with checkpoints at steps 2 and 4."""
    from harness.training.config import CheckpointsConfig
    from harness.training.start import train
    from tests.training.small import small_config

    config = small_config(
        tiny_model,
        tmp_path_factory.mktemp("run"),
        optimisation={"max_steps": 4},
        checkpoints=CheckpointsConfig(save_steps=2),
    )
    train(config, quiet=True)
    return config


MODEL_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]


@pytest.mark.parametrize("name", MODEL_FILES)
@settings(max_examples=12)
@given(damage=damages)
def test_a_damaged_model(tiny_model, folder, name, damage):
    from harness.models import load

    copy = folder / "model"
    shutil.copytree(tiny_model, copy, dirs_exist_ok=True)
    (copy / name).write_bytes(damage((tiny_model / name).read_bytes()))
    assert_read_or_refused(
        str(copy), lambda path: load(path, device=chosen_device(), dtype="float32")
    )


@pytest.mark.parametrize("size", [10**6, 10**9, 10**30])
def test_a_number_with_more_digits(tiny_model, folder, size):
    """No size in a configuration makes loading take hours, or all of the memory."""
    from harness.models import load

    copy = folder / "digits"
    shutil.copytree(tiny_model, copy, dirs_exist_ok=True)
    facts = json.loads((tiny_model / "config.json").read_text())
    refused = set()
    for name in [key for key, value in facts.items() if type(value) is int]:
        (copy / "config.json").write_text(json.dumps(facts | {name: size}))
        found = assert_read_or_refused(
            str(copy), lambda path: load(path, device=chosen_device(), dtype="float32")
        )
        refused |= {name} if isinstance(found, HarnessError) else set()
    sizes = {"num_hidden_layers", "hidden_size", "intermediate_size", "head_dim", "vocab_size"}
    assert refused >= sizes


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "base.json"])
@settings(max_examples=12)
@given(damage=damages)
def test_a_damaged_adapter(tiny_model, run, folder, name, damage):
    from harness.models import load

    adapter, copy = Path(run.output_dir) / "adapter", folder / "adapter"
    shutil.copytree(adapter, copy, dirs_exist_ok=True)
    (copy / name).write_bytes(damage((adapter / name).read_bytes()))
    assert_read_or_refused(
        str(copy),
        lambda path: load(str(tiny_model), adapter=path, device=chosen_device(), dtype="float32"),
    )


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl"])
@given(damage=damages)
def test_a_damaged_record_of_a_run(run, folder, name, damage):
    (folder / name).write_bytes(damage((Path(run.output_dir) / name).read_bytes()))
    reader = read_run_metadata if name == "run.json" else read_metrics
    assert_read_or_refused(folder, reader)


STATE = ["state.json", "optimizer.safetensors", "adapter_model.safetensors"]


def unfinished(run, copy):
    """A copy of the run that lacks the final adapter, and the run's files."""
    whole = Path(run.output_dir)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    shutil.rmtree(copy / "adapter")
    return whole


def resume(run, copy):
    from harness.training.start import train

    return train(replace(run, output_dir=str(copy)), quiet=True)


def assert_the_same_adapter(found, whole):
    name = "adapter_model.safetensors"
    assert (found / name).read_bytes() == (whole / "adapter" / name).read_bytes()


@pytest.mark.parametrize("name", STATE)
@settings(max_examples=8)
@given(damage=damages)
def test_a_damaged_checkpoint(run, folder, name, damage):
    """Training takes the one before and ends as if nothing had happened, or says why not."""
    copy = folder / "resumed"
    whole = unfinished(run, copy)
    file = copy / "checkpoint-4" / name
    before = file.read_bytes()
    file.write_bytes(damage(before))
    found = assert_read_or_refused(copy, lambda path: resume(run, path))
    if file.stat().st_size < 0.99 * len(before):  # too short to be taken for whole
        assert_the_same_adapter(found, whole)


@pytest.mark.parametrize("name", STATE)
def test_a_cut_checkpoint_is_reported_and_the_one_before_is_used(run, folder, name, capsys):
    copy = folder / "cut"
    whole = unfinished(run, copy)
    file = copy / "checkpoint-4" / name
    file.write_bytes(file.read_bytes()[:-100])
    found = resume(run, copy)
    assert "checkpoint-4 is damaged and left out" in capsys.readouterr().err
    assert_the_same_adapter(found, whole)


def test_a_cut_final_adapter_is_noticed_and_written_again(run, folder, capsys):
    copy = folder / "final"
    shutil.copytree(Path(run.output_dir), copy)
    file = copy / "adapter" / "adapter_model.safetensors"
    wanted = file.read_bytes()
    file.write_bytes(wanted[:-100])
    resume(run, copy)
    assert file.read_bytes() == wanted
    assert "damaged; it is written again" in capsys.readouterr().err


@settings(max_examples=10)
@given(damage=damages)
def test_a_gguf_file_that_is_no_model_is_named(folder, gguf_bytes, damage):
    from harness.models import load

    path = folder / "model.gguf"
    path.write_bytes(damage(gguf_bytes))
    found = assert_read_or_refused(
        str(path), lambda name: load(name, device=chosen_device(), dtype="float32")
    )
    assert isinstance(found, HarnessError) and found.where.endswith("model.gguf")
