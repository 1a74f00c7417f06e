"""Batch sizes, memory that runs out, compilation: what may change rounding is said, and nothing is lost."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from generators import BatchHalvedError, GeneratorError, ImageRequest, ImageStore, fetch, load
from generators.stable_diffusion.batch_trial import find_batch_size
from generators.stable_diffusion.diffusion import DiffusionGenerator
from generators.stable_diffusion.facts import parts
from generators.stable_diffusion.pipeline import compile_networks
from generators.stable_diffusion.runtime import Runtime, choose_runtime

REPOSITORY = Path(__file__).resolve().parents[3]


def _bytes(image: Image.Image) -> bytes:
    return np.asarray(image).tobytes()


def _short_of_memory(
    generator: DiffusionGenerator,
    patch: pytest.MonkeyPatch,
    *,
    rows: int,
    error: Callable[[], BaseException] = lambda: torch.OutOfMemoryError("CUDA out of memory."),
) -> None:
    """From now on the UNet takes no more than `rows` rows (two an image with guidance)."""
    forward = generator._pipeline.unet.forward

    def limited(sample: torch.Tensor, *args: object, **kwargs: object) -> object:
        if len(sample) > rows:
            raise error()
        return forward(sample, *args, **kwargs)

    patch.setattr(generator._pipeline.unet, "forward", limited)


def test_keys_say_how_many_threads_of_the_cpu_rounded(
    micro_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    one = load(micro_folder, device="cpu").request("a polyp", 1)
    assert "threads" not in parts(one.versions)  # as in stores of versions before
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    four = load(micro_folder, device="cpu").request("a polyp", 1)
    assert parts(four.versions)["threads"] == "4"
    assert four.key != one.key
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA L4")
    gpu = Runtime(device=torch.device("cuda"), dtype_name="float16", batch_size=8, compiled=False)
    assert "threads" not in parts(gpu.versions)


def test_images_are_made_by_the_threads_that_their_keys_name(
    micro_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        generator = load(micro_folder, device="cpu")
        torch.set_num_threads(1)  # a training, or another library
        seen: list[int] = []
        forward = generator._pipeline.unet.forward

        def counted(*given: object, **settings: object) -> object:
            seen.append(torch.get_num_threads())
            return forward(*given, **settings)

        monkeypatch.setattr(generator._pipeline.unet, "forward", counted)
        request = generator.request("a polyp", 1, steps=2)
        assert list(generator.generate([request]))
        assert parts(request.versions)["threads"] == "2"
        assert set(seen) == {2}
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


# One image, wherever and whenever it is made


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_image_is_bit_equal_at_every_place_of_a_batch(micro_folder: Path, dtype: str) -> None:
    generator = load(micro_folder, device="cpu", batch_size=4, dtype=dtype)
    target = generator.request("a polyp", 3, steps=2)
    (alone,) = generator.generate([target])
    mates = [generator.request("x" * seed, seed, steps=2, negative_prompt="y" * seed) for seed in range(3)]
    for place in range(4):
        images = list(generator.generate([*mates[:place], target, *mates[place:]]))
        assert _bytes(images[place]) == _bytes(alone)


@pytest.mark.slow
def test_images_are_bit_equal_in_another_process(micro_folder: Path, micro: DiffusionGenerator) -> None:
    script = textwrap.dedent("""
        import hashlib, sys
        import numpy as np
        from generators import load
        generator = load(sys.argv[1], device="cpu", batch_size=4)
        (image,) = generator.generate([generator.request("a polyp", 3, steps=3)])
        print(hashlib.sha256(np.asarray(image).tobytes()).hexdigest())
    """)
    found = subprocess.run(
        [sys.executable, "-c", script, str(micro_folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    requests = [micro.request("a clip", 1, steps=3), micro.request("a polyp", 3, steps=3)]
    _, here = micro.generate(requests)
    assert found.stdout.strip() == hashlib.sha256(_bytes(here)).hexdigest()


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_other_batch_sizes_differ_by_a_level_at_most(
    micro_folder: Path, micro: DiffusionGenerator, batch_size: int
) -> None:
    other = load(micro_folder, device="cpu", batch_size=batch_size)
    images = [
        np.stack([np.asarray(i) for i in g.generate([g.request("a polyp", s, steps=5) for s in range(4)])])
        for g in (micro, other)
    ]
    difference = np.abs(images[0].astype(int) - images[1].astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


# Memory


@pytest.mark.slow
def test_lack_of_memory_halves_the_batch_and_loses_no_image(
    micro_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = DiffusionGenerator(micro_folder, device="cpu", batch_size=8)
    panel = [generator.request("a polyp", seed, steps=2, guidance=3.0) for seed in range(11)]
    store = ImageStore(tmp_path)
    (first,) = fetch(store, generator, panel[:1])
    _short_of_memory(generator, monkeypatch, rows=5)  # two images a pass with guidance
    stored = fetch(store, generator, panel)
    assert generator.batch_size == 2
    assert stored[0] == first
    assert [image.request.seed for image in stored] == list(range(11))
    # Each lies under the request of the batch size it was made at, and equals what that batch size makes.
    small = DiffusionGenerator(micro_folder, device="cpu", batch_size=2)
    requests = [small.request("a polyp", seed, steps=2, guidance=3.0) for seed in range(1, 11)]
    assert [image.request for image in stored[1:]] == requests
    assert [_bytes(image.load()) for image in stored[1:]] == [_bytes(i) for i in small.generate(requests)]


def test_without_a_store_requests_have_to_be_made_anew(
    micro_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = DiffusionGenerator(micro_folder, device="cpu", batch_size=4)
    request = generator.request("a", 1, steps=1)
    _short_of_memory(generator, monkeypatch, rows=4)
    with pytest.raises(BatchHalvedError, match=r"at 4 images a pass.*there are 2.*request\(\)"):
        list(generator.generate([request]))
    with pytest.raises(GeneratorError, match=r"batch=4.*batch=2.*anew"):
        generator.generate([request])
    assert len(list(generator.generate([generator.request("a", 1, steps=1)]))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_one_image_that_does_not_fit_is_a_clear_error(
    micro_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    generator = DiffusionGenerator(micro_folder, device="cpu", batch_size=2)
    _short_of_memory(generator, monkeypatch, rows=0, error=error)
    with pytest.raises(GeneratorError, match=r"out of memory with one image a pass.*smaller width"):
        fetch(ImageStore(tmp_path), generator, [generator.request("a", 1, steps=1)])


def test_other_faults_are_not_taken_for_lack_of_memory(
    micro_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = DiffusionGenerator(micro_folder, device="cpu", batch_size=2)
    _short_of_memory(generator, monkeypatch, rows=0, error=lambda: RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(generator.generate([generator.request("a", 1, steps=1)]))
    assert generator.batch_size == 2


# Batch size by trial


def _speeds(*values: float) -> Callable[[int], float]:
    """Images a second at 1, 2, 4... a pass; out of memory beyond."""

    def speed(size: int) -> float:
        place = size.bit_length() - 1
        if place >= len(values):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return values[place]

    return speed


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ((1, 2, 4, 8), 8),  # as much as fits
        ((1, 1.8, 3, 3.2, 9), 4),  # a doubling that brings less than a tenth ends the trial
        ((1, 0.9), 1),
        (tuple(2**i for i in range(20)), 128),
    ],
)
def test_trial_stops_where_doubling_no_longer_pays(speeds: tuple[float, ...], expected: int) -> None:
    assert find_batch_size(_speeds(*speeds)) == expected


def test_trial_with_no_room_at_all_says_so() -> None:
    with pytest.raises(GeneratorError, match="one image a pass"):
        find_batch_size(_speeds())


def test_trial_passes_other_faults_on() -> None:
    def broken(size: int) -> float:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        find_batch_size(broken)


def test_batch_size_found_by_trial_is_part_of_the_request(
    micro_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    run = DiffusionGenerator._run

    def limited(
        self: DiffusionGenerator, requests: list[ImageRequest], *args: object
    ) -> list[tuple[Image.Image, str | None]]:
        tried.append(len(requests))
        if self.batch_size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(self, requests)

    monkeypatch.setattr(DiffusionGenerator, "_run", limited)
    monkeypatch.setattr("generators.stable_diffusion.batch_trial._WORTH", 0.0)
    generator = DiffusionGenerator(micro_folder, device="cpu", batch_size="auto")
    assert tried == [1, 1, 2, 2, 4]
    assert generator.batch_size == 2
    assert "batch=2" in generator.request("a", 1).versions


@pytest.mark.parametrize("wrong", ["many", 2.0, True])
def test_batch_size_must_be_a_number(micro_folder: Path, wrong: object) -> None:
    with pytest.raises(GeneratorError, match="batch_size"):
        load(micro_folder, device="cpu", batch_size=wrong)  # type: ignore[arg-type]


# Compilation and layout


def test_what_rounds_differently_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"cuda:0": "NVIDIA H100; x=1", "cuda:1": "NVIDIA L4"}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[str(device)])
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setattr(torch.version, "cuda", "12.8")

    def versions(device: str, **changes: bool) -> str:
        settings = {"compiled": False, **changes}
        return Runtime(device=torch.device(device), dtype_name="float16", batch_size=4, **settings).versions

    compiled = {versions(device, compiled=True) for device in ("cpu", "cuda:0", "cuda:1")}
    assert len({versions("cpu"), *compiled}) == 4
    assert versions("cuda:0", compiled=True).endswith(
        "batch=4;layout=channels_last;gpu=NVIDIA H100, x:1;cuda=12.8;cudnn=91002;compile=on"
    )
    assert parts(versions("cuda:1"))["gpu"] == "NVIDIA L4"
    assert versions("cpu").endswith("batch=4")  # as it always was


@pytest.mark.slow
def test_compiled_networks_make_the_same_images_from_one_graph_a_shape(
    micro_folder: Path, micro: DiffusionGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()  # runs the captured graph as it is: what is compiled is tested, not how
    monkeypatch.setattr("generators.stable_diffusion.runtime._compiler_failure", lambda _: None)
    monkeypatch.setattr(
        "generators.stable_diffusion.diffusion.compile_networks", partial(compile_networks, backend=counter)
    )
    generator = load(micro_folder, device="cpu", batch_size=4, compile="on")
    requests = [generator.request("a", seed, steps=4, guidance=3.0) for seed in range(6)]
    assert requests[0].versions.endswith(";compile=on")
    images = list(generator.generate(requests))
    assert counter.frame_count == 2  # UNet and decoder, whatever the time step and however full the batch
    plain = micro.generate([micro.request("a", seed, steps=4, guidance=3.0) for seed in range(6)])
    assert [_bytes(image) for image in images] == [_bytes(image) for image in plain]
    list(generator.generate([generator.request("a", 1, steps=2, guidance=1.0)]))
    assert counter.frame_count == 3  # without guidance the UNet has half the rows


@pytest.mark.slow
def test_networks_that_do_not_compile_are_a_clear_error(
    micro_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no such instruction")

    monkeypatch.setattr("generators.stable_diffusion.runtime._compiler_failure", lambda _: None)
    monkeypatch.setattr(
        "generators.stable_diffusion.diffusion.compile_networks", partial(compile_networks, backend=broken)
    )
    generator = load(micro_folder, device="cpu", batch_size=2, compile="on")
    with pytest.raises(GeneratorError, match=r"cannot be compiled.*compile='off'"):
        list(generator.generate([generator.request("a", 1, steps=1)]))


def test_compiler_that_does_not_work_is_done_without_or_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("generators.stable_diffusion.runtime._compiler_failure", lambda _: "no C compiler")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with caplog.at_level(logging.WARNING, logger="generators.stable_diffusion.runtime"):
        assert not choose_runtime(device="cuda").compiled
    assert "no C compiler" in caplog.text
    with pytest.raises(GeneratorError, match=r"compile='on'.*no C compiler.*'off'"):
        choose_runtime(device="cuda", compile_="on")
    monkeypatch.setattr("generators.stable_diffusion.runtime._compiler_failure", lambda _: None)
    assert choose_runtime(device="cuda").compiled
    assert not choose_runtime(device="cuda", compile_="off").compiled
    assert not choose_runtime(device="cpu").compiled
    with pytest.raises(GeneratorError, match="compile is 'maybe'"):
        choose_runtime(device="cpu", compile_="maybe")
