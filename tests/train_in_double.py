"""kp-train with numbers of 64 bits in place of 32: what two runs then differ by is not rounding."""

import sys

import torch

torch.set_default_dtype(torch.float64)
torch.float32 = torch.float64
torch.Tensor.float = torch.Tensor.double

from kptools.cli.train import main  # noqa: E402

sys.argv[0] = "kp-train"
main()
