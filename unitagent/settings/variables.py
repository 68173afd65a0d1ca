"""The one table of variables: what each is called, what it accepts, what it defaults to and what it means.

The invariant: nothing else in the package knows a default or an accepted form. Help, error messages,
``unitagent env`` and the table of the README all follow from these rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unitagent import masks, values
from unitagent.core.model import Mode, Restart
from unitagent.keys import LEAST_SECRET, MOST_SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class ValueType:
    """A parser that raises ``ValueError``, and the words for what it accepts; ``choice`` if these are all."""

    parse: Callable[[str], Any]
    accepted: str
    choice: bool = False


@dataclass(frozen=True, slots=True)
class Variable:
    """One row.

    Attributes:
        name: of the environment variable.
        field: of ``Settings`` that it fills.
        kind: what it accepts.
        meaning: one line for ``--help``.
        default: as text; None where there is nothing to default to.
        known: what stands in ``--help`` for a default that has to be found out.

    """

    name: str
    field: str
    kind: ValueType
    meaning: str
    default: str | None = None
    known: str | None = None

    @property
    def flag(self) -> str | None:
        """The option of the command line; none for a secret, since others can read a command line."""
        if self.kind is SECRET:
            return None
        return _FLAGS.get(self.name) or "--" + self.name.removeprefix("UNIT_").lower().replace("_", "-")

    @property
    def is_switch(self) -> bool:
        """Whether the flag alone means true."""
        return self.kind is BOOLEAN

    def mask_value(self, text: str) -> str:
        """Give a value of this variable in a form fit for logs, errors and ``unitagent env``."""
        if self.kind is SECRET:
            return masks.HIDDEN
        return values.masked(text) if self.kind in (STORE, URL) else text


_FLAGS = {"UNIT_ID": "--unit", "RANK_ID": "--rank"}

NAME = ValueType(values.name, "1 to 128 of the characters A-Z a-z 0-9 . _ -, and not . or ..")
TEXT = ValueType(values.text, "one line of printable text")
SECRET = ValueType(
    values.secrets,
    f"a line of printable text, at least {LEAST_SECRET} bytes, such as `openssl rand -hex 32` makes; up to "
    f"{MOST_SECRETS} lines while it changes",
)
PATH = ValueType(values.text, "the path of a file")
BOOLEAN = ValueType(values.boolean, "true or false (1/0, yes/no, on/off)")
SIZE = ValueType(values.size, "a whole number from 1 to 1024")
RANK = ValueType(values.rank, "a whole number from 0 to 1023, or auto")
COUNT = ValueType(values.whole(0, 1_000_000), "a whole number from 0 to 1000000")
ATTEMPTS = ValueType(values.whole(1, 1_000_000), "a whole number from 1 to 1000000")
PORT = ValueType(values.port, "a port from 1 to 65535")
SECONDS = ValueType(values.seconds(), "a number of seconds from 0 to 31536000")
PERIOD = ValueType(values.seconds(0.05), "a number of seconds from 0.05 to 31536000")
LEASE = ValueType(values.seconds(0.05), "a number of seconds from 1 to 31536000, and at least two heartbeats")
HEARTBEAT = ValueType(values.seconds(0.05), "a number of seconds from 0.2 to half a lease")
PAUSES = ValueType(values.durations, "numbers of seconds from 0 to 31536000, separated by commas")
INTERFACE = ValueType(values.interface, "the whole name of one network interface, such as eth0")
ADDRESS = ValueType(values.address, "an IP address that the other instances can reach")
HOST = ValueType(values.host, "an IP address or a DNS name, without a port")
LISTEN = ValueType(
    values.listening, "host:port, [IPv6 address]:port ([::] is all addresses of both families), or off"
)
HOSTS = ValueType(values.hosts, "DNS names separated by commas, *.name for all names below one")
URL = ValueType(values.http_url, "a URL that begins with http:// or https://")
STORE = ValueType(
    values.store_url,
    "redis://host:port/db, rediss://…, unix:///path, redis+sentinel://host:port,host:port/service/db "
    "or redis+cluster://host:port,host:port, with / @ : ? and # in a password percent-encoded",
)
MODE = ValueType(lambda text: Mode(text.lower()), "service or job", choice=True)
RESTART = ValueType(lambda text: Restart(text.lower()), "inplace or recreate", choice=True)


def _one_of(*words: str) -> ValueType:
    return ValueType(values.choice(*words), ", ".join(words[:-1]) + " or " + words[-1], choice=True)


V = Variable
GROUPS: dict[str, tuple[Variable, ...]] = {
    "identity": (
        V("UNIT_ID", "unit", NAME, "name of the Unit", "unit", "from the platform, else unit"),
        V("UNIT_SIZE", "size", SIZE, "instances in the Unit", known="from the platform"),
        V("RANK_ID", "rank", RANK, "this instance's rank; auto claims a free one", known="from the platform"),
        V("UNIT_SERVICE", "service", NAME, "the service that this Unit belongs to"),
        V("UNIT_REVISION", "revision", TEXT, "ranks of different revisions never form one generation", ""),
        V("UNIT_CONFIG", "config", PATH, "a service file (EAS service.json)"),
    ),
    "network": (
        V(
            "COMM_IFNAME",
            "ifname",
            INTERFACE,
            "network interface for inter-node traffic",
            known="net0, eth1, default route's, if usable",
        ),
        V(
            "RANK_IP",
            "rank_ip",
            ADDRESS,
            "this instance's address",
            known="first usable one of the interface",
        ),
        V("MASTER_ADDRESS", "master_address", HOST, "where rank 0 is", known="from the platform"),
        V("UNIT_HTTP_ADDRESS", "http", LISTEN, "where probes are answered", "[::]:9470"),
        V(
            "UNIT_HTTP_HOSTS",
            "http_hosts",
            HOSTS,
            "further Host names that are answered there",
            known="own names",
        ),
        V(
            "UNIT_TRAFFIC_PORT",
            "traffic_port",
            PORT,
            "user port of rank 0",
            known="service file or framework",
        ),
        V("UNIT_RDMA", "rdma", _one_of("off", "auto"), "find the interface's RDMA device for NCCL", "off"),
    ),
    "store": (
        V("UNIT_REDIS_URL", "redis_url", STORE, "Redis or Valkey", known="embedded at rank 0"),
        V("UNIT_REDIS_URL_FILE", "redis_url_file", PATH, "a file that holds the URL"),
        V(
            "UNIT_STORE_PORT",
            "store_port",
            PORT,
            "port of the embedded store, the same on all ranks",
            known="rank 0's probe port + 1",
        ),
        V(
            "UNIT_STORE_TIMEOUT_SECONDS",
            "store_timeout",
            SECONDS,
            "how long to try to reach it at the start; 0: one try",
            "60",
        ),
        V("UNIT_SECRET", "secrets", SECRET, "shared by the Unit's instances"),
        V(
            "UNIT_SECRET_FILE",
            "secret_file",
            PATH,
            "a file that holds the secret, and is looked at for a change",
        ),
        V(
            "UNIT_INSECURE",
            "insecure",
            BOOLEAN,
            "allow an embedded store off loopback without a secret",
            "false",
        ),
    ),
    "restarts": (
        V("UNIT_GUARD", "guard", BOOLEAN, "any failure restarts the whole Unit", "false"),
        V(
            "UNIT_MODE",
            "mode",
            MODE,
            "service: every exit is a failure; job: done when all exit 0",
            "service",
        ),
        V(
            "UNIT_RESTART",
            "restart",
            RESTART,
            "restart the workload, or have the containers rebuilt",
            "inplace",
        ),
        V("UNIT_MAX_RESTARTS", "max_restarts", COUNT, "restarts allowed within the window", "10"),
        V("UNIT_RESTART_WINDOW_SECONDS", "restart_window", PERIOD, "the window", "3600"),
        V(
            "UNIT_BACKOFF_SECONDS",
            "backoff",
            PAUSES,
            "pause before each restart in the window",
            "0,1,2,5,10,30,60",
        ),
        V("UNIT_STRICT", "strict", BOOLEAN, "refuse ranks that differ instead of warning", "false"),
    ),
    "timing": (
        V("UNIT_LEASE_SECONDS", "lease", LEASE, "silence after which a rank counts as lost", "5"),
        V("UNIT_HEARTBEAT_SECONDS", "heartbeat", HEARTBEAT, "pause between two heartbeats", "1"),
        V(
            "UNIT_BARRIER_TIMEOUT_SECONDS",
            "barrier_timeout",
            SECONDS,
            "longest wait at a barrier; 0: for ever",
            "0",
        ),
        V("UNIT_STARTUP_SECONDS", "startup", SECONDS, "longest time from start to healthy; 0: off", "0"),
        V("UNIT_STOP_GRACE_SECONDS", "stop_grace", SECONDS, "all of a wanted stop, drain included", "25"),
        V("UNIT_RESTART_GRACE_SECONDS", "restart_grace", SECONDS, "SIGTERM to SIGKILL after a failure", "5"),
        V("UNIT_DRAIN_SECONDS", "drain", SECONDS, "longest wait for requests in flight", "15"),
        V("UNIT_DEREGISTER_SECONDS", "deregister", SECONDS, "pause so that balancers notice", "2"),
    ),
    "workload": (
        V(
            "UNIT_FRAMEWORK",
            "framework",
            _one_of(
                "none",
                "auto",
                "vllm",
                "sglang",
                "torchrun",
                "ray",
                "accelerate",
                "deepspeed",
                "lmdeploy",
                "tensorrt-llm",
            ),
            "complete COMMAND for this rank",
            "none",
        ),
        V(
            "UNIT_HEALTH_URL",
            "health_url",
            URL,
            "the workload's own health, asked at rank 0",
            known="by framework",
        ),
        V("UNIT_HEALTH_INTERVAL_SECONDS", "health_interval", PERIOD, "pause between two questions", "5"),
        V("UNIT_HEALTH_TIMEOUT_SECONDS", "health_timeout", PERIOD, "longest wait for an answer", "30"),
        V(
            "UNIT_HEALTH_FAILURES",
            "health_failures",
            ATTEMPTS,
            "failures in a row that end a generation",
            "3",
        ),
        V(
            "UNIT_STALL_SECONDS",
            "stall",
            SECONDS,
            "requests but no token for so long is a failure; 0: off",
            "0",
        ),
    ),
    "output": (
        V(
            "UNIT_DASHBOARD",
            "dashboard",
            _one_of("unit", "store", "off"),
            "page at / of the probe address",
            "unit",
        ),
        V(
            "UNIT_LOG_FORMAT",
            "log_format",
            _one_of("text", "json"),
            "log lines",
            known="text on a terminal, else json",
        ),
        V(
            "UNIT_LOG_LEVEL",
            "log_level",
            _one_of("debug", "info", "warning", "error"),
            "least level logged",
            "info",
        ),
    ),
}

VARIABLES: dict[str, Variable] = {row.name: row for rows in GROUPS.values() for row in rows}
