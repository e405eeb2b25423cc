#!/bin/sh
# What the tests need beside .venv: Debian packages, the npm environment, one Python environment for each client.
#
# Every part is installed once and known again by the hash of its lock file, so a second run takes no time. Nothing is
# taken that a lock does not name with its hash, and no install script of a package is run. Messages go to stderr; the
# exit code is not 0 when something that is named here cannot be had.
set -eu
cd "$(dirname "$0")/.."

say() { echo "components: $*" >&2; }
fail() {
    say "$1"
    [ -z "${2:-}" ] || tail -n 20 "$2" >&2
    exit 1
}

mkdir -p .cache/clients
log=.cache/components.log
python=.venv/bin/python
[ -x "$python" ] || fail "there is no $python; \`make setup\` makes it"
if command -v flock >/dev/null 2>&1; then # two runs at the same time install once
    exec 9>.cache/components.lock
    flock 9
fi

# fingerprint FILE...: one hash of the files' contents and of the interpreter they are installed for.
fingerprint() { { cat "$@"; "$python" -c 'import platform, sys; print(sys.version, platform.machine())'; } | sha256; }
sha256() { "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'; }
# fresh STAMP HASH: whether STAMP says that exactly this is installed.
fresh() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

# Debian packages: the Go reader that checks the log, and npm where it is missing.
debian() {
    missing=""
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    root=""
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null ||
            fail "these Debian packages are missing and there is neither root nor sudo to install them:$missing"
        root="sudo -n"
    fi
    say "installing Debian packages:$missing"
    install="env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends"
    # shellcheck disable=SC2086
    $root $install $missing >"$log" 2>&1 || {
        $root apt-get update >"$log" 2>&1 || fail "apt-get update failed" "$log"
        $root $install $missing >"$log" 2>&1 || fail "apt-get install$missing failed" "$log"
    }
}

if command -v dpkg-query >/dev/null 2>&1; then
    debian golang-go golang-golang-x-mod-dev redis-server
    command -v npm >/dev/null 2>&1 || debian nodejs npm
fi
command -v go >/dev/null 2>&1 || fail "go is not here; the log is checked with Go's own reader (Debian: golang-go)"
[ -d /usr/share/gocode/src/golang.org/x/mod/sumdb ] ||
    fail "golang.org/x/mod is not in /usr/share/gocode (Debian: golang-golang-x-mod-dev)"
command -v redis-server >/dev/null 2>&1 ||
    fail "redis-server is not here; counters are tested against it (Debian: redis-server)"
command -v npm >/dev/null 2>&1 || fail "npm is not here; the TypeScript clients and the conformance suite need it"

# The npm environment: .cache/node, reached from tests/clients/node through a link, so that imports are found.
source=tests/clients/node
wanted=$(fingerprint $source/package.json $source/package-lock.json $source/.npmrc)
if ! fresh .cache/node/.installed "$wanted"; then
    say "installing the npm environment ($source/package-lock.json)"
    rm -rf .cache/node && mkdir -p .cache/node
    cp $source/package.json $source/package-lock.json $source/.npmrc .cache/node/
    (cd .cache/node && npm ci --loglevel=error) >"$log" 2>&1 || fail "npm ci failed" "$log"
    if [ ! -x .cache/node/node_modules/.bin/node ]; then # no packaged Node for this machine: its own, if new enough
        own=$(command -v node || true)
        [ -n "$own" ] && "$own" -e 'process.exit(process.versions.node.split(".")[0] >= 22 ? 0 : 1)' ||
            fail "the conformance suite needs Node 22; there is none for this machine and none of its own"
        ln -s "$own" .cache/node/node_modules/.bin/node
    fi
    .cache/node/node_modules/.bin/node --version >"$log" 2>&1 || fail "the installed Node does not run" "$log"
    echo "$wanted" >.cache/node/.installed
fi
ln -sfn ../../../.cache/node/node_modules $source/node_modules

# One Python environment for each client that cannot share .venv: .cache/clients/<name>.
for lock in tests/clients/*/requirements.txt; do
    [ -f "$lock" ] || continue
    name=$(basename "$(dirname "$lock")")
    place=.cache/clients/$name
    wanted=$(fingerprint "$lock")
    if ! fresh "$place/.installed" "$wanted"; then
        say "installing the Python environment $name ($lock)"
        rm -rf "$place"
        "$python" -m venv "$place" >"$log" 2>&1 || fail "no virtual environment for $name" "$log"
        "$place/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock" \
            >"$log" 2>&1 || fail "pip install for $name failed" "$log"
        echo "$wanted" >"$place/.installed"
    fi
done
