"""The command line: the commands, their options, and the exit code of each error.

``--help`` of a command shows its own options and those of the few variables that it is usually called with;
``--help-all`` shows those of every variable.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

from unitagent import __version__, commands
from unitagent.core.probe_paths import PROBES
from unitagent.errors import ConfigurationError, UnitAgentError
from unitagent.setting_parsers import (
    join_words,
    parse_generation,
    parse_pause,
    parse_since,
    parse_timeout,
    suggest_word,
)
from unitagent.system.safe_output import print_verbatim, print_warning

_WITH_COMMAND = ("run", "local", "env")  # these end in COMMAND, whose options are not ours
_ANY_WIDTH = 80  # columns of a help text that is not shown
_PROBE_WORDS = "|".join(probe.word for probe in PROBES)
_PROBE_ADDRESS = "the agent's probe address [env: UNIT_HTTP_ADDRESS] [default: 127.0.0.1:9470]"
_FORMAT = "the form of the output: shell or json [default: shell]"
_VALUED = ("--format",)  # options outside the table that take a value, of commands with a COMMAND
_HELP_OPTIONS = frozenset({"-h", "--help", "--help-all"})
_SPELLING = 0.75  # how similar a mistyped word of the command line is to the word that was meant
# The variables that --help shows, for a command that starts an instance and for one that only finds a Unit.
_START = (
    "UNIT_ID", "UNIT_SIZE", "RANK_ID", "MASTER_ADDRESS", "UNIT_REDIS_URL", "UNIT_SECRET_FILE", "UNIT_GUARD",
    "UNIT_STOP_GRACE_SECONDS", "UNIT_FRAMEWORK",
)  # fmt: skip
_FIND_AGENT = ("UNIT_HTTP_ADDRESS", "UNIT_SECRET_FILE")
_FIND_STORE = (*_FIND_AGENT, "UNIT_REDIS_URL", "UNIT_REDIS_URL_FILE")
_FIND_UNIT = ("UNIT_ID", *_FIND_STORE)


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
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        raise ConfigurationError(_explain_unknown_command(words[0]))
    name = next((word for word in words if word in COMMANDS), "")
    parser = _build_parser_for(name, words)
    namespace, unknown = parser.parse_known_args(words)
    if unknown:
        raise ConfigurationError(_explain_unknown_arguments(parser, name, unknown))
    namespace.command = command
    run: Callable[[argparse.Namespace], int] = namespace.run
    return run(namespace)


def _explain_unknown_arguments(parser: argparse.ArgumentParser, name: str, unknown: Sequence[str]) -> str:
    hint = suggest_word(unknown[0], _list_options(parser, name), _SPELLING)
    usage = "" if unknown[0].startswith("-") else COMMANDS[name].usage
    where = f"usage: {usage}" if usage else f"see `unitagent {name} --help`"
    return f"unknown arguments: {' '.join(unknown)}{hint} ({where})"


def _explain_unknown_command(word: str) -> str:
    hint = suggest_word(word, [*COMMANDS, "--help", "--version"], _SPELLING)
    accepted = "" if hint else f": must be {join_words(COMMANDS)}"
    return f"unknown command {word!r}{hint}{accepted} (see `unitagent --help`)"


def _list_options(parser: argparse.ArgumentParser, name: str) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001 (argparse names them nowhere else)
        if isinstance(action, argparse._SubParsersAction) and name in action.choices:  # noqa: SLF001
            for option in action.choices[name]._actions:  # noqa: SLF001
                yield from option.option_strings


def _split_off_workload(argv: list[str]) -> tuple[list[str], list[str]]:
    """Split off the workload's command, whose options are not ours."""
    if argv[:1] == ["doctor"] and "--" in argv:
        at = argv.index("--")
        return argv[:at], argv[at + 1 :]
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
    width = None if _HELP_OPTIONS & set(words) else _ANY_WIDTH
    formatter = partial(argparse.RawDescriptionHelpFormatter, width=width)
    return _build_parser(commands, [name], formatter, show_all="--help-all" in words)


def _build_parser(
    names: Sequence[str],
    with_options: Sequence[str],
    formatter: Callable[..., argparse.HelpFormatter],
    *,
    show_all: bool,
) -> argparse.ArgumentParser:
    """Build the parser of these commands; those ``with_options`` get theirs, all shown or the usual ones."""
    about = "Start, watch, restart and stop an inference Unit that spans several machines."
    parser = _Parser(
        prog="unitagent",
        usage="unitagent COMMAND [OPTIONS]",
        description=about,
        epilog=_list_commands() + "\n\n`unitagent COMMAND --help` shows options and an example.",
        formatter_class=formatter,
    )
    parser.add_argument("--version", action="version", version=f"unitagent {__version__}")
    subparsers = parser.add_subparsers(
        metavar="COMMAND", help=argparse.SUPPRESS, required=True, parser_class=_Parser, prog=parser.prog
    )
    for name in names:
        command = COMMANDS[name]
        below = subparsers.add_parser(
            name,
            description=command.help,
            usage=command.usage,
            epilog=f"example:\n  {command.example}",
            formatter_class=formatter,
        )
        if name in with_options:
            _add_options(below, command, show_all=show_all)
        below.set_defaults(run=command.run)
    return parser


