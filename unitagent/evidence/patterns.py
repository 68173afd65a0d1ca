"""What known lines of an engine's output mean, in plain words: a table, one row for each.

The order is the order of telling: the first row that fits a line of the output names the cause, for rows
further down are often its consequences on other ranks. Of several lines that fit a row the last one counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST = 300  # characters of an explanation
_LONGEST_LINE = 2000  # characters of a line that are looked at


@dataclass(frozen=True, slots=True)
class Pattern:
    """One known line.

    Attributes:
        line: what is searched for in a line.
        meaning: what it means; ``{name}`` is what the line has there.

    """

    line: str
    meaning: str


PATTERNS = (
    # the GPU
    Pattern(
        r"NVRM: Xid \(PCI:(?P<gpu>[0-9a-fA-F:.]+)\): (?P<number>\d+)",
        "GPU {gpu} reported a fault (Xid {number}): the device or its driver failed, not the program",
    ),
    Pattern(
        r"CUDA error: uncorrectable (?:NVLink|ECC) error",
        "a GPU has a memory or link error that it cannot correct: take the machine out of service",
    ),
    Pattern(
        r"CUDA out of memory\. Tried to allocate (?P<wanted>[\d.]+ \wiB)\. GPU (?P<gpu>\d+) has a total "
        r"capacity of (?P<total>[\d.]+ \wiB) of which (?P<free>[\d.]+ \wiB) is free",
        "GPU {gpu} ran out of memory: {wanted} were wanted, {free} of {total} were free",
    ),
    Pattern(
        r"CUDA out of memory\. Tried to allocate (?P<wanted>[\d.]+ \wiB) \(GPU (?P<gpu>\d+)",
        "GPU {gpu} ran out of memory: {wanted} more were wanted",
    ),
    Pattern(
        r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED", "a GPU ran out of memory"
    ),
    Pattern(
        r"Free memory on device (?:\S+ )?\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less",
        "a GPU has only {free} of {total} GiB free at the start: another process uses it, or "
        "--gpu-memory-utilization is too high",
    ),
    Pattern(
        r"No available memory for the cache blocks",
        "no GPU memory is left for the KV cache: raise --gpu-memory-utilization or use more GPUs",
    ),
    Pattern(
        r"max(?:imum)? seq(?:uence)? len(?:gth)? \((?P<tokens>\d+)\).{0,80}(?:KV cache|larger than)",
        "the KV cache is too small for the model's maximum length of {tokens} tokens: lower --max-model-len",
    ),
    Pattern(
        r"CUDA error: (?P<what>an illegal memory access was encountered|device-side assert triggered"
        r"|unspecified launch failure|misaligned address)",
        "a kernel on a GPU failed ({what}): a defect of the engine or of its input",
    ),
    Pattern(
        r"CUDA driver version is insufficient|NVIDIA driver on your system is too old",
        "the NVIDIA driver of this machine is too old for this image's CUDA",
    ),
    Pattern(
        r"no kernel image is available for execution on the device",
        "this build of the engine does not support this kind of GPU",
    ),
    Pattern(
        r"Found no NVIDIA driver|No CUDA GPUs are available|Failed to infer device type",
        "no GPU is visible in this container",
    ),
    Pattern(
        r"Duplicate GPU detected ?: rank (?P<one>\d+) and rank (?P<other>\d+)",
        "ranks {one} and {other} were given the same GPU: check CUDA_VISIBLE_DEVICES and the local ranks",
    ),
    # memory and limits of the machine
    Pattern(
        r"(?:Memory cgroup o|O)ut of memory: Killed process (?P<pid>\d+) \((?P<name>[^)]*)\)",
        "the kernel killed process {pid} ({name}): the container's memory limit was reached",
    ),
    Pattern(
        r"insufficient shared memory \(shm\)|Bus error.*shm",
        "the container's shared memory is too small: --shm-size, or an emptyDir with medium Memory",
    ),
    Pattern(r"Cannot allocate memory|std::bad_alloc|^MemoryError", "the machine ran out of memory"),
    Pattern(r"No space left on device(?:: '(?P<path>[^']+)')?", "a disk is full: {path}"),
    Pattern(r"Disk quota exceeded", "the quota of a disk is used up"),
    Pattern(r"Too many open files", "too many files are open: raise the limit (ulimit -n)"),
    Pattern(
        r"can't start new thread|pthread_create failed|Resource temporarily unavailable.*(?:thread|fork)",
        "no more threads or processes are allowed here: raise the pids limit of the container",
    ),
    # addresses
    Pattern(
        r"(?:address|server socket has failed).{0,80}port: (?P<port>\d+).{0,80}EADDRINUSE",
        "port {port} is in use by another process",
    ),
    Pattern(
        r"error while attempting to bind on address \('(?P<host>[^']*)', (?P<port>\d+)[^)]*\): "
        r"(?:\[Errno \d+\] )?address already in use",
        "port {port} is in use by another process",
    ),
    Pattern(r"[Pp]ort (?P<port>\d+) is already in use", "port {port} is in use by another process"),
    Pattern(
        r"Address already in use|EADDRINUSE", "a port that the engine needs is in use by another process"
    ),
    Pattern(
        r"Cannot assign requested address|EADDRNOTAVAIL",
        "the engine was told to listen on an address that this container does not have",
    ),
    Pattern(
        r"VLLM_PORT '?(?P<value>\S+?)'? appears to be a URI",
        "VLLM_PORT was set by a Kubernetes Service named vllm: rename that Service",
    ),
    # files, the hub, the model
    Pattern(
        r"does not appear to have (?:a file|files) named (?P<file>[\w.-]*\w)",
        "the model's directory has no {file}: a wrong path, or an incomplete download",
    ),
    Pattern(
        r"SafetensorError: Error while deserializing header: (?P<what>\w+)",
        "a weight file is damaged or incomplete, or only a pointer of Git LFS ({what})",
    ),
    Pattern(
        r"(?:GatedRepoError|Access to model (?P<model>\S+) is restricted|you must have access to it)",
        "the Hugging Face hub refuses this model: accept its licence there, and set HF_TOKEN",
    ),
    Pattern(
        r"(?:RepositoryNotFoundError|is not a (?:local folder and is not a )?valid model identifier)",
        "the Hugging Face hub has no such model, or HF_TOKEN may not see it; a path has to begin with / or .",
    ),
    Pattern(
        r"OfflineModeIsEnabled|outgoing traffic has been disabled|HF_HUB_OFFLINE",
        "the model is not in the cache, and the Hugging Face hub may not be asked (HF_HUB_OFFLINE)",
    ),
    Pattern(
        r"LocalEntryNotFoundError|couldn't connect to '?https://huggingface\.co|Cannot reach https://huggingface\.co",
        "the Hugging Face hub cannot be reached, and the cache does not have the model",
    ),
    Pattern(
        r"model type `(?P<kind>[^`]+)` but Transformers does not recognize this architecture",
        "this version of transformers does not know models of type {kind}: use a newer image",
    ),
    Pattern(
        r"Model architectures (?P<kind>\[[^\]]+\]) (?:are not supported|failed to be inspected)",
        "this version of the engine does not support the model ({kind}): use a newer image",
    ),
    Pattern(
        r"trust_remote_code=True",
        "the model contains code: allow it with --trust-remote-code if you trust it",
    ),
    Pattern(
        r"Tokenizer class (?P<name>\w+) does not exist|Couldn't instantiate the backend tokenizer|"
        r"Can't load tokenizer for '(?P<model>[^']+)'",
        "the model's tokenizer cannot be loaded: its files are missing, or need another version",
    ),
    Pattern(
        r"FileNotFoundError: \[Errno 2\] No such file or directory: '(?P<path>[^']+)'",
        "{path} does not exist in this container",
    ),
    Pattern(
        r"PermissionError: \[Errno 13\] Permission denied: '(?P<path>[^']+)'",
        "this user may not use {path}",
    ),
    Pattern(
        r"(?P<library>lib\S+\.so\S*): cannot open shared object file",
        "the library {library} is missing in this image",
    ),
    Pattern(
        r"ModuleNotFoundError: No module named '(?P<name>[^']+)'", "the Python module {name} is not installed"
    ),
    Pattern(
        r"error: unrecognized arguments: (?P<words>.{1,120})",
        "the engine does not know these options: {words}",
    ),
    # what other ranks do to this one: last, for it is rarely the cause
    Pattern(
        r"Watchdog caught collective operation timeout: WorkNCCL\(SeqNum=(?P<number>\d+), "
        r"OpType=(?P<kind>\w+).*?Timeout\(ms\)=(?P<timeout>\d+)",
        "{kind} number {number} of NCCL did not end within {timeout} ms: another rank did not take part",
    ),
    Pattern(
        r"NET/IB.*Got completion from peer (?P<peer>\S+) with status=(?P<status>\d+)",
        "an InfiniBand transfer to {peer} failed (status {status}): that rank is gone, or the link is bad",
    ),
    Pattern(
        r"ncclRemoteError|remote process exiting prematurely",
        "NCCL lost the connection to another rank: look at the rank that failed first, or at the network",
    ),
    Pattern(
        r"ncclSystemError|ncclUnhandledCudaError|ncclInternalError",
        "NCCL failed on this rank: NCCL_DEBUG=WARN says why",
    ),
    Pattern(
        r"Timed out after (?P<seconds>\d+) seconds waiting for clients\. (?P<joined>\d+)/(?P<size>\d+) ",
        "only {joined} of {size} processes joined within {seconds} s: the others did not start, or do not "
        "reach rank 0",
    ),
    Pattern(
        r"client socket has timed out after (?P<timeout>\d+)ms while trying to connect to "
        r"\((?P<host>[^,]+), (?P<port>\d+)\)",
        "{host} port {port} was not reached within {timeout} ms: rank 0 did not start, or a firewall is "
        "between",
    ),
    Pattern(
        r"connectFullMesh failed|Connection closed by peer \[(?P<peer>[^\]]+)\]",
        "gloo lost or never had a connection to another rank: look at that rank, or at GLOO_SOCKET_IFNAME",
    ),
    Pattern(
        r"RPC call to (?P<call>\w+) timed out",
        "{call} took too long: a worker on some rank hangs or is gone",
    ),
    Pattern(r"Fatal Python error: (?P<what>[^\n]{1,80})", "the Python interpreter crashed: {what}"),
    Pattern(r"Segmentation fault", "a native library crashed (segmentation fault)"),
    Pattern(r"Illegal instruction", "this build uses instructions that this processor does not have"),
)


def explain_output(lines: Sequence[str]) -> str:
    """Return what the output means; empty if no line is known."""
    text = "\n".join(line[:_LONGEST_LINE] for line in lines)
    for pattern in PATTERNS:
        match = None
        for match in re.finditer(pattern.line, text, re.MULTILINE):  # noqa: B007 (the last one)
            pass
        if match is not None:
            return _fill_in(pattern.meaning, match)
    return ""


def _fill_in(meaning: str, match: re.Match[str]) -> str:
    named = {name: " ".join((found or "").split()) for name, found in match.groupdict().items()}
    return meaning.format(**named).removesuffix(": ")[:_LONGEST]
