"""Modules as people write them, read by tracing; forms of to_torch; optimiser state in both directions."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from l0ref import nn, optim, prune
from l0ref.errors import ArgumentError
from l0ref.interop.forms import FORMS
from l0ref.interop.state import from_state_dict
from l0ref.interop.torch import from_torch, optimizer_from_torch, optimizer_to_torch, to_torch
from l0ref.interop.torch_arrays import parameters
from l0ref.masks import masked
from l0ref.nn.loss import loss_and_gradient
from l0ref.optim import SGD, Adam, AdamW

torch = pytest.importorskip("torch", reason="needs the extra `crosscheck`")
pytestmark = pytest.mark.crosscheck
tprune = pytest.importorskip("torch.nn.utils.prune", reason="needs the extra `crosscheck`")
tnn, F = torch.nn, torch.nn.functional
TOLERANCE = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-12}
SEED = int(os.environ.get("L0REF_SEED", "0"))


def outputs(module, x):
    """What the module computes in evaluation mode, in the type of x."""
    with torch.no_grad():
        return module.eval()(torch.from_numpy(x)).numpy()


def close(a, b):
    scale = np.abs(b).max()
    assert scale > 0
    np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[b.dtype] * scale)


def shaken(model, rng):
    """The model with biases, batch-norm parameters and statistics that are not those it began with."""
    params = {k: v + 0.1 * rng.standard_normal(v.shape).astype(v.dtype) for k, v in model.params.items()}
    buffers = {k: v + rng.random(v.shape).astype(v.dtype) for k, v in model.buffers.items()}
    return model.replace(params=params, buffers=buffers)


# --- modules as people write them -------------------------------------------------------------------------------------


class LeNet5(tnn.Module):
    """Functions between layers, and the view of PyTorch's examples."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = tnn.Conv2d(1, 6, 5, padding=2), tnn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = tnn.Linear(400, 120), tnn.Linear(120, 84), tnn.Linear(84, 10)

    def forward(self, x, scale=None):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(torch.relu(self.conv2(x)), (2, 2))
        x = x.view(x.size(0), -1)
        x = F.dropout(F.relu(self.fc1(x)), 0.25, training=self.training)
        x = F.leaky_relu(self.fc2(x), 0.2).contiguous()
        if scale is not None:
            x = x * scale
        return self.fc3(x)


class Basic(tnn.Module):
    """The block of torchvision: one ReLU called twice, a sum in place, a projection where shapes change."""

    def __init__(self, into, out, stride):
        super().__init__()
        self.conv1, self.bn1 = tnn.Conv2d(into, out, 3, stride, 1, bias=False), tnn.BatchNorm2d(out)
        self.relu = tnn.ReLU(inplace=True)
        self.conv2, self.bn2 = tnn.Conv2d(out, out, 3, 1, 1, bias=False), tnn.BatchNorm2d(out)
        projected = tnn.Sequential(tnn.Conv2d(into, out, 1, stride, bias=False), tnn.BatchNorm2d(out))
        self.downsample = projected if stride > 1 else None

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return self.relu(out)


class ResNet(tnn.Module):
    def __init__(self):
        super().__init__()
        self.stem = tnn.Sequential(tnn.Conv2d(1, 4, 3, padding=1), tnn.BatchNorm2d(4))
        self.blocks = tnn.ModuleList([Basic(4, 4, 1), Basic(4, 6, 2)])
        self.fc = tnn.Linear(6, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean(dim=(2, 3)))


