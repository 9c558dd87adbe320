"""How much is computed at a time: what fits into the free memory, and less after it ended."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from harness.backends.local.limits import text_config
from harness.backends.local.packing import WIDTH
from harness.models import LoadedModel
from harness.models.architecture import largest_size
from harness.models.device import free_bytes

#: The shares of the free memory for keys and values, for one forward pass and for the logits of
#: decoding rows. The rest is left for what is not counted: work space of kernels, fragments.
CACHE_SHARE, PASS_SHARE, LOGITS_SHARE = 0.5, 0.2, 0.1
#: The most tokens in the KV cache, rows and tokens of a forward pass on a CPU, where more of them
#: leave its caches and are no faster.
ON_CPU = (16384, 128, 2048)
#: The same elsewhere. An H200 was kept busy by 16384 tokens in a pass; more rows than 256 were not
#: measured (docs/log.md).
ELSEWHERE = (1 << 22, 512, 16384)
#: Parts of a layer's input, of its queries, keys and values, and of its MLP that live at a time.
_HIDDEN, _HEADS, _MLP = 6, 3, 3
#: Bytes of a logit beside the model's own dtype: converted to float32, and once more while drawn.
_DRAWN = 12
#: Architectures whose layers all keep keys and values of the shape that the configuration says.
PLAIN = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
#: Tokens of the two rows by which another cache is measured.
_SHORT, _LONG = 8, 24


@dataclass(slots=True)
class Room:
    """The most that is computed at a time. A backend has one, and its limits only shrink.

    ``cache_tokens`` limits the tokens in the KV cache, ``rows`` the rows decoded and the packs or
    rows scored at a time, ``pass_tokens`` the tokens of a forward pass over prompts or answers.
    """

    cache_tokens: int
    rows: int
    pass_tokens: int
    news: str = field(default="", compare=False)
    """What ``say_once`` prints as soon as a smaller limit has been enough."""

    def slots(self, width: int, waiting: int) -> int:
        """How many of the waiting rows, of at most ``width`` tokens each, are decoded at a time."""
        return max(1, min(self.rows, self.cache_tokens // width, waiting))

    def halve_pass(self, tokens: int) -> None:
        """A forward pass of this number of tokens did not fit into the memory."""
        self.pass_tokens = max(1, min(self.pass_tokens, tokens) // 2)
        self.news = f"out of memory: passes of at most {self.pass_tokens} tokens from here on"

    def halve_cache(self, tokens: int) -> None:
        """Decoding rows of this number of tokens together did not fit into the memory."""
        self.cache_tokens = max(1, min(self.cache_tokens, tokens) // 2)
        self.pass_tokens = max(min(self.pass_tokens, WIDTH), self.pass_tokens // 2)
        self.news = (
            f"out of memory: answers of at most {self.cache_tokens} tokens at a time from here on"
        )

    def say_once(self) -> None:
        """Print on standard error that the limits have shrunk, after the first success since."""
        if self.news:
            print(self.news, file=sys.stderr, flush=True)
            self.news = ""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of a token in the KV cache, of a token in a forward pass, and of a decoding row."""

    cached_token: int
    pass_token: int
    row: int


def room_for(loaded: LoadedModel, *, tokens: int | None = None, rows: int | None = None) -> Room:
    """What fits into the memory that is free now, within what the user asked for.

    ``tokens`` sets both limits of tokens and ``rows`` that of rows, whatever is free; a forward
    pass on a CPU stays small. None: as much as is useful and fits.
    """
    on_cpu = loaded.device == "cpu"
    most = ON_CPU if on_cpu else ELSEWHERE
    if tokens is None or rows is None:
        fits = fitting(_free(loaded), footprint(loaded), most)
    else:
        fits = Room(*most)
    if tokens is not None:
        fits.cache_tokens, fits.pass_tokens = tokens, min(tokens, most[2]) if on_cpu else tokens
    if rows is not None:
        fits.rows = rows
    return fits


def fitting(free: int, bytes_of: Footprint, most: tuple[int, int, int]) -> Room:
    """The room in ``free`` bytes: never more than fits by the formula, except 1 of everything.

    Limits are rounded down to three binary digits, so that a little more or less free memory does
    not change which rows share a batch: in 16 bits that can change an answer.
    """
    cache, rows, tokens = most
    return Room(
        _rounded(free * CACHE_SHARE / bytes_of.cached_token, cache),
        _rounded(free * LOGITS_SHARE / bytes_of.row, rows),
        _rounded(free * PASS_SHARE / bytes_of.pass_token, tokens),
    )


