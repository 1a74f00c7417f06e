"""Encoders and metrics for sets of images; every result an Estimate."""
