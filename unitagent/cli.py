"""The command line: the commands, their options, and the exit code of each error."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

from unitagent import __version__, commands
from unitagent.core.probe_paths import PROBES
from unitagent.errors import ConfigurationError, UnitAgentError
from unitagent.setting_parsers import make_seconds_parser
from unitagent.system.limits import MAX_SECONDS
from unitagent.system.safe_output import print_verbatim, print_warning

_WITH_COMMAND = ("run", "local", "env")  # these end in COMMAND, whose options are not ours
_SHORTEST_TIMEOUT = 0.001  # seconds; 0 would mean not to wait at all
_SHORTEST_PAUSE = 1.0  # seconds
_ANY_WIDTH = 80  # columns of a help text that is not shown
_PROBE_ADDRESS = "the agent's probe address [env: UNIT_HTTP_ADDRESS] [default: 127.0.0.1:9470]"
_MAX_GENERATION = 10**16
_FORMAT = "the form of the output [default: shell]"
_VALUED = ("--format",)  # options outside the table that take a value, of commands with a COMMAND


class _Parser(argparse.ArgumentParser):
    """Reports errors in one line, and accepts no abbreviated options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message} (see `{self.prog} --help`)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        return _run_command(list(sys.argv[1:] if argv is None else argv))
    except UnitAgentError as error:
        _report_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        if os.environ.get("UNIT_LOG_LEVEL", "").lower() == "debug":
            raise
        hint = "set UNIT_LOG_LEVEL=debug for a traceback"
        print_warning(f"error: internal error: {type(error).__name__}: {error} ({hint})")
        return 1


def _report_error(error: UnitAgentError) -> None:
    """Print an error in one line, as programs expect; several problems are numbered."""
    problems = error.problems if isinstance(error, ConfigurationError) else ()
    if len(problems) > 1:
        numbered = "; ".join(f"({number}) {problem}" for number, problem in enumerate(problems, 1))
        print_warning(f"error: {len(problems)} problems: {numbered}")
    else:
        print_warning(f"error: {error}")


def _run_command(argv: list[str]) -> int:
    words, command = _split_off_workload(argv)
    name = next((word for word in words if word in COMMANDS), "")
    parser = _build_parser_for(name, words)
    if words and not words[0].startswith("-") and (meant := _find_similar(words[0], COMMANDS)):
        raise ConfigurationError(
            f"unknown command {words[0]!r}; did you mean {meant}? (see `unitagent --help`)"
        )
    namespace, unknown = parser.parse_known_args(words)
    if unknown:
        meant = _find_similar(unknown[0], _list_options(parser, name))
        hint = f"; did you mean {meant}?" if meant else ""
        words_there = " ".join(unknown)
        raise ConfigurationError(f"unknown arguments: {words_there}{hint} (see `unitagent {name} --help`)")
    namespace.command = command
    run: Callable[[argparse.Namespace], int] = namespace.run
    return run(namespace)


def _find_similar(word: str, known: Iterable[str]) -> str:
    """Return the known word that was probably meant; empty if it is known itself, or like none."""
    words = list(known)
    if word in words:
        return ""
    import difflib  # noqa: PLC0415 (rarely needed)

    return next(iter(difflib.get_close_matches(word, words, n=1, cutoff=0.75)), "")


def _list_options(parser: argparse.ArgumentParser, name: str) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001 (argparse names them nowhere else)
        if isinstance(action, argparse._SubParsersAction) and name in action.choices:  # noqa: SLF001
            for option in action.choices[name]._actions:  # noqa: SLF001
                yield from option.option_strings


def _split_off_workload(argv: list[str]) -> tuple[list[str], list[str]]:
    """Split off the workload's command, whose options are not ours."""
    if not argv or argv[0] not in _WITH_COMMAND:
        return argv, []
    from unitagent.settings.cli_options import split_command  # noqa: PLC0415

    options, command = split_command(argv[1:], _VALUED)
    return [argv[0], *options], command


def _build_parser_for(name: str, words: Sequence[str]) -> argparse.ArgumentParser:
    """Build only what these arguments need of the parser: all commands if the first argument is none, and the
    terminal's width for a help text. A health check would spend most of its time on the rest.
    """
    commands = [name] if words[:1] == [name] else list(COMMANDS)
    width = None if {"-h", "--help"} & set(words) else _ANY_WIDTH
    return _build_parser(commands, [name], partial(argparse.HelpFormatter, width=width))


def _build_parser(
    names: Sequence[str], with_options: Sequence[str], formatter: Callable[..., argparse.HelpFormatter]
) -> argparse.ArgumentParser:
    about = "Start, watch, restart and stop an inference Unit that spans several machines as one."
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


def _add_variables(parser: argparse.ArgumentParser, *without: str) -> None:
    from unitagent.settings.cli_options import add_arguments  # noqa: PLC0415 (health checks have none of them)

    add_arguments(parser, without)


