"""What is left out on a command line is said, or refused: a FILE after `--json`, an option's value."""

import json
from pathlib import Path

import pytest

from snn_policy.cli import main
from snn_policy.commands.arguments import explicit_json_target

SHIPPED = "td3-Pendulum-v1"


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("eval", SHIPPED, "--json", "x.txt"), "x.txt"),
        (("eval", "--json", "x.txt"), "x.txt"),
        (("compare", SHIPPED, "--json", "out/figures"), "out/figures"),
        (("list", "--json", "x.txt"), "x.txt"),
        (("convert", SHIPPED, "--json", "why.jsonl", "--out", "somewhere"), "why.jsonl"),
        (("analyse", "--json", "why.txt", "--env", "Pendulum-v1"), "why.txt"),
        (("report", "--json", "report.csv"), "report.csv"),
        (("demo", "--json", "demo.yaml"), "demo.yaml"),
    ],
)
def test_a_file_for_json_with_another_ending_is_named_with_the_way_to_write_it(
    arguments: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = mistake(capsys, *arguments)
    assert f"{word} was not taken for the FILE of --json, since it does not end in .json" in line
    assert f"--json={word} writes there" in line
    assert not Path(word).exists()


@pytest.mark.parametrize("name", ["x.txt", "results", "why.JSON"])
def test_that_way_writes_there(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", f"--json={tmp_path / name}"]) in (0, None)
    assert "policies" in json.loads((tmp_path / name).read_text())


def test_a_mistake_about_something_else_has_no_such_remark(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("eval", "--json", SHIPPED, "--env", "Nowhere-v1"), ("eval", "nowhere", "--json")):
        assert "FILE of --json" not in mistake(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "complete"),
    [
        (["eval", "--json", "B"], ["eval", "--json", "-", "B"]),
        (["eval", "B", "--json"], ["eval", "B", "--json", "-"]),
        (["eval", "B", "--json", "-"], ["eval", "B", "--json", "-"]),
        (["eval", "B", "--json", "R.JSON"], ["eval", "B", "--json", "R.JSON"]),
        (["eval", "B", "--json", "--seed", "3"], ["eval", "B", "--json", "-", "--seed", "3"]),
    ],
)
def test_a_bare_json_takes_no_argument_for_its_file(arguments: list[str], complete: list[str]) -> None:
    assert explicit_json_target(arguments) == complete


@pytest.mark.parametrize(
    ("arguments", "option", "following"),
    [
        (("convert", SHIPPED, "--out", "--json", "x.json"), "--out", "--json"),
        (("eval", SHIPPED, "--env", "--json"), "--env", "--json"),
        (("analyse", SHIPPED, "--out", "--neuron", "if"), "--out", "--neuron"),
        (("compare", SHIPPED, "--env", "--episodes=3"), "--env", "--episodes=3"),
        (("train", "collect", "Pendulum-v1", "--out", "--seed", "3"), "--out", "--seed"),
    ],
)
def test_an_option_takes_no_other_for_its_value(
    arguments: tuple[str, ...], option: str, following: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = mistake(capsys, *arguments)
    assert f"{option}: expected a value, but the option {following} follows" in line
    assert not Path("--json").exists()


def test_a_negative_number_is_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert "follows" not in mistake(capsys, "eval", SHIPPED, "--seed", "-5")
