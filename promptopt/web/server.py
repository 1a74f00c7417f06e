"""A small web server for pages that are meant for the person at this machine.

Without a password, being reachable is being allowed. So it listens on the loopback interface, answers only
requests that name this very address (a page elsewhere whose name was pointed at 127.0.0.1 is refused), and
takes changes only from its own pages.
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from promptopt.config.study_file import StudyError

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_READS = ("GET", "HEAD", "OPTIONS")
_BODY = 16 * 2**20
_HEADERS = 64 * 2**10
_WAIT = 60.0  # seconds for a request's next bytes


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class LocalServer:
    """Serves a WSGI application; use as a context manager, or call `close`.

    Args:
        app: the application.
        host: where to listen; anything but a loopback address needs `allow_remote`.
        port: 0 takes a free one.
        allow_remote: answer other machines too.

    Raises:
        StudyError: the address is taken, unknown, or not loopback without `allow_remote`.
    """

    def __init__(
        self, app: App, *, host: str = "127.0.0.1", port: int = 0, allow_remote: bool = False
    ) -> None:
        if not is_loopback(host) and not allow_remote:
            raise StudyError(
                f"--host {host}: other machines could reach it, and there is no password. Keep 127.0.0.1 and "
                "use an SSH tunnel, or add --allow-remote."
            )
        guarded = _guarded(app, by_name=is_loopback(host))
        try:
            self._server = make_server(host, port, guarded, server_class=_Threaded, handler_class=_Quiet)
        except (OSError, OverflowError) as error:
            raise StudyError(
                f"{host}:{port}: cannot listen there ({error}). Choose another --port; 0 takes a free one."
            ) from error
        self.host = host
        self.port = int(self._server.server_address[1])
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where to point a browser."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"

    def serve_forever(self) -> None:
        """Serve until interrupted."""
        with suppress(KeyboardInterrupt):
            self._server.serve_forever(poll_interval=0.2)

    def start(self) -> LocalServer:
        """Serve in a thread of its own."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop listening."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that closes a connection early, or says nothing for long, is nothing to report."""
        import sys

        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Quiet(WSGIRequestHandler):
    timeout = _WAIT

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """A line for every request would bury what a person has to read."""


def _guarded(app: App, *, by_name: bool) -> App:
    """The application behind its guards: the request's size, the name it is asked by, and where changes come
    from."""

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        host, origin = environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN")
        status = _refused(environ)
        if status is not None:
            text = f"{status}.".encode()
        elif by_name and not is_loopback(_name(host)):
            status, text = "403 Forbidden", b"Open this page as http://127.0.0.1 or http://localhost."
        elif environ["REQUEST_METHOD"] not in _READS and origin is not None and _place(origin) != host:
            status, text = "403 Forbidden", b"Changes are taken from this server's own pages alone."
        else:
            return app(environ, start_response)
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [text]

    return guarded


def _refused(environ: dict[str, Any]) -> str | None:
    """The status for a request that is too large, or does not say how large it is."""
    headers = sum(len(key) + len(value) for key, value in environ.items() if key.startswith("HTTP_"))
    length = environ.get("CONTENT_LENGTH") or "0"
    if headers > _HEADERS:
        return "431 Request Header Fields Too Large"
    if environ.get("HTTP_TRANSFER_ENCODING"):
        return "411 Length Required"
    if not (length.isascii() and length.isdigit()):
        return "400 Bad Request"
    return "413 Content Too Large" if len(length) > 12 or int(length) > _BODY else None


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # such as [ without ]
        return ""


def _place(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
