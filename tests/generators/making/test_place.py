"""How people write where images are made."""

import pytest

from generators import GeneratorError
from generators.making.place import Place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("here", Place()),
        ("processes:12", Place(kind="processes", count=12)),
        ("ray?workers=3", Place(kind="ray", count=3)),
        ("ray?gpus=8&gpu=H100", Place(kind="ray", count=8, gpus=True, gpu="H100")),
        ("ray:10.0.0.7:6379?gpus=2", Place(kind="ray", count=2, gpus=True, address="10.0.0.7:6379")),
        ("ray:auto?workers=2", Place(kind="ray", count=2, address="auto")),
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
    ],
)
def test_anything_else_is_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(GeneratorError) as caught:
        Place.parse(text)
    assert said in str(caught.value)
