"""The rows of a run: sets with weights, refused rows, and the dry run of both."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from harness.cli.main import main
from harness.data.refusals import REFUSED_FILE
from harness.errors import HarnessError
from harness.models import load_tokenizer, locate
from harness.run_file import read_metrics
from harness.training.config import (
    DataConfig,
    DataSource,
    EvaluationConfig,
    FormatsConfig,
    OptimisationConfig,
    StoppingConfig,
    TrainConfig,
)
from harness.training.data.examples import make_plan
from harness.training.data.training_rows import encoded_rows
from harness.training.plan.dry_run import dry_run
from harness.training.preparation import prepare, run_digest
from harness.training.start import train


def row(question, answer="Oslo.", **rest):
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ],
        **rest,
    }


GOOD = [row(f"dog {number}?") for number in range(4)]
BAD = [
    {"messages": [{"role": "bot", "content": "x"}]},
    row("empty", " "),
    row("long", "the dog " * 300),
    {"messages": [{"role": "user", "content": "only asked"}]},
]


@pytest.fixture
def write(tmp_path):
    def write(name, rows):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(tmp_path / name)

    return write


@pytest.fixture
def config(tiny_model, tmp_path, write):
    return TrainConfig(
        model=str(tiny_model),
        output_dir=str(tmp_path / "run"),
        dtype="float32",
        data=DataConfig(train=(write("good.jsonl", GOOD),), max_length=256),
        formats=FormatsConfig(train=("chatml", "alpaca-newline")),
        optimisation=OptimisationConfig(num_train_epochs=2, per_device_train_batch_size=2),
        evaluation=EvaluationConfig(references=0, recall_rows=0),
    )


def with_data(config, *train, **rest):
    return replace(config, data=replace(config.data, train=train, **rest))


def plan_of(config):
    ready = prepare(config)
    cache, refused = encoded_rows(
        config, ready.rows, ready.trained, load_tokenizer(locate(config.model)), None
    )
    return cache, make_plan(config, cache), refused


def test_a_sets_weight_is_its_draws_an_epoch(config, write):
    other = write("b.jsonl", [row(f"fox {n}") for n in range(6)])
    config = with_data(config, config.data.train[0] + ":2", DataSource(other, 0.5))
    cache, plan, _ = plan_of(config)
    for epoch in plan.epochs:
        met = Counter(
            cache.conversations[r].source.rsplit("/", 1)[1].split(":")[0] for r, _ in epoch
        )
        assert met == {"good.jsonl": 8, "b.jsonl": 3}
    assert {r for epoch in plan.epochs for r, _ in epoch} == set(range(10)), (
        "half a weight takes two epochs for all"
    )


def test_refused_rows_end_the_run_and_are_counted(config, write):
    with pytest.raises(HarnessError) as caught:
        prepare(with_data(config, write("bad.jsonl", GOOD + BAD)))
    text = str(caught.value)
    assert text.startswith(
        config.data.train[0].replace("good", "bad")
        + ":5: 3 rows refused: 1 empty message, 1 no assistant turn, 1 unknown role; the first:"
    )
    assert 'on_refuse = "skip"' in text


def test_skipped_rows_are_listed_and_the_rest_is_trained(config, write, capsys):
    config = with_data(config, write("bad.jsonl", GOOD + BAD), on_refuse="skip")
    adapter = train(config, quiet=True)
    listed = [json.loads(line) for line in (adapter.parent / REFUSED_FILE).read_text().splitlines()]
    assert [(r["place"].rsplit(":", 1)[1], r["reason"]) for r in listed] == [
        ("5", "unknown role"),
        ("6", "empty message"),
        ("8", "no assistant turn"),
        ("7", "too long"),
    ]
    assert (
        "4 rows refused: 1 empty message, 1 no assistant turn, 1 too long, 1 unknown role"
        in capsys.readouterr().err
    )
    entries = read_metrics(adapter.parent)
    assert len([entry for entry in entries if entry["kind"] == "step"]) == 4, (
        "four rows, two epochs, batches of two"
    )


def test_a_set_of_refused_rows_alone_is_an_error(config, write):
    for rows in (BAD[:1], BAD[2:3]):
        with pytest.raises(HarnessError, match=r"nothing to learn from: 1 row.*; the first: "):
            plan_of(with_data(config, write("bad.jsonl", rows), on_refuse="skip"))


def test_every_step_of_a_run_with_plain_texts_of_half_weight_has_tokens(config, write, tmp_path):
    """With mixing = all, an epoch's pairs depend on how many plain texts it has."""
    (tmp_path / "both").mkdir()
    write("both/chat.jsonl", GOOD)
    write("both/text.jsonl", [{"text": f"the quick brown fox {n}"} for n in range(4)])
    config = with_data(config, f"{tmp_path / 'both'}:0.5")
    config = replace(
        config,
        formats=replace(config.formats, mixing="all"),
        optimisation=replace(config.optimisation, num_train_epochs=4),
        seed=1,
    )
    cache, plan, _ = plan_of(config)
    assert len({len(epoch) for epoch in plan.epochs}) > 1, "epochs differ in size"
    entries = read_metrics(train(config, quiet=True).parent)
    steps = [entry for entry in entries if entry["kind"] == "step"]
    assert all(step["supervised_tokens"] > 0 and step["loss"] > 0 for step in steps)
    pairs = [pair for epoch in plan.epochs for pair in epoch]
    assert sum(step["supervised_tokens"] for step in steps) == sum(
        cache(pair).supervised for pair in pairs
    )
    assert steps[-1]["epoch"] == 4


