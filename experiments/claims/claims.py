"""The claims: what each says, where it was published, and how it is measured here.

Each is judged by an effect with its 95 % interval and by the smallest effect that matters
(``experiments.effects.present``). Where a claim says that there is no effect, it is judged the
other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean

from experiments.claims.by_heart import answers_at, predicted, warning
from experiments.claims.lab import BASE, Lab
from experiments.effects import Effect, present
from experiments.paired import as_dict, difference
from harness.stats import mean_interval
from harness.stats.strata import stratified_difference

#: The smallest difference of NLL between two ways of training that matters, in nats a token.
BETTER = 0.02
#: The smallest difference of what training answers gain over controls that matters.
LEAKS = 0.05
#: The smallest number of epochs between a warning and verbatim recall that matters.
EARLIER = 0.5
#: The largest share of predictions that may be wrong.
WRONG = 0.05


@dataclass(frozen=True, slots=True)
class Measured:
    """An effect, positive where the claim says so, and other numbers in words."""

    effect: Effect | None
    also: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A published sentence. With ``absent`` it says that there is no effect."""

    name: str
    text: str
    source: str
    what: str
    measure: Callable[[Lab], Measured]
    least: float
    absent: bool = False

    def holds(self, effect: Effect | None) -> bool | None:
        """The verdict; None where it is inconclusive."""
        there = present(effect, self.least)
        return not there if self.absent and there is not None else there


def _costs_more(lab: Lab, one: str, other: str, group: str) -> Effect | None:
    """NLL of references after ``one`` minus that after ``other``."""
    return difference(lab.references(other)[group], lab.references(one)[group], "nll")


def _nll(lab: Lab, name: str, group: str) -> float:
    return fmean(lab.references(name)[group].values())


def _excess(lab: Lab, name: str) -> dict[str, float]:
    """Reference → NLL in held-out formats minus that in the native one."""
    found = lab.references(name)
    return {
        case: value - found["native"][case]
        for case, value in found["held out"].items()
        if case in found["native"]
    }


def _format_mix(lab: Lab) -> Measured:
    none, some, every = (_excess(lab, name) for name in ("native", "mixed-30", "mixed"))
    cases = [case for case in none if case in some and case in every]
    beyond_half = [(none[case] + every[case]) / 2 - some[case] for case in cases]
    means = ", ".join(
        f"{name} {fmean(values.values()):.3f}"
        for name, values in (("none", none), ("30 %", some), ("all", every))
    )
    return Measured(as_dict(mean_interval(beyond_half)), f"held-out excess: {means}")


def _frozen_prompt(lab: Lab) -> Measured:
    means = (_nll(lab, name, "held out") for name in (BASE, "native", "mixed"))
    also = "held-out NLL: base {:.3f}, one format {:.3f}, twelve {:.3f}".format(*means)
    return Measured(_costs_more(lab, "native", "mixed", "held out"), also)


def _repetition(lab: Lab) -> Measured:
    means = (_nll(lab, name, "native") for name in (BASE, "once", "repeated"))
    also = "native NLL: base {:.3f}, all rows once {:.3f}, 24 rows repeated {:.3f}".format(*means)
    return Measured(_costs_more(lab, "once", "repeated", "native"), also)


def _all_layers(lab: Lab) -> Measured:
    means = (_nll(lab, name, "native") for name in ("attention-only", "native"))
    also = "native NLL: attention {:.3f}, all layers {:.3f}".format(*means)
    return Measured(_costs_more(lab, "attention-only", "native", "native"), also)


#: Rates of full fine-tuning, and the LoRA run with ten times each.
_FULL = {"full-3e-5": "lora-3e-4", "full-1e-4": "native", "full-3e-4": "lora-3e-3"}


def _ten_times(lab: Lab) -> Measured:
    nll = {name: _nll(lab, name, "native") for pair in _FULL.items() for name in pair}
    best = min(_FULL, key=nll.__getitem__)
    ours = _FULL[best]
    other = min((name for name in _FULL.values() if name != ours), key=nll.__getitem__)
    also = "native NLL: " + ", ".join(f"{name} {value:.3f}" for name, value in nll.items())
    return Measured(_costs_more(lab, ours, other, "native"), also)


