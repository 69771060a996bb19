"""Options of the command line: those of architectures and datasets, completion, version."""

import os
import subprocess
import sys

import pytest
from conftest import TOOLS, run

import kptools
from kptools.errors import UsageError
from kptools.options import Option


def complete(line: str) -> list[str]:
    """What bash offers at the end of a line."""
    words = line.split(" ")
    tool = words[0].removeprefix("kp-")
    code = f"import sys; sys.argv = ['kp-{tool}']; from kptools.cli.{tool} import main; main()"
    env = {
        f"_KP_{tool.upper()}_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env, capture_output=True, text=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("kp-train --arch res", ["resnet18", "resnet34", "resnet50", "resnet152"]),
        ("kp-train --precision t", ["tf32"]),
        ("kp-train --stride ", ["1", "2", "4", "8"]),
        ("kp-train --pos", ["--pos-weight"]),
        ("kp-prep i", ["ibug", "imm"]),
        ("kp-prep to ", ["coco", "dlib", "pts", "csv", "kaggle", "labelme", "yolo"]),
        ("kp-prep ibug --annotations ", ["xml", "pts"]),
        ("kp-predict --decode so", ["softargmax"]),
        ("kp-eval --norm inter", ["interocular", "interpupil"]),
        ("kp-eval --points region:right_e", ["region:right_eye"]),
        (
            "kp-viz ",
            [
                *("grid", "photos", "video", "curves", "ced", "risk", "filters", "heatmap"),
                *("report", "scheme", "edit"),
            ],
        ),
    ],
)
def test_the_shell_completes(line, offered):
    assert complete(line) == offered


@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_says_its_version(tool):
    done = run(tool, "--version")
    assert done.returncode == 0
    assert done.stdout.decode().split()[-1] == kptools.__version__
    assert not done.stderr


@pytest.mark.parametrize(
    ("option", "owners"),
    [
        ("--width", "unet"),
        ("--stride", "unet"),
        ("--sigma", "--head heatmap"),
        ("--pos-weight", "--head heatmap"),
    ],
)
def test_an_option_of_one_architecture_is_refused_by_another(option, owners):
    done = run("train", "--arch", "nose", option, 2)
    assert done.returncode == 2
    text = f"{option} is an option of {owners}, not of nose with --head points"
    assert text.encode() in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--sigma", 0), b"--sigma 0: more than 0"),
        (("--stride", 3), b"--stride 3: one of 1, 2, 4, 8"),
        (("--loss", "mse"), b"--loss mse is not for unet with --head heatmap; use bce"),
        (("--loss", "huber"), b"--loss 'huber': one of mse, l1, smooth_l1, wing, bce"),
        (("--weights", "default"), b"--weights default: there are none for unet"),
    ],
)
def test_a_value_that_an_architecture_does_not_take_is_one_line(words, reason):
    done = run("train", "--arch", "unet", *words)
    assert done.returncode == 2
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_option_checks_its_bounds():
    option = Option("count", int, 1, "", low=1, high=4)
    assert option.check(4) == 4
    for value in (0, 5):
        with pytest.raises(UsageError, match=f"--count {value}: at "):
            option.check(value)
    with pytest.raises(UsageError, match="--some-size 2: more than 2"):
        Option("some_size", float, 3.0, "", low=2, exclusive=True).check(2)
