"""A sweep's file: what it stands for; every mistake in it is one line that names the key and the remedy."""

from pathlib import Path
from typing import Any

import pytest

from snn_policy import IF, MT, SNM, SigmaDelta
from snn_policy.ann.activations import Activation
from snn_policy.cli import main
from snn_policy.sweeps.cells import Seeds
from snn_policy.sweeps.plan import Plan, read_plan
from tests.sweeping import write_actor, write_sweep


def plan_of(folder: Path, settings: str = "", **changes: Any) -> Plan:
    return read_plan(write_sweep(folder, settings, **changes))


def labels(plan: Plan) -> list[str]:
    return [cell.label for cell in plan.reporting()]


def test_the_ann_is_always_there_and_every_setting_on_every_range_of_seeds(tmp_path: Path) -> None:
    cells = list(plan_of(tmp_path, "[[settings]]\ntolerance = [0.1, 0.2]").reporting())
    assert [(cell.label, cell.seeds.first) for cell in cells] == [
        ("ANN", 1000), ("ANN", 2000), ("SigmaDelta(tolerance=0.1)", 1000), ("SigmaDelta(tolerance=0.1)", 2000),
        ("SigmaDelta(tolerance=0.2)", 1000), ("SigmaDelta(tolerance=0.2)", 2000),
    ]  # fmt: skip
    assert [cell.record["baseline"] for cell in cells] == [None, None, *[cells[0].key, cells[1].key] * 2]


@pytest.mark.parametrize(
    ("settings", "kind", "expected"),
    [
        ("", SigmaDelta, ["tolerance=0.02"]),
        ("alpha = [0, 0.5]", SigmaDelta, ["tolerance=0.02, alpha=0", "tolerance=0.02, alpha=0.5"]),
        ("alpha = [[0, 0.5]]", SigmaDelta, ["tolerance=0.02, alpha=[0, 0.5]"]),
        (f"threshold = [[{[0.1] * 4}, {[0.2] * 8}]]", SigmaDelta, ["threshold=[…]"]),
        ('neuron = "if"\ntimesteps = [4, 8]\nalpha = 0.3', IF, ["timesteps=4, alpha=0.3", "timesteps=8, alpha=0.3"]),
        ('neuron = "if"\ncalibration = {adaptive = [1, 3]}', IF, ["calibration={adaptive=[1, 3]}"]),
        (
            'neuron = "if"\ncalibration = [{iterations = 1}, {iterations = 2, rule = "literal"}]', IF,
            ["calibration={iterations=1}", "calibration={iterations=2, rule=literal}"],
        ),
        (
            'neuron = "snm"\nthreshold = ["max", "percentile:99.9"]', SNM,
            ["threshold=max", "threshold=percentile:99.9"],
        ),
        (
            'neuron = "mt"\ncoding = "differential"\nlevels = [2, 4]', MT,
            ["coding=differential, levels=2", "coding=differential, levels=4"],
        ),
    ],
)  # fmt: skip
def test_a_list_is_one_setting_of_each_value(settings: str, kind: type, expected: list[str], tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"[[settings]]\n{settings}", seeds=[0])
    assert labels(plan)[1:] == [f"{kind.__name__}({settings})" for settings in expected]
    assert all(isinstance(setting.neuron, kind) for actor in plan.actors for setting, _ in actor.settings)


def test_compression_is_a_choice_like_any_other(tmp_path: Path) -> None:
    choices = 'compression = [false, {target = "energy:0.05", steps = 100}, {target = "retention:0.9"}]'
    plan = plan_of(tmp_path, f"[[settings]]\ntolerance = 0.05\n{choices}", seeds=[0])
    assert labels(plan) == [
        "ANN", "SigmaDelta(tolerance=0.05)", "compress(energy:0.05, steps=100), SigmaDelta(tolerance=0.05)",
        "compress(retention:0.9), SigmaDelta(tolerance=0.05)",
    ]  # fmt: skip
    cell = list(plan.reporting())[2]
    assert cell.record["compression"] == {
        "target": "energy:0.05", "steps": 100, "seed": 0, "block": 16, "count": "spikes", "tolerance": 0.05,
    }  # fmt: skip
    assert cell.record["baseline"] == next(plan.reporting()).key


def test_actors_of_files_keep_to_their_environments_and_others_take_those_of_all(tmp_path: Path) -> None:
    write_actor(tmp_path, "other", seed=1)
    both = [{"source": "small", "environment": "CartPole-v0"}, {"source": "other"}]
    plan = plan_of(tmp_path, actors=both, environments=["CartPole-v1", {"id": "CartPole-v1", "options": {"sutton_barto_reward": True}}])  # fmt: skip  # noqa: E501
    places = {(cell.actor.name, cell.place.label) for cell in plan.reporting()}
    assert places == {("small", "CartPole-v0"), ("other", "CartPole-v1"),
                      ("other", 'CartPole-v1 {"sutton_barto_reward": true}')}  # fmt: skip


