"""Published claims about fine-tuning, each tested on a small model: docs/claims.md."""
