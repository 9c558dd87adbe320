"""A report as records of Every Eval Ever, the shared database of evaluation results.

Its schema is version 0.3.0 of https://github.com/evaleval/every_eval_ever: one record for each run,
with a result for each metric in each format. Nothing is sent anywhere.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.files import write_text
from harness.metrics.registry import METRICS, Metric
from harness.records import Aggregate, Verdict
from harness.report.document import FormatFacts, Report, Run

SCHEMA_VERSION = "0.3.0"
RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")
#: Our metric → the global id of the same one. All others have our name before theirs.
_GLOBAL_IDS = {"choice": "accuracy"}
#: Backends behind an address, of which nothing else is known.
_SERVERS = ("openai", "ollama")
#: Which setting of ours each generation argument of theirs is.
_ARGUMENTS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "max_new_tokens": "max_tokens",
}


def write_records(
    report: Report, folder: Path, *, organization: str = "unknown", relationship: str = "other"
) -> list[Path]:
    """Write ``data/formatproof/<developer>/<model>/<uuid>.json`` for each run.

    ``organization``: who made the evaluation. ``relationship``: theirs to the model's developer,
    one of RELATIONSHIPS. The same report gives the same names. Returns the paths.
    """
    paths = []
    for run in report.runs:
        record = record_of(report, run, organization=organization, relationship=relationship)
        developer, _, model = record["model_info"]["id"].rpartition("/")
        name = f"{uuid.uuid5(uuid.NAMESPACE_URL, record['evaluation_id'])}.json"
        place = folder / "data" / "formatproof" / (developer or "unknown") / model / name
        place.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(place, text + "\n", what="record")
        paths.append(place)
    return paths


def record_of(
    report: Report,
    run: Run,
    *,
    organization: str = "unknown",
    relationship: str = "other",
    now: float | None = None,
) -> dict[str, Any]:
    """One run as a record. ``now``: seconds since 1970 at which it is made."""
    model = _model_id(report)
    adapter = {"adapter": run.adapter} if run.adapter else {}
    engine, _, version = str(report.settings.get("backend", "unknown-unknown")).rpartition("-")
    version = "unknown" if engine in _SERVERS else version
    facts = {facts.id: facts for facts in report.formats}
    words = {verdict.format: verdict for verdict in run.verdicts}
    made = datetime.strptime(report.created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    shared = {"source_data": _source(report), "timestamp": report.created}
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"formatproof/{model}/{run.label}/{int(made.timestamp())}",
        "evaluation_timestamp": report.created,
        "retrieved_timestamp": str(time.time() if now is None else now),
        "source_metadata": {
            "source_name": "formatproof",
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            "evaluator_relationship": relationship,
        },
        "eval_library": {
            "name": "formatproof",
            "version": str(report.environment.get("harness", "unknown")),
            "additional_details": _strings(report.environment),
        },
        "model_info": {
            "name": report.model.name,
            "id": model,
            **({"developer": model.split("/")[0]} if "/" in model else {}),
            "inference_engine": {"name": engine, "version": version},
            "additional_details": _strings(
                {
                    "digest": report.model.digest,
                    "dtype": report.model.dtype,
                    "native_format": report.model.native_format or "unknown",
                    "deployment_type": "unknown" if engine in _SERVERS else "self_deployed",
                    "model_availability": "open_weights" if "/" in model else "unknown",
                    **adapter,
                }
            ),
        },
        "evaluation_results": [
            _result(cell, METRICS[cell.metric], facts[cell.format], words, report.settings, shared)
            for cell in run.cells
            if cell.mean is not None and cell.format in facts
        ],
    }


def _model_id(report: Report) -> str:
    """``owner/name`` where the model was asked for by its name on the hub, else its short name."""
    asked = report.model.asked_for or ""
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", asked) and not asked.startswith(".")
    return asked if on_hub else re.sub(r"[^\w.-]+", "-", report.model.name).strip("-") or "model"


def _source(report: Report) -> dict[str, Any]:
    """The cases. They are files on a machine: ours in this version, or the user's own."""
    return {
        "dataset_name": "formatproof cases",
        "source_type": "other",
        "source_version": str(report.environment.get("harness", "unknown")),
        "additional_details": _strings({"cases": report.settings.get("cases", "unknown")}),
    }


def _result(
    cell: Aggregate,
    metric: Metric,
    chat_format: FormatFacts,
    words: Mapping[str, Verdict],
    settings: Mapping[str, Any],
    shared: Mapping[str, Any],
) -> dict[str, Any]:
    verdict = words.get(cell.format)
    said = {"verdict": verdict.word, "verdict_reason": verdict.reason} if verdict else {}
    return {
        "evaluation_result_id": f"{cell.format}/{cell.metric}",
        "evaluation_name": f"formatproof.{cell.format}",
        "source_data": shared["source_data"],
        "evaluation_timestamp": shared["timestamp"],
        "metric_config": _metric(metric),
        "score_details": {
            "score": cell.mean,
            "details": _strings({"group": cell.group, "not_scored": cell.not_scored, **said}),
            "uncertainty": _uncertainty(cell),
        },
        "generation_config": {
            "generation_args": _arguments(settings, chat_format),
            "additional_details": _strings(
                {
                    "format": chat_format.id,
                    "format_family": chat_format.family,
                    "format_digest": chat_format.digest,
                }
            ),
        },
    }


def _metric(metric: Metric) -> dict[str, Any]:
    """A rate is between 0 and 1. Other numbers have no bounds, which the schema spells so."""
    rate = metric.unit == "rate" and not metric.signed
    least, most = (0.0, 1.0) if rate else ("-Infinity", "Infinity")
    return {
        "evaluation_description": metric.about,
        "metric_id": _GLOBAL_IDS.get(metric.name, f"formatproof.{metric.name}"),
        "metric_name": metric.title,
        "metric_unit": "proportion" if rate else metric.unit,
        "lower_is_better": metric.lower_is_better,
        "score_type": "continuous",
        "min_score": least,
        "max_score": most,
    }


def _uncertainty(cell: Aggregate) -> dict[str, Any]:
    interval = {}
    if cell.low is not None and cell.high is not None:
        ends = {"lower": cell.low, "upper": cell.high, "confidence_level": 0.95}
        interval = {"confidence_interval": ends}
    return {**interval, "num_samples": cell.n}


def _arguments(settings: Mapping[str, Any], chat_format: FormatFacts) -> dict[str, Any]:
    given = {
        theirs: settings[ours]
        for ours, theirs in _ARGUMENTS.items()
        if isinstance(settings.get(ours), int | float) and (settings[ours] or ours == "temperature")
    }
    return {**given, "prompt_template": "".join(text for text, _ in chat_format.example)}


def _strings(values: Mapping[str, Any]) -> dict[str, str]:
    """The schema takes texts only in its tables of details."""
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()
    }