def _leaks(lab: Lab) -> Measured:
    full = min(_FULL, key=lambda name: _nll(lab, name, "native"))
    gains = [_gains(lab, name) for name in (full, "native")]
    values: list[float] = []
    trained: list[bool] = []
    for side in ("rows", "controls"):
        ours, theirs = (gain[side] for gain in gains)
        values += [ours[item] - theirs[item] for item in ours if item in theirs]
        trained += [side == "rows"] * (len(values) - len(trained))
    found = stratified_difference(values, [0] * len(values), trained)
    effect: Effect | None = None
    if found is not None:
        ends = {"low": found.low, "high": found.high}
        effect = {"value": found.value, **ends, "n": found.n_train}
    each = (
        f"{name} {fmean(gain['rows'].values()) - fmean(gain['controls'].values()):+.3f} "
        f"(native NLL {_nll(lab, name, 'native'):.3f})"
        for name, gain in zip((full, "native"), gains, strict=True)
        if gain["rows"] and gain["controls"]
    )
    return Measured(effect, "gain over controls: " + ", ".join(each))


def _gains(lab: Lab, name: str) -> dict[str, dict[str, float]]:
    """Row or control → what its log-probability a token gained."""
    before, after = lab.recall(name)
    return {
        side: {
            item: after[side][item] - value
            for item, value in before[side].items()
            if item in after[side]
        }
        for side in ("rows", "controls")
    }


def _early(lab: Lab) -> Measured:
    lags, rows = warning(answers_at(lab, "over-trained"))
    effect = as_dict(mean_interval(lags)) if lags else None
    return Measured(effect, f"{len(lags)} of {rows} rows became verbatim")


def _greedy(lab: Lab) -> Measured:
    wrong, sure, verbatim = predicted(answers_at(lab, "over-trained"))
    effect = as_dict(wrong) if wrong else None
    return Measured(effect, f"{sure} answers were predicted, {verbatim} were verbatim")


CLAIMS = (
    Claim(
        "format-mix",
        "Formats mixed into 30 % of the rows bring most of the gain of mixing them into all",
        "arXiv 2606.11643",
        "reduction of the held-out NLL excess with 30 %, minus half of that with all, nats a token",
        _format_mix,
        BETTER,
    ),
    Claim(
        "frozen-prompt",
        "What fine-tuning loses in other formats is due to its one fixed format",
        "arXiv 2510.00237",
        "held-out NLL after training in one format minus that after twelve, nats a token",
        _frozen_prompt,
        BETTER,
    ),
    Claim(
        "n-gram-first",
        "The n-gram score rises before an answer is recited",
        "arXiv 2510.11372",
        "epochs from the first n-grams beyond the base's own to the verbatim answer",
        _early,
        EARLIER,
    ),
    Claim(
        "greedy-recall",
        "A probability above .5 for each token suffices for verbatim greedy recall",
        "arXiv 2605.30260",
        "share of such answers that greedy decoding does not give word for word",
        _greedy,
        WRONG,
        absent=True,
    ),
    Claim(
        "repetition",
        "Few rows repeated teach more than many rows seen once",
        "arXiv 2602.11149",
        "native NLL after all rows once minus that after 24 rows in as many steps, nats a token",
        _repetition,
        BETTER,
    ),
    Claim(
        "all-layers",
        "LoRA on all linear layers beats LoRA on attention with as many weights",
        "Schulman, LoRA Without Regret, 2025",
        "native NLL with attention alone minus that with all layers, nats a token",
        _all_layers,
        BETTER,
    ),
    Claim(
        "ten-times-rate",
        "LoRA's best rate is ten times that of full fine-tuning",
        "Schulman, LoRA Without Regret, 2025",
        "native NLL at ten times the best full rate minus that at the best other rate of LoRA",
        _ten_times,
        BETTER,
        absent=True,
    ),
    Claim(
        "lora-leaks-less",
        "LoRA memorises less than full fine-tuning",
        "arXiv 2506.20856",
        "what training answers gain over controls by full fine-tuning minus by LoRA, nats a token",
        _leaks,
        LEAKS,
    ),
)

#: name → claim.
BY_NAME: Mapping[str, Claim] = {claim.name: claim for claim in CLAIMS}
