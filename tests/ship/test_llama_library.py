"""The checks of a GGUF file with llama-cpp-python: our engine renders, llama.cpp tokenises."""

from __future__ import annotations

import pytest

pytest.importorskip("llama_cpp")

from harness.errors import HarnessError
from harness.ship.checks.llamacpp.llama_engines import LIBRARY, Vocabulary, pick_engine
from harness.ship.checks.runtime_checks import check_gguf, check_modelfile
from tests.ship.artefacts import kinds, tokenizer_of, trained_in, write_modelfile
from tests.tiny_gguf import write_gguf

pytestmark = pytest.mark.extras


@pytest.fixture
def file(tiny_model, tmp_path):
    return write_gguf(tiny_model, tmp_path / "tiny.gguf")


def test_a_sound_file_and_a_modelfile(file, tmp_path):
    checks = check_gguf(file, trained_in("chatml"), engine=LIBRARY)
    assert {check.state for check in checks} == {"equal"}, checks
    assert "which tokenises it" in checks[0].reason and "list of ends" in checks[2].reason
    modelfile = write_modelfile(tmp_path / "Modelfile", "chatml")
    checks = check_modelfile(modelfile, trained_in("chatml"), gguf=file, engine=LIBRARY)
    assert {check.state for check in checks} == {"equal"}, checks


@pytest.mark.parametrize(
    ("key", "index", "value", "kind"),
    [("add_bos_token", 0, True, "unexpected-bos"), ("token_type", 1, 1, "special-as-text")],
)
def test_a_fault(file, key, index, value, kind):
    import gguf

    reader = gguf.GGUFReader(file, "r+")
    field = reader.fields[f"tokenizer.ggml.{key}"]
    field.parts[field.data[index]][0] = value
    reader.data.flush()
    checks = check_gguf(file, trained_in("chatml"), engine=LIBRARY)
    assert kinds(checks) == {kind}, [str(one) for check in checks for one in check.findings]


def test_ends_are_those_that_llama_cpp_knows(file):
    vocabulary = Vocabulary(file)
    assert [one for one in range(5) if vocabulary.ends(one)] == [0, 2]
    assert vocabulary.tokenise("<|im_end|>x")[0] == tokenizer_of("bytes").eos_token_id
    vocabulary.close()


def test_a_damaged_file_is_one_line(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with pytest.raises(HarnessError, match=r"llama\.cpp cannot load the file"):
        Vocabulary(tmp_path / "bad.gguf")


def test_the_engine_is_the_best_one_installed(monkeypatch):
    def installed(*names):
        monkeypatch.setattr(
            "harness.ship.checks.llamacpp.llama_engines.is_installed", lambda name: name in names
        )

    installed("xllamacpp", "llama_cpp")
    assert pick_engine(None) == "xllamacpp" and pick_engine("") == ""
    installed("llama_cpp")
    assert pick_engine(None) == "llama_cpp"
    installed()
    assert pick_engine(None) == ""
