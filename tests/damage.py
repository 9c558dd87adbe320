"""Ways in which a file can be damaged, for hypothesis."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

Damage = Callable[[bytes], bytes]


def _cut(at: float) -> Damage:
    return lambda data: data[: int(at * len(data))]


def _overwrite(at: float, part: bytes) -> Damage:
    def damage(data: bytes) -> bytes:
        start = int(at * len(data))
        return data[:start] + part + data[start + len(part) :]

    return damage


def _insert(at: float, part: bytes) -> Damage:
    def damage(data: bytes) -> bytes:
        start = int(at * len(data))
        return data[:start] + part + data[start:]

    return damage


_places = st.floats(0, 1)
_parts = st.binary(min_size=1, max_size=12) | st.sampled_from(
    [b"{", b"]", b",", b'"', b"null", b"NaN", b"\xff", b"\\ud800", b"-1", b"9" * 30, b"\x00" * 8]
)
damages: st.SearchStrategy[Damage] = st.one_of(
    st.builds(_cut, _places),
    st.builds(_overwrite, _places, _parts),
    st.builds(_overwrite, st.floats(0, 0.02), _parts),  # headers
    st.builds(_insert, _places, _parts),
    st.just(lambda data: b"\xef\xbb\xbf" + data),
    st.sampled_from([b"", b"{", b"[]", b"null", b"[" * 5000]).map(lambda text: lambda _: text),
)
