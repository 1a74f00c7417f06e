"""The blinded page: nothing gives a prompt away, nothing that was chosen is lost."""

import io
import json
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from itertools import combinations
from wsgiref.util import setup_testing_defaults

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from promptopt import Study, StudyError
from promptopt.cli.main import main
from promptopt.review.candidates import candidates
from promptopt.review.page import PreferencePage
from promptopt.review.preferences import PreferenceMetric, write_preferences
from promptopt.review.records import ReviewError, read_choices, records_path
from promptopt.review.session import Session
from promptopt.run.images import RunImages
from promptopt.space import Candidate
from promptopt.web.server import LocalServer
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, study
from tests.promptopt.small_run import SmallRun


@pytest.fixture
def run(shared_run, tmp_path_factory) -> SmallRun:
    return shared_run.copied(tmp_path_factory.mktemp("prefer"))


def session(run, rater="anna", **changes):
    shown, stage = candidates(run.images, most=4)
    given = {"rounds": 2, "per_set": 4, "seed": 3} | changes
    return Session(run.images, rater=rater, prompts=[p.candidate for p in shown], stage=stage, **given)


def get(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read()


def choose(server, side, number=None):
    if number is None:
        number = re.search(rb'name="number" value="(\d+)"', get(server.url))[1].decode()
    form = urllib.parse.urlencode({"number": number, "side": side}).encode()
    return urllib.request.urlopen(f"{server.url}choose", data=form, timeout=20).read()


def test_confirmed_prompts_and_the_baseline_are_compared_on_their_fresh_images(run):
    shown, stage = candidates(run.images, most=4)
    assert stage == "confirmation"
    assert shown[0].candidate == run.images.baseline
    assert 2 <= len(shown) <= 4
    prompts = json.loads((run.folder / "prompts.json").read_text())["prompts"]
    confirmed = [entry["prompt"] for entry in prompts if entry["prompt"] != run.images.baseline.prompt]
    assert [prompt.label for prompt in shown[1:]] == confirmed[: len(shown) - 1]


def test_every_round_shows_every_pair_once_with_the_same_seeds_on_both_sides(run):
    own = session(run)
    prompts = [prompt.label for prompt in candidates(run.images, most=4)[0]]
    pairs = list(combinations(prompts, 2))
    assert Counter(frozenset((p.left, p.right)) for p in own.schedule) == {frozenset(p): 2 for p in pairs}
    assert all(len(set(pair.images)) == 4 for pair in own.schedule)
    assert session(run).schedule == own.schedule
    assert session(run, seed=4).schedule != own.schedule
    assert session(run, rater="bert").schedule != own.schedule
    sides = Counter(pair.left for pair in session(run, rounds=40).schedule)
    assert min(sides.values()) > 0.7 * 20 * (len(prompts) - 1)


def test_the_page_gives_no_prompt_away(run):
    own = session(run)
    with LocalServer(PreferencePage(own, question="Which?")).start() as server:
        page = get(server.url).decode()
        for prompt in {p for pair in own.schedule for p in (pair.left, pair.right)}:
            assert prompt not in page
        assert str(own.seed) not in page
        _, pair = own.current()
        for side in ("left", "right"):
            content = get(f"{server.url}{side}.png")
            with Image.open(io.BytesIO(content)) as picture:
                assert not picture.info
                assert np.asarray(picture).std() > 1
            assert content == own.picture(getattr(pair, side), pair.images)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{server.url}choices.jsonl")


def test_answers_that_are_none_are_refused_and_nothing_is_kept(run):
    page = PreferencePage(own := session(run), question="Which?")

    def ask(method, path, body=b""):
        said = []
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "CONTENT_LENGTH": str(len(body))}
        environ |= {"CONTENT_TYPE": "application/x-www-form-urlencoded", "wsgi.input": io.BytesIO(body)}
        setup_testing_defaults(environ)
        text = b"".join(page(environ, lambda status, headers, _=None: said.append((status, dict(headers)))))
        return int(said[0][0][:3]), said[0][1]["Content-Type"].partition(";")[0], text

    number = own.current()[0]
    for body, status in (
        (b"side=left", 400),
        (b"", 400),
        (f"side=middle&number={number}".encode(), 400),
        (f"side=left&number={number}&more={'x' * 9000}".encode(), 413),
    ):
        assert ask("POST", "/choose", body)[:2] == (status, "text/plain")
    assert ask("GET", "/choose")[0] == 405
    assert ask("GET", "/../left.png")[0] == 404
    assert ask("GET", "/")[:2] == (200, "text/html")
    assert own.progress()[0] == 0
    (run.store / "images").rename(run.store / "elsewhere")
    try:
        status, kind, text = ask("GET", "/left.png")
    finally:
        (run.store / "elsewhere").rename(run.store / "images")
    assert (status, kind) == (500, "text/plain")
    assert b"Traceback" not in text


