"""Which of many texts share a stretch with this one?

Postings of fingerprints, built in blocks, searchable from disk.

Winnowing (Schleimer, Wilkerson, Aiken 2003): of every ``w`` neighbouring hashes of ``k`` bytes the
smallest is kept, so any copy of k + w − 1 bytes shares a fingerprint. A posting is one 64-bit
number, 40 bits of hash and 24 of the text, so the whole is one array, sorted in place: 1.8 bytes of
memory a byte of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

OWNER_BITS = 24
MOST_TEXTS = 1 << OWNER_BITS
_OWNER = np.uint64(OWNER_BITS)
_BATCH_BYTES = 1 << 18
_BLOCK = 1 << 22
_PRIME = 0x9E3779B97F4A7C15
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_NONE = np.zeros(0, dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class Postings:
    """Sorted keys, hash above text number, and where each leading part of the hash begins among
    them.
    """

    k: int
    w: int
    keys: Hashes
    starts: NDArray[Any]

    @classmethod
    def build(cls, texts: Iterable[bytes], k: int, w: int, most: int) -> Postings:
        """Of normalised texts in UTF-8, numbered in order.

        Fingerprints of more than ``most`` texts are dropped.

        Raises ValueError for more than 16 777 216 texts.
        """
        buffer, n = np.empty(_BATCH_BYTES, dtype=np.uint64), 0
        for keys in _batches(texts, k, w):
            if n + len(keys) > len(buffer):
                buffer.resize(n + len(keys) + len(buffer) // 4, refcheck=False)
            buffer[n : n + len(keys)] = keys
            n += len(keys)
        buffer[:n].sort()
        n = _compact(buffer, n, most)
        buffer.resize(n, refcheck=False)
        sorted_keys = buffer
        bits = max(1, len(sorted_keys).bit_length() - 3)
        tops = np.arange(1 << bits, dtype=np.uint64) << np.uint64(64 - bits)
        starts = np.append(np.searchsorted(sorted_keys, tops), len(sorted_keys))
        return cls(
            k, w, sorted_keys, starts.astype(np.uint32 if len(sorted_keys) < 2**32 else np.uint64)
        )

    def sharing(self, text: bytes) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Numbers of the texts that share a fingerprint with this one, Σ 1/df of what they share,
        and how many.

        All hashes of the text are looked up, not only its fingerprints: what an edit hides of one
        is then found by others.
        """
        grams = np.unique(
            gram_hashes(np.frombuffer(text, dtype=np.uint8), self.k) >> _OWNER << _OWNER
        )
        bucket = (grams >> np.uint64(64 - (len(self.starts) - 1).bit_length() + 1)).astype(np.int64)
        low, high = self.starts[bucket].astype(np.int64), self.starts[bucket + 1].astype(np.int64)
        found = low < high
        grams, low, high = grams[found], low[found], high[found]
        begin = _first_not_below(self.keys, grams, low, high)
        hit = begin < high
        hit[hit] = self.keys[begin[hit]] >> _OWNER == grams[hit] >> _OWNER
        grams, begin, high = grams[hit], begin[hit], high[hit]
        counts = (
            _first_not_below(
                self.keys, grams | np.uint64(MOST_TEXTS - 1), begin, high, inclusive=True
            )
            - begin
        )
        places = np.arange(counts.sum()) + np.repeat(begin - np.cumsum(counts) + counts, counts)
        owners = (self.keys[places] & np.uint64(MOST_TEXTS - 1)).astype(np.int64)
        texts, inverse = np.unique(owners, return_inverse=True)
        return (
            texts,
            np.bincount(inverse, weights=np.repeat(1 / counts, counts), minlength=len(texts)),
            np.bincount(inverse, minlength=len(texts)),
        )

    def save(self, folder: Path) -> None:
        np.save(folder / "keys.npy", self.keys)
        np.save(folder / "starts.npy", self.starts)

    @classmethod
    def load(cls, folder: Path, k: int, w: int) -> Postings:
        """The keys stay on disk; what a query touches is read."""
        return cls(
            k, w, np.load(folder / "keys.npy", mmap_mode="r"), np.load(folder / "starts.npy")
        )


