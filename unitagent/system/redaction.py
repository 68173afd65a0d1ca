"""Redact secrets in text for people: the one table of what looks like a secret.

The invariant: a redaction removes the secret and keeps the text that tells where it stood. Look-alikes are
redacted as well. The patterns are compiled at first use, for most agents never show anything.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HIDDEN = "***"
_WORDS = r"(?:key|token|secret|password|passwd|pwd|credentials?)"
_NAME = rf"(?:[\w-]*[-_])?(?:api)?{_WORDS}"  # of a flag, a field or a variable
_FIELD = r"[^?&=]*(?:pass|pwd|secret|token|key|auth|credential|signature)[^=&]*"  # of a query
_SCHEME = r"(?:Basic|Bearer|Digest|Negotiate|Token|ApiKey)"
_VALUE = r"""(?:\[[^\]]*\]|"[^"]*"|'[^']*'|[^\s"'\[])+"""
_PART = r"""[^\s"']+"""
_GAP = r"""["']?(?:=|(?:\s|\\\n)+)"""  # in a shell's text the value may stand on the next line
_IS = r"""["']?\s*[:=]\s*["']?"""
_LOGIN_FLAG = r"(?:-[a-z]{0,5}u|--(?:proxy-)?user)"  # curl takes USER:PASSWORD
_LOGIN = rf"(?<![\w-]){_LOGIN_FLAG}(?:=|\s*)"
_MASKS = (  # what stays in front, and what is masked
    (rf"--api[-_]?key{_GAP}", rf"{_VALUE}(?:\s+(?![-&|;<>\\]){_VALUE})*"),  # vLLM takes several
    (rf"(?<![\w-])(?:\w*_)?{_WORDS}=", _VALUE),
    (rf"(?<![\w-])--{_NAME}{_GAP}", _VALUE),
    (rf'"{_NAME}"\s*:\s*', r'"(?:[^"\\]|\\.)*"|\[[^\]]*\]'),
    (rf"'{_NAME}'\s*:\s*", r"'(?:[^'\\]|\\.)*'|\[[^\]]*\]"),
    (rf"{_LOGIN}[\"'][^\s:\"'/]+:(?!//)", r"""[^"']+"""),
    (rf"{_LOGIN}[^\s:\"'/]+:(?!//)", _PART),
    (rf"authorization{_IS}{_SCHEME}\s+", _PART),
    (rf"authorization{_IS}(?!{_SCHEME}\s)", rf"{_PART}(?:[ \t]+{_PART})?"),
    (rf"(?<![\w-])(?:(?:\w+-)+{_WORDS}|passw(?:or)?d){_IS}", _PART),  # X-Api-Key: …
    (rf"cookie{_IS}", r"""[^"'\n]+"""),
    (r"(?<=://)", r"""[^/\s"'<>]*(?=@)"""),
    (
        r"(?<![\w-])",
        r"(?:hf_|gh[opsur]_|github_pat_|glpat-|sk-|xox[abp]-)[\w-]{20,}|akia[0-9a-z]{16}",
    ),  # bare
)
_HINTS = (":", "key", "token", "secret", "pass", "pwd", "credential", "auth", "cookie")  # each mask needs one
_BARE = (
    "hf_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "sk-",
    "xox",
    "akia",
)  # or one


def redact_text(shown: str) -> str:
    """Redact what looks like a secret in a command line, a shell's text or a line of output."""
    lowered = shown.lower()
    if not any(hint in lowered for hint in (*_HINTS, *_BARE)):
        return shown
    for stays, goes in _MASKS:
        shown = re.sub(rf"(?i)({stays})(?:{goes})", rf"\1{HIDDEN}", shown)
    return shown


def redact_words(argv: Sequence[str]) -> Iterator[str]:
    """Yield a command line's words; those that follow a flag such as ``--api-key`` are hidden."""
    flag = ""
    for word in argv:
        if word.startswith("-"):
            flag = word
            yield redact_text(word)
        elif names_secret(flag):
            yield HIDDEN
        else:
            yield _redact_login(word) if re.fullmatch(rf"(?i){_LOGIN_FLAG}", flag) else redact_text(word)
            flag = ""


def redact_value(name: str, text: str) -> str:
    """Redact a variable's value."""
    return HIDDEN if names_secret(name) else redact_text(text)


def redact_url(text: str) -> str:
    """Redact the user part of a URL and whatever its query says about passwords and keys."""
    hidden = re.sub(r"(?s)//.*@", f"//{HIDDEN}@", text, count=1)
    return re.sub(rf"(?i)({_FIELD})=[^&#]*", rf"\1={HIDDEN}", hidden)


def _redact_login(word: str) -> str:
    user, colon, password = word.partition(":")
    return f"{user}:{HIDDEN}" if colon and not password.startswith("//") else redact_text(word)


def names_secret(name: str) -> bool:
    """Whether a flag, a field or a variable of this name holds a secret."""
    return re.fullmatch(rf"(?i)-*{_NAME}", name) is not None
