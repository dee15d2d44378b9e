"""How predictions are made and combined: one `denoised = predict(x, sigma)` out of weighted, batched calls of a network.

Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598) is combined on the network's raw outputs where nothing else
wants a say: that is the arithmetic of the usual pipelines, to the bit. Other combinations (rescale, thresholding) and
corrections after it (perturbed attention) work on the estimates of the clean latent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sfumato.engine.conditioning import Entry
from sfumato.engine.handles import Control, ModelHandle
from sfumato.engine.protocols import Call, Guided, Residuals

MOST_REPEATS = 4
"""How often the shortest text may be repeated to share a call with longer ones."""

Perturb = Callable[[Any, nn.Module], AbstractContextManager[None]]


@dataclass
class Counters:
    """Calls of networks since the run began."""

    network: int = 0
    control: int = 0


@dataclass
class Predictor:
    """Predicts the clean latent for one run: the model, its network in use, and the entries of the run."""

    model: ModelHandle
    module: nn.Module
    positive: Sequence[Entry]
    negative: Sequence[Entry]
    scale: float
    controls: dict[int, nn.Module]
    """Networks of the control nets in use, by `id` of their `Weights`."""
    counters: Counters

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The estimate of the clean latent, float32 like `x` [B,C,h,w], at `sigma` (0-d float32)."""
        model = self.model
        guided = bool(self.negative) and (not math.isclose(self.scale, 1.0) or model.combine is not None)
        if not guided:
            outputs = self._outputs(x, sigma, [self.positive])
            positive = model.sampling.denoised(x, sigma, outputs[0])
            return self._afterwards(Guided(x, sigma, positive, positive, self.scale), positive)
        negative_out, positive_out = self._outputs(x, sigma, [self.negative, self.positive])
        if model.combine is None and not model.after_guidance:
            combined = negative_out + self.scale * (positive_out - negative_out)
            return model.sampling.denoised(x, sigma, combined)
        positive = model.sampling.denoised(x, sigma, positive_out)
        negative = model.sampling.denoised(x, sigma, negative_out)
        knows = Guided(x, sigma, positive, negative, self.scale)
        return self._afterwards(knows, (model.combine or classifier_free)(knows))

    def _afterwards(self, knows: Guided, result: torch.Tensor) -> torch.Tensor:
        def ask(perturb: Perturb) -> torch.Tensor:
            with perturb(self.model.network, self.module):
                output = self._outputs(knows.x, knows.sigma, [self.positive])[0]
            return self.model.sampling.denoised(knows.x, knows.sigma, output)

        for correct in self.model.after_guidance:
            result = correct(knows, result, ask)
        return result

    def _outputs(self, x: torch.Tensor, sigma: torch.Tensor, groups: Sequence[Sequence[Entry]]) -> list[torch.Tensor]:
        """The raw output for each group of entries, its entries blended by their weights. Everything that can be is batched."""
        level = float(sigma)
        wanted = [(group, entry) for group, entries in enumerate(groups) for entry in entries if entry.active(level)]
        blends = [_Blend(x) for _ in groups]
        for batch in _batches(wanted):
            output = self._call(x, sigma, [entry for _, entry in batch])
            for (group, entry), part in zip(batch, output.chunk(len(batch)), strict=True):
                blends[group].add(entry, part)
        return [blend.result() for blend in blends]

    def _call(self, x: torch.Tensor, sigma: torch.Tensor, entries: Sequence[Entry]) -> torch.Tensor:
        model, first = self.model, entries[0]
        scaled = model.sampling.scale_input(x, sigma)
        parts = [entry.area.cut(scaled) if entry.area else scaled for entry in entries]
        if first.concat is not None:
            parts = [
                torch.cat([p, _repeat(e.concat, p.shape[0]).to(p)], dim=1)
                for p, e in zip(parts, entries, strict=True)
                if e.concat is not None
            ]
        contexts = _same_length([entry.context for entry in entries])
        call = Call(
            x=torch.cat(parts).to(model.dtype),
            timestep=model.sampling.timestep(sigma).to(x.device),
            context=torch.cat([_repeat(context, x.shape[0]) for context in contexts]),
            extra=first.extra,
        )
        if first.control is not None:
            call = self._controlled(call, x, sigma, entries)
        self.counters.network += 1
        return model.network(self.module, call).to(x.dtype)

    def _controlled(self, call: Call, x: torch.Tensor, sigma: torch.Tensor, entries: Sequence[Entry]) -> Call:
        chain = entries[0].control.chain() if entries[0].control else []
        total: Residuals | None = None
        for control in chain:
            if not self._in_range(control, float(sigma)):
                continue
            hints = [_hint(control, entry, x, self.model.latent.downscale) for entry in entries]
            channels = self.model.latent.channels
            plain = Call(call.x[:, :channels], call.timestep, call.context, call.extra)
            self.counters.control += 1
            residuals = control.handle.unit(self.controls[id(control.handle.weights)], plain, torch.cat(hints), control.strength)
            total = total.plus(residuals) if total else residuals
        return Call(call.x, call.timestep, call.context, call.extra, total)

    def _in_range(self, control: Control, sigma: float) -> bool:
        start = self.model.sampling.percent_to_sigma(control.start)
        return self.model.sampling.percent_to_sigma(control.end) <= sigma <= start