def test_a_plain_text_is_trained_as_it_is_whatever_is_drawn(config, write):
    config = with_data(
        config, write("text.jsonl", [{"text": "the quick brown fox"}, {"text": "jumps over"}])
    )
    for mixing in ("balanced", "all"):
        cache, plan, _ = plan_of(replace(config, formats=replace(config.formats, mixing=mixing)))
        assert len(list(plan.pairs())) == 4, "two texts, two epochs, one format each"
        for pair in plan.pairs():
            assert cache.format_of(pair).id == cache(pair).format == "raw"
            assert cache.rendered(pair).text.startswith(
                cache.conversations[pair[0]].messages[0].content
            )


def test_what_decides_the_weights_decides_the_digest(config, write):
    def digest(config):
        return run_digest(prepare(config), "base")

    same = replace(config, stopping=StoppingConfig(), output_dir="elsewhere")
    assert digest(config) == digest(same)
    assert digest(with_data(config, config.data.train[0] + ":2")) != digest(config)
    untrained = [
        {
            "messages": [
                *row("x")["messages"],
                {"role": "user", "content": "y"},
                {"role": "assistant", "content": "z", **extra},
            ]
        }
        for extra in ({}, {"train": False})
    ]
    assert digest(with_data(config, write("a.jsonl", untrained[:1]))) != digest(
        with_data(config, write("a.jsonl", untrained[1:]))
    )


def test_weights_of_formats_and_families(config):
    weighted = replace(
        config,
        formats=replace(
            config.formats,
            train=("chatml", "alpaca-newline", "alpaca-stanford"),
            mixing="weighted",
            format_weights={"alpaca": 0.0, "alpaca-newline": 1.0},
        ),
    )
    cache, plan, _ = plan_of(weighted)
    assert {cache.format_of(pair).id for pair in plan.pairs()} <= {"chatml", "alpaca-newline"}
    with pytest.raises(HarnessError, match="not a trained format or family") as caught:
        plan_of(
            replace(weighted, formats=replace(weighted.formats, format_weights={"alpacca": 1.0}))
        )
    assert "did you mean alpaca" in caught.value.hint
    with pytest.raises(HarnessError, match="has weight 0"):
        plan_of(
            replace(
                weighted,
                formats=replace(weighted.formats, format_weights={"alpaca": 0.0, "chatml": 0.0}),
            )
        )


def test_max_steps_beats_epochs(config):
    _, plan, _ = plan_of(replace(config, optimisation=replace(config.optimisation, max_steps=7)))
    assert plan.total_steps == 7 and all(len(plan.step(n)) == 2 for n in range(7))


def test_the_dry_run_counts_what_the_run_will_meet(config, capsys):
    told = dry_run(config)
    cache, plan, _ = plan_of(config)
    examples = [cache(pair) for pair in plan.pairs()]
    assert told.facts["steps"] == plan.total_steps == 4
    assert told.facts["tokens"] == sum(len(e.encoded.ids) for e in examples)
    assert (
        sum(f["supervised_tokens"] for f in told.formats.values())
        == told.facts["supervised_tokens"]
        == sum(e.supervised for e in examples)
    )
    assert {id: f["pairs"] for id, f in told.formats.items()} == Counter(e.format for e in examples)
    assert all(
        len(samples) == 3
        and all(s.count("‹") == s.count("›") == 1 and "‹Oslo." in s for s in samples)
        for samples in told.samples.values()
    )
    assert [(m.where.split(" (")[0], m.checkpointing) for m in told.memory] == [
        ("this machine", False),
        ("this machine", True),
        ("a 12 GB card", False),
        ("a 12 GB card", True),
    ]


def test_the_dry_run_prints_and_gives_json(config, write, tmp_path, capsys):
    (tmp_path / "run.toml").write_text(
        f'model = "{config.model}"\ndtype = "float32"\n[data]\ntrain = ["{write("bad.jsonl", GOOD + BAD)}"]\nmax_length = 256\n[formats]\ntrain = ["chatml"]\n'
    )
    assert main(["train", str(tmp_path / "run.toml"), "--dry-run"]) == 1, "the run would not start"
    text = capsys.readouterr().out
    assert (
        "‹Oslo.<|im_end|>" in text
        and "too long" in text
        and "would not start" in text
        and "MiB = " in text
    )
    assert (
        main(["train", str(tmp_path / "run.toml"), "--dry-run", "--json", "--on-refuse", "skip"])
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert (
        told["formats"]["chatml"]["rows"] == 4
        and len(told["refused"]) == 4
        and told["starts"]
        and told["memory"][0]["bytes"] > 0
    )
    assert not (tmp_path / "runs").exists()
