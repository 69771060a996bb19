"""kp-predict over a plain PyTorch loop (DataLoader, Pillow, batch 32, fp32, channels first) on the
same JPEG files; the plain loop under the default allocator, and under the one that keeps pages."""

import json
import time

import common

# arch, faces (quick, full)
CASES = [("resnet18", (128, 384)), ("resnet50", (64, 160))]
SIZE = (224, 224)


def main() -> None:
    args = common.arguments(__doc__)
    if args.side:
        print(json.dumps(_side(args.side, args.only, args.records)))
        return
    common.against_plain("kp-predict", args, [(arch, n[args.full]) for arch, n in CASES])


def _side(side: str, arch: str, path: str) -> float:
    """Images a second, after a batch that warms up."""
    import predictor

    from kptools import runtime

    if side != "plain":
        runtime.tune_process()
    network = predictor.network(arch, SIZE)

    def predict(records: str) -> int:
        if side == "ours":
            return predictor.predict(records, network, arch, SIZE)
        import plain

        return sum(plain.predict(records, network, SIZE))

    predict(common.head(path, 32))
    began = time.perf_counter()
    return predict(path) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
