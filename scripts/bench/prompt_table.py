"""Every prompt of a small space on the same seeds, scored image by image: a table to replay searches on.

    python scripts/bench/prompt_table.py --work work/table [--seeds 32] [--out work/table/table.npz]
    python scripts/bench/prompt_table.py --work work/table-kvasir --study studies/files/kvasir-polyps.yaml \
        --prompts 24 --seeds 16

216 prompts of the category instruments (5 slots), embedded generator, phantom; or random prompts of a study
of its own. The table holds, for each prompt and seed, the terms of the score and, where the study has a
judge, whether it sees the category; scripts/bench/regret.py replays it, scripts/bench/pairing.py reads it.
Images are kept in the store: a run that was stopped goes on.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from evaluation.classifier.probe import fit_probe
from evaluation.features.feature_store import FeatureStore
from evaluation.metrics import alignment
from generators.fetching import fetch
from generators.store import ImageStore
from promptopt.config.study_file import StudyConfig, load_study, study_from_mapping
from promptopt.scoring.objective import Objective, RealPool, study_bandwidth
from promptopt.space import Candidate
from promptopt.study.setup import prepare
from studies.category import load_category

TEMPLATE = (
    "{Generate an image containing|a gastroscopy image of|endoscopic view of}"
    " {an instrument|biopsy forceps|a polyp snare|a metal clip}"
    "{|, located in the upper-right|, located in the lower-left}"
    "{|, sharp|, blurred}"
    "{|, with a green box}"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("work/table"))
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--study", type=Path, help="a study file, instead of the instruments")
    parser.add_argument("--prompts", type=int, default=24, help="random prompts of the study")
    parser.add_argument("--out", type=Path, help="default: WORK/table.npz")
    options = parser.parse_args()
    work: Path = options.work
    config = _instruments() if options.study is None else load_study(options.study)
    config = config.override({"search.images": options.seeds, "search.racing": False})
    setup = prepare(config, store=work / "store")
    images = ImageStore(work / "store" / "images")
    features = FeatureStore(work / "store" / "features")
    if options.study is None:
        assert setup.candidates is not None
        chosen = list(setup.candidates)
    else:
        rng = np.random.default_rng(0)
        drawn = (setup.space.candidate(setup.space.sample(rng)) for _ in range(100 * options.prompts))
        chosen = list(dict.fromkeys(drawn))[: options.prompts]
    prompts = list(dict.fromkeys([setup.baseline, *chosen]))
    made: dict[Candidate, list[Any]] = {prompt: [] for prompt in prompts}
    for seed in track(setup.panel.search, "seeds"):
        requests = [setup.request(prompt, seed) for prompt in prompts]
        for prompt, image in zip(prompts, fetch(images, setup.generator, requests), strict=True):
            made[prompt].append(image)

    def real(pool: str) -> RealPool:
        parts = (part.where(pool=pool) for part in (setup.positives, setup.negatives))
        return RealPool(*(features.features(setup.encoder, part.paths()) for part in parts))

    def own(prompt: Candidate) -> np.ndarray:
        return features.features(setup.encoder, [image.path for image in made[prompt]])

    reference = real("reference")
    objective = Objective(
        encoder=setup.encoder,
        features=features,
        class_weights=alignment.class_weights(setup.encoder, setup.texts),
        target=setup.category.name,
        probe=fit_probe(reference.features, reference.labels, seed=0),
        distance_to=reference.positives,
        bandwidth=study_bandwidth(reference.positives, own(setup.baseline)),
        training_negatives=reference.negatives,
        held_out=real("validation"),
        weights=setup.config.score,
        seed=0,
    )
    judge = setup.judge
    rows: dict[str, list[np.ndarray]] = {"alignment": [], "utility": [], "distance": []}
    for prompt in track(prompts, "measuring"):
        for name, values in objective.contributions(own(prompt)).items():
            rows[name].append(values)
        if judge is not None:
            target = list(judge.names["category"]).index(setup.category.name)
            read = judge.read([image.load() for image in made[prompt]]).category_probabilities
            rows.setdefault("judge", []).append((read.argmax(axis=1) == target).astype(np.float64))
    out = options.out or work / "table.npz"
    arrays = {name: np.stack(values) for name, values in rows.items()}
    handle, partial = tempfile.mkstemp(dir=out.parent, suffix=".npz")
    os.close(handle)
    np.savez_compressed(
        partial,
        prompts=np.array([one.label for one in prompts]),
        seeds=np.array(setup.panel.search),
        **arrays,
    )
    Path(partial).replace(out)
    print(f"{len(prompts)} prompts x {options.seeds} seeds -> {out}")
    if "judge" in arrays:
        seen = arrays["judge"].mean(axis=1)
        print(f"judge sees the category: {seen.mean():.1%}, by prompt {seen.min():.0%} to {seen.max():.0%}")


def _instruments() -> StudyConfig:
    category = load_category("instruments").model_dump(mode="json")
    return study_from_mapping(
        {
            "name": "table",
            "aim": "single",
            "category": {**category, "template": TEMPLATE, "wildcards": {}},
            "data": {"phantom": {"images": 1500, "seed": 1}},
            "judge": "embedded",
        }
    )


if __name__ == "__main__":
    main()
