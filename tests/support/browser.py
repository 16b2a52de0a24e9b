"""A browser without a screen, worked by the keyboard: Debian's Chromium, by WebDriver."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 60.0
"""Seconds to wait for something to be shown, on a slow machine."""
LOOK = 0.05
MOST_TABS = 150
"""Presses of the Tab key after which an element counts as out of reach."""
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-extensions", "--disable-background-networking",
    "--force-device-scale-factor=1", "--hide-scrollbars",
)  # fmt: skip
FOCUSED = """
const one = document.activeElement;
return one ? [one.dataset.focus ?? "", one.getAttribute("name") ?? "", one.textContent.trim()] : [];
"""


class Browser:
    """One window.  Elements are reached and used by keys alone."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str, frame: str = "") -> None:
        """Show an address, as if nothing was shown before; then what is within a frame of it."""
        self.driver.switch_to.default_content()
        self.driver.get("about:blank")
        self.driver.get(url)
        if frame:
            found = self.until(lambda: self._all(f"iframe[name='{frame}']"), f"the frame {frame}")
            self.driver.switch_to.frame(found[0])

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def type(self, text: str) -> None:
        """Type a text where the focus is, in place of what is there."""
        ActionChains(self.driver).key_down(Keys.CONTROL).send_keys("a").key_up(
            Keys.CONTROL
        ).send_keys(text).perform()

    def focused(self) -> tuple[str, ...]:
        """Return the key, the name and the text of the element that has the focus."""
        return tuple(self.driver.execute_script(FOCUSED))

    def tab_to(self, name: str, key: str = Keys.TAB) -> None:
        """Press Tab until an element has the focus: by its key, its name or its text.

        Raises AssertionError where none is reached.
        """
        reached: list[tuple[str, ...]] = []
        for _ in range(MOST_TABS):
            if name in (now := self.focused()):
                return
            reached.append(now)
            self.press(key)
        raise AssertionError(f"{name} is out of reach of the keyboard, which reached {reached}")

    def use(self, name: str) -> None:
        """Reach a link or a button by Tab, and press Enter."""
        self.tab_to(name)
        self.press(Keys.ENTER)

    def choose(self, name: str, value: str) -> None:
        """Reach a list of choices by Tab, and choose one by the keys."""
        self.tab_to(name)
        options = "document.activeElement.options"
        index = f"[...{options}].findIndex(one => one.value === {value!r})"
        steps = self.driver.execute_script(f"return {index} - document.activeElement.selectedIndex")
        self.press(*([Keys.DOWN] * steps if steps > 0 else [Keys.UP] * -steps))

    def text(self, selector: str = "body") -> str:
        """Return the text of the first element that fits; "" where none does."""
        found = self._all(selector)
        return found[0].text if found else ""

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that fit."""
        return [one.text for one in self._all(selector)]

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Return what is true of the page, once it is.  Raises AssertionError, with the page."""
        wait = WebDriverWait(
            self.driver, PATIENCE, LOOK,
            ignored_exceptions=(StaleElementReferenceException,),
        )  # fmt: skip
        try:
            return wait.until(lambda _: holds())
        except WebDriverException:
            raise AssertionError(f"{what} is not shown:\n{self.text()}") from None

    def until_text(self, text: str, selector: str = "body") -> None:
        """Return when an element has this text in its own."""
        self.until(lambda: text in self.text(selector), repr(text))

    def complaints(self) -> list[str]:
        """Return what the browser has complained of since it was asked last."""
        return [one["message"] for one in self.driver.get_log("browser")]

    def picture(self, file: Path, width: int, height: int) -> None:
        """Write what a window of this size shows, in pixels, as PNG."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < height},
        )
        file.write_bytes(self.driver.get_screenshot_as_png())

    def _all(self, selector: str) -> list[WebElement]:
        return list(self.driver.find_elements("css selector", selector))


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Run a browser until the block ends."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service("/usr/bin/chromedriver")
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
