"""One training loop for every network: AdamW, warm-up and cosine, averaged weights, clipped gradients, and going on after a kill.

AdamW: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019. Averaged weights: Polyak and Juditsky, 1992.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sfumato_resources.recipe.lanes import Lane
from sfumato_resources.recipe.presets import Plan
from sfumato_resources.recipe.progress import ProgressBar


@dataclass(frozen=True, slots=True)
class Step:
    """What a loss function may use: ``done`` runs from 0 to 1 over the training; both generators are seeded by step and lane."""

    index: int
    done: float
    batch: int
    rng: random.Random
    generator: torch.Generator


LossOf = Callable[[Step], torch.Tensor]


def train(
    lane: Lane,
    label: str,
    plan: Plan,
    groups: Sequence[tuple[Sequence[torch.nn.Parameter], float]],
    loss_of: LossOf,
    folder: Path,
) -> None:
    """Train parameters in place; on return they hold the averaged weights (or the last ones where ``plan.ema`` is 0).

    :param groups: (parameters, factor on the learning rate)
    :param loss_of: gives the scalar loss of one step of this lane
    :param folder: keeps ``state.safetensors``; a training that was killed goes on from there, with the same random numbers
    """
    state = _State(plan, groups, folder)
    start = state.resume()
    bar = ProgressBar(label, plan.steps, start, quiet=not lane.first)
    mean_loss = 0.0
    for index in range(start, plan.steps):
        loss = _one_step(lane, label, plan, state, loss_of, index)
        mean_loss = loss if index == start else 0.98 * mean_loss + 0.02 * loss
        bar.show(index + 1, f"loss {mean_loss:.4f}")
        if lane.first and (index + 1) % plan.checkpoint_every == 0:
            state.save(index + 1)
    if lane.first and start < plan.steps:
        state.save(plan.steps)
    state.keep_average()
    lane.wait()


def _one_step(lane: Lane, label: str, plan: Plan, state: _State, loss_of: LossOf, index: int) -> float:
    seed = random.Random(f"{label} {index} {lane.rank}").getrandbits(48)
    generator = torch.Generator().manual_seed(seed)
    loss = loss_of(Step(index, index / plan.steps, plan.batch, random.Random(seed), generator))
    loss.backward()  # type: ignore[no-untyped-call]
    lane.average_gradients(state.parameters)
    state.update(learning_rate(plan, index))
    return float(loss.detach())


def learning_rate(plan: Plan, index: int) -> float:
    """The learning rate of a step."""
    cosine = 0.5 + 0.5 * math.cos(math.pi * index / plan.steps)
    return plan.rate * min(1.0, (index + 1) / plan.warmup) * (0.02 + 0.98 * cosine)


class _State:
    """Parameters, their average and the optimiser, as one thing that can be written and read."""

    def __init__(self, plan: Plan, groups: Sequence[tuple[Sequence[torch.nn.Parameter], float]], folder: Path) -> None:
        self.parameters = [parameter for group, _ in groups for parameter in group]
        self._factors = [factor for _, factor in groups]
        self._plan = plan
        self._weights = folder / "state.safetensors"
        self._average = [parameter.detach().clone() for parameter in self.parameters] if plan.ema else []
        settings: list[dict[str, Any]] = [{"params": list(group)} for group, _ in groups]
        self._optimiser = torch.optim.AdamW(settings, plan.rate, (0.9, 0.99), weight_decay=plan.weight_decay)
        self._updates = 0

    def update(self, rate: float) -> None:
        for group, factor in zip(self._optimiser.param_groups, self._factors, strict=True):
            group["lr"] = rate * factor
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad()
        self._updates += 1
        if self._plan.ema:
            decay = min(self._plan.ema, (1 + self._updates) / (10 + self._updates))
            with torch.no_grad():
                torch._foreach_lerp_(self._average, list(self.parameters), 1 - decay)

    def keep_average(self) -> None:
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self._average, strict=False):
                parameter.copy_(average)

    def save(self, steps: int) -> None:
        tensors = {f"weight.{i}": parameter.detach().contiguous() for i, parameter in enumerate(self.parameters)}
        tensors |= {f"average.{i}": average.contiguous() for i, average in enumerate(self._average)}
        for i, parameter in enumerate(self.parameters):
            moments = self._optimiser.state[parameter]
            tensors[f"first.{i}"] = moments["exp_avg"].contiguous()
            tensors[f"second.{i}"] = moments["exp_avg_sq"].contiguous()
        self._weights.parent.mkdir(parents=True, exist_ok=True)
        aside = self._weights.with_suffix(".part")
        save_file(tensors, aside, metadata={"steps": str(steps)})
        aside.replace(self._weights)

    def resume(self) -> int:
        """The number of steps already done; 0 without a state."""
        if not self._weights.exists():
            return 0
        with safe_open(self._weights, "pt") as file:
            steps = int(file.metadata()["steps"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"weight.{i}"])
                moments = {"exp_avg": tensors[f"first.{i}"], "exp_avg_sq": tensors[f"second.{i}"]}
                on_device = {name: moment.to(parameter.device) for name, moment in moments.items()}
                self._optimiser.state[parameter] = {"step": torch.tensor(float(steps)), **on_device}
            for i, average in enumerate(self._average):
                average.copy_(tensors[f"average.{i}"])
        self._updates = steps
        return steps
