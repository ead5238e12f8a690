/* A directory that plays the part of a small file system, where none may be mounted: preloaded
 * into the program and its servers. What files below RF_DISK take counts against RF_DISK_BYTES;
 * beyond that, writes fail with ENOSPC, and statvfs says so. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long long sum, left;

static int add(const char *path, const struct stat *s, int type, struct FTW *at) {
    (void)path, (void)at;
    if (type != FTW_NS) sum += (long long)s->st_blocks * 512;
    return 0;
}

static long long look(void) {
    sum = 0;
    nftw(getenv("RF_DISK"), add, 16, FTW_PHYS);
    left = atoll(getenv("RF_DISK_BYTES")) - sum;
    return left < 0 ? 0 : left;
}

static int below(const char *path) {
    const char *dir = getenv("RF_DISK");
    return dir && !strncmp(path, dir, strlen(dir));
}

static int is_below(int fd) {
    char link[40], path[4096];
    if (!getenv("RF_DISK")) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return below(path);
}

/* Is there no room for a write that ends at `end` of a file? */
static int is_full(int fd, long long end) {
    struct stat s;
    int saved = errno, full = 0;
    if (!is_below(fd) || fstat(fd, &s) || !S_ISREG(s.st_mode)) return errno = saved, 0;
    long long more = end - (long long)s.st_blocks * 512;
    if (more > 0) {
        pthread_mutex_lock(&lock);
        if (left < more + (1 << 20)) look();
        full = left < more;
        if (!full) left -= more;
        pthread_mutex_unlock(&lock);
    }
    errno = saved;
    return full;
}

#define REAL(type, name, args) static type (*real) args; \
    if (!real) real = (type (*) args)dlsym(RTLD_NEXT, name)
#define REFUSE(fd, end) if (is_full(fd, end)) return errno = ENOSPC, -1

static long long end_of(int fd, size_t n) {
    struct stat s;
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (!fstat(fd, &s) && s.st_size > at) at = s.st_size; /* it may append */
    return at < 0 ? 0 : at + (long long)n;
}

ssize_t write(int fd, const void *b, size_t n) {
    REAL(ssize_t, "write", (int, const void *, size_t));
    if (getenv("RF_DISK")) REFUSE(fd, end_of(fd, n));
    return real(fd, b, n);
}
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) {
    REAL(ssize_t, "pwrite64", (int, const void *, size_t, off64_t));
    REFUSE(fd, at + (long long)n);
    return real(fd, b, n, at);
}
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) { return pwrite64(fd, b, n, at); }
ssize_t copy_file_range(int in, off64_t *i, int out, off64_t *o, size_t n, unsigned flags) {
    (void)in, (void)i, (void)out, (void)o, (void)n, (void)flags;
    return errno = ENOSYS, -1; /* so that what is copied is written */
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t n) {
    (void)out, (void)in, (void)at, (void)n;
    return errno = EINVAL, -1;
}
int posix_fallocate64(int fd, off64_t at, off64_t n) {
    REAL(int, "posix_fallocate64", (int, off64_t, off64_t));
    if (is_full(fd, at + n)) return ENOSPC;
    return real(fd, at, n);
}
int posix_fallocate(int fd, off_t at, off_t n) { return posix_fallocate64(fd, at, n); }
int fallocate64(int fd, int mode, off64_t at, off64_t n) {
    REAL(int, "fallocate64", (int, int, off64_t, off64_t));
    if (!(mode & 2)) REFUSE(fd, at + n);
    return real(fd, mode, at, n);
}
int fallocate(int fd, int mode, off_t at, off_t n) { return fallocate64(fd, mode, at, n); }
int statvfs64(const char *path, struct statvfs64 *s) {
    REAL(int, "statvfs64", (const char *, struct statvfs64 *));
    int r = real(path, s);
    if (!r && below(path)) {
        pthread_mutex_lock(&lock);
        s->f_bavail = s->f_bfree = look() / s->f_frsize;
        pthread_mutex_unlock(&lock);
    }
    return r;
}
int statvfs(const char *path, struct statvfs *s) { return statvfs64(path, (void *)s); }
