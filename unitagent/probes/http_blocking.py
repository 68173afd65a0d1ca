"""A blocking request, made by ``requests``, that can be aborted; imported late, and only in a thread."""

from __future__ import annotations

import http.client
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from unitagent.probes.http_client import AbortableSocket, FetchedPage, FetchError, FetchRequest

urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the caller chose whom to trust


def send_request(request: FetchRequest, abortable: AbortableSocket) -> FetchedPage:
    """Ask once; blocks at most a little longer than the timeout for each byte, or until it is aborted.

    Raises:
        FetchError: no usable response.

    """
    try:
        with requests.Session() as session:
            session.trust_env = False
            session.verify = request.verified
            adapter = _Adapter(abortable)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            return _read_response(session, request)
    except FetchError:
        raise
    except Exception as error:  # a connection aborted in the middle can raise anything
        raise FetchError(_describe_cause(error)) from error


def _read_response(session: requests.Session, request: FetchRequest) -> FetchedPage:
    headers = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "unitagent"}
    if request.body is not None:
        headers["Content-Type"] = "application/json"
    with session.request(
        "GET" if request.body is None else "POST",
        request.url,
        data=request.body,
        headers=headers,
        timeout=request.timeout,
        stream=True,
        allow_redirects=False,
    ) as response:
        body = response.raw.read(request.limit + 1, decode_content=False)
        if len(body) > request.limit:
            raise FetchError(f"more than {request.limit} bytes")
        response.raw.read(1, decode_content=False)  # raises when less has come than was announced
        return FetchedPage(response.status_code, body)


class _Adapter(HTTPAdapter):
    """Makes each socket of its connections abortable."""

    def __init__(self, abortable: AbortableSocket) -> None:
        self._abortable = abortable
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        pool.ConnectionCls = _make_connection_class(pool.ConnectionCls, self._abortable)
        return pool


def _make_connection_class(base: type[Any], abortable: AbortableSocket) -> type[Any]:
    class AbortableConnection(base):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            abortable.attach_connection(self.sock)

    return AbortableConnection


_PLAIN = (  # the most special first; a sentence must not cite an answer, which is output of the workload
    (http.client.RemoteDisconnected, "it closed the connection without an answer"),
    (http.client.IncompleteRead, "its answer ended early"),
    (http.client.HTTPException, "its answer is no HTTP"),
)


def _describe_cause(error: BaseException) -> str:
    """Describe the innermost cause: requests and urllib3 wrap it three times."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    for kind, sentence in _PLAIN:
        if isinstance(error, kind):
            return sentence
    if isinstance(error, OSError) and error.strerror:  # "connection refused" says as much as its number
        return error.strerror[0].lower() + error.strerror[1:]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
