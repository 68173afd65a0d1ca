"""UNIT_CACHE_DIR: what compilers and kernel libraries keep is placed where it outlives the container."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from unitagent.agent.launch import Launcher, choose_defaults, make_cache_folders
from unitagent.operator.doctor.doctor_cli import check_caches
from unitagent.operator.dry_run import format_dry_run, plan_launch
from unitagent.settings import Resolved
from unitagent.settings.resolution import resolve_settings
from unitagent.system import working_directory
from unitagent.system.mounts import find_file_system
from unitagent.workload.engine_caches import (
    CACHES,
    find_cache,
    is_lost_with_container,
    place_caches,
)

MOUNTS = r"""
22 1 0:21 / / rw,relatime - overlay overlay rw,lowerdir=/a
23 22 0:22 / /cache rw - nfs4 server:/export rw
24 22 0:23 / /data rw shared:1 - ext4 /dev/sda1 rw
25 22 0:24 / /data/with\040space rw - fuse.s3fs s3fs rw
26 22 0:25 / /over rw - nfs4 server:/old rw
27 22 0:26 / /over rw - xfs /dev/sdb1 rw
broken
28 22 0:27 / /half rw -
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    file = tmp_path / "mountinfo"
    file.write_text(MOUNTS)
    return file


def resolve(cache: Path | str) -> Resolved:
    given = {"UNIT_ID": "u", "UNIT_SIZE": "4", "RANK_ID": "3", "COMM_IFNAME": "lo", "RANK_IP": "127.0.0.1"}
    given |= {"UNIT_REDIS_URL": "redis://127.0.0.1"}
    given |= {"UNIT_CACHE_DIR": str(cache)} if cache else {}
    return resolve_settings({}, given, "host", str, command=["true"])


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "overlay"),
        ("/cached", "overlay"),
        ("/cache/not/there/yet", "nfs4"),
        ("/data/x", "ext4"),
        ("/data/with space/x", "fuse.s3fs"),
        ("/over", "xfs"),
    ],
)
def test_the_file_system_is_that_of_the_innermost_mount(mounts: Path, path: str, kind: str) -> None:
    assert find_file_system(Path(path), mounts) == kind


def test_nothing_is_known_without_the_kernel_s_table(tmp_path: Path) -> None:
    assert find_file_system(Path("/"), tmp_path / "none") == ""
    assert not is_lost_with_container("/", tmp_path / "none")


def test_ranks_share_a_local_folder_and_not_one_of_a_shared_file_system(mounts: Path) -> None:
    assert place_caches("/data/c", 3, mounts) == {name: f"/data/c/{below}" for name, below in CACHES.items()}
    assert place_caches("/cache", 3, mounts)["VLLM_CACHE_ROOT"] == "/cache/rank-3/vllm"


def test_what_ends_with_the_container(mounts: Path) -> None:
    assert is_lost_with_container("/root/.cache", mounts)
    assert not is_lost_with_container("/cache", mounts)


def test_the_engine_s_own_variable_comes_before_its_default() -> None:
    assert find_cache("vllm", {"HOME": "/home/u"}) == ("/home/u/.cache/vllm", "the engine's default")
    assert find_cache("sglang", {"SGLANG_CACHE_DIR": "/x"}) == ("/x", "SGLANG_CACHE_DIR")


def test_the_workload_gets_the_variables_that_the_user_left_unset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "/mine")
    found = resolve(tmp_path / "c")
    defaults = choose_defaults(found, "lo", 3, logging.warning)
    assert not (tmp_path / "c").exists(), "nothing is made before a run"
    make_cache_folders(found, defaults, logging.warning)
    env = Launcher(found, 3, ("lo", "127.0.0.1"), "", defaults=defaults).prepare_dry_run().env
    assert Path(env["VLLM_CACHE_ROOT"]).is_dir()
    assert env["TRITON_CACHE_DIR"] == "/mine"
    assert caplog.records == []


def test_a_folder_that_cannot_be_made_is_named_and_the_workload_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found, warnings = resolve(tmp_path / "file" / "c"), list[str]()
    defaults = {**choose_defaults(found, "lo", 3, warnings.append), "NCCL_IB_HCA": "=mlx5_0"}
    usable = make_cache_folders(found, defaults, warnings.append)
    assert usable == {"NCCL_IB_HCA": "=mlx5_0"}, (
        "a compiler that cannot write fails; the engine's own folder works"
    )
    (warning,) = warnings
    assert warning.startswith(f"UNIT_CACHE_DIR='{tmp_path}/file/c' (environment): Not a directory: ")


def test_a_folder_that_is_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    found, warnings = resolve(tmp_path / "loop"), list[str]()
    make_cache_folders(found, choose_defaults(found, "lo", 3, warnings.append), warnings.append)
    assert len(warnings) == 1


def test_without_the_variable_nothing_is_set() -> None:
    found = resolve("")
    assert choose_defaults(found, "lo", 0, logging.warning) == {}
    make_cache_folders(found, {}, logging.warning)


def test_env_command_says_where_the_variables_come_from(tmp_path: Path) -> None:
    text = format_dry_run(plan_launch(resolve(tmp_path / "c")), "shell")
    (line,) = (line for line in text.splitlines() if "VLLM_CACHE_ROOT" in line)
    assert line.endswith("# UNIT_CACHE_DIR: kept for the next container")
    assert not (tmp_path / "c").exists()


def test_the_documentation_lists_every_cache() -> None:
    page = (Path(__file__).resolve().parents[2] / "unitagent/frameworks/README.md").read_text()
    for name, folder in CACHES.items():
        assert f"| `{name}` | `{folder}` |" in page


@pytest.mark.parametrize(
    ("command", "checked"),
    [
        (["vllm", "serve", "m"], {"caches"}),
        (["sh", "-c", "python -m sglang.launch_server --model m"], {"caches"}),
        (["sleep", "9"], set()),
    ],
)
def test_the_doctor_looks_at_the_caches_of_engines(command: list[str], checked: set[str]) -> None:
    given = {"UNIT_ID": "u", "UNIT_SIZE": "1", "RANK_ID": "0", "UNIT_FRAMEWORK": "none"}
    found = resolve_settings({}, given, "host", str, command=command)
    assert {finding.check for finding in check_caches(found)} == checked


def test_a_relative_folder_is_one_of_where_the_agent_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working_directory, "_start_directory", ["/began"])
    assert choose_defaults(resolve("c"), "lo", 0, logging.warning)["VLLM_CACHE_ROOT"] == "/began/c/vllm"
