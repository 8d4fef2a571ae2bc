#!/bin/sh
# Tests, then timings, then profiles on one GPU: `sh benchmarks/gpu/run.sh FOLDER [PART …]`. Each part has a time limit of its own, so that
# one that hangs loses nothing; what it prints lies in FOLDER/PART.txt. PYTHON names the interpreter, with sparcell, pytest and, for the
# part scvi, scvi-tools installed. Takes about eight minutes.
out=${1:?folder for the results}
shift
parts=${*:-tests contract card batches genes study use stream disk scvi profile}
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$out"
export PYTHONPATH="$here/src:$here/benchmarks/gpu:$PYTHONPATH" PYTHONUNBUFFERED=1
cd "$here" || exit 1

part() { # name, seconds, command …
    name=$1 limit=$2
    shift 2
    case " $parts " in *" $name "*) ;; *) return ;; esac
    start=$(date +%s)
    timeout "$limit" "$@" >"$out/$name.txt" 2>&1
    status=$?
    echo "== $name: status $status, $(($(date +%s) - start)) s"
    tail -n "${LINES_SHOWN:-45}" "$out/$name.txt"
}

pytest="$python -m pytest -q -n 8 -p no:cacheprovider --device cuda --maxfail 20 --tb short -W default"
part card 60 "$python" benchmarks/gpu/timings.py card
part tests 130 $pytest tests/gpu
part batches 120 "$python" benchmarks/gpu/timings.py batches
part study 60 "$python" benchmarks/gpu/timings.py study
part genes 90 "$python" benchmarks/gpu/timings.py genes
part profile 60 "$python" benchmarks/gpu/profile_steps.py
part stream 90 "$python" benchmarks/gpu/timings.py stream
part use 60 "$python" benchmarks/gpu/timings.py use
part scvi 90 "$python" benchmarks/gpu/timings.py scvi
part disk 90 "$python" benchmarks/gpu/timings.py disk "$out"
part contract 120 $pytest -x --maxfail 20 tests/models/contract tests/training
