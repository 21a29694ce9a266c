"""What IF, SNM and MT neurons put out at a potential: pure functions, array-API only, and the only spelling in Python.

Notation (docs/methods.md §1): θ threshold · v membrane potential · o output, carrying its magnitude · M net output so
far in the decision. Sources: see `snn_policy.spiking.neurons`, whose steps call these.
"""

from array_api_compat import array_namespace

from snn_policy.protocol import Array


def fire_if(v: Array, threshold: Array) -> Array:
    """Integrate and fire: o = θ·1[v > θ], strictly."""
    return array_namespace(v).where(v > threshold, threshold, threshold * 0)


def fire_snm(v: Array, net: Array, threshold: Array) -> Array:
    """Fire as a signed neuron with memory: o = +θ if v > θ; −θ if v < 0 and M > 0."""
    xp = array_namespace(v)
    return xp.where(v > threshold, threshold, xp.where((v < 0) & (net > 0), -threshold, threshold * 0))


def fire_mt(v: Array, net: Array, threshold: Array, levels: int) -> Array:
    """Fire as a multi-threshold neuron with levels λᵢ = θ·2⁻ⁱ.

    v > 0: o = +λᵢ for the smallest i with v ≥ ¾λᵢ. v < 0: qᵢ = 1[v ≤ −¾λᵢ]·1[M ≥ λᵢ] and
    o = −Σᵢ λᵢ·(qᵢ − qᵢ₋₁), q₋₁ = 0 (the gate makes q non-monotone, hence the difference form).
    """
    xp = array_namespace(v)
    positive, negative, previous = threshold * 0, threshold * 0, threshold * 0
    for i in range(levels):
        level = threshold * 2.0**-i
        passed = xp.astype((v <= level * -0.75) & (net >= level), v.dtype)
        negative = negative - level * (passed - previous)
        previous = passed
    for i in reversed(range(levels)):
        level = threshold * 2.0**-i
        positive = xp.where(v >= level * 0.75, level, positive)
    return xp.where(v < 0, negative, positive)
