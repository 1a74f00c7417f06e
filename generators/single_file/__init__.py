"""Checkpoints in one file, as they are passed around: `.safetensors` of Stable Diffusion 1.x, 2.x and XL."""
