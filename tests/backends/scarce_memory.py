"""A fake allocator: a pass or a KV cache above its caps raises torch.OutOfMemoryError."""

from __future__ import annotations

import weakref

import torch

from harness.backends.local import llama_forward, padded, slots


class Scarce:
    """Caps on the tokens of a forward pass and on those in a KV cache.

    Every engine looks its tokens up in the embedding. A failing pass holds a tensor, as a real one
    does; ``leaked`` counts those that were still alive at a later pass.
    """

    def __init__(self, monkeypatch, *, passes=1 << 30, cache=1 << 30, error=None):
        self.passes, self.cache = passes, cache
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB")
        self.raised = self.largest = self.largest_cache = self.leaked = 0
        self._held = []
        for module in (llama_forward, torch.nn.functional):
            self._wrap(monkeypatch, module, "embedding", self._pass)
        self._wrap(monkeypatch, slots.Slots, "__init__", self._slots)
        self._wrap(monkeypatch, padded.Padded, "_forward", self._padded)

    def _wrap(self, monkeypatch, owner, name, check):
        plain = getattr(owner, name)

        def checked(*args, **kwargs):
            check(*args)
            return plain(*args, **kwargs)

        monkeypatch.setattr(owner, name, checked)

    def _pass(self, ids, *_):
        self.largest = max(self.largest, self._need(ids.numel(), self.passes))

    def _slots(self, engine, loaded, forward, count, width, budget):
        self.largest_cache = max(self.largest_cache, self._need(count * width, self.cache))

    def _padded(self, engine, ids, positions):
        self.largest_cache = max(self.largest_cache, self._need(engine.mask.numel(), self.cache))

    def _need(self, tokens, cap):
        self.leaked += sum(one() is not None for one in self._held)
        self._held = []
        if tokens > cap:
            of_the_pass = torch.zeros(3)
            self._held.append(weakref.ref(of_the_pass))
            self.raised += 1
            raise type(self.error)(*self.error.args)  # a new one, with a traceback of its own
        return tokens
