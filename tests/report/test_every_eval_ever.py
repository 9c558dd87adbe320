"""Records of Every Eval Ever: valid by a schema of our own of the part that is written.

SCHEMA is written by hand and says of each key that we write what the project's version 0.3.0 says.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from harness.cli.main import main
from harness.metrics.registry import METRICS
from harness.report.document import Report
from harness.report.every_eval_ever import record_of, write_records
from tests.report.fixture import make


def _closed(required: Mapping, optional: Mapping | None = None) -> dict:
    optional = optional or {}
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **optional},
        "additionalProperties": False,
    }


TEXT, NUMBER, WHOLE, TRUTH = ({"type": t} for t in ("string", "number", "integer", "boolean"))
BOUND = {"anyOf": [NUMBER, {"enum": ["-Infinity", "Infinity"]}]}
DETAILS = {"type": "object", "additionalProperties": TEXT}
METRIC = _closed(
    {"lower_is_better": TRUTH, "score_type": {"const": "continuous"}, "min_score": BOUND, "max_score": BOUND},
    {
        "evaluation_description": TEXT,
        "metric_id": TEXT,
        "metric_name": TEXT,
        "metric_unit": TEXT,
        "additional_details": DETAILS,
    },
)  # fmt: skip
UNCERTAINTY = _closed(
    {},
    {
        "num_samples": WHOLE,
        "confidence_interval": _closed(
            {"lower": NUMBER, "upper": NUMBER}, {"confidence_level": NUMBER}
        ),
    },
)
GENERATION = _closed(
    {},
    {
        "temperature": NUMBER,
        "top_p": NUMBER,
        "top_k": NUMBER,
        "max_tokens": {"type": "integer", "minimum": 1},
        "prompt_template": TEXT,
    },
)
RESULT = _closed(
    {
        "evaluation_name": TEXT,
        "source_data": _closed(
            {"dataset_name": TEXT, "source_type": {"const": "other"}},
            {"source_version": TEXT, "additional_details": DETAILS},
        ),
        "metric_config": METRIC,
        "score_details": _closed(
            {"score": NUMBER}, {"details": DETAILS, "uncertainty": UNCERTAINTY}
        ),
    },
    {
        "evaluation_result_id": TEXT,
        "evaluation_timestamp": TEXT,
        "generation_config": _closed(
            {}, {"generation_args": GENERATION, "additional_details": DETAILS}
        ),
    },
)
SCHEMA = _closed(
    {
        "schema_version": TEXT,
        "evaluation_id": TEXT,
        "retrieved_timestamp": TEXT,
        "source_metadata": _closed(
            {
                "source_type": {"const": "evaluation_run"},
                "source_organization_name": TEXT,
                "evaluator_relationship": {
                    "enum": ["first_party", "third_party", "collaborative", "other"]
                },
            },
            {"source_name": TEXT},
        ),
        "model_info": _closed(
            {
                "name": TEXT,
                "id": TEXT,
                "additional_details": {
                    **DETAILS,
                    "required": ["deployment_type", "model_availability"],
                    "properties": {
                        "deployment_type": {
                            "enum": ["self_deployed", "externally_managed", "unknown"]
                        },
                        "model_availability": {
                            "enum": ["open_weights", "closed_weights", "unknown"]
                        },
                    },
                },
            },
            {"developer": TEXT, "inference_engine": _closed({}, {"name": TEXT, "version": TEXT})},
        ),
        "eval_library": _closed({"name": TEXT, "version": TEXT}, {"additional_details": DETAILS}),
        "evaluation_results": {"type": "array", "items": RESULT},
    },
    {"evaluation_timestamp": TEXT},
)
VALIDATOR = Draft202012Validator(SCHEMA)


def _report(**changes) -> Report:
    table = make(formats=4)
    table["settings"] |= {"temperature": 0.0, "max_new_tokens": 64, "top_k": 0}
    table["settings"]["backend"] = "transformers-5.23.0"
    return Report.from_dict({**table, **changes})


def test_each_run_is_a_valid_record_with_every_number():
    report = _report()
    for run in report.runs:
        record = record_of(report, run, organization="Us", now=12.0)
        VALIDATOR.validate(record)
        cells = {(cell.format, cell.metric): cell for cell in run.cells if cell.mean is not None}
        results = {
            tuple(result["evaluation_result_id"].split("/")): result
            for result in record["evaluation_results"]
        }
        assert set(results) == set(cells) and len(cells) > 40
        for place, cell in cells.items():
            result, metric = results[place], METRICS[cell.metric]
            details = result["score_details"]
            assert details["score"] == cell.mean
            assert details["uncertainty"]["num_samples"] == cell.n
            assert result["metric_config"]["lower_is_better"] == metric.lower_is_better
            bounds = result["metric_config"]
            assert float(bounds["min_score"]) <= cell.mean <= float(bounds["max_score"])
            assert details["details"]["verdict"] in (
                "works",
                "degraded",
                "broken",
                "unclear",
                "untestable",
            )
    assert record["source_metadata"]["source_organization_name"] == "Us"
    assert record["model_info"]["inference_engine"] == {"name": "transformers", "version": "5.23.0"}
    [arguments] = {
        json.dumps(result["generation_config"]["generation_args"])
        for result in record["evaluation_results"]
    }
    assert json.loads(arguments)["max_tokens"] == 64 and "top_k" not in json.loads(arguments)


def test_the_model_is_named_as_on_the_hub():
    model = {"name": "Toy", "digest": "d", "dtype": "float32", "native_format": None}
    asked = _report(model={**model, "asked_for": "owner/Toy-1B"})
    assert record_of(asked, asked.runs[0])["model_info"]["developer"] == "owner"
    for name in ("./my-model", "a/b/c", "Toy"):
        local = _report(model={**model, "asked_for": name})
        assert record_of(local, local.runs[0])["model_info"]["id"] == "Toy"


@pytest.mark.parametrize("key", ["model_info", "eval_library", "evaluation_results"])
def test_a_record_without_a_key_is_not_valid(key):
    """The control of the schema here."""
    report = _report()
    record = copy.deepcopy(record_of(report, report.runs[0]))
    del record[key]
    with pytest.raises(ValidationError):
        VALIDATOR.validate(record)


def test_the_command_writes_a_file_for_each_run(tmp_path, capsys):
    (tmp_path / "report.json").write_text(json.dumps(make(formats=2)))
    command = ["report", str(tmp_path / "report.json"), "--to", "every-eval-ever"]
    assert main([*command, "--organization", "Us", "--out", str(tmp_path / "out")]) == 0
    files = capsys.readouterr().out.split()
    assert len(files) == 2 and len(set(files)) == 2
    first = json.loads(Path(files[0]).read_text(encoding="utf-8"))
    VALIDATOR.validate(first)
    assert files[0].startswith(str(tmp_path / "out/data/formatproof/unknown/Toy/"))
    again = write_records(Report.from_dict(make(formats=2)), tmp_path / "again")
    assert [path.name for path in again] == [path.rsplit("/", 1)[1] for path in files]
