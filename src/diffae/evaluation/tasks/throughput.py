"""How many images a second? (Paper Table 7.)"""

from __future__ import annotations

from dataclasses import replace

from diffae.evaluation.context import Study
from diffae.evaluation.results import Result, Table
from diffae.evaluation.throughput import machine
from diffae.evaluation.throughput import throughput as measure

_BATCH = 32


def throughput(study: Study) -> Result:
    """Training and sampling, ours beside the same network without an encoder."""
    ours = study.model.config
    configs = {"ours": ours, "DDIM": replace(ours, network=replace(ours.network, z_sem_channels=0))}
    sampling = study.sampling
    rows = []
    for whose, config in configs.items():
        with study.progress(f"throughput: {whose}", 1) as done:
            found = measure(config, batch=_BATCH, rounds=study.counts.rounds, sampling=sampling)
            done(1)
        rows.append((whose, found.parameters, found.training, found.sampling, found.encoding))
    note = (
        f"Median of {study.counts.rounds} rounds, {_BATCH} images at once, float32, images in memory; {machine()}. "
        f"Sampling is decoding in {sampling.steps} steps; encoding is z_sem alone."
    )
    header = ("model", "parameters", "training, images/s", "sampling, images/s", "encoding, images/s")
    return Result((Table("speed", "Images a second", header, tuple(rows), note),))
