"""Measure the studio: slider to picture, opening a picture, the first screen, many visitors, and the map's frames.

    python benchmarks/studio.py [--visitors 20] [--seconds 60] [--points 100000]

The page is measured in the system's headless Chromium, where there is one. The model is that of the package. Prints a
table and writes JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import torch
from measuring import conditions
from PIL import Image
from rich.console import Console
from rich.table import Table

from diffae.cli.studio import drawn_faces
from diffae.data.labels import LabelTable
from diffae.pretrained import pretrained_path
from diffae.studio.app import create_app
from diffae.studio.context import open_studio
from diffae.studio.gallery import Opened
from sketchfaces import sketch_faces

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from browser import CHROMIUM, opened_browser, served

MOVES = 30
"""Of a slider in the browser, and pictures opened."""
CHANGES = [{}, {"smiling": 0.9}, {"age": 60.0}, {"glasses": 0.95}, {"hat": 0.1}]
FRAMES_SECONDS = 4

MOVE = """async (count) => {
  const input = document.querySelector(".slider input"), shown = document.querySelector(".stage .after");
  const times = [];
  for (let k = 0; k < count; k++) {
    const before = shown.src, start = performance.now();
    input.value = String(40 + (k * 97) % 320);
    input.dispatchEvent(new Event("input", { bubbles: true }));
    while (shown.src === before) await new Promise((next) => setTimeout(next, 2));
    await shown.decode();
    times.push(performance.now() - start);
    await new Promise((next) => setTimeout(next, 100));
  }
  return times;
}"""
"""Milliseconds from a move of the first slider to the picture."""

PAN = """async (seconds) => {
  const canvas = document.querySelector(".plot canvas"), end = performance.now() + 1000 * seconds;
  const box = canvas.getBoundingClientRect(), times = [];
  let last = await new Promise(requestAnimationFrame), k = 0;
  while (performance.now() < end) {
    const deltaY = 40 * ((k++ >> 4) % 2 ? 1 : -1);
    const place = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 };
    canvas.dispatchEvent(new WheelEvent("wheel", { deltaY, ...place, cancelable: true }));
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
  }
  return times;
}"""
"""Milliseconds between frames while the map is zoomed in and out."""


@contextmanager
def studio_process() -> Iterator[tuple[str, psutil.Process]]:
    """`diffae studio` in a process of its own: its address, and the process."""
    command = [sys.executable, "-m", "diffae", "studio", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        try:
            while not httpx.get(f"{address}api/studio", timeout=60).json()["data"]["ready"]:
                time.sleep(0.2)
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()


def summary(seconds: list[float]) -> dict[str, float]:
    """Median, 95th percentile and longest of some durations."""
    ordered = sorted(seconds)
    p95 = ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)]
    return {"median": statistics.median(ordered), "p95": p95, "longest": ordered[-1], "count": len(ordered)}


def face_file(seed: int) -> bytes:
    """A drawn face of 256 pixels as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(sketch_faces(1, 256, seed).images[0]).save(buffer, "PNG")
    return buffer.getvalue()


def opening(address: str, count: int) -> dict[str, float]:
    """Seconds to open a picture file of 256 pixels."""
    seconds = []
    with httpx.Client(base_url=f"{address}api", timeout=60) as client:
        for seed in range(count):
            data, start = face_file(seed), time.perf_counter()
            client.post("/pictures", params={"name": "face.png"}, content=data).raise_for_status()
            seconds.append(time.perf_counter() - start)
    return summary(seconds)


def in_browser(address: str) -> dict[str, dict[str, float]]:
    """The first screen, and a slider's moves, in seconds."""
    with opened_browser() as browser:
        first: list[float] = []
        page = browser.new_page()
        for _ in range(5):
            page = browser.new_context().new_page()
            start = time.perf_counter()
            page.goto(address)
            page.wait_for_selector(".picker .grid .tile")
            first.append(time.perf_counter() - start)
        page.locator(".picker .grid .tile").first.click()
        page.wait_for_selector(".slider input")
        moves = page.evaluate(MOVE, MOVES)
    return {"first_screen": summary(first), "slider": summary([one / 1000 for one in moves])}


