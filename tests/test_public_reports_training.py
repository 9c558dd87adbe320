"""Public reports of runs that train the wrong thing, each as a case: planted, and a control.

axolotl#3754 and trl#7230 (the end of a turn is masked), open-r1#462 and llama.cpp#7107 (two BOS),
trl#6668 and happy-llm#50 (the loss is NaN and the run looks successful).
"""

from __future__ import annotations

import json

import pytest

from harness.cli.main import main
from harness.formats import load_formats

pytestmark = pytest.mark.local
GOOD = load_formats()["smollm2"].template
ROWS = [
    {"messages": [{"role": "user", "content": f"Name {n}."}, {"role": "assistant", "content": w}]}
    for n, w in enumerate(("wren", "oak", "pike", "opal", "zinc", "fern"))
]


@pytest.fixture
def dry_run(tmp_path, tiny_model, capsys):
    """Dry-run a training in one format made of this template; the exit code and the JSON."""
    rows = tmp_path / "few.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def run(template, *options):
        (tmp_path / "f").mkdir(exist_ok=True)
        front = '{#---\nfamily = "mine"\nsystem = "own"\nstops = ["<|im_end|>"]\n---#}\n'
        (tmp_path / "f" / "mine.jinja").write_text(front + template)
        settings = tmp_path / "run.toml"
        settings.write_text(
            f'model = "{tiny_model}"\noutput_dir = "{tmp_path / "run"}"\n'
            f'[formats]\ntrain = ["mine"]\nformats_dir = ["{tmp_path / "f"}"]\n'
            f'[data]\ntrain = ["{rows}"]\n'
        )
        arguments = ["train", str(settings), "--dry-run", "--json", *options]
        code = main(arguments)
        return code, capsys.readouterr()

    return run


def findings(output):
    return json.loads(output.out)["findings"]


#: ChatML in a few words, with a place for a fault in front and for the stop inside the block.
CHATML = (
    "{{ FIRST }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content + INSIDE }}{% endgeneration %}"
    "{{ OUTSIDE }}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def chatml(first="''", inside="'<|im_end|>'", outside="''"):
    return CHATML.replace("FIRST", first).replace("INSIDE", inside).replace("OUTSIDE", outside)


def test_axolotl_3754_and_trl_7230_a_stop_that_is_not_trained(dry_run):
    code, output = dry_run(chatml(inside="''", outside="'<|im_end|>'"))
    assert code == 0 and "never learns to end" in " ".join(findings(output)["mine"])
    assert findings(dry_run(chatml())[1]) == {}


def test_open_r1_462_two_bos(dry_run):
    code, output = dry_run(chatml("'<|endoftext|><|endoftext|>'"))
    assert code == 0 and "two BOS" in " ".join(findings(output)["mine"])
    assert findings(dry_run(chatml("'<|endoftext|>'"))[1]) == {}


def test_a_prompt_that_the_training_text_does_not_begin_with(dry_run):
    other = chatml().replace(
        "'<|im_start|>assistant\n' }}{% endif %}", "'<|im_start|>bot\n' }}{% endif %}"
    )
    assert "not a prefix" in " ".join(findings(dry_run(other)[1])["mine"])


def test_a_template_that_trains_nothing_is_blamed_and_not_the_rows(dry_run):
    bare = chatml().replace("{% generation %}", "").replace("{% endgeneration %}", "")
    code, output = dry_run(bare)
    assert code == 2
    assert "format" in output.err and "no assistant turn" not in output.err


def test_thoughts_that_a_format_leaves_out_are_counted(tmp_path, tiny_model, capsys):
    rows = tmp_path / "r.jsonl"
    turns = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello.", "reasoning_content": "A greeting."},
        {"role": "user", "content": "Bye."},
        {"role": "assistant", "content": "Bye.", "reasoning_content": "A farewell."},
    ]
    rows.write_text("".join(json.dumps({"messages": turns, "id": n}) + "\n" for n in range(3)))
    settings = tmp_path / "run.toml"
    settings.write_text(
        f'model = "{tiny_model}"\noutput_dir = "{tmp_path / "run"}"\n'
        '[formats]\ntrain = ["qwen3", "zephyr"]\nmixing = "all"\n'
        f'[data]\ntrain = ["{rows}"]\n'
    )
    assert main(["train", str(settings), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "3 of 6 thoughts are not trained in qwen3: earlier turns" in out
    assert "6 of 6 thoughts are not trained in zephyr: the format has no place for them" in out
    assert "thoughts " in next(line for line in out.splitlines() if line.startswith("format qwen3"))
