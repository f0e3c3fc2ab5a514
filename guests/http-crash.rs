//! Fails in the way that the path names. Whoever asks for another path shows that the server lives on.

use wasip2::http::types::{ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Crash;
wasip2::http::proxy::export!(Crash);

impl wasip2::exports::http::incoming_handler::Guest for Crash {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        match request.path_with_query().unwrap_or_default().as_str() {
            "/trap" => boom(),
            "/spin" => loop {
                std::hint::black_box(());
            },
            "/sleep" => std::thread::sleep(std::time::Duration::from_secs(60)),
            "/grow" => grow(),
            "/exit" => std::process::exit(7),
            "/silent" => return,
            "/error" => return ResponseOutparam::set(outparam, Err(ErrorCode::ConfigurationError)),
            "/half" => half(outparam),
            "/fields" => fields(),
            "/fifo" => drop(std::fs::read("/data/fifo")),
            _ => {
                let (response, body) = ok();
                ResponseOutparam::set(outparam, Ok(response));
                OutgoingBody::finish(body, None).expect("an empty body");
            }
        }
    }
}

#[inline(never)]
fn boom() -> ! {
    core::arch::wasm32::unreachable()
}

fn grow() {
    let mut chunks = Vec::new();
    loop {
        chunks.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
}

/// Memory of the host's, as much as there is to be had.
fn fields() {
    let value = vec![b'x'; 20_000];
    let mut kept = Vec::new();
    loop {
        let fields = Fields::new();
        fields.append("name", &value).expect("room for one value");
        kept.push(fields);
        if kept.len() * value.len() > 64 << 20 {
            return;
        }
    }
}

/// The head and a first piece of the body, then a trap.
fn half(outparam: ResponseOutparam) -> ! {
    let (response, body) = ok();
    ResponseOutparam::set(outparam, Ok(response));
    let stream = body.write().expect("the stream, asked for once");
    stream.blocking_write_and_flush(b"half of it").expect("a reader");
    boom()
}

fn ok() -> (OutgoingResponse, OutgoingBody) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the body, asked for once");
    (response, body)
}
