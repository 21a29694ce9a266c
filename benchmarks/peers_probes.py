"""Ask each converter what it does with a module that actors have, and each network what a forgotten reset does.

Every probe is a small random network. What comes out is compared with the module's own output at a T so large that a
faithful conversion has no error left to speak of.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.peers_cells import ACTORS, CRPI, GAP_AT, PER_CHANNEL, SCALED, SIGMA_DELTA, Cell
from benchmarks.peers_networks import RECIPES, SinabsNetwork, SpikingJellyNetwork
from benchmarks.peers_returns import Subject, policy, subject
from benchmarks.torch_baselines import TorchPolicy
from snn_policy import IF, SigmaDelta, convert, load_actor
from snn_policy.protocol import FloatArray
from snn_policy.spiking.settings import NeuronSettings

INPUTS, OUTPUTS, WIDTH = 6, 3, 32
PROBE_TIMESTEPS, PROBE_ROWS = 512, 400
GAP_ROWS = 40
"""Episodes side by side."""
ANEW, INHERITED = "acts, from fresh membranes", "acts, with membranes of the rows before"
Found = dict[str, Any]


class Hidden(nn.Module):
    """Hold two hidden layers and a linear output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.last = nn.Linear(WIDTH, OUTPUTS)


class Called(Hidden):
    """Call ReLU as a function."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(functional.relu(self.second(functional.relu(self.first(x)))))


class Shared(Hidden):
    """Use one `nn.ReLU` twice."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.relu(self.second(self.relu(self.first(x)))))


class Residual(Hidden):
    """Add a layer's input to its output."""

    def __init__(self) -> None:
        super().__init__()
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.relu1(self.first(x))
        return self.last(h + self.relu2(self.second(h)))


Maker = Callable[[], nn.Module]


def chain(activation: Maker, *after: nn.Module, norm: Maker | None = None) -> nn.Module:
    """Return two hidden layers with that activation, behind a normalisation if there is one, and a linear output."""
    hidden = [[nn.Linear(n, WIDTH), *([norm()] if norm else []), activation()] for n in (INPUTS, WIDTH)]
    return nn.Sequential(*hidden[0], *hidden[1], nn.Linear(WIDTH, OUTPUTS), *after)


def batch_norm() -> nn.Module:
    """Return a BatchNorm with statistics as of training."""
    norm = nn.BatchNorm1d(WIDTH)
    with torch.no_grad():
        norm.running_mean.normal_()  # pyright: ignore[reportOptionalMemberAccess]
        norm.running_var.uniform_(0.5, 2)  # pyright: ignore[reportOptionalMemberAccess]
    return norm


PROBES: dict[str, Maker] = {
    "`nn.ReLU` modules": lambda: chain(nn.ReLU),
    "one `nn.ReLU`, used twice": Shared,
    "`functional.relu` in `forward`": Called,
    "`nn.Tanh`": lambda: chain(nn.Tanh),
    "`nn.SiLU` (swish)": lambda: chain(nn.SiLU),
    "`nn.LeakyReLU`": lambda: chain(nn.LeakyReLU),
    "`nn.BatchNorm1d`, ReLU": lambda: chain(nn.ReLU, norm=batch_norm),
    "`nn.LayerNorm`, ReLU": lambda: chain(nn.ReLU, norm=lambda: nn.LayerNorm(WIDTH)),
    "residual connection, ReLU": Residual,
    "ReLU, and a `nn.Tanh` head": lambda: chain(nn.ReLU, nn.Tanh()),
}
"""Modules by their name in the table; each has two hidden activations."""


def accepts(effort: Mapping[str, Any]) -> Found:
    """Return what becomes of every probe, by converter: its outcome, or the error that it raised.

    Also what sinabs' `normalize_weights` alone changes in actors with biases, see `changed_by_normalising`.
    """
    found = []
    for name, make in PROBES.items():
        torch.manual_seed(0)
        module = make().eval()
        inputs = torch.randn(2_000, INPUTS)
        with torch.no_grad():
            expected = module(inputs[:PROBE_ROWS]).numpy()
        outcomes = {}
        for converter, run in CONVERTERS.items():
            try:
                spiking, got = run(module, inputs)
            except Exception as refusal:  # whatever a library raises is what it says
                outcomes[converter] = {"refused": f"{type(refusal).__name__}: {str(refusal).splitlines()[0]}"[:160]}
            else:
                error = float(np.abs(got - expected).mean() / expected.std())
                outcomes[converter] = {"spiking": spiking, "error": round(error, 4)}
        found.append({"probe": name, "outcomes": outcomes})
    subjects = [subject(name, effort["recorded"]) for name in effort["actors"] or ACTORS[:2]]
    return {"probes": found, "normalising": {of.name: round(changed_by_normalising(of), 4) for of in subjects}}


