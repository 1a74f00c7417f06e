"""`promptopt classify`: what synthetic images are worth to a classifier of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from promptopt.cli._options import AllowEmbedded, Store
from promptopt.cli._text import say, terminal
from promptopt.cli._values import finite, finite_value
from promptopt.formatting.numbers import p_value, points

if TYPE_CHECKING:
    from evaluation.classifier.folders import ImageFiles
    from evaluation.classifier.images import LabeledImages
    from evaluation.classifier.learners import Learner
    from evaluation.classifier.results import ArmRow, ArmsResult
    from promptopt.cli._progress import Bars

_WIDE = 150  # columns of a terminal that every metric fits in
_MAIN = "balanced_accuracy"
_MORE = ("accuracy", "macro_f1", "auroc", "ece")
_RATIOS = (0.5, 1.0, 2.0)


def classify(
    real: Annotated[
        Path, typer.Argument(metavar="REAL", help="Folder of a prepared data set of real images.")
    ],
    synthetic: Annotated[
        Path,
        typer.Argument(
            metavar="SYNTHETIC",
            help="A prepared data set, or a folder with one subfolder of images for each label.",
        ),
    ],
    encoder: Annotated[
        str,
        typer.Option(
            help="Encoder of the probe: embedded, a folder, open_clip:MODEL/TAG, hf:owner/name, "
            "timm:NAME[@FILE], torchvision:NAME@FILE or transformers:ADDRESS."
        ),
    ] = "embedded",
    network: Annotated[
        str,
        typer.Option(
            help="probe: linear, on the encoder's features; small: a small network on pixels; resnet18 or "
            "another classifier of torchvision, or timm:NAME: on pixels. NAME@FILE starts from a file."
        ),
    ] = "probe",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each arm, with seeds from 0 on.")] = 5,
    ratios: Annotated[
        str | None,
        typer.Option(
            help="Synthetic images for each real one in R+S->R. Default: those of 0.5,1,2 that there are "
            "enough synthetic images for."
        ),
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(help="What is trained and tested on what. Default: R->R,S->R,R+S->R,S->S,R->S."),
    ] = None,
    by: Annotated[
        Literal["center"] | None, typer.Option(help="center: also a table for each center.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "--output-dir", help="Folder for arms.json, arms.csv and arms.html.")
    ] = Path("classify"),
    target: Annotated[
        Literal["label", "category"], typer.Option(help="What is told apart in a prepared data set.")
    ] = "label",
    classes: Annotated[
        str | None, typer.Option(help="Only these, with commas between. Default: all.")
    ] = None,
    test_pool: Annotated[
        Literal["test", "validation"], typer.Option(help="Pool of the real images that are tested on.")
    ] = "test",
    held_out: Annotated[
        float,
        typer.Option(
            callback=finite_value,
            help="Share of the synthetic images to test on, where no pool is named test.",
        ),
    ] = 0.25,
    steps: Annotated[int, typer.Option(min=1, help="Networks: optimizer steps, the same in all arms.")] = 300,
    batch_size: Annotated[int, typer.Option(min=2, help="Networks: images per step.")] = 32,
    image_size: Annotated[int, typer.Option(min=16, help="Networks: side of the images in pixels.")] = 64,
    weights: Annotated[
        Path | None,
        typer.Option(help="For --network: .safetensors file to start from. Default: random weights."),
    ] = None,
    allow_embedded: AllowEmbedded = False,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap replicates.")] = 2000,
    store: Store = Path("store"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Train on real (R) or synthetic (S) images, test on either, and compare with real on real.

    Trained on: the pool `reference` of REAL; of SYNTHETIC all but its pool `test`, or all but a held-out
    share where it has no such pool. Tested on: the pool `test` of both. Groups that cross are refused.
    """
    from evaluation.classifier.folders import prepared_files, refuse_copies, split_synthetic, synthetic_files
    from promptopt.base.files import writable_folder
    from promptopt.cli._progress import Bars
    from promptopt.study.guards import refuse_embedded_encoders
    from studies.dataset import read_dataset, share_out

    chosen_ratios = None if ratios is None else _numbers(ratios)
    chosen_arms = None if arms is None else _names(arms)
    data = share_out(read_dataset(real))
    all_real = prepared_files(data, target=target)
    made = synthetic_files(synthetic, target=target)
    if classes is not None:
        all_real, made = (_of_classes(files, _names(classes)) for files in (all_real, made))
    train, test = all_real.of_pools(["reference"]), all_real.of_pools([test_pool])
    made_train, made_test = split_synthetic(made, share=held_out)
    refuse_copies(
        {"real_train": train, "synthetic_train": made_train}, {"real_test": test, "synthetic_test": made_test}
    )
    network, weights = _starting(network, weights)
    if network == "probe":
        refuse_embedded_encoders({"--encoder": [encoder]}, real, allowed=allow_embedded)
    learner = _learner(network, steps=steps, batch_size=batch_size, weights=weights, device=device)
    writable_folder(out, "the results")
    with Bars() as bar:
        reader = _Reader(bar, network, encoder, image_size, store, device)
        result = _compare(
            bar,
            learner,
            [reader.read(files) for files in (train, test)],
            [reader.read(files) for files in (made_train, made_test)],
            seeds=seeds,
            ratios=chosen_ratios,
            arms=chosen_arms,
            by_center=by == "center",
            resamples=resamples,
            cache=out / ".trained",
        )
    facts = {
        "real": {"folder": str(real), "fingerprint": data.fingerprint, "test_pool": test_pool},
        "synthetic": {"folder": str(synthetic), "images": len(made)},
        "target": target,
        "encoder": reader.identity,
        "versions": _versions(),
    }
    _print(result)
    for path in _save(out, result, facts):
        say(path)


