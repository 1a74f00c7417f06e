"""A script of the organizers' shape in our own words, and a machine without a network to run it on.

The shape: two sections between markers, names that the text before them defines, a count of the images after.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import torch
from PIL import Image
from transformers import ViTConfig, ViTImageProcessor, ViTModel

PROMPTS = ("a polyp in the center", "one polyp")
_FLAG, _PEN = "\N{CHEQUERED FLAG}", "\N{PENCIL}\N{VARIATION SELECTOR-16}"
TEMPLATE = f'''\
import json
import os
import torch
import requests
from diffusers import DiffusionPipeline
from tqdm import tqdm

# the prompts — naïvely fetched
test_prompts = requests.get("https://example.org/prompts").json()
device = "cuda" if torch.cuda.is_available() else "cpu"

# {_PEN}{_PEN}---- EDIT SECTION 1: WHO ----{_PEN}#

SUBMISSION_INFO = {{
    "Participant_Names": "Sample Person",
    "Affiliations": "Sample Institute",
    "Contact_emails": ["sample@example.org"],
    "Team_Name": "Sample team",
    "Country": "Norway",
    "Notes_to_organizers": """optional
    text""",
}}
hf_pipe = DiffusionPipeline.from_pretrained("sample/model")

# {_FLAG}---- END WHO ----{_FLAG}#

num_per_prompt = 10
output_folder = "generated"
os.makedirs(output_folder, exist_ok=True)

# {_PEN}____ EDIT SECTION 2: DRAW ____{_PEN}#
hf_pipe(test_prompts)
# {_FLAG}____ END DRAW ____{_FLAG}#

# not to be changed
files = os.listdir(output_folder)
assert len(files) == len(test_prompts) * num_per_prompt, len(files)
with open("predictions_2.json", "w") as f:
    json.dump(SUBMISSION_INFO, f)
'''
INFO = """\
Participant_Names: A. Person
Affiliations: 'University "of" Somewhere'
Contact_emails: [a.person@example.org]
Team_Name: Team's \\name
Country: Norway
Notes_to_organizers: |
  the "validation" pool of huggingface.co/datasets/x
  SimulaMet/Kvasir-VQA-test, '''quoted''' and {braced}
"""
_SITE = """
import json, os
import huggingface_hub, requests

PROMPTS = {prompts!r}
REAL = {{"1": ["r0", "r1", "r2", "r3"], "2": ["r0", "r1", "r2", "r3"]}}
NESTED = {{"r0": {{"pair": list(PROMPTS)}}}}


class _Answer:
    def __init__(self, value):
        self.json = lambda: value


def get(url, *args, **kwargs):
    names = {{"real_mapping": REAL, "imagen-test": NESTED, "prompts": list(PROMPTS)}}
    return _Answer(names[url.rsplit("/", 1)[-1]])


def _note(name):
    def call(*args, **kwargs):
        with open(os.path.join(os.path.dirname(__file__), "calls.jsonl"), "a") as f:
            words = [word for word in args if isinstance(word, str)]
            f.write(json.dumps([name, words, kwargs]) + "\\n")
    return call


_download = huggingface_hub.hf_hub_download


def hf_hub_download(repo_id, filename, **kwargs):
    if repo_id != "SimulaMet/Kvasir-VQA-private":
        return _download(repo_id, filename, **kwargs)
    place = os.path.join(os.path.dirname(__file__), filename)
    with open(place, "w") as f:
        json.dump({{"real_mapping": REAL, "imagen-test": NESTED}}[filename], f)
    return place


requests.get = get
huggingface_hub.whoami = lambda *args, **kwargs: {{"name": "tester"}}
huggingface_hub.hf_hub_download = hf_hub_download
huggingface_hub.HfApi.update_repo_settings = _note("update_repo_settings")
huggingface_hub.grant_access = _note("grant_access")
"""
_DATASETS = '''
"""As much of `datasets` as the organizers' script calls."""
import numpy as np
from PIL import Image


