"""Probes: whether an engine computes what the plain model does, on two rows that stop apart.

The rows are unequal, begin alike and are longer than every window, chunk or block of the
configuration that is not longer than ``LONGEST``. Their tokens are given, so that rounding cannot
lead to other ones. A probe that raises has failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from harness.backends.local.forward import ModuleForward
from harness.backends.local.limits import most_positions, rotation_turn, windows
from harness.backends.local.out_of_memory import nothing_fits
from harness.backends.local.packing import pack, tensors
from harness.backends.local.padded import Padded, logits_at, plain_logits
from harness.backends.local.slots import Slots
from harness.models import LoadedModel
from harness.models.device import is_out_of_memory
from harness.models.quiet import first_line, quiet

if TYPE_CHECKING:
    import torch

#: Tokens of the longer row where no window asks for more; tokens by which a window is exceeded.
SHORT, BEYOND = 24, 32
#: The longest window that is exceeded: 256 is the widest that occurs in layers of a state and in
#: attention that cuts keys by their place (GPT-Neo). The probe of a wider one would take seconds.
LONGEST = 256
#: Tokens that the rows decode. After the first, the longer row leaves.
STEPS = 2
#: Allowed relative error of logits, in float32 and in 16 bits. A tiny Zamba2's scan and its
#: recurrence were 0.002 apart in float32; SmolLM2 in bfloat16 was off by 0.03 in packs, by 0.5 at
#: wrong positions and by 1.0 under a wrong mask.
_ROUNDING, _NOISE = 5e-3, 0.2
#: Real text, which has less noise than random ids; as long as the longest probe needs.
_TEXT = (
    "The ferry to the north shore leaves at seven, and whoever comes later has to walk around the "
    "lake, which takes three hours in summer and twice as long when the path is wet. Most people "
    "in the village know this, yet every morning somebody waits on the pier and waves after a "
    "boat that is already small. The captain never turns back. His father lost a race against a "
    "storm that way, in a year when ice still carried horses, and the family remembers it better "
    "than any birthday. On board there is hot tea, a stove, and a shelf with eleven books that "
    "nobody has ever been seen to take home. Two of them explain how to mend nets, one lists the "
    "kings of a country that no longer exists, and the rest are novels without a last page. "
    "Children invent endings for these and write them on the backs of tickets, so that the winter "
    "passengers, who are mostly doctors, teachers and sellers of cheese, have something to argue "
    "about before the engine warms up. Last week an old woman read one aloud. It was about a "
    "bridge made of bells, and of a thief who could cross it only while the whole town was "
    "singing. She did not say whether he was caught. When we landed, the fog had lifted, geese "
    "were standing in the harvested fields, and the customs officer, a patient man with ink on "
    "both sleeves, asked each of us the same four questions: where we had slept, what we carried, "
    "whom we meant to visit, and why the tickets were covered with handwriting. "
)


def why_it_fails(loaded: LoadedModel) -> str:
    """What the plain model raises over a short text, or ""."""
    try:
        with quiet(), loaded.inference():
            plain_logits(loaded, probe_rows(loaded)[1], 1)
    except Exception as error:  # as in _failure
        _refuse_without_memory(error, loaded)
        return f"{type(error).__name__}: {first_line(error)}"
    return ""


def why_not_packed(loaded: LoadedModel, longest: int) -> str:
    """How prefix-tree packs of sequences up to ``longest`` fail, or "" where they are right."""
    return _failure("packs", loaded, lambda: _packs(loaded, longest))


def why_not_padded(loaded: LoadedModel) -> str:
    """How rows padded to the longest fail, or ""."""
    return _failure("padded rows", loaded, lambda: _padded(loaded))


def why_not_cached(loaded: LoadedModel) -> str:
    """How single rows with the model's own cache fail, or ""."""
    return _failure("cached rows", loaded, lambda: _single(loaded))


def _failure(name: str, loaded: LoadedModel, comparisons: Callable[[], Iterator[bool]]) -> str:
    try:
        with quiet(), loaded.inference():
            return "" if all(comparisons()) else f"{name} differ from the plain model"
    except Exception as error:  # a model may raise anything over what it was not made for
        _refuse_without_memory(error, loaded)
        return f"{name} raise {type(error).__name__}"


