"""Settings of the neurons, as data: `SigmaDelta`, `IF`, `SNM`, `MT`. `convert` is asked for them; bundles store them.

They are frozen and check themselves. What depends on an actor (one number per layer, T = L) is settled by `settled`.
Equations: docs/methods.md §1 to §6.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from snn_policy.checks import number, require, whole
from snn_policy.spiking.crpi import DEFAULT_ALPHA, ResidualRule, default_clip
from snn_policy.spiking.spike_calibration import SpikeCalibration

Coding = Literal["rate", "differential"]
Predictor = Literal["auto", 0, 1]
DEFAULT_TOLERANCE, DEFAULT_TIMESTEPS, DEFAULT_BASE = 0.02, 8, 2.0
DEFAULT_SIGMA_DELTA_ALPHA = 0.5
MOST_TIMESTEPS, MOST_LEVELS, MOST_DIGITS = 4096, 32, 64
PILOT = "pilot"
"""Left to a trial in the actor's environment (`snn_policy.calibration.pilots`)."""
PER_LAYER, TRAINED = "given", "trained"
"""How a record names thresholds that were given as arrays, and those that a QCFS actor brings."""
RULES = ("mse", "max", PER_LAYER, TRAINED)


@dataclass(frozen=True, eq=False)
class SigmaDelta:
    """Choose sigma-delta neurons: any activation, any head (this project's own; docs/methods.md §1).

    Attributes:
        tolerance: RMS action error on the recorded observations, as a share of the action's half-range, in (0, 1];
            None for 0.02 (of compressed actors: what they were made for), or where `threshold` is given; "pilot": the
            largest that keeps the return in the actor's environment.
        threshold: the quanta instead of a tolerance: one array (neurons,) per stage, the observation first.
        digits: D, most spikes per neuron and decision: one number or one per stage; None for (6, 4, …, 4, 6).
        base: β of the spikes' sizes ±q·βⁱ, 1.1 to 16.
        predictor: γ: "auto" chooses 0 or 1 per neuron by its spikes on the recording; give 0 or 1 where the
            observations are not consecutive.
        alpha: share of the residual carried to the next decision, 0 to 1: one number or one per stage. The residual is
            what a neuron owes in a decision in which it sends nothing. 0 carries none, and needs no memory of it.
            "pilot" tries 0, 0.5 and 1 in the actor's environment.
    """

    neuron: ClassVar[str] = "sigma-delta"
    tolerance: float | str | None = None
    threshold: Sequence[npt.ArrayLike] | None = None
    digits: int | Sequence[int] | None = None
    base: float = DEFAULT_BASE
    predictor: Predictor = "auto"
    alpha: float | Sequence[float] | str = DEFAULT_SIGMA_DELTA_ALPHA

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", _plain(self.alpha))
        if isinstance(self.alpha, str):
            wanted = "expected 0 to 1, one number or one per stage, or 'pilot'"
            require(self.alpha == PILOT, f"alpha {self.alpha!r}: {wanted}")
        else:
            self.alpha_of(np.size(self.alpha))
        require(1.1 <= number("base", self.base) <= 16, f"base {self.base!r}: expected 1.1 to 16")
        known = self.predictor in ("auto", 0, 1) and not isinstance(self.predictor, bool)
        require(known, f"predictor {self.predictor!r}: expected 'auto', 0 or 1")
        if self.threshold is None:
            tolerance = self.wanted_tolerance
            named = isinstance(tolerance, str)
            in_range = tolerance == PILOT if named else 0 < number("tolerance", tolerance) <= 1
            wanted = "expected a share of the action's half-range in (0, 1], or 'pilot'"
            require(in_range, f"tolerance {tolerance!r}: {wanted}")
        else:
            alone = self.tolerance is None
            require(alone, "threshold, tolerance: explicit quanta and a tolerance exclude each other; give one")
            rule = f"threshold {self.threshold!r}: sigma-delta takes quanta, one array per stage, or a tolerance"
            require(not isinstance(self.threshold, str), rule)
        self.digits_of(1 if self.digits is None else np.size(self.digits))

    @property
    def wanted_tolerance(self) -> float | str | None:
        """Return the tolerance in force; None where the quanta are given."""
        return DEFAULT_TOLERANCE if self.tolerance is None and self.threshold is None else self.tolerance

    def digits_of(self, stages: int) -> tuple[int, ...]:
        """Return D of every stage.

        Raises:
            ValueError: digits for another number of stages, or out of range.
        """
        if self.digits is None:
            return tuple(6 if stage in (0, stages - 1) else 4 for stage in range(stages))
        per_stage = _one_per("digits", self.digits, stages, f"stage ({stages})", f"1 to {MOST_DIGITS}")
        fits = all(whole(count, 1, MOST_DIGITS) for count in per_stage)
        require(fits, f"digits {self.digits!r}: expected 1 to {MOST_DIGITS}, one number or one per stage ({stages})")
        return tuple(int(count) for count in per_stage)

    def alpha_of(self, stages: int) -> tuple[float, ...]:
        """Return α of every stage.

        Raises:
            ValueError: shares for another number of stages, or out of range.
        """
        per_stage = _one_per("alpha", self.alpha, stages, f"stage ({stages})", "0 to 1")
        fits = all(0 <= number("alpha", share) <= 1 for share in per_stage)
        require(fits, f"alpha {self.alpha!r}: expected 0 to 1, one number or one per stage")
        return tuple(float(share) for share in per_stage)

    def settled(self, stages: int) -> "SigmaDelta":
        """Return the settings in force for that many stages.

        Raises:
            ValueError: digits or shares for another number of stages; a tolerance or α that a pilot has yet to choose.
        """
        require(self.tolerance != PILOT, "tolerance 'pilot': not chosen yet")
        require(self.alpha != PILOT, "alpha 'pilot': not chosen yet")
        digits, alpha = self.digits_of(stages), self.alpha_of(stages)
        return replace(self, tolerance=self.wanted_tolerance, digits=digits, alpha=alpha)


