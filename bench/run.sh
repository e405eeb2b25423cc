#!/usr/bin/env bash
# `make bench`: installs the peers and builds the gateway where it may, then measures. Arguments go to bench/measure.py;
# after `--descriptors` to bench/descriptors.py, which measures what required cards and pins cost and needs no peers; after
# `--engines` to bench/engines.py, which measures what a decision of each policy engine takes; after `--ledger` to
# bench/ledger.py, which measures what limits and budgets take; after `--workers` to bench/workers.py, which compares one
# process with several.
#
# The gateway is measured as the image ships it: the modules a request passes through compiled (setup.py), on the fastest
# interpreter that is here, which is one built with profile-guided optimisation where the machine has such a one.
# Starlette + httpx, the load's own programs and the gateway all run on that same interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

debian() { # debian COMMAND-OR-FILE... -- PACKAGE...: what is missing is installed by root, or named
  local wanted=() packages=("${@}") missing=0
  while [ "${packages[0]}" != -- ]; do wanted+=("${packages[0]}"); packages=("${packages[@]:1}"); done
  packages=("${packages[@]:1}")
  for each in "${wanted[@]}"; do
    command -v "$each" >/dev/null || [ -e "$each" ] || [ -x "/usr/sbin/$each" ] || missing=1
  done
  [ "$missing" = 1 ] || return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -q >/dev/null && apt-get install -y -q "${packages[@]}" >/dev/null
  else
    echo "bench: install the Debian packages ${packages[*]}" >&2; exit 2
  fi
}
debian wrk nginx -- wrk nginx-light

# The fastest of the interpreters here: each runs the same loop, the best of five counts.
loop='import sys, time
if sys.version_info < (3, 11): sys.exit(1)
def work():
    found = {}
    for number in range(60000): found[str(number)] = number, len(found)
    return found
best = 9.9
for _ in range(5):
    began = time.perf_counter(); work(); best = min(best, time.perf_counter() - began)
print(f"{best:.4f}", sys.executable)'
interpreter=$(for each in ${PYTHON:-python3 /usr/bin/python3 python3.11 python3.12 python3.13 python3.14}; do
  "$each" -c "$loop" 2>/dev/null || true
done | sort -n | head -n 1 | cut -d' ' -f2)
[ -n "$interpreter" ] || { echo "bench: there is no Python 3.11 or newer" >&2; exit 2; }
include=$("$interpreter" -c 'import sysconfig; print(sysconfig.get_path("include"))')
debian cc "$include/Python.h" -- gcc python3-dev python3-venv

if [ ! -x .cache/bench/bin/envoy ]; then
  "$interpreter" -m venv .cache/bench || { debian /nowhere -- python3-venv && "$interpreter" -m venv .cache/bench; }
  .cache/bench/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r bench/peers/requirements.txt
fi

gate=.cache/bench-gate
stamp=$({ find gateway -name '*.py' -print0 | sort -z | xargs -0 cat; cat setup.py pyproject.toml config/locks/test.txt
  "$interpreter" -VV; } | sha256sum)
if [ ! -x $gate/bin/tollgate ] || [ "$(cat $gate/.stamp 2>/dev/null)" != "$stamp" ]; then
  echo "bench: building the gateway for $interpreter (a few minutes)" >&2
  "$interpreter" -m venv --clear $gate
  $gate/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r config/locks/test.txt
  rm -rf .cache/bench-build && mkdir -p .cache/bench-build
  cp -r gateway setup.py pyproject.toml README.md LICENSE .cache/bench-build/
  here=$PWD
  (cd .cache/bench-build && TOLLGATE_COMPILE=1 "$here/$gate/bin/python" -m pip install -q --disable-pip-version-check \
    --no-deps --no-build-isolation --no-index .)
  rm -rf .cache/bench-build
  echo "$stamp" > $gate/.stamp
fi
if [ "${1:-}" = --descriptors ]; then
  exec $gate/bin/python -W ignore::UserWarning bench/descriptors.py "${@:2}"
fi
if [ "${1:-}" = --engines ]; then # Cerbos is what the tests install; OPA, if any, what TOLLGATE_OPA or PATH names
  exec $gate/bin/python -W ignore::UserWarning bench/engines.py "${@:2}"
fi
if [ "${1:-}" = --ledger ]; then
  debian redis-server -- redis-server
  exec $gate/bin/python -W ignore::UserWarning bench/ledger.py "${@:2}"
fi
if [ "${1:-}" = --workers ]; then
  exec $gate/bin/python -W ignore::UserWarning bench/workers.py "${@:2}"
fi
exec $gate/bin/python bench/measure.py --envoy "$PWD/$(find .cache/bench -path '*_bin/envoy' -type f | head -n 1)" "$@"
