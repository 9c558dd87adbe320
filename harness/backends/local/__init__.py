"""Models on this machine, through transformers or the hand-written decoder."""