class _Reader:
    """Files to what the learner reads: features through the store, or pixels."""

    def __init__(self, bar: Bars, network: str, encoder: str, size: int, store: Path, device: str) -> None:
        self._bar = bar
        self._size = size
        self._features: Any = None
        self.identity: dict[str, Any] = {"image_size": size}
        if network == "probe":
            from evaluation.encoders.load import load_encoder
            from evaluation.features.feature_store import FeatureStore

            self._encoder = load_encoder(encoder, device=device)
            self._features = FeatureStore(store / "features")
            self.identity = {"uri": self._encoder.uri, "fingerprint": self._encoder.fingerprint}
        self._before = 0

    def read(self, files: ImageFiles) -> LabeledImages:
        total = self._before + len(files)
        if self._features is not None:
            inputs = self._features.features(
                self._encoder,
                files.paths,
                on_progress=lambda done: self._bar.show("reading images", self._before + done, total),
            )
        else:
            from evaluation.classifier.network import read_pixels

            inputs = read_pixels(files.paths, self._size)
        self._before = total
        self._bar.show("reading images", total, total)
        return files.labeled(inputs)


def _starting(network: str, weights: Path | None) -> tuple[str, Path | None]:
    """Network and file of weights, which may stand behind the network's name."""
    from evaluation.encoders.backbones import split_file

    network, file = split_file(network)
    if file is not None and weights is not None:
        raise typer.BadParameter(f"--network names the weights {file} and --weights {weights}; give one")
    return network, weights if file is None else Path(file)


def _learner(network: str, *, steps: int, batch_size: int, weights: Path | None, device: str) -> Learner:
    if network in ("probe", "small") and weights is not None:
        raise typer.BadParameter(
            f"--weights belongs to networks by name, such as resnet18; {network} starts from none"
        )
    if network == "probe":
        from evaluation.classifier.learners import ProbeLearner

        return ProbeLearner()
    if network == "small":
        from evaluation.classifier.small_network import SmallNetwork

        return SmallNetwork(steps=steps, batch_size=batch_size)
    from evaluation.classifier.network import NetworkLearner

    return NetworkLearner(
        architecture=network, steps=steps, batch_size=batch_size, weights=weights, device=device
    )


