"""Coverage-guided fuzzing of the measures with atheris: python tests/fuzz/fuzz_measures.py
-max_total_time=120

Arguments are libFuzzer's. It stops at the first text that breaks a measure, and writes it to a
file.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["harness.metrics"]):
    from tests.metrics.every_measure import judge
    from tests.metrics.test_any_text import PIECES


def one(data: bytes) -> None:
    """A text of known pieces and free characters, and another."""
    source = atheris.FuzzedDataProvider(data)
    texts = []
    for _ in range(2):
        parts = []
        for _ in range(source.ConsumeIntInRange(0, 60)):
            known = source.ConsumeBool()
            parts.append(
                PIECES[source.ConsumeIntInRange(0, len(PIECES) - 1)]
                if known
                else source.ConsumeUnicode(8)
            )
        texts.append("".join(parts))
    judge(*texts)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
