"""A start for the VAE that already carries average colours down to the latents and up again.

Eight channels of every level carry +rgb, -rgb and two constants ±K: as silu(a) - silu(-a) = a, colours pass through the last
activation unharmed. All residual branches start near zero. So training begins at 21 dB instead of at grey noise.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

_CARRIERS: Final = 8
_CONSTANT: Final = 2.0
_CENTRE: Final = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]])
_AVERAGE: Final = torch.tensor([[0.25, 0.25, 0], [0.25, 0.25, 0], [0, 0, 0]])
_SMOOTH: Final = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16


@torch.no_grad()
def start_with_average_colours(vae: Any, pictures: Tensor) -> None:
    """Set the weights in place; the gain of both ends is fitted on ``pictures`` [B, 3, H, W]."""
    _quieten_residuals(vae)
    encoder, decoder = vae.encoder, vae.decoder
    _split_colours(encoder.conv_in, 1.0)
    for block in encoder.down_blocks:
        if block.downsamplers:
            _carry(block.downsamplers[0].conv, _AVERAGE)
    _split_colours(decoder.conv_in, 1 / 3)
    for block in decoder.up_blocks:
        if block.upsamplers:
            _carry(block.upsamplers[0].conv, _SMOOTH)
    _open_latents(vae)
    _fit_encoder(vae, pictures)
    _fit_decoder(vae, pictures)


def _quieten_residuals(vae: Any) -> None:
    for block in vae.modules():
        if not isinstance(block, ResnetBlock2D):
            continue
        block.conv2.weight.mul_(0.05)
        block.conv2.weight[:_CARRIERS] = 0
        block.conv2.bias.zero_()
        if block.conv_shortcut is not None:
            weight = block.conv_shortcut.weight
            weight.mul_(0.7)
            weight[:_CARRIERS] = 0
            weight[range(_CARRIERS), range(_CARRIERS)] = 1
            block.conv_shortcut.bias[:_CARRIERS] = 0
    for half in (vae.encoder, vae.decoder):
        out = half.mid_block.attentions[0].to_out[0]
        out.weight.mul_(0.05)
        out.bias.zero_()


def _split_colours(convolution: nn.Conv2d, gain: float) -> None:
    """Channels 0 to 2 become +rgb, 3 to 5 -rgb, 6 and 7 the constants."""
    weight, bias = _cleared(convolution)
    for channel in range(3):
        weight[channel, channel] = _CENTRE * gain
        weight[3 + channel, channel] = -_CENTRE * gain
    bias[6], bias[7] = _CONSTANT, -_CONSTANT


def _carry(convolution: nn.Conv2d, kernel: Tensor) -> None:
    """Pass every carrier channel on, smoothed."""
    weight, _ = _cleared(convolution)
    for channel in range(_CARRIERS):
        weight[channel, channel] = kernel


def _cleared(convolution: nn.Conv2d) -> tuple[Tensor, Tensor]:
    assert convolution.bias is not None
    convolution.weight[:_CARRIERS] = 0
    convolution.bias[:_CARRIERS] = 0
    return convolution.weight, convolution.bias


def _open_latents(vae: Any) -> None:
    """Means pass straight through the two 1 x 1 convolutions; the variance starts tiny."""
    vae.quant_conv.weight[4:] *= 0.1
    vae.quant_conv.weight[:4] = torch.eye(8)[:4][:, :, None, None]
    vae.quant_conv.bias[:4] = 0
    vae.quant_conv.bias[4:] = -4
    vae.post_quant_conv.weight.copy_(torch.eye(4)[:, :, None, None])
    vae.post_quant_conv.bias.zero_()


def _fit_encoder(vae: Any, pictures: Tensor) -> None:
    out = vae.encoder.conv_out
    out.weight[:3] = 0
    out.bias.zero_()
    for channel in range(3):
        out.weight[channel, channel, 1, 1], out.weight[channel, 3 + channel, 1, 1] = 1, -1
    colours = vae.encode(pictures).latent_dist.mean[:, :3]
    wanted = nn.functional.avg_pool2d(pictures, 8)
    out.weight[:3] *= 3 * (colours * wanted).sum() / (colours**2).sum()


def _fit_decoder(vae: Any, pictures: Tensor) -> None:
    out = vae.decoder.conv_out
    out.weight.mul_(0.05)
    out.bias.zero_()
    out.weight[:, :_CARRIERS] = 0
    for channel in range(3):
        out.weight[channel, channel, 1, 1], out.weight[channel, 3 + channel, 1, 1] = 1, -1
    shown = vae.decode(vae.encode(pictures).latent_dist.mean).sample
    out.weight.mul_((pictures * shown).sum() / (shown**2).sum())