def _compare(
    bar: Bars,
    learner: Learner,
    real: Sequence[LabeledImages],
    synthetic: Sequence[LabeledImages],
    *,
    seeds: int,
    ratios: list[float] | None,
    arms: list[str] | None,
    by_center: bool,
    resamples: int,
    cache: Path,
) -> ArmsResult:
    from evaluation.classifier.arms import ARMS, five_arms

    if ratios is None and len(real[0]):
        most = len(synthetic[0]) / len(real[0])
        ratios = [ratio for ratio in _RATIOS if ratio <= most] or [most]
    return five_arms(
        real[0],
        real[1],
        synthetic_train=synthetic[0],
        synthetic_test=synthetic[1],
        learner=learner,
        seeds=range(seeds),
        ratios=ratios or (),
        arms=arms or ARMS,
        by_center=by_center,
        resamples=resamples,
        cache=cache,
        on_progress=lambda done, total, note: bar.show("training", done, total, note),
    )


def _names(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",")]
    if "" in names:
        raise typer.BadParameter(f"{text!r}: write names with commas between")
    return names


def _numbers(text: str) -> list[float]:
    try:
        return [finite(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write numbers with commas between, such as 0.5,1,2") from None


def _of_classes(files: ImageFiles, names: Sequence[str]) -> ImageFiles:
    from evaluation.classifier.images import ClassifierError

    if unknown := sorted(set(names) - set(files.labels)):
        raise ClassifierError(
            f"--classes: no image of {files.paths[0].parent.parent} is {unknown[0]!r}; "
            f"there are {', '.join(sorted(set(files.labels)))}"
        )
    return files.of_classes(names)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("promptopt", "numpy", "scikit-learn", "scipy", "torch", "torchvision")
    return {name: version(name) for name in names}


def _save(out: Path, result: ArmsResult, facts: dict[str, Any]) -> list[Path]:
    import json

    from promptopt.augmentation.proof.arms_page import arms_page
    from promptopt.base.files import write_text
    from promptopt.formatting.tables import csv_table

    document = json.dumps({**result.to_dict(), **facts}, indent=1, allow_nan=False)
    return [
        write_text(out / "arms.json", document + "\n"),
        write_text(out / "arms.csv", csv_table(*result.table())),
        write_text(out / "arms.html", arms_page(result)),
    ]


def _print(result: ArmsResult) -> None:
    from rich import box
    from rich.table import Table

    console = terminal()
    more = _MORE if console.width >= _WIDE else ()  # the rest is in arms.csv
    for scope in result.scopes:
        rows = result.where(scope=scope)
        table = Table(
            title=f"{scope} test images: {rows[0].test_images} real in {rows[0].test_groups} groups, "
            f"{len(result.classes)} classes",
            title_justify="left",
            caption="In %, with 95 % intervals over test groups and seeds. Difference: from R->R; p adjusted "
            "by Holm. * unreliable: few test groups of a class, fewer than three seeds, or no spread. "
            "- undefined: a class has no test image here.",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
        )
        table.add_column("arm", no_wrap=True)
        table.add_column("images", justify="right", no_wrap=True)
        for name in (_MAIN, *more):
            table.add_column(name.replace("_", " "), justify="right")
        table.add_column("difference", justify="right")
        table.add_column("p", justify="right", no_wrap=True)
        for row in rows:
            cells = [points(row.estimates[name], sign="") for name in (_MAIN, *more)]
            table.add_row(
                row.arm.label, f"{row.train_real}+{row.train_synthetic}", *cells, *_difference(result, row)
            )
        console.print(table)


def _difference(result: ArmsResult, row: ArmRow) -> tuple[str, str]:
    change = result.differences(row).get(_MAIN)
    if change is None:
        return "", ""
    return points(change.estimate), p_value(change.p_holm)