def classifier_free(knows: Guided) -> torch.Tensor:
    """negative + scale * (positive - negative)."""
    return knows.negative + knows.scale * (knows.positive - knows.negative)


def rescaled(multiplier: float) -> Callable[[Guided], torch.Tensor]:
    """CFG whose standard deviation is pulled back towards the positive prediction's (Lin et al. 2023, arXiv:2305.08891, 3.4).

    Works on the velocity v = (x / (s^2 + 1) - denoised) * sqrt(s^2 + 1) / s, whatever the network predicts.
    """

    def combine(knows: Guided) -> torch.Tensor:
        sigma = knows.sigma
        root = (sigma**2 + 1.0) ** 0.5
        scaled = knows.x / (sigma**2 + 1.0)

        def velocity(denoised: torch.Tensor) -> torch.Tensor:
            return (scaled - denoised) * root / sigma

        positive, negative = velocity(knows.positive), velocity(knows.negative)
        mixed = negative + knows.scale * (positive - negative)
        dims = tuple(range(1, mixed.ndim))
        pulled = mixed * (positive.std(dim=dims, keepdim=True) / mixed.std(dim=dims, keepdim=True))
        final = multiplier * pulled + (1.0 - multiplier) * mixed
        return scaled - final * sigma / root

    return combine


def dynamically_thresholded(mimic_scale: float, percentile: float) -> Callable[[Guided], torch.Tensor]:
    """CFG at any scale with the range it would have had at `mimic_scale` (after Saharia et al. 2022, arXiv:2205.11487, 2.3).

    Per channel: values are centred, clamped at the `percentile` (0..1) of their size, and scaled to the size of the mimic.
    """

    def combine(knows: Guided) -> torch.Tensor:
        mixed = classifier_free(knows)
        mimic = knows.negative + mimic_scale * (knows.positive - knows.negative)
        flat, flat_mimic = mixed.flatten(2), mimic.flatten(2)
        centre, centre_mimic = flat.mean(2, keepdim=True), flat_mimic.mean(2, keepdim=True)
        away = flat - centre
        limit = (flat_mimic - centre_mimic).abs().amax(2, keepdim=True)
        reach = torch.quantile(away.abs(), percentile, dim=2, keepdim=True).maximum(limit).clamp(min=1e-12)
        return (away.clamp(-reach, reach) / reach * limit + centre).reshape(mixed.shape)

    return combine


def perturbed_attention(scale: float) -> Callable[[Guided, torch.Tensor, Any], torch.Tensor]:
    """Push away from what the network sees with its middle self-attention cut (Ahn et al. 2024, arXiv:2403.17377)."""

    def correct(knows: Guided, result: torch.Tensor, ask: Callable[[Perturb], torch.Tensor]) -> torch.Tensor:
        if scale == 0.0:
            return result
        return result + scale * (knows.positive - ask(lambda network, module: network.without_self_attention(module)))

    return correct


