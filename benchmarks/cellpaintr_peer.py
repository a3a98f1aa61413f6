"""CellPainTR's authors' network, from a checkout of https://github.com/CellPainTR/CellPainTR, beside ours.

Nothing of theirs is here; commit c2c20f2 was used. It needs einops (`pip install einops`). What was replaced:

- the tokenizer, of which the models use only the number of the padding token;
- the loop of their scripts, which import a module, utils, that the repository lacks: AdamW and clipping are
  PyTorch's as there, but gradients are not looked over for NaN, nor their norm computed once more.

They train in float32.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from morphobench.profilenets.model import CellPainTR

# Their vocabulary: six words, of which one is [CLS], then the features.
SPECIAL, CLS = 6, 2
MODELS = {1: "models.model_pretrain", 2: "models.model_contrastive_stable", 3: "models.model_contrastive_stable"}


def commit(folder: Path) -> str:
    """Return the checkout's commit, or that it is no git repository."""
    found = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown commit"


class _Sized(nn.Module):
    """Their model with its inputs made from ours."""

    def __init__(self, model: nn.Module, features: int) -> None:
        super().__init__()
        self.model = model
        ids = torch.cat([torch.tensor([CLS]), SPECIAL + torch.arange(features)])
        self.register_buffer("ids", ids, persistent=False)

    def forward(self, values: Tensor, groups: Tensor, source: Tensor, label: Tensor, *, contrast: bool) -> Tensor:
        """Return their loss of a mini-batch; they draw the mask themselves."""
        tokens = SimpleNamespace(input_ids=self.ids.expand(len(values), -1))
        labels = (label,) if contrast else ()
        return self.model(tokens, values, groups.expand(len(values), -1), source, *labels)

    def outputs(self, values: Tensor, masked: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, L, W) encoded tokens and the (B, F) predictions for a given mask."""
        ids = self.ids.expand(len(values), -1)
        tokens = self.model.encoder(ids, values.masked_fill(masked, 0), source, masked_indices=masked.clone())
        return tokens, self.model.regressor(tokens)[:, 1:-1, 0]


def network(folder: Path, features: int, stage: int, *, double: bool = False) -> _Sized:
    """Return their network of this size, with the rest of their ``configs/config.json``."""
    if importlib.util.find_spec("einops") is None:
        sys.exit("the authors' code needs einops, which is not installed; run: pip install einops")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    config = json.loads((folder / "configs" / "config.json").read_text())
    config |= {"vocab_size": features + SPECIAL}
    config["layer"]["l_max"] = features + 2
    if double:
        # It would round the residual stream of a network in double precision.
        config["residual_in_fp32"] = False
    with tempfile.TemporaryDirectory() as part:
        path = Path(part) / "config.json"
        path.write_text(json.dumps(config))
        options = {"hyena_config": str(path), "mrm_probability": 0.4}
        model = importlib.import_module(MODELS[stage]).HyenaMorph(SimpleNamespace(pad_token_id=0), options)
    return _Sized(model.double() if double else model, features)


@torch.no_grad()
def copy_weights(ours: CellPainTR, theirs: _Sized) -> None:
    """Give their network the weights of ours, whose features must be in sorted order."""
    backbone, start = theirs.model.encoder.backbone, theirs.model.encoder.backbone.embeddings
    theirs.model.regressor.load_state_dict(ours.regressor.state_dict())
    start.feature_embeddings.load_state_dict(ours.value.state_dict())
    start.morphological_embeddings.weight[SPECIAL:] = ours.identity
    start.morphological_embeddings.weight[CLS] = ours.cls_identity
    start.source_token.weight[: len(ours.sources)] = ours.sources.known
    start.cls_token[0, 0], start.mask_token[0, 0] = ours.cls, ours.mask
    backbone.ln_f.load_state_dict(ours.norm.state_dict())
    for layer, block in zip(backbone.layers, ours.blocks, strict=True):
        pairs = [(layer.norm1, block.norm1), (layer.norm2, block.norm2)]
        pairs += [(layer.mlp.fc1, block.fc1), (layer.mlp.fc2, block.fc2)]
        pairs += [(layer.mixer.in_proj, block.mixer.in_proj), (layer.mixer.out_proj, block.mixer.out_proj)]
        pairs += [(layer.mixer.short_filter, block.mixer.short)]
        written = layer.mixer.filter_fn
        for index, module in enumerate(block.mixer.filter.network):
            if isinstance(module, nn.Linear):
                pairs.append((written.implicit_filter[index], module))
            else:
                written.implicit_filter[index].freq[0] = module.frequency
        for theirs_, ours_ in pairs:
            theirs_.load_state_dict(ours_.state_dict())
        written.bias.copy_(block.mixer.filter.bias)


@torch.no_grad()
def agreement(build: Callable[[], CellPainTR], folder: Path) -> str:
    """Say how far the networks are apart with the same weights, in double and in single precision.

    Weights are moved from where they start, at which biases are zero. In single precision each is also compared
    with itself in double precision: the filters' window makes the early tokens large, and rounding with them.
    """
    made, found = build().eval(), {}
    features = len(made.names)
    for parameter in made.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    values, source = torch.randn(2, features), torch.tensor([1, 7])
    masked = torch.rand(2, features) < 0.3
    for double in (False, True):
        ours, given = (made.double(), values.double()) if double else (made, values)
        theirs = network(folder, features, 1, double=double).eval()
        copy_weights(ours, theirs)
        found["here", double] = ours.tokens(given, masked, source), ours(given, masked, source)[1]
        found["authors", double] = theirs.outputs(given, masked, source)

    def apart(one: tuple[str, bool], other: tuple[str, bool]) -> str:
        pairs = zip(found[one], found[other], strict=True)
        return "{:.2g} (predictions {:.2g})".format(*((a - b).abs().max().item() for a, b in pairs))

    return (
        f"largest difference of tokens in double precision {apart(('here', True), ('authors', True))}; "
        f"single precision {apart(('here', False), ('authors', False))}; single from double precision: "
        f"here {apart(('here', False), ('here', True))}, authors {apart(('authors', False), ('authors', True))}; "
        f"largest token {found['here', True][0].abs().max():.2g}"
    )
