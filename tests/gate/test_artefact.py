"""A shipped artefact is judged by the baseline of the trained model, and asked the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.errors import HarnessError
from harness.evaluation import run
from harness.evaluation.settings import EvalJob, EvalSettings
from harness.formats import load_formats
from harness.gate.artefact import artefact_job
from harness.gate.baseline import to_baseline
from harness.gate.baseline_file import write_baseline
from harness.gate.messages import describe, summary_lines
from harness.gate.run_gate import GateOptions, run_gate

N = 160
WHY = "the server gives no log-probabilities of a prompt"
TRAINED = {
    ("chatml", "stopped"): [1.0] * N,
    ("chatml", "choice"): [1.0] * N,
    ("hermes", "stopped"): [1.0] * N,
    ("llama3", "stopped"): [1.0] * N,
}
GROUPS = {"chatml": "native", "hermes": "held-out", "llama3": "seen"}


@pytest.fixture
def gate(make_evaluation, tmp_path, monkeypatch):
    """Judge an artefact that has these values; ``gate.jobs`` holds what was asked."""

    def evaluated(values, **more):
        return replace(make_evaluation(values, native="chatml", groups=GROUPS), **more)

    file = tmp_path / "base.json"
    write_baseline(to_baseline(evaluated(TRAINED)), file)
    jobs = []

    def judged(artefact, values, *, options=None, **more):
        def asked(job, **_):
            jobs.append(job)
            return evaluated(values, **more)

        monkeypatch.setattr(run, "run_job", asked)
        given = {"adapter": "lora", "baseline": file, "artefact": artefact, **(options or {})}
        return run_gate(GateOptions("base", **given))

    judged.jobs = jobs
    return judged


def outcomes(result):
    return {(check.format, check.metric): check.outcome for check in result.checks}


def test_a_sound_artefact_passes_and_a_broken_one_fails(gate):
    sound = gate("out/a-Q8_0.gguf", TRAINED)
    assert set(outcomes(sound).values()) == {"passed"}
    assert summary_lines(sound)[0].startswith("a-Q8_0.gguf: ")
    assert summary_lines(sound)[-1] == "next: nothing to do; the baseline stays as it is"
    assert not any("not compared" in line for line in summary_lines(sound))
    broken = gate("out/a-Q8_0.gguf", {**TRAINED, ("llama3", "stopped"): [0.0, 1.0] * (N // 2)})
    found = {place for place, outcome in outcomes(broken).items() if outcome == "failed"}
    assert ("llama3", "stopped") in found
    assert "--gate-artefact out/a-Q8_0.gguf" in summary_lines(broken)[-1]


def test_a_better_artefact_does_not_become_the_baseline(gate):
    worse = {place: [0.0] * (N // 2) + [1.0] * (N // 2) for place in TRAINED}
    file = gate("a.gguf", TRAINED).options.baseline
    write_baseline(replace(gate("a.gguf", worse).current), file)
    better = gate("a.gguf", TRAINED)
    assert "improved" in outcomes(better).values()
    assert "--gate-update-baseline" not in "\n".join(summary_lines(better))


def test_the_artefact_is_asked_what_the_model_was(gate):
    """Its native format and its trained ones are the baseline's: no file says them."""
    gate("out/a-Q8_0.gguf", TRAINED)
    [job] = gate.jobs
    assert (job.model, job.adapter, job.engine) == ("out/a-Q8_0.gguf", None, "llamacpp")
    assert (job.native, job.trained_families) == ("chatml", ("llama3",))
    before = gate("a.gguf", TRAINED).before
    gone = {**before.formats, "gone": before.formats["llama3"]}
    before = replace(before, formats=gone)  # one of the user's that has no file now
    served = EvalJob("base", adapter="lora", engine="openai")
    known = load_formats()
    assert artefact_job(served, "served", before, known).engine == "openai"
    assert artefact_job(EvalJob("base"), "ollama/tuned", before, known).engine == "auto"


def test_what_a_runtime_cannot_measure_is_not_compared_and_never_passed(gate):
    values = {place: column for place, column in TRAINED.items() if place[1] != "choice"}
    unscored = {**values, ("chatml", "choice"): [None] * N}
    silent = gate("ollama/tuned", unscored, no_loglikelihood=WHY)
    assert outcomes(silent)["chatml", "choice"] == "missing"  # the reason is another one

    def with_reason(**more):
        from harness.records import Score

        made = gate("a.gguf", values).evaluation
        rows = [Score(f"choice-{n:03}", "chatml", "choice", None, WHY) for n in range(N)]
        return {"scores": (*made.scores, *rows), "no_loglikelihood": WHY, **more}

    result = gate("ollama/tuned", values, **with_reason())
    assert outcomes(result)["chatml", "choice"] == "inconclusive"
    assert {o for place, o in outcomes(result).items() if place[1] == "stopped"} == {"passed"}
    lines = summary_lines(result)
    assert f"not compared in this runtime: choice: {WHY}" in lines
    assert not any("drops" in line for line in lines)
    [check] = [one for one in result.checks if one.metric == "choice"]
    assert describe(check) == f"chatml · choice: 1.00 → not scored\ninconclusive: {WHY}"
    model = gate("x", values, options={"artefact": None}, **with_reason())
    assert outcomes(model)["chatml", "choice"] == "missing"  # the trained model's own gate


def test_what_changed_is_measured_again_with_the_trained_model(gate):
    stale = gate("a.gguf", TRAINED, settings=EvalSettings(max_new_tokens=7))
    assert set(outcomes(stale).values()) == {"stale"}
    assert summary_lines(stale)[-1].startswith("next: pytest eval/ --gate-model base")
    assert "--gate-artefact" not in summary_lines(stale)[-1]


@pytest.mark.parametrize("more", [{"update": True}, {"add_new": True}, {"baseline": None}])
def test_an_artefact_never_writes_the_baseline(gate, more):
    with pytest.raises(HarnessError, match="never writes it") as error:
        gate("a.gguf", TRAINED, options=more)
    assert "--gate-update-baseline" in error.value.hint
    assert "--gate-artefact" not in error.value.hint


def test_a_missing_baseline_is_that_of_the_trained_model(gate, tmp_path):
    with pytest.raises(HarnessError, match="no such baseline") as error:
        gate("a.gguf", TRAINED, options={"baseline": tmp_path / "none.json"})
    assert "--gate-artefact" not in error.value.hint and "--gate-adapter lora" in error.value.hint
