"""Train a Stable Diffusion, from scratch or from a checkpoint: tokenizer, VAE, latents, UNet, export.

Every stage keeps its state under ``out/stages``, so the same command goes on after a kill, and a stage that
is done is not done again. The result is ``out/pipeline``, or ``out/lora`` when the recipe has adapters.
"""

import hashlib
import inspect
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diffusers import AutoencoderKL, DPMSolverMultistepScheduler
from transformers import CLIPTextModel, CLIPTokenizer

from generators.folder import DEFAULTS_FILE, SDXL, ModelDefaults, pipeline_class, read_defaults
from generators.stable_diffusion.networks import load_network
from generators.training.captions import Captions
from generators.training.card import Card, model_card
from generators.training.conditioning import check_lengths
from generators.training.denoising import Batches, Denoising
from generators.training.device import accelerator
from generators.training.images import Pictures
from generators.training.latents import LatentCache, fingerprint
from generators.training.lora import attach_lora
from generators.training.lora_export import save_lora
from generators.training.parts import (
    Parts,
    build_scheduler,
    build_text_encoder,
    build_unet,
    configuration,
    export,
    load_parts,
)
from generators.training.spec import SdTrainingSpec
from generators.training.text_tower import read_text_tower
from generators.training.tokenizer import save_tokenizer, train_tokenizer
from generators.training.vae_stage import read_vae_report, train_vae_stage, vae_is_given
from generators.training.validation import Judge, Validation
from promptopt.base.files import write_json
from promptopt.base.training.errors import TrainingDataError, TrainingError
from promptopt.base.training.folder import alone, claim, digests, finished
from promptopt.base.training.progress import JsonLog, OnProgress
from studies.dataset import Dataset, Record


@dataclass(frozen=True)
class Material:
    """What is learned from: pictures with their captions, the last ``prior`` of them class images.

    ``source`` is a fingerprint of where they come from; ``notes`` are lines for the model card.
    """

    pictures: Pictures
    captions: tuple[tuple[str, ...], ...]
    source: str
    prior: int = 0
    notes: tuple[tuple[str, str], ...] = ()


def check_family(spec: SdTrainingSpec, init: Path) -> None:
    """Refuse, before anything is trained, an SDXL folder where the recipe is for SD 1.x or 2.x.

    Raises TrainingError; GeneratorError where ``init`` is no diffusers folder.
    """
    if not init.is_dir() or not (init / "model_index.json").is_file():
        return  # what is wrong with it, its loader says
    if pipeline_class(init) == SDXL and spec.training.train_text_encoder:
        raise TrainingError(
            "is an SDXL model, and the recipe trains the text encoder, as is done with SD 1.x and 2.x",
            file=init,
            remedy="Take --recipe sdxl-lora, or --set training.train_text_encoder=false, or an SD folder.",
        )


@alone
def train_sd(
    spec: SdTrainingSpec,
    *,
    data: Dataset,
    out: Path,
    init: Path | None = None,
    base: str | None = None,
    vae: Path | None = None,
    clip: Path | None = None,
    device: str = "auto",
    judge: Judge | None = None,
    on_progress: OnProgress | None = None,
) -> Path:
    """Train on the pool ``reference`` of a data set; returns the folder of the pipeline or adapter.

    ``init`` is a pipeline folder (SD 1.x, 2.x or XL) to start from, ``base`` its name on the card (default:
    the folder's); ``vae`` the folder of an autoencoder that is already trained, which skips that stage;
    ``clip`` a CLIP folder in open_clip's format whose text tower and tokenizer the text encoder starts from.
    ``judge`` scores the recipe's validation images.
    ``on_progress`` is called after every step. On the CPU a run that was killed and resumed ends with the
    same bits as one that was not. Raises TrainingDataError, TrainingError, ValueError.
    """
    records = data.where(pool="reference").records
    if not records:
        raise TrainingDataError(f"{data.root}: has no image in the pool 'reference', the only one trained on")
    if spec.lora is not None and init is None:
        raise TrainingError("lora: adapters need a checkpoint to adapt; give one to start from")
    if init is not None:
        check_family(spec, Path(init))
    source = None if init is None else load_parts(Path(init))
    # faults that need not wait for the autoencoder's training
    if source is not None:
        check_start(spec, source)
    text = _text_part(spec, records, source=source, clip=clip, out=out)
    check_lengths(
        text.tokenizer,
        [caption for record in records for caption in record.text],
        long_captions=spec.training.long_captions,
        say=True,
    )
    if vae is not None:
        trained = load_network(Path(vae), AutoencoderKL, error=TrainingError)
        vae_is_given(out)
    elif spec.lora is not None and source is not None:
        trained = source.vae
        vae_is_given(out)
    else:
        seen, unseen = _hold_out(records, wanted=spec.vae_training.held_out, seed=spec.vae_training.seed)
        trained = train_vae_stage(
            spec,
            pictures=[data.path(record) for record in seen],
            held_out=[data.path(record) for record in unseen],
            out=out,
            start=None if source is None else source.vae,
            device=device,
            on_progress=on_progress,
        )
    material = Material(
        pictures=Pictures(tuple(data.path(record) for record in records), spec.size),
        captions=tuple(record.text for record in records),
        source=data.fingerprint,
        notes=(
            ("Data (sha256 of metadata.jsonl)", f"`{data.fingerprint}`"),
            ("Base model", "none" if init is None else f"`{base or init.name}`"),
        ),
    )
    parts = _parts(spec, trained, text, source=source, out=out)
    return train_parts(
        spec, parts, material, out=out, init=init, device=device, judge=judge, on_progress=on_progress
    )


