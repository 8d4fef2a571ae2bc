"""The report in a real browser: offline, without errors, at desktop and phone width."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

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

    def __init__(self, browser, path, width, height=900, scheme="light"):
        self.errors, self.requests = [], []
        self.page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page.set_default_timeout(60_000)
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
        for chart in self.page.query_selector_all(".chart, .map"):
            if chart.is_visible():
                chart.scroll_into_view_if_needed()
        self.wait(
            "[...document.querySelectorAll('.chart, .map')].filter((d) => d.offsetParent).every((d) => d.dataset.drawn)",
        )

    def wait(self, condition, seconds=60):
        """Wait until a condition holds; unlike playwright's own waiting, without eval in the page, which the page forbids."""
        end = time.monotonic() + seconds  # a shared machine draws slowly
        while not self.page.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < end, condition
            self.page.wait_for_timeout(50)

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


@pytest.mark.parametrize("name", ["full", "benchmark", "programs"])
def test_pages_are_dark_where_the_reader_prefers_dark(browser, folder, name):
    visit = Visit(browser, folder / f"{name}.html", 1280, scheme="dark")
    visit.read_through()
    page = visit.page
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 24, 31)"
    inks = page.evaluate(
        "[...document.querySelectorAll('.chart')].filter((d) => d.layout).map((d) => d.layout.font.color)"
    )
    assert set(inks) == {"#e6ecf1"}, "the text of charts is light"
    visit.close()


def test_the_3d_map_is_there_and_turns(browser, folder):
    visit = Visit(browser, folder / "full.html", 1280)
    page = visit.page
    page.locator("#space .map").scroll_into_view_if_needed()
    visit.wait("document.querySelector('#space .map').dataset.drawn")
    assert page.get_attribute("#space .map", "data-cells") == "300"
    turn = "document.querySelector('#space .map').cellMap.view.turn"
    before = page.evaluate(turn)
    box = page.locator("#space .map").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 120, box["y"] + box["height"] / 2 + 30, steps=6)
    page.mouse.up()
    dragged = page.evaluate(turn)
    assert dragged != before
    page.locator("#space canvas").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(turn) != dragged, "the keyboard turns the map too"
    page.keyboard.press("0")
    assert page.evaluate(turn) == before
    visit.close()


COLORED = """() => {
    const canvas = document.querySelector('#maps .map canvas'), pen = canvas.getContext('2d');
    const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data, seen = new Set();
    for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3] > 250) seen.add([pixels[i], pixels[i + 1], pixels[i + 2]].join());
    return [...seen].length;
}"""


def test_maps_zoom_together_and_show_the_group_under_the_pointer(browser, folder):
    visit = Visit(browser, folder / "full.html", 1280)
    page = visit.page
    page.locator("#maps .map").first.scroll_into_view_if_needed()
    visit.wait("[...document.querySelectorAll('#maps .map')].every((d) => d.dataset.drawn)")
    assert page.evaluate(COLORED) > 5, "the cells have the colors of their labels"
    page.click("#maps .map >> nth=0 >> button[title='Zoom in']")
    zooms = "[...document.querySelectorAll('#maps .map')].map((d) => d.cellMap.view.zoom)"
    assert page.evaluate(zooms) == pytest.approx([1.4, 1.4])
    page.click("#maps .map >> nth=1 >> button[title='Reset']")
    assert page.evaluate(zooms) == [1, 1]
    place = page.evaluate(
        """() => {
            const div = document.querySelector('#maps .map'), scene = div.cellMap.scene, area = div.getBoundingClientRect();
            const side = area.width / 2, [x, y] = [0, 1].map((d) => (scene.axes[d][0] - scene.middle[d]) / scene.half);
            return [area.x + side + x * side, area.y + side - y * side];
        }"""
    )
    page.mouse.move(*place)
    assert page.text_content("#maps .tip >> nth=0") in page.evaluate(
        "document.querySelector('#maps .map').cellMap.scene.groups.names"
    )
    visit.close()


