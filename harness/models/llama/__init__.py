"""Llama-like decoders of transformers taken apart, for passes written by hand: training's (harness.training.step.handwritten) and inference's (harness.backends).

Torch is imported at the top of these modules, so they are imported inside functions.
"""
