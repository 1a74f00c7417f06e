"""Mixtures of prompts: their weights, their distance to real images, their comparison."""
