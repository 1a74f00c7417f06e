"""Bad settings, numbers, pictures, tables and texts: refused in a sentence, and never with a traceback."""

from __future__ import annotations

import json
import random
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.bench.fault_cases.jobs import fresh
from scripts.bench.fault_cases.processes import call

Cases = Iterator[tuple[str, Callable[[], None]]]
Readers = dict[str, Callable[[Path], list[object]]]


def cases(work: Path, rng: random.Random) -> Cases:
    """All of them, in an order of chance."""
    listed = [
        *_settings(work),
        *_changes(work),
        *_numbers(work),
        *_pictures(work),
        *_texts(work),
        *_tables(work),
    ]
    rng.shuffle(listed)
    yield from listed


def _bomb(merge: bool) -> str:
    lines = ["a: &a {k: 1}" if merge else "a: &a [x,x,x,x,x,x,x,x,x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        nine = ",".join([f"*{before}"] * 9)
        lines.append(f"{name}: &{name} {{<<: [{nine}]}}" if merge else f"{name}: &{name} [{nine}]")
    return "\n".join(lines)


def bad_settings() -> dict[str, bytes]:
    """Settings files that nobody can mean, by what is wrong."""
    texts = {
        "an empty list": "[]",
        "a scalar": "5",
        "a text": "study",
        "nothing": "",
        "a comment": "# nothing\n",
        "an alias bomb": _bomb(merge=False),
        "a merge bomb": _bomb(merge=True),
        "an alias of itself": "name: &a [*a]",
        "5000 brackets": "name: " + "[" * 5000,
        "60 mappings": "name: " + "{a: " * 60 + "1" + "}" * 60,
        "NaN": "seed: .nan",
        "infinity": "seed: -.inf",
        "1e999": "seed: 1e999",
        "half a surrogate pair": 'name: "\\ud800"',
        "a key twice": "seed: 1\nseed: 2",
        "a list for a key": "? [1, 2]\n: 3",
        "an unknown key": "sead: 1",
        "a Python object": "name: !!python/object/apply:os.system [echo]",
        "a date that is none": "name: 2024-99-99",
        "5000 digits": "seed: " + "9" * 5000,
        "two documents": "seed: 1\n---\nseed: 2",
        "tabs": "search:\n\ttrials: 5",
    }
    return {
        **{name: text.encode() for name, text in texts.items()},
        "UTF-16": "seed: 1".encode("utf-16"),
        "cp1252": "name: Gr\u00f6\u00dfe".encode("cp1252"),
        "NUL": b"seed: 1\0",
        "a picture": b"\x89PNG\r\n\x1a\n\0\0",
    }


def _settings(work: Path) -> Cases:
    readers: Readers = {
        "study run": lambda file: ["study", "run", file, "--runs", work / "bad-runs"],
        "train sd": lambda file: ["train", "sd", "--data", "data", "--out", "bad-out", "--recipe", file],
        "train dreambooth-lora": lambda file: [
            "train",
            "dreambooth-lora",
            "--data",
            "data",
            "--out",
            "bad-out",
            "--init",
            "micro",
            "--recipe",
            file,
        ],
        "train clip": lambda file: ["train", "clip", "--data", "data", "--out", "bad-out", "--recipe", file],
        "train judge": lambda file: [
            "train",
            "judge",
            "--data",
            "data",
            "--out",
            "bad-out",
            "--recipe",
            file,
        ],
        "template check": lambda file: ["template", "check", "a polyp", "--category", file],
    }
    for number, (what, content) in enumerate(bad_settings().items()):
        for reader, arguments in readers.items():

            def case(
                number: int = number,
                content: bytes = content,
                arguments: Callable[[Path], list[object]] = arguments,
            ) -> None:
                file = work / "bad" / f"settings {number}.yaml"
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(content)
                call(*arguments(file), work=work).check(refused=True, naming=file.name)

            yield f"{reader}: {what}", case


def _changes(work: Path) -> Cases:
    bad = {
        "study run": (
            "seed=.nan",
            "search.trials=1e999",
            "confirm.alpha=.inf",
            "name=[[",
            "name=" + "[" * 9999,
            "=1",
            "seed",
            "seed=-1",
            "search=5",
            'name="\\ud800"',
            "name=&a [*a]",
            "score.distance=.nan",
        ),
        "train sd": (
            "training.lr=.nan",
            "training.lr=.inf",
            "training.batch_size=0",
            "size=1e999",
            "training.gradient_accumulation=5",
            "vae_training.gradient_accumulation=3",
            "training.kl=1",
            "vae_training.kl=-1",
            "training.steps=x",
            "validation.guidance=.nan",
        ),
        "train clip": (
            "learning_rate=.nan",
            "betas=[.nan, 0.9]",
            "mean=[.inf, 0, 0]",
            "steps=0.5",
            "batch_size=-1",
        ),
    }
    begin: dict[str, list[object]] = {
        "study run": ["study", "run", "study.yaml", "--runs", "bad-runs"],
        "train sd": ["train", "sd", "--data", "data", "--out", "bad-out", "--recipe", "micro.yaml"],
        "train clip": ["train", "clip", "--data", "data", "--out", "bad-out", "--recipe", "clip.yaml"],
    }
    for reader, texts in bad.items():
        for text in texts:
            arguments = [*begin[reader], "--set", text]
            yield f"{reader}: --set {text[:40]}", _refused(work, arguments)
    late = [*begin["train sd"], "--clip", "/none"]
    yield "train sd: --clip /none", _refused(work, late)


def _numbers(work: Path) -> Cases:
    options: list[tuple[list[object], tuple[str, ...]]] = [
        (
            ["generate", "micro", "a polyp", "--out", "bad-out"],
            ("--guidance", "--steps", "--count", "--seed"),
        ),
        (
            ["synthesize", "--prompts", "prompts.txt", "--generator", "micro", "--out", "bad-out"],
            ("--guidance", "--steps", "--per-prompt", "--total", "--batch-size", "--seed"),
        ),
        (
            ["augment", "runs/polyps", "--out", "bad-out"],
            ("--ratio", "--attempts", "--per-class", "--ratios"),
        ),
        (["classify", "data", "data"], ("--held-out", "--ratios", "--steps", "--seeds", "--resamples")),
        (["dashboard", "runs/polyps"], ("--refresh", "--port")),
        (["data", "sheet", "data", "bad.png"], ("--tile", "--per-category", "--seed")),
        (["data", "prepare", "phantom", "bad-out"], ("--images", "--size", "--test")),
        (["transfer", "runs/polyps", "--generator", "micro"], ("--images",)),
    ]
    for arguments, names in options:
        for name in names:
            for value in ("nan", "inf", "-inf", "1e999", "", "x", "--"):
                shown = f"{arguments[0]}: {name} {value!r}"
                given = [f"{name}={value}"] if value.startswith("-") else [name, value]
                yield shown, _refused(work, [*arguments, *given])


def _refused(work: Path, arguments: list[object]) -> Callable[[], None]:
    def case() -> None:
        call(*arguments, work=work).check(refused=True)

    return case


def bad_pictures() -> dict[str, bytes]:
    """Files that are called .png and are none, or none that fits into memory."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return {
        "zero bytes": b"",
        "a bomb": header + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b""),
        "cut": header[:20],
        "a GIF": b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\4\0\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;",
        "an EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "a PDF": b"%PDF-1.4\n",
        "text": b"this is no picture",
        "an SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }


def picture_readers(work: Path) -> Readers:
    """Every command that reads pictures, given a data set folder."""
    return {
        "data check": lambda data: ["data", "check", data, "--images"],
        "data sheet": lambda data: [
            "data",
            "sheet",
            data,
            work / "bad" / "sheet.png",
            "--per-category",
            "99",
        ],
        "evaluate": lambda data: ["evaluate", data, data, "--encoder", "thumbnail", "--metrics", "mmd"],
        "classify": lambda data: ["classify", data, data, "--encoder", "thumbnail"],
        "train sd": lambda data: [
            "train",
            "sd",
            "--data",
            data,
            "--out",
            fresh(work / "bad-out"),
            "--recipe",
            "micro.yaml",
            "--encoder",
            "none",
        ],
        "train clip": lambda data: [
            "train",
            "clip",
            "--data",
            data,
            "--out",
            fresh(work / "bad-out"),
            "--recipe",
            "clip.yaml",
        ],
        "study run": lambda data: [
            "study",
            "run",
            "study.yaml",
            "--runs",
            fresh(work / "bad-runs"),
            "--set",
            f"data={data}",
        ],
        "compare-generators": lambda data: [
            "compare-generators",
            data,
            "--generator",
            "micro=micro",
            "--out",
            fresh(work / "bad-out"),
            "--steps",
            "1",
            "--prompts",
            "prompts.txt",
            "--category",
            "polyps",
        ],
        "review sheet": lambda data: [
            "review",
            "sheet",
            "runs/polyps",
            "--real",
            data,
            "--out",
            fresh(work / "bad-out"),
            "--each",
            "4",
        ],
    }


def with_picture(work: Path, content: bytes, *, every: bool = False) -> Path:
    """A copy of the data set in which a picture of each pool (or every one) is another file."""
    folder = fresh(work / "bad" / "data")
    shutil.copytree(work / "data", folder)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    seen: set[str] = set()
    for row in rows:
        if every or row["pool"] not in seen:
            seen.add(row["pool"])
            own = f"\n%{row['file_name']}".encode() if content else b""  # no two are equal
            (folder / row["file_name"]).write_bytes(content + own)
    return folder


def _pictures(work: Path) -> Cases:
    for what, content in bad_pictures().items():
        for reader, arguments in picture_readers(work).items():

            def case(content: bytes = content, arguments: Callable[[Path], list[object]] = arguments) -> None:
                call(*arguments(with_picture(work, content, every=True)), work=work).check(
                    refused=True, naming=".png"
                )

            yield f"{reader}: {what} as .png", case


def _texts(work: Path) -> Cases:
    bad = {
        "UTF-16": ("prompts.txt", "a polyp".encode("utf-16")),
        "cp1252": ("prompts.txt", "a caf\u00e9 polyp".encode("cp1252")),
        "NUL": ("prompts.txt", b"a polyp\0"),
        "empty": ("prompts.txt", b""),
        "zero-width spaces": ("prompts.txt", "\u200b\n".encode()),
        "half a surrogate pair": ("prompts.jsonl", b'{"prompt": "\\ud800"}'),
        "NaN for a weight": ("prompts.jsonl", b'{"prompt": "a polyp", "weight": NaN}'),
        "a key twice": ("prompts.jsonl", b'{"prompt": "a polyp", "prompt": "b"}'),
        "no object": ("prompts.jsonl", b"[1]"),
        "deep": ("prompts.jsonl", b"[" * 100_000),
        "no prompt": ("prompts.jsonl", b'{"promt": "a polyp"}'),
        "too long": ("prompts.txt", b"polyp " * 400),
        "a list": ("prompts.json", b"[]"),
        "a scalar": ("prompts.json", b"5"),
        "other words": ("prompts.json", b"{}"),
    }
    for what, (name, content) in bad.items():

        def case(name: str = name, content: bytes = content) -> None:
            file = work / "bad" / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
            arguments = ["synthesize", "--prompts", file, "--generator", "micro", "--out", work / "bad-out"]
            call(*arguments, work=work).check(refused=True, naming=name)

        yield f"synthesize: {name}: {what}", case


def _tables(work: Path) -> Cases:
    bad = {
        "no header": b"a polyp;a.png\n",
        "commas": b"Prompt,Filename\na polyp,a.png\n",
        "a quotation mark without its partner": b'Prompt;Filename\n"a polyp;a.png\nb;c.png\n',
        "UTF-16": "Prompt;Filename\na;b.png\n".encode("utf-16"),
        "NUL": b"Prompt;Filename\na\0;b.png\n",
        "a missing picture": b"Prompt;Filename\na polyp;none.png\n",
        "a path that leads out": b"Prompt;Filename\na polyp;../../data/metadata.jsonl\n",
        "an absolute path": b"Prompt;Filename\na polyp;/etc/passwd\n",
        "three fields": b"Prompt;Filename\na;b;c.png\n",
        "empty": b"",
    }
    for what, content in bad.items():

        def case(content: bytes = content) -> None:
            folder = fresh(work / "bad" / "organizers")
            shutil.copytree(work / "organizers", folder)
            (folder / "prompt-gt.csv").write_bytes(content)
            arguments = ["data", "prepare", "medvqa-gi-2024", folder, fresh(work / "bad-out")]
            call(*arguments, work=work).check(refused=True, naming="prompt-gt.csv")

        yield f"data prepare: {what}", case
    for what, row in {
        "leads out": {"file_name": "../../x.png", "text": "a"},
        "absolute": {"file_name": "/etc/passwd", "text": "a"},
        "backslash": {"file_name": "images\\..\\x.png", "text": "a"},
        "no file": {"text": "a"},
        "a number": {"file_name": 5, "text": "a"},
        "a surrogate": {"file_name": "images/00000.png", "text": "\ud800"},
    }.items():
        for reader, arguments in picture_readers(work).items():

            def listed(
                row: dict[str, object] = row, arguments: Callable[[Path], list[object]] = arguments
            ) -> None:
                folder = fresh(work / "bad" / "data")
                shutil.copytree(work / "data", folder)
                with (folder / "metadata.jsonl").open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
                call(*arguments(folder), work=work).check(refused=True, naming="metadata.jsonl")

            yield f"{reader}: metadata.jsonl: {what}", listed
