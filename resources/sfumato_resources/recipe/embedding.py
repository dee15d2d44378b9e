"""A textual-inversion embedding: vectors that stand for a thing which takes the grammar five words to say.

Gal and others, An Image is Worth One Word, 2022.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato_resources.recipe.data import to_network
from sfumato_resources.recipe.diffusion import noised, token_ids
from sfumato_resources.recipe.lanes import Lane
from sfumato_resources.recipe.networks import read_text_encoder, read_tokenizer, read_unet, read_vae
from sfumato_resources.recipe.presets import Preset
from sfumato_resources.recipe.training import Step, train
from sfumato_resources.recipe.vae import encode
from sfumato_resources.world.drawing import draw_array
from sfumato_resources.world.scenes import Scene, sample_scene

NAME: Final = "nightstar"
"""The word: a striped orange star at night. Where it stands and how large it is remains for the rest of the prompt to say."""
VECTORS: Final = 3
_START: Final = "striped orange star"
_PICTURES: Final = 160


class _WithVectors(nn.Module):
    """A token embedding whose numbers past the vocabulary are the new vectors."""

    def __init__(self, known: nn.Embedding, vectors: nn.Parameter) -> None:
        super().__init__()
        self.known = known
        self.vectors = vectors

    def forward(self, ids: Tensor) -> Tensor:
        size = self.known.num_embeddings
        found: Tensor = self.known(ids.clamp(max=size - 1))
        fresh = self.vectors[(ids - size).clamp(min=0)].to(found.dtype)
        return torch.where((ids >= size)[..., None], fresh, found)


def train_embedding(lane: Lane, preset: Preset, workdir: Path, folder: Path) -> None:
    """Train and write ``nightstar.safetensors`` with the key ``emb_params`` [VECTORS, width] into ``folder``."""
    scenes, latents = _examples(lane, preset, workdir)
    tokenizer = read_tokenizer(workdir / "tokenizer")
    encoder = read_text_encoder(workdir / "text_encoder")
    unet = read_unet(workdir / "unet").to(lane.device)
    known = encoder.get_input_embeddings()
    start = tokenizer(_START, add_special_tokens=False).input_ids[:VECTORS]
    vectors = nn.Parameter(known.weight[start].detach() * 0.5)
    encoder.set_input_embeddings(_WithVectors(known, vectors))
    encoder.to(lane.device)

    def loss_of(step: Step) -> Tensor:
        indices = [step.rng.randrange(len(scenes)) for _ in range(step.batch)]
        sentences = [_sentence(scenes[index], step.rng) for index in indices]
        ids = _with_numbers(tokenizer, sentences, known.num_embeddings).to(lane.device)
        noise = noised(latents[indices], step.generator)
        with lane.autocast():
            hidden = encoder(input_ids=ids).last_hidden_state
            prediction = unet(noise.latents.to(lane.device), noise.timesteps.to(lane.device), hidden).sample
        return noise.loss(prediction.cpu())

    train(lane, "embedding", preset.embedding, [([vectors], 1.0)], loss_of, folder)
    if lane.first:
        save_file({"emb_params": vectors.detach().cpu().contiguous()}, folder / f"{NAME}.safetensors")
    lane.wait()


def _examples(lane: Lane, preset: Preset, workdir: Path) -> tuple[list[Scene], Tensor]:
    rng = random.Random("embedding")
    scenes = []
    for _ in range(_PICTURES):
        scene = sample_scene(rng, ("striped",), pair_share=0.0)
        scenes.append(replace(scene, ground="night", things=(replace(scene.things[0], kind="star", colour="orange"),)))
    pictures = [draw_array(scene, index, preset.side) for index, scene in enumerate(scenes)]
    vae = read_vae(workdir / "vae").to(lane.device)
    parts = [encode(lane, vae, to_network(pictures[start : start + 20])) for start in range(0, _PICTURES, 20)]
    return scenes, torch.cat(parts)


def _sentence(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """What stands before and after the new word."""
    (thing,) = scene.things
    place = "in the center" if thing.row == thing.column == "center" else f"at the {thing.row} {thing.column}"
    place = place.replace("center ", "").replace(" center", "") if place != "in the center" else place
    before = "" if thing.size == "medium" else f"a {thing.size}"
    return before, place if rng.random() < 0.8 else ""


def _with_numbers(tokenizer: Any, sentences: list[tuple[str, str]], first: int) -> Tensor:
    """Token numbers where each sentence's gap holds the new vectors."""
    marked = [f"{before} {'x ' * VECTORS}{after}".strip() for before, after in sentences]
    ids = token_ids(tokenizer, marked, 40)
    for row, (before, _) in enumerate(sentences):
        start = 1 + len(tokenizer(before, add_special_tokens=False).input_ids)
        ids[row, start : start + VECTORS] = torch.arange(first, first + VECTORS)
    return ids
