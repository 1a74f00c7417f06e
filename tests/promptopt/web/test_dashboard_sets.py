"""A run of sets as an Optuna user sees it: its own database in Optuna's plots, and the dashboard's copy."""

import io
import json
import shutil
import urllib.request

import numpy as np
import optuna
import pytest
from PIL import Image
from typer.testing import CliRunner

from promptopt.cli.main import main
from promptopt.config.study_file import StudyError
from promptopt.formatting.pictures import image_grid
from promptopt.run.database import address, open_storage, reopen
from promptopt.run.images import RunImages
from promptopt.run.prompt_sets import read_sets
from promptopt.space import Candidate
from promptopt.web.dashboard.serving import open_dashboard
from promptopt.web.server import LocalServer
from tests.promptopt.set_run import PLAIN


@pytest.fixture
def folder(shared_sets, tmp_path):
    """A copy of the run folder of the test's own."""
    return shutil.copytree(shared_sets.folder, tmp_path / "squares")


def opened(folder, shared_sets):
    return RunImages.open_classes(folder, store=shared_sets.folder.parent.parent / "store")


def load(folder, name, database="study.db"):
    return optuna.load_study(study_name=name, storage=address(folder / database))


def test_optunas_plots_show_a_class_of_a_set(folder, shared_sets):
    entry = shared_sets.sets.of("red")
    study = load(folder, "red")
    trials = study.get_trials(deepcopy=False)
    assert [t.number for t in trials] == list(range(entry.prompts_measured))
    assert {t.state.name for t in trials} <= {"COMPLETE", "PRUNED"}

    timeline = optuna.visualization.plot_timeline(study)
    assert sum(len(trace.x) for trace in timeline.data) == len(trials)
    assert all(length > 0 for trace in timeline.data for length in trace.x)  # of each bar
    history = optuna.visualization.plot_optimization_history(study)
    complete = {t.number: t.value for t in trials if t.state.name == "COMPLETE"}
    assert dict(zip(history.data[0].x, history.data[0].y, strict=True)) == pytest.approx(complete)
    growing = optuna.visualization.plot_intermediate_values(study)
    lines = [(tuple(line.x), tuple(line.y)) for line in growing.data]
    own = [tuple(zip(*sorted(t.intermediate_values.items()), strict=True)) for t in trials]
    assert sorted(lines) == sorted(own)
    parallel = optuna.visualization.plot_parallel_coordinate(study).to_json()  # traces differ by version
    used = {(name, option) for t in trials if t.number in complete for name, option in t.params.items()}
    assert used
    assert all(name in parallel and option.strip(" ,") in parallel for name, option in used)
    # the best trial is one that may be in the set
    assert "excluded" not in study.best_trial.user_attrs
    assert study.best_trial.value == max(
        t.value for t in trials if t.number in complete and not t.constraints["broken constraints"]
    )


