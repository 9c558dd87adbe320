"""Distillation and consistency against sums computed by hand in float64."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from harness.errors import HarnessError
from harness.models import load
from harness.training.config import (
    AdapterConfig,
    CheckpointsConfig,
    DataConfig,
    EvaluationConfig,
    FormatsConfig,
    ObjectiveConfig,
    OptimisationConfig,
    TrainConfig,
)
from harness.training.distill.soft_targets import (
    Targets,
    hard_targets,
    jensen_shannon,
    kullback_leibler,
    merged,
)
from harness.training.loop import Trainer
from harness.training.objective import make_objective
from harness.training.preparation import prepare, run_digest
from harness.training.start import train
from harness.training.step.loss import handwritten, supervised_loss, uses_handwritten
from tests.device import chosen_device
from tests.training.interrupted import assert_ends_like_uninterrupted
from tests.training.small import weights_of

ROWS = [
    (None, "the quick fox?", "over the lazy dog"),
    ("the rules", "dog", "the brown fox jumps over it 🦊"),
    (None, "capital?", "Oslo."),
    ("fox", "What is the dog?", "lazy"),
]
DRAWN = ("alpaca-newline", "vicuna-v1.1", "llama2-chat", "llama3")


@pytest.fixture
def config(tiny_model, tmp_path):
    file = tmp_path / "rows.jsonl"
    with file.open("w") as lines:
        for system, question, words in ROWS:
            head = [{"role": "system", "content": system}] if system else []
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": words}]
            lines.write(json.dumps({"messages": [*head, *turns]}) + "\n")
    return TrainConfig(
        model=str(tiny_model),
        output_dir=str(tmp_path / "run"),
        dtype="float32",
        adapter=AdapterConfig(lora_r=4, lora_alpha=8),
        data=DataConfig(train=(str(file),)),
        formats=FormatsConfig(train=("chatml", *DRAWN)),
        optimisation=OptimisationConfig(
            learning_rate=1e-2, num_train_epochs=4, per_device_train_batch_size=2
        ),
        objective=ObjectiveConfig(kind="distillation", native="chatml", top_k=0),
        evaluation=EvaluationConfig(references=0, recall_rows=0),
        checkpoints=CheckpointsConfig(save_steps=2),
    )


def make(config):
    """A trainer whose adapter has already moved, so that student and teacher differ."""
    loaded = load(config.model, dtype="float32", device=chosen_device())
    ready = prepare(config)
    objective = make_objective(ready, loaded)
    trainer = Trainer(
        config,
        loaded,
        ready.encode(loaded.tokenizer, None)[0],
        run_digest(ready, loaded.source.digest),
        None,
        objective,
    )
    return trainer, objective


def stir(trainer):
    torch.manual_seed(5)
    for weight in weights_of(trainer).values():
        weight.add_(torch.randn_like(weight) * 0.05)


def logprobs(model, ids):
    """Plain float64 log-probabilities of every next token of one row."""
    with torch.no_grad():
        return torch.log_softmax(
            model(input_ids=torch.tensor([ids], device=chosen_device())).logits[0].double(), -1
        )


def by_hand(trainer, example, native):
    """The loss of one example with dictionaries and the spelling of byte-level pieces: no character
    offsets, no tensors of targets."""
    tokenizer = trainer.loaded.tokenizer
    pieces, eos = tokenizer.convert_ids_to_tokens, tokenizer.eos_token_id
    student = logprobs(trainer.model, example.encoded.ids)
    with trainer.model.disable_adapter():
        teacher = logprobs(trainer.model, native.ids)
    mine, theirs = [[i for i, t in enumerate(e.trained) if t] for e in (example.encoded, native)]
    said = [native.ids[i] for i in theirs]
    words = "".join(pieces(said[: said.index(eos)]))
    read = {"".join(pieces(said[:n])): n for n in range(said.index(eos) + 1)}
    written = [example.encoded.ids[i] for i in mine]
    space = "Ġ" if pieces(written)[0].startswith("Ġ") and not words.startswith("Ġ") else ""
    stop = next(
        written[n] for n in range(len(written)) if "".join(pieces(written[:n])) == space + words
    )
    total = 0.0
    for place, at in enumerate(mine):
        row, before = student[at - 1], "".join(pieces(written[:place]))
        opening = (place == 0 and space and pieces(written)[0] != space) or (
            before == space and place < 2
        )
        source = 0 if opening else read.get(before[len(space) :]) if before else None
        if source is None:  # a hard target
            total -= row[written[place]].item()
            continue
        lead = space if opening and not before else ""
        wanted: dict[int, float] = {}
        for id, value in enumerate(teacher[theirs[source] - 1].exp().tolist()):
            to = stop if id == eos else opened(tokenizer, id) if lead else id
            wanted[to] = wanted.get(to, 0.0) + value
        spelt = (
            stop
            if said[source] == eos
            else opened(tokenizer, said[source])
            if lead
            else said[source]
        )
        if spelt != written[place]:
            moved, n = 1.0, source
            while True:
                moved *= teacher[theirs[n] - 1, said[n]].exp().item()
                n += 1
                if len("".join(pieces(said[:n]))) >= len(before + pieces(written[place])) - len(
                    space
                ):
                    break
            wanted[spelt] -= moved
            wanted[written[place]] = wanted.get(written[place], 0.0) + moved
        total += sum(p * (math.log(p) - row[id].item()) for id, p in wanted.items() if p > 0)
    return total


def opened(tokenizer, id):
    """The token that begins an answer behind a space which began with ``id`` without one."""
    text, vocabulary = tokenizer.decode([id]), tokenizer.get_vocab()
    if id in tokenizer.added_tokens_decoder:
        return id
    if "\ufffd" in text:
        return vocabulary.get("Ġ" + tokenizer.convert_ids_to_tokens(id), vocabulary["Ġ"])
    return tokenizer(" " + text, add_special_tokens=False).input_ids[0]


@pytest.mark.parametrize("drawn", range(1, 5))
def test_the_loss_equals_the_divergence_written_out_in_float64(config, drawn):
    trainer, objective = make(config)
    stir(trainer)
    trainer.model.eval()
    for row in range(len(ROWS)):
        example = trainer.cache((row, drawn))
        with torch.no_grad():
            found = objective(trainer.loaded, [example]).item()
        assert found == pytest.approx(
            by_hand(trainer, example, objective.native[example.conversation]), rel=2e-5, abs=1e-4
        ), ROWS[row]


def test_in_the_native_format_an_untrained_adapter_has_nothing_to_learn(config):
    """Up to the text after the stop's first token, which chatml lacks, teacher and student are the
    same model on the same ids."""
    for top_k in (0, 8):
        trainer, objective = make(replace(config, objective=replace(config.objective, top_k=top_k)))
        loss = objective(trainer.loaded, [trainer.cache((row, 0)) for row in range(len(ROWS))])
        loss.backward()
        assert loss.item() == pytest.approx(0.0, abs=1e-4)
        grads = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        assert grads and max(g.abs().max().item() for g in grads) < 1e-4


@pytest.mark.parametrize("kind", ["distillation", "consistency"])
def test_padding_and_the_cut_into_batches_change_nothing(config, kind):
    trainer, objective = make(replace(config, objective=replace(config.objective, kind=kind)))
    stir(trainer)
    examples = [trainer.cache((c, f)) for c in range(len(ROWS)) for f in range(5)]
    with torch.no_grad():
        together = objective(trainer.loaded, examples).item()
        alone = sum(objective(trainer.loaded, [example]).item() for example in reversed(examples))
    assert together == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("top_k", [0, 3])
def test_by_hand_written_passes_it_is_what_transformers_and_peft_compute(
    config, weight, top_k, monkeypatch
):
    """Losses and gradients, where some rows are supervised and one was cut."""
    goal = replace(config.objective, top_k=top_k, supervised_weight=weight)
    trainer, objective = make(replace(config, objective=goal))
    ids = sorted(objective.native) or [c.id for c in trainer.cache.conversations]
    objective.supervised = frozenset(ids[:2])
    if weight < 1:
        objective.unfinished = frozenset(ids[3:])
    stir(trainer)
    batch = [trainer.cache((row, at)) for row in range(4) for at in (0, 1, 3)]
    found = []
    for other in (None, lambda *_: None):
        if other is not None:
            monkeypatch.setattr("harness.training.step.handwritten.decoder.find_decoder", other)
        assert (handwritten(trainer.loaded, batch) is None) == (other is not None)
        trainer.model.zero_grad()
        losses, correct = objective.token_losses(trainer.loaded, batch)
        (losses * torch.linspace(0.5, 2, len(losses), device=losses.device)).sum().backward()
        grads = [p.grad.clone() for p in trainer.model.parameters() if p.requires_grad]
        found.append((losses.detach(), correct, grads))
    (ours, right, mine), (theirs, expected, others) = found
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)
    assert torch.equal(right, expected)
    largest = max(float(each.abs().max()) for each in others)
    assert largest > 0
    for one, other in zip(mine, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * largest)


@pytest.mark.parametrize(("temperature", "used"), [(1.0, True), (2.0, False)])
def test_the_hand_written_passes_are_for_temperature_one(config, temperature, used):
    goal = replace(config.objective, temperature=temperature)
    trainer, objective = make(replace(config, objective=goal))
    assert objective.handwritten is used and uses_handwritten(objective) is used
    assert [each.handwritten for each in trainer.updater.passes.cut(trainer.examples(0))] == [used]


def test_few_kept_tokens_give_a_lower_bound_that_rises_with_their_number(config):
    found = []
    for top_k in (1, 4, 32, 0):
        trainer, objective = make(replace(config, objective=replace(config.objective, top_k=top_k)))
        stir(trainer)
        with torch.no_grad():
            found.append(
                objective(
                    trainer.loaded, [trainer.cache((row, 1)) for row in range(len(ROWS))]
                ).item()
            )
    assert found == sorted(found) and found[0] > 0


def test_the_gradient_is_the_students_belief_less_the_teachers():
    """d KL / d logit = q − p, written out for named tokens and for the rest together."""
    torch.manual_seed(0)
    logits = torch.randn(3, 7, requires_grad=True)
    ids = torch.tensor([[0, 1], [2, 3], [6, 6]])
    used = torch.tensor([[True, True], [True, True], [True, False]])
    wanted = torch.tensor([[0.5, 0.2], [0.1, 0.9], [1.0, 0.0]])
    rest = torch.tensor([0.3, 0.0, 0.0])
    kullback_leibler(logits, Targets(ids, wanted, used, rest, used[:, 0])).sum().backward()
    q = torch.softmax(logits.detach(), -1)
    expected = q.clone()
    expected[0, 2:] -= 0.3 * q[0, 2:] / q[0, 2:].sum()
    expected[0, :2] -= wanted[0]
    expected[1, 2:4] -= wanted[1]
    expected[2, 6] -= 1.0
    assert torch.allclose(logits.grad, expected, atol=1e-6)


def test_jensen_shannon_by_hand():
    p, q = (
        torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64),
        torch.tensor([[0.1, 0.1, 0.8]], dtype=torch.float64),
    )
    hand = sum(
        0.5 * a * math.log(2 * a / (a + b)) + 0.5 * b * math.log(2 * b / (a + b))
        for a, b in zip(p[0].tolist(), q[0].tolist(), strict=True)
    )
    assert jensen_shannon(p.log(), q.log()).item() == pytest.approx(hand, abs=1e-12)
    assert jensen_shannon(p.log(), p.log()).item() == pytest.approx(0.0, abs=1e-12)


def test_ids_that_stand_twice_are_added_up():
    ids, probabilities, used = merged(
        torch.tensor([[5, -1, 5, 2]]), torch.tensor([[0.25, 0.125, 0.5, 0.125]])
    )
    assert {
        int(i): float(p) for i, p, u in zip(ids[0], probabilities[0], used[0], strict=True) if u
    } == {5: 0.75, 2: 0.125}


def test_a_weight_of_one_on_given_answers_is_supervised_training(config):
    trainer, objective = make(
        replace(config, objective=replace(config.objective, supervised_weight=1.0))
    )
    stir(trainer)
    examples = [trainer.cache((row, 2)) for row in range(len(ROWS))]
    with torch.no_grad():
        assert objective(trainer.loaded, examples).item() == pytest.approx(
            supervised_loss(trainer.loaded, examples).item(), rel=1e-5
        )
    assert not objective.teacher


def test_a_cut_answer_teaches_its_words_and_no_rest_of_a_stop(config):
    trainer, objective = make(config)
    stir(trainer)
    example = trainer.cache((2, 4))
    with torch.no_grad():
        whole, _ = objective.token_losses(trainer.loaded, [example])
        objective.unfinished = frozenset([example.conversation])
        cut, _ = objective.token_losses(trainer.loaded, [example])
    soft = objective.targets(example, 400).soft
    assert soft.any() and not soft.all()
    assert torch.equal(cut[soft], whole[soft]) and not cut[~soft].any() and whole[~soft].all()


@pytest.mark.parametrize("kind", ["distillation", "consistency"])
def test_a_row_without_a_native_counterpart_is_learnt_as_it_stands(config, kind):
    trainer, objective = make(replace(config, objective=replace(config.objective, kind=kind)))
    stir(trainer)
    examples = [trainer.cache((row, 2)) for row in range(2)]
    with torch.no_grad():
        both, _ = objective.token_losses(trainer.loaded, examples)
        del (
            objective.native[examples[0].conversation],
            objective.rows.conversations[examples[0].conversation],
        )
        one, _ = objective.token_losses(trainer.loaded, examples)
        size = examples[0].supervised
        assert one[:size].sum().item() == pytest.approx(
            supervised_loss(trainer.loaded, examples[:1]).item(), rel=1e-5
        )
        assert torch.allclose(one[size:], both[size:]) and not torch.allclose(
            one[:size], both[:size]
        )


def test_temperature_keeps_the_size_of_the_loss(config):
    """At a high temperature T²·KL tends to half the variance-weighted difference of logits: it
    neither vanishes nor explodes."""
    found = {}
    for temperature in (1.0, 2.0, 50.0):
        trainer, objective = make(
            replace(config, objective=replace(config.objective, temperature=temperature))
        )
        stir(trainer)
        with torch.no_grad():
            found[temperature] = objective(trainer.loaded, [trainer.cache((2, 0))]).item()
    assert found[50.0] == pytest.approx(found[1.0], rel=0.5) and found[2.0] != found[1.0]


def test_consistency_is_cross_entropy_and_weighted_divergence(config):
    trainer, objective = make(
        replace(
            config, objective=replace(config.objective, kind="consistency", consistency_weight=0.5)
        )
    )
    stir(trainer)
    trainer.model.eval()
    example = trainer.cache((2, 1))
    native = objective.native[example.conversation]
    student, natively = (
        logprobs(trainer.model, example.encoded.ids),
        logprobs(trainer.model, native.ids),
    )
    mine, theirs = [[i for i, t in enumerate(e.trained) if t] for e in (example.encoded, native)]
    stop = [native.ids[i] for i in theirs].index(trainer.loaded.tokenizer.eos_token_id)
    total = -sum(student[i - 1, example.encoded.ids[i]].item() for i in mine)
    for place in range(stop + 1):
        p, q = natively[theirs[place] - 1].exp(), student[mine[place] - 1].exp()
        end = trainer.loaded.tokenizer.eos_token_id
        drawn = example.encoded.ids[mine[stop]]
        if drawn != end:
            p[drawn] += p[end]
            p[end] = 1e-30
        m = (p + q) / 2
        total += 0.5 * 0.5 * ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()).item()
    with torch.no_grad():
        assert objective(trainer.loaded, [example]).item() == pytest.approx(total, rel=2e-5)


def test_the_native_side_has_no_gradient(config):
    goal = ObjectiveConfig(kind="consistency", native="chatml")
    trainer, objective = make(replace(config, objective=goal))
    stir(trainer)
    native = objective._native_logprobs(trainer.loaded, list(objective.native))
    assert len(native) == len(ROWS)
    assert not any(logprobs.requires_grad for logprobs in native.values())
    assert objective(trainer.loaded, [trainer.cache((2, 3))]).requires_grad


@pytest.mark.parametrize("kind", ["distillation", "consistency"])
def test_an_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(
    config, tmp_path, monkeypatch, kind
):
    goal = replace(config.objective, kind=kind, top_k=16)
    assert_ends_like_uninterrupted(
        replace(config, objective=goal), tmp_path, monkeypatch, stop_at=3
    )


def test_the_draws_are_those_of_supervised_training(config):
    plain = replace(config, objective=ObjectiveConfig())
    assert make(config)[0].plan == make(plain)[0].plan


def test_distillation_brings_the_formats_to_the_teacher(config):
    config = replace(config, optimisation=replace(config.optimisation, num_train_epochs=10))
    trainer, objective = make(config)
    examples = [trainer.cache((c, f)) for c in range(len(ROWS)) for f in range(5)]
    with torch.no_grad():
        before = objective(trainer.loaded, examples).item()
        for number in range(trainer.plan.total_steps):
            with torch.enable_grad():
                trainer.step(number, 0.0)
        assert objective(trainer.loaded, examples).item() < 0.95 * before


def test_a_model_whose_template_is_unknown_needs_a_native_format(config):
    with pytest.raises(HarnessError, match="native: unknown format"):
        train(replace(config, objective=replace(config.objective, native="no-such")), quiet=True)


def test_certain_targets_are_the_cross_entropy(config):
    trainer, _ = make(config)
    example = trainer.cache((1, 1))
    logits = torch.randn(sum(example.encoded.trained[1:]), 400)
    said = torch.tensor(
        [i for i, t in zip(example.encoded.ids, example.encoded.trained, strict=True) if t]
    )
    expected = torch.nn.functional.cross_entropy(logits, said, reduction="none")
    assert torch.allclose(
        kullback_leibler(logits, hard_targets(example.encoded, 3)), expected, atol=1e-6
    )


def test_the_teacher_says_the_same_however_many_tokens_are_in_memory_at_once(config, monkeypatch):
    _, whole = make(config)
    monkeypatch.setattr("harness.training.distill.teacher._AT_ONCE", 3)
    _, pieces = make(config)
    assert whole.teacher.keys() == pieces.teacher.keys()
    for name, said in whole.teacher.items():
        for field in ("ids", "probabilities", "rest", "label_probability"):
            assert torch.equal(getattr(said, field), getattr(pieces.teacher[name], field))
