"""`compare` on equal pairs, and on planted faults: found at the right stage and tensor."""

from __future__ import annotations

import numpy as np
import pytest

from l0ref import Penalty, nn, prune
from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.interop.result import compared, constant_ratio
from l0ref.interop.torch import compare, from_torch, to_torch
from l0ref.optim import SGD, Adam, AdamW, Proximal

torch = pytest.importorskip("torch", reason="needs the extra `crosscheck`")
pytestmark = pytest.mark.crosscheck
tprune = pytest.importorskip("torch.nn.utils.prune", reason="needs the extra `crosscheck`")
F = torch.nn.functional
PENALTY = Penalty(alpha=1e-2, l2=1e-3)


def my_penalty(module):
    """The penalty above, written in PyTorch."""
    layers = [m for m in module.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
    largest = max(m.weight.numel() for m in layers)
    total = 0.0
    for m in layers:
        c = (m.weight.numel() / largest) ** 0.5
        total = total + c * 1e-2 * (1 - torch.exp(-5 * m.weight.abs())).sum() + 1e-3 * m.weight.square().sum()
    return total


def small(dtype=np.float32):
    """A chain with every kind of parameter and statistics."""
    layers = (
        nn.Conv2d("conv", 1, 3, 3),
        nn.BatchNorm2d("norm", 3),
        nn.ReLU("relu"),
        nn.Dropout("dropout", 0.5),
        nn.MaxPool2d("pool", 2),
        nn.Flatten("flatten"),
        nn.Linear("fc1", 27, 6),
        nn.BatchNorm1d("norm1", 6),
        nn.Tanh("tanh"),
        nn.Linear("fc2", 6, 4),
    )
    return nn.Model.init(layers, input_shape=(1, 8, 8), seed=2, dtype=dtype)


def batch(rng, model, n=5):
    return rng.standard_normal((n, *model.input_shape)), rng.integers(0, model.classes, n)


def stages(result):
    return list(dict.fromkeys(row.stage for row in result.rows))


OPTIMIZERS = {
    "sgd": "sgd",
    "adam": "adam",
    "adamw": "adamw",
    "momentum": SGD(lr=0.05, momentum=0.9),
    "nesterov": SGD(lr=0.05, momentum=0.9, nesterov=True),
    "Adam, set": Adam(lr=0.01, betas=(0.5, 0.9), eps=1e-3),
    "AdamW, set": AdamW(lr=0.01, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.7),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equal_pairs_agree_all_the_way(name, rng):
    model = small()
    x, y = batch(rng, model)
    found = compare(
        model, to_torch(model), x, y, penalty=PENALTY, penalty_fn=my_penalty, optimizer=OPTIMIZERS[name], steps=4
    )
    assert found, str(found)
    assert found.first is None
    assert found.findings == ()
    assert stages(found) == [
        "parameters", "statistics", "forward", "forward in training", "loss", "gradient of the loss", "penalty",
        "gradient of the penalty", "penalty, moved weights", "gradient of the penalty, moved weights", "step 1",
        "step 1, statistics", "step 2", "step 2, statistics", "step 3", "step 3, statistics", "step 4",
        "step 4, statistics",
    ]  # fmt: skip
    gradients = [row.name for row in found.rows if row.stage == "gradient of the loss"]
    assert gradients == list(model.params)
    assert max(row.difference for row in found.rows) < 1e-12
    assert str(found).startswith("l0ref and PyTorch agree; the worst relative difference is ")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_own_penalty_stands_in_and_is_noted(dtype, rng):
    model = prune(small(dtype), amount=0.6)
    module = to_torch(model)
    found = compare(model, module, *batch(rng, model), penalty=PENALTY, strength=0.3, optimizer="adam")
    assert found, str(found)
    assert found.notes == (
        "10 entries of the gradient were rounding errors; the steps used 0 instead",
        "the penalty is l0ref's on both sides; pass penalty_fn to test yours",
        "dropout is random and was skipped on both sides",
    )
    without = compare(model, module, *batch(rng, model), optimizer="adam")
    assert without
    assert "masks" in stages(without)
    assert "penalty" not in stages(without)


@pytest.mark.parametrize("training", [True, False])
def test_residual_blocks_in_both_modes(training, rng):
    layers = (
        nn.Conv2d("stem", 1, 2, 3),
        nn.Residual("block", (nn.Conv2d("block.1", 2, 4, 3, padding=1), nn.Dropout("block.drop", 0.5)),
                    (nn.Conv2d("block.shortcut", 2, 4, 1), nn.BatchNorm2d("block.norm", 4))),
        nn.GlobalAvgPool2d("pool"),
        nn.Linear("fc", 4, 3),
    )  # fmt: skip
    model = nn.Model.init(layers, input_shape=(1, 6, 6), seed=0)
    found = compare(model, to_torch(model), *batch(rng, model), training=training, steps=2)
    assert found, str(found)
    assert ("forward in training" in stages(found)) == training
    assert "dropout is random and was skipped on both sides" in found.notes


def test_learning_rate_of_the_call_overrules_the_optimizers(rng):
    model = nn.mlp((4, 3, 2), seed=0)
    x, y = batch(rng, model)
    options = {"optimizer": SGD(lr=0.5), "lr": 0.01}
    assert compare(model, to_torch(model), x, y, **options)
    assert compare(model, to_torch(model), x, y, **options, torch_optimizer=lambda p: torch.optim.SGD(p, lr=0.01))
    assert compare(model, to_torch(model), x, y, lr=0.02, torch_optimizer=lambda p: torch.optim.SGD(p, lr=0.02))


def test_no_steps_stops_at_the_gradients(rng):
    model = nn.mlp((4, 3, 2), seed=0)
    found = compare(model, to_torch(model), *batch(rng, model), steps=0)
    assert found
    assert stages(found) == ["parameters", "forward", "forward in training", "loss", "gradient of the loss"]


def test_nothing_is_written(rng):
    model = small()
    module = to_torch(model).eval()
    x, y = batch(rng, model)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    kept, state = x.copy(), torch.random.get_rng_state()
    compare(model, module, x, y, penalty=PENALTY, penalty_fn=my_penalty, steps=2)
    assert all((module.state_dict()[k] == v).all() for k, v in before.items())
    assert all(p.grad is None and p.dtype == torch.float32 for p in module.parameters())
    assert not module.training
    assert module.dropout.p == 0.5
    assert (x == kept).all()
    assert (torch.random.get_rng_state() == state).all()


def test_names_may_differ_if_shapes_agree_in_order(rng):
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.ReLU(),
                                 torch.nn.Flatten(), torch.nn.Linear(12, 2))  # fmt: skip
    model = from_torch(module, input_shape=(1, 4, 4))
    renamed = nn.Model.init(
        (nn.Conv2d("c", 1, 3, 3), nn.BatchNorm2d("n", 3), nn.ReLU("r"), nn.Flatten("f"), nn.Linear("l", 12, 2)),
        input_shape=(1, 4, 4), seed=0,
    )  # fmt: skip
    keys = dict(zip(model.params, renamed.params, strict=True))
    backwards = dict(reversed([(keys[k], v) for k, v in model.params.items()]))  # a dict has an order of its own
    found = compare(renamed.replace(params=backwards), module, *batch(rng, model))
    assert found, str(found)
    assert found.notes[0] == "parameters have other names in the module and were matched by position"
    assert [row.name for row in found.rows if row.stage == "parameters"] == list(keys.values())


# --- planted faults ---------------------------------------------------------------------------------------------------


def put(name, index, change):
    """Plant a wrong number in a tensor of the module."""

    def plant(module):
        with torch.no_grad():
            tensor = module.state_dict()[name]
            tensor[index] = change(tensor[index])

    return plant


class Wrong(torch.autograd.Function):
    """The identity with a wrong derivative: the gradient of entry 1 is doubled."""

    @staticmethod
    def forward(ctx, w):
        return w.clone()

    @staticmethod
    def backward(ctx, g):
        g = g.clone()
        g[1] = 2 * g[1]
        return g


class WrongLinear(torch.nn.Linear):
    """A Linear whose weight has a wrong gradient."""

    def forward(self, x):
        return F.linear(x, Wrong.apply(self.weight), self.bias)


class DetachedLinear(torch.nn.Linear):
    """A Linear whose bias has no gradient."""

    def forward(self, x):
        return F.linear(x, self.weight, self.bias.detach())


def turn(name, kind):
    def plant(module):
        module.get_submodule(name).__class__ = kind

    return plant


def attribute(name, what, value):
    def plant(module):
        setattr(module.get_submodule(name), what, value)

    return plant


def freeze(module):
    module.fc1.weight.requires_grad_(False)


def always_evaluating(module):
    module.norm.eval().train = lambda _=True: None


SGD_TWICE = {"torch_optimizer": lambda p: torch.optim.SGD(p, lr=0.2)}
DECAY = {"torch_optimizer": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=1e-3)}
DAMPED = {
    "optimizer": SGD(lr=0.1, momentum=0.9),
    "torch_optimizer": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.9),
}
BETAS = {"optimizer": "adam", "torch_optimizer": lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.9, 0.99))}
EPS = {"optimizer": "adam", "torch_optimizer": lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-7)}

