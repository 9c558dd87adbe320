"""The cost of a pass, by a clock that the test moves."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.training.data.examples import micro_batches
from harness.training.step import pass_cost as module
from harness.training.step.pass_cost import LONG, MOST, SHORT, USUAL, cost_of, pass_cost
from tests.training.small import make_trainer, small_config
from tests.training.test_gradient_checkpointing import row


class Clock:
    """Moves by ``call + token · tokens`` seconds in each pass."""

    def __init__(self, monkeypatch, call, token):
        self.now, self.passes = 0.0, []
        losses = module.plain_losses

        def timed(loaded, batch):
            self.passes.append(batch[0].encoded.tokens_read)
            self.now += call + token * self.passes[-1]
            return losses(loaded, batch)

        monkeypatch.setattr(module, "plain_losses", timed)

    def __call__(self):
        return self.now


@pytest.fixture
def trainer(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return make_trainer(small_config(tiny_model, tmp_path))


@given(
    call=st.floats(0, 10),
    token=st.floats(1e-6, 1),
    tokens=st.tuples(st.integers(1, 99), st.integers(1, 99)),
)
def test_the_constant_of_a_line_is_found(call, token, tokens):
    short, more = tokens
    long = short + more
    found = cost_of(short, call + token * short, long, call + token * long)
    assert found == pytest.approx(min(MOST, call / token), rel=1e-3, abs=1e-3 * long)


def test_a_pass_that_always_takes_as_long_is_worth_any_padding():
    assert cost_of(32, 0.02, 128, 0.02) == MOST
    assert cost_of(32, 0.02, 128, 0.019) == MOST
    rows = [row(10, 4), row(500, 4), row(30, 2)]
    assert len(micro_batches(rows, 2048, MOST)) == 1
    assert len(micro_batches(rows, 2048, 48)) == 2


def test_it_is_measured_once_on_a_machine(trainer, tmp_path, monkeypatch):
    clock = Clock(monkeypatch, call=0.5, token=0.01)
    assert pass_cost(trainer.loaded, clock) == 50
    assert set(clock.passes) == {SHORT, LONG}
    count = len(clock.passes)
    assert pass_cost(trainer.loaded, Clock(monkeypatch, call=9, token=0.01)) == 50
    assert len(clock.passes) == count
    [kept] = (tmp_path / "cache" / "measured").iterdir()
    facts = json.loads(kept.read_text())
    assert facts["value"] == pytest.approx(50) and facts["torch"] == torch.__version__
    kept.write_text("{")
    assert pass_cost(trainer.loaded, Clock(monkeypatch, call=1, token=0.01)) == 100, "damaged"


def test_it_leaves_no_trace(trainer, monkeypatch):
    model = trainer.loaded.model
    model.eval()
    before = torch.get_rng_state()
    pass_cost(trainer.loaded, Clock(monkeypatch, call=0.5, token=0.01))
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    assert all(weight.grad is None for weight in model.parameters())


def test_a_model_that_fails_in_it_gets_the_usual(trainer, monkeypatch):
    def fails(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module, "plain_losses", fails)
    assert pass_cost(trainer.loaded) == USUAL


def test_the_real_clock_gives_a_cost(trainer):
    assert 0 <= pass_cost(trainer.loaded) <= MOST


def test_a_step_is_cut_by_it_on_a_gpu(trainer, monkeypatch):
    from harness.training.step import passes as of_passes
    from harness.training.step.passes import Passes
    from harness.training.step.row_packing import PADDED

    rows, steps = [row(10, 4), row(20, 4), row(30, 4)], {}
    for device in ("cpu", "cuda"):
        for cost in (0, 10_000):
            monkeypatch.setattr(of_passes, "pass_cost", lambda loaded, cost=cost: cost)
            passes = Passes(trainer.loaded, 2048, handwritten=False)
            passes.packing = PADDED
            monkeypatch.setattr(trainer.loaded, "device", device)
            steps[device, cost] = len(passes.cut(rows))
    assert steps["cuda", 0] == 3 and steps["cuda", 10_000] == 1
    assert steps["cpu", 0] == steps["cpu", 10_000]
