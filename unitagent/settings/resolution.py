"""Resolve the settings once: flags override the environment, then service file, platform and defaults.

The invariant: pure, apart from the injected file reader. Any input gives consistent ``Settings``, or one
``ConfigurationError`` that lists every problem with its variable, its value, what is accepted and what to do.
"""

from __future__ import annotations

import posixpath
import re
from collections import ChainMap
from typing import TYPE_CHECKING, Any

from unitagent.discovery.service_file import SHELL, ServiceFile
from unitagent.errors import ConfigurationError, RefusalError
from unitagent.setting_parsers import suggest_word
from unitagent.settings import Resolved, Settings, sources, validation
from unitagent.settings.sources import SourcedText
from unitagent.settings.variables import FIELDS, VARIABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from unitagent.discovery.platform_rules import Platform

# In a shell's text, where anything may precede it.
_STARTS_AGENT = re.compile(r"(?:^|[\s;&|(/])unitagent\s+run\b")


def resolve_settings(
    flags: Mapping[str, str],
    environ: Mapping[str, str],
    hostname: str,
    read_file: Callable[[str], str],
    *,
    command: Sequence[str] = (),
    identity: bool = True,
) -> Resolved:
    """Resolve every variable.

    Args:
        flags: variable -> text, from ``cli_options.collect_flags``.
        environ: the environment; an empty variable counts as unset.
        hostname: this machine's name, with or without its domain.
        read_file: returns a file's text; raises ``OSError`` or ``UnicodeDecodeError``.
        command: COMMAND of the command line; if empty, the service file's command is used.
        identity: whether rank and size must be known; commands that only look at a Unit need neither.

    Raises:
        ConfigurationError: all problems found.

    """
    work = _Resolution(flags, environ, read_file)
    work.detect_platform(environ, hostname, identity=identity)
    work.read_value_files()
    parsed = work.parse_values()
    work.shrink_drain(parsed)
    work.place_spare(parsed)
    identified = identity and not work.incomplete
    work.problems.extend(validation.find_conflicts(work.raw, parsed, work.platform, identity=identified))
    argv = tuple(command) or work.file.command
    if identity and not command:
        work.refuse_nested_agent(argv)
    if work.problems:
        raise ConfigurationError(*dict.fromkeys(work.problems))
    return work.build_result(parsed, argv)


