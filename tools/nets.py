"""PyTorch's side of the models Defrost builds: shared by `fixtures.py` and `check_export.py`.

Every network here has torchvision's parameter names. What torchvision lacks is defined below: the
CIFAR form of ResNet, EfficientNet-Lite, BN-Inception, and TensorFlow's SAME padding. MobileNet v1
is timm's, under its names.
"""

import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock


class CifarResNet(nn.Module):
    """He et al. 2015 (arXiv:1512.03385), section 4.2: 6n + 2 layers for 32x32 images.

    A 3x3 convolution to 16 channels, three stages of n basic blocks with 16, 32, 64 channels at
    32, 16, 8 pixels a side, the mean over the image, one linear layer. The paper's option-A
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


class BnInception(nn.Module):
    """Ioffe and Szegedy 2015 (arXiv:1502.03167), figure 5, in the layout of the Caffe model."""

    # 1x1, 3x3, double 3x3, pool: its name and the channels behind it; "halve" has stride 2.
    TABLE = {
        "3a": (64, (64, 64), (64, 96), ("mean", 32)),
        "3b": (64, (64, 96), (64, 96), ("mean", 64)),
        "3c": (0, (128, 160), (64, 96), ("halve", 0)),
        "4a": (224, (64, 96), (96, 128), ("mean", 128)),
        "4b": (192, (96, 128), (96, 128), ("mean", 128)),
        "4c": (160, (128, 160), (128, 160), ("mean", 128)),
        "4d": (96, (128, 192), (160, 192), ("mean", 128)),
        "4e": (0, (128, 192), (192, 256), ("halve", 0)),
        "5a": (352, (192, 320), (160, 224), ("mean", 128)),
        "5b": (352, (192, 320), (192, 224), ("max", 128)),
    }

    def __init__(self, num_classes):
        super().__init__()
        self.layer("conv1_7x7_s2", 3, 64, 7, 2)
        self.layer("conv2_3x3_reduce", 64, 64, 1)
        self.layer("conv2_3x3", 64, 192, 3)
        width = 192
        for name, (one, three, double, (pool, proj)) in self.TABLE.items():
            name, stride = f"inception_{name}", 2 if pool == "halve" else 1
            if one:
                self.layer(f"{name}_1x1", width, one, 1)
            self.layer(f"{name}_3x3_reduce", width, three[0], 1)
            self.layer(f"{name}_3x3", three[0], three[1], 3, stride)
            self.layer(f"{name}_double_3x3_reduce", width, double[0], 1)
            self.layer(f"{name}_double_3x3_1", double[0], double[1], 3)
            self.layer(f"{name}_double_3x3_2", double[1], double[1], 3, stride)
            if proj:
                self.layer(f"{name}_pool_proj", width, proj, 1)
            width = one + three[1] + double[1] + (proj or width)
        self.last_linear = nn.Linear(width, num_classes)

    def layer(self, name, inputs, outputs, kernel, stride=1):
        setattr(self, name, nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2))
        setattr(self, f"{name}_bn", nn.BatchNorm2d(outputs))

    def run(self, name, x):
        return F.relu(getattr(self, f"{name}_bn")(getattr(self, name)(x)))

    def forward(self, x):
        x = F.max_pool2d(self.run("conv1_7x7_s2", x), 3, 2, ceil_mode=True)
        x = self.run("conv2_3x3", self.run("conv2_3x3_reduce", x))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        for name, (one, _, _, (pool, _)) in self.TABLE.items():
            name = f"inception_{name}"
            parts = [self.run(f"{name}_1x1", x)] if one else []
            parts.append(self.run(f"{name}_3x3", self.run(f"{name}_3x3_reduce", x)))
            y = self.run(f"{name}_double_3x3_1", self.run(f"{name}_double_3x3_reduce", x))
            parts.append(self.run(f"{name}_double_3x3_2", y))
            if pool == "halve":
                parts.append(F.max_pool2d(x, 3, 2, ceil_mode=True))
            else:
                window = {"kernel_size": 3, "stride": 1, "padding": 1, "ceil_mode": True}
                y = F.max_pool2d(x, **window) if pool == "max" else F.avg_pool2d(x, **window)
                parts.append(self.run(f"{name}_pool_proj", y))
            x = torch.cat(parts, 1)
        return self.last_linear(x.mean((2, 3)))


class LiteBlock(nn.Module):
    """torchvision's MBConv without squeeze-and-excite, with ReLU6."""

    def __init__(self, inputs, outputs, expansion, kernel, stride):
        super().__init__()
        hidden = inputs * expansion
        norm = torchvision.ops.Conv2dNormActivation
        layers = [norm(inputs, hidden, 1, activation_layer=nn.ReLU6)] if expansion != 1 else []
        layers.append(norm(hidden, hidden, kernel, stride, groups=hidden, activation_layer=nn.ReLU6))
        layers.append(norm(hidden, outputs, 1, activation_layer=None))
        self.block = nn.Sequential(*layers)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.block(x) if self.adds else self.block(x)


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (tensorflow/tpu, efficientnet/lite), under torchvision's names for B0."""

    TABLE = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
             (6, 5, 2, 192, 4), (6, 3, 1, 320, 1))

    def __init__(self, num_classes):
        super().__init__()
        norm = torchvision.ops.Conv2dNormActivation
        layers, width = [norm(3, 32, 3, 2, activation_layer=nn.ReLU6)], 32
        for expansion, kernel, stride, channels, blocks in self.TABLE:
            stage = []
            for i in range(blocks):
                stage.append(LiteBlock(width, channels, expansion, kernel, stride if i == 0 else 1))
                width = channels
            layers.append(nn.Sequential(*stage))
        layers.append(norm(width, 1280, 1, activation_layer=nn.ReLU6))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


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
        if isinstance(module, (nn.Dropout, torchvision.ops.StochasticDepth)):
            module.p = 0.0
    return model


CIFAR_DEPTHS = {"resnet20": 20, "resnet32": 32, "resnet44": 44, "resnet56": 56}


def mobilenet_v1(num_classes, width):
    """timm's, whose functional dropout is 0 unless asked for."""
    import timm

    return timm.models.efficientnet._gen_mobilenet_v1(
        "mobilenetv1_100", channel_multiplier=width, num_classes=num_classes
    )


def build(model, num_classes, width=1.0, same=False, aux=False):
    """The network in torchvision's form. `model` may carry the suffix of a data set or of a
    variant: `resnet20_cifar10`, `mobilenet_v2_035`."""
    base = model
    for suffix in ("_cifar10", "_cifar"):
        base = base.removesuffix(suffix)
    if base in CIFAR_DEPTHS:
        net = CifarResNet(CIFAR_DEPTHS[base], num_classes)
    elif base.startswith("mobilenet_v2"):
        net = torchvision.models.mobilenet_v2(num_classes=num_classes, width_mult=width)
    elif base.startswith("mobilenet_v3"):
        net = torchvision.models.get_model(base, weights=None, num_classes=num_classes, width_mult=width)
    elif base == "mobilenet_v1":
        net = mobilenet_v1(num_classes, width)
    elif base == "bn_inception":
        net = BnInception(num_classes)
    elif base == "efficientnet_lite0":
        net = EfficientNetLite0(num_classes)
    elif base in ("googlenet", "inception_v3"):
        net = torchvision.models.get_model(
            base, weights=None, num_classes=num_classes, aux_logits=aux, init_weights=False
        )
    else:
        net = torchvision.models.get_model(base, weights=None, num_classes=num_classes)
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
