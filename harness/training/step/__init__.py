"""One optimiser step: loss, LoRA, optimisers, memory saving, several processes."""