def test_choices_are_kept_in_order_and_the_session_goes_on_where_it_stopped(run):
    own = session(run)
    with LocalServer(PreferencePage(own, question="Which?")).start() as server:
        for side in ("left", "right", "same"):
            choose(server, side)
        choose(server, "left", number=1)  # a page loaded twice
        with pytest.raises(urllib.error.HTTPError, match="400"):
            choose(server, "both")
    found = read_choices(records_path(run.folder))
    assert [c.choice for c in found] == ["left", "right", "same"]
    assert [(c.left, c.right, c.images) for c in found] == [
        (p.left, p.right, p.images) for p in own.schedule[:3]
    ]
    assert [c.better for c in found] == [found[0].left, found[1].right, None]
    again = session(run)
    assert again.current() == (3, own.schedule[3])
    assert again.progress() == (3, len(own.schedule))
    assert session(run, rater="bert").progress() == (0, len(own.schedule))
    with LocalServer(PreferencePage(again, question="Which?")).start() as server:
        while again.current() is not None:
            choose(server, "right")
        assert b"You may close this page" in get(server.url)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{server.url}left.png")
    assert len(read_choices(records_path(run.folder))) == len(own.schedule)


def test_both_unusable_and_a_comment_are_recorded_and_counted(run):
    own, path = session(run), records_path(run.folder)
    with LocalServer(PreferencePage(own, question="Which?")).start() as server:
        number = re.search(rb'name="number" value="(\d+)"', get(server.url))[1].decode()
        form = {"number": number, "side": "unusable", "comment": "verwaschen, ö "}
        urllib.request.urlopen(f"{server.url}choose", data=urllib.parse.urlencode(form).encode(), timeout=20)
        choose(server, "left")
        pair = own.current()[1]
        assert get(f"{server.url}large/left.png") == own.picture(pair.left, pair.images, tile=480)
    first, second = read_choices(path)
    assert (first.choice, first.better, first.worse, first.comment) == (
        "unusable",
        None,
        None,
        "verwaschen, ö",
    )
    assert (second.better, second.comment) == (second.left, "")
    values = write_preferences(run.images)
    assert sum(row.unusable for row in values.prompts) == 2
    assert sum(row.same for row in values.prompts) == 0
    assert [one["comment"] for one in values.to_dict()["comments"]] == ["verwaschen, ö"]
    assert values.left.n == 1
    assert PreferenceMetric.read(run.folder).reference == values.reference
    line = json.loads(path.read_text().splitlines()[1])
    del line["comment"]  # as earlier versions wrote it
    path.write_text(json.dumps(line) + "\n")
    assert read_choices(path)[0].comment == ""


def test_the_last_choice_can_be_taken_back_and_a_torn_line_is_no_harm(run):
    own, path = session(run), records_path(run.folder)
    with LocalServer(PreferencePage(own, question="Which?")).start() as server:
        choose(server, "left")
        choose(server, "left")
        urllib.request.urlopen(f"{server.url}undo", data=b"", timeout=20).read()
        assert own.progress()[0] == 1
        assert own.current() == (1, own.schedule[1])
        with path.open("a") as stream:
            stream.write('{"number": 1, "rater": "an')  # the power went
        choose(server, "right")
    assert [c.choice for c in read_choices(path)] == ["left", "right"]
    assert len(path.read_text().splitlines()) == 4  # with the one taken back, and that it was
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(ReviewError, match=r"choices\.jsonl, line 5: not a choice"):
        read_choices(path)


