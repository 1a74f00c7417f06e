"""DreamBooth with LoRA: a rare token for each thing the data show, class images against forgetting the rest.

Ruiz et al. 2023, arXiv:2208.12242.
"""

import hashlib
import time
from pathlib import Path

from generators.fetching import fetch
from generators.loading import resolve
from generators.making.makers import Makers
from generators.making.place import Place
from generators.store import StoredImage
from generators.stores.opening import open_store
from generators.training.conditioning import check_lengths
from generators.training.finetune import Material, check_family, check_start, train_parts
from generators.training.images import Pictures
from generators.training.parts import load_parts
from generators.training.spec import DreamBoothSpec, SdTrainingSpec
from generators.training.vae_stage import vae_is_given
from generators.training.validation import Judge
from promptopt.base.training.denormals import denormals
from promptopt.base.training.errors import TrainingDataError, TrainingError
from promptopt.base.training.folder import alone
from promptopt.base.training.progress import OnProgress, throughput
from studies.dataset import Dataset, Record


def tokens_of(spec: DreamBoothSpec, records: tuple[Record, ...]) -> dict[str, str]:
    """The token of each group of pictures, by the group's name. Raises TrainingError if there are too few."""
    names = sorted({str(getattr(record, spec.per)) for record in records})
    if len(names) > len(spec.tokens):
        raise TrainingError(
            f"dreambooth.tokens has {len(spec.tokens)} tokens and the data {len(names)} groups "
            f"({', '.join(names)}); give more tokens"
        )
    return dict(zip(names, spec.tokens, strict=False))


@alone
def train_dreambooth(
    spec: SdTrainingSpec,
    *,
    data: Dataset,
    out: Path,
    init: str,
    store: Path,
    on: str = "here",
    device: str = "auto",
    judge: Judge | None = None,
    on_progress: OnProgress | None = None,
) -> Path:
    """Train adapters on the pool ``reference`` and return the folder of the adapter.

    ``init`` is the URI of the model to adapt; its class images are kept in the image store ``store`` under
    their full requests, so another model, prompt or seed never gets these. Class images have the seeds 0, 1,
    ...; ``on`` says where they are made (`generators.making.place.Place`), with the same bytes. Validation
    images are of the weights in training, so this process draws them. Other arguments and errors are those
    of `train_sd`.
    """
    place = Place.parse(on)
    if spec.lora is None:
        raise TrainingError("lora: is missing in the recipe; add a section such as lora: {rank: 16}")
    records = data.where(pool="reference").records
    if not records:
        raise TrainingDataError(f"{data.root}: has no image in the pool 'reference', the only one trained on")
    check_family(spec, resolve(init))
    dream = spec.dreambooth
    tokens = tokens_of(dream, records)
    subjects = {name: dream.subjects.get(name, name) for name in tokens}
    instance = {
        name: dream.instance_prompt.format(token=token, subject=subjects[name])
        for name, token in tokens.items()
    }
    folder = resolve(init)
    parts = load_parts(folder)
    check_start(spec, parts)
    drawn = [dream.class_prompt.format(subject=subject) for subject in subjects.values()]
    check_lengths(
        parts.tokenizer,
        [*instance.values(), *(drawn if dream.class_images else ())],
        long_captions=spec.training.long_captions,
        say=True,
    )
    with Makers(place, device=device, scratch=store) as makers, denormals(flushed=False):
        made = _class_images(dream, subjects, init=init, store=store, makers=makers, on_progress=on_progress)
    own = [(data.path(record), instance[str(getattr(record, dream.per))]) for record in records]
    pairs = [*own, *((image.path, image.request.prompt) for image in made)]
    keys = "".join(image.request.key for image in made)
    material = Material(
        pictures=Pictures(tuple(path for path, _ in pairs), spec.size),
        captions=tuple((text,) for _, text in pairs),
        source=hashlib.sha256(f"{data.fingerprint}/{sorted(instance.items())}/{keys}".encode()).hexdigest(),
        prior=len(made),
        notes=(
            ("Data (sha256 of metadata.jsonl)", f"`{data.fingerprint}`"),
            ("Base model", f"`{init if not Path(init).exists() else Path(init).name}`"),
            *((f"Prompt for {name}", f"`{prompt}`") for name, prompt in instance.items()),
        ),
    )
    vae_is_given(out)
    return train_parts(
        *(spec, parts, material),
        out=out,
        init=folder,
        device=device,
        judge=judge,
        on_progress=on_progress,
    )


def _class_images(
    spec: DreamBoothSpec,
    subjects: dict[str, str],
    *,
    init: str,
    store: Path,
    makers: Makers,
    on_progress: OnProgress | None,
) -> list[StoredImage]:
    if not spec.class_images:
        return []
    generator = makers.load(init)
    prompts = dict.fromkeys(spec.class_prompt.format(subject=subject) for subject in subjects.values())
    requests = [
        generator.request(prompt, seed, steps=spec.class_steps, guidance=spec.class_guidance)
        for prompt in prompts
        for seed in range(spec.class_images)
    ]
    begun, done = time.perf_counter(), 0

    def on_image(image: StoredImage, generated: bool) -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(throughput(done, len(requests), begun, stage="class images"))

    return fetch(open_store(store), generator, requests, on_image=on_image)
