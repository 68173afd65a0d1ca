"""From the URL to a connection, everything anew each time: the URL may have changed (a file was rewritten,
rank 0 has another address), and so may the server that it leads to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitagent.errors import RefusalError, StoreError, UnitAgentError
from unitagent.store.address import StoreLocation, parse_store_url
from unitagent.store.connection import BeforeConnect, connect_to_address, get_destination, open_connection
from unitagent.store.topology import ServerLocator
from unitagent.system.threads import SingleFlight

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from unitagent.store.address import LocationSource

_URLS = SingleFlight()
_MOST_ASKED = 3  # sentinels or nodes that are believed one after the other, before the next try


class Dialer:
    """Makes connections to the server that holds one key.

    Attributes:
        address: what was understood of the URL last; None before it was read.
        place: the server last dialled, for people.

    """

    def __init__(self, url: str | LocationSource, key: str) -> None:
        self._url = parse_store_url(url) if isinstance(url, str) else url
        self._locator = ServerLocator(key)
        self.address = self._url if isinstance(self._url, StoreLocation) else None
        self.place = self._url.place if isinstance(self._url, StoreLocation) else "an address not known yet"

    async def dial_server(
        self,
        timeout: float,  # noqa: ASYNC109
        begun: BeforeConnect = lambda _: None,
        beside: AbstractConnection | None = None,
    ) -> AbstractConnection:
        """Connect and log in; the caller bounds the whole, ``timeout`` seconds, and tells what is raised.

        ``begun`` is given each connection to the server before it is made. Where another connection leads,
        one ``beside`` it goes without asking anybody: a name server that hangs is waited for only once.
        """
        if beside is not None and (way := get_destination(beside)) is not None:
            return await connect_to_address(*way, begun)
        self.address = address = await self._read_location()
        self.place = address.place
        return await self._connect_located(address, timeout, begun)

    def distrust_source(self) -> None:
        """The server dialled last is of no use: believe another one of those who name it."""
        self._locator.distrust_source()

    async def _connect_located(
        self,
        address: StoreLocation,
        timeout: float,  # noqa: ASYNC109
        begun: BeforeConnect,
    ) -> AbstractConnection:
        """Connect to the server, or to one that others name in its place."""
        trouble: dict[str, Exception] = {}
        for _ in address.hosts[:_MOST_ASKED] or (None,):
            endpoint = await self._locator.locate_server(address, timeout)
            if endpoint.place not in trouble:
                self.place = endpoint.place
                try:
                    return await open_connection(endpoint, timeout, begun)
                except Exception as error:  # noqa: BLE001  # told when nobody names another one
                    trouble[endpoint.place] = error
            self._locator.distrust_source()
        raise trouble[self.place]

    async def _read_location(self) -> StoreLocation:
        url = self._url
        if isinstance(url, StoreLocation):
            return url
        return await _URLS.run(url, lambda: _read_source(url))


def _read_source(url: LocationSource) -> StoreLocation:
    """Ask for the address as it is now; blocks."""
    try:
        told = url()
        return parse_store_url(told) if isinstance(told, str) else told
    except RefusalError as error:
        raise StoreError(f"UNIT_REDIS_URL: {error}") from error
    except UnitAgentError as error:
        raise StoreError(str(error)) from error
    except Exception as error:
        raise StoreError(f"the URL of the store cannot be read: {error}") from error
