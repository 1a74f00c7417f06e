"""Several generators as one: each image is the one that its own generator makes alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from generators import GeneratorError, ImageStore, fetch, load
from generators.adapters.lora import scale_uri
from generators.family import MAIN, GeneratorFamily, load_members, member_name, member_uris, split_settings
from generators.loading import EMBEDDED
from tests.generators.micro import build_micro_pipeline, build_micro_xl_pipeline


@pytest.fixture(scope="module")
def uris(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("family")
    return {
        MAIN: str(build_micro_pipeline(folder / "one")),
        "other": str(build_micro_pipeline(folder / "two", seed=7)),
        "large": str(build_micro_xl_pipeline(folder / "xl", seed=2)),
    }


@pytest.fixture(scope="module")
def family(uris: dict[str, str]) -> GeneratorFamily:
    members = member_uris(uris, {"generator": list(uris)})
    return load_members(members, lambda uri: load(uri, device="cpu", batch_size=2))


@pytest.mark.slow
def test_an_image_is_that_of_its_own_generator(
    family: GeneratorFamily, uris: dict[str, str], tmp_path: Path
) -> None:
    names = ["other", None, "large", "other", "main"]
    asked = [family.request("a polyp", seed, generator=name, steps=2) for seed, name in enumerate(names)]
    together = list(family.generate(asked))
    for seed, (name, image) in enumerate(zip(names, together, strict=True)):
        alone = load(uris[name or MAIN], device="cpu", batch_size=2)
        assert asked[seed] == alone.request("a polyp", seed, steps=2)
        assert next(iter(alone.generate([asked[seed]]))).tobytes() == image.tobytes()
    stored = fetch(ImageStore(tmp_path), family, asked)
    assert [image.load().tobytes() for image in stored] == [image.tobytes() for image in together]


def test_names_and_fingerprints(family: GeneratorFamily) -> None:
    assert set(family.fingerprints) == {"main", "other", "large"}
    assert family.request("", 0).generator == family.fingerprints["main"]
    assert family.fingerprint not in family.fingerprints.values()
    assert member_name("other", 0.5) == "other at 0.5"
    assert split_settings({"guidance": 2.0, "lora_scale": 0.5}) == ("main at 0.5", {"guidance": 2.0})
    with pytest.raises(GeneratorError, match="no generator 'none'; there are main, other, large"):
        family.request("", 0, generator="none")
    with pytest.raises(GeneratorError, match="none of main, other, large"):
        family.generate([load(EMBEDDED, device="cpu").request("", 0)])


def test_the_strictest_member_counts_tokens(family: GeneratorFamily) -> None:
    text = "a polyp " * 40
    limits = [one.max_tokens - one.count_tokens(text) for one in family._by_fingerprint.values()]
    assert (family.count_tokens(text) > family.max_tokens) == (min(limits) < 0)
    assert family.count_tokens("") <= family.max_tokens


def test_scales_multiply_those_of_the_address() -> None:
    assert scale_uri("embedded+lora:a@0.5+lora:b", 0.5) == "embedded+lora:a@0.25+lora:b@0.5"
    found = member_uris({MAIN: "embedded+lora:a"}, {"lora_scale": [0.0, 1.0], "guidance": [2.0]})
    assert found == {
        (MAIN, None): "embedded+lora:a",
        (MAIN, 0.0): "embedded+lora:a@0.0",
        (MAIN, 1.0): "embedded+lora:a@1.0",
    }
    with pytest.raises(GeneratorError, match=r"embedded: has no adapter whose scale could be 0.5"):
        member_uris({MAIN: "embedded"}, {"lora_scale": [0.5]})
    with pytest.raises(GeneratorError, match="generator 'sharp' has no address; there are main"):
        member_uris({MAIN: "embedded"}, {"generator": ["sharp"]})


def test_when_one_runs_out_of_memory_the_others_requests_stay(
    uris: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = member_uris(uris, {"generator": [MAIN, "other"]})
    family = load_members(members, lambda uri: load(uri, device="cpu", batch_size=2))
    other = family.maker(family.request("", 0, generator="other"))
    run, failed = other._run, []  # type: ignore[attr-defined]

    def once(*arguments: object) -> object:
        if not failed:
            failed.append(True)
            raise MemoryError
        return run(*arguments)

    monkeypatch.setattr(other, "_run", once)
    asked = [family.request("a polyp", s, generator=g, steps=2) for s in range(2) for g in (MAIN, "other")]
    stored = fetch(ImageStore(tmp_path), family, asked)
    assert [image.request.generator for image in stored] == [one.generator for one in asked]
    batches = {image.request.generator: image.request.versions for image in stored}
    assert "batch=2" in batches[family.fingerprints["main"]]
    assert "batch=1" in batches[family.fingerprints["other"]]
