"""Networks: layer descriptions, initialisers, the Model value and a zoo of ready-made ones."""

from l0ref.nn.activations import Clip, LeakyReLU, ReLU, Sigmoid, Softplus, Tanh
from l0ref.nn.initializers import INITIALIZERS, glorot_normal, glorot_uniform, he_normal, he_uniform
from l0ref.nn.layer import LAYERS, Layer
from l0ref.nn.layers import AvgPool2d, Conv2d, Dropout, Flatten, GlobalAvgPool2d, Linear, MaxPool2d
from l0ref.nn.model import Model, architecture_from_json
from l0ref.nn.normalization import BatchNorm1d, BatchNorm2d
from l0ref.nn.sequence import Residual
from l0ref.nn.sparse import SparseConv2d, SparseLinear
from l0ref.nn.zoo import MODELS, digits_cnn, digits_mlp, lenet_5, lenet_300_100, mlp, resnet_small, vgg_small

__all__ = [
    "INITIALIZERS",
    "LAYERS",
    "MODELS",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Clip",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Model",
    "ReLU",
    "Residual",
    "Sigmoid",
    "Softplus",
    "SparseConv2d",
    "SparseLinear",
    "Tanh",
    "architecture_from_json",
    "digits_cnn",
    "digits_mlp",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lenet_5",
    "lenet_300_100",
    "mlp",
    "resnet_small",
    "vgg_small",
]
