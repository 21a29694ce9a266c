"""Every analysis of one conversion, one after the other, and what they found as one record: `analyse`, `Analysis`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from snn_policy.actor import Actor
from snn_policy.analysis.ablated_network import SOURCES, check_ablatable
from snn_policy.analysis.action_sticking import Sticking, sticking
from snn_policy.analysis.environment_state import check_restorable
from snn_policy.analysis.error_directions import Consistency, consistency
from snn_policy.analysis.error_sources import Ablation, ablation
from snn_policy.analysis.error_spectra import SHORTEST, Spectra, spectra
from snn_policy.analysis.estimates import Estimate, estimate
from snn_policy.analysis.findings import KINDS, advice, observed
from snn_policy.analysis.replayed import make_restorable, repetition_seconds
from snn_policy.analysis.residuals import ALPHAS, ResidualCosines, residual_cosines
from snn_policy.analysis.return_decomposition import Decomposition, decomposition
from snn_policy.analysis.state_divergence import Divergence, divergence
from snn_policy.analysis.state_embedding import Embedding, Values, embedding, tsne
from snn_policy.analysis.task_sensitivity import SIZE, Sensitivity, sensitivity
from snn_policy.analysis.traces import Trace, record_traces
from snn_policy.analysis.variants import with_alpha
from snn_policy.analysis.walks import Walks, walk
from snn_policy.checks import require, whole
from snn_policy.environments import EnvironmentSource
from snn_policy.errors import UnsupportedLayerError, warn
from snn_policy.observations import environment_name
from snn_policy.policy import SpikingPolicy
from snn_policy.progress import counting
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from snn_policy.versions import installed_versions

FEW = 4
"""Episodes at most of every α, of every disturbance and of every source of error: their comparisons are in pairs."""
SEED_OF_TRACES = 5000

MEMORY, REPETITION = "from memory", "by repetition"
"""How states are restored, as `about` says it."""
_REPEATED = (
    "{name}: its states are restored by repeating each episode from its reset, or tried in copies of the process where "
    "there are any: exact, and about {time} here for all of them; fewer or shorter episodes take less"
)

PARTS = ("states", "policy", "interaction", "length", "lost")
"""What a loss is made of, as `Decomposition.summary` names it."""

Summary = Mapping[str, Estimate]


@dataclass(frozen=True, eq=False)
class Analysis:
    """Hold what was measured, each as the analysis of its name returned it.

    Attributes:
        about: the actor, the environment, the conversion, episodes and seed, the size of the `disturbance` in
            `sensitivity`, and how states were `restored`: "from memory" or "by repetition" (plain JSON data).
        traces, ann_traces: the SNN's episodes and the ANN's, on the same seeds.
        by_alpha: α → the error's directions and the residuals' of the same conversion with that α.
        spectra: None where all episodes are shorter than 8 decisions.
        embedding, tsne: None where the ANN's observations never change.
        ablation: None where the neurons are not IF under rate coding.
        tsne: places of the ANN's states and the SNN's, (n, 2) each; None where scikit-learn is not installed, too.
    """

    about: Mapping[str, Any]
    traces: list[Trace]
    ann_traces: list[Trace]
    directions: Consistency
    residuals: ResidualCosines
    by_alpha: Mapping[float, tuple[Consistency, ResidualCosines]]
    decomposition: Decomposition
    divergence: Divergence
    sensitivity: Sensitivity
    spectra: Spectra | None
    sticking: Sticking
    embedding: Embedding | None
    ablation: Ablation | None
    tsne: tuple[Values, Values] | None

    @cached_property
    def sections(self) -> Mapping[str, Summary]:
        """Return the summaries by name; the first estimate of each is its main figure."""
        found: dict[str, dict[str, Estimate]] = {"return": self._returns()}
        directions = self.directions.summary
        for name in ("consistency", "correction", "drift"):
            found[name] = {name: directions[name], **_by_alpha(self.by_alpha, 0, name)}
        found["consistency"]["beside_ann"] = directions["beside_ann"]
        found["error"] = {name: directions[name] for name in ("error", "changed")}
        cosines = self.residuals.summary
        if cosines:
            found["residual_cosine"] = {"all": cosines["all"], **_by_alpha(self.by_alpha, 1, "all"), **cosines}
        found["decomposition"] = _first(self.decomposition.summary, *PARTS)
        found["divergence"] = _first(self.divergence.summary, "snn")
        found["sensitivity"] = _first(self.sensitivity.summary, *(f"{kind}@1.0" for kind in KINDS))
        if self.spectra is not None:
            found["spectra"] = self.spectra.summary
        found["sticking"] = self.sticking.summary
        if self.embedding is not None:
            found["embedding"] = self.embedding.summary
        if self.ablation is not None:
            found["ablation"] = _first(self.ablation.summary, *(f"error_{source}" for source in SOURCES),
                                       *(f"gain_{source}" for source in SOURCES))  # fmt: skip
        return found

    @property
    def findings(self) -> list[str]:
        """Return what dominates here and what to change, in sentences with numbers of this analysis."""
        return [*self.observed, *self.advice]

    @property
    def observed(self) -> list[str]:
        """Return the findings without what to change."""
        return observed(self.sections, self.about)

    @property
    def advice(self) -> list[str]:
        """Return what to change: α, the tolerance, the neuron, or nothing."""
        return advice(self.sections, self.about)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data: `about`, `findings`, and every section by its name.

        A section is its main figure, `mean`, `interval` (95 %), `episodes` and `samples` (the values that the mean
        stands on), and the others under their own names.
        """
        record: dict[str, Any] = {"about": dict(self.about), "findings": self.findings}
        for name, summary in self.sections.items():
            others = {key: _recorded(value) for key, value in summary.items()}
            record[name] = {**_recorded(next(iter(summary.values()))), **others}
        record["lags"] = {
            name: {str(lag): _recorded(value) for lag, value in lags.items()}
            for name, lags in self.residuals.by_lag.items()
        }
        return record

    def _returns(self) -> dict[str, Estimate]:
        spiking = [float(trace.rewards.sum()) for trace in self.traces]
        ann = [float(trace.rewards.sum()) for trace in self.ann_traces]
        size = abs(sum(ann) / len(ann)) if ann else 0.0
        found = {"snn": estimate([[value] for value in spiking]), "ann": estimate([[value] for value in ann])}
        if size > 0:
            lost = [[100 * (mine - theirs) / size] for mine, theirs in zip(ann, spiking, strict=True)]
            found["lost"] = estimate(lost)
        return found


