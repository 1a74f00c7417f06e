"""What a checkpoint file does not say: its architecture, by name or from the folder of another model."""

from __future__ import annotations

import gzip
import importlib.resources
import json
import shutil
from pathlib import Path
from typing import Any

from generators.errors import GeneratorError
from generators.folder import COMPONENTS, SDXL, pipeline_class

HOME = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in HOME.glob("*.json")))
"""Published architectures, in the JSON files beside this one."""

_START, _END = "<|startoftext|>", "<|endoftext|>"
_MERGES = 49152 - 256 - 2  # of CLIP's vocabulary of 49,408


def write_config(config: str, folder: Path) -> None:
    """Fill a folder with all that a diffusers folder has but the weights.

    Args:
        config: one of `NAMES`, or a diffusers folder, with weights or without, of the same architecture.

    Raises:
        GeneratorError: neither of the two.
    """
    if config in NAMES:
        _write_published(json.loads((HOME / f"{config}.json").read_text(encoding="utf-8")), folder)
    elif (Path(config) / "model_index.json").is_file():
        _copy(Path(config), folder)
    else:
        raise GeneratorError(
            f"config {config!r} is no architecture ({', '.join(NAMES)}) and no diffusers folder (it has no "
            "model_index.json); give one of them"
        )


def _write_published(shape: dict[str, Any], folder: Path) -> None:
    pipeline = shape["pipeline"]
    index: dict[str, Any] = {"_class_name": pipeline}
    classes = {
        "unet": "UNet2DConditionModel",
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "CLIPTextModelWithProjection",
    }
    for component in COMPONENTS[pipeline]:
        if component.startswith("tokenizer"):
            index[component] = ["transformers", "CLIPTokenizer"]
            _write_tokenizer(folder / component, padding=shape["padding"][component == "tokenizer_2"])
        elif component == "scheduler":
            index[component] = ["diffusers", shape[component]["_class_name"]]
            _write(folder / component / "scheduler_config.json", shape[component])
        else:
            text = component.startswith("text")
            index[component] = ["transformers" if text else "diffusers", classes[component]]
            named = {
                "architectures" if text else "_class_name": [classes[component]]
                if text
                else classes[component]
            }
            _write(folder / component / "config.json", {**named, **shape[component]})
    if pipeline == SDXL:
        index["force_zeros_for_empty_prompt"] = True
    _write(folder / "model_index.json", index)


def _copy(source: Path, folder: Path) -> None:
    index = json.loads((source / "model_index.json").read_text(encoding="utf-8"))
    components = COMPONENTS[pipeline_class(source)]
    kept = {key: value for key, value in index.items() if key in components or not isinstance(value, list)}
    _write(folder / "model_index.json", {key: v for key, v in kept.items() if key != "_diffusers_version"})
    for component in components:
        for path in sorted((source / component).glob("*")):
            if path.suffix in (".json", ".txt") and not path.name.endswith(".index.json"):
                (folder / component).mkdir(exist_ok=True)
                shutil.copyfile(path, folder / component / path.name)


def _write_tokenizer(folder: Path, *, padding: str) -> None:
    """CLIP's tokenizer, from the list of merges that open_clip brings."""
    packed = importlib.resources.files("open_clip").joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    merges = gzip.decompress(packed).decode("utf-8").split("\n")[1 : _MERGES + 1]
    from open_clip.tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{one}</w>" for one in letters), *("".join(pair.split()) for pair in merges)]
    vocabulary = {word: number for number, word in enumerate([*words, _START, _END])}
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "unk_token": _END,
        "bos_token": _START,
        "eos_token": _END,
        "pad_token": padding,
    }
    _write(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    _write(folder / "tokenizer_config.json", settings)


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
