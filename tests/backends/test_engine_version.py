"""A mended local engine computes again, and says why; baselines from before it stay valid."""

from __future__ import annotations

from harness.backends.local import backend as local
from harness.backends.local.backend import TransformersBackend
from harness.evaluation.execute import execute
from harness.evaluation.requests import RequestBuilder
from harness.evaluation.settings import RESULTS_FILE
from harness.evaluation.store.cache_report import REUSED, count_reuse
from harness.evaluation.store.results_file import Store
from harness.formats import load_formats
from harness.gate.baseline import to_baseline
from harness.gate.baseline_file import read_baseline, write_baseline
from harness.gate.compare_baselines import compare_baselines
from harness.gate.thresholds import Tolerance
from tests.evaluation.conftest import ask
from tests.gate.conftest import build_evaluation


def planned(loaded):
    backend = TransformersBackend(loaded)
    cases = [ask("c", "Capital?", choices=["Oslo", "Rome"], answer=0)]
    formats = load_formats().select(["chatml", "llama3"])
    return backend, RequestBuilder(backend, 4).build(cases, formats)


def test_another_engine_version_is_computed_again_and_an_equal_one_is_not(
    tiny, tmp_path, monkeypatch
):
    with Store(tmp_path / RESULTS_FILE) as store:
        backend, requests = planned(tiny)
        assert execute(requests, backend, store, quiet=True) == 2
        backend, requests = planned(tiny)
        assert [row.why for row in count_reuse(requests, store)] == [REUSED]
        assert execute(requests, backend, store, quiet=True) == 0

        monkeypatch.setattr(local, "ENGINE_VERSION", local.ENGINE_VERSION + 1)
        backend, requests = planned(tiny)
        assert [row.why for row in count_reuse(requests, store)] == ["another engine version"]
        assert execute(requests, backend, store, quiet=True) == 2


def test_results_from_before_there_was_a_version_are_computed_again(tiny, tmp_path, monkeypatch):
    facts = TransformersBackend(tiny).fingerprint
    del facts["engine_version"]
    with Store(tmp_path / RESULTS_FILE) as store:
        with monkeypatch.context() as before:
            before.setattr(TransformersBackend, "fingerprint", facts)
            backend, requests = planned(tiny)
            assert execute(requests, backend, store, quiet=True) == 2
        backend, requests = planned(tiny)
        assert [row.why for row in count_reuse(requests, store)] == ["another engine version"]
        assert execute(requests, backend, store, quiet=True) == 2


def test_a_baseline_from_before_there_was_a_version_is_read_and_fails_nothing(tmp_path):
    values = {("chatml", "stopped"): [1.0, 0.0, 1.0]}
    write_baseline(to_baseline(build_evaluation(values)), tmp_path / "old.json")
    old = read_baseline(tmp_path / "old.json")
    new = to_baseline(build_evaluation(values, environment={"engine_version": "1"}))
    assert "engine_version" not in old.environment and new.environment["engine_version"] == "1"
    [check] = compare_baselines(old, new, {"stopped": Tolerance("stopped", 0.1)})
    assert check.outcome == "inconclusive"