def _add_options(parser: argparse.ArgumentParser, command: Command, *, show_all: bool) -> None:
    if command.variables:
        help_line = "show this help message with every setting's option and exit"
        parser.add_argument("--help-all", action="help", help=help_line)
    if command.add_options:
        command.add_options(parser)
    if command.variables:
        from unitagent.settings.cli_options import add_arguments  # noqa: PLC0415 (health checks have none)

        add_arguments(parser, None if show_all else command.variables, command.without)


def _list_commands() -> str:
    """List the commands under what they are for."""
    lines = []
    width = max(map(len, COMMANDS))
    for purpose in dict.fromkeys(command.purpose for command in COMMANDS.values()):
        lines.append(f"{purpose}:")
        lines += [
            f"  {name:<{width}}  {command.help}"
            for name, command in COMMANDS.items()
            if command.purpose == purpose
        ]
        lines.append("")
    return "\n".join(lines).rstrip()


def _print_completion(namespace: argparse.Namespace) -> int:
    from unitagent.operator import completion  # noqa: PLC0415

    names = list(COMMANDS)
    print_verbatim(
        completion.write_script(
            namespace.shell,
            _build_parser(names, names, argparse.HelpFormatter, show_all=True),
            _WITH_COMMAND,
        )
    )
    return 0


def _add_choice(parser: argparse.ArgumentParser, name: str, words: Sequence[str], **options: Any) -> None:
    """Add an argument that is one of some words; argparse's own message for another lacks the word meant."""

    def parse(text: str) -> str:
        if text in words:
            return text
        hint = suggest_word(text, words, 0.6)
        raise argparse.ArgumentTypeError(f"{text!r}: must be {join_words(words)}{hint}")

    parser.add_argument(name, type=parse, choices=words, metavar=name.lstrip("-").upper(), **options)


def _render_arguments(parser: argparse.ArgumentParser) -> None:
    engines = ("compose", "swarm", "lws")
    _add_choice(parser, "engine", engines, help=f"the form of the manifests: {join_words(engines)}")
    parser.add_argument("file", metavar="SERVICE.json", help="path of an EAS service file")
    help_line = "add the agent from this image (compose and lws) if the service's own image has no agent"
    parser.add_argument("--agent-image", metavar="IMAGE", help=help_line)


def _probe_arguments(parser: argparse.ArgumentParser) -> None:
    lines = (f"{probe.word}: {probe.passes}" for probe in PROBES)
    _add_choice(parser, "kind", [probe.word for probe in PROBES], help=". ".join(lines))
    parser.add_argument("--address", metavar="HOST:PORT", help=_PROBE_ADDRESS)
    parser.add_argument(
        "--timeout", type=parse_timeout, default=2.0, metavar="SECONDS", help="how long to wait [default: 2]"
    )


def _env_arguments(parser: argparse.ArgumentParser) -> None:
    _add_choice(parser, "--format", ("shell", "json"), default="shell", help=_FORMAT)
    what = "show the command line and environment with which this rank (or --rank N) would run COMMAND"
    parser.add_argument("--command", dest="dry_run", action="store_true", help=what)


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON object")
    help_line = "also try to connect to this peer; repeatable"
    parser.add_argument("--peer", action="append", default=[], metavar="IP:PORT", help=help_line)


def _completion_arguments(parser: argparse.ArgumentParser) -> None:
    shells = ("bash", "zsh", "fish")
    _add_choice(parser, "shell", shells, help=f"the shell to write the script for: {join_words(shells)}")


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the JSON of /status")
    parser.add_argument("-w", "--watch", action="store_true", help="refresh the status in place until Ctrl-C")
    help_line = "refresh interval of --watch, in seconds [default: 1]"
    parser.add_argument("--interval", type=parse_timeout, default=1.0, metavar="SECONDS", help=help_line)


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the Units as a JSON array")


def _processes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the JSON of /processes")


def _logs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rank", metavar="N", help="show only this rank, without the rank prefix")
    help_line = "continue with new output, over restarts and rebuilt containers, until Ctrl-C"
    parser.add_argument("--follow", action="store_true", help=help_line)


