"""Heads against lightly's, their sizes against the facts."""

import pytest
import torch
from lightly.models.modules.heads import BYOLPredictionHead, DINOProjectionHead

from morphobench.learning.heads import DINOHead, UnitRows, byol_predictor, byol_projector


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_dino_head_is_lightlys():
    ours, theirs = DINOHead(6, 10, 5, 7), DINOProjectionHead(6, 10, 5, 7)
    weights = ours.state_dict()
    linear = ["mlp.0", "mlp.2", "mlp.4"]
    for layer, name in zip([m for m in theirs.layers if isinstance(m, torch.nn.Linear)], linear, strict=True):
        layer.load_state_dict({"weight": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]})
    theirs.last_layer.weight_v.data.copy_(weights["last_layer.weight"])
    x = torch.randn(4, 6)
    torch.testing.assert_close(ours(x), theirs(x))
    for module in (ours, theirs):
        module(x).square().sum().backward()
    torch.testing.assert_close(ours.last_layer.weight.grad, theirs.last_layer.weight_v.grad)
    torch.testing.assert_close(ours.mlp[0].weight.grad, theirs.layers[0].weight.grad)


def test_cdcl_heads_have_their_number_of_parameters():
    assert parameters(DINOHead(384, 1024, 512, 4096)) == (
        384 * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 * 512 + 512 + 512 * 4096
    )
    assert parameters(byol_projector(384, 4096, 256)) == (
        384 * 4096 + 4096 + 2 * 4096 + 4096 * 256 + 256 + 2 * 256
    )
    assert parameters(byol_predictor(256, 4096, 256)) == 256 * 4096 + 4096 + 2 * 4096 + 4096 * 256 + 256


def test_dino_head_starts_as_described():
    torch.manual_seed(0)
    head = DINOHead(384, 1024, 512, 64)
    for layer in (head.mlp[0], head.mlp[2], head.mlp[4]):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert not layer.bias.any()
    assert head.last_layer.weight.abs().max() <= 512**-0.5


def test_logits_are_cosines_in_float32_even_under_autocast():
    layer = UnitRows(8, 3)
    x = torch.randn(5, 8)
    expected = torch.nn.functional.cosine_similarity(x[:, None], layer.weight[None], dim=-1)
    torch.testing.assert_close(layer(x), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.float32
        torch.testing.assert_close(layer(x), expected)


def test_byol_predictor_is_lightlys_and_projector_ends_with_batch_norm():
    ours, theirs = byol_predictor(6, 9, 5), BYOLPredictionHead(6, 9, 5)
    # Lightly leaves out the first bias, which batch normalisation takes away again.
    theirs.layers.load_state_dict({k: v for k, v in ours.state_dict().items() if k != "0.bias"})
    x = torch.randn(7, 6)
    torch.testing.assert_close(ours(x), theirs(x))
    projected = byol_projector(6, 9, 5)(torch.randn(64, 6) * 3 + 1)
    torch.testing.assert_close(projected.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(projected.var(0, unbiased=False), torch.ones(5), atol=1e-3, rtol=0)