@dataclass(frozen=True, eq=False)
class MembraneSettings:
    """Hold what IF, SNM and MT neurons have in common.

    Attributes:
        coding: "rate" or "differential" (Huang et al.).
        timesteps: T per decision; None for 8, or L of a QCFS actor.
        threshold: "mse", "max", "percentile:99.9", or one array (neurons,) per hidden layer. None for "mse", or λ of
            a QCFS actor.
        alpha: CRPI's share of the residual carried on (Xu et al., arXiv 2601.21778), 0 to 1: one number, one per
            hidden layer, or "pilot", which tries 0.3 and 0.8 on the actor's environment. 0 resets every decision.
        alpha_clip: c, the bound of the carried charge in thresholds, 0 to 1; None for 1/2, with MT and differential
            coding 1/16.
        residual: "bounded" or "plain" (see `snn_policy.spiking.crpi`).
    """

    neuron: ClassVar[str] = ""
    coding: Coding = "rate"
    timesteps: int | None = None
    threshold: str | Sequence[npt.ArrayLike] | None = None
    alpha: float | Sequence[float] | str = DEFAULT_ALPHA
    alpha_clip: float | None = None
    residual: ResidualRule = "bounded"

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", _plain(self.alpha))
        require(self.coding in get_args(Coding), f"coding {self.coding!r}: expected rate or differential")
        require(self.residual in ("bounded", "plain"), f"residual {self.residual!r}: expected bounded or plain")
        steps = self.timesteps
        fits = steps is None or whole(steps, 1, MOST_TIMESTEPS)
        require(fits, f"timesteps {steps!r}: expected a whole number from 1 to {MOST_TIMESTEPS}")
        if isinstance(self.threshold, str):
            threshold_rule(self.threshold)
        if isinstance(self.alpha, str):
            named = self.alpha == PILOT
            require(named, f"alpha {self.alpha!r}: expected a number, one per hidden layer, or 'pilot'")
        else:
            shares = [number("alpha", share) for share in np.atleast_1d(np.asarray(self.alpha, object))]
            require(all(0 <= share <= 1 for share in shares), f"alpha {self.alpha!r}: expected 0 to 1")
        require(0 <= number("alpha_clip", self.clip) <= 1, f"alpha_clip {self.alpha_clip!r}: expected 0 to 1")

    @property
    def clip(self) -> float:
        """Return c in force."""
        return default_clip(self.neuron, self.coding) if self.alpha_clip is None else self.alpha_clip

    def settled(self, layers: int, timesteps: int = DEFAULT_TIMESTEPS) -> "MembraneSettings":
        """Return the settings in force for that many hidden layers; `timesteps` where none are given.

        Raises:
            ValueError: alpha for another number of layers, or not chosen yet.
        """
        require(self.alpha != PILOT, "alpha 'pilot': not chosen yet")
        alpha = _one_per("alpha", self.alpha, layers, f"hidden layer ({layers})", "numbers")
        return replace(
            self,
            alpha=tuple(number("alpha", share) for share in alpha),
            timesteps=timesteps if self.timesteps is None else int(self.timesteps),
            alpha_clip=float(self.clip),
            threshold=self.threshold if isinstance(self.threshold, str | None) else PER_LAYER,
        )


@dataclass(frozen=True, eq=False)
class IF(MembraneSettings):
    """Choose integrate-and-fire neurons with soft reset, as in CRPI; they stand for ReLU, under rate coding QCFS too.

    Attributes:
        calibration: spike calibration before each layer's T steps, under rate coding only.
    """

    neuron: ClassVar[str] = "if"
    calibration: SpikeCalibration | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.calibration is None or self.coding == "rate"
        require(fits, "calibration: of 'if' neurons with 'rate' coding only")
        known = self.calibration is None or isinstance(self.calibration, SpikeCalibration)
        require(known, f"calibration {self.calibration!r}: expected a SpikeCalibration")


