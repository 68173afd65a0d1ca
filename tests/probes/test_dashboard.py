"""The page at ``/``: what a browser is given, and what it is told to refuse."""

from __future__ import annotations

import base64
import hashlib
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.probes.agents import FakeAnswers, ask, serving
from tests.probes.loops import in_loop
from unitagent.core.model import InstanceState, Phase
from unitagent.probes import answers

VOID = {"meta"}  # elements of the page that have no end


class Page(HTMLParser):
    """Its elements, as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "an element ends that is not the last one"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.inside:
            self.inside[self.open[-1]].append(data)

    def values(self, name: str) -> list[str]:
        return [value or "" for known, value in self.attributes if known == name]


TEXT = answers.answer_dashboard("unit").body.decode()
PAGE = Page(TEXT)
SCRIPT = "".join(PAGE.inside["script"])


@in_loop
async def test_the_page_and_its_headers() -> None:
    async with serving() as port:
        page, head = await ask(port, "/"), await ask(port, "/", method="HEAD")
    assert (page.code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.text == TEXT
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert (head.code, head.body, head.headers) == (200, b"", page.headers)


@pytest.mark.parametrize("shows", ["unit", "store"])
@in_loop
async def test_the_browser_runs_this_script_and_no_other(shows: str) -> None:
    async with serving(FakeAnswers(page=shows)) as port:
        page = await ask(port, "/")
    policy = dict(answers.answer_dashboard(shows).headers)["Content-Security-Policy"]
    assert policy.lower() == page.headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert (rules["default-src"], rules["connect-src"]) == ("'none'", "'self'")
    found = Page(page.text)
    for tag in ("script", "style"):
        digest = hashlib.sha256("".join(found.inside[tag]).encode()).digest()
        assert rules[f"{tag}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert found.values("data-shows") == [shows]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@in_loop
async def test_only_looking_is_allowed(method: str) -> None:
    async with serving() as port:
        assert (await ask(port, "/", method=method)).code == 405


@in_loop
async def test_a_page_that_is_off_says_why() -> None:
    async with serving(FakeAnswers(page="off")) as port:
        told = await ask(port, "/")
    assert (told.code, told.text) == (404, "there is no page here: UNIT_DASHBOARD=off\n")


def test_it_is_packaged() -> None:
    root = Path(answers.__file__).parents[2]
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["unitagent"]
    assert answers._DASHBOARD_FILE in {
        file for pattern in patterns for file in (root / "unitagent").glob(pattern)
    }


def test_it_is_well_formed() -> None:
    assert PAGE.open == []
    assert len(PAGE.inside["script"]) == len(PAGE.inside["style"]) == 1
    assert len(set(PAGE.values("id"))) == len(PAGE.values("id"))


def test_what_the_script_and_labels_refer_to_is_there() -> None:
    used = set(re.findall(r'\bbyId\("([^"]+)"\)', SCRIPT)) | set(PAGE.values("aria-labelledby"))
    assert len(used) > 10
    assert used <= set(PAGE.values("id"))
    assert used >= set(PAGE.values("id"))


def test_every_state_and_phase_has_a_sign() -> None:
    signs = SCRIPT.partition("const SIGNS = {")[2].partition("};")[0]
    assert {*InstanceState, *Phase} <= set(re.findall(r"(\w+): ", signs))


def test_it_needs_nobody_else_and_no_value_becomes_markup() -> None:
    assert not re.search(r"https?:|//[a-z]|\burl\(|@import|\bsrc=", TEXT.replace("// ", ""))
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|Function\(|setHTML", SCRIPT
    )
    assert not [name for name, _ in PAGE.attributes if name.startswith("on") or name == "style"]


def test_it_can_be_read_without_a_script_and_by_everybody() -> None:
    assert "<noscript>" in TEXT
    assert 'href="status"' in TEXT
    assert 'aria-live="polite"' in TEXT
    assert "prefers-color-scheme: dark" in TEXT
    assert TEXT.count('scope="col"') == TEXT.count("<th ")
    assert len(TEXT) < 20 << 10
