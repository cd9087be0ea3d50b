#!/usr/bin/env python3
"""PyTorch as a peer of `tools/compare`, which has the protocol.

    pytorch.py versions
    pytorch.py serve MODEL forward|step [--freeze-through LAYER] [--layout nchw|channels_last]
        [--device cpu|cuda] [--precision f32|tf32|amp] ...
    pytorch.py probe DATA WEIGHTS [--layout ...] [--workers N] ...
    pytorch.py recipe tutorial|tutorial-head|strong DATA WEIGHTS [--epochs N] [--layout ...] [--seed N] ...

`serve` times what `examples/step_time.rs` times. What is frozen has no gradient and is in eval mode; the rest of a
training step is in train mode. `probe` is `defrost train --strategy features` in PyTorch: decode an
`ImageFolder`, run the frozen MobileNetV2 once, train a linear head on the cached features, keep the epoch of
the least validation loss. It prints the accuracy. `recipe` fine-tunes MobileNetV2: as the transfer-learning tutorial
does (batch 4, SGD .001 with momentum .9, RandomResizedCrop and flip, a tenth of the rate each 7 epochs; all weights, or
the head on a frozen network), or `strong` (batch 32, batch norms in eval mode, AdamW, an epoch of the head at 2e-3, then
1e-4 and 1e-3 for the head along a cosine, crops from half of the image on). It prints a line an epoch: epoch, accuracy
on val/ or validation/, seconds so far.

Needs torch and torchvision; `probe` also safetensors and pillow. Imports stay inside, as each costs time.
"""

import argparse
import pathlib
import sys
import time

CLASSES = 1000
WARM_UPS = 2


def memory(name):
    """A line of /proc/self/status in bytes; 0 where there is none."""
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return 0
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines[name].split()[0]) << 10


def versions():
    import torch
    import torchvision

    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA"
    print(f"{torch.__version__}, torchvision {torchvision.__version__}, {cuda}")


def memory_format(layout):
    import torch

    return torch.channels_last if layout == "channels_last" else torch.contiguous_format


def freeze_through(net, layer):
    """Freezes all modules up to and including `layer`, in the order of the forward pass."""

    def inside(name):
        return name == layer or name.startswith(layer + ".")

    modules = [(name, module) for name, module in net.named_modules() if not list(module.children())]
    last = max((i for i, (name, _) in enumerate(modules) if inside(name)), default=None)
    if last is None:
        sys.exit(f"--freeze-through {layer}: the network has no such layer")
    for _, module in modules[: last + 1]:
        module.eval().requires_grad_(False)


def serve(args):
    import torch
    import torchvision

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    idle = memory("VmRSS")
    layout = memory_format(args.layout)
    tf32 = args.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    amp = torch.autocast(args.device, dtype=torch.float16, enabled=args.precision == "amp")
    scaler = torch.amp.GradScaler(args.device, enabled=args.precision == "amp")
    net = torchvision.models.get_model(args.model, weights=None, num_classes=CLASSES)
    net = net.to(args.device, memory_format=layout)
    images = torch.randn(args.batch, 3, args.size, args.size)
    images = images.to(args.device).contiguous(memory_format=layout)
    labels = (torch.arange(args.batch) % CLASSES).to(args.device)
    if args.case == "forward":
        net.eval().requires_grad_(False)

        def run():
            with torch.inference_mode(), amp:
                return net(images).float().cpu().numpy()

    else:
        net.train()
        if args.freeze_through:
            freeze_through(net, args.freeze_through)
        learning = [p for p in net.parameters() if p.requires_grad]
        # One pass over the parameters where the default makes several.
        optimizer = torch.optim.SGD(learning, lr=1e-3, momentum=0.9, fused=True)

        def run():
            optimizer.zero_grad(set_to_none=True)
            with amp:
                loss = torch.nn.functional.cross_entropy(net(images), labels)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            found = loss.item()
            if args.device == "cuda":
                torch.cuda.synchronize()
            return found

    for _ in range(WARM_UPS):
        run()
    parameters = list(net.parameters())
    learning = sum(p.numel() for p in parameters if p.requires_grad)
    print("ready", sum(p.numel() for p in parameters), learning, flush=True)
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)
    print(memory("VmHWM"), idle, flush=True)


