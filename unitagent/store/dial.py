"""From the URL to a connection, everything anew each time: the URL may have changed (a file was rewritten,
rank 0 has another address), and so may the server that it leads to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitagent.errors import RefusalError, StoreError, UnitAgentError
from unitagent.store.address import Address, parse
from unitagent.store.connection import Begun, connect, connect_to, way_of
from unitagent.store.locate import Locator
from unitagent.store.singleflight import SingleFlight

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from unitagent.store.address import Directions

_URLS = SingleFlight()
_MOST_ASKED = 3  # sentinels or nodes that are believed one after the other, before the next try


class Dialer:
    """Makes connections to the server that holds one key.

    Attributes:
        address: what was understood of the URL last; None before it was read.
        place: the server last dialled, for people.

    """

    def __init__(self, url: str | Directions, key: str) -> None:
        self._url = parse(url) if isinstance(url, str) else url
        self._locator = Locator(key)
        self.address = self._url if isinstance(self._url, Address) else None
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
        self.address = address = await self._address()
        self.place = address.place
        return await self._enter(address, timeout, begun)

    def refute(self) -> None:
        """The server dialled last is of no use: believe another one of those who name it."""
        self._locator.refute()

    async def _enter(self, address: Address, timeout: float, begun: Begun) -> AbstractConnection:  # noqa: ASYNC109
        """Connect to the server, or to one that others name in its place."""
        trouble: dict[str, Exception] = {}
        for _ in address.hosts[:_MOST_ASKED] or (None,):
            endpoint = await self._locator.locate(address, timeout)
            if endpoint.place not in trouble:
                self.place = endpoint.place
                try:
                    return await connect(endpoint, timeout, begun)
                except Exception as error:  # noqa: BLE001  # told when nobody names another one
                    trouble[endpoint.place] = error
            self._locator.refute()
        raise trouble[self.place]

    async def _address(self) -> Address:
        url = self._url
        if isinstance(url, Address):
            return url
        return await _URLS.run(url, lambda: _ask(url))


def _ask(url: Directions) -> Address:
    """Ask for the address as it is now; blocks."""
    try:
        told = url()
        return parse(told) if isinstance(told, str) else told
    except RefusalError as error:
        raise StoreError(f"UNIT_REDIS_URL: {error}") from error
    except UnitAgentError as error:
        raise StoreError(str(error)) from error
    except Exception as error:
        raise StoreError(f"the URL of the store cannot be read: {error}") from error
