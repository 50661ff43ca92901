"""Ready-made networks, from the 8x8 digits to small VGG and ResNet variants.

Every builder takes `seed` and `dtype` and returns a fresh Model. Images enter as (channels, height,
width); networks of Linear layers begin with a Flatten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.nn.activations import ReLU, Sigmoid, Tanh
from l0ref.nn.layer import Layer, Shape
from l0ref.nn.layers import AvgPool2d, Conv2d, Dropout, Flatten, GlobalAvgPool2d, Linear, MaxPool2d
from l0ref.nn.model import Model
from l0ref.nn.normalization import BatchNorm2d
from l0ref.nn.sequence import Residual
from l0ref.validate import choose

ACTIVATIONS: dict[str, tuple[type[Layer], str]] = {
    "relu": (ReLU, "he_normal"),
    "tanh": (Tanh, "glorot_uniform"),
    "sigmoid": (Sigmoid, "glorot_uniform"),
}


def mlp(
    sizes: Sequence[int],
    *,
    seed: int,
    activation: str = "relu",
    dropout: float = 0.0,
    input_shape: Shape | None = None,
    dtype: Any = np.float32,
) -> Model:
    """Fully connected network with layers fc1, fc2, ... between the given sizes.

    sizes        (inputs, hidden, ..., outputs)
    activation   "relu" (He normal weights), "tanh" or "sigmoid" (Glorot uniform weights)
    dropout      probability after every hidden layer; 0 leaves the layer out
    input_shape  shape of one sample, flattened first; (inputs,) by default
    """
    if len(sizes) < 2:
        raise ArgumentError(f"sizes={tuple(sizes)} must name inputs and outputs at least, as in (64, 300, 10)")
    act, init = ACTIVATIONS[choose("activation", activation, ACTIVATIONS)]
    layers: list[Layer] = [] if input_shape is None else [Flatten("flatten")]
    last = len(sizes) - 1
    for i in range(1, last + 1):
        layers.append(Linear(f"fc{i}", sizes[i - 1], sizes[i], init=init))
        if i < last:
            layers.append(act(f"{activation}{i}"))
            layers += [Dropout(f"dropout{i}", dropout)] if dropout else []
    return Model.init(layers, input_shape=input_shape or (sizes[0],), seed=seed, dtype=dtype)


def digits_mlp(*, seed: int, dtype: Any = np.float32) -> Model:
    """64-300-100-10 for the built-in 8x8 digits: 50,200 weights."""
    return mlp((64, 300, 100, 10), seed=seed, input_shape=(1, 8, 8), dtype=dtype)


def digits_cnn(*, seed: int, dtype: Any = np.float32) -> Model:
    """16 filters 3x3, ReLU, 2x2 max-pool, 144-100-10, for the built-in 8x8 digits: 15,544 weights."""
    layers = (
        Conv2d("conv1", 1, 16, 3),
        ReLU("relu1"),
        MaxPool2d("pool1", 2),
        Flatten("flatten"),
        Linear("fc1", 144, 100),
        ReLU("relu2"),
        Linear("fc2", 100, 10),
    )
    return Model.init(layers, input_shape=(1, 8, 8), seed=seed, dtype=dtype)


def lenet_300_100(*, seed: int, dtype: Any = np.float32) -> Model:
    """784-300-100-10: 266,610 parameters, 266,200 of them weights.    Ref  LeCun, Bottou, Bengio, Haffner 1998."""
    return mlp((784, 300, 100, 10), seed=seed, input_shape=(1, 28, 28), dtype=dtype)


def lenet_5(*, seed: int, variant: str = "caffe", dtype: Any = np.float32) -> Model:
    """LeNet-5 for 28x28 images.

    variant  "caffe": 20 and 50 filters 5x5, 500 hidden units, max-pooling; 431,080 parameters,
             430,500 of them weights. ReLU follows both convolutions and fc1 [I]: Caffe's own file has
             it after fc1 only.
             "tanh": the classic 6-16-120-84 with average pooling and tanh, every map of conv2 connected
             to all six of conv1, and plain average pooling without trainable coefficients; 61,706
             parameters.    Ref  LeCun et al. 1998, of which both are simplifications.
    """
    choose("variant", variant, ("caffe", "tanh"))
    layers = _lenet_caffe() if variant == "caffe" else _lenet_tanh()
    return Model.init(layers, input_shape=(1, 28, 28), seed=seed, dtype=dtype)


def vgg_small(*, seed: int, input_shape: Shape = (1, 28, 28), classes: int = 10, dtype: Any = np.float32) -> Model:
    """Three blocks of two 3x3 convolutions (32, 64, 128 filters) with batch norm, ReLU and max-pool, then 128-10.

    For 28x28 or 32x32 images; a plain chain of convolutions in the manner of Simonyan and Zisserman
    2015, much smaller than any network of that paper.
    """
    layers: list[Layer] = []
    channels = input_shape[0]
    for block, filters in enumerate((32, 64, 128), start=1):
        for i in (1, 2):
            layers += _conv_norm(f"block{block}.{i}", channels, filters)
            layers.append(ReLU(f"block{block}.{i}.relu"))
            channels = filters
        layers.append(MaxPool2d(f"block{block}.pool", 2))
    layers += [GlobalAvgPool2d("pool"), Linear("fc", channels, classes)]
    return Model.init(layers, input_shape=input_shape, seed=seed, dtype=dtype)


def resnet_small(*, seed: int, input_shape: Shape = (1, 28, 28), classes: int = 10, dtype: Any = np.float32) -> Model:
    """A 3x3 stem and three residual blocks (16, 32, 64 filters, the last two halving the image), then 64-10.

    For 28x28 or 32x32 images. The blocks are the basic ones of He et al. 2016, with 1x1 projection
    shortcuts where shapes change; the depth is ours.
    """
    layers: list[Layer] = [*_conv_norm("stem", input_shape[0], 16), ReLU("stem.relu")]
    channels = 16
    for i, (filters, stride) in enumerate(((16, 1), (32, 2), (64, 2)), start=1):
        layers += [_basic_block(f"block{i}", channels, filters, stride), ReLU(f"block{i}.relu")]
        channels = filters
    layers += [GlobalAvgPool2d("pool"), Linear("fc", channels, classes)]
    return Model.init(layers, input_shape=input_shape, seed=seed, dtype=dtype)


MODELS: dict[str, Callable[..., Model]] = {
    f.__name__: f for f in (digits_mlp, digits_cnn, lenet_300_100, lenet_5, vgg_small, resnet_small)
}


def _lenet_caffe() -> tuple[Layer, ...]:
    return (
        Conv2d("conv1", 1, 20, 5),
        ReLU("relu1"),
        MaxPool2d("pool1", 2),
        Conv2d("conv2", 20, 50, 5),
        ReLU("relu2"),
        MaxPool2d("pool2", 2),
        Flatten("flatten"),
        Linear("fc1", 800, 500),
        ReLU("relu3"),
        Linear("fc2", 500, 10),
    )


def _lenet_tanh() -> tuple[Layer, ...]:
    init = "glorot_uniform"
    return (
        Conv2d("conv1", 1, 6, 5, padding=2, init=init),
        Tanh("tanh1"),
        AvgPool2d("pool1", 2),
        Conv2d("conv2", 6, 16, 5, init=init),
        Tanh("tanh2"),
        AvgPool2d("pool2", 2),
        Flatten("flatten"),
        Linear("fc1", 400, 120, init=init),
        Tanh("tanh3"),
        Linear("fc2", 120, 84, init=init),
        Tanh("tanh4"),
        Linear("fc3", 84, 10, init=init),
    )


def _conv_norm(name: str, channels: int, filters: int, *, kernel: int = 3, stride: int = 1) -> tuple[Layer, Layer]:
    """A convolution without bias that keeps the image size (over `stride`), and its batch normalisation."""
    conv = Conv2d(f"{name}.conv", channels, filters, kernel, stride=stride, padding=kernel // 2, bias=False)
    return conv, BatchNorm2d(f"{name}.norm", filters)


def _basic_block(name: str, channels: int, filters: int, stride: int) -> Residual:
    body = (
        *_conv_norm(f"{name}.1", channels, filters, stride=stride),
        ReLU(f"{name}.1.relu"),
        *_conv_norm(f"{name}.2", filters, filters),
    )
    same = channels == filters and stride == 1
    shortcut = () if same else _conv_norm(f"{name}.shortcut", channels, filters, kernel=1, stride=stride)
    return Residual(name, body, shortcut)
