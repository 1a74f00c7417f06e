"""Submission folders for the challenge."""
