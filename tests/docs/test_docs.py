"""Every command of the documentation runs, in order, in a folder a page; what cannot run here says why."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer.main

from promptopt.cli.main import main
from tests.docs.challenge_files import write_challenge_files
from tests.docs.pages import REPOSITORY, RUN, Block, Page, pages, read_page
from tests.docs.running import run_block, run_command
from tests.local_ray import needs_ray
from tests.postgres import Server

PAGES = pages()
RUNNABLE = [
    pytest.param(page, block, id=block.name)
    for page in PAGES
    for block in page.blocks
    if block.language in RUN or block.title
]
SHELL = [block for page in PAGES for block in page.blocks if block.language in ("bash", "console")]
SMALL_STUDY = shlex.split(
    "--set data.phantom.images=180 --set generator.steps=2 --set search.trials=2 --set search.images=4"
    " --set search.racing=false --set confirm.top=1 --set confirm.images=4"
)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's three runs, very small, with their store."""
    folder = tmp_path_factory.mktemp("quickstart")
    for category in ("polyps", "landmarks", "instruments"):
        file = REPOSITORY / "studies" / "files" / f"quickstart-{category}.yaml"
        done = run_command(f"promptopt study run {file}", {"study run": SMALL_STUDY}, folder)
        assert done.code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def challenge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures and captions as the challenge ships them."""
    folder = tmp_path_factory.mktemp("challenge")
    write_challenge_files(folder)
    return folder


@pytest.fixture
def postgres(postgres_server: Server) -> dict[str, str]:
    """The server of the pages, whatever its name there, is one on this machine, with an empty database."""
    postgres_server.database("team")
    return postgres_server.environment


@pytest.fixture
def ray() -> dict[str, str]:
    """Nothing, where Ray is installed."""
    needs_ray()
    return {}


@pytest.fixture(scope="module")
def folder_of(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[Page], Path]:
    """The folder of a page, made when its first block runs: the clone's studies/, and what it needs."""
    made: dict[str, Path] = {}

    def get(page: Page) -> Path:
        if page.name not in made:
            folder = tmp_path_factory.mktemp(Path(page.name).stem)
            (folder / "studies").symlink_to(REPOSITORY / "studies")
            for name in page.needs:
                source = request.getfixturevalue(name)
                shutil.copytree(source, folder, dirs_exist_ok=True, copy_function=os.link)
            made[page.name] = folder
        return made[page.name]

    return get


_failed: set[str] = set()


@pytest.mark.slow  # all pages together: some minutes
@pytest.mark.parametrize(("page", "block"), RUNNABLE)
def test_block(page: Page, block: Block, folder_of: Callable[[Page], Path], request: pytest.FixtureRequest):
    if block.skip:
        pytest.skip(block.skip)
    if page.name in _failed:
        pytest.skip("an earlier block of this page failed")
    environment: dict[str, str] = {}
    for name in block.uses:
        environment |= request.getfixturevalue(name)
    folder = folder_of(page)
    if block.title:
        (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.title).write_text(block.text)
        return
    _failed.add(page.name)
    run_block(block, folder, environment)
    _failed.discard(page.name)


def _command(words: list[str]) -> tuple[typer.core.TyperCommand, list[str]]:
    """The command that the words call, and the rest of them. KeyError for one that does not exist."""
    command, rest = typer.main.get_command(main), list(words)
    while hasattr(command, "commands"):
        if not rest:
            return command, rest
        command = command.commands[rest.pop(0)]
    return command, rest


def _faults(line: str) -> Iterator[str]:
    words = shlex.split(line, comments=True)
    if "promptopt" not in words:
        return
    words = words[words.index("promptopt") + 1 :]
    if words and words[0].startswith("-"):
        return
    try:
        command, rest = _command([word for word in words if word != "..."])
    except KeyError as error:
        yield f"there is no command {error}"
        return
    known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
    yield from (
        f"{word} is no option of it"
        for word in rest
        if word.startswith("--") and word.split("=")[0] not in known
    )


@pytest.mark.slow
@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.name)
def test_commands_and_options_exist(block: Block):
    for line in block.commands():
        assert not list(_faults(line)), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_named_in_the_text_exist(page: Page):
    for line in page.inline:
        assert not list(_faults(line)), line


def test_an_option_or_command_that_does_not_exist_is_found():
    assert list(_faults("promptopt study run x.yaml --trails 3"))
    assert list(_faults("HF_HUB_OFFLINE=1 promptopt studdy run"))
    assert not list(_faults("promptopt study run x.yaml --trials=3 --set a=b"))


def test_a_failing_block_fails(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- test: exit: 2 -->\n```bash\npromptopt study show nowhere\n```\n```bash\nfalse\n```\n"
    )
    first, second = _read(page)
    run_block(first, tmp_path)
    with pytest.raises(AssertionError, match="exit code 1"):
        run_block(second, tmp_path)


def _read(file: Path) -> tuple[Block, ...]:
    from tests.docs import pages as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "REPOSITORY", file.parent)
        return read_page(file).blocks