FAULTS = {  # what is done to the module, options of compare, stage, place
    "weight": (put("fc1.weight", (2, 5), lambda w: w + 1e-6), {}, "parameters", "fc1.weight[2, 5]"),
    "weight, sign": (put("conv.weight", (1, 0, 2, 1), lambda w: -w), {}, "parameters", "conv.weight[1, 0, 2, 1]"),
    "bias": (put("fc2.bias", (3,), lambda b: b + 1e-6), {}, "parameters", "fc2.bias[3]"),
    "not finite": (put("fc1.weight", (0, 1), lambda w: w / 0), {"steps": 0}, "parameters", "fc1.weight[0, 1]"),
    "running mean": (put("norm.running_mean", (1,), lambda m: m + 1e-3), {}, "statistics", "norm.running_mean[1]"),
    "eps": (attribute("norm", "eps", 1e-3), {}, "forward", None),
    "activation": (turn("tanh", torch.nn.Sigmoid), {}, "forward", None),
    "momentum": (attribute("norm1", "momentum", 0.2), {}, "step 1, statistics", None),
    "running statistics in training": (
        always_evaluating, {}, "forward in training", None,
    ),
    "loss": (None, {"loss_fn": lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1)}, "loss", "cross-entropy"),
    "gradient": (turn("fc1", WrongLinear), {}, "gradient of the loss", "fc1.weight[1, "),
    "no gradient": (turn("fc2", DetachedLinear), {}, "gradient of the loss", "fc2.bias["),
    "frozen": (freeze, {}, "gradient of the loss", "fc1.weight["),
    "penalty": (None, {"penalty": PENALTY, "penalty_fn": lambda m: 2 * my_penalty(m)}, "penalty", "value"),
    "penalty's gradient": (
        None, {"penalty": PENALTY, "penalty_fn": lambda m: my_penalty(m).detach()}, "gradient of the penalty", None,
    ),
    "bias of 0 penalised": (
        None, {"penalty": PENALTY, "penalty_fn": lambda m: my_penalty(m) + m.fc2.bias.square().sum()},
        "penalty, moved weights", "value",
    ),
    "rate": (None, SGD_TWICE, "step 1", None),
    "decay": (None, DECAY, "step 1", None),
    "dampening": (None, DAMPED, "step 2", None),
    "betas": (None, BETAS, "step 2", None),
    "eps of Adam": (None, EPS, "step 1", None),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_planted_fault_is_found_where_it_is(case, rng):
    plant, options, stage, place = FAULTS[case]
    model = small(np.float64)
    module = to_torch(model)
    if plant:
        plant(module)
    with np.errstate(invalid="ignore"):
        found = compare(model, module, *batch(rng, model), **options)
    assert not found
    assert found.first.stage == stage, str(found)
    assert place is None or found.first.place.startswith(place)
    assert str(found).startswith(f"l0ref and PyTorch first differ at: {stage}, {found.first.place}\n")
    assert found.first.difference == max(row.difference for row in found.rows if row.stage == stage)
    before = [row for row in found.rows[: found.rows.index(found.first)] if row.stage != stage]
    assert all(row.ok for row in before)


