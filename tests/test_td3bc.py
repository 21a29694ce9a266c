"""TD3+BC: the published update, to the digit; runs that resume to the bit; checkpoints that survive everything."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_td3bc import PlainTD3BC, network
from safetensors.torch import load_file, save_file

from snn_policy import SourceError, load_actor
from snn_policy.cli import main
from snn_policy.offline import products
from snn_policy.offline.batches import BLOCK_STEPS, PackedData, pack
from snn_policy.offline.checkpoints import (
    CHECKPOINT_FILE,
    RUN_FILE,
    open_run,
    read_checkpoint,
    read_run,
    save_checkpoint,
)
from snn_policy.offline.spiking_actor import SpikingActor
from snn_policy.offline.td3bc import TD3BC, TD3BCSettings
from snn_policy.offline.td3bc_networks import TwinCritics
from snn_policy.offline.trained import read_checkpoint_policy
from snn_policy.offline.training import train_run
from snn_policy.offline.transitions import Transitions
from snn_policy.sources.training_run import read_training_run, run_digest


def small(**given: Any) -> TD3BCSettings:
    return TD3BCSettings(hidden=32, batch_size=16, **given)


def transitions(rows: int = 400, seed: int = 0) -> Transitions:
    """Random transitions of Pendulum's spaces: observations (3,), one action within ±2."""
    rng = np.random.default_rng(seed)
    ends, observations = np.arange(rows) % 100 == 99, rng.normal(size=(rows + 1, 3)).astype(np.float32)
    return Transitions(
        observations[:-1],
        rng.uniform(-2, 2, (rows, 1)).astype(np.float32),
        rng.normal(size=rows).astype(np.float32),
        observations[1:],
        ends,
        np.zeros(rows, np.bool_),
        env_id="Pendulum-v1",
        name="random",
    )


@pytest.fixture(scope="module")
def data() -> PackedData:
    return pack(transitions())


def states(run: TD3BC) -> list[torch.Tensor]:
    return [
        run.actor.values, run.target_actor.values, run.actor_optimiser.mean, run.actor_optimiser.square,
        run.critics.values, run.target_critics.values, run.critic_optimiser.mean, run.critic_optimiser.square,
    ]  # fmt: skip


def same(one: TD3BC, other: TD3BC) -> bool:
    return one.step == other.step and all(map(torch.equal, states(one), states(other)))


