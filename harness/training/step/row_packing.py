"""How the rows of a training step share a pass: laid end to end, or padded to the longest.

Laid end to end, nothing is computed for padding, and a step is one pass where memory allows. What
keeps rows apart then is the model's attention: ours, by bounds (row_attention), or on a GPU without
its kernel the model's own under a mask, which transformers makes of positions that begin again.
A way is used after a probe in which it gives the logits of rows computed alone. A state that runs
through all tokens, or a bias by distance, fails it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.backends.local.limits import NO_LIMIT, attention_window, rotation_turn, text_config
from harness.backends.local.padded import arguments, plain_logits
from harness.backends.local.probe import near, probe_rows
from harness.models.logits import only_at
from harness.models.quiet import first_line, quiet

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel
    from harness.training.step.row_attention import Bounds

Way = Literal["bounds", "mask", "padding"]
#: Logits compared after each row of the probe.
_LAST = 3
#: How far logits may move, relatively, when another row of the pass changes: in float32, else in 16
#: bits. Experts and blocks of a product see other tokens, which changes the order of sums.
_MOVED = {True: 1e-5, False: 1e-3}


@dataclass(frozen=True, slots=True)
class RowPacking:
    """The way, the longest row (tokens) that may take it, and why it is not a faster one."""

    way: Way
    longest: int = NO_LIMIT
    why: str = ""

    def takes(self, lengths: Sequence[int]) -> bool:
        """Whether rows of these lengths in tokens may be laid end to end."""
        return self.way != "padding" and max(lengths) <= self.longest

    def bounds(self, lengths: Sequence[int], device: str) -> Bounds | None:
        """What keeps the rows of a pass apart, where that is their bounds."""
        from harness.training.step.row_attention import Bounds

        return Bounds.of(lengths, device) if self.way == "bounds" else None

    def __str__(self) -> str:
        name = {"bounds": "end to end", "mask": "end to end under a mask", "padding": "padded"}
        limit = f" up to {self.longest} tokens" if self.longest < NO_LIMIT else ""
        return name[self.way] + limit + (f" ({self.why})" if self.why else "")


PADDED = RowPacking("padding")


def choose_packing(loaded: LoadedModel) -> RowPacking:
    """The way that equals rows computed alone; found once for a loaded model."""
    if "training rows" not in loaded.probed:
        modes = [(module, module.training) for module in loaded.model.modules()]
        loaded.model.eval()
        loaded.probed["training rows"] = _probe(loaded)
        for module, mode in modes:  # some stay in evaluation mode while others train
            module.training = mode
    found: RowPacking = loaded.probed["training rows"]
    return found


@contextmanager
def packing_rows(loaded: LoadedModel, packing: RowPacking) -> Iterator[None]:
    """Let ``supervised_logits`` lay rows end to end in passes that begin and end inside."""
    from harness.training.step.row_attention import row_attention

    before, loaded.packing = loaded.packing, packing
    try:
        if packing.way == "bounds":
            with row_attention(loaded.model):
                yield
        else:
            yield
    finally:
        loaded.packing = before


def packed_logits(
    loaded: LoadedModel,
    rows: Sequence[Sequence[int]],
    places: Sequence[int],
    bounds: Bounds | None,
) -> torch.Tensor:
    """Logits [places, vocabulary] of rows in one pass; a place counts the tokens of all rows.

    Inside ``packing_rows``, with the rows' bounds where its way is by them.
    """
    import torch

    device = loaded.device
    ids = torch.tensor([token for row in rows for token in row]).unsqueeze(0)
    positions = torch.cat(_positions(rows)).unsqueeze(0)
    extra = bounds.arguments() if bounds else {}
    with only_at(loaded.model, torch.tensor(places).to(device)):
        logits: torch.Tensor = loaded.model(
            input_ids=ids.to(device), position_ids=positions.to(device), use_cache=False, **extra
        ).logits[0]
    return logits


def _positions(rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """The position of each token in its row."""
    import torch

    return [torch.arange(len(row)) for row in rows]


def _probe(loaded: LoadedModel) -> RowPacking:
    """Try the ways that suit the device, the fastest first."""
    if why := _why_padded(loaded):
        return RowPacking("padding", why=why)
    reasons = []
    for way in _ways(loaded):
        try:
            with quiet(), loaded.inference():
                windows, why = _compare(loaded, way)
        except Exception as error:  # a model may raise anything over what it was not made for
            reasons.append(f"rows by {way} raise {type(error).__name__}: {first_line(error)}")
            continue
        if why:
            reasons.append(f"rows by {way} {why}")
            continue
        window = attention_window(loaded)
        limit = NO_LIMIT if way == "mask" or window in windows else window
        return RowPacking(way, min(rotation_turn(loaded), limit), "; ".join(reasons))
    return RowPacking("padding", why="; ".join(reasons))


def _why_padded(loaded: LoadedModel) -> str:
    """Why rows would run into each other, as far as the configuration says it."""
    kinds = getattr(text_config(loaded), "layer_types", None) or ()
    if other := sorted({kind for kind in kinds if not str(kind).endswith("_attention")}):
        return f"it has layers of {', '.join(other)}"
    if "linear_attention" in kinds or getattr(loaded.base, "_is_stateful", False):
        return "it has a state"
    return "" if "position_ids" in arguments(loaded) else "it takes no positions"


def _ways(loaded: LoadedModel) -> Iterator[Way]:
    yield "bounds"
    # elsewhere a mask over all rows costs more than their padding
    if loaded.device.startswith("cuda") and text_config(loaded)._attn_implementation == "sdpa":
        yield "mask"


def _compare(loaded: LoadedModel, way: Way) -> tuple[set[int], str]:
    """The windows that layers asked for, and how the logits differ from those of rows alone.

    Rounding hides a small leak from row to row in 16 bits. So the pass is repeated with another
    first row: no logit of the others may change by more than the order of sums makes it.
    """
    import torch

    long, short = probe_rows(loaded)
    packing = RowPacking(way)
    rows = [short, long, short]
    bounds = packing.bounds([*map(len, rows)], loaded.device)
    ends = torch.tensor([*map(len, rows)]).cumsum(0).tolist()
    places = [end - _LAST + at for end in ends for at in range(_LAST)]
    with packing_rows(loaded, packing):
        found = packed_logits(loaded, rows, places, bounds)
        other = packed_logits(loaded, [short[::-1], *rows[1:]], places, bounds)
    windows = bounds.windows if bounds else set()
    wanted = torch.cat([plain_logits(loaded, row, _LAST) for row in rows])
    if not near(found, wanted, loaded):
        return windows, "differ from rows alone"
    moved = (other[_LAST:] - found[_LAST:]).float().norm() / found[_LAST:].float().norm()
    leaks = bool(moved > _MOVED[loaded.dtype == "float32"])
    return windows, "depend on the row before" if leaks else ""
