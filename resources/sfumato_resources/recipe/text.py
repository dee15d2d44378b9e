"""The text encoder: trained to tell from a caption what the scene is, then frozen.

Which colour belongs to which thing is learnt here in minutes; through the diffusion loss alone it takes far longer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from sfumato_resources.recipe.data import roughened
from sfumato_resources.recipe.diffusion import token_ids
from sfumato_resources.recipe.lanes import Lane
from sfumato_resources.recipe.networks import new_text_encoder, read_tokenizer
from sfumato_resources.recipe.presets import Preset
from sfumato_resources.recipe.training import Step, train
from sfumato_resources.world.captions import caption
from sfumato_resources.world.scenes import COLOURS, COLUMNS, GROUNDS, KINDS, ROWS, SIZES, STYLES, Scene, sample_scene

_SHORT, _LONG = 28, 77
_SHORT_UNTIL: Final = 0.8
_UNSAID: Final = -100
_CHOICES: Final[dict[str, tuple[str | None, ...]]] = {
    "relation": (None, "left-right", "top-bottom"),
    "ground": GROUNDS,
    "style": STYLES,
    "first kind": KINDS,
    "first colour": tuple(COLOURS),
    "second kind": (*KINDS, None),
    "second colour": (*COLOURS, None),
    "size": tuple(SIZES),
    "column": tuple(COLUMNS),
    "row": tuple(ROWS),
}


def attributes(scene: Scene) -> list[int]:
    """The scene as one class number for each of the choices; -100 where a question has no answer."""
    first, second = scene.things[0], scene.things[1] if len(scene.things) == 2 else None
    answers: list[str | None] = [scene.relation, scene.ground, scene.style, first.kind, first.colour]
    answers += [second.kind, second.colour] if second else [None, None]
    numbers = [choices.index(answer) for choices, answer in zip(_CHOICES.values(), answers, strict=False)]
    if second:
        return [*numbers, _UNSAID, _UNSAID, _UNSAID]
    places = zip(("size", "column", "row"), (first.size, first.column, first.row), strict=True)
    return [*numbers, *(_CHOICES[name].index(answer) for name, answer in places)]


class _Reader(nn.Module):
    """Reads the attributes linearly from the end token and from one random position after it."""

    def __init__(self, encoder: Any, width: int, end: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.end = end
        self.heads = nn.Linear(width, sum(len(choices) for choices in _CHOICES.values()))

    def forward(self, ids: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        hidden = self.encoder(input_ids=ids).last_hidden_state
        count, length, _ = hidden.shape
        rows, end = torch.arange(count), (ids.cpu() == self.end).int().argmax(1)
        later = end + (torch.rand(count, generator=generator) * (length - end)).long()
        read = torch.cat([hidden[rows, end], hidden[rows, later]])
        answers: tuple[Tensor, ...] = self.heads(read).split([len(choices) for choices in _CHOICES.values()], 1)
        return answers


def train_text(lane: Lane, preset: Preset, tokenizer_folder: Path, folder: Path) -> None:
    """Train and write the text encoder into ``folder``."""
    tokenizer = read_tokenizer(tokenizer_folder)
    encoder = new_text_encoder(preset, tokenizer)
    reader = _Reader(encoder, preset.text_width, tokenizer.eos_token_id).to(lane.device)

    def loss_of(step: Step) -> Tensor:
        long = step.done > _SHORT_UNTIL
        scenes = [sample_scene(step.rng) for _ in range(max(1, step.batch // 2) if long else step.batch)]
        captions = [roughened(caption(scene, step.rng), step.rng) for scene in scenes]
        ids = token_ids(tokenizer, captions, _LONG if long else _SHORT).to(lane.device)
        wanted = torch.tensor([attributes(scene) for scene in scenes]).repeat(2, 1).to(lane.device)
        with lane.autocast():
            answers = reader(ids, step.generator)
        return _cross_entropy(answers, wanted)

    train(lane, "text", preset.text, [(list(reader.parameters()), 1.0)], loss_of, folder)
    if lane.first:
        encoder.save_pretrained(folder)
    lane.wait()


def _cross_entropy(answers: tuple[Tensor, ...], wanted: Tensor) -> Tensor:
    total = torch.zeros((), device=wanted.device)
    for column, answer in enumerate(answers):
        asked = wanted[:, column] != _UNSAID
        if asked.any():
            total = total + nn.functional.cross_entropy(answer.float()[asked], wanted[asked, column])
    return total
