#!/usr/bin/env python3
"""Writes `weights/manifest.toml`: which pretrained weights Defrost fetches, and what they do to an image.

    tools/manifest.py > weights/manifest.toml

Needs timm, whose own tables say where its weights lie, under which licence, and how images are prepared for
them. The first entry of a model is what its bare name stands for. For ResNet that is torchvision's first recipe:
features of the later, stronger recipes (label smoothing, binary cross-entropy, long schedules) are better on
ImageNet and worse for a linear layer on other images (Kornblith et al. 2021, arXiv:2010.16402).
"""

from timm.models import get_pretrained_cfg

# Defrost's model: timm's weights.
WEIGHTS = {
    "resnet18": ["resnet18.tv_in1k", "resnet18.a1_in1k"],
    "resnet34": ["resnet34.tv_in1k", "resnet34.a1_in1k"],
    "resnet50": ["resnet50.tv_in1k", "resnet50.a1_in1k", "resnet50.ram_in1k"],
    "resnet101": ["resnet101.tv_in1k", "resnet101.a1h_in1k"],
    "resnet152": ["resnet152.tv_in1k", "resnet152.a1h_in1k"],
    "resnext50_32x4d": ["resnext50_32x4d.tv_in1k", "resnext50_32x4d.a1h_in1k"],
    "resnext101_32x8d": ["resnext101_32x8d.tv_in1k"],
    "resnext101_64x4d": ["resnext101_64x4d.tv_in1k"],
    "wide_resnet50_2": ["wide_resnet50_2.tv_in1k", "wide_resnet50_2.racm_in1k"],
    "wide_resnet101_2": ["wide_resnet101_2.tv_in1k"],
    "mobilenet_v1": ["mobilenetv1_100.ra4_e3600_r224_in1k"],
    "mobilenet_v2": ["mobilenetv2_100.ra_in1k", "mobilenetv2_050.lamb_in1k", "mobilenetv2_140.ra_in1k"],
    "mobilenet_v3_large": ["mobilenetv3_large_100.ra_in1k"],
    "mobilenet_v3_small": ["mobilenetv3_small_100.lamb_in1k"],
    "efficientnet_b0": ["efficientnet_b0.ra_in1k"],
    "efficientnet_b1": ["efficientnet_b1.ft_in1k"],
    "efficientnet_b2": ["efficientnet_b2.ra_in1k"],
    "efficientnet_b3": ["efficientnet_b3.ra2_in1k"],
    "efficientnet_b4": ["efficientnet_b4.ra2_in1k"],
    "efficientnet_b5": ["tf_efficientnet_b5.ra_in1k"],
    "efficientnet_b6": ["tf_efficientnet_b6.aa_in1k"],
    "efficientnet_b7": ["tf_efficientnet_b7.ra_in1k"],
    "efficientnet_lite0": ["efficientnet_lite0.ra_in1k", "tf_efficientnet_lite0.in1k"],
    "efficientnet_v2_s": ["tf_efficientnetv2_s.in1k", "tf_efficientnetv2_s.in21k_ft_in1k"],
    "efficientnet_v2_m": ["tf_efficientnetv2_m.in1k", "tf_efficientnetv2_m.in21k_ft_in1k"],
    "efficientnet_v2_l": ["tf_efficientnetv2_l.in1k", "tf_efficientnetv2_l.in21k_ft_in1k"],
    "densenet121": ["densenet121.ra_in1k", "densenet121.tv_in1k"],
    "densenet161": ["densenet161.tv_in1k"],
    "densenet169": ["densenet169.tv_in1k"],
    "densenet201": ["densenet201.tv_in1k"],
    "inception_v3": ["inception_v3.tv_in1k"],
    **{name: [f"{name}.tv_in1k"] for depth in (11, 13, 16, 19) for name in (f"vgg{depth}", f"vgg{depth}_bn")},
}
MEANS = {(0.485, 0.456, 0.406): "imagenet", (0.5, 0.5, 0.5): "half"}


def main():
    print("# Pretrained weights that Defrost fetches, written by tools/manifest.py from timm's tables.")
    for model, names in WEIGHTS.items():
        for name in names:
            config = get_pretrained_cfg(name)
            side = config.input_size[1]
            print(f'''
[[weights]]
name = "{name}"
model = "{model}"
repository = "{config.hf_hub_id}"
file = "model.safetensors"
licence = "{config.license}"
resize = {int(side / config.crop_pct)}
crop = {side}
filter = "{config.interpolation}"
statistics = "{MEANS[tuple(config.mean)]}"''')


if __name__ == "__main__":
    main()
