/* A file system that refuses what goes past the page cache, or fails at it: preloaded into the program.
 * RF_DIRECT is "open", "write" or "fail": the call that is refused, or a write that ends with EIO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int is(const char *what) {
    const char *mode = getenv("RF_DIRECT");
    return mode && !strcmp(mode, what);
}

static int refused(int error) {
    errno = error;
    return -1;
}

int openat(int dir, const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    int (*real)(int, const char *, int, mode_t) = dlsym(RTLD_NEXT, "openat");
    if (flags & O_DIRECT && is("open")) return refused(EINVAL);
    return real(dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return openat(dir, path, flags, mode);
}

static ssize_t put(const char *name, int fd, const void *buffer, size_t length, off_t at) {
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, name);
    if (fcntl(fd, F_GETFL) & O_DIRECT) {
        if (is("write")) return refused(EINVAL);
        if (is("fail")) return refused(EIO);
    }
    return real(fd, buffer, length, at);
}

ssize_t pwrite(int fd, const void *buffer, size_t length, off_t at) {
    return put("pwrite", fd, buffer, length, at);
}

ssize_t pwrite64(int fd, const void *buffer, size_t length, off64_t at) {
    return put("pwrite64", fd, buffer, length, at);
}
