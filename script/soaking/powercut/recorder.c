/* Records what a process asks of the disk in one directory, in the order in which it was done.
 *
 * To be preloaded (ld.so(8), LD_PRELOAD).  POWERCUT_DIRECTORY: what is watched, an absolute path.
 * POWERCUT_TRACE: where each operation is appended, as trace.py reads it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 4096
#define REAL(name, ...) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *names[FILES]; /* of the open files that are watched; "" for the directory itself */
static int trace = -1;

/* The name within the directory; "" for the directory itself, NULL for anything else. */
static const char *watched(const char *path)
{
    const char *directory = getenv("POWERCUT_DIRECTORY");
    size_t length = directory ? strlen(directory) : 0;
    if (!length || strncmp(path, directory, length))
        return NULL;
    if (!path[length])
        return "";
    if (path[length] != '/' || strchr(path + length + 1, '/'))
        return NULL;
    return path + length + 1;
}

static void must(int holds)
{
    if (!holds)
        abort();
}

static void record(char what, const char *name, uint64_t offset, const void *data, uint32_t size)
{
    struct __attribute__((packed)) {
        char what;
        uint8_t name;
        uint64_t offset;
        uint32_t size;
    } head = {what, strlen(name), offset, size};
    if (trace < 0)
        trace = REAL(open, getenv("POWERCUT_TRACE"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    must(REAL(write, trace, &head, sizeof head) == sizeof head);
    must(REAL(write, trace, name, head.name) == head.name);
    must(REAL(write, trace, data, size) == (ssize_t)size);
}

static const char *name_of(int fd)
{
    return fd >= 0 && fd < FILES ? names[fd] : NULL;
}

static int opened(const char *path, int flags, mode_t mode)
{
    const char *name = watched(path);
    pthread_mutex_lock(&lock);
    int is_new = name && (flags & O_CREAT) && REAL(access, path, F_OK);
    int fd = REAL(open, path, flags, mode);
    if (name && fd >= 0) {
        must(fd < FILES);
        names[fd] = strdup(name);
        if (is_new)
            record('c', name, 0, "", 0);
        else if (flags & O_TRUNC)
            record('t', name, 0, "", 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(function)                                   \
    int function(const char *path, int flags, ...)       \
    {                                                    \
        va_list rest;                                    \
        va_start(rest, flags);                           \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                    \
        return opened(path, flags, mode);                \
    }
OPEN(open)
OPEN(open64)

int close(int fd)
{
    pthread_mutex_lock(&lock);
    if (name_of(fd)) {
        free(names[fd]);
        names[fd] = NULL;
    }
    int result = REAL(close, fd);
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t write(int fd, const void *data, size_t size)
{
    if (!name_of(fd))
        return REAL(write, fd, data, size);
    pthread_mutex_lock(&lock);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t result = REAL(write, fd, data, size);
    if (result > 0)
        record('w', name_of(fd), offset, data, result);
    pthread_mutex_unlock(&lock);
    return result;
}

#define PWRITE(function)                                                          \
    ssize_t function(int fd, const void *data, size_t size, off_t offset)         \
    {                                                                             \
        if (!name_of(fd))                                                         \
            return REAL(function, fd, data, size, offset);                        \
        pthread_mutex_lock(&lock);                                                \
        ssize_t result = REAL(function, fd, data, size, offset);                  \
        if (result > 0)                                                           \
            record('w', name_of(fd), offset, data, result);                       \
        pthread_mutex_unlock(&lock);                                              \
        return result;                                                            \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define TRUNCATE(function)                                                        \
    int function(int fd, off_t size)                                              \
    {                                                                             \
        if (!name_of(fd))                                                         \
            return REAL(function, fd, size);                                      \
        pthread_mutex_lock(&lock);                                                \
        int result = REAL(function, fd, size);                                    \
        if (!result)                                                              \
            record('t', name_of(fd), size, "", 0);                                \
        pthread_mutex_unlock(&lock);                                              \
        return result;                                                            \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define ALLOCATE(function)                                                        \
    int function(int fd, off_t offset, off_t size)                                \
    {                                                                             \
        pthread_mutex_lock(&lock);                                                \
        int result = REAL(function, fd, offset, size);                            \
        if (!result && name_of(fd))                                               \
            record('a', name_of(fd), offset + size, "", 0);                       \
        pthread_mutex_unlock(&lock);                                              \
        return result;                                                            \
    }
ALLOCATE(posix_fallocate)
ALLOCATE(posix_fallocate64)

#define SYNC(function)                                                            \
    int function(int fd)                                                          \
    {                                                                             \
        pthread_mutex_lock(&lock);                                                \
        int result = REAL(function, fd);                                          \
        if (!result && name_of(fd))                                               \
            record('s', name_of(fd), 0, "", 0);                                   \
        pthread_mutex_unlock(&lock);                                              \
        return result;                                                            \
    }
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path)
{
    const char *name = watched(path);
    pthread_mutex_lock(&lock);
    int result = REAL(unlink, path);
    if (!result && name)
        record('u', name, 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int rename(const char *from, const char *to)
{
    const char *name = watched(from), *other = watched(to);
    pthread_mutex_lock(&lock);
    int result = REAL(rename, from, to);
    if (!result && name && other)
        record('r', name, 0, other, strlen(other));
    pthread_mutex_unlock(&lock);
    return result;
}
