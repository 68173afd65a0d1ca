"""The command line: which commands there are, their options, and how errors end a process."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from unitagent import __version__, commands
from unitagent.errors import ConfigurationError, UnitAgentError
from unitagent.legible import hand_over, warn
from unitagent.values import LONGEST_SECONDS, seconds

_WITH_COMMAND = ("run", "local", "env")  # they end in COMMAND, whose options are not ours
_LEAST_PATIENCE = 0.001  # seconds; 0 would mean not to wait for an answer at all
_ANY_WIDTH = 80  # of a help that nobody has asked for
_VALUED = ("--format",)  # options beside those of the table that take a value, of commands with a COMMAND


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and takes no option but one that is spelled out."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message} (see `{self.prog} --help`)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        return _run_command(list(sys.argv[1:] if argv is None else argv))
    except UnitAgentError as error:
        warn(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        if os.environ.get("UNIT_LOG_LEVEL", "").lower() == "debug":
            raise
        hint = "UNIT_LOG_LEVEL=debug shows where"
        warn(f"error: internal error: {type(error).__name__}: {error} ({hint})")
        return 1


def _run_command(argv: list[str]) -> int:
    words, command = _split_off_workload(argv)
    name = next((word for word in words if word in COMMANDS), "")
    namespace, odd = _build_parser_for(name, words).parse_known_args(words)
    if odd:
        raise ConfigurationError(f"unknown: {' '.join(odd)} (see `unitagent {name} --help`)")
    namespace.command = command
    run: Callable[[argparse.Namespace], int] = namespace.run
    return run(namespace)


def _split_off_workload(argv: list[str]) -> tuple[list[str], list[str]]:
    """Take the workload's command off, whose options are not ours."""
    if not argv or argv[0] not in _WITH_COMMAND:
        return argv, []
    from unitagent.settings.cli_options import split_command  # noqa: PLC0415

    options, command = split_command(argv[1:], _VALUED)
    return [argv[0], *options], command


def _build_parser_for(name: str, words: Sequence[str]) -> argparse.ArgumentParser:
    """Make what these words need of the parser: all commands only where one is looked for among them, and
    the terminal's width only for a help. A health check would spend most of its time on the rest.
    """
    commands = [name] if words[:1] == [name] else list(COMMANDS)
    width = None if {"-h", "--help"} & set(words) else _ANY_WIDTH
    return _build_parser(commands, [name], partial(argparse.HelpFormatter, width=width))


def _build_parser(
    names: Sequence[str], with_options: Sequence[str], formatter: Callable[..., argparse.HelpFormatter]
) -> argparse.ArgumentParser:
    about = "One lifecycle for an inference Unit that spans many machines."
    parser = _Parser(prog="unitagent", description=about, formatter_class=formatter)
    parser.add_argument("--version", action="version", version=f"unitagent {__version__}")
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=_Parser, prog=parser.prog
    )
    for name in names:
        run, add, help_line, usage = COMMANDS[name]
        command = subparsers.add_parser(
            name, help=help_line, description=help_line, usage=usage, formatter_class=formatter
        )
        if name in with_options:
            add(command)
        command.set_defaults(run=run)
    return parser


def _add_variables(parser: argparse.ArgumentParser) -> None:
    from unitagent.settings.cli_options import add_arguments  # noqa: PLC0415 (health checks have none of them)

    add_arguments(parser)


def _print_completion(namespace: argparse.Namespace) -> int:
    from unitagent.operator import completion  # noqa: PLC0415

    names = list(COMMANDS)
    hand_over(
        completion.write_script(
            namespace.shell, _build_parser(names, names, argparse.HelpFormatter), _WITH_COMMAND
        )
    )
    return 0


def _render_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", choices=("compose", "swarm", "lws"))
    parser.add_argument("file", metavar="SERVICE.json", help="a service file of EAS")
    help_line = "image that brings the agent (compose and lws), for services whose own image has none"
    parser.add_argument("--agent-image", metavar="IMAGE", help=help_line)


def _parse_timeout(text: str) -> float:
    try:
        return seconds(_LEAST_PATIENCE)(text)
    except ValueError as error:
        accepted = f"a number of seconds from {_LEAST_PATIENCE:g} to {LONGEST_SECONDS:.0f}"
        raise argparse.ArgumentTypeError(f"{text!r}: accepted is {accepted}") from error


def _probe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("live", "ready", "traffic", "startup"))
    parser.add_argument("--address", metavar="HOST:PORT", help="default: UNIT_HTTP_ADDRESS")
    parser.add_argument("--timeout", type=_parse_timeout, default=2.0, metavar="SECONDS", help="default 2")


