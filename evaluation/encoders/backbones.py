"""Networks of torchvision and timm by name, and files of their weights: for features, and for fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evaluation.encoders.base import EncoderError
from promptopt.base.errors import PromptoptError
from promptopt.base.files import file_digest

TIMM, TORCHVISION = "timm:", "torchvision:"
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class InputPolicy:
    """What a network was trained to see.

    Attributes:
        size: height and width in pixels.
        interpolation: "bicubic", "bilinear" or another filter of PIL.
        mean, std: of red, green and blue in 0..1.
    """

    size: tuple[int, int]
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def split_file(address: str) -> tuple[str, str | None]:
    """Architecture and file of ``timm:NAME@FILE`` and its like.

    Example:
        >>> split_file("timm:resnet18.a1_in1k@weights/r18.safetensors"), split_file("timm:resnet18")
        (('timm:resnet18.a1_in1k', 'weights/r18.safetensors'), ('timm:resnet18', None))
    """
    architecture, mark, file = address.partition("@")
    return architecture, file if mark else None


def build_network(
    architecture: str, classes: int, *, error: type[PromptoptError] = EncoderError
) -> nn.Module:
    """A classifier of timm after ``timm:``, or of torchvision (``torchvision:`` may be left out).

    Its weights are random, drawn from torch's global stream.

    Raises:
        EncoderError: (or `error`) no classifier of that name, or one whose training has a second output.
    """
    if architecture.startswith(TIMM):
        import timm

        name = architecture.removeprefix(TIMM)
        if timm.is_model(name):
            network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
            return network
    else:
        from torchvision import models

        name = architecture.removeprefix(TORCHVISION)
        if name in models.list_models(module=models, exclude=("googlenet", "inception*")):
            network = models.get_model(name, weights=None, num_classes=classes)
            return network
    raise error(
        f"{architecture!r} is no network that can be read here; give a classifier of torchvision, such as "
        "resnet18 or convnext_tiny, or timm:NAME"
    )


def input_policy(architecture: str) -> InputPolicy:
    """What the published weights of an architecture see, by timm's or torchvision's own statement."""
    if architecture.startswith(TIMM):
        import timm
        from timm.data import resolve_data_config

        with torch.device("meta"):
            network = timm.create_model(architecture.removeprefix(TIMM), pretrained=False)
        stated = resolve_data_config({}, model=network)
        return InputPolicy(
            tuple(stated["input_size"][1:]),
            stated["interpolation"],
            tuple(stated["mean"]),
            tuple(stated["std"]),
        )
    from torchvision import models

    published = list(models.get_model_weights(architecture.removeprefix(TORCHVISION)))
    if not published:
        return InputPolicy((224, 224), "bilinear", *_IMAGENET)
    seen = published[-1].transforms()
    side = int(seen.crop_size[0])
    return InputPolicy((side, side), seen.interpolation.value, tuple(seen.mean), tuple(seen.std))


def shapes(architecture: str, *, error: type[PromptoptError] = EncoderError) -> dict[str, torch.Size]:
    """Names and shapes of all tensors but those of the last layer, whose classes are a file's own."""
    two, three = (_all_shapes(architecture, classes, error) for classes in (2, 3))
    return {key: shape for key, shape in two.items() if shape == three[key]}


def head_names(architecture: str) -> list[str]:
    """Names of the modules whose size depends on the number of classes."""
    own = shapes(architecture)
    return list(dict.fromkeys(k.rpartition(".")[0] for k in _all_shapes(architecture, 2) if k not in own))


def read_weights(
    file: Path, architecture: str, *, head: bool = False, error: type[PromptoptError] = EncoderError
) -> tuple[dict[str, Tensor], str]:
    """The tensors of a safetensors file and the file's sha256.

    Args:
        head: also those of the last layer, where the file has them.

    Raises:
        EncoderError: (or `error`) a file that is missing, damaged, or of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if file.suffix != ".safetensors":
        raise error(
            f"{file}: weights are read from .safetensors alone; convert the file: "
            f"promptopt convert {file.name} {file.with_suffix('.safetensors').name} --like {architecture}"
        )
    try:
        tensors, digest = load_file(file), file_digest(file)
    except OSError as fault:
        raise error(f"{file}: cannot be read ({fault.strerror or fault}); check the path") from fault
    except SafetensorError as fault:
        raise error(f"{file}: damaged or cut short ({fault}); copy it again") from fault
    check_weights(tensors, architecture, where=str(file), error=error)
    expected = shapes(architecture, error=error)
    return {key: value for key, value in tensors.items() if head or key in expected}, digest


def check_weights(
    tensors: Mapping[str, Tensor],
    architecture: str,
    *,
    where: str,
    error: type[PromptoptError] = EncoderError,
) -> None:
    """Refuse tensors that are not this architecture's; the last layer may have any number of classes.

    Raises:
        EncoderError: (or `error`) a tensor that is missing, unknown, of another shape, or not finite.
    """
    expected = shapes(architecture, error=error)
    last = set(_all_shapes(architecture, 2, error)) - set(expected)
    remedy = f"give the weights of a {architecture}"
    for key in sorted(set(expected) | set(tensors) - last):
        # files that were converted may lack the counters of batch normalization, which nothing reads
        if key not in tensors and not key.endswith("num_batches_tracked"):
            raise error(f"{where}: tensor {key!r} is missing; {remedy}")
        if key in tensors and tensors[key].shape != expected.get(key):
            right = tuple(expected[key]) if key in expected else "no such tensor"
            raise error(
                f"{where}: tensor {key!r} has shape {tuple(tensors[key].shape)}, {architecture} has {right}; "
                f"{remedy}"
            )
        if key in tensors and not torch.isfinite(tensors[key]).all():
            raise error(f"{where}: tensor {key!r} holds values that are not finite")


def renamed(tensors: Mapping[str, Tensor], architecture: str) -> dict[str, Tensor]:
    """The tensors under the architecture's own names, where another port only calls them otherwise.

    Both must list the same kinds (``weight``, ``bias``, ``running_mean``...) of the same shapes in the same
    order, as two ports of one network do; what does not is returned as it is.

    Example:
        >>> import torch
        >>> from torchvision.models import resnet18
        >>> own = {f"net.{k}": v for k, v in resnet18(weights=None).state_dict().items()}
        >>> next(iter(renamed(own, "resnet18")))
        'conv1.weight'
    """
    # the number of classes is the file's: the rows of its last tensor
    rows = next((value.shape[0] for value in reversed(list(tensors.values())) if value.ndim), 2)
    names = _all_shapes(architecture, max(2, rows))
    if set(names) == set(tensors) or len(names) != len(tensors):
        return dict(tensors)
    pairs = list(zip(names.items(), tensors.items(), strict=True))
    alike = all(
        ours[1] == theirs[1].shape and ours[0].rpartition(".")[2] == theirs[0].rpartition(".")[2]
        for ours, theirs in pairs
    )
    return {ours[0]: theirs[1] for ours, theirs in pairs} if alike else dict(tensors)


def _all_shapes(
    architecture: str, classes: int, error: type[PromptoptError] = EncoderError
) -> dict[str, torch.Size]:
    with torch.device("meta"):
        network: Any = build_network(architecture, classes, error=error)
    return {key: value.shape for key, value in network.state_dict().items()}
