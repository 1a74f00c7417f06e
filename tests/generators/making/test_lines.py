"""Files of lines between two processes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import generators.making.lines as module
from generators.making.lines import Beat, Inbox, Outbox


def test_lines_arrive_once_and_in_order(tmp_path: Path) -> None:
    out, back = Outbox(tmp_path / "lines"), Inbox(tmp_path / "lines")
    assert back.read() == []
    assert back.heard is None
    out.send({"chunk": ["a\nb", "\u00e9"]})
    out.send({"done": True})
    assert back.read() == [{"chunk": ["a\nb", "\u00e9"]}, {"done": True}]
    assert back.read() == []
    assert back.heard is not None


def test_half_a_line_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text('{"one": 1}\n{"tw')
    back = Inbox(path)
    assert back.read() == [{"one": 1}]
    with path.open("a") as stream:
        stream.write('o": 2}\n')
    assert back.read() == [{"two": 2}]


def test_signs_of_life_are_heard_and_are_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT", 0.01)
    out, back = Outbox(tmp_path / "lines"), Inbox(tmp_path / "lines")
    beat = Beat(lambda: [out])
    end = time.monotonic() + 20
    while back.heard is None and time.monotonic() < end:
        assert back.read() == []
    assert back.heard is not None
    beat.stop()