def _refuse_without_memory(error: Exception, loaded: LoadedModel) -> None:
    """An engine is not wrong where memory ended: nothing would fit. Raises HarnessError then."""
    if is_out_of_memory(error):
        raise nothing_fits(loaded, "a short text", "") from None


def _packs(loaded: LoadedModel, longest: int) -> Iterator[bool]:
    """One tree that is wider than the windows, one sequence at the last positions, decoding."""
    import torch

    rows = probe_rows(loaded, longest)
    wanted = [plain_logits(loaded, row, STEPS + 1) for row in rows]
    forward = ModuleForward(loaded)
    [tree], [far] = pack([rows]), pack([rows[:1]])
    ids, positions, bias = tensors([tree, far], loaded.torch_dtype, loaded.device)
    begin = min(longest, most_positions(loaded)) - len(far)
    positions[1] += begin
    ends = [path[-1] for path in tree.paths[0]]
    places = torch.tensor([*ends, ids.shape[1] + len(far) - 1], device=ids.device)
    logits = forward.packs(ids, positions, bias, places)
    yield near(logits[:2], [row[-1] for row in wanted], loaded)
    yield near(logits[2:], plain_logits(loaded, rows[0], 1, begin=begin), loaded)
    slots = Slots(loaded, forward, len(rows), len(rows[0]), len(tree))
    yield from _decoding(slots, rows, wanted, loaded)


def _padded(loaded: LoadedModel) -> Iterator[bool]:
    """Decoding after padding on the left, and the ends of rows padded on the right."""
    import torch

    rows = probe_rows(loaded)
    wanted = [plain_logits(loaded, row, STEPS + 1) for row in rows]
    yield from _decoding(Padded(loaded, len(rows)), rows, wanted, loaded)
    whole, part = rows[1], rows[1][:-STEPS]
    found = logits_at([whole, part], [[len(whole) - 1], [len(part) - 1]], loaded)
    yield near(torch.cat(list(found)), [wanted[1][-1], wanted[1][0]], loaded)


def _single(loaded: LoadedModel) -> Iterator[bool]:
    for row in probe_rows(loaded):
        wanted = plain_logits(loaded, row, STEPS + 1)
        yield from _decoding(Padded(loaded, 1), [row], [wanted], loaded)


def _decoding(
    engine: Slots | Padded,
    rows: Sequence[Sequence[int]],
    wanted: Sequence[torch.Tensor],
    loaded: LoadedModel,
) -> Iterator[bool]:
    """``wanted[i]`` are the logits after the last STEPS + 1 tokens of row i."""
    alive = list(range(len(rows)))
    found = engine.enter([row[:-STEPS] for row in rows])
    yield near(found, [row[0] for row in wanted], loaded)
    for step in range(STEPS):
        found = engine.step([rows[at][step - STEPS] for at in alive])
        yield near(found, [wanted[at][step + 1] for at in alive], loaded)
        if len(alive) > 1:
            engine.keep([1])
            alive = [1]


def probe_rows(loaded: LoadedModel, longest: int = LONGEST + BEYOND) -> list[list[int]]:
    """Two rows of other words after a common beginning, the longer of at most ``longest`` tokens.

    None is longer than the model's positions, or than where its rotation turns.
    """
    exceeded = [window + BEYOND for window in windows(loaded) if window <= LONGEST]
    length = min(longest, max([SHORT, *exceeded]), most_positions(loaded), rotation_turn(loaded))
    ids = loaded.tokenizer(_TEXT, add_special_tokens=False).input_ids
    ids *= -(-2 * length // len(ids))
    return [ids[:length], ids[: length // 4] + ids[length : length + length // 3]]


def near(
    found: torch.Tensor, wanted: Sequence[torch.Tensor] | torch.Tensor, loaded: LoadedModel
) -> bool:
    """Whether logits [rows, vocabulary] are equal, up to rounding in the model's dtype."""
    import torch

    right = torch.stack([row.float() for row in wanted])
    off = (found.float() - right).norm() / (right - right.mean(-1, keepdim=True)).norm()
    return bool(off < (_ROUNDING if loaded.dtype == "float32" else _NOISE))  # False for NaN
