#!/usr/bin/env python3
"""Writes `src/models/imagenet_classes.txt`: ImageNet-1k's classes in the order of the logits.

    tools/imagenet_classes.py [--check FILE]

One line a class, `wnid<TAB>name`; the line number, from 0, is the index. The order is that of the
sorted WordNet ids (timm's table), the short names are torchvision's. `--check` compares with a
list of `index<TAB>wnid<TAB>name` lines: the ids must agree, differing names are printed.
Needs torchvision and timm.
"""

import argparse
import collections
import pathlib
import sys

from timm.data import ImageNetInfo
from torchvision.models._meta import _IMAGENET_CATEGORIES


def classes():
    info = ImageNetInfo("imagenet-1k")
    wnids = info.label_names()
    names = list(_IMAGENET_CATEGORIES)
    # Independent sources: the ids are in WordNet order, and each id's own synonyms must contain
    # torchvision's name for that index (torchvision renames those that would occur twice).
    assert len(wnids) == len(names) == 1000 and wnids == sorted(set(wnids))
    lemmas = [info.index_to_description(i).lower() for i in range(1000)]
    strange = [
        f"{i} {name} / {lemma}"
        for i, (name, lemma) in enumerate(zip(names, lemmas))
        if not set(name.lower().replace("-", " ").split()) & set(lemma.replace(",", " ").replace("-", " ").split())
    ]
    return wnids, names, strange


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args()
    wnids, names, strange = classes()
    for line in strange:
        print("no word in common with WordNet:", line)
    for name, count in collections.Counter(names).items():
        if count > 1:
            print("name of", count, "classes:", name)
    if args.check:
        rows = [line.split("\t") for line in args.check.read_text().splitlines()]
        differ = [i for i, row in enumerate(rows) if int(row[0]) != i or row[1] != wnids[i]]
        for i, row in enumerate(rows):
            if row[2].replace("_", " ") != names[i]:
                print(f"name {i}: {names[i]} / {row[2]}")
        if differ or len(rows) != 1000:
            sys.exit(f"{len(rows)} rows; the ids differ at {differ}")
        print("all 1000 ids agree")
    target = root / "src/models/imagenet_classes.txt"
    target.write_text("".join(f"{w}\t{n}\n" for w, n in zip(wnids, names)), encoding="utf-8")


if __name__ == "__main__":
    main()