def probe(args):
    import torch
    import torchvision
    from safetensors.torch import load_file
    from torch.nn import functional as F
    from torchvision import transforms as T

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    layout = memory_format(args.layout)
    net = torchvision.models.mobilenet_v2(weights=None)
    net.load_state_dict(load_file(args.weights))
    net.classifier = torch.nn.Identity()
    net = net.eval().requires_grad_(False).to(memory_format=layout)
    normalize = T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    transform = T.Compose([T.Resize(256), T.CenterCrop(224), T.ToTensor(), normalize])

    def features(part):
        images = torchvision.datasets.ImageFolder(pathlib.Path(args.data) / part, transform)
        loader = torch.utils.data.DataLoader(images, batch_size=args.batch, num_workers=args.workers)
        with torch.inference_mode():
            kept = [(net(x.contiguous(memory_format=layout)), y) for x, y in loader]
        rows, labels = zip(*kept)
        return torch.cat(rows), torch.cat(labels)

    x, y = features("train")
    val_x, val_y = features("val")
    head = torch.nn.Linear(x.shape[1], int(y.max()) + 1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.1)
    batches = -(-len(x) // 32)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * batches)
    best = (float("inf"), 0)
    for _ in range(args.epochs):
        for rows in torch.randperm(len(x)).split(32):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(head(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
        with torch.inference_mode():
            logits = head(val_x)
            right = (logits.argmax(1) == val_y).sum().item()
            best = min(best, (F.cross_entropy(logits, val_y).item(), -right))
    print(-best[1] / len(val_x))


def recipe(args):
    import torch
    import torchvision
    from safetensors.torch import load_file
    from torch.nn import functional as F
    from torchvision import transforms as T

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    layout = memory_format(args.layout)
    strong, head_only = args.recipe == "strong", args.recipe == "tutorial-head"
    data = pathlib.Path(args.data)
    normalize = T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    crop = T.RandomResizedCrop(224, scale=(0.5 if strong else 0.08, 1.0))
    varied = T.Compose([crop, T.RandomHorizontalFlip(), T.ToTensor(), normalize])
    plain = T.Compose([T.Resize(256), T.CenterCrop(224), T.ToTensor(), normalize])
    part = next(data / name for name in ("val", "valid", "validation") if (data / name).is_dir())
    train = torchvision.datasets.ImageFolder(data / "train", varied)
    val = torchvision.datasets.ImageFolder(part, plain)
    batch = 32 if strong else 4
    train_loader = torch.utils.data.DataLoader(train, batch, shuffle=True, num_workers=args.workers)
    val_loader = torch.utils.data.DataLoader(val, 32, num_workers=args.workers)
    net = torchvision.models.mobilenet_v2(weights=None)
    net.load_state_dict(load_file(args.weights))
    net.classifier[1] = torch.nn.Linear(1280, len(train.classes))
    net = net.to(memory_format=layout)
    net.features.requires_grad_(not head_only)
    head = net.classifier.parameters()

    def epoch(optimizer, schedule=None):
        net.train(not strong)
        for x, y in train_loader:
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(net(x.contiguous(memory_format=layout)), y).backward()
            optimizer.step()
            if schedule:
                schedule.step()

    def accuracy():
        net.eval()
        with torch.inference_mode():
            right = [(net(x.contiguous(memory_format=layout)).argmax(1) == y).sum() for x, y in val_loader]
        return sum(right).item() / len(val)

    epochs = args.epochs or (4 if strong else 25)
    start = time.perf_counter()
    if strong:
        epoch(torch.optim.AdamW(head, lr=2e-3))
        groups = [{"params": net.features.parameters(), "lr": 1e-4}, {"params": net.classifier.parameters()}]
        optimizer = torch.optim.AdamW(groups, lr=1e-3)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train_loader))
        print(0, accuracy(), time.perf_counter() - start, flush=True)
    else:
        optimizer = torch.optim.SGD(head if head_only else net.parameters(), lr=1e-3, momentum=0.9)
        cosine, step = None, torch.optim.lr_scheduler.StepLR(optimizer, 7)
    for number in range(epochs):
        epoch(optimizer, cosine)
        if not strong:
            step.step()
        print(number + 1, accuracy(), time.perf_counter() - start, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("versions")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--layout", choices=["nchw", "channels_last"], default="nchw")
    common.add_argument("--threads", type=int, default=2)
    common.add_argument("--batch", type=int, default=8)
    one = commands.add_parser("serve", parents=[common])
    one.add_argument("model")
    one.add_argument("case", choices=["forward", "step"])
    one.add_argument("--freeze-through", metavar="LAYER")
    one.add_argument("--size", type=int, default=224)
    one.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    one.add_argument("--precision", choices=["f32", "tf32", "amp"], default="f32")
    one = commands.add_parser("probe", parents=[common])
    one.add_argument("data")
    one.add_argument("weights")
    one.add_argument("--workers", type=int, default=0)
    one.add_argument("--epochs", type=int, default=40)
    one = commands.add_parser("recipe", parents=[common])
    one.add_argument("recipe", choices=["tutorial", "tutorial-head", "strong"])
    one.add_argument("data")
    one.add_argument("weights")
    one.add_argument("--workers", type=int, default=0)
    one.add_argument("--epochs", type=int)
    one.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.command == "versions":
        versions()
    else:
        {"serve": serve, "probe": probe, "recipe": recipe}[args.command](args)


if __name__ == "__main__":
    main()
