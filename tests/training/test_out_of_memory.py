"""A training step that runs out of memory, by an allocator that raises above a number of tokens."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from harness.errors import HarnessError
from harness.training.config import OptimisationConfig
from harness.training.runs.checkpoints import checkpoint_dirs, read_state
from harness.training.start import train
from harness.training.step.handwritten.decoder import HandwrittenDecoder
from harness.training.step.updater import Updater
from tests.training.interrupted import assert_ends_like_uninterrupted
from tests.training.small import small_config
from tests.training.test_optimiser_step import adapted, draw_rows

RATE = 3e-3
#: Tokens that the model reads of the longest row of the small run.
LONGEST_ROW = 26
NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 300.00 MiB")


@contextmanager
def memory_for(monkeypatch, tokens, error=NO_MEMORY, attempts=None):
    """The hand-written decoder raises ``error`` in passes of more tokens."""
    losses = HandwrittenDecoder.losses

    def limited(self, rows):
        if attempts is not None:
            attempts.append(len(rows.ids))
        if len(rows.ids) > tokens:
            raise error
        return losses(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(HandwrittenDecoder, "losses", limited)
        yield


def steps(tiny_model, count=3, **config):
    loaded = adapted(tiny_model)
    updater = Updater(loaded, loaded.model, OptimisationConfig(learning_rate=RATE, **config))
    done = [updater.step(draw_rows(number, 6), RATE) for number in range(count)]
    return updater, done


def test_passes_are_halved_for_the_rest_of_the_run(tiny_model, monkeypatch, capsys):
    _, whole = steps(tiny_model)
    capsys.readouterr()
    attempts = []
    with memory_for(monkeypatch, 80, attempts=attempts):
        updater, cut = steps(tiny_model)
    lines = capsys.readouterr().err.splitlines()
    assert updater.passes.budget <= 80
    assert lines == [
        f"out of memory: passes of at most {updater.passes.budget} tokens from here on"
    ]
    assert sum(tokens > 80 for tokens in attempts) == 1, "only the first attempt is too large"
    for one, other in zip(cut, whole, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-6)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-4)
        assert one.formats["f"]["tokens"] == other.formats["f"]["tokens"]
    _, same = steps(tiny_model, max_tokens_per_batch=updater.passes.budget)
    assert [each.loss for each in cut] == [each.loss for each in same], "to the last bit"


def test_gradients_of_a_broken_pass_do_not_stay(tiny_model, monkeypatch):
    _, whole = steps(tiny_model, 1)
    loaded = adapted(tiny_model)
    updater = Updater(loaded, loaded.model, OptimisationConfig(learning_rate=RATE))
    hits = []
    weight = updater.parameters[0]  # its gradient comes last or first: others have theirs already

    def break_once(grad):
        hits.append(1)
        if len(hits) == 1:
            raise NO_MEMORY
        return grad

    weight.register_hook(break_once)
    done = updater.step(draw_rows(0, 6), RATE)
    assert len(hits) > 1
    assert done.grad_norm == pytest.approx(whole[0].grad_norm, rel=1e-4)


def test_transformers_passes_are_halved_too(tiny_model, monkeypatch, capsys):
    monkeypatch.setattr("harness.training.step.handwritten.decoder.find_decoder", lambda *_: None)
    _, whole = steps(tiny_model)
    loaded = adapted(tiny_model)

    def limited(_module, _args, kwargs):
        if kwargs["input_ids"].numel() > 90:
            raise NO_MEMORY

    loaded.model.get_base_model().register_forward_pre_hook(limited, with_kwargs=True)
    updater = Updater(loaded, loaded.model, OptimisationConfig(learning_rate=RATE))
    done = [updater.step(draw_rows(number, 6), RATE) for number in range(3)]
    assert "out of memory" in capsys.readouterr().err
    for one, other in zip(done, whole, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-6)


def test_another_error_is_raised_at_once(tiny_model, monkeypatch):
    attempts = []
    error = RuntimeError("CUDA error: device-side assert triggered")
    with (
        memory_for(monkeypatch, 1, error, attempts),
        pytest.raises(RuntimeError, match="device-side"),
    ):
        steps(tiny_model)
    assert len(attempts) == 1


def test_a_row_that_does_not_fit_is_one_line(tiny_model, monkeypatch):
    with (
        memory_for(monkeypatch, 10),
        pytest.raises(HarnessError, match=r"a row of \d+ tokens does not fit") as caught,
    ):
        steps(tiny_model)
    assert "max_length" in caught.value.hint and "gradient_checkpointing" in caught.value.hint


def test_the_smaller_passes_are_those_of_a_resumed_run(tiny_model, tmp_path, monkeypatch):
    config = small_config(tiny_model, tmp_path, optimisation={"num_train_epochs": 8})
    with memory_for(monkeypatch, LONGEST_ROW):
        run = assert_ends_like_uninterrupted(config, tmp_path, monkeypatch, 7)
    budgets = {read_state(each)["tokens_per_pass"] for each in checkpoint_dirs(run)}
    assert max(budgets) < 2048
    # the memory is back, and the run still computes as it began
    assert train(config, quiet=True)


def test_what_was_saved_before_is_gone_on_with(tiny_model, tmp_path, monkeypatch):
    config = small_config(tiny_model, tmp_path)
    seen = []
    losses = HandwrittenDecoder.losses

    def fails_late(self, rows):
        seen.append(1)
        if len(seen) > 8:
            raise NO_MEMORY
        return losses(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(HandwrittenDecoder, "losses", fails_late)
        with pytest.raises(HarnessError, match="does not fit"):
            train(config, quiet=True)
    assert checkpoint_dirs(tmp_path / "run")
    assert train(config, quiet=True).is_dir()
