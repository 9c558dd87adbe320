"""The claims of the original experiment and of its readers, each judged on the results of a model.

Each claim is judged by a number with its 95 % interval, or by a test or an exact comparison if no
interval was computed, and by the smallest effect that matters. Only the claims and these smallest
effects are written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.effects import Effect, present, reversed_sign, with_width
from experiments.paired import spelt

Parts = Mapping[str, Mapping[str, Any]]

#: Symptom → the smallest change that matters: shares of cases, of words and of texts; nats a token.
LEAST = {
    "training answers likelier than controls": 0.25,
    "near-verbatim recall": 0.1,
    "loss rises in held-out formats": 0.05,
    "false statement on an unanswerable question": 0.1,
    "canned phrase": 0.05,
    "answer in another language": 0.05,
    "drift hazard along answers": 0.02,
    "drift hazard along references": 0.02,
    "loop": 0.1,
}
#: The smallest difference of NLL between two ways of training that matters, in nats a token.
BETTER = 0.02
#: The smallest change of NLL from the start to the end that matters.
CHANGED = 0.05
#: The largest share of alpha's effect that may remain once the rate is corrected.
LEFT = 0.1


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a claim holds by the results of one model; None: inconclusive, or not measured."""

    holds: bool | None
    evidence: str


NOT_MEASURED = Finding(None, "not measured")


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of the original, what was measured for it, and how the results judge it."""

    text: str
    measure: str
    judge: Callable[[Parts], Finding]


def findings(parts: Parts) -> list[Finding]:
    """What the results say of each of CLAIMS, in order."""
    return [claim.judge(parts) for claim in CLAIMS]


def _measured(
    find: Callable[[Parts], Effect | None],
    least: float,
    form: str = "+.3f",
    *,
    absent: bool = False,
) -> Callable[[Parts], Finding]:
    """A claim that an effect is there, or with ``absent`` that it is not."""

    def judge(parts: Parts) -> Finding:
        effect = find(parts)
        if effect is None:
            return NOT_MEASURED
        there = present(effect, least)
        holds = not there if absent and there is not None else there
        return Finding(holds, spelt(effect, form))

    return judge


def symptom(parts: Parts, name: str) -> Mapping[str, Any] | None:
    """A symptom of the over-trained run."""
    rows = parts.get("2", {}).get("symptoms", ())
    return next((row for row in rows if row["symptom"] == name), None)


def _at_the_end(name: str) -> Callable[[Parts], Effect | None]:
    """The change of a symptom from the base to the end of the over-trained run."""

    def find(parts: Parts) -> Effect | None:
        row = symptom(parts, name)
        if row is None or row["points"][-1]["difference"] is None:
            return None
        last = row["points"][-1]
        return with_width({"value": last["value"], **last["difference"]})

    return find


def _effect(part: str, *keys: str, gain: bool = False) -> Callable[[Parts], Effect | None]:
    """An effect that a part has computed; ``gain``: with the other sign."""

    def find(parts: Parts) -> Effect | None:
        found: Any = parts.get(part)
        for key in keys:
            found = None if found is None else found.get(key)
        return reversed_sign(found) if gain else found

    return find


def _schedule(shape: str) -> Callable[[Parts], Effect | None]:
    def find(parts: Parts) -> Effect | None:
        rows = parts.get("4", {}).get("rows", ())
        row = next((row for row in rows if row["shape"] == shape), None)
        return reversed_sign(row["against_constant"]) if row else None

    return find


def _rises(parts: Parts) -> Finding:
    """By its interval if there is one, else by the test of the turning point."""
    name = "loss rises in held-out formats"
    found = _measured(_effect("2", "effects", "rise"), LEAST[name])(parts)
    row = symptom(parts, name)
    if found is not NOT_MEASURED or row is None:
        return found
    if row["from"] is None:
        return Finding(None, "no significant turning point, and no interval was computed")
    return Finding(
        True, f"from step {row['from']} on, by the test of the turning point; no interval"
    )


def _alpha(parts: Parts) -> Finding:
    """Exact: the runs differ in alpha alone, so that nothing is sampled between their curves."""
    rows = [row for row in parts.get("5", {}).get("rows", ()) if not row["reference"]]
    raw, corrected = (
        {row["alpha"]: row["strays"] for row in rows if row["compensated"] is compensated}
        for compensated in (False, True)
    )
    pairs = {alpha: (raw[alpha], corrected[alpha]) for alpha in raw if alpha in corrected}
    if not pairs:
        return NOT_MEASURED
    evidence = "; ".join(
        f"alpha {alpha:g}: {one:.3f}, and {fixed:.3f} once corrected"
        for alpha, (one, fixed) in pairs.items()
    )
    if any(fixed > max(BETTER, one / 2) for one, fixed in pairs.values()):
        return Finding(False, evidence)
    holds = all(one >= BETTER and fixed <= LEFT * one for one, fixed in pairs.values())
    return Finding(holds or None, evidence)


def _of_symptom(name: str, form: str = "+.3f") -> Callable[[Parts], Finding]:
    return _measured(_at_the_end(name), LEAST[name], form)


CLAIMS = (
    Claim(
        "A high rate for many epochs recites the training rows",
        "share of an answer's words that it repeats, minus that of controls",
        _of_symptom("near-verbatim recall"),
    ),
    Claim(
        "Past a turning point it becomes worse in formats that it was not trained in",
        "held-out NLL at the end minus that at the best checkpoint, nats a token",
        _rises,
    ),
    Claim(
        "It loses more in other formats than in its own",
        "change of held-out NLL minus change of NLL in a trained format, nats a token",
        _measured(_effect("2", "effects", "gap"), CHANGED),
    ),
    Claim(
        "It invents facts",
        "change of the share of false premises that it accepts",
        _of_symptom("false statement on an unanswerable question"),
    ),
    Claim(
        "It falls into canned phrases",
        "change of the share of answers with a canned phrase",
        _of_symptom("canned phrase"),
    ),
    Claim(
        "It writes Chinese, or another language, without having been taught any",
        "change of the share of answers in another language",
        _of_symptom("answer in another language"),
    ),
    Claim(
        "Another script becomes more likely",
        "change of the probability of another script along reference answers",
        _of_symptom("drift hazard along references", "+.4f"),
    ),
    Claim(
        "A tenth of the rate is better, each at its best checkpoint",
        "held-out NLL of the high rate minus that of the low one, nats a token",
        _measured(_effect("3", "difference", gain=True), BETTER),
    ),
    Claim(
        "Very many epochs at a very low rate improve it",
        "held-out NLL of the base minus that at the end, nats a token",
        _measured(_effect("9", "difference", gain=True), CHANGED),
    ),
    Claim(
        "Very many epochs at a very low rate do not memorise the rows",
        "gain of training answers over controls, nats a token",
        _measured(
            _effect("9", "recall"), LEAST["training answers likelier than controls"], absent=True
        ),
    ),
    Claim(
        "Stopping at the turning point is better than training on",
        "held-out NLL of the high rate at its end minus at its picked checkpoint, nats a token",
        _measured(_effect("3", "stopping"), BETTER),
    ),
    Claim(
        "Going back before the turning point and continuing at a tenth of the rate is better still",
        "held-out NLL of the run's picked checkpoint minus that of the branch's, nats a token",
        _measured(_effect("4", "auto_branch", "against_trunk", gain=True), BETTER),
    ),
    Claim(
        "A sigmoid schedule (slow, fast, slow) is better than a constant rate of equal sum",
        "held-out NLL of the constant rate minus that of the sigmoid, nats a token",
        _measured(_schedule("sigmoid (bump)"), BETTER),
    ),
    Claim(
        "A rising sigmoid schedule is better than a constant rate of equal sum",
        "held-out NLL of the constant rate minus that of the sigmoid, nats a token",
        _measured(_schedule("sigmoid (rise)"), BETTER),
    ),
    Claim(
        "Alpha acts on the learning rate, and on nothing else",
        "largest distance from the reference alpha's curve of held-out NLL, nats a token (exact)",
        _alpha,
    ),
)
