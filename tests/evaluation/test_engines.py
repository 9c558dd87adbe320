"""Which format is native, by the backend's tokenizer or by the template that a server says."""

from __future__ import annotations

import pytest

from harness.errors import HarnessError
from harness.evaluation import engines
from harness.evaluation.engines import opened_engine
from harness.evaluation.run import run_job
from harness.evaluation.settings import EvalJob
from harness.formats import load_formats
from harness.formats.exchange.exporting import export_format
from tests.scripted_backend import ScriptedBackend

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TYPO = CHATML.replace("<|im_end|>", "<|im_stop|>")


class Server(ScriptedBackend):
    tokenizer = None
    closed = False

    def __init__(self, template):
        super().__init__(lambda prompt: "x")
        self.chat_template = template

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    ("template", "native"),
    [(CHATML, "chatml"), (TYPO, "native"), ("{% if %}", None), ("", None), (None, None)],
)
def test_the_native_format_is_found_by_the_template_of_a_server(monkeypatch, template, native):
    server = Server(template)
    monkeypatch.setattr(engines, "open_backend", lambda name, model, options: server)
    with opened_engine(EvalJob("m"), None, load_formats()) as (backend, found):
        assert (backend, found) == (server, native) and not server.closed
    assert server.closed


def test_a_server_that_writes_the_date_of_the_day_has_no_format_of_a_certain_day(monkeypatch):
    """Llama 3.1 writes the day on which ours is rendered; only Llama 3.2 asks for it."""
    formats = load_formats()
    server = Server(export_format(formats["llama3.2"], "hf").text)
    monkeypatch.setattr(engines, "open_backend", lambda name, model, options: server)
    with opened_engine(EvalJob("m"), None, formats) as (_, found):
        assert found == "llama3.2"


def test_what_the_user_says_counts(monkeypatch):
    monkeypatch.setattr(engines, "open_backend", lambda name, model, options: Server(CHATML))
    with opened_engine(EvalJob("m", native="llama3"), None, load_formats()) as (_, found):
        assert found == "llama3"


def test_a_loaded_model_runs_here_and_its_tokenizer_decides(tiny, monkeypatch):
    monkeypatch.setattr(tiny.tokenizer, "chat_template", CHATML)
    with opened_engine(EvalJob("m", engine="ray"), tiny, load_formats()) as (backend, found):
        assert backend.loaded is tiny and found == "chatml"


@pytest.mark.parametrize(
    ("template", "given", "said"),
    [
        (None, None, "it has no chat template (a base model)"),
        ("{{ messages[0].content }}", None, "its chat template equals no known format"),
        (CHATML, None, ""),
        (None, "plain-user", ""),
    ],
)
def test_a_model_without_a_native_format_is_told_what_is_not_measured(
    tiny, monkeypatch, capsys, template, given, said
):
    monkeypatch.setattr(tiny.tokenizer, "chat_template", template)
    job = EvalJob("some/base", native=given)
    with opened_engine(job, tiny, load_formats()) as (_, found):
        assert (found is None) == bool(said)
    printed = capsys.readouterr().err
    assert said in printed and bool(printed) == bool(said)
    assert not said or ("some/base: " in printed and "--native FORMAT" in printed)


def test_the_native_format_alone_is_refused_where_there_is_none(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(tiny.tokenizer, "chat_template", None)
    job = EvalJob("m", formats=("native",), limit=1, out=tmp_path)
    with pytest.raises(HarnessError, match="the model has no native format") as refused:
        run_job(job, loaded=tiny, quiet=True)
    assert "--native FORMAT" in refused.value.hint
