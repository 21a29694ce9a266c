"""The `snn-policy` command, as its users and their scripts see it."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear
from snn_policy.cli import main
from snn_policy.policy import SpikingPolicy
from tests.bundles import file_of

COMMANDS = ("demo", "list", "convert", "eval", "compare")
QUICK = ("--episodes", "2", "--num-envs", "2")
PYTHON = (sys.executable, "-m", "snn_policy.cli")


def pendulum_actor(env_id: str | None = "Pendulum-v1") -> Actor:
    rng = np.random.default_rng(0)
    hidden = Linear(rng.normal(size=(16, 3)).astype(np.float32), np.zeros(16, np.float32), RELU)
    last = Linear(rng.normal(size=(1, 16)).astype(np.float32), np.zeros(1, np.float32))
    return Actor((hidden, last), Head.bounded([-2.0], [2.0]), (3,), env_id=env_id, name="small")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(pendulum_actor(), tmp_path_factory.mktemp("bundles") / "small")


def saved(actor: Actor, directory: Path) -> Path:
    from snn_policy.convert import convert

    convert(actor, pendulum_actor().collect("Pendulum-v1", steps=250)).save(directory)
    return directory


@pytest.fixture
def shipped(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if the small bundle were the only one shipped."""
    monkeypatch.setattr("snn_policy.exported.DIRECTORY", bundle.parent)
    return bundle


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail as a user's mistake does; its one line."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("snn-policy: ")
    assert err.count("\n") == 1
    return err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    """Run a command with `--json` as its last argument; stdout must be JSON and nothing else."""
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str, capsys: pytest.CaptureFixture[str]):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example" in text
    assert f"snn-policy {command}" in text


