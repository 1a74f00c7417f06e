"""The page that a rater sees: two sets of images, and which is better."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, cast, get_args

import bottle

from promptopt.formatting.pages import page_templates
from promptopt.review.records import ReviewError, Side
from promptopt.review.session import Session

_MOST_FORM = 8192  # bytes of an answer
_MOST_COMMENT = 500  # letters
_TILE, _LARGE = 180, 480  # pixels of an image in a set, and when enlarged


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
        self._template = page_templates("promptopt.review").get_template("prefer.html.jinja")
        self._app = bottle.Bottle()
        self._app.install(_explained)
        self._app.get("/", callback=self._page)
        self._app.get("/<side:re:left|right>.png", callback=partial(self._picture, tile=_TILE))
        self._app.get("/large/<side:re:left|right>.png", callback=partial(self._picture, tile=_LARGE))
        self._app.post("/choose", callback=self._choose)
        self._app.post("/undo", callback=self._undo)
        self._app.default_error_handler = _plain_error

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer

    def _page(self) -> bottle.HTTPResponse:
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
            most=_MOST_COMMENT,
            nonce=nonce,
        )
        policy = (
            "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
            f"script-src 'nonce-{nonce}'; form-action 'self'; frame-ancestors 'none'"
        )
        return _answer(text, "text/html; charset=utf-8", {"Content-Security-Policy": policy})

    def _picture(self, side: str, *, tile: int) -> bottle.HTTPResponse:
        found = self._session.current()
        if found is None:
            raise bottle.HTTPError(404, "All comparisons are done.")
        shown = self._session.picture(getattr(found[1], side), found[1].images, tile=tile)
        return _answer(shown, "image/png")

    def _choose(self) -> bottle.HTTPResponse:
        if bottle.request.content_length > _MOST_FORM:
            raise bottle.HTTPError(413, "The answer is too long.")
        form = bottle.request.forms if bottle.request.content_length > 0 else bottle.FormsDict()
        side, number = form.get("side"), form.get("number", "")
        comment = (form.getunicode("comment") or "")[:_MOST_COMMENT]
        if side not in get_args(Side) or not number.isdecimal():
            raise bottle.HTTPError(400, "The answer was not understood; go back.")
        if (
            self._session.choose(int(number), cast(Side, side), comment=comment)
            and self._on_choice is not None
        ):
            self._on_choice()
        return _back()

    def _undo(self) -> bottle.HTTPResponse:
        self._session.undo()
        return _back()


def _answer(
    body: str | bytes, kind: str, headers: Mapping[str, str] = MappingProxyType({})
) -> bottle.HTTPResponse:
    return bottle.HTTPResponse(body, 200, {"Content-Type": kind, "Cache-Control": "no-store", **headers})


def _back() -> bottle.HTTPResponse:
    return bottle.HTTPResponse("", 303, {"Location": "/"})


def _plain_error(error: bottle.HTTPError) -> str:
    bottle.response.content_type = "text/plain; charset=utf-8"
    return str(error.body)


def _explained(callback: Callable[..., bottle.HTTPResponse]) -> Callable[..., bottle.HTTPResponse]:
    """A plugin for bottle: a fault of the session in its own words."""

    def explained(*given: Any, **named: Any) -> bottle.HTTPResponse:
        try:
            return callback(*given, **named)
        except ReviewError as error:
            raise bottle.HTTPError(500, str(error)) from error

    return explained
