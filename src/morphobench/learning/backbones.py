"""Backbones from timm that take images of any number of channels and, if transformers, of any size."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from morphobench.errors import DataError, SpecError

logger = logging.getLogger(__name__)


class Backbone(nn.Module):
    """A timm network without its classifier.

    Of a vision transformer the features are the class token after the last norm. Images of another size than the
    position embedding was made for get it interpolated bicubically without smoothing, as DINO's code and CDCL's do
    (timm's own interpolation smooths).

    Parameters
    ----------
    network
        What ``timm.create_model(..., num_classes=0)`` returns.
    channels
        Channels of the images.

    Attributes
    ----------
    num_features
        Width D of the features.
    arguments
        What :func:`create_backbone` builds an equal one from, without its weights; kept beside trained weights.
    """

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {}
        self.network = network
        self.channels = channels
        self.num_features: int = network.num_features
        self.patch: tuple[int, int] | None = None
        if isinstance(network, VisionTransformer):
            if network.num_prefix_tokens != 1 or network.no_embed_class or network.global_pool != "token":
                raise SpecError("backbone is a transformer without a plain class token, expected one")
            if not network.dynamic_img_size:
                raise SpecError("backbone is a vision transformer, expected img_size to be given for it")
            self.patch = network.patch_embed.patch_size

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of images.

        Parameters
        ----------
        x
            (B, C, H, W) floats; H and W are multiples of the patch.

        Returns
        -------
        Tensor
            (B, D).

        Raises
        ------
        DataError
            If the images have another number of channels, or sides that patches do not fill.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise DataError(f"images of shape {tuple(x.shape)}, the backbone takes (B, {self.channels}, H, W)")
        if self.patch is None:
            return self.network(x)
        height, width = x.shape[-2:]
        if height % self.patch[0] or width % self.patch[1]:
            raise DataError(f"images of {height} x {width} pixels, expected multiples of the patch {self.patch}")
        return self._class_token(x)

    def _class_token(self, x: Tensor) -> Tensor:
        net = self.network
        grid = net.patch_embed(x)
        position = resample_abs_pos_embed(
            net.pos_embed, list(grid.shape[1:3]), list(net.patch_embed.grid_size), antialias=False
        )
        tokens = torch.cat([net.cls_token.expand(len(x), -1, -1), grid.flatten(1, 2)], dim=1)
        tokens = net.norm_pre(net.patch_drop(net.pos_drop(tokens + position)))
        return net.fc_norm(net.norm(net.blocks(tokens))[:, 0])


def create_backbone(
    name: str,
    channels: int,
    *,
    pretrained: Path | str | None,
    img_size: int | None,
    drop_path: float = 0.0,
    patch: int | None = None,
    dim: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
) -> Backbone:
    """Build a backbone, and fill it with weights if a file has them. Nothing is ever downloaded.

    Parameters
    ----------
    name
        A model of timm, such as ``deit_small_patch16_224`` (CDCL, section 4).
    channels
        Channels of the images.
    pretrained
        A file of weights (``.safetensors``, or ``.pth`` with tensors only) of the same architecture; None leaves
        the random start. Filters of the stem are repeated over the channels in their order (R, G, B, R, G, B ...)
        and cut, without rescaling, as CDCL's code does; the log says so. A position embedding for another size is
        interpolated. A classifier in the file is left out.
    img_size
        Side in pixels that a transformer's position embedding is made for; None for convolutional networks.
    drop_path
        Stochastic depth of the last block, growing linearly from 0 at the first.
    patch, dim, depth, heads
        Of a transformer, where they shall differ from the named model's: small networks for demonstrations.

    Raises
    ------
    SpecError
        If timm has no such model, or refuses the options.
    DataError
        If the file cannot be read or does not fit.
    """
    changed = {"patch_size": patch, "embed_dim": dim, "depth": depth, "num_heads": heads, "img_size": img_size}
    options = {key: value for key, value in changed.items() if value is not None}
    if img_size is not None:
        options["dynamic_img_size"] = True
    if not timm.is_model(name):
        raise SpecError(f"backbone {name!r} is unknown to timm {timm.__version__}")
    try:
        network = timm.create_model(
            name, pretrained=False, num_classes=0, in_chans=channels, drop_path_rate=drop_path, **options
        )
    except (TypeError, AssertionError) as error:
        raise SpecError(f"backbone {name!r} cannot be built with {options}: {error}") from error
    backbone = Backbone(network, channels)
    sizes = {"img_size": img_size, "patch": patch, "dim": dim, "depth": depth, "heads": heads}
    backbone.arguments = {"name": name, "channels": channels, **sizes}
    if pretrained is not None:
        _fill(backbone, Path(pretrained))
    return backbone


def _fill(backbone: Backbone, path: Path) -> None:
    """Load weights from a file into a backbone, fitted to its channels and image size."""
    network = backbone.network
    weights = _read(path)
    stem = f"{network.pretrained_cfg['first_conv']}.weight"
    if stem in weights:
        weights[stem] = _tiled(weights[stem], backbone.channels, path)
    if backbone.patch is not None and "pos_embed" in weights:
        weights["pos_embed"] = resample_abs_pos_embed(
            weights["pos_embed"], list(network.patch_embed.grid_size), antialias=False
        )
    expected = network.state_dict()
    # Published files have a classifier too, distilled ones a second.
    classifiers = ("head", "head_dist", "fc", "classifier")
    weights = {k: v for k, v in weights.items() if k in expected or k.split(".")[0] not in classifiers}
    wrong = [k for k in expected if k not in weights] + [k for k in weights if k not in expected]
    wrong += [k for k in expected if k in weights and weights[k].shape != expected[k].shape]
    if wrong:
        raise DataError(
            f"{path}: {len(wrong)} weights do not fit the backbone, first {wrong[0]}: file has "
            f"{_shape(weights, wrong[0])}, expected {_shape(expected, wrong[0])}"
        )
    network.load_state_dict(weights)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected weights of the backbone")
    try:
        if path.suffix == ".safetensors":
            loaded = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader has exceptions of its own, pickle's among them
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: cannot be read as weights ({reason})") from error
    for key in ("model", "state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise DataError(f"{path}: holds {type(loaded).__name__}, expected named tensors")
    return {k.removeprefix("network."): v for k, v in loaded.items()}


def _tiled(filters: Tensor, channels: int, path: Path) -> Tensor:
    """Return (O, channels, h, w) of (O, I, h, w) filters, taking the input channels in turn."""
    known = filters.shape[1]
    if known == channels:
        return filters
    logger.warning("%s: stem of %d channels adapted to %d by repeating its filters", path, known, channels)
    return filters[:, torch.arange(channels) % known].contiguous()


def _shape(weights: Mapping[str, Tensor], name: str) -> str:
    return str(tuple(weights[name].shape)) if name in weights else "none"
