"""The results file: refusals, stale results, kills, and two evaluators that share one file."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest

from harness.conversation import Message
from harness.errors import HarnessError
from harness.evaluation.execute import FIRST_CLAIM, execute, read_results
from harness.evaluation.requests import RequestBuilder
from harness.evaluation.run import evaluate
from harness.evaluation.settings import EvalSettings
from harness.evaluation.store.cache_report import NEW, REUSED, count_reuse, describe_reuse
from harness.evaluation.store.claims import Claims
from harness.evaluation.store.database import APPLICATION_ID, SCHEMA_VERSION, connect_to_read
from harness.evaluation.store.results_file import Store
from tests.device import chosen_device
from tests.patience import HANG_S, eventually
from tests.scripted_backend import ScriptedBackend

GROUPS = {"chatml": "native", "alpaca-newline": "seen", "llama3": "held-out"}


class Named(ScriptedBackend):
    """A scripted engine with some part of its fingerprint changed."""

    def __init__(self, **changes):
        super().__init__(lambda prompt: f"A dog of {len(prompt.text)}.</s>")
        self.changes = changes

    @property
    def fingerprint(self):
        return {**super().fingerprint, "tokenizer": "t", **self.changes}


def plan(cases, formats, backend=None, max_new_tokens=8):
    return RequestBuilder(backend or Named(), max_new_tokens).build(cases, formats)


def rows(path):
    with closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT key, payload FROM cell"))


def at(tmp_path):
    return tmp_path / "r.sqlite"


# other files


def test_a_newer_file_is_refused_and_left_alone(tmp_path):
    Store(at(tmp_path)).db.close()
    with closing(sqlite3.connect(at(tmp_path), isolation_level=None)) as db:
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    with pytest.raises(HarnessError, match="newer version") as caught:
        Store(at(tmp_path))
    assert "--out" in caught.value.hint
    with pytest.raises(HarnessError, match="newer version") as caught:
        connect_to_read(at(tmp_path))
    assert caught.value.hint == "upgrade formatproof", "a reader has no --out to choose"
    with closing(sqlite3.connect(at(tmp_path), isolation_level=None)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION + 1


def test_an_older_file_is_refused_with_a_next_step(tmp_path):
    with closing(sqlite3.connect(at(tmp_path), isolation_level=None)) as db:
        db.execute("CREATE TABLE result (key TEXT PRIMARY KEY, payload TEXT)")
        db.execute("PRAGMA user_version=1")
    with pytest.raises(HarnessError, match=r"older version.*tokenizer") as caught:
        Store(at(tmp_path))
    assert "move the file away" in caught.value.hint
    with pytest.raises(HarnessError, match="older version") as caught:
        connect_to_read(at(tmp_path))
    assert caught.value.hint == "harness eval writes results.sqlite"


@pytest.mark.parametrize("made", ["text", "another database"])
def test_other_files_are_refused(tmp_path, made):
    if made == "text":
        at(tmp_path).write_text("not a database, but long enough to be looked at as one" * 20)
    else:
        with closing(sqlite3.connect(at(tmp_path), isolation_level=None)) as db:
            db.execute("CREATE TABLE notes (text)")
    with pytest.raises(HarnessError, match="not"):
        Store(at(tmp_path))


def test_the_file_keeps_its_own_rules(tmp_path, cases, formats):
    with Store(at(tmp_path)) as store:
        execute(plan(cases, formats), Named(), store, quiet=True)
        assert store.select("PRAGMA journal_mode") == [("wal",)] and store.select(
            "PRAGMA foreign_keys"
        ) == [(1,)]
        assert (
            store.select("PRAGMA application_id") == [(APPLICATION_ID,)]
            and store.select("PRAGMA foreign_key_check") == []
        )
        with pytest.raises(HarnessError, match="FOREIGN KEY"), store.writing():
            store.db.execute("INSERT INTO cell VALUES (NULL, 'k', 99, 1, 1, 1, 'answer', 0, '{}')")


def test_the_parts_of_an_address_can_be_asked_for(tmp_path, cases, formats):
    requests = plan(cases, formats)
    with Store(at(tmp_path)) as store:
        execute(
            requests, Named(adapter="a1"), store, quiet=True
        )  # the engine of the requests counts, which has no adapter
        found = store.select(
            """SELECT engine.tokenizer, engine.adapter, format.name, format.digest, item.name,
            item.kind, probe, settings.facts FROM cell JOIN engine ON engine.id = cell.engine
            JOIN format ON format.id = cell.format JOIN item ON item.id = cell.item
            JOIN settings ON settings.id = cell.settings"""
        )
    expected = Counter(
        ("t", "", w.format, w.format_digest, w.case, w.kind, w.request_type, w.settings)
        for w in requests
    )
    assert Counter(found) == expected
    answer = next(json.loads(row[-1]) for row in found if row[6] == "answer")
    assert answer["max_new_tokens"] == 8 and "stops" in answer


def test_a_batch_that_fails_half_way_leaves_nothing(tmp_path, cases, formats):
    requests = plan(cases, formats)
    with Store(at(tmp_path)) as store:
        with pytest.raises(TypeError):
            store.put([(requests[0], {"text": "kept?"}), (requests[1], {"text": object()})])
        assert store.missing(item.key for item in requests) == {item.key for item in requests}
        store.put([(requests[0], {"text": "kept"})])
        store.put([(requests[0], {"text": "too late"})])
        assert store.get([requests[0].key]) == {requests[0].key: '{"text": "kept"}'}


# stale results

CHANGES = {
    "nothing": 0,
    "model": 15,
    "adapter": 15,
    "tokenizer": 15,
    "dtype": 15,
    "backend": 15,
    "device": 15,
    "quantisation": 15,
    "engine_version": 15,
    "engine": 15,
    "template": 5,
    "stops": 2,
    "generation settings": 6,
    "text of the case": 3,
    "language": 6,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_reuses_no_stale_cell_and_says_why(tmp_path, cases, formats, change):
    """15 cells: five cases in three formats. Each part of the address is changed alone."""
    with Store(at(tmp_path)) as store:
        assert execute(plan(cases, formats), Named(), store, quiet=True) == 15
    backend, tokens, why = Named(), 8, "settings"
    if CHANGES[change] == 15:
        backend, why = Named(**{change: "another"}), change.replace("_", " ")
    elif change == "template":
        formats, why = (
            [
                replace(formats[0], template=formats[0].template + " ", digest="sha256:new"),
                *formats[1:],
            ],
            "template",
        )
    elif change == "stops":
        formats = [replace(formats[0], stops=("###",)), *formats[1:]]
    elif change == "generation settings":
        tokens = 9
    elif change == "text of the case":
        cases, why = (
            [
                replace(cases[0], messages=(Message("user", "Capital of Norway, please?"),)),
                *cases[1:],
            ],
            "text of the case",
        )
    elif change == "language":
        cases, why = (
            [replace(case, expect_language="de") if case.checks else case for case in cases],
            "text of the case, another settings",
        )
    requests = plan(cases, formats, backend, tokens)
    with Store(at(tmp_path)) as store:
        told = Counter({row.why: 0 for row in count_reuse(requests, store)})
        for row in count_reuse(requests, store):
            told[row.why] += row.cells
        assert told == {
            reason: n
            for reason, n in ((REUSED, 15 - CHANGES[change]), (f"another {why}", CHANGES[change]))
            if n
        }
        assert execute(requests, backend, store, quiet=True) == CHANGES[change] == backend.asked
        assert execute(requests, backend, store, quiet=True) == 0


def test_the_tokenizer_of_a_real_model_is_part_of_the_address(tiny):
    from harness.backends.local.backend import TransformersBackend

    before = TransformersBackend(tiny).fingerprint
    again = replace(tiny)
    assert TransformersBackend(again).fingerprint == before
    again.tokenizer.backend_tokenizer.enable_truncation(max_length=7)
    assert TransformersBackend(replace(tiny)).fingerprint == before, (
        "what a call leaves behind is no property"
    )
    again.tokenizer.add_tokens(["<tool>"])
    changed = TransformersBackend(replace(tiny)).fingerprint
    assert changed["tokenizer"] != before["tokenizer"] and {**changed, "tokenizer": ""} == {
        **before,
        "tokenizer": "",
    }


@pytest.mark.parametrize("change", ["dtype", "model", "adapter"])
def test_a_real_models_weights_dtype_and_adapter_are_part_of_the_address(
    tiny_model, tiny, tmp_path, change
):
    from harness.backends.local.backend import TransformersBackend
    from harness.models import load

    shutil.copytree(tiny_model, tmp_path / "copy")
    adapter = None
    if change == "model":
        weights = tmp_path / "copy" / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    if change == "adapter":
        adapter = tmp_path / "adapter"
        from peft import LoraConfig, get_peft_model

        base = load(str(tiny_model), dtype="float32", device=chosen_device())
        get_peft_model(base.model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(
            adapter
        )
    other = load(
        str(tmp_path / "copy"),
        adapter=adapter and str(adapter),
        dtype="bfloat16" if change == "dtype" else "float32",
        device=chosen_device(),
    )
    before, after = TransformersBackend(tiny).fingerprint, TransformersBackend(other).fingerprint
    assert {name for name in before if before[name] != after[name]} == {change}


def test_a_hub_models_commit_is_part_of_the_address(tiny):
    from harness.models import ModelSource

    source = ModelSource("name", "owner/name", None, "hub:owner/name")
    assert replace(tiny, source=source, commit="abc").digest == "hub:owner/name@abc"
    assert replace(tiny, source=source, commit="def").digest == "hub:owner/name@def"


def test_the_reasons_are_printed(tmp_path, cases, formats, capsys):
    with Store(at(tmp_path)) as store:
        execute(plan(cases[:2], formats[:1]), Named(), store, quiet=True)
        capsys.readouterr()
        other = Named(adapter="b")
        execute(plan(cases, formats, other), other, store, quiet=True, verbose=True)
        lines = capsys.readouterr().err.splitlines()
        assert lines[:2] == [
            "evaluate: scripted",
            "evaluate: 0 of 15 cells come from the store",
        ]
        assert "evaluate:   choice         2 to compute: another adapter (chatml)" in lines
        assert f"evaluate:   choice         4 to compute: {NEW} (alpaca-newline, llama3)" in lines
        execute(plan(cases, formats, other), other, store, quiet=True, verbose=True)
        assert (
            capsys.readouterr().err.splitlines()[1]
            == "evaluate: 15 of 15 cells come from the store"
        )
    many = [replace(formats[0], id=f"f{n}") for n in range(6)]
    with Store(tmp_path / "other.sqlite") as store:
        assert any(
            "f3 and 2 more formats" in line
            for line in describe_reuse(count_reuse(plan(cases, many), store))
        )


def test_scores_of_the_last_evaluation_are_kept(tmp_path, cases, formats):
    for _ in range(2):
        with Store(at(tmp_path)) as store:
            found = evaluate(
                Named(), cases, formats, GROUPS, "chatml", store, EvalSettings(), quiet=True
            )
            kept = store.select(
                """SELECT item.name, format.name, metric.name, value, why
                FROM score JOIN item ON item.id = score.item
                JOIN format ON format.id = score.format JOIN metric ON metric.id = score.metric"""
            )
    assert Counter(kept) == Counter(
        (s.case, s.format, s.metric, s.value, s.why) for s in found.scores
    )


# kills, and several evaluators

WORKER = """
import functools, json, math, os, sys, threading, time
from pathlib import Path
from tests.scripted_backend import ScriptedBackend
from harness.evaluation import execute
from harness.evaluation.cases.case_files import parse_case
from harness.evaluation.store.results_file import Store
from harness.evaluation.requests import RequestBuilder
from harness.formats import load_formats

