//! Fills memory for ever, most of its time in bulk operations that cannot be interrupted.

fn main() {
    println!("filling");
    let mut memory = vec![0u8; 64 << 20];
    let mut byte = 0u8;
    loop {
        byte = byte.wrapping_add(1);
        std::hint::black_box(&mut memory).fill(byte);
    }
}
