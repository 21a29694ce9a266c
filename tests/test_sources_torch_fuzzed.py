"""Forged archives, folders and parameters in passing; `python -m tests.fuzz archives` tries as many as one likes."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from tests.fuzz import CHECKS, Archives, Folders, hostile_parameters, parameters_act_or_refuse
from tests.fuzz_programs import CHECKPOINTS, PROGRAMS


@pytest.mark.parametrize("kind", [*PROGRAMS, *CHECKPOINTS])
def test_forged_archives_are_read_or_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    archives = Archives(tmp_path, kind)

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=CHECKS)
    @given(archives.strategy())
    def check(members: dict[str, Any]) -> None:
        archives.reads_or_refuses(members)

    check()


def test_the_programs_themselves_are_read(tmp_path: Path) -> None:
    for kind in (*PROGRAMS, *CHECKPOINTS):
        archives = Archives(tmp_path, kind)
        assert archives.reads_or_refuses(archives.members)
    folders = Folders(tmp_path)
    assert folders.reads_or_refuses(folders.members)


def test_forged_folders_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    folders = Folders(tmp_path)

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=CHECKS)
    @given(folders.strategy())
    def check(members: dict[str, Any]) -> None:
        folders.reads_or_refuses(members)

    check()


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=CHECKS)
@given(hostile_parameters())
def test_forged_parameters_are_read_or_refused_in_one_line(parameters: Any) -> None:
    parameters_act_or_refuse(parameters)
