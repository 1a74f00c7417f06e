"""Terms of the score that installed packages register by name."""

from __future__ import annotations

from collections.abc import Iterable

from promptopt.base import plugins
from promptopt.config.study_file import StudyError
from promptopt.scoring.objective import ImageMetric


def registered_metrics(names: Iterable[str]) -> tuple[ImageMetric, ...]:
    """The metrics of these names, each with the name, weight and version that its package gives it.

    Raises:
        StudyError: no installed package registers the name, or what it registers is no `ImageMetric`.
        PluginError: the package that registers it cannot be loaded.
    """
    return tuple(_load(name) for name in names)


def _load(name: str) -> ImageMetric:
    registered = plugins.find(plugins.METRICS, name)
    if registered is None:
        known = ", ".join(plugins.names(plugins.METRICS)) or "none"
        raise StudyError(
            f"is registered by no installed package (there are: {known})",
            key="metrics",
            value=name,
            remedy="Install the package, or remove the name.",
        )
    metric = registered if isinstance(registered, ImageMetric) else registered()
    if not isinstance(metric, ImageMetric):
        raise StudyError(
            f"gave a {type(metric).__name__}, which is no promptopt.ImageMetric", key="metrics", value=name
        )
    return metric
