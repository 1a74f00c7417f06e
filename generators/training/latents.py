"""Latents of pictures, cached by what the picture is: none can meet another picture's caption."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from generators.training.images import Pictures
from generators.training.vae import encode
from promptopt.base.files import new_file
from promptopt.base.training.progress import OnProgress, throughput

_SHARD = 1024
_BATCH = 32


def fingerprint(module: torch.nn.Module) -> str:
    """The sha256 of a module's weights: names, types, shapes and bytes."""
    return _digest(module.state_dict())


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name}/{plain.dtype}/{tuple(plain.shape)}/".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class LatentCache:
    """Mean and log-variance of latents in files under ``folder``, by sha256 of the picture's file.

    The folder's name within carries the VAE's fingerprint and the size, so neither can be mixed up. Nothing
    is ever looked up by position or by step.
    """

    def __init__(self, folder: Path, vae: AutoencoderKL, *, size: int) -> None:
        self.vae, self.size = vae, size
        self.folder = folder / f"{fingerprint(vae)[:32]}-{size}"
        self._latents: dict[str, torch.Tensor] = {}
        for shard in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(shard, "pt") as stream:
                    latents = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118
                    whole = (stream.metadata() or {}).get("sha256") == _digest(latents)
            except (OSError, SafetensorError):
                whole = False
            if whole:
                self._latents.update(latents)
            else:  # encoded again
                shard.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._latents)

    def fill(
        self, pictures: Pictures, *, mirror: bool = False, on_progress: OnProgress | None = None
    ) -> None:
        """Encode what is missing; shards are written as they fill, so that a kill loses little."""
        wanted: dict[str, int] = {}
        for index, key in enumerate(pictures.keys):
            if self._name(key, mirror) not in self._latents:
                wanted.setdefault(key, index)
        missing, begun, shard = list(wanted.items()), time.perf_counter(), {}
        for start in range(0, len(missing), _BATCH):
            part = missing[start : start + _BATCH]
            mean, logvar = encode(self.vae, pictures.batch([index for _, index in part], mirror=mirror))
            for row, (key, _) in enumerate(part):
                shard[self._name(key, mirror)] = torch.stack([mean[row], logvar[row]])
            done = start + len(part)
            if len(shard) >= _SHARD or done == len(missing):
                self._write(shard)
                shard = {}
            if on_progress is not None:
                on_progress(throughput(done, len(missing), begun, stage="latents"))

    def get(self, keys: Sequence[str], *, mirror: Sequence[bool] | None = None) -> torch.Tensor:
        """Mean and log-variance of pictures by their sha256: float32 (2, n, c, h, w). May raise KeyError."""
        flags = [False] * len(keys) if mirror is None else mirror
        rows = [self._latents[self._name(key, flag)] for key, flag in zip(keys, flags, strict=True)]
        return torch.stack(rows, dim=1)

    def _name(self, key: str, mirror: bool) -> str:
        return f"{key}.mirror" if mirror else key

    def _write(self, shard: dict[str, torch.Tensor]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256("".join(sorted(shard)).encode()).hexdigest()[:32]
        with new_file(self.folder / f"{name}.safetensors") as partial:  # other processes write the same
            save_file(shard, partial, metadata={"sha256": _digest(shard)})
        self._latents.update(shard)
