#!/usr/bin/env bash
# Writes the three lock files anew from pyproject.toml, with the newest versions it allows. Needs uv.
#   lock.txt        what goes into the single file      lock-build.txt  what builds the one sdist in it
#   lock-dev.txt    what tests/run puts into .venv
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@"; }
compile pyproject.toml -o packaging/lock.txt
compile pyproject.toml --extra dev -c packaging/lock.txt -o packaging/lock-dev.txt
printf '%s\n' 'setuptools<81' 'wheel<0.46' | compile - -o packaging/lock-build.txt
grep -c == packaging/lock.txt packaging/lock-dev.txt packaging/lock-build.txt
