"""The ``harness`` command: parse, call, print. Every heavy import stands inside its command."""
