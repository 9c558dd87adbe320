"""Ray workers give the results of one process, and a killed one costs its batch only."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import deque

import pytest

pytest.importorskip("ray")

import ray

from harness.backends import GenerateRequest, ScoreRequest
from harness.backends import ray as ray_engine
from harness.backends.local.backend import TransformersBackend
from harness.backends.ray import ModelSpec, RayBackend, Worker, connect
from harness.cli.main import main
from harness.errors import HarnessError
from harness.evaluation.requests import RequestBuilder
from harness.formats import load_formats
from tests.evaluation.conftest import ask

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    """Two cores of a cluster of this machine's own, small and silent."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=128 * 1024**2,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


@pytest.fixture
def spread(cluster, tiny_model):
    found = RayBackend(ModelSpec(str(tiny_model), dtype="float32"), workers=2)
    yield found
    found.close()


def planned(backend):
    cases = [
        ask(
            f"c{n}",
            f"Which of these, {'please ' * (n % 5)}{n}?",
            choices=["Oslo", "Rome", "Lima"],
            answer=n % 3,
        )
        for n in range(12)
    ]
    cases += [
        ask(f"a{n}", f"Say {n}." + " Do." * (n % 7), checks=[{"contains": "x"}]) for n in range(20)
    ]
    requests = RequestBuilder(backend, 6).build(
        cases, load_formats().select(["chatml", "alpaca-newline", "llama3"])
    )
    return (
        requests,
        [w.request for w in requests if isinstance(w.request, ScoreRequest)],
        [w.request for w in requests if isinstance(w.request, GenerateRequest)],
    )


def collected(batches):
    found = [pair for batch in batches for pair in batch]
    assert len(found) == len(dict(found)), "nothing comes twice"
    return dict(found)


def test_the_results_are_those_of_one_process(spread, tiny):
    alone = TransformersBackend(tiny)
    requests, scores, texts = planned(spread)
    assert spread.fingerprint == alone.fingerprint and [w.key for w in requests] == [
        w.key for w in planned(alone)[0]
    ], "one may go on where the other stopped"
    ours, theirs = collected(alone.score(scores)), collected(spread.score(scores))
    assert ours.keys() == theirs.keys() == {request.key for request in scores}
    for key, scorings in ours.items():
        assert [s.logprob for s in theirs[key]] == pytest.approx(
            [s.logprob for s in scorings], abs=1e-4
        )
    mine, others = collected(alone.generate(texts)), collected(spread.generate(texts))
    assert {key: (a.text, a.finish, a.token_ids) for key, a in mine.items()} == {
        key: (a.text, a.finish, a.token_ids) for key, a in others.items()
    }
    assert not spread.lost


def stuck_at(key, folder):
    """A worker that hangs in the batch with that key the first time, and writes its process id."""

    class Stuck(Worker):
        def generate(self, requests):
            if key in {request.key for request in requests}:
                try:
                    (folder / "here").touch(exist_ok=False)
                except FileExistsError:
                    return super().generate(requests)  # the batch again, by another
                (folder / "pid.part").write_text(str(os.getpid()))
                (folder / "pid.part").rename(folder / "pid")
                signal.pause()
            return super().generate(requests)

    return Stuck


@pytest.mark.parametrize("how", ["os.kill", "ray.kill"])
def test_a_killed_worker_costs_its_batch_only(
    cluster, tiny_model, tiny, tmp_path, monkeypatch, how
):
    """It is killed in the first batch, which it would never finish; no timing matters here."""
    alone = TransformersBackend(tiny)
    _, _, texts = planned(alone)
    monkeypatch.setattr(ray_engine, "Worker", stuck_at(texts[0].key, tmp_path))
    spread = RayBackend(ModelSpec(str(tiny_model), dtype="float32"), workers=2)
    got, killed = {}, None
    for batch in spread.generate(texts):
        assert not set(got) & {key for key, _ in batch}
        got |= dict(batch)
        if killed is None:  # another batch came back: the one that is stuck was given out with it
            [killed] = [job for job in spread._running.values() if texts[0] in job.requests]
            while not (tmp_path / "pid").exists():
                time.sleep(0.05)
            assert int((tmp_path / "pid").read_text()) == spread.pids[killed.actor]
            os.kill(spread.pids[killed.actor], signal.SIGKILL) if how == "os.kill" else ray.kill(
                killed.actor
            )
    assert killed is not None and spread.lost == [
        tuple(request.key for request in killed.requests)
    ], "that batch and no other"
    assert {key: a.token_ids for key, a in got.items()} == {
        key: a.token_ids for key, a in collected(alone.generate(texts)).items()
    }
    while spread._running:
        spread._collect(deque())
    assert len(spread.pids) == 2 and spread.pids.keys() == set(spread._idle), (
        "another took its place"
    )
    spread.close()


def test_a_mistake_arrives_as_itself(cluster, tiny_model, tmp_path):
    with pytest.raises(HarnessError, match=r"no adapter_config\.json"):
        RayBackend(ModelSpec(str(tiny_model), adapter=str(tmp_path)), workers=1)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "127.0.0.1:port"])
def test_a_cluster_that_is_not_there_is_reported_at_once(address):
    with pytest.raises(HarnessError, match="no Ray cluster"):
        connect(ray, address)


def test_the_command_and_one_process_share_a_results_file(cluster, tiny_model, tmp_path, capsys):
    args = [
        "eval",
        str(tiny_model),
        "--formats",
        "chatml,zephyr",
        "--limit",
        "4",
        "--max-new-tokens",
        "4",
        "--dtype",
        "float32",
        "--json",
        "-v",
    ]
    args += ["--out", str(tmp_path / "out")]
    assert main([*args, "--engine", "ray", "--workers", "2"]) == 0
    first = capsys.readouterr()
    assert main(args) == 0
    second = capsys.readouterr()
    assert "24 of 24 cells come from the store" in second.err and "0 of 24 cells" in first.err
    assert json.loads(first.out) == json.loads(second.out)
