"""The core with one thing wrong about keepers, as in :mod:`tests.simulation.mutants`."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from unitagent.core import decide, isolation, keeper_rules, keepers, restart_budget, shutdown
from unitagent.core.model import KeeperRecord
from unitagent.core.state import State


def _workloads_wait_for_no_keeper() -> Any:
    return patch.object(keepers, "are_keepers_alike", lambda roster: True)


def _keepers_end_with_their_workloads() -> Any:
    return patch.object(keeper_rules, "_is_broken", lambda state: True)


def _a_broken_group_stays() -> Any:
    return patch.object(keeper_rules, "_is_broken", lambda state: False)


def _agents_leave_their_keepers() -> Any:
    return patch.object(shutdown, "is_left_running", lambda state: state.up and not state.workload.stuck)


def _isolated_keepers_live_on() -> Any:
    """Their watchdogs are deceived, too: those would end them in their agents' place."""
    return patch.multiple(
        isolation, stop_keeper_at_once=lambda state: (state, ()), last_contact=lambda state: state.now
    )


def _keepers_start_beside_older_ones() -> Any:
    return patch.object(keepers, "_read_before_start", lambda record: KeeperRecord())


def _who_dies_while_loading_is_missed_by_nobody() -> Any:
    return patch.object(keepers, "_note_keeper_failure", lambda state, ended: state)


def _each_start_of_keepers_is_a_restart() -> Any:
    return patch.object(restart_budget, "has_loaded", lambda state: False)


def _keepers_never_end_before_they_are_ready() -> Any:
    """Those of a generation that is over go on loading, though nobody waits for them any more."""
    right = keeper_rules.end_keeper

    def end(state: State) -> Any:
        loading = not state.keeper.ready and state.shutdown.leaving is None
        return (state, ()) if loading else right(state)

    rules = tuple((end if rule is right else rule, stages) for rule, stages in decide.RULES)
    return patch.object(decide, "RULES", rules)


def who_lost_its_rank_keeps_its_keeper() -> Any:
    return patch.object(keeper_rules, "_is_succeeded", lambda state: False)


def _old_files_are_served_on() -> Any:
    right = keeper_rules.renew_stale_keeper
    rules = tuple(one for one in decide.RULES if one[0] is not right)
    return patch.object(decide, "RULES", rules)


def _who_confirms_looks_at_its_files_later() -> Any:
    right = keeper_rules.renew_stale_keeper
    rules = [one for one in decide.RULES if one[0] is not right]
    renewal = next(one for one in decide.RULES if one[0] is right)
    return patch.object(decide, "RULES", (*rules, renewal))


KEEPER_MUTANTS = (
    ("a workload starts whatever its keepers do", _workloads_wait_for_no_keeper, 0),
    ("keepers end with their workloads", _keepers_end_with_their_workloads, 0),
    ("a broken group of keepers stays", _a_broken_group_stays, 0),
    ("an agent ends before its keeper", _agents_leave_their_keepers, 3),
    ("an isolated keeper lives on", _isolated_keepers_live_on, 2),
    ("keepers start beside older ones", _keepers_start_beside_older_ones, 0),
    ("a keeper that dies while it loads ends nothing", _who_dies_while_loading_is_missed_by_nobody, 97),
    ("each start of keepers is charged as a restart", _each_start_of_keepers_is_a_restart, 7),
    ("a keeper that nobody waits for goes on loading", _keepers_never_end_before_they_are_ready, 10),
    ("a keeper of older files is used again", _old_files_are_served_on, 11),
    ("a rank confirms a gang before it renews its keeper", _who_confirms_looks_at_its_files_later, 1158),
)
