"""Draw the picture at the top of the README with the model in the package: python make_tour.py"""

from __future__ import annotations

from pathlib import Path

import torch

from diffae.data.images import to_tensor, to_unit
from diffae.model import DiffusionAutoencoder
from diffae.plotting import heat_tile, save_sheet, sheet, tiles_of
from diffae.pretrained import pretrained_path
from sketchfaces import sketch_faces

SHOWN = 9


def main() -> None:
    """Faces of seed 7, used neither for training nor for testing."""
    model = DiffusionAutoencoder.from_pretrained(pretrained_path())
    x_0 = to_tensor(sketch_faces(SHOWN + 1, 32, seed=7).images)
    code = model.encode(x_0)
    from_z = model.decode(z_sem=code.z_sem, generator=torch.Generator().manual_seed(1))
    assert code.z_sem is not None
    varied = model.decode(z_sem=code.z_sem[1:2].repeat(64, 1), generator=torch.Generator().manual_seed(2))
    spread = to_unit(varied).std(dim=0).mean(dim=0) * 4
    rows = [
        tiles_of(x_0[:SHOWN], "input"),
        tiles_of(model.decode(code[:SHOWN]), "z_sem and x_T"),
        tiles_of(from_z[:SHOWN], "z_sem, x_T random"),
        tiles_of(model.interpolate(code[1], code[4], SHOWN), [f"{i / (SHOWN - 1):.2f}" for i in range(SHOWN)]),
        [
            *tiles_of(varied[: SHOWN - 2], "same z_sem"),
            *tiles_of(varied.mean(dim=0, keepdim=True), "mean of 64"),
            heat_tile(spread, "std. deviation ×4"),
        ],
    ]
    save_sheet(Path(__file__).with_name("tour.png"), sheet(rows))


if __name__ == "__main__":
    main()
