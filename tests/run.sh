#!/bin/sh
# Sets all up in a virtual environment of its own and runs the tests, on up to four cores:
# sh tests/run.sh [pytest's options]; with -n 0 all in one process
extras='[test,docs,check,detect,heic,onnx,remote,video,zstd]'
. "$(dirname -- "$0")/../examples/env.sh"
cd "$root"
exec python -m pytest -n logical --maxprocesses 4 --dist worksteal "$@"