def _print_completion(namespace: argparse.Namespace) -> int:
    from unitagent.operator import completion  # noqa: PLC0415

    names = list(COMMANDS)
    print_verbatim(
        completion.write_script(
            namespace.shell, _build_parser(names, names, argparse.HelpFormatter), _WITH_COMMAND
        )
    )
    return 0


def _render_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", choices=("compose", "swarm", "lws"), help="the form of the manifests")
    parser.add_argument("file", metavar="SERVICE.json", help="path of an EAS service file")
    help_line = "add the agent from this image (compose and lws), if the service's own image lacks it"
    parser.add_argument("--agent-image", metavar="IMAGE", help=help_line)


def _parse_timeout(text: str) -> float:
    try:
        return make_seconds_parser(_SHORTEST_TIMEOUT)(text)
    except ValueError as error:
        accepted = f"a number of seconds from {_SHORTEST_TIMEOUT:g} to {MAX_SECONDS:.0f}"
        raise argparse.ArgumentTypeError(f"{text!r}: must be {accepted}") from error


def _probe_arguments(parser: argparse.ArgumentParser) -> None:
    lines = (f"{probe.word}: {probe.passes}" for probe in PROBES)
    parser.add_argument("kind", choices=[probe.word for probe in PROBES], help=". ".join(lines))
    parser.add_argument("--address", metavar="HOST:PORT", help=_PROBE_ADDRESS)
    parser.add_argument(
        "--timeout", type=_parse_timeout, default=2.0, metavar="SECONDS", help="how long to wait [default: 2]"
    )


def _env_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("shell", "json"), default="shell", help=_FORMAT)
    what = "show the command line and environment with which this rank (or --rank N) would run COMMAND"
    parser.add_argument("--command", dest="dry_run", action="store_true", help=what)
    _add_variables(parser)


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON object")
    help_line = "also try to connect to this peer; repeatable"
    parser.add_argument("--peer", action="append", default=[], metavar="IP:PORT", help=help_line)
    _add_variables(parser)


def _completion_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell to write the script for")


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the JSON of /status")
    parser.add_argument(
        "-w", "--watch", action="store_true", help="show it again and again, in its place, until Ctrl-C"
    )
    help_line = "seconds between two looks of --watch [default: 1]"
    parser.add_argument("--interval", type=_parse_timeout, default=1.0, metavar="SECONDS", help=help_line)
    _add_variables(parser)


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the Units as a JSON array")
    _add_variables(parser)


def _processes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the JSON of /processes")
    _add_variables(parser)


def _logs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rank", metavar="N", help="show this rank alone, without its name before each line")
    help_line = "continue with new output, over restarts and rebuilt containers, until Ctrl-C"
    parser.add_argument("--follow", action="store_true", help=help_line)
    _add_variables(parser, "RANK_ID")


def _parse_since(text: str) -> float:
    import time  # noqa: PLC0415 (rarely needed)

    from unitagent.operator.history.event_text import ACCEPTED, parse_since  # noqa: PLC0415

    try:
        return parse_since(text, time.time())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: must be {ACCEPTED}") from error


def _since_argument(parser: argparse.ArgumentParser) -> None:
    help_line = "omit everything older: 30s, 10m, 2h, 1d, or a time such as 2026-01-31T09:30"
    parser.add_argument("--since", type=_parse_since, metavar="WHEN", help=help_line)


def _events_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="continue with new events, until Ctrl-C")
    _since_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    _add_variables(parser)


def _timeline_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--svg", metavar="FILE", help="write the timeline to this file as an SVG picture")
    _since_argument(parser)
    _add_variables(parser)


def _parse_generation(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:17]) < _MAX_GENERATION):
        raise argparse.ArgumentTypeError(f"{text!r}: must be the number of a generation, such as 3")
    return int(text)


def _evidence_arguments(parser: argparse.ArgumentParser) -> None:
    help_line = "the generation that failed [default: the last one with evidence]"
    parser.add_argument("--generation", type=_parse_generation, metavar="N", help=help_line)
    parser.add_argument("--fetch", metavar="DIR", help="get the files of all ranks into this folder")
    parser.add_argument("--json", action="store_true", help="print the evidence as one JSON object")
    _add_variables(parser)


def _endpoints_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = ("json", "haproxy", "envoy", "prometheus")
    parser.add_argument("--format", choices=kinds, default="json", help="the format to print [default: json]")
    parser.add_argument("--watch", metavar="FILE", help="keep this file up to date, until Ctrl-C or SIGTERM")
    help_line = "with --watch: run this shell command after each change of the file"
    parser.add_argument("--on-change", metavar="CMD", help=help_line)
    _add_variables(parser)


def _order_arguments(kind: str, parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reason", default="", metavar="TEXT", help="record this reason in the Unit's history"
    )
    parser.add_argument("--wait", action="store_true", help="wait until it is done, and report progress")
    help_line = "with --wait: longest wait; past it the exit code is 124, and the order stands"
    parser.add_argument("--timeout", type=_parse_timeout, metavar="SECONDS", help=help_line)
    parser.set_defaults(kind=kind)
    _add_variables(parser)


