"""Push an exported adapter with its model card to the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.evaluation.analysis.recall_table import ALL_FORMATS, GAIN
from harness.report.document import read_report

#: The hub's rule for a repository's name.
_NAME = re.compile(r"(?!.*(--|\.\.))\w[\w.-]{0,95}/\w[\w.-]{0,95}(?<![.-])", re.ASCII)


def check_push(repo: str, report: Path | None, *, force: bool) -> str:
    """Everything that can be wrong with a push, before anything is written.

    Returns a note on recall for the user, or "". Raises HarnessError for an invalid name, without a
    token, and, unless ``force``, for a report that shows the training data to be memorised.
    """
    from huggingface_hub import get_token

    if not _NAME.fullmatch(repo):
        raise HarnessError(
            f"invalid --push-to-hub {repo!r}: expected OWNER/NAME, the repository on the hub"
        )
    if not get_token():
        raise HarnessError(
            "no token of the Hugging Face hub", hint="hf auth login, or set HF_TOKEN to a token"
        )
    memorised = _memorised(report) if report else None
    if memorised is None:
        return (
            "note: recall of the training set was not measured, and the adapter may recite it: "
            "harness eval --recall, then --report"
        )
    if memorised and not force:
        raise HarnessError(
            f"the report says that the training data is memorised ({memorised}), and whoever has "
            "the adapter can read it out",
            where=str(report),
            hint="push an earlier checkpoint, or --force",
        )
    return ""


def _memorised(report: Path) -> str | None:
    """The gain of training rows over controls where it is real; "" where not, None if unknown.

    It counts for the last run of the report, over all formats.
    """
    document = read_report(report)
    rows = [
        row
        for row in document.recall
        if (row.run, row.format, row.metric) == (document.runs[-1].label, ALL_FORMATS, GAIN)
    ]
    if not rows or rows[0].excess is None or rows[0].low is None:
        return None
    row = rows[0]
    return f"gain {row.excess:+.3f} nats a token over controls" if rows[0].low > 0 else ""


def push(folder: Path, repo: str, *, private: bool) -> str:
    """Create the repository if it is not there, and upload the folder as one commit.

    Returns its address. The token is the one that ``hf auth login`` stored, or HF_TOKEN. Raises
    HarnessError with the hub's own reason where that fails; the folder stays.
    """
    from huggingface_hub import HfApi

    api: Any = HfApi()
    try:
        url = api.create_repo(repo, private=private or None, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload the adapter")
    except (OSError, ValueError) as error:  # httpx's and the hub's own errors are OSErrors
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise HarnessError(
            f"the hub refused the push: {reason}",
            where=repo,
            hint=f"the folder is written: hf upload {repo} {folder}",
        ) from None
    return str(url)
