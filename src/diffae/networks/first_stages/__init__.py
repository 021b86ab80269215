"""First stages: images <-> the latents that are diffused."""
