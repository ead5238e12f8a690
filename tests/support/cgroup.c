/* Shows the program the files below RF_CGROUP in place of those of the cgroup file systems, so
 * that limits and kills can be told where no cgroup may be made. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

int open64(const char *path, int flags, ...) {
    static int (*real)(const char *, int, ...);
    char other[4096];
    const char *root = getenv("RF_CGROUP");
    mode_t mode = 0;
    if (flags & O_CREAT) {
        __builtin_va_list list;
        __builtin_va_start(list, flags);
        mode = __builtin_va_arg(list, mode_t);
        __builtin_va_end(list);
    }
    if (!real) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    if (root && (!strncmp(path, "/sys/fs/cgroup/", 15) || !strcmp(path, "/proc/self/cgroup"))) {
        snprintf(other, sizeof other, "%s%s", root, path);
        path = other;
    }
    return real(path, flags, mode);
}
