"""CONDITIONING made ready for a run: ranges, areas, masks, extra channels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.engine.conditioning import Area, Entry, prepare
from sfumato.engine.handles import LatentFormat
from sfumato.engine.model_sampling import Discrete

SAMPLING = Discrete.scaled_linear()
FORMAT = LatentFormat(scale=0.5)
TEXT = torch.ones(1, 77, 8)


def entry(latent: Tensor | None = None, in_channels: int = 4, **options: Any) -> Entry:
    """One entry, prepared for a latent of 10 x 20."""
    place = torch.zeros(1, 4, 10, 20) if latent is None else latent
    (found,) = prepare([[TEXT, options]], SAMPLING, place, FORMAT, in_channels, torch.float32)
    return found


def test_a_plain_text_counts_everywhere_and_always() -> None:
    plain = entry()
    assert (plain.area, plain.weight, plain.control, plain.concat) == (None, 1.0, None, None)
    assert all(plain.active(level) for level in (0.0, 0.03, 14.6, 1e6))


def test_a_range_is_told_in_parts_of_the_way() -> None:
    ranged = entry(start_percent=0.25, end_percent=0.75)
    assert (ranged.start_sigma, ranged.end_sigma) == (SAMPLING.percent_to_sigma(0.25), SAMPLING.percent_to_sigma(0.75))
    assert [ranged.active(SAMPLING.percent_to_sigma(p)) for p in (0.2, 0.25, 0.5, 0.75, 0.8)] == [False, True, True, True, False]


def test_ranges_that_meet_leave_no_level_out_and_the_ends_are_in() -> None:
    first, second = entry(end_percent=0.4), entry(start_percent=0.4)
    for level in [*SAMPLING.sigmas.tolist(), 0.0, 1000.0]:
        assert first.active(level) or second.active(level)


@pytest.mark.parametrize(
    ("area", "expected"),
    [
        ((4, 8, 2, 6), Area(4, 8, 2, 6)),
        ((40, 80, 2, 6), Area(8, 14, 2, 6)),
        ((4, 8, 50, 60), Area(1, 1, 9, 19)),
        (("percentage", 0.5, 0.25, 0.1, 0.5), Area(5, 5, 1, 10)),
        (("percentage", 0.0, 0.0, 0.0, 0.0), Area(1, 1, 0, 0)),
        (("percentage", 1.0, 1.0, 0.5, 0.5), Area(5, 10, 5, 10)),
    ],
)
def test_an_area_lies_inside_the_latent(area: Any, expected: Area) -> None:
    assert entry(area=area).area == expected


def test_an_area_is_cut_from_the_last_two_dimensions() -> None:
    rows = torch.arange(10.0)[:, None] * 100 + torch.arange(20.0)
    cut = Area(2, 3, 4, 5).cut(rows.expand(2, 4, 10, 20))
    assert cut.shape == (2, 4, 2, 3)
    assert cut[1, 2].tolist() == [[405, 406, 407], [505, 506, 507]]


def test_an_area_fades_only_where_the_picture_goes_on() -> None:
    weight = entry(area=(10, 12, 0, 8), strength=2.0).weight
    assert isinstance(weight, Tensor)
    column = [min(1.0, (place + 1) / 8) * 2.0 for place in range(12)]  # its right edge is the picture's own
    assert torch.allclose(weight, torch.tensor(column).expand(1, 1, 10, 12))
    whole = entry(area=(10, 20, 0, 0)).weight
    assert torch.equal(torch.as_tensor(whole), torch.ones(1, 1, 10, 20))


def test_a_mask_is_brought_to_the_size_of_the_latent_and_counts_with_both_strengths() -> None:
    mask = torch.zeros(1, 80, 160)
    mask[..., 80:] = 1
    weight = entry(mask=mask, mask_strength=0.5, strength=0.5).weight
    assert isinstance(weight, Tensor)
    assert weight.shape == (1, 1, 10, 20)
    assert torch.equal(weight[..., 10:], torch.full((1, 1, 10, 10), 0.25))
    assert weight[..., :10].abs().max() == 0.0


@pytest.mark.parametrize("shape", [(10, 20), (1, 10, 20), (1, 1, 10, 20)])
def test_a_mask_may_come_with_or_without_batch_and_channel(shape: tuple[int, ...]) -> None:
    assert torch.as_tensor(entry(mask=torch.ones(shape)).weight).shape == (1, 1, 10, 20)


def test_the_bounds_of_a_mask_become_its_area() -> None:
    mask = torch.zeros(1, 10, 20)
    mask[:, 1:10, 7:18] = 1
    bounded = entry(mask=mask, set_area_to_bounds=True)
    assert bounded.area == Area(9, 11, 1, 7)
    assert torch.equal(torch.as_tensor(bounded.weight), torch.ones(1, 1, 9, 11))
    assert entry(mask=mask).area is None


def test_a_tiny_mask_gets_an_area_the_network_can_work_on_and_an_empty_one_none() -> None:
    mask = torch.zeros(1, 10, 20)
    mask[:, 3, 4] = 1
    assert entry(mask=mask, set_area_to_bounds=True).area == Area(7, 8, 3, 4)
    empty = entry(mask=torch.zeros(1, 10, 20), set_area_to_bounds=True)
    assert empty.area is None
    assert torch.as_tensor(empty.weight).abs().max() == 0.0


def test_an_inpainting_network_gets_the_mask_and_then_the_scaled_masked_picture() -> None:
    picture, mask = torch.randn(1, 4, 10, 20), torch.zeros(1, 80, 160)
    mask[..., :80] = 1
    found = entry(in_channels=9, concat_latent_image=picture, concat_mask=mask).concat
    assert found is not None
    assert found.shape == (1, 5, 10, 20)
    assert torch.equal(found[:, 0], mask[:, ::8, ::8])
    assert torch.equal(found[:, 1:], picture * 0.5)


def test_without_a_picture_an_inpainting_network_paints_everything() -> None:
    found = entry(in_channels=9).concat
    assert found is not None
    assert torch.equal(found[:, 0], torch.ones(1, 10, 20))
    assert found[:, 1:].abs().max() == 0.0


def test_a_network_with_eight_channels_gets_a_picture_without_a_mask() -> None:
    picture = torch.randn(1, 4, 10, 20)
    found = entry(in_channels=8, concat_latent_image=picture, concat_mask=torch.ones(1, 10, 20)).concat
    assert found is not None
    assert torch.equal(found, picture * 0.5)
    empty = entry(in_channels=8).concat
    assert empty is not None
    assert empty.abs().max() == 0.0


def test_a_plain_network_gets_no_extra_channels() -> None:
    assert entry(concat_latent_image=torch.ones(1, 4, 10, 20), concat_mask=torch.ones(1, 10, 20)).concat is None


def test_extra_channels_are_cut_to_the_area() -> None:
    picture = torch.arange(200.0).reshape(1, 1, 10, 20).expand(1, 4, 10, 20)
    found = entry(in_channels=9, concat_latent_image=picture, concat_mask=torch.ones(1, 10, 20), area=(2, 3, 4, 5)).concat
    assert found is not None
    assert torch.equal(found[0, 1], picture[0, 0, 4:6, 5:8] * 0.5)


def test_what_is_not_known_is_handed_on() -> None:
    assert entry(size_ids=[1, 2]).extra["size_ids"] == [1, 2]
