"""PyTorch's side of the models Defrost builds: shared by `fixtures.py` and `check_export.py`.

Every network here has torchvision's parameter names. Two things torchvision lacks are defined
below: the CIFAR form of ResNet, and TensorFlow's SAME padding.
"""

import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock


class CifarResNet(nn.Module):
    """He et al. 2015 (arXiv:1512.03385), section 4.2: 6n + 2 layers for 32x32 pictures.

    A 3x3 convolution to 16 channels, three stages of n basic blocks with 16, 32, 64 channels at
    32, 16, 8 pixels a side, the mean over the picture, one linear layer. The paper's option-A
    shortcut (every second pixel, new channels zero) is a 1x1 stride-2 convolution of zeros and
    ones; it is kept in that form, followed by a batch norm, so that it can be loaded and trained.
    """

    def __init__(self, depth, num_classes=10):
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest:
            raise ValueError(f"a CIFAR ResNet has 6n + 2 layers, not {depth}")
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self.stage(16, 16, blocks, 1)
        self.layer2 = self.stage(16, 32, blocks, 2)
        self.layer3 = self.stage(32, 64, blocks, 2)
        self.fc = nn.Linear(64, num_classes)

    @staticmethod
    def stage(inputs, outputs, blocks, stride):
        shortcut = None
        if stride != 1:
            shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        first = BasicBlock(inputs, outputs, stride, shortcut)
        return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def same_padding(size, kernel, stride, dilation):
    """TensorFlow's SAME: the output has ceil(size / stride) pixels, and of the padding that this
    needs the smaller half lies before. Even size, kernel 3, stride 2: 0 before and 1 after."""
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, which depends on the size of its input."""

    def forward(self, x):
        top, bottom = same_padding(x.shape[2], self.kernel_size[0], self.stride[0], self.dilation[0])
        left, right = same_padding(x.shape[3], self.kernel_size[1], self.stride[1], self.dilation[1])
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def pad_same(model):
    """Gives every convolution of `model` SAME padding, in place."""
    for module in model.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = SameConv2d
    return model


def without_dropout(model):
    """Dropout with p = 0: two frameworks cannot draw the same random numbers."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


CIFAR_DEPTHS = {"resnet20": 20, "resnet32": 32, "resnet44": 44, "resnet56": 56}


def build(model, num_classes, width=1.0, same=False):
    """The network in torchvision's form. `model` may carry the suffix of a data set or of a
    variant: `resnet20_cifar10`, `mobilenet_v2_035`."""
    base = model
    for suffix in ("_cifar10", "_cifar"):
        base = base.removesuffix(suffix)
    if base in CIFAR_DEPTHS:
        net = CifarResNet(CIFAR_DEPTHS[base], num_classes)
    elif base.startswith("mobilenet_v2"):
        net = torchvision.models.mobilenet_v2(num_classes=num_classes, width_mult=width)
    elif base.startswith(("resnet", "vgg")):
        net = torchvision.models.get_model(base, weights=None, num_classes=num_classes)
    else:
        raise ValueError(f"no PyTorch definition for the model '{model}'")
    return pad_same(net) if same else net


def uninitialised(make):
    """Calls `make` without drawing initial weights, which takes seconds for a VGG and is not used.
    Every tensor must be written afterwards."""
    init = nn.init
    names = ("kaiming_normal_", "kaiming_uniform_", "normal_", "uniform_", "trunc_normal_", "constant_")
    saved = {name: getattr(init, name) for name in names}
    try:
        for name in names:
            setattr(init, name, lambda tensor, *_, **__: tensor)
        with torch.no_grad():
            return make()
    finally:
        for name, function in saved.items():
            setattr(init, name, function)
