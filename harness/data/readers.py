"""Read rows of JSON lines, JSON, Parquet and hub data sets, each with its place for errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import HarnessError, nearest
from harness.extras import require
from harness.files import json_mistake, parse_json, read_text


class DataRow(NamedTuple):
    """One row of a file. ``value`` is None where there is a ``problem``."""

    place: str
    number: int
    value: dict[str, Any] | None
    problem: str = ""


def jsonl_rows(path: Path) -> Iterator[DataRow]:
    """A row for each line that is not blank. Raises HarnessError if the file cannot be read."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield _parse(line, f"{path}:{number}", number)


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (``file:line``, object) for each line that is not blank.

    Raises HarnessError with that place.
    """
    for row in jsonl_rows(path):
        if row.value is None:
            raise HarnessError(
                row.problem, where=row.place, hint="write one JSON object on each line"
            )
        yield row.place, row.value


def _parse(line: str, place: str, number: int) -> DataRow:
    try:
        value = parse_json(line.removeprefix("\ufeff"))  # files with marks, laid end to end
    except json.JSONDecodeError as error:
        return DataRow(place, number, None, json_mistake(error))
    except ValueError as error:
        return DataRow(place, number, None, f"not JSON: {error}")
    return (
        DataRow(place, number, value)
        if isinstance(value, dict)
        else DataRow(place, number, None, f"expected one JSON object, not a {type(value).__name__}")
    )


def jsonl_files(names: Iterable[str], sets: Iterable[str] = ()) -> list[Path]:
    """These files, and the ``*.jsonl`` of these folders.

    Raises HarnessError for a name that is neither, with the most similar of the shipped ``sets``,
    and for a folder without such files.
    """
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            matches = sorted(file for file in path.iterdir() if file.suffix == ".jsonl")
            if not matches:
                raise HarnessError("the folder holds no *.jsonl file", where=name)
            files += matches
        elif path.is_file():
            files.append(path)
        else:
            raise HarnessError("no such file or folder", where=name, hint=nearest(name, sets, ""))
    return files


#: owner/name, as on the hub.
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def read_rows(name: str, split: str = "train") -> Iterator[tuple[str, Iterator[DataRow]]]:
    """Yield (stem, rows) of a file, of each file of a folder, or of a hub data set.

    Raises HarnessError for a name that is none of these, or cannot be read at all.
    """
    path = Path(name)
    if path.is_dir():
        matches = sorted(file for file in path.iterdir() if file.suffix in READERS)
        if not matches:
            raise HarnessError(f"the folder holds no {', '.join(READERS)} file", where=name)
        yield from ((file.stem, READERS[file.suffix](file)) for file in matches)
    elif path.is_file():
        if path.suffix not in READERS:
            raise HarnessError(
                f"cannot read {path.suffix or 'a file without ending'}",
                where=name,
                hint=f"one of {', '.join(READERS)}",
            )
        yield path.stem, READERS[path.suffix](path)
    elif _HUB_ID.fullmatch(name) and not path.suffix:
        yield name.split("/")[1], _hub(name, split)
    else:
        raise HarnessError("no such file or folder", where=name)


def _json(path: Path) -> Iterator[DataRow]:
    """A list of objects, an object that holds one under ``data`` or ``train``, or a single row."""
    try:
        value = parse_json(read_text(path))
    except json.JSONDecodeError as error:
        raise HarnessError(
            json_mistake(error),
            where=f"{path}:{error.lineno}",
            hint="name a file with one object on each line .jsonl",
        ) from None
    except ValueError as error:
        raise HarnessError(f"not JSON: {error}", where=str(path)) from None
    if isinstance(value, dict):
        value = next(
            (value[key] for key in ("data", "train") if isinstance(value.get(key), list)), [value]
        )
    if not isinstance(value, list):
        raise HarnessError(
            f"expected a list of objects, not a {type(value).__name__}", where=str(path)
        )
    for number, row in enumerate(value, 1):
        place = f"{path}:row {number}"
        yield (
            DataRow(place, number, row)
            if isinstance(row, dict)
            else DataRow(
                place, number, None, f"expected one JSON object, not a {type(row).__name__}"
            )
        )


def _parquet(path: Path) -> Iterator[DataRow]:
    require("pyarrow", "reading Parquet", str(path))
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        batches = ParquetFile(path).iter_batches()
        rows = (row for batch in batches for row in batch.to_pylist())
        for number, row in enumerate(rows, 1):
            yield DataRow(f"{path}:row {number}", number, without_nulls(row))
    except ArrowInvalid as error:
        raise HarnessError(f"not Parquet: {error}", where=str(path)) from None


def _hub(name: str, split: str) -> Iterator[DataRow]:
    require("datasets", "no such file or folder; a data set of the hub", name)
    from datasets import load_dataset

    try:
        rows = load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise HarnessError(
            f"no such file or folder, and no data set of the hub with a split {split!r}: {reason}",
            where=name,
            hint="without a network, give a file",
        ) from None
    for number, row in enumerate(rows, 1):
        yield DataRow(f"{name}:row {number}", number, without_nulls(row))


def without_nulls(value: Any) -> Any:
    """Remove null values: a table gives every row every column."""
    if isinstance(value, dict):
        return {key: without_nulls(part) for key, part in value.items() if part is not None}
    return [without_nulls(part) for part in value] if isinstance(value, list) else value


READERS: dict[str, Callable[[Path], Iterator[DataRow]]] = {
    ".jsonl": jsonl_rows,
    ".json": _json,
    ".parquet": _parquet,
}
