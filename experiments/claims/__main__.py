"""python -m experiments.claims NAME …: test published claims on a small model."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from experiments.before_after import ExperimentOptions
from harness.cli.arguments import parse
from harness.errors import EXIT_OK, HarnessError, nearest

if TYPE_CHECKING:
    from experiments.claims.lab import Lab


@dataclass(frozen=True)
class ClaimsOptions(ExperimentOptions):
    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = ()
    """Claims to test. None: list them."""
    all: bool = False
    """Test every claim."""
    out: str = "build/claims"
    """Folder for runs and results. The same command resumes where it was interrupted."""


def claims(args: list[str]) -> int:
    """Train what published claims need, and print a verdict for each."""
    from experiments.claims.claims import BY_NAME
    from experiments.claims.page import read_results, results_text, verdict

    command = "python -m experiments.claims"
    options = parse(ClaimsOptions, args, "claims", claims.__doc__, prog=command)
    out = Path(options.out)
    if options.page:
        from experiments.page_results import rewrite, with_kept

        page = Path(options.page)
        rewrite(page, results_text(with_kept(page, read_results(out), command)))
        return EXIT_OK
    for name in options.names:
        if name not in BY_NAME:
            raise HarnessError(f"unknown claim {name!r}", hint=nearest(name, BY_NAME))
    names = tuple(BY_NAME) if options.all else options.names
    if not names:
        results = read_results(out)
        for name, claim in BY_NAME.items():
            print(f"{name:<16} {claim.text}: {verdict(claim, results)}")
        return EXIT_OK
    from experiments.claims.lab import Lab

    lab = Lab(out, options.model, smoke=options.smoke)
    for name in names:
        _test(lab, name)
    return EXIT_OK


def _test(lab: Lab, name: str) -> None:
    from experiments.claims.claims import BY_NAME
    from experiments.claims.page import RESULTS_FILE, read_results, verdict
    from experiments.paired import spelt
    from harness.files import write_text

    claim = BY_NAME[name]
    measured = asdict(claim.measure(lab))
    results = {**read_results(lab.out), name: measured}  # another process may have written others
    write_text(lab.out / RESULTS_FILE, json.dumps(results, indent=1) + "\n")
    found = results[name]
    print(f"{name}: {verdict(claim, results)}. {claim.what}: {spelt(found['effect'], '+.3f')}")
    if found["also"]:
        print(f"  {found['also']}")


if __name__ == "__main__":
    from harness.cli.main import run_command

    sys.exit(run_command(claims, sys.argv[1:]))
