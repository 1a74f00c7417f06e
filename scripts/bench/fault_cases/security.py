"""What a file from elsewhere, or a page elsewhere, might try: none of it may work."""

from __future__ import annotations

import csv
import json
import pickle
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.bench.fault_cases.inputs import picture_readers, with_picture
from scripts.bench.fault_cases.jobs import fresh
from scripts.bench.fault_cases.processes import CaseError, Done, call

Cases = Iterator[tuple[str, Callable[[], None]]]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
ESCAPES = "\x1b[2J\x1b]0;title\x07\x1b[31m"
FORMULAS = ("=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1")


def cases(work: Path, rng: random.Random) -> Cases:
    """All of them, in an order of chance."""
    listed = [
        *_decoders(work),
        *_formulas(work),
        *_terminal(work),
        *_homes(work),
        *_addresses(work),
        *_requests(work),
        *_checksums(work),
        *_pickles(work),
        *_leading_out(work),
    ]
    rng.shuffle(listed)
    yield from listed


def _decoders(work: Path) -> Cases:
    """An EPS that is called .png never starts Ghostscript."""
    for reader, arguments in picture_readers(work).items():

        def case(arguments: Callable[[Path], list[object]] = arguments) -> None:
            started = work / "bad" / "gs-started"
            tools = fresh(work / "bad" / "tools")
            tools.mkdir(parents=True)
            (tools / "gs").write_text(f"#!/bin/sh\ntouch '{started}'\n")
            (tools / "gs").chmod(0o755)
            started.unlink(missing_ok=True)
            done = call(
                *arguments(with_picture(work, EPS, every=True)),
                work=work,
                env={"PATH": f"{tools}:/usr/bin:/bin"},
            )
            if started.exists():
                raise CaseError("Ghostscript was started", done.command)
            done.check(refused=True)

        yield f"{reader}: an EPS called .png", case


def _formulas(work: Path) -> Cases:
    for formula in FORMULAS:

        def synthesize(formula: str = formula) -> None:
            file = work / "bad" / "formula.jsonl"
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps({"prompt": f"{formula} polyp"}) + "\n")
            out = fresh(work / "bad-out")
            done = call(
                *("synthesize", "--prompts", file, "--generator", "micro", "--out", out, "--steps", "1"),
                work=work,
            ).check(refused=False)
            _no_formula(out, done)

        def listed(formula: str = formula) -> None:
            run = _changed_run(work, formula)
            for arguments in (
                ["export", "list", run, "--out", fresh(work / "bad-out")],
                ["tables", run, "--out", fresh(work / "bad-out")],
            ):
                _no_formula(work / "bad-out", call(*arguments, work=work).check(refused=False))

        yield f"synthesize: a prompt with {formula!r}", synthesize
        yield f"export list, tables: a prompt with {formula!r}", listed


def _no_formula(folder: Path, done: Done) -> None:
    for path in folder.rglob("*.csv"):
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for row in csv.reader(stream):
                for cell in row:
                    if cell.lstrip()[:1] in ("=", "+", "-", "@", "\uff1d") and not _number(cell):
                        raise CaseError(f"{path.name} holds the cell {cell[:40]!r}", done.command)
                    if cell[:1] in ("\t", "\r"):
                        raise CaseError(f"{path.name} holds the cell {cell[:40]!r}", done.command)


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _changed_run(work: Path, begin: str) -> Path:
    """A finished run whose prompts begin with something."""
    from promptopt.run.prompts import read_prompts, write_prompts

    run = fresh(work / "bad" / "runs") / "polyps"
    shutil.copytree(work / "runs" / "polyps", run)
    content = read_prompts(run / "prompts.json")
    entries = [entry.model_copy(update={"prompt": f"{begin}{entry.prompt}"}) for entry in content.prompts]
    tied = [entry.prompt for entry in entries if entry.tied_with_first]
    write_prompts(run / "prompts.json", content.model_copy(update={"prompts": entries, "tied": tied}))
    return run


