"""A Llama-like decoder with a LoRA adapter, trained by forward and backward passes written by hand.

A step of a small model is half matrix products and half everything else when autograd writes it; here
the rest is cut (docs/decisions/012-fused-decoder.md). ``recognise.find`` says where this may be used.
"""