def visit(address: str, number: int, seconds: float, found: list[dict[str, Any]]) -> None:
    """One visitor: opens a picture and edits it once a second; counts errors, and answers about another picture."""
    times, errors, strange = [], 0, 0
    with httpx.Client(base_url=f"{address}api", timeout=120) as client:
        answer = client.post("/pictures", params={"name": f"{number}.png"}, content=face_file(1000 + number))
        picture = answer.json()
        end, turn, known = time.perf_counter() + seconds, 0, {}
        while time.perf_counter() < end:
            start = time.perf_counter()
            which = turn % len(CHANGES)
            answer = client.post("/edit", json={"picture": picture["id"], "changes": CHANGES[which]})
            times.append(time.perf_counter() - start)
            errors += answer.status_code != 200
            if answer.status_code == 200:
                mine = answer.json()["asked"]
                strange += any(abs(known.setdefault(which, mine)[name] - mine[name]) > 1e-3 for name in mine)
                strange += which == 0 and abs(mine["age"] - picture["values"]["age"]) > 1e-3
            turn += 1
            time.sleep(max(0.0, 1 - (time.perf_counter() - start)))
    found.append({"times": times, "errors": errors, "strange": strange})


def visitors(address: str, process: psutil.Process, count: int, seconds: float) -> dict[str, Any]:
    """Many visitors at once."""
    found: list[dict[str, Any]] = []
    threads = [threading.Thread(target=visit, args=(address, number, seconds, found)) for number in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 3)
    before = process.memory_info().rss
    for thread in threads:
        thread.join()
    return {
        "visitors": count,
        "seconds": seconds,
        "latency": summary([one for visitor in found for one in visitor["times"]]),
        "errors": sum(visitor["errors"] for visitor in found),
        "pictures_of_others": sum(visitor["strange"] for visitor in found),
        "megabytes_after_a_third": before / 2**20,
        "megabytes_at_the_end": process.memory_info().rss / 2**20,
    }


class Repeated:
    """A few images, again and again, as a data set of many."""

    def __init__(self, pack: Any, count: int) -> None:
        self.pack, self.count = pack, count
        self.names = [f"{row}.png" for row in range(count)]

    def __len__(self) -> int:
        return self.count

    def fetch(self, rows: np.ndarray) -> np.ndarray:
        """Images, by the remainder of their row."""
        return self.pack.fetch(rows % len(self.pack))


def frames(points: int) -> dict[str, float]:
    """Frames a second of a map of synthetic codes, zoomed in and out."""
    with tempfile.TemporaryDirectory() as folder:

        def many(model: Any) -> Opened:
            drawn = drawn_faces(model, Path(folder), 64)
            pack: Any = Repeated(drawn.pack, points)
            values = np.arange(points, dtype=float)[:, None]
            return Opened(pack, LabelTable(tuple(pack.names), ("row",), values, {"row": "number"}), Path(folder))

        studio = open_studio(pretrained_path(), many)
        assert studio.model is not None
        studio.gallery._opened = many(studio.model)
        codes = np.random.default_rng(0).normal(size=(points, studio.model.config.z_sem_channels))
        studio.gallery._z_sem, studio.gallery._started = codes.astype(np.float32), True
        with served(create_app(studio)) as port, opened_browser() as browser:
            page = browser.new_page(viewport={"width": 1280, "height": 860})
            page.goto(f"http://127.0.0.1:{port}/#map")
            page.wait_for_selector(".map .legend span", timeout=120_000)
            times = page.evaluate(PAN, FRAMES_SECONDS)
    ordered = sorted(1000 / one for one in times)
    return {"points": points, "median": statistics.median(ordered), "p5": ordered[len(ordered) // 20]}


def show(results: dict[str, Any]) -> None:
    """The figures as a table in the terminal."""
    table = Table("measured", "median", "95 %", "longest")
    for name in ("first_screen", "slider", "opening"):
        if name in results:
            table.add_row(name, *(f"{results[name][part]:.3f} s" for part in ("median", "p95", "longest")))
    latency = results["visitors"]["latency"]
    table.add_row("edit, many visitors", *(f"{latency[part]:.3f} s" for part in ("median", "p95", "longest")))
    Console(width=120).print(table, results["visitors"], results.get("map"))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    results: dict[str, Any] = {"conditions": conditions(torch.get_num_threads()) | {"load_of_others": load}}
    with studio_process() as (address, process):
        results["opening"] = opening(address, 10)
        if CHROMIUM:
            results |= in_browser(address)
        results["visitors"] = visitors(address, process, arguments.visitors, arguments.seconds)
    if CHROMIUM:
        results["map"] = frames(arguments.points)
    show(results)
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
