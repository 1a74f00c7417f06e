"""Where images are made, as people write it: `here`, `processes:N`, `ray:ADDRESS?gpus=8`, `slurm?jobs=8`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from generators.errors import GeneratorError

_WRITE = "write here, processes:4, ray, ray:ADDRESS?gpus=8&gpu=H100, or slurm:PARTITION?jobs=8&gpus=1&time=4h"
_MINUTES = {"m": 1, "h": 60, "d": 24 * 60}
_NAME = re.compile(r"[\w.,:|&*+=()\[\]-]+", re.ASCII)
_NAMES = ("account", "qos", "constraint", "gpu")
_SLURM = ("jobs", "gpus", "time", "cpus", "mem", "folder", "chunk", "cluster", *_NAMES)


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What each Slurm job asks for.

    Attributes:
        minutes: after which Slurm ends it; another one then takes its place.
        cpus: None for the threads that the driver would compute with, or 4 beside a GPU.
        memory_gb: None for the cluster's default.
        account, qos, constraint: as `sbatch` takes them; "" for the cluster's default.
        folder: for logs and for what driver and jobs say to each other, on a disk that they share.
        chunk: images handed out at a time; None for eight batches.
        local: whether the jobs are processes of this machine, to try things out where there is no Slurm.
    """

    minutes: int = 60
    cpus: int | None = None
    memory_gb: int | None = None
    account: str = ""
    qos: str = ""
    constraint: str = ""
    folder: str = "slurm"
    chunk: int | None = None
    local: bool = False


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where images are made.

    Attributes:
        kind: "here", "processes", "ray" or "slurm".
        count: workers side by side.
        address: of a Ray cluster; "" starts one on this machine. Or a partition of Slurm; "" for its default.
        gpus: whether each worker has a GPU of its own (Ray, Slurm).
        gpu: the kind of GPU that makes all images, in the cluster's words ("H100"); "" takes any.
        job: what each job asks Slurm for.
    """

    kind: str = "here"
    count: int = 1
    address: str = ""
    gpus: bool = False
    gpu: str = ""
    job: JobOptions = JobOptions()

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
            >>> Place.parse("slurm:gpu?jobs=8&gpus=1&time=4h").job.minutes
            240
        """
        head, _, query = text.partition("?")
        kind, _, rest = head.partition(":")
        if text == "here":
            return cls()
        if kind == "processes" and not query:
            return cls(kind=kind, count=_number(text, "the number of processes", rest))
        if kind not in ("ray", "slurm"):
            raise GeneratorError(f"--on is {text!r}; {_WRITE}")
        known = _SLURM if kind == "slurm" else ("gpus", "gpu", "workers")
        pairs = parse_qsl(query, keep_blank_values=True)
        settings = dict(pairs)
        if len(settings) < len(pairs) or not set(settings) <= set(known):
            listed = f"{', '.join(known[:-1])} and {known[-1]}"
            raise GeneratorError(f"--on {text!r}: settings are {listed}, each at most once")
        return (_slurm if kind == "slurm" else _ray)(text, rest, settings)


def _ray(text: str, address: str, settings: dict[str, str]) -> Place:
    if ("gpus" in settings) == ("workers" in settings):
        raise GeneratorError(
            f"--on {text!r}: say gpus=8 for 8 workers with a GPU each, or workers=4 for 4 on the CPU"
        )
    if "gpu" in settings and "gpus" not in settings:
        raise GeneratorError(f"--on {text!r}: gpu={settings['gpu']} needs gpus=N, the number of them")
    name = "gpus" if "gpus" in settings else "workers"
    return Place(
        kind="ray",
        count=_number(text, name, settings[name]),
        address=address,
        gpus=name == "gpus",
        gpu=settings.get("gpu", ""),
    )


def _slurm(text: str, partition: str, settings: dict[str, str]) -> Place:
    if "jobs" not in settings:
        raise GeneratorError(f"--on {text!r}: say jobs=8, the number of jobs side by side")
    if settings.get("gpus", "0") not in ("0", "1"):
        raise GeneratorError(
            f"--on {text!r}: gpus is {settings['gpus']!r}, and a job computes on one GPU; write gpus=1, and "
            "as many jobs as there are to be GPUs"
        )
    gpus = settings.get("gpus") == "1"
    if "gpu" in settings and not gpus:
        raise GeneratorError(f"--on {text!r}: gpu={settings['gpu']} needs gpus=1")
    for name, value in [("the partition", partition), *((one, settings.get(one, "")) for one in _NAMES)]:
        if value and not _NAME.fullmatch(value):  # it goes into a script
            raise GeneratorError(f"--on {text!r}: {name} is {value!r}, which is no name of Slurm's")
    if settings.get("cluster", "slurm") not in ("slurm", "local"):
        raise GeneratorError(
            f"--on {text!r}: cluster is {settings['cluster']!r}; write local, or leave it out"
        )
    numbers = {
        name: _number(text, name, settings[name].removesuffix(end))
        for name, end in {"cpus": "", "mem": "GB", "chunk": ""}.items()
        if name in settings
    }
    return Place(
        kind="slurm",
        count=_number(text, "jobs", settings["jobs"]),
        address=partition,
        gpus=gpus,
        gpu=settings.get("gpu", ""),
        job=JobOptions(
            minutes=_minutes(text, settings.get("time", "1h")),
            cpus=numbers.get("cpus"),
            memory_gb=numbers.get("mem"),
            account=settings.get("account", ""),
            qos=settings.get("qos", ""),
            constraint=settings.get("constraint", ""),
            folder=settings.get("folder") or "slurm",
            chunk=numbers.get("chunk"),
            local=settings.get("cluster") == "local",
        ),
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


def _minutes(text: str, value: str) -> int:
    number, unit = value[:-1], value[-1:]
    if unit not in _MINUTES:
        raise GeneratorError(f"--on {text!r}: time is {value!r}; write 30m, 4h or 2d")
    return _number(text, "time", number) * _MINUTES[unit]
