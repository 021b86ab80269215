/* Kills a process, or makes its files fail, at numbered points; loaded by LD_PRELOAD (see killing.py).

   A point comes before and after each call that changes a file below a folder, and in the middle of each write. The
   settings are the variables below, which the process sets through ctypes; until `faults_log` is set nothing happens. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

char faults_root[PATH_MAX];  /* the folder */
long faults_log = -1;        /* file descriptor for one line per point */
long faults_at = -1;         /* the point at which the process is killed, or the clock set back */
long faults_signal = 0;      /* by which it is killed */
long faults_error = 0;       /* errno of calls that fail */
long faults_chance = 0;      /* how many of 1000 calls fail */
long faults_seed = 1;        /* which ones */
long faults_reads = 0;       /* whether reading fails too */
long faults_space = -1;      /* bytes that can be written; then ENOSPC */
long faults_short = 0;       /* whether reads and writes stop halfway, as they may */
long faults_delay = 0;       /* microseconds that each call takes longer */
long faults_back = 0;        /* seconds by which the clock goes back */

static long count;
static int set_back;
static unsigned char watched[4096]; /* file descriptors of files below the folder */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void faults_point(const char *what) {
    if (faults_log < 0) return;
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%s\n", what);
    if (REAL(write)(faults_log, line, length) < 0) abort();
    if (__atomic_fetch_add(&count, 1, __ATOMIC_SEQ_CST) != faults_at) return;
    set_back = faults_back != 0;
    if (faults_signal) kill(getpid(), faults_signal);
}

static void point(const char *when, const char *what, const char *path) {
    char line[PATH_MAX + 64];
    snprintf(line, sizeof line, "%s %s %s", when, what, path);
    faults_point(line);
}

/* Whether a call fails; sets errno. */
static int fails(void) {
    if (faults_delay) usleep(faults_delay);
    if (!faults_error || !faults_chance) return 0;
    faults_seed = (faults_seed * 1103515245 + 12345) & 0x7fffffff;
    if ((faults_seed >> 12) % 1000 >= faults_chance) return 0;
    errno = faults_error;
    return 1;
}

static int inside(int folder, const char *path, char *full) {
    char base[PATH_MAX] = "";
    if (faults_log < 0 || !path) return 0;
    if (path[0] != '/') {
        char link[64];
        snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, base, sizeof base - 2);
        if (length < 0) return 0;
        base[length] = '/';
        base[length + 1] = 0;
    }
    snprintf(full, PATH_MAX, "%s%s", base, path);
    size_t root = strlen(faults_root);
    if (strncmp(full, faults_root, root)) return 0;
    memmove(full, full + root, strlen(full + root) + 1);
    return 1;
}

static int is_watched(int fd) { return faults_log >= 0 && fd >= 0 && fd < 4096 && watched[fd]; }

static int opened(int (*function)(int, const char *, int, ...), int folder, const char *path, int flags, mode_t mode) {
    char full[2 * PATH_MAX];
    int writes = (flags & (O_WRONLY | O_RDWR | O_CREAT)) != 0 && (flags & O_TMPFILE) != O_TMPFILE;
    int known = inside(folder, path, full);
    if (known && writes) point("before", "open", full);
    if (known && (writes || faults_reads) && fails()) return -1;
    int fd = function(folder, path, flags, mode);
    if (fd >= 0 && fd < 4096) watched[fd] = known ? 1 + writes : 0;
    if (known && writes) point("after", "open", full);
    return fd;
}

#define MODE                                  \
    mode_t mode = 0;                          \
    if (flags & O_CREAT) {                    \
        va_list rest;                         \
        va_start(rest, flags);                \
        mode = va_arg(rest, mode_t);          \
        va_end(rest);                         \
    }

int open(const char *path, int flags, ...) { MODE return opened(REAL(openat), AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(REAL(openat64), AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE return opened(REAL(openat), folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE return opened(REAL(openat64), folder, path, flags, mode); }

int close(int fd) {
    if (fd >= 0 && fd < 4096) watched[fd] = 0;
    return REAL(close)(fd);
}

static ssize_t written(int fd, const void *data, size_t size, off64_t offset) {
#define WRITE(n) (offset < 0 ? REAL(write)(fd, data, n) : REAL(pwrite64)(fd, data, n, offset))
    if (!is_watched(fd)) return WRITE(size);
    faults_point("before write");
    if (fails()) return -1;
    if (faults_space >= 0) {
        if (faults_space == 0) return errno = ENOSPC, -1;
        if ((long)size > faults_space) size = faults_space;
        faults_space -= size;
    }
    if (faults_short) size -= size / 2;
    if (count == faults_at && faults_signal == SIGKILL && WRITE(size / 2) < 0) abort();
    faults_point("during write");
    ssize_t done = WRITE(size);
    faults_point("after write");
    return done;
}

ssize_t write(int fd, const void *data, size_t size) { return written(fd, data, size, -1); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return written(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return written(fd, data, size, at); }

static int reads(int fd, size_t *size) {
    if (!is_watched(fd)) return 1;
    if (faults_short) *size -= *size / 2;
    return !faults_reads || !fails();
}

ssize_t read(int fd, void *data, size_t size) { return reads(fd, &size) ? REAL(read)(fd, data, size) : -1; }

ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
    return reads(fd, &size) ? REAL(pread64)(fd, data, size, at) : -1;
}

/* A call that changes a file: its points, and its failure. */
#define CHANGES(known, what, path, call)  \
    if (!(known)) return call;            \
    point("before", what, path);          \
    if (fails()) return -1;               \
    int result = call, kept = errno;      \
    point("after", what, path);           \
    errno = kept;                         \
    return result;

int fsync(int fd) { CHANGES(is_watched(fd), "fsync", "", REAL(fsync)(fd)) }
int ftruncate(int fd, off_t size) { CHANGES(is_watched(fd), "truncate", "", REAL(ftruncate)(fd, size)) }
int ftruncate64(int fd, off64_t size) { CHANGES(is_watched(fd), "truncate", "", REAL(ftruncate64)(fd, size)) }

int rename(const char *old, const char *new) {
    char full[2 * PATH_MAX];
    CHANGES(inside(AT_FDCWD, new, full), "rename", full, REAL(rename)(old, new))
}

int unlinkat(int folder, const char *path, int flags) {
    char full[2 * PATH_MAX];
    CHANGES(inside(folder, path, full), flags & AT_REMOVEDIR ? "rmdir" : "unlink", full, REAL(unlinkat)(folder, path, flags))
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdir(const char *path, mode_t mode) {
    char full[2 * PATH_MAX];
    CHANGES(inside(AT_FDCWD, path, full), "mkdir", full, REAL(mkdir)(path, mode))
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = REAL(clock_gettime)(clock, now);
    if (set_back && clock == CLOCK_REALTIME && !result) now->tv_sec -= faults_back;
    return result;
}
