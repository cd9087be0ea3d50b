import json

import torch
from PIL import Image, ImageOps
from safetensors import safe_open
from torchvision import models, transforms

with safe_open("{{ file }}", "pt") as file:
    weights = {name: file.get_tensor(name) for name in file.keys()}
    classes = json.loads(file.metadata()["defrost"])["task"]["classes"]

net = models.{{ architecture }}(num_classes=len(classes){{ arguments }})
net.load_state_dict(weights)
{%- if let Some(eps) = eps %}
for layer in net.modules():
    if isinstance(layer, torch.nn.BatchNorm2d):
        layer.eps = {{ eps }}
{%- endif %}
net.eval()

prepare = transforms.Compose([
    {{ placement }}
    transforms.ToTensor(),
    transforms.Normalize({{ mean }}, {{ std }}),
])
{{ answer }}
