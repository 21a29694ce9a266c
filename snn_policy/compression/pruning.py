"""Which weights are pruned: blocks of consecutive outputs of one source, the least missed per operation first.

A source is a neuron, or in a convolution a place of the kernel in one input channel (`maps`): there a block has so many
consecutive output channels, costs its weights once for every spike that reaches the place, and matters at every
position, independently.

A weight from j to k matters to the action by |w_kj| · RMS(h_j) · G_k · √P(k active), G_k the action's sensitivity to k
(docs/methods.md §1). A block's share is the sum of its weights' squares, and what it costs is its weights times the
spikes that j is expected to send: blocks go in the order of share over cost, over all layers, until the expected
operations of a decision are what they may be. Neurons that nothing listens to go with all their weights.
"""

import torch
from torch import Tensor

from snn_policy.compression.profile import Profile
from snn_policy.compression.student import Student


def operations(student: Student, rate: list[Tensor]) -> float:
    """Return the expected synaptic operations of a decision."""
    return float(sum((spikes * fan_out).sum() for spikes, fan_out in zip(rate, student.fan_out, strict=True)))


def blocked(values: Tensor, block: int) -> Tensor:
    """Sum (outputs, inputs) to (blocks, inputs), over `block` consecutive outputs, the last block maybe shorter."""
    outputs, inputs = values.shape
    padded = torch.nn.functional.pad(values, (0, 0, 0, -outputs % block))
    return padded.view(-1, block, inputs).sum(1)


@torch.no_grad()
def shares(student: Student, found: Profile, layer: int, slope: Tensor) -> Tensor:
    """Return the squared effect of every weight on the action, (outputs, inputs or columns).

    Args:
        slope: (outputs of the last layer,) RMS of ∂action/∂y.
    """
    last = layer == len(student.weights) - 1
    listened = slope.square() if last else found.sensitivity[layer + 1].square() * found.active[layer + 1]
    return student.maps[layer].effects(student.weights[layer].square(), found.size[layer].square(), listened)


@torch.no_grad()
def prune(student: Student, found: Profile, slope: Tensor, block: int, most: float) -> None:
    """Prune blocks until a decision is expected to take at most so many operations."""
    sizes, ratios, costs = [], [], []
    for layer, kept in enumerate(student.kept):
        width = min(block, len(kept))
        left = blocked(kept.flatten(1), width)
        cost = left * student.maps[layer].per_column(found.rate[layer])
        share = blocked((shares(student, found, layer, slope) * kept).flatten(1), width)
        ratios.append((share / cost.clamp_min(1e-12)).masked_fill(left == 0, -1.0).flatten())
        costs.append(cost.flatten())
        sizes.append(left.shape)
    excess = operations(student, found.rate) - most
    if excess > 0:
        order = torch.cat(ratios).argsort(stable=True)
        saved = torch.cat(costs)[order].double().cumsum(0)
        gone = torch.zeros(len(order), dtype=torch.bool)
        gone[order[: int((saved < excess).sum()) + 1]] = True
        for kept, shape, part in zip(student.kept, sizes, gone.split([len(ratio) for ratio in ratios]), strict=True):
            width = min(block, len(kept))
            kept.mul_(1 - part.view(shape).float().repeat_interleave(width, 0)[: len(kept)].view_as(kept))
    remove_unheard_neurons(student)
    student.apply_mask()


@torch.no_grad()
def remove_unheard_neurons(student: Student) -> None:
    """Prune all weights to hidden neurons, or channels, that have no weights to others: the action does not change."""
    for layer in reversed(range(len(student.kept) - 1)):
        heard = student.maps[layer + 1].fan_out(student.kept[layer + 1])
        student.kept[layer][heard.view(student.groups[layer + 1]).sum(1) == 0] = 0
