# Sourced by scripts/quickstart and scripts/test from the repository root: makes the environment, installs what
# changed. Sets $venv.
#   PROMPTOPT_VENV    the environment's folder (default: .venv)
#   PROMPTOPT_PYTHON  the interpreter to make it with (default: the first of python3.11, 3.12, 3.13, python3 that will do)

venv="${PROMPTOPT_VENV:-.venv}"

_suitable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

_make_venv() {
  local candidate python=""
  [[ -x "$venv/bin/python" ]] && return
  for candidate in ${PROMPTOPT_PYTHON:-python3.11 python3.12 python3.13 python3}; do
    if _suitable "$candidate"; then
      python="$candidate"
      break
    fi
  done
  if [[ -z "$python" ]]; then
    echo "$0: needs Python 3.11 or newer with its venv module; set PROMPTOPT_PYTHON to one" >&2
    exit 1
  fi
  echo "== making $venv with $("$python" --version)"
  "$python" -m venv "$venv"
}

# $1: what to install, such as '.' or '.[dev]'; $2: the file of versions (default: constraints.txt);
# further arguments go to pip.
prepare_venv() {
  local what="$1" constraints="${2:-constraints.txt}" hash stamp
  shift $(($# > 1 ? 2 : 1))
  _make_venv
  hash="$("$venv/bin/python" - "$constraints" "$what" "$@" <<'PY'
import hashlib, pathlib, sys
digest = hashlib.sha256(sys.version.encode() + "".join(sys.argv[2:]).encode())
digest.update(str(pathlib.Path.cwd()).encode())
for name in ("pyproject.toml", sys.argv[1]):
    digest.update(pathlib.Path(name).read_bytes())
print(digest.hexdigest())
PY
)"
  # One stamp for each set of extras, so that going back and forth between the scripts installs nothing.
  stamp="$venv/promptopt-$(printf '%s' "$what" | tr -c 'a-z' '-').stamp"
  if [[ "$(cat "$stamp" 2>/dev/null || true)" != "$hash" ]]; then
    echo "== installing promptopt into $venv (a few minutes; torch is large)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -c "$constraints" "$@" -e "$what" </dev/null
    echo "$hash" >"$stamp"
  fi
}
