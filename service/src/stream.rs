//! A connection that its place can see, and that ends at its time.

use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// The bytes of a connection.
pub(crate) struct Stream {
    stream: Arc<TcpStream>,
    end: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    /// For so long, if not for ever.
    pub(crate) fn new(stream: Arc<TcpStream>, time: Option<Duration>) -> Self {
        Self { stream, end: time.map(|time| Box::pin(sleep(time))) }
    }

    /// Fails once the time is over. Before, whoever waits for bytes is woken when it is.
    fn check_time(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let is_over = self.end.as_mut().is_some_and(|end| end.as_mut().poll(context).is_ready());
        if is_over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.check_time(context)?;
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_time(context)?;
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match read(&self.stream, buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|length| buffer.advance(length))),
            }
        }
    }
}

/// Reads as tokio's own stream does: what does not fill the buffer is all that there is for now. Who asks on would see at once
/// that the other side writes no more, and HTTP's own code ends a connection for that before it has answered.
fn read(stream: &TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
    let room = bytes.len();
    let mut part = None;
    let read = stream.try_io(Interest::READABLE, || match stream.try_read(bytes)? {
        // To tokio this says that there is nothing to be read until the system says otherwise.
        length if 0 < length && length < room => {
            part = Some(length);
            Err(io::ErrorKind::WouldBlock.into())
        }
        length => Ok(length),
    });
    part.map_or(read, Ok)
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(context, |stream| stream.try_write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(self.stream.as_raw_fd(), Shutdown::Write).map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_end_is_not_seen_with_what_came_before_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut stream = Stream::new(Arc::new(listener.accept().await.unwrap().0), None);
        let mut bytes = [0; 8];
        for sent in [&b"first"[..], b"12345678", b"last"] {
            client.writable().await.unwrap();
            assert_eq!(client.try_write(sent).unwrap(), sent.len());
            let mut buffer = ReadBuf::new(&mut bytes);
            poll_fn(|context| Pin::new(&mut stream).poll_read(context, &mut buffer)).await.unwrap();
            assert_eq!(buffer.filled(), sent);
        }
        drop(client);
        let mut read = async || {
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = poll_fn(|context| Poll::Ready(Pin::new(&mut stream).poll_read(context, &mut buffer))).await;
            read.map(|read| read.map(|()| buffer.filled().len()).unwrap())
        };
        assert_eq!(read().await, Poll::Pending, "the system has not said so yet");
        let end = loop {
            match read().await {
                Poll::Ready(length) => break length,
                Poll::Pending => tokio::task::yield_now().await,
            }
        };
        assert_eq!(end, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_at_its_time_whoever_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream = Arc::new(listener.accept().await.unwrap().0);
        let mut stream = Stream::new(stream, Some(Duration::from_secs(300)));
        let is_over = |error: io::Error| error.kind() == io::ErrorKind::TimedOut;
        assert_eq!(poll_fn(|context| Pin::new(&mut stream).poll_write(context, b"x")).await.unwrap(), 1);
        // Nothing comes: the clock goes on.
        let mut bytes = [0];
        let mut buffer = ReadBuf::new(&mut bytes);
        let read = poll_fn(|context| Pin::new(&mut stream).poll_read(context, &mut buffer)).await;
        assert!(read.is_err_and(is_over));
        let written = poll_fn(|context| Pin::new(&mut stream).poll_write(context, b"x")).await;
        assert!(written.is_err_and(is_over));
    }
}
