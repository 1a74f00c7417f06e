"""Augmentation sets from studies' portfolios, and whether they help a classifier of real images."""
