"""The model card of a run."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from PIL import Image

from diffae.training.card import last_sheet, model_card


def test_a_card_tells_data_metrics_limits_and_licence(tmp_path: Path) -> None:
    config = {
        "diffae": "0",
        "model": {"image_size": 32, "image_channels": 1},
        "training": {"images": 9000},
        "data": {
            "count": 1234,
            "preset": "small32",
            "recipe": "paper",
            "source": "/home/me/photos",
            "preset_images": 9000,
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    line = {"images": 500, "val_loss": 0.5, "val_loss_shuffled": 0.6}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "prior.safetensors").touch()
    card = model_card(tmp_path, "me/faces", "cc-by-4.0")
    _, head, text = card.split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "cc-by-4.0"
    for fact in (
        "32 x 32 pixels and 1 channel:",
        "1,234 images",
        "500 images seen",
        "(+20.0%)",
        "With prior",
        "not meaningful yet",
    ):
        assert fact in text
    assert 'from_pretrained("me/faces")' in text
    assert "/home/me" not in card
    assert "samples.png" not in card


def test_the_last_sheet_is_shown(tmp_path: Path) -> None:
    assert last_sheet(tmp_path) is None
    (tmp_path / "config.json").write_text('{"diffae": "0", "model": {}}')
    (tmp_path / "samples").mkdir()
    for images in (90, 100):
        Image.new("RGB", (2, 2)).save(tmp_path / "samples" / f"{images:09d}.png")
    sheet = last_sheet(tmp_path)
    assert sheet is not None
    assert sheet.name == "000000100.png"
    card = model_card(tmp_path, "me/faces")
    assert "samples.png" in card
    assert "license" not in card
