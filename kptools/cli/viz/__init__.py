"""kp-viz: pictures of records, of training and of what was learned. One more is a file here, with a
command of its name, and a line in `PICTURES`."""

from importlib import import_module

from kptools.cli.edge import new_app, run, with_version

PICTURES = (
    "grid",
    "photos",
    "curves",
    "ced",
    "risk",
    "filters",
    "heatmap",
    "report",
)

tool = new_app()


@tool.callback()
@with_version
def _kp_viz() -> None:
    """Pictures: of faces and photos with truth and prediction, of training, of errors, of filters.

    \b
    kp-prep synth --count 100 | kp-augment --rotate 15 --flip 0.5 | kp-viz grid -o grid.png
    kp-viz grid --sort worst -o worst.png preds.jsonl
    kp-viz photos --out marked preds.jsonl > /dev/null
    kp-viz curves a.log.jsonl b.log.jsonl -o curves.png
    kp-predict model.safetensors < test.jsonl | kp-viz ced -o ced.png | kp-eval

    Records pass through to stdout as they came, as with tee, unless that is a terminal.
    """


for _name in PICTURES:
    tool.command(_name)(getattr(import_module(f"kptools.cli.viz.{_name}"), _name))


def main() -> None:
    run(tool)
