"""Every room in a real browser: clicks, drags, keys and files, in both themes and on a narrow screen."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the studio needs diffae[studio]")
pytest.importorskip("playwright", reason="tests in a browser need playwright")

from browser import CHROMIUM, PATIENCE, opened_browser, served
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from tiny_studio import COUNT, tiny_studio

from diffae.studio.app import create_app
from diffae.studio.context import Studio

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine: apt-get install chromium")

ROOMS = ("edit", "blend", "vary", "sample", "map", "directions", "training")
AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    studio = tiny_studio(tmp_path_factory.mktemp("browser"))
    lines = [{"step": k, "images": 8 * k, "loss": 1 / k, "val_loss": 1 / k} for k in range(1, 9)]
    (studio.folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (studio.folder / "samples").mkdir()
    Image.new("RGB", (64, 32)).save(studio.folder / "samples" / "000000064.png")
    return studio


@pytest.fixture(scope="module")
def address(studio: Studio) -> Iterator[str]:
    with served(create_app(studio)) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A visitor's page; nothing may be reported on its console, and nothing may be loaded from elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on(
        "request", lambda one: problems.append(one.url) if not one.url.startswith((address, "data:", "blob:")) else None
    )
    page.goto(address)
    expect(page.locator(".picker .grid .tile").first).to_be_visible()
    yield page
    context.close()
    assert not [text for text in problems if "status of 4" not in text]


def go(page: Page, room: str) -> None:
    page.locator(f"nav a[href='#{room}']").click()
    expect(page.locator("h1")).to_be_visible()


def rested(page: Page) -> None:
    """Wait until no work is shown."""
    expect(page.locator(".work:not([hidden])")).to_have_count(0)


def open_picture(page: Page, place: int = 0) -> None:
    page.locator(".picker .grid .tile").nth(place).click()
    expect(page.locator(".compare")).to_be_visible()


def slider(page: Page, name: str) -> Locator:
    return page.get_by_role("slider", name=name, exact=True)


def picture_file() -> dict[str, object]:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(3).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"name": "mine.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def test_an_own_picture_is_edited_and_saved(page: Page) -> None:
    """Choosing a file, moving a slider, saving: three actions."""
    page.locator(".drop input").set_input_files(picture_file())  # pyright: ignore[reportArgumentType]
    expect(page.locator("h1")).to_have_text("mine.png")
    expect(page.locator(".exactly")).to_contain_text("of 255 levels")
    slider(page, "tone").press("PageUp")
    expect(page.locator(".state")).to_have_text("Exact")
    expect(page.locator(".slider.changed .read")).to_contain_text("image reads")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save picture").click()
    with Image.open(download.value.path()) as saved:
        assert saved.size == (16, 16)


def test_undo_redo_reset_and_history(page: Page) -> None:
    open_picture(page)
    values = [slider(page, "tone").input_value()]
    for steps in (1, 2):
        slider(page, "tone").press("PageUp")
        expect(page.locator(".strip .tile")).to_have_count(1 + steps)
        values.append(slider(page, "tone").input_value())
    page.keyboard.press("Control+z")
    expect(slider(page, "tone")).to_have_value(values[1])
    page.keyboard.press("Control+Shift+z")
    expect(slider(page, "tone")).to_have_value(values[2])
    page.locator(".strip .tile").first.click()
    expect(slider(page, "tone")).to_have_value(values[0])
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    page.locator(".strip .tile").last.click()
    page.get_by_role("button", name="Reset", exact=True).click()
    expect(page.locator(".slider.changed")).to_have_count(0)


def test_views_and_the_wipe(page: Page) -> None:
    open_picture(page)
    slider(page, "tone").press("PageUp")
    expect(page.locator(".state")).to_have_text("Exact")
    for view in ("Before", "After", "Difference", "Wipe"):
        page.locator(".compare .segmented").get_by_text(view).click()
    stage = page.locator(".compare .stage")
    box = stage.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 40)
    page.mouse.up()
    assert 15 <= int(page.locator(".wipe-line").input_value()) <= 25


def test_the_same_outside_the_studio(page: Page) -> None:
    open_picture(page, 1)
    page.locator("label.switch").click()
    slider(page, "bright").press("PageUp")
    expect(page.locator(".state")).to_have_text("Exact")
    page.get_by_role("button", name="Copy as command").click()
    expect(page.locator("dialog pre").first).to_have_text(
        re.compile(r"diffae edit runs/noise noise_1\.png --set bright=p=\S+ --only --out edited\.png")
    )
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)


def test_bad_files_are_explained(page: Page) -> None:
    for content, sentence in ((b"", "is empty"), (b"no picture", "is not a JPEG, PNG")):
        page.locator(".drop input").set_input_files({"name": "bad.png", "mimeType": "image/png", "buffer": content})
        expect(page.locator(".toast.error").last).to_contain_text(sentence)
    expect(page.locator(".drop")).to_be_visible()


def test_blending_and_recording(page: Page) -> None:
    open_picture(page)
    go(page, "blend")
    page.get_by_role("button", name="Choose the picture top right").click()
    page.locator("dialog .grid .tile").nth(20).click()
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.locator(".blended img")).to_be_visible()
    page.get_by_role("button", name="Record a path").click()
    box = page.locator(".pad").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 10, box["y"] + box["height"] / 2, steps=6)
    page.mouse.up()
    assert int(page.locator(".dot").get_attribute("aria-valuenow") or 0) > 90
    page.get_by_role("button", name="Stop recording").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save GIF").click()
    with Image.open(download.value.path()) as film:
        assert getattr(film, "n_frames", 1) > 6
    with page.expect_download() as download:
        page.get_by_role("button", name="Save MP4").click()
    assert download.value.path().read_bytes()[4:8] == b"ftyp"
    page.locator(".dot").press("ArrowLeft")
    expect(page.locator(".dot")).to_have_attribute("aria-valuetext", re.compile("% across$"))


def test_varying_and_pinning(page: Page) -> None:
    open_picture(page)
    go(page, "vary")
    expect(page.locator(".results figure")).to_have_count(10)
    page.get_by_role("button", name="Pin x_T 3").click()
    expect(page.get_by_role("button", name="Unpin x_T")).to_be_visible()
    rested(page)
    page.get_by_role("button", name="Edit x_T 1", exact=True).click()
    expect(page.locator(".compare")).to_be_visible()


def test_sampling(page: Page) -> None:
    go(page, "sample")
    expect(page.locator(".results figure")).to_have_count(24)
    like = page.get_by_role("button", name="More like")
    expect(like).to_be_disabled()
    for place in range(5):
        page.locator(".results .tile").nth(place).click()
    expect(like).to_be_enabled()
    page.get_by_role("button", name="How new is New image 1?").click()
    expect(page.locator(".nearest")).to_contain_text("times as far as the next ones")


def lasso(page: Page, left: float, right: float) -> None:
    """Draw around a part of the map."""
    box = page.locator(".plot canvas").bounding_box()
    assert box is not None
    corners = [(left, 0.02), (right, 0.02), (right, 0.98), (left, 0.98), (left, 0.03)]
    for number, (across, down) in enumerate(corners):
        page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"], steps=3)
        if not number:
            page.mouse.down()
    page.mouse.up()


def test_the_map(page: Page) -> None:
    go(page, "map")
    canvas = page.locator(".plot canvas")
    expect(page.locator(".map .legend span")).to_have_count(2)
    canvas.press("Enter")  # takes what is in the middle
    expect(page.locator(".side .tile.large")).to_be_visible()
    canvas.click(position={"x": 8, "y": 8})  # far from all images
    expect(page.locator(".side h2")).to_have_text("Between the images")
    rested(page)
    page.get_by_label("Colour by").select_option("read: tone")
    expect(page.locator(".map .legend span")).to_have_count(5)
    page.get_by_text("Group A", exact=True).click()
    lasso(page, 0.02, 0.5)
    page.get_by_text("Group B", exact=True).click()
    lasso(page, 0.5, 0.9)
    counts = [int(text) for text in re.findall(r": (\d+) images", page.locator(".groups").inner_text())]
    assert min(counts) >= 5
    assert sum(counts) <= COUNT + 1
    page.get_by_label("Name of the new attribute").fill("leftness")
    page.get_by_role("button", name="Make a slider").click()
    expect(page.locator(".toast").last).to_contain_text("leftness is a slider now")
    go(page, "edit")
    open_picture(page)
    expect(slider(page, "leftness")).to_be_visible()


def test_dots_become_pictures(page: Page) -> None:
    go(page, "map")
    expect(page.locator(".map .legend span")).to_have_count(2)
    with page.expect_response(re.compile("gallery/sheet")):
        for _ in range(4):
            page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Show everything").click()


def test_directions(page: Page) -> None:
    open_picture(page)
    go(page, "directions")
    expect(page.locator(".direction")).to_have_count(6)
    page.get_by_label("Name of direction 2").fill("second")
    page.get_by_label("Name of direction 2").press("Enter")
    expect(page.locator(".toast").last).to_contain_text("second is a slider")


def test_training(page: Page) -> None:
    go(page, "training")
    expect(page.locator(".chart canvas")).to_be_visible()
    expect(page.locator(".facts")).to_contain_text("64")
    expect(page.locator(".sheetimage img")).to_be_visible()
    expect(page.locator("output").last).to_have_text("after 64 images")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_room_is_wider_than_a_phone(browser: Browser, address: str, theme: str) -> None:
    context = browser.new_context(viewport={"width": 400, "height": 800}, color_scheme=theme)  # pyright: ignore[reportArgumentType]
    page = context.new_page()
    page.goto(address)
    open_picture(page)
    assert page.locator("html").get_attribute("data-theme") == theme
    for room in ROOMS:
        go(page, room)
        assert page.evaluate("document.documentElement.scrollWidth") == 400, room
    page.get_by_role("button", name="Light or dark").click()
    assert page.locator("html").get_attribute("data-theme") != theme
    context.close()


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is absent: cd web && npm install")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_violation_of_accessibility(browser: Browser, address: str, theme: str) -> None:
    context = browser.new_context(bypass_csp=True, color_scheme=theme)  # pyright: ignore[reportArgumentType]
    page = context.new_page()
    page.goto(address)
    expect(page.locator(".picker .grid .tile").first).to_be_visible()
    page.add_script_tag(path=AXE)
    found = {"start": page.evaluate("axe.run()")}
    open_picture(page)
    for room in ROOMS:
        go(page, room)
        rested(page)
        found[room] = page.evaluate("axe.run()")
    context.close()
    serious = [
        (room, one["id"], one["nodes"][0]["html"][:120], one["nodes"][0]["any"][:1])
        for room, result in found.items()
        for one in result["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert not serious


def test_the_studio_stops_and_comes_back(browser: Browser, tmp_path: Path) -> None:
    page = browser.new_page()
    with served(create_app(tiny_studio(tmp_path / "a"))) as port:
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.locator(".picker .grid .tile").first).to_be_visible()
    page.locator(".picker .grid .tile").first.click()
    expect(page.get_by_role("alert")).to_contain_text("The studio has stopped")
    with served(create_app(tiny_studio(tmp_path / "b")), port):
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(page.locator(".picker .grid .tile").first).to_be_visible()
        page.close()
