"""Single values of the settings, as they are read and as they are shown."""

from __future__ import annotations

import pytest

from unitagent import setting_parsers


@pytest.mark.parametrize("name", ["password", "pwd", "api_key", "access_token", "X-Auth", "signature"])
def test_what_a_query_says_of_secrets_is_masked(name: str) -> None:
    shown = setting_parsers.redact_url(f"http://127.0.0.1:8000/health?{name}=hunter2&verbose=1")
    assert shown == f"http://127.0.0.1:8000/health?{name}=***&verbose=1"
