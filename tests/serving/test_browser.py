"""The page in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("chromedriver"), reason="needs Chromium and its driver"),
]


@pytest.fixture(scope="module", params=["light", "dark"])
def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
    for word in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", profile):
        options.add_argument(word)
    if request.param == "dark":
        options.add_argument("--force-dark-mode")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_window_size(1000, 900)
    yield driver
    driver.quit()


def wait(browser: Any, what: str) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20).until(lambda driver: driver.execute_script(f"return {what}"))


def upload(browser: Any, *files: Path) -> None:
    before = browser.execute_script("return document.querySelectorAll('article').length")
    browser.find_element("id", "files").send_keys("\n".join(map(str, files)))
    wait(browser, f"document.querySelectorAll('article').length === {before + len(files)}")
    wait(browser, "![...document.querySelectorAll('article p')].some(p => p.textContent === '…')")


def texts(browser: Any, selector: str) -> list[str]:
    return [element.text for element in browser.find_elements("css selector", selector)]


def test_images_are_dropped_and_answered(browser: Any, address: str, png: Any, tmp_path: Path) -> None:
    names = ["first.png", "<b>second.png", "broken.png", "large.png"]
    contents = [png(200, (60, 40)), png(20, (60, 40)), b"no image", b"x" * 1_200_000]
    files = [tmp_path / name for name in names]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    browser.get(address)
    wait(browser, "document.getElementById('about').textContent.includes('Classes: a, b')")
    upload(browser, *files)
    assert sorted(texts(browser, "article h2")) == sorted(names)  # a name is text, never markup
    assert len(texts(browser, "p.decision")) == 2
    assert all("Rule max_f1: b from 0.400" in text for text in texts(browser, "article:has(.decision)"))
    errors = sorted(texts(browser, "p.error"))
    assert errors[0].startswith("The file must have at most 1 MB, got 1.2")
    assert errors[1].startswith("image 'broken.png' must be readable")
    bad = [entry for entry in browser.get_log("browser") if "422" not in entry["message"]]
    assert bad == []


def test_another_rule_is_chosen_by_keyboard(browser: Any, address: str, png: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(99))
    browser.get(address)
    wait(browser, "document.getElementById('rule').options.length === 2")
    browser.find_element("id", "rule").send_keys("sens")
    upload(browser, tmp_path / "a.png")
    assert "Rule sensitivity>=0.95: b from 0.200" in texts(browser, "article")[0]


def test_the_page_asks_this_server_alone(browser: Any, address: str) -> None:
    browser.get(address)
    wait(browser, "document.getElementById('name').textContent === 'lamps'")
    found = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert found
    assert all(name.startswith(address) for name in found)
