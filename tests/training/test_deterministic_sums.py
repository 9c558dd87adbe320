"""A step adds no floating-point numbers in an order that a GPU may choose.

Resuming to the byte needs it. Torch lists the operations whose kernels on CUDA add in any order
(``torch.use_deterministic_algorithms``): they use atomic additions. No GPU is needed to see them:
each operation of a step, forward and backward, is recorded on the CPU with its indices. Where at
most one number that is not 0 goes to a place, the order does not matter.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from harness.models import load
from harness.training.config import ObjectiveConfig
from harness.training.distill.distillation import Distillation
from harness.training.objective import make_objective
from harness.training.preparation import prepare
from harness.training.step.lora import add_adapter, begin_training
from harness.training.step.loss import plain_losses
from tests.device import chosen_device
from tests.training.small import ROWS, small_config

FORMATS = ("chatml", "alpaca-newline", "llama2-chat")
DOCUMENTED = {
    "index_add": "torch.index_add",
    "scatter_add": "scatter_add_",
    "scatter_reduce": "scatter_reduce",
    "index_copy": "index_copy",
    "index_put": "index_put",
    "put": "Tensor.put_",
    "cumsum": "torch.cumsum",
    "bincount": "torch.bincount",
    "histc": "torch.histc",
    "median": "torch.median",
}
"""Operations of ATen, and their names in torch's list."""


def places(name, args, kwargs):
    """Where the numbers go, as a flat index, and the numbers; None where all are suspect."""
    if name in ("index_add", "index_copy"):
        _, dim, index, source = args
        shape = [-1 if at == dim else 1 for at in range(source.dim())]
        index = index.view(shape).expand_as(source)
        where = index * source.numel() + rest_of(source, dim)
        return where, source if name == "index_add" else torch.ones(source.shape)
    if name == "scatter_add":
        _, dim, index, source = args
        return index * source.numel() + rest_of(source, dim), source
    if name == "index_put":
        target, indices = args[:2]
        accumulate = args[3] if len(args) > 3 else kwargs.get("accumulate", False)
        if accumulate:  # on CUDA the indices are sorted first
            return torch.zeros(0, dtype=torch.long), torch.zeros(0)
        numbers = torch.arange(target.numel()).view_as(target)
        where = numbers[tuple(slice(None) if each is None else each for each in indices)]
        return where, torch.ones(where.shape)
    return None


def rest_of(source, dim):
    """For each element, the number of its place in all dimensions but ``dim``."""
    numbers = torch.arange(source.numel()).view_as(source)
    return numbers.select(dim, 0).unsqueeze(dim).expand_as(source)


class Sums(TorchDispatchMode):
    """Notes the documented operations in which several numbers meet in one place."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = operation.overloadpacket.__name__.strip("_")
        if name in DOCUMENTED and args[0].is_floating_point() and meets(name, args, kwargs):
            self.found.append(name)
        return operation(*args, **kwargs)


def meets(name, args, kwargs):
    known = places(name, args, kwargs)
    if known is None:
        return True
    where, values = known
    return bool(where[values != 0].unique(return_counts=True)[1].gt(1).any())


@pytest.fixture(autouse=True)
def targets_on_the_cpu(monkeypatch):
    """Distillation's targets are computed on the CPU whatever the device: leave them out."""
    made = Distillation.targets

    def targets(*args):
        with _disable_current_modes():
            return made(*args)

    monkeypatch.setattr(Distillation, "targets", targets)


def of_step(objective, loaded, rows):
    """The suspect operations of a forward and a backward pass."""
    begin_training(loaded.model)
    with Sums() as sums:
        objective(loaded, rows).backward()
    return sums.found


@pytest.fixture
def step(tiny_model, tmp_path):
    """The model with an adapter, the rows of a step in each format, and objectives by kind."""
    from dataclasses import replace

    config = small_config(tiny_model, tmp_path, rows=ROWS, formats=FORMATS)
    loaded = load(str(tiny_model), dtype="float32", device=chosen_device())
    ready = prepare(config)
    cache = ready.encode(loaded.tokenizer, None)[0]
    rows = [cache((row, at)) for row in range(len(ROWS)) for at in range(len(FORMATS))]
    loaded.model = add_adapter(loaded, config.adapter, 0)

    def objective(kind):
        goal = ObjectiveConfig(kind=kind, native="chatml")
        return make_objective(replace(ready, config=replace(config, objective=goal)), loaded)

    return loaded, rows, objective


@pytest.mark.parametrize("kind", ["supervised", "consistency", "distillation"])
def test_no_two_numbers_meet_in_an_order_of_the_cards_choice(step, kind):
    loaded, rows, objective = step
    assert of_step(objective(kind), loaded, rows) == []


def test_nor_on_the_way_through_transformers(step):
    loaded, rows, _ = step
    assert of_step(lambda *step: plain_losses(*step)[0].sum(), loaded, rows) == []


MANY, ONCE = torch.tensor([1, 1, 2]), torch.tensor([3, 1, 2])


@pytest.mark.parametrize(
    ("name", "work"),
    [
        ("index_copy", lambda at: torch.zeros(5).index_copy(0, at, torch.arange(3.0))),
        ("index_add", lambda at: torch.zeros(5).index_add(0, at, torch.ones(3))),
        ("scatter_add", lambda at: torch.zeros(5).scatter_add(0, at, torch.ones(3))),
        ("index_put", lambda at: torch.zeros(5).index_put((at,), torch.arange(3.0))),
        (
            "scatter_add",
            lambda at: torch.ones(5, requires_grad=True).gather(0, at).sum().backward(),
        ),
    ],
)
def test_an_addition_in_any_order_is_found(name, work):
    """The control is the same operation on indices that differ."""
    with Sums() as sums:
        work(MANY)
    assert sums.found == [name]
    with Sums() as sums:
        work(ONCE)
    assert sums.found == []


def test_rows_of_a_matrix_are_places_of_their_own():
    with Sums() as sums:
        torch.zeros(2, 5).scatter_add(1, torch.tensor([[1, 2], [1, 2]]), torch.ones(2, 2))
        torch.zeros(5, 2).index_add(0, ONCE, torch.ones(3, 2))
    assert sums.found == []
    with Sums() as sums:
        torch.zeros(2, 5).scatter_add(1, torch.tensor([[1, 1], [1, 2]]), torch.ones(2, 2))
        torch.zeros(5, 2).index_add(0, MANY, torch.ones(3, 2))
    assert sums.found == ["scatter_add", "index_add"]


def test_a_running_sum_is_always_suspect():
    with Sums() as sums:
        torch.ones(3).cumsum(0)
        torch.ones(3, dtype=torch.long).cumsum(0)
    assert sums.found == ["cumsum"]


def test_torch_still_lists_these_operations():
    for name in DOCUMENTED.values():
        assert name in torch.use_deterministic_algorithms.__doc__