def test_wrong_gradient_leaves_all_other_tensors_equal(rng):
    model = small()
    module = to_torch(model)
    turn("fc2", WrongLinear)(module)
    found = compare(model, module, *batch(rng, model), steps=0)
    (bad,) = [row for row in found.rows if not row.ok]
    assert (bad.name, bad.index[0]) == ("fc2.weight", 1)
    assert bad.theirs == pytest.approx(2 * bad.ours, rel=1e-9)


def test_sum_over_the_batch_is_named(rng):
    model = nn.mlp((4, 3, 2), seed=0)
    x, y = batch(rng, model)
    found = compare(model, to_torch(model), x, y, loss_fn=lambda z, t: F.cross_entropy(z, t, reduction="sum"))
    assert found.findings == ("the loss is 5 times l0ref's: a sum over the batch; take the mean",)
    assert found.first.stage == "loss"
    gradients = [row for row in found.rows if row.stage == "gradient of the loss"]
    assert [row.ratio for row in gradients] == pytest.approx([5.0] * 4)
    assert "5 times l0ref's in every entry" in str(found)
    halved = compare(model, to_torch(model), x, y, loss_fn=lambda z, t: F.cross_entropy(z, t) / 2)
    assert halved.findings == ()


def test_masks_that_differ_are_a_stage_of_their_own(rng):
    model = prune(small(), amount=0.5)
    module = to_torch(model)
    with torch.no_grad():  # an entry that is 0 anyway: no number differs but the mask
        at = tuple(int(i) for i in np.argwhere(~model.masks["fc1.weight"])[0])
        module.fc1.weight_mask[at] = 1.0
        module.fc1.weight_orig[at] = 0.0
    first = compare(model, module, *batch(rng, model)).first
    assert (first.stage, first.name, first.index, first.ours, first.theirs) == ("masks", "fc1.weight", at, 0.0, 1.0)
    unmasked = compare(model, to_torch(model.replace(masks={})), *batch(rng, model))
    assert unmasked.first.stage == "masks"


