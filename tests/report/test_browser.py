"""The report in a real browser: offline, without errors, at desktop and phone width."""

from __future__ import annotations

import os
import shutil

import pytest

from helpers import program_results_fixture as programs
from helpers.benchmark_results_fixture import bare_benchmark, full_benchmark
from helpers.results_fixture import bare_results, full_results
from sparcell import report

CHROMIUM = os.environ.get("SPARCELL_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="browser test skipped: no Chromium found (install one, or name it in SPARCELL_CHROMIUM)",
)


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip(
        "playwright.sync_api", reason="browser test skipped: playwright is not installed"
    )
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pages = tmp_path_factory.mktemp("report")
    report.write_study(full_results(n=300), pages / "full.html")
    report.write_study(bare_results(), pages / "bare.html")
    report.write_benchmark(full_benchmark(n=300), pages / "benchmark.html")
    report.write_benchmark(bare_benchmark(), pages / "benchmark-bare.html")
    report.write_programs(programs.full_results(), pages / "programs.html")
    report.write_programs(programs.bare_results(), pages / "programs-bare.html")
    report.write_programs(programs.empty_results(), pages / "programs-empty.html")
    return pages


class Visit:
    """One page, with its errors and network requests."""

    def __init__(self, browser, path, width, height=900):
        self.errors, self.requests = [], []
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(60_000)  # a shared machine draws slowly
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.route("**/*", self.gate)
        self.page.goto(path.as_uri())

    def gate(self, route):
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            self.requests.append(route.request.url)
            route.abort()

    def read_through(self):
        """Scroll to every chart and wait until it is drawn."""
        for chart in self.page.query_selector_all(".chart"):
            if chart.is_visible():
                chart.scroll_into_view_if_needed()
        self.page.wait_for_function(
            "[...document.querySelectorAll('.chart')].filter((d) => d.offsetParent).every((d) => d.dataset.drawn)",
        )

    def overflow(self):
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )

    def close(self):
        self.page.close()
        assert self.errors == []
        assert self.requests == [], "the report must not ask the network for anything"


@pytest.mark.parametrize(
    ("name", "width"),
    [
        *(("full", 1280), ("full", 390), ("bare", 390)),
        *(("benchmark", 1280), ("benchmark", 390), ("benchmark-bare", 390)),
        *(("programs", 1280), ("programs", 390), ("programs-bare", 390), ("programs-empty", 390)),
    ],
)
def test_page_renders_whole_offline_and_fits(browser, folder, tmp_path, name, width):
    visit = Visit(browser, folder / f"{name}.html", width)
    visit.read_through()
    assert visit.overflow() <= 0
    visit.page.evaluate("scrollTo(0, 0)")
    picture = tmp_path / f"{name}-{width}.png"
    visit.page.screenshot(path=picture)
    assert picture.stat().st_size > 10_000
    visit.close()


def test_the_3d_map_is_there_and_turns(browser, folder):
    visit = Visit(browser, folder / "full.html", 1280)
    page = visit.page
    page.locator("#space .chart").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#space .chart').dataset.drawn")
    state = page.evaluate(
        """() => {
            const div = document.querySelector('#space .chart');
            const canvas = div.querySelector('canvas');
            return { cells: div.data.reduce((n, trace) => n + trace.x.length, 0), types: div.data.map((t) => t.type),
                     gl: !!(canvas.getContext('webgl2') || canvas.getContext('webgl')), wide: canvas.width };
        }"""
    )
    assert state["cells"] == 300
    assert set(state["types"]) == {"scatter3d"}
    assert state["gl"]
    assert state["wide"] > 300
    box = page.locator("#space .chart").bounding_box()
    before = page.evaluate(
        "JSON.stringify(document.querySelector('#space .chart')._fullLayout.scene._scene.getCamera().eye)"
    )
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 120, box["y"] + box["height"] / 2 + 30, steps=6)
    page.mouse.up()
    page.wait_for_timeout(300)
    after = page.evaluate(
        "JSON.stringify(document.querySelector('#space .chart')._fullLayout.scene._scene.getCamera().eye)"
    )
    assert before != after
    visit.close()


