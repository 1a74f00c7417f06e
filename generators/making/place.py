"""Where images are made, as people write it: `here`, `processes:N`, `ray[:ADDRESS]?gpus=8&gpu=H100`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

from generators.errors import GeneratorError

_WRITE = "write here, processes:4, ray, or ray:ADDRESS?gpus=8&gpu=H100"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where images are made.

    Attributes:
        kind: "here", "processes" or "ray".
        count: workers side by side.
        address: of a Ray cluster; "" starts one on this machine.
        gpus: whether each worker has a GPU of its own (Ray).
        gpu: the kind of GPU that makes all images, in Ray's words ("H100"); "" takes any.
    """

    kind: str = "here"
    count: int = 1
    address: str = ""
    gpus: bool = False
    gpu: str = ""

    @classmethod
    def parse(cls, text: str) -> Place:
        """The place that `--on` names.

        Raises:
            GeneratorError: an unknown kind or setting, or a number that is none.

        Example:
            >>> Place.parse("processes:4").count
            4
            >>> Place.parse("ray:10.0.0.1:6379?gpus=8&gpu=H100").address
            '10.0.0.1:6379'
        """
        head, _, query = text.partition("?")
        kind, _, rest = head.partition(":")
        if text == "here":
            return cls()
        if kind == "processes" and not query:
            return cls(kind=kind, count=_number(text, "the number of processes", rest))
        if kind != "ray":
            raise GeneratorError(f"--on is {text!r}; {_WRITE}")
        pairs = parse_qsl(query, keep_blank_values=True)
        settings = dict(pairs)
        if len(settings) < len(pairs) or not set(settings) <= {"gpus", "gpu", "workers"}:
            raise GeneratorError(f"--on {text!r}: settings are gpus, gpu and workers, each at most once")
        if ("gpus" in settings) == ("workers" in settings):
            raise GeneratorError(
                f"--on {text!r}: say gpus=8 for 8 workers with a GPU each, or workers=4 for 4 on the CPU"
            )
        if "gpu" in settings and "gpus" not in settings:
            raise GeneratorError(f"--on {text!r}: gpu={settings['gpu']} needs gpus=N, the number of them")
        name = "gpus" if "gpus" in settings else "workers"
        return cls(
            kind=kind,
            count=_number(text, name, settings[name]),
            address=rest,
            gpus=name == "gpus",
            gpu=settings.get("gpu", ""),
        )


def with_workers(on: str, workers: int) -> str:
    """The place, where `workers` may stand for so many processes.

    Raises:
        GeneratorError: no number of workers, or both a place and workers.

    Example:
        >>> with_workers("here", 4), with_workers("ray?gpus=2", 1)
        ('processes:4', 'ray?gpus=2')
    """
    if workers < 1:
        raise GeneratorError(f"workers is {workers}; give 1 or more.")
    if workers > 1 and on != "here":
        raise GeneratorError(f"workers is {workers}, and images are made on {on}; give one of the two.")
    return on if workers == 1 else f"processes:{workers}"


def _number(text: str, what: str, value: str) -> int:
    if not value.isascii() or not value.isdecimal() or not 1 <= int(value) <= 10_000:
        raise GeneratorError(f"--on {text!r}: {what} is {value!r}; {_WRITE}")
    return int(value)