def _since_argument(parser: argparse.ArgumentParser) -> None:
    help_line = "show only entries newer than this: 30s, 10m, 2h, 1d, or a time such as 2026-01-31T09:30"
    parser.add_argument("--since", type=parse_since, metavar="WHEN", help=help_line)


def _events_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="continue with new events, until Ctrl-C")
    _since_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def _timeline_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--svg", metavar="FILE", help="write the timeline to this file as an SVG picture")
    _since_argument(parser)


def _evidence_arguments(parser: argparse.ArgumentParser) -> None:
    help_line = "the generation that failed [default: the last one with evidence]"
    parser.add_argument("--generation", type=parse_generation, metavar="N", help=help_line)
    parser.add_argument("--fetch", metavar="DIR", help="download the files of all ranks into this directory")
    parser.add_argument("--json", action="store_true", help="print the evidence as one JSON object")


def _endpoints_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = ("json", "haproxy", "envoy", "prometheus")
    help_line = f"the format to print: {join_words(kinds)} [default: json]"
    _add_choice(parser, "--format", kinds, default="json", help=help_line)
    parser.add_argument("--watch", metavar="FILE", help="keep this file up to date, until Ctrl-C or SIGTERM")
    help_line = "with --watch: run this shell command after each change of the file"
    parser.add_argument("--on-change", metavar="CMD", help=help_line)


def _order_arguments(kind: str, parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reason", default="", metavar="TEXT", help="record this reason in the Unit's history"
    )
    parser.add_argument("--wait", action="store_true", help="wait until it is done, and report progress")
    help_line = "with --wait: give up after this many seconds and exit with 124; the order remains in effect"
    parser.add_argument("--timeout", type=parse_timeout, metavar="SECONDS", help=help_line)
    parser.set_defaults(kind=kind)


