"""Where answers come from: one Protocol, several engines."""

from harness.backends.protocol import Backend, GenerateRequest, ScoreRequest

__all__ = ["Backend", "GenerateRequest", "ScoreRequest"]
