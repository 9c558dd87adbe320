"""Training LoRA adapters across prompt formats."""
