"""One network call of the model in the package, in every runtime; prints a table and writes JSON.

    python benchmarks/runtime.py [MODEL] [--decoder 1 16] [--encoder 1 16 256] [--rounds 9] [--threads 1]
                                 [--compile encoder] [--json runtime.json]

--decoder and --encoder are the numbers of images in a call. Runtimes: PyTorch in float32 and in bfloat16 (where the CPU
computes in it), compiled by `torch.compile` the parts named by --compile (which takes minutes), ONNX Runtime and
OpenVINO (where installed), on the files that `diffae export --onnx` writes. "plain" is the same network in float32 in
the contiguous layout, as the published code runs it. The decoder is called as in decoding, by `predict_noise` or by one
step of the file; the encoder on images. Rounds alternate, so that whatever else the machine does falls on all; the
first warms up; medians. Times are of the processor, over all threads of the process. "differs" is the largest
difference from the plain path, in standard deviations.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import conditions
from rich.console import Console
from rich.table import Table

from diffae.config import Sampling
from diffae.diffusion.process import Scales
from diffae.model import DiffusionAutoencoder
from diffae.model.export import DecoderStep, export_onnx
from diffae.model.runtime import supports_bfloat16
from diffae.pretrained import pretrained_path

PARTS = {"decoder": [1, 16], "encoder": [1, 16, 256]}
"""Images in a call."""
LEVELS = (500, 400)
"""The step that is timed."""

Call = Callable[[dict[str, np.ndarray]], np.ndarray]
"""Inputs by name to the first output."""


def pytorch(model: DiffusionAutoencoder, part: str, sampling: Sampling) -> Call:
    """The part in PyTorch."""
    networks = model._as(sampling)

    def call(given: dict[str, np.ndarray]) -> np.ndarray:
        x = {name: torch.from_numpy(value) for name, value in given.items()}
        with torch.inference_mode():
            if part == "encoder":
                return networks.call_encoder(x["images"].to(networks.dtype)).float().numpy()
            eps_hat = networks.predict_noise(x["x_t"], LEVELS[0], x["z_sem"].to(networks.dtype))
            here, there = (Scales.at_level(model.alpha_bar[level]) for level in LEVELS)
            return there.add_noise((x["x_t"] - here.noise * eps_hat) / here.signal, eps_hat).numpy()

    return call


def onnx_runtime(file: Path, threads: int) -> Call:
    """The file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda given: np.asarray(session.run(None, given)[0])


def openvino(file: Path, threads: int) -> Call:
    """The file in OpenVINO, in float32."""
    import openvino  # pyright: ignore[reportMissingImports]

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(file, "CPU", settings)
    return lambda given: compiled(given)[0]


def runtimes(model: DiffusionAutoencoder, folder: Path, part: str, threads: int, compile: bool) -> dict[str, Call]:
    """Every runtime of a part."""
    plain = copy.deepcopy(model).to("cpu", memory_format=torch.contiguous_format)
    found = {"plain": pytorch(plain, part, Sampling()), "PyTorch, float32": pytorch(model, part, Sampling())}
    if supports_bfloat16(model.device):
        found["PyTorch, bfloat16"] = pytorch(model, part, Sampling(precision="bfloat16"))
    if compile:
        found["PyTorch, compiled"] = pytorch(model, part, Sampling(compile=True))
    for name, package, opened in (("ONNX Runtime", "onnxruntime", onnx_runtime), ("OpenVINO", "openvino", openvino)):
        if find_spec(package):
            found[name] = opened(folder / f"{part}.onnx", threads)
    return found


def inputs(model: DiffusionAutoencoder, part: str, batch: int) -> dict[str, np.ndarray]:
    """Random inputs of a part."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *model.image_shape)).astype(np.float32)
    if part == "encoder":
        return {"images": x}
    t, s = (np.full(batch, level) for level in LEVELS)
    z_sem = rng.standard_normal((batch, model.config.z_sem_channels)).astype(np.float32)
    return {"x_t": x, "t": t, "s": s, "z_sem": z_sem}


def measure(calls: dict[str, Call], given: dict[str, np.ndarray], rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of each runtime, and how far it is from the first."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    made: dict[str, np.ndarray] = {}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            made[name] = call(given)
            seconds[name].append(time.process_time() - start)
    exact = next(iter(made.values()))
    rows = []
    for name, times in seconds.items():
        differs = float(np.abs(made[name] - exact).max() / exact.std())
        rows.append({"runtime": name, "ms": 1000 * statistics.median(times[1:]), "differs": differs})
    return [row | {"times": rows[0]["ms"] / row["ms"]} for row in rows]


def step_agrees(model: DiffusionAutoencoder) -> None:
    """Both ways of writing the step are the same."""
    given = inputs(model, "decoder", 1)
    with torch.inference_mode():
        x_s, _ = DecoderStep(model)(*(torch.from_numpy(value) for value in given.values()))
    assert np.allclose(pytorch(model, "decoder", Sampling())(given), x_s, atol=1e-3)


def main() -> None:
    """Export, time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=pretrained_path())
    for part, batches in PARTS.items():
        parser.add_argument(f"--{part}", nargs="+", type=int, default=batches)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", nargs="*", choices=PARTS, default=[])
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = DiffusionAutoencoder.from_pretrained(arguments.model, "cpu")
    step_agrees(model)
    results: dict[str, Any] = {"conditions": conditions(arguments.threads) | {"model": model.fingerprint()}, "rows": []}
    table = Table("part", "batch", "runtime", "ms a call", "times plain", "differs")
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        results["export differs"] = export_onnx(model, Path(folder) / "onnx")
        results["export seconds"] = time.process_time() - start
        for part in PARTS:
            compiled = part in arguments.compile
            calls = runtimes(model, Path(folder) / "onnx", part, arguments.threads, compiled)
            for batch in getattr(arguments, part):
                for row in measure(calls, inputs(model, part, batch), arguments.rounds):
                    results["rows"].append({"part": part, "batch": batch} | row)
                    times, differs = f"{row['times']:.2f}", f"{row['differs']:.1e}"
                    table.add_row(part, str(batch), row["runtime"], f"{row['ms']:.1f}", times, differs)
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
