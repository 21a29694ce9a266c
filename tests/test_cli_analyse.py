"""`snn-policy analyse`, as its users and their scripts see it."""

import json
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from snn_policy.actor import Actor
from snn_policy.analysis import Analysis, analyse
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear
from snn_policy.cli import main
from snn_policy.convert import convert
from snn_policy.reporting.themes import THEMES
from tests.synthetic import Line, line_actor

SECTIONS = (
    "return", "error", "consistency", "correction", "drift", "residual_cosine", "decomposition", "divergence",
    "sensitivity", "spectra", "sticking", "embedding",
)  # fmt: skip
QUICK = ("--episodes", "2")


def small(inputs: int, head: Head, env_id: str | None, name: str = "small") -> Actor:
    rng = np.random.default_rng(0)
    hidden = Linear(rng.normal(size=(8, inputs)).astype(np.float32), np.zeros(8, np.float32), RELU)
    last = Linear(rng.normal(size=(head.outputs, 8)).astype(np.float32), np.zeros(head.outputs, np.float32))
    return Actor((hidden, last), head, (inputs,), env_id=env_id, name=name)


def saved(actor: Actor, directory: Path, **options: Any) -> Path:
    convert(actor, np.random.default_rng(0).normal(size=(200, *actor.observation_shape)), **options).save(directory)
    return directory


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A discrete policy for CartPole, whose episodes are short."""
    actor = small(4, Head.argmax(2), "CartPole-v1", name='cart <script>"&pole" $x$ [red]')
    return saved(actor, tmp_path_factory.mktemp("bundles") / "cart", neuron="if", timesteps=4)


@pytest.fixture(scope="module")
def made(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("matplotlib")
    out = tmp_path_factory.mktemp("out")
    assert main(["analyse", str(bundle), *QUICK, "--out", str(out / "why"), "--json", str(out / "why.json")]) == 0
    return out


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    actor = line_actor()
    policy = convert(actor, actor.collect(Line, steps=200), neuron="if", timesteps=4, alpha=0.0)
    return analyse(actor, policy, Line, episodes=2, seed=3)


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail as a user's mistake does; its one line."""
    assert main(["analyse", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("snn-policy: ") == 1
    assert "Traceback" not in err
    return err


def test_every_section_has_a_mean_and_an_interval(made: Path):
    document = json.loads((made / "why.json").read_text())
    assert document["result_of"] == "snn-policy"
    for name in (*SECTIONS, "ablation"):
        assert {"mean", "interval", "episodes"} <= set(document[name]), name
        assert len(document[name]["interval"]) == 2
    assert document["about"]["environment"] == "CartPole-v1"
    assert document["about"]["episodes"] == document["return"]["episodes"] == 2
    assert {"alpha_0", "alpha_0.5", "alpha_1"} <= set(document["consistency"])
    assert {"policy", "states", "lost"} <= set(document["decomposition"])
    assert {"share", "longest", "wrong_rests"} <= set(document["sticking"])
    assert document["findings"]


def test_bare_json_goes_to_stdout_alone(bundle: Path, capsys: pytest.CaptureFixture[str]):
    assert (
        main(
            [
                "analyse",
                str(bundle),
                *QUICK,
                "--neuron",
                "sigma-delta",
                "--tolerance",
                "0.1",
                "--steps",
                "200",
                "--json",
            ]
        )
        == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert document["about"]["neuron"] == "sigma-delta"
    assert document["about"]["conversion"]["tolerance"] == 0.1
    assert "ablation" not in document


def test_the_terminal_shows_a_table_of_80_columns_and_the_findings(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["analyse", str(bundle), *QUICK]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "[red]" in text  # a name is no markup
    assert all(title in text for title in ("Return", "SNN consistency", "Sticking", "Sources of the error"))
    assert "· The spiking policy returns" in text


def test_pictures_are_there_in_both_forms_and_themes(made: Path):
    files = {path.name for path in (made / "why").iterdir()}
    names = {"decomposition", "cosines", "spectra", "ablation", "sensitivity", "divergence", "actions", "embedding"}
    expected = {f"{name}_{theme}.{form}" for name in names for theme in THEMES for form in ("png", "svg")}
    assert files - {"index.html", "findings.txt"} <= expected
    assert len(files) >= 2 + 4 * 7  # short episodes have no spectrum


def test_a_picture_is_the_same_bytes_every_time_and_each_theme_has_its_colours(analysis: Analysis):
    pytest.importorskip("matplotlib")
    from snn_policy.analysis.pictures import rendered

    for name in ("decomposition", "spectra"):
        drawn = {kind: rendered(analysis, name, theme, "svg") for kind, theme in THEMES.items()}
        assert rendered(analysis, name, THEMES["light"], "svg") == drawn["light"]
        for kind, theme in THEMES.items():
            assert theme.page.encode() in drawn[kind]
            assert theme.colours[0].encode() in drawn[kind]


def test_states_by_tsne_are_drawn_where_there_are_any(analysis: Analysis):
    pytest.importorskip("matplotlib")
    from snn_policy.analysis.page import page
    from snn_policy.analysis.pictures import drawable

    places = np.random.default_rng(0).normal(size=(2, 30, 2))
    with_places = replace(analysis, tsne=(places[0], places[1]))
    assert "tsne" in drawable(with_places)
    assert page(with_places).count("<figure") == page(replace(analysis, tsne=None)).count("<figure") + 1


def test_the_page_holds_all_that_it_needs_and_asks_for_nothing(made: Path):
    page = (made / "why" / "index.html").read_text()
    assert "://" not in page
    assert not re.findall(r"<(?:script|link|iframe|img|object)|@import|src=|url\((?!#)", page)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme:dark" in page
    assert 'name="viewport"' in page
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers)) > 100
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(identifiers)


def test_the_page_escapes_names(made: Path):
    page = (made / "why" / "index.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;&quot;&amp;pole&quot; $x$ [red]" in page


def test_few_decisions_are_counted_beside_their_mean_in_json_page_and_table(
    made: Path, analysis: Analysis, capsys: pytest.CaptureFixture[str]
):
    from snn_policy.commands.analyse import _print

    document = json.loads((made / "why.json").read_text())
    figures = [figure for name in (*SECTIONS, "ablation") if name in document
               for figure in document[name].values() if isinstance(figure, dict)]  # fmt: skip
    assert len(figures) > 50
    assert all(figure["samples"] >= figure["episodes"] for figure in figures)
    assert document["return"]["snn"]["samples"] == 2
    page = (made / "why" / "index.html").read_text()
    assert "SNN (n = 2)" in page
    assert "where fewer than 30" in page
    directions = analysis.directions
    alone = replace(directions, correction=(np.array([np.nan, -0.5, np.nan]), np.array([-0.7, np.nan])))
    _print(replace(analysis, directions=alone), None)
    text = capsys.readouterr().out
    assert "as converted (n = 2)" in text
    assert "where fewer than 30" in " ".join(text.split())


def test_findings_stand_in_a_file_of_their_own_each_with_a_number(made: Path):
    lines = (made / "why" / "findings.txt").read_text().splitlines()
    assert len(lines) >= 6
    assert all(re.search(r"\d", line) for line in lines)
    assert lines == json.loads((made / "why.json").read_text())["findings"]


@pytest.fixture(scope="module")
def drawn(analysis: Analysis) -> tuple[dict[str, bytes], str]:
    """The pictures and the page of the analysis, drawn once: forty pictures take seconds."""
    pytest.importorskip("matplotlib")
    from snn_policy.analysis.page import page
    from snn_policy.analysis.pictures import picture_files

    return picture_files(analysis), page(analysis)


@pytest.mark.parametrize(("step", "calls"), [("fsync", 0), ("fsync", 20), ("page", 0)])
def test_an_analysis_that_cannot_be_written_leaves_the_earlier_one(
    step: str, calls: int, made: Path, analysis: Analysis, drawn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from snn_policy.commands.analyse import _write

    monkeypatch.setattr("snn_policy.analysis.pictures.picture_files", lambda _: dict(drawn[0]))
    monkeypatch.setattr("snn_policy.analysis.page.page", lambda _: drawn[1])
    out = tmp_path / "why"
    shutil.copytree(made / "why", out)
    (out / "tsne_dark.svg").write_bytes(b"a picture of an earlier analysis")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    count = iter(range(1000))

    def stop(*given: Any) -> Any:
        if next(count) >= calls:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr({"fsync": "os.fsync", "page": "snn_policy.analysis.page.page"}[step], stop)
        with pytest.raises(KeyboardInterrupt):
            _write(analysis, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    _write(analysis, out)
    assert (out / "index.html").read_bytes() != before["index.html"]
    assert not (out / "tsne_dark.svg").exists() or analysis.tsne is not None
    assert not list(out.glob("*.partial"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--env", "Nowhere-v1"), "Nowhere"),
        (("--env", "MountainCarContinuous-v0"), "does not fit the policy"),
        (("--episodes", "0"), "episodes"),
        (("--neuron", "snn"), "neuron 'snn'"),
        (("--tolerance", "0.1", "--neuron", "if"), "tolerance"),
        (("--out", "/dev/null/why"), "/dev/null"),
        (("--json", "/nowhere/why.json"), "nowhere"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: tuple[str, ...], named: str, bundle: Path, capsys: pytest.CaptureFixture[str]
):
    assert named in mistake(capsys, str(bundle), *arguments)


class Opaque(Line):
    """The line, whose wind comes from a generator that nobody can look into."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._wind = (0.01 * (-1) ** k for k in range(10**9))

    def step(self, action: Any) -> Any:
        self._place += next(self._wind)
        return super().step(action)


def test_an_environment_whose_state_cannot_be_restored_is_refused_before_anything_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    gym.register("Opaque-v0", Opaque)
    try:
        source = saved(line_actor(), tmp_path / "line")
        for options in ((), ("--timesteps", "4", "--neuron", "if")):
            line = mistake(capsys, str(source), "--env", "Opaque-v0", *options)
            assert "cannot be restored" in line
            assert "get_state" in line
            assert "recording" not in line
    finally:
        del gym.registry["Opaque-v0"]


class InBox2d(Line):
    """The line, in a world of Box2D's, which nobody can look into."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.world = type("b2World", (), {"__module__": "Box2D.Box2D"})()


def test_box2d_is_analysed_by_repeating_episodes_and_the_cost_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = str(saved(line_actor(), tmp_path / "line"))
    gym.register("InBox2d-v0", InBox2d)
    gym.register("Line-v0", lambda **given: Line(**given))
    try:
        with pytest.warns(UserWarning, match=r"InBox2d-v0: .* repeating .* about \d+ (s|min) here"):
            assert main(["analyse", source, "--env", "InBox2d-v0", *QUICK, "--json"]) == 0
        repeated = json.loads(capsys.readouterr().out)
        with warnings.catch_warnings(action="error"):
            assert main(["analyse", source, "--env", "Line-v0", *QUICK, "--json"]) == 0
        plain = json.loads(capsys.readouterr().out)
    finally:
        del gym.registry["InBox2d-v0"], gym.registry["Line-v0"]
    assert (repeated["about"]["restored"], plain["about"]["restored"]) == ("by repetition", "from memory")
    for name in ("consistency", "correction", "decomposition", "drift"):
        assert repeated[name] == plain[name]


@pytest.mark.parametrize("env_id", ["LunarLanderContinuous-v3", "LunarLander-v3"])
def test_lunar_landers_are_analysed_by_their_id(env_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("Box2D")
    head = Head.argmax(4) if env_id == "LunarLander-v3" else Head.bounded([-1.0, -1.0], [1.0, 1.0])
    source = saved(small(8, head, env_id), tmp_path / "lander")
    with pytest.warns(UserWarning, match=f"{env_id}: its states are restored by repeating"):
        assert main(["analyse", str(source), "--env", env_id, "--episodes", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["about"]["restored"] == "by repetition"
    assert document["decomposition"]["ann_in_snn"]["mean"] is not None


def test_without_matplotlib_pictures_are_refused_at_once_and_the_rest_works(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "matplotlib" else find(name, *rest)
    )
    assert "pip install 'snn-policy[report]'" in mistake(capsys, str(bundle), "--out", str(tmp_path / "why"))
    assert not (tmp_path / "why").exists()
    assert main(["analyse", str(bundle), *QUICK, "--json"]) == 0


def test_analyse_leaves_policies_alone_and_says_what_dominates(analysis: Analysis):
    record = analysis.as_dict()
    assert json.loads(json.dumps(record, allow_nan=False)).keys() >= set(SECTIONS)
    assert record["return"]["snn"]["mean"] == pytest.approx(np.mean([t.rewards.sum() for t in analysis.traces]))
    assert any("clipping is the largest" in sentence for sentence in analysis.findings)
    assert analysis.findings == [*analysis.observed, *analysis.advice]
    assert analysis.advice


class Unchanging(Line):
    """The line, seen by nobody: observations never change."""

    def _seen(self) -> Any:
        return np.ones(2, np.float32)


def constant() -> Actor:
    """Push to one side, whatever is seen."""
    hidden = Linear(np.zeros((4, 2), np.float32), np.zeros(4, np.float32), RELU)
    return Actor(
        (hidden, Linear(np.zeros((1, 4), np.float32), np.array([0.25], np.float32))), Head.clip([-1.0], [1.0]), (2,)
    )


@pytest.mark.filterwarnings("ignore:the recording says too little")
@pytest.mark.parametrize(
    ("actor", "made", "options"),
    [
        (constant(), Line, {}),
        (line_actor(), Unchanging, {}),
        (line_actor(), lambda: Line(1), {"neuron": "if", "timesteps": 4}),
        (line_actor(), lambda: Line(7), {"neuron": "if", "timesteps": 4}),
    ],
)
def test_of_what_was_not_measured_nothing_is_told(actor: Actor, made: Any, options: dict[str, Any]):
    pytest.importorskip("matplotlib")
    from snn_policy.analysis.page import page

    policy = convert(actor, np.random.default_rng(0).normal(size=(200, 2)), **options)
    found = analyse(actor, policy, made, episodes=1)
    text = page(found)
    json.dumps(found.as_dict(), allow_nan=False)
    assert all(re.search(r"\d", sentence) for sentence in found.findings)
    for wrong in ("unknown", ">nan", "inf<", "unrelated episodes after"):
        assert wrong not in "\n".join([*found.findings, text])
    assert found.advice[0].startswith("Take more episodes than 1 first") or made is Unchanging  # which rests wrongly


def test_the_same_seed_gives_the_same_figures(analysis: Analysis):
    actor = line_actor()
    policy = convert(actor, actor.collect(Line, steps=200), neuron="if", timesteps=4, alpha=0.0)
    again = analyse(actor, policy, Line, episodes=2, seed=3).as_dict()
    for name in SECTIONS:
        assert again[name] == analysis.as_dict()[name], name


@pytest.mark.parametrize("wrong", [{"episodes": 0}, {"episodes": 1.5}, {"seed": -1}, {"episodes": "many"}])
def test_numbers_that_are_none_are_refused(wrong: dict[str, Any]):
    actor = line_actor()
    policy = convert(actor, np.random.default_rng(0).normal(size=(50, 2)))
    with pytest.raises(ValueError, match=next(iter(wrong))):
        analyse(actor, policy, Line, **wrong)
