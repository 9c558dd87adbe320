"""A run in the browser while it runs: read-only, on this machine alone."""
