"""The family object: from a file of the library to MODEL, CLIP and VAE handles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sfumato.engine.handles import ClipHandle, LatentFormat, ModelHandle, VaeHandle
from sfumato.engine.model_sampling import Discrete, Prediction
from sfumato.engine.residency import Weights
from sfumato.engine.services import Services
from sfumato.engine.text.clip import ClipTextEncoder
from sfumato.errors import ModelFileError
from sfumato.models import ModelFile
from sfumato.progress import Progress
from sfumato_sd.components import Component, Model, from_file, from_folder, loose, read_json_file
from sfumato_sd.unet import SdNetwork
from sfumato_sd.vae import KlCodec

PREDICTIONS: Mapping[str, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


class StableDiffusion1:
    """Loads Stable Diffusion 1.x. Handles are cheap: weights are read when a node first uses them."""

    def load_checkpoint(self, file: ModelFile, services: Services, progress: Progress) -> tuple[ModelHandle, ClipHandle, VaeHandle]:
        model = _opened(file.path)
        return (
            self._model(file, model.component("unet", file.path), model, services),
            self._clip(file, model.component("text_encoder", file.path), model.tokenizer, services),
            self._vae(file, model.component("vae", file.path), services),
        )

    def load_unet(self, file: ModelFile, services: Services, progress: Progress) -> ModelHandle:
        component = loose(file.path, "unet")
        return self._model(file, component, Model({}, {}, file.path), services)

    def load_clip(self, file: ModelFile, services: Services, progress: Progress) -> ClipHandle:
        from sfumato_resources import family_configs

        return self._clip(file, loose(file.path, "text_encoder"), family_configs("sd1") / "tokenizer", services)

    def load_vae(self, file: ModelFile, services: Services, progress: Progress) -> VaeHandle:
        return self._vae(file, loose(file.path, "vae"), services)

    def _model(self, file: ModelFile, component: Component, model: Model, services: Services) -> ModelHandle:
        dtype = services.dtype_for(component.parameters)
        return ModelHandle(
            name=file.name,
            family="sd1",
            network=SdNetwork(int(component.config["in_channels"])),
            weights=_weights(services, file, component, dtype),
            sampling=_sampling(file, model.scheduler),
            latent=_latent_format(file.path),
            dtype=dtype,
            file=file,
        )

    def _clip(self, file: ModelFile, component: Component, tokenizer: Path, services: Services) -> ClipHandle:
        dtype = services.dtype_for(component.parameters)
        weights = _weights(services, file, component, dtype)
        return ClipHandle(file.name, ClipTextEncoder(_tokenizer(tokenizer, file)), weights)

    def _vae(self, file: ModelFile, component: Component, services: Services) -> VaeHandle:
        dtype = services.dtype_for(component.parameters)
        weights = _weights(services, file, component, dtype)
        config = component.config
        codec = KlCodec(int(config["latent_channels"]), 2 ** (len(config["block_out_channels"]) - 1))
        return VaeHandle(file.name, codec, weights, dtype)


FAMILY = StableDiffusion1()


def _opened(path: Path) -> Model:
    return from_folder(path) if path.is_dir() else from_file(path)


def _sampling(file: ModelFile, scheduler: Mapping[str, Any]) -> Discrete:
    """The levels that a `scheduler_config.json` describes. Raises ModelFileError for what no network of this family has."""
    prediction = PREDICTIONS.get(str(scheduler.get("prediction_type", "epsilon")))
    form = str(scheduler.get("beta_schedule", "scaled_linear"))
    if prediction is None or form not in ("scaled_linear", "linear") or scheduler.get("trained_betas"):
        said = f"prediction_type {scheduler.get('prediction_type')!r}, beta_schedule {form!r}"
        raise ModelFileError(f"its scheduler says {said}, which no network of this family has", str(file.path), _SCHEDULER_REMEDY)
    zero = bool(scheduler.get("rescale_betas_zero_snr", False))
    try:
        start, end = float(scheduler.get("beta_start", 0.00085)), float(scheduler.get("beta_end", 0.012))
        steps = int(scheduler.get("num_train_timesteps", 1000))
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"its scheduler_config.json is wrong: {error}", str(file.path), _SCHEDULER_REMEDY) from error
    if form == "linear":
        betas = torch.linspace(start, end, steps, dtype=torch.float64)
        return Discrete.from_betas(betas, prediction, zero_terminal_snr=zero)
    return Discrete.scaled_linear(prediction, beta_start=start, beta_end=end, steps=steps, zero_terminal_snr=zero)


_SCHEDULER_REMEDY = "Repair scheduler/scheduler_config.json, or download the model again."


def _weights(services: Services, file: ModelFile, component: Component, dtype: torch.dtype) -> Weights:
    """The component's entry in the residency, named by the files as they are now: a file that was replaced is another one."""
    key = f"{file.path}:{component.state}:{component.kind}"
    return services.residency.add(key, lambda progress: component.load(dtype, progress), expected=component.parameters * dtype.itemsize)


def _latent_format(path: Path) -> LatentFormat:
    """The embedded model has its own colours; its card says which. All others share Stable Diffusion's."""
    card = path / "model_card.json"
    factors = read_json_file(card).get("latent_rgb") if path.is_dir() and card.is_file() else None
    return LatentFormat(rgb=tuple(tuple(row) for row in factors)) if factors else LatentFormat()


def _tokenizer(folder: Path, file: ModelFile) -> Any:
    from transformers import CLIPTokenizer

    if not folder.is_dir():
        raise ModelFileError(
            "this model brings no tokenizer, and none ships for its family",
            str(file.path),
            f"Put the CLIP tokenizer (vocab.json, merges.txt) into {folder}.",
        )
    return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
