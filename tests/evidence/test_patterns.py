"""What known last lines mean: one quoted line for each row of the table."""

# ruff: noqa: E501 (lines are quoted as they come)

from __future__ import annotations

import re

import pytest

from unitagent.evidence.patterns import PATTERNS, explain_output

OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 3 has a total capacity of "
    "79.15 GiB of which 12.50 MiB is free. Process 1 has 79.13 GiB memory in use."
)
WATCHDOG = (
    "[rank3]:[E1130 10:00:00.000 ProcessGroupNCCL.cpp:632] [Rank 3] Watchdog caught collective operation "
    "timeout: WorkNCCL(SeqNum=1234, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for "
    "600012 milliseconds before timing out."
)
LINES = [
    (
        "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
        "GPU 0000:3b:00 reported a fault (Xid 79)",
    ),
    ("RuntimeError: CUDA error: uncorrectable ECC error encountered", "cannot correct"),
    (OOM, "GPU 3 ran out of memory: 20.00 MiB were wanted, 12.50 MiB of 79.15 GiB were free"),
    (
        (
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 15.78 GiB total "
            "capacity; 14.05 GiB already allocated; 1.05 GiB free)"
        ),
        "GPU 0 ran out of memory: 2.00 GiB more were wanted",
    ),
    ("RuntimeError: CUDA error: out of memory", "a GPU ran out of memory"),
    (
        (
            "ValueError: Free memory on device cuda:0 (10.2/79.15 GiB) on startup is less than desired GPU memory "
            "utilization (0.9, 71.23 GiB)."
        ),
        "only 10.2 of 79.15 GiB free at the start",
    ),
    (
        (
            "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
            "initializing the engine."
        ),
        "no GPU memory is left for the KV cache",
    ),
    (
        (
            "ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache "
            "is needed, which is larger than the available KV cache memory (10.10 GiB)."
        ),
        "maximum length of 131072 tokens",
    ),
    (
        "RuntimeError: CUDA error: an illegal memory access was encountered",
        "a kernel on a GPU failed (an illegal memory access was encountered)",
    ),
    (
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).",
        "too old for this image's CUDA",
    ),
    (
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "does not support this kind of GPU",
    ),
    ("RuntimeError: No CUDA GPUs are available", "no GPU is visible"),
    (
        "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1a000",
        "ranks 1 and 0 were given the same GPU",
    ),
    (
        "Memory cgroup out of memory: Killed process 4242 (python3) total-vm:1kB, anon-rss:1kB",
        "the kernel killed process 4242 (python3)",
    ),
    (
        (
            "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory "
            "(shm)."
        ),
        "shared memory is too small",
    ),
    ("OSError: [Errno 12] Cannot allocate memory", "the machine ran out of memory"),
    ("OSError: [Errno 28] No space left on device: '/cache/x'", "a disk is full: /cache/x"),
    ("OSError: [Errno 122] Disk quota exceeded", "the quota of a disk"),
    ("OSError: [Errno 24] Too many open files", "too many files are open"),
    ("RuntimeError: can't start new thread", "no more threads or processes"),
    (
        (
            "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network "
            "address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"
        ),
        "port 29500 is in use",
    ),
    (
        "[Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use",
        "port 8000 is in use",
    ),
    ("ValueError: Port 30000 is already in use", "port 30000 is in use"),
    ("OSError: [Errno 98] Address already in use", "a port that the engine needs is in use"),
    ("OSError: [Errno 99] Cannot assign requested address", "an address that this container does not have"),
    (
        (
            "ValueError: VLLM_PORT 'tcp://10.0.0.1:80' appears to be a URI. This may be caused by a Kubernetes "
            "service discovery issue"
        ),
        "a Kubernetes Service named vllm",
    ),
    ("OSError: /models/x does not appear to have a file named config.json.", "has no config.json"),
    (
        "safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge",
        "a weight file is damaged or incomplete, or only a pointer of Git LFS (HeaderTooLarge)",
    ),
    (
        "huggingface_hub.errors.GatedRepoError: 401 Client Error. Access to model a/b is restricted.",
        "accept its licence",
    ),
    (
        "OSError: a/b is not a local folder and is not a valid model identifier listed on the hub",
        "has no such model",
    ),
    (
        (
            "huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://huggingface.co/api: offline mode is "
            "enabled. To disable it, please unset the `HF_HUB_OFFLINE` environment variable."
        ),
        "may not be asked (HF_HUB_OFFLINE)",
    ),
    (
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files",
        "the Hugging Face hub cannot be reached",
    ),
    (
        (
            "ValueError: The checkpoint you are trying to load has model type `qwen9` but Transformers does not "
            "recognize this architecture."
        ),
        "does not know models of type qwen9",
    ),
    (
        "ValueError: Model architectures ['XForCausalLM'] are not supported for now.",
        "does not support the model (['XForCausalLM'])",
    ),
    (
        (
            "ValueError: Loading a/b requires you to execute the configuration file in that repo on your local "
            "machine. Please set the option `trust_remote_code=True` to remove this error."
        ),
        "--trust-remote-code",
    ),
    (
        "ValueError: Tokenizer class XTokenizer does not exist or is not currently imported.",
        "the model's tokenizer",
    ),
    (
        "FileNotFoundError: [Errno 2] No such file or directory: '/models/x/config.json'",
        "/models/x/config.json does not exist in this container",
    ),
    ("PermissionError: [Errno 13] Permission denied: '/root/.cache'", "this user may not use /root/.cache"),
    (
        "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory",
        "the library libcudart.so.12 is missing",
    ),
    ("ModuleNotFoundError: No module named 'flash_attn'", "the Python module flash_attn is not installed"),
    ("vllm: error: unrecognized arguments: --no-such-flag", "does not know these options: --no-such-flag"),
    (WATCHDOG, "ALLREDUCE number 1234 of NCCL did not end within 600000 ms"),
    (
        "node2:10:20 [0] NCCL WARN NET/IB : Got completion from peer 10.0.0.2<4242> with status=12 opcode=0 len=0",
        "an InfiniBand transfer to 10.0.0.2<4242> failed (status 12)",
    ),
    (
        "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.",
        "NCCL lost the connection to another rank",
    ),
    (
        "ncclSystemError: System call (e.g. socket, malloc) or external library call failed",
        "NCCL failed on this rank",
    ),
    (
        "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2 clients joined.",
        "only 1 of 2 processes joined within 601 s",
    ),
    (
        "The client socket has timed out after 300000ms while trying to connect to (10.0.0.1, 29500).",
        "10.0.0.1 port 29500 was not reached within 300000 ms",
    ),
    (
        "RuntimeError: [../gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.2]:40000",
        "gloo lost or never had a connection",
    ),
    ("TimeoutError: RPC call to execute_model timed out.", "execute_model took too long"),
    ("Fatal Python error: Segmentation fault", "the Python interpreter crashed: Segmentation fault"),
    ("/bin/sh: line 1: 7 Segmentation fault (core dumped) ./engine", "a native library crashed"),
    ("Illegal instruction (core dumped)", "instructions that this processor does not have"),
]


