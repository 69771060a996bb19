"""bf16 autocast over fp32, both channels last, by network: steps of training and of prediction on
random tensors. `--precision auto` takes its table (`kptools/inference.py`) from here."""

import statistics

import common
import predictor
import torch
import trainer

from kptools import checkpoint, config, inference

CASES = [
    *("nose", "face", "unet", "resnet18", "resnet50", "inception_v3", "vgg11", "convnext_tiny"),
    *("densenet121", "efficientnet_b0", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf"),
    *("shufflenet_v2_x1_0", "swin_t", "vit_b_16"),
]


def main() -> None:
    args = common.arguments(__doc__, device=True)
    inference.tune_process()
    device = checkpoint.device(args.device)
    rounds = common.ROUNDS if args.full else 1
    rows = []
    for arch in CASES:
        if args.only not in arch:
            continue
        raw = trainer.RawStep(
            _settings(arch), predictor.model(arch, config.arch(arch).input), device
        )
        row = [arch]
        for steps_of in (raw.train, raw.predict):
            for precision in ("fp32", "bf16"):
                steps_of(precision, 1)
            fp32, bf16 = common.in_turn(
                rounds, lambda f=steps_of: f("fp32", 2), lambda f=steps_of: f("bf16", 2)
            )
            row += [statistics.median(fp32), statistics.median(bf16), common.ratio(bf16, fp32)]
        rows.append((*row, inference.precision_for(arch, device, "auto")))
    head = ("network", "train fp32", "bf16", "ratio", "predict fp32", "bf16", "ratio", "auto")
    common.table(head, rows, args.device)


def _settings(arch: str) -> config.Settings:
    defaults = config.arch(arch)
    return config.Settings(
        arch=arch,
        input=defaults.input,
        grey=defaults.grey,
        batch=defaults.batch,
        loss=defaults.loss,
        schedule=((1e-4, 1),),
        margin=defaults.margin,
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