def test_help_loads_no_more_than_the_package_itself_does():
    program = (
        "import sys, snn_policy; before = {name.split('.')[0] for name in sys.modules};"
        "from snn_policy.cli import main; main(['--help']);"
        "print(*({name.split('.')[0] for name in sys.modules} - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert not {"torch", "mujoco", "gymnasium", "numba", "onnx", "onnxruntime"} & set(loaded)


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 0
    assert "compare" in capsys.readouterr().out


def test_convert_writes_a_bundle_that_acts(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ("convert", str(bundle), "--env", "Pendulum-v1", "--out", str(tmp_path / "new"), "--steps", "200")
    made = as_json(capsys, *arguments, "--tolerance", "0.05")
    policy = SpikingPolicy.load(tmp_path / "new")
    assert made["conversion"]["tolerance"] == policy.conversion["tolerance"] == 0.05
    assert made["conversion"]["observations"] == 200
    assert policy.actor.env_id == "Pendulum-v1"
    assert policy.act(np.zeros(3)).shape == (1,)


def test_convert_takes_the_options_of_membrane_neurons(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = str(tmp_path / "mt")
    options = "--neuron mt --coding differential --timesteps 4 --levels 3 --threshold max --alpha 0.5 --residual plain"
    made = as_json(capsys, "convert", str(bundle), "--out", out, "--steps", "200", *options.split())
    assert made["timesteps"] == 4
    assert (made["conversion"]["coding"], made["conversion"]["alpha"]) == ("differential", 0.5)


def test_convert_takes_the_options_of_a_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from tests.onnx_graphs import MEAN, graph, node

    outputs = ["first", "second"]
    path = graph([*MEAN, node("Neg", "mean", "first"), node("Tanh", "mean", "second")], tmp_path / "a.onnx", outputs)
    recording, out = tmp_path / "recording.npy", str(tmp_path / "new")
    np.save(recording, np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32))
    start = ("convert", str(path), "--out", out, "--observations", str(recording))
    assert "several of its outputs could be the action (first, second)" in mistake(capsys, *start)
    given = ("--output", "first", "--observation-shape", "6", "--low", "-1,-0.5,-0.25", "--high", "1")
    as_json(capsys, *start, *given)
    actor = SpikingPolicy.load(out).actor
    assert (actor.head.kind, actor.observation_shape) == ("clip", (6,))
    assert (actor.low.tolist(), actor.high.tolist()) == ([-1, -0.5, -0.25], [1, 1, 1])
    as_json(capsys, *start, "--output", "second")
    assert SpikingPolicy.load(out).actor.head.kind == "tanh"
    assert "do not fit observations (7,)" in mistake(capsys, *start, "--output", "first", "--observation-shape", "7")
    assert "--observation-shape '6x'" in mistake(capsys, *start, "--observation-shape", "6x")


def test_convert_takes_a_recording_instead_of_an_environment(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = saved(pendulum_actor(env_id=None), tmp_path / "unknown")
    np.save(tmp_path / "recorded.npy", np.random.default_rng(0).normal(size=(120, 3)))
    recorded = ("--observations", str(tmp_path / "recorded.npy"), "--predictor", "0", "--digits", "5,5")
    made = as_json(capsys, "convert", str(source), "--out", str(tmp_path / "new"), *recorded)
    assert made["conversion"]["observations"] == 120
    assert made["conversion"]["digits"] == [5, 5]


def test_eval_runs_a_bundle_as_snn_and_its_environment_may_be_left_out(
    bundle: Path, capsys: pytest.CaptureFixture[str]
):
    result = as_json(capsys, "eval", str(bundle), *QUICK, "--seed", "7")
    assert (result["kind"], result["environment"], result["seeds"]) == ("SNN", "Pendulum-v1", [7, 8])
    assert result["synaptic_operations"] > 0
    assert "gymnasium" in result["versions"]


def test_eval_with_workers_gives_the_same_returns(bundle: Path, capsys: pytest.CaptureFixture[str]):
    shared, alone = (as_json(capsys, "eval", str(bundle), *QUICK, "--workers", element) for element in "21")
    assert (shared["workers"], alone["workers"]) == (2, 1)
    assert shared["returns"] == alone["returns"]
    unknown = ("--env", "Nothing-v7", "--workers", "2")
    assert "'Nothing-v7' cannot be made" in mistake(capsys, "eval", str(bundle), *unknown)


def test_eval_prints_a_table_and_writes_json_to_a_file(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    target = tmp_path / "result.json"
    assert main(["eval", str(bundle), *QUICK, "--json", str(target)]) == 0
    assert "interquartile mean" in capsys.readouterr().out
    assert len(json.loads(target.read_text())["returns"]) == 2


def test_compare_gives_both_policies_the_same_seeds(bundle: Path, capsys: pytest.CaptureFixture[str]):
    result = as_json(capsys, "compare", str(bundle), str(bundle), "--env", "Pendulum-v1", *QUICK)
    assert result["ann"]["seeds"] == result["snn"]["seeds"] == [5000, 5001]
    assert result["ann"]["synaptic_operations"] == 0
    assert 0 < result["energy_share"] < result["zero_skipping_share"] <= 1


def test_compare_with_one_bundle_states_the_energy_convention(bundle: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compare", str(bundle), *QUICK]) == 0
    out = capsys.readouterr().out
    assert "0.9 pJ per synaptic operation" in out
    assert "retention" in out


def test_the_demo_converts_a_shipped_actor_and_says_what_it_means(shipped: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["demo", "--episodes", "2"]) == 0
    out = capsys.readouterr().out
    assert "Pendulum-v1, 2 episodes, seeds 5000–5001" in out
    assert "4.6 pJ per" in out
    assert "Next, your own" in out
    assert max(len(line) for line in out.splitlines()) <= 80


@pytest.mark.parametrize(
    ("returns", "said"),
    [
        ({"seeds": [6000, 6499], "ann_failed": 0.016, "snn_failed": 0.008}, "500, seeds 6000–6499, 8 of the ANN and 4"),
        ({"seeds": [5000, 5099], "ann_failed": 0.0, "snn_failed": 0.07}, "100, seeds 5000–5099, 0 of the ANN and 7"),
        ({"seeds": [7, 7], "ann_failed": 1.0, "snn_failed": 0.0}, "1, seeds 7–7, 1 of the ANN and 0"),
        ({"seeds": [5000, 5099]}, None),
        ({}, None),
    ],
)
def test_the_demo_puts_its_failures_beside_those_of_its_card(returns: dict, said: str | None) -> None:
    from snn_policy.commands.tables import demo_conclusion
    from snn_policy.evaluation.evaluate import compare

    actor = pendulum_actor()
    result = compare(actor, actor, "Pendulum-v1", episodes=1)
    text = " ".join(demo_conclusion(result, {"returns": returns}))
    assert ("by chance" in text) == (said is not None)
    assert said is None or said in text


def test_list_shows_shipped_policies_and_their_names_are_sources(shipped: Path, capsys: pytest.CaptureFixture[str]):
    (row,) = as_json(capsys, "list")["policies"]
    assert (row["name"], row["env_id"], row["conversion"]["neuron"]) == ("small", "Pendulum-v1", "sigma-delta")
    assert as_json(capsys, "eval", "small", *QUICK)["kind"] == "SNN"


@pytest.mark.parametrize("command", [["eval"], ["convert", "--out", "x"], ["compare"]])
def test_a_missing_source_is_one_line(command: list[str], capsys: pytest.CaptureFixture[str]):
    assert "nowhere.zip" in mistake(capsys, command[0], "nowhere.zip", *command[1:])


def test_what_convert_refuses_is_one_line(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    start = ("convert", str(bundle), "--out", str(tmp_path / "new"), "--steps", "50")
    assert "timesteps" in mistake_after_recording(capsys, *start, "--timesteps", "4")
    assert "'lif'" in mistake_after_recording(capsys, *start, "--neuron", "lif")
    assert "--alpha 'much'" in mistake(capsys, *start, "--neuron", "if", "--alpha", "much")
    assert "does not take" in mistake(capsys, *start, "--low", "-1")
    assert not (tmp_path / "new").exists()


def mistake_after_recording(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """As `mistake`, where a progress bar came first."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err.splitlines()[-1]


def test_environments_that_are_unknown_unfit_or_not_given_are_one_line(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert "Nowhere-v0" in mistake(capsys, "eval", str(bundle), "--env", "Nowhere-v0")
    assert "does not fit" in mistake(capsys, "eval", str(bundle), "--env", "CartPole-v1")
    homeless = saved(pendulum_actor(env_id=None), tmp_path / "homeless")
    assert "--env ID" in mistake(capsys, "eval", str(homeless))


def test_a_tampered_bundle_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    broken = saved(pendulum_actor(), tmp_path / "broken")
    weights = file_of(broken, "weights")
    weights.write_bytes(weights.read_bytes()[:-4])
    assert "truncated or altered" in mistake(capsys, "eval", str(broken))


def test_an_ann_is_not_taken_for_a_spiking_policy(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "model.zip").write_bytes(b"")
    assert "snn-policy convert" in mistake(capsys, "compare", str(bundle), str(tmp_path / "model.zip"))


def test_places_that_cannot_be_written_are_found_before_the_work(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    under_a_file = str(tmp_path / "file" / "new")
    assert "not a directory" in mistake(capsys, "convert", str(bundle), "--out", under_a_file)
    assert "no such directory" in mistake(capsys, "eval", str(bundle), "--json", str(tmp_path / "no" / "r.json"))


@pytest.mark.parametrize(
    "arguments", [["eval"], ["eval", "x", "--episodes", "0"], ["eval", "x", "--colour"], ["paint"], ["demo", "nobody"]]
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    mistake(capsys, *arguments)


def test_a_missing_extra_names_the_extra(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "torch", None)
    line = mistake_after_recording(
        capsys, "convert", str(bundle), "--out", str(bundle.parent / "torch"), "--steps", "50", "--engine", "torch"
    )
    assert "snn-policy[convert]" in line


@pytest.mark.parametrize("content", [b"hello", b"", None], ids=["text", "empty", "several arrays"])
def test_a_recording_that_is_no_array_is_one_line(
    content: bytes | None, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    recording = tmp_path / "recorded.npz"
    np.savez(recording, states=np.zeros((4, 3)), actions=np.zeros((4, 1)))
    if content is not None:
        recording.write_bytes(content)
    for command in ("convert", "export"):
        line = mistake_after_recording(
            capsys, command, str(bundle), "--out", str(tmp_path / "out"), "--observations", str(recording)
        )
        assert str(recording) in line
        assert "array" in line
        assert "pickle" not in line


def test_a_defect_of_ours_still_shows_its_traceback(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys.modules["snn_policy.evaluation.evaluate"], "evaluate", broken)
    with pytest.raises(ZeroDivisionError):
        main(["eval", str(bundle)])


def test_an_interrupt_exits_with_130_and_one_line(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys.modules["snn_policy.evaluation.evaluate"], "evaluate", interrupted)
    assert main(["eval", str(bundle)]) == 130
    assert capsys.readouterr().err == "snn-policy: interrupted\n"


def test_the_process_itself_exits_with_2_and_leaves_stdout_empty():
    done = subprocess.run([*PYTHON, "eval", "nowhere", "--json"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("snn-policy: nowhere: no such file")


def test_a_file_that_is_no_result_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    precious = tmp_path / "actor.json"
    precious.write_text('{"activation": "relu"}')
    assert "exists and is not a result" in mistake(capsys, "list", "--json", str(precious))
    assert precious.read_text() == '{"activation": "relu"}'
    result = tmp_path / "result.json"
    for _ in range(2):  # an earlier result is replaced
        assert main(["list", "--json", str(result)]) in (0, None)
    assert "policies" in json.loads(result.read_text())
