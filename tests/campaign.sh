#!/usr/bin/env bash
# The long checks: sanitizers, other compilers, another processor. tests/campaign.sh [section ...]
#   sections: asan tsan clang arm64 python alloc (all of them by default)
# What is not installed (clang, a cross compiler, qemu) is left out with a word; all else must pass.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PYTHON=${PYTHON:-python3}
CC=${CC:-cc}
jobs=$("$PYTHON" -c 'import os; print(os.cpu_count() or 1)')
UB="undefined,float-cast-overflow"
STOP="-fno-sanitize-recover=all -fno-omit-frame-pointer"
export UBSAN_OPTIONS=print_stacktrace=1
check() { make -C csrc/tests -j"$jobs" check BUILD="$work/$1" "${@:2}"; }

asan() { check asan CC="$CC" SAN="-fsanitize=address,$UB $STOP" CFLAGS="-g -O1"; }

# threads are in these: test_threads*, test_solve*; whatever exists
tsan() {
    local threaded
    threaded=$(cd csrc/tests && grep -lE 'pthread|threads' test_*.c 2>/dev/null | sed 's/\.c$//' | tr '\n' ' ') || true
    if [ -z "$threaded" ]; then echo "left out: no threaded C test yet"; return; fi
    check tsan CC="$CC" SAN="-fsanitize=thread -fno-omit-frame-pointer" CFLAGS="-g -O1" ONLY="$threaded"
}

clang() {
    if ! command -v clang >/dev/null; then echo "left out: no clang"; return; fi
    check clang CC=clang WERROR=1
}

arm64() {
    if ! command -v aarch64-linux-gnu-gcc >/dev/null || ! command -v qemu-aarch64 >/dev/null; then
        echo "left out: no cross compiler or no qemu-user"
        return
    fi
    check arm64 ARCH=aarch64
}

# the extension with ASan + UBSan under an ordinary interpreter: the runtime is loaded first, memory comes from malloc.
# Leaks: the interpreter keeps memory until it ends, so they are looked for by the tests (reference counts) instead.
# An interpreter built with another compiler runs C++ libraries (scipy): libstdc++ comes along for its exceptions.
python() {
    local runtime venv=$work/venv
    runtime="$("$CC" -print-file-name=libasan.so) $("$CC" -print-file-name=libubsan.so) $("$CC" -print-file-name=libstdc++.so)"
    "$PYTHON" -m venv "$venv"
    "$venv/bin/python" -m pip install -q --upgrade pip
    CC=$CC PYNODE_CFLAGS="-g -O1 -fsanitize=address,$UB $STOP" PYNODE_LDFLAGS="-fsanitize=address,$UB" \
        "$venv/bin/python" -m pip install -q '.[test]'
    # under LD_PRELOAD nothing but Python may run: a child that links another sanitizer would not start
    env LD_PRELOAD="$runtime" PYTHONMALLOC=malloc PYNODE_NUM_THREADS=4 \
        ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:strict_string_checks=1 \
        "$venv/bin/python" -m pytest -q -p no:cacheprovider -x tests
}

# every allocation fails once: test_alloc.c counts them and makes the first, second, ... return NULL
alloc() {
    if [ ! -f csrc/tests/test_alloc.c ]; then echo "left out: csrc/tests/test_alloc.c does not exist yet"; return; fi
    check alloc CC="$CC" SAN="-fsanitize=address,$UB $STOP" CFLAGS="-g -O1" ONLY=test_alloc
}

sections=("$@")
[ $# -gt 0 ] || sections=(asan tsan clang arm64 alloc python)
for section in "${sections[@]}"; do
    start=$SECONDS
    printf '\n==== %s\n' "$section"
    "$section"
    printf '==== %s: %d s\n' "$section" $((SECONDS - start))
done
printf '\nall passed, %d s\n' "$SECONDS"
