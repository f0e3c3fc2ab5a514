//! Asks for memory, 1 MiB at a time, until it is refused. With the argument `modest` it then makes do with what it has;
//! without, it gives up, as an allocator does.

const CHUNK: usize = 1 << 20;

fn main() {
    let modest = std::env::args().nth(1).as_deref() == Some("modest");
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut chunk = Vec::new();
        if modest {
            if chunk.try_reserve_exact(CHUNK).is_err() {
                break;
            }
        } else {
            chunk.reserve_exact(CHUNK);
        }
        chunk.resize(CHUNK, 1);
        chunks.push(chunk);
    }
    let mebibytes = chunks.len();
    drop(chunks);
    println!("refused after {mebibytes} MiB");
}
