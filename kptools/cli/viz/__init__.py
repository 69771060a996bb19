"""kp-viz: pictures of records, of training and of what was learned. One more is a file here, with a
command of its name, and a line in `PICTURES`."""

from importlib import import_module

from kptools.cli.edge import may_allow_failures, new_app, run, with_version
from kptools.cli.own_schemes import knows_schemes

PICTURES = (
    "grid",
    "photos",
    "video",
    "curves",
    "ced",
    "risk",
    "filters",
    "heatmap",
    "report",
    "scheme",
    "edit",
)
NO_RECORDS = ("curves", "filters")  # which read logs and a checkpoint
NAMES_SCHEME = ("scheme",)  # which takes a scheme by its first argument

tool = new_app()


@tool.callback()
@with_version
def _kp_viz() -> None:
    """Pictures: faces, photos and videos with truth and prediction, training, errors, filters.

    \b
    kp-prep synth --count 100 | kp-augment --rotate 15 --flip 0.5 | kp-viz grid -o grid.png
    kp-viz grid --sort worst -o worst.png preds.jsonl
    kp-viz photos --out marked preds.jsonl > /dev/null
    kp-viz curves a.log.jsonl b.log.jsonl -o curves.png
    kp-predict model.safetensors < test.jsonl | kp-viz ced -o ced.png | kp-eval

    Records pass through to stdout as they came, as with tee, unless that is a terminal.
    """


for _name in PICTURES:
    _picture = getattr(import_module(f"kptools.cli.viz.{_name}"), _name)
    if _name not in (*NO_RECORDS, *NAMES_SCHEME):
        _picture = knows_schemes(_picture)
    if _name not in NO_RECORDS:
        _picture = may_allow_failures(_picture)
    tool.command(_name)(_picture)


def main() -> None:
    run(tool)
