"""What several benchmarks measure: reconstruction by every way of inversion, and how linear z_sem is in labels."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from diffae import checkpoint
from diffae.config import Sampling, from_dict
from diffae.data.feature_cache import encode_pack
from diffae.data.images import to_unit
from diffae.data.pack import Pack
from diffae.evaluation.tasks.reconstruction import reconstruction_quality
from diffae.latent.prior import PRIOR
from diffae.model import DiffusionAutoencoder
from diffae.model.runtime import supports_bfloat16
from diffae.presets import prior_presets
from diffae.training.held_out import held_out
from diffae.training.prior import train_prior
from diffae.training.settings import TrainingConfig

SETTINGS = {
    "official, T=20": Sampling.official(20),
    "official, T=100": Sampling.official(100),
    "explicit, leading grid, T=20": Sampling(20, "leading", "explicit"),
    "explicit, T=20": Sampling(20, inversion="explicit"),
    "explicit, T=100": Sampling(100, inversion="explicit"),
    "exact, leading grid, T=20": Sampling(20, "leading"),
    "exact, T=20": Sampling(20),
}


@dataclass(frozen=True)
class Row:
    """One line of the reconstruction table; images in [0, 1]."""

    what: str
    calls: float
    """Network calls of encoding and decoding, per image."""
    mse: float
    mse_worst: float
    ssim: float
    x_T_std: float | None
    x_T_kurtosis: float | None
    """Excess kurtosis; 0 for a normal distribution."""


def reconstruction(model: DiffusionAutoencoder, x_0: torch.Tensor) -> list[Row]:
    """From (z_sem, x_T) by each way of inversion, and from z_sem with random x_T."""
    rows = []
    for what, sampling in SETTINGS.items():
        code = model.encode(x_0, sampling)
        assert code.calls is not None
        assert code.x_T is not None
        calls = code.calls.double().mean().item() + sampling.steps
        rows.append(_row(what, calls, x_0, model.decode(code, sampling=sampling), code.x_T))
    z_sem = model.encode_semantic(x_0)
    from_z = model.decode(z_sem=z_sem, generator=torch.Generator().manual_seed(0))
    return [*rows, _row("z_sem alone, x_T random, T=20", 20, x_0, from_z, None)]


def _row(what: str, calls: float, x_0: torch.Tensor, x: torch.Tensor, x_T: torch.Tensor | None) -> Row:
    quality = reconstruction_quality(to_unit(x_0), to_unit(x))
    std = kurtosis = None
    if x_T is not None:
        std = x_T.std().item()
        kurtosis = (((x_T - x_T.mean()) / std) ** 4).mean().item() - 3
    mse = quality.mse.double()
    return Row(what, calls, mse.mean().item(), mse.max().item(), quality.ssim.mean().item(), std, kurtosis)


def auroc(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> float:
    """Area under the ROC curve, on test data, of logistic regression regularised by cross-validation.

    In float64: in float32 Newton's method finds the Hessian of near collinear numbers singular.
    """
    x, x_test = x.astype(np.float64), x_test.astype(np.float64)
    plain = LogisticRegression(solver="newton-cholesky")
    search = GridSearchCV(plain, {"C": [1e-3, 1e-2, 1e-1, 1.0, 10.0]}, scoring="roc_auc", cv=3)
    classifier = make_pipeline(StandardScaler(), search).fit(x, y)
    return float(roc_auc_score(y_test, classifier.decision_function(x_test)))


def r2(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> float:
    """Share of the variance that ridge regression explains on test data."""
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 6))).fit(x, y)
    return float(r2_score(y_test, ridge.predict(x_test)))


def train_small_prior(run: Path, pack: Pack, **changes: Any) -> bool:
    """The prior of a trained small model, on the z_sem of its training images; resumed where it was interrupted.

    Returns False when interrupted by Ctrl-C.
    """
    model = DiffusionAutoencoder.from_pretrained(run, "cpu")
    config, training = prior_presets()["small32"]
    rows = held_out(pack, from_dict(TrainingConfig, checkpoint.read_config(run)["training"]))
    codes, val_codes = (encode_pack(model, pack, part, run / "cache") for part in rows)
    resume, config = (run / PRIOR).exists(), replace(config, **changes)
    return train_prior(run, model.fingerprint(), codes, val_codes, config, training, resume=resume)


def conditions(threads: int) -> dict[str, Any]:
    """Where the numbers were made."""
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    machine = names[0] if names else platform.machine()
    return {"cpu": machine, "threads": threads, "torch": torch.__version__, "python": platform.python_version()}


def peak(dtype: torch.dtype) -> float:
    """Operations a second of matrix products, best of 5."""
    a = torch.randn(2048, 2048).to(dtype)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        torch.mm(a, a)
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds[1:])


def peaks() -> dict[str, float]:
    """Peaks of float32 and bfloat16 in GFLOP/s; without bfloat16 where it is emulated, which takes minutes."""
    measured = {"float32": peak(torch.float32) / 1e9}
    if supports_bfloat16(torch.device("cpu")):
        return measured | {"bfloat16": peak(torch.bfloat16) / 1e9}
    Console().print("this CPU emulates bfloat16: its peak is not measured")
    return measured


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def print_reconstruction(rows: list[Row]) -> None:
    """The rows as a table in the terminal."""
    table = Table("reconstruction", "network calls", "MSE", "worst MSE", "SSIM", "x_T std", "x_T kurtosis")
    for row in rows:
        normal = ("", "") if row.x_T_std is None else (f"{row.x_T_std:.3f}", f"{row.x_T_kurtosis:.2f}")
        table.add_row(
            row.what, f"{row.calls:.0f}", f"{row.mse:.1e}", f"{row.mse_worst:.1e}", f"{row.ssim:.4f}", *normal
        )
    Console(width=120).print(table)
