"""Every kind of store: what StoreSuite asks, over a folder, memory, a disk through fsspec, and S3."""

from __future__ import annotations

import itertools
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from generators import ImageRequest, ImageStore, StoreError
from generators.store import Store
from generators.stores.address import StoreUrl
from generators.stores.bucket import Bucket
from generators.stores.opening import open_store as opened
from promptopt.testing.stores import Open, StoreSuite


def flipped(content: bytes) -> bytes:
    """One bit is another, in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


class TestFolder(StoreSuite):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Open:
        return lambda name: opened(tmp_path / name)

    @pytest.fixture
    def spoil(self, open_store: Open) -> Callable[[str, ImageRequest], None]:
        def damage(name: str, request: ImageRequest) -> None:
            path = open_store(name).path(request)
            path.write_bytes(flipped(path.read_bytes()))

        return damage

    @pytest.fixture
    def break_put(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        """Between the picture and the side file."""
        return lambda: _cut(monkeypatch, "generators.store._write", after=1)


class UrlSuite(StoreSuite):
    """A fresh cache for every opening, as on another machine."""

    shards = ""

    @pytest.fixture
    def place(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def open_store(self, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
        machines = itertools.count()

        def fresh(name: str) -> Store:
            monkeypatch.setenv("PROMPTOPT_CACHE", str(tmp_path / f"machine-{next(machines)}"))
            return opened(f"{self.shards}{place}/{name}")

        return fresh

    @pytest.fixture
    def spoil(self, place: str) -> Callable[[str, ImageRequest], None]:
        def damage(name: str, request: ImageRequest) -> None:
            bucket = Bucket(StoreUrl.parse(f"{place}/{name}"))
            object_name = f"{request.key[:2]}/{request.key}.png"
            content = bucket.read(object_name)
            assert content is not None
            bucket.write(object_name, flipped(content))

        return damage


class TestMemory(UrlSuite):
    @pytest.fixture
    def place(self) -> str:
        return f"memory://bucket-{uuid.uuid4().hex}"


class TestFile(UrlSuite):
    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/disk"

    @pytest.fixture
    def break_put(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        """Before the written file takes its place."""

        def cut() -> None:
            def stop(*_: object) -> None:
                monkeypatch.undo()
                raise KeyboardInterrupt

            monkeypatch.setattr("pathlib.Path.replace", stop)

        return cut


class ShardSuite(UrlSuite):
    shards = "shards::"

    @pytest.fixture
    def spoil(self, place: str) -> Callable[[str, ImageRequest], None]:
        """A bit of the picture inside its tar."""

        def damage(name: str, request: ImageRequest) -> None:
            bucket = Bucket(StoreUrl.parse(f"{place}/{name}"))
            (tar,) = [one for one in bucket.list("") if one.endswith(".tar")]
            content = bucket.read(tar)
            assert content is not None
            start = content.index(f"{request.key}.png".encode()) + 3000
            bucket.write(tar, content[:start] + flipped(content[start : start + 3]) + content[start + 3 :])

        return damage

    @pytest.fixture
    def break_put(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        """Between a shard and its index."""
        return lambda: _cut(monkeypatch, "generators.stores.bucket.Bucket.write", after=1)


class TestShardsInMemory(ShardSuite):
    @pytest.fixture
    def place(self) -> str:
        return f"memory://bucket-{uuid.uuid4().hex}"


class TestShardsInAFolder(ShardSuite):
    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/disk"


@pytest.fixture(scope="module")
def s3_bucket() -> Iterator[str]:
    """A bucket of a server on the loopback interface, with credentials that mean nothing."""
    pytest.importorskip("s3fs", reason="promptopt[s3] is not installed: no s3:// here")
    server = pytest.importorskip("moto.server", reason="moto is not installed: no S3 to talk to")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    with pytest.MonkeyPatch.context() as patch:
        host, port = running.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("images")
        yield "s3://images"
        s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


class TestS3(UrlSuite):
    @pytest.fixture
    def place(self, s3_bucket: str) -> str:
        return s3_bucket


class TestShardsInS3(ShardSuite):
    @pytest.fixture
    def place(self, s3_bucket: str) -> str:
        return s3_bucket


def test_a_bucket_that_is_not_there_is_said(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTOPT_CACHE", str(tmp_path))
    from promptopt.testing.stores import picture
    from tests.generators.fake import FakeGenerator

    request = FakeGenerator().request("a", 1)
    store = opened("s3://no-such-bucket/images")
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/images/.*credentials in the environment"):
        store.put(request, picture(request))
    assert not ImageStore(store.root).has(request)
    shutil.rmtree(store.root, ignore_errors=True)


def _cut(monkeypatch: pytest.MonkeyPatch, name: str, *, after: int) -> None:
    """Let a function end by an interrupt, once it was called so many times."""
    module, _, attribute = name.rpartition(".")
    import pkgutil

    owner = pkgutil.resolve_name(module)
    real = getattr(owner, attribute)
    calls = itertools.count()

    def cut(*args: object, **options: object) -> object:
        if next(calls) == after:
            monkeypatch.setattr(owner, attribute, real)
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(owner, attribute, cut)
