"""The same images by every engine: this process, local processes, Ray actors, whoever of them is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from evaluation.encoders.thumbnail import ThumbnailEncoder
from evaluation.features.elsewhere import OPENER
from evaluation.features.feature_store import encode
from generators import ImageStore, fetch, load
from generators.fetching import Here
from generators.making.makers import Makers
from generators.stores.opening import open_store
from promptopt.testing.engines import EngineSuite, Open
from tests.local_ray import local_ray


class TestHere(EngineSuite):
    @pytest.fixture(scope="class")
    def open_engine(self, generator: Any) -> Open:
        return lambda store: Here(generator, store)


class Elsewhere(EngineSuite):
    """An engine as `--on` names it."""

    on = ""

    @pytest.fixture(scope="class")
    def open_engine(self) -> Iterator[Open]:
        with Makers(
            self.on, device="cpu", batch_size=self.batch_size, encoders=["thumbnail"], features=OPENER
        ) as makers:
            makers.load("embedded")
            yield makers.engine

    def test_features_come_with_the_images(self, engine: Any, generator: Any) -> None:
        for made in engine.make(self.asked(generator, 3, "features"), ahead=3):
            (own,) = encode(ThumbnailEncoder(), [made.image.path])
            np.testing.assert_array_equal(made.features["thumbnail"], own)


@pytest.mark.slow
class TestProcesses(Elsewhere):
    on = "processes:2"

    @pytest.fixture(scope="class")
    def kill_one(self) -> Callable[[], None]:
        def kill() -> None:
            mine = [one for one in psutil.Process().children() if "worker_process" in " ".join(one.cmdline())]
            os.kill(mine[0].pid, signal.SIGKILL)

        return kill


@pytest.mark.slow
class TestRay(Elsewhere):
    on = "ray?workers=2"

    @pytest.fixture(scope="class", autouse=True)
    def cluster(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with local_ray(), pytest.MonkeyPatch.context() as patch:
            patch.setenv("PROMPTOPT_CACHE", str(tmp_path_factory.mktemp("actors")))
            yield

    @pytest.fixture(scope="class")
    def kill_one(self) -> Callable[[], None]:
        return lambda: os.kill(_actors()[0].pid, signal.SIGKILL)

    def test_the_cluster_listens_on_the_loopback_interface_only(self, engine: Any, generator: Any) -> None:
        assert list(engine.make(self.asked(generator, 1, "listening"), ahead=1))
        listening = [
            place.laddr.ip.removeprefix("::ffff:")
            for one in [psutil.Process(), *psutil.Process().children(recursive=True)]
            for place in one.net_connections()
            if place.status == psutil.CONN_LISTEN
        ]
        assert len(listening) > 3  # gcs_server, raylet, actors
        assert set(listening) <= {"127.0.0.1", "::1"}

    def test_the_same_bytes_through_a_url(
        self, open_engine: Any, engine: Any, generator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on machines that share nothing but a bucket: actors and driver keep copies of their own."""
        engine.close()  # its actors have all of the cluster's CPUs
        actors, driver = Path(os.environ["PROMPTOPT_CACHE"]), tmp_path / "driver"
        monkeypatch.setenv("PROMPTOPT_CACHE", str(driver))
        opened = open_engine(open_store(f"file://{tmp_path}/bucket"))
        requests = self.asked(generator, 5, "url")
        made = {one.asked.key: one.image.path for one in opened.make(requests, ahead=5)}
        opened.close()
        here = {
            one.request.key: one.path.read_bytes()
            for one in fetch(ImageStore(tmp_path / "here"), generator, requests)
        }
        assert {key: path.read_bytes() for key, path in made.items()} == here
        for place in (tmp_path / "bucket", actors, driver):
            assert {path.stem: path.read_bytes() for path in place.rglob("*.png")} == here


@pytest.mark.slow
class TestSlurm(Elsewhere):
    """Jobs by submitit's local executor: controllers, which start workers, which talk through files."""

    on = "slurm?jobs=2&cluster=local&chunk=2"

    @pytest.fixture(scope="class", autouse=True)
    def there(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        pytest.importorskip("submitit", reason="needs the extra `slurm`")
        before = Path.cwd()
        os.chdir(tmp_path_factory.mktemp("submitting"))
        yield
        os.chdir(before)

    @pytest.fixture(scope="class")
    def kill_one(self) -> Callable[[], None]:
        def kill() -> None:
            workers = [
                one
                for one in psutil.Process().children(recursive=True)
                if "submitit.core._submit" in " ".join(one.cmdline())
            ]
            os.kill(workers[0].pid, signal.SIGKILL)

        return kill


def _actors() -> list[psutil.Process]:
    return [
        one
        for one in psutil.Process().children(recursive=True)
        if " ".join(one.cmdline()).startswith("ray::_Act")
    ]


def test_the_generator_itself_is_opened_where_images_are_made_here() -> None:
    makers = Makers("here", device="cpu")
    assert type(makers.load("embedded")) is type(load("embedded", device="cpu"))
