"""The keys that EAS is known to accept in a service file, and how its two spellings are unified.

The invariant: a key is known by its place. ``ANY`` stands where everything below concerns EAS alone.
Sources: Alibaba's pages on JSON parameters, and the names in EAS's own client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitagent.discovery.json_reader import JsonReader

Keys = dict[str, Any]  # key -> the keys below it, or ANY
ANY = None


def _make_keys(names: str, **below: Keys | None) -> Keys:
    return dict.fromkeys(names.split(), ANY) | below


_GRACE = "termination_grace_period"
_ROLLING = _make_keys("max_surge max_unavailable")
_EAS = _make_keys(f"{_GRACE} handlers enabled_model_verification scheduler")
_RPC = _make_keys(
    "enable_sigterm keepalive batching mirror io_threads max_batch_size max_batch_timeout max_queue_size "
    "rate_limit worker_threads enable_service_hang_detect service_hang_detect_period decompressor "
    "disable_auto_queue_watch health_check_path health_check_port retries"
)
_RUNTIME = _make_keys(
    f"{_GRACE} cuda base_image worker_image core_pattern enable_crash_block disable_image_accelerate "
    "disable_image_cache"
)
_METADATA = _make_keys(
    "name instance workspace_id region resource quota_id quota_type group type workload_type role uid "
    "caller_uid cpu gpu gpu_memory gpu_core_percentage gpu_model npu fpga memory disk shm_size rdma cuda qos "
    "resource_burstable resource_rebalancing elastic_job disable_sidecar schema scheduling system_log "
    "workers worker_threads io_threads max_queue_size batching autoscaler cronscaler path traffic_state "
    "gateway enable_grpc enable_https enable_http2 enable_webservice disable_internet_endpoint",
    rolling_strategy=_ROLLING,
    eas=_EAS,
    rpc=_RPC,
    runtime=_RUNTIME,
)
_CLOUD = _make_keys(
    "logging container_registry role_chain monitoring",
    computing=_make_keys("instance_type instances disable_spot_protection_period"),
    networking=_make_keys(
        "vpc_id vswitch_id security_group_id vswitch_owner destination_cidrs default_route"
    ),
)
_NETWORKING = _make_keys(
    "gateway gateway_policy nlb nacos path port_exposure traffic_state enable_grpc enable_https enable_http2 "
    "dns restriction_model restriction_rules disable_internet_endpoint use_host_network"
)
_OPTIONS = _make_keys(
    "priority quota_oversold enable_ram_role enable_cache enable_writable_cache enable_aigc enable_vineyard "
    "enable_ignore_oss_readdir"
)
KEYS = _make_keys(
    "name containers storage autoscaler cronscaler features labels scheduling source token generate_token "
    "credential role_arn dockerAuth model model_path model_entry model_config models processor processors "
    "processor_path processor_type processor_mainclass processor_entry processor_envs warm_up_data_path "
    "oss_endpoint data_image metrics metrics_config alerts aimaster",
    metadata=_METADATA,
    unit=_make_keys("size guard"),
    cloud=_CLOUD,
    networking=_NETWORKING,
    options=_OPTIONS,
    rolling_strategy=_ROLLING,
    runtime=_RUNTIME,
    rpc=_RPC,
    eas=_EAS,
)


def expand_dotted_keys(content: Mapping[str, Any], keys: Keys) -> dict[str, Any]:
    """Turn keys like ``eas.termination_grace_period`` into objects, for Alibaba's pages use both forms."""
    plain = {key: value for key, value in content.items() if not _is_dotted(key, keys)}
    for key, value in content.items():
        first, _, rest = key.partition(".")
        if key not in plain and isinstance(plain.setdefault(first, {}), dict):
            plain[first] = {rest: value, **plain[first]}
    return {
        key: expand_dotted_keys(value, keys[key]) if keys.get(key) and isinstance(value, dict) else value
        for key, value in plain.items()
    }


def _is_dotted(key: str, keys: Keys) -> bool:
    first, _, rest = key.partition(".")
    return bool(rest) and keys.get(first) is not ANY


def note_unknown_keys(reader: JsonReader, keys: Keys) -> None:
    """Note the keys that nobody knows, here and below."""
    reader.record_unknown_keys(*keys, *(key for key in reader.content if key.partition(".")[0] in keys))
    for key, below in keys.items():
        if below is not ANY and isinstance(reader.content.get(key), dict):
            note_unknown_keys(reader.read_object(key), below)
