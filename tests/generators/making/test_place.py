"""How people write where images are made."""

import pytest

from generators import GeneratorError
from generators.making.place import JobOptions, Place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("here", Place()),
        ("processes:12", Place(kind="processes", count=12)),
        ("ray?workers=3", Place(kind="ray", count=3)),
        ("ray?gpus=8&gpu=H100", Place(kind="ray", count=8, gpus=True, gpu="H100")),
        ("ray:10.0.0.7:6379?gpus=2", Place(kind="ray", count=2, gpus=True, address="10.0.0.7:6379")),
        ("ray:auto?workers=2", Place(kind="ray", count=2, address="auto")),
        ("slurm?jobs=3", Place(kind="slurm", count=3)),
        (
            "slurm:gpu?jobs=8&gpus=1&gpu=h100&time=2d&cpus=6&mem=32GB&folder=logs&chunk=64&account=lab",
            Place(
                kind="slurm",
                count=8,
                address="gpu",
                gpus=True,
                gpu="h100",
                job=JobOptions(minutes=2880, cpus=6, memory_gb=32, folder="logs", chunk=64, account="lab"),
            ),
        ),
        ("slurm?jobs=1&cluster=local&time=30m", Place(kind="slurm", job=JobOptions(minutes=30, local=True))),
    ],
)
def test_places_are_read(text: str, place: Place) -> None:
    assert Place.parse(text) == place


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "write here, processes:4"),
        ("there", "'there'; write here, processes:4"),
        ("here:2", "write here"),
        ("processes", "number of processes is ''"),
        ("processes:0", "number of processes is '0'"),
        ("processes:-1", "'-1'"),
        ("processes:two", "'two'"),
        ("processes:\u0664", "number of processes"),
        ("processes:2?gpus=1", "write here"),
        ("ray", "say gpus=8"),
        ("ray?gpus=2&workers=2", "say gpus=8"),
        ("ray?gpus=2&gpus=3", "at most once"),
        ("ray?cpus=2", "settings are gpus, gpu and workers"),
        ("ray?workers=2&gpu=H100", "gpu=H100 needs gpus=N"),
        ("ray?gpus=many", "gpus is 'many'"),
        ("slurm", "say jobs=8"),
        ("slurm?jobs=0", "jobs is '0'"),
        ("slurm?jobs=2&gpus=4", "a job computes on one GPU; write gpus=1"),
        ("slurm?jobs=2&gpu=h100", "gpu=h100 needs gpus=1"),
        ("slurm?jobs=2&time=90", "time is '90'; write 30m, 4h or 2d"),
        ("slurm?jobs=2&time=-1h", "time is '-1'"),
        ("slurm?jobs=2&mem=much", "mem is 'much'"),
        ("slurm?jobs=2&workers=2", "settings are jobs, gpus, time"),
        ("slurm?jobs=2&cluster=moon", "cluster is 'moon'"),
        ("slurm?jobs=2&account=lab%0Arm%20-r", "no name of Slurm's"),
        ("slurm:a b?jobs=2", "the partition is 'a b', which is no name of Slurm's"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(GeneratorError) as caught:
        Place.parse(text)
    assert said in str(caught.value)
