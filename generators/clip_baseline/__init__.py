"""The paper's baseline: images found by CLIP guidance alone, without a diffusion model."""
