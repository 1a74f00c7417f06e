# Sourced by scripts/test: the tests that decide whether other versions of the libraries give the same results.

# $1: oldest or newest. $2: --layered takes torch and torchvision from .venv, which makes it in one minute instead
# of five. Further arguments go to pytest.
test_versions() {
  local leg="$1" layered="" base options=() constraints
  shift
  if [[ "${1:-}" == --layered ]]; then
    layered=-layered
    shift
    prepare_venv '.[dev]'
    base="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
  fi
  venv=".venv-$leg$layered"
  _make_venv
  constraints="$venv/constraints.txt"
  case "$leg" in
    oldest) cp constraints-oldest.txt "$constraints" ;;
    newest)
      : >"$constraints"
      options=(--pre --upgrade --upgrade-strategy eager)
      ;;
  esac
  if [[ -n "$layered" ]]; then
    # What is installed here comes first on the path; what is not is found there.
    echo "$base" >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/layer.pth"
    sed -i '/^torch/d' "$constraints"
    "$venv/bin/python" -c '
from importlib.metadata import version
for name in ("torch", "torchvision"):
    print(f"{name}=={version(name)}")' >>"$constraints"
  fi
  prepare_venv '.[test]' "$constraints" "${options[@]}"
  echo "== pytest, $leg versions:"
  "$venv/bin/python" -m tests.versions.record --installed
  "$venv/bin/python" -m pytest -n 2 --dist loadfile "${VERSION_TESTS[@]}" "$@" </dev/null
}

# All that loads or writes a network, and one training and one study from the command line.
VERSION_TESTS=(
  tests/versions tests/versions/job.py
  tests/conformance/test_weights.py
  tests/generators/training/test_lora_export.py
  tests/generators/training/test_text_tower.py
  tests/evaluation/encoders/test_open_clip.py
)
