//! Listeners and connections: accepting, serving, draining.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::SocketFlags;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, watch};
use tower_service::Service;

use crate::app::{App, Phase};
use crate::protocols::call::{Style, error_body, json_response};
use crate::refusal::{Reason, Refusal};
use crate::wire::budget::SHARE;
use crate::wire::registry::{Doing, Entry, Registry, Verdict};
use crate::wire::watched::{Watched, end_if_silent, seal};

/// Head and headers of a request together.
pub const MAX_HEAD: usize = 64 << 10;

/// How long the rest of a refused body is read.
const LINGER: Duration = Duration::from_secs(2);

/// The same where the place is needed, or the server stops.
const HURRIED: Duration = Duration::from_millis(50);

/// How long the rest of a small body is waited for that its answer did not need.
const THROWN: Duration = Duration::from_millis(100);

pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub async fn tcp(host: &str, port: u16) -> io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind((host, port)).await?;
        let address = listener.local_addr()?;
        Ok((Listener::Tcp(listener), address))
    }

    /// The same listener in the runtime that this is called in.
    pub fn here(self) -> io::Result<Self> {
        Ok(match self {
            Listener::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener.into_std()?)?),
            Listener::Unix(listener) => Listener::Unix(UnixListener::from_std(listener.into_std()?)?),
        })
    }

    /// Listens at a path. A socket that nobody listens at any more is replaced.
    pub fn unix(path: &str) -> io::Result<Self> {
        if std::os::unix::net::UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
            std::fs::remove_file(path)?;
        }
        Ok(Listener::Unix(UnixListener::bind(path)?))
    }
}

/// What every connection of a listener is given.
#[derive(Clone)]
pub struct Serving {
    pub app: Arc<App>,
    pub router: Router,
    pub slots: Arc<Semaphore>,
    /// Where small requests are read and answered, and where large ones are.
    pub runtimes: [Handle; 2],
    pub registry: Arc<Registry>,
    /// Turns true when the listener closes.
    pub closing: watch::Receiver<bool>,
    /// Held by each connection; its channel ends when the last has gone.
    pub alive: mpsc::Sender<()>,
}

/// Accepts connections until `closing`, then those that had already reached the backlog: while they are taken, the kernel
/// turns new ones away.
pub async fn accept(listener: Listener, serving: Serving) {
    let mut closing = serving.closing.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = closed(&mut closing) => break,
            accepted = accept_one(&listener, &serving) => accepted,
        };
        if let Err(error) = accepted {
            pause_after(&error).await;
        }
    }
    match &listener {
        Listener::Tcp(listener) => seal(listener),
        Listener::Unix(listener) => seal(listener),
    }
    loop {
        // Not the runtime's own accept: that learns of connections only with the next turn of its event loop.
        let taken = match &listener {
            Listener::Tcp(l) => take_tcp(l, &serving),
            Listener::Unix(l) => take_unix(l, &serving),
        };
        match taken {
            Ok(start) => start.run(&serving).await,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => {
                crate::log::warning(&format!("the last connections: {error}"));
                break;
            }
        }
    }
}

/// An accepted connection that has no slot yet.
enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

fn take_tcp(listener: &TcpListener, serving: &Serving) -> io::Result<Accepted> {
    let fd = rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    tcp(TcpStream::from_std(fd.into())?, serving)
}

fn take_unix(listener: &UnixListener, _: &Serving) -> io::Result<Accepted> {
    let fd = rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    Ok(Accepted::Unix(UnixStream::from_std(fd.into())?))
}

fn tcp(stream: TcpStream, serving: &Serving) -> io::Result<Accepted> {
    stream.set_nodelay(true)?;
    // A client that does not read its answer keeps memory no longer than this.
    let patience = serving.app.settings.seconds("read_timeout_s").as_millis();
    rustix::net::sockopt::set_tcp_user_timeout(&stream, u32::try_from(patience).unwrap_or(u32::MAX))?;
    Ok(Accepted::Tcp(stream))
}

async fn accept_one(listener: &Listener, serving: &Serving) -> io::Result<()> {
    let accepted = match listener {
        Listener::Tcp(listener) => tcp(listener.accept().await?.0, serving)?,
        Listener::Unix(listener) => Accepted::Unix(listener.accept().await?.0),
    };
    accepted.run(serving).await;
    Ok(())
}

impl Accepted {
    /// Serves the connection beside, once it has a slot.
    async fn run(self, serving: &Serving) {
        let Some(slot) = slot(serving).await else { return };
        let present = Present(serving.registry.enter());
        let (entry, runtimes) = (Arc::clone(&present.0), serving.runtimes.clone());
        let connection: BoxFuture<'static, ()> = match self {
            Accepted::Tcp(stream) => Box::pin(connection(stream, serving.clone(), present, slot)),
            Accepted::Unix(stream) => Box::pin(connection(stream, serving.clone(), present, slot)),
        };
        Moving { connection, entry, runtimes, bulky: false }.spawn();
    }
}

