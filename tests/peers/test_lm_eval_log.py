"""The samples that lm-evaluation-harness itself writes are read as outputs."""

from __future__ import annotations

import json

import pytest

from harness.data.outputs import read_outputs

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
TASK = """task: foxes
dataset_path: json
dataset_kwargs:
  data_files: {rows}
test_split: train
output_type: generate_until
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["\\n\\n"]
  max_gen_toks: 6
metric_list:
  - metric: exact_match
"""


def test_the_samples_of_a_generating_task(tiny_model, tmp_path):
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    rows = [{"question": f"Where is fox {n}?", "answer": "there"} for n in range(3)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "foxes.yaml").write_text(TASK.format(rows=tmp_path / "rows.json"))
    tracker = EvaluationTracker(output_path=str(tmp_path / "out"))
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tiny_model)},
        tasks=["foxes"],
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        log_samples=True,
        evaluation_tracker=tracker,
        device="cpu",
        bootstrap_iters=0,
    )
    samples = found["samples"]
    tracker.save_results_aggregated(
        results={k: v for k, v in found.items() if k != "samples"}, samples=samples
    )
    tracker.save_results_samples(task_name="foxes", samples=samples["foxes"])
    [file] = (tmp_path / "out").rglob("samples_foxes_*.jsonl")
    outputs = read_outputs(str(file))
    assert [output.prompt for output in outputs] == [f"Q: {row['question']}\nA:" for row in rows]
    answers = [sample["resps"][0][0] for sample in samples["foxes"]]
    assert [output.text for output in outputs] == answers
