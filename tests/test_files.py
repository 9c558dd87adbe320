"""Files and folders that appear whole or not at all, and a path that leads to something else."""

from __future__ import annotations

import errno
import os

import pytest

from harness.errors import HarnessError
from harness.files import atomic_folder, new_folder, refuse_unwritable, write_text

FOLDER = "a folder, where a file is expected"
FILE = "a file, where a folder is expected"


def refused(path, call):
    """The message and the place of the error; nothing half-written is left there."""
    with pytest.raises(HarnessError) as caught:
        call(path)
    assert not [*path.parent.glob(".*")] if path.parent.is_dir() else True
    return caught.value.message, caught.value.where


def make(path):
    with new_folder(path) as folder:
        (folder / "a").write_text("a")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    return path


def test_a_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / "x").mkdir()
    assert refused(tmp_path / "x", lambda path: write_text(path, "")) == (
        FOLDER,
        str(tmp_path / "x"),
    )


@pytest.mark.parametrize("below", ["a", "a/b", "a/b/c"])
@pytest.mark.parametrize("call", [make, lambda path: write_text(path, ""), refuse_unwritable])
def test_a_file_in_the_place_of_a_folder(file, below, call):
    assert refused(file / below, call) == (FILE, str(file))
    assert file.read_text() == "old"


def test_a_new_folder_may_be_there_if_it_is_empty(tmp_path, file):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new/one"):
        make(tmp_path / name)
        assert [path.name for path in (tmp_path / name).iterdir()] == ["a"]
    assert refused(tmp_path / "empty", make)[0] == "the folder exists already"
    assert refused(file, make)[0] == FILE


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EEXIST])
def test_what_ends_the_writing_of_a_folder_is_said(tmp_path, number):
    """A file that is there twice within the folder is no file in the place of the folder."""

    def write(path):
        with atomic_folder(path, what="adapter"):
            raise OSError(number, os.strerror(number))

    wanted = f"cannot write the adapter: {os.strerror(number)}"
    assert refused(tmp_path / "x", write) == (wanted, str(tmp_path / "x"))


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    refuse_unwritable(tmp_path / "new" / "one")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    message = "the folder may not be written to"
    assert refused(tmp_path / "new" / "one", refuse_unwritable) == (message, str(tmp_path))
