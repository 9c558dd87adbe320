"""The comment of a pull request: posted once, then updated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.gate.baseline import to_baseline
from harness.gate.pull_request import POST_COMMENT, marker, render_comment
from harness.gate.run_gate import GateOptions, GateResult
from harness.records import GateCheck

COMMENTS = "repos/owner/name/issues/5/comments"
#: A stand-in for GitHub's command: it keeps the comments in comments.json, and filters them as the
#: query in the step does.
GH = """#!{python}
import json, os, pathlib, sys
store = pathlib.Path("comments.json")
found = json.loads(store.read_text()) if store.exists() else []
words = sys.argv[1:]
assert words[0] == "api" and os.environ["GH_TOKEN"] == "secret"
if "--jq" in words:
    assert words[2] == "{comments}" and "env.marker" in words[words.index("--jq") + 1]
    for each in found:
        if each["bot"] and each["body"].startswith(os.environ["marker"]):
            print(each["id"])
    sys.exit()
method, address = words[words.index("--method") + 1 :][:2]
body = pathlib.Path(words[-1].removeprefix("body=@")).read_text()
if method == "POST":
    assert address == "{comments}"
    found.append({{"id": 100 + len(found), "bot": True, "body": body}})
else:
    assert method == "PATCH"
    [old] = [each for each in found if address == f"repos/owner/name/issues/comments/{{each['id']}}"]
    old["body"] = body
store.write_text(json.dumps(found))
"""


class Repository:
    """A pull request with the comments in comments.json."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        gh = folder / "bin" / "gh"
        gh.parent.mkdir()
        gh.write_text(GH.format(python=python, comments=COMMENTS))
        gh.chmod(0o755)

    def post(self, text: str | None) -> list[dict]:
        comment = self.folder / "comment.md"
        comment.unlink(missing_ok=True)
        if text is not None:
            comment.write_text(text)
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", POST_COMMENT],
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "GH_TOKEN": "secret",
                "COMMENTS": COMMENTS,
                "COMMENT": "comment.md",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        store = self.folder / "comments.json"
        return json.loads(store.read_text()) if store.exists() else []


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path, sys.executable)


def test_one_comment_is_updated_and_not_repeated(repository):
    first, second = f"{marker('gate', 'eval/')}\nfailed", f"{marker('gate', 'eval/')}\npassed"
    assert [each["body"] for each in repository.post(first)] == [first]
    assert [each["body"] for each in repository.post(second)] == [second]


def test_comments_of_others_are_left_alone(repository):
    """Of a person who quotes ours, and of a gate on another model."""
    ours, other = (f"{marker('gate', name)}\nx" for name in ("eval/", "eval/other/"))
    theirs = {"id": 1, "bot": False, "body": f"{marker('gate', 'eval/')}\nI quote"}
    (repository.folder / "comments.json").write_text(json.dumps([theirs]))
    repository.post(other)
    found = repository.post(ours)
    assert [each["body"] for each in found] == [theirs["body"], other, ours]


def test_without_a_comment_nothing_is_posted(repository):
    assert repository.post(None) == []


def test_a_marker_ends_where_it_ends():
    assert marker("eval", "a --> b") == "<!-- formatproof eval a - -> b -->"


def result(checks, build, **options):
    evaluation = build({("chatml", "stopped"): [1.0]})
    current = to_baseline(evaluation, ("chatml",))
    return GateResult(GateOptions("m", **options), evaluation, current, current, tuple(checks))


def lost(index, outcome="failed"):
    return GateCheck(
        f"format-{index:03}", "stopped", outcome, 1.0, 0.5, 0.02, 80, 3e-4, worst_case="answer-`1`"
    )


def test_a_comment_fits_into_what_github_accepts(make_evaluation):
    """However many checks failed, whatever the names hold."""
    text = render_comment(result(map(lost, range(500)), make_evaluation))
    assert len(text) < 20_000 and "- … 470 more" in text


def test_an_inconclusive_drop_is_in_the_title(make_evaluation):
    drop = lost(1, "inconclusive")
    assert "passed, with inconclusive drops" in render_comment(result([drop], make_evaluation))
    strict = render_comment(result([drop], make_evaluation, strict=True))
    assert "## Format gate: failed" in strict
