"""What looks like a secret is masked, and what stands beside it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.solo import Solo
from unitagent.system import redaction


@pytest.mark.parametrize(
    ("words", "masked"),
    [
        ("serve --api-key a b --port 1", "serve --api-key *** *** --port 1"),
        ("serve --api-key=a --hf_token b", "serve --api-key=*** --hf_token ***"),
        ("env HF_TOKEN=a serve", "env HF_TOKEN=*** serve"),
        ("env MYSQL_PWD=a serve", "env MYSQL_PWD=*** serve"),
        ("serve --tokenizer t --max-num-batched-tokens 9", "serve --tokenizer t --max-num-batched-tokens 9"),
        ("serve redis://:a@h/0", "serve redis://***@h/0"),
        ("serve redis://:a@b@h/0", "serve redis://***@h/0"),
        ("curl -u me:a http://h:80", "curl -u me:*** http://h:80"),
        ("curl -sSfu me:a h -U me:b", "curl -sSfu me:*** h -U me:***"),
        ("curl --user me:a --proxy-user=me:b h", "curl --user me:*** --proxy-user=me:*** h"),
        ("curl -ume:a h", "curl -ume:*** h"),
        ("python -u m.py http://h:80 -u http://h:80", "python -u m.py http://h:80 -u http://h:80"),
        ("setpriv -u me serve a:b", "setpriv -u me serve a:b"),
    ],
)
def test_secrets_of_a_command_line_are_masked(words: str, masked: str) -> None:
    assert " ".join(redaction.redact_words(words.split())) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("A_TOKEN=x serve --api-key y --port 1", "A_TOKEN=*** serve --api-key *** --port 1"),
        ("A_TOKEN='x y' serve --api-key \"y\" --port 1", "A_TOKEN=*** serve --api-key *** --port 1"),
        ("serve --api-key 'x' y \"z\" --port 1", "serve --api-key *** --port 1"),
        ("serve --api-key \\\n  x --port 1", "serve --api-key \\\n  *** --port 1"),
        ("login --token 'x' && serve m", "login --token *** && serve m"),
        ("curl -H 'Authorization: Bearer x' h; serve", "curl -H 'Authorization: Bearer ***' h; serve"),
        ("curl -u 'me:x y' h && serve", "curl -u 'me:***' h && serve"),
        ("curl --user me:x h; serve", "curl --user me:*** h; serve"),
        ("curl -H 'Authorization: x' h; serve", "curl -H 'Authorization: ***' h; serve"),
        ("curl -H 'authorization: Other x' h", "curl -H 'authorization: ***' h"),
        ('curl --header "X-Api-Key: x" h', 'curl --header "X-Api-Key: ***" h'),
        ("curl --header='Private-Token:x' h", "curl --header='Private-Token:***' h"),
        ("curl -H 'Cookie: a=x; b=y' h", "curl -H 'Cookie: ***' h"),
        ('serve --o \'{"api_key": "x", "a": 1}\'', 'serve --o \'{"api_key": ***, "a": 1}\''),
        ("serve --tokenizer 't' --mode basic 9", "serve --tokenizer 't' --mode basic 9"),
    ],
)
def test_secrets_inside_a_shell_text_are_masked(text: str, masked: str) -> None:
    assert list(redaction.redact_words(["-c", text])) == ["-c", masked]


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [
        ("HF_TOKEN", "a", "***"),
        ("API_KEY", "a", "***"),
        ("PROXY", "http://u:p@h", "http://***@h"),
        ("A", "b", "b"),
    ],
)
def test_secrets_of_variables_are_masked(name: str, value: str, seen: str) -> None:
    assert redaction.redact_value(name, value) == seen


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("> Authorization: Bearer x1 y", "> Authorization: Bearer *** y"),
        ("> Authorization: x1", "> Authorization: ***"),
        ("logged in as hf_abcdefghijklmnopqrstuv, ok", "logged in as ***, ok"),
        ("ghp_abcdefghijklmnopqrstuv sk-proj-abcdefghijklmnopqrst", "*** ***"),
        ("AKIAIOSFODNN7EXAMPLE glpat-abcdefghijklmnopqrst", "*** ***"),
        ("hf_hub task-force a right-hand ghp_short", "hf_hub task-force a right-hand ghp_short"),
        ("{'Authorization': 'Basic eDE='} refused", "{'Authorization': 'Basic ***'} refused"),
        ("+ curl -u me:x1 http://h/v1", "+ curl -u me:*** http://h/v1"),
        ("args: {'api_key': ['x1', 'x2'], 'port': 1}", "args: {'api_key': ***, 'port': 1}"),
        ("Namespace(api_key=['x1', 'x2'], port=1)", "Namespace(api_key=*** port=1)"),
        ('{"token": "x1\\"x2", "port": 1}', '{"token": ***, "port": 1}'),
        ("cannot connect to redis://me:x1@h:6379/0", "cannot connect to redis://***@h:6379/0"),
        ("password: x1", "password: ***"),
        ("< set-cookie: id=x1; path=/", "< set-cookie: ***"),
        ("KeyError: 'lm_head.weight'", "KeyError: 'lm_head.weight'"),
        ("missing key: lm_head.weight", "missing key: lm_head.weight"),
        ("max_tokens: 4, tokenizer: t, eos_token: </s>", "max_tokens: 4, tokenizer: t, eos_token: </s>"),
        ("authorization failed at 10.0.0.1:80", "authorization failed at 10.0.0.1:80"),
        ("File m.py, line 3: -cpu:0 a-b: c", "File m.py, line 3: -cpu:0 a-b: c"),
    ],
)
def test_secrets_in_a_line_of_output_are_masked(line: str, masked: str) -> None:
    assert redaction.redact_text(line) == masked


def test_a_workload_s_last_lines_are_masked_where_others_read_them(tmp_path: Path) -> None:
    said = 'echo "> Authorization: Bearer hunter2" >&2'
    solo = Solo(tmp_path, DAEMON=f'test "$UNIT_GENERATION" != 1 || {{ {said}; exit 3; }}')
    try:
        solo.ready(above=1)
        shown = solo.run("status")
        assert "> Authorization: Bearer ***" in shown
        assert "hunter2" not in shown
    finally:
        solo.close()
