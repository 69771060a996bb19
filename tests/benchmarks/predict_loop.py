"""kp-predict over a plain PyTorch loop (DataLoader, Pillow, batch 32, fp32, channels first) on the
same JPEG files; the plain loop under the default allocator, and under the one that keeps pages."""

import json
import time

import common

# arch, faces (quick, full)
CASES = [("resnet18", (128, 640)), ("resnet50", (64, 320))]
SIZE = (224, 224)


def main() -> None:
    args = common.arguments(__doc__)
    if args.side:
        print(json.dumps(_side(args.side, args.only, args.records)))
        return
    common.against_plain("kp-predict", args, [(arch, n[args.full]) for arch, n in CASES])


def _side(side: str, arch: str, path: str) -> float:
    """Images a second, the first batch left out on both sides."""
    import predictor

    network = predictor.network(arch, SIZE)
    if side == "ours":
        steps = predictor.predict(path, network, arch, SIZE)
    else:
        import plain

        from kptools import inference

        if side == "kept":
            inference.keep_pages()
        steps = plain.predict(path, network, SIZE)
    next(steps)
    began = time.perf_counter()
    return sum(steps) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
