"""The part of a study file that says how a set of prompts is searched."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SetSettings(_Model):
    """How many images a class may cost, and how large its set may be."""

    budget: int = Field(default=600, ge=16, description="images of the search, for each class")
    images: int = Field(default=4, ge=2, le=64, description="first images of every prompt")
    most_images: int = Field(default=32, ge=2, le=1024, description="most images of one prompt")
    prompts: int = Field(default=16, ge=1, le=200, description="most prompts of a set")
    tolerance: float | None = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="stop when no prompt could add more than this share of what was gained (the "
        "certificate, with 98 % probability); null: never",
    )
    margin_floor: float | None = Field(
        default=-1.0,
        description="least mean category margin of a set, in SDs of the real images' from their mean; "
        "null: none",
    )
    copies: float | None = Field(
        default=0.1,
        ge=0,
        le=1,
        description="prompts of which more images than this share copy real ones stay out; null: any",
    )
    min_distance: float = Field(
        default=0.0,
        ge=0,
        le=2,
        description="least distance between two prompts of a set, by words or sentence_model; 0: any",
    )
    sentence_model: str | None = Field(
        default=None, min_length=1, description="sentence-transformers model, a folder or a package's name"
    )


class SetScore(_Model):
    """Weights of the terms that a set is searched by; each in SDs of the baseline's images."""

    closeness: float = Field(default=1.0, gt=0, description="MMD to the real images")
    margin: float = Field(default=0.0, ge=0, description="log-odds of the category in the encoder")
    gain: float = Field(
        default=0.0,
        ge=0,
        description="what an image takes off a probe's validation loss, trained on real images and the sets",
    )
    frechet: float = Field(default=0.0, ge=0, description="Fréchet distance of the set, by influence")
    inception_score: float = Field(default=0.0, ge=0, description="Inception Score of the set, by influence")
    contrast: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="how much of what the images lack or have too much of may be common to the classes: the "
        "distance between the classes' errors counts c / (1 - c) times as much as a class's own",
    )
    accuracy: float = Field(
        default=0.0,
        ge=0,
        description="synthetic-to-real accuracy (TSTR), by the influence on a probe of the sets alone",
    )


class ClosenessSettings(_Model):
    """How real images are seen when distances to them are measured."""

    through: Literal["nothing", "autoencoder"] = Field(
        default="nothing",
        description="autoencoder: real images pass through the generator's own autoencoder first, so that "
        "what it does to every image is no distance; the distance to the images as they are is reported too",
    )


class ClassSettings(_Model):
    """One class of the user's classifier: its prompts, and the label of its real images."""

    category: str | dict[str, Any] = Field(description="a shipped category, a YAML file, or its content")
    prompts: str | None = Field(
        default=None, min_length=1, description="a list of prompts in place of the category's template"
    )
    baseline: str | None = Field(
        default=None, min_length=1, description="the plain prompt, in place of the category's"
    )


class ClassifierSettings(_Model):
    """The classifier that confirms a set: trained on few real images and synthetic ones, tested on others."""

    seeds: int = Field(default=5, ge=2, le=100, description="trainings of each kind of set")
    steps: int = Field(default=400, ge=1, description="optimizer steps of each")
    images: int = Field(default=100, ge=4, description="synthetic images of each class")
