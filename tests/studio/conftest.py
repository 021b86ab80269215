"""One tiny studio for all tests of its API, and a visitor of it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi", reason="the studio needs diffae[studio]")

from fastapi.testclient import TestClient
from tiny_studio import tiny_studio

from diffae.studio.app import create_app
from diffae.studio.context import Studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return tiny_studio(tmp_path_factory.mktemp("studio"))


@pytest.fixture(scope="module")
def client(studio: Studio) -> Iterator[TestClient]:
    """A visitor, once the data set is encoded."""
    with TestClient(create_app(studio)) as client:
        wait_until_ready(client)
        yield client


def wait_until_ready(client: TestClient) -> None:
    until = time.monotonic() + 60
    while not (data := client.get("/api/studio").json()["data"])["ready"]:
        assert not data["problem"], data
        assert time.monotonic() < until, data
        time.sleep(0.01)
