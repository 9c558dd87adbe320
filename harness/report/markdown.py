"""report.md: short enough for a pull-request comment."""

from __future__ import annotations

from harness.report.document import Report
from harness.report.sweep import Sweep, sweep_verdict
from harness.report.tables import MAIN, WORD_MARKS, formats_of, number, path_of, verdict, words


def render_markdown(report: Report) -> str:
    """The verdict, the summary and one table. A pure function of the report."""
    cells = [report.cells(index) for index in range(len(report.runs))]
    labels = " → ".join(str(run["label"]) for run in report.runs)
    lines = [f"# {_plain(report.title)}", "", _plain(verdict(report)), ""]
    lines += [f"- {_plain(item['text'])}" for item in report.summary]
    lines += [f"- {_plain(text)}" for item in report.budget for text in item["text"]]
    lines += [f"- {_plain(sweep_verdict(Sweep.from_dict(report.sweep)))}"] if report.sweep else []
    lines += ["", f"Values are {labels}; rates from 0 to 1, `nll_excess` in nats a token beyond the native format.", ""]
    lines += ["| format | group | " + " | ".join(MAIN) + " | compatibility |", "|---|---|" + "---:|" * len(MAIN) + "---|"]
    for id, group in formats_of(report):
        values = [path_of([number(run[id, metric].mean if (id, metric) in run else None, metric) for run in cells]) for metric in MAIN]
        word = path_of([f"{WORD_MARKS[words(report, index)[id][0]]} {words(report, index)[id][0]}" for index in range(len(report.runs))])
        lines.append(f"| {id} | {group} | " + " | ".join(values) + f" | {word} |")
    smallest = [cell.n for run in cells for cell in run.values() if cell.n and cell.metric in MAIN]
    span = "no" if not smallest else str(min(smallest)) if min(smallest) == max(smallest) else f"{min(smallest)} to {max(smallest)}"
    lines += ["", f"{span} cases a cell; 95 % intervals and samples in report.html. String matching is a lower bound on memorisation.", ""]
    lines.append(
        f"Model `{_plain(str(report.model.get('name')))}`, {report.model.get('dtype')}, made {report.created} by harness {report.environment.get('harness')}."
    )
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Text that Markdown does not read as markup."""
    return "".join("\\" + char if char in "\\`*_{}[]<>#|" else char for char in text.replace("\n", " "))
