/* The inputs that fuzzing kept (tests/fuzz/corpus), once more: what it reached, and what it found. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>

#include "tests/fuzz.c"

#define CORPUS "../../tests/fuzz/corpus"

int main(void) {
    static uint8_t input[4096];
    char path[600];
    int n = 0;
    DIR *folder = opendir(CORPUS);
    for (const struct dirent *entry; folder && (entry = readdir(folder));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, CORPUS "/%s", entry->d_name);
        FILE *file = fopen(path, "rb");
        if (!file) continue;
        LLVMFuzzerTestOneInput(input, fread(input, 1, sizeof input, file));
        fclose(file);
        n++;
    }
    if (folder) closedir(folder);
    CHECKF(n > 100, "%d inputs in %s", n, CORPUS);
    pn_stores_free();
    return finish("test_corpus");
}
