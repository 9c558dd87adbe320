"""The checks of a GGUF file and of a running server, in llama.cpp itself (PyPI xllamacpp)."""

from __future__ import annotations

import pytest

from harness.conversation import Conversation, Message
from harness.formats import load_formats
from harness.models import load_tokenizer, locate
from harness.ship.checks.runtime_checks import check_gguf, check_modelfile, check_server
from harness.ship.checks.server_pages import ServerPages
from harness.ship.checks.trained_texts import trained_texts
from harness.training.share.export import chat_template
from tests.peers.test_llama_cpp import LlamaServer, gguf
from tests.ship.artefacts import ROWS, kinds, write_modelfile
from tests.tiny_gguf import write_gguf

pytestmark = pytest.mark.peers
pytest.importorskip("xllamacpp")
FORMATS = load_formats()


@pytest.fixture(scope="module")
def written(tiny_model, tmp_path_factory):
    """A GGUF file of the tiny model in a format, with its metadata changed in place."""
    from transformers import AutoTokenizer

    base = AutoTokenizer.from_pretrained(tiny_model)

    def write(format_id, **changes):
        import shutil

        import gguf as library

        place = tmp_path_factory.mktemp("gguf")
        folder = shutil.copytree(tiny_model, place / "model")
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        tokenizer.chat_template = changes.pop("template", str)(
            chat_template(FORMATS[format_id], base)
        )
        tokenizer.save_pretrained(folder)
        file = write_gguf(folder, place / "tiny.gguf")
        reader = library.GGUFReader(file, "r+")
        for key, (index, value) in changes.items():
            field = reader.fields[f"tokenizer.ggml.{key}"]
            field.parts[field.data[index]][0] = value
        reader.data.flush()
        return file, trained_texts(FORMATS[format_id], base, ROWS)

    return write


@pytest.mark.parametrize(
    "format_id", ["chatml", "qwen2.5", "qwen3", "hermes", "vicuna-v1.1", "llama2-chat", "zephyr"]
)
def test_a_sound_file(written, format_id):
    file, trained = written(format_id)
    checks = check_gguf(file, trained, stops=FORMATS[format_id].stops)
    assert kinds(checks) == set(), [str(one) for check in checks for one in check.findings]
    assert {check.state for check in checks} == {"equal"}
    assert "llama.cpp's own server" in checks[0].reason and "forced" in checks[2].reason


@pytest.mark.parametrize("kind", ["unexpected-bos", "other-template", "spacing"])
def test_a_fault_of_texts_and_ids(written, kind):
    changes = {
        "unexpected-bos": {"add_bos_token": (0, True)},
        "other-template": {"template": lambda ours: "{{ messages[0].content }} ->"},
        "spacing": {"template": lambda ours: ours.replace("<|im_end|>\\n", "<|im_end|>")},
    }
    file, trained = written("chatml", **changes[kind])
    checks = check_gguf(file, trained)
    assert kinds(checks) == {kind}, [str(one) for check in checks for one in check.findings]


def test_a_mark_that_is_no_control_token_ends_nothing(written):
    """llama.cpp repairs the type of an end of turn that it knows by its text; the file is named."""
    file, trained = written("chatml", token_type=(1, 1))
    found = kinds(check_gguf(file, trained))
    assert "special-as-text" in found, found


def test_an_end_that_llama_cpp_does_not_know(written):
    """``<|endoftext|>`` and ``<|im_end|>`` end an answer whatever EOS is; ``<|im_start|>`` is EOS."""
    file, trained = written("chatml", eos_token_id=(0, 1))
    stops = next(check for check in check_gguf(file, trained) if check.check == "stops")
    assert stops.state == "equal", "llama.cpp knows <|im_end|> by its text"
    assert kinds(check_gguf(file, trained, engine="")) == set()


def test_a_stop_that_is_plain_text(written):
    file, trained = written("dolly-v2")
    assert trained.tails == ("### End",)
    assert kinds(check_gguf(file, trained, stops=("### End",))) == set()
    assert kinds(check_gguf(file, trained, stops=())) == {"missing-stop"}


def test_a_template_with_a_date(written):
    """llama.cpp writes today's date: it is compared with the trained one taken for it."""
    file, trained = written("smollm3")
    texts, ids, *_ = check_gguf(file, trained)
    assert texts.state == "equal"
    assert (ids.state, ids.reason) == ("not checked", "the template writes the date")


def test_ids_of_a_modelfile(written, tmp_path):
    file, trained = written("chatml")
    modelfile = write_modelfile(tmp_path / "Modelfile", "chatml")
    checks = check_modelfile(modelfile, trained, gguf=file)
    assert {check.state for check in checks} == {"equal"}
    double, _ = written("chatml", add_bos_token=(0, True))
    found = check_modelfile(modelfile, trained, gguf=double)
    assert kinds(found) == {"unexpected-bos"}


def test_a_running_server_with_smollm2():
    tokenizer = load_tokenizer(locate("SmolLM2-135M-Instruct"))
    turns = (Message("user", "Norway's capital?"), Message("assistant", "Oslo."))
    rows = [Conversation("rows:1", (*turns, *turns))]
    server = LlamaServer()
    try:
        server.wait()
        pages = ServerPages(server.url)
        sound = check_server(pages, trained_texts(FORMATS["smollm2"], tokenizer, rows))
        other = check_server(pages, trained_texts(FORMATS["zephyr"], tokenizer, rows))
    finally:
        server.kill()
    states = [check.state for check in sound]
    assert states == ["equal", "equal", "not checked", "equal", "equal"], sound
    assert kinds(other) == {"other-template"}
    assert gguf().endswith(".gguf")
