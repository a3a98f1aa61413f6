"""Backbones: channels, sizes, weights from files, and what they refuse."""

import logging

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional

from morphobench.errors import DataError, SpecError
from morphobench.learning.backbones import Backbone, create_backbone

TINY = {"patch": 4, "dim": 16, "depth": 2, "heads": 2}


def tiny(channels=5, pretrained=None, img_size=16, drop_path=0.0):
    torch.manual_seed(0)
    name = "deit_tiny_patch16_224"
    return create_backbone(
        name, channels, pretrained=pretrained, img_size=img_size, drop_path=drop_path, **TINY
    ).eval()


def timm_tiny(channels, classes=0, img_size=16):
    return timm.create_model(
        "deit_tiny_patch16_224",
        in_chans=channels,
        num_classes=classes,
        img_size=img_size,
        patch_size=4,
        embed_dim=16,
        depth=2,
        num_heads=2,
    ).eval()


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_deit_small_has_its_published_number_of_parameters():
    def build(channels):
        return create_backbone("deit_small_patch16_224", channels, pretrained=None, img_size=224)

    three = build(3)
    # 22.05 M in DeiT's table 1 are these and a classifier of 384 x 1000 + 1000.
    assert parameters(three) == 21_665_664
    assert three.num_features == 384
    assert parameters(build(6)) == 21_665_664 + 3 * 16 * 16 * 384


def test_at_its_own_size_it_is_timms_network():
    backbone = tiny()
    reference = timm_tiny(5)
    reference.load_state_dict(backbone.network.state_dict())
    x = torch.randn(3, 5, 16, 16)
    torch.testing.assert_close(backbone(x), reference(x))


def test_other_sizes_interpolate_positions_bicubically_without_smoothing():
    backbone = tiny()
    small = timm_tiny(5, img_size=8)
    weights = backbone.network.state_dict()
    grid = weights["pos_embed"][:, 1:].reshape(1, 4, 4, 16).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, scale_factor=0.5, mode="bicubic", align_corners=False)
    grid = grid.permute(0, 2, 3, 1).reshape(1, 4, 16)
    small.load_state_dict({**weights, "pos_embed": torch.cat([weights["pos_embed"][:, :1], grid], 1)})
    x = torch.randn(2, 5, 8, 8)
    torch.testing.assert_close(backbone(x), small(x))
    assert backbone(torch.randn(2, 5, 24, 12)).shape == (2, 16)


@pytest.mark.parametrize("channels", [2, 3, 5, 6])
def test_filters_are_tiled_over_channels_and_cut(tmp_path, caplog, channels):
    source = timm_tiny(3, classes=10).state_dict()
    save_file(source, tmp_path / "weights.safetensors")
    with caplog.at_level(logging.WARNING):
        backbone = tiny(channels, pretrained=tmp_path / "weights.safetensors")
    filters = backbone.network.patch_embed.proj.weight
    assert filters.shape[1] == channels
    for channel in range(channels):
        assert torch.equal(filters[:, channel], source["patch_embed.proj.weight"][:, channel % 3])
    assert torch.equal(backbone.network.patch_embed.proj.bias, source["patch_embed.proj.bias"])
    assert torch.equal(backbone.network.blocks[1].mlp.fc1.weight, source["blocks.1.mlp.fc1.weight"])
    said = f"stem of 3 channels adapted to {channels}" in caplog.text
    assert said == (channels != 3)


def test_weights_for_another_size_and_in_authors_wrapping_are_taken(tmp_path):
    source = timm_tiny(3, classes=10, img_size=32).state_dict()
    torch.save({"model": source}, tmp_path / "weights.pth")
    backbone = tiny(3, pretrained=str(tmp_path / "weights.pth"))
    assert backbone.network.pos_embed.shape == (1, 17, 16)
    assert torch.equal(backbone.network.pos_embed[:, 0], source["pos_embed"][:, 0])
    assert torch.equal(backbone.network.norm.weight, source["norm.weight"])


