//! What the allocator keeps.

/// From this size on a block is a mapping of its own, which the kernel gets back when it is freed. By itself the allocator begins
/// with this number too, but raises it to the size of whatever was freed, and keeps blocks of that size from then on; mallopt(3).
const LARGE: libc::c_int = 128 * 1024;

/// For who holds much for a moment only: a set of unit files while it is read, the actions of a wave of starts.
pub fn return_large_blocks() {
    // SAFETY: it takes numbers only.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
}
