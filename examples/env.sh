# Sourced by the scripts beside it and by tests/run.sh: puts kptools on the PATH, in a virtual
# environment of its own (.venv, or $KPTOOLS_VENV), which it makes where there is none.
# Needs Python 3.11 or later ($PYTHON, default python3) and, the first time, about 6 GB of disk.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=${KPTOOLS_VENV:-$root/.venv}

# is_installed: whether kptools is there in this version, with the extras, however it was installed
is_installed() {
    [ -e "$venv/.kptools${extras:-}" ] && return
    version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$root/kptools/__init__.py")
    "$venv/bin/python" -I - "$version" "${extras:-}" 2> /dev/null << 'END'
import importlib.util
import sys

import kptools
from kptools.cli.extras import EXTRAS

names = sys.argv[2].strip("[]").split(",") if sys.argv[2] else []
found = [importlib.util.find_spec(m) for name in names for m in EXTRAS[name].modules]
sys.exit(kptools.__version__ != sys.argv[1] or None in found)
END
}

if ! is_installed; then
    echo "setting up $venv (torch is large: a few minutes)" >&2
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --editable "$root${extras:-}"
    touch "$venv/.kptools${extras:-}"
fi
PATH=$venv/bin:$PATH
export PATH

# try COMMAND...: some records that failed (exit 1; each was reported) do not stop a script
try() {
    "$@" || { status=$?; [ "$status" -eq 1 ] || return "$status"; }
}

# row LABEL METRIC...: a line of a table, of the report of kp-eval on stdin; the mean shape's in brackets
row() {
    python -c '
import json, sys
label, *metrics = sys.argv[1:]
report = json.load(sys.stdin)
mean = report["mean"] or {}
shown = lambda value: "-" if value is None else f"{value:.3g}"
cells = [f"{m.upper()} {shown(report[m])} ({shown(mean.get(m))})" for m in metrics]
print(f"{label:12}", *cells, sep="  ")' "$@"
}
