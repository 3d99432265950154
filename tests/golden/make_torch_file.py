"""A small file of torch.save with what nnU-Net's checkpoints hold: torch_file.pth. Needs PyTorch."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

if __name__ == "__main__":
    counted = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    module = torch.nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.5, -2.0]]))
        module.bias.copy_(torch.tensor([0.25]))
    content = {
        "network_weights": OrderedDict(whole=counted, turned=counted.transpose(0, 2), part=counted[1, 1:, ::2]),
        "state_dict": module.state_dict(),
        "parameter": torch.nn.Parameter(torch.tensor([3.0])),
        "types": [
            torch.tensor([1.5, -2], dtype=dtype)
            for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool)
        ],
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(7.0),
        "logging": {"ema_fg_dice": [np.float32(0.5), np.float64(0.1)], "count": np.int64(3)},
        "init_args": {"device": torch.device("cuda", 0), "shape": counted.shape, "fold": "all", "none": None},
        "axes": (0, 1, 2),
    }
    torch.save(content, Path(__file__).parent / "torch_file.pth")
