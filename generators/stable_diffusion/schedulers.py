"""Samplers by name, built on a model's own noise schedule."""

from __future__ import annotations

import inspect
from typing import Any

from generators.errors import GeneratorError

# name -> (diffusers class, settings laid over the folder's scheduler configuration)
_SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "dpmpp_2m": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": False},
    ),
    "dpmpp_2m_karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True},
    ),
    "dpmpp_2m_sde": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "use_karras_sigmas": False},
    ),
    "dpmpp_2m_sde_karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "use_karras_sigmas": True},
    ),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
}

NAMES: tuple[str, ...] = ("native", *_SCHEDULERS)
"""Every sampler name; "native" is the folder's own scheduler, unchanged."""


def check_name(name: str) -> None:
    """Raises GeneratorError when `name` is no sampler's name."""
    if name not in NAMES:
        raise GeneratorError(f"unknown scheduler {name!r}; known: {', '.join(NAMES)}")


def recipe(name: str) -> tuple[str, dict[str, Any]] | None:
    """diffusers' class and the settings laid over a model's own schedule; None for "native".

    Raises GeneratorError when `name` is no sampler's name.
    """
    check_name(name)
    if name == "native":
        return None
    class_name, settings = _SCHEDULERS[name]
    return class_name, dict(settings)


def make_scheduler(name: str, native: Any) -> Any:
    """A fresh sampler with the noise schedule, prediction type and zero-SNR setting of `native`.

    `native` is the folder's diffusers scheduler; it is not changed. Raises GeneratorError for an unknown
    name, and for a sampler that would drop the model's zero-terminal-SNR schedule in silence.
    """
    check_name(name)
    if name == "native":
        return type(native).from_config(native.config)
    import diffusers

    class_name, settings = _SCHEDULERS[name]
    scheduler_class = getattr(diffusers, class_name)
    parameters = inspect.signature(scheduler_class.__init__).parameters
    if native.config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in parameters:
        raise GeneratorError(
            f"scheduler {name!r} does not know the zero-terminal-SNR schedule this model was trained with "
            "(rescale_betas_zero_snr in its scheduler_config.json); take ddim, dpmpp_2m, euler or unipc"
        )
    return scheduler_class.from_config(native.config, **settings)
