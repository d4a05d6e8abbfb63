"""How fast a page is in headless Chromium: `python -m tests.page_speed INDEX.html`, milliseconds, medians of five."""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
SORT = """() => {
  const button = [...document.querySelectorAll('#rows thead button')][1];
  const begun = performance.now();
  button.click();
  document.querySelector('#rows').getBoundingClientRect();
  return performance.now() - begun;
}"""
FILTER = """() => {
  const words = document.querySelector('#filter-text');
  words.value = words.value ? '' : '1';
  const begun = performance.now();
  words.dispatchEvent(new Event('input'));
  document.querySelector('#rows').getBoundingClientRect();
  return performance.now() - begun;
}"""


def measure(index: Path, rounds: int = 5) -> dict[str, float]:
    """First paint, sorting and filtering, each in milliseconds; and how many cases there are."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        paints, page = [], None
        for _ in range(rounds):
            page = browser.new_page()
            page.goto(index.resolve().as_uri())
            page.wait_for_timeout(500)
            paints.append(page.evaluate(PAINT))
        page.click("header nav >> text=Cases")
        times: dict[str, Any] = {"first paint": paints}
        for name, script in (("sort", SORT), ("filter", FILTER)):
            times[name] = [page.evaluate(script) for _ in range(rounds)]
        cases = page.inner_text("#count")
        browser.close()
    return {name: statistics.median(values) for name, values in times.items()} | {"cases": cases}


if __name__ == "__main__":
    print(measure(Path(sys.argv[1])))  # noqa: T201