def test_a_benchmark_s_tabs_and_sorting_work_by_clicks(browser, folder):
    visit = Visit(browser, folder / "benchmark.html", 1280)
    page = visit.page
    visit.read_through()
    page.click("#maps [data-row='harmony']")
    page.wait_for_function("document.querySelector('#maps [data-chart=batches]').dataset.drawn === 'harmony'")
    page.click("#scores [data-panel='scores-likelihood']")
    lines = "[...document.querySelectorAll('#scores-likelihood tr.line')].map((l) => l.children[1].textContent.slice(0, 6))"
    page.locator("#scores-likelihood thead th").nth(1).locator("button").click()
    assert page.evaluate(lines) == ["−1,202", "−1,210", "–", "–"]
    visit.close()


def test_tabs_sorting_and_legend_work_by_clicks(browser, folder):
    visit = Visit(browser, folder / "full.html", 1280)
    page = visit.page
    visit.read_through()
    first = page.evaluate("document.querySelector('#maps .chart').data[0].x[0]")
    page.click("#maps [data-row='beta-vae']")
    page.wait_for_function("document.querySelector('#space .chart').dataset.drawn === 'beta-vae'")
    assert page.evaluate("document.querySelector('#maps .chart').data[0].x[0]") != first
    assert page.get_attribute("#confusion [data-row='beta-vae']", "aria-selected") == "true"
    assert page.locator("#confusion .row-text:visible").count() == 1

    lines = "[...document.querySelectorAll('#scores-tsne2d tr.line')].map((l) => Number(l.children[1].dataset.value))"
    restored = page.evaluate(lines)
    heading = page.locator("#scores-tsne2d thead th").nth(1).locator("button")
    heading.click()
    assert page.evaluate(lines) == sorted(restored, reverse=True)
    heading.click()
    assert page.evaluate(lines) == sorted(restored)
    heading.click()
    assert page.evaluate(lines) == restored

    page.click("#scores [data-panel='scores-latent']")
    assert page.is_visible("#scores-latent")
    assert not page.is_visible("#scores-tsne2d")

    page.click(".legend button >> nth=1")
    assert page.evaluate("document.querySelector('#maps .chart').data.map((t) => t.opacity)")[:3] == [
        0.06,
        1,
        0.06,
    ]
    visit.close()


def test_programs_are_searched_sorted_and_chosen_by_clicks(browser, folder):
    visit = Visit(browser, folder / "programs.html", 1280)
    page = visit.page
    visit.read_through()
    lines = "[...document.querySelectorAll('#program-table tr.line')].filter((l) => l.offsetParent)"
    shown = f"{lines}.map((l) => l.children[0].textContent.trim())"
    assert page.evaluate(shown) == ["4", "1", "7", "2", "3"]
    page.fill("input[type=search]", "b CELL")
    assert page.evaluate(shown) == ["4"]
    assert page.text_content("[data-count=program-table]") == "1 of 5"
    page.fill("input[type=search]", "unstable")
    assert page.evaluate(shown) == ["7", "2", "3"]
    page.fill("input[type=search]", "")
    page.locator("#program-table thead th").nth(4).locator("button").click()  # AUC
    assert page.evaluate(shown) == ["4", "1", "7", "2", "3"]
    page.locator("#program-table thead th").nth(4).locator("button").click()
    assert page.evaluate(shown) == ["3", "2", "7", "1", "4"]

    page.click("[data-choose='beta_vsc_1+']")
    page.wait_for_function(
        "document.querySelector('#program [data-chart=bars]').dataset.drawn === 'beta_vsc_1+'"
    )
    page.wait_for_function(
        "document.querySelector('#program [data-chart=map]').dataset.drawn === 'beta_vsc_1+'"
    )
    assert page.locator("#program .row-text:visible h3").text_content().strip() == "1 NK"
    drawn = page.evaluate("document.querySelector('#program [data-chart=map]').data.map((t) => t.x.length)")
    assert drawn[0] == 300, "all cells lie below"
    assert 0 < drawn[1] < 300
    page.wait_for_function("document.querySelector('#program').getBoundingClientRect().top < 100")
    visit.close()
