#!/usr/bin/env bash
# Builds the wheel, installs it where nothing of the checkout can be seen, and uses the files it must bring along.
#     .ci/wheel.sh PYTHON
set -euo pipefail
builder=$(realpath -s "$1")
checkout=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export NUMBA_CACHE_DIR=$work/numba
unset PYTHONPATH

"$builder" -m pip wheel -q "$checkout" --no-deps -w "$work"
"$builder" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q "$work"/l0ref-*.whl
cd "$work"
case $(venv/bin/python -c "import l0ref; print(l0ref.__file__)") in
    "$work"/venv/*) ;;
    *) echo "l0ref was not imported from the wheel" >&2; exit 1 ;;
esac

venv/bin/l0ref compress --epochs 2 --finetune-epochs 1 --amount 0.5 --controls no --quiet --out job # the digits
venv/bin/l0ref report job
venv/bin/python -m pip install -q "$(sed -n 's/^web = \["\(jinja2[^"]*\)".*/\1/p' "$checkout/pyproject.toml")"
venv/bin/l0ref report job --html page.html
grep -q "Remaining weights of fc1.weight" page.html
venv/bin/l0ref vectors list >/dev/null
venv/bin/l0ref vectors run --adapter l0ref.vectors.own
venv/bin/l0ref gradcheck digits_mlp --fast