@pytest.mark.slow
def test_the_dashboard_shows_every_prompt_of_every_class(folder, shared_sets):
    pytest.importorskip("optuna_dashboard")
    classes, told = opened(folder, shared_sets), []
    with open_dashboard(classes, on_copied=told.append) as server:
        server.start()

        def get(where):
            with urllib.request.urlopen(server.url + where, timeout=20) as answer:
                return answer.read()

        names = {
            study["study_name"]: study["study_id"]
            for study in json.loads(get("api/studies"))["study_summaries"]
        }
        stages = ("search", "confirmed on fresh seeds")
        assert set(names) == {f"squares, {label}: {stage}" for label in PLAIN for stage in stages}
        images = next(one for one in classes if one.label == "red")
        content = json.loads(get(f"api/studies/{names['squares, red: search']}"))
        trials = load(folder, "red").get_trials(deepcopy=False)
        assert len(content["trials"]) == len(trials)
        weights = shared_sets.sets.of("red").set.weights
        for shown, trial in zip(content["trials"], trials, strict=True):
            assert shown["state"].upper() == {"COMPLETE": "COMPLETE", "PRUNED": "PRUNED"}[trial.state.name]
            assert shown.get("values") == (None if trial.values is None else pytest.approx(trial.values))
            steps = {row["step"]: row["value"] for row in shown["intermediate_values"]}
            assert steps == pytest.approx(trial.intermediate_values)
            prompt = trial.user_attrs["prompt"]
            attributes = {row["key"]: row["value"] for row in shown["user_attrs"]}
            assert attributes["prompt"] == prompt in shown["note"]["body"]
            if prompt in {one.prompt for one in weights}:
                assert "weight" in attributes
            (artifact,) = shown["artifacts"]
            where = f"artifacts/{shown['study_id']}/{shown['trial_id']}/{artifact['artifact_id']}"
            assert where in shown["note"]["body"]
            own = images.present(
                Candidate.from_json(trial.user_attrs["candidate"]),
                stage="search",
                count=max(trial.intermediate_values),
            )
            with Image.open(io.BytesIO(get(where))) as picture:
                expected = image_grid([image.load() for image in own[:16]])
                assert np.array_equal(np.asarray(picture), np.asarray(expected))
        confirmed = json.loads(get(f"api/studies/{names['squares, red: confirmed on fresh seeds']}"))
        entry = shared_sets.sets.of("red")
        values = {
            {row["key"]: row["value"] for row in shown["user_attrs"]}["drawn by"].strip('"'): shown
            for shown in confirmed["trials"]
        }
        assert set(values) == set(entry.closeness)
        for method, shown in values.items():
            assert shown["values"] == [pytest.approx(entry.closeness[method].value)]
            assert bool(shown["artifacts"]) == (method in ("set", "baseline", "single"))
        assert shared_sets.sets.sentence.split(".")[0] in confirmed["note"]["body"].replace("\\", "")
        # the images of the set are those that were confirmed, seed for seed
        prompts = shared_sets.sets.confirmed("red", "set")
        drawn = images.find_each(prompts, stage="confirmation")
        assert [image.path for image in drawn] == list(shared_sets.pictures["red"]["set"])
    assert told[0].images_found == told[0].images_wanted > 0


@pytest.mark.slow
def test_prompts_whose_value_changed_are_brought_up_to_date(folder, shared_sets):
    """A search that went on ends its trials anew, with the values that they have by then."""
    pytest.importorskip("optuna_dashboard")
    classes = opened(folder, shared_sets)
    with open_dashboard(classes):
        pass
    study = load(folder, "red")
    last = max(
        (t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"), key=lambda t: t.number
    )
    storage = open_storage(folder / "study.db")
    reopen(storage, [last._trial_id])
    study = load(folder, "red")
    told = []
    with open_dashboard(classes, on_copied=told.append):
        pass
    copy = load(folder, "squares, red: search", "dashboard/dashboard.db")
    assert copy.trials[last.number].state.name == "RUNNING"
    trial = optuna.trial.Trial(study, last._trial_id)
    trial.set_user_attr("weight", 0.125)
    study.tell(trial, 0.75)
    with open_dashboard(classes, on_copied=told.append):
        pass
    copy = load(folder, "squares, red: search", "dashboard/dashboard.db")
    assert copy.trials[last.number].value == 0.75
    assert copy.trials[last.number].user_attrs["weight"] == 0.125
    assert [(one.trials, one.changed) for one in told] == [(0, 1), (0, 1)]


@pytest.mark.slow
def test_the_command_shows_a_run_of_sets(folder, shared_sets, monkeypatch):
    pytest.importorskip("optuna_dashboard")
    monkeypatch.setattr(LocalServer, "serve_forever", lambda self: None)
    store = shared_sets.folder.parent.parent / "store"
    done = CliRunner().invoke(main, ["dashboard", str(folder), "--store", str(store), "--port", "0"])
    assert done.exit_code == 0, done.output
    measured = sum(one.prompts_measured for one in shared_sets.sets.classes)
    methods = sum(len(one.closeness) for one in read_sets(folder / "prompts.json").classes)
    assert f"{measured + methods} trials added" in done.stdout


def test_what_asks_about_single_prompts_says_where_sets_are_shown(folder, shared_sets):
    with pytest.raises(StudyError, match=r"`promptopt dashboard .*squares`"):
        RunImages.open(folder, store=shared_sets.folder.parent.parent / "store")


def test_a_class_without_settings_of_its_own_is_refused(folder, shared_sets):
    settings = json.loads((folder / "settings.json").read_text())
    del settings["classes"]["red"]["generator"]
    (folder / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(StudyError, match="not the settings of a study of this version"):
        opened(folder, shared_sets)
