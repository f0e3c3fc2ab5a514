//! Answers with the path, the method and what it was sent. `/stream` answers in pieces; `/env` shows what it was given.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::StreamError;

struct Hello;
wasip2::http::proxy::export!(Hello);

/// Pieces of a streamed answer, and the bytes of each.
const PIECES: usize = 64;
const PIECE: usize = 4096;

impl wasip2::exports::http::incoming_handler::Guest for Hello {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        if path == "/stream" {
            return answer(outparam, 200, std::iter::repeat_n(vec![b'x'; PIECE], PIECES));
        }
        let (status, text) = match path.as_str() {
            "/env" => (200, format!("{:?} {:?}\n", std::env::args().collect::<Vec<_>>(), std::env::vars().collect::<Vec<_>>())),
            "/body" => match read_body(&request) {
                Ok(body) => (200, format!("{} bytes\n", body.len())),
                Err(error) => (400, format!("{error}\n")),
            },
            path => (200, format!("Hello from {path}\n")),
        };
        answer(outparam, status, [text.into_bytes()]);
    }
}

fn read_body(request: &IncomingRequest) -> Result<Vec<u8>, String> {
    let body = request.consume().map_err(|()| "taken already")?;
    let stream = body.stream().map_err(|()| "taken already")?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(piece) => bytes.extend(piece),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}

fn answer(outparam: ResponseOutparam, status: u16, pieces: impl IntoIterator<Item = Vec<u8>>) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("the body, asked for once");
    ResponseOutparam::set(outparam, Ok(response));
    let stream = body.write().expect("the stream, asked for once");
    for piece in pieces {
        for part in piece.chunks(4096) {
            if stream.blocking_write_and_flush(part).is_err() {
                return;
            }
        }
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("a whole body");
}
