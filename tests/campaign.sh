#!/usr/bin/env bash
# The long checks: compilers, warnings, sanitizers, another processor. tests/campaign.sh [section ...]
#   gcc clang   the C tests, every warning an error (-Wall -Wextra -Wshadow -Wconversion)
#   wrapper     the same warnings for csrc/python
#   asan        the C tests with AddressSanitizer (leaks too) and UBSan; test_alloc makes every allocation fail in turn
#   tsan        those that use threads, with ThreadSanitizer
#   msan        the C tests with MemorySanitizer and clang's UBSan
#   valgrind    the short C tests on the instruction sets that it knows
#   arm64       the C tests for another processor, in qemu
#   s390x       the same for one that is big-endian
#   lint        cppcheck and clang-tidy
#   analyzer    gcc -fanalyzer
#   python      the extension with ASan + UBSan under the Python tests
#   fuzz        FUZZ_SECONDS (600) of coverage-guided inputs for programs and problems of the core (clang's libFuzzer, ASan, UBSan)
#   api         API_CASES (10000) random cases of each section of tests/fuzz/run.py
#   interrupts  Ctrl-C, kill -9 and failing files in fits (tests/interrupts.py)
#   nomemory    failing allocations and limits of memory in Python (tests/nomemory.py)
#   oracles     random fields against SciPy and the complex step (tests/oracles.py)
#   combinations COMBINATIONS (1000) random combinations of features against SciPy (tests/combinations.py)
#   mutants     500 changes of the core, or as many as MUTANT_MINUTES (90) allow, which the tests in C have to notice (tests/mutants.py)
#   coverage    branches of the core and lines of the package that the tests run, against tools/coverage.json (tools/coverage.py)
#   soak        SOAK_MINUTES (60) of solves and fits in several processes (tests/soak.py)
# The last nine use the python of PYTHON, which has pynode and its tests' packages. All but these by default. What is not installed is left out (SKIP); exits with 1 if anything fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PYTHON=${PYTHON:-python3}
CC=${CC:-gcc}
jobs=$("$PYTHON" -c 'import os; print(os.cpu_count() or 1)')
UB="undefined,float-cast-overflow"
STOP="-fno-sanitize-recover=all -fno-omit-frame-pointer"
export UBSAN_OPTIONS=print_stacktrace=1
SKIP=77

