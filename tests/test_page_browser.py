"""The page as a reader uses it: in headless Chromium, by mouse and by keyboard, light, dark and on paper."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.build import build_report
from tests.page_fixtures import write_volumes
from tests.report_fixtures import write_example

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
axe_api = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra dev)")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium on PATH (apt-get install chromium)")

expect = playwright_api.expect
expect.set_options(timeout=60_000)  # a busy machine is slow
SHOWN = "els => els.filter(el => el.getClientRects().length).map(el => el.innerText)"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of some made-up runs, two of them on volumes."""
    runs_dir = tmp_path_factory.mktemp("browsed") / "runs"
    write_example(runs_dir, pictures=3, cases=120)
    for method, shift in (("near", 1), ("far", 4)):
        write_volumes(runs_dir, method, shift)
    return build_report(runs_dir).index


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all."""
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, index: Path) -> Iterator[Any]:
    """The page, opened as a file; whatever a test does, nothing is asked of anybody and nothing goes wrong."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if not own(request.url, index) else None)
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    page.goto(index.as_uri())
    yield page
    context.close()
    assert wrong == []


# Done when the page has shown the place, since its own listener is the older one.
GO = """place => new Promise(done => {
  addEventListener("hashchange", () => done(), { once: true }); location.hash = place; })"""


def own(url: str, index: Path) -> bool:
    return url.startswith((index.parent.as_uri(), "data:"))


def open_cases(page: Any, **filters: str) -> None:
    page.click("header nav >> text=Cases")
    for name, value in filters.items():
        page.select_option(f"#filter-{name}", value)


def column(page: Any, number: int) -> list[str]:
    return page.eval_on_selector_all(f"#rows tbody tr:not(.space) > :nth-child({number})", SHOWN)


def serious(page: Any) -> list[str]:
    violations = axe_api.Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html']}" for v in violations if v["impact"] in ("serious", "critical")]


def test_every_number_leads_to_its_runs_and_back(page: Any) -> None:
    link = page.locator("#table2 td a[href^='#m']").first
    text = link.inner_text()
    link.click()
    line = page.locator("tr:target")
    expect(line.locator("td").first).to_have_text(text)
    view = page.locator(".view.on:has(tr:target)")  # a view follows its address a moment later
    expect(view.locator(".run")).not_to_have_count(0)
    details = view.locator("details[data-part=Configuration]").first
    details.locator("summary").click()
    expect(details.locator("pre")).to_contain_text('"name"')
    page.go_back()
    expect(page.locator("#report.on #table2")).to_be_visible()


def test_cases_are_sorted_filtered_and_drawn_as_needed(page: Any) -> None:
    open_cases(page, dataset="phantom/polyp")
    expect(page.locator("#count")).to_have_text("360 of 404 cases")  # three methods on 120 cases
    assert 0 < page.locator("#rows tbody tr").count() < 60
    page.click("#rows thead button:has-text('Dice')")
    first = [float(text) for text in column(page, 4)[:20]]
    assert first == sorted(first)
    assert page.locator("#rows th[aria-sort]").get_attribute("aria-sort") == "ascending"
    page.click("#rows thead button:has-text('Dice')")
    falling = [float(text) for text in column(page, 4)[:20]]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > first[0]
    page.eval_on_selector("#rows", "box => { box.scrollTop = box.scrollHeight }")
    page.wait_for_function("document.querySelector('#rows tbody').lastElementChild.className !== 'space'")
    assert column(page, 4)[-3:] == ["\u2013"] * 3  # undefined comes last, whichever way
    page.fill("#filter-text", "sdseg_z0 case-007")
    expect(page.locator("#count")).to_have_text("1 of 404 cases")
    page.fill("#filter-text", "")
    page.check("#filter-pictures")
    expect(page.locator("#count")).to_have_text("9 of 404 cases")


