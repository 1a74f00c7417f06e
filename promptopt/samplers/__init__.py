"""Samplers for Optuna studies of your own: ``from promptopt.samplers import SlotSampler``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptopt.search.slot_sampler import SlotSampler

__all__ = ["SlotSampler"]


def __getattr__(name: str) -> Any:
    """Import it where it is used: Optuna takes a while."""
    if name == "SlotSampler":
        from promptopt.search.slot_sampler import SlotSampler

        return SlotSampler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
