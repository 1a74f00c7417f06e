"""A study goes on only on the kind of GPU that made its first images."""

from pathlib import Path

import pytest

from promptopt import StudyError
from promptopt.run.folder import check_settings


def settings(gpu: str | None, *, threads: int = 1) -> dict[str, object]:
    versions = "torch=2.9;batch=16" + (f";gpu={gpu};cuda=12.8;cudnn=91002" if gpu else "")
    versions += f";threads={threads}" if threads > 1 else ""
    return {"seed": 1, "classes": {"polyps": {"generator": {"steps": 20, "versions": versions}}}}


def test_same_kind_goes_on(tmp_path: Path) -> None:
    check_settings(tmp_path, settings("NVIDIA H100"))
    check_settings(tmp_path, settings("NVIDIA H100"))


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ("NVIDIA H100", "NVIDIA L4", "pinned to the NVIDIA H100.*here the NVIDIA L4 would"),
        ("NVIDIA H100", None, "pinned to the NVIDIA H100.*here the CPU would"),
        (None, "NVIDIA L4", "pinned to the CPU.*here the NVIDIA L4 would"),
    ],
)
def test_another_kind_is_refused_with_both_names(
    before: str | None, now: str | None, said: str, tmp_path: Path
) -> None:
    check_settings(tmp_path, settings(before))
    with pytest.raises(StudyError, match=said):
        check_settings(tmp_path, settings(now))


@pytest.mark.parametrize(("before", "now"), [(1, 4), (4, 1), (4, 8)])
def test_on_the_cpu_another_number_of_threads_is_refused_with_the_one_it_began_with(
    before: int, now: int, tmp_path: Path
) -> None:
    check_settings(tmp_path, settings(None, threads=before))
    check_settings(tmp_path, settings(None, threads=before))
    with pytest.raises(StudyError, match=f"began with {before} threads.*OMP_NUM_THREADS={before}"):
        check_settings(tmp_path, settings(None, threads=now))


def test_other_differences_are_said_as_before(tmp_path: Path) -> None:
    check_settings(tmp_path, settings("NVIDIA H100"))
    with pytest.raises(StudyError, match="other settings") as caught:
        check_settings(tmp_path, settings("NVIDIA H100") | {"seed": 2})
    assert "pinned" not in str(caught.value)