class Sums(tnn.Module):
    """Sums one inside another at the top, whose names do not nest, and a flatten by shape."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.end = (tnn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        x = torch.reshape(x, (x.shape[0], -1))
        y = torch.tanh(self.a(x))
        y = torch.add(y, self.b(torch.sigmoid(y)))
        return self.end(F.softplus(x + self.c(y)))


class Pools(tnn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = tnn.Conv2d(2, 6, (3, 2), groups=2, padding=(1, 0)), tnn.Linear(6, 4)
        self.unused = tnn.Dropout()

    def forward(self, x):
        x = F.avg_pool2d(self.conv(x).relu_(), 3, stride=1, padding=1)
        x = F.max_pool2d(x, kernel_size=2, stride=(2, 1))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), start_dim=1))


HAND = {  # module, shape of a sample, names of layers
    "lenet": (LeNet5, (1, 28, 28), "conv1 relu max_pool2d conv2 relu_1 max_pool2d_1 view fc1 relu_2 dropout fc2 "
                                   "leaky_relu fc3"),
    "resnet": (ResNet, (1, 8, 8), "stem.0 stem.1 relu blocks.0 blocks.0.relu_1 blocks.1 blocks.1.relu_1 mean fc"),
    "sums": (Sums, (2, 4), "reshape add_1 softplus end"),
    "pools": (Pools, (2, 9, 9), "conv relu avg_pool2d max_pool2d adaptive_avg_pool2d flatten fc"),
}  # fmt: skip


def made(name, dtype, pruned):
    """A hand-written module with statistics that are not those it began with, pruned by PyTorch if asked for."""
    kind, shape, _ = HAND[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module = kind().to(getattr(torch, np.dtype(dtype).name))
        x = torch.randn(16, *shape, dtype=next(module.parameters()).dtype)
    with torch.no_grad():
        module.train()(x)  # moves running statistics
    if pruned:
        weights = [(m, "weight") for m in module.modules() if isinstance(m, tnn.Linear | tnn.Conv2d)]
        tprune.global_unstructured(weights, tprune.L1Unstructured, amount=0.6)
    return module, x.numpy()


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", HAND)
def test_hand_written_modules_there_and_back(name, dtype, pruned):
    module, x = made(name, dtype, pruned)
    before = copy.deepcopy(module.eval().state_dict())
    model = from_torch(module, input_shape=HAND[name][1])
    assert " ".join(layer.name for layer in model.architecture) == HAND[name][2]
    theirs = outputs(module, x)
    close(model.logits(x), theirs)
    keys = {k.replace("weight_orig", "weight") for k in before if not k.endswith(("_mask", "tracked"))}
    assert keys == set(model.params) | set(model.buffers)
    assert bool(model.masks) == pruned
    back = to_torch(model)
    close(outputs(back, x), theirs)
    close(from_torch(back, input_shape=HAND[name][1]).logits(x), theirs)
    assert all((module.state_dict()[k] == v).all() for k, v in before.items())
    if pruned:
        kept = sum(int(m.sum()) for k, m in module.state_dict().items() if k.endswith("_mask"))
        assert kept == sum(int(m.sum()) for m in model.masks.values())


@pytest.mark.parametrize("pruned", [False, True])
def test_a_state_dict_alone_fills_another_architecture_by_a_map_of_names(pruned, rng):
    module, x = made("lenet", np.float64, pruned)
    like = shaken(nn.lenet_5(variant="tanh", seed=3, dtype=np.float64), rng)
    names = {f"fc{i}": f"fc{i}" for i in (1, 2, 3)} | {f"conv{i}": f"conv{i}" for i in (1, 2)}
    taken = {ours: theirs for ours, theirs in names.items() if f"{ours}.weight" in like.params}
    found = from_state_dict(module.state_dict(), like=from_torch(module, input_shape=(1, 28, 28)), names=taken)
    close(found.logits(x), outputs(module, x))
    wrapped = {f"module.{k}": v for k, v in module.state_dict().items()}
    again = from_state_dict(wrapped, like=found, names={k: f"module.{v}" for k, v in names.items()})
    close(again.logits(x), outputs(module, x))
    assert bool(again.masks) == pruned


def test_training_mode_is_that_of_the_trace_and_left_as_it_was():
    module, _ = made("lenet", np.float32, False)
    module.train()
    model = from_torch(module, input_shape=(1, 28, 28))
    assert module.training
    assert next(layer for layer in model.architecture if layer.name == "dropout").p == 0.25


# --- random architectures ---------------------------------------------------------------------------------------------


@st.composite
def networks(draw):
    """A chain with residual blocks over vectors, then its module: every draw is a valid network."""
    width, layers, count = draw(st.integers(1, 5)), [], 0

    def some(prefix, most, depth):
        nonlocal count
        found = []
        for kind in draw(st.lists(st.sampled_from(["linear", "norm", "act", "block"]), min_size=1, max_size=most)):
            name = f"{prefix}{kind}{count}"
            count += 1
            if kind == "linear":
                found.append(nn.Linear(name, width, width, bias=draw(st.booleans())))
            elif kind == "norm":
                found.append(nn.BatchNorm1d(name, width))
            elif kind == "act" or depth == 2:
                found.append(draw(st.sampled_from([nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.LeakyReLU]))(name))
            else:
                inside = f"{name}." if draw(st.booleans()) else prefix  # names that nest, and names that do not
                body = some(inside, 3, depth + 1)
                shortcut = some(inside, 2, depth + 1) if draw(st.booleans()) else ()
                found.append(nn.Residual(name, body, shortcut))
        return tuple(found)

    layers = (*some("", 5, 0), nn.Linear("end", width, draw(st.integers(1, 3))))
    return nn.Model.init(layers, input_shape=(width,), seed=draw(st.integers(0, 99)), dtype=np.float64)


@settings(max_examples=25, deadline=None)
@given(model=networks(), pruned=st.booleans(), seed=st.integers(0, 99))
def test_random_architectures_there_and_back(model, pruned, seed):
    rng = np.random.default_rng(seed)
    model = shaken(model, rng)
    model = model.replace(masks={k: rng.random(model.params[k].shape) < 0.6 for k in model.weights if pruned})
    x = rng.standard_normal((5, *model.input_shape))
    module = to_torch(model)
    close(outputs(module, x), model.logits(x))
    back = from_torch(module, input_shape=model.input_shape)
    close(back.logits(x), model.logits(x))
    assert set(back.params) == set(model.params)
    assert all((back.params[k] == v).all() for k, v in model.params.items())
    assert all((back.mask(k) == model.mask(k)).all() for k in model.weights)


# --- forms ------------------------------------------------------------------------------------------------------------

ZOO = {name: nn.MODELS[name] for name in ("digits_mlp", "lenet_5", "vgg_small", "resnet_small")}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ZOO)
def test_every_form_of_the_zoo_gives_the_same_logits_there_and_back(name, form, dtype, rng):
    model = prune(shaken(ZOO[name](seed=1, dtype=dtype), rng), amount=0.9)
    x = rng.standard_normal((2, *model.input_shape)).astype(dtype)
    module = to_torch(model, form=form)
    tolerance = {np.float32: 4e-6, np.float64: 1e-12}[dtype]  # sums of a shrunk network are taken in another order
    for found in (outputs(module, x), from_torch(module, input_shape=model.input_shape).logits(x)):
        ours = model.logits(x)
        np.testing.assert_allclose(found, ours, rtol=0, atol=tolerance * np.abs(ours).max())
    keys = list(module.state_dict())
    assert any(k.endswith("weight_mask") for k in keys) == (form == "masked")
    assert any(k.endswith("crow_indices") for k in keys) == (form == "sparse")
    size = sum(p.numel() for p in module.parameters())
    dense = sum(p.size for p in model.params.values())
    assert size == dense if form in ("masked", "dense") else size < dense
    if form == "sparse":
        back = from_torch(module, input_shape=model.input_shape)
        assert all((back.masks[k] == model.masks[k]).all() for k in model.masks)
        assert module.get_submodule(model.weights[0].removesuffix(".weight")).weight.layout == torch.sparse_csr


def test_grouped_strided_dilated_sparse_convolution_and_its_gradient(rng):
    layers = (
        nn.Conv2d("c", 4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2), nn.Flatten("f"),
        nn.Linear("l", 6 * 4 * 8, 3, bias=False),
    )  # fmt: skip
    model = prune(shaken(nn.Model.init(layers, input_shape=(4, 7, 6), seed=0, dtype=np.float64), rng), amount=0.7)
    x, y = rng.standard_normal((3, 4, 7, 6)), np.array([0, 2, 1])
    module = to_torch(model, form="sparse")
    close(outputs(module, x), model.logits(x))
    close(from_torch(module, input_shape=(4, 7, 6)).logits(x), model.logits(x))
    copied = copy.deepcopy(module)
    F.cross_entropy(copied(torch.from_numpy(x)), torch.from_numpy(y)).backward()
    _, _, grads, _ = loss_and_gradient(model.architecture, model.params, {}, x, y, training=True, rng=None)
    for name in ("c", "l"):
        mask = model.masks[f"{name}.weight"]
        theirs, ours = copied.get_submodule(name).values.grad.numpy(), grads[f"{name}.weight"][mask]
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-12 * np.abs(ours).max())


# --- optimiser state --------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": SGD(lr=0.05),
    "momentum": SGD(lr=0.05, momentum=0.9),
    "nesterov": SGD(lr=0.05, momentum=0.8, nesterov=True),
    "adam": Adam(lr=0.01, betas=(0.8, 0.95), eps=1e-6),
    "adamw": AdamW(lr=0.01, weight_decay=0.1),
}
THEIRS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-6),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


def our_step(model, optimizer, state, x, y, *, module=None):
    """A step with our gradient; in float32 with that of `module`, whose rounding Adam would turn into full steps."""
    _, _, grads, buffers = loss_and_gradient(
        model.architecture, model.params, model.buffers, x, y, training=True, rng=np.random.default_rng(0)
    )
    if module is not None and model.dtype == np.float32:
        theirs = {h.name: h.parameter.grad.numpy().copy() for h in parameters(module)}
        for key, g in grads.items():
            g = masked(g, model.masks.get(key))
            np.testing.assert_allclose(theirs[key], g, rtol=0, atol=4e-6 * max(np.abs(v).max() for v in grads.values()))
        grads = theirs
    params, state = optimizer.step(model.params, grads, state, masks=model.masks)
    return model.replace(params=params, buffers=buffers), state


def their_step(module, optimizer, x, y):
    optimizer.zero_grad()
    F.cross_entropy(module.train()(torch.from_numpy(x)), torch.from_numpy(y)).backward()
    optimizer.step()


def batch(rng, dtype):
    return rng.standard_normal((8, 1, 8, 8)).astype(dtype), rng.integers(0, 10, 8)


def same_weights(model, module, dtype):
    """Every effective parameter is equal to the tolerance of its type, relative to the largest."""
    found = from_torch(module, input_shape=model.input_shape)
    for key, w in model.params.items():
        atol = TOLERANCE[np.dtype(dtype)] * np.abs(w).max()
        np.testing.assert_allclose(found.params[key], w, rtol=0, atol=atol, err_msg=key)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_next_steps_are_the_same_from_pytorch(name, dtype, rng):
    module = to_torch(prune(nn.digits_cnn(seed=SEED, dtype=dtype), amount=0.6))
    theirs = THEIRS[name](module.parameters())
    for _ in range(3):
        their_step(module, theirs, *batch(rng, dtype))
    model = from_torch(module, input_shape=(1, 8, 8))
    ours, state = optimizer_from_torch(theirs, module)
    assert ours == OPTIMIZERS[name]
    assert state.step == (0 if "sgd" in name or "m" in name[:1] or "n" in name[:1] else 3)
    x, y = batch(rng, dtype)
    their_step(module, theirs, x, y)
    after, _ = our_step(model, ours, state, x, y, module=module)
    assert any((after.params[k] != model.params[k]).any() for k in after.params)
    same_weights(after, module, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_next_steps_are_the_same_to_pytorch_and_the_state_comes_back(name, dtype, rng):
    model, ours = prune(nn.digits_cnn(seed=SEED, dtype=dtype), amount=0.6), OPTIMIZERS[name]
    state = ours.init(model.params)
    for _ in range(3):
        model, state = our_step(model, ours, state, *batch(rng, dtype))
    module = to_torch(model)
    theirs = optimizer_to_torch(ours, state, module)
    again, back = optimizer_from_torch(theirs, module)
    assert again == ours
    for slot, arrays in state.slots.items():
        assert all((back.slots[slot][k] == v).all() and back.slots[slot][k].dtype == dtype for k, v in arrays.items())
    for _ in range(2):
        x, y = batch(rng, dtype)
        their_step(module, theirs, x, y)
        model, state = our_step(model, ours, state, x, y, module=module)
    same_weights(model, module, dtype)


def test_a_state_before_the_first_step_and_slots_of_pruned_weights(rng):
    module = to_torch(nn.mlp((64, 5, 10), seed=0, input_shape=(1, 8, 8), dtype=np.float64))
    theirs = THEIRS["adam"](module.parameters())
    ours, state = optimizer_from_torch(theirs, module)
    assert state.step == 0
    assert all((v == 0).all() for arrays in state.slots.values() for v in arrays.values())
    their_step(module, theirs, *batch(rng, np.float64))
    mask = np.array(rng.random((5, 64)) < 0.5)
    tprune.custom_from_mask(module.fc1, "weight", torch.from_numpy(mask))
    _, state = optimizer_from_torch(theirs, module)
    assert (state.slots["m"]["fc1.weight"][~mask] == 0).all()
    assert (state.slots["m"]["fc1.weight"][mask] != 0).any()
    assert type(ours) is Adam


# --- what is refused --------------------------------------------------------------------------------------------------


def own(forward, **children):
    """A module with these children and this forward pass."""
    found = type("Own", (tnn.Module,), {"forward": forward})()
    for name, child in children.items():
        found.add_module(name, child)
    return found


def fc(inputs=4, outputs=4):
    return tnn.Linear(inputs, outputs)


FUNCTIONS_OF_POOLS = {
    "ceil": (lambda x: F.max_pool2d(x, 3, 2, 1, 1, True), nn.MaxPool2d("p", 3, 2, 1, ceil_mode=True)),
    "gaps": (lambda x: F.max_pool2d(x, 2, stride=1, dilation=(2, 3)), nn.MaxPool2d("p", 2, 1, dilation=(2, 3))),
    "not counted": (
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        nn.AvgPool2d("p", 3, 2, 1, count_include_pad=False),
    ),
    "padded below": (
        lambda x: F.max_pool2d(F.pad(x, (0, 1, 0, 2), value=-math.inf), 3, 1),
        nn.MaxPool2d("p", 3, 1, ((0, 2), (0, 1))),
    ),
    "padded by zeros": (
        lambda x: F.avg_pool2d(F.pad(x, (1, 0, 0, 0)), 2, count_include_pad=False),
        nn.AvgPool2d("p", 2, None, ((0, 0), (1, 0))),
    ),
    "relu6": (F.relu6, nn.Clip("p", 0.0, 6.0)),
    "hardtanh": (lambda x: F.hardtanh(x, -0.5, 0.25), nn.Clip("p", -0.5, 0.25)),
    "clamp": (lambda x: torch.clamp(x, max=0.5), nn.Clip("p", None, 0.5)),
    "clip, in place": (lambda x: x.clip_(-0.5, 1.5), nn.Clip("p", -0.5, 1.5)),
    "clamp from below": (lambda x: x.clamp(min=0.25), nn.Clip("p", 0.25)),
    "clamp_min": (lambda x: torch.clamp_min(x, -0.25), nn.Clip("p", -0.25)),
    "clamp_max": (lambda x: x.clamp_max(0.25), nn.Clip("p", None, 0.25)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS_OF_POOLS)
def test_functions_of_pooling_and_bounds_are_layers(name):
    call, layer = FUNCTIONS_OF_POOLS[name]
    c, d = tnn.Conv2d(1, 2, 2), tnn.Flatten()
    read = from_torch(own(lambda s, x: s.d(call(s.c(x))), c=c, d=d), input_shape=(1, 8, 9))
    assert dataclasses.replace(read.architecture[1], name="p") == layer


def block(forward):
    return tnn.Sequential(fc(), own(forward, fc=fc()))


class Table(tnn.Module):
    def __init__(self):
        super().__init__()
        self.table = tnn.Parameter(torch.ones(4))

    def forward(self, x):
        return x + self.table


def branch(s, x):
    return s.fc(x) if x.sum() > 0 else x


def mode(s, x):
    return s.fc(torch.relu(x)) if s.training else s.fc(x)


REFUSED = {
    "branch": (block(branch), (4,), r"^module '1' cannot be traced by torch.fx \(TraceError: symbolically traced var"),
    "loop": (block(lambda s, x: s.fc(sum(row for row in x))), (4,), r"^module '1' cannot be traced .*; write its for"),
    "length": (block(lambda s, x: s.fc(x) * len(x)), (4,), r"^module '1' cannot be traced by torch.fx \(RuntimeError"),
    "raises": (block(lambda _s, _x: 1 / 0), (4,), r"^module '1' cannot be traced .*ZeroDivisionError: .*or as nn.Sequ"),
    "arithmetic": (block(lambda s, x: s.fc(x) - x), (4,), r"^module calls 'sub', which in '1' is not a layer of l0ref"),
    "soft-max": (block(lambda s, x: F.log_softmax(s.fc(x), 1)), (4,), r"calls 'log_softmax', .*; return the logits,"),
    "method": (block(lambda s, x: s.fc(x).exp()), (4,), r"^module calls 'exp', which in '1' is not a layer of l0ref"),
    "concatenation": (block(lambda s, x: torch.cat([s.fc(x), x], 1)), (4,), r"^module calls 'cat', which in '1' is no"),
    "product of own": (
        block(lambda s, x: F.linear(x, s.fc.weight)), (4,), r"^module calls 'linear', .*; use the layer nn.Linear$"
    ),
    "own table": (tnn.Sequential(fc(), Table()), (4,), r"has '1.table', a parameter that no layer|computes from '1.t"),
    "scaled sum": (block(lambda s, x: torch.add(x, s.fc(x), alpha=2)), (4,), r"calls 'add', .* adds _1_fc times 2; a"),
    "number added": (block(lambda s, x: s.fc(x) + 1), (4,), r"^module calls 'add', which in '1' adds 1; add two resu"),
    "twice itself": (block(lambda s, x: s.fc(x) + s.fc(x)), (4,), r"calls its layer '1.fc' more than once; declare o"),
    "doubled": (block(lambda _s, x: x + x), (4,), r"^module adds '_0' to itself at '1'; scale a weight by 2$"),
    "always drops": (block(lambda s, x: F.dropout(s.fc(x))), (4,), r"drops in evaluation too; pass training=self.tra"),
    "mode": (block(mode), (4,), r"^module computes differently in training and in evaluation; write dropout"),
    "start": (
        own(lambda s, x: s.fc(torch.flatten(x)), fc=fc()), (4,), r"'flatten' \(Flatten\) has start_dim=0, which l0ref"
    ),
    "shape": (own(lambda s, x: s.fc(x.view(-1, 2, 2)), fc=fc()), (4,), r"'view', which makes the shape \(-1, 2, 2\);"),
    "fixed batch": (own(lambda s, x: s.fc(x.view(8, -1)), fc=fc()), (4,), r"'view', which makes the shape \(8, -1\);"),
    "other axis": (
        own(lambda s, x: s.fc(x.view(x.shape[1], -1)), fc=fc()), (8, 4), r"'view', which makes the shape \(.*, -1\); fl"
    ),
    "other size": (
        own(lambda s, x: s.fc(x.view(x.size(1), -1)), fc=fc()), (8, 4), r"'view', which makes the shape \(.*, -1\); fl"
    ),
    "rows lost": (own(lambda s, x: s.fc(x.view(-1, 4)), fc=fc()), (2, 4), r"^layer 'fc' \(Linear\) got an input of s"),
    "mean of all": (own(lambda s, x: s.fc(x.mean(1)), fc=fc()), (1, 4), r"takes the mean over dim=1; average over hei"),
    "indices": (
        own(lambda s, x: s.fc(F.max_pool2d(x, 2, return_indices=True).flatten(1)), fc=fc()), (1, 4, 4),
        r"^module calls 'max_pool2d_with_indices', which is not a layer of l0ref; use layers of ",
    ),
    "mirrored": (
        own(lambda s, x: s.fc(F.max_pool2d(F.pad(x, (1, 1, 1, 1), "reflect"), 3).flatten(1)), fc=fc()), (1, 4, 4),
        r"^module calls 'pad', which pads by reflect; pad by a number",
    ),
    "no bound": (own(lambda s, x: s.fc(torch.clamp(x, None, None)), fc=fc()), (4,), r"min=None and max=None limit"),
    "two inputs": (own(lambda s, x, m: s.fc(x + m), fc=fc()), (4,), r"computes from 'm'; let layers compute from res"),
    "several results": (own(lambda s, x: (s.fc(x), x), fc=fc()), (4,), r"^module returns a tuple, expected one tenso"),
    "a dict": (own(lambda s, x: {"y": s.fc(x)}, fc=fc()), (4,), r"^module returns a dict, expected one tensor of log"),
    "overlap": (
        own(lambda s, x: s.c((a := s.a(x)) + (b := s.b(a))) + b, a=fc(), b=fc(), c=fc()), (4,),
        r"^module uses the result of '.*' in two sums that overlap",
    ),
    "dead": (own(lambda s, x: (s.a(x), s.b(x))[1], a=fc(), b=fc()), (4,), r"^module computes 'a', which its result d"),
    "no input": (own(lambda s: s.fc(torch.ones(1, 4)), fc=fc()), (4,), r"^module 'Own' takes no input; let for"),
    "computed window": (
        own(lambda s, x: s.fc(F.avg_pool2d(x, x.size()[2:]).flatten(1)), fc=fc(1)), (1, 4, 4),
        r"^module calls 'avg_pool2d', which computes its kernel_size; give it as a number$",
    ),
    "options": (own(lambda s, x: F.relu(s.fc(x), True, 3), fc=fc()), (4,), r"cannot be traced .*positional arguments"),
    "probability": (own(lambda s, x: F.leaky_relu(s.fc(x), "a"), fc=fc()), (4,), r"negative_slope='a' must be a re"),
    "written over": (
        own(lambda s, x: F.relu_(y := s.fc(x)) + y, fc=fc()), (4,),
        r"^module does not compute what torch.fx traces \(difference .*, and overwrite no value that is used again$",
    ),
    "misfit": (tnn.Sequential(fc()), (3,), r"^module raised RuntimeError: .* for an input of shape \(8, 3\) in float"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_traced_is_refused_in_one_sentence(case):
    module, shape, said = REFUSED[case]
    with pytest.raises(ValueError, match=said) as caught:
        from_torch(module, input_shape=shape)
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value) or re.search("expected|must be", str(caught.value))


def groups(module, **changes):
    first, *others = module.parameters()
    return torch.optim.SGD([{"params": [first], **changes}, {"params": others}], lr=0.1)


def uneven(module):
    theirs = torch.optim.Adam(module.parameters())
    for i, p in enumerate(module.parameters()):
        theirs.state[p] = {"step": torch.tensor(float(i)), "exp_avg": p.detach(), "exp_avg_sq": p.detach()}
    return theirs


WRONG = {
    "kind": (lambda m: torch.optim.RMSprop(m.parameters()), r"^theirs is a RMSprop, which l0ref does not have; use t"),
    "no optimiser": (lambda _m: 3, r"^theirs is a int, which l0ref does not have; use torch.optim.SGD, Adam or AdamW$"),
    "decay": (
        lambda m: torch.optim.SGD(m.parameters(), lr=0.1, weight_decay=0.1),
        r"^theirs has weight_decay=0.1, which l0ref's SGD lacks; use AdamW, or an l2 term in the penalty$",
    ),
    "decay in Adam": (lambda m: torch.optim.Adam(m.parameters(), weight_decay=0.1), r"which l0ref's Adam lacks; use"),
    "dampening": (
        lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, dampening=0.5),
        r"^theirs has dampening=0.5, which l0ref's SGD lacks; build it with dampening=0$",
    ),
    "amsgrad": (lambda m: torch.optim.AdamW(m.parameters(), amsgrad=True), r"has amsgrad=True, .*; build it with ams"),
    "maximize": (lambda m: torch.optim.Adam(m.parameters(), maximize=True), r"has maximize=True, which l0ref's Adam"),
    "groups": (lambda m: groups(m, lr=0.3), r"^theirs has groups with lr=0.3 and 0.1, and l0ref has one for all; make"),
    "some": (lambda m: torch.optim.SGD([m[0].weight], lr=0.1), r"^theirs does not update '0.bias' of the module; g"),
    "more": (
        lambda m: torch.optim.SGD([*m.parameters(), tnn.Parameter(torch.ones(1))], lr=0.1),
        r"^theirs updates 3 parameters, the module has 2; give it only those$",
    ),
    "uneven": (uneven, r"^theirs updated '0.weight' 0 times and '0.bias' 1 times, and l0ref counts once for all; tr"),
    "momentum of 1": (lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=1), r"^momentum=1 must lie in \[0,"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_optimisers_that_cannot_be_read_are_refused_in_one_sentence(case):
    module = tnn.Sequential(fc())
    make, said = WRONG[case]
    with pytest.raises(ArgumentError, match=said):
        optimizer_from_torch(make(module), module)


def test_state_that_does_not_fit_a_module_is_refused():
    model = nn.mlp((4, 3), seed=0)
    state = Adam().init(model.params)
    with pytest.raises(ValueError, match=r"^params has '0.bias', state.slots\['m'\] does not; give both the same keys"):
        optimizer_to_torch(Adam(), state, tnn.Sequential(fc(4, 3)))
    with pytest.raises(ArgumentError, match=r"^state has the slots \['m', 'v'\], expected \['v'\]; make it with this"):
        optimizer_to_torch(SGD(momentum=0.9), state, to_torch(model))
    with pytest.raises(ArgumentError, match=r"has no counterpart in torch.optim"):
        optimizer_to_torch(optim.by_name("proximal_sgd"), state, to_torch(model))
    with pytest.raises(ArgumentError, match=r"^form='thin' is not one of"):
        to_torch(model, form="thin")