def train_parts(
    spec: SdTrainingSpec,
    parts: Parts,
    material: Material,
    *,
    out: Path,
    init: Path | None = None,
    device: str = "auto",
    judge: Judge | None = None,
    on_progress: OnProgress | None = None,
) -> Path:
    """The stages after the VAE: latents, denoising, export. Arguments and errors as for `train_sd`."""
    if init is not None:
        check_start(spec, parts)
    place = accelerator(device=device, precision=spec.training.precision, tracker=spec.tracker, folder=out)
    parts.vae.requires_grad_(False).eval().to(place.device)
    identity = {
        "data": material.source,
        "pictures": hashlib.sha256("".join(material.pictures.keys).encode()).hexdigest(),
        "size": spec.size,
        "vae": fingerprint(parts.vae),
        "start": hashlib.sha256(
            (fingerprint(parts.unet) + fingerprint(parts.text_encoder)).encode()
        ).hexdigest(),
        "config": configuration(parts.unet),
        "scheduler": configuration(parts.scheduler),
        "training": spec.training.identity(),
        "lora": None if spec.lora is None else spec.lora.model_dump(mode="json"),
        "validation": spec.validation.model_dump(mode="json") if spec.validation.every else None,
        "export_dtype": spec.export_dtype,
    }
    stage = out / "stages" / "unet"
    target = out / ("pipeline" if spec.lora is None else "lora")
    with place.main_process_first():
        claim(stage, identity)
    if finished(stage / "report.json", target):
        return target

    pictures = material.pictures
    flips = spec.training.horizontal_flip == "swap"
    captions = Captions.of(material.captions, mirror=flips)
    long = check_lengths(parts.tokenizer, captions.texts, long_captions=spec.training.long_captions)
    log = JsonLog(out / "log.jsonl")
    log.write("captions", distinct=len(captions.texts) - 1, too_long=long)
    cache = LatentCache(out / "stages" / "latents", parts.vae, size=spec.size)
    for mirror in (False, True) if flips else (False,):
        cache.fill(pictures, mirror=mirror, on_progress=on_progress)
    batches = Batches(
        len(pictures),
        batch_size=spec.training.batch_size,
        seed=spec.training.seed,
        prior=material.prior,
        prior_weight=spec.dreambooth.prior_weight,
    )
    if spec.lora is not None:
        attach_lora(parts, spec.lora, text=spec.training.train_text_encoder, seed=spec.training.seed)
    own = material.captions[: len(pictures) - material.prior]
    result = Denoising(
        spec,
        parts,
        cache,
        pictures.keys,
        captions,
        batches,
        out=out,
        accelerator=place,
        validation=Validation(
            spec.validation,
            parts,
            prompts=spec.validation.prompts or _spread([texts[0] for texts in own]),
            size=spec.size,
            folder=out / "validation",
            log=log,
            accelerator=place,
            judge=judge,
        ),
    ).run(on_progress)
    card = model_card(
        spec,
        parts,
        Card(
            notes=material.notes,
            pictures=len(own),
            class_pictures=material.prior,
            too_long=long,
            vae=read_vae_report(out),
            unet=result,
            validation=_best(out) if spec.validation.keep == "best" else None,
        ),
    )
    if place.is_main_process:
        if spec.lora is None:
            export(parts, target, dtype=spec.export_dtype, card=card)
            _hand_on_defaults(target, init)
        else:
            text = parts.text_encoder if spec.training.train_text_encoder else None
            save_lora(target, unet=parts.unet, text_encoder=text, card=card, defaults=_defaults(init))
        report = {
            "loss": result.loss,
            "seconds": result.seconds,
            "cpu_seconds": result.cpu_seconds,
            "files": digests(target, "**/*.safetensors"),
        }
        write_json(stage / "report.json", report)
    place.wait_for_everyone()
    place.end_training()
    return target


def _hand_on_defaults(folder: Path, start: Path | None) -> None:
    """A fine-tuned model is sampled as the one it came from: another guidance may cost all variety."""
    if start is not None and (Path(start) / DEFAULTS_FILE).is_file():
        shutil.copyfile(Path(start) / DEFAULTS_FILE, folder / DEFAULTS_FILE)


