"""TD3+BC as its authors' code reads: one module per network, torch.optim.Adam, a loop over parameters for the targets.

The yardstick of `tests/test_td3bc.py` (same numbers) and `tests/benchmarks/td3bc_speed.py` (how much faster).
"""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from snn_policy.offline.batches import Batch
from snn_policy.offline.td3bc import TD3BC


def network(sizes: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class PlainTD3BC:
    """Takes over the networks of a fresh run, so that both start from the same weights."""

    def __init__(self, run: TD3BC) -> None:
        data, settings = run.data, run.settings
        self.settings, self.step = settings, 0
        self.actor = copy.deepcopy(run.actor.module)
        sizes = (data.observations + data.actions, settings.hidden, settings.hidden, 1)
        self.critics = [network(sizes), network(sizes)]
        with torch.no_grad():
            for index, critic in enumerate(self.critics):
                for own, stacked in zip(critic.parameters(), run.critics.module.parameters(), strict=True):
                    mine = stacked[index].squeeze(0)
                    own.copy_((mine.mT if mine.ndim == 2 else mine).reshape(own.shape))
        self.target_actor, self.target_critics = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        rate = settings.learning_rate
        self.actor_optimiser = torch.optim.Adam(self.actor.parameters(), lr=rate)
        both = [parameter for critic in self.critics for parameter in critic.parameters()]
        self.critic_optimiser = torch.optim.Adam(both, lr=rate)

    def update(self, batch: Batch) -> None:
        settings = self.settings
        inputs = batch.next_observation.shape[1]
        observation, action = batch.observation_action[:, :inputs], batch.observation_action[:, inputs:]
        with torch.no_grad():
            noise = (batch.noise * settings.policy_noise).clamp(-settings.noise_clip, settings.noise_clip)
            following = (self.target_actor(batch.next_observation) + noise).clamp(-1, 1)
            at_next = torch.cat([batch.next_observation, following], 1)
            q = torch.min(self.target_critics[0](at_next), self.target_critics[1](at_next))
            expected = batch.reward[:, None] + batch.continues[:, None] * settings.discount * q
        first, second = (critic(torch.cat([observation, action], 1)) for critic in self.critics)
        critic_loss = functional.mse_loss(first, expected) + functional.mse_loss(second, expected)
        self.critic_optimiser.zero_grad()
        critic_loss.backward()
        self.critic_optimiser.step()
        self.step += 1
        if self.step % settings.policy_delay == 0:
            self._update_actor(observation, action)

    def _update_actor(self, observation: torch.Tensor, action: torch.Tensor) -> None:
        chosen = self.actor(observation)
        q = self.critics[0](torch.cat([observation, chosen], 1))
        weight = self.settings.alpha / q.abs().mean().detach()
        actor_loss = -weight * q.mean() + functional.mse_loss(chosen, action)
        self.actor_optimiser.zero_grad()
        actor_loss.backward()
        self.actor_optimiser.step()
        pairs = [(self.actor, self.target_actor), *zip(self.critics, self.target_critics, strict=True)]
        for network, target in pairs:
            for own, slow in zip(network.parameters(), target.parameters(), strict=True):
                slow.data.copy_(self.settings.tau * own.data + (1 - self.settings.tau) * slow.data)