def gram_hashes(data: NDArray[np.uint8], k: int) -> Hashes:
    """A hash of every ``k`` bytes: a polynomial, put together from halves of halves, then mixed."""
    n = len(data) - k + 1
    if n <= 0:
        return _NONE
    block, size = data.astype(np.uint64), 1
    hashes, done = _NONE, 0
    while True:
        if k & size:
            tail = block[done : done + n]
            hashes = hashes * _power(size) + tail if done else tail.copy()
            done += size
        if done == k:
            break
        block = block[:-size] * _power(size) + block[size:]
        size *= 2
    hashes ^= hashes >> np.uint64(29)
    hashes *= _MIX
    hashes ^= hashes >> np.uint64(32)
    return hashes


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(_PRIME, exponent, 1 << 64))


def _batches(texts: Iterable[bytes], k: int, w: int) -> Iterator[Hashes]:
    batch: list[bytes] = []
    first = size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_BYTES:
            yield _keys(batch, first, k, w)
            first, size, batch = first + len(batch), 0, []
    yield _keys(batch, first, k, w)


def _keys(texts: list[bytes], first: int, k: int, w: int) -> Hashes:
    """The postings of some texts.

    One shorter than k + w − 1 bytes has its smallest hash, one shorter than k none.
    """
    if first + len(texts) > MOST_TEXTS:
        raise ValueError(f"an index holds at most {MOST_TEXTS} texts")
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    hashes = gram_hashes(np.frombuffer(b"".join(texts), dtype=np.uint8), k)
    smallest = hashes
    done = 1
    while done < w and len(smallest) > 1:
        step = min(done, w - done)
        smallest = np.minimum(smallest[:-step], smallest[step:])
        done += step
    windows = np.maximum(lengths - k - w + 2, 0)
    ends = np.cumsum(lengths)
    at = np.arange(windows.sum()) + np.repeat(
        ends - lengths - np.cumsum(windows) + windows, windows
    )
    owners = np.repeat(np.arange(first, first + len(texts), dtype=np.uint64), windows)
    keys = smallest[at] >> _OWNER << _OWNER | owners
    keys = keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys
    short = np.flatnonzero((windows == 0) & (lengths >= k))
    alone = [
        hashes[ends[i] - lengths[i] : ends[i] - k + 1].min() >> _OWNER << _OWNER
        | np.uint64(first + i)
        for i in short
    ]
    return np.append(keys, np.array(alone, dtype=np.uint64))


def _compact(keys: Hashes, n: int, most: int) -> int:
    """Leave each of the first ``n`` sorted keys once, without the hashes that more than ``most``
    texts have. In place, block by block.
    """
    kept = start = 0
    while start < n:
        end = min(n, start + _BLOCK)
        while end < n and keys[end] >> _OWNER == keys[end - 1] >> _OWNER:
            end += 1
        block = keys[start:end]
        block = block[np.append(True, block[1:] != block[:-1])]
        if len(block) > most:
            common = block[most:][block[most:] >> _OWNER == block[:-most] >> _OWNER] >> _OWNER
            block = block[~np.isin(block >> _OWNER, common)] if len(common) else block
        keys[kept : kept + len(block)] = block
        kept, start = kept + len(block), end
    return kept


def _first_not_below(
    keys: Hashes,
    wanted: Hashes,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    *,
    inclusive: bool = False,
) -> NDArray[np.int64]:
    """For each wanted number the first place in ``[low, high)`` whose key is not below it (above it
    with ``inclusive``).
    """
    low, high = low.copy(), high.copy()
    last = max(0, len(keys) - 1)
    while np.any(open_ := low < high):
        middle = (low + high) >> 1
        key = keys[np.minimum(middle, last)]
        below = open_ & ((key <= wanted) if inclusive else (key < wanted))
        low = np.where(below, middle + 1, low)
        high = np.where(open_ & ~below, middle, high)
    return low
