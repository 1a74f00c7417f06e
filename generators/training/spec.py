"""What a training run is: one checked recipe (YAML) says everything but the data and the output folder."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from promptopt.base.errors import PromptoptError
from promptopt.base.settings import override, parse_changes, read_yaml, validate

RECIPES = Path(__file__).parent / "recipes"
PredictionType = Literal["v_prediction", "epsilon"]
OptimizerName = Literal["adamw", "adamw8bit", "adafactor", "sgd"]
ScheduleName = Literal["cosine", "cosine_with_restarts", "constant", "linear", "polynomial"]
Tracker = Literal["tensorboard", "wandb", "mlflow", "none"]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]


class RecipeError(PromptoptError, ValueError):
    """A recipe cannot be used as it is; the message names the file, the key, the value and the remedy."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _check_groups(channels: tuple[int, ...], groups: int) -> None:
    for width in channels:
        if width % groups:
            raise ValueError(f"channels {width} is not a multiple of norm_groups {groups}")


class TokenizerSpec(_Section):
    """A byte-level CLIP vocabulary, learned from the captions; 514 at least: 512 bytes and two markers."""

    vocab_size: Annotated[int, Field(ge=514)] = 1200


class TextEncoderSpec(_Section):
    """`CLIPTextModel`; its width is the UNet's cross-attention width."""

    hidden_size: Positive = 128
    intermediate_size: Positive = 512
    layers: Positive = 2
    heads: Positive = 4

    @model_validator(mode="after")
    def _heads_divide(self) -> "TextEncoderSpec":
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")
        return self


class VaeSpec(_Section):
    """`AutoencoderKL`; a latent's side is the image's, halved for each entry of `channels` past the first.

    Groups must hold several channels: normalized alone, each loses its mean, and the picture its tint.
    """

    channels: Annotated[tuple[Positive, ...], Field(min_length=1)] = (16, 32, 64)
    layers_per_block: Positive = 1
    latent_channels: Positive = 4
    norm_groups: Positive = 4

    @property
    def factor(self) -> int:
        """Pixels of the image along one side of a latent's pixel."""
        return int(2 ** (len(self.channels) - 1))

    @model_validator(mode="after")
    def _groups_divide(self) -> "VaeSpec":
        _check_groups(self.channels, self.norm_groups)
        if self.norm_groups == min(self.channels) > 1:
            raise ValueError(
                f"norm_groups {self.norm_groups} leaves one channel a group at width {min(self.channels)}, "
                "which takes the tint from every image; use a quarter of it"
            )
        return self


class UnetSpec(_Section):
    """`UNet2DConditionModel`; `attention` says at which levels (from the finest) there is attention."""

    channels: Annotated[tuple[Positive, ...], Field(min_length=1)] = (64, 96, 128)
    attention: tuple[bool, ...] = (False, True, True)
    layers_per_block: Positive = 1
    head_dim: Positive = 32
    norm_groups: Positive = 16

    @model_validator(mode="after")
    def _fits(self) -> "UnetSpec":
        _check_groups(self.channels, self.norm_groups)
        if len(self.attention) != len(self.channels):
            raise ValueError(f"attention has {len(self.attention)} levels and channels {len(self.channels)}")
        for width, attends in zip(self.channels, self.attention, strict=True):
            if attends and width % self.head_dim:
                raise ValueError(f"channels {width} is not a multiple of head_dim {self.head_dim}")
        return self


