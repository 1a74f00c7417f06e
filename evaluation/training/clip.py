"""Trains a CLIP with open_clip's own models and loss, from a config or from weights that exist.

**False negatives.** open_clip's ``ClipLoss`` takes every other pair of the batch for a negative. In a medical
data set many pictures share a caption, and then it pushes a picture away from a caption that is true of it.
The loss is left as it is; the batches are made so that no caption occurs in one of them twice: pictures with
the same captions are dealt out evenly over an epoch, a picture whose drawn caption is taken draws another of
its own, and one that has none left sits out that step (`evaluation.training.batches`). Captions that differ
in words and agree in meaning remain, as in any CLIP training.
"""

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from evaluation.classifier.pictures import Pictures, augment
from evaluation.encoders.load import load_encoder
from evaluation.encoders.open_clip import TOKENIZER_FILES, OpenClipEncoder, build_open_clip, save_open_clip
from evaluation.training.batches import Batches, draw_captions
from evaluation.training.loop import clear, fingerprint_of, identity_of, is_finished, rng_for, train
from evaluation.training.recipe import ClipSpec
from promptopt.base.devices import resolve_device
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.folder import alone, digests
from promptopt.base.training.progress import OnProgress
from studies.dataset import Dataset

logger = logging.getLogger(__name__)

MAX_LOGIT_SCALE = math.log(100)
"""open_clip's own bound, from the CLIP paper (Radford et al. 2021)."""


@dataclass(frozen=True, kw_only=True)
class _Start:
    """A model to train, its tokenizer, and what is needed to save it; ``fingerprint`` names where it came
    from."""

    model: Any
    tokenizer: Any
    config: dict[str, Any]
    tokenizer_folder: Path | None
    fingerprint: str


