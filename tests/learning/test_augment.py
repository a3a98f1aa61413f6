"""Augmentation: exact where it rearranges pixels, torchvision's where it resizes, published where it is random."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.functional import center_crop, resized_crop

from morphobench.errors import DataError
from morphobench.learning.augment import CentreCrop, MultiCrop, View, crop_boxes, sampling_grid
from morphobench.learning.normalise import Normalisation
from morphobench.learning.randomness import sample_keys

NAMES = ("DNA", "ER", "RNA", "AGP", "Mito")


def normalisation(channels=3, plates=2, plain=False, maximum=255):
    rng = np.random.default_rng(0)
    shape = (plates, channels)
    mean = np.zeros(shape) if plain else rng.uniform(0.05, 0.3, shape)
    std = np.ones(shape) if plain else rng.uniform(0.02, 0.2, shape)
    return Normalisation(tuple(f"P{i}" for i in range(plates)), NAMES[:channels], mean, std, maximum, "controls")


def batch(count=6, channels=3, height=32, width=32, partners=False):
    rng = np.random.default_rng(1)
    made = {
        "images": torch.as_tensor(rng.integers(0, 256, (count, channels, height, width), dtype=np.uint8)),
        "plate": torch.as_tensor(rng.integers(0, 2, count)),
        "key": sample_keys(0, 0, np.arange(count)),
        "partners": None,
        "partner_plate": None,
    }
    if partners:
        made["partners"] = made["images"].flip(0) // 2
        made["partner_plate"] = 1 - made["plate"]
    return made


def cropped(images, grid):
    return functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


@pytest.mark.parametrize(("side", "size"), [(32, 32), (32, 16), (64, 24), (50, 50), (50, 33)])
def test_without_strengths_a_view_is_a_plain_resize(side, size):
    data = batch(height=side, width=side)
    views = MultiCrop(View.plain(size), None, normalisation(plain=True), locals_=0)(data)
    expected = functional.interpolate(data["images"] / 255, (size, size), mode="bilinear", align_corners=False)
    torch.testing.assert_close(views[0], expected, atol=1e-5, rtol=0)
    if side == size == 32:
        torch.testing.assert_close(views[0], data["images"] / 255, atol=1e-7, rtol=0)


@pytest.mark.parametrize("side", [16, 21])
@pytest.mark.parametrize(("vertical", "horizontal"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_flips_and_quarter_turns_are_exact(side, vertical, horizontal):
    plain = replace(View.plain(side), vertical_flip=float(vertical), horizontal_flip=float(horizontal))
    keys = sample_keys(3, 0, np.arange(40))
    images = torch.arange(40 * side * side).reshape(40, 1, side, side)
    start = cropped(images, sampling_grid(keys, 0, side, side, View.plain(side)))
    if vertical:
        start = start.flip(2)
    if horizontal:
        start = start.flip(3)
    torch.testing.assert_close(cropped(images, sampling_grid(keys, 0, side, side, plain)), start, rtol=0, atol=0)
    turned = cropped(images, sampling_grid(keys, 0, side, side, replace(plain, quarter_turn=1.0)))
    found = []
    for i in range(len(images)):
        same = [k for k in range(4) if torch.equal(turned[i], torch.rot90(start[i], k, (1, 2)))]
        assert len(same) == 1
        found += same
    assert set(found) == {0, 1, 2, 3}


def test_the_four_turns_are_equally_likely_half_of_the_time():
    keys, view = sample_keys(4, 0, np.arange(4000)), replace(View.plain(2), quarter_turn=0.5)
    corner = cropped(
        torch.arange(4.0).reshape(1, 1, 2, 2).expand(4000, 1, 2, 2), sampling_grid(keys, 0, 2, 2, view)
    )
    # The upper left pixel after 0, 1, 2 and 3 turns to the left.
    counts = [(corner[:, 0, 0, 0].round() == value).sum().item() for value in (0, 1, 3, 2)]
    assert stats.chisquare(counts, np.array([0.625, 0.125, 0.125, 0.125]) * 4000).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 27)])
def test_crops_are_torchvisions_of_the_same_box(height, width):
    view = replace(View.plain(16), scale=(0.2, 0.6), ratio=(3 / 4, 4 / 3))
    keys = sample_keys(0, 5, np.arange(20))
    images = torch.rand(20, 2, height, width)
    found = cropped(images, sampling_grid(keys, 0, height, width, view))
    boxes = [[int(v) for v in box] for box in zip(*crop_boxes(keys, 0, height, width, view), strict=True)]
    assert len({tuple(b) for b in boxes}) > 15
    for i, box in enumerate(boxes):
        top, left, h, w = box
        assert 0 <= top <= height - h
        assert 0 <= left <= width - w
        expected = resized_crop(images[i], *box, [16, 16], InterpolationMode.BILINEAR, antialias=False)
        torch.testing.assert_close(found[i], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("scale", "height", "width"),
    [((0.3, 0.5), 256, 256), ((0.9, 1.1), 256, 256), ((0.8, 1.2), 64, 64), ((0.5, 1.0), 200, 90)],
)
def test_boxes_are_distributed_as_torchvisions(scale, height, width):
    """Area, ratio and place of 2,000 crops, also where many do not fit and the whole image is taken."""
    view = View(64, scale)
    ours = np.stack([b.numpy() for b in crop_boxes(sample_keys(1, 1, np.arange(2000)), 0, height, width, view)])
    image, previous = torch.zeros(1, height, width), torch.get_rng_state()
    torch.manual_seed(0)
    theirs = np.array([RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(2000)]).T
    torch.set_rng_state(previous)
    for mine, other in ((ours, theirs),):
        for figure in (lambda b: b[2] * b[3], lambda b: b[3] / b[2], lambda b: b[0], lambda b: b[1]):
            assert stats.ks_2samp(figure(mine), figure(other)).pvalue > 1e-3
    if scale == (0.3, 0.5):
        area = ours[2] * ours[3] / (height * width)
        assert stats.kstest((area - 0.3) / 0.2, "uniform").pvalue > 1e-3


def published(partners=True):
    large, small = View(24, (0.9, 1.1)), View(12, (0.3, 0.5))
    return MultiCrop(large, small, normalisation()), batch(partners=partners)


def test_a_sample_looks_the_same_in_any_batch():
    crops, data = published()
    every = crops(data)
    order = torch.tensor([4, 1])
    some = crops({k: v[order] for k, v in data.items()})
    alone = crops({k: v[4:5] for k, v in data.items()})
    for whole, two, one in zip(every, some, alone, strict=True):
        torch.testing.assert_close(whole[order], two, rtol=0, atol=0)
        torch.testing.assert_close(whole[4:5], one, rtol=0, atol=0)


def test_views_differ_from_each_other_and_between_epochs():
    crops, data = published()
    views, again = crops(data), crops(data)
    later = crops({**data, "key": sample_keys(0, 1, np.arange(6))})
    for i, view in enumerate(views):
        torch.testing.assert_close(view, again[i], rtol=0, atol=0)
        assert (view != later[i]).any(dim=(1, 2, 3)).all()
        assert not any(torch.equal(view, other) for j, other in enumerate(views) if j != i)


def test_one_global_and_three_local_views_of_each_image():
    crops, data = published()
    views = crops(data)
    assert [tuple(v.shape[1:]) for v in views] == [(3, 24, 24)] * 2 + [(3, 12, 12)] * 6
    blank = crops({**data, "partners": data["partners"] * 0})
    changed = [not torch.equal(a, b) for a, b in zip(views, blank, strict=True)]
    assert changed == [False, True, False, False, False, True, True, True]
    # Without partners all views are of the image.
    single = crops({**data, "partners": None, "partner_plate": None})
    mirrored = crops({**data, "partners": data["images"], "partner_plate": data["plate"]})
    for a, b in zip(single, mirrored, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_plates_are_normalised_by_their_own_statistics_after_the_shift():
    norm, data = normalisation(), batch()
    images = torch.full_like(data["images"], 51)
    view = replace(View.plain(8), shift=1.0, gain=0.1, offset=0.05)
    found = MultiCrop(view, None, norm, globals_=1, locals_=0)({**data, "images": images})[0]
    assert (found == found[:, :, :1, :1]).all()
    mean, std = (torch.as_tensor(a)[data["plate"]].float() for a in (norm.mean, norm.std))
    shifted = found[:, :, 0, 0] * std + mean
    # 51/255 = 0.2 times a gain plus an offset, one draw per sample and channel.
    assert len(shifted.unique()) == shifted.numel()
    assert (shifted - 0.2).abs().max() < 5 * np.hypot(0.02, 0.05)


def test_shift_has_the_published_strength_and_probability():
    norm, count = normalisation(plain=True), 4000
    keys, plates = sample_keys(0, 0, np.arange(count)), torch.zeros(count, dtype=torch.int64)
    crops = MultiCrop(replace(View.plain(1), shift=0.5, gain=0.1, offset=0.1), None, norm, locals_=0, globals_=1)
    dark, bright = (crops.view(torch.full((count, 3, 1, 1), v), plates, keys, 0)[..., 0, 0] for v in (0.0, 255.0))
    same = (bright == 1).all(dim=1) & (dark == 0).all(dim=1)
    assert stats.binomtest(int(same.sum()), count, 0.5).pvalue > 1e-3
    offset, gain = dark[~same], (bright - dark)[~same]
    assert stats.kstest(offset.flatten() / 0.1, "norm").pvalue > 1e-3
    assert stats.kstest((gain.flatten() - 1) / 0.1, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(torch.cat([offset, gain], dim=1).T) - np.eye(6)).max() < 0.1


def test_sixteen_bits_use_their_own_range():
    data = batch()
    wide = {**data, "images": (data["images"].to(torch.int32) * 257).to(torch.uint16)}
    narrow = MultiCrop(View(16), None, normalisation(), locals_=0)(data)
    found = MultiCrop(View(16), None, normalisation(maximum=65535), locals_=0)(wide)
    torch.testing.assert_close(found[0], narrow[0], atol=1e-4, rtol=1e-4)


def test_a_crop_larger_than_the_image_is_an_error():
    crops, data = MultiCrop(View(64), View(16), normalisation()), batch()
    with pytest.raises(DataError, match="64 x 64 pixels is larger than the images, which have 32 x 32"):
        crops.check(data["images"].shape[1:])
    with pytest.raises(DataError, match="centre crop of 48 x 48 pixels is larger"):
        CentreCrop(normalisation(), size=48)(data["images"], data["plate"])
    with pytest.raises(DataError, match="covers 1.2 to 1.5 of the image's area"):
        View(16, (1.2, 1.5)).check(32, 32)
    with pytest.raises(DataError, match="width over height"):
        View(16, ratio=(2, 1)).check(32, 32)
    with pytest.raises(DataError, match="not how they are made"):
        MultiCrop(View(16), None, normalisation())
    MultiCrop(View(32, (0.9, 1.1)), View(16), normalisation()).check((3, 32, 32))


@pytest.mark.parametrize(("resize", "size"), [(None, None), (None, 20), (24, None), (24, 17), (48, 40)])
def test_centre_crop_against_torchvision(resize, size):
    norm, data = normalisation(), batch(height=32, width=40)
    expected = data["images"] / 255
    if resize:
        expected = functional.interpolate(expected, (resize, resize * 40 // 32), mode="bilinear")
    if size:
        expected = center_crop(expected, [size, size])
    mean, std = (torch.as_tensor(a)[data["plate"]].float()[:, :, None, None] for a in (norm.mean, norm.std))
    found = CentreCrop(norm, resize=resize, size=size)(data["images"], data["plate"])
    torch.testing.assert_close(found, (expected - mean) / std, atol=1e-4, rtol=1e-4)
