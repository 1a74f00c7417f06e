"""Stable Diffusion checkpoints of diffusers, from the folder to the pixels."""