def _env_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("shell", "json"), default="shell")
    what = "the command line and environment that this rank, or --rank N, would run COMMAND with"
    parser.add_argument("--command", dest="rehearse", action="store_true", help=what)
    _add_variables(parser)


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the verdicts as one JSON object")
    help_line = "also try to connect there; may be given again"
    parser.add_argument("--peer", action="append", default=[], metavar="IP:PORT", help=help_line)
    _add_variables(parser)


def _completion_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the JSON of /status")
    parser.add_argument("--watch", action="store_true", help="again every second, until Ctrl-C")
    _add_variables(parser)


def _parse_since(text: str) -> float:
    import time  # noqa: PLC0415 (for those who ask)

    from unitagent.operator.history.event_text import ACCEPTED, parse_since  # noqa: PLC0415

    try:
        return parse_since(text, time.time())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: accepted is {ACCEPTED}") from error


def _since_argument(parser: argparse.ArgumentParser) -> None:
    help_line = "leave out what is older: 30s, 10m, 2h, 1d, or a time such as 2026-01-31T09:30"
    parser.add_argument("--since", type=_parse_since, metavar="WHEN", help=help_line)


def _events_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="and what goes on happening, until Ctrl-C")
    _since_argument(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object for each line")
    _add_variables(parser)


def _timeline_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--svg", metavar="FILE", help="write it to this file, as a picture")
    _since_argument(parser)
    _add_variables(parser)


def _endpoints_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = ("json", "haproxy", "envoy", "prometheus")
    parser.add_argument("--format", choices=kinds, default="json", help="for whom; default json")
    parser.add_argument("--watch", metavar="FILE", help="keep this file up to date, until Ctrl-C or SIGTERM")
    help_line = "with --watch: a line for the shell, run after each change of the file"
    parser.add_argument("--on-change", metavar="CMD", help=help_line)
    _add_variables(parser)


def _order_arguments(kind: str, parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", metavar="TEXT", help="kept in the Unit's history")
    parser.add_argument("--wait", action="store_true", help="until it is done")
    parser.set_defaults(kind=kind)
    _add_variables(parser)


Command = tuple[
    Callable[[argparse.Namespace], int], Callable[[argparse.ArgumentParser], None], str, str | None
]

COMMANDS: dict[str, Command] = {
    "run": (commands.run_agent, _add_variables, "be one instance of a Unit and run COMMAND in it",
            "unitagent run [OPTIONS] [--] COMMAND [ARG...]"),
    "local": (commands.run_local_unit, _add_variables,
              "a whole Unit on this machine, on 127.0.0.x with the embedded store",
              "unitagent local --size N [RUN OPTIONS] [--] COMMAND [ARG...]"),
    "probe": (commands.probe_agent, _probe_arguments,
              "ask an agent's probe address: exit 0 for yes, 1 for no", None),
    "status": (commands.show_status, _status_arguments, "the Unit as a table or as JSON",
               "unitagent status [--json] [--watch] [OPTIONS]"),
    "events": (commands.show_events, _events_arguments,
               "the Unit's history, oldest first; an embedded store has it for as long as rank 0 stays",
               "unitagent events [--follow] [--since WHEN] [--json] [OPTIONS]"),
    "timeline": (commands.show_timeline, _timeline_arguments, "each rank's states over time, failures marked",
                 "unitagent timeline [--since WHEN] [--svg FILE] [OPTIONS]"),
    "env": (commands.print_environment, _env_arguments,
            "what this instance resolved and which rule gave each value",
            "unitagent env [--format shell|json] [--command] [RUN OPTIONS] [--] [COMMAND [ARG...]]"),
    "doctor": (commands.run_doctor, _doctor_arguments,
               "preflight checks of this container, each with a remedy",
               "unitagent doctor [--json] [--peer IP:PORT ...] [OPTIONS]"),
    "render": (commands.render_manifest, _render_arguments,
               "the service file as manifests for an existing engine", None),
    "endpoints": (commands.show_endpoints, _endpoints_arguments,
                  "where rank 0 of each ready Unit of the store takes traffic",
                  "unitagent endpoints [--format FORMAT] [--watch FILE [--on-change CMD]] [OPTIONS]"),
    "drain": (commands.send_order, partial(_order_arguments, "drain"), "ask the Unit to drain and to end",
              "unitagent drain [--reason TEXT] [--wait] [OPTIONS]"),
    "restart": (commands.send_order, partial(_order_arguments, "restart"),
                "ask the Unit to restart as a whole", "unitagent restart [--reason TEXT] [--wait] [OPTIONS]"),
    "completion": (_print_completion, _completion_arguments,
                   "a script that completes unitagent's words", None),
}  # fmt: skip
