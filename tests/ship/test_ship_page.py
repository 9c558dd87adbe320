"""ship.html, ship.md and the card: what was not checked is never shown as fine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.ship import read_shipment
from harness.ship.findings import Checked, Finding
from harness.ship.ship_card import card
from harness.ship.ship_page import markdown, render_page, write_pages
from harness.ship.shipment import Artefact, PairedScore, Shipment, write_shipment

FOUND = Finding("weights", "adapter-missing", "a.gguf", "it is <missing>", "convert it | again")
SHIPMENT = Shipment(
    name="tuned",
    created="2026-11-29T00:00:00Z",
    base={"name": "base", "digest": "sha256:1"},
    adapter={"name": "adapter", "digest": "sha256:2"},
    format="chatml",
    stops=("<|im_end|>",),
    stop_ids=(2,),
    commands={"llamacpp": "llama-server --model a.gguf"},
    made_with={"formatproof": "1"},
    artefacts=(Artefact("a.gguf", ("llamacpp",), "ab" * 32, 1234, "Q8_0"),),
    checks=(
        Checked("weights", "hf", "equal", "14 of 14"),
        Checked.not_checked("behaviour", "ollama", "no Ollama runs"),
        Checked.of("weights", "llamacpp", [FOUND]),
    ),
    scores=(
        PairedScore("llamacpp", "chatml", "choice", 0.5, 0.4, -0.1, -0.2, -0.05, 32),
        PairedScore("llamacpp", "chatml", "nll", 2.0, 1.9, -0.1, None, None, 8),
        PairedScore("llamacpp", "chatml", "recall gain", 0.8, 0.6, -0.2, -0.3, -0.1, 32),
    ),
)


def test_the_card_keeps_three_lists_apart():
    text = "\n".join(card(SHIPMENT))
    verified, rest = text.split("## Verified")[1].split("## Differs")
    differs, rest = rest.split("## Not checked")
    not_checked, files = rest.split("## Files")
    assert "| llamacpp | chatml | recall gain | 0.800 | 0.600 | -0.200 " in not_checked
    assert "14 of 14" in verified and "Ollama" not in verified and "missing" not in verified
    assert "adapter-missing" in differs and "no Ollama runs" in not_checked
    assert "| `a.gguf` | Q8_0 | llamacpp | 1,234 | `abababababababab…` |" in files


def test_a_card_without_checks_does_not_say_that_anything_was_verified():
    text = "\n".join(card(replace(SHIPMENT, checks=(), scores=())))
    assert "## Scores" not in text
    assert "## Verified\n\nNothing.\n" in text and "## Not checked\n\nNothing was left out." in text


@pytest.mark.parametrize("render", [render_page, lambda one: "\n".join(markdown(one))])
def test_the_page_shows_differences_first_and_the_counts(render):
    text = render(SHIPMENT)
    assert "1 check differs, 1 is equal, 1 was not made" in text
    assert text.index("adapter-missing") < text.index("no Ollama runs") or "## Findings" in text
    assert text.index("no Ollama runs") < text.index("14 of 14")  # not hidden behind what is equal
    assert "-0.100 (-0.200 to -0.050)" in text.replace("−", "-") and "no interval" in text


def test_the_page_escapes_and_colours():
    text = render_page(SHIPMENT)
    assert "it is &lt;missing&gt;" in text and "<missing>" not in text
    assert text.count('<td class="worse">') == 1  # forgetting is no worse score
    assert "less the same for controls" in text and "-0.200 (-0.300 to -0.100)" in text


def test_markdown_is_no_place_for_markup():
    """A name from outside stays text, in the lists and in the rows of a table."""
    stop = replace(SHIPMENT, stops=("\n\n",), notes=("[here](http://x) <b>",))
    text = "\n".join(card(stop))
    assert "answers end with `\\n\\n`." in text
    assert "[here](" not in text and "<b>" not in text and "<missing>" not in text
    text = "\n".join(markdown(SHIPMENT))
    assert "<missing>" not in text


def test_a_shipment_is_written_and_read(tmp_path):
    write_shipment(tmp_path, SHIPMENT)
    write_pages(tmp_path, SHIPMENT)
    assert read_shipment(tmp_path) == SHIPMENT
    assert {file.name for file in tmp_path.iterdir()} == {
        "ship.json",
        "ship.html",
        "ship.md",
        "README.md",
    }
