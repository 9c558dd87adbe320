"""The engine of this machine: prefix-tree packing, continuous batching, hand-written passes."""
