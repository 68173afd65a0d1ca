"""The GET itself, with ``requests``, on a socket that can be cut. Imported late, and only in a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from unitagent.probes.http_client import FetchedPage, FetchError

if TYPE_CHECKING:
    from unitagent.probes.http_client import AbortableSocket, FetchRequest

urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # who asks has said whom to believe


def perform(get: FetchRequest, line: AbortableSocket) -> FetchedPage:
    """Ask once; blocks at most a little longer than the timeout for each byte, or until the line is cut.

    Raises:
        FetchError: no usable response.

    """
    try:
        with requests.Session() as session:
            session.trust_env = False
            session.verify = get.verified
            adapter = _Adapter(line)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            return _receive(session, get)
    except FetchError:
        raise
    except Exception as error:  # a connection cut in the middle can raise anything
        raise FetchError(_why(error)) from error


def _receive(session: requests.Session, get: FetchRequest) -> FetchedPage:
    headers = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "unitagent"}
    with session.get(
        get.url, headers=headers, timeout=get.timeout, stream=True, allow_redirects=False
    ) as response:
        body = response.raw.read(get.limit + 1, decode_content=False)
        if len(body) > get.limit:
            raise FetchError(f"more than {get.limit} bytes")
        response.raw.read(1, decode_content=False)  # raises when less has come than was announced
        return FetchedPage(response.status_code, body)


class _Adapter(HTTPAdapter):
    """Puts each socket it makes on the line."""

    def __init__(self, line: AbortableSocket) -> None:
        self._line = line
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        pool.ConnectionCls = _held(pool.ConnectionCls, self._line)
        return pool


def _held(base: type[Any], line: AbortableSocket) -> type[Any]:
    class Held(base):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            line.attach(self.sock)

    return Held


def _why(error: BaseException) -> str:
    """Say the innermost cause: requests and urllib3 wrap it three times."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