@dataclass(frozen=True, eq=False)
class SNM(MembraneSettings):
    """Choose signed neurons with memory (Wang et al. 2022): they stand for ReLU."""

    neuron: ClassVar[str] = "snm"


@dataclass(frozen=True, eq=False)
class MT(MembraneSettings):
    """Choose multi-threshold neurons (Huang et al.): they stand for ReLU.

    Attributes:
        levels: n; thresholds are θ·2⁻ⁱ, i = 0 … n − 1.
    """

    neuron: ClassVar[str] = "mt"
    levels: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = whole(self.levels, 1, MOST_LEVELS)
        require(fits, f"levels {self.levels!r}: expected a whole number from 1 to {MOST_LEVELS}")


def threshold_rule(rule: str) -> tuple[str, float]:
    """Return what a threshold's text stands for: "mse", "max" or "percentile", and the percentile in (0, 100].

    Raises:
        ValueError: another text.
    """
    name, _, argument = rule.partition(":")
    if name == "percentile":
        try:
            percentile = float(argument)
        except ValueError:
            percentile = float("nan")
        fits = 0 < percentile <= 100
        require(fits, f"threshold {rule!r}: expected a percentile in (0, 100], such as 'percentile:99.9'")
        return name, percentile
    require(rule in RULES, f"threshold {rule!r}: expected 'max', 'percentile:99.9', 'mse' or one array per layer")
    return name, 100.0


NeuronSettings = SigmaDelta | IF | SNM | MT
KINDS: dict[str, type[Any]] = {kind.neuron: kind for kind in (SigmaDelta, IF, SNM, MT)}
NEURONS = tuple(KINDS)


def settings_of(neuron: Any, **arguments: Any) -> NeuronSettings:
    """Return the settings that a name and keyword arguments stand for; arguments that are None were not given.

    Raises:
        ValueError: an unknown name, an argument that this neuron does not take, or one beside a settings object.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    if isinstance(neuron, SigmaDelta | MembraneSettings):
        if given:
            raise ValueError(f"{', '.join(given)}: given beside {type(neuron).__name__}(…); put it into these settings")
        return neuron  # pyright: ignore[reportReturnType]
    kind = KINDS.get(neuron) if isinstance(neuron, str) else None
    if kind is None:
        raise ValueError(f"neuron {neuron!r}: expected one of {', '.join(NEURONS)}, or SigmaDelta, IF, SNM or MT")
    foreign = sorted(given.keys() - {field.name for field in fields(kind)})
    if foreign:
        raise ValueError(f"{', '.join(foreign)}: not an argument of the {neuron!r} neuron; leave it out")
    return kind(**given)


def as_record(settings: NeuronSettings) -> dict[str, Any]:
    """Return the settings as plain JSON data, `neuron` first; thresholds given as arrays by the word "given"."""
    record = {
        field.name: _plain(getattr(settings, field.name)) for field in fields(settings) if field.name != "threshold"
    }
    calibration = record.get("calibration")
    if calibration is not None:
        record["calibration"] = asdict(calibration)
    rule = settings.threshold
    return {"neuron": settings.neuron, **record, "threshold": rule if isinstance(rule, str | None) else PER_LAYER}


def _plain(value: Any) -> Any:
    """Return NumPy's numbers as Python's, and sequences as tuples of them."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return tuple(_plain(item) for item in value) if isinstance(value, list | tuple) else value


def membrane_from_record(neuron: str, record: dict[str, Any]) -> IF | SNM | MT:
    """Return settled settings from a bundle's record, which may have the fields of all membrane neurons, but no others.

    Raises:
        ValueError, TypeError: values out of range, or of another kind.
    """
    kind = KINDS.get(neuron)
    if kind is None or kind is SigmaDelta:
        raise ValueError(f"neuron {neuron!r}: expected if, snm or mt")
    unknown = record.keys() - {field.name for some in (IF, SNM, MT) for field in fields(some)}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))}: no setting of {neuron!r} neurons")
    known = {field.name: record[field.name] for field in fields(kind) if field.name in record}
    if known.get("calibration") is not None:
        known["calibration"] = SpikeCalibration(**known["calibration"])
    if record.get("calibration") is not None and "calibration" not in known:
        raise ValueError("calibration: of 'if' neurons with 'rate' coding only")
    known["alpha"] = tuple(float(share) for share in record["alpha"])
    return kind(**known)


def _one_per(name: str, given: Any, count: int, place: str, expected: str) -> list[Any]:
    values = [given] * count if np.ndim(given) == 0 else list(given)
    require(len(values) == count, f"{name} {given!r}: expected {expected}, one number or one per {place}")
    return values
