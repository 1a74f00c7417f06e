"""The ground stands on nothing of the house; only the loop that trains networks loads torch."""

import subprocess
import sys

import pytest

_LOAD = """
import pkgutil, sys
import promptopt.base
for module in pkgutil.walk_packages(promptopt.base.__path__, "promptopt.base."):
    if module.name not in sys.argv:
        __import__(module.name)
rooms = {name.split(".")[0] if not name.startswith("promptopt.") else ".".join(name.split(".")[:2])
         for name in sys.modules}
print(sorted(rooms & {"torch", "diffusers", "transformers", "optuna", "sklearn", "generators", "evaluation",
                      "studies"} | {room for room in rooms if room.startswith("promptopt.")}))
"""
_ABOUT_TENSORS = tuple(
    f"promptopt.base.training.{name}" for name in ("checkpoint", "denormals", "loop", "order", "place")
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("without", "loaded"),
    [(_ABOUT_TENSORS, "['promptopt.base']"), ((), "['promptopt.base', 'torch']")],
    ids=["most of it", "all of it"],
)
def test_importing_the_ground_loads_no_other_room(without: tuple[str, ...], loaded: str) -> None:
    done = subprocess.run([sys.executable, "-c", _LOAD, *without], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == loaded
