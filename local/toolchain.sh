#!/usr/bin/env bash
# The project's toolchain: one environment per purpose under .venvs/, from the pinned files in requirements/.
#
#   local/toolchain.sh setup [name …]   build or refresh the named environments (default: all)
#   local/toolchain.sh pins             resolve every .in file again, to the newest versions it allows
#   local/toolchain.sh python           print the python3.13 that is used
#
# All it needs is Python 3.13, and npm for one of them (`node`). Fresh environments are left untouched, so `setup` may
# run before everything else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }

runs() { [ -x "$1" ] && "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' >/dev/null 2>&1; }

find_python() {
  local candidate
  # `type -ap` and a trial run, because a pyenv shim answers to the name python3.13 even where no 3.13 is active.
  {
    type -ap python3.13 python3 || true
    if command -v pyenv >/dev/null; then
      ls -d "$(pyenv root)"/versions/3.13.*/bin/python3.13 2>/dev/null || true
    fi
    if command -v uv >/dev/null; then uv python find --managed-python 3.13 2>/dev/null || true; fi
  } | while read -r candidate; do
    if runs "$candidate"; then
      "$candidate" -c 'import sys; print(sys.executable)'
      break
    fi
  done
}

python_or_exit() {
  local python
  python=$(find_python)
  if [ -z "$python" ]; then
    say "No Python 3.13 found: no python3.13 on PATH that runs, none in pyenv, none managed by uv."
    say "Install one (for example: pyenv install 3.13, or uv python install 3.13) and run this again."
    exit 1
  fi
  printf '%s\n' "$python"
}

# An environment is fresh when it was made from exactly these pins and its interpreter still runs.
fresh() { cmp -s "requirements/$1.txt" ".venvs/$1/installed.txt" && runs ".venvs/$1/bin/python"; }

build() {
  local name=$1 python=$2 seconds=$SECONDS
  printf '%-8s installing … ' "$name" >&2
  rm -rf ".venvs/$name"
  if [ "$name" = uv ]; then
    # The one environment that keeps pip: uv itself comes through it, and `sam build` finds python3.13 and pip here.
    "$python" -m venv ".venvs/uv"
    .venvs/uv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
  else
    .venvs/uv/bin/uv venv --quiet --python "$python" ".venvs/$name"
    # Compiled, as Lambda's own packages are: where Python may write no .pyc, each start would compile them again.
    .venvs/uv/bin/uv pip sync --quiet --require-hashes --compile-bytecode \
      --python ".venvs/$name/bin/python" "requirements/$name.txt"
  fi
  if [ "$name" = dev ]; then
    # Our own: `relay`, and the layer's package for whatever runs here, as they stand in this folder.
    .venvs/uv/bin/uv pip install --quiet --no-deps --no-build-isolation --offline \
      --python .venvs/dev/bin/python --editable .
  fi
  cp "requirements/$name.txt" ".venvs/$name/installed.txt"
  say "$((SECONDS - seconds)) s"
}

# The one environment that is Node's. No script of it runs while it is installed. Without npm its tests are left out.
build_node() {
  local seconds=$SECONDS
  if cmp -s requirements/node/package-lock.json .venvs/node/installed.json; then return; fi
  if ! command -v npm >/dev/null; then
    say "*** No npm: the tests that evaluate the policies as AWS does will be left out. ***"
    return
  fi
  printf '%-8s installing … ' node >&2
  rm -rf .venvs/node
  mkdir -p .venvs/node
  cp requirements/node/package.json requirements/node/package-lock.json requirements/node/.npmrc .venvs/node/
  npm ci --prefix .venvs/node --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
  cp requirements/node/package-lock.json .venvs/node/installed.json
  say "$((SECONDS - seconds)) s"
}

setup() {
  local name python=
  for name in uv "$@"; do
    if [ "$name" = node ]; then
      build_node
    elif ! fresh "$name"; then
      [ -n "$python" ] || python=$(python_or_exit)
      build "$name" "$python"
    fi
  done
}

pins() {
  local input
  # The layer first: the development environment is constrained by what the layer ships.
  for input in layers/kiva_partner/requirements.in requirements/{uv,runtime,local,sam,scanners,checkov,aws,dev}.in; do
    say "$input"
    .venvs/uv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.13 --generate-hashes \
      --no-header --no-annotate "$input" -o "${input%.in}.txt"
  done
  # Without addresses: whoever installs asks their own registry.
  (cd requirements/node && npm update --package-lock-only --ignore-scripts --no-audit --no-fund)
}

# uv brings its own list of certificate authorities; behind a private one it must be shown the system's.
if [ -z "${SSL_CERT_FILE:-}" ] && [ -f /etc/ssl/certs/ca-certificates.crt ]; then
  export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
fi

case "${1:-}" in
  setup)
    shift
    if [ $# -eq 0 ]; then set -- dev local sam runtime scanners checkov aws node; fi
    setup "$@"
    ;;
  pins) setup && pins ;;
  python) python_or_exit ;;
  *) sed -n 's/^# \{0,1\}//; 2,7p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac
