"""The GET itself, with ``requests``, on a socket that can be cut. Imported late, and only in a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter

from unitagent.probes.fetch import Fetched, FetchError

if TYPE_CHECKING:
    from unitagent.probes.fetch import Get, Line


def perform(get: Get, line: Line) -> Fetched:
    """Ask once; blocks at most a little longer than the timeout for each byte, or until the line is cut.

    Raises:
        FetchError: no usable response.

    """
    try:
        with requests.Session() as session:
            session.trust_env = False
            adapter = _Adapter(line, get.source)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            return _receive(session, get)
    except FetchError:
        raise
    except Exception as error:  # a connection cut in the middle can raise anything
        raise FetchError(_why(error), refused=_refused(error)) from error


def _receive(session: requests.Session, get: Get) -> Fetched:
    headers = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "unitagent", **get.headers}
    with session.get(
        get.url, headers=headers, timeout=get.timeout, stream=True, allow_redirects=False
    ) as response:
        body = response.raw.read(get.limit + 1, decode_content=False)
        if len(body) > get.limit:
            raise FetchError(f"more than {get.limit} bytes")
        response.raw.read(1, decode_content=False)  # raises when less has come than was announced
        return Fetched(response.status_code, response.headers, body)


class _Adapter(HTTPAdapter):
    """Connects from ``source`` and puts each socket it makes on the line."""

    def __init__(self, line: Line, source: str) -> None:
        self._line = line
        self._source = source
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        if self._source:
            options["source_address"] = (self._source, 0)
        super().init_poolmanager(*args, **options)

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        pool.ConnectionCls = _held(pool.ConnectionCls, self._line)
        return pool


def _held(base: type[Any], line: Line) -> type[Any]:
    class Held(base):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            line.hold(self.sock)

    return Held


def _refused(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConnectionRefusedError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _why(error: BaseException) -> str:
    """Say the innermost cause: requests and urllib3 wrap it three times."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
