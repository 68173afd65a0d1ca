"""The commands. What a command needs is imported when it runs, so that a health check starts quickly."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from unitagent import __version__
from unitagent.errors import ConfigurationError, UnitAgentError
from unitagent.options import add_arguments, flags, split_command

if TYPE_CHECKING:
    from unitagent.settings import Resolved

DEFAULT_HTTP_ADDRESS = "127.0.0.1:9470"
_VALUED = ("--format",)  # options beside those of the table that take a value, of commands with a COMMAND

# Promised in the README's list of commands, and refused until a release has them.
NOT_YET = {
    "events": "the Unit's history",
    "timeline": "each rank's states over time",
    "endpoints": "rank-0 addresses of all ready Units",
    "render": "the service file as manifests for an existing engine",
    "completion": "completion for bash, zsh and fish",
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message} (see `{self.prog} --help`)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        return _command(list(sys.argv[1:] if argv is None else argv))
    except UnitAgentError as error:
        print(f"unitagent: error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        if os.environ.get("UNIT_LOG_LEVEL", "").lower() == "debug":
            raise
        hint = "UNIT_LOG_LEVEL=debug shows where"
        print(f"unitagent: error: internal error: {type(error).__name__}: {error} ({hint})", file=sys.stderr)  # noqa: T201
        return 1


def _command(argv: list[str]) -> int:
    words, command = _split(argv)
    parser = _parser()
    namespace = parser.parse_args(words)
    namespace.command = command
    run: Callable[[argparse.Namespace], int] = namespace.run
    return run(namespace)


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Take the workload's command off, whose options are not ours."""
    if not argv or argv[0] not in ("run", "local", "env"):
        return argv, []
    options, command = split_command(argv[1:], _VALUED)
    return [argv[0], *options], command


def _parser() -> argparse.ArgumentParser:
    about = "One lifecycle for an inference Unit that spans many machines."
    parser = _Parser(prog="unitagent", description=about)
    parser.add_argument("--version", action="version", version=f"unitagent {__version__}")
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=_Parser
    )
    for name, (run, add, help_line, usage) in COMMANDS.items():
        command = subparsers.add_parser(name, help=help_line, description=help_line, usage=usage)
        add(command)
        command.set_defaults(run=run)
    for name, help_line in NOT_YET.items():
        command = subparsers.add_parser(name, help=f"{help_line} (not supported yet)", prefix_chars="\0")
        command.add_argument("arguments", nargs="*")
        command.set_defaults(run=_not_yet, name=name)
    return parser


def _not_yet(namespace: argparse.Namespace) -> int:
    raise ConfigurationError(f"`unitagent {namespace.name}` is not supported yet")


def _resolve(namespace: argparse.Namespace, *, identity: bool = True) -> Resolved:
    from unitagent.resolution import resolve  # noqa: PLC0415

    read = partial(Path.read_text, encoding="utf-8")
    return resolve(
        flags(namespace),
        os.environ,
        socket.gethostname(),  # its domain is read from /etc/hosts: a resolver that is down takes seconds
        lambda path: read(Path(path)),
        command=namespace.command,
        identity=identity,
    )


def _run(namespace: argparse.Namespace) -> int:
    from unitagent.log import Where, set_up  # noqa: PLC0415

    found = _resolve(namespace)
    settings = found.settings
    where = Where(settings.unit, settings.rank)
    listener = set_up(where, settings.log_format, settings.log_level)
    try:
        from unitagent import startup  # noqa: PLC0415

        return asyncio.run(startup.run(found, where))
    finally:
        listener.stop()


def _local(namespace: argparse.Namespace) -> int:
    from unitagent.operator import local  # noqa: PLC0415

    options = dict(flags(namespace))
    size = options.pop("UNIT_SIZE", None) or os.environ.get("UNIT_SIZE", "")
    plan = local.plan(size, options, namespace.command)
    return local.run(plan)


