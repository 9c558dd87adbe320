"""A model is trained and evaluated in its own chat template, which equals no format of ours."""

from __future__ import annotations

import json
import shutil

import pytest

from harness.cli.main import main
from tests.tiny import CHATML
from tests.training.small import ROWS, write_rows

#: ChatML with names of its own, and a thought that only the last answer keeps.
OWN = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '!\n' }}"
    "{% if message['role'] == 'assistant' and loop.last and message['reasoning_content'] %}"
    "{{ '<think>' + message['reasoning_content'] + '</think>' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant!\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def own_model(tiny_model, tmp_path_factory):
    """The tiny model with that template."""
    folder = tmp_path_factory.mktemp("own") / "model"
    shutil.copytree(tiny_model, folder)
    for file in ("chat_template.jinja", "tokenizer_config.json"):
        if (folder / file).exists():
            text = (folder / file).read_text()
            facts = (
                OWN if file.endswith("jinja") else text.replace(json.dumps(CHATML), json.dumps(OWN))
            )
            (folder / file).write_text(facts)
    return folder


@pytest.mark.parametrize("named", ["native", "file"])
def test_a_run_in_the_models_own_template(own_model, tmp_path, capsys, named):
    """By the name ``native``, and as a file that is no format of ours but anybody's template."""
    (tmp_path / "own.jinja").write_text(OWN)
    name = "native" if named == "native" else str(tmp_path / "own.jinja")
    config = tmp_path / "run.toml"
    config.write_text(
        f'model = "{own_model}"\noutput_dir = "{tmp_path / "run"}"\n'
        f"[formats]\ntrain = [{json.dumps(name)}]\n"
        f'[data]\ntrain = ["{write_rows(tmp_path, ROWS)}"]\ncontrols = 0\n'
        "[optimisation]\nnum_train_epochs = 1\n[evaluation]\nreferences = 0\nrecall_rows = 0\n"
    )
    assert main(["train", str(config), "--dry-run"]) == 0
    assert main(["train", str(config)]) == 0
    out = capsys.readouterr()
    assert "adapter" in out.out + out.err
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["config"]["formats"]["train"] == [name]


def test_an_evaluation_in_the_models_own_template(own_model, tmp_path, capsys):
    command = ["eval", str(own_model), "--formats", "chatml", "--limit", "2", "--out"]
    assert main([*command, str(tmp_path / "out")]) in (0, 1)
    captured = capsys.readouterr()
    assert "equals no known format" not in captured.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    formats = {each["id"]: each["example"][0][0] for each in report["formats"]}
    assert formats == {"native": "<|im_start|>user!\n", "chatml": "<|im_start|>user\n"}