/// A connection that goes to the threads of large requests while it reads or answers one, so that no small one is behind it.
struct Moving {
    connection: BoxFuture<'static, ()>,
    entry: Arc<Entry>,
    runtimes: [Handle; 2],
    bulky: bool,
}

impl Moving {
    fn spawn(mut self) {
        let runtime = self.runtimes[usize::from(self.bulky)].clone();
        drop(runtime.spawn(async move {
            let ended = poll_fn(|cx| {
                if self.entry.is_bulky() != self.bulky {
                    return Poll::Ready(false);
                }
                self.connection.poll_unpin(cx).map(|()| true)
            });
            if !ended.await {
                self.bulky = !self.bulky;
                self.spawn();
            }
        }));
    }
}

/// A free slot. Where there is none, the connection that is of least use makes room; where all are being answered, the
/// first that ends does.
async fn slot(serving: &Serving) -> Option<OwnedSemaphorePermit> {
    loop {
        match Arc::clone(&serving.slots).try_acquire_owned() {
            Ok(slot) => return Some(slot),
            Err(TryAcquireError::Closed) => return None,
            Err(TryAcquireError::NoPermits) => {}
        }
        let leaves = serving.registry.make_slot();
        let wait = if leaves { Duration::from_millis(200) } else { Duration::from_millis(20) };
        if let Ok(slot) = tokio::time::timeout(wait, Arc::clone(&serving.slots).acquire_owned()).await {
            return slot.ok();
        }
    }
}

