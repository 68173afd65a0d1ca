"""The tables of what a workload is given."""

from __future__ import annotations

import os
import subprocess

import pytest
from msgspec.structs import replace

from unitagent.workload.environment import GangInfo, build_environment, explain_pairs, fill_placeholders

GANG = GangInfo(
    rank=1,
    size=2,
    unit="u",
    generation=7,
    rank_ip="10.0.0.2",
    comm_ifname="net0",
    master_address="10.0.0.1",
    master_port=29500,
    rank_ips=("10.0.0.1", "10.0.0.2"),
    marker="abc:1:2",
)

ALWAYS = {
    "RANK_ID": "1",
    "RANK_IP": "10.0.0.2",
    "COMM_IFNAME": "net0",
    "MASTER_ADDRESS": "10.0.0.1",
    "MASTER_PORT": "29500",
    "UNIT_ID": "u",
    "UNIT_SIZE": "2",
    "UNIT_GENERATION": "7",
    "UNIT_RANK_IPS": "10.0.0.1,10.0.0.2",
    "UNIT_AGENT": "abc:1:2",
}

OFFERED = {
    "NCCL_SOCKET_IFNAME": "=net0",
    "GLOO_SOCKET_IFNAME": "net0",
    "VLLM_HOST_IP": "10.0.0.2",
    "SGLANG_HOST_IP": "10.0.0.2",
    "MASTER_ADDR": "10.0.0.1",
    "NNODES": "2",
    "NUM_NODES": "2",
    "NODE_RANK": "1",
    "JAX_COORDINATOR_ADDRESS": "10.0.0.1:29500",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
    "PET_NNODES": "2",
    "PET_NODE_RANK": "1",
    "PET_MASTER_ADDR": "10.0.0.1",
    "PET_MASTER_PORT": "29500",
}


def test_the_whole_environment() -> None:
    assert build_environment({"HOME": "/root"}, GANG) == {"HOME": "/root"} | ALWAYS | OFFERED


@pytest.mark.parametrize("name", sorted(ALWAYS))
def test_always_ours(name: str) -> None:
    assert build_environment({name: "stale"}, GANG)[name] == ALWAYS[name]


@pytest.mark.parametrize("name", sorted(OFFERED))
def test_what_the_user_set_stays(name: str) -> None:
    assert build_environment({name: "theirs"}, GANG)[name] == "theirs"


@pytest.mark.parametrize("name", sorted(OFFERED))
def test_an_empty_variable_counts_as_unset(name: str) -> None:
    assert build_environment({name: ""}, GANG)[name] == OFFERED[name]


@pytest.mark.parametrize("name", ["UNIT_REDIS_URL", "UNIT_REDIS_URL_FILE", "UNIT_SECRET", "UNIT_SECRET_FILE"])
def test_the_store_and_its_secret_are_hidden(name: str) -> None:
    assert name not in build_environment({name: "secret"}, GANG)


@pytest.mark.parametrize("name", ["VLLM_PORT", "SGLANG_PORT"])
def test_service_links_are_removed_and_ports_kept(name: str) -> None:
    assert name not in build_environment({name: "tcp://10.0.0.9:80"}, GANG)
    assert build_environment({name: "8000"}, GANG)[name] == "8000"


def test_no_interface_names_none() -> None:
    env = build_environment({}, replace(GANG, comm_ifname=""))
    assert "NCCL_SOCKET_IFNAME" not in env
    assert "GLOO_SOCKET_IFNAME" not in env


def test_an_outer_agents_marker_is_not_passed_on() -> None:
    assert "UNIT_AGENT" not in build_environment({"UNIT_AGENT": "old:1:1"}, replace(GANG, marker=""))


def test_the_agents_own_environment_is_untouched() -> None:
    base = {"MASTER_PORT": "1"}
    build_environment(base, GANG)
    assert base == {"MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("word", "filled"),
    [
        ("--node-rank={RANK_ID}/{UNIT_SIZE}", "--node-rank=1/2"),
        ("{MASTER_ADDRESS}:{MASTER_PORT}", "10.0.0.1:29500"),
        ("{RANK_IP}%{COMM_IFNAME}@{UNIT_GENERATION}", "10.0.0.2%net0@7"),
        ('{"a": {}, "b": "{HOME}"}', '{"a": {}, "b": "{HOME}"}'),
        ("${RANK_ID}", "${RANK_ID}"),
        ("${MASTER_ADDRESS}:{MASTER_PORT}", "${MASTER_ADDRESS}:29500"),
        ("{{RANK_ID}}", "{1}"),
        ("{UNIT_ID}{rank_id}{}", "{UNIT_ID}{rank_id}{}"),
        ("", ""),
    ],
)
def test_placeholders(word: str, filled: str) -> None:
    assert fill_placeholders([word], build_environment({}, GANG)) == [filled]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo ${RANK_ID} of ${UNIT_SIZE}", "1 of 2"),
        ('at="${MASTER_ADDRESS}:${MASTER_PORT}"; echo "$at"', "10.0.0.1:29500"),
        ("echo ${RANK_ID:-none} $RANK_ID {RANK_ID} ${COMM_IFNAME}", "1 1 1 net0"),
    ],
)
def test_a_shells_variables_are_the_shells(text: str, said: str) -> None:
    given = build_environment({"PATH": os.environ["PATH"]}, GANG)
    ran = subprocess.run(
        fill_placeholders(["sh", "-c", text], given), env=given, capture_output=True, check=True
    )
    assert ran.stdout.decode().strip() == said


def test_a_filled_value_is_not_filled_again() -> None:
    assert fill_placeholders(["{RANK_IP}"], {"RANK_IP": "{RANK_ID}", "RANK_ID": "1"}) == ["{RANK_ID}"]


@pytest.mark.parametrize(
    "word",
    [
        "{MASTER_ADDRESS}:{MASTER_PORT}",
        "--join=tcp://{RANK_IP}:29500",
        "exec serve --at $MASTER_ADDR:$MASTER_PORT",
        "serve ${MASTER_ADDRESS}:29500",
        "serve http://user@$RANK_IP:${PORT:-80}/",
    ],
)
def test_an_address_before_a_port_is_told_where_it_is_ipv6(word: str) -> None:
    in_ipv6 = replace(GANG, rank_ip="fd00::2", master_address="fd00::1")
    assert "{MASTER_ENDPOINT}" in explain_pairs(["serve", word], in_ipv6)[0]
    assert not explain_pairs(["serve", word], GANG)


@pytest.mark.parametrize(
    "word",
    [
        "{MASTER_ENDPOINT}",
        "[{MASTER_ADDRESS}]:{MASTER_PORT}",
        "serve [$MASTER_ADDR]:$MASTER_PORT",
        "serve [${RANK_IP}]:80",
        "serve $MASTER_ADDR : $MASTER_PORT",
        "{MASTER_ADDRESS}",
        "$MASTER_ADDRESSES:80",
    ],
)
def test_what_ipv6_fits_in_is_not_told(word: str) -> None:
    assert not explain_pairs([word], replace(GANG, rank_ip="fd00::2", master_address="fd00::1"))


@pytest.mark.parametrize(
    ("address", "endpoint"), [("10.0.0.1", "10.0.0.1:29500"), ("fd00::1", "[fd00::1]:29500")]
)
def test_the_endpoint_has_brackets_where_they_are_needed(address: str, endpoint: str) -> None:
    assert replace(GANG, master_address=address).master_endpoint == endpoint
