"""The Python that the pages show, and the notebook, are run on the tiny model."""

from __future__ import annotations

import ast
import json

import pytest

from tests.docs.snippets import ROOT, blocks
from tests.docs.test_run import small, workspace  # noqa: F401  # a fixture

NOTEBOOK = ROOT / "docs" / "python-api.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


@pytest.fixture
def here(workspace, tiny_model, tmp_path, monkeypatch):  # noqa: F811
    """An empty folder with the tiny model under the name that the page uses, and a small run."""
    small(monkeypatch, tmp_path, tiny_model)
    for name in ("my-model", "run.toml", "rows.jsonl"):
        (tmp_path / name).symlink_to(workspace / name)
    return tmp_path


def test_the_python_of_the_page_runs(here, capsys):
    shown = [b for b in blocks("docs/reference/python.md") if b.language == "python"]
    space: dict = {}
    for block in shown:
        exec(compile(block.text, block.place, "exec"), space)
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("EvaluationResult(my-model + ")
    assert told[1].startswith("ComparisonResult(my-model → my-model")
    assert set(space["table"].index) == {"chatml", "alpaca-newline"}
    assert (here / "build/after/report.html").is_file()


def test_the_notebook_runs_from_top_to_bottom(here):
    """Each code cell as Jupyter runs it: what its last line gives is shown."""
    space: dict = {}
    pictures = []
    for number, cell in enumerate(CELLS):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), space)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), space)
            if hasattr(value, "_repr_html_"):
                pictures.append(value._repr_html_())
    assert len(pictures) >= 5 and all("<table" in picture for picture in pictures)


def test_the_notebook_is_kept_without_outputs():
    assert all(not cell.get("outputs") for cell in CELLS)
    assert {cell["cell_type"] for cell in CELLS} == {"code", "markdown"}
