"""Pretrained networks as encoders: z_sem is a trained map of their features."""