@pytest.mark.parametrize("change", [
    {"episodes": 8}, {"batch": 3}, {"recording": {"steps": 100}}, {"recording": {"steps": 200, "seed": 1}},
    {"seeds": [1001, 2001]}, {"environments": ["CartPole-v0"]},
    {"environments": [{"id": "CartPole-v1", "options": {"sutton_barto_reward": True}}]},
])  # fmt: skip
def test_whatever_a_result_depends_on_changes_its_key(change: dict[str, Any], tmp_path: Path) -> None:
    settings = "[[settings]]\ntolerance = 0.1"
    before = {cell.key for cell in plan_of(tmp_path, settings).reporting()}
    after = {cell.key for cell in plan_of(tmp_path, settings, **change).reporting()}
    if "recording" in change:  # which the ANN does without
        anns = {cell.key for cell in plan_of(tmp_path, settings).reporting() if cell.label == "ANN"}
        assert before & after == anns
    else:
        assert not before & after


def test_the_same_network_has_the_same_key_wherever_its_file_stands(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    assert [cell.key for cell in plan_of(one).reporting()] == [cell.key for cell in plan_of(other).reporting()]
    third = tmp_path / "third"
    third.mkdir()
    write_actor(third, seed=5)
    assert not {cell.key for cell in plan_of(one).reporting()} & {cell.key for cell in plan_of(third).reporting()}


def test_other_versions_have_other_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from snn_policy.sweeps import places

    before = [cell.key for cell in plan_of(tmp_path).reporting()]
    installed = places._installed()
    monkeypatch.setattr(places, "_installed", lambda: {**installed, "torch": "0.0", "mujoco": "0.0"})
    assert [cell.key for cell in plan_of(tmp_path).reporting()] == before  # CartPole asks neither
    monkeypatch.setattr(places, "_installed", lambda: {**installed, "numpy": "0.0"})
    assert not {cell.key for cell in plan_of(tmp_path).reporting()} & set(before)


def test_what_does_not_fit_an_actor_is_refused_or_left_out_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_actor(tmp_path, "smooth", activation=Activation("tanh"))
    actors, settings = [{"source": "small"}, {"source": "smooth"}], '[[settings]]\nneuron = "if"'
    assert main(["sweep", str(write_sweep(tmp_path, settings, actors=actors))]) == 2
    said = capsys.readouterr().err
    assert "smooth" in said
    assert "skip_unsupported = true" in said
    plan = plan_of(tmp_path, settings, actors=actors, skip_unsupported=True, seeds=[0])
    assert [(cell.actor.name, cell.label) for cell in plan.reporting()] == [
        ("small", "ANN"), ("small", "IF()"), ("smooth", "ANN"),
    ]  # fmt: skip
    assert len(plan.left_out) == 1
    assert "smooth: IF() is left out" in plan.left_out[0]


ROOT = Path(__file__).resolve().parents[1]
MISTAKES: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "unknown key": ({"episods": 5}, "", ["episods", "did you mean episodes?"]),
    "unknown key of a table": ({"recording": {"step": 5}}, "", ["[recording] step", "did you mean steps?"]),
    "unknown key of settings": ({}, "[[settings]]\ntolerence = 0.1", ["[[settings]] 1 tolerence", "tolerance?"]),
    "unknown key of an actor": (
        {"actors": [{"source": "small", "env": "X"}]}, "", ["[[actors]] 1 env", "environment"],
    ),
    "unknown key of an environment": (
        {"environments": [{"id": "CartPole-v1", "kw": {}}]}, "", ["environments", "id ="],
    ),
    "episodes of another type": ({"episodes": "many"}, "", ["episodes = 'many'", "whole number"]),
    "episodes as a float": ({"episodes": 10.0}, "", ["episodes = 10.0"]),
    "too few episodes": ({"episodes": 1}, "", ["episodes = 1", "2 to"]),
    "a truth for a number": ({"batch": True}, "", ["batch = True"]),
    "seeds of another type": ({"seeds": 5000}, "", ["seeds = 5000", "list of at least one whole number"]),
    "no seeds": ({"seeds": []}, "", ["seeds = []"]),
    "a negative seed": ({"seeds": [-1]}, "", ["seeds = [-1]"]),
    "a seed beyond all": ({"seeds": [2**31]}, "", ["seeds"]),
    "seeds that overlap": ({"seeds": [1000, 1003]}, "", ["1000…1005", "1003…1008", "overlap"]),
    "no actors": ({"actors": None}, "", ["actors: missing", "[[actors]]"]),
    "empty actors": ({"actors": []}, "", ["actors = []"]),
    "an actor without source": ({"actors": [{"name": "x"}]}, "", ["[[actors]] 1 source: missing"]),
    "an actor that is no table": ({"actors": ["small"]}, "", ["actors = ['small']", "[[actors]]"]),
    "a path that is missing": ({"actors": [{"source": "gone.zip"}]}, "", ["gone.zip", "no such file"]),
    "a variable that is not set": ({"actors": [{"source": "$NO_SUCH_FOLDER/x"}]}, "", ["NO_SUCH_FOLDER is not set"]),
    "an option that a source lacks": ({"actors": [{"source": "small", "output": "a"}]}, "", ["small", "output"]),
    "an actor's name that cannot be shown": (
        {"actors": [{"source": "small", "name": "\u202egnp"}]}, "", ["[[actors]] 1 name", "printable"],
    ),
    "an actor's name of two lines": ({"actors": [{"source": "small", "name": "a\nb"}]}, "", ["name", "printable"]),
    "an actor's name without end": ({"actors": [{"source": "small", "name": "a" * 1500}]}, "", ["name", "printable"]),
    "one actor twice": ({"actors": [{"source": "small"}] * 2}, "", ["small and small are the same actor", "leave one"]),
    "one actor by two names": (
        {"actors": [{"source": "small"}, {"source": "small", "name": "other"}]}, "",
        ["small and other are the same actor in CartPole-v1", "count as two", "leave one of them out"],
    ),
    "two actors by one name": (
        {"actors": [{"source": "small"}, {"source": "wide", "name": "small"}]}, "",
        ["small stands there twice", "another name"],
    ),
    "no environment of that id": ({"environments": ["CartPole-v99"]}, "", ["CartPole-v99", "cannot be made"]),
    "an environment that does not fit": ({"environments": ["Pendulum-v1"]}, "", ["Pendulum-v1", "does not fit"]),
    "an environment's option": (
        {"environments": [{"id": "CartPole-v1", "options": {"gravity": 3}}]}, "", ["CartPole-v1", "gravity"],
    ),
    "an environment twice": ({"environments": ["CartPole-v1"] * 2}, "", ["CartPole-v1 stands there twice"]),
    "environments as a text": ({"environments": "CartPole-v1"}, "", ["environments = 'CartPole-v1'", "list of ids"]),
    "empty environments": ({"environments": []}, "", ["environments = []"]),
    "an unknown neuron": ({}, '[[settings]]\nneuron = "lif"', ["[[settings]] 1 neuron = 'lif'", "sigma-delta, if"]),
    "a neuron of another type": ({}, "[[settings]]\nneuron = 3", ["[[settings]] 1 neuron = 3"]),
    "a value out of range": ({}, "[[settings]]\ntolerance = [0.1, 3.0]", ["[[settings]] 1", "tolerance 3.0"]),
    "a value of another type": ({}, '[[settings]]\nalpha = "half"', ["[[settings]] 1", "alpha 'half'"]),
    "no choice": ({}, "[[settings]]\ntolerance = []", ["tolerance = []", "list of choices"]),
    "another neuron's setting": ({}, '[[settings]]\nneuron = "snm"\ntolerance = 0.1', ["tolerance", "no such key"]),
    "calibration of another type": ({}, '[[settings]]\nneuron = "if"\ncalibration = 3', ["calibration", "iterations"]),
    "an unknown key of calibration": ({}, '[[settings]]\nneuron = "if"\ncalibration = {steps = 3}', ["steps"]),
    "calibration out of range": ({}, '[[settings]]\nneuron = "if"\ncalibration = {iterations = 99}', ["iterations 99"]),
    "a wrong number of alphas": ({}, "[[settings]]\nalpha = [[0.1, 0.2, 0.3]]", ["small", "alpha"]),
    "compression without target": ({}, "[[settings]]\ncompression = {steps = 3}", ["compression", "target"]),
    "compression of another target": ({}, '[[settings]]\ncompression = {target = "less"}', ["target 'less'"]),
    "an unknown engine": ({}, '[[settings]]\nengine = "fast"', ["engine 'fast'"]),
    "the same setting twice": (
        {}, "[[settings]]\n[[settings]]\ntolerance = 0.02", ["SigmaDelta(tolerance=0.02) stands"],
    ),
    "settings as a table": ({}, "[settings]\ntolerance = 0.1", ["settings", "[[settings]]"]),
    "a name that is a path": ({"name": "a/b"}, "", ["name = 'a/b'", "letters"]),
    "a choice on reported episodes": (
        {}, "[[settings]]\n[select]\nseeds = [990, 20]", ["[select] seeds 990…1009", "1000…1005", "other seeds"],
    ),
    "a choice on no episodes": ({}, "[[settings]]\n[select]\nseeds = [0, 1]", ["[select] seeds = [0, 1]"]),
    "a choice without seeds": ({}, "[[settings]]\n[select]", ["[select] seeds: missing", "[2000, 20]"]),
    "a choice of nothing": ({}, "[select]\nseeds = [0, 20]", ["settings", "nothing to choose from"]),
    "within beyond 1": ({}, "[[settings]]\n[select]\nseeds = [0, 20]\nwithin = 2", ["[select] within = 2"]),
    "another way to choose": ({}, "[[settings]]\n[select]\nseeds = [0, 20]\nper = 3", ["[select] per = 3", "table"]),
    "pilots on reported episodes": (
        {"seeds": [90_010]}, '[[settings]]\ntolerance = "pilot"', ["seeds", "90010", "pilots choose by"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_file_key_and_remedy(
    mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, settings, expected = MISTAKES[mistake]
    write_actor(tmp_path, "wide", seed=1)
    file = write_sweep(tmp_path, f"\n{settings}", **changes)
    assert main(["sweep", str(file), "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"snn-policy: {file}: ")
    assert [part for part in expected if part not in err] == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"episodes = ", "not a TOML file"),
        (b"episodes = 5\nepisodes = 6\n", "not a TOML file"),
        (b"\xff\xfe\x00", "not a TOML file"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "not a TOML file"),
        (b"x" * 5 * 2**20, "too large"),
        (b"", "actors: missing"),
    ],
)
def test_what_is_no_sweep_is_said_in_one_line(
    content: bytes, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    assert main(["sweep", str(tmp_path / "x.toml"), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert expected in err


@pytest.mark.parametrize("path", ["gone.toml", "."])
def test_a_file_that_is_none_is_said_in_one_line(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", str(tmp_path / path)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "not a file" in err or "no such file" in err


@pytest.mark.parametrize("select", ["2000", "a,b", "1,2,3", "-1,5", "2000,1", ""])
def test_a_wrong_range_to_select_on_is_said(select: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", str(write_sweep(tmp_path)), "--select", select]) == 2
    assert "expected FIRST,COUNT" in capsys.readouterr().err


def test_the_command_line_may_say_what_to_select_on(tmp_path: Path) -> None:
    plan = read_plan(write_sweep(tmp_path), Seeds(0, 4))
    assert plan.selection is not None
    assert (plan.selection.seeds, plan.selection.within, plan.selection.per) == (Seeds(0, 4), 0.01, "sweep")
    assert [cell.purpose for cell in plan.selecting()] == ["select"] * 4


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks" / "sweeps").glob("*.toml")), ids=lambda file: file.stem)
def test_the_tables_of_the_docs_are_sweeps_that_can_be_read(
    file: Path, reference_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_POLICY_REFERENCE_DIR", str(reference_dir))
    monkeypatch.setattr("snn_policy.sweeps.places.Place.check", lambda *_: None)  # simulators may be missing
    plan = read_plan(file)
    assert plan.name == file.stem
    assert len(list(plan.reporting())) >= 20


def test_a_dry_run_says_what_there_is_to_do_and_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(write_sweep(tmp_path)), "--dry-run", "--out", str(tmp_path / "out")]) == 0
    assert "8 cells, 48 episodes" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        (f"tolerance = {[(1 + n) / 20_000 for n in range(10_001)]}", "10,001"),
        (f"tolerance = {[(1 + n) / 200 for n in range(101)]}\nalpha = {[n / 200 for n in range(101)]}", "10,201"),
        (
            f"neuron = 'if'\ntimesteps = {[*range(1, 401)]}\nalpha = {[n / 400 for n in range(400)]}",
            "160,000",
        ),
    ],
)
def test_a_table_that_makes_too_many_settings_is_refused_before_they_are_made(
    settings: str, count: str, tmp_path: Path
) -> None:
    file = tmp_path / "huge.toml"
    file.write_text(f'[[actors]]\nsource = "td3-Pendulum-v1"\n[[settings]]\n{settings}\n')
    with pytest.raises(ValueError, match=f"its lists make {count} settings; at most 10,000"):
        read_plan(file)
