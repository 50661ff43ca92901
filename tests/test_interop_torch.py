"""Models to PyTorch and back: names, values, masks; and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict

import numpy as np
import pytest

from l0ref import nn, prune
from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.interop.torch import from_torch, to_torch
from l0ref.interop.torch_layers import PAIRINGS
from l0ref.nn.layer import Layer
from tests.house import registry_gaps
from tests.test_pool_layers import POOLS, network

torch = pytest.importorskip("torch", reason="needs the extra `crosscheck`")
pytestmark = pytest.mark.crosscheck
tprune = pytest.importorskip("torch.nn.utils.prune", reason="needs the extra `crosscheck`")
tnn = torch.nn


def outputs(module, x):
    """What the module computes in evaluation mode and float64."""
    with torch.no_grad():
        return module.eval().double()(torch.from_numpy(x)).numpy()


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(b).max())


def unlike_a_fresh_one(model, rng):
    """The model with biases, batch-norm parameters and running statistics that are not those it began with."""
    params = {k: v + 0.3 * rng.standard_normal(v.shape).astype(v.dtype) for k, v in model.params.items()}
    buffers = {k: v + rng.random(v.shape).astype(v.dtype) for k, v in model.buffers.items()}
    return model.replace(params=params, buffers=buffers)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", nn.MODELS)
def test_zoo_goes_there_and_back(name, dtype, rng):
    model = unlike_a_fresh_one(nn.MODELS[name](seed=1, dtype=dtype), rng)
    module = to_torch(model)
    back = from_torch(module, input_shape=model.input_shape)
    assert back.architecture_json() == model.architecture_json()
    for side in ("params", "buffers"):
        ours, theirs = getattr(model, side), getattr(back, side)
        assert list(ours) == list(theirs)
        assert all(ours[k].dtype == theirs[k].dtype and (ours[k] == theirs[k]).all() for k in ours)
    keys = {k for k in module.state_dict() if not k.endswith("num_batches_tracked")}
    assert keys == set(model.params) | set(model.buffers)
    x = rng.standard_normal((3, *model.input_shape))
    close(model.astype(np.float64).logits(x), outputs(module, x))


def test_values_are_shared_and_memory_is_not():
    model = nn.digits_mlp(seed=0)
    before = {k: v.copy() for k, v in model.params.items()}
    for array in model.params.values():
        array.flags.writeable = False  # PyTorch would warn if it were handed the memory
    module = to_torch(model)
    back = from_torch(module, input_shape=(1, 8, 8))
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(7.0)
    for some in (model, back):
        assert all((some.params[k] == before[k]).all() for k in before)


def test_to_torch_leaves_the_random_state_alone():
    state = torch.random.get_rng_state()
    to_torch(nn.digits_mlp(seed=0))
    from_torch(tnn.Sequential(OrderedDict(a=to_torch(nn.mlp((2, 3), seed=0)))))
    assert (torch.random.get_rng_state() == state).all()


LAYERS: dict[str, tuple[Layer, tuple[int, ...]]] = {
    "Linear": (nn.Linear("a", 6, 4, bias=False), (6,)),
    "Conv2d": (
        nn.Conv2d("a", 2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, bias=False),
        (2, 7, 6),
    ),
    "MaxPool2d": (nn.MaxPool2d("a", (3, 2), stride=(2, 1), padding=(1, 0)), (3, 7, 4)),
    "AvgPool2d": (nn.AvgPool2d("a", (2, 3), stride=1, padding=(1, 0)), (3, 5, 4)),
    "AdaptiveAvgPool2d": (nn.GlobalAvgPool2d("a"), (3, 5, 4)),
    "BatchNorm1d": (nn.BatchNorm1d("a", 5, momentum=0.3, eps=1e-2), (5,)),
    "BatchNorm2d": (nn.BatchNorm2d("a", 3, momentum=0.3, eps=1e-2), (3, 5, 4)),
    "ReLU": (nn.ReLU("a"), (3, 5, 4)),
    "LeakyReLU": (nn.LeakyReLU("a", 0.2), (5,)),
    "Sigmoid": (nn.Sigmoid("a"), (5,)),
    "Tanh": (nn.Tanh("a"), (5,)),
    "Softplus": (nn.Softplus("a"), (5,)),
    "Hardtanh": (nn.Clip("a", -0.5, 0.75), (5,)),
    "ReLU6": (nn.Clip("a", 0.0, 6.0), (5,)),  # goes out as a Hardtanh; read below
    "Dropout": (nn.Dropout("a", 0.25), (5,)),
    "Flatten": (nn.Flatten("a"), (3, 5, 4)),
}


@pytest.mark.parametrize("name", sorted(POOLS))
def test_each_pooling_goes_there_and_back_or_says_what_torch_lacks(name, rng):
    model, x = network(POOLS[name][0]), rng.standard_normal((3, 1, 8, 7))
    if name == "mean, uneven and ceil":
        with pytest.raises(
            ArgumentError, match=r"^architecture has 'p', with padding=.* which PyTorch lacks; pad both"
        ):
            to_torch(model)
        return
    module = to_torch(model)
    np.testing.assert_allclose(module.eval()(torch.from_numpy(x)).detach().numpy(), model.logits(x), rtol=0, atol=1e-12)
    back = from_torch(module, input_shape=(1, 8, 7))
    assert back.architecture == model.architecture
    np.testing.assert_array_equal(back.logits(x), model.logits(x))


def test_padding_before_a_layer_becomes_its_own():
    read = from_torch(
        seq(tnn.ZeroPad2d(1), tnn.Conv2d(1, 2, 3), tnn.ReLU6(), tnn.ConstantPad2d((0, 1, 0, 1), -np.inf),
            tnn.MaxPool2d(2), tnn.Flatten()), input_shape=(1, 5, 5),
    )  # fmt: skip
    assert [type(layer) for layer in read.architecture] == [nn.Conv2d, nn.Clip, nn.MaxPool2d, nn.Flatten]
    assert read.architecture[0].padding == (1, 1)
    assert read.architecture[1] == nn.Clip("2", 0.0, 6.0)
    assert read.architecture[2].padding == ((0, 1), (0, 1))


@pytest.mark.parametrize(("low", "high"), [(None, 0.5), (-0.5, None), (0.0, 6.0)])
def test_bounds_of_one_side_go_there_and_back(low, high):
    model = nn.Model.init((nn.Clip("a", low, high), nn.Linear("fc", 5, 2)), input_shape=(5,), seed=0, dtype=np.float64)
    assert from_torch(to_torch(model)).architecture == model.architecture
    with pytest.raises(ArgumentError, match=r"^architecture has 'a', a Clip to 1.0 alone, which PyTorch refuses"):
        to_torch(model.replace(architecture=(nn.Clip("a", 1.0, 1.0), model.architecture[1])))


def test_every_pairing_has_a_case():
    assert registry_gaps((p.theirs for p in PAIRINGS), LAYERS) == []


@pytest.mark.parametrize("kind", LAYERS)
def test_each_layer_goes_there_and_back(kind, rng):
    layer, shape = LAYERS[kind]
    tail = nn.Flatten("end")
    size = int(np.prod(layer.output_shape(shape)))
    model = nn.Model.init((layer, tail, nn.Linear("fc", size, 3)), input_shape=shape, seed=0, dtype=np.float64)
    model = unlike_a_fresh_one(model, rng)
    module = to_torch(model)
    assert from_torch(module, input_shape=shape).architecture_json() == model.architecture_json()
    x = 10 * rng.standard_normal((4, *shape))
    close(model.logits(x), outputs(module, x))


def test_nested_containers_and_identity_keep_their_names(rng):
    class Net(tnn.Module):
        def __init__(self):
            super().__init__()
            self.features = tnn.Sequential(tnn.Conv2d(1, 3, 3, padding="same"), tnn.ReLU(inplace=True), tnn.Identity())
            self.blocks = tnn.ModuleList([tnn.Sequential(tnn.BatchNorm2d(3), tnn.MaxPool2d(2)), tnn.Flatten()])
            self.head = tnn.Linear(27, 4)

        def forward(self, x):
            x = self.features(x)
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    net = Net()
    model = from_torch(net, input_shape=(1, 6, 6))
    assert [layer.name for layer in model.architecture] == [
        "features.0", "features.1", "blocks.0.0", "blocks.0.1", "blocks.1", "head",
    ]  # fmt: skip
    assert model.architecture[0].padding == 1
    x = rng.standard_normal((3, 1, 6, 6))
    close(model.astype(np.float64).logits(x), outputs(net, x))
    close(outputs(to_torch(model), x), outputs(net, x))


def test_paddings_by_name():
    same = from_torch(tnn.Sequential(tnn.Conv2d(1, 2, (3, 5), dilation=(2, 1), padding="same"), tnn.Flatten(1)),
                      input_shape=(1, 8, 8))  # fmt: skip
    valid = from_torch(tnn.Sequential(tnn.Conv2d(1, 2, 3, padding="valid"), tnn.Flatten(1)), input_shape=(1, 4, 4))
    assert (same.architecture[0].padding, valid.architecture[0].padding) == (2, 0)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([tnn.Linear(7, 2)], (7,)),
        ([tnn.ReLU(), tnn.Dropout(), tnn.Linear(7, 2)], (7,)),
        ([tnn.BatchNorm1d(5), tnn.Linear(5, 2)], (5,)),
        ([tnn.Conv2d(2, 3, 3), tnn.Flatten(), tnn.Linear(48, 2)], (2, 6, 6)),
        ([tnn.BatchNorm2d(2), tnn.Flatten(), tnn.Linear(18, 2)], (2, 3, 3)),
    ],
)
def test_input_shape_is_inferred(layers, shape):
    assert from_torch(tnn.Sequential(*layers)).input_shape == shape


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([tnn.Flatten(), tnn.Linear(4, 2)], r"; pass it, as in input_shape=\(1, 28, 28\)$"),
        (
            [tnn.Conv2d(1, 3, 3), tnn.MaxPool2d(2), tnn.Flatten(), tnn.Linear(12, 2)],
            r"; square images from \(1, 6, 6\) to \(1, 7, 7\) fit; pass it",
        ),
        ([tnn.ReLU()], r"; pass it"),
    ],
)
def test_input_shape_that_cannot_be_told(layers, said):
    with pytest.raises(ArgumentError, match=r"^input_shape=None cannot be determined from the layers" + said):
        from_torch(tnn.Sequential(*layers))


def seq(*layers, **named):
    return tnn.Sequential(OrderedDict(named)) if named else tnn.Sequential(*layers)


def own(forward, **children):
    """A module with these children and this forward pass."""
    made = type("Own", (tnn.Module,), {"forward": forward})()
    for name, child in children.items():
        made.add_module(name, child)
    return made


def parameterised():
    net = seq(tnn.Linear(4, 2))
    net.scale = tnn.Parameter(torch.ones(1))
    return net


def masked(what, value):
    net = seq(tnn.Linear(4, 2))
    mask = torch.ones_like(getattr(net[0], what))
    mask.ravel()[0] = value
    tprune.identity(net[0], what)
    getattr(net[0], f"{what}_mask").copy_(mask)
    return net


SHARED = tnn.Linear(4, 4)
TIED = seq(tnn.Linear(4, 4), tnn.Linear(4, 4))
TIED[1].weight = TIED[0].weight

HOOKED = seq(tnn.Linear(4, 4))
HOOKED[0].register_forward_hook(lambda _module, _inputs, y: y + 1)

REFUSED = {  # module, input shape, error, message
    "no module": (np.ones(3), (4,), ArgumentError, r"^module is a ndarray, expected a torch.nn.Module; pass"),
    "single": (tnn.Linear(4, 2), (4,), ArgumentError, r"^module is a single Linear; put it in an nn.Sequential"),
    "empty": (seq(), (4,), ArgumentError, r"^module is a Sequential without layers; give it at least one$"),
    "identity": (seq(tnn.Identity()), (4,), ArgumentError, r"^module is a Sequential without layers; give it at least"),
    "unknown": (seq(a=seq(b=tnn.GELU())), (4,), ArgumentError, r"^module 'a.b' is a GELU, which l0ref does not have; "),
    "subclass": (seq(type("L", (tnn.Linear,), {})(4, 2)), (4,), ArgumentError, r"^module '0' is a L, which l0ref does"),
    "own parameter": (parameterised(), (4,), ArgumentError, r"^module has 'scale', a parameter that no layer of l0re"),
    "padding mode": (
        seq(tnn.Conv2d(1, 1, 3, padding_mode="circular")), (1, 4, 4), ArgumentError,
        r"^module '0' \(Conv2d\) has padding_mode='circular', .*; build it with padding_mode='zeros'$",
    ),
    "indices": (
        seq(tnn.MaxPool2d(2, return_indices=True)), (1, 4, 4), ArgumentError,
        r"^module '0' \(MaxPool2d\) has return_indices=True, .*; build it with return_indices=False$",
    ),
    "divisor": (
        seq(tnn.AvgPool2d(2, divisor_override=3)), (1, 4, 4), ArgumentError, r"has divisor_override=3, which",
    ),
    "padded by 1": (
        seq(tnn.ConstantPad2d(1, 1.0), tnn.MaxPool2d(2)), (1, 4, 4), ArgumentError,
        r"^module calls '1', which in '1' reads an input padded by 1.0; let '1' pad, both sides alike$",
    ),
    "padded before a ReLU": (seq(tnn.ZeroPad2d(1), tnn.ReLU()), (1, 4, 4), ArgumentError, r"reads an input padded by"),
    "uneven before a convolution": (
        seq(tnn.ZeroPad2d((0, 1, 0, 1)), tnn.Conv2d(1, 1, 2)), (1, 4, 4), ArgumentError, r"let '1' pad, both sides"
    ),
    "ceil after padding": (
        seq(tnn.ZeroPad2d((0, 1, 0, 1)), tnn.AvgPool2d(2, ceil_mode=True)), (1, 4, 4), ArgumentError,
        r"has ceil_mode over an input that is padded before",
    ),
    "cropped": (seq(tnn.ZeroPad2d(-1), tnn.AvgPool2d(2)), (1, 6, 6), ArgumentError, r"pads by \(-1, -1, -1, -1\); "),
    "padded at the end": (seq(tnn.ZeroPad2d(1)), (1, 4, 4), ArgumentError, r"computes from '0'; let layers compute"),
    "output size": (seq(tnn.AdaptiveAvgPool2d((1, 2))), (1, 4, 4), ArgumentError, r"has output_size=\(1, 2\), which"),
    "affine": (seq(tnn.BatchNorm1d(4, affine=False)), (4,), ArgumentError, r"has affine=False, .* with affine=True$"),
    "momentum": (
        seq(tnn.BatchNorm1d(4, momentum=None)), (4,), ArgumentError,
        r"^module '0' \(BatchNorm1d\) has momentum=None must be a real number",
    ),
    "softplus": (seq(tnn.Softplus(beta=2)), (4,), ArgumentError, r"has beta=2\.?0?, which .* build it with beta=1.0$"),
    "same, even": (seq(tnn.Conv2d(1, 1, 2, padding="same")), (1, 4, 4), ArgumentError, r"has padding='same' around an"),
    "shared": (seq(SHARED, SHARED), (4,), ArgumentError, r"^module shares '0.weight' with '1.weight', and"),
    "tied": (TIED, (4,), ArgumentError, r"^module shares '0.weight' with '1.weight', and"),
    "half": (seq(tnn.Linear(4, 2)).half(), (4,), DTypeError, r"^module has '0.weight' in torch.float16; convert it wi"),
    "mixed": (seq(tnn.Linear(4, 2), tnn.Linear(2, 2).double()), (4,), DTypeError, r"^params.* arrays of float32, f"),
    "weight norm": (
        seq(torch.nn.utils.parametrizations.weight_norm(tnn.Linear(4, 2))), (4,), ArgumentError,
        r"^module '0' is a ParametrizedLinear, which l0ref does not have",
    ),
    "spectral norm": (
        seq(torch.nn.utils.spectral_norm(tnn.Linear(4, 2))), (4,), ArgumentError,
        r"^module has '0.weight_orig', a parameter that no layer of l0ref has; undo its source",
    ),
    "pruned bias": (masked("bias", 0), (4,), ArgumentError, r"^module has '0.bias' pruned, and l0ref prunes weights"),
    "soft mask": (masked("weight", 0.5), (4,), ArgumentError, r"^module has a mask '0.weight_mask' with entries other"),
    "misfit": (seq(tnn.Linear(4, 2)), (3,), ArgumentError, r"^module raised RuntimeError: .* for an input of shape"),
    "bad shape": (seq(tnn.Linear(4, 2)), (4.0,), ArgumentError, r"^input_shape=4.0 must be a whole number"),
    "two outputs": (
        own(lambda s, x: (s.a(x), x), a=tnn.Linear(4, 2)), (4,), ArgumentError,
        r"^module returns a tuple, expected one tensor of logits",
    ),
    "called twice": (
        own(lambda s, x: s.a(s.a(x)), a=tnn.Linear(4, 4)), (4,), ArgumentError,
        r"^module calls its layer 'a' more than once; declare one layer for each call$",
    ),
    "unused": (
        own(lambda s, x: s.a(x), a=tnn.Linear(4, 4), b=tnn.Linear(4, 4)), (4,), ArgumentError,
        r"^module has 'b.weight', which its forward pass does not use; remove the layer$",
    ),
    "something after": (
        own(lambda s, x: 2 * s.a(x), a=tnn.Linear(4, 4)), (4,), ArgumentError,
        r"^module calls 'mul', which is not a layer of l0ref; use layers of Adapt",
    ),
    "a hook": (HOOKED, (4,), ArgumentError, r"^module does not compute what torch.fx traces \(difference .*without h"),
    "no flatten at the end": (
        seq(tnn.Conv2d(1, 3, 3), tnn.AdaptiveAvgPool2d(1)), (1, 5, 5), ArgumentError,
        r"^module gives \(8, 3, 1, 1\) for 8 samples, its layers \(8, 3\); end with nn.Flatten\(\)$",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_sentence(case):
    module, shape, error, said = REFUSED[case]
    with pytest.raises(error, match=said) as caught:
        from_torch(module, input_shape=shape)
    assert "\n" not in str(caught.value)


def relu_of(*names):
    return tuple(nn.ReLU(name) for name in names)


@dataclasses.dataclass(frozen=True)
class Doubled(nn.ReLU):
    """A layer of the user's own."""


