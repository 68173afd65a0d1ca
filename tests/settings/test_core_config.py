"""A variable is one row: what the core takes of it cannot differ from the row, or be forgotten."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
from msgspec import NODEFAULT
from msgspec.structs import fields

from tests.records import record
from unitagent.agent.core_config import build_core_config
from unitagent.core.config import CoreConfig, Mode
from unitagent.settings.resolution import resolve_settings
from unitagent.settings.variables import FIELDS, Settings, Variable

CORE = {each.name: each for each in fields(CoreConfig)}
SHARED = sorted(CORE.keys() & FIELDS.keys())
OWN = {
    "incarnation",
    "probes",
    "health",
    "claimed",
    "owns_store",
    "epoch",
    "failure_grace",
    "keepers",
    "relaunch",
}  # of the agent, and no variable's
# One value for each variable that the core reads, other than its default.
CHANGED = {
    "UNIT_ID": "chat", "UNIT_SIZE": "3", "UNIT_GUARD": "true", "UNIT_MODE": "job", "UNIT_RESTART": "recreate",
    "UNIT_STRICT": "true", "UNIT_STORE_TIMEOUT_SECONDS": "61", "UNIT_LEASE_SECONDS": "7",
    "UNIT_HEARTBEAT_SECONDS": "2", "UNIT_BARRIER_TIMEOUT_SECONDS": "3", "UNIT_STARTUP_SECONDS": "4",
    "UNIT_STOP_GRACE_SECONDS": "26", "UNIT_RESTART_GRACE_SECONDS": "6", "UNIT_DRAIN_SECONDS": "16",
    "UNIT_DEREGISTER_SECONDS": "1", "UNIT_MAX_RESTARTS": "9", "UNIT_RESTART_WINDOW_SECONDS": "60",
    "UNIT_BACKOFF_SECONDS": "1,2",
}  # fmt: skip


def resolve(environ: dict[str, str]) -> Settings:
    given = {"RANK_ID": "0", "UNIT_SIZE": "1", "MASTER_ADDRESS": "127.0.0.1"} | environ
    return resolve_settings({}, given, "host", lambda _: "", command=["true"], identity=True).settings


def build(settings: Settings) -> CoreConfig:
    return build_core_config(settings, record(2, "mine", size=settings.size), health=True)


def default_of(row: Variable) -> Any:
    return row.absent if row.default is None else row.kind.parse(row.default)


def test_each_field_of_the_core_is_a_variables_or_the_agents_own() -> None:
    assert CORE.keys() - FIELDS.keys() == OWN
    assert {FIELDS[name].name for name in SHARED} == CHANGED.keys() | {"RANK_ID"}


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_field_has_the_type_and_the_default_of_its_row(name: str) -> None:
    if name != "rank":  # the core knows its rank always
        assert get_type_hints(CoreConfig)[name] == get_type_hints(Settings)[name]
    if CORE[name].default is not NODEFAULT:
        assert CORE[name].default == default_of(FIELDS[name])


def test_the_core_gets_what_is_set() -> None:
    settings = resolve(CHANGED)
    config = build(settings)
    assert (config.rank, config.incarnation, config.health, config.probes) == (2, "mine", True, True)
    for name in set(SHARED) - {"rank"}:
        assert getattr(config, name) == getattr(settings, name) != default_of(FIELDS[name])


@pytest.mark.parametrize(
    ("framework", "policy", "relaunch"),
    [("vllm", "", True), ("sglang", "", False), ("", "", False), ("vllm", "restart-unit", False),
     ("", "relaunch", True)],
)  # fmt: skip
def test_what_the_death_of_a_keeper_means(framework: str, policy: str, relaunch: bool) -> None:
    kept = {"UNIT_KEEPER": "k", "UNIT_KEEPER_READY": "tcp:1", "UNIT_GUARD": "true"}
    settings = resolve({**kept, "UNIT_KEEPER_FAILURE": policy})
    config = build_core_config(settings, record(0, "mine", size=1), health=False, framework=framework)
    assert (config.keepers, config.relaunch) == (True, relaunch)


def test_whether_this_agent_owns_the_store() -> None:
    rank_0 = record(0, "mine", size=1)
    assert build_core_config(resolve({}), rank_0, health=False).owns_store
    assert not build(resolve({})).owns_store, "it is rank 2"
    elsewhere = resolve({"UNIT_REDIS_URL": "redis://h"})
    assert not build_core_config(elsewhere, rank_0, health=False).owns_store


def test_what_must_be_equal_on_all_ranks() -> None:
    assert resolve({"UNIT_GUARD": "yes", "UNIT_LEASE_SECONDS": "2.50"}).uniform == {
        "UNIT_GUARD": "true",
        "UNIT_MODE": Mode.SERVICE.value,
        "UNIT_RESTART": "inplace",
        "UNIT_LEASE_SECONDS": "2.5",
        "UNIT_HEARTBEAT_SECONDS": "1",
        "UNIT_FRAMEWORK": "none",
    }
