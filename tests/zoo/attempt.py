"""One model of the zoo: its folder, and what the steps need of it."""

from __future__ import annotations

import contextlib
import io
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.cli.main import main
from harness.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, HarnessError
from tests.device import chosen_device
from tests.zoo.models import build

if TYPE_CHECKING:
    from harness.models import LoadedModel

ROWS = (
    ("the quick fox?", "over the lazy dog"),
    ("dog", "the brown fox jumps over it and then goes home to sleep"),
    ("capital?", "Oslo."),
    ("What is the dog?", "lazy"),
)
_TRAINING = (
    "--formats chatml --dtype float32 --learning-rate 1e-2 --max-steps 2 --save-steps 1 "
    "--per-device-train-batch-size 4 --lora-r 4 --references 0 --recall-rows 0"
)


class Attempt:
    """A model's folder, and what is made of it when it is first asked for.

    Raises HarnessError where the program refuses the model.
    """

    def __init__(self, name: str, work: Path) -> None:
        self.name = name
        self.work = work
        self.folder = work / "model"
        build(name, self.folder)

    @cached_property
    def reference(self) -> Any:
        """The plain model, which no step changes."""
        from tests.zoo.plain import plain_model

        return plain_model(self.folder)

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model as the program loads it."""
        return self.load()

    def load(self, adapter: Path | None = None) -> LoadedModel:
        """Load it with an adapter, or to be changed."""
        from harness.models import load

        given = str(adapter) if adapter else None
        return load(str(self.folder), adapter=given, dtype="float32", device=chosen_device())

    def train(self, run: Path, *more: str) -> str:
        """Train two steps into a folder. Returns what the command prints."""
        file = self.work / "rows.jsonl"
        turns = (
            [{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in ROWS
        )
        file.write_text("".join(json.dumps({"messages": turn}) + "\n" for turn in turns))
        folders = ("--model", self.folder, "--output-dir", run, "--train", file)
        return command("train", *folders, *_TRAINING.split(), *more)

    @cached_property
    def _outcome(self) -> BaseException | None:
        try:
            self.train(self.work / "run")
        except (Exception, AssertionError) as error:
            return error
        return None

    @property
    def run(self) -> Path:
        """The folder of its training, which is tried once. Raises what that raised."""
        if self._outcome:
            raise self._outcome
        return self.work / "run"

    @property
    def refused(self) -> str:
        """Why training is refused, or "" where it is not."""
        return str(self._outcome) if isinstance(self._outcome, HarnessError) else ""

    @property
    def adapter(self) -> Path:
        """The trained adapter; a step that needs one is left out where training is refused."""
        if self.refused:
            pytest.skip("training is refused")
        return self.run / "adapter"


def command(*words: object) -> str:
    """Run a command and return what it prints. Raises HarnessError with its one line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(map(str, words)))
    if code == EXIT_USAGE:
        said = [line for line in err.getvalue().splitlines() if line.strip()]
        assert said and said[-1].startswith("error: "), said
        raise HarnessError(said[-1].removeprefix("error: "))
    if code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    assert code == EXIT_OK, (code, err.getvalue())
    return out.getvalue()
