//! A stream that tells its registry entry what comes and goes, and ends where the entry says so.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use rustix::net::RecvFlags;
use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::registry::{Doing, Entry};

pub struct Watched<S> {
    stream: S,
    entry: Arc<Entry>,
    /// What was read from the stream before, and is still to be given.
    before: Bytes,
}

impl<S> Watched<S> {
    pub fn new(stream: S, entry: Arc<Entry>, before: Bytes) -> Self {
        Watched { stream, entry, before }
    }

    pub fn into_inner(self) -> S {
        self.stream
    }
}

/// One instruction: take nothing.
const NOTHING: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// From now on the kernel takes nothing more from outside: not what comes to a connection, no new one at a listener.
pub fn seal(socket: &impl AsFd) {
    // A Unix socket has no such filter, and needs none: see `end_if_silent`.
    let _ = SockRef::from(socket).attach_filter(&NOTHING);
}

/// Says the end to the other side where nothing of a request lies in the socket; whether it did. Between the look and
/// that end the kernel takes no byte, so none is accepted that then is lost: what the client sends again it sends knowing
/// the end. The filter does not stay: a socket that takes nothing would never hear that its end was read, and would eat
/// the first packet of a new connection from the same port for as long as it asks.
pub fn end_if_silent(socket: &impl AsFd) -> bool {
    seal(socket);
    let looked = rustix::net::recv(socket, &mut [0u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    let silent = !matches!(looked, Ok((_, 1..)));
    let socket = SockRef::from(socket);
    if silent {
        // The other side may have ended the connection already.
        let _ = socket.shutdown(Shutdown::Write);
    }
    // A Unix socket has none to detach.
    let _ = socket.detach_filter();
    silent
}

impl<S: AsyncRead + AsFd + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.before.is_empty() {
            let count = this.before.len().min(buf.remaining());
            buf.put_slice(&this.before[..count]);
            this.before.advance(count);
            this.entry.arrived(count);
            return Poll::Ready(Ok(()));
        }
        if this.entry.verdict().is_some() {
            match this.entry.doing() {
                Doing::Idle if end_if_silent(&this.stream) => return Poll::Ready(Ok(())),
                Doing::Idle => this.entry.reprieve(),
                Doing::Head => return Poll::Ready(Ok(())),
                // Whoever reads the body ends it, with an answer.
                Doing::Body => return Poll::Pending,
                Doing::Answering | Doing::Writing => {}
            }
        }
        let most = this.entry.may_read(cx.waker()).min(buf.remaining());
        if most == 0 {
            // It may itself have been the one to go.
            return match (this.entry.verdict(), this.entry.doing()) {
                (Some(_), Doing::Head) => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            };
        }
        let before = buf.filled().len();
        let read = if most >= buf.remaining() {
            Pin::new(&mut this.stream).poll_read(cx, buf)
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
            let read = Pin::new(&mut this.stream).poll_read(cx, &mut part);
            let count = part.filled().len();
            buf.advance(count);
            read
        };
        let count = buf.filled().len() - before;
        if count > 0 {
            this.entry.arrived(count);
        } else if read.is_pending() && this.ends_idle() {
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl<S: AsFd> Watched<S> {
    /// Whether the listener is closed and nothing of a request is here; then the end is said.
    fn ends_idle(&self) -> bool {
        self.entry.is_closing() && self.entry.doing() == Doing::Idle && end_if_silent(&self.stream)
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn noted<T>(&self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() {
            self.entry.moved();
        }
        written
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.noted(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        if flushed.is_ready() {
            this.entry.is_flushed();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
