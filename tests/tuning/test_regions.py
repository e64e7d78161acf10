"""Regions: dense features under maps, boxes and masks, written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from captum_gradeclip.tuning import box_features, mask_features, region_embeddings
from captum_gradeclip.tuning.clipself import crops, patch_boxes


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).double()


def test_a_region_is_the_sum_of_features_weighted_by_its_map() -> None:
    maps, dense = random(2, 3, 4, 5), random(2, 6, 4, 5, seed=1) - 0.5
    found, present = region_embeddings(maps, dense)
    for n in range(2):
        for k in range(3):
            total = torch.zeros(6).double()
            for row in range(4):
                for column in range(5):
                    total = total + maps[n, k, row, column] * dense[n, :, row, column]
            assert torch.allclose(found[n, k], total / total.norm(), rtol=1e-10)
    assert present.all()


def test_the_scale_of_a_map_does_not_count() -> None:
    maps, dense = random(1, 2, 4, 4).float(), random(1, 6, 4, 4, seed=1).float()
    for factor in (1e-30, 1e30):
        assert torch.allclose(region_embeddings(maps * factor, dense)[0], region_embeddings(maps, dense)[0], atol=1e-5)


def test_a_map_of_zeros_is_no_region_and_leaves_a_gradient_of_numbers() -> None:
    maps, dense = random(1, 2, 4, 4), random(1, 6, 4, 4, seed=1).requires_grad_()
    maps[0, 1] = 0
    found, present = region_embeddings(maps, dense)
    assert present.tolist() == [[True, False]] and not found[0, 1].any()
    assert torch.isfinite(torch.autograd.grad(found.sum(), dense)[0]).all()


def test_regions_have_the_gradient_of_their_differences() -> None:
    maps, dense = random(2, 2, 3, 3), random(2, 4, 3, 3, seed=1).requires_grad_()
    boxes = [torch.tensor([[0.1, 0.2, 0.7, 0.9]]).double()] * 2
    masks = [random(2, 9, 9, seed=2) > 0.9] * 2
    assert torch.autograd.gradcheck(lambda x: region_embeddings(maps, x)[0], dense)
    assert torch.autograd.gradcheck(lambda x: box_features(x, boxes), dense)
    assert torch.autograd.gradcheck(lambda x: mask_features(x, masks), dense)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (random(2, 1, 3, 3), "on the grid of the dense features"),
        (random(2, 1, 4, 4) - 0.5, "at least 0"),
        (random(2, 1, 4, 4) * torch.nan, "maps: expected finite"),
    ],
)
def test_maps_that_are_no_weights_are_refused(maps: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        region_embeddings(maps, random(2, 6, 4, 4))


def test_a_box_on_the_grid_is_the_mean_of_its_cells() -> None:
    dense = random(2, 6, 4, 8) - 0.5
    boxes = [torch.tensor([[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 1.0, 1.0]]), torch.zeros(0, 4)]
    found = box_features(dense, boxes)
    assert found.shape == (2, 6)
    # RoIAlign reads between the centers of cells, of which the samples of a box on the grid are the corners' neighbors.
    for place, part in enumerate((dense[0, :, 2:4, 2:6], dense[0])):
        expected = F.normalize(part.flatten(1).mean(dim=1), dim=0)
        assert torch.allclose(found[place], expected, atol=1e-6)


def test_a_mask_is_the_mean_of_the_cells_that_it_touches() -> None:
    dense = random(1, 6, 4, 4) - 0.5
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[0, 4:8, 8:16] = True  # the cells (1, 2) and (1, 3)
    found = mask_features(dense, [mask])
    assert torch.allclose(found[0], F.normalize(dense[0, :, 1, 2:].mean(dim=1), dim=0))


def test_boxes_outside_of_the_picture_are_refused() -> None:
    for box in ([0.0, 0.0, 1.2, 1.0], [0.5, 0.0, 0.5, 1.0], [-0.1, 0.0, 1.0, 1.0]):
        with pytest.raises(ValueError, match="boxes: expected left < right"):
            box_features(random(1, 6, 4, 4), [torch.tensor([box])])


def test_cells_of_a_grid_cover_the_picture_once() -> None:
    for seed in range(20):
        boxes = patch_boxes(1000, torch.Generator().manual_seed(seed))
        area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum()
        assert torch.isclose(area, torch.tensor(1.0)) and len(patch_boxes(3, torch.Generator().manual_seed(seed))) <= 3


def test_a_crop_is_what_lies_in_the_box() -> None:
    image = random(1, 3, 8, 8)
    found = crops(image, [torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 1.0, 0.5]])])
    assert torch.allclose(found[0], image[0]) and found.shape == (2, 3, 8, 8)
    assert torch.isclose(found[1].amax(), image[0, :, :4, 4:].amax(), rtol=0.2)
    assert torch.allclose(found[1, :, 0, 0], image[0, :, 0, 4])