BLOCK = nn.Residual("a", relu_of("a.1"))
FLAT = {
    "apart": relu_of("a.x", "b", "a.y"),
    "leaf and prefix": relu_of("fc", "fc.relu"),
    "foreign name": (nn.Residual("a", relu_of("x")),),
    "two parts": (nn.Residual("a", relu_of("a.1"), relu_of("a.1.x")),),
    "part and after": (BLOCK, *relu_of("a.1.x")),
    "a pool": (nn.Conv2d("c", 1, 2, 1), *relu_of("c.r"), nn.GlobalAvgPool2d("p")),
}


@pytest.mark.parametrize("case", FLAT)
def test_names_that_do_not_nest_give_a_graph_with_the_same_keys(case, rng):
    shape = (1, 2, 2) if case == "a pool" else (4,)
    tail = nn.Linear("end", 2 if case == "a pool" else 4, 2)
    model = nn.Model.init((*FLAT[case], tail), input_shape=shape, seed=0, dtype=np.float64)
    module = to_torch(model)
    assert type(module).__name__ == "GraphModule"
    assert set(module.state_dict()) == set(model.params)
    x = rng.standard_normal((3, *shape))
    close(outputs(module, x), model.logits(x))
    close(from_torch(module, input_shape=shape).logits(x), model.logits(x))


