#!/bin/sh
# Install the built wheel in a clean environment and run the commands that must work anywhere.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
wheel=$(ls -t dist/cofit-*.whl | head -n 1)
.venv/bin/python -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$wheel" -c constraints.txt
cd "$folder"
venv/bin/cofit --version
venv/bin/cofit doctor
