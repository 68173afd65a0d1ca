"""Which variables ranks compare, and that real agents name the one that differs."""

from __future__ import annotations

import pytest

from unitagent.agent.fingerprint import compute_fingerprint


def names(**environ: str) -> set[str]:
    """What is compared of these variables."""
    return {word.partition("=")[0] for word in compute_fingerprint(["c"], {}, environ).split()}


ALWAYS = {"COMMAND"}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "NCCL_ALGO",
            "NCCL_IB_PKEY",
            "NCCL_GRAPH_MIXING_SUPPORT",
            "NCCL_PROFILER_PLUGIN",
            "NCCL_P2P_DISABLE",
        ),
        *("NCCL_IB_ADDR_RANGE", "NCCL_SOCKET_FAMILY", "TORCH_NCCL_BLOCKING_WAIT", "GLOO_DEVICE_TRANSPORT"),
        *("VLLM_KV_CACHE_LAYOUT", "VLLM_CPU_KVCACHE_SPACE", "VLLM_LOGITS_PROCESSOR_THREADS", "VLLM_USE_V1"),
        *("VLLM_DP_MASTER_IP", "VLLM_DP_MASTER_PORT", "VLLM_DP_SIZE", "LMDEPLOY_DP_MASTER_ADDR"),
        *("SGLANG_ENABLE_TORCH_COMPILE", "LMDEPLOY_EXECUTOR_BACKEND", "TLLM_OVERRIDE_LAYER_NUM"),
        *("RAY_CGRAPH_get_timeout", "PET_NPROC_PER_NODE"),
    ],
)
def test_what_must_be_equal(name: str) -> None:
    assert names(**{name: "1"}) == {*ALWAYS, name}
    assert compute_fingerprint([], {}, {name: "1"}) != compute_fingerprint([], {}, {name: "2"})
    assert names(**{name: ""}) == ALWAYS


@pytest.mark.parametrize(
    "name",
    [
        *("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "NCCL_IB_HCA", "NCCL_IB_GID_INDEX", "NCCL_HOSTID"),
        *("NCCL_RAS_ADDR", "NCCL_DEBUG", "NCCL_DEBUG_FILE", "NCCL_TOPO_FILE", "NCCL_GRAPH_FILE"),
        *("VLLM_HOST_IP", "VLLM_PORT", "VLLM_DP_RANK", "VLLM_DP_RANK_LOCAL", "VLLM_NIXL_SIDE_CHANNEL_HOST"),
        *("VLLM_GPU_NIC_PCIE_MAPPING", "VLLM_CPU_OMP_THREADS_BIND", "VLLM_CACHE_ROOT", "VLLM_LOGGING_LEVEL"),
        *("VLLM_RPC_BASE_PATH", "VLLM_API_KEY", "SGLANG_HOST_IP", "SGLANG_TORCH_PROFILER_DIR"),
        *("RAY_ADDRESS", "RAY_TMPDIR", "RAY_OVERRIDE_RESOURCES", "RAY_AUTH_TOKEN", "TLLM_LOG_LEVEL"),
        *("PET_NODE_RANK", "HOME", "HF_TOKEN", "RANK_ID"),
    ],
)
def test_what_may_differ(name: str) -> None:
    assert names(**{name: "1"}) == ALWAYS


def test_command_and_settings_are_compared() -> None:
    vllm, none = {"UNIT_FRAMEWORK": "vllm"}, {"UNIT_FRAMEWORK": "none"}
    ours = compute_fingerprint(["vllm", "serve", "M"], vllm, {})
    assert ours != compute_fingerprint(["vllm", "serve", "M"], none, {})
    assert ours != compute_fingerprint(["vllm", "serve M"], vllm, {})
    assert ours == compute_fingerprint(["vllm", "serve", "M"], vllm, {"HOME": "/"})
