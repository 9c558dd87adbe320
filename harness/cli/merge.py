"""harness merge: merge an adapter into its base model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from harness.cli.arguments import parse
from harness.cli.output import print_json
from harness.errors import EXIT_OK


@dataclass(frozen=True)
class MergeOptions:
    adapter: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ADAPTER")]
    """Folder of a run, of its adapter, or of a checkpoint such as RUN/checkpoint-100."""
    out: str
    """New folder for the merged model."""
    base: str | None = None
    """The model that the adapter was trained on: folder, hub id, or SmolLM2-135M-Instruct. Default:
    the one that the run or the adapter names."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Dtype of the merged weights."""
    load_in_4bit: bool = False
    """For another trainer's adapter that was trained on an nf4 base. Our adapters record this."""
    device: str = "cpu"
    """Device for the merge. A quantised base in its own dtype and one layer in float32 must fit."""
    json: bool = False
    """Print the folder and how far the outputs agree as JSON."""


def merge(args: list[str]) -> int:
    """Merge an adapter into its base, check that the outputs agree, and write a model folder.

    Example: harness merge runs/train --out merged
    """
    options = parse(MergeOptions, args, "merge", merge.__doc__)
    from harness.models.quantisation import Quantisation
    from harness.training.share.merge import merge as merge_adapter

    given = Quantisation(load_in_4bit=True) if options.load_in_4bit else None
    done = merge_adapter(
        Path(options.adapter),
        options.base,
        Path(options.out),
        options.dtype,
        quantisation=given,
        device=options.device,
    )
    found = done.agreement
    if options.json:
        print_json({"folder": str(done.folder), "dtype": done.dtype, "agreement": asdict(found)})
        return EXIT_OK
    if done.quantisation:
        print(f"merged into the dequantised base that it was trained on: {done.quantisation}")
    print(
        f"{found.positions} positions: mean KL divergence {found.divergence:.2e} nats, largest "
        f"difference of a logit {found.largest:.2g}, same most likely token at "
        f"{found.same_token:.1%}"
    )
    print(f"model: {done.folder} ({done.dtype})")
    print(f"next: harness eval {done.folder}")
    return EXIT_OK
