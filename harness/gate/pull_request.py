"""A gate's run as Markdown: GitHub's job summary, and the one comment on a pull request."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.files import write_text
from harness.gate.messages import (
    headline,
    is_drop,
    next_step,
    outcome_counts,
    undecided,
    worst_first,
)
from harness.gate.run_gate import GateOptions, GateResult
from harness.records import GateCheck
from harness.report.wording import markdown_text, verdict_lines

#: The comment's text, in the folder of the report.
COMMENT_FILE = "comment.md"
#: Checks that are listed; GitHub refuses a comment of more than 65 536 characters.
_LISTED = 30
_LONGEST = 400

#: The address of a pull request's comments, for a step of GitHub Actions.
COMMENTS = "repos/${{ github.repository }}/issues/${{ github.event.number }}/comments"
#: Such a step in bash: post the file $COMMENT as a comment at $COMMENTS, the
#: address repos/OWNER/NAME/issues/N/comments, or update the bot's comment that begins with the
#: file's first line.
POST_COMMENT = r"""test -f "$COMMENT" || exit 0
marker=$(head -n 1 "$COMMENT")
export marker
ours='.[] | select(.user.type == "Bot" and (.body | startswith(env.marker))) | .id'
ids=$(gh api --paginate "$COMMENTS" --jq "$ours")
if [ -n "$ids" ]; then
  id=$(head -n 1 <<< "$ids")
  gh api --silent --method PATCH "${COMMENTS%/*/comments}/comments/$id" -F "body=@$COMMENT"
else
  gh api --silent --method POST "$COMMENTS" -F "body=@$COMMENT"
fi
"""


def marker(kind: str, name: str) -> str:
    """The first line of a comment, by which the next run finds it. GitHub does not show it."""
    return f"<!-- formatproof {kind} {name.replace('--', '- -')} -->"


def render_comment(result: GateResult) -> str:
    """The outcome, a table of what failed or cannot be decided, worst first, and what to do."""
    checks, options = result.checks, result.options
    failed = worst_first(check for check in checks if check.fails)
    drops = worst_first(check for check in checks if is_drop(check))
    measured = " with ".join(f"`{_code(n)}`" for n in (options.model, options.adapter) if n)
    lines = [
        marker("gate", options.tests[0]),
        f"## Format gate: {_word(result, failed, drops)}",
        "",
        f"{measured}: {outcome_counts(checks)}.",
        "",
        *_listed(failed, "failed"),
        *_listed(drops, "inconclusive: these cases cannot decide"),
    ]
    if result.before is None:
        lines += [f"- {_short(line)}" for line in verdict_lines(result.verdicts)] + [""]
    if result.power:
        lines += [_short(result.power), ""]
    lines += [f"Next: {_short(next_step(result))}", ""]
    return "\n".join(lines)


def _word(result: GateResult, failed: Sequence[GateCheck], drops: Sequence[GateCheck]) -> str:
    if failed:
        return "failed"
    undecided_ones = any(check.outcome == "inconclusive" for check in result.checks)
    if undecided_ones and result.options.strict:
        return "failed: inconclusive checks"
    return "passed, with inconclusive drops" if drops else "passed"


def _listed(checks: Sequence[GateCheck], title: str) -> list[str]:
    """A list of checks under its title; nothing without a check."""
    if not checks:
        return []
    lines = [f"**{title}**", ""]
    for check in checks[:_LISTED]:
        worst = f"; worst case: {check.worst_case}" if check.worst_case else ""
        more = f"; {undecided(check)}" if check.outcome == "inconclusive" else worst
        lines.append(f"- {_short(headline(check) + more)}")
    if len(checks) > _LISTED:
        lines.append(f"- … {len(checks) - _LISTED} more")
    return [*lines, ""]


def _short(text: str) -> str:
    return markdown_text(text if len(text) <= _LONGEST else text[:_LONGEST] + " …")


def _code(text: str) -> str:
    """Text between backticks, where Markdown has no escape."""
    return " ".join(text.replace("`", "'").split())


def write_comment(result: GateResult) -> None:
    """Write the comment beside the report, and add it to GitHub's job summary in a job there.

    Raises HarnessError where one of them cannot be written.
    """
    _write(result.options, render_comment(result))


def write_refusal(options: GateOptions, error: HarnessError) -> None:
    """Say in both places that the gate did not run, or an older comment would still say passed."""
    head = f"{marker('gate', options.tests[0])}\n## Format gate: it did not run\n\n"
    _write(options, f"{head}{_short(str(error))}\n")


def _write(options: GateOptions, text: str) -> None:
    if options.report:
        write_text(options.folder / COMMENT_FILE, text, what="comment")
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if not summary:
        return
    try:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
    except OSError as error:
        raise HarnessError(
            f"cannot write the job's summary: {error.strerror}",
            where=summary,
            hint="unset GITHUB_STEP_SUMMARY",
        ) from None
