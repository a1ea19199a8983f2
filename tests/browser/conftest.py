"""A browser, and pages for it."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reports.page.runs import finding, run, written

# Where Debian has the browser and its driver; the variables name others.
PROGRAMS = {"TOEPLITZ_CHROMIUM": "chromium", "TOEPLITZ_CHROMEDRIVER": "chromedriver"}
# Screenshots are kept in this directory.
SHOTS = "TOEPLITZ_SHOTS"


class Browser:
    """Chromium without a window.

    Parameters
    ----------
    driver : selenium.webdriver.Chrome
    shots : path
        The directory of screenshots.
    """

    def __init__(self, driver: Any, shots: Path) -> None:
        self.driver = driver
        self._shots = shots

    def show(self, page: Path, width: int, scheme: str = "light", fragment: str = "") -> None:
        """Load a page anew in a window of this width."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self._media(scheme)
        self.driver.get("about:blank")
        self.driver.get(f"{page.as_uri()}{fragment}")

    def _media(self, scheme: str, **more: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features, **more})

    def run(self, program: str, *arguments: object) -> Any:
        """The value of a JavaScript function's body."""
        return self.driver.execute_script(program, *arguments)

    def press(self, *keys: str) -> None:
        """Press keys one after another in what has the focus."""
        from selenium.webdriver import ActionChains

        actions = ActionChains(self.driver)
        for key in keys:
            actions.send_keys(key)
        actions.perform()

    @property
    def complaints(self) -> list[str]:
        """What the console says, errors and warnings alike."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def photograph(self, name: str) -> None:
        """Keep a picture of the whole page, down to a limit that viewers take."""
        width, height = self.run("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 6000), "scale": 1}
        found = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        (self._shots / f"{name}.png").write_bytes(base64.b64decode(found["data"]))

    def printed(self, name: str) -> bytes:
        """The page as a PDF of A4 sheets, which is kept too."""
        size = {"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": False}
        found = base64.b64decode(self.driver.execute_cdp_cmd("Page.printToPDF", size)["data"])
        (self._shots / f"{name}.pdf").write_bytes(found)
        return found

    def on_paper(self) -> None:
        """Show the page as it is printed."""
        self._media("light", media="print")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium; tests are skipped as not run without it."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="not run: needs selenium")
    found = {variable: os.environ.get(variable) or shutil.which(name) for variable, name in PROGRAMS.items()}
    if missing := [name for name, path in found.items() if path is None]:
        pytest.skip(f"not run: no {' and no '.join(PROGRAMS[name] for name in missing)}")
    options = webdriver.ChromeOptions()
    options.binary_location = found["TOEPLITZ_CHROMIUM"]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    shots = Path(os.environ.get(SHOTS) or tmp_path_factory.mktemp("shots"))
    shots.mkdir(parents=True, exist_ok=True)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(found["TOEPLITZ_CHROMEDRIVER"]))
    try:
        yield Browser(driver, shots)
    finally:
        driver.quit()


@pytest.fixture(scope="session", params=["one", "many"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with one finding, and of a run with two hundred."""
    count = {"one": 1, "many": 200}[request.param]
    file = tmp_path_factory.mktemp("pages") / f"{request.param}.html"
    file.write_text(written(run([finding(number) for number in range(1, count + 1)])), encoding="utf-8")
    return file
