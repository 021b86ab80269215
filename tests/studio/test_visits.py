"""Work of a visitor: it stops when nobody waits for it, and errors are sentences."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest
from browser import served
from tiny_studio import tiny_studio

from diffae.errors import DataError
from diffae.studio.app import create_app
from diffae.studio.engine import Busy, Cancelled, Ticket
from diffae.studio.gallery import NotReady
from diffae.studio.sessions import NotKept
from diffae.studio.visits import PROGRESS, VisitDep, explained


@pytest.mark.parametrize("accepted", ["application/json", PROGRESS])
def test_work_stops_when_the_visitor_goes(tmp_path: Path, accepted: str) -> None:
    stopped = threading.Event()

    def work(ticket: Ticket):
        try:
            while True:
                ticket.check()
                time.sleep(0.01)
        except Cancelled:
            stopped.set()
            raise

    async def endless(visit: VisitDep):
        return await visit.run(work)

    app = create_app(tiny_studio(tmp_path))
    app.add_api_route("/api/endless", endless)
    app.router.routes.insert(0, app.router.routes.pop())  # before the page's files
    with served(app) as port:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"http://127.0.0.1:{port}/api/endless", headers={"Accept": accepted}, timeout=0.3)
        assert stopped.wait(10)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (NotKept("open it again"), 404, "open it again"),
        (NotReady("wait a moment"), 409, "wait a moment"),
        (DataError("image a.png: is empty"), 422, "is empty"),
        (Busy(), 503, "too much to do"),
        (Cancelled(), 499, "cancelled"),
        (ZeroDivisionError("secret detail"), 500, "something went wrong in the studio (ZeroDivisionError)"),
    ],
)
def test_errors_are_sentences(error: Exception, status: int, words: str) -> None:
    found, sentence = explained(error)
    assert found == status
    assert words in sentence
    assert "secret" not in sentence
