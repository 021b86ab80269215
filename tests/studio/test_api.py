"""The API of all rooms, with a tiny model."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from tiny_studio import COUNT, row_image

from diffae import plotting
from diffae.data.images import to_uint8
from diffae.latent.editing import edit_images
from diffae.model import DiffusionAutoencoder
from diffae.studio import pictures as pictures_module
from diffae.studio.context import Studio


def file_of(pixels: np.ndarray, kind: str = "PNG", **how: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **how)
    return buffer.getvalue()


def another(client: TestClient) -> TestClient:
    """Another visitor of the same studio."""
    return TestClient(client.app)


def noise(seed: int = 5, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def pixels_of(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


@pytest.fixture(scope="module")
def opened(client: TestClient) -> dict[str, Any]:
    answer = client.post("/api/pictures?name=my%20own.png", content=file_of(noise()))
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_facts(client: TestClient) -> None:
    info = client.get("/api/studio").json()
    assert (info["run"], info["image_size"], info["z_sem"]) == ("runs/noise", 16, 6)
    assert [(one["name"], one["kind"]) for one in info["attributes"]] == [("bright", "binary"), ("tone", "number")]
    assert info["data"] == {"images": COUNT, "encoded": COUNT, "ready": True, "problem": "", "labels": ["odd", "row"]}
    assert list(info["missing"]) == ["training"]


def test_an_upload_is_taken_apart_exactly(opened: dict[str, Any]) -> None:
    assert opened["name"] == "my own.png"
    assert (pixels_of(opened["image"]) == noise()).all()
    assert (pixels_of(opened["back"]) == noise()).all()
    assert opened["largest_error"] < 0.5
    assert opened["calls"] >= 4
    assert 0 < opened["values"]["bright"] < 1


def test_an_image_of_the_data_set(client: TestClient, studio: Studio) -> None:
    found = client.post("/api/pictures/of-data/3").json()
    assert (pixels_of(found["image"]) == to_uint8(row_image(studio, 3))[0]).all()
    assert client.post(f"/api/pictures/of-data/{COUNT}").status_code == 409


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is empty"),
        (b"no picture at all", "is not a JPEG, PNG"),
        (file_of(noise())[:200], "damaged or truncated"),
        (file_of(noise(), "PCX"), "is not a JPEG, PNG"),
        (
            file_of(noise(), save_all=True, append_images=[Image.fromarray(noise(6))]),
            "is an animation; save the frame",
        ),
    ],
)
def test_bad_uploads(client: TestClient, data: bytes, sentence: str) -> None:
    answer = client.post("/api/pictures?name=bad.png", content=data)
    assert answer.status_code == 422
    assert sentence in answer.json()["error"]
    assert "bad.png" in answer.json()["error"]
    assert "/tmp" not in answer.text


def test_huge_uploads(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures_module, "MOST_PIXELS", 100)
    assert "has 16 x 16 pixels" in client.post("/api/pictures", content=file_of(noise())).json()["error"]
    monkeypatch.setattr("diffae.studio.rooms.start.MOST_BYTES", 50)
    assert "larger than" in client.post("/api/pictures", content=file_of(noise())).json()["error"]


def test_a_name_is_no_path(client: TestClient) -> None:
    answer = client.post("/api/pictures", params={"name": "../../etc/pass\nwd.png"}, content=file_of(noise()))
    assert answer.json()["name"] == "passwd.png"


def test_a_draft_and_an_exact_edit(client: TestClient, opened: dict[str, Any], studio: Studio) -> None:
    wanted = {"picture": opened["id"], "changes": {"tone": 55.0}}
    draft = client.post("/api/edit", json=wanted).json()
    exact = client.post("/api/edit", json=wanted | {"exact": True}).json()
    assert draft["asked"]["tone"] == exact["asked"]["tone"] == 55
    assert (draft["exact"], exact["exact"]) == (False, True)
    attributes = studio.attributes
    assert attributes is not None
    model = studio.require_model()
    edits = edit_images(model, attributes, model.encode(noise(), studio.exact), [{"tone": 55.0}], sampling=studio.exact)
    assert exact["read"]["tone"] == pytest.approx(edits.read[0, 1], abs=0.05)
    difference = pixels_of(exact["image"]).astype(int) - to_uint8(edits.images)[0]
    assert np.abs(difference).max() <= 1


def test_keeping_the_others(client: TestClient, opened: dict[str, Any]) -> None:
    wanted = {"picture": opened["id"], "changes": {"bright": 0.9}}
    kept = client.post("/api/edit", json=wanted | {"keep": True}).json()
    assert kept["asked"]["tone"] == pytest.approx(opened["values"]["tone"], abs=1e-3)
    moved = client.post("/api/edit", json=wanted).json()
    assert abs(moved["asked"]["tone"] - opened["values"]["tone"]) > 1e-3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"brigth": 0.5}, "did you mean 'bright'?"),
        ({"bright": 2.0}, "must be a probability"),
        ({"tone": "much"}, "changes.tone"),
    ],
)
def test_bad_edits(client: TestClient, opened: dict[str, Any], changes: dict[str, Any], sentence: str) -> None:
    answer = client.post("/api/edit", json={"picture": opened["id"], "changes": changes})
    assert answer.status_code == 422
    assert sentence in answer.json()["error"]


def test_an_edit_as_a_command(client: TestClient, opened: dict[str, Any]) -> None:
    wanted = {"picture": opened["id"], "changes": {"bright": 0.9, "tone": 55.0}, "keep": True}
    lines = client.post("/api/edit/commands", json=wanted).json()
    command = "diffae edit runs/noise 'my own.png' --set bright=p=0.9 --set tone==55 --only --out edited.png"
    assert lines["command"] == command
    compile(lines["python"], "lines", "exec")
    assert "{'bright': 'p=0.9', 'tone': 55.0}" in lines["python"]
    empty = client.post("/api/edit/commands", json={"picture": opened["id"], "changes": {}})
    assert "move a slider first" in empty.json()["error"]


def test_a_16_bit_picture_stays_16_bit(client: TestClient) -> None:
    import tifffile

    deep = np.random.default_rng(1).integers(0, 65536, (16, 16, 3), dtype=np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, deep, photometric="rgb")
    found = client.post("/api/pictures?name=deep.tif", content=buffer.getvalue()).json()
    answer = client.post("/api/edit/file", json={"picture": found["id"], "changes": {}})
    back = tifffile.imread(io.BytesIO(answer.content))
    assert answer.headers["content-disposition"].endswith('edited.tif"')
    assert back.dtype == np.uint16
    assert np.abs(back.astype(int) - deep).max() <= 1
    edited = client.post("/api/edit/file", json={"picture": found["id"], "changes": {"tone": 50.0}})
    assert tifffile.imread(io.BytesIO(edited.content)).dtype == np.uint16


def test_blending(client: TestClient, opened: dict[str, Any], studio: Studio) -> None:
    other = client.post("/api/pictures/of-data/1").json()
    corners = {"pictures": [opened["id"], other["id"]], "exact": True}
    ends = [client.post("/api/blend", json=corners | {"across": share}).json() for share in (0, 1)]
    assert np.abs(pixels_of(ends[0]["image"]).astype(int) - noise()).max() <= 1
    assert (pixels_of(ends[1]["image"]) == pixels_of(other["image"])).all()
    model = studio.require_model()
    a, b = (model.encode(image, studio.exact) for image in (noise(), row_image(studio, 1)))
    half = client.post("/api/blend", json=corners | {"across": 0.5}).json()
    expected = to_uint8(model.interpolate(a, b, 3, studio.exact)[1:2])[0]
    assert np.abs(pixels_of(half["image"]).astype(int) - expected).max() <= 1
    four = client.post("/api/blend", json={"pictures": [opened["id"]] * 3 + [other["id"]], "across": 1, "down": 1})
    assert four.status_code == 200


def test_recording(client: TestClient, opened: dict[str, Any]) -> None:
    other = client.post("/api/pictures/of-data/1").json()
    body = {"pictures": [opened["id"], other["id"]], "path": [[0, 0], [0.5, 0], [1, 0]], "kind": "gif"}
    film = Image.open(io.BytesIO(client.post("/api/blend/record", json=body).content))
    assert (film.format, getattr(film, "n_frames", 1)) == ("GIF", 4)  # there and back
    assert client.post("/api/blend/record", json=body | {"kind": "exe"}).status_code == 422


def test_recording_a_video(client: TestClient, opened: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"pictures": [opened["id"]] * 2, "path": [[0, 0], [1, 0]], "kind": "mp4"}
    film = client.post("/api/blend/record", json=body)
    assert film.headers["content-type"] == "video/mp4"
    assert film.content[4:8] == b"ftyp"
    monkeypatch.setattr(plotting, "writes_mp4", lambda: False)
    refused = client.post("/api/blend/record", json=body)
    assert refused.status_code == 422
    assert "pip install 'diffae[video]'" in refused.json()["error"]


def test_variations_keep_z_sem(client: TestClient, opened: dict[str, Any], studio: Studio) -> None:
    found = client.post("/api/vary", json={"picture": opened["id"], "count": 3, "seed": 4}).json()
    model = studio.require_model()
    z_sem = model.encode_semantic(noise()).expand(3, -1)
    x = model.decode(z_sem=z_sem, sampling=studio.exact, generator=torch.Generator().manual_seed(4))
    expected = to_uint8(x)
    images = np.stack([pixels_of(one["image"]) for one in found["pictures"]])
    assert np.abs(images.astype(int) - expected).max() <= 1
    mean = to_uint8(x.mean(dim=0, keepdim=True))[0]
    assert np.abs(pixels_of(found["mean"]).astype(int) - mean).max() <= 1
    again = {"picture": opened["id"], "count": 2, "pinned": found["pictures"][1]["id"]}
    pinned = client.post("/api/vary", json=again).json()["pictures"][0]
    assert np.abs(pixels_of(pinned["image"]).astype(int) - expected[1]).max() <= 1


def test_samples_depend_on_the_seed(client: TestClient, studio: Studio) -> None:
    a, b, c = (client.post("/api/sample", json={"count": 2, "seed": seed}).json()["pictures"] for seed in (1, 1, 2))
    assert [one["image"] for one in a] == [one["image"] for one in b]
    assert a[0]["image"] != c[0]["image"]
    expected = to_uint8(
        studio.require_model().sample(2, sampling=studio.exact, generator=torch.Generator().manual_seed(1))
    )
    assert np.abs(pixels_of(a[0]["image"]).astype(int) - expected[0]).max() <= 1
    reopened = client.post(f"/api/pictures/{a[0]['id']}/open").json()
    assert np.abs(pixels_of(reopened["image"]).astype(int) - pixels_of(a[0]["image"])).max() <= 1
    few = client.post("/api/sample", json={"count": 2, "like": [a[0]["id"]]})
    assert "too few" in few.json()["error"]


def test_novelty_finds_a_copy(client: TestClient) -> None:
    copy = client.post("/api/pictures/of-data/7").json()
    found = client.post("/api/sample/novelty", json={"picture": copy["id"]}).json()
    assert (found["neighbours"][0]["row"], found["relative"]) == (7, 0)


def test_the_map(client: TestClient, studio: Studio) -> None:
    about = client.get("/api/map").json()
    assert about["images"] == COUNT
    names = [one["name"] for one in about["colourings"]]
    assert names == ["label: odd", "label: row", "read: bright", "read: tone", "distance from the mean"]
    points = np.frombuffer(client.get("/api/map/points").content, "<f4").reshape(-1, 2)
    assert points.std(axis=0) == pytest.approx([1, 1], abs=0.05)
    rows = np.frombuffer(client.get("/api/map/colours", params={"by": "label: row"}).content, "<f4")
    assert rows.tolist() == list(range(COUNT))
    assert "choose a colouring" in client.get("/api/map/colours", params={"by": "secret"}).json()["error"]
    near = client.get("/api/map/neighbours/5").json()["neighbours"]
    assert (near[0]["row"], near[0]["distance"]) == (5, pytest.approx(0, abs=1e-6))
    place = {"x": float(points[5, 0]), "y": float(points[5, 1])}
    between = client.post("/api/map/decode", json=place).json()
    reading = studio.attributes_of(next(iter(studio.sessions._sessions.values()))).read(studio.gallery.z_sem[5:6])
    assert between["values"]["tone"] == pytest.approx(float(reading[0, 1]), rel=1e-3)  # at a point, it is that image's


def test_finding_a_picture_on_the_map(client: TestClient) -> None:
    picture = client.post("/api/pictures/of-data/9").json()
    found = client.post("/api/map/find", json={"picture": picture["id"]}).json()
    points = np.frombuffer(client.get("/api/map/points").content, "<f4").reshape(-1, 2)
    assert found["neighbours"][0]["row"] == 9
    assert (found["x"], found["y"]) == pytest.approx(tuple(points[9]), abs=1e-2)


def test_a_direction_between_two_groups(client: TestClient, opened: dict[str, Any]) -> None:
    client = another(client)
    picture = client.post("/api/pictures/of-data/0").json()
    groups = {"name": " first  half ", "has": list(range(20)), "lacks": list(range(20, 40))}
    made = client.post("/api/map/direction", json=groups).json()
    assert [one["name"] for one in made if one["own"]] == ["first half"]
    edited = client.post("/api/edit", json={"picture": picture["id"], "changes": {"first half": 0.9}})
    assert edited.json()["asked"]["first half"] == 0.9
    assert "is the name of another" in client.post("/api/map/direction", json=groups).json()["error"]
    both = groups | {"name": "x", "lacks": [0, 21, 22, 23, 24]}
    assert "in both groups" in client.post("/api/map/direction", json=both).json()["error"]
    assert not [one for one in another(client).get("/api/studio").json()["attributes"] if one["own"]]


@pytest.mark.parametrize("kind", ["pca", "seen"])
def test_directions_without_labels(client: TestClient, kind: str) -> None:
    client = another(client)
    picture = client.post("/api/pictures/of-data/0").json()
    found = client.post("/api/directions", json={"picture": picture["id"], "kind": kind, "count": 2}).json()
    assert found["steps"] == [-3, -2, -1, 0, 1, 2, 3]
    shares = [one["share"] for one in found["strips"]]
    assert 1 >= shares[0] >= shares[1] > 0
    assert len({*found["strips"][0]["images"]}) == 7
    kept = client.post("/api/directions/keep", json={"kind": kind, "index": 1, "name": "mine"}).json()
    own = kept[-1]
    assert (own["name"], own["own"], own["kind"]) == ("mine", True, "number")
    assert own["score"]["value"] > 0.99  # it is linear in z_sem
    now = {one["name"]: one for one in kept}
    assert now["mine"]["low"] == pytest.approx(-now["mine"]["high"], rel=0.5)


def test_saving_is_refused_where_it_is_not_allowed(client: TestClient) -> None:
    assert "not saved here" in client.post("/api/attributes/save").json()["error"]


def test_thumbnails(client: TestClient, studio: Studio) -> None:
    sheet = np.asarray(Image.open(io.BytesIO(client.get("/api/gallery/sheet?rows=4,2").content)))
    assert sheet.shape == (16, 32, 3)
    assert (sheet[:, 16:] == to_uint8(row_image(studio, 2))[0]).all()
    assert client.get("/api/gallery/sheet?rows=4,x").status_code == 422
    assert client.get("/api/gallery/sheet?rows=-1").status_code == 409


def test_progress_in_lines(client: TestClient, opened: dict[str, Any]) -> None:
    answer = client.post(
        "/api/vary", json={"picture": opened["id"], "count": 2}, headers={"Accept": "application/x-ndjson"}
    )
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert len(lines[-1]["result"]["pictures"]) == 2
    assert all(0 < line["progress"] <= 1 for line in lines[:-1])
    gone = client.post("/api/vary", json={"picture": "gone"}, headers={"Accept": "application/x-ndjson"})
    assert "open it again" in json.loads(gone.text)["error"]


def test_another_visitor_sees_nothing(client: TestClient, opened: dict[str, Any], studio: Studio) -> None:
    stranger = another(client)
    for path, body in {
        "edit": {"picture": opened["id"], "changes": {}},
        "vary": {"picture": opened["id"]},
        "blend": {"pictures": [opened["id"]] * 2},
        "map/find": {"picture": opened["id"]},
    }.items():
        assert stranger.post(f"/api/{path}", json=body).status_code == 404
    assert stranger.post(f"/api/pictures/{opened['id']}/open").status_code == 404
    assert isinstance(studio.model, DiffusionAutoencoder)


def test_openapi_has_all_rooms(client: TestClient) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    assert {"/api/studio", "/api/pictures", "/api/edit", "/api/blend", "/api/vary", "/api/sample"} <= paths.keys()
    assert all(one["summary"] for methods in paths.values() for one in methods.values())
