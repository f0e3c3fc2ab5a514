//! Never ends, and never calls out.

fn main() {
    println!("spinning");
    let mut count = 0u64;
    loop {
        count = std::hint::black_box(count).wrapping_add(1);
    }
}
