"""A real Chromium without a window, and what is asked about a page that it shows."""

import shutil
from pathlib import Path
from typing import Any

from axe_core_python.selenium import Axe
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import presence_of_element_located, staleness_of
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "disable-dev-shm-usage", "no-proxy-server", "window-size=1280,1000",
    # Whatever a page or the browser itself asks for elsewhere is not there.
    "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
WCAG = {"runOnly": ["wcag2a", "wcag2aa"]}


def not_installed() -> str:
    """What is missing and how to get it; empty when nothing is."""
    if _browser() and shutil.which("chromedriver"):
        return ""
    return "there is no chromium with its chromedriver; on Debian: apt install chromium chromium-driver"


def start_chromium(profile: Path, downloads: Path) -> Chrome:
    """A browser with an empty profile, which logs its requests and its console."""
    options = ChromeOptions()
    options.binary_location = _browser() or ""
    for flag in (*FLAGS, f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
    browser.set_script_timeout(60)
    return browser


def go(browser: Chrome, element: WebElement) -> None:
    """Click on what leads to another page, and wait until that has taken the place of this one."""
    before = browser.find_element(By.TAG_NAME, "main")
    element.click()
    WebDriverWait(browser, 30).until(staleness_of(before))
    WebDriverWait(browser, 30).until(presence_of_element_located((By.TAG_NAME, "main")))


def dress(browser: Chrome, scheme: str) -> None:
    """Prefer `light` or `dark`, as a person does in the system's settings."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def narrow(browser: Chrome, width: int) -> None:
    """A telephone's screen, so many CSS pixels wide."""
    screen = {"width": width, "height": 640, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def unfold(browser: Chrome) -> None:
    """Open all that is folded away."""
    browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


def overflow(browser: Chrome) -> Any:
    """CSS pixels by which the page is wider than the screen."""
    return browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")


def violations(browser: Chrome) -> list[tuple[str, str, str]]:
    """What axe-core finds against WCAG 2, A and AA: rule, element, and how to mend it."""
    found = Axe().run(browser, options=WCAG)
    assert len(found["passes"]) > 10
    return [
        (it["id"], node["html"][:200], node["failureSummary"]) for it in found["violations"] for node in it["nodes"]
    ]


def _browser() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
