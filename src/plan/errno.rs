//! Names and meanings of the errnos that the steps of a plan come back with; errno(3).

/// `ENOENT`; a number that has no name here is shown as it is.
pub fn name(errno: i32) -> String {
    match lookup(errno) {
        Some((name, _)) => name.to_string(),
        None => format!("errno {errno}"),
    }
}

/// `No such file or directory (ENOENT)`
pub fn describe(errno: i32) -> String {
    match lookup(errno) {
        Some((name, meaning)) => format!("{meaning} ({name})"),
        None => format!("errno {errno}"),
    }
}

fn lookup(errno: i32) -> Option<(&'static str, &'static str)> {
    ERRNOS.iter().find(|(number, ..)| *number == errno).map(|(_, name, meaning)| (*name, *meaning))
}

const ERRNOS: &[(i32, &str, &str)] = &[
    (libc::EPERM, "EPERM", "Operation not permitted"),
    (libc::ENOENT, "ENOENT", "No such file or directory"),
    (libc::ESRCH, "ESRCH", "No such process"),
    (libc::EINTR, "EINTR", "Interrupted system call"),
    (libc::EIO, "EIO", "Input/output error"),
    (libc::E2BIG, "E2BIG", "Argument list too long"),
    (libc::ENOEXEC, "ENOEXEC", "Exec format error"),
    (libc::EBADF, "EBADF", "Bad file descriptor"),
    (libc::EAGAIN, "EAGAIN", "Resource temporarily unavailable"),
    (libc::ENOMEM, "ENOMEM", "Cannot allocate memory"),
    (libc::EACCES, "EACCES", "Permission denied"),
    (libc::EFAULT, "EFAULT", "Bad address"),
    (libc::EBUSY, "EBUSY", "Device or resource busy"),
    (libc::EEXIST, "EEXIST", "File exists"),
    (libc::EXDEV, "EXDEV", "Invalid cross-device link"),
    (libc::ENODEV, "ENODEV", "No such device"),
    (libc::ENOTDIR, "ENOTDIR", "Not a directory"),
    (libc::EISDIR, "EISDIR", "Is a directory"),
    (libc::EINVAL, "EINVAL", "Invalid argument"),
    (libc::ENFILE, "ENFILE", "Too many open files in system"),
    (libc::EMFILE, "EMFILE", "Too many open files"),
    (libc::ETXTBSY, "ETXTBSY", "Text file busy"),
    (libc::ENOSPC, "ENOSPC", "No space left on device"),
    (libc::EROFS, "EROFS", "Read-only file system"),
    (libc::EPIPE, "EPIPE", "Broken pipe"),
    (libc::ENAMETOOLONG, "ENAMETOOLONG", "File name too long"),
    (libc::ENOSYS, "ENOSYS", "Function not implemented"),
    (libc::ENOTEMPTY, "ENOTEMPTY", "Directory not empty"),
    (libc::ELOOP, "ELOOP", "Too many levels of symbolic links"),
    (libc::EOVERFLOW, "EOVERFLOW", "Value too large for defined data type"),
    (libc::EUSERS, "EUSERS", "Too many users"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP", "Operation not supported"),
    (libc::EAFNOSUPPORT, "EAFNOSUPPORT", "Address family not supported by protocol"),
    (libc::ESTALE, "ESTALE", "Stale file handle"),
    (libc::EDQUOT, "EDQUOT", "Disk quota exceeded"),
];
