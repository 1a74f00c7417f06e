"""A procedural renderer of gastrointestinal scenes with known truth; it holds no patient data.

>>> import numpy as np
>>> from studies.phantom import render, sample_scene
>>> scene = sample_scene(np.random.default_rng(0), category="polyps")
>>> render(scene, size=64).size
(64, 64)
"""

from studies.phantom.captions import captions, challenge_sentences, describe
from studies.phantom.dataset import is_phantom, write_phantom
from studies.phantom.hospitals import HOSPITALS, Hospital
from studies.phantom.render import render
from studies.phantom.scene import CATEGORIES, CELLS, Scene, Thing, sample_scene
from studies.phantom.truth import oracle_prompts, true_caption

__all__ = [
    "CATEGORIES",
    "CELLS",
    "HOSPITALS",
    "Hospital",
    "Scene",
    "Thing",
    "captions",
    "challenge_sentences",
    "describe",
    "is_phantom",
    "oracle_prompts",
    "render",
    "sample_scene",
    "true_caption",
    "write_phantom",
]