def test_states_are_normalised_and_actions_scaled(data: PackedData):
    recorded = transitions()
    assert data.rows.shape == (400, 3 + 1 + 3 + 2)
    np.testing.assert_allclose(data.rows[:, :3].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(data.rows[:, :3].std(0), 1, atol=5e-3)
    np.testing.assert_allclose(data.rows[:, 3], recorded.actions[:, 0] / 2, atol=1e-6)
    np.testing.assert_allclose(data.rows[:, -1], 1 - recorded.terminations)


@pytest.fixture(params=["oneDNN", "torch"])
def multiplied_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose products are used: on this machine's CPU oneDNN's where torch has it, else torch's own."""
    if request.param == "torch":
        monkeypatch.setattr(products, "_ONEDNN", False)


@pytest.mark.usefixtures("multiplied_by")
def test_the_two_critics_in_one_batch_are_two_separate_critics():
    torch.manual_seed(0)
    twins, x, weight = TwinCritics(7, 24), torch.randn(50, 7), torch.randn(2, 50)
    x.requires_grad_()
    (twins(x) * weight).sum().backward()
    gradients_of_x = x.grad
    assert gradients_of_x is not None
    total = torch.zeros_like(x)
    for index in range(2):
        single, own_x = network((7, 24, 24, 1)), x.detach().clone().requires_grad_()
        with torch.no_grad():
            for own, stacked in zip(single.parameters(), twins.parameters(), strict=True):
                mine = stacked[index].squeeze(0)
                own.copy_((mine.mT if mine.ndim == 2 else mine).reshape(own.shape))
        q = single(own_x).squeeze(-1)
        torch.testing.assert_close(twins(x)[index], q, atol=1e-6, rtol=1e-5)
        (q * weight[index]).sum().backward()
        for own, stacked in zip(single.parameters(), twins.parameters(), strict=True):
            assert stacked.grad is not None
            mine = stacked.grad[index].squeeze(0)
            assert own.grad is not None
            torch.testing.assert_close((mine.mT if mine.ndim == 2 else mine).reshape(own.shape), own.grad)
        assert own_x.grad is not None
        total += own_x.grad
        if index == 0:
            torch.testing.assert_close(twins.first(x), q, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gradients_of_x, total)


@pytest.mark.parametrize("order", ["rows", "columns", "gaps", "gaps and columns"])
def test_products_are_those_of_torch_however_a_matrix_lies(order: str):
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn((40, 50), generator=generator)
    lies = {
        "rows": wide[:20].clone(),
        "columns": wide[:20].mT.clone().mT,
        "gaps": wide[::2],
        "gaps and columns": torch.randn((50, 40), generator=generator)[:, ::2].mT,
    }
    b = lies[order]
    a, bias = torch.randn((7, 20), generator=generator), torch.randn(50, generator=generator)
    torch.testing.assert_close(products.product(a, b), a.double() @ b.double(), check_dtype=False)
    torch.testing.assert_close(products.product(b.mT, a.mT), (a @ b).mT)
    torch.testing.assert_close(products.affine(a, b, bias, relu=True), (a @ b + bias).relu())


def test_a_module_multiplied_here_is_the_same_module_of_the_same_numbers() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(network((7, 24, 3)), torch.nn.Linear(3, 2, bias=False), torch.nn.Tanh())
    x, names = torch.randn(50, 7), list(module.state_dict())
    before = module(x)
    gradients = torch.autograd.grad(before.square().sum(), list(module.parameters()))
    assert products.multiplied_here(module) is module
    assert sum(isinstance(layer, products.Linear) for layer in module.modules()) == 2
    assert list(module.state_dict()) == names
    torch.testing.assert_close(module(x), before)
    torch.testing.assert_close(torch.autograd.grad(module(x).square().sum(), list(module.parameters())), gradients)
    torch.testing.assert_close(module(x[0]), before[0])
    torch.testing.assert_close(module(x.view(5, 10, 7)), before.view(5, 10, 2))


def test_a_view_with_gaps_takes_no_hundredfold_time():
    """oneDNN has no fast product for one: 23 ms where 0.03 are needed."""
    rows, g = torch.randn(256, 42), torch.randn(256, 256)
    spent = []
    for b in (rows[:, :17], rows[:, :17].clone()):
        products.product(g, b)
        begin = time.perf_counter()
        for _ in range(20):
            products.product(g, b)
        spent.append(time.perf_counter() - begin)
    assert spent[0] < 20 * spent[1] + 0.1


@pytest.mark.usefixtures("multiplied_by")
@pytest.mark.parametrize("activation", ["relu", "qcfs", "spiking"])
def test_updates_equal_the_plain_implementation(data: PackedData, activation: str):
    run = TD3BC(data, small(activation=activation))
    plain = PlainTD3BC(run)
    for batch in data.batches(*data.draw(0, 0, 16))[:4]:
        run.update(batch)
        plain.update(batch)
    for network_, reference in ((run.actor, plain.actor), (run.target_actor, plain.target_actor)):
        for own, theirs in zip(network_.module.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(own, theirs, atol=1e-5, rtol=1e-5)
    for stacked, critics in ((run.critics, plain.critics), (run.target_critics, plain.target_critics)):
        for index, critic in enumerate(critics):
            for own, theirs in zip(stacked.module.parameters(), critic.parameters(), strict=True):
                mine = own[index].squeeze(0)
                mine = (mine.mT if mine.ndim == 2 else mine).reshape(theirs.shape)
                torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_a_seed_gives_one_run_and_another_seed_another(data: PackedData):
    runs = [TD3BC(data, small(seed=seed)) for seed in (3, 3, 4)]
    for run in runs:
        run.train(5)
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


@pytest.mark.parametrize("activation", ["relu", "qcfs", "spiking"])
def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(data: PackedData, tmp_path: Path, activation: str):
    settings, steps = small(activation=activation, seed=7), BLOCK_STEPS + 13
    whole = train_run(tmp_path / "whole", data, settings, steps, checkpoint_every=1_000)
    for until in (5, 11, BLOCK_STEPS, steps):  # a new object each time, as after a kill
        parts = train_run(tmp_path / "parts", data, settings, until, resume=True, checkpoint_every=4)
    assert same(whole, parts)


def test_a_run_is_not_overwritten_and_another_runs_checkpoint_is_refused(data: PackedData, tmp_path: Path):
    settings = small()
    train_run(tmp_path / "a", data, settings, 2)
    train_run(tmp_path / "b", data, small(seed=1), 2)
    with pytest.raises(ValueError, match="holds a run already; go on with it"):
        train_run(tmp_path / "a", data, settings, 4)
    with pytest.raises(ValueError, match="its setting activation is 'relu', not 'qcfs'"):
        train_run(tmp_path / "a", data, small(activation="qcfs"), 4, resume=True)
    with pytest.raises(ValueError, match="its dataset sha256"):
        train_run(tmp_path / "a", pack(transitions(seed=1)), settings, 4, resume=True)
    (tmp_path / "a" / CHECKPOINT_FILE).write_bytes((tmp_path / "b" / CHECKPOINT_FILE).read_bytes())
    with pytest.raises(SourceError, match="a checkpoint of another run"):
        train_run(tmp_path / "a", data, settings, 4, resume=True)
    with pytest.raises(SourceError, match="a checkpoint of another run"):
        load_actor(tmp_path / "a")


@pytest.mark.parametrize("damage", ["truncated", "missing", "description", "numbers"])
def test_damaged_files_give_one_clear_error(data: PackedData, tmp_path: Path, damage: str):
    run = train_run(tmp_path, data, small(), 2)
    checkpoint = tmp_path / CHECKPOINT_FILE
    if damage == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    elif damage == "missing":
        checkpoint.unlink()
    elif damage == "numbers":
        run.actor.values[0] = torch.nan
        save_checkpoint(run, tmp_path)
    else:
        (tmp_path / RUN_FILE).write_text('{"format": "else"}')
    with pytest.raises(SourceError, match="td3bc.json" if damage == "description" else "checkpoint.safetensors"):
        load_actor(tmp_path)


def test_a_full_disk_leaves_the_last_checkpoint(data: PackedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = small()
    train_run(tmp_path, data, settings, 2)
    before = (tmp_path / CHECKPOINT_FILE).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            train_run(tmp_path, data, settings, 4, resume=True)
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))
    assert train_run(tmp_path, data, settings, 4, resume=True).step == 4


def test_a_kill_while_checkpointing_loses_nothing(data: PackedData, tmp_path: Path):
    settings = small()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from test_td3bc import small, transitions, pack, train_run\n"
        "train_run(Path(sys.argv[2]), pack(transitions()), small(), 10**6, checkpoint_every=1)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)])
    checkpoint = tmp_path / CHECKPOINT_FILE
    deadline = time.monotonic() + 50
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)  # it now does little else than writing checkpoints
    run.send_signal(signal.SIGKILL)
    run.wait()
    resumed = train_run(tmp_path, data, settings, 1, resume=True)
    assert resumed.step >= 1
    save_checkpoint(resumed, tmp_path)
    assert not list(tmp_path.glob("*.partial"))
    fresh = TD3BC(data, settings)
    fresh.train(resumed.step)
    assert same(resumed, fresh)


