"""Codes of images: what is learned from them, stored, edited and drawn."""

from diffae.latent.batches import BatchEncoder, batch_encoder

__all__ = ["BatchEncoder", "batch_encoder"]
