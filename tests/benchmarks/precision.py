"""bf16 autocast over fp32, both channels last, by network: steps of training and of prediction on
random tensors. `--precision auto` takes its rule (`kptools/runtime.py`) from here."""

import statistics

import common
import trainer

from kptools import runtime
from kptools.training.settings import resolve

CASES = [
    *("nose", "face", "unet", "resnet18", "resnet50", "resnext50_32x4d", "inception_v3"),
    *("googlenet", "alexnet", "vgg11", "densenet121", "convnext_tiny", "efficientnet_b0"),
    *("efficientnet_v2_s", "mnasnet1_0", "mobilenet_v2", "mobilenet_v3_small"),
    *("mobilenet_v3_large", "regnet_x_400mf", "regnet_y_400mf", "shufflenet_v2_x1_0"),
    *("swin_t", "swin_v2_t", "vit_b_16", "maxvit_t"),
]


def main() -> None:
    args = common.arguments(__doc__, device=True)
    runtime.tune_process()
    device = runtime.device(args.device)
    rounds = common.ROUNDS if args.full else 1
    rows = []
    for arch in CASES:
        if args.only not in arch:
            continue
        raw = trainer.RawStep(resolve(arch, weights="none"), 68, device)
        row = [arch]
        for steps_of in (raw.train, raw.predict):
            for precision in ("fp32", "bf16"):
                steps_of(precision, 1)
            fp32, bf16 = common.in_turn(
                rounds, lambda f=steps_of: f("fp32", 2), lambda f=steps_of: f("bf16", 2)
            )
            middles = [statistics.median(side) for side in (fp32, bf16)]
            row += [*middles, common.ratio(bf16, fp32)]
        rows.append(row)
    sides = ("bf16", "ratio")
    head = ("network", "train, fp32", *sides, "predict, fp32", *sides)
    common.table(head, rows, args.device)


if __name__ == "__main__":
    main()