def test_of_runs_that_begin_at_the_same_time_one_has_the_directory(data: PackedData, tmp_path: Path):
    for trial in range(10):
        directory, together = tmp_path / str(trial), threading.Barrier(3)

        def begin(seed: int, directory: Path = directory, together: threading.Barrier = together) -> int | None:
            together.wait(20)
            try:
                return open_run(directory, data, small(seed=seed), resume=False).settings.seed
            except ValueError as error:
                return None if "holds a run already" in str(error) else -1

        with ThreadPoolExecutor(3) as pool:
            (seed,) = [seed for seed in pool.map(begin, range(3)) if seed is not None]
        assert read_run(directory)["settings"]["seed"] == seed


def test_two_that_go_on_with_one_run_leave_whole_checkpoints_at_any_moment(data: PackedData, tmp_path: Path):
    runs = [train_run(tmp_path, data, small(), steps, resume=True) for steps in (1, 2)]
    ended = threading.Event()

    def write(run: TD3BC) -> None:
        while not ended.is_set():
            save_checkpoint(run, tmp_path)

    with ThreadPoolExecutor(2) as pool:
        writing = [pool.submit(write, run) for run in runs]
        try:
            seen = {read_checkpoint(tmp_path)[2] for _ in range(100)}
        finally:
            ended.set()
        assert [future.result() for future in writing] == [None, None]
    assert seen == {1, 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT_FILE, RUN_FILE]


