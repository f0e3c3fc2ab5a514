//! Says hello, and ends as its first argument says: `ok` or `fail`.

use wasip3::wit_stream;

struct Hello;
wasip3::cli::command::export!(Hello);

impl wasip3::exports::cli::run::Guest for Hello {
    async fn run() -> Result<(), ()> {
        let (mut stdout, written) = wit_stream::new();
        wasip3::wit_bindgen::spawn_local(async move {
            stdout.write_all(b"hello in WASI 0.3\n".to_vec()).await;
        });
        wasip3::cli::stdout::write_via_stream(written).await.map_err(|_| ())?;
        match std::env::args().nth(1).as_deref() {
            Some("fail") => Err(()),
            _ => Ok(()),
        }
    }
}
