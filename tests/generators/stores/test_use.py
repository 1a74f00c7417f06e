"""Stores in use: one of the version before, `fetch`, commands, other processes."""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from generators import ImageStore, StoreError, fetch
from generators.making.makers import Makers
from generators.stores.opening import open_store
from generators.stores.shards import ShardStore
from promptopt.cli.main import main
from tests.generators.fake import FakeGenerator, fake_image

# What ImageStore wrote before there were stores by URL.
OLD_PNG = base64.b85decode(
    "iBL{Q4GJ0x0000DNk~Le00008000082m$~A084Et+yDRo4s=CWbaQ!bbZBLCX=4C%a&={|hHG2^000<tMObuGZ)S9NVRB^vaB^"
    ">LaCC2QbRaM;F)lC>%20>^009wnMObulWpQ<7b94ZEB4lNDX=7y~IwE6mbs{VxWOR9OWg<EvW^8X^bTcv{EFx!RZe?;|bZ>GZI"
    "wCMIFfcGMFfcGMFfcGMFfcGMFfcGMFfcGMFfcGMFfcGMFfcGMFfcGMFfcGMFfcGMFfcGMFfcGMFfcGMFfbx4B4>4JWMOV&Wg<E"
    ";E-)-2Xk}?<XmlbvI4mM=WoKb@X?A5_aB^>LaC9O%B6MYVbRsMwaB^>LaC9O%B4HqKZ)|yRAY64YFl9L)Ty-{PGBP48B6DMCWn"
    "^`1WpW}qB4lJ~Z6Yipb7f^@B04iHB6D<QaC0I$GAtr?WpZ<AZ*FrUIwEFaYh^t#A}k_zX=HS0B04yILm#d;0001=X;fHraA9&`"
    "ZDn+2a&rIx0001CAaHMNd2k@ZsUYUOq6$uBXJK?{c4Z)Na&K*LbUGk(Wq5Q7Q*>o;b2=b0EFe>1ZE$R5aylSHL`h97AVWq+Aai"
    "43Y-KtiF)SccWo2YKATul=Q)zl-Iv_ZBI4mGdZ)9a`AZTH8XgVM;FfcGMFfcGMFf1TeWpZ<AZ*DpuaB^>LaCC2QbRaM;F)lDND"
    "qWKR007fTL_t(|0RhMWH~#?oj=Y~9f7+C$&jv(Q;jw})j(ca#NADQ{ixVEz9>uv)ok&v-y4R4m#sS=%=k!e-0B`8*%FY<ib;kG"
    "L(_Dp_(cs@U1qOtjegyY#g<Z(IG`N5hwGl6rTMPF4htBTf^jiTf6J#Lh-(I1I<$gR~DlhK`l&?Couk`H%b8rM};`IHv{LG3ev}"
    "Rl)wCBkWxd(-A0;R(i7B4z47Zi?&>PzRl_IJa)N-PeHodQe#1n$TKh-1r#;coNYjoVd0M)^8TtKN0eX6^;=lG6YH002ovPDHLk"
    "V1f"
)
OLD_KEY = "e61c0272dc801736bcaf11f32d5b007ec393ddef8c18cba5c7e15b6db25dbfcc"
OLD_SHA = "d0ff6b7d51ec14974078ecee0cd1c1e504fce4db97d6afbef1445809f614c1a3"


