"""Encoders: images (and texts) to feature vectors. Importing this package loads no deep learning library."""

from evaluation.encoders.backend import Encoder, EncoderError, TextEncoder, load_encoder, load_text_encoder

__all__ = ["Encoder", "EncoderError", "TextEncoder", "load_encoder", "load_text_encoder"]