def test_pruned_weights_move_nowhere(rng):
    model = small()
    module = to_torch(model)
    tprune.l1_unstructured(module.fc1, "weight", amount=0.5)
    model = from_torch(module, input_shape=model.input_shape)
    found = compare(model, module, *batch(rng, model), penalty=PENALTY, penalty_fn=my_penalty, optimizer="adam")
    assert found, str(found)


def test_tolerance_is_kept(rng):
    model = nn.mlp((4, 3, 2), seed=0)
    module = to_torch(model)
    x, y = batch(rng, model)
    put("fc1.weight", (0, 0), lambda w: w * (1 + 1e-4))(module)
    assert not compare(model, module, x, y)
    assert compare(model, module, x, y, rtol=1e-2)


# --- bad input --------------------------------------------------------------------------------------------------------

X = np.ones((3, 4))
Y = np.array([0, 1, 0])


class Restless(torch.nn.Module):
    """A module with dropout that is not a layer."""

    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(4, 2)

    def forward(self, x):
        return F.dropout(self.fc1(x) + 1, p=0.5, training=self.training) + 0.1 * torch.rand(1)


def fails(_):
    raise ValueError("boom\nand more")


BAD = {  # changes to the call, error, message
    "integers": ({"x": np.ones((3, 4), dtype=int)}, DTypeError, r"^x has dtype int64, expected float32 or float64"),
    "shape": ({"x": np.ones((3, 5))}, ArgumentError, r"^module raised RuntimeError: .* for an input of shape \(3, 5"),
    "empty": ({"x": np.ones((0, 4)), "y": Y[:0]}, ShapeError, r"^x is empty, so the loss is undefined; pass at least"),
    "labels": ({"y": np.array([0, 1, 2])}, ArgumentError, r"^y holds the class index 2, outside \[0, 2\)"),
    "labels, shape": ({"y": Y[:2]}, ShapeError, r"^y has shape \(2,\), expected \(3,\)"),
    "float labels": ({"y": Y * 1.0}, DTypeError, r"^y has dtype float64, expected whole numbers"),
    "steps": ({"steps": -1}, ArgumentError, r"^steps=-1 must be at least 0$"),
    "rtol": ({"rtol": 0.0}, ArgumentError, r"^rtol=0.0 must be greater than 0$"),
    "lr": ({"lr": 0.0}, ArgumentError, r"^lr=0.0 must be greater than 0$"),
    "strength": ({"strength": -1.0}, ArgumentError, r"^strength=-1.0 must be 0 or greater$"),
    "optimizer": ({"optimizer": "rmsprop"}, ArgumentError, r"^name='rmsprop' is not one of 'sgd', 'adam', 'adamw'"),
    "proximal": ({"optimizer": Proximal()}, ArgumentError, r"^optimizer=Proximal\(.*; pass SGD, Adam or AdamW$"),
    "no optimizer": ({"optimizer": 3}, ArgumentError, r"^optimizer=3 does not follow the gradient alone; pass SGD"),
    "torch_optimizer": (
        {"torch_optimizer": lambda _: 3}, ArgumentError, r"^torch_optimizer returns a int, expected a torch.optim.Opt",
    ),
    "penalty_fn alone": ({"penalty_fn": my_penalty}, ArgumentError, r"^penalty=None with penalty_fn=.*: give the Pen"),
    "penalty_fn, number": (
        {"penalty": PENALTY, "penalty_fn": lambda m: my_penalty(m).item()}, ArgumentError,
        r"^penalty_fn returns a float, expected a tensor; do not use .item\(\) or float\(\)$",
    ),
    "penalty_fn, array": (
        {"penalty": PENALTY, "penalty_fn": lambda m: m.fc1.weight.abs()}, ShapeError,
        r"^penalty_fn returns a tensor of shape \(2, 4\), expected one number; sum it$",
    ),
    "penalty_fn, raises": (
        {"penalty": PENALTY, "penalty_fn": fails}, ArgumentError, r"^penalty_fn raised ValueError: boom; check that",
    ),
    "loss_fn": (
        {"loss_fn": lambda z, y: F.cross_entropy(z, y, reduction="none")}, ShapeError,
        r"^loss_fn returns a tensor of shape \(3,\), expected one number; sum it$",
    ),
    "loss_fn, raises": ({"loss_fn": lambda z, _: z / None}, ArgumentError, r"^loss_fn raised TypeError: "),
    "module": ({"module": "net"}, ArgumentError, r"^module is a str, expected a torch.nn.Module; pass the network it"),
    "other shapes": (
        {"module": torch.nn.Sequential(torch.nn.Linear(4, 3))}, ArgumentError,
        r"^module lacks 'fc1.weight' and its parameters 0.weight \(3, 4\), 0.bias \(3,\) do not match the model's fc1",
    ),
    "other shapes, same names": (
        {"module": to_torch(nn.mlp((4, 3), seed=0))}, ShapeError,
        r"^module has 'fc1.weight' of shape \(3, 4\), the model of \(2, 4\); build both alike$",
    ),
    "more": (
        {"module": to_torch(nn.mlp((4, 2, 2), seed=0))}, ArgumentError,
        r"^module has 'fc2.weight', not in the model, and its parameters",
    ),
    "output": (
        {"module": torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Unflatten(1, (2, 1)))}, ShapeError,
        r"^module gives an output of shape \(3, 2, 1\), expected \(3, 2\), one row per sample$",
    ),
    "random": (
        {"module": Restless()}, ArgumentError, r"^module gives two results for the same x; write dropout as nn.Dropout",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence(case):
    changes, error, said = BAD[case]
    model = nn.mlp((4, 2), seed=0)
    call = {"module": to_torch(model), "x": X, "y": Y, **changes}
    module, x, y = call.pop("module"), call.pop("x"), call.pop("y")
    with pytest.raises(error, match=said) as caught:
        compare(model, module, x, y, **call)
    assert "\n" not in str(caught.value)


def test_shape_the_module_takes_and_the_model_does_not():
    model = nn.mlp((4, 2), seed=0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    with pytest.raises(ShapeError, match=r"^x has shape \(3, 1, 4\), expected \(N, 4\)"):
        compare(model, module, np.ones((3, 1, 4)), Y)


def test_statistics_that_are_not_kept():
    model = nn.Model.init((nn.BatchNorm1d("n", 4), nn.Linear("fc", 4, 2)), input_shape=(4,), seed=0)
    module = to_torch(model)
    module.n.register_buffer("running_mean", None)
    module.n.register_buffer("running_var", None)
    with pytest.raises(ArgumentError, match=r"^module lacks the buffer 'n.running_mean'; build the layer with track"):
        compare(model, module, X, Y)


# --- the rows themselves ----------------------------------------------------------------------------------------------


def row_of(a, b, **others):
    return compared("s", {"w": np.array(a), **others}, {"w": np.array(b), **others}, 1e-9)[0]


def test_difference_is_relative_to_the_tensor_and_to_the_stage():
    assert row_of([1.0, -4.0], [1.0, -4.2]).difference == pytest.approx(0.2 / 4.2)
    assert row_of([4.0, 1.0], [4.0, 1.2]).difference == pytest.approx(0.2 / 4.0)
    large = np.array([1000.0])
    assert row_of([1.0, 2.0], [1.0, 2.5], other=large).difference == pytest.approx(0.5 / 10.0)
    found = row_of([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[1.0, 2.0, 3.0], [4.0, 7.0, 6.0]])
    assert (found.index, found.ours, found.theirs, found.ok) == ((1, 1), 5.0, 7.0, False)


@pytest.mark.parametrize(
    ("a", "b", "difference"),
    [
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.inf], [np.inf], 0.0),
        ([np.inf], [-np.inf], np.inf),
        ([1.0, np.nan], [1.0, 2.0], np.inf),
        ([1.0, 2.0], [np.nan, 2.0], np.inf),
        ([0.0], [0.0], 0.0),
        (np.empty(0), np.empty(0), 0.0),
    ],
)
def test_rows_of_odd_numbers(a, b, difference):
    with np.errstate(invalid="ignore"):
        assert row_of(a, b).difference == difference


@pytest.mark.parametrize(
    ("a", "b", "ratio"),
    [
        ([1.0, 2.0], [0.5, 1.0], 0.5),
        ([1.0, 2.0], [-1.0, -2.0], -1.0),
        ([1.0, 2.0], [0.0, 0.0], 0.0),
        ([1.0, 2.0], [1.0, 2.0], None),
        ([1.0, 2.0], [0.5, 2.0], None),
        ([0.0, 0.0], [1.0, 1.0], None),
        ([1.0, np.inf], [1.0, 2.0], None),
    ],
)
def test_constant_ratio(a, b, ratio):
    assert constant_ratio(np.array(a), np.array(b)) == ratio


def test_nothing_to_compare():
    model = nn.Model.init((nn.ReLU("r"),), input_shape=(2,), seed=0)
    with pytest.raises(ArgumentError, match=r"^model has no parameters to compare; give it a Linear or Conv2d"):
        compare(model, to_torch(model), np.ones((3, 2)), Y)
