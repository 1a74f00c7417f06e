"""Encoders: images (and texts) to feature vectors. Importing this package loads no deep learning library."""