def _parse_pause(text: str) -> float:
    from unitagent.core.restart_pause import LONGEST_PAUSE  # noqa: PLC0415 (rarely needed)
    from unitagent.operator.history.event_text import parse_duration  # noqa: PLC0415

    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if not _SHORTEST_PAUSE <= seconds <= LONGEST_PAUSE:
        accepted = "a duration from 1s to 1d, such as 30s, 10m, 2h or plain seconds"
        raise argparse.ArgumentTypeError(f"{text!r}: must be {accepted}")
    return seconds


def _pause_arguments(kind: str, parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(kind=kind, seconds=0.0)
    if kind == "pause":
        help_line = "how long it lasts, unless it is resumed before: 30s, 10m, 2h [default: 10m]"
        parser.add_argument(
            "--for", dest="seconds", type=_parse_pause, default=600.0, metavar="DURATION", help=help_line
        )
    parser.add_argument(
        "--reason", default="", metavar="TEXT", help="record this reason in the Unit's history"
    )
    _add_variables(parser)


Command = tuple[
    Callable[[argparse.Namespace], int], Callable[[argparse.ArgumentParser], None], str, str | None
]

COMMANDS: dict[str, Command] = {
    "run": (commands.run_agent, _add_variables, "Run COMMAND as one instance of a Unit.",
            "unitagent run [OPTIONS] [--] COMMAND [ARG...]"),
    "local": (commands.run_local_unit, _add_variables,
              "Run a whole Unit on this machine, on 127.0.0.x with the embedded store.",
              "unitagent local --size N [RUN OPTIONS] [--] COMMAND [ARG...]"),
    "probe": (commands.probe_agent, _probe_arguments,
              "Probe an agent: exit 0 for yes, 1 for no.", None),
    "status": (commands.show_status, _status_arguments, "Show the Unit as a table or as JSON.",
               "unitagent status [--json] [-w|--watch [--interval SECONDS]] [OPTIONS]"),
    "list": (commands.show_units, _list_arguments, "List all Units of the store, the worst first.",
             "unitagent list [--json] [OPTIONS]"),
    "processes": (commands.show_processes, _processes_arguments,
                  "Show what each process of the workload in this container uses.",
                  "unitagent processes [--json] [OPTIONS]"),
    "logs": (commands.show_logs, _logs_arguments,
             "Show what the workload of every rank has written lately.",
             "unitagent logs [--rank N] [--follow] [OPTIONS]"),
    "events": (commands.show_events, _events_arguments,
               "Print the Unit's history, oldest first.",
               "unitagent events [--follow] [--since WHEN] [--json] [OPTIONS]"),
    "timeline": (commands.show_timeline, _timeline_arguments,
                 "Draw each rank's states over time, with failures marked.",
                 "unitagent timeline [--since WHEN] [--svg FILE] [OPTIONS]"),
    "evidence": (commands.show_evidence, _evidence_arguments,
                 "Show what the ranks were doing when a generation failed, and get what they collected.",
                 "unitagent evidence [--generation N] [--fetch DIR] [--json] [OPTIONS]"),
    "env": (commands.print_environment, _env_arguments,
            "Show every setting of this instance and where its value comes from.",
            "unitagent env [--format shell|json] [--command] [RUN OPTIONS] [--] [COMMAND [ARG...]]"),
    "doctor": (commands.run_doctor, _doctor_arguments,
               "Check this container before a start; each problem comes with a remedy.",
               "unitagent doctor [--json] [--peer IP:PORT ...] [OPTIONS]"),
    "render": (commands.render_manifest, _render_arguments,
               "Render a service file as manifests for Compose, Swarm or a LeaderWorkerSet.", None),
    "endpoints": (commands.show_endpoints, _endpoints_arguments,
                  "List where rank 0 of each ready Unit in the store takes traffic.",
                  "unitagent endpoints [--format FORMAT] [--watch FILE [--on-change CMD]] [OPTIONS]"),
    "drain": (commands.send_order, partial(_order_arguments, "drain"), "Ask the Unit to drain and stop.",
              "unitagent drain [--reason TEXT] [--wait [--timeout SECONDS]] [OPTIONS]"),
    "restart": (commands.send_order, partial(_order_arguments, "restart"),
                "Ask the Unit to restart as a whole.",
                "unitagent restart [--reason TEXT] [--wait [--timeout SECONDS]] [OPTIONS]"),
    "pause": (commands.pause_restarts, partial(_pause_arguments, "pause"),
              "Pause restarts: a failure stops the Unit, and it starts again when the pause is over.",
              "unitagent pause [--for DURATION] [--reason TEXT] [OPTIONS]"),
    "resume": (commands.pause_restarts, partial(_pause_arguments, "resume"),
               "End a pause of restarts.",
               "unitagent resume [--reason TEXT] [OPTIONS]"),
    "completion": (_print_completion, _completion_arguments,
                   "Print a script for the shell's completion of unitagent commands.", None),
}  # fmt: skip
