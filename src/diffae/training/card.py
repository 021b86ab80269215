"""The model card of a run: what the Hugging Face Hub shows of a model, README.md."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader

from diffae import checkpoint
from diffae.training.metrics import describe_validation, last_validation, limits

CARD = "README.md"


def model_card(folder: Path, repo_id: str, license_name: str | None = None) -> str:
    """A model card in Markdown, from the files of a run folder.

    Args:
        folder: the run folder.
        repo_id: the model's name on the Hub.
        license_name: identifier of its licence there, such as "cc-by-4.0".
    """
    config = checkpoint.read_config(folder)
    model, data, training = (config.get(part, {}) for part in ("model", "data", "training"))
    metrics = last_validation(folder)
    return _TEMPLATES.get_template("model_card.md.j2").render(
        repo_id=repo_id,
        license_name=license_name,
        size=model.get("image_size"),
        channels=model.get("image_channels"),
        count=data.get("count"),
        recipe=data.get("recipe"),
        preset=data.get("preset"),
        seen=int(metrics["images"]) if metrics else training.get("images"),
        validation=describe_validation(metrics) if metrics else "",
        limits=limits(metrics, data.get("preset_images")) if metrics else "",
        parts=[name for name in ("prior", "attributes", "student") if (folder / f"{name}.safetensors").is_file()],
        sheet=last_sheet(folder) is not None,
    )


def last_sheet(folder: Path) -> Path | None:
    """The picture of the last validation, if there is one."""
    return max((folder / "samples").glob("*.png"), default=None)


_TEMPLATES = Environment(loader=PackageLoader("diffae"), trim_blocks=True, lstrip_blocks=True, autoescape=False)