def test_values_reach_a_study_as_a_metric(run):
    for rater in ("anna", "bert"):
        own = session(run, rater=rater, rounds=3)
        worst = candidates(run.images, most=4)[0][-1].label
        while (found := own.current()) is not None:
            number, pair = found
            own.choose(number, "right" if pair.left == worst else "left" if pair.right == worst else "same")
    values = write_preferences(run.images)
    assert values.prompts[-1].label == worst
    assert values.prompts[-1].value.high < 0
    assert values.agreement["anna", "bert"].value == 1.0
    metric = PreferenceMetric.read(run.folder)
    assert metric(run.images.baseline).value == 0.0
    for row in values.prompts:
        assert metric(Candidate(row.label)).value == pytest.approx(row.value.value)
    assert metric(Candidate("nobody has seen it")).status == "undefined"
    slots = next(p.slots for p in values.prompts if p.slots is not None)
    assert metric(Candidate("nobody has seen it"), slots).status == "unreliable"
    table = (run.folder / "review" / "preferences.csv").read_text().splitlines()
    assert len(table) == 1 + len(values.prompts)
    assert len(metric.fingerprint) == 64

    shown = CliRunner(env={"COLUMNS": "200"}).invoke(
        main, ["review", "values", str(run.folder), "--store", str(run.store)]
    )
    assert shown.exit_code == 0, shown.output
    assert "kappa" in shown.stdout
    (run.folder / "review" / "preferences.json").write_text("{}")
    with pytest.raises(ReviewError, match="not a list of preferences"):
        PreferenceMetric.read(run.folder)


@pytest.mark.slow
def test_a_study_goes_where_the_experts_point(run, tmp_path):
    """A weight that drowns all else: the prompt they liked heads the list, with their value in the tables."""
    own = session(run, rater="anna", rounds=6)
    liked = candidates(run.images, most=4)[0][-1].label
    while (found := own.current()) is not None:
        number, pair = found
        own.choose(number, "left" if pair.left == liked else "right" if pair.right == liked else "same")
    write_preferences(run.images)
    content = study(tmp_path, data=str(run.data), name="guided", search={"trials": 30, "images": 6})
    content["preference"] = {"source": str(run.folder), "weight": 50.0}
    objects = {"generator": SquareGenerator(), "encoder": ColorEncoder()}
    result = Study(content, runs=tmp_path / "runs", store=tmp_path / "store", **objects).run()
    first = result.prompts.prompts[0]
    assert first.confirmation["preference"].value > 0
    slots = {
        name: entry.slots for name, entry in ((e.label, e) for e in result.prompts.prompts) if entry.slots
    }
    shared = PreferenceMetric.read(run.folder)
    assert shared(first.candidate, slots.get(first.label)).value == pytest.approx(
        first.confirmation["preference"].value, rel=1e-5
    )
    content["category"] = {**content["category"], "baseline": "a green square"}
    with pytest.raises(StudyError, match=r"preference\.source.*baseline"):
        Study(content, runs=tmp_path / "other", store=tmp_path / "store", **objects).run()


def test_a_study_that_is_not_finished_shows_its_best_prompts(shared_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(shared_run.folder, folder)
    (folder / "prompts.json").unlink()
    shown, stage = candidates(RunImages.open(folder, store=shared_run.store), most=3)
    assert stage == "search"
    assert [prompt.score for prompt in shown[1:]] == sorted((p.score for p in shown[1:]), reverse=True)


def test_a_run_that_cannot_be_written_is_said_before_the_first_pair_is_shown(run):
    (run.folder / "review").write_text("")  # root may write where it has no right to
    with pytest.raises(ReviewError, match=r"review: the experts' choices cannot be written .*permission"):
        session(run)


def test_what_cannot_be_compared_is_refused(run, tmp_path):
    with pytest.raises(ReviewError, match="--rater"):
        session(run, rater=" ")
    (tmp_path / "images").mkdir()
    elsewhere = RunImages.open(run.folder, store=tmp_path)
    with pytest.raises(ReviewError, match="are not in"):
        Session(elsewhere, rater="anna", prompts=[Candidate("a"), Candidate("b")], stage="search")
    done = CliRunner().invoke(main, ["review", "values", str(run.folder), "--store", str(run.store)])
    assert done.exit_code == 2
    assert "Hold a review first" in done.stderr


def test_the_command_serves_the_page_and_prints_the_values(run, monkeypatch):
    def rate(server):
        server.start()
        for _ in range(3):
            choose(server, "left")

    monkeypatch.setattr(LocalServer, "serve_forever", rate)
    done = CliRunner(env={"COLUMNS": "200"}).invoke(
        main,
        ["review", "prefer", str(run.folder), "--store", str(run.store), "--rater", "anna", "--port", "0"],
    )
    assert done.exit_code == 0, done.output
    assert "3 choices by anna" in done.stdout
    assert (run.folder / "review" / "preferences.json").is_file()