def _rounded(number: float, most: int) -> int:
    """A number rounded down to three binary digits, at least 1 and at most ``most``."""
    whole = max(1, min(int(number), most))
    small = max(0, whole.bit_length() - 3)
    return whole if whole == most else whole >> small << small


def footprint(loaded: LoadedModel) -> Footprint:
    """What a model's tokens and rows hold in memory, by its configuration. Rounded upwards."""
    config = text_config(loaded)
    size, vocabulary = loaded.torch_dtype.itemsize, int(config.vocab_size)
    hidden, heads, width = int(config.hidden_size), _heads(config), _head_width(config)
    experts = largest_size(config, "num_experts_per_tok") or 1
    inner = max(
        largest_size(config, "intermediate_size", "n_inner", "ffn_dim") or 4 * hidden,
        largest_size(config, "moe_intermediate_size") * experts,
    )
    token, state = cache_bytes(loaded)
    # the keys and values of one layer for each query head that reads them, and the same in a copy
    copied = 2 * 2 * heads * width * size
    mask = WIDTH * size * (1 + heads // _key_heads(config))
    if config._attn_implementation == "eager":
        mask += WIDTH * heads * (size + 4)
    layer = size * (_HIDDEN * hidden + _HEADS * 3 * heads * width + _MLP * inner)
    return Footprint(
        token + copied + 2 * size,
        layer + mask + vocabulary * (size + 4),
        state + vocabulary * (size + _DRAWN),
    )


def cache_bytes(loaded: LoadedModel) -> tuple[int, int]:
    """Bytes of the keys and values of one token in all layers, and of a row's states.

    Plain attention is 2 · layers · key heads · head width · bytes. What other architectures keep,
    such as compressed or shared keys and states, is measured on two short rows.
    """
    if "cache bytes" not in loaded.probed:
        config = text_config(loaded)
        plain = type(loaded.base).__name__ in PLAIN
        found = (
            (_plain_bytes(config, loaded.torch_dtype.itemsize), 0) if plain else _measured(loaded)
        )
        loaded.probed["cache bytes"] = found or (_guess(loaded), 0)
    found_bytes: tuple[int, int] = loaded.probed["cache bytes"]
    return found_bytes


def _plain_bytes(config: Any, size: int) -> int:
    return 2 * int(config.num_hidden_layers) * _key_heads(config) * _head_width(config) * size


def _guess(loaded: LoadedModel) -> int:
    """The keys and values of one token if every query head had its own, of the widest kind."""
    config = text_config(loaded)
    layers = largest_size(config, "num_hidden_layers") or 64
    return int(2 * layers * _heads(config) * _head_width(config) * loaded.torch_dtype.itemsize)


def _heads(config: Any) -> int:
    return largest_size(config, "num_attention_heads", "num_heads") or 1


def _key_heads(config: Any) -> int:
    return largest_size(config, "num_key_value_heads") or _heads(config)


def _head_width(config: Any) -> int:
    compressed = largest_size(config, "qk_nope_head_dim") + largest_size(config, "qk_rope_head_dim")
    named = largest_size(config, "head_dim", "global_head_dim", "v_head_dim")
    return max(named, compressed) or -(-int(config.hidden_size) // _heads(config))


def _measured(loaded: LoadedModel) -> tuple[int, int] | None:
    """What two short rows leave in the model's own cache; None where it gives none back."""
    from harness.backends.local.padded import Padded
    from harness.models.quiet import quiet

    sizes = []
    try:
        with quiet(), loaded.inference():
            for length in (_SHORT, _LONG):
                engine = Padded(loaded, 1)
                engine.enter([[1] * length])
                sizes.append(_held(engine.memory[1], set()) if engine.memory else 0)
    except Exception:  # a model may raise anything; then its size is guessed
        return None
    short, long = sizes
    token = -(-max(0, long - short) // (_LONG - _SHORT))
    return (max(1, token), max(0, short - _SHORT * token)) if long else None


def _held(thing: Any, seen: set[int]) -> int:
    """Bytes of all tensors that an object leads to."""
    import torch

    if id(thing) in seen or isinstance(thing, torch.nn.Module):
        return 0
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        return thing.numel() * thing.element_size()
    if isinstance(thing, dict):
        return sum(_held(each, seen) for each in thing.values())
    if isinstance(thing, list | tuple):
        return sum(_held(each, seen) for each in thing)
    return _held(vars(thing), seen) if hasattr(thing, "__dict__") else 0


def _free(loaded: LoadedModel) -> int:
    """Free bytes of the model's device; of the fullest one, where it lies on several."""
    placed = {str(parameter.device) for parameter in loaded.model.parameters()}
    cards = {device for device in placed if device.startswith("cuda")}
    return min(free_bytes(device) for device in cards or {loaded.device})
