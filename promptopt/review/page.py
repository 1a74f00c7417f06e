"""The page that a rater sees: two sets of images, and which is better."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any, get_args
from urllib.parse import parse_qs

import jinja2

from promptopt.review.records import ReviewError, Side
from promptopt.review.session import Session

_MOST_FORM = 4096  # bytes of an answer


class PreferencePage:
    """A WSGI application over one session. The page names no prompt, no file, no seed and no side's history.

    Args:
        session: whose comparisons are shown.
        question: what "better" means, under the heading.
        on_choice: called after every answer that was recorded.
    """

    def __init__(
        self, session: Session, *, question: str, on_choice: Callable[[], None] | None = None
    ) -> None:
        self._session = session
        self._question = question
        self._on_choice = on_choice
        self._token = secrets.token_hex(4)  # a browser that was here before must not show old pictures
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("promptopt.review", "."),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        self._template = environment.get_template("prefer.html.jinja")

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        route = (environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/"))
        try:
            if route == ("GET", "/"):
                return self._page(start_response)
            if route in (("GET", "/left.png"), ("GET", "/right.png")):
                return self._picture(route[1].strip("/").removesuffix(".png"), start_response)
            if route == ("POST", "/choose"):
                return self._choose(_form(environ), start_response)
            if route == ("POST", "/undo"):
                self._session.undo()
                return _back(start_response)
            if route == ("GET", "/favicon.ico"):
                start_response("204 No Content", [])
                return []
        except ReviewError as error:
            return _text(start_response, "500 Internal Server Error", str(error))
        return _text(start_response, "404 Not Found", "There is no such page.")

    def _page(self, start_response: Callable[..., Any]) -> Iterable[bytes]:
        found = self._session.current()
        done, total = self._session.progress()
        nonce = secrets.token_urlsafe(16)
        text = self._template.render(
            pair=found is not None,
            number=found[0] if found else 0,
            images=len(found[1].images) if found else 0,
            done=done,
            total=total,
            rater=self._session.rater,
            question=self._question,
            token=self._token,
            nonce=nonce,
        )
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Cache-Control", "no-store"),
            (
                "Content-Security-Policy",
                f"default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; "
                "form-action 'self'; frame-ancestors 'none'",
            ),
        ]
        start_response("200 OK", headers)
        return [text.encode()]

    def _picture(self, side: str, start_response: Callable[..., Any]) -> Iterable[bytes]:
        found = self._session.current()
        if found is None:
            return _text(start_response, "404 Not Found", "All comparisons are done.")
        content = self._session.picture(getattr(found[1], side), found[1].images)
        start_response("200 OK", [("Content-Type", "image/png"), ("Cache-Control", "no-store")])
        return [content]

    def _choose(self, form: dict[str, str], start_response: Callable[..., Any]) -> Iterable[bytes]:
        side, number = form.get("side"), form.get("number", "")
        if side not in get_args(Side) or not number.isdecimal():
            return _text(start_response, "400 Bad Request", "The answer was not understood; go back.")
        if self._session.choose(int(number), side) and self._on_choice is not None:  # type: ignore[arg-type]
            self._on_choice()
        return _back(start_response)


def _form(environ: dict[str, Any]) -> dict[str, str]:
    length = environ.get("CONTENT_LENGTH") or "0"
    size = min(int(length), _MOST_FORM) if length.isdecimal() else 0
    body = environ["wsgi.input"].read(size).decode("utf-8", errors="replace")
    return {key: values[0] for key, values in parse_qs(body).items()}


def _back(start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("303 See Other", [("Location", "/"), ("Content-Length", "0")])
    return [b""]


def _text(start_response: Callable[..., Any], status: str, text: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode()]