def changed_by_normalising(of: Subject) -> float:
    """Return how far sinabs' `normalize_weights` moves the ANN's own actions: mean distance, in half-ranges.

    Its factors are taken out again in the last layer, so that nothing is left but what it does to later layers' biases.
    """
    utils: Any = import_module("sinabs.utils")
    modules, inputs = of.modules, of.inputs
    hidden = [name for name, module in modules.named_children() if isinstance(module, nn.Linear)][:-1]
    before = [modules[int(name)].weight.detach().clone() for name in hidden]
    utils.normalize_weights(modules, inputs, [str(int(name) + 1) for name in hidden], hidden)
    with torch.no_grad():
        for name, weight in zip(hidden, before, strict=True):
            place = torch.unravel_index(weight.abs().argmax(), weight.shape)
            modules[-1].weight *= weight[place] / modules[int(name)].weight[place]
    actions = TorchPolicy(of.actor, modules).act_rows(of.observations)
    half_range = (of.actor.high - of.actor.low) / 2
    return float((np.abs(actions - of.actor.act(of.observations)) / half_range).mean())


def _spikingjelly(module: nn.Module, inputs: torch.Tensor) -> tuple[int, Any]:
    network = SpikingJellyNetwork(RECIPES["99.9% per channel"], module, inputs, PROBE_TIMESTEPS)
    with torch.inference_mode():
        return len(network.neurons), network(inputs[:PROBE_ROWS]).numpy()


def _sinabs(module: nn.Module, inputs: torch.Tensor) -> tuple[int, Any]:
    network = SinabsNetwork(module, PROBE_TIMESTEPS)
    with torch.inference_mode():
        return len(network.neurons), network(inputs[:PROBE_ROWS]).numpy()


def _ours(neuron: NeuronSettings) -> Callable[[nn.Module, torch.Tensor], tuple[int, Any]]:
    def run(module: nn.Module, inputs: torch.Tensor) -> tuple[int, Any]:
        with torch.no_grad():
            bounds = 1.5 * module(inputs).abs().amax(0).numpy()
        actor = load_actor(module, observation_shape=(INPUTS,), low=-bounds, high=bounds)
        converted = convert(actor, inputs.numpy(), neuron=neuron)
        actions = np.stack([converted.act(row) for row in inputs[:PROBE_ROWS].numpy()])
        return len(set(converted.layer_names) - {"observation"}), actions

    return run


OURS_SIGMA_DELTA, OURS_IF = "ours, sigma-delta", "ours, IF"
CONVERTERS: dict[str, Callable[[nn.Module, torch.Tensor], tuple[int, Any]]] = {
    "SpikingJelly": _spikingjelly,
    "sinabs": _sinabs,
    OURS_SIGMA_DELTA: _ours(SigmaDelta(tolerance=0.002)),
    OURS_IF: _ours(IF(timesteps=PROBE_TIMESTEPS)),
}


def state(effort: Mapping[str, Any]) -> list[Found]:
    """Return, for every network at T = 16, what is left of an episode in the next one where nobody resets.

    `gap`: by the decision of the second episode, the mean distance between its action after a forgotten reset and its
    action after a reset, in half-ranges of the action. `batch`: what a batch of another size gives without a reset.
    """
    of = subject((effort["actors"] or ACTORS)[0], effort["recorded"])
    found = []
    for cell in (Cell(PER_CHANNEL, 16, True), Cell(SCALED, 16, True), Cell(CRPI, 16), Cell(SIGMA_DELTA)):
        acting = policy(of, cell)
        gap = forgotten(acting, of.observations, (of.actor.high - of.actor.low) / 2)
        found.append({"peer": cell.peer, "gap": [round(value, 5) for value in gap], "batch": another_batch(acting, of)})
    return found


def forgotten(acting: Any, observations: FloatArray, half_range: Any) -> list[float]:
    """Return the gap at each of `GAP_AT`: between actions after a forgotten reset and after a reset, in half-ranges."""
    steps = max(GAP_AT) + 1
    starts = np.arange(GAP_ROWS) * (len(observations) // (2 * GAP_ROWS))
    episodes = [[observations[begin + starts + step] for step in range(steps)] for begin in (0, len(observations) // 2)]
    acting.reset()
    fresh = [acting.act(obs) for obs in episodes[1]]
    acting.reset()
    for obs in episodes[0]:
        acting.act(obs)
    left = [acting.act(obs) for obs in episodes[1]]
    return [float((np.abs(left[step] - fresh[step]) / half_range).mean()) for step in GAP_AT]


def another_batch(acting: Any, of: Subject) -> str:
    """Return what comes of 3 rows after 5 where nobody resets: an error, or whose membranes act."""
    acting.reset()
    fresh = acting.act(of.observations[10:13])
    acting.reset()
    for obs in of.observations[:50].reshape(10, 5, -1):
        acting.act(obs)
    try:
        actions = acting.act(of.observations[10:13])
    except Exception as refusal:  # whatever a library raises is what it says
        return f"{type(refusal).__name__}: {str(refusal).splitlines()[0]}"[:160]
    return ANEW if np.array_equal(actions, fresh) else INHERITED