def test_a_case_opens_with_its_overlays(page: Any) -> None:
    open_cases(page, dataset="phantom/polyp", method="unet")
    page.check("#filter-pictures")
    page.locator("#rows tbody a").first.click()
    dialog = page.locator("dialog[open]")
    expect(dialog.locator("h3")).to_have_text(["unet"])
    prediction = dialog.locator("img[data-layer=prediction]")
    expect(prediction).to_be_visible()
    expect(prediction).to_have_js_property("naturalWidth", 192)
    expect(dialog.locator("img[data-layer=disagreement]")).to_be_hidden()
    page.uncheck("#show-prediction")
    expect(prediction).to_be_hidden()
    page.keyboard.press("d")
    expect(dialog.locator("img[data-layer=disagreement]")).to_be_visible()
    page.eval_on_selector("#opacity", "e => { e.value = 0.5; e.dispatchEvent(new Event('input')) }")
    assert dialog.locator("img[data-layer=reference]").evaluate("img => img.style.opacity") == "0.5"
    title = page.inner_text("#case-title")
    page.click("#case-next")
    expect(page.locator("#case-title")).not_to_have_text(title)
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(page.locator("#cases")).to_be_visible()


def test_two_methods_side_by_side_through_the_slices_of_a_volume(page: Any) -> None:
    open_cases(page, dataset="volumes", method="near")
    page.locator("#rows tbody a").first.click()
    page.select_option("#side-1", label="far")
    dialog = page.locator("dialog[open]")
    expect(dialog.locator("h3")).to_have_text(["near", "far"])
    expect(page.locator("#slice-number")).to_have_text("3")
    stacks = dialog.locator(".stack")
    place = "el => [el.style.getPropertyValue('--x'), el.style.getPropertyValue('--y')].join()"
    assert [stacks.nth(n).evaluate(place) for n in (0, 1)] == ["0,1", "0,1"]
    stacks.first.hover()
    page.mouse.wheel(0, 100)
    page.wait_for_function("document.querySelector('#slice-number').textContent === '4'")
    assert [stacks.nth(n).evaluate(place) for n in (0, 1)] == ["1,1", "1,1"]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#slice-number")).to_have_text("2")
    row = dialog.locator("#case-scores tr:has-text('Dice')")
    assert row.locator("td").all_inner_texts() == ["0.800", "0.500"]
    assert row.locator("strong").all_inner_texts() == ["0.800"]
    page.reload()  # the address says all of it
    expect(page.locator("dialog[open] h3")).to_have_text(["near", "far"])


def test_by_keyboard_alone(page: Any) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # skip to the results
    expect(page.locator("#main")).to_be_focused()
    page.focus("header nav a[href='#cases']")
    page.keyboard.press("Enter")
    expect(page.locator("#rows")).to_be_visible()
    page.focus("#rows")
    page.keyboard.press("ArrowDown")
    for _ in range(40):
        page.keyboard.press("ArrowDown")
    expect(page.locator("tr[data-place='40'] :focus")).to_have_count(1)
    page.keyboard.press("End")
    expect(page.locator("tr[data-place='403'] :focus")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open]")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(page.locator("tr[data-place='403'] :focus")).to_have_count(1)
    page.focus("header nav a[href='#report']")
    page.keyboard.press("Enter")
    link = page.locator("#table2 td a").first
    expect(link).to_be_visible()
    link.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#table2 td:focus-within")).to_have_js_property("cellIndex", 2)
    page.keyboard.press("Enter")
    expect(page.locator("tr:target")).to_be_visible()


def test_dark_by_preference_and_by_choice(page: Any) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.click("#theme")
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark  # remembered
    page.click("#theme")
    page.evaluate("localStorage.clear()")
    page.emulate_media(color_scheme="dark")
    page.reload()
    assert page.evaluate(ground) == dark


def test_on_paper(page: Any, tmp_path: Path) -> None:
    page.emulate_media(media="print")
    expect(page.locator("header nav")).to_be_hidden()
    expect(page.locator("#table2")).to_be_visible()
    assert page.pdf(path=str(tmp_path / "report.pdf"), format="A4").startswith(b"%PDF")
    # No table is cut off at the right edge of the sheet.
    page.set_viewport_size({"width": 1030, "height": 700})  # a landscape sheet of A4 within its margins
    wide = "els => els.filter(el => el.getBoundingClientRect().width > 1030).map(el => el.closest('section').id)"
    assert page.eval_on_selector_all("#report table", wide) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details:first-of-type').forEach(one => { one.open = true })")
    for place in ("#report", "#cases", "#published", "#runs", "#m0", "#case/0/case-000"):
        page.evaluate(GO, place)
        assert serious(page) == [], place


@pytest.mark.parametrize("width", [1200, 400])
def test_no_view_is_wider_than_its_window(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for place in ("#report", "#cases", "#published", "#runs", "#m0"):
        page.evaluate(GO, place)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, place
