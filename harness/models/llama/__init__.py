"""The parts of Llama-like decoders, for the hand-written passes of training and of inference.

Torch is imported at the top of these modules, so import them inside functions.
"""