@alone
def train_clip(
    spec: ClipSpec,
    *,
    data: Dataset,
    out: str | Path,
    init: str | Path | None = None,
    tokenizer: str | Path | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> Path:
    """Train on the reference pool, measure on the validation pool, and write a folder in open_clip's format.

    Either the spec has a ``model`` (new weights; ``tokenizer`` is then a folder with a Hugging Face
    tokenizer, or None for open_clip's own vocabulary of 49,408) or ``init`` is an encoder's address (a
    folder, ``open_clip:MODEL/TAG``, ``hf:owner/name``). The same call continues a run that was cut, to the
    same weights bit by bit on a CPU; after the end it changes nothing.

    Raises TrainingError if both or neither are given, the captions are all equal, or ``out`` holds another
    run.
    """
    from evaluation.training.clip_figures import clip_figures, write_clip_card, zero_shot_texts
    from evaluation.training.figures import write_metrics

    out = Path(out)
    pool = data.where(pool="reference")
    texts = sorted({text for record in pool for text in record.text})
    if len(texts) < 2:
        raise TrainingError(
            f"{data.root}: pool 'reference' has {len(texts)} distinct captions; "
            "contrastive training needs two or more"
        )
    classes = zero_shot_texts(spec)
    start = _start(spec, init=init, tokenizer=tokenizer, device=device)
    identity = identity_of(spec, data, start=start.fingerprint)
    if is_finished(out, identity):
        return out

    model = start.model
    place = next(model.parameters()).device
    tokens, cut = tokenize(start.tokenizer, texts)
    if cut:
        logger.warning("%d captions have more than %d tokens and are cut", cut, tokens.shape[1])
    number = {text: i for i, text in enumerate(texts)}
    captions = [[number[text] for text in dict.fromkeys(record.text)] for record in pool]
    kinds: dict[tuple[int, ...], int] = {}
    groups = [kinds.setdefault(tuple(sorted(own)), len(kinds)) for own in captions]
    batches = Batches(len(pool), batch_size=spec.batch_size, seed=spec.seed, groups=groups)
    pictures = Pictures(pool.paths(), decode=_decoder(model))
    mean, std = (
        torch.tensor(model.visual.preprocess_cfg[key], device=place)[:, None, None] for key in ("mean", "std")
    )
    loss_of = _clip_loss()

    def loss_at(step: int, part: slice) -> Tensor:
        rng = rng_for(spec.seed, 2, step)
        rows, chosen = draw_captions(batches.rows_at(step), captions, rng)
        images = augment(pictures.batch(rows).to(place), rng, spec.augmentation)
        own = slice(*(end * len(rows) // spec.batch_size for end in (part.start, part.stop)))
        images = (images - mean) / std
        image_features = _in_parts(lambda x: model.encode_image(x, normalize=True), images, own)
        text_features = _in_parts(lambda x: encode_text(model, x), tokens[chosen].to(place), own)
        share = (own.stop - own.start) / len(rows)
        scale = model.logit_scale
        bias = getattr(model, "logit_bias", None)
        if share < 1:  # every part has the scale in it
            scale, bias = (None if x is None else share * x + (1 - share) * x.detach() for x in (scale, bias))
        loss: Tensor = loss_of(image_features, text_features, scale.exp(), logit_bias=bias)
        return loss if share == 1 else loss - (1 - share) * loss.detach()

    def clamp_scale() -> None:
        with torch.no_grad():
            model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)

    if not spec.train_text:
        _lock_text(model)
    cpu_seconds = train(
        model,
        spec,
        out=out,
        identity=identity,
        loss_at=loss_at,
        after_update=clamp_scale,
        on_progress=on_progress,
    )
    _save(out, start)
    encoder = _load(out, device)
    figures = clip_figures(encoder, data.where(pool="validation"), classes, limit=spec.validation_images)
    facts = {
        "identity": fingerprint_of(identity),
        "files": digests(out, "*.safetensors"),
        "spec": spec.model_dump(mode="json"),
        "init": None if init is None else str(init),
        "data_fingerprint": data.fingerprint,
        "encoder_fingerprint": encoder.fingerprint,
        "training_images": len(pool),
        "distinct_captions": len(texts),
        "captions_cut_at_context_length": cut,
        "parameters": sum(p.numel() for p in model.parameters()),
        "zero_shot_texts": classes,
        "cpu_seconds": round(cpu_seconds, 1),
    }
    write_clip_card(out, spec, facts, figures)
    write_metrics(out, facts=facts, figures=figures)  # last: its presence says that the run is finished
    clear(out)
    return out


def encode_text(model: Any, tokens: Tensor) -> Tensor:
    """``model.encode_text(tokens, normalize=True)``, without the padding behind the longest text.

    A causal text tower that pools at the end mark cannot see what stands behind it, so the columns after the
    last end mark of the batch change nothing; captions are often half as long as the context, so this halves
    the tower's cost. Any other text tower gets all of its columns.
    """
    from open_clip.model import CLIP
    from open_clip.transformer import text_global_pool

    pool = getattr(model, "text_pool_type", None)
    if type(model) is not CLIP or model.attn_mask is None or pool not in ("argmax", "eos"):
        return model.encode_text(tokens, normalize=True)
    ends = tokens.argmax(dim=1) if pool == "argmax" else (tokens == model.text_eos_id).int().argmax(dim=1)
    width = int(ends.max()) + 1
    tokens = tokens[:, :width]
    x = model.token_embedding(tokens) + model.positional_embedding[:width]
    x = model.transformer(x, attn_mask=model.attn_mask[:width, :width])
    x = text_global_pool(model.ln_final(x), tokens, pool, eos_token_id=model.text_eos_id)
    if isinstance(model.text_projection, nn.Linear):
        x = model.text_projection(x)
    elif model.text_projection is not None:
        x = x @ model.text_projection
    return nn.functional.normalize(x, dim=-1)


def tokenize(tokenizer: Any, texts: Sequence[str]) -> tuple[Tensor, int]:
    """Tokens (n, context) of the texts, and how many of the texts are longer than the context and were
    cut."""
    context = int(tokenizer.context_length)
    tokens = tokenizer(list(texts), context_length=context)
    longer = tokenizer(list(texts), context_length=context + 1)
    return tokens, int((tokens != longer[:, :context]).any(dim=1).sum())


def _in_parts(encode: Callable[[Tensor], Tensor], inputs: Tensor, own: slice) -> Tensor:
    """Features of a batch, with gradients for the rows `own` alone and no more of them at a time.

    The gradients of all parts add up to the batch's, although its loss compares all rows with each other
    (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup").
    """
    if own == slice(0, len(inputs)):
        return encode(inputs)
    size = max(1, own.stop - own.start)
    with torch.no_grad():
        known = torch.cat([encode(inputs[i : i + size]) for i in range(0, len(inputs), size)])
    if own.start == own.stop:
        return known
    return torch.cat([known[: own.start], encode(inputs[own]), known[own.stop :]])


def _clip_loss() -> Any:
    from open_clip import ClipLoss

    return ClipLoss()


def _start(spec: ClipSpec, *, init: str | Path | None, tokenizer: str | Path | None, device: str) -> _Start:
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer

    if (init is None) == (spec.model is None):
        raise TrainingError(
            "the recipe describes a new model, so 'init' has no use; leave it out, or take clip-finetune"
            if init is not None
            else "the recipe has no 'model': give the encoder to start from as 'init', or add a model to it"
        )
    if spec.model is not None:
        config = spec.model.model_dump(mode="python")
        folder = None if tokenizer is None else Path(tokenizer)
        digest = hashlib.sha256()
        if folder is None:
            vocabulary: Any = SimpleTokenizer(context_length=config["text_cfg"].get("context_length", 77))
        else:
            vocabulary = _read_tokenizer(folder, config["text_cfg"].get("context_length", 77))
            inner = vocabulary.tokenizer
            # the end mark need not be the highest id of a small vocabulary, as open_clip's default pooling
            # assumes
            config["text_cfg"] = {
                "vocab_size": len(inner),
                "pool_type": "eos",
                "eos_id": int(inner.eos_token_id),
                "hf_tokenizer_name": "tokenizer.json",
                **config["text_cfg"],
            }
            for name in TOKENIZER_FILES:
                if (folder / name).is_file():
                    digest.update(name.encode() + (folder / name).read_bytes())
        try:
            model = build_open_clip(config, seed=spec.seed, preprocess={"mean": spec.mean, "std": spec.std})
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise TrainingError(f"recipe, key 'model': open_clip cannot build it: {error}") from error
        return _Start(
            model=model.to(resolve_device(device)),
            tokenizer=vocabulary,
            config=config,
            tokenizer_folder=folder,
            fingerprint=digest.hexdigest(),
        )
    if tokenizer is not None:
        raise TrainingError("an encoder given as 'init' keeps its own tokenizer; leave 'tokenizer' out")
    encoder = _load(init, device)
    address = str(init)
    folder = None
    if address == "embedded" or not address.startswith(("open_clip:", "hf:")):
        from evaluation.encoders.load import EMBEDDED_CLIP

        folder = EMBEDDED_CLIP if address == "embedded" else Path(address)
        name = f"local-dir:{folder.resolve()}"
    elif address.startswith("hf:"):
        name = f"hf-hub:{address.removeprefix('hf:')}"
    else:
        name = address.removeprefix("open_clip:").rpartition("/")[0]
    config = dict(open_clip.get_model_config(name))
    has_own = bool(config["text_cfg"].get("hf_tokenizer_name"))
    # The encoder is a frozen float32 model in evaluation mode: thaw it, it is ours alone.
    return _Start(
        model=encoder._model.requires_grad_(True),
        tokenizer=encoder._tokenizer,
        config=config,
        tokenizer_folder=folder if has_own else None,
        fingerprint=encoder.fingerprint,
    )


def _load(uri: str | Path | None, device: str) -> OpenClipEncoder:
    # open_clip fills a model with random weights before it reads the file: keep the global stream out of it
    with torch.random.fork_rng(devices=[]):
        encoder = load_encoder(str(uri), device=device)
    if not isinstance(encoder, OpenClipEncoder):
        raise TrainingError(f"{uri}: not an open_clip model, so it cannot be trained here")
    return encoder


def _read_tokenizer(folder: Path, context_length: int) -> Any:
    from open_clip.tokenizer import HFTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "vocab.txt")):
        raise TrainingError(f"{folder}: no tokenizer here; give a folder with tokenizer.json or vocab.json")
    try:
        vocabulary = HFTokenizer(str(folder), context_length=context_length)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TrainingError(f"{folder}: not a tokenizer that transformers can read: {error}") from error
    for mark in ("eos_token_id", "pad_token_id"):
        if getattr(vocabulary.tokenizer, mark) is None:
            raise TrainingError(f"{folder}: the tokenizer has no {mark}; set it in tokenizer_config.json")
    ids = vocabulary.tokenizer("a").input_ids
    if ids[-1] != vocabulary.tokenizer.eos_token_id:
        raise TrainingError(
            f"{folder}: the tokenizer does not end a text with its end mark, which CLIP pools at"
        )
    return vocabulary


def _decoder(model: Any) -> Any:
    """The model's own preprocessing up to, and without, the normalization; what comes out is exact in
    uint8."""
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from torchvision.transforms import Compose

    steps = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False).transforms
    geometry = Compose(steps[:-1])

    def decode(image: Image.Image) -> NDArray[np.uint8]:
        return (geometry(image) * 255).round().byte().permute(1, 2, 0).numpy()

    return decode


def _lock_text(model: Any) -> None:
    parts = (
        [model.text]
        if hasattr(model, "text")
        else [model.transformer, model.token_embedding, model.ln_final, model.text_projection]
    )
    for part in parts:
        if part is not None:
            part.requires_grad_(False)
    if not hasattr(model, "text"):
        model.positional_embedding.requires_grad_(False)


def _save(out: Path, start: _Start) -> None:
    folder = start.tokenizer_folder
    if folder is None and start.config["text_cfg"].get("hf_tokenizer_name"):
        start.tokenizer.save_pretrained(str(out))
        folder = out
    tower = getattr(getattr(start.model, "text", None), "config", None)
    if tower is not None:  # a text tower of transformers: without its config it would be asked for on the hub
        tower.save_pretrained(str(out))
    save_open_clip(out, start.model, start.config, folder, dtype=torch.float16)