class Dataset:
    def __init__(self, columns):
        self._columns = columns

    @classmethod
    def from_dict(cls, columns):
        return cls(columns)

    def __len__(self):
        return len(next(iter(self._columns.values())))

    def __getitem__(self, name):
        return self._columns[name]

    def filter(self, keep):
        rows = [i for i in range(len(self)) if keep({k: v[i] for k, v in self._columns.items()})]
        return Dataset({k: [v[i] for i in rows] for k, v in self._columns.items()})

    def map(self, function, batched, batch_size):
        made = {}
        for start in range(0, len(self), batch_size):
            batch = {k: v[start:start + batch_size] for k, v in self._columns.items()}
            for name, values in function(batch).items():
                made.setdefault(name, []).extend(np.asarray(values).tolist())
        return Dataset({**self._columns, **made})


def load_dataset(name, split):
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(4)]
    return Dataset({"img_id": [f"r{i}" for i in range(4)], "image": images})
'''
_CLIENT = """
import ast, glob, importlib.util, json, os, shutil
from datetime import datetime, timezone

handle_file = str


def _received(repo_type, path_or_fileobj, path_in_repo, repo_id):
    place = os.path.join(os.path.dirname(__file__), "received", path_in_repo)
    os.makedirs(os.path.dirname(place))
    shutil.copy(path_or_fileobj, place)


def _portal(name):
    # a function of the organizers' server, as it stands in their package
    folder = os.path.dirname(importlib.util.find_spec("medvqa").origin)
    with open(os.path.join(folder, "competitions", "gi-2025", "submission_portal.py"), encoding="utf-8") as f:
        tree = ast.parse(f.read())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    known = {
        "json": json, "os": os, "datetime": datetime, "timezone": timezone, "upload_file": _received,
        "SUBMISSION_REPO": "a/b", "refresh_submissions": lambda: None,
    }
    exec(compile(tree, "submission_portal.py", "exec"), known)
    return known[name]


class Client:
    def __init__(self, name):
        pass

    def predict(self, api_name, **kwargs):
        return _portal(api_name.strip("/"))(**kwargs)
"""


class Machine:
    """A hub cache, stubs of what talks to a network, and a `python` that installs nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._stubs = root / "stubs"
        self._stubs.mkdir(parents=True)
        (self._stubs / "sitecustomize.py").write_text(_SITE.format(prompts=PROMPTS))
        (self._stubs / "datasets.py").write_text(_DATASETS)
        (self._stubs / "gradio_client.py").write_text(_CLIENT)
        binaries = root / "bin"
        binaries.mkdir()
        python = binaries / "python"
        python.write_text(
            dedent(f"""\
            #!/bin/sh
            if [ "$1" = -m ] && [ "$2" = pip ]; then exit 0; fi
            exec {sys.executable} "$@"
            """)
        )
        python.chmod(0o755)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
            "HF_HOME": str(root / "hub"),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join([str(self._stubs), os.environ.get("PYTHONPATH", "")]),
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }

    def upload(self, folder: Path, repository: str) -> Path:
        """As `hf upload` and a download would leave it in the cache; returns the snapshot."""
        place = self.root / "hub" / "hub" / f"models--{repository.replace('/', '--')}"
        commit = "0123456789abcdef0123456789abcdef01234567"
        snapshot = shutil.copytree(folder, place / "snapshots" / commit)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(commit)
        return snapshot

    def upload_encoder(self, repository: str) -> None:
        """A tiny ViT with random weights in the place of BiomedCLIP's."""
        folder = self.root / "encoder"
        torch.manual_seed(0)
        config = ViTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=32
        )
        ViTModel(config).save_pretrained(folder)
        ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
        self.upload(folder, repository)

    @property
    def hub_calls(self) -> list[tuple[str, list[str], dict[str, object]]]:
        """What the hub was asked to change: function, its words, its keywords."""
        file = self._stubs / "calls.jsonl"
        return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def received(self) -> list[Path]:
        """What the organizers' server took."""
        return sorted((self._stubs / "received").rglob("*.json"))

    def python(self, *words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python there."""
        return subprocess.run(
            ["python", *map(str, words)],
            cwd=cwd,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=240,
        )


def pixels(path: Path) -> Image.Image:
    """RGB."""
    with Image.open(path) as image:
        return image.convert("RGB")


def read_json(path: Path) -> dict[str, object]:
    """Of a file."""
    content: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return content
