"""What is refused before Ray is asked for anything. Ray is a fake here; test_engines.py has the real one."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from generators import GeneratorError
from generators.making.makers import Makers
from generators.making.place import Place
from generators.making.ray import RayCrew, _Actor, check_room, connect
from generators.making.spec import MakerSpec
from tests.generators.micro import build_micro_pipeline

CLUSTER = {"CPU": 64.0, "GPU": 8.0, "accelerator_type:H100": 1.0, "accelerator_type:L4": 2.0}


def fake(monkeypatch: pytest.MonkeyPatch, *, address: str = "127.0.0.1") -> list[dict[str, Any]]:
    """Ray that notes how it is started; `address` is what it takes this machine's for."""
    started: list[dict[str, Any]] = []
    ray = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **how: started.append(how),
        util=SimpleNamespace(get_node_ip_address=lambda: address),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    return started


def test_kinds_that_the_cluster_has_are_waited_for() -> None:
    check_room(Place(kind="ray", count=2, gpus=True, gpu="H100"), CLUSTER)
    check_room(Place(kind="ray", count=2, gpus=True), CLUSTER)
    check_room(Place(kind="ray", count=2), {"CPU": 1.0})


def test_kinds_that_it_does_not_have_are_refused_with_those_that_it_has() -> None:
    with pytest.raises(GeneratorError, match="no GPU of the kind 'A100'; it has H100, L4"):
        check_room(Place(kind="ray", count=2, gpus=True, gpu="A100"), CLUSTER)
    with pytest.raises(GeneratorError, match="no machine of the cluster has a GPU; write workers=3"):
        check_room(Place(kind="ray", count=3, gpus=True), {"CPU": 8.0})


def test_a_cluster_of_this_machine_listens_on_its_loopback_interface(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = fake(monkeypatch)
    connect("", 2)
    (how,) = started
    assert how["_node_ip_address"] == "127.0.0.1"
    assert how["include_dashboard"] is False
    assert how["num_cpus"] >= 2


def test_it_is_not_started_where_it_would_listen_on_all_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    started = fake(monkeypatch, address="192.0.2.7")
    with pytest.raises(GeneratorError, match="listen on all interfaces; set RAY_ENABLE"):
        connect("", 2)
    assert not started


@pytest.mark.parametrize("address", ["10.0.0.7:6379", "ray://cluster.example:10001", "[2001:db8::1]:6379"])
def test_another_machine_without_a_token_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started = fake(monkeypatch)
    with pytest.raises(GeneratorError, match="RAY_AUTH_MODE=token"):
        connect(address, 2)
    assert not started
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    connect(address, 2)
    assert started[0]["address"] == address


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "localhost:6379", "[::1]:6379", "auto"])
def test_this_machine_needs_none(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started = fake(monkeypatch)
    connect(address, 2)
    assert started[0]["address"] == address


@pytest.mark.parametrize("mode", ["", "disabled"])
def test_auto_is_as_safe_as_the_address_that_the_environment_names(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = fake(monkeypatch)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.7:6379")
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with pytest.raises(GeneratorError, match=r"cluster at 10\.0\.0\.7:6379 can run code on it.*token"):
        connect("auto", 2)
    assert not started
    connect("", 2)  # a cluster of its own, whatever the environment names
    assert started[0]["address"] == "local"


def test_secrets_of_this_environment_are_given_to_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray shows a runtime_env to whoever looks at the cluster's dashboard, and keeps it in its logs."""
    secrets = {"HF_TOKEN": "hf_s3cret", "AWS_SECRET_ACCESS_KEY": "aws_s3cret", "WANDB_API_KEY": "wb_s3cret"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    said: list[Any] = fake(monkeypatch)
    ray = sys.modules["ray"]

    def remote(**needs: Any) -> Any:
        said.append(needs)
        return lambda actor: SimpleNamespace(
            remote=lambda *given: said.append(given) or SimpleNamespace(load=SimpleNamespace(remote=object))
        )

    monkeypatch.setattr(ray, "remote", remote, raising=False)
    place = Place(kind="ray", count=2, gpus=True, gpu="H100", address="127.0.0.1:6379")
    spec = MakerSpec(generators=(("embedded", "0" * 64),), device="cuda", store="store")
    RayCrew(spec, place).start()
    (init, needs, given) = said
    assert needs == {"max_restarts": 0, "num_gpus": 1, "num_cpus": 1, "accelerator_type": "H100"}
    assert "runtime_env" not in init
    assert "s3cret" not in repr((init, needs, given))


def test_relative_addresses_are_meant_from_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_micro_pipeline(tmp_path / "here" / "model")
    monkeypatch.chdir(tmp_path / "here")
    with Makers("processes:1", device="cpu") as makers:
        makers.load("model")
        spec = makers.spec(str(tmp_path))
    monkeypatch.chdir(tmp_path)  # as Ray's actors are somewhere else
    assert _Actor(spec.to_json()).load() == [{"ready": True}]
    (said,) = _Actor(replace(spec, folder=str(tmp_path)).to_json()).load()
    assert "model" in said["failed"]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(GeneratorError, match=r"pip install 'promptopt\[ray\]'"):
        connect("", 1)
