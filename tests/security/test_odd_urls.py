"""A URL that is not understood may be a password throughout; none of it is shown, wherever it was given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unitagent.errors import RefusalError
from unitagent.store.address import parse_store_url

ODD = [
    "redis://:hunter2",
    "redis://:hunter2:x",
    "redis://h:hunter2",
    "redis://h/hunter2",
    "redis://u:hunter2#@h",
    "redis://u:hunter2/@h",
    "redis://u:[hunter2@h",
    "redis+sentinel://:hunter2",
    "unix://hunter2",
    ":hunter2@redis://h",
    "hunter2",
    "hunter2:x@h",
    "redis://h?hunter2",
    "redis://h?hunter2@x",
    "redis://h?hunter2=1",
    "redis://u:12?hunter2=x@h",
]


@pytest.mark.parametrize("url", ODD)
def test_nothing_of_an_odd_url_is_said(url: str, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(url + "\n")
    alone = {"RANK_ID": "0", "UNIT_SIZE": "1", "RANK_IP": "127.0.0.1", "COMM_IFNAME": "lo"}
    alone |= {"UNIT_HTTP_ADDRESS": "off", "UNIT_STORE_TIMEOUT_SECONDS": "0"}
    alone |= {"PATH": os.environ["PATH"]}
    wanted = [
        (words, alone | given)
        for given in ({"UNIT_REDIS_URL": url}, {"UNIT_REDIS_URL_FILE": str(file)}, {"UNIT_HEALTH_URL": url})
        for words in (("run", "--", "true"), ("env",), ("doctor",), ("status",))
    ]
    argv = [sys.executable, "-m", "tests.security.programs.commands"]
    done = subprocess.run(argv, input=json.dumps(wanted), capture_output=True, text=True, check=True)
    ended = json.loads(done.stdout)
    assert len(ended) == len(wanted)
    for given, (code, said) in zip(wanted, ended, strict=True):
        assert said or code == 0, given
        assert "hunter2" not in said, given


@pytest.mark.parametrize("url", ODD)
def test_a_file_that_is_rewritten_with_one_is_not_cited_either(url: str) -> None:
    with pytest.raises(RefusalError) as caught:
        parse_store_url(url)
    assert "hunter2" not in str(caught.value)
