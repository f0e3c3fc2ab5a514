//! Answers with the path. The body is written after the answer is on its way, as WASI 0.3 has it; `/half` traps while at it,
//! and `/spin` never gets that far.

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

struct Hello;
wasip3::http::service::export!(Hello);

impl wasip3::exports::http::handler::Guest for Hello {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        if path == "/spin" {
            loop {
                std::hint::black_box(());
            }
        }
        let (mut body, read_body) = wit_stream::new();
        let (trailers, read_trailers) = wit_future::new(|| Ok(None));
        drop(trailers);
        let (response, _sent) = Response::new(Fields::new(), Some(read_body), read_trailers);
        wit_bindgen::spawn_local(async move {
            body.write_all(format!("Hello from {path}\n").into_bytes()).await;
            if path == "/half" {
                core::arch::wasm32::unreachable();
            }
        });
        Ok(response)
    }
}
