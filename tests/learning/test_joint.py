"""Two processes with half a mini-batch each against one process with all of it."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch.nn.parallel import DistributedDataParallel

from morphobench.learning import joint
from morphobench.learning.losses import Centres, barlow_loss
from morphobench.learning.runs import DivergedError
from tests.learning.small_methods import byol, cdcl, make_domains, make_views

PROCESSES = 2


def part(x):
    """This process's share of a mini-batch."""
    return x.chunk(joint.processes())[joint.rank()]


def whole(x):
    return joint.joint_rows(x.detach())


def batch_norm():
    torch.manual_seed(0)
    layer = joint.JointBatchNorm1d(3)
    layer.weight.data.uniform_(0.5, 2)
    x = part(torch.randn(6, 3) * 2 + 1).requires_grad_()
    target = part(torch.randn(6, 3))
    y = layer(x)
    ((y - target) ** 2).mean().backward()
    # The mean over processes of each one's mean loss is the loss of the joined mini-batch.
    weight = joint.joint_sum(layer.weight.grad) / joint.processes()
    return {
        "output": whole(y),
        "input gradient": whole(x.grad) / joint.processes(),
        "weight gradient": weight,
        "running mean": layer.running_mean,
        "running variance": layer.running_var,
        "evaluated": layer.eval()(torch.ones(2, 3)).detach(),
    }


def barlow():
    found = {}
    for columns in (3, 20):
        torch.manual_seed(1)
        x, y = (part(torch.randn(8, columns)).requires_grad_() for _ in range(2))
        loss = barlow_loss([x], [y], 0.95)
        loss.backward()
        found[f"loss {columns}"] = loss.detach()
        found[f"gradient {columns}"] = whole(x.grad) / joint.processes()
    return found


def centres():
    torch.manual_seed(2)
    kept = Centres(4, 0.9, [5, 20, 30])
    for _ in range(2):
        kept.update(part(torch.randn(8, 4)), part(torch.tensor([0, 1, 1, 2, 1, 1, 2, 2])))
    return {"values": kept.values}


class Loss(torch.nn.Module):
    """What DistributedDataParallel wraps."""

    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward(self, views, domains, step):
        return self.method.training_loss(views, domains, None, step)["loss"]


def steps(method):
    """Two steps of plain gradient descent; gradients, then all that was learnt."""
    wrapped = Loss(method)
    if joint.processes() > 1:
        wrapped = DistributedDataParallel(wrapped)
    found = {}
    trained = {n: p for n, p in method.named_parameters() if p.requires_grad}
    for step in range(2):
        views = [part(v.double()) for v in make_views(8, local=2 if hasattr(method, "centres") else 0, seed=step)]
        loss = wrapped(views, tuple(part(d) for d in make_domains(8, seed=step)), step)
        loss.backward()
        found[f"loss {step}"] = joint.joint_sum(loss.detach()) / joint.processes()
        with torch.no_grad():
            for name, parameter in trained.items():
                found[f"gradient {step} {name}"] = parameter.grad.clone()
                parameter -= 0.05 * parameter.grad
                parameter.grad = None
        method.after_step(step)
    return {**found, **{f"state {k}": v.clone() for k, v in method.state_dict().items()}}


CASES = {
    "batch norm": batch_norm,
    "barlow": barlow,
    "centres": centres,
    "cdcl": lambda: steps(cdcl().double()),
    "byol": lambda: steps(byol().double()),
    "byol barlow": lambda: steps(byol(byol_weight=0.0, barlow_weight=1.0, off_diagonal=0.95).double()),
}


def worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    found = {name: case() for name, case in CASES.items()}
    method = cdcl()
    found["seed"] = method.step_seed(3)
    try:
        method.check_finite(torch.tensor(float("nan") if rank == 1 else 1.0), 3)
    except DivergedError as error:
        found["error"] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(worker, (str(folder),), nprocs=PROCESSES)
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_with_the_joined_mini_batch(results, case):
    expected = CASES[case]()
    for found in results:
        assert found[case].keys() == expected.keys()
        for name, value in expected.items():
            # Positions are interpolated in float32 even where all else is in float64.
            close = {"atol": 1e-6, "rtol": 1e-6 if value.dtype == torch.float64 else 1e-4}
            torch.testing.assert_close(found[case][name], value, **close, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
def test_one_broken_process_stops_all(results):
    for found in results:
        assert "at step 3 of 12 (epoch 0) with learning rate" in found["error"]


@pytest.mark.slow
def test_processes_draw_their_own_stochastic_depth(results):
    assert results[0]["seed"] != results[1]["seed"]
    assert results[0]["seed"] == cdcl().step_seed(3)


def test_one_process_is_torchs_batch_norm():
    torch.manual_seed(0)
    ours, theirs = joint.JointBatchNorm1d(3), torch.nn.BatchNorm1d(3)
    x = torch.randn(5, 3)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)
