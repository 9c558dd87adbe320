"""harness formats guess: what is loaded, what is compared, and what is printed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("torch")

import harness.audit.changes
import harness.audit.guess
import harness.evaluation.format_groups
import harness.models
from harness.audit.guess import Candidate
from harness.cli.guess import lines
from harness.cli.main import main
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.models.adapters import describe_base
from tests.audit.planted import adapted

FAMILIES = ("a", "b", "c", "d", "e", "f", "g")


def one_each(*probabilities):
    """A family each, whose only format has its name."""
    return [
        Candidate((name,), name, -float(at), share)
        for at, (name, share) in enumerate(zip(FAMILIES, probabilities, strict=False))
    ]


def test_a_clear_guess_names_one_runner_up_and_compares_one_format():
    text = lines(one_each(0.7, 0.2, 0.1), None, "harness eval m")
    assert text == [
        "most likely trained in: a (family a, 70%); runner-up: b (family b, 20%)",
        "",
        "next: harness eval m --formats a",
    ]


def test_without_a_clear_guess_five_families_are_named_and_three_compared():
    text = lines(one_each(*[1 / 7] * 7), None, "harness eval m")
    assert text[0].count("(family ") == 5
    assert text[1:] == ["", "next: harness eval m --formats a,b,c"]


@pytest.mark.parametrize(("formats", "shown"), [(1, ""), (2, "a0, a1"), (7, "a0, a1, a2, a3, a4")])
def test_the_formats_of_the_family_are_named_where_there_are_several(formats, shown):
    family = [
        Candidate((f"a{at}",), "a", -float(at), 1.0 if at == 0 else 0.0) for at in range(formats)
    ]
    text = lines(family, "a0", "harness eval m")
    assert text[1:-2] == ([f"likeliest of the family: {shown}"] if shown else [])
    assert text[-1] == "next: harness eval m --formats a0"


@pytest.fixture
def asked(monkeypatch, tiny):
    """The ids of the formats, and the native one, with which the guess is called."""
    found = {}

    def guess_format(base, changes, formats, native=None):
        found.update(ids=[one.id for one in formats], native=native)
        return one_each(0.7, 0.3)

    monkeypatch.setattr(harness.models, "load", lambda *_, **__: tiny)
    monkeypatch.setattr(harness.audit.changes, "adapter_changes", lambda _: {})
    monkeypatch.setattr(harness.audit.guess, "guess_format", guess_format)
    return found


@pytest.fixture
def adapter(tiny, tmp_path):
    """The folder of an adapter that names its base, which was stored in four bits."""
    folder = tmp_path / "adapter"
    facts = {**describe_base(tiny), "name": tiny.source.path}
    adapted(tiny, seed=1)
    tiny.model.save_pretrained(folder)
    tiny.model = tiny.model.unload()
    facts["quantisation"] = {"load_in_4bit": True}
    (folder / "base.json").write_text(json.dumps(facts))
    return folder


def test_the_users_formats_and_the_native_one_are_compared(
    asked, adapter, tiny_model, tmp_path, monkeypatch, capsys
):
    mine, known = tmp_path / "mine", load_formats()
    assert main(["formats", "sample", "--n", "1", "--out", str(mine)]) == 0
    [added] = set(load_formats(mine)) - set(known)
    own = replace(next(iter(known.values())), id="own")
    monkeypatch.setattr(harness.evaluation.format_groups, "native_format", lambda *_: own)
    capsys.readouterr()
    words = ["--adapter", str(adapter), "--formats-dir", str(mine)]
    assert main(["formats", "guess", str(tiny_model), *words]) == 0
    assert set(asked["ids"]) == {*known, added, "own"} and asked["native"] == "own"
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"next: harness eval {tiny_model} --adapter {adapter} --formats-dir={mine} --formats a,own"
    )


def test_a_native_format_that_is_known_is_compared_once(asked, adapter, tiny_model, monkeypatch):
    known = load_formats()
    chatml = known["chatml"]
    monkeypatch.setattr(harness.evaluation.format_groups, "native_format", lambda *_: chatml)
    assert main(["formats", "guess", str(tiny_model), "--adapter", str(adapter)]) == 0
    assert asked == {"ids": list(known), "native": "chatml"}


@pytest.fixture
def loads(monkeypatch):
    """What would be loaded."""
    found = []

    def load(name, **options):
        found.append((name, options))
        if len(found) == 2 or "adapter" in options:
            raise HarnessError("stopped here")

    monkeypatch.setattr(harness.models, "load", load)
    return found


def test_an_adapter_is_loaded_on_its_base_as_it_was_stored(adapter, loads, tiny_model, capsys):
    assert main(["formats", "guess", str(adapter)]) == 2
    [(name, options)] = loads
    assert name == str(tiny_model) and options["adapter"] == str(adapter)
    assert options["quantisation"].load_in_4bit and "stopped here" in capsys.readouterr().err


def test_a_merged_model_and_its_base_are_loaded_in_one_dtype(loads, tiny_model, monkeypatch):
    monkeypatch.setattr(harness.models, "pick_dtype", lambda device: "float16")
    words = [str(tiny_model), "--base", "SmolLM2-135M-Instruct", "--device", "cpu"]
    monkeypatch.setattr(harness.models, "locate", lambda name: None)
    assert main(["formats", "guess", *words]) == 2
    assert loads == [
        (str(tiny_model), {"dtype": "float16", "device": "cpu"}),
        ("SmolLM2-135M-Instruct", {"dtype": "float16", "device": "cpu"}),
    ]


def test_a_base_that_does_not_exist_is_refused_before_a_model_is_loaded(loads, tiny_model, capsys):
    assert main(["formats", "guess", str(tiny_model), "--base", "nowhere"]) == 2
    assert not loads and "no model at 'nowhere'" in capsys.readouterr().err


def test_an_adapter_that_names_no_base_gets_the_command_that_names_it(adapter, capsys):
    (adapter / "base.json").unlink()
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = None
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert main(["formats", "guess", str(adapter)]) == 2
    assert f"harness formats guess BASE --adapter {adapter}" in capsys.readouterr().err


def test_an_adapter_and_a_base_exclude_each_other(adapter, tiny_model, capsys):
    words = [str(tiny_model), "--adapter", str(adapter), "--base", str(tiny_model)]
    assert main(["formats", "guess", *words]) == 2
    assert "--base is for models without an adapter" in capsys.readouterr().err