def _defaults(start: Path | None) -> ModelDefaults | None:
    return None if start is None else read_defaults(Path(start))


def _best(out: Path) -> dict[str, object] | None:
    state = next((out / "validation" / "best").glob("step-*/state.json"), None)
    return None if state is None else json.loads(state.read_text(encoding="utf-8"))


def check_start(spec: SdTrainingSpec, source: Parts) -> None:
    """What a recipe cannot do with the checkpoint to start from. Raises TrainingError."""
    wanted, kind = (
        spec.training.prediction_type,
        source.scheduler.config.get("prediction_type", "epsilon"),
    )
    if wanted not in (None, kind):
        raise TrainingError(
            f"training.prediction_type is {wanted} but the checkpoint's is {kind}; leave it out"
        )
    if source.text_encoder_2 is not None and spec.training.train_text_encoder:
        raise TrainingError("training.train_text_encoder is not supported for SDXL; set it to false")


@dataclass(frozen=True)
class _Text:
    """Tokenizer and text encoder; no encoder where a new one is built."""

    tokenizer: CLIPTokenizer
    encoder: CLIPTextModel | None
    given: bool


def _text_part(
    spec: SdTrainingSpec, records: Sequence[Record], *, source: Parts | None, clip: Path | None, out: Path
) -> _Text:
    """Of the checkpoint, of a CLIP that was given, or a new tokenizer for these captions."""
    folder = out / "stages" / "tokenizer"
    if clip is not None:
        encoder, tokenizer = read_text_tower(clip)
        wanted = (
            spec.text_encoder.hidden_size if source is None else int(source.unet.config.cross_attention_dim)
        )
        if encoder.config.hidden_size != wanted:
            raise TrainingError(
                f"{clip}: its text tower is {encoder.config.hidden_size} wide, "
                f"the UNet's cross-attention takes {wanted}"
            )
        return _Text(tokenizer, encoder, given=True)
    if source is not None:
        return _Text(source.tokenizer, source.text_encoder, given=True)
    if (folder / "tokenizer_config.json").is_file():
        return _Text(CLIPTokenizer.from_pretrained(folder), None, given=True)
    texts = (text for record in records for text in record.text)
    return _Text(train_tokenizer(texts, vocab_size=spec.tokenizer.vocab_size), None, given=False)


def _parts(
    spec: SdTrainingSpec, vae: AutoencoderKL, text: _Text, *, source: Parts | None, out: Path
) -> Parts:
    """The parts to train: those of the checkpoint, or new ones."""
    training = spec.training
    if source is not None:
        config = source.scheduler.config
        scheduler = source.scheduler
        if training.zero_terminal_snr is not None:
            # some samplers (PNDM) would drop the setting in silence
            kept = "rescale_betas_zero_snr" in inspect.signature(type(scheduler).__init__).parameters
            scheduler = (type(scheduler) if kept else DPMSolverMultistepScheduler).from_config(
                config,
                rescale_betas_zero_snr=training.zero_terminal_snr,
                timestep_spacing="trailing" if training.zero_terminal_snr else config["timestep_spacing"],
            )
        encoder = source.text_encoder if text.encoder is None else text.encoder
        return replace(source, vae=vae, scheduler=scheduler, tokenizer=text.tokenizer, text_encoder=encoder)
    if not text.given:
        save_tokenizer(text.tokenizer, out / "stages" / "tokenizer")
    kind = training.prediction_type or "v_prediction"
    zero = training.zero_terminal_snr
    scheduler = build_scheduler(
        prediction_type=kind, zero_terminal_snr=kind == "v_prediction" if zero is None else zero
    )
    encoder = text.encoder or build_text_encoder(spec, text.tokenizer)
    return Parts(text.tokenizer, encoder, vae, build_unet(spec), scheduler)


def _hold_out(records: Sequence[Record], *, wanted: int, seed: int) -> tuple[list[Record], list[Record]]:
    """Split off whole groups, so that no near-duplicate of a held-out picture is trained on."""

    def draw(group: str) -> str:
        return hashlib.sha256(f"{seed}/held-out/{group}".encode()).hexdigest()

    sizes: dict[str, int] = {}
    for record in records:
        sizes[record.group] = sizes.get(record.group, 0) + 1
    held: set[str] = set()
    left = min(wanted, len(records) // 10)
    for group in sorted(sizes, key=draw):
        if sizes[group] <= left:
            held.add(group)
            left -= sizes[group]
    return [r for r in records if r.group not in held], [r for r in records if r.group in held]


def _spread(captions: Sequence[str]) -> tuple[str, ...]:
    """Up to eight captions spread over the data."""
    distinct = list(dict.fromkeys(captions))
    return tuple(distinct[:: max(1, len(distinct) // 8)][:8])
