"""A browser without a screen, worked by the keyboard: Debian's Chromium, by WebDriver."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

PATIENCE = 120.0
"""Seconds to wait for something to be shown, on a slow machine."""
LOOK, SELDOM = 0.05, 0.5
"""Seconds from one look to the next, at first and at most: each costs the browser some work."""
MOST_TABS = 1000
"""Presses of the Tab key after which an element counts as out of reach: a page of the queue has two
hundred, and begins again where it was drawn again meanwhile."""
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-extensions", "--disable-background-networking",
    "--force-device-scale-factor=1", "--force-prefers-reduced-motion", "--hide-scrollbars",
    "--window-size=1440,900",
)  # fmt: skip
TABS_AT_ONCE = 20
BACK = Keys.SHIFT + Keys.TAB
DESCRIBE = """
const describe = one => one ? [
    one.dataset.focus, one.getAttribute("name"), one.id, one.textContent.trim().slice(0, 80),
] : [];
"""
PRESENT = f"""{DESCRIBE}
return [...document.querySelectorAll("a, button, input, select")].some(
    one => one.getClientRects().length && describe(one).includes(arguments[0]));
"""
TEXTS = "return [...document.querySelectorAll(arguments[0])].map(one => one.innerText.trim());"
SHOWN = """
return [...document.querySelectorAll(arguments[0])].some(one => one.getClientRects().length);
"""
EXCESS = "return document.documentElement.scrollWidth - window.innerWidth;"
FOCUSED = f"{DESCRIBE} return describe(document.activeElement);"
TRAIL = f"""{DESCRIBE}
window.trail = [];
if (!window.trailed)
    document.addEventListener("focusin", event => window.trail.push(describe(event.target)));
window.trailed = true;
"""
"""Notes which elements get the focus from now on."""


class Browser:
    """One window.  Elements are reached and used by keys alone."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Show an address, as if nothing was shown before."""
        self.driver.switch_to.default_content()
        self.driver.get("about:blank")
        self.driver.get(url)

    def into(self, frame: str) -> None:
        """Show what is within a frame, once it is there."""

        def is_entered() -> bool:
            found = self.driver.find_elements("css selector", f"iframe[name='{frame}']")
            if found:
                self.driver.switch_to.frame(found[0])
            return bool(found)

        self.until(is_entered, f"the frame {frame}")

    def shown(self, selector: str) -> bool:
        """Whether an element that fits is to be seen."""
        return bool(self.driver.execute_script(SHOWN, selector))

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def type(self, text: str) -> None:
        """Type a text where the focus is, in place of what is there."""
        chain = ActionChains(self.driver).key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL)
        chain.send_keys(text or Keys.DELETE).perform()

    def focused(self) -> tuple[str, ...]:
        """Return the key, the name and the text of the element that has the focus."""
        return tuple(self.driver.execute_script(FOCUSED))

    def tab_to(self, name: str, key: str = Keys.TAB) -> None:
        """Press Tab until an element has the focus: by its key, its name, its id or its text.

        It is waited for.  Several presses are sent at once, and those too many are taken back.
        Raises AssertionError where it is not reached.
        """
        self.until(lambda: self.driver.execute_script(PRESENT, name), name)
        opposite = Keys.TAB if key == BACK else BACK
        reached: list[list[str | None]] = []
        at_once = TABS_AT_ONCE
        while len(reached) < MOST_TABS:
            if name in self.focused():
                return
            self.driver.execute_script(TRAIL)
            self._press_together(key, at_once)
            trail = self.driver.execute_script("return window.trail")
            reached += trail or [[]]
            found = next((place for place, one in enumerate(trail) if name in one), None)
            if found is not None:
                self._press_together(opposite, at_once - 1 - found)
                at_once = 1  # where the page has changed meanwhile, that was not it
        raise AssertionError(f"{name} is out of reach of the keyboard, which reached {reached}")

    def _press_together(self, key: str, times: int) -> None:
        chain = ActionChains(self.driver)
        for _ in range(times):
            if key == BACK:
                chain.key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT)
            else:
                chain.send_keys(key)
        chain.perform()

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
        return next(iter(self.texts(selector)), "")

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that fit."""
        return list(self.driver.execute_script(TEXTS, selector))

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Return what is true of the page, once it is.  Raises AssertionError, with the page.

        What cannot be seen just now, as the page goes or comes, is looked for again.
        """
        end, pause = time.monotonic() + PATIENCE, LOOK
        while time.monotonic() < end:
            with contextlib.suppress(WebDriverException):
                if found := holds():
                    return found
            time.sleep(pause)
            pause = min(1.5 * pause, SELDOM)
        raise AssertionError(f"{what} is not shown:\n{self.text()}")

    def until_text(self, text: str, selector: str = "body") -> None:
        """Return when an element has this text in its own."""
        self.until(lambda: text in self.text(selector), repr(text))

    def complaints(self) -> list[str]:
        """Return the warnings and errors of the browser, as of scripts, since it was asked last."""
        log = self.driver.get_log("browser")
        return [one["message"] for one in log if one["level"] in ("WARNING", "SEVERE")]

    def resize(self, width: int, height: int) -> None:
        """Have a window of this size, in pixels, as a phone has it if it is higher than wide."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < height},
        )

    def excess(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return int(self.driver.execute_script(EXCESS))

    def picture(self, file: Path, width: int, height: int) -> None:
        """Write what a window of this size shows, in pixels, as PNG."""
        self.resize(width, height)
        file.write_bytes(self.driver.get_screenshot_as_png())


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
    driver.set_page_load_timeout(PATIENCE)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
