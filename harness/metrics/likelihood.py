"""How likely a reference text is in a format, and how much less than in the native format."""

from __future__ import annotations

from collections.abc import Mapping

from harness.metrics.registry import Metric, ReferenceItem, Scored, scorer


@scorer(
    Metric(
        "nll_excess",
        "reference",
        "`nll` here minus `nll` in the native format, item by item",
        "lower",
        label="excess NLL",
        unit="nats/token",
        headline=True,
        signed=True,
        worst=1.5,
        tolerance=0.15,
        rank=40,
    ),
    Metric(
        "nll",
        "reference",
        "negative log-probability of the reference, nats per token of its own words",
        "lower",
        label="NLL",
        unit="nats/token",
        worst=None,
        tolerance=0.40,
        rank=41,
    ),
)
def reference_nll(item: ReferenceItem) -> Mapping[str, Scored]:
    """NLL in nats per token of the reference.

    Divided in every format by the native format's token count, so that formats are comparable. A
    reference without a token is not scored.
    """
    native = item.native
    tokens = (native or item.scoring).tokens
    if not tokens:
        return dict.fromkeys(("nll", "nll_excess"), (None, "the reference has no token"))
    nll = -item.scoring.logprob / tokens
    if native is None:
        return {"nll": nll, "nll_excess": (None, "no native format to compare with")}
    return {"nll": nll, "nll_excess": nll + native.logprob / tokens}
