"""The gate: baselines, margins and verdicts, and the pytest plugin that runs them."""