@pytest.mark.parametrize("activation", ["relu", "qcfs"])
def test_the_actor_of_a_checkpoint_acts_like_the_trained_network(data: PackedData, tmp_path: Path, activation: str):
    run = train_run(tmp_path, data, small(activation=activation), 6)
    actor = load_actor(tmp_path)
    assert actor.env_id == "Pendulum-v1"
    assert actor.normaliser is not None
    assert actor.hidden[0].activation is not None
    assert actor.hidden[0].activation.name == activation
    observations = transitions().observations
    with torch.no_grad():
        expected = 2 * run.actor.module(data.rows[:, :3]).numpy()
    close = np.abs(actor.act(observations) - expected).max(axis=1) < 1e-5
    assert close.mean() > 0.98  # QCFS: a value on a step's edge may round either way
    assert load_actor(tmp_path / CHECKPOINT_FILE, name="mine").name == "mine"


def test_a_run_is_read_without_torch(data: PackedData, tmp_path: Path):
    train_run(tmp_path, data, small(activation="qcfs"), 2)
    program = (
        f"import sys; sys.modules['torch'] = None; from snn_policy import load_actor; "
        f"actor = load_actor({str(tmp_path)!r}); print(actor.widths, actor.hidden[0].activation.name); "
        f"assert not [name for name in sys.modules if name.startswith('snn_policy.offline')]"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "(3, 32, 32) qcfs\n"), done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": 17}, "its settings need"),
        ({"hidden": 0}, "hidden 0"),
        ({"hidden": 10**9}, "hidden 1000000000"),
        ({"hidden": "16"}, "hidden '16'"),
        ({"activation": "qcfs"}, "its settings need"),
        ({"activation": "gelu"}, "gelu"),
    ],
)
def test_settings_that_do_not_fit_the_parameters_are_refused(
    data: PackedData, tmp_path: Path, change: dict[str, Any], message: str
):
    run = train_run(tmp_path, data, small(), 2)
    described = json.loads((tmp_path / RUN_FILE).read_text())
    described["settings"] |= change
    (tmp_path / RUN_FILE).write_text(json.dumps(described))
    tensors = load_file(tmp_path / CHECKPOINT_FILE)
    save_file(tensors, tmp_path / CHECKPOINT_FILE, {"run": run_digest(described), "step": str(run.step)})
    with pytest.raises(SourceError, match=message):
        load_actor(tmp_path)


def test_the_spiking_module_is_the_spiking_policy_it_is_read_as(data: PackedData, tmp_path: Path):
    run = train_run(tmp_path, data, small(activation="spiking", levels=4), 40)
    policy = read_checkpoint_policy(tmp_path)
    assert policy.timesteps == 4
    observations = transitions().observations
    with torch.no_grad():
        expected = 2 * run.actor.module(data.rows[:, :3]).numpy()
    actions = policy.act(observations)
    assert np.mean(np.abs(actions - expected).max(axis=1) < 1e-5) > 0.98  # ties at the threshold
    policy.reset()
    np.testing.assert_array_equal(policy.act(observations), actions)
    policy.act(observations)
    np.testing.assert_array_equal(policy.act(observations), actions)  # nothing is carried over
    with pytest.raises(SourceError, match="directly trained spiking actor"):
        load_actor(tmp_path)
    train_run(tmp_path / "ann", data, small(), 1)
    with pytest.raises(SourceError, match="no spiking actor"):
        read_checkpoint_policy(tmp_path / "ann")


def test_the_spiking_actors_gradients_reach_weights_and_thresholds():
    torch.manual_seed(0)
    module = SpikingActor((3, 16, 16, 2), 4)
    module(torch.randn(64, 3)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_settings_that_make_no_sense_are_named():
    settings: tuple[dict[str, Any], ...] = ({"activation": "gelu"}, {"levels": 0}, {"seed": -1}, {"learning_rate": 0.0})
    for wrong in settings:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TD3BCSettings(**wrong)


def test_training_that_diverges_stops_before_its_checkpoint(data: PackedData, tmp_path: Path):
    with pytest.raises(ValueError, match="training diverged before step 4"):
        train_run(tmp_path, data, small(learning_rate=1e30), 4)
    assert not (tmp_path / CHECKPOINT_FILE).exists()


def test_the_command_trains_resumes_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from snn_policy.offline.datasets import save_dataset

    dataset, out = tmp_path / "random", tmp_path / "run"
    save_dataset(transitions(), dataset)
    command = ["train", "td3bc", str(dataset), "--activation", "qcfs", "--out", str(out)]
    assert main([*command, "--steps", "3", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 3
    assert main([*command, "--steps", "5"]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main([*command, "--steps", "5", "--resume"]) == 0
    assert "5 gradient steps" in capsys.readouterr().out
    assert read_training_run(out).hidden[0].activation is not None
    assert main([*command, "--seed", "1", "--resume"]) == 2
    assert capsys.readouterr().err.count("\n") <= 2
