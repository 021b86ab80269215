"""A function of batches for Ray and Spark: it can be pickled, and reads what their batches hold."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import save_model
from PIL import Image
from tiny import tiny_model

from diffae.errors import DataError
from diffae.latent import BatchEncoder, batch_encoder
from diffae.model import DiffusionAutoencoder

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3)).astype(np.uint8)


class Tiny(DiffusionAutoencoder):
    """Loads no file."""

    @classmethod
    def from_pretrained(cls, *_: Any, **__: Any) -> DiffusionAutoencoder:
        return tiny_model()


@pytest.fixture(scope="module")
def encode() -> BatchEncoder:
    return batch_encoder(Tiny, "tiny")


@pytest.fixture(scope="module")
def z_sem() -> np.ndarray:
    return tiny_model().encode_semantic(PIXELS).numpy()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def objects(values: list[Any]) -> np.ndarray:
    """As Ray passes what is not of one shape."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_a_batch_of_arrays_files_bytes_or_rows_of_the_hub(encode: BatchEncoder, z_sem: Any, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{k}.png") for k in range(5)]
    for path, pixels in zip(paths, PIXELS, strict=True):
        Image.fromarray(pixels).save(path)
    files = [png(pixels) for pixels in PIXELS]
    rows = [{"bytes": None, "path": path} for path in paths[:2]] + [{"bytes": data, "path": ""} for data in files[2:]]
    for images in (PIXELS, objects([*PIXELS]), np.array(paths), objects(files), objects(rows)):
        found = encode({"image": images, "age": np.arange(5)})
        assert list(found) == ["image", "age", "z_sem"]
        assert found["z_sem"].dtype == np.float32
        np.testing.assert_allclose(found["z_sem"], z_sem, atol=1e-5)


def test_frames_and_series(z_sem: np.ndarray) -> None:
    pandas = pytest.importorskip("pandas")
    encode = batch_encoder(Tiny, "tiny", column="photo", output="code")
    frame = pandas.DataFrame({"photo": [png(pixels) for pixels in PIXELS]}, index=[4, 3, 2, 1, 0])
    found = encode(frame)
    assert list(found.columns) == ["photo", "code"]
    np.testing.assert_allclose(np.stack(list(found["code"])), z_sem, atol=1e-5)
    series = encode(frame["photo"])
    assert list(series.index) == [4, 3, 2, 1, 0]
    np.testing.assert_allclose(np.stack(list(series)), z_sem, atol=1e-5)


def test_gray_images_and_empty_batches(encode: BatchEncoder) -> None:
    gray = PIXELS[..., 0]
    expected = tiny_model().encode_semantic([*gray]).numpy()
    np.testing.assert_allclose(encode({"image": gray})["z_sem"], expected, atol=1e-5)
    assert encode({"image": PIXELS[:0]})["z_sem"].shape == (0, 6)


def test_what_cannot_be_encoded(encode: BatchEncoder) -> None:
    with pytest.raises(DataError, match="batch has no column 'image': name one of photo, age as column="):
        encode({"photo": PIXELS, "age": np.arange(5)})
    with pytest.raises(DataError, match="is not a JPEG, PNG"):
        encode({"image": objects([b"no image"])})


def test_another_process_loads_the_model_once(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model")
    encode = batch_encoder(DiffusionAutoencoder, str(folder), "cpu")
    (tmp_path / "batch").write_bytes(pickle.dumps((encode, PIXELS)))
    assert (tmp_path / "batch").stat().st_size < PIXELS.nbytes + 1000
    script = f"""
import pickle
from pathlib import Path
import numpy as np
folder = Path({str(tmp_path)!r})
encode, pixels = pickle.loads((folder / "batch").read_bytes())
first = encode({{"image": pixels}})["z_sem"]
(folder / "model" / "model.safetensors").unlink()
again = pickle.loads((folder / "batch").read_bytes())[0]({{"image": pixels}})["z_sem"]
np.save(folder / "found.npy", [first, again])
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    model = DiffusionAutoencoder.from_pretrained(save_model(tmp_path / "model"))
    for found in np.load(tmp_path / "found.npy"):
        np.testing.assert_allclose(found, model.encode_semantic(PIXELS).numpy(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of Ray and of its web server
def test_ray_maps_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    folder = save_model(tmp_path / "model")
    encode = batch_encoder(DiffusionAutoencoder, str(folder), "cpu", column="data")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20)
    try:
        rows = ray.data.from_numpy(PIXELS).map_batches(encode, batch_size=2).take_all()
    finally:
        ray.shutdown()
    found = {row["data"].tobytes(): row["z_sem"] for row in rows}
    expected = DiffusionAutoencoder.from_pretrained(folder).encode_semantic(PIXELS).numpy()
    for pixels, z_sem in zip(PIXELS, expected, strict=True):
        np.testing.assert_allclose(found[pixels.tobytes()], z_sem, atol=1e-5)
