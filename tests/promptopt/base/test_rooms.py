"""The ground stands on nothing of the house, and loads nothing heavy."""

import subprocess
import sys

_LOAD = """
import pkgutil, sys
import promptopt.base
for module in pkgutil.walk_packages(promptopt.base.__path__, "promptopt.base."):
    __import__(module.name)
rooms = {name.split(".")[0] if not name.startswith("promptopt.") else ".".join(name.split(".")[:2])
         for name in sys.modules}
print(sorted(rooms & {"torch", "diffusers", "transformers", "optuna", "sklearn", "generators", "evaluation",
                      "studies"} | {room for room in rooms if room.startswith("promptopt.")}))
"""


def test_importing_the_ground_loads_neither_torch_nor_another_room() -> None:
    done = subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['promptopt.base']"
