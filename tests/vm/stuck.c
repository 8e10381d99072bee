/*
 * A file system that can stop answering: what is in one folder, seen at another. While this process is stopped, whoever
 * asks for anything below MOUNT waits, as on an NFS mount whose server is gone.
 *
 *   stuck FOLDER MOUNT FD     FD is written to once it is mounted
 */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <fuse3/fuse.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int folder;

/* Relative to the folder. */
static const char *in(const char *path)
{
    return path[1] ? path + 1 : ".";
}

static int answer(long result)
{
    return result < 0 ? -errno : (int)result;
}

static int fs_getattr(const char *path, struct stat *st, struct fuse_file_info *file)
{
    return answer(file ? fstat((int)file->fh, st) : fstatat(folder, in(path), st, AT_SYMLINK_NOFOLLOW));
}

static int fs_open(const char *path, struct fuse_file_info *file)
{
    int fd = openat(folder, in(path), file->flags & ~O_EXCL);

    file->fh = (uint64_t)fd;
    return fd < 0 ? -errno : 0;
}

static int fs_create(const char *path, mode_t mode, struct fuse_file_info *file)
{
    int fd = openat(folder, in(path), file->flags | O_CREAT, mode);

    file->fh = (uint64_t)fd;
    return fd < 0 ? -errno : 0;
}

static int fs_release(const char *path, struct fuse_file_info *file)
{
    (void)path;
    return answer(close((int)file->fh));
}

static int fs_read(const char *path, char *bytes, size_t size, off_t at, struct fuse_file_info *file)
{
    (void)path;
    return answer(pread((int)file->fh, bytes, size, at));
}

static int fs_write(const char *path, const char *bytes, size_t size, off_t at, struct fuse_file_info *file)
{
    (void)path;
    return answer(pwrite((int)file->fh, bytes, size, at));
}

static int fs_fsync(const char *path, int is_data, struct fuse_file_info *file)
{
    (void)path;
    return answer(is_data ? fdatasync((int)file->fh) : fsync((int)file->fh));
}

static int fs_truncate(const char *path, off_t size, struct fuse_file_info *file)
{
    int fd = file ? (int)file->fh : openat(folder, in(path), O_WRONLY), result;

    if (fd < 0)
        return -errno;
    result = answer(ftruncate(fd, size));
    if (!file)
        close(fd);
    return result;
}

static int fs_mkdir(const char *path, mode_t mode)
{
    return answer(mkdirat(folder, in(path), mode));
}

static int fs_unlink(const char *path)
{
    return answer(unlinkat(folder, in(path), 0));
}

static int fs_rmdir(const char *path)
{
    return answer(unlinkat(folder, in(path), AT_REMOVEDIR));
}

static int fs_rename(const char *from, const char *to, unsigned int flags)
{
    return answer(renameat2(folder, in(from), folder, in(to), flags));
}

static int fs_link(const char *from, const char *to)
{
    return answer(linkat(folder, in(from), folder, in(to), 0));
}

static int fs_chmod(const char *path, mode_t mode, struct fuse_file_info *file)
{
    (void)file;
    return answer(fchmodat(folder, in(path), mode, 0));
}

static int fs_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *file)
{
    (void)file;
    return answer(utimensat(folder, in(path), times, AT_SYMLINK_NOFOLLOW));
}

static int fs_readdir(const char *path, void *list, fuse_fill_dir_t fill, off_t at, struct fuse_file_info *file,
                      enum fuse_readdir_flags flags)
{
    int fd = openat(folder, in(path), O_RDONLY | O_DIRECTORY);
    DIR *names = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *name;

    (void)at;
    (void)file;
    (void)flags;
    if (!names)
        return -errno;
    while ((name = readdir(names)))
        fill(list, name->d_name, NULL, 0, 0);
    closedir(names);
    return 0;
}

static const struct fuse_operations operations = {
    .getattr = fs_getattr, .open = fs_open, .create = fs_create, .release = fs_release, .read = fs_read,
    .write = fs_write, .fsync = fs_fsync, .truncate = fs_truncate, .mkdir = fs_mkdir, .unlink = fs_unlink,
    .rmdir = fs_rmdir, .rename = fs_rename, .link = fs_link, .chmod = fs_chmod, .utimens = fs_utimens,
    .readdir = fs_readdir,
};

int main(int argc, char **argv)
{
    struct fuse_args no_options = FUSE_ARGS_INIT(1, argv);
    struct fuse *fuse;

    if (argc != 4)
        return 2;
    umask(0);
    folder = open(argv[1], O_RDONLY | O_DIRECTORY);
    fuse = folder < 0 ? NULL : fuse_new(&no_options, &operations, sizeof operations, NULL);
    if (!fuse || fuse_mount(fuse, argv[2]) || write(atoi(argv[3]), "m", 1) != 1)
        return 1;
    return fuse_loop(fuse);
}
