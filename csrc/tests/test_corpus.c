/* The inputs that fuzzing kept (tests/fuzz/corpus.bin, see corpus.py), once more: what it reached, and what it found. */
#include "tests/fuzz.c"

#define CORPUS "../../tests/fuzz/corpus.bin"

int main(void) {
    static uint8_t input[1 << 16];
    int n = 0;
    FILE *file = fopen(CORPUS, "rb");
    for (int low, high; file && (low = fgetc(file)) != EOF && (high = fgetc(file)) != EOF; n++) {
        const size_t size = (size_t)low + 256 * (size_t)high, got = fread(input, 1, size, file);
        CHECKF(got == size, "%s ends within input %d", CORPUS, n);
        LLVMFuzzerTestOneInput(input, got);
    }
    if (file) fclose(file);
    CHECKF(n > 100, "%d inputs in %s", n, CORPUS);
    pn_stores_free();
    return finish("test_corpus");
}
