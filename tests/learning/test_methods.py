"""Methods: what their losses are made of, their teachers, and what is drawn by which seed."""

import math

import pytest
import torch
from torch.nn import functional

from morphobench.learning.losses import barlow_loss, byol_loss, dino_loss, view_pairs
from morphobench.learning.methods import encode, move_towards, spread
from tests.learning.small_methods import (
    BACKBONE,
    byol,
    cdcl,
    dino,
    make_domains,
    make_views,
    supervised,
)

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def outputs(method, views):
    """Logits of teacher and student, view by view, as CDCL's code makes them."""
    teacher = torch.stack([method.teacher.head(method.teacher.backbone(v)) for v in views[:2]])
    student = torch.stack([method.student.head(method.student.backbone(v)) for v in views])
    return teacher.detach(), student


def test_cdcl_is_its_two_losses_in_their_proportion_on_centres_of_domains():
    method, views, domains = cdcl(), make_views(), make_domains()
    method.centres.values.normal_()
    teacher, student = outputs(method, views)
    centred = teacher - torch.stack([method.centres.values[d] for d in domains])
    expected_dino = dino_loss(centred, student, view_pairs(6), 0.04, 0.1) / math.log(10)
    terms = [barlow_loss([centred[t]], [student[s] / 0.1], 0.95) for t, s in view_pairs(6)]
    found = method.training_loss(views, domains, None, 0)
    torch.testing.assert_close(found["dino"], expected_dino)
    torch.testing.assert_close(found["barlow"], sum(terms) / len(terms))
    torch.testing.assert_close(found["loss"], 0.25 * found["dino"] + 0.75 * found["barlow"])


def test_centres_move_after_the_loss_by_both_views():
    method, views, domains = cdcl(), make_views(), make_domains()
    other = cdcl()
    teacher, _ = outputs(method, views)
    other.centres.update(teacher.flatten(0, 1), torch.cat(domains))
    found = method.training_loss(views, domains, None, 0)
    torch.testing.assert_close(method.centres.values, other.centres.values)
    torch.testing.assert_close(found["centre_norm"], other.centres.values.norm(dim=-1).mean())


def test_cdcl_with_one_domain_and_no_barlow_loss_is_dino():
    one = cdcl(domain_sizes=[60], dino_weight=1.0, barlow_weight=0.0, off_diagonal=None)
    plain = dino()
    for step in range(6):
        views = make_views(seed=step)
        losses = []
        for method, domains in ((one, (torch.zeros(6, dtype=torch.int64),) * 2), (plain, make_domains())):
            loss = method.training_loss(views, domains, None, step)["loss"]
            loss.backward()
            with torch.no_grad():
                for p in method.student.parameters():
                    p -= 0.1 * p.grad
                    p.grad = None
            method.after_step(step)
            losses.append(loss.detach())
        torch.testing.assert_close(*losses)
    for a, b in zip(one.teacher.parameters(), plain.teacher.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(one.centres.values, plain.centres.values)


def test_dino_loss_is_undivided_where_the_paper_is_followed():
    views, domains = make_views(), make_domains()
    divided = dino().training_loss(views, domains, None, 0)["loss"]
    plain = dino(scale_by_entropy=False).training_loss(views, domains, None, 0)["loss"]
    torch.testing.assert_close(plain, divided * math.log(10))


def test_barlow_alone_computes_no_dino_loss():
    method = cdcl(domain_sizes=None, dino_weight=0.0, barlow_weight=1.0)
    found = method.training_loss(make_views(), make_domains(), None, 0)
    assert "dino" not in found
    torch.testing.assert_close(found["loss"], found["barlow"])


def test_temperature_follows_the_epoch():
    views, domains = make_views(), make_domains()
    teacher, student = outputs(dino(), views)
    for step, heat in ((3, 0.04), (4, 0.07), (11, 0.07)):
        found = dino().training_loss(views, domains, None, step)["loss"]
        torch.testing.assert_close(
            found, dino_loss(teacher, student, view_pairs(6), heat, 0.1) / math.log(10), rtol=1e-4, atol=1e-6
        )


def test_byol_is_its_loss_of_separate_views_in_both_directions():
    views = make_views(local=0)
    method, other = byol(), byol()
    targets = [other.teacher.head(other.teacher.backbone(v)).detach() for v in views]
    predictions = [other.predictor(other.student.head(other.student.backbone(v))) for v in views]
    torch.testing.assert_close(
        method.training_loss(views, (None, None), None, 0)["loss"], byol_loss(predictions, targets)
    )
    barlow = byol(byol_weight=0.0, barlow_weight=1.0, off_diagonal=0.95)
    found = barlow.training_loss(views, (None, None), None, 0)
    torch.testing.assert_close(found["loss"], barlow_loss(predictions, targets[::-1], 0.95))
    assert "byol" not in found


def test_supervised_is_cross_entropy_and_trains_everything():
    method, (view, *_) = supervised(), make_views()
    found = method.training_loss([view], (None, None), LABELS, 0)
    logits = method.classifier(method.encoder(view))
    torch.testing.assert_close(found["loss"], functional.cross_entropy(logits, LABELS))
    found["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in method.classifier.parameters())
    assert method.encoder.network.patch_embed.proj.weight.grad.any()


@pytest.mark.parametrize("make", [cdcl, byol])
def test_only_the_student_is_trained_and_the_teacher_starts_as_it(make):
    method = make()
    students, teachers = method.student.state_dict(), method.teacher.state_dict()
    assert all(torch.equal(students[k], teachers[k]) for k in students)
    views = make_views(local=4 if make is cdcl else 0)
    method.training_loss(views, make_domains(), None, 0)["loss"].backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for n, p in method.named_parameters() if not n.startswith("teacher."))


def test_the_teacher_is_a_moving_average_at_the_momentum_of_the_step():
    method = byol()
    before = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1.0)
    method.after_step(6)
    momentum = 0.99 + (0.9 - 0.99) / 2 * (1 + math.cos(math.pi * 6 / 12))
    for kept, old in zip(method.teacher.parameters(), before, strict=True):
        torch.testing.assert_close(kept, momentum * old + (1 - momentum) * (old + 1))