class LoopSpec(_Section):
    """What every stage of training has.

    ``batch_size`` images make an optimizer step, all devices together; each device does its share in
    ``gradient_accumulation`` passes. So a recipe means the same on any number of devices.
    ``precision`` is that of the passes; what is trained is held in float32.
    """

    steps: Annotated[int, Field(ge=0)]
    batch_size: Positive = 32
    gradient_accumulation: Positive = 1
    gradient_checkpointing: bool = False
    optimizer: OptimizerName = "adamw"
    adam_betas: tuple[Fraction, Fraction] = (0.9, 0.99)
    lr: Annotated[float, Field(gt=0)] = 1e-3
    warmup: Annotated[int, Field(ge=0)] = 100
    lr_schedule: ScheduleName = "cosine"
    weight_decay: Weight = 0.01
    grad_clip: Annotated[float, Field(gt=0)] = 1.0
    ema_decay: Fraction = 0.999
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    channels_last: bool = True
    compile: bool = False
    checkpoint_every: Positive = 500
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _whole_passes(self) -> "LoopSpec":
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide into gradient_accumulation "
                f"{self.gradient_accumulation} equal passes; take a multiple of {self.gradient_accumulation}"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """What decides what is learned; a run may be resumed with other values of the rest."""
        return self.model_dump(mode="json", exclude={"checkpoint_every"})


class VaeTrainingSpec(LoopSpec):
    """Image-only training of the autoencoder: weights of the loss's terms, each a mean."""

    steps: Annotated[int, Field(ge=0)] = 2000
    batch_size: Positive = 16
    parts: Literal["all", "decoder"] = "all"
    l1: Weight = 1.0
    mse: Weight = 0.0
    edges: Weight = 0.3
    color: Weight = 1.0
    kl: Weight = 1e-4
    held_out: Positive = 64


class UnetTrainingSpec(LoopSpec):
    """Training of the UNet (and the text encoder) to denoise latents under captions.

    ``prediction_type`` None: what the checkpoint to start from was trained for, or v-prediction from scratch.
    ``zero_terminal_snr`` None: as the checkpoint has it, or from scratch: on with
    v-prediction, off with epsilon.
    ``noise_offset`` adds that much of a constant to each channel's noise, so that very dark and very bright
    pictures are learned under epsilon too.
    ``timestep_bias_multiplier`` m draws the noisiest ``timestep_bias_portion`` of the timesteps m times as
    often (diffusers' "later" strategy): place and number of things are decided there.
    ``horizontal_flip`` "swap" mirrors half of the images and exchanges left and right in their captions.
    ``long_captions`` "error" refuses captions that the text encoder cannot see whole, "cut" cuts them.
    """

    steps: Annotated[int, Field(ge=0)] = 4000
    caption_dropout: Fraction = 0.1
    prediction_type: PredictionType | None = None
    min_snr_gamma: Annotated[float, Field(gt=0)] | None = None
    noise_offset: Weight = 0.0
    timestep_bias_multiplier: Annotated[float, Field(gt=0)] = 1.0
    timestep_bias_portion: Annotated[float, Field(gt=0, le=1)] = 0.4
    zero_terminal_snr: bool | None = None
    train_text_encoder: bool = True
    text_encoder_lr: Annotated[float, Field(gt=0)] | None = None
    horizontal_flip: Literal["none", "swap"] = "none"
    long_captions: Literal["error", "cut"] = "error"

    @model_validator(mode="after")
    def _terminal(self) -> "UnetTrainingSpec":
        if self.prediction_type == "epsilon" and self.zero_terminal_snr:
            raise ValueError(
                "zero_terminal_snr needs prediction_type v_prediction: pure noise says nothing under epsilon"
            )
        return self


class LoraSpec(_Section):
    """Low-rank adapters (LoRA) in place of full training; the update is scaled by alpha / rank.

    ``rslora`` scales by alpha / sqrt(rank) (arXiv:2312.03732); ``dora`` learns magnitudes beside directions
    (arXiv:2402.09353). ``targets`` and ``text_targets`` are names of layers of the UNet and the text encoder.
    """

    rank: Positive = 16
    alpha: Positive | None = None
    rslora: bool = False
    dora: bool = False
    dropout: Fraction = 0.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("to_q", "to_k", "to_v", "to_out.0")
    text_targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("q_proj", "k_proj", "v_proj", "out_proj")


