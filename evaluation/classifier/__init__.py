"""What images are worth to a classifier: train on real or synthetic ones, test on real or synthetic ones.

Names are resolved when first used, so that importing the package loads neither torch nor scikit-learn.
"""
