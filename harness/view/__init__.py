"""A run watched in the browser while it goes on: read-only, on this machine alone."""
