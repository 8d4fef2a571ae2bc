"""`docs/check_site.py` finds each kind of fault on a page, and nothing on a page without faults."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "check_site.py"
CHROMIUM = os.environ.get("SPARCELL_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw=="
PAGES = {
    "good": f"<p>text</p><img src='{PIXEL}'><pre>short</pre>",
    "output": f"<div class='cell_output'><pre style='overflow: auto'>{'wide ' * 99}</pre></div>",
    "wide": "<div style='width: 900px'>text</div>",
    "image": "<img src='not-there.png'>",
    "script": "<script>undefined_name()</script>",
    "code": f"<pre style='width: 200px; overflow: auto'>short\n{'long ' * 20}</pre>",
    "network": "<script>fetch('http://example.org/x').catch(() => null)</script>",
}
EXPECTED = {
    "wide": "pixels wide, the screen has 390",
    "image": "image does not load",
    "script": "a script failed",
    "code": "code is wider than its box: short",
    "network": "asks the network for http://example.org/x",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="browser test skipped: no Chromium found"),
]


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    api = pytest.importorskip(
        "playwright.sync_api", reason="browser test skipped: playwright is not installed"
    )
    spec = importlib.util.spec_from_file_location("check_site", SCRIPT)
    check_site = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check_site)
    site = tmp_path_factory.mktemp("site")
    head = "<!doctype html><meta name='viewport' content='width=device-width'><link rel='icon' href='data:,'>"
    for name, body in PAGES.items():
        (site / f"{name}.html").write_text(head + body, encoding="utf-8")
    with check_site.served(site) as address, api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *check_site.OFFLINE]
        )
        found = check_site.check(browser, address, site).wrong
        browser.close()
    return found


def test_a_page_without_faults_is_in_order(wrong):
    assert not [line for line in wrong if line.startswith(("good", "output"))]


@pytest.mark.parametrize("name", EXPECTED)
def test_each_fault_is_found_on_its_page(wrong, name):
    lines = [line for line in wrong if line.startswith(f"{name}.html: ")]
    assert len(lines) == 1
    assert EXPECTED[name] in lines[0]
