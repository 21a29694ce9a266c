"""What a student is worth: its conversion's return, paired with the teacher's, and its energy.

Episodes are run until the verdict is clear, at most `MOST_EPISODES`: the student fails as soon as its mean retention is
below the wanted one by two standard errors, and passes when it is above by one, but not before `FEWEST_TO_PASS`: a
student that falls in 3 % of its episodes shows no fall in twenty every other time, and then a small error, too. Where
pictures have to be drawn, both are `PICTURES_SHARE` of that. Energy is what these episodes spent; it counts the weights
that are left (docs/methods.md §8).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from snn_policy.actor import Actor
from snn_policy.ann.convolution import Conv2d
from snn_policy.calibration.encode_sequence import encode_sequence
from snn_policy.calibration.open_loop import BLOCK_VALUES
from snn_policy.calibration.recordings import pieces
from snn_policy.energy import nanojoules
from snn_policy.environments import EnvironmentSource
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.evaluation.statistics import failed_share
from snn_policy.policy import SpikingPolicy
from snn_policy.protocol import FloatArray
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from snn_policy.spiking.settings import DEFAULT_TOLERANCE

EPISODES, FEWEST_TO_PASS, MOST_EPISODES = 10, 80, 100
PICTURES_SHARE = 0.4
MORE_FAILURES = 0.02
EPISODES_ONLY = ("standard_error", "failed", "teacher_failed")
"""Of a verdict: what episodes alone tell."""
ENERGY_SLACK = 1.01
"""The energies of two sets of episodes differ by as much."""


@dataclass(frozen=True)
class Verdict:
    """Hold how a converted student did beside its teacher, on the same episodes.

    Attributes:
        retention: of the mean return; `standard_error`: over the pairs.
        failed, teacher_failed: shares of episodes below the teacher's median by more than 20 % of it.
        energy: as a share of the dense teacher's.
        tolerance: of the conversion that was judged.
        error: RMS of the student's action error on the states of that conversion, in the actions' units
            (`ActionError`); None in checkpoints of earlier releases.
    """

    energy: float
    retention: float | None = None
    standard_error: float = 0.0
    failed: float = 0.0
    teacher_failed: float = 0.0
    episodes: int = 0
    tolerance: float = DEFAULT_TOLERANCE
    error: float | None = None

    @property
    def lower_bound(self) -> float:
        """Return the retention less its standard error: a rare fall lowers both, a lucky short trial neither."""
        return 0.0 if self.retention is None else self.retention - self.standard_error

    def passes(self, wanted: float) -> bool:
        """Return whether so much of the return is kept, and no more episodes fail."""
        kept = self.retention is not None and self.retention >= wanted
        return kept and self.failed <= self.teacher_failed + MORE_FAILURES

    def surely_loses(self, wanted: float) -> bool:
        """Return whether less than the wanted share of the return is kept, beyond two standard errors."""
        return self.retention is not None and self.retention + 2 * self.standard_error < wanted

    def needs_at_most(self, energy: float) -> bool:
        """Return whether the energy is at most so large a share, within a hundredth of it."""
        return self.energy <= ENERGY_SLACK * energy

    def __str__(self) -> str:
        judged = f", {self.retention or 0:.3f} ± {self.standard_error:.3f} of the return in {self.episodes} episodes"
        return f"energy {self.energy:.3g}{'' if self.retention is None else judged}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, None for what no episodes told."""
        return asdict(self) | ({} if self.episodes else dict.fromkeys(EPISODES_ONLY))


class Judge:
    """Run teacher and students on the same seeds; the teacher's episodes only once.

    Args:
        share: of the episodes that the module's constants set.
    """

    def __init__(self, teacher: Actor, env: EnvironmentSource, seed: int, share: float = 1.0) -> None:
        self.teacher, self.env, self.seed, self.share = teacher, env, seed, share
        self._returns: list[float] = []

    def verdict(self, policy: SpikingPolicy, wanted: float) -> Verdict:
        """Run episodes until it is clear whether the policy keeps the wanted share of the return."""
        returns: list[float] = []
        spent, decisions = 0.0, 0
        while True:
            seed = self.seed + len(returns)
            if len(self._returns) == len(returns):
                self._returns += evaluate(self.teacher, self.env, episodes=EPISODES, seed=seed).returns
            found = evaluate(policy, self.env, episodes=EPISODES, seed=seed)
            returns += found.returns
            spent += found.synaptic_operations * sum(found.lengths)
            decisions += sum(found.lengths)
            energy = _share(spent / decisions, self.teacher)
            verdict = _paired(np.array(self._returns[: len(returns)]), np.array(returns), energy)
            assert verdict.retention is not None
            above = (verdict.retention - wanted) / max(verdict.standard_error, 1e-9)
            fewest, most = self.share * FEWEST_TO_PASS, self.share * MOST_EPISODES
            failed, passed = above <= -2 and len(returns) > EPISODES, above >= 1 and len(returns) >= fewest
            if failed or passed or len(returns) >= most:
                return verdict


def _paired(teacher: np.ndarray, student: np.ndarray, energy: float) -> Verdict:
    size = max(abs(float(teacher.mean())), 1e-12)
    kept = 1 + (student - teacher) / size
    return Verdict(
        energy,
        float(kept.mean()),
        float(kept.std() / np.sqrt(len(kept))),
        failed_share(student, teacher),
        failed_share(teacher, teacher),
        len(kept),
    )


def energy_share(policy: SpikingPolicy, teacher: Actor, observations: FloatArray) -> float:
    """Return a sigma-delta policy's energy per decision, as a share of the dense teacher's.

    Open loop, on consecutive observations (N, *shape); pruned weights cost nothing.
    """
    return _share(synaptic_operations(policy, observations), teacher)


def _share(spent: float, teacher: Actor) -> float:
    return float(nanojoules(0, spent) / nanojoules(teacher.dense_macs, 0))


def synaptic_operations(policy: SpikingPolicy, observations: FloatArray) -> float:
    """Return spikes times the weights that are left, per decision.

    Open loop from a fresh state, with memories and residuals as the policy has them.
    """
    neurons, actor, total = policy.network.neurons, policy.actor, 0.0
    assert isinstance(neurons, SigmaDeltaNeurons)
    alpha = neurons.alpha or (0.0,) * len(actor.layers)
    h = actor.inputs(observations.astype(np.float32, copy=False)) - neurons.offset
    for stage, layer in enumerate(actor.layers):
        following, spikes = np.empty((len(h), layer.outputs), np.float32), np.zeros(h.shape[1], np.int64)
        memory, residual = np.zeros((2, h.shape[1]), np.float32)
        images = isinstance(layer, Conv2d)
        for rows in pieces(h, most=BLOCK_VALUES) if images else [slice(None)]:
            values = np.ascontiguousarray(h[rows])
            sent = np.empty_like(values)
            encode_sequence(
                values, neurons.quanta[stage], neurons.predictor[stage], memory, neurons.digits[stage],
                neurons.powers, sent, spikes, alpha[stage], residual if neurons.carries else None,
            )  # fmt: skip
            z = layer.batched(sent + neurons.offset if stage == 0 else sent)
            following[rows] = z if layer.activation is None else layer.activation(z)
        total += float(spikes @ layer.fan_out) / len(h)
        h = following
    return total
