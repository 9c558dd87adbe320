"""Which formats a run trains in, decided before any model is loaded."""

from __future__ import annotations

import pytest

from harness.errors import HarnessError
from harness.formats import load_formats
from harness.training.config import FormatsConfig, TrainConfig
from harness.training.preparation import prepare


def test_the_common_formats_are_trained_less_the_families_held_out():
    ready = prepare(TrainConfig(formats=FormatsConfig(held_out=("llama3", "gemma3"))))
    known = load_formats()
    assert {f.id for f in ready.held_out} == {"llama3", "gemma3"}
    assert {f.id for f in ready.trained} == {
        f.id for f in known.select(["common"]) if f.family not in {"llama3", "gemma"}
    }


@pytest.mark.parametrize("train", ["llama*", "all"])
def test_a_glob_or_a_set_stays_out_of_held_out_families(train):
    ready = prepare(TrainConfig(formats=FormatsConfig(train=(train,), held_out=("llama3",))))
    assert ready.trained and not any(f.family == "llama3" for f in ready.trained)


def test_a_format_named_for_both_is_refused():
    with pytest.raises(HarnessError, match="'llama3' is also trained"):
        prepare(
            TrainConfig(formats=FormatsConfig(train=("llama3.1", "chatml"), held_out=("llama3",)))
        )


def test_nothing_left_to_train_in_is_refused():
    with pytest.raises(HarnessError, match="nothing is left"):
        prepare(TrainConfig(formats=FormatsConfig(train=("llama3*",), held_out=("llama3",))))


def test_a_draw_from_the_grammar_can_be_trained_in():
    ready = prepare(
        TrainConfig(formats=FormatsConfig(train=("chatml", "grammar:20:seed=7:split=train")))
    )
    assert len(ready.trained) == 21 and {f.family for f in ready.trained} == {
        "chatml",
        "grammar-train",
    }


def test_a_drawn_family_is_not_both_trained_and_held_out():
    with pytest.raises(HarnessError, match="'grammar-tags' is also trained") as told:
        prepare(
            TrainConfig(
                formats=FormatsConfig(
                    train=("chatml", "grammar:4:style=tags"),
                    held_out=("grammar:2:seed=1:style=tags",),
                )
            )
        )
    assert told.value.hint == "split=train and split=test"
    ready = prepare(
        TrainConfig(
            formats=FormatsConfig(
                train=("chatml", "grammar:4:split=train:style=tags"),
                held_out=("grammar:2:split=test:style=tags",),
            )
        )
    )
    assert (len(ready.trained), len(ready.held_out)) == (5, 2)