UNWRITABLE = {
    "taken": (
        relu_of("forward"),
        r"^architecture has a layer name that PyTorch does not allow: attribute 'forward' already exis",
    ),
    "own layer": ((Doubled("a"),), r"^architecture has 'a', a Doubled, which has no module in PyTorch; use one of Avg"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_what_cannot_be_written_is_refused_in_one_sentence(case):
    architecture, said = UNWRITABLE[case]
    model = nn.Model.init((*architecture, nn.Linear("end", 4, 2)), input_shape=(4,), seed=0)
    with pytest.raises(ArgumentError, match=said):
        to_torch(model)


def test_block_with_identity_shortcut_and_layers_after_it(rng):
    layers = (nn.Residual("a", (nn.Linear("a.fc", 4, 4),)), nn.Tanh("a.act"), nn.Linear("b", 4, 2))
    model = nn.Model.init(layers, input_shape=(4,), seed=0, dtype=np.float64)
    module = to_torch(model)
    x = rng.standard_normal((5, 4))
    w, b = model.params["a.fc.weight"], model.params["a.fc.bias"]
    close(outputs(module, x), np.tanh(x @ w.T + b + x) @ model.params["b.weight"].T + model.params["b.bias"])
    back = from_torch(module)
    assert json.dumps(back.architecture_json()) == json.dumps(model.architecture_json())


def test_shape_error_of_the_architecture_is_passed_on():
    net = own(lambda s, x: s.b(s.a(x)), a=tnn.AdaptiveAvgPool2d(1), b=tnn.Conv2d(4, 2, 1))
    with pytest.raises(ShapeError, match=r"^layer 'b' \(Conv2d\) got an input of shape \(4,\)"):
        from_torch(net, input_shape=(4, 3, 3))


# --- masks ------------------------------------------------------------------------------------------------------------


def test_masks_go_there_and_back_and_hold_while_training(rng):
    model = prune(nn.digits_cnn(seed=0, dtype=np.float64), amount=0.9)
    module = to_torch(model)
    back = from_torch(module, input_shape=model.input_shape)
    assert set(back.masks) == set(model.weights)
    assert all((back.masks[k] == model.masks[k]).all() for k in model.masks)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        module(torch.from_numpy(rng.standard_normal((4, 1, 8, 8)))).square().sum().backward()
        optimizer.step()
    after = from_torch(module, input_shape=model.input_shape)
    assert all((after.params[k][~model.masks[k]] == 0).all() for k in model.masks)
    assert not (after.params["fc1.weight"] == model.params["fc1.weight"]).all()


def test_a_module_that_was_pruned_and_run_is_not_written():
    net = seq(tnn.Linear(4, 2))
    tprune.l1_unstructured(net[0], "weight", amount=3)
    net(torch.ones(1, 4)).sum().backward()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    held = net[0].weight
    model = from_torch(net)
    assert int(model.masks["0.weight"].sum()) == 5
    assert net[0].weight is held
    assert net.training
    assert all((net.state_dict()[k] == v).all() and v.dtype == torch.float32 for k, v in before.items())


def test_bias_mask_that_keeps_everything_is_no_mask():
    net = masked("bias", 1)
    assert dict(from_torch(net).masks) == {}