path, log, cells, pause, most, meeting, count = json.loads(sys.argv[1])
replied = 0

def reply(prompt):
    global replied
    if meeting and not replied:
        (Path(meeting) / str(os.getpid())).touch()
        while len(list(Path(meeting).iterdir())) < count:
            time.sleep(0.002)
    if replied == most:
        threading.Event().wait()
    replied += 1
    time.sleep(pause)
    with Path(log).open("a") as out:
        out.write(prompt.format + " " + prompt.text.split("§")[1] + "\\n")
    return f"Answer of {len(prompt.text)}.</s>"

execute.Claims = functools.partial(execute.Claims, lease=math.inf)
texts = [f"Number §{n}§ " + "word " * (n % 7) for n in range(cells // 2)]
rest = {"checks": [{"contains": "x"}]}
cases = [
    parse_case({"id": f"q{n}", "messages": [{"role": "user", "content": text}], **rest}, "t")
    for n, text in enumerate(texts)
]
backend = ScriptedBackend(reply)
formats = load_formats().select(["chatml", "alpaca-newline"])
requests = RequestBuilder(backend, 8).build(cases, formats)
with Store(Path(path)) as store:
    print("ready", flush=True)
    print("computed", execute.execute(requests, backend, store, quiet=True), flush=True)
"""


class Evaluator:
    """A process that evaluates a scripted engine in batches of one and logs a line for each.

    Its leases never end. It stops before cell number ``most``, so that it is alive until it is
    killed. At a ``meeting`` the first cells of all ``count`` evaluators wait for each other.
    """

    def __init__(self, path, log, cells, pause=0.0, *, most=-1, meeting=None, count=2):
        order = json.dumps([str(path), str(log), cells, pause, most, str(meeting or ""), count])
        log.touch()
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, order], stdout=subprocess.PIPE, text=True
        )

    @property
    def lines(self):
        return self.log.read_text().splitlines()

    def ready(self):
        assert self.process.stdout.readline() == "ready\n"

    def kill(self):
        assert self.process.poll() is None, "it ended before it was killed: the kill proves nothing"
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def computed(self):
        """How many cells it computed, once it has ended."""
        return int(self.process.communicate(timeout=HANG_S)[0].split()[-1])


@pytest.fixture
def start():
    """Starts evaluators; those that still run at the end are ended."""
    with ExitStack() as stack:

        def begin(*args, **options):
            worker = Evaluator(*args, **options)
            stack.enter_context(worker.process)
            stack.callback(worker.process.kill)
            return worker

        yield begin


@pytest.fixture
def meeting(tmp_path):
    folder = tmp_path / "meeting"
    folder.mkdir()
    return folder


def test_a_kill_at_any_moment_loses_at_most_the_current_batch(tmp_path, start):
    """Twelve kills at random moments, start-up and transactions included, with batches of one."""
    cells, kills, each, random_ = 1200, 12, 90, random.Random(5)
    for number in range(1, kills + 1):
        worker = start(at(tmp_path), tmp_path / "log", cells, 0.001, most=each)
        if number % 3:  # while it computes: after so many cells, and somewhere in one
            before, some = len(worker.lines), random_.randint(0, each // 2)
            worker.ready()
            eventually(lambda: len(worker.lines) - before >= some)  # noqa: B023  # called here
            time.sleep(random_.uniform(0.0, 0.004))
        else:  # while it starts
            time.sleep(random_.uniform(0.0, 0.5))
        worker.kill()
        computed = len(worker.lines)
        stored = len(rows(at(tmp_path))) if computed else 0  # before, the file may not be there
        assert computed - stored <= number
    assert 0 < stored < cells
    last = start(at(tmp_path), tmp_path / "log", cells)
    assert last.computed() == cells - stored, "only what was missing"
    start(tmp_path / "whole.sqlite", tmp_path / "log2", cells).computed()
    assert (
        rows(at(tmp_path)) == rows(tmp_path / "whole.sqlite") and len(rows(at(tmp_path))) == cells
    )
    counts = Counter(last.lines)
    assert len(counts) == cells and sum(counts.values()) - cells <= kills


def test_two_evaluators_share_the_work_and_compute_nothing_twice(tmp_path, meeting, start):
    cells = 400
    workers = [
        start(at(tmp_path), tmp_path / f"log{n}", cells, 0.002, meeting=meeting) for n in range(2)
    ]
    computed = [worker.computed() for worker in workers]
    assert sum(computed) == cells == len(rows(at(tmp_path)))
    assert min(computed) >= FIRST_CLAIM, "the first to come left enough to the second"
    assert set(Counter(line for worker in workers for line in worker.lines).values()) == {1}


def test_the_claims_of_a_killed_evaluator_are_computed_by_the_other(tmp_path, meeting, start):
    """A dead process is seen at once: nobody waits for the lease, which never ends here."""
    cells, some = 300, 20
    killed, other = (
        start(at(tmp_path), tmp_path / f"log{most}", cells, most=most, meeting=meeting)
        for most in (some, -1)
    )
    eventually(lambda: len(killed.lines) == some)
    killed.kill()
    assert other.computed() - (cells - some) in (0, 1), (
        "what the first had claimed, and at most one that it computed and did not store"
    )
    assert len(rows(at(tmp_path))) == cells == len({*killed.lines, *other.lines})


@pytest.mark.parametrize("hours", [-1, 0, 1, 100_000], ids="{} h ahead".format)
def test_a_claim_is_refused_to_others_until_its_lease_ends(tmp_path, cases, formats, hours):
    """By the clock of the one who waits: that of the other machine may be wrong by any time."""
    keys = [item.key for item in plan(cases, formats)]
    with (
        Store(at(tmp_path)) as store,
        Store(at(tmp_path)) as other_store,
        Claims(store, beat=60) as first,
        Claims(other_store, beat=60, lease=0.5) as second,
    ):
        assert first.take(keys, 9).mine == keys[:8], "with another at work, no more than a part"
        with store.writing():  # the first is on another machine, and is not heard of again
            store.db.execute(
                "UPDATE evaluator SET machine = 'elsewhere', heartbeat = heartbeat + ?"
                " WHERE id = ?",
                (3600 * hours, first.id),
            )
        assert second.take(keys, 99).mine == keys[8:]
        assert second.take(keys, 99).mine == []
        time.sleep(0.6)
        assert second.take(keys, 99).mine == keys[:8]
        assert first.take(keys, 99).mine == [], "it comes back, and its claims are another's now"
    with Store(at(tmp_path)) as store:
        assert store.select("SELECT * FROM claim") == store.select("SELECT * FROM evaluator") == []


def test_a_long_batch_keeps_its_claim_by_the_heartbeat(tmp_path, cases, formats):
    keys = [item.key for item in plan(cases, formats)]
    with (
        Store(at(tmp_path)) as store,
        Store(at(tmp_path)) as other,
        Claims(store, beat=0.05) as first,
        Claims(other, beat=60, lease=1.0) as second,
    ):
        mine = first.take(keys, 99).mine
        with store.writing():  # on another machine, whose clock may say anything
            store.db.execute("UPDATE evaluator SET machine = 'elsewhere' WHERE id = ?", (first.id,))
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            assert not set(second.take(keys, 99).mine) & set(mine)
            second.release(keys)
            time.sleep(0.1)


def test_an_engine_that_fails_releases_its_claims(tmp_path, cases, formats):
    class Failing(Named):
        def generate(self, requests):
            yield from super().generate(requests[:2])
            raise HarnessError("the engine is gone")

    requests = plan(cases, formats)
    with Store(at(tmp_path)) as store:
        with pytest.raises(HarnessError, match="gone"):
            execute(requests, Failing(), store, quiet=True)
        assert (
            store.select("SELECT count(*) FROM claim") == [(0,)] and len(rows(at(tmp_path))) == 11
        )
        assert execute(requests, Named(), store, quiet=True) == 4
        assert len(read_results(requests, store).answers) == 6


def test_an_engine_that_leaves_something_out_is_not_asked_for_ever(tmp_path, cases, formats):
    class Silent(Named):
        def score(self, requests):
            yield from super().score(requests[1:])

    with Store(at(tmp_path)) as store:
        assert execute(plan(cases, formats), Silent(), store, quiet=True) == 14


def test_what_ends_an_answer_is_part_of_the_address(tiny):
    """A generation_config.json that is mended changes the answers, and no other file."""
    from harness.backends.local.backend import TransformersBackend

    before = TransformersBackend(tiny).fingerprint
    configured = tiny.model.generation_config.eos_token_id
    try:
        tiny.model.generation_config.eos_token_id = [tiny.tokenizer.eos_token_id, 5]
        after = TransformersBackend(tiny).fingerprint
    finally:
        tiny.model.generation_config.eos_token_id = configured
    assert after != before and {**after, "eos": ""} == {**before, "eos": ""}
