//! Traps at the bottom of a chain of calls with names to look for in the backtrace.

#[inline(never)]
fn outer(depth: u32) -> u32 {
    middle(depth) + 1
}

#[inline(never)]
fn middle(depth: u32) -> u32 {
    innermost(depth) + 1
}

#[inline(never)]
fn innermost(depth: u32) -> u32 {
    if std::hint::black_box(depth) > 0 {
        core::arch::wasm32::unreachable();
    }
    depth
}

fn main() {
    println!("before");
    println!("{}", outer(3));
}
