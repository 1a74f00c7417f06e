"""Train a Stable Diffusion, from scratch or from a checkpoint: tokenizer, VAE, latents, UNet, export.

Every stage keeps its state under ``out/stages``, so the same command goes on after a kill, and a stage that
is done is not done again. The finished pipeline is ``out/pipeline``.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from generators.folder import DEFAULTS_FILE
from generators.training.captions import Captions
from generators.training.card import model_card
from generators.training.images import Pictures, TrainingDataError
from generators.training.latents import LatentCache, fingerprint
from generators.training.loop import DataOrder, JsonLog, Loop, LoopResult, OnProgress, TrainingError, seeded
from generators.training.noise import Noising
from generators.training.parts import (
    Parts,
    build_scheduler,
    build_text_encoder,
    build_unet,
    export,
    load_parts,
    save_grid,
)
from generators.training.spec import SdTrainingSpec
from generators.training.text_tower import read_text_tower
from generators.training.tokenizer import save_tokenizer, train_tokenizer
from generators.training.vae import build_vae, train_vae, whiten_colours
from studies.dataset import Dataset, Record

# Changing these does not change what is learnt, so a run may be resumed with others.
_FREE = {"checkpoint_every", "preview_every"}


def train_sd(
    spec: SdTrainingSpec,
    *,
    data: Dataset,
    out: Path,
    init: Path | None = None,
    vae: Path | None = None,
    clip: Path | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> Path:
    """Train on the pool ``reference`` of a data set and return the folder of the finished pipeline.

    ``init`` is a pipeline folder (SD 1.x or 2.x family) to start from; ``vae`` the folder of an autoencoder
    that is already trained, which skips that stage; ``clip`` a CLIP folder in open_clip's format whose text
    tower and tokenizer the text encoder starts from. ``on_progress`` is called after every step. On the CPU a
    run that was killed and resumed ends with the same bits as one that was not.
    Raises TrainingDataError, TrainingError, ValueError.
    """
    records = data.where(pool="reference").records
    if not records:
        raise TrainingDataError(
            f"{data.root}: has no picture in the pool 'reference', the only one trained on"
        )
    place = _device(device)
    source = None if init is None else load_parts(Path(init))
    seen, unseen = _hold_out(records, wanted=spec.vae_training.held_out, seed=spec.vae_training.seed)
    if vae is None:
        trained = train_vae_stage(
            spec,
            pictures=[data.path(record) for record in seen],
            held_out=[data.path(record) for record in unseen],
            out=out,
            start=None if source is None else source.vae,
            device=place,
            on_progress=on_progress,
        )
    else:
        trained = AutoencoderKL.from_pretrained(vae, use_safetensors=True, local_files_only=True)
        _vae_report(out).write_text(json.dumps({"given": True}), encoding="utf-8")
    trained.requires_grad_(False).eval().to(place)

    parts = _parts(spec, records, trained, source=source, clip=clip, out=out)
    identity = {
        "data": data.fingerprint,
        "size": spec.size,
        "vae": fingerprint(trained),
        "start": hashlib.sha256(
            (fingerprint(parts.unet) + fingerprint(parts.text_encoder)).encode()
        ).hexdigest(),
        "config": _config(parts.unet),
        "scheduler": _config(parts.scheduler),
        "training": spec.training.model_dump(mode="json", exclude=_FREE),
        "export_dtype": spec.export_dtype,
    }
    stage, target = out / "stages" / "unet", out / "pipeline"
    _claim(stage, identity)
    if (target / "model_index.json").is_file() and (stage / "report.json").is_file():
        return _with_defaults(target, init)

    pictures = Pictures(tuple(data.path(record) for record in records), spec.size)
    cache = LatentCache(out / "stages" / "latents", trained, size=spec.size)
    flips = spec.training.horizontal_flip == "swap"
    for mirror in (False, True) if flips else (False,):
        cache.fill(pictures, mirror=mirror, on_progress=on_progress)
    captions = Captions.of([record.text for record in records], parts.tokenizer)
    JsonLog(out / "log.jsonl").write("captions", distinct=len(captions.ids) - 1, too_long=captions.too_long)
    result = _train_unet(
        spec, parts, cache, pictures.keys, captions, out=out, device=place, prompts=_prompts(spec, records),
        on_progress=on_progress,
    )  # fmt: skip
    report = {"loss": result.loss, "seconds": result.seconds, "cpu_seconds": result.cpu_seconds}
    (stage / "report.json").write_text(json.dumps(report), encoding="utf-8")
    card = model_card(
        spec,
        parts,
        data_fingerprint=data.fingerprint,
        pictures=len(records),
        too_long=captions.too_long,
        vae_report=json.loads(_vae_report(out).read_text(encoding="utf-8")),
        unet=result,
    )
    return _with_defaults(export(parts, target, dtype=spec.export_dtype, card=card), init)


def _with_defaults(folder: Path, start: Path | None) -> Path:
    """A fine-tuned model is sampled as the one it came from: another guidance may cost all variety."""
    if start is not None and (Path(start) / DEFAULTS_FILE).is_file():
        shutil.copyfile(Path(start) / DEFAULTS_FILE, folder / DEFAULTS_FILE)
    return folder


def train_vae_stage(
    spec: SdTrainingSpec,
    *,
    pictures: Sequence[Path],
    held_out: Sequence[Path] = (),
    out: Path,
    start: AutoencoderKL | None = None,
    device: torch.device | None = None,
    on_progress: OnProgress | None = None,
    after_step: Callable[[int], None] | None = None,
) -> AutoencoderKL:
    """The VAE stage alone, from pictures without captions; the result is kept in ``out/stages/vae/model``.

    With ``start`` the autoencoder of a checkpoint is trained further, or kept as it is if the recipe's steps
    are 0. Raises TrainingError, TrainingDataError.
    """
    vae = start if start is not None else build_vae(spec.vae, size=spec.size, seed=spec.vae_training.seed)
    if spec.vae_training.steps == 0:
        if start is None:
            raise TrainingError(
                "vae_training.steps is 0 but there is no VAE to start from; set steps, or init"
            )
        _vae_report(out).write_text(json.dumps({"given": True}), encoding="utf-8")
        return vae
    seen = Pictures(tuple(pictures), spec.size)
    stage = out / "stages" / "vae"
    _claim(
        stage,
        {
            "pictures": hashlib.sha256("".join(seen.keys).encode()).hexdigest(),
            "size": spec.size,
            "start": fingerprint(vae),
            "config": _config(vae),
            "training": spec.vae_training.model_dump(mode="json", exclude=_FREE),
        },
    )
    model, report_file = stage / "model", _vae_report(out)
    if report_file.is_file() and (model / "config.json").is_file():
        return AutoencoderKL.from_pretrained(model, use_safetensors=True, local_files_only=True)
    if start is None:
        whiten_colours(vae, seen, seed=spec.vae_training.seed)
    report = train_vae(
        vae,
        seen,
        spec=spec.vae_training,
        held_out=Pictures(tuple(held_out), spec.size) if held_out else None,
        work=stage,
        device=_device("auto") if device is None else device,
        keep_latents=start is not None,
        on_progress=on_progress,
        after_step=after_step,
    )
    vae.to(memory_format=torch.contiguous_format).save_pretrained(model, safe_serialization=True)
    summary = {
        "loss": report.loop.loss,
        "seconds": report.loop.seconds,
        "cpu_seconds": report.loop.cpu_seconds,
        "scaling_factor": report.scaling_factor,
        "psnr": report.psnr,
        "pictures": len(seen),
        "held_out": len(held_out),
    }
    JsonLog(stage / "log.jsonl").write("done", **summary)
    report_file.write_text(json.dumps(summary), encoding="utf-8")
    return vae


def _train_unet(
    spec: SdTrainingSpec,
    parts: Parts,
    cache: LatentCache,
    keys: Sequence[str],
    captions: Captions,
    *,
    out: Path,
    device: torch.device,
    prompts: Sequence[str],
    on_progress: OnProgress | None,
) -> LoopResult:
    training, unet, text_encoder = spec.training, parts.unet, parts.text_encoder
    noising = Noising.from_scheduler(
        parts.scheduler,
        zero_terminal_snr=bool(parts.scheduler.config.get("rescale_betas_zero_snr", False)),
        min_snr_gamma=training.min_snr_gamma,
    )
    chances = noising.timestep_chances(
        portion=training.timestep_bias_portion, multiplier=training.timestep_bias_multiplier
    )
    scale = float(parts.vae.config.scaling_factor)
    learns_text = training.train_text_encoder
    unet.requires_grad_(True).to(device)
    text_encoder.requires_grad_(learns_text).eval().to(device)
    layout = torch.channels_last if training.channels_last else torch.contiguous_format
    unet.to(memory_format=layout)
    if training.compile:
        unet.compile(dynamic=False)
    order = DataOrder(len(keys), batch_size=training.batch_size, seed=training.seed)

    def loss(step: int) -> torch.Tensor:
        chosen, generator = order.batch(step), seeded(training.seed, "unet", step)
        mirror = (torch.rand(len(chosen), generator=generator) < 0.5).tolist()
        if training.horizontal_flip == "none":
            mirror = [False] * len(chosen)
        ids = captions.draw(chosen, mirror=mirror, dropout=training.caption_dropout, generator=generator)
        mean, logvar = cache.get([keys[i] for i in chosen], mirror=mirror)
        clean = scale * (mean + torch.randn(mean.shape, generator=generator) * torch.exp(0.5 * logvar))
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = torch.multinomial(chances, len(chosen), replacement=True, generator=generator)
        noisy = noising.noised(clean, noise, timesteps).to(device).contiguous(memory_format=layout)
        target = noising.target(clean, noise, timesteps).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16"):
            with torch.set_grad_enabled(learns_text):
                context = text_encoder(ids.to(device))[0]
            made = unet(noisy, timesteps.to(device), context, return_dict=False)[0]
        error = F.mse_loss(made.float(), target, reduction="none").mean(dim=(1, 2, 3))
        return (error * noising.weights(timesteps).to(device)).mean()

    def preview(step: int) -> None:
        if training.preview_every and (step % training.preview_every == 0 or step == training.steps):
            with loop.averaged():
                save_grid(
                    parts,
                    prompts,
                    path=out / "previews" / f"step-{step:08d}.png",
                    size=spec.size,
                    steps=spec.preview_steps,
                    guidance=spec.preview_guidance,
                )

    rates = {"unet": training.lr, "text_encoder": training.text_encoder_lr or training.lr}
    loop = Loop(
        stage="unet",
        modules={"unet": unet, "text_encoder": text_encoder} if learns_text else {"unet": unet},
        loss=loss,
        spec=training,
        rates=rates,
        checkpoints=out / "stages" / "unet" / "checkpoints",
        log=JsonLog(out / "log.jsonl"),
        on_progress=on_progress,
        after_step=preview,
    )
    return loop.run()


def _parts(
    spec: SdTrainingSpec,
    records: Sequence[Record],
    vae: AutoencoderKL,
    *,
    source: Parts | None,
    clip: Path | None,
    out: Path,
) -> Parts:
    """The parts to train: those of the checkpoint, or new ones for these captions."""
    training = spec.training
    if source is not None:
        config = source.scheduler.config
        kind = config.get("prediction_type", "epsilon")
        if training.prediction_type not in (None, kind):
            raise TrainingError(
                f"training.prediction_type is {training.prediction_type} but the checkpoint's is {kind}; "
                "leave it out"
            )
        scheduler = source.scheduler
        if training.zero_terminal_snr is not None:
            scheduler = type(scheduler).from_config(
                config,
                rescale_betas_zero_snr=training.zero_terminal_snr,
                timestep_spacing="trailing" if training.zero_terminal_snr else config["timestep_spacing"],
            )
        encoder, words = (source.text_encoder, source.tokenizer) if clip is None else read_text_tower(clip)
        return Parts(words, _fitting(encoder, source.unet), vae, source.unet, scheduler)
    folder = out / "stages" / "tokenizer"
    encoder = None
    if clip is not None:
        encoder, tokenizer = read_text_tower(clip)
    elif (folder / "tokenizer_config.json").is_file():
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    else:
        texts = (text for record in records for text in record.text)
        tokenizer = train_tokenizer(texts, vocab_size=spec.tokenizer.vocab_size)
        save_tokenizer(tokenizer, folder)
    kind = training.prediction_type or "v_prediction"
    zero = training.zero_terminal_snr
    scheduler = build_scheduler(
        prediction_type=kind, zero_terminal_snr=kind == "v_prediction" if zero is None else zero
    )
    if encoder is None:
        encoder = build_text_encoder(spec, tokenizer)
    unet = build_unet(spec)
    return Parts(tokenizer, _fitting(encoder, unet), vae, unet, scheduler)


def _fitting(encoder: CLIPTextModel, unet: UNet2DConditionModel) -> CLIPTextModel:
    width, wanted = encoder.config.hidden_size, unet.config.cross_attention_dim
    if width != wanted:
        raise TrainingError(f"the text encoder is {width} wide, the UNet's cross-attention takes {wanted}")
    return encoder


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


def _prompts(spec: SdTrainingSpec, records: Sequence[Record]) -> tuple[str, ...]:
    """The recipe's preview prompts, or else captions spread over the data."""
    if spec.preview_prompts:
        return spec.preview_prompts
    first = list(dict.fromkeys(record.text[0] for record in records))
    return tuple(first[:: max(1, len(first) // 8)][:8])


def _claim(stage: Path, identity: dict[str, Any]) -> None:
    """Refuse to go on in a folder whose stage was begun with other data or settings."""
    file = stage / "stage.json"
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        # only what was recorded: a later version may record more
        changed = sorted(_changes(before, {key: identity.get(key) for key in before}))
        if changed:
            raise TrainingError(
                f"{file}: this stage was begun with other settings ({', '.join(changed)}); "
                f"take another output folder, or remove {stage} to train the stage anew"
            )
        return
    stage.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(identity, indent=1, sort_keys=True), encoding="utf-8")


def _changes(before: Any, now: Any, name: str = "") -> set[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = before.keys() | now.keys()
        return {c for k in keys for c in _changes(before.get(k), now.get(k), f"{name}.{k}".lstrip("."))}
    return set() if before == now else {name}


def _config(part: Any) -> dict[str, str]:
    """What a part of diffusers was configured with, without notes of its version and origin."""
    return {key: repr(value) for key, value in part.config.items() if not key.startswith("_")}


def _vae_report(out: Path) -> Path:
    folder = out / "stages" / "vae"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "report.json"


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