def test_a_table_is_downloaded_as_csv_with_its_full_numbers(browser, folder):
    visit = Visit(browser, folder / "full.html", 1280)
    with visit.page.expect_download() as waiting:
        visit.page.click("button[data-file='scores_tsne2d.csv']")
    assert waiting.value.suggested_filename == "scores_tsne2d.csv"
    lines = Path(waiting.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "Method,NMI,ARI,homogeneity,completeness,seeds"
    assert len(lines) == 1 + 8
    assert lines[4].startswith('"Autoencoder, variable genes",0.')
    assert len(lines[1].split(",")[1]) == 8, "six decimals"
    visit.close()


def test_on_paper_every_method_has_its_maps(browser, folder):
    visit = Visit(browser, folder / "full.html", 1280)
    visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    visit.page.emulate_media(media="print")
    assert visit.page.locator("#maps .prints img").count() == 8 * 2
    assert visit.page.locator("#generated .prints img").count() == 4
    assert visit.page.locator("#confusion table:visible").count() == 8
    visit.close()


def test_programs_are_readable_on_a_phone(browser, folder):
    visit = Visit(browser, folder / "programs.html", 390)
    page = visit.page
    box = page.locator("#program-table tbody tr").first.bounding_box()
    assert box["width"] <= 390, "all columns are in the window"
    for word in ("Name", "p", "AUC", "Cells on", "Genes"):
        titles = page.evaluate(
            "[...document.querySelectorAll('#program-table tbody tr:first-child td')].map((d) => d.dataset.title)"
        )
        assert word in titles
    assert (
        page.evaluate("document.querySelector('#program-table').closest('.scroll').hasAttribute('data-wide')")
        is False
    )
    wide = page.evaluate(
        "document.querySelector('#types .scroll').scrollWidth - document.querySelector('#types .scroll').clientWidth"
    )
    assert page.is_visible("#types .more") == (wide > 2), "a table that is cut says that it scrolls"
    visit.close()


def test_a_benchmark_s_tabs_and_sorting_work_by_clicks(browser, folder):
    visit = Visit(browser, folder / "benchmark.html", 1280)
    page = visit.page
    visit.read_through()
    page.click("#maps [data-row='harmony']")
    visit.wait("document.querySelector('#maps [data-map=batches]').dataset.drawn === 'harmony'")
    page.click("#scores [data-panel='scores-likelihood']")
    lines = "[...document.querySelectorAll('#scores-likelihood tr.line')].map((l) => l.children[1].textContent.slice(0, 6))"
    page.locator("#scores-likelihood thead th").nth(1).locator("button").click()
    assert page.evaluate(lines) == ["−1,202", "−1,210", "–", "–"]
    visit.close()


def test_tabs_sorting_and_legend_work_by_clicks(browser, folder):
    visit = Visit(browser, folder / "full.html", 1280)
    page = visit.page
    visit.read_through()
    first = page.evaluate("document.querySelector('#maps .map').cellMap.scene.axes[0][0]")
    page.click("#maps [data-row='beta-vae']")
    visit.wait("document.querySelector('#space .map').dataset.drawn === 'beta-vae'")
    assert page.evaluate("document.querySelector('#maps .map').cellMap.scene.axes[0][0]") != first
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

    before = page.evaluate(COLORED)
    page.click(".legend button >> nth=1")
    assert page.get_attribute(".legend button >> nth=1", "aria-pressed") == "true"
    assert page.evaluate(COLORED) < before, "the other labels fade"
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
    visit.wait("document.querySelector('#program [data-chart=bars]').dataset.drawn === 'beta_vsc_1+'")
    visit.wait("document.querySelector('#program [data-map=map]').dataset.drawn === 'beta_vsc_1+'")
    assert page.locator("#program .row-text:visible h3").text_content().strip() == "1 NK"
    shares = page.evaluate("[...document.querySelector('#program [data-map=map]').cellMap.scene.share]")
    assert len(shares) == 300, "all cells are drawn"
    assert 0 < sum(share > 0 for share in shares) < 300
    visit.wait("document.querySelector('#program').getBoundingClientRect().top < 100")
    visit.close()
