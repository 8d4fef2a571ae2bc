"""Open every page of the built site in headless Chromium: `make check-docs`.

After `make docs`, `python docs/check_site.py --shots FOLDER` also writes pictures of some pages.

Checked at the width of a phone: no request leaves this machine, no page is wider than the screen, every image loads, code is not cut
off, marks of code are not shown, no script fails. The search must find the page of `differential_expression`. Needs the extra `docs`
and Chromium, or its path in SPARCELL_CHROMIUM.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Request

SITE = Path(__file__).resolve().parent / "_build" / "html"
NAMES = ("chromium", "chromium-browser", "google-chrome")
OFFLINE = ("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
PHONE = 390
SOUGHT = "differential_expression"
SHOTS = (
    ("index.html", "light"),
    ("start/ten_minutes.html", "light"),
    ("guide/beta_vsc.html", "light"),
    ("api/generated/sparcell.tl.differential_expression.html", "light"),
    ("tutorials/1-pbmc3k.html", "light"),
    ("gallery.html", "light"),
    ("index.html", "dark"),
    ("tutorials/1-pbmc3k.html", "dark"),
)
"""Pages to look at, with the color scheme that the browser asks for."""
CUT_CODE = """() => [...document.querySelectorAll('pre')]
  .filter(code => !code.closest('.cell_output') && code.scrollWidth > code.clientWidth + 1)
  .map(code => code.textContent.trim().slice(0, 60))"""
"""Begins of blocks of code that a reader has to scroll; outputs of notebooks are tables and may scroll."""
STRAY_MARKS = """() => [...document.querySelectorAll('article p, article li, article td')]
  .map(part => { const text = part.cloneNode(true); text.querySelectorAll('code, pre').forEach(code => code.remove());
                 return text.textContent; })
  .filter(text => text.includes('``')).map(text => text.trim().slice(0, 60))"""
"""Begins of texts that show the marks of code, which Sphinx could not read."""


class Quiet(SimpleHTTPRequestHandler):
    """A server that does not print each request, and whose answers the browser keeps: pages share scripts, styles and fonts."""

    protocol_version = "HTTP/1.1"

    def end_headers(self) -> None:
        """Let the browser keep the answer."""
        self.send_header("Cache-Control", "max-age=3600")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


class Visits:
    """Pages of one window, and what was wrong with them."""

    def __init__(self, browser: Browser, address: str, width: int, scheme: str = "light") -> None:
        self.address, self.width = address, width
        self.wrong: list[str] = []
        self.name = ""
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
        )
        self.page: Page = context.new_page()
        self.page.on("pageerror", lambda error: self.note(f"a script failed: {error}"))
        self.page.on("request", self.look_at)

    def note(self, text: str) -> None:
        """Keep what is wrong with the page."""
        self.wrong.append(f"{self.name}: {text}")

    def look_at(self, request: Request) -> None:
        """Note a request that this machine does not serve. The browser resolves no other name (OFFLINE)."""
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.note(f"asks the network for {request.url}")

    def open(self, name: str) -> None:
        """Open a page by its path below the site."""
        self.name = name
        answer = self.page.goto(f"{self.address}/{name}")
        if answer is None or not answer.ok:
            self.note("not found")

    def check(self, name: str) -> None:
        """Open a page and measure its width and images."""
        self.open(name)
        width = self.page.evaluate("document.documentElement.scrollWidth")
        if width > self.width:
            self.note(f"{width} pixels wide, the screen has {self.width}")
        lazy = "document.querySelectorAll('img').forEach(image => { image.loading = 'eager' })"
        self.page.evaluate(lazy)
        broken = self.page.evaluate(
            """() => Promise.all([...document.images].map(image =>
                 image.decode().then(() => null, () => image.src))).then(all => all.filter(Boolean))"""
        )
        for image in broken:
            self.note(f"image does not load: {image}")
        for line in self.page.evaluate(CUT_CODE):
            self.note(f"code is wider than its box: {line}")
        for text in self.page.evaluate(STRAY_MARKS):
            self.note(f"the marks of code are shown: {text}")

    def search(self, sought: str) -> None:
        """Search as a reader does, from the result page's address."""
        self.open(f"search.html?q={sought}")
        try:
            self.page.wait_for_selector(f"#search-results a[href*='{sought}']", timeout=20_000)
        except Exception as error:  # of playwright: no result in time
            self.note(f"the search does not find {sought} ({type(error).__name__})")


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve a folder to this machine alone; the address is valid inside the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def check(browser: Browser, address: str, site: Path) -> Visits:
    """Return the visits to all pages of a site, which know what is wrong."""
    visits = Visits(browser, address, PHONE)
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).as_posix()
        if not name.startswith("_static/"):
            visits.check(name)
    return visits


def shoot(browser: Browser, address: str, folder: Path) -> None:
    """Write a picture of each page in SHOTS, wide and as on a phone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, scheme in SHOTS:
        for width in (1280, PHONE):
            visits = Visits(browser, address, width, scheme)
            visits.open(name)
            visits.page.wait_for_timeout(200)
            stem = name.removesuffix(".html").replace("/", "-")
            visits.page.screenshot(path=folder / f"{stem}-{scheme}-{width}.png")


def main() -> None:
    """Check the site; exit with 1 if something is wrong."""
    parser = argparse.ArgumentParser(description="Check the built documentation in headless Chromium.")
    parser.add_argument("--shots", type=Path, help="write pictures of some pages into this folder")
    chosen = parser.parse_args()
    chromium = os.environ.get("SPARCELL_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not (SITE / "index.html").exists():
        sys.exit(f"no site in {SITE}: run `make docs` first")
    if chromium is None:
        sys.exit("no Chromium found: install one, or name it in SPARCELL_CHROMIUM")
    with served(SITE) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *OFFLINE])
        visits = check(browser, address, SITE)
        visits.search(SOUGHT)
        if chosen.shots:
            shoot(browser, address, chosen.shots)
        browser.close()
    print("\n".join(visits.wrong) or "the site is in order")
    sys.exit(bool(visits.wrong))


if __name__ == "__main__":
    main()