def _terminal(work: Path) -> Cases:
    def plain(done: Done) -> None:
        done.check()
        if "\x1b" in done.said or "\x07" in done.said:
            at = done.said.index("\x1b") if "\x1b" in done.said else 0
            raise CaseError(f"printed {done.said[at : at + 40]!r}", done.command)

    def of_run() -> None:
        plain(call("study", "show", _changed_run(work, ESCAPES), work=work))

    def of_file() -> None:
        file = work / "bad" / f"a{ESCAPES.replace('/', '')}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text("a polyp\n\n")
        out = fresh(work / "bad-out")
        plain(
            call(
                "synthesize",
                "--prompts",
                file,
                "--generator",
                "micro",
                "--out",
                out,
                "--steps",
                "1",
                work=work,
            )
        )

    def of_missing() -> None:
        plain(call("data", "check", f"none{ESCAPES}", work=work))

    def of_labels() -> None:
        folder = fresh(work / "bad" / "data")
        shutil.copytree(work / "data", folder)
        rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
        for row in rows:
            row["label"] = f"{ESCAPES}{row['label']}"
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        plain(call("data", "check", folder, work=work))
        plain(call("classify", folder, folder, "--encoder", "thumbnail", "--by", "label", work=work))

    def of_settings() -> None:
        file = work / "bad" / "settings.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"name": ESCAPES, ESCAPES: 1}))
        plain(call("study", "run", file, work=work))

    def of_template() -> None:
        plain(call("template", "sample", f"a {{polyp|{ESCAPES}}}", work=work))

    yield "study show: prompts with escapes", of_run
    yield "synthesize: a file name with escapes", of_file
    yield "data check: a missing folder with escapes", of_missing
    yield "data check, classify: labels with escapes", of_labels
    yield "study run: settings with escapes", of_settings
    yield "template sample: options with escapes", of_template


def _homes(work: Path) -> Cases:
    """No file that others see names the home folder, which is the working folder here."""

    def none_in(folder: Path, done: Done, *patterns: str) -> None:
        done.check(refused=False)
        for path in (path for pattern in patterns for path in folder.rglob(pattern)):
            if str(work).encode() in path.read_bytes():
                raise CaseError(f"{path.name} names the home folder", done.command)

    env = {"HOME": str(work)}

    def study() -> None:
        runs = fresh(work / "bad-runs")
        done = call(
            "study", "run", work / "study.yaml", "--runs", runs, "--store", work / "store", work=work, env=env
        )
        none_in(runs, done, "prompts.json", "report.html", "*.csv")

    def synthesis() -> None:
        out = fresh(work / "bad-out")
        done = call(
            *("synthesize", "--prompts", work / "prompts.txt", "--generator", work / "micro", "--out", out),
            *("--steps", "1"),
            work=work,
            env=env,
        )
        none_in(out, done, "*.csv", "*.png", "*.json")

    def augmentation() -> None:
        out = fresh(work / "bad-out")
        done = call(
            *("augment", work / "runs" / "polyps", "--out", out, "--per-class", "2", "--filters", "none"),
            *("--generator", work / "micro", "--store", work / "bad-store"),
            work=work,
            env=env,
        )
        none_in(out, done, "*.jsonl", "*.png", "*.md")

    yield "study run: no home folder in report, prompts.json and tables", study
    yield "synthesize: no home folder in manifest and pictures", synthesis
    yield "augment: no home folder in a set", augmentation


def _addresses(work: Path) -> Cases:
    bad = (
        "hf:../etc",
        "hf:a/..",
        "hf:/etc/passwd",
        "hf:a/b//etc/x.safetensors",
        "hf:a/b/../x.safetensors",
        "hf:a\\b/c",
        "hf:a/b@../../x",
        "hf:a/b@/etc",
        "hf:a/b/sub\\x.safetensors",
    )
    for address in bad:
        for arguments in (
            ["generate", address, "a polyp", "--out", work / "bad-out"],
            ["generate", f"micro+lora:{address}", "a polyp", "--out", work / "bad-out"],
            ["evaluate", "data", "data", "--encoder", address],
            ["train", "sd", "--data", "data", "--out", work / "bad-out", "--init", address],
        ):

            def case(arguments: list[object] = arguments) -> None:
                done = call(*arguments, work=work).check(refused=True)
                if "cannot be downloaded" in done.said:
                    raise CaseError("was asked for at the hub", done.command)

            yield f"{arguments[0]}: {address!r}", case


