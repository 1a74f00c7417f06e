"""Addresses of stores: what is a URL, what is refused, and that no secret comes back out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from generators import ImageStore, StoreError
from generators.stores.address import StoreUrl, marked_url, store_folder, store_url
from generators.stores.opening import open_store
from generators.stores.shards import ShardStore
from generators.stores.url_store import UrlStore
from promptopt.cli.main import main


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROMPTOPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("s3://bucket/a prefix/", "s3://bucket/a prefix"),
        ("S3:/bucket/x", "s3://bucket/x"),  # as a Path writes it
        ("gcs://b/x", "gs://b/x"),
        ("abfs://container/x", "az://container/x"),
        ("memory://x", "memory://x"),
        ("file:///data/x", "file:///data/x"),
        ("file:/data/x", "file:///data/x"),
        ("shards::s3://bucket/x", "shards::s3://bucket/x"),
        ("shards::/data/x", "shards::file:///data/x"),
        ("s3://bucket/50% [x] #1/ü", "s3://bucket/50% [x] #1/ü"),
    ],
)
def test_one_place_has_one_address(text: str, same: str) -> None:
    assert str(store_url(text)) == str(store_url(Path(text))) == same
    assert str(StoreUrl.parse(same)) == same


@pytest.mark.parametrize("folder", ["store", "/data/store", "./a:b", "C:/store", "C:\\store", "s3", "x:y"])
def test_folders_are_no_urls(folder: str) -> None:
    assert store_url(folder) is None
    assert store_folder(folder) == Path(folder)


SECRET = "wJalrXUtnFEMI"


@pytest.mark.parametrize(
    "text",
    [
        f"s3://AKIA:{SECRET}@bucket/x",
        f"shards::s3://{SECRET}@bucket/x",
        f"s3://bucket/x?X-Amz-Signature={SECRET}",
        f"gs://bucket?token={SECRET}",
        f"ftp://me:{SECRET}@host/x",
    ],
)
def test_secrets_are_refused_and_not_repeated(
    text: str, cache: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for place in (text, Path(text)):
        for function in (open_store, store_folder):
            with pytest.raises(StoreError, match=r"holds a user.*come from the environment") as refused:
                function(place)
            assert SECRET not in str(refused.value)
    study = tmp_path / "study.yaml"
    study.write_text("name: x\n")
    with pytest.raises(SystemExit) as ended:
        main(["study", "check", str(study), "--store", text])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "come from the environment" in " ".join(said.err.split())
    assert SECRET not in said.out + said.err
    assert not cache.exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ftp://host/x", r"no such kind.*s3://"),
        ("https://host/x", "no such kind"),
        ("s3://", "names no place"),
        ("s3://bucket/../x", "leave|Leave out"),
        ("shards::", "no URL"),
    ],
)
def test_what_is_no_store_is_refused(text: str, why: str) -> None:
    with pytest.raises(StoreError, match=why):
        open_store(text)


def test_a_whole_store_by_url_has_one_folder_here(cache: Path) -> None:
    folder = store_folder("s3://bucket/prefix")
    assert folder.parent == cache / "stores"
    assert store_folder(Path("s3://bucket/prefix/")) == folder != store_folder("s3://bucket/other")
    assert str(marked_url(folder / "images")) == "s3://bucket/prefix/images"
    assert {json.loads(path.read_text())["url"] for path in folder.rglob("store.json")} == {
        "s3://bucket/prefix", "s3://bucket/prefix/images",
    }  # fmt: skip


def test_the_images_of_a_whole_store_are_those_of_the_url(tmp_path: Path) -> None:
    one = open_store(store_folder("memory://x") / "images")
    other = open_store("memory://x/images")
    assert isinstance(one, UrlStore)
    assert (one.address, one.root) == (other.address, other.root) == ("memory://x/images", other.url.folder)
    assert isinstance(open_store(store_folder("shards::memory://x") / "images"), ShardStore)
    assert isinstance(open_store(tmp_path), ImageStore)


def test_a_damaged_note_of_the_url_is_said(tmp_path: Path) -> None:
    folder = store_folder("memory://x")
    (folder / "images" / "store.json").write_text("{")
    with pytest.raises(StoreError, match=r"store\.json.*Delete it"):
        open_store(folder / "images")


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def refuse(protocol: str, **_: object) -> None:
        raise ImportError(f"install {protocol}fs")

    monkeypatch.setattr(fsspec, "filesystem", refuse)
    for text, package in (("s3://b/x", r"promptopt\[s3\]"), ("gs://b/x", "gcsfs"), ("az://b/x", "adlfs")):
        with pytest.raises(StoreError, match=rf"{text}.*not installed.*{package}"):
            open_store(text)
