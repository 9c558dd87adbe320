"""A Llama-like decoder with a LoRA adapter, trained by hand-written forward and backward passes.

By autograd, half of a small model's step is matrix products and half is everything else; here the
rest is reduced (docs/decisions/012-fused-decoder.md). ``decoder.find_decoder`` says where it can be
used.
"""