def analyse(
    actor: Actor,
    policy: SpikingPolicy,
    env: EnvironmentSource,
    *,
    episodes: int = 10,
    seed: int = SEED_OF_TRACES,
    progress: bool = False,
) -> Analysis:
    """Measure why a conversion loses return, by all analyses; the policies are left as they are.

    Args:
        actor: the ANN that the policy is compared with.
        policy: its conversion.
        env: a Gymnasium id, or a function that makes an environment.
        episodes: of both policies; the dearer comparisons take at most 4 of them per variant.
        seed: of the first episode.
        progress: show bars on stderr.

    Raises:
        ValueError: an environment that does not fit, or whose state cannot be restored exactly; no whole episodes.
    """
    require(whole(episodes, 1, 10_000), f"episodes {episodes!r}: expected a whole number of 1 to 10000")
    require(whole(seed, 0, 2**31 - 1), f"seed {seed!r}: expected a whole number from 0 to {2**31 - 1}")
    name = check_environment(actor, env)
    few = min(episodes, FEW)
    with counting("episodes of SNN and ANN", 2 * episodes, progress) as advance:
        traces = record_traces(policy, actor, env, episodes=episodes, seed=seed, advance=advance)
        ann_traces = record_traces(actor, actor, env, episodes=episodes, seed=seed, advance=advance)
    repeating = _repeating_seconds(actor, policy, env, traces, ann_traces)
    if repeating:
        warn(_REPEATED.format(name=name, time=_duration(repeating)))
    walks = walk(actor, policy, env, episodes, seed, progress=progress)
    about = {**_about(actor, policy, name, episodes, seed), "restored": REPETITION if repeating else MEMORY}
    places = _embedded(actor, ann_traces, traces)
    return Analysis(
        about=about,
        traces=traces,
        ann_traces=ann_traces,
        directions=consistency(actor, policy, env, episodes, seed, walks=walks, progress=progress),
        residuals=residual_cosines(policy, traces),
        by_alpha=_against_alpha(actor, policy, env, traces[:few], walks.first(few), progress),
        decomposition=decomposition(actor, policy, env, episodes, seed, walks=walks, progress=progress),
        divergence=divergence(actor, policy, env, episodes, seed, walks=walks, progress=progress),
        sensitivity=sensitivity(actor, env, few, seed, progress=progress),
        spectra=spectra(traces) if max(len(trace.rewards) for trace in traces) >= SHORTEST else None,
        sticking=sticking(traces),
        embedding=places,
        tsne=tsne(actor, ann_traces, traces) if places is not None and find_spec("sklearn") is not None else None,
        ablation=_ablated(policy, traces[:few], ann_traces[:few], env, seed, progress),
    )


