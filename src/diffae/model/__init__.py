"""The diffusion autoencoder that a user holds."""

from diffae.latent.codes import Code
from diffae.model.autoencoder import BATCH, DiffusionAutoencoder, parts
from diffae.model.module import DiffusionModule

__all__ = ["BATCH", "Code", "DiffusionAutoencoder", "DiffusionModule", "parts"]
