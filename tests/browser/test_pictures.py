"""The docs' pictures: ``tox -e browser -- --screenshots docs/pictures -k picture`` writes them.

Their numbers are made up (examples.py). ``--screenshots docs --report FILE``
makes docs/report.png from a real report, that of README's example.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.browser.examples import example_comparison, example_report, example_sweep

pytestmark = pytest.mark.browser

MOST_BYTES = 150_000
COLOURS = 128


@dataclass(frozen=True)
class Picture:
    """A page and how it is opened; the picture reaches from the top of one element to the bottom of
    another ("" for the whole screen)."""

    made: Callable[[Path], Any]
    first: str = "body"
    last: str = "body"
    fragment: str = ""
    options: dict[str, Any] = field(
        default_factory=lambda: {"viewport": {"width": 1400, "height": 900}}
    )


PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}
PICTURES = {
    "report": Picture(lambda _: example_report(), first="header", last="#summary"),
    "report-narrow": Picture(lambda _: example_report(), first="header", last="", options=PHONE),
    "formats": Picture(lambda _: example_report(), first="#formats", last="#formats .scroll"),
    "cases": Picture(lambda _: example_report(), first="#cases", last="#cases .scroll"),
    "sample": Picture(
        lambda _: example_report(), "#s-llama3", "#s-llama3 article >> nth=0", "#s-llama3"
    ),
    "comparison": Picture(example_comparison, first="header", last="#changed"),
    "learning-rate-map": Picture(
        lambda _: example_sweep(),
        last=".scroll >> nth=0",
        options={"viewport": {"width": 1100, "height": 1600}},
    ),
}


def pytest_generate_tests(metafunc) -> None:
    if "name" in metafunc.fixturenames:
        given = metafunc.config.getoption("--report", default=None)
        metafunc.parametrize("name", ["report"] if given else list(PICTURES))


def test_picture(name, page_of, tmp_path, pytestconfig):
    folder, given = (
        pytestconfig.getoption(option, default=None) for option in ("--screenshots", "--report")
    )
    assert folder or not given, (
        "--report says what is pictured; --screenshots FOLDER says where the picture goes"
    )
    picture = PICTURES[name]
    page = page_of(
        picture.fragment,
        **({"file": Path(given)} if given else {"made": picture.made(tmp_path)}),
        **picture.options,
    )
    data = small(at_rest(page, picture))
    assert 5_000 < len(data) < MOST_BYTES
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.png").write_bytes(data)


def test_a_page_that_moves_is_not_pictured(page_of):
    page = page_of("", made=example_report())
    page.add_style_tag(
        content="@keyframes go { to { margin-left: 300px } } h1 { animation: go 9s infinite }"
    )
    with pytest.raises(pytest.fail.Exception, match="does not come to rest"):
        at_rest(page, PICTURES["report"])


def at_rest(page, picture: Picture) -> bytes:
    """The first picture that is taken three times in a row: a busy machine draws a page in steps.

    Fails when something on the page moves for good.
    """
    page.evaluate("document.fonts.ready")
    last, alike = taken(page, picture), 1
    for _ in range(30):
        now = taken(page, picture)
        alike = alike + 1 if now == last else 1
        last = now
        if alike == 3:
            return now
    pytest.fail("the page does not come to rest")


def taken(page, picture: Picture) -> bytes:
    """The screen, or the page's width between two elements."""
    top = page.locator(picture.first).first.bounding_box()
    if not picture.last:
        page.evaluate("top => scrollTo(0, top)", top["y"] + page.evaluate("scrollY"))
        return page.screenshot()
    scrolled = page.evaluate("scrollY")
    bottom = page.locator(picture.last).first.bounding_box()
    above = 0 if picture.first == "body" else 12
    y = max(0, top["y"] + scrolled - above)
    width = picture.options["viewport"]["width"]
    return page.screenshot(
        full_page=True,
        clip={
            "x": 0,
            "y": y,
            "width": width,
            "height": bottom["y"] + bottom["height"] + scrolled + 8 - y,
        },
    )


def small(png: bytes) -> bytes:
    """The same picture with a palette: a page has few colours, and the file is a third as large."""
    from PIL import Image

    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
        out, "PNG", optimize=True
    )
    return out.getvalue()