def _probe(namespace: argparse.Namespace) -> int:
    from unitagent.operator import probe  # noqa: PLC0415
    from unitagent.values import listening  # noqa: PLC0415

    given = namespace.address or os.environ.get("UNIT_HTTP_ADDRESS") or DEFAULT_HTTP_ADDRESS
    try:
        host, port = listening(given)
    except ValueError as error:
        where = "--address" if namespace.address else "UNIT_HTTP_ADDRESS"
        accepted = "host:port or [IPv6 address]:port"
        raise ConfigurationError(f"{where}={given!r}: accepted is {accepted}") from error
    if not port:
        raise ConfigurationError("UNIT_HTTP_ADDRESS=off: there is no probe address to ask; give --address")
    return probe.probe(namespace.kind, host, port, namespace.timeout)


def _env(namespace: argparse.Namespace) -> int:
    from unitagent.operator import environment, rehearsal  # noqa: PLC0415

    found = _resolve(namespace)
    for warning in found.warnings:
        print(f"unitagent: warning: {warning}", file=sys.stderr)  # noqa: T201
    if namespace.rehearse:
        from unitagent.rehearsing import rehearse  # noqa: PLC0415 (it needs the frameworks)

        print(rehearsal.shown(rehearse(found), namespace.format))  # noqa: T201
        return 0
    print(environment.shown(found, namespace.format))  # noqa: T201
    return 0


def _doctor(namespace: argparse.Namespace) -> int:
    from unitagent import examining  # noqa: PLC0415
    from unitagent.operator.doctor import finding  # noqa: PLC0415

    peers = [examining.peer(text) for text in namespace.peer]
    findings = examining.examine(lambda identity: _resolve(namespace, identity=identity), peers)
    print(finding.as_json(findings) if namespace.json else finding.as_text(findings))  # noqa: T201
    return finding.exit_code(findings)


def _status(namespace: argparse.Namespace) -> int:
    from unitagent import watching  # noqa: PLC0415

    return watching.show(_resolve(namespace, identity=False).settings, namespace)


def _order(namespace: argparse.Namespace) -> int:
    from unitagent import watching  # noqa: PLC0415

    return watching.order(_resolve(namespace, identity=False).settings, namespace)


def _probe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("live", "ready", "traffic", "startup"))
    parser.add_argument("--address", metavar="HOST:PORT", help="default: UNIT_HTTP_ADDRESS")
    parser.add_argument("--timeout", type=float, default=2.0, metavar="SECONDS", help="default 2")


def _env_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("shell", "json"), default="shell")
    what = "the command line and environment that this rank, or --rank N, would run COMMAND with"
    parser.add_argument("--command", dest="rehearse", action="store_true", help=what)
    add_arguments(parser)


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the verdicts as one JSON object")
    help_line = "also try to connect there; may be given again"
    parser.add_argument("--peer", action="append", default=[], metavar="IP:PORT", help=help_line)
    add_arguments(parser)


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the JSON of /status")
    parser.add_argument("--watch", action="store_true", help="again every second, until Ctrl-C")
    add_arguments(parser)


def _order_arguments(kind: str, parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", metavar="TEXT", help="kept in the Unit's history")
    parser.add_argument("--wait", action="store_true", help="until it is done")
    parser.set_defaults(kind=kind)
    add_arguments(parser)


Command = tuple[
    Callable[[argparse.Namespace], int], Callable[[argparse.ArgumentParser], None], str, str | None
]

COMMANDS: dict[str, Command] = {
    "run": (_run, add_arguments, "be one instance of a Unit and run COMMAND in it",
            "unitagent run [OPTIONS] [--] COMMAND [ARG...]"),
    "local": (_local, add_arguments, "a whole Unit on this machine, on 127.0.0.x with the embedded store",
              "unitagent local --size N [RUN OPTIONS] [--] COMMAND [ARG...]"),
    "probe": (_probe, _probe_arguments, "ask an agent's probe address: exit 0 for yes, 1 for no", None),
    "status": (_status, _status_arguments, "the Unit as a table or as JSON", None),
    "env": (_env, _env_arguments, "what this instance resolved and which rule gave each value",
            "unitagent env [--format shell|json] [--command] [RUN OPTIONS] [--] [COMMAND [ARG...]]"),
    "doctor": (_doctor, _doctor_arguments, "preflight checks of this container, each with a remedy", None),
    "drain": (_order, partial(_order_arguments, "drain"), "ask the Unit to drain and to end", None),
    "restart": (_order, partial(_order_arguments, "restart"), "ask the Unit to restart as a whole", None),
}  # fmt: skip