def test_moving_average_reaches_every_parameter():
    a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    expected = 0.7 * a.weight.detach() + 0.3 * b.weight.detach()
    move_towards(a, b, 0.7)
    torch.testing.assert_close(a.weight.detach(), expected)


def test_encoders_are_the_teacher_of_dino_and_the_student_of_byol():
    assert (method := cdcl()).encoder is method.teacher.backbone
    assert (method := byol()).encoder is method.student.backbone


def test_views_of_one_size_are_encoded_together_and_come_back_in_order():
    method, views = cdcl(), make_views()
    mixed = [views[0], views[2], views[3], views[1]]
    for found, view in zip(encode(method.student.backbone, mixed), mixed, strict=True):
        torch.testing.assert_close(found, method.student.backbone(view))


def test_the_last_layer_rests_in_the_first_epoch_only():
    method = cdcl(freeze_last_epochs=1)
    for step, rests in ((0, True), (3, True), (4, False)):
        method.training_loss(make_views(), make_domains(), None, step)["loss"].backward()
        method.cancel_gradients(step)
        assert (method.student.head.last_layer.weight.grad is None) == rests
        assert method.student.head.mlp[0].weight.grad is not None


def test_stochastic_depth_depends_on_the_step_alone_and_is_the_students():
    method, views, domains = cdcl(drop_path=0.9), make_views(), make_domains()
    state = torch.get_rng_state()
    losses = [cdcl(drop_path=0.9).training_loss(views, domains, None, s)["loss"].item() for s in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert losses[0] == losses[1] != losses[2]
    assert method.teacher.backbone(views[0]).equal(method.teacher.backbone(views[0]))


def test_seed_decides_the_start_and_nothing_else_does():
    torch.manual_seed(1)
    first = byol().state_dict()
    torch.manual_seed(2)
    second, third = byol().state_dict(), byol(seed=6).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["student.head.0.weight"], third["student.head.0.weight"])
    assert not torch.equal(first["predictor.0.weight"], third["predictor.0.weight"])


def test_collapse_shows_in_spread_and_entropy():
    assert spread(torch.ones(5, 4)).item() == 0
    assert spread(torch.randn(4000, 64)).item() == pytest.approx(1, abs=0.02)
    method = cdcl()
    with torch.no_grad():
        method.teacher.backbone.network.norm.weight.zero_()
    found = method.training_loss(make_views(), make_domains(), None, 0)
    assert found["spread"].item() == pytest.approx(0, abs=1e-6)
    assert 0 < found["entropy"] < 1


def test_backbone_options_are_passed_on():
    assert supervised(backbone={**BACKBONE, "dim": 12, "depth": 1}).encoder.num_features == 12
