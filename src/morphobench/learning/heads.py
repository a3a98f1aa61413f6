"""Heads: what lies between a backbone's features and a loss, and is thrown away after training."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from morphobench.learning.joint import JointBatchNorm1d, precise


class DINOHead(nn.Module):
    """Projection head of DINO (Caron et al. 2021, section 3; CDCL's code has other widths).

    Linear, GELU, Linear, GELU, Linear to the bottleneck, L2 normalisation, and a linear layer without bias whose
    rows have length 1: logits are cosines. No batch normalisation. The last layer and the normalisation are
    computed in float32 also under autocast, since temperatures near 0.04 magnify rounding.

    Parameters
    ----------
    features
        Width of the backbone (DeiT-S: 384).
    hidden
        Width of the two hidden layers (CDCL: 1024).
    bottleneck
        Width before the last layer (CDCL: 512).
    outputs
        Number of logits (CDCL: 4096).
    """

    def __init__(self, features: int, hidden: int, bottleneck: int, outputs: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(features, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = UnitRows(bottleneck, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs) float32 logits of (B, features)."""
        return self.last_layer(self.mlp(x))


class UnitRows(nn.Module):
    """Cosines of the input with each row of a matrix: weight normalisation with the gain fixed to 1.

    The matrix starts as a linear layer's does, in DINO's code and CDCL's, and only its rows' directions matter.
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, features))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs) float32 of (B, features)."""
        with torch.autocast(x.device.type, enabled=False):
            unit = functional.normalize(precise(self.weight), dim=-1)
            return functional.linear(functional.normalize(precise(x), dim=-1), unit)


def byol_projector(features: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return BYOL's projector (Grill et al. 2020) as CDCL's code has it: with batch normalisation at its end too.

    Linear, batch norm, ReLU, Linear, batch norm. CDCL: 384, 4096, 256. Statistics are of the joint mini-batch.
    """
    return nn.Sequential(*byol_predictor(features, hidden, outputs), JointBatchNorm1d(outputs))


def byol_predictor(features: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return BYOL's predictor (Grill et al. 2020, section 3.2): Linear, batch norm, ReLU, Linear.

    CDCL: 256, 4096, 256. Statistics are of the joint mini-batch.
    """
    return nn.Sequential(
        nn.Linear(features, hidden), JointBatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs)
    )
