"""Generators, encoders and metrics of another package, loaded by the name that its entry points give."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from evaluation import EncoderError, load_encoder
from evaluation.encoders.load import load_text_encoder
from generators import GeneratorError, load
from promptopt import StudyError
from promptopt.base.plugins import PluginError
from promptopt.config.study_file import study_from_mapping
from promptopt.scoring.registered import registered_metrics
from promptopt.study.run import run_study, show
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, study, write_squares

MODULE = """
import numpy as np
from promptopt import ImageMetric
from tests.promptopt.fakes import ColorEncoder, SquareGenerator

def generator(rest, *, device, **settings):
    made = SquareGenerator(uri="squares:" + rest)
    made.device = device
    return made

def encoder(rest, *, device):
    return ColorEncoder(uri="colors:" + rest)

def red(images):
    return [float(np.asarray(image)[..., 0].mean()) for image in images]

REDNESS = ImageMetric("redness", red, version="2")

def make_metric():
    return ImageMetric("blackness", lambda images: [-value for value in red(images)])

def wrong(*rest, **settings):
    return "neither"
"""

ENTRY_POINTS = """
[promptopt.generators]
squares = {module}:generator
nothing = {module}:wrong
gone = {module}:no_such_function

[promptopt.encoders]
colors = {module}:encoder
nothing = {module}:wrong

[promptopt.metrics]
redness = {module}:REDNESS
blackness = {module}:make_metric
nothing = {module}:wrong
"""


def install(folder: Path, package: str) -> None:
    """What pip would leave of a package: a module, and its metadata with entry points."""
    module = package.replace("-", "_")
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(MODULE)
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS.format(module=module))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, with one that brings plug-ins."""
    folder = tmp_path / "site"
    install(folder, "colored-squares")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "colored_squares", raising=False)
    return folder


def test_generator_is_loaded_by_name_with_the_rest_of_its_address(site: Path) -> None:
    generator = load("squares:big/ones@2", device="cpu")
    assert isinstance(generator, SquareGenerator)
    assert generator.uri == "squares:big/ones@2"
    assert generator.device == "cpu"  # type: ignore[attr-defined]


def test_encoder_is_loaded_by_name(site: Path) -> None:
    encoder = load_text_encoder("colors:")
    assert isinstance(encoder, ColorEncoder)
    assert encoder.uri == "colors:"


def test_metrics_are_objects_or_functions_that_make_one(site: Path) -> None:
    metrics = registered_metrics(["redness", "blackness"])
    assert [(metric.name, metric.version) for metric in metrics] == [("redness", "2"), ("blackness", "1")]


@pytest.mark.slow
def test_a_study_file_names_all_three(site: Path, tmp_path: Path) -> None:
    content = study(tmp_path, data=str(write_squares(tmp_path / "data", each=10)))
    config = study_from_mapping(
        {**content, "generator": {"uri": "squares:x"}, "encoder": "colors:y", "metrics": ["redness"]}
        | {"search": {"trials": 4, "images": 4, "racing": False}, "confirm": {"top": 1, "images": 4}},
        base=tmp_path,
    )
    result = run_study(config, runs=tmp_path / "runs", store=tmp_path / "store")
    assert result.prompts.generator.uri == "squares:x"
    trials = show(result.folder).trials
    assert len(trials) == 4
    assert all(np.isfinite(trial.per_image["redness"]).all() for trial in trials)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (
            lambda: load("nosuch:x"),
            GeneratorError,
            r"no .* registers a generator 'nosuch'.*squares",
        ),
        (lambda: load_encoder("nosuch:x"), EncoderError, r"registers an encoder 'nosuch'.*colors"),
        (
            lambda: registered_metrics(["nosuch"]),
            StudyError,
            r"'nosuch' is registered by no .*blackness",
        ),
        (lambda: load("nothing:"), GeneratorError, "nothing:: the plug-in gave a str"),
        (lambda: load_encoder("nothing:"), EncoderError, "nothing:: the plug-in gave a str"),
        (lambda: registered_metrics(["nothing"]), StudyError, "'nothing' gave a str"),
        (
            lambda: load("gone:"),
            PluginError,
            r"gone: cannot be .*\(colored-squares\).*no_such_function",
        ),
    ],
)
def test_what_is_wrong_with_a_plug_in_is_said(call, error, said, site: Path) -> None:
    with pytest.raises(error, match=said):
        call()


def test_two_packages_of_one_name_are_refused(site: Path) -> None:
    install(site, "more-squares")
    with pytest.raises(PluginError, match=r"squares.*registered 2 times.*colored-squares.*more-squares"):
        load("squares:")


def test_own_addresses_cannot_be_taken_over(site: Path) -> None:
    (site / "colored_squares-1.0.dist-info" / "entry_points.txt").write_text(
        "[promptopt.encoders]\nthumbnail = colored_squares:wrong\nembedded = colored_squares:wrong\n"
    )
    assert load_encoder("thumbnail").dim == 193
