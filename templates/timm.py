import timm
import torch
from PIL import Image, ImageOps

# The folder that this card lies in.
net = timm.create_model("local-dir:.", pretrained=True).eval()
classes = net.pretrained_cfg["label_names"]
prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(net))
{{ answer }}
