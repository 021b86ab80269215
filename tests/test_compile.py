"""torch.compile traces the decoder, the encoder and a training pass without graph breaks."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import torch
from diffae.config import ModelConfig, from_dict
from diffae.model import DiffusionAutoencoder

small = {"image_size": 8, "model_channels": 8, "channel_mult": [1, 2], "res_blocks": 1, "attention_resolutions": [4],
         "time_channels": 8, "z_sem_channels": 4, "encoder_channel_mult": [1, 2], "encoder_res_blocks": 1}
model = DiffusionAutoencoder(from_dict(ModelConfig, {"network": small}))
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.1)
x, t = torch.randn(2, 3, 8, 8), torch.tensor([0, 999])
compiled = torch.compile(model, fullgraph=True, backend="eager")
torch.testing.assert_close(compiled(x, t, x), model(x, t, x))
encoder = torch.compile(model.encoder, fullgraph=True, backend="eager")
torch.testing.assert_close(encoder(x), model.encoder(x))
print("compiled")
"""


def test_no_graph_breaks() -> None:
    """In a process of its own, where the shape checks of these tests are not installed."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.stdout == "compiled\n", done.stderr
