//! A connection whose other end must go on reading. hyper bounds the time in which a head comes in; this bounds how long an
//! answer may lie unread, so that a client that asks much and reads nothing does not keep its place for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

pub struct Patience<S> {
    stream: S,
    limit: Duration,
    /// Since when nothing can be written; no timer is set while everything can.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S: Unpin> Patience<S> {
    pub fn new(stream: S, limit: Duration) -> Self {
        Patience { stream, limit, stalled: None }
    }

    fn write<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.stream), context);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.write(context, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(context, |stream, context| stream.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test);
    }

    #[test]
    fn nobody_reads() {
        run(async {
            let (_reader, writer) = UnixStream::pair().expect("a pair");
            let mut writer = Patience::new(writer, LIMIT);
            let error = writer.write_all(&vec![0; 16 << 20]).await.expect_err("no end");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn somebody_reads_slowly() {
        run(async {
            let (mut reader, writer) = UnixStream::pair().expect("a pair");
            let mut writer = Patience::new(writer, LIMIT);
            let write = async {
                writer.write_all(&vec![0; 1 << 20]).await.expect("written");
                drop(writer);
            };
            let read = async {
                let mut buffer = vec![0; 128 << 10];
                while reader.read(&mut buffer).await.expect("read") > 0 {
                    sleep(LIMIT / 5).await;
                }
            };
            tokio::join!(write, read);
        });
    }
}
