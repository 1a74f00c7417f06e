"""The dashboard: a copy that shows every prompt with its images, and leaves the study alone."""

import hashlib
import io
import json
import shutil
import socket
import sqlite3
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import optuna
import pytest
from PIL import Image
from typer.testing import CliRunner

from promptopt.cli.main import main
from promptopt.config.study_file import StudyError
from promptopt.formatting.pictures import image_grid
from promptopt.run.database import address
from promptopt.run.images import RunImages
from promptopt.run.prompts import read_prompts
from promptopt.run.snapshot import read_studies
from promptopt.run.trials import TrialLog, latest, rows_of_trial
from promptopt.space import Candidate, compile_template
from promptopt.study.run import show
from promptopt.web.dashboard import serving
from promptopt.web.dashboard.serving import open_dashboard
from promptopt.web.server import LocalServer, is_loopback
from tests.promptopt.fakes import category
from tests.promptopt.small_run import SmallRun, small_run


@pytest.fixture
def run(shared_run, tmp_path) -> SmallRun:
    """A copy of its own for every test."""
    return shared_run.copied(tmp_path)


def get(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        return answer.read()


def digest(run: SmallRun) -> str:
    return hashlib.sha256((run.folder / "study.db").read_bytes()).hexdigest()


def test_images_of_a_run_are_found_again_without_its_generator(run):
    images, shown = run.images, show(run.folder)
    for row in shown.trials:
        found = images.find(row.candidate, stage="search", count=row.images)
        assert len(found) == row.images
        assert all(image is not None and image.request.prompt == row.candidate.prompt for image in found)
    seeds = [image.request.seed for image in images.present(images.baseline, stage="confirmation")]
    assert seeds == read_prompts(run.folder / "prompts.json").seeds.confirmation
    assert images.find(Candidate("a prompt that nobody drew"), stage="search") == [None] * 6


def test_what_is_no_run_folder_says_so(run, tmp_path):
    with pytest.raises(StudyError, match=r"settings\.json: no such file"):
        RunImages.open(tmp_path / "nowhere", store=run.store)
    with pytest.raises(StudyError, match="no folder images"):
        RunImages.open(run.folder, store=tmp_path / "nowhere")
    (run.folder / "settings.json").write_text('{"generator": {"fingerprint": "x"}}')
    with pytest.raises(StudyError, match="not the settings of a study of this version"):
        RunImages.open(run.folder, store=run.store)
    (run.folder / "study.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StudyError, match="not an SQLite database"):
        read_studies(run.folder)


def test_trials_are_read_while_a_study_writes(run):
    before, prompts = digest(run), [row.candidate.label for row in latest(show(run.folder).trials)]
    writer = sqlite3.connect(run.folder / "study.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE trial_values SET value = 1e9")
    (found,) = read_studies(run.folder)  # does not wait for the writer, and sees nothing half done
    assert [trial.user_attrs["prompt"] for trial in found.trials] == prompts
    assert max(trial.value for trial in found.trials if trial.value is not None) < 1e9
    writer.execute("ROLLBACK")
    writer.close()
    assert digest(run) == before


@pytest.mark.slow
def test_the_dashboard_serves_every_trial_with_its_images(run):
    pytest.importorskip("optuna_dashboard")
    before, told = digest(run), []
    rows, prompts = latest(show(run.folder).trials), read_prompts(run.folder / "prompts.json")
    with open_dashboard([run.images], on_copied=told.append) as server:
        server.start()
        assert is_loopback(server.host)
        assert b"<title>Optuna Dashboard</title>" in get(f"{server.url}dashboard")
        studies = json.loads(get(f"{server.url}api/studies"))["study_summaries"]
        names = {study["study_name"]: study["study_id"] for study in studies}
        assert set(names) == {"red-squares: search", "red-squares: confirmed on fresh seeds"}
        shown = json.loads(get(f"{server.url}api/studies/{names['red-squares: search']}"))
        assert len(shown["trials"]) == len(rows)
        for trial, row in zip(shown["trials"], rows, strict=True):
            attributes = {attribute["key"]: attribute["value"] for attribute in trial["user_attrs"]}
            assert attributes["prompt"] == row.candidate.label
            assert float(attributes["alignment"]) == pytest.approx(row.estimates["alignment"].value, rel=1e-3)
            assert trial["values"] == [pytest.approx(row.value)]
            assert row.candidate.label in trial["note"]["body"].replace("\\", "")
            (artifact,) = trial["artifacts"]
            address = (
                f"artifacts/{shown['trials'][0]['study_id']}/{trial['trial_id']}/{artifact['artifact_id']}"
            )
            assert address in trial["note"]["body"]
            with Image.open(io.BytesIO(get(server.url + address))) as picture:
                count = min(row.images, 16)  # as many as a picture shows
                own = run.images.present(row.candidate, stage="search", count=count)
                expected = image_grid([image.load() for image in own])
                assert np.array_equal(np.asarray(picture), np.asarray(expected))
        confirmed = json.loads(
            get(f"{server.url}api/studies/{names['red-squares: confirmed on fresh seeds']}")
        )
        assert len(confirmed["trials"]) == len(prompts.prompts)
        assert "copy" in confirmed["note"]["body"]

        deletion = urllib.request.Request(
            f"{server.url}api/studies/{names['red-squares: search']}",
            data=b"{}",
            headers={"Content-Type": "application/json"},
            method="DELETE",
        )
        urllib.request.urlopen(deletion, timeout=20).read()
        assert len(json.loads(get(f"{server.url}api/studies"))["study_summaries"]) == 1
    assert digest(run) == before
    assert latest(show(run.folder).trials) == rows
    assert told[0].images_found == told[0].images_wanted > 0
    with pytest.raises(urllib.error.URLError):
        get(server.url)


@pytest.mark.slow
def test_a_second_start_adds_only_what_is_new(run, tmp_path):
    pytest.importorskip("optuna_dashboard")
    told = []
    busy = pytest.raises(StudyError, match="another process shows this run")
    with open_dashboard([run.images], on_copied=told.append), busy, open_dashboard([run.images]):
        pass
    with open_dashboard([run.images], on_copied=told.append):
        pass
    assert [copied.trials for copied in told][1] == 0

    base = Path(shutil.copytree(run.data.parent, tmp_path / "base"))
    more = small_run(base, search={"trials": 7, "images": 6, "sampler": "random"})
    new = len(latest(show(more.folder).trials)) - len(latest(show(run.folder).trials))
    assert new > 0
    for name in ("study.db", "prompts.json", "settings.json"):
        shutil.copy(more.folder / name, run.folder / name)
    with open_dashboard([run.images], on_copied=told.append):
        pass
    prompts = len(read_prompts(run.folder / "prompts.json").prompts)
    assert told[2].trials == new + prompts  # the confirmed ones are ranked anew

    other = small_run(base, name="other", seed=6)
    shutil.copy(other.folder / "study.db", run.folder / "study.db")
    with pytest.raises(StudyError, match="--rebuild"), open_dashboard([run.images]):
        pass
    with open_dashboard([run.images], rebuild=True, on_copied=told.append):
        pass
    assert told[-1].trials > 0


@pytest.mark.slow
def test_a_study_that_goes_on_is_followed(run):
    pytest.importorskip("optuna_dashboard")
    whole = (run.folder / "study.db").read_bytes()
    (run.folder / "prompts.json").unlink()
    with sqlite3.connect(run.folder / "study.db") as database:
        last = database.execute("SELECT max(trial_id) FROM trials").fetchone()[0]
        database.execute("UPDATE trials SET state = 'RUNNING' WHERE trial_id = ?", (last,))
        begun = "SELECT value_json FROM trial_user_attributes WHERE trial_id = ? AND key = 'rows'"
        first = json.loads(database.execute(begun, (last,)).fetchone()[0])[0]["number"]
        database.execute("DELETE FROM trial_user_attributes WHERE trial_id = ? AND key = 'rows'", (last,))
        for table, key in (("trial_user_attributes", "rows"), ("study_user_attributes", "repeats")):
            own = table.removesuffix("s") + "_id"
            for row, text in database.execute(
                f"SELECT {own}, value_json FROM {table} WHERE key = ?", (key,)
            ).fetchall():
                left = [one for one in json.loads(text) if one["number"] < first]
                database.execute(
                    f"UPDATE {table} SET value_json = ? WHERE {own} = ?", (json.dumps(left), row)
                )
    database.close()
    with open_dashboard([run.images], refresh=0.05) as server:
        server.start()

        def shown() -> int:
            return len(json.loads(get(f"{server.url}api/studies/1"))["trials"])

        there = shown()
        (run.folder / "study.db").write_bytes(whole)
        deadline = time.monotonic() + 20
        while shown() == there and time.monotonic() < deadline:
            time.sleep(0.2)
        assert shown() == there + 1


@pytest.mark.slow
def test_trials_that_grow_are_brought_up_to_date(tmp_path):
    """Running trials, and those that had ended before the study went on with a larger budget."""
    pytest.importorskip("optuna_dashboard")
    search = {"images": 4, "stop": None, "sampler": "slots", "proposals_per_step": 4}
    first = small_run(tmp_path, search={**search, "trials": 10})
    early = (first.folder / "study.db").read_bytes()
    space = compile_template(category()["template"], {})
    log = TrialLog(first.folder / "study.db", name="red-squares", space=space)
    log.begin([(row.candidate, row.choice) for row in latest(log.rows)[:3]])  # these run again

    def shown() -> list[tuple]:
        """The copy's trials, which are to be those of the run."""
        with open_dashboard([first.images]):
            pass
        storage = address(first.folder / "dashboard" / "dashboard.db")
        copy = optuna.load_study(study_name="red-squares: search", storage=storage)
        (found,) = read_studies(first.folder)
        assert len(copy.trials) == len(found.trials)
        for one, trial in zip(copy.trials, found.trials, strict=True):
            assert (one.state, one.values) == (trial.state, trial.values)
            assert one.intermediate_values == trial.intermediate_values
            assert one.constraints == trial.constraints
            assert one.datetime_start == trial.datetime_start
            shots = first.images.present(latest_of(trial).candidate, stage="search")
            assert shots
            (key,) = [key for key in one.system_attrs if key.startswith("artifacts:")]
            assert one.user_attrs["picture"] in key
            count = latest_of(trial).images
            assert one.user_attrs["images"] == f"{count} of {count}"
        return [(one.state.name, len(one.intermediate_values)) for one in copy.trials]

    def latest_of(trial):
        return rows_of_trial(trial)[-1]

    assert [state for state, _ in shown()[:3]] == ["RUNNING"] * 3
    log.finish()
    assert {state for state, _ in shown()} <= {"COMPLETE", "PRUNED"}
    (first.folder / "study.db").write_bytes(early)
    before = shown()
    small_run(tmp_path, search={**search, "trials": 20})
    after = shown()
    assert len(after) == 20
    assert any(new[1] > old[1] for old, new in zip(before, after, strict=False))


def test_images_that_are_gone_are_counted(run, tmp_path):
    pytest.importorskip("optuna_dashboard")
    (tmp_path / "empty" / "images").mkdir(parents=True)
    told = []
    with open_dashboard([RunImages.open(run.folder, store=tmp_path / "empty")], on_copied=told.append):
        pass
    assert told[0].images_found == 0 < told[0].images_wanted


def test_without_the_package_the_command_says_how_to_install_it(run, monkeypatch):
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    done = CliRunner().invoke(main, ["dashboard", str(run.folder), "--store", str(run.store)])
    assert done.exit_code == 2
    assert "pip install 'promptopt[dashboard]'" in done.stderr


@pytest.mark.slow
def test_the_command_listens_on_loopback_and_warns_of_anything_else(run, monkeypatch):
    pytest.importorskip("optuna_dashboard")
    seen = []
    monkeypatch.setattr(LocalServer, "serve_forever", lambda self: seen.append(get(self.start().url)))
    arguments = ["dashboard", str(run.folder), "--store", str(run.store), "--port", "0"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "http://127.0.0.1:" in done.stdout
    assert len(seen) == 1
    refused = CliRunner().invoke(main, [*arguments, "--host", "0.0.0.0"])
    assert refused.exit_code == 2
    assert "--allow-remote" in refused.stderr
    monkeypatch.setattr(LocalServer, "serve_forever", lambda self: None)
    warned = CliRunner().invoke(main, [*arguments, "--host", "0.0.0.0", "--allow-remote"])
    assert warned.exit_code == 0, warned.output
    assert "Warning: 0.0.0.0" in warned.stderr


def hello(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]


@pytest.mark.parametrize(
    ("method", "headers", "answer"),
    [
        ("GET", {}, b"hello"),
        ("GET", {"Host": "localhost:80"}, b"hello"),
        ("GET", {"Host": "evil.example"}, None),
        ("GET", {"Origin": "http://evil.example"}, b"hello"),
        ("POST", {"Origin": "http://evil.example"}, None),
        ("DELETE", {"Origin": "null"}, None),
        ("POST", {}, b"hello"),
    ],
)
def test_only_its_own_pages_may_change_things(method, headers, answer):
    with LocalServer(hello).start() as server:
        request = urllib.request.Request(server.url, method=method, headers=headers)
        if answer is None:
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(request, timeout=10)
        else:
            assert urllib.request.urlopen(request, timeout=10).read() == answer
        own = urllib.request.Request(server.url, method="POST", headers={"Origin": server.url.rstrip("/")})
        assert urllib.request.urlopen(own, timeout=10).read() == b"hello"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n", 413),
        ("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: " + "9" * 60 + "\r\n", 413),
        ("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n", 411),
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + f"A: {'x' * 60_000}\r\nB: {'x' * 60_000}\r\n", 431),
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + "A: x\r\n" * 200, 431),
        (f"GET /{'x' * 100_000} HTTP/1.1\r\nHost: 127.0.0.1\r\n", 414),
        ("GET / HTTP/1.1\r\nHost: [\r\n", 403),
        ("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://[\r\n", 403),
    ],
)
def test_a_request_is_bounded(head, status):
    with (
        LocalServer(hello).start() as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as line,
    ):
        line.sendall(f"{head}\r\nabc".encode())
        assert int(line.makefile("rb").readline().split()[1]) == status


def test_a_taken_port_is_an_error():
    with LocalServer(hello) as server, pytest.raises(StudyError, match="cannot listen"):
        LocalServer(hello, port=server.port)