class _Resolution:
    """A resolution in progress: the layers so far, the problems and the warnings."""

    def __init__(
        self, flags: Mapping[str, str], environ: Mapping[str, str], read_file: Callable[[str], str]
    ) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.read_file = read_file
        self.file = ServiceFile()
        self.platform: Platform | None = None
        self.incomplete = False  # a source is unreadable, and may contain what is missing
        flag_layer, environment = sources.make_flag_layer(flags), sources.make_environment_layer(environ)
        self._check_names(environ, flag_layer, environment)
        self.raw = ChainMap(flag_layer, environment)
        self._read_service_file()

    def _check_names(
        self, environ: Mapping[str, str], flag_layer: sources.Layer, environment: sources.Layer
    ) -> None:
        for name in sources.find_service_links(environ):
            harmless = name not in VARIABLES or name in flag_layer
            accepted = "" if name not in VARIABLES else f": must be {VARIABLES[name].kind.accepted}"
            problem = (
                f"{name}={environ[name]!r} (a Kubernetes service link){accepted}; "
                "set enableServiceLinks: false in the pod's spec, or rename the Service"
            )
            (self.warnings if harmless else self.problems).append(problem)
            environment.pop(name, None)
        self.warnings.extend(
            f"{name} is not a variable of unitagent and is ignored; correct or unset it"
            f"{sources.suggest_variable(name)}"
            for name in sources.find_unknown_variables(environ)
        )

    def _read_service_file(self) -> None:
        config = self.raw.get("UNIT_CONFIG")
        if not config:
            return
        try:
            self.file = sources.read_service_file(config.text, self.read_file)
        except ConfigurationError as error:
            self.problems.extend(error.problems)
            self.incomplete = True
            return
        self.warnings.extend(self.file.warnings)
        self.raw.maps.append(sources.make_service_file_layer(self.file, config.text))

    def detect_platform(self, environ: Mapping[str, str], hostname: str, *, identity: bool) -> None:
        """Take missing values from the platform; its problems only matter if a value is missing."""
        explicit = self.raw.keys() >= {"RANK_ID", "UNIT_SIZE"}
        try:
            platform = sources.find_platform(environ, hostname, self.read_file)
        except ConfigurationError as error:
            if identity and not explicit:
                self.problems.extend(error.problems)
                self.incomplete = True
            platform = None
        if platform:
            self._take_platform(platform)
        self.raw.maps.append(sources.make_default_layer())

    def _take_platform(self, platform: Platform) -> None:
        """Add the platform's layer; if its rank is overridden, do not trust its address of rank 0 either."""
        layer = sources.make_platform_layer(platform)
        for name in ("RANK_ID", "UNIT_SIZE"):
            mine, theirs = self.raw.get(name), layer.get(name)
            if not (mine and theirs and mine.text.isdecimal()):
                continue
            if mine.text != theirs.text and not (name == "UNIT_SIZE" and self._counts_spares(mine, theirs)):
                self.warnings.append(
                    f"{name}={mine.text} ({mine.source}) overrides {theirs.text} ({theirs.source}); "
                    f"unset {name} if the platform is right"
                )
                if name == "RANK_ID":
                    layer.pop("MASTER_ADDRESS", None)
        self.platform = platform
        self.raw.maps.append(layer)

    def _counts_spares(self, mine: SourcedText, theirs: SourcedText) -> bool:
        """Whether the platform's size is the user's and the spares, which it counts as well."""
        spares = self.raw.get("UNIT_SPARES")
        decimal = spares is not None and spares.text.isdecimal() and theirs.text.isdecimal()
        return spares is not None and decimal and int(mine.text) + int(spares.text) == int(theirs.text)

    def read_value_files(self) -> None:
        """Read the URL and the secret from their files; if both value and file are set, the higher layer
        wins.
        """
        for name in ("UNIT_REDIS_URL", "UNIT_SECRET"):
            variable = name + "_FILE"
            path = self.raw.get(variable)
            by_value, by_file = self._find_layer(name), self._find_layer(variable)
            if by_value < by_file:
                for layer in self.raw.maps:
                    layer.pop(variable, None)
            elif path and by_value == by_file:
                self.problems.append(
                    f"{name} ({self.raw[name].source}) and {variable}={path.text!r} ({path.source}): must "
                    "not both be set; unset one of them"
                )
            elif path:
                try:
                    text = sources.read_nonempty_file(variable, path.text, self.read_file).strip()
                except ConfigurationError as error:
                    self.problems.extend(error.problems)
                else:
                    self.raw.maps[0][name] = SourcedText(text, f"file {path.text}")

    def _find_layer(self, name: str) -> int:
        """Return the index of the first layer that sets a variable; past the last layer if none does."""
        layers_with_it = (place for place, layer in enumerate(self.raw.maps) if name in layer)
        return next(layers_with_it, len(self.raw.maps))

    def parse_values(self) -> dict[str, Any]:
        """Parse every text; a variable with an invalid text is left out, and its problem is recorded."""
        parsed = {}
        for name, variable in VARIABLES.items():
            raw = self.raw.get(name)
            if not raw:
                continue
            try:
                parsed[name] = variable.kind.parse(raw.text)
            except ValueError as error:
                otherwise = f"; unset it for the default {variable.default}" if variable.default else ""
                reason = f" ({error})" if isinstance(error, RefusalError) else ""
                hint = suggest_word(raw.text, variable.kind.words, 0.6)
                self.problems.append(
                    f"{name}={variable.mask_value(raw.text)!r} ({raw.source}): "
                    f"must be {variable.kind.accepted}{reason}{otherwise}{hint}"
                )
        return parsed

    def shrink_drain(self, parsed: dict[str, Any]) -> None:
        """Shrink the defaults of drain and deregistration in proportion to a short grace."""
        grace = parsed.get("UNIT_STOP_GRACE_SECONDS")
        for name, share in (("UNIT_DRAIN_SECONDS", 0.6), ("UNIT_DEREGISTER_SECONDS", 0.08)):
            if grace is not None and self.raw[name].source == "default" and parsed[name] > grace * share:
                parsed[name] = round(grace * share, 3)
                self.raw.maps[0][name] = SourcedText(
                    f"{parsed[name]:g}", "default within UNIT_STOP_GRACE_SECONDS"
                )

    def place_spare(self, parsed: dict[str, Any]) -> None:
        """Let an instance beyond the size claim the rank of a lost one."""
        size, rank = parsed.get("UNIT_SIZE"), parsed.get("RANK_ID")
        if size is not None and rank is not None and size <= rank < size + parsed.get("UNIT_SPARES", 0):
            parsed["RANK_ID"] = None

    def refuse_nested_agent(self, argv: tuple[str, ...]) -> None:
        """Refuse a script that starts the agent as the agent's workload."""
        in_text = argv[:2] == SHELL and any(map(_STARTS_AGENT.search, argv[2:3]))
        if in_text or (argv and posixpath.basename(argv[0]) == "unitagent"):
            self.problems.append(
                f"UNIT_CONFIG={self.raw['UNIT_CONFIG'].text!r}: containers[0] starts unitagent itself, and "
                "there is no COMMAND; put the workload's command after `unitagent run --`"
            )

    def warn_of_missing_sigterm(self, path: str) -> None:
        """Warn that EAS kills containers without SIGTERM unless it is told to send one."""
        if not self.file.sigterm:
            self.warnings.append(
                f"UNIT_CONFIG={path!r}: rpc.enable_sigterm is not true, so EAS kills instances without "
                "SIGTERM, and their requests in flight are lost; set it to true"
            )

    def build_result(self, parsed: dict[str, Any], argv: tuple[str, ...]) -> Resolved:
        """Build the record of the parsed values."""
        if "UNIT_REDIS_URL" in parsed and self.raw["UNIT_ID"].source == "default":
            self.warnings.append(
                "UNIT_ID is not set and no platform names the Unit, so its name is unit; set UNIT_ID, "
                "or a second Unit in the same store is mistaken for this one"
            )
        if "UNIT_REDIS_URL" in parsed and "UNIT_STORE_PORT" in parsed:
            self.warnings.append(
                f"UNIT_STORE_PORT={parsed['UNIT_STORE_PORT']} ({self.raw['UNIT_STORE_PORT'].source}) is "
                "ignored: it is the port of the embedded store, and UNIT_REDIS_URL "
                f"({self.raw['UNIT_REDIS_URL'].source}) names another store; unset one of them"
            )
        if self.platform and self.platform.name == "EAS" and parsed.get("UNIT_CONFIG"):
            self.warn_of_missing_sigterm(parsed["UNIT_CONFIG"])
        raw = {name: self.raw.get(name) for name in VARIABLES}
        return Resolved(
            settings=_build_settings(parsed, argv),
            sources={name: text.source if text else "not set" for name, text in raw.items()},
            texts={name: VARIABLES[name].mask_value(text.text) if text else "" for name, text in raw.items()},
            warnings=tuple(self.warnings),
            platform=self.platform.name if self.platform else None,
            environment=self.file.environment,
            checks=self.file.checks,
            sigterm=self.file.sigterm,
        )


def _build_settings(parsed: dict[str, Any], argv: tuple[str, ...]) -> Settings:
    values = {field: parsed.get(variable.name, variable.absent) for field, variable in FIELDS.items()}
    return Settings(**values, command=argv)
