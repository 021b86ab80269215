"""Headers, hosts, tokens and names: what keeps other sites and other machines out."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tiny_studio import tiny_studio

from diffae.errors import ConfigError
from diffae.studio.app import HEADERS, STATIC, create_app
from diffae.studio.context import Studio
from diffae.studio.server import bound_socket, is_local


@pytest.mark.parametrize("path", ["/", "/studio.js", "/studio.css", "/api/studio", "/api/none", "/api/map/colours"])
def test_every_answer_has_the_headers(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert not {"unsafe-inline", "unsafe-eval", "http", "*"} & set(policy.replace("'", " ").split())
    page = (STATIC / "index.html").read_text()
    assert "<style" not in page
    assert "style=" not in page
    assert "//" not in page.replace("<!doctype html>", "")


def test_the_cookie_is_hidden_from_scripts_and_other_sites(client: TestClient) -> None:
    cookie = TestClient(client.app).get("/api/studio").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie


def test_other_host_names_are_refused(client: TestClient) -> None:
    assert client.get("/api/studio", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/api/studio", headers={"Host": "localhost:8780"}).status_code == 200


def test_a_token_is_asked_for_once(studio: Studio) -> None:
    visitor = TestClient(create_app(studio, token="secret", hosts=["*"]))
    for path in ("/", "/api/studio", "/studio.js", "/?token=wrong"):
        answer = visitor.get(path)
        assert answer.status_code == 403
        assert "asks for a token" in answer.json()["error"]
    assert visitor.get("/?token=secret").status_code == 200  # after a redirect that drops it from the address
    assert visitor.get("/api/studio").status_code == 200


@pytest.mark.parametrize("path", ["/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/api/training/samples/..%2f..%2fx"])
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 405)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.1.2.3", False), ("here", False)],
)
def test_which_addresses_need_a_token(host: str, local: bool) -> None:
    assert is_local(host) is local


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port is {port}: .* in use.*choose another --port"):
            bound_socket("127.0.0.1", port)
    with pytest.raises(ConfigError, match=r"must lie in 0\.\.65535"):
        bound_socket("127.0.0.1", 70000)


def test_attributes_are_saved_where_it_is_allowed(tmp_path: Path) -> None:
    import time

    from diffae.latent.attributes import AttributeDirections

    studio = tiny_studio(tmp_path, may_save=True)
    with TestClient(create_app(studio)) as client:
        while not client.get("/api/studio").json()["data"]["ready"]:
            time.sleep(0.01)
        assert "nothing to save" in client.post("/api/attributes/save").json()["error"]
        client.post("/api/map/direction", json={"name": "new", "has": [*range(20)], "lacks": [*range(20, 40)]})
        saved = client.post("/api/attributes/save").json()
    assert [one["name"] for one in saved if not one["own"]] == ["bright", "tone", "new"]
    assert AttributeDirections.load(studio.folder).names_ == ("bright", "tone", "new")