def _pause_arguments(kind: str, parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(kind=kind, seconds=0.0)
    if kind == "pause":
        help_line = "duration, unless restarts are resumed earlier: 30s, 10m, 2h [default: 10m]"
        parser.add_argument(
            "--for", dest="seconds", type=parse_pause, default=600.0, metavar="DURATION", help=help_line
        )
    parser.add_argument(
        "--reason", default="", metavar="TEXT", help="record this reason in the Unit's history"
    )


class Command(NamedTuple):
    """One command.

    Attributes:
        purpose: the heading that ``unitagent --help`` lists it under.
        add_options: adds its own options; None if it has none.
        usage: None for the one that argparse makes.
        example: one line of a shell.
        variables: those whose options ``--help`` shows; ``--help-all`` shows all. Empty if it takes none.
        without: the variables that it has no option for.

    """

    run: Callable[[argparse.Namespace], int]
    purpose: str
    help: str
    usage: str | None
    example: str
    add_options: Callable[[argparse.ArgumentParser], None] | None = None
    variables: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


_RUN, _LOOK, _ORDER, _PREPARE = "run a Unit", "look at Units", "give a Unit an order", "prepare and connect"

COMMANDS: dict[str, Command] = {
    "run": Command(
        commands.run_agent, _RUN, "Run COMMAND as one instance of a Unit.",
        "unitagent run [OPTIONS] [--] COMMAND [ARG...]",
        "unitagent run --guard --framework auto -- torchrun --nproc-per-node 8 serve.py",
        None, _START,
    ),
    "local": Command(
        commands.run_local_unit, _RUN, "Run a whole Unit on this machine, with the embedded store.",
        "unitagent local --size N [OPTIONS] [--] COMMAND [ARG...]",
        "unitagent local --size 3 --guard -- sh -c 'echo rank $RANK_ID; sleep 1000'",
        None, ("UNIT_SIZE", "UNIT_GUARD", "UNIT_FRAMEWORK"),
    ),
    "status": Command(
        commands.show_status, _LOOK, "Show whether the Unit serves, or why not, and its instances.",
        "unitagent status [--json] [-w|--watch [--interval SECONDS]] [OPTIONS]",
        "unitagent status --unit chat --redis-url redis://store:6379/0 --watch",
        _status_arguments, _FIND_UNIT,
    ),
    "list": Command(
        commands.show_units, _LOOK, "List all Units of the store, the worst first.",
        "unitagent list [--json] [OPTIONS]",
        "unitagent list --redis-url redis://store:6379/0",
        _list_arguments, _FIND_STORE,
    ),
    "events": Command(
        commands.show_events, _LOOK, "Print the Unit's history, oldest first.",
        "unitagent events [--follow] [--since WHEN] [--json] [OPTIONS]",
        "unitagent events --since 10m --follow",
        _events_arguments, _FIND_UNIT,
    ),
    "timeline": Command(
        commands.show_timeline, _LOOK, "Draw each rank's states over time, with failures marked.",
        "unitagent timeline [--since WHEN] [--svg FILE] [OPTIONS]",
        "unitagent timeline --since 2h --svg chat.svg",
        _timeline_arguments, _FIND_UNIT,
    ),
    "evidence": Command(
        commands.show_evidence, _LOOK, "Show what the ranks were doing when a generation failed.",
        "unitagent evidence [--generation N] [--fetch DIR] [--json] [OPTIONS]",
        "unitagent evidence --fetch ./evidence",
        _evidence_arguments, _FIND_UNIT,
    ),
    "logs": Command(
        commands.show_logs, _LOOK, "Show the recent output of every rank's workload.",
        "unitagent logs [--rank N] [--follow] [OPTIONS]",
        "unitagent logs --rank 1 --follow",
        _logs_arguments, _FIND_UNIT, ("RANK_ID",),
    ),
    "processes": Command(
        commands.show_processes, _LOOK, "Show what each process of this container's workload uses.",
        "unitagent processes [--json] [OPTIONS]",
        "unitagent processes --http-address 10.0.0.11:9470",
        _processes_arguments, ("UNIT_ID", *_FIND_AGENT),
    ),
    "probe": Command(
        commands.probe_agent, _LOOK, "Probe an agent: exit 0 for yes, 1 for no.",
        f"unitagent probe {_PROBE_WORDS} [--address HOST:PORT] [--timeout SECONDS]",
        "unitagent probe ready --address 10.0.0.11:9470",
        _probe_arguments,
    ),
    "drain": Command(
        commands.send_order, _ORDER, "Ask the Unit to drain and stop.",
        "unitagent drain [--reason TEXT] [--wait [--timeout SECONDS]] [OPTIONS]",
        "unitagent drain --reason 'new driver' --wait --timeout 120",
        partial(_order_arguments, "drain"), _FIND_UNIT,
    ),
    "restart": Command(
        commands.send_order, _ORDER, "Ask the Unit to restart as a whole.",
        "unitagent restart [--reason TEXT] [--wait [--timeout SECONDS]] [OPTIONS]",
        "unitagent restart --reason 'new weights' --wait",
        partial(_order_arguments, "restart"), _FIND_UNIT,
    ),
    "pause": Command(
        commands.pause_restarts, _ORDER, "Pause restarts: a failed Unit starts again after the pause.",
        "unitagent pause [--for DURATION] [--reason TEXT] [OPTIONS]",
        "unitagent pause --for 30m --reason 'debugging rank 1'",
        partial(_pause_arguments, "pause"), _FIND_UNIT,
    ),
    "resume": Command(
        commands.pause_restarts, _ORDER, "End a pause of restarts.",
        "unitagent resume [--reason TEXT] [OPTIONS]",
        "unitagent resume --unit chat --redis-url redis://store:6379/0",
        partial(_pause_arguments, "resume"), _FIND_UNIT,
    ),
    "doctor": Command(
        commands.run_doctor, _PREPARE, "Run preflight checks in this container and suggest fixes.",
        "unitagent doctor [--json] [--peer IP:PORT ...] [OPTIONS] [-- COMMAND [ARG...]]",
        "unitagent doctor --peer 10.0.0.12:9470",
        _doctor_arguments, _START,
    ),
    "env": Command(
        commands.print_environment, _PREPARE, "Show this instance's settings and where each comes from.",
        "unitagent env [--format shell|json] [--command] [OPTIONS] [--] [COMMAND [ARG...]]",
        "unitagent env --command --size 2 --rank 1 --framework vllm -- vllm serve MODEL",
        _env_arguments, _START,
    ),
    "endpoints": Command(
        commands.show_endpoints, _PREPARE, "List where rank 0 of each ready Unit takes traffic.",
        "unitagent endpoints [--format FORMAT] [--watch FILE [--on-change CMD]] [OPTIONS]",
        "unitagent endpoints --format haproxy --watch /etc/haproxy/units.cfg",
        _endpoints_arguments, ("UNIT_SERVICE", *_FIND_STORE),
    ),
    "render": Command(
        commands.render_manifest, _PREPARE, "Render a service file for Compose, Swarm or a LeaderWorkerSet.",
        "unitagent render compose|swarm|lws SERVICE.json [--agent-image IMAGE]",
        "unitagent render compose service.json >compose.yaml",
        _render_arguments,
    ),
    "completion": Command(
        _print_completion, _PREPARE, "Print a script for the shell's completion.",
        "unitagent completion bash|zsh|fish",
        "source <(unitagent completion bash)",
        _completion_arguments,
    ),
}  # fmt: skip