def skipped_layers(scale: float, layers: Sequence[int]) -> Callable[[Guided, torch.Tensor, Any], torch.Tensor]:
    """Push away from what the network sees with some transformer blocks left out (skip-layer guidance, Stability AI 2024)."""

    def correct(knows: Guided, result: torch.Tensor, ask: Callable[[Perturb], torch.Tensor]) -> torch.Tensor:
        if scale == 0.0:
            return result
        return result + scale * (knows.positive - ask(lambda network, module: network.without_layers(module, layers)))

    return correct


class _Blend:
    """The weighted mean of outputs that each cover a part of the latent. One output that covers all of it passes unchanged."""

    def __init__(self, x: torch.Tensor) -> None:
        self._x = x
        self._whole: torch.Tensor | None = None
        self._parts: list[tuple[Entry, torch.Tensor]] = []

    def add(self, entry: Entry, output: torch.Tensor) -> None:
        self._parts.append((entry, output))

    def result(self) -> torch.Tensor:
        if len(self._parts) == 1 and self._parts[0][0].area is None and self._parts[0][0].weight == 1.0:
            return self._parts[0][1]
        total, count = torch.zeros_like(self._x), torch.full_like(self._x, 1e-37)
        for entry, output in self._parts:
            weight = entry.weight
            if isinstance(weight, torch.Tensor):
                weight = _repeat(weight, output.shape[0]).to(output)
            where = (slice(None), slice(None)) if entry.area is None else _slices(entry)
            total[where] += output * weight
            count[where] += weight
        return total / count


def _slices(entry: Entry) -> tuple[slice, slice, slice, slice]:
    area = entry.area
    assert area is not None
    return slice(None), slice(None), slice(area.y, area.y + area.h), slice(area.x, area.x + area.w)


def _batches(wanted: Sequence[tuple[int, Entry]]) -> list[list[tuple[int, Entry]]]:
    """Entries that can share one call of the network: same size, same control nets, same kind of extras, lengths that fit."""
    batches: list[tuple[Any, list[tuple[int, Entry]]]] = []
    for group, entry in wanted:
        size = (entry.area.h, entry.area.w) if entry.area else None
        kind = (size, id(entry.control) if entry.control else None, _signature(entry), entry.concat is None)
        for other, members in batches:
            if other == kind and _fit_in_length([*(member.context for _, member in members), entry.context]):
                members.append((group, entry))
                break
        else:
            batches.append((kind, [(group, entry)]))
    return [members for _, members in batches]


def _fit_in_length(contexts: Sequence[torch.Tensor]) -> bool:
    """Whether repeating the texts to one length costs less than calls of their own."""
    lengths = [context.shape[1] for context in contexts]
    return math.lcm(*lengths) <= MOST_REPEATS * min(lengths)


def _signature(entry: Entry) -> Any:
    """Families with pooled text or size ids cannot share a call unless those are equal; text alone always can."""
    pooled = entry.extra.get("family_extra")
    return id(pooled) if pooled is not None else None


def _hint(control: Control, entry: Entry, x: torch.Tensor, downscale: int) -> torch.Tensor:
    """The control picture at the size of the run (or cut to the entry's area), repeated for the batch."""
    height, width = x.shape[-2] * downscale, x.shape[-1] * downscale
    hint = control.hint.to(x.device)
    if tuple(hint.shape[-2:]) != (height, width):
        hint = nn.functional.interpolate(hint, size=(height, width), mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    if entry.area:
        area = entry.area
        hint = hint[..., area.y * downscale : (area.y + area.h) * downscale, area.x * downscale : (area.x + area.w) * downscale]
    return _repeat(hint, x.shape[0])


def _repeat(tensor: torch.Tensor, batch: int) -> torch.Tensor:
    """[1 or n, ...] -> [batch, ...], repeating from the start."""
    if tensor.shape[0] == batch:
        return tensor
    times = -(-batch // tensor.shape[0])
    return tensor.repeat(times, *[1] * (tensor.dim() - 1))[:batch]


def _same_length(contexts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Texts of different length are repeated to their least common multiple, which changes no attention (softmax of copies)."""
    length = math.lcm(*(c.shape[1] for c in contexts))
    return [c if c.shape[1] == length else c.repeat(1, length // c.shape[1], 1) for c in contexts]
