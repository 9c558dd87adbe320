"""The gate's pytest hooks and options."""

from harness.gate.plugin import *  # noqa: F403  # exactly the hooks that its __all__ names
