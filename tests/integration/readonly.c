/* Lets no file of one directory be written while another file is there: as a file system does that
 * was mounted read-only after an error, under the programs that have it open.
 *
 * To be preloaded (ld.so(8), LD_PRELOAD).  READONLY_DIRECTORY, READONLY_SWITCH: absolute paths.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int refused(int fd)
{
    char link[64], path[4096];
    const char *directory = getenv("READONLY_DIRECTORY");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0 || access(getenv("READONLY_SWITCH"), F_OK))
        return 0;
    path[length] = 0;
    if (strncmp(path, directory, strlen(directory)))
        return 0;
    errno = EROFS;
    return 1;
}

#define GUARDED(result, function, parameters, arguments)                                   \
    result function parameters                                                             \
    {                                                                                      \
        return refused(fd) ? -1                                                            \
                           : ((__typeof__(&function))dlsym(RTLD_NEXT, #function))arguments; \
    }
GUARDED(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
GUARDED(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
GUARDED(ssize_t, pwrite64, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
GUARDED(int, ftruncate, (int fd, off_t size), (fd, size))
GUARDED(int, ftruncate64, (int fd, off_t size), (fd, size))
