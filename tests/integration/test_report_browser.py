"""The pages in a real headless Chromium: no error, no request, both themes, a telephone and a desk, and on paper.

PGOPS_CHROMIUM names the program; without one, and in CI, this is skipped. PGOPS_SHOTS names a folder that keeps the pictures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ground import browser
from tests.ground.runner import AnsibleRunner
from tests.integration import reporting
from tests.integration.test_report import report

PROGRAM = None if os.environ.get("CI") else browser.find()
pytestmark = [
    pytest.mark.any_driver,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(PROGRAM is None, reason="THE PAGES WERE NOT LOOKED AT: no Chromium; name one in PGOPS_CHROMIUM"),
]
NAMES = ("rich", "hostile", "refused", "well", "nothing", "fleet")
WIDTHS = (360, 1280)
# Everything that sticks out of the page, but what scrolls by itself and what a chart draws outside of its frame.
STICKING_OUT = """
[...document.querySelectorAll('body *')]
  .filter(one => !one.closest('.scroll, svg svg, .hide') && one.getBoundingClientRect().right > innerWidth + 1)
  .map(one => `${one.tagName}.${one.className}: ${one.textContent.slice(0, 40)}`)
"""
# Text that is hard to read: contrast under 4.5 to the first background behind it that is not transparent.
FAINT = """
(() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = one => { for (; one; one = one.parentElement) { const c = rgb(getComputedStyle(one).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const faint = new Set();
  for (const one of document.querySelectorAll('body *')) {
    if (![...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
    if (one.closest('title, desc, defs, .hide')) continue;
    const style = getComputedStyle(one);
    const ink = light(rgb(one.closest('svg') ? style.fill : style.color)), paper = light(behind(one));
    const ratio = (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
    if (ratio < 4.5) faint.add(`${one.tagName}.${one.getAttribute('class')} ${ratio.toFixed(2)} ${one.textContent.trim().slice(0, 30)}`);
  }
  return [...faint].slice(0, 10);
})()
"""
# Letters of a chart are as large on a telephone as on a desk.
SMALL = """
[...document.querySelectorAll('svg.plot text')].map(one => one.getBoundingClientRect().height)
  .filter(height => height && height < 11).length
"""
TOUCHING = """
[...document.querySelectorAll('svg.plot')].flatMap(plot => {
  const boxes = [...plot.querySelectorAll('text')].map(one => [one.textContent, one.getBoundingClientRect()])
    .filter(([, box]) => box.width);
  return boxes.flatMap(([a, x], i) => boxes.slice(i + 1).filter(([b, y]) =>
    x.left < y.right - 1 && y.left < x.right - 1 && x.top < y.bottom - 3 && y.top < x.bottom - 3).map(([b]) => `${a} / ${b}`));
})
"""


@pytest.fixture(scope="module")
def pages(ansible_runner: AnsibleRunner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the pages."""
    folder = tmp_path_factory.mktemp("pages")
    results: dict[str, Any] = {
        "rich": reporting.rich(),
        "hostile": reporting.hostile(),
        "refused": reporting.refused(),
        "well": reporting.well(),
        "nothing": {},
    }
    done = report(ansible_runner, folder, results, report_formats="html")
    assert done.rc == 0, done.stdout
    return folder / "out"


@pytest.fixture(scope="module")
def chromium() -> Iterator[browser.Browser]:
    """One browser for all pages."""
    assert PROGRAM is not None
    with browser.Browser(PROGRAM) as opened:
        yield opened


def keep(name: str, picture: bytes) -> None:
    if os.environ.get("PGOPS_SHOTS"):
        Path(os.environ["PGOPS_SHOTS"], name).write_bytes(picture)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_is_right(chromium: browser.Browser, pages: Path, name: str, dark: bool, width: int) -> None:
    page = pages / f"{name}.html"
    chromium.open(page, width=width, dark=dark)
    assert chromium.faults == []
    assert [url for url in chromium.requests if url not in (page.as_uri(), "data:,")] == []
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width, chromium.evaluate(STICKING_OUT)
    assert chromium.evaluate(STICKING_OUT) == []
    assert chromium.evaluate(FAINT) == []
    assert chromium.evaluate(SMALL) == 0
    background = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(15, 19, 24)") is dark
    if name != "hostile":
        assert chromium.evaluate(TOUCHING) == []
        keep(f"{name}-{'dark' if dark else 'light'}-{width}.png", chromium.screenshot())


def test_nothing_of_others_runs(chromium: browser.Browser, pages: Path) -> None:
    chromium.open(pages / "hostile.html", width=1280)
    assert chromium.evaluate("document.scripts.length + document.images.length + document.forms.length") == 0
    assert (
        chromium.evaluate("[...document.querySelectorAll('*')].flatMap(one => one.getAttributeNames()).filter(n => n.startsWith('on'))")
        == []
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_page_prints(chromium: browser.Browser, pages: Path, name: str) -> None:
    chromium.open(pages / f"{name}.html", width=1000, dark=True)
    made = chromium.pdf()
    assert made.startswith(b"%PDF-")
    assert len(made) > 5000
    keep(f"{name}.pdf", made)
    # A reader's dark theme does not blacken the paper.
    chromium.open(pages / f"{name}.html", width=1000, dark=True, print_media=True)
    assert chromium.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert chromium.evaluate("getComputedStyle(document.body).color") == "rgb(28, 33, 40)"


def test_a_statement_is_copied_with_one_click(chromium: browser.Browser, pages: Path) -> None:
    chromium.open(pages / "rich.html", width=1280)
    assert chromium.evaluate("[...document.querySelectorAll('pre')].every(one => getComputedStyle(one).userSelect === 'all')")