def check_environment(actor: Actor, env: EnvironmentSource) -> str:
    """Return the environment's name.

    Raises:
        ValueError: it cannot be made, does not fit the actor, or its state cannot be restored exactly.
    """
    made = make_restorable(env, actor)
    try:
        check_restorable(made)
        return environment_name(made)
    finally:
        made.close()


def _repeating_seconds(
    actor: Actor, policy: SpikingPolicy, env: EnvironmentSource, traces: list[Trace], ann_traces: list[Trace]
) -> float:
    """Return about how long restoring states takes in all: 0 where they need not be restored by repeating episodes."""
    lengths = [len(trace.rewards) for trace in (*traces, *ann_traces)]
    few = [len(trace.rewards) for pair in zip(traces[:FEW], ann_traces, strict=False) for trace in pair]
    others = sum(_own_alphas(policy) != {alpha} for alpha in ALPHAS)
    return repetition_seconds(env, actor, [*lengths, *few * others])


def _own_alphas(policy: SpikingPolicy) -> set[float]:
    return set(policy.network.neurons.alpha) or {0.0}


def _duration(seconds: float) -> str:
    """Write a time as it is said: "40 s", "3 min", "2.5 h"."""
    if seconds < 90:
        return f"{max(1.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def _against_alpha(
    actor: Actor, policy: SpikingPolicy, env: EnvironmentSource, traces: list[Trace], walks: Walks, progress: bool
) -> dict[float, tuple[Consistency, ResidualCosines]]:
    """Return the figures at every α; those of the policy's own α are of the episodes given, which it has acted in."""
    own, found = _own_alphas(policy), {}
    for alpha in ALPHAS:
        variant, seen, along = policy, traces, walks
        if own != {alpha}:
            variant = with_alpha(policy, alpha)
            along = walk(actor, variant, env, len(traces), walks.seed, progress=progress)
            seen = record_traces(variant, actor, env, episodes=len(traces), seed=walks.seed)
        found[alpha] = consistency(actor, variant, env, walks=along), residual_cosines(variant, seen)
    return found


def _embedded(actor: Actor, ann_traces: list[Trace], traces: list[Trace]) -> Embedding | None:
    try:
        return embedding(actor, ann_traces, traces)
    except ValueError:  # observations that never change
        return None


def _ablated(
    policy: SpikingPolicy,
    traces: list[Trace],
    ann_traces: list[Trace],
    env: EnvironmentSource,
    seed: int,
    progress: bool,
) -> Ablation | None:
    try:
        check_ablatable(policy.network)
    except UnsupportedLayerError:
        return None
    with counting("sources of error", 5, progress) as advance:
        return ablation(policy, traces, ann_traces, env, seed=seed, advance=advance)


def _about(actor: Actor, policy: SpikingPolicy, environment: str, episodes: int, seed: int) -> dict[str, Any]:
    neurons = policy.network.neurons
    return {
        "actor": actor.name,
        "environment": environment,
        "discrete": actor.discrete,
        "neuron": "sigma-delta" if isinstance(neurons, SigmaDeltaNeurons) else neurons.model,
        "timesteps": policy.timesteps,
        "conversion": policy.conversion,
        "episodes": episodes,
        "seed": seed,
        "disturbance": SIZE,
        "versions": installed_versions(),
    }


def _recorded(value: Estimate) -> dict[str, Any]:
    return {**value.as_dict(), "samples": value.samples}


def _by_alpha(found: Mapping[float, tuple[Any, Any]], index: int, name: str) -> dict[str, Estimate]:
    """Return the estimates of that name at every α, as "alpha_0.5"."""
    summaries = {alpha: pair[index].summary for alpha, pair in found.items()}
    return {f"alpha_{alpha:g}": summary[name] for alpha, summary in summaries.items() if name in summary}


def _first(summary: Summary, *names: str) -> dict[str, Estimate]:
    """Return the summary with these figures first, those of them that it has."""
    return {name: summary[name] for name in names if name in summary} | dict(summary)
