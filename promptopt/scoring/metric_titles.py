"""How the report names and explains each metric."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """`name` is the key in prompts.json; `better` is "higher" or "lower"."""

    name: str
    title: str
    better: str
    meaning: str


METRICS = (
    Metric(
        "score",
        "Score",
        "higher",
        "Weighted sum of the gains over the baseline prompt on the same seeds (alignment, utility, closeness "
        "to the real images), each in standard deviations of the baseline's images.",
    ),
    Metric(
        "judge_accuracy",
        "Judge accuracy",
        "higher",
        "Share of images in which an independent network, which took no part in the search, sees the right "
        "category.",
    ),
    Metric(
        "alignment",
        "Alignment",
        "higher",
        "Log-odds that the encoder matches the image to the category's fixed texts and not to those of other "
        "categories or distractors.",
    ),
    Metric(
        "utility",
        "Utility",
        "higher",
        "Log-odds of the category by a linear classifier trained on real images.",
    ),
    Metric(
        "synthetic_to_real",
        "Synthetic-to-real accuracy",
        "higher",
        "Accuracy on real images of a linear classifier whose positive training images are this prompt's "
        "synthetic ones.",
    ),
    Metric(
        "mmd",
        "MMD²",
        "lower",
        "Squared maximum mean discrepancy (RBF kernel) to the real images of the category, unbiased: it can "
        "fall below 0.",
    ),
    Metric(
        "kid",
        "KID",
        "lower",
        "Kernel distance (cubic kernel) to the real images of the category, unbiased: it can fall below 0.",
    ),
    Metric(
        "frechet",
        "Fréchet distance",
        "lower",
        "Distance of two Gaussians fitted to the features. Unreliable with this few images: it favors "
        "prompts whose images are all alike.",
    ),
    Metric(
        "inception_score",
        "Inception score",
        "higher",
        "Sharpness and spread of a classifier's answers; for one category at a time a low value is no fault.",
    ),
    Metric(
        "diversity",
        "Diversity",
        "higher",
        "How different the images of one prompt are from each other.",
    ),
    Metric(
        "duplicates",
        "Near-duplicates",
        "lower",
        "Share of the prompt's images that repeat another one of them.",
    ),
    Metric(
        "copies",
        "Copies of real images",
        "lower",
        "Share of images that copy one of the reference pool's, cropped and mirrored ones included. Real "
        "images that are no copies would be flagged in 1 of 100 cases.",
    ),
)