/// Out of file descriptors, say: neither spin nor stop.
async fn pause_after(error: &io::Error) {
    crate::log::warning(&format!("accepting a connection: {error}"));
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Leaves the registry whatever becomes of the connection's task.
struct Present(Arc<Entry>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Why a connection ends with the present answer.
#[derive(Default)]
struct Ends {
    /// Part of the request was not read.
    unread: AtomicBool,
    /// The server stops, and the request was read to its end.
    draining: AtomicBool,
}

async fn connection<S>(stream: S, serving: Serving, present: Present, _slot: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
{
    let Serving { app, router, registry, alive, .. } = serving;
    let entry = Arc::clone(&present.0);
    let idle_timeout = app.settings.seconds("idle_timeout_s");
    let ends = Arc::new(Ends::default());
    let for_answers = (Arc::clone(&ends), Arc::clone(&entry));
    let service = hyper::service::service_fn(move |request| {
        let (ends, entry) = for_answers.clone();
        // Before the body is looked for: what came in one piece with the request before it would pass for idle.
        entry.head_is_read();
        Box::pin(answer(router.clone(), Arc::clone(&app), ends, entry, request))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(idle_timeout).max_buf_size(MAX_HEAD);
    let (mut stream, mut before) = (stream, Bytes::new());
    let (result, unfinished) = loop {
        let watched = TokioIo::new(Watched::new(stream, Arc::clone(&entry), before));
        let mut connection = builder.serve_connection(watched, &service);
        let result = poll_fn(|cx| {
            entry.listens(cx.waker());
            let polled = connection.poll_without_shutdown(cx);
            // Nobody reads the answer, and the place is needed.
            if polled.is_pending() && entry.doing() == Doing::Writing && entry.verdict().is_some() {
                return Poll::Ready(Err(None));
            }
            polled.map_err(Some)
        })
        .await;
        let parts = connection.into_parts();
        (stream, before) = (parts.io.into_inner().into_inner(), parts.read_buf);
        // A request that came while the last answer said that the connection ends is answered all the same.
        let last = ends.draining.swap(false, Ordering::AcqRel) && result.is_ok();
        if !(last && (!before.is_empty() || !end_if_silent(&stream))) {
            break (result, !before.is_empty());
        }
    };
    let refusal = match (&result, entry.verdict()) {
        (Err(Some(_)), Some(verdict)) if unfinished => Some(cut_short(verdict)),
        (Err(Some(error)), None) if error.is_timeout() && unfinished => Some(cut_short(Verdict::TooSlow)),
        (Err(Some(_)), None) if registry.is_closing() && unfinished && entry.doing() == Doing::Idle => {
            Some(cut_short(Verdict::Stopping))
        }
        _ => None,
    };
    // The other side may be gone already: then there is nobody to tell.
    let _ = match &refusal {
        Some(refusal) => write_refusal(&mut stream, refusal).await,
        None => stream.shutdown().await,
    };
    if ends.unread.load(Ordering::Acquire) || refusal.is_some() || matches!(result, Err(Some(_))) {
        entry.is_bulky_now();
        linger(&mut stream, &entry).await;
    }
    drop((present, alive));
}

/// What a request is told that was not complete when it had to end.
pub fn cut_short(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Room => {
            Refusal::new(Reason::TooSlow, "the server was full, and this request was the one that arrived slowest")
        }
        Verdict::TooSlow => Refusal::new(Reason::TooSlow, "the request did not arrive in time"),
        Verdict::Stopping => Refusal::new(Reason::Draining, "the server stopped before the request was complete"),
    }
}

/// Lets the client read why it was refused before the connection ends.
async fn linger(stream: &mut (impl AsyncRead + Unpin), entry: &Entry) {
    let hurry = async {
        entry.is_unwanted().await;
        tokio::time::sleep(HURRIED).await;
    };
    tokio::select! {
        _ = tokio::time::timeout(LINGER, discard(stream)) => {}
        () = hurry => {}
    }
}

/// Reads what a client still sends. To close with bytes unread resets the connection, and the client may lose the answer
/// that says why.
async fn discard(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Waits until the listener is to close (or its owner is gone).
async fn closed(closing: &mut watch::Receiver<bool>) {
    drop(closing.wait_for(|c| *c).await);
}

/// A request's body, of which some may be left when it is answered.
#[derive(Clone)]
struct Shared(Arc<Mutex<Incoming>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether more of the body is left than is soon read and thrown away. Its connection then has to end with the answer.
    async fn is_left(&self) -> bool {
        if self.size_hint().lower() > SHARE as u64 {
            return true;
        }
        let mut thrown = 0;
        let rest = async {
            while let Some(frame) = poll_fn(|cx| Pin::new(&mut *self.lock()).poll_frame(cx)).await {
                thrown += frame.map_err(|_| ())?.data_ref().map_or(0, Bytes::len);
                if thrown > SHARE {
                    return Err(());
                }
            }
            Ok(())
        };
        !matches!(tokio::time::timeout(THROWN, rest).await, Ok(Ok(())))
    }
}

impl hyper::body::Body for Shared {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut *self.lock()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().size_hint()
    }
}

/// One answer; a panic becomes a 500 and ends nothing else.
async fn answer(
    mut router: Router,
    app: Arc<App>,
    ends: Arc<Ends>,
    entry: Arc<Entry>,
    mut request: Request<Incoming>,
) -> Result<Response, hyper::Error> {
    let style = Style::of_path(request.uri().path());
    let (bodiless, length) = (request.body().is_end_stream(), length(&request));
    let expects = request.headers().contains_key(http::header::EXPECT);
    request.extensions_mut().insert(Arc::clone(&entry));
    let (parts, body) = request.into_parts();
    let body = Shared(Arc::new(Mutex::new(body)));
    let request = Request::from_parts(parts, Body::new(body.clone()));
    let future = AssertUnwindSafe(async move { router.call(request).await });
    let mut response = match future.catch_unwind().await {
        Ok(Ok(response)) => response,
        _ => {
            crate::log::error("a request's handler panicked");
            let body = error_body(style, &Refusal::internal(), None);
            json_response(StatusCode::INTERNAL_SERVER_ERROR, body)
        }
    };
    let refused = entry.verdict().is_some() || matches!(response.status().as_u16(), 408 | 413);
    let unread = !bodiless && entry.doing() != Doing::Answering;
    let cut = refused || unread && (expects || body.is_left().await);
    ends.unread.fetch_or(cut, Ordering::AcqRel);
    // Not where more may have come behind this request: what follows an answer that says close, the client may not read.
    let is_last = (bodiless || entry.doing() == Doing::Answering) && length == Some(entry.bytes());
    let draining = app.phase() == Phase::Draining && is_last && !cut;
    ends.draining.store(draining, Ordering::Release);
    if draining || cut {
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    entry.is_answered();
    Ok(response)
}

/// Bytes of a request as clients usually write it; `None` where its body does not tell.
fn length(request: &Request<Incoming>) -> Option<u64> {
    let target = request.uri().path_and_query().map_or(0, |p| p.as_str().len());
    let first = request.method().as_str().len() + target + "  HTTP/1.1\r\n".len();
    let fields: usize = request.headers().iter().map(|(k, v)| k.as_str().len() + v.len() + ": \r\n".len()).sum();
    let body = request.body().size_hint().exact()?;
    Some((first + fields + "\r\n".len()) as u64 + body)
}

/// Writes what a client gets whose request's head never was complete.
async fn write_refusal(stream: &mut (impl AsyncWrite + Unpin), refusal: &Refusal) -> io::Result<()> {
    let body = error_body(Style::Native, refusal, None);
    let status = StatusCode::from_u16(refusal.reason.status()).unwrap_or(StatusCode::REQUEST_TIMEOUT);
    let retry = refusal.retry_after().map(|s| format!("retry-after: {s}\r\n")).unwrap_or_default();
    let mut answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{retry}connection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    // Never longer than the socket's buffer: a client that does not read cannot hold this up.
    stream.write_all(&answer).await?;
    stream.shutdown().await
}
