"""Tool data and thinking data train, evaluate, gate and export on the real SmolLM2-135M-Instruct."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.cli.main import main
from harness.gate.messages import describe
from harness.gate.run_gate import GateOptions, run_gate, write_results
from harness.run_file import read_metrics
from harness.training.config import parse_config
from harness.training.start import train

pytestmark = pytest.mark.slow
MODEL = "SmolLM2-135M-Instruct"
STEPS = 14
WEIGH = {
    "type": "function",
    "function": {
        "name": "weigh",
        "description": "The weight of a parcel.",
        "parameters": {"type": "object", "properties": {"parcel": {"type": "integer"}}},
    },
}


def tool_row(number: int) -> dict:
    """A question, a call, its result, and an answer."""
    call = {"name": "weigh", "arguments": {"parcel": number}}
    weight = f"{number % 7 + 1} kg"
    return {
        "id": f"tool-{number}",
        "tools": [WEIGH],
        "messages": [
            {"role": "user", "content": f"What does parcel {number} weigh?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"type": "function", "function": call}],
            },
            {"role": "tool", "content": weight},
            {"role": "assistant", "content": f"Parcel {number} weighs {weight}."},
        ],
    }


def thinking_row(number: int) -> dict:
    """A question, a thought, and an answer."""
    half, rest = divmod(number, 2)
    thought = f"{number} = 2 * {half} + {rest}, so {rest} is left over."
    return {
        "id": f"thought-{number}",
        "messages": [
            {"role": "user", "content": f"Is {number} odd?"},
            {
                "role": "assistant",
                "content": "Yes." if rest else "No.",
                "reasoning_content": thought,
            },
        ],
    }


ROWS = {"tools": tool_row, "thoughts": thinking_row}


def tool_case(number: int) -> dict:
    """The question of a tool row, which a call answers."""
    row = tool_row(number)
    call = {"name": "weigh", "arguments": {"parcel": number}}
    return {**row, "messages": row["messages"][:1], "checks": [{"calls": [call]}]}


def thinking_case(number: int) -> dict:
    """The question of a thinking row."""
    row = thinking_row(number)
    answer = row["messages"][1]["content"]
    checks = [{"contains": answer.strip(".")}]
    return {**row, "messages": row["messages"][:1], "checks": checks, "thinking": True}


CASES = {"tools": tool_case, "thoughts": thinking_case}


def failures(folder, kind, adapter, other=None):
    """What the gate fails: another adapter, or the base, against the baseline of an adapter."""
    cases = folder / f"{kind}-cases.jsonl"
    cases.write_text("".join(json.dumps(CASES[kind](n)) + "\n" for n in range(100, 116)))
    options = GateOptions(
        MODEL,
        adapter=str(adapter / "adapter"),
        native="qwen3",
        formats=("qwen3",),
        cases=(str(cases),),
        baseline=folder / f"{kind}-baseline.json",
        folder=folder / f"{kind}-gate",
        update=True,
    )
    write_results(run_gate(options))
    again, lost = (
        run_gate(replace(options, adapter=given and str(given / "adapter"), update=False))
        for given in (adapter, other)
    )
    assert not [check for check in again.checks if check.fails]
    return {check.metric: describe(check) for check in lost.checks if check.fails}


def run(folder, kind, train_on=("answers", "thoughts", "calls")):
    """Train; the held-out NLL by part before and after, in a format that was never trained."""
    rows = folder / f"{kind}.jsonl"
    rows.write_text("".join(json.dumps(ROWS[kind](n)) + "\n" for n in range(100, 140)))
    output = folder / f"{kind}-{len(train_on)}"
    config = parse_config(
        {
            "model": MODEL,
            "output_dir": str(output),
            "data": {"train": [str(rows)], "controls": 6},
            "formats": {"train": ["qwen3"], "held_out": ["llama3.1"]},
            "loss": {"train_on": list(train_on)},
            "optimisation": {
                "learning_rate": 2e-3,
                "max_steps": STEPS,
                "per_device_train_batch_size": 4,
            },
            "evaluation": {"references": 0, "recall_rows": 2, "formats_measured": 1},
            "checkpoints": {"save_steps": STEPS},
        }
    )
    train(config, quiet=True)
    logged = [entry for entry in read_metrics(output) if entry["kind"] == "checkpoint"]
    steps = [entry for entry in read_metrics(output) if entry["kind"] == "step"]
    return logged[0]["nll_parts"], logged[-1]["nll_parts"], steps, output


def fall(before, after, part, group="seen"):
    """The share of the NLL that is gone."""
    return 1 - after[group][part] / before[group][part]


def test_tool_data(tmp_path, capsys):
    before, after, steps, output = run(tmp_path, "tools")
    assert set(before) == {"seen", "held_out"}
    assert fall(before, after, "calls") > 0.3, (before, after)
    assert fall(before, after, "calls", "held_out") > 0.1, (before, after)
    assert {"answers", "calls", "stop"} <= set(steps[-1]["parts"])
    assert steps[-1]["parts"]["calls"]["loss"] < steps[0]["parts"]["calls"]["loss"]
    report = tmp_path / "report"
    arguments = ["eval", MODEL, "--adapter", str(output), "--formats", "qwen3", "--limit", "1"]
    short = ["--cases", "tools", "--max-new-tokens", "24", "--thought-tokens", "8"]
    assert main([*arguments, *short, "--out", str(report)]) == 0
    failed = failures(tmp_path, "tools", output)
    assert "its tool calls do not parse" in failed["call_valid"], failed
    shared = tmp_path / "shared"
    assert main(["export", str(output), "--format", "qwen3", "--out", str(shared)]) == 0
    assert "tool_call" in (shared / "chat_template.jinja").read_text()
    capsys.readouterr()


def test_thinking_data_with_and_without_its_thoughts(tmp_path):
    before, after, steps, thinking = run(tmp_path, "thoughts")
    assert fall(before, after, "thoughts") > 0.3, (before, after)
    assert {"answers", "thoughts", "stop"} <= set(steps[-1]["parts"])
    same, untrained, steps, silent = run(tmp_path, "thoughts", ("answers",))
    assert same["seen"] == before["seen"]
    assert set(steps[-1]["parts"]) == {"answers", "stop"}
    whole, partly = fall(before, after, "thoughts"), fall(same, untrained, "thoughts")
    assert partly < 0.5 * whole, (whole, partly)
    failed = failures(tmp_path, "thoughts", thinking, silent)
    assert "it lost its thinking" in failed["thinks"], failed
