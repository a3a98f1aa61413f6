"""CellPainTR's network: its start, what it sees and does not see, names, and sources."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from morphobench.errors import DataError, SpecError
from morphobench.profilenets.model import CellPainTR, SourceEmbedding

NAMES = tuple(
    f"{part}_Intensity_{measure}_{dye}"
    for part in ("Nuclei", "Cells")
    for measure in ("MeanIntensity", "StdIntensity")
    for dye in ("RNA", "DNA")
)
SMALL = {"width": 8, "blocks": 2, "filter_options": {"hidden": 6}}


def network(names=NAMES, sources=3, seed=0, **options):
    torch.manual_seed(seed)
    made = CellPainTR(names, sources, **{**SMALL, **options}).double().eval()
    # At its start the network is nearly linear, and its mask vector zero: anything may look invariant.
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def profiles(rows=4, seed=1):
    features, generator = len(NAMES), torch.Generator().manual_seed(seed)
    values = torch.randn(rows, features, generator=generator, dtype=torch.float64)
    masked = torch.rand(rows, features, generator=generator) < 0.3
    return values, masked, torch.arange(rows) % 3


def test_outputs_have_their_shapes_and_forward_is_represent_with_the_head():
    made, batch = network(), profiles()
    cls, predicted = made(*batch)
    assert cls.shape == (4, 8)
    assert predicted.shape == (4, len(NAMES))
    torch.testing.assert_close(made.represent(*batch), cls)
    assert made.tokens(*batch).shape == (4, len(NAMES) + 2, 8)


def test_the_network_is_its_formula():
    made, (values, masked, source) = network(), profiles()
    order = sorted(range(len(NAMES)), key=lambda k: NAMES[k])
    rows = []
    for value, hidden, code in zip(values, masked, source, strict=True):
        tokens = [made.cls + made.cls_identity]
        for position, column in enumerate(order):
            seen = made.mask if hidden[column] else made.value.weight[:, 0] * value[column] + made.value.bias
            tokens.append(seen + made.identity[position])
        rows.append(torch.stack([*tokens, made.sources.known[code]]))
    x = torch.stack(rows)
    for block in made.blocks:
        x = x + block.mixer(nn.functional.layer_norm(x, (8,), block.norm1.weight, block.norm1.bias, 1e-5))
        y = nn.functional.layer_norm(x, (8,), block.norm2.weight, block.norm2.bias, 1e-5)
        y = y @ block.fc1.weight.T + block.fc1.bias
        y = 0.5 * y * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3)))
        x = x + y @ block.fc2.weight.T + block.fc2.bias
    x = nn.functional.layer_norm(x, (8,), made.norm.weight, made.norm.bias, 1e-5)
    cls, predicted = made(values, masked, source)
    torch.testing.assert_close(cls, x[:, 0])
    for position, column in enumerate(order):
        torch.testing.assert_close(predicted[:, column], made.regressor(x[:, 1 + position])[:, 0])


def test_columns_may_be_permuted_with_their_names():
    made, (values, masked, source) = network(), profiles()
    places = np.random.default_rng(0).permutation(len(NAMES))
    other = CellPainTR([NAMES[k] for k in places], 3, **SMALL).double().eval()
    other.load_state_dict(made.state_dict())
    cls, predicted = made(values, masked, source)
    other_cls, other_predicted = other(values[:, places], masked[:, places], source)
    # Not only close: tokens are in the same order, so the arithmetic is the same.
    assert torch.equal(other_cls, cls)
    assert torch.equal(other_predicted, predicted[:, places])


def test_columns_permuted_without_their_names_are_another_profile():
    made, (values, masked, source) = network(), profiles()
    masked = torch.zeros_like(masked)
    swapped = values[:, [1, 0, *range(2, len(NAMES))]]
    assert (made.represent(swapped, masked, source) - made.represent(values, masked, source)).abs().max() > 1e-3


def test_positions_matter_to_the_operator():
    # The same tokens in another order: identity embeddings go along, the convolutions do not.
    made, (values, masked, source) = network(), profiles()
    cls = made.represent(values, masked, source)
    places = torch.tensor([3, 1, 0, 2, 7, 5, 6, 4])
    with torch.no_grad():
        made.identity.copy_(made.identity[places])
    made.to_tokens = made.to_tokens[places]
    assert (made.represent(values, masked, source) - cls).abs().max() > 1e-3


def test_masked_values_are_not_seen_and_get_no_gradient():
    made, (values, masked, source) = network(), profiles()
    hidden = values.masked_fill(masked, float("nan"))
    torch.testing.assert_close(made(hidden, masked, source), made(values, masked, source))
    hidden.requires_grad_()
    cls, predicted = made(hidden, masked, source)
    (cls.square().sum() + predicted.square().sum()).backward()
    assert (hidden.grad[masked] == 0).all()
    assert (hidden.grad[~masked] != 0).all()
    assert all(p.grad is not None and p.grad.isfinite().all() for n, p in made.named_parameters() if p.numel())


def test_zero_is_not_masked():
    made, (values, masked, source) = network(), profiles()
    values, none = torch.zeros_like(values), torch.zeros_like(masked)
    assert (made.represent(values, none, source) - made.represent(values, ~none, source)).abs().max() > 1e-3


def test_rows_do_not_see_each_other():
    made, (values, masked, source) = network(), profiles()
    together = made.represent(values, masked, source)
    for row in range(len(values)):
        alone = made.represent(values[row : row + 1], masked[row : row + 1], source[row : row + 1])
        torch.testing.assert_close(alone[0], together[row])


def test_a_network_takes_another_feature_set_by_name():
    made, (values, _, source) = network(), profiles()
    table = ["Cells_AreaShape_Area", *NAMES[:1:-1]]
    with pytest.raises(DataError, match="of 7 features are unknown.*Cells_AreaShape_Area"):
        made.align(table, "bbbc021")
    found = made.align(table, "bbbc021", unknown="leave_out")
    assert found.absent == NAMES[:2]
    assert found.unknown == ("Cells_AreaShape_Area",)
    columns = np.concatenate([np.full((4, 1), 9.0), values.numpy()[:, :1:-1]], axis=1)
    taken = torch.from_numpy(found.take(columns)).double()
    absent = torch.from_numpy(~found.present).expand(4, -1)
    # The same as the network's own features with the first two masked, whatever their values.
    masked = torch.zeros(4, len(NAMES), dtype=torch.bool)
    masked[:, :2] = True
    torch.testing.assert_close(
        made.represent(taken, absent, source), made.represent(values, masked, source), rtol=1e-5, atol=1e-5
    )
    with pytest.raises(DataError, match="bbbc021: none of its 1 features"):
        made.align(["Cells_AreaShape_Area"], "bbbc021", unknown="leave_out")


def test_the_network_is_built_again_from_its_arguments():
    made = network(order=3, expansion=2, dropout=0.2)
    made.extend_sources(2)
    other = CellPainTR(**json.loads(json.dumps(made.arguments))).double().eval()
    other.load_state_dict(made.state_dict())
    batch = profiles()
    assert other.names == made.names
    assert torch.equal(other.represent(*batch), made.represent(*batch))
    assert other.dropout.p == 0.2


def test_it_starts_as_published():
    torch.manual_seed(0)
    width = 64
    made = CellPainTR([f"f{k:03}" for k in range(300)], 14, width=width)
    for name, module in made.named_modules():
        if isinstance(module, nn.Linear) and not name.startswith("regressor"):
            spread = 0.02 / 8**0.5 if name.endswith(("out_proj", "fc2")) else 0.02
            assert module.weight.std().item() == pytest.approx(spread, rel=0.25), name
            assert module.bias is None or not module.bias.any()
    for rows in (made.identity, made.sources.known):
        assert rows.std().item() == pytest.approx(0.02, rel=0.1)
    assert not made.cls.any()
    assert not made.mask.any()
    assert made.cls_identity.any()
    # PyTorch's own start, uniform up to 1/sqrt(inputs).
    assert made.regressor[0].weight.abs().max().item() == pytest.approx(width**-0.5, rel=0.01)
    assert made.blocks[0].mixer.short.weight.abs().max().item() == pytest.approx(3**-0.5, rel=0.01)
    assert [made.dropout.p, len(made.blocks), made.blocks[0].norm1.eps] == [0.1, 4, 1e-5]
    assert made.blocks[0].fc1.out_features == 4 * width


def test_published_sizes_have_their_parameters():
    made = CellPainTR([f"f{k:04}" for k in range(3255)], 14)
    w, hidden = 256, 64
    # Value adapter, features and [CLS] by identity, [CLS], mask, sources.
    embedding = 2 * w + (3255 + 1) * w + 2 * w + 14 * w
    written = (5 + 1) * hidden + 2 * (hidden + 1) * hidden + hidden * w + hidden + w
    mixer = (w + 1) * 3 * w + 3 * w * (3 + 1) + written + (w + 1) * w
    block = mixer + 2 * 2 * w + (w + 1) * 4 * w + (4 * w + 1) * w
    head = (w + 1) * w + 2 * w + w + 1
    assert sum(p.numel() for p in made.parameters()) == embedding + 4 * block + 2 * w + head


def test_dropout_is_of_the_first_input_alone():
    made, batch = network(dropout=0.5), profiles()
    kept = made.represent(*batch)
    made.train()
    torch.manual_seed(0)
    first, second = made.represent(*batch), made.represent(*batch)
    assert not torch.equal(first, second)
    made.dropout.p = 0.0
    torch.testing.assert_close(made.represent(*batch), kept)


def test_the_residual_stream_stays_float32_under_autocast():
    made = network().float()
    values, masked, source = profiles()
    seen = []
    for block in made.blocks:
        block.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cls, predicted = made(values.float(), masked, source)
    assert seen == [torch.float32] * 2
    expected = made(values.float(), masked, source)
    torch.testing.assert_close(cls, expected[0], atol=0.1, rtol=0.1)
    torch.testing.assert_close(predicted.float(), expected[1], atol=0.1, rtol=0.1)


def test_a_new_source_changes_nothing_of_the_others():
    made, batch = network(), profiles()
    before = made.represent(*batch)
    made.extend_sources(2)
    assert torch.equal(made.represent(*batch), before)
    # New rows start as the mean of the known.
    torch.testing.assert_close(made.sources(torch.tensor([3, 4])), made.sources.known.mean(0).expand(2, -1))


def test_fitting_a_new_source_trains_its_row_and_nothing_else():
    made, (values, masked, _) = network(), profiles()
    with pytest.raises(SpecError, match="no added sources"):
        made.new_source_parameters()
    made.extend_sources(1)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    # With weight decay: parameters that only lack a gradient would shrink if they were given to the optimiser.
    optimiser = torch.optim.AdamW(made.new_source_parameters(), lr=0.1, weight_decay=0.1)
    source = torch.tensor([3, 3, 0, 3])
    target = values
    losses = []
    for _ in range(20):
        loss = (made(values, masked, source)[1] - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    changed = [name for name, value in made.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["sources.added"]


def test_sources_added_twice_keep_their_codes():
    made, batch = network(), profiles()
    made.extend_sources(1)
    with torch.no_grad():
        made.sources.added.add_(1)
    values, masked, source = batch
    first = made.represent(values, masked, torch.full_like(source, 3))
    made.extend_sources(2)
    assert torch.equal(made.represent(values, masked, torch.full_like(source, 3)), first)
    assert len(made.sources) == 6
    assert [tuple(p.shape) for p in made.new_source_parameters()] == [(2, 8)]
    assert sum(len(rows) for rows in made.source_parameters()) == 6


def test_extended_sources_stay_on_their_device_and_type():
    made = network()
    made.extend_sources(1)
    assert made.sources.added.dtype == torch.float64
    assert made.sources.known.requires_grad


@pytest.mark.parametrize("code", [-1, 3])
def test_a_source_without_a_row_is_refused(code):
    values, masked, source = profiles()
    source[0] = code
    with pytest.raises(DataError, match="expected codes 0 to 2"):
        network()(values, masked, source)


def test_wrong_input_is_refused():
    values, masked, source = profiles()
    with pytest.raises(DataError, match=r"values has shape \(4, 7\), expected \(4, 8\)"):
        network()(values[:, :7], masked, source)
    with pytest.raises(DataError, match=r"masked has shape \(3, 8\), expected \(4, 8\)"):
        network()(values, masked[:3], source)
    with pytest.raises(DataError, match="occurs twice"):
        CellPainTR(["a", "b", "a"], 1)
    with pytest.raises(DataError, match="at least one feature"):
        CellPainTR([], 1)
    with pytest.raises(SpecError, match="0 sources"):
        SourceEmbedding(0, 0, 4)
    with pytest.raises(SpecError, match="0 sources to add"):
        network().extend_sources(0)


def test_own_adapters_take_each_feature_by_its_own_weight():
    """Equation 6; equal weights make it the shared layer of the code."""
    own, shared = (network(sources=2, adapter=kind) for kind in ("own", "shared"))
    assert own.arguments["adapter"] == "own"
    state = {name: value.clone() for name, value in own.state_dict().items()}
    assert state["value.weight"].shape == (len(NAMES), 8)
    same = {**shared.state_dict()}
    same["value.weight"] = shared.value.weight.detach()[:, 0].repeat(len(NAMES), 1)
    same["value.bias"] = shared.value.bias.detach().repeat(len(NAMES), 1)
    values, masked, source = profiles(rows=2)
    masked[:] = False
    own.load_state_dict(same)
    for a, b in zip(own(values, masked, source), shared(values, masked, source), strict=True):
        torch.testing.assert_close(a, b)
    own.load_state_dict(state)
    # One feature's weight reaches the output by that feature alone.
    place = sorted(NAMES).index(NAMES[2])
    before = own.represent(values, masked, source)
    with torch.no_grad():
        own.value.weight[place, ::2] += 1
    hidden = masked.clone()
    hidden[:, 2] = True
    assert not torch.allclose(own.represent(values, masked, source), before)
    after = own.represent(values, hidden, source)
    with torch.no_grad():
        own.value.weight[place, ::2] += 1
    torch.testing.assert_close(own.represent(values, hidden, source), after)
    with pytest.raises(SpecError, match="adapter is 'none', expected one of shared, own"):
        CellPainTR(NAMES, 2, adapter="none")