def _requests(work: Path) -> Cases:
    def answer(request: bytes) -> int:
        from promptopt.web.server import LocalServer

        def app(environ: dict[str, object], start: Callable[..., object]) -> list[bytes]:
            start("200 OK", [("Content-Type", "text/plain")])
            return [b"reached"]

        with (
            LocalServer(app).start() as server,
            socket.create_connection(("127.0.0.1", server.port), 10) as line,
        ):
            line.sendall(request)
            return int(line.makefile("rb").readline().split()[1])

    for what, head, statuses in (
        ("a right one", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", (200,)),
        ("a body of 1 GB", b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n", (413,)),
        ("a length that is none", b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n", (400,)),
        ("chunks", b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n", (411,)),
        (
            "a header of 60 kB twice",
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + (b"A: %s\r\n" % (b"x" * 60_000)) * 2,
            (431,),
        ),
        ("a header of 100 kB", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nA: %s\r\n" % (b"x" * 100_000), (431,)),
        ("200 headers", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"A: x\r\n" * 200, (431,)),
        ("an address of 100 kB", b"GET /%s HTTP/1.1\r\nHost: 127.0.0.1\r\n" % (b"x" * 100_000), (414,)),
        ("another host's name", b"GET / HTTP/1.1\r\nHost: evil.example\r\n", (403,)),
        ("a host that is none", b"GET / HTTP/1.1\r\nHost: [\r\n", (403,)),
        (
            "another page's change",
            b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n",
            (403,),
        ),
    ):

        def case(head: bytes = head, statuses: tuple[int, ...] = statuses) -> None:
            status = answer(head + b"\r\n")
            if status not in statuses:
                raise CaseError(f"answered with {status}, not {statuses[0]}", "promptopt review prefer RUN")

        yield f"the local server: {what}", case


def _checksums(work: Path) -> Cases:
    readers: dict[str, list[object]] = {
        "export list": ["export", "list", "RUN", "--out", "OUT"],
        "export submission": [
            "export",
            "submission",
            "RUN",
            "--edition",
            "gi-2024",
            "--out",
            "OUT",
            "--partial",
        ],
        "synthesize": ["synthesize", "--prompts", "RUN", "--generator", "micro", "--out", "OUT"],
        "augment": ["augment", "RUN", "--out", "OUT", "--per-class", "2"],
        "study show": ["study", "show", "RUN"],
        "tables": ["tables", "RUN", "--out", "OUT"],
    }
    for name in ("polyps", "sets"):
        for reader, words in readers.items():
            if (name, reader) in (("sets", "tables"), ("sets", "export list")):
                continue

            def case(name: str = name, words: list[object] = words) -> None:
                run = fresh(work / "bad" / "runs") / name
                shutil.copytree(work / "runs" / name, run)
                path = run / "prompts.json"
                text = path.read_text()
                path.write_text(text.replace("polyp", "p0lyp", 1))
                given = {"RUN": run, "OUT": fresh(work / "bad-out")}
                done = call(*(given.get(str(word), word) for word in words), work=work).check(refused=True)
                if "prompts.json" not in done.said:
                    raise CaseError(f"does not name the file: {done.said.strip()[-200:]}", done.command)

            yield f"{reader}: a changed prompts.json ({name})", case


class _Trap:
    """A pickle that leaves a file behind when it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self._path), "w")


def _pickles(work: Path) -> Cases:
    for name in ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"):

        def model(name: str = name) -> None:
            folder, trap = fresh(work / "bad" / "model"), work / "bad" / "trapped"
            shutil.copytree(work / "micro", folder)
            trap.unlink(missing_ok=True)
            for part in ("unet", "vae"):
                (folder / part / "diffusion_pytorch_model.safetensors").unlink()
                (folder / part / name).write_bytes(pickle.dumps(_Trap(trap)))
            done = call("generate", folder, "a polyp", "--out", work / "bad-out", work=work)
            if trap.exists():
                raise CaseError("the pickle was run", done.command)
            done.check(refused=True)

        yield f"generate: a pickle called {name}", model


def _leading_out(work: Path) -> Cases:
    for what, pattern in (
        ("..", "../x{p}-{i}.png"),
        ("absolute", "/tmp/x{p}-{i}.png"),
        ("backslash", "..\\{p}{i}.png"),
    ):

        def named(pattern: str = pattern) -> None:
            arguments = ["synthesize", "--prompts", "prompts.txt", "--generator", "micro", "--out", "bad-out"]
            call(*arguments, "--pattern", pattern, work=work).check(refused=True)

        yield f"synthesize: --pattern that leads out ({what})", named

    def manifest() -> None:
        folder = fresh(work / "bad-out")
        call(
            *(
                "synthesize",
                "--prompts",
                "prompts.txt",
                "--generator",
                "micro",
                "--out",
                folder,
                "--steps",
                "1",
            ),
            work=work,
        ).check(refused=False)
        path = folder / "manifest.csv"
        path.write_text(path.read_text().replace("images/", "../data/", 1))
        arguments = [
            "export",
            "submission",
            "runs/polyps",
            "--edition",
            "gi-2024",
            "--partial",
            "--store",
            "store",
        ]
        out = fresh(work / "bad" / "submission")
        call(*arguments, "--out", out, "--images", folder, work=work).check(refused=True)

    yield "export submission: a manifest that leads out", manifest
