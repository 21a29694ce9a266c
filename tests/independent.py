"""The spiking networks a second time, from the equations of methods.md alone: time outside, layers inside.

Shares nothing with the package but the actor's weights and head. The tests hold the two together. One observation, or
a batch of rows that know nothing of each other.
"""

from typing import Any

import numpy as np

F = np.float32


def rows_of(actor: Any, obs: Any) -> Any:
    return np.asarray(obs, F).reshape(-1, *actor.observation_shape)


def like(actor: Any, actions: Any, obs: Any) -> Any:
    """The actions of rows, or of one observation."""
    return actions if np.ndim(obs) > len(actor.observation_shape) else actions[0]


def _fire(model: str, levels: int, v: Any, m: Any, theta: Any) -> Any:
    """The outputs of one layer's neurons."""
    if model != "mt":
        o = np.where(v > theta, theta, F(0))
        return np.where((v < 0) & (m > 0) & (theta > 0), -theta, o) if model == "snm" else o
    o, before = np.zeros_like(theta), np.zeros_like(theta)
    for i in range(levels):
        level = theta * F(2.0**-i)
        o = np.where((o == 0) & (v >= F(0.75) * level), level, o)
    for i in range(levels):
        level = theta * F(2.0**-i)
        q = ((v < 0) & (v <= F(-0.75) * level) & (m >= level)).astype(F)
        o, before = o - level * (q - before), q
    return o


class MembraneProgram:
    """IF, SNM or MT under rate or differential coding with CRPI: docs/methods.md §1 and §2."""

    def __init__(self, actor: Any, model: str, coding: str, timesteps: int, thresholds: Any, alpha: float,
                 clip: float, residual: str = "bounded", levels: int = 4) -> None:  # fmt: skip
        self.actor, self.model, self.coding, self.steps = actor, model, coding, timesteps
        self.theta = [np.asarray(threshold, F) for threshold in thresholds]
        self.alpha, self.clip, self.residual, self.levels = F(alpha), F(clip), residual, levels
        self.r = [np.zeros_like(theta) for theta in self.theta]

    def decide(self, obs: Any) -> Any:
        x = self.actor.inputs(rows_of(self.actor, obs))
        weights = [layer.weight for layer in self.actor.layers]
        bias = [layer.bias for layer in self.actor.layers]
        start = []
        for r, theta in zip(self.r, self.theta, strict=True):
            base = theta * F(0) if self.model == "mt" else theta / F(2)
            start.append(base + np.clip(self.alpha * r, -self.clip * theta, self.clip * theta))
        v = [values.copy() for values in start]
        net = [np.zeros_like(theta) for theta in self.theta]
        m_in = [b.copy() for b in bias[:-1]]
        m_out = [np.zeros_like(theta) for theta in self.theta]
        first = x @ weights[0].T
        readout = np.zeros(len(bias[-1]), F)
        for t in range(1, self.steps + 1):
            signal = x
            for layer in range(len(self.theta)):
                if layer == 0:
                    arriving = first if self.coding == "rate" or t == 1 else first * F(0)
                else:
                    arriving = signal @ weights[layer].T
                if self.coding == "rate":
                    v[layer] = v[layer] + (arriving + bias[layer])
                else:
                    v[layer] = v[layer] + arriving + m_in[layer] - m_out[layer]
                    net[layer] = net[layer] + m_out[layer]
                o = _fire(self.model, self.levels, v[layer], net[layer], self.theta[layer])
                v[layer] = v[layer] - o
                net[layer] = net[layer] + o
                if self.coding == "differential":
                    m_in[layer] = m_in[layer] + arriving / F(t)
                    m_out[layer] = m_out[layer] + o / F(t)
                signal = o
            arrived = signal @ weights[-1].T
            readout = readout + (arrived if self.coding == "rate" else arrived / F(t))
        y = (readout / F(self.steps) if self.coding == "rate" else readout) + bias[-1]
        for layer in range(len(self.theta)):
            difference = v[layer] - start[layer]
            self.r[layer] = np.maximum(difference, -net[layer]) if self.residual == "bounded" else difference
        return like(self.actor, self.actor.head(y), obs)


class SigmaDeltaProgram:
    """Sigma-delta neurons from explicit quanta: docs/methods.md §1; α per stage, () for none."""

    def __init__(self, actor: Any, quanta: Any, predictor: Any, offset: Any, digits: Any, base: float = 2.0,
                 alpha: Any = ()) -> None:  # fmt: skip
        self.actor, self.digits, self.base = actor, digits, base
        self.q, self.gamma = [np.asarray(q, F) for q in quanta], [np.asarray(g, F) for g in predictor]
        self.offset = np.asarray(offset, F)
        self.memory = [np.zeros_like(q) for q in self.q]
        self.alpha = [F(a) for a in alpha] or [F(0)] * len(self.q)
        self.residual = [np.zeros_like(q) for q in self.q]

    def decide(self, obs: Any) -> Any:
        h = self.actor.inputs(rows_of(self.actor, obs))
        for stage, layer in enumerate(self.actor.layers):
            constant = self.offset if stage == 0 else np.zeros_like(h)
            kept = self.gamma[stage] * self.memory[stage]
            v = h - constant - kept + self.alpha[stage] * self.residual[stage]
            told, silent = np.zeros_like(h), np.ones(h.shape, bool)
            for _ in range(self.digits[stage]):
                s = digit(v, self.q[stage], self.base)
                v, told, silent = v - s, told + s, silent & (s == 0)
            silent &= abs(v) >= self.q[stage] * F(2.0**-20)
            self.residual[stage] = np.where(silent, np.clip(v, -self.q[stage], self.q[stage]), F(0))
            self.memory[stage] = kept + told
            z = (self.memory[stage] + constant) @ layer.weight.T + layer.bias
            h = z if layer.activation is None else layer.activation(z)
        return like(self.actor, self.actor.head(h), obs)


def digit(v: Any, q: Any, base: float = 2.0) -> Any:
    """The spikes of one digit: sign(v)·q·βⁱ with the largest i ≥ 0 for which |v| ≥ k·q·βⁱ; 0 where there is none."""
    size, reach = np.float64(q), (1 + 1 / base) / 2 * np.float64(q)
    s, i = np.zeros(np.shape(v)), 0
    while ((abs(v) >= reach * base**i) & (size > 0)).any():
        s = np.where((abs(v) >= reach * base**i) & (size > 0), size * base**i, s)
        i += 1
    return (np.sign(v) * s).astype(F)
