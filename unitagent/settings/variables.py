"""The one table of variables: what each is called, what it accepts, its default, its meaning and its type.

The invariant: a variable is one field of :class:`Settings`, and nothing else in the package knows its default
or what it accepts. Command line options, help, error messages, ``unitagent env`` and the tables
of ``unitagent/settings/README.md`` follow from these fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from unitagent import setting_parsers
from unitagent.core.config import Mode, Restart
from unitagent.core.timing import Timing
from unitagent.frameworks import FRAMEWORKS
from unitagent.system import redaction
from unitagent.system.keyring import MAX_SECRETS, MIN_SECRET_BYTES, Keyring
from unitagent.system.limits import MAX_SPARES

if TYPE_CHECKING:
    from collections.abc import Callable

LogFormat = Literal["text", "json"]


@dataclass(frozen=True, slots=True)
class ValueType:
    """What a variable accepts.

    Attributes:
        parse: raises ``ValueError`` for a text that is not accepted.
        accepted: what follows "must be" in an error message.
        words: all accepted texts, if ``accepted`` lists them; those of a boolean are the ones to offer.

    """

    parse: Callable[[str], Any]
    accepted: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable.

    Attributes:
        group: the heading that it stands under, in help and in ``unitagent/settings/README.md``.
        name: of the environment variable.
        kind: what it accepts.
        meaning: one line for ``--help``.
        default: as text; None if there is none.
        known: in ``--help``, where an undeclared default comes from.
        absent: the field's value if the variable is unset and has no default.
        uniform: it must be equal on all ranks, which the barrier compares.

    """

    group: str
    name: str
    kind: ValueType
    meaning: str
    default: str | None = None
    known: str | None = None
    absent: Any = None
    uniform: bool = False

    @property
    def flag(self) -> str | None:
        """The command line option; None for a secret, since other users can read a command line."""
        if self.kind is SECRET:
            return None
        return _FLAGS.get(self.name) or "--" + self.name.removeprefix("UNIT_").lower().replace("_", "-")

    @property
    def is_switch(self) -> bool:
        """Whether the flag without a value means true."""
        return self.kind is BOOLEAN

    def mask_value(self, text: str) -> str:
        """Return a value of this variable in a form that is safe for logs, errors and ``unitagent env``."""
        if self.kind is SECRET:
            return redaction.HIDDEN
        if self.kind in (SHELL, COMMAND_LINE):
            return redaction.redact_text(text)
        return setting_parsers.redact_url(text) if self.kind in (STORE, URL) else text


AUTO_KEEPER = ("auto",)  # UNIT_KEEPER, to be derived from COMMAND
_FLAGS = {"UNIT_ID": "--unit", "RANK_ID": "--rank"}

