"""Import this first: makes torchvision's CUDA wheel importable beside a CPU build of torch."""

from __future__ import annotations

import sys
import types

import torch

_library = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torchvision  # noqa: E402
import torchvision.transforms._functional_tensor as _functional  # noqa: E402

# pytorchvideo.transforms still asks for the name that torchvision dropped.
sys.modules["torchvision.transforms.functional_tensor"] = types.ModuleType("functional_tensor")
sys.modules["torchvision.transforms.functional_tensor"].__dict__.update(vars(_functional))

__all__ = ["torchvision"]
