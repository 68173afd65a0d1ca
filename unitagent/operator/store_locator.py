"""Where a Unit's store is, for a command that belongs to no Unit: by its URL, or at rank 0 as an agent
reports it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unitagent.agent.store_setup import DEFAULT_PROBE_PORT, choose_private_address, locate_store
from unitagent.errors import StoreError, UnitAgentError
from unitagent.operator import agent_client
from unitagent.operator.probe_client import resolve_wildcard
from unitagent.settings import Settings
from unitagent.store.address import LocationSource
from unitagent.system.addresses import bind_tcp
from unitagent.system.host_port import join_host_port
from unitagent.system.keyring import Keyring
from unitagent.system.limits import NAME_PATTERN
from unitagent.system.safe_output import print_warning

_ELSEWHERE = (
    "run this command in a container of the Unit, or name its agent (--http-address HOST:PORT), or the store "
    "(UNIT_REDIS_URL)"
)
_ASK_AGENT = (
    "an agent of the Unit can answer instead: run this command in its container, or name its address "
    "(--http-address HOST:PORT)"
)


def ask_own_agent(settings: Settings, keys: Keyring) -> dict[str, Any] | None:
    """Return the status of the agent in this container; None if none answers. Blocks.

    Raises:
        StoreError: its answer carries no proof of the Unit's secret.

    """
    port = settings.http_port or DEFAULT_PROBE_PORT
    return agent_client.fetch_status(settings.unit, settings.http_host, port, keys)


def ask_agent_instead(
    settings: Settings, keys: Keyring, error: StoreError, *, shown: bool = False
) -> dict[str, Any]:
    """Return the status of the agent in this container after this error of the store, and say so. Blocks.

    ``shown``: the caller shows the status; what to do is not said twice then.

    Raises:
        StoreError: no agent of the Unit answers here; it says what to do.

    """
    try:
        seen = ask_own_agent(settings, keys) if settings.http_port else None
    except StoreError:
        seen = None
    if seen is None or seen.get("unit") != settings.unit:
        raise StoreError(str(error), _ASK_AGENT) from error
    told = shown and bool(error.remedy) and error.remedy in str(seen.get("conditions"))
    print_warning(f"warning: {error.what if told else error}; this is what the Unit's agents know")
    return seen


def adopt_unit(settings: Settings) -> Settings:
    """Return the settings with the Unit of the agent in this container, if one answers; for a command that
    names neither a Unit nor a store. Blocks.
    """
    if not settings.has_embedded_store:
        return settings
    try:
        seen = ask_own_agent(settings, settings.keys)
    except StoreError:  # an answer without proof tells nothing
        return settings
    unit = seen.get("unit") if seen else None
    return (
        replace(settings, unit=unit) if isinstance(unit, str) and NAME_PATTERN.fullmatch(unit) else settings
    )


def explain_place(settings: Settings, error: StoreError) -> StoreError:
    """Return the error, or what to do where a command can know neither an agent nor a store. Blocks."""
    if not settings.has_embedded_store or settings.master_address or not settings.http_port:
        return error
    try:
        seen = ask_own_agent(settings, settings.keys)
    except StoreError:
        return error
    if seen:
        return error
    return StoreError(f"no agent answers at {_describe_agent(settings)}, and no store is named", _ELSEWHERE)


def refuse_other_unit(settings: Settings, status: dict[str, Any] | None) -> None:
    """Refuse the status of another Unit than the one that the command names.

    Raises:
        UnitAgentError: the agent that answered belongs to another Unit.

    """
    if status is not None and status.get("unit") != settings.unit:
        raise UnitAgentError(
            f"UNIT_ID={settings.unit}: the agent at {_describe_agent(settings)} belongs to Unit "
            f"{status.get('unit')}; {_ELSEWHERE}"
        )


def _describe_agent(settings: Settings) -> str:
    return join_host_port(resolve_wildcard(settings.http_host), settings.http_port)


def find_directions(settings: Settings, status: dict[str, Any] | None, keys: Keyring) -> LocationSource:
    """Find the store's URL; an embedded store is at rank 0, whose address ``status`` of an agent knows best.

    Raises:
        StoreError: there is a secret, and no agent that proves to know it reports where rank 0 is.

    """
    if not settings.has_embedded_store:
        leader = None
    elif keys and settings.http_port:
        leader = _find_proven_leader(settings, status, keys)
    else:
        leader = agent_client.find_leader(status) or settings.master_address or "127.0.0.1"
        if status and status.get("size") == 1 and not settings.insecure and _is_address_here(leader):
            leader = choose_private_address(leader)  # where a Unit of one without a secret has its store
    observer = replace(settings, rank=1, master_address=leader)
    return locate_store(observer, "", keys).url


def _is_address_here(address: str) -> bool:
    """Whether this host has an address."""
    try:
        bind_tcp(address, 0).close()
    except (OSError, ValueError):
        return False
    return True


def _find_proven_leader(settings: Settings, status: dict[str, Any] | None, keys: Keyring) -> str:
    """Find rank 0 through an agent that proves to know the secret, since its store will receive a
    password.
    """
    leader = agent_client.find_leader(status)
    if leader is None and settings.master_address is not None:
        there, port = settings.master_address, settings.http_port
        leader = agent_client.find_leader(agent_client.fetch_status(settings.unit, there, port, keys))
    if leader is None:
        raise StoreError(
            "no agent that knows UNIT_SECRET reports the address of rank 0 and its store, and nothing is "
            "sent to an unconfirmed address: ask an agent of this Unit (--http-address HOST:PORT)"
        )
    return leader


def find_store_url(settings: Settings, keys: Keyring) -> LocationSource:
    """Find the store for a command that belongs to no Unit; may ask an agent, which blocks."""
    return find_directions(
        settings, ask_own_agent(settings, keys) if settings.has_embedded_store else None, keys
    )