NAME = ValueType(setting_parsers.parse_name, "1 to 128 of the characters A-Z a-z 0-9 . _ - (but not . or ..)")
TEXT = ValueType(setting_parsers.parse_text, "one line of printable text")
SECRET = ValueType(
    setting_parsers.parse_secrets,
    f"a line of printable text of at least {MIN_SECRET_BYTES} bytes, such as `openssl rand -hex 32` prints, "
    f"or up to {MAX_SECRETS} such lines while the secret changes",
)
SHELL = ValueType(setting_parsers.parse_text, "a shell command in one line")
PATH = ValueType(setting_parsers.parse_text, "a file's path")
ABSOLUTE = ValueType(setting_parsers.parse_absolute_path, "an absolute path")
BOOLEAN = ValueType(setting_parsers.parse_boolean, "true or false (1/0, yes/no, on/off)", ("true", "false"))
SIZE = ValueType(setting_parsers.parse_size, "an integer from 1 to 1024")
SPARES = ValueType(setting_parsers.make_integer_parser(0, MAX_SPARES), f"an integer from 0 to {MAX_SPARES}")
RANK = ValueType(setting_parsers.parse_rank, "an integer from 0 to 1023, or auto")
COUNT = ValueType(setting_parsers.make_integer_parser(0, 1_000_000), "an integer from 0 to 1000000")
ATTEMPTS = ValueType(setting_parsers.make_integer_parser(1, 1_000_000), "an integer from 1 to 1000000")
PORT = ValueType(setting_parsers.parse_port, "a port from 1 to 65535")
SECONDS = ValueType(setting_parsers.make_seconds_parser(), "a number of seconds from 0 to 31536000")
PERIOD = ValueType(setting_parsers.make_seconds_parser(0.05), "a number of seconds from 0.05 to 31536000")
LEASE = ValueType(
    setting_parsers.make_seconds_parser(0.05),
    "a number of seconds from 1 to 31536000, and at least two heartbeats",
)
HEARTBEAT = ValueType(
    setting_parsers.make_seconds_parser(0.05), "a number of seconds from 0.2 to half the lease"
)
PAUSES = ValueType(
    setting_parsers.parse_durations, "a comma-separated list of seconds, each from 0 to 31536000"
)
INTERFACE = ValueType(setting_parsers.parse_interface, "the full name of one network interface, such as eth0")
COMMAND_LINE = ValueType(setting_parsers.parse_command_line, "one line, whose words are quoted as in a shell")
READINESS = ValueType(setting_parsers.parse_readiness, "a URL, tcp:PORT, file:PATH or log:REGULAR-EXPRESSION")
ADDRESS = ValueType(setting_parsers.parse_address, "an IP address that the other instances can reach")
HOST = ValueType(setting_parsers.parse_host, "an IP address or a DNS name, without a port")
LISTEN = ValueType(
    setting_parsers.parse_listen_address,
    "host:port, [IPv6 address]:port ([::] means all IPv4 and IPv6 addresses), or off",
)
HOSTS = ValueType(
    setting_parsers.parse_hosts, "a comma-separated list of DNS names; *.name stands for all names below it"
)
PATHS = ValueType(setting_parsers.parse_paths, "a comma-separated list of files and directories")
MODULES = ValueType(setting_parsers.parse_modules, "a comma-separated list of Python modules")
URL = ValueType(setting_parsers.parse_http_url, "an http:// or https:// URL")
WARMUP = ValueType(setting_parsers.parse_warm_up, "off, auto or an http:// or https:// URL")
JSON_TEXT = ValueType(setting_parsers.parse_json_text, "JSON in one line")
STORE = ValueType(
    setting_parsers.parse_store_url,
    "redis://host:port/db, rediss://…, unix:///path, redis+sentinel://host:port,host:port/service/db "
    "or redis+cluster://host:port,host:port, with / @ : ? and # in a password percent-encoded",
)


def _one_of(*words: str, parse: Callable[[str], Any] | None = None) -> ValueType:
    return ValueType(
        parse or setting_parsers.make_choice_parser(*words), setting_parsers.join_words(words), words
    )


MODE = _one_of(*Mode, parse=lambda text: Mode(text.lower()))
RESTART = _one_of(*Restart, parse=lambda text: Restart(text.lower()))


def _declare_variable(
    group: str,
    name: str,
    kind: ValueType,
    meaning: str,
    *,
    secret: bool = False,
    **more: Any,
) -> Any:
    """Declare a field of :class:`Settings` and the variable that fills it; a ``secret`` stays out of
    ``repr``.
    """
    return field(repr=not secret, metadata={"variable": Variable(group, name, kind, meaning, **more)})