def test_a_folder_of_the_version_before_is_read_and_written_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = FakeGenerator().request("a polyp é 漢", 3, negative_prompt="text")
    folder = tmp_path / "store" / OLD_KEY[:2]
    folder.mkdir(parents=True)
    (folder / f"{OLD_KEY}.png").write_bytes(OLD_PNG)
    side = {
        "created": "2026-11-30T05:08:17+00:00",
        "request": json.loads(request.to_json()),
        "sha256": OLD_SHA,
        "synthetic": True,
    }
    text = json.dumps(side, indent=1, sort_keys=True) + "\n"
    (folder / f"{OLD_KEY}.json").write_text(text, encoding="ascii")
    store = open_store(tmp_path / "store")
    assert isinstance(store, ImageStore)
    assert store.has(request)
    found = store.get(request)
    assert found is not None
    assert found.load().tobytes() == fake_image(request).tobytes()
    monkeypatch.setattr("generators.png._software", lambda: "promptopt 0.1.0")
    put = ImageStore(tmp_path / "new").put(request, fake_image(request))
    with (
        Image.open(put.path) as new,
        Image.open(found.path) as old,
    ):
        assert new.info == old.info
        assert list(new.info) == list(old.info)
        assert new.tobytes() == old.tobytes()
    assert sorted(path.name for path in (tmp_path / "new" / OLD_KEY[:2]).iterdir()) == [
        f"{OLD_KEY}.json", f"{OLD_KEY}.png",
    ]  # fmt: skip
    now = json.loads(put.path.with_suffix(".json").read_text())
    assert now | {"created": side["created"], "sha256": OLD_SHA} == side
    assert list(now) == list(side)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Become another machine: with a cache of its own."""
    return lambda name: monkeypatch.setenv("PROMPTOPT_CACHE", str(tmp_path / "machines" / name))


@pytest.mark.parametrize("kind", ["", "shards::"])
def test_what_one_machine_made_another_has(tmp_path: Path, machine, kind: str) -> None:
    place, first, second = f"{kind}file://{tmp_path}/bucket", FakeGenerator(), FakeGenerator()
    panel = [first.request("a", seed) for seed in range(6)]
    machine("one")
    made = fetch(open_store(place), first, panel[:4])
    machine("two")
    found = fetch(open_store(place), second, panel)
    assert [request.seed for request in second.made] == [4, 5]
    assert [image.sha256 for image in found[:4]] == [image.sha256 for image in made]
    machine("one")
    assert len(open_store(place).has_many(panel)) == 6


def test_a_shard_that_could_not_be_put_is_put_later(
    tmp_path: Path, machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, generator = f"shards::file://{tmp_path}/bucket", FakeGenerator()
    panel = [generator.request("a", seed) for seed in range(3)]
    machine("one")
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise OSError("the network is gone")

        patch.setattr("generators.stores.bucket.write_bytes", refuse)
        with pytest.raises(StoreError, match="the network is gone"):
            fetch(open_store(place), generator, panel)
    assert not list((tmp_path / "bucket").glob("*.jsonl"))
    fetch(open_store(place), generator, panel)  # a new process on the same machine
    assert len(generator.made) == 3
    machine("two")
    assert open_store(place).has_many(panel) == set(panel)


def test_a_damaged_index_costs_its_shard_alone(
    tmp_path: Path, machine, caplog: pytest.LogCaptureFixture
) -> None:
    place, generator = f"shards::file://{tmp_path}/bucket", FakeGenerator()
    panel = [generator.request("a", seed) for seed in range(4)]
    machine("one")
    fetch(open_store(place), generator, panel[:2])
    (index,) = (tmp_path / "bucket").glob("*.jsonl")
    fetch(open_store(place), generator, panel[2:])
    index.write_text('{"key": 1')
    machine("two")
    assert open_store(place).has_many(panel) == set(panel[2:])
    assert index.name in caplog.text


def test_full_shards_are_put_on_the_way(machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generators.stores.shards.SHARD_BYTES", 2000)
    machine("one")
    store, generator = open_store("shards::memory://full"), FakeGenerator()
    assert isinstance(store, ShardStore)
    panel = [generator.request("a", seed) for seed in range(10)]
    for request in panel:
        store.put(request, fake_image(request))
    machine("two")
    assert 6 <= len(open_store("shards::memory://full").has_many(panel)) < 10


@pytest.mark.parametrize("kind", ["", "shards::"])
def test_synthesize_into_a_url(
    tmp_path: Path, machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    import generators.loading

    generator = FakeGenerator()
    monkeypatch.setattr(generators.loading, "load", lambda *_, **__: generator)
    (tmp_path / "prompts.txt").write_text("a polyp\nforceps\n")
    url = f"{kind}file://{tmp_path}/bucket"
    command = ["synthesize", "--prompts", str(tmp_path / "prompts.txt"), "--generator", "embedded"]
    for name in ("one", "two"):
        machine(name)
        with pytest.raises(SystemExit) as ended:
            main([*command, "--out", str(tmp_path / name), "--per-prompt", "3", "--store", url])
        assert ended.value.code == 0
        assert f"{kind}file://{tmp_path}/bucket" in capsys.readouterr().out.replace("\n", "")
    assert len(generator.made) == 6
    sums = []
    for name in ("one", "two"):
        with (tmp_path / name / "manifest.csv").open(newline="") as stream:
            sums.append([row["sha256"] for row in csv.DictReader(stream)])
    assert sums[0] == sums[1]
    assert len(set(sums[0])) == 6


@pytest.mark.slow
def test_other_processes_put_into_the_url(tmp_path: Path, machine) -> None:
    machine("one")
    store = open_store(f"file://{tmp_path}/bucket")
    with Makers("processes:1", device="cpu", batch_size=2) as makers:
        generator = makers.load("embedded")
        requests = [generator.request("a polyp", seed, steps=1) for seed in range(3)]
        made = fetch(store, generator, requests)
        with pytest.raises(ValueError, match="no other process sees this memory"):
            fetch(open_store("memory://alone"), generator, requests)
    machine("two")
    there = open_store(store.address)
    assert [image and image.sha256 for image in there.get_many(requests)] == [image.sha256 for image in made]
