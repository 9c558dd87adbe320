"""The gate: baselines, tolerances and checks, and the pytest plugin that runs them."""