@pytest.mark.parametrize(("line", "meaning"), LINES, ids=[line[:40] for line, _ in LINES])
def test_a_known_line_is_put_in_plain_words(line: str, meaning: str) -> None:
    assert meaning in explain_output(["INFO loading", line, "[rank0]: ERROR: process exits"])


def test_every_row_is_shown_by_a_line() -> None:
    def first(line: str) -> str:
        return next(row.line for row in PATTERNS if re.search(row.line, line, re.MULTILINE))

    assert {first(line) for line, _ in LINES} == {row.line for row in PATTERNS}


def test_the_cause_counts_and_not_its_consequence() -> None:
    assert "GPU 3 ran out of memory" in explain_output([OOM, WATCHDOG, "ncclRemoteError: x"])


def test_of_several_lines_the_last_one_counts() -> None:
    lines = ["ValueError: Port 1 is already in use", "ValueError: Port 2 is already in use"]
    assert explain_output(lines) == "port 2 is in use by another process"


def test_what_is_missing_in_a_line_leaves_no_gap() -> None:
    assert explain_output(["OSError: [Errno 28] No space left on device"]) == "a disk is full"


@pytest.mark.parametrize("lines", [[], ["INFO: ready"], ["100% of 20 files", "{}", "{name}"]])
def test_an_unknown_line_means_nothing(lines: list[str]) -> None:
    assert explain_output(lines) == ""


def test_a_long_line_takes_no_time() -> None:
    assert explain_output(["NCCL Watchdog caught (" * 100_000, "x" * 5_000_000]) == ""
