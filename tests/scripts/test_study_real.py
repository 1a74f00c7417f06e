"""scripts/study_real from the organizers' files to a proof, at a size where nothing is learned."""

import json
import runpy
from pathlib import Path

import pytest

from studies.dataset import read_dataset
from tests.test_main_job import some_patches

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "lib" / "study_real.py"


@pytest.mark.slow
def test_three_classes_from_files_to_a_proof(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shared_data / "gi-patches"
    if not source.is_dir():
        pytest.skip("real patches are not at hand (shared/data/gi-patches)")
    some_patches(source, tmp_path / "source", each=60, labels=("polyp", "normal", "instrument"))
    work = tmp_path / "work"
    main = runpy.run_path(str(SCRIPT))["main"]
    command = [str(tmp_path / "source"), "--work", str(work), "--small", "--where", "brightness=bright,dim"]
    command += ["--where", "edge=no black edge,narrow black edge,broad black edge", "--any"]
    main(command)
    said = capsys.readouterr().out
    assert "== train took" in said
    assert "| prove |" in said
    target = read_dataset(work / "target")
    assert {r.category for r in target} == {"polyps", "normal", "instruments"}
    assert {r.center for r in target} == {"target"}
    held_out = {r.group for r in target if r.pool == "test"}
    trained_on = {r.group for r in read_dataset(work / "data") if r.pool == "reference"}
    assert held_out
    assert not held_out & trained_on
    proof = json.loads((work / "target-proof" / "proof.json").read_text())
    assert proof["classes"] == ["instruments", "normal", "polyps"]
    assert "real + generator's images + set" in {arm["title"] for arm in proof["arms"]}
