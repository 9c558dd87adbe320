"""Where answers come from: one protocol, and a backend for each way to run a model."""

from harness.backends.protocol import Answer, Backend, GenerateRequest, ModelSpec, ScoreRequest

__all__ = ["Answer", "Backend", "GenerateRequest", "ModelSpec", "ScoreRequest"]
