"""The page as a browser shows it: Debian's chromium, driven by Playwright, without a network."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmf.report import Page, Section, Table, Text, write_page
from mmf.report.run_page import RunPage
from mmf.report.store_page import store_page

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs the command `chromium` (apt-get install chromium)"
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]
HOSTILE = "</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright, to drive chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(run, store, media, tmp_path_factory) -> dict[str, Path]:
    """The files of the page of a run, of a store, and of a table with 3,862 rows."""
    folder = tmp_path_factory.mktemp("pages")
    rows = [[f"class {i}", i % 97 / 97] for i in range(3862)]
    table = Section(
        title="Classes", id="classes", parts=[Table(columns=["class", "ap"], rows=rows)]
    )
    made = {
        "run": RunPage(run, media=media, most=4).page(),
        "store": store_page(store, media=media),
        "table": Page(title="Table", subtitle="", sections=[table]),
    }
    for name, page in made.items():
        write_page(page, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture
def opened(browser, pages) -> Iterator[Callable[..., Any]]:
    """Opens a page; whatever it complains of, asks for or says in a dialog fails the test."""
    contexts, wrong = [], []

    def open_page(name: str | Path, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page, file = context.new_page(), pages.get(name, name)
        asked = (file.as_uri(), "data:")
        page.on("console", lambda m: wrong.append(m.text) if m.type != "log" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda r: None if r.url.startswith(asked) else wrong.append(r.url))
        page.goto(file.as_uri())
        for place in page.locator(".drawn").all():
            place.scroll_into_view_if_needed()
            place.locator("xpath=self::*[@data-drawn]").wait_for()
        page.evaluate("scrollTo(0, 0)")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def screenshot(page: Any, name: str, folder: Path) -> None:
    place = Path(os.environ.get("MMF_SCREENSHOTS") or folder) / f"{name}.png"
    page.screenshot(path=place, full_page=True)
    assert place.stat().st_size > 20_000


@pytest.mark.parametrize("name", ["run", "store"])
def test_figures_are_drawn_and_axe_finds_nothing_serious_light_and_dark(opened, tmp_path, name):
    page = opened(name, color_scheme="light")
    boxes = [place.bounding_box() for place in page.locator(".drawn svg.main-svg").all()]
    figures = page.locator(".drawn").count()
    assert figures >= 2
    assert sum(box["width"] > 300 and box["height"] > 100 for box in boxes) >= figures
    for summary in page.locator("summary").all():
        summary.click()
    line = page.locator(".drawn .trace path").first
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground), line.get_attribute("style")
    assert serious(page) == []
    screenshot(page, f"{name}-light", tmp_path)
    page.get_by_role("button", name="Dark").click()
    assert before[0] != page.evaluate(ground)
    assert before[1] != line.get_attribute("style")
    assert serious(page) == []
    screenshot(page, f"{name}-dark", tmp_path)


def serious(page: Any) -> list[tuple[str, str]]:
    """What axe takes for a serious or critical barrier, and an element that has it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    bad = [v for v in found if v["impact"] in ("serious", "critical")]
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in bad]


def test_names_are_shown_as_they_are_also_in_plots(opened):
    page = opened("run")
    texts = page.locator(".drawn text").all_text_contents()
    assert HOSTILE in texts
    assert "<b>bold</b> &amp; %{x} \ufffd" in texts
    assert page.locator(".captions li").first.text_content() == "0.2 s  <script>alert(1)</script>"
    assert page.locator("img:not([src^='data:'])").count() == 0


def test_pointing_at_a_video_shows_it_and_its_name(opened):
    page = opened("store")
    plot = page.locator("#map .drawn")
    plot.scroll_into_view_if_needed()
    box = plot.locator(".scatterlayer .point").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator("#map .pointed img").wait_for()
    assert page.locator("#map .pointed img").evaluate("image => image.naturalWidth") == 48
    named = page.locator("#map .pointed p").text_content()
    hovered = page.locator("#map .hoverlayer text").first.text_content()
    assert hovered.startswith(named[:10])
    assert page.locator("#map .hoverlayer a").count() == 0


def test_a_long_table_is_filtered_sorted_and_continued_by_keyboard(opened):
    page = opened("table")
    rows = page.locator("tbody tr")
    assert rows.count() == 100
    page.get_by_role("button", name="ap").focus()
    page.keyboard.press("Enter")
    assert page.locator("th").nth(1).get_attribute("aria-sort") == "descending"
    assert rows.first.text_content() == "class 960.9897"
    page.keyboard.press("Enter")
    assert rows.first.text_content() == "class 00.0000"
    page.get_by_label("Filter").fill("CLASS 386")
    assert page.get_by_role("status").text_content() == "6 of 3,862 rows"  # each word counts
    assert rows.count() == 6
    page.get_by_label("Filter").fill("")
    page.get_by_role("button", name="Show more rows").press("Enter")
    assert rows.count() == 1100


def test_all_that_can_be_done_is_reached_by_tab(opened):
    page = opened("table")
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 20)"))
    assert reached[:3] == ["Skip to the content", "Dark", "Classes"]
    assert {"class", "ap", "Show more rows"} <= set(reached)


def test_it_is_printed_light_and_on_a_narrow_screen_nothing_sticks_out(opened, tmp_path):
    page = opened("run", color_scheme="dark")
    line = page.locator("#curves .scatterlayer path.js-line").first
    before = line.evaluate("path => path.style.stroke")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    assert line.evaluate("path => path.style.stroke") != before
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    screenshot(page, "run-print", tmp_path)
    page.emulate_media(media="screen", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert line.evaluate("path => path.style.stroke") == before
    page.set_viewport_size({"width": 390, "height": 800})
    page.locator("#curves .drawn svg.main-svg[width='340']").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    screenshot(page, "run-narrow", tmp_path)


def test_a_page_of_a_run_that_goes_on_loads_itself_again(opened, tmp_path):
    text = Section(title="One", id="one", parts=[Text(text="x")])
    file = tmp_path / "page.html"
    write_page(Page(title="T", subtitle="", sections=[text], reload_seconds=0.3), file)
    page = opened(file)
    with page.expect_navigation():
        pass
    page.get_by_label("follow").uncheck()
    page.evaluate("window.kept = true")
    page.wait_for_timeout(700)
    assert page.evaluate("window.kept")
