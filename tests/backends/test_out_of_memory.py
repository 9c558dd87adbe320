"""Where memory ends, smaller passes give the same results, and one line says so."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from harness.backends import ScoreRequest
from harness.backends.local import decoding, engine, forward, probe, scoring
from harness.backends.local.backend import TransformersBackend, base_of
from harness.cli.main import main
from harness.errors import HarnessError
from tests.backends.scarce_memory import Scarce
from tests.backends.test_decoding import IDS, answers_of, requests_of
from tests.backends.test_local_backend import OPTIONS, QUESTIONS, answered

ENGINES = ["by hand", "modules", "padded rows", "single rows", "single rows without cache"]
#: What holds the longest request but not all, and what holds none.
ENOUGH, TOO_LITTLE = 130, 4


def use(name, monkeypatch):
    """Let an engine run the tiny model, which is packed by hand otherwise."""
    if name != "by hand":
        monkeypatch.setattr(forward, "copyable_parts", lambda *args: None)
        monkeypatch.setattr(engine, "copyable_parts", lambda *args: None)
    if name not in ("by hand", "modules"):
        for module in (decoding, scoring):
            monkeypatch.setattr(module, "longest_packed", lambda loaded: 0)
            monkeypatch.setattr(module, "row_engine", lambda loaded: name)


def scored(backend):
    requests = [
        ScoreRequest(f"{name}|{q}", tuple(answered(name, q, option, backend) for option in OPTIONS))
        for name in IDS
        for q in QUESTIONS
    ]
    return {
        key: [value for one in found for value in one.token_logprobs]
        for batch in backend.score(requests)
        for key, found in batch
    }


def near(found):
    return {key: pytest.approx(values, abs=2e-5) for key, values in found.items()}


@pytest.mark.parametrize("name", ENGINES)
def test_scores_are_those_of_enough_memory(tiny, monkeypatch, capsys, name):
    use(name, monkeypatch)
    plenty = scored(TransformersBackend(tiny))
    scarce = Scarce(monkeypatch, passes=ENOUGH)
    backend = TransformersBackend(tiny)
    assert scored(backend) == near(plenty)
    assert scarce.largest <= ENOUGH and not scarce.leaked
    alone = name.startswith("single rows")
    assert bool(scarce.raised) is not alone, "single rows are passes of their own"
    lines = capsys.readouterr().err.splitlines()
    limit = backend.room.pass_tokens
    assert lines[-1:] == (
        [] if alone else [f"out of memory: passes of at most {limit} tokens from here on"]
    )
    before = scarce.raised
    assert scored(backend) == near(plenty)
    assert scarce.raised == before, "the smaller limit is kept"


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("caps", [{"cache": 400}, {"passes": ENOUGH}], ids=str)
def test_answers_are_those_of_enough_memory(tiny, monkeypatch, capsys, name, caps):
    use(name, monkeypatch)
    requests = requests_of(TransformersBackend(tiny))[:9]
    plenty = answers_of(TransformersBackend(tiny), requests)
    scarce = Scarce(monkeypatch, **caps)
    backend = TransformersBackend(tiny)
    seen = [pair for batch in backend.generate(requests) for pair in batch]
    assert dict(seen) == plenty and len(seen) == len(plenty), "each answer comes once"
    assert scarce.largest <= scarce.passes and scarce.largest_cache <= scarce.cache
    assert not scarce.leaked
    alone = name.startswith("single rows")
    assert bool(scarce.raised) is not alone
    lines = capsys.readouterr().err.splitlines()
    limit = backend.room.cache_tokens
    assert lines[-1:] == (
        []
        if alone
        else [f"out of memory: answers of at most {limit} tokens at a time from here on"]
    )
    before = scarce.raised
    assert answers_of(backend, requests) == plenty and scarce.raised == before


def test_memory_that_ends_while_rows_are_decoded_loses_no_answer(tiny, monkeypatch):
    """The rows of a padded cache grow: some answers have ended, the others begin again."""
    use("padded rows", monkeypatch)
    requests = requests_of(TransformersBackend(tiny))[:9]
    plenty = answers_of(TransformersBackend(tiny), requests)
    scarce = Scarce(monkeypatch)
    calls = []
    plain = decoding.Padded.step

    def step(self, ids):
        calls.append(len(ids))
        if len(calls) == 5:
            raise scarce.error
        return plain(self, ids)

    monkeypatch.setattr(decoding.Padded, "step", step)
    seen = [pair for batch in TransformersBackend(tiny).generate(requests) for pair in batch]
    assert dict(seen) == plenty and len(seen) == len(plenty)
    assert calls[4] < calls[0], "some had ended"


@pytest.mark.parametrize("name", ENGINES)
def test_what_does_not_fit_alone_is_one_line(tiny, monkeypatch, name):
    use(name, monkeypatch)
    backend = TransformersBackend(tiny)
    requests = requests_of(backend)[:3]
    engine.describe(tiny)  # its probes fit
    Scarce(monkeypatch, passes=TOO_LITTLE)
    with pytest.raises(HarnessError, match=r"out of memory: one request of .* does not fit") as one:
        scored(backend)
    assert one.value.hint == "try --load-in-4bit, --dtype bfloat16; what is stored stays"
    with pytest.raises(HarnessError, match=r"out of memory: one row of .* does not fit") as one:
        answers_of(backend, requests)
    assert one.value.hint.startswith("try --max-new-tokens")


OTHERS = [RuntimeError("CUDA error: device-side assert triggered"), ValueError("out of memory")]


@pytest.mark.parametrize("error", OTHERS, ids=str)
@pytest.mark.parametrize("name", ENGINES[:3])
def test_another_error_is_raised_at_once(tiny, monkeypatch, name, error):
    """Control: it is not retried in smaller passes."""
    use(name, monkeypatch)
    backend = TransformersBackend(tiny)
    requests = requests_of(backend)[:3]
    scarce = Scarce(monkeypatch, passes=ENOUGH, error=error)
    with pytest.raises(type(error)) as raised:
        scored(backend)
    assert str(raised.value) == str(error) and scarce.raised == 1
    scarce.passes = TOO_LITTLE
    with pytest.raises(type(error)) as raised:
        answers_of(backend, requests)
    assert str(raised.value) == str(error) and scarce.raised == 2


def test_a_probe_does_not_take_the_end_of_memory_for_a_wrong_engine(tiny, monkeypatch):
    Scarce(monkeypatch, passes=TOO_LITTLE)
    for ask in (probe.why_it_fails, probe.why_not_padded, probe.why_not_cached):
        with pytest.raises(HarnessError, match="a short text does not fit"):
            ask(tiny)


def test_the_base_below_an_adapter_shares_what_was_learnt_of_the_memory(tiny):
    tiny.adapter = "x"
    backend = TransformersBackend(tiny)
    base = base_of(backend)
    assert base is not None and base.room is backend.room


def test_eval_ends_in_one_line_and_goes_on_where_it_stopped(
    tiny_model, tmp_path, monkeypatch, capsys
):
    """Scores fit and are stored, answers do not; then only the answers are computed."""
    args = ["eval", str(tiny_model), "--formats", "chatml", "--limit", "2", "--max-new-tokens"]
    args += ["4", "--out", str(tmp_path / "out"), "--dtype", "float32"]

    def stored():
        with closing(sqlite3.connect(tmp_path / "out" / "results.sqlite")) as db:
            return db.execute("select count(*) from cell").fetchone()[0]

    with monkeypatch.context() as patched:
        Scarce(patched, cache=8)
        assert main(args) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "out of memory: one row of" in last and "--max-new-tokens" in last
    kept = stored()
    assert kept
    calls = []
    plain = TransformersBackend.score
    monkeypatch.setattr(
        TransformersBackend, "score", lambda self, some: calls.append(some) or plain(self, some)
    )
    assert main(args) == 0
    assert stored() > kept and not calls, "scores came from the file"


def test_half_precision_is_not_asked_for_where_it_is_there(tiny):
    from harness.backends.local.out_of_memory import nothing_fits

    tiny.dtype, tiny.device = "bfloat16", "cpu"
    assert nothing_fits(tiny, "x", "").hint == "try --load-in-4bit; what is stored stays"
