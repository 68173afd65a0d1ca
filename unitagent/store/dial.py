"""From the URL to a connection, everything anew each time: the URL may have changed (a file was rewritten,
rank 0 has another address), and so may the server that it leads to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitagent.errors import StoreError, UnitAgentError
from unitagent.store.address import Address, parse
from unitagent.store.connection import Begun, connect, connect_to, way_of
from unitagent.store.locate import Locator
from unitagent.store.singleflight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import AbstractConnection

_URLS = SingleFlight()


class Dialer:
    """Makes connections to the server that holds one key.

    Attributes:
        place: the server last dialled, for people.

    """

    def __init__(self, url: str | Callable[[], str], key: str) -> None:
        self._url = parse(url) if isinstance(url, str) else url
        self._locator = Locator(key)
        self.place = self._url.place if isinstance(self._url, Address) else "an address not known yet"

    async def dial(
        self,
        timeout: float,  # noqa: ASYNC109
        begun: Begun = lambda _: None,
        beside: AbstractConnection | None = None,
    ) -> AbstractConnection:
        """Connect and log in; the caller bounds the whole, ``timeout`` seconds, and tells what is raised.

        ``begun`` is given each connection to the server before it is made. Where another connection leads,
        one ``beside`` it goes without asking anybody: a name server that hangs is waited for only once.
        """
        if beside is not None and (way := way_of(beside)) is not None:
            return await connect_to(*way, begun)
        address = await self._address()
        self.place = address.place
        endpoint = await self._locator.locate(address, timeout)
        self.place = endpoint.place
        return await connect(endpoint, timeout, begun)

    async def _address(self) -> Address:
        url = self._url
        if isinstance(url, Address):
            return url
        return await _URLS.run(url, lambda: _ask(url))


def _ask(url: Callable[[], str]) -> Address:
    """Ask for the URL as it is now; blocks."""
    try:
        return parse(url())
    except UnitAgentError as error:
        raise StoreError(str(error)) from error
    except Exception as error:
        raise StoreError(f"the URL of the store cannot be read: {error}") from error