_identity, _network, _store, _restarts, _timing, _workload, _output = (
    partial(_declare_variable, group)
    for group in ("identity", "network", "store", "restarts", "timing", "workload", "output")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One instance's settings; durations are in seconds, and 0 means "off" or "no limit" as the field's
    meaning says.

    The invariant: settings that ``resolution.resolve_settings`` made are consistent; nobody has to check them
    again.

    Attributes:
        size: 0 when resolved without an identity, for an operator's command.
        rank: None claims the lowest free rank in the store.
        redis_url: None for the embedded store at rank 0.
        secrets: never sent; other instances only get what is derived from them. Several while they change.
        insecure: an embedded store may listen off loopback without a secret.
        store_port: of the embedded store; None for the port above rank 0's probe port.
        http: host and port; port 0 when the probe address is ``off``.
        log_format: None for text on a terminal and JSON elsewhere.
        command: the workload's argv, as the user wrote it.

    """

    unit: str = _identity(
        "UNIT_ID", NAME, "the Unit's name", default="unit", known="from the platform, else unit"
    )
    size: int = _identity(
        "UNIT_SIZE", SIZE, "number of instances in the Unit", known="from the platform", absent=0
    )
    rank: int | None = _identity(
        "RANK_ID", RANK, "this instance's rank; auto claims a free one", known="from the platform"
    )
    spares: int = _identity(
        "UNIT_SPARES",
        SPARES,
        "instances beyond UNIT_SIZE that stand by and take the rank of a lost one",
        default="0",
    )
    service: str | None = _identity("UNIT_SERVICE", NAME, "service that this Unit belongs to")
    revision: str = _identity(
        "UNIT_REVISION",
        TEXT,
        "revision of this deployment; ranks of different revisions never start together",
        absent="",
    )
    config: str | None = _identity("UNIT_CONFIG", PATH, "path of a service file (EAS service.json)")

    ifname: str | None = _network(
        "COMM_IFNAME",
        INTERFACE,
        "network interface for inter-node traffic",
        known="the first usable of net0, eth1 and the default route's, else the only one",
    )
    rank_ip: str | None = _network(
        "RANK_IP", ADDRESS, "this instance's address", known="first usable address of the interface"
    )
    master_address: str | None = _network(
        "MASTER_ADDRESS", HOST, "address of rank 0", known="from the platform"
    )
    http: tuple[str, int] = _network(
        "UNIT_HTTP_ADDRESS", LISTEN, "address on which the agent answers probes", default="[::]:9470"
    )
    http_hosts: tuple[str, ...] | None = _network(
        "UNIT_HTTP_HOSTS", HOSTS, "additional Host names that the agent answers to", known="own names"
    )
    traffic_port: int | None = _network(
        "UNIT_TRAFFIC_PORT", PORT, "port that users reach at rank 0", known="service file or framework"
    )
    rdma: str = _network(
        "UNIT_RDMA", _one_of("off", "auto"), "find the interface's RDMA device for NCCL", default="off"
    )

    redis_url: str | None = _store(
        "UNIT_REDIS_URL", STORE, "URL of a Redis or Valkey server", known="embedded at rank 0", secret=True
    )
    redis_url_file: str | None = _store("UNIT_REDIS_URL_FILE", PATH, "file that contains the store's URL")
    store_port: int | None = _store(
        "UNIT_STORE_PORT",
        PORT,
        "port of the embedded store, the same on all ranks",
        known="rank 0's probe port + 1",
    )
    store_timeout: float = _store(
        "UNIT_STORE_TIMEOUT_SECONDS",
        SECONDS,
        "how long to retry the store at startup; 0: try once",
        default="60",
    )
    secrets: tuple[str, ...] | None = _store(
        "UNIT_SECRET", SECRET, "secret that the Unit's instances share", secret=True
    )
    secret_file: str | None = _store(
        "UNIT_SECRET_FILE", PATH, "file that contains the Unit's secret; reread when it changes"
    )
    insecure: bool = _store(
        "UNIT_INSECURE",
        BOOLEAN,
        "allow an embedded store on other addresses than loopback without a secret",
        default="false",
    )

    guard: bool = _restarts(
        "UNIT_GUARD", BOOLEAN, "any failure restarts the whole Unit", default="false", uniform=True
    )
    mode: Mode = _restarts(
        "UNIT_MODE",
        MODE,
        "service: every exit is a failure; job: done when all exit 0",
        default="service",
        uniform=True,
    )
    restart: Restart = _restarts(
        "UNIT_RESTART",
        RESTART,
        "restart the workload, or let the platform recreate the containers",
        default="inplace",
        uniform=True,
    )
    max_restarts: int = _restarts(
        "UNIT_MAX_RESTARTS", COUNT, "restarts allowed within UNIT_RESTART_WINDOW_SECONDS", default="10"
    )
    restart_window: float = _restarts(
        "UNIT_RESTART_WINDOW_SECONDS", PERIOD, "window in which UNIT_MAX_RESTARTS counts", default="3600"
    )
    backoff: tuple[float, ...] = _restarts(
        "UNIT_BACKOFF_SECONDS",
        PAUSES,
        "pauses before the first, second … restart within UNIT_RESTART_WINDOW_SECONDS",
        default="0,1,2,5,10,30,60",
    )
    strict: bool = _restarts(
        "UNIT_STRICT", BOOLEAN, "refuse ranks whose settings differ, instead of warning", default="false"
    )

    lease: float = _timing(
        "UNIT_LEASE_SECONDS",
        LEASE,
        "how long a rank may be silent before it counts as lost",
        default="5",
        uniform=True,
    )
    heartbeat: float = _timing(
        "UNIT_HEARTBEAT_SECONDS", HEARTBEAT, "interval between heartbeats", default="1", uniform=True
    )
    barrier_timeout: float = _timing(
        "UNIT_BARRIER_TIMEOUT_SECONDS", SECONDS, "longest wait at a barrier; 0: no limit", default="0"
    )
    startup: float = _timing(
        "UNIT_STARTUP_SECONDS", SECONDS, "longest time from start to healthy; 0: no limit", default="0"
    )
    stop_grace: float = _timing(
        "UNIT_STOP_GRACE_SECONDS", SECONDS, "longest time for an orderly stop, drain included", default="25"
    )
    restart_grace: float = _timing(
        "UNIT_RESTART_GRACE_SECONDS", SECONDS, "time from SIGTERM to SIGKILL after a failure", default="5"
    )
    drain: float = _timing(
        "UNIT_DRAIN_SECONDS", SECONDS, "longest wait for requests in flight during a stop", default="15"
    )
    deregister: float = _timing(
        "UNIT_DEREGISTER_SECONDS",
        SECONDS,
        "delay before the drain, so that load balancers stop sending requests",
        default="2",
    )

    framework: str = _workload(
        "UNIT_FRAMEWORK",
        _one_of("none", "auto", *FRAMEWORKS),
        "add this rank's flags to COMMAND",
        default="none",
        uniform=True,
    )
    cache_dir: str | None = _workload(
        "UNIT_CACHE_DIR", PATH, "directory for compile and kernel caches, unless COMMAND sets its own"
    )
    warm_files: tuple[str, ...] | None = _workload(
        "UNIT_WARM_FILES", PATHS, "files and directories to read into the page cache while waiting for others"
    )
    health_url: str | None = _workload(
        "UNIT_HEALTH_URL",
        URL,
        "URL of the workload's own health check, polled at rank 0",
        known="by framework",
    )
    health_interval: float = _workload(
        "UNIT_HEALTH_INTERVAL_SECONDS", PERIOD, "interval between health checks once healthy", default="5"
    )
    health_timeout: float = _workload(
        "UNIT_HEALTH_TIMEOUT_SECONDS", PERIOD, "longest wait for an answer to a health check", default="30"
    )
    health_failures: int = _workload(
        "UNIT_HEALTH_FAILURES", ATTEMPTS, "failed health checks in a row that end a generation", default="3"
    )
    warmup_url: str = _workload(
        "UNIT_WARMUP_URL",
        WARMUP,
        "request to rank 0's workload once it is healthy, before the Unit is ready; auto: by framework",
        default="off",
    )
    warmup_body: str | None = _workload(
        "UNIT_WARMUP_BODY", JSON_TEXT, "JSON that the warm-up request posts", known="by framework, else a GET"
    )
    warmup_seconds: float = _workload(
        "UNIT_WARMUP_SECONDS", PERIOD, "longest delay of readiness by the warm-up request", default="60"
    )
    stall: float = _workload(
        "UNIT_STALL_SECONDS", SECONDS, "longest time with requests but no new token; 0: off", default="0"
    )

    warm: str = _workload(
        "UNIT_WARM",
        _one_of("off", "auto", "first"),
        "start from a warm process, which has imported the engine; auto: each restart; first: each start",
        default="off",
    )
    warm_modules: tuple[str, ...] | None = _workload(
        "UNIT_WARM_MODULES", MODULES, "Python modules that the warm process imports", known="by framework"
    )

    keeper: tuple[str, ...] | None = _workload(
        "UNIT_KEEPER",
        COMMAND_LINE,
        "second command on each rank that keeps running across restarts, such as a weight daemon; "
        "auto: the weight daemon of vLLM or SGLang",
    )
    keeper_ready: str | None = _workload(
        "UNIT_KEEPER_READY", READINESS, "how to tell the keeper is ready", known="by framework, with auto"
    )
    keeper_files: tuple[str, ...] | None = _workload(
        "UNIT_KEEPER_FILES",
        PATHS,
        "files the keeper loads; if they change, the next restart reloads them",
        known="the model, with auto",
    )
    keeper_failure: str | None = _workload(
        "UNIT_KEEPER_FAILURE",
        _one_of("restart-unit", "relaunch"),
        "if the keeper dies: restart the Unit at once, or start the keeper again with the next restart",
        known="relaunch with vLLM, else restart-unit",
    )

    evidence: float = _output(
        "UNIT_EVIDENCE_SECONDS",
        SECONDS,
        "longest time to collect stacks before a failed workload is stopped; 0: off",
        default="3",
    )
    evidence_dir: str | None = _output(
        "UNIT_EVIDENCE_DIR",
        ABSOLUTE,
        "directory for the evidence of failures",
        known="unitagent-evidence in TMPDIR or /tmp",
    )
    hook: str | None = _output(
        "UNIT_HOOK",
        SHELL,
        "command to run on failure, restart, ready, drained and failed, with the event as JSON on stdin",
    )
    termination_log: str | None = _output(
        "UNIT_TERMINATION_LOG",
        ABSOLUTE,
        "file to which the reason of the last failure or exit is written",
        known="/dev/termination-log, if there is one",
    )
    dashboard: str = _output(
        "UNIT_DASHBOARD",
        _one_of("unit", "store", "off"),
        "what the page at / of the probe address shows",
        default="unit",
    )
    log_format: LogFormat | None = _output(
        "UNIT_LOG_FORMAT",
        _one_of("text", "json"),
        "format of log lines",
        known="text on a terminal, else json",
    )
    log_level: str = _output(
        "UNIT_LOG_LEVEL",
        _one_of("debug", "info", "warning", "error"),
        "lowest level that is logged",
        default="info",
    )

    command: tuple[str, ...] = ()

    @property
    def has_embedded_store(self) -> bool:
        """Whether no URL of a store is set, so that rank 0 runs one."""
        return self.redis_url is None and self.redis_url_file is None

    @property
    def http_host(self) -> str:
        """The host on which the agent answers probes."""
        return self.http[0]

    @property
    def http_port(self) -> int:
        """The port on which the agent answers probes; 0 for none."""
        return self.http[1]

    @property
    def keys(self) -> Keyring:
        """A new ring with the keys of these secrets, which may change it."""
        return Keyring(*self.secrets or ())

    @property
    def uniform(self) -> dict[str, str]:
        """The variables that must be equal on all ranks, with their values as text."""
        rows = ((row.name, getattr(self, name)) for name, row in FIELDS.items() if row.uniform)
        return {name: setting_parsers.format_value(value) for name, value in rows}

    @property
    def timing(self) -> Timing:
        """All durations of the protocol that follow from lease and heartbeat."""
        return Timing.from_lease(self.lease, self.heartbeat)


FIELDS: dict[str, Variable] = {
    each.name: each.metadata["variable"] for each in fields(Settings) if each.metadata
}
VARIABLES: dict[str, Variable] = {row.name: row for row in FIELDS.values()}
GROUPS: dict[str, tuple[Variable, ...]] = {
    group: tuple(rows) for group, rows in groupby(VARIABLES.values(), lambda row: row.group)
}
