"""A model's digest depends on its files, not on their folder, and large files are hashed once."""

import json
import os
import shutil
import time

import pytest

from harness.models import digest, locate
from harness.models.digest import digest_file


def test_the_digest_follows_weights_and_tokenizer_not_the_path(tiny_model, tmp_path):
    first = locate(str(tiny_model)).digest
    folder = shutil.copytree(tiny_model, tmp_path / "copy")
    assert locate(str(folder)).digest == first
    facts = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**facts, "extra": 1}))
    assert locate(str(folder)).digest != first


@pytest.fixture
def hashed(tmp_path, monkeypatch):
    """Every file is large; the list of files that were read."""
    read = []
    whole = digest._hash

    def hash_and_note(file):
        read.append(file.name)
        return whole(file)

    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digest, "KEPT_FROM", 0)
    monkeypatch.setattr(digest, "_hash", hash_and_note)
    return read


@pytest.fixture
def later(monkeypatch):
    """A minute after the files were written."""
    monkeypatch.setattr(digest.time, "time_ns", lambda: time.clock_gettime_ns(0) + 60 * 10**9)


def write(file, content):
    file.write_bytes(content)
    return file


def test_a_file_is_hashed_once(tmp_path, hashed, later):
    file = write(tmp_path / "a", b"one")
    first = digest_file(file)
    assert digest_file(file) == first
    assert digest_file(tmp_path / "." / "a") == first
    assert hashed == ["a"]
    assert digest_file(write(tmp_path / "b", b"one")) == first, "another file is another entry"
    assert hashed == ["a", "b"]


@pytest.mark.parametrize("change", ["content", "same time", "replaced"])
def test_a_changed_file_of_the_same_size_is_hashed_again(tmp_path, hashed, later, change):
    file = write(tmp_path / "a", b"one")
    first, before = digest_file(file), file.stat()
    if change == "replaced":
        write(tmp_path / "new", b"two").rename(file)
    else:
        write(file, b"two")
    if change != "content":  # as cp --preserve and tar do
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert digest_file(file) != first


def test_a_file_that_has_just_changed_is_not_kept(tmp_path, hashed, monkeypatch):
    """It could change again in the same tick of the file system's clock."""
    file = write(tmp_path / "a", b"one")
    state = file.stat()
    monkeypatch.setattr(type(file), "stat", lambda self, **_: state)  # the clock stands still
    first = digest_file(file)
    write(file, b"two")
    assert digest_file(file) != first
    assert hashed == ["a", "a"]


def test_small_files_are_not_kept(tmp_path, hashed, later, monkeypatch):
    monkeypatch.setattr(digest, "KEPT_FROM", 4)
    file = write(tmp_path / "a", b"one")
    assert digest_file(file) == digest_file(file)
    assert hashed == ["a", "a"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": 1}'])
def test_a_damaged_cache_is_made_again(tmp_path, hashed, later, content):
    file = write(tmp_path / "a", b"one")
    first = digest_file(file)
    [entry] = (tmp_path / "cache" / "digests").iterdir()
    entry.write_text(content)
    assert digest_file(file) == digest_file(file) == first
    assert hashed == ["a", "a"]


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path, hashed, later, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(write(tmp_path / "file", b"")))
    file = write(tmp_path / "a", b"one")
    assert digest_file(file) == digest_file(file)
    assert hashed == ["a", "a"]
