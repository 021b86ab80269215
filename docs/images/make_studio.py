"""Draw the pictures of the studio: python docs/images/make_studio.py

The model of the package and drawn faces, in the system's Chromium.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, expect

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "helpers"))
from browser import opened_browser  # noqa: E402

PATIENCE = 120_000
FACE = 2


def opened(browser: Browser, address: str, theme: str) -> Page:
    """A page with a face of the data set in the room Edit."""
    expect.set_options(timeout=PATIENCE)
    size = {"width": 1240, "height": 800}
    page = browser.new_page(viewport=size, color_scheme=theme)  # pyright: ignore[reportArgumentType]
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.locator(".picker .grid .tile").nth(FACE).click()
    expect(page.locator(".compare")).to_be_visible()
    return page


def shot(page: Page, name: str) -> None:
    """The page, once all work is done."""
    expect(page.locator(".work:not([hidden])")).to_have_count(0)
    page.evaluate("scrollTo(0, 0)")
    page.mouse.move(4, 790)
    page.wait_for_timeout(800)
    page.screenshot(path=HERE / f"studio-{name}.png")


def edit(page: Page) -> None:
    """A younger face with long hair."""
    for name, key, times in (("age", "PageDown", 3), ("long_hair", "PageUp", 7)):
        for _ in range(times):
            page.get_by_role("slider", name=name, exact=True).press(key)
    page.locator(".strip .tile").nth(1).wait_for()
    shot(page, "edit")


def map_of_faces(page: Page) -> None:
    """The map, coloured by age, with the face found on it."""
    page.locator("nav a[href='#map']").click()
    page.get_by_label("Colour by").select_option("label: age")
    expect(page.locator(".map .legend span")).to_have_count(5)
    shot(page, "map")


def blend(page: Page) -> None:
    """Four faces, and the dot between them."""
    page.locator("nav a[href='#blend']").click()
    page.get_by_role("button", name="Take some of the data set").click()
    expect(page.locator(".corner.empty")).to_have_count(0)
    expect(page.locator(".blended img")).to_be_visible()
    shot(page, "blend")


def directions(page: Page) -> None:
    """Strips of the face."""
    page.locator("nav a[href='#directions']").click()
    expect(page.locator(".direction").first).to_be_visible()
    shot(page, "directions")


def main() -> None:
    """Serve, and take the pictures."""
    command = [sys.executable, "-m", "diffae", "studio", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        while not httpx.get(f"{address}api/studio", timeout=60).json()["data"]["ready"]:
            time.sleep(0.2)
        with opened_browser() as browser:
            light = opened(browser, address, "light")
            edit(light)
            blend(light)
            dark = opened(browser, address, "dark")
            map_of_faces(dark)
            directions(dark)
        process.terminate()


if __name__ == "__main__":
    main()
