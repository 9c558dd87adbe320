"""Results are written into a page that has a place for them, and anything else is left alone."""

from __future__ import annotations

import pytest

from experiments.claims.__main__ import claims
from experiments.forged.__main__ import forged
from experiments.minisymposium.__main__ import minisymposium
from experiments.page_results import BEGIN, END, with_results
from experiments.teaching.__main__ import teaching
from harness.errors import HarnessError

COMMANDS = [claims, forged, minisymposium, teaching]


def test_what_was_between_the_marks_is_replaced():
    page = with_results(f"# T\n{BEGIN}old\n{END}tail\n", "new\n")
    assert page == f"# T\n{BEGIN}new\n{END}tail\n"


@pytest.mark.parametrize("text", ["# T\n", f"# T\n{BEGIN}", f"# T\n{END}"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_without_a_place_is_refused_and_kept(command, text, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(HarnessError, match="no place for results") as refused:
        command(["--out", str(tmp_path / "none"), "--page", str(page)])
    assert refused.value.where == str(page)
    assert page.read_text(encoding="utf-8") == text and list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_page_is_refused(command, tmp_path):
    (tmp_path / "folder.md").mkdir()
    for name, why in (
        ("nowhere.md", "cannot read the page: No such file"),
        ("folder.md", "folder"),
    ):
        with pytest.raises(HarnessError, match=why) as refused:
            command(["--out", str(tmp_path / "none"), "--page", str(tmp_path / name)])
        assert refused.value.where == str(tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.md"]