def test_its_own_weights_come_back(tmp_path):
    first = tiny(5)
    save_file(first.state_dict(), tmp_path / "own.safetensors")
    torch.manual_seed(9)
    x = torch.randn(2, 5, 16, 16)
    second = create_backbone(
        "deit_tiny_patch16_224", 5, pretrained=tmp_path / "own.safetensors", img_size=16, **TINY
    ).eval()
    assert torch.equal(first(x), second(x))


def test_weights_that_do_not_fit_are_refused(tmp_path):
    source = timm_tiny(3).state_dict()
    save_file({k: v for k, v in source.items() if k != "norm.bias"}, tmp_path / "part.safetensors")
    with pytest.raises(
        DataError, match=r"part.safetensors: 1 weights do not fit.*norm.bias: file has none.*\(16,\)"
    ):
        tiny(3, pretrained=tmp_path / "part.safetensors")
    save_file({**source, "norm.bias": torch.zeros(4)}, tmp_path / "shape.safetensors")
    with pytest.raises(DataError, match=r"file has \(4,\), expected \(16,\)"):
        tiny(3, pretrained=tmp_path / "shape.safetensors")
    with pytest.raises(DataError, match="no such file"):
        tiny(3, pretrained=tmp_path / "absent.pth")
    (tmp_path / "page.safetensors").write_text("<html>")
    with pytest.raises(DataError, match="cannot be read as weights"):
        tiny(3, pretrained=tmp_path / "page.safetensors")
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(DataError, match="cannot be read as weights"):
        tiny(3, pretrained=tmp_path / "page.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(DataError, match="holds list, expected named tensors"):
        tiny(3, pretrained=tmp_path / "list.pth")


def test_images_that_do_not_fit_are_refused():
    backbone = tiny(5)
    with pytest.raises(DataError, match=r"\(2, 3, 16, 16\), the backbone takes \(B, 5, H, W\)"):
        backbone(torch.zeros(2, 3, 16, 16))
    with pytest.raises(DataError, match=r"18 x 16 pixels, expected multiples of the patch \(4, 4\)"):
        backbone(torch.zeros(2, 5, 18, 16))


def test_unknown_models_and_options_are_refused():
    with pytest.raises(SpecError, match="'deit_smol' is unknown to timm"):
        create_backbone("deit_smol", 3, pretrained=None, img_size=224)
    with pytest.raises(SpecError, match="cannot be built with"):
        create_backbone("deit_tiny_patch16_224", 3, pretrained=None, img_size=16, dim=30, heads=4)
    with pytest.raises(SpecError, match="cannot be built with"):
        create_backbone("resnet10t", 3, pretrained=None, img_size=None, depth=3)
    with pytest.raises(SpecError, match="expected img_size"):
        create_backbone("deit_tiny_patch16_224", 3, pretrained=None, img_size=None)
    with pytest.raises(SpecError, match="without a plain class token"):
        Backbone(timm.create_model("deit3_small_patch16_224", num_classes=0, depth=1), 3)


def test_stochastic_depth_grows_over_depth_and_rests_at_evaluation():
    backbone = create_backbone(
        "deit_tiny_patch16_224", 3, pretrained=None, img_size=16, drop_path=0.4, **{**TINY, "depth": 3}
    )
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in backbone.network.blocks]
    assert rates == pytest.approx([0.0, 0.2, 0.4])
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(backbone.eval()(x), backbone(x))


def test_convolutional_networks_serve_too(tmp_path):
    source = timm.create_model("resnet10t", num_classes=7).state_dict()
    save_file(source, tmp_path / "resnet.safetensors")
    backbone = create_backbone("resnet10t", 4, pretrained=tmp_path / "resnet.safetensors", img_size=None)
    assert torch.equal(backbone.network.conv1[0].weight[:, 3], source["conv1.0.weight"][:, 0])
    assert backbone.eval()(torch.randn(2, 4, 40, 32)).shape == (2, backbone.num_features)
