#!/bin/sh
# Sets all up in a virtual environment of its own and runs the tests: sh tests/run.sh [pytest's options]
extras='[test,docs,check,detect,heic,onnx,remote,video,zstd]'
. "$(dirname -- "$0")/../examples/env.sh"
cd "$root"
exec python -m pytest "$@"