check() { make -s -C csrc/tests -j"$jobs" check BUILD="$work/$1" "${@:2}"; }
needs() { # the section ends here where a command is missing
    local command
    for command in "$@"; do
        command -v "$command" >/dev/null || { echo "left out: no $command"; exit $SKIP; }
    done
}
venv() { # name, packages
    "$PYTHON" -m venv "$work/$1"
    "$work/$1/bin/python" -m pip install -q --upgrade pip
    [ $# -lt 2 ] || "$work/$1/bin/python" -m pip install -q "${@:2}"
}

python_include() { # flags for the headers of Python and NumPy
    [ -d "$work/headers" ] || venv headers numpy >&2
    "$work/headers/bin/python" -c 'import numpy, sysconfig
print("-isystem", sysconfig.get_path("include"), "-isystem", numpy.get_include())'
}

run_gcc() { needs gcc && check gcc CC=gcc WERROR=1; }
run_clang() { needs clang && check clang CC=clang WERROR=1; }

run_wrapper() {
    local file compiler include
    include=$(python_include)
    for compiler in gcc clang; do
        command -v "$compiler" >/dev/null || continue
        for file in csrc/python/*.c; do # -O1: some warnings need the flow of data
            # shellcheck disable=SC2086
            "$compiler" -std=c11 -O1 -Wall -Wextra -Wshadow -Wconversion -Werror -Icsrc $include -c "$file" -o "$work/x.o"
        done
    done
}

run_asan() { check asan CC="$CC" SAN="-fsanitize=address,$UB $STOP" CFLAGS="-g -O1"; }

run_tsan() {
    local threaded
    threaded=$(cd csrc/tests && grep -lE 'pthread|threads' test_*.c | sed 's/\.c$//' | tr '\n' ' ')
    # a child has not the threads that were there when it was made, and joins none
    TSAN_OPTIONS=report_thread_leaks=0 check tsan CC="$CC" SAN="-fsanitize=thread -fno-omit-frame-pointer" CFLAGS="-g -O1" ONLY="$threaded"
}

# Memory that was never written, in the plain and the baseline kernels; and clang's UBSan, which knows more than gcc's
run_msan() {
    needs clang
    local tests
    tests=$(cd csrc/tests && printf '%s\n' test_*.c | sed 's/\.c$//' | grep -v test_isa | tr '\n' ' ') # which asks for AVX
    check msan CC=clang X86= SAN="-fsanitize=memory,$UB $STOP" CFLAGS="-g1 -O1 -Dalways_inline=" ARGS=--quick ONLY="$tests"
}

run_valgrind() {
    needs valgrind
    local memcheck="valgrind -q --error-exitcode=9" tests
    # it has no AVX-512, and its long double, which test_vmath compares with, is a double
    tests=$(cd csrc/tests && printf '%s\n' test_*.c | sed 's/\.c$//' | grep -vE 'test_(isa|vmath|threads)$' | tr '\n' ' ')
    check valgrind CC="$CC" CFLAGS="-g -O1" X86= ARGS=--quick ONLY="$tests" \
        RUN="$memcheck --leak-check=full --errors-for-leak-kinds=definite,indirect,possible"
    # a child that is made in the midst of a solve has the memory of threads that it has not
    check valgrind CC="$CC" CFLAGS="-g -O1" X86= ONLY=test_threads RUN="$memcheck --leak-check=no"
}

run_arm64() {
    needs aarch64-linux-gnu-gcc qemu-aarch64
    check arm64 ARCH=aarch64 CC=aarch64-linux-gnu-gcc ARGS=--quick # every instruction is interpreted
}

run_s390x() {
    needs s390x-linux-gnu-gcc qemu-s390x
    check s390x ARCH=s390x CC=s390x-linux-gnu-gcc ARGS=--quick
}

run_lint() {
    needs cppcheck clang-tidy
    local core
    mapfile -t core < <(find csrc -name '*.c' -not -path 'csrc/python/*' -not -path 'csrc/tests/*' \
        -not -path 'csrc/instances/*'; echo csrc/instances/baseline.c; echo csrc/instances/dispatch.c)
    cppcheck -q --std=c11 --error-exitcode=1 --inline-suppr --enable=warning,portability -Icsrc "${core[@]}" \
        --suppress=missingIncludeSystem `# none is read that none of their loops over vectors has written:` \
        --suppress=uninitvar:*/sums.inl --suppress=uninitvar:*/sparse.inl
    # easily-swappable-parameters: kernels take several arrays of one type; narrowing: gcc's -Wconversion sees those
    clang-tidy --quiet --warnings-as-errors='*' \
        --checks='-*,bugprone-*,clang-analyzer-*,-bugprone-easily-swappable-parameters,-bugprone-narrowing-conversions,-bugprone-reserved-identifier,-bugprone-implicit-widening-of-multiplication-result,-bugprone-macro-parentheses,-clang-analyzer-valist.Uninitialized,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling' \
        "${core[@]}" -- -std=c11 -Icsrc -pthread 2>/dev/null
}

# What is kept in a structure of the caller's is a leak to it. The kernels are one file of 675 functions, which it would follow for hours:
# those for doubles on one instruction set, nothing inlined, and not as far.
run_analyzer() {
    needs gcc
    local file include few
    include=$(python_include)
    for file in csrc/*.c csrc/{method,program,python,reverse,solve}/*.c; do
        # shellcheck disable=SC2086
        gcc -std=c11 -O1 -fanalyzer -Wno-analyzer-malloc-leak -Werror -Icsrc $include -c "$file" -o "$work/x.o"
    done
    few="--param=analyzer-bb-explosion-factor=1 --param=analyzer-max-enodes-per-program-point=2 --param=analyzer-max-recursion-depth=1"
    # shellcheck disable=SC2086
    gcc -std=c11 -O1 -fno-inline -Dalways_inline= -DPN_F64_ONLY -fanalyzer $few -Wno-analyzer-malloc-leak -Wno-attributes -Werror -Icsrc \
        -c csrc/instances/plain.c -o "$work/x.o"
}

# The extension under an ordinary interpreter: the runtime is loaded first, memory comes from malloc. Leaks: the
# interpreter keeps memory until it ends, so the tests look for them (reference counts) instead. An interpreter built
# with another compiler runs C++ libraries (scipy): libstdc++ comes along for its exceptions.
run_python() {
    local runtime
    runtime="$("$CC" -print-file-name=libasan.so) $("$CC" -print-file-name=libubsan.so) $("$CC" -print-file-name=libstdc++.so)"
    venv python
    mkdir "$work/tree" # not in the checkout: its build folder may be in use
    git ls-files -z -co --exclude-standard | xargs -0 cp --parents -t "$work/tree" 2>/dev/null || true
    cd "$work/tree"
    CC=$CC PYNODE_CFLAGS="-g -O1 -fsanitize=address,$UB $STOP" PYNODE_LDFLAGS="-fsanitize=address,$UB" \
        "$work/python/bin/python" -m pip install -q '.[test]'
    rm -r pynode # so that the installed package is tested, also by children
    # under LD_PRELOAD nothing but Python may run: a child that links another sanitizer would not start
    env LD_PRELOAD="$runtime" PYTHONMALLOC=malloc PYNODE_NUM_THREADS=4 \
        ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:strict_string_checks=1 \
        "$work/python/bin/python" -m pytest -q -p no:cacheprovider tests \
        -k "not no_memory_of_c_is_lost and not import_time and not first_gradient" # they measure memory and time
}

# The inputs are choices, so comparisons are not traced; what is inlined is counted once; programs are long, matrices large from few
# entries on. FUZZ_KEEP: a folder, which gets the inputs of this run and the corpus that reach something, the smallest of each.
run_fuzz() {
    needs clang
    local flags file object
    mkdir "$work/objects"
    flags="-std=c11 -g1 -O2 -Dalways_inline= -fno-math-errno -ffp-contract=fast -pthread -Icsrc"
    flags+=" -DPN_STRIP=64 -DPN_LARGE=48 -DPN_LARGE_FOR_ONE=24 -DPN_WAITING=32 -DPN_STORE=65536"
    flags+=" -fsanitize-coverage=inline-8bit-counters,pc-table -fsanitize=address,$UB $STOP"
    for file in csrc/*.c csrc/{method,program,reverse,solve}/*.c csrc/instances/{plain,baseline,dispatch}.c csrc/tests/fuzz.c; do
        object="$work/objects/$(basename "$(dirname "$file")")_$(basename "$file" .c).o"
        # shellcheck disable=SC2086
        clang $flags -c "$file" -o "$object" &
        [ "$(jobs -rp | wc -l)" -lt "$jobs" ] || wait -n
    done
    wait
    clang -fsanitize=fuzzer,address,"$UB" -pthread "$work"/objects/*.o -lm -o "$work/fuzz"
    mkdir "$work/corpus"
    "$PYTHON" tests/fuzz/corpus.py unpack "$work/kept"
    # what is freed soon comes back: less memory to go through
    export ASAN_OPTIONS=malloc_context_size=4:quarantine_size_mb=16
    "$work/fuzz" "$work/corpus" "$work/kept" -max_len=300 -timeout=60 -rss_limit_mb=3000 -entropic=0 -print_final_stats=1 \
        -artifact_prefix="$PWD/build/" -max_total_time="${FUZZ_SECONDS:-600}"
    [ -z "${FUZZ_KEEP:-}" ] || "$work/fuzz" -merge=1 -use_counters=0 -max_len=300 "$FUZZ_KEEP" "$work/corpus" "$work/kept"
}

run_api() { "$PYTHON" tests/fuzz/run.py --count "${API_CASES:-10000}"; }

run_interrupts() {
    "$PYTHON" tests/interrupts.py files
    "$PYTHON" tests/interrupts.py ctrl_c 200
    "$PYTHON" tests/interrupts.py killed 100
}

run_nomemory() {
    "$PYTHON" -c 'import _testcapi' 2>/dev/null || { echo "left out: this Python has no _testcapi"; exit $SKIP; }
    "$PYTHON" tests/nomemory.py
    "$PYTHON" tests/nomemory.py --limit
}

run_oracles() { "$PYTHON" tests/oracles.py; }
run_combinations() { "$PYTHON" tests/combinations.py --count "${COMBINATIONS:-1000}"; }
run_mutants() {
    needs gcc gcov
    CC=gcc "$PYTHON" tests/mutants.py --minutes "${MUTANT_MINUTES:-90}"
}
run_coverage() {
    needs gcc gcov
    "$PYTHON" -c 'import coverage, pytest' 2>/dev/null || { echo "left out: $PYTHON has no coverage or pytest"; exit $SKIP; }
    "$PYTHON" tools/coverage.py
}
run_soak() { "$PYTHON" tests/soak.py --minutes "${SOAK_MINUTES:-60}"; }

sections=("$@")
[ $# -gt 0 ] || sections=(gcc clang wrapper lint analyzer asan tsan msan valgrind arm64 s390x python)
table="" failed=0
for section in "${sections[@]}"; do
    declare -F "run_$section" >/dev/null || { echo "no section $section" >&2; exit 2; }
    start=$SECONDS result=PASS
    printf '\n==== %s\n' "$section"
    set +e # a function in a condition would not stop at its first failure
    (set -e; "run_$section")
    code=$?
    set -e
    case $code in
    0) ;;
    "$SKIP") result=SKIP ;;
    *) result=FAIL failed=1 ;;
    esac
    table+=$(printf '%-10s %s %5d s' "$section" "$result" $((SECONDS - start)))$'\n'
done
printf '\n%s%-10s %s %5d s\n' "$table" all "$([ $failed = 0 ] && echo PASS || echo FAIL)" "$SECONDS"
exit $failed
