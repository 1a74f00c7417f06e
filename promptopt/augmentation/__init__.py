"""Augmentation sets from what studies found, and whether they help a classifier of real images."""