class DreamBoothSpec(_Section):
    """Rare tokens for what the data show, and class images that keep the model from forgetting the rest.

    Every group of pictures (by ``per``) has one token of ``tokens``, in the order of the groups' names.
    ``class_images`` a group are drawn by the model itself from ``class_prompt`` before training; half of each
    batch is theirs, their loss weighted by ``prior_weight``. 0 turns prior preservation off.
    """

    per: Literal["category", "label"] = "label"
    instance_prompt: str = "a colonoscopy image of {token} {subject}"
    class_prompt: str = "a colonoscopy image of {subject}"
    subjects: dict[str, str] = Field(default_factory=dict)
    tokens: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "sks",
        "ohwx",
        "zwx",
        "vqd",
        "qxj",
        "jkx",
        "wzq",
    )
    class_images: Annotated[int, Field(ge=0)] = 200
    class_steps: Positive | None = None
    class_guidance: Weight | None = None
    prior_weight: Weight = 1.0

    @model_validator(mode="after")
    def _placeholders(self) -> "DreamBoothSpec":
        for name, wanted in (("instance_prompt", ("token", "subject")), ("class_prompt", ("subject",))):
            text = getattr(self, name)
            for place in wanted:
                if f"{{{place}}}" not in text:
                    raise ValueError(f"{name} {text!r} lacks {{{place}}}")
        return self


class ValidationSpec(_Section):
    """Images drawn while training, from fixed prompts and seeds, with the averaged weights.

    Every ``every`` steps (0: never) ``images`` of them, spread over ``prompts`` (none: captions of the data),
    are drawn and, where a judge is at hand, scored; the weights with the best ``metric`` are exported.
    """

    every: Annotated[int, Field(ge=0)] = 0
    images: Positive = 16
    prompts: tuple[str, ...] = ()
    steps: Positive = 20
    guidance: Weight = 2.0
    metric: str = "mmd"
    keep: Literal["best", "last"] = "best"


class SdTrainingSpec(_Section):
    """A recipe. The four model sections are used only when training starts from scratch.

    With ``lora`` the checkpoint's own weights stay as they are and adapters are learned.
    """

    size: Positive = 64
    tokenizer: TokenizerSpec = TokenizerSpec()
    text_encoder: TextEncoderSpec = TextEncoderSpec()
    vae: VaeSpec = VaeSpec()
    unet: UnetSpec = UnetSpec()
    vae_training: VaeTrainingSpec = VaeTrainingSpec()
    training: UnetTrainingSpec = UnetTrainingSpec()
    lora: LoraSpec | None = None
    dreambooth: DreamBoothSpec = DreamBoothSpec()
    validation: ValidationSpec = ValidationSpec()
    tracker: Tracker = "tensorboard"
    export_dtype: Literal["float16", "float32"] = "float16"

    @model_validator(mode="after")
    def _size_divides(self) -> "SdTrainingSpec":
        least = self.vae.factor * 2 ** (len(self.unet.channels) - 1)
        if self.size % least:
            raise ValueError(f"size {self.size} is not a multiple of {least}, which the VAE and UNet need")
        return self


def load_recipe(name_or_path: str | Path, *, overrides: tuple[str, ...] = ()) -> SdTrainingSpec:
    """Read a recipe that ships ("tiny", "tiny-finetune") or your own YAML file.

    ``overrides`` are "key=value" with dots between the levels ("training.steps=100"); values are YAML.
    Raises RecipeError.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPES / f"{name_or_path}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
            raise RecipeError(
                f"no recipe {str(name_or_path)!r}; use one of {known}, or a path ending in .yaml"
            )
    settings = read_yaml(path, error=RecipeError, remedy="A recipe is a mapping of sections.")
    settings = override(settings, parse_changes(overrides, error=RecipeError), error=RecipeError)
    spec: SdTrainingSpec = validate(SdTrainingSpec, settings, error=RecipeError)
    return spec
