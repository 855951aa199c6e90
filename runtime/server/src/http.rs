//! Listeners and connections: accepting, serving, draining.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures_util::FutureExt;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, watch};
use tower_service::Service;

use crate::app::{App, Phase};
use crate::protocols::call::{Style, error_body, json_response};
use crate::refusal::{Reason, Refusal};

/// Head and headers of a request together.
pub const MAX_HEAD: usize = 64 << 10;

/// How long the rest of a refused body is read.
const LINGER: Duration = Duration::from_secs(2);

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
    /// Turns true when the listener closes: connections end after the answer that they owe.
    pub closing: watch::Receiver<bool>,
    /// Held by each connection; its channel ends when the last has gone.
    pub alive: mpsc::Sender<()>,
}

/// Accepts connections until `closing`, then those that had already reached the backlog.
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
    while let Some(Ok(())) = accept_one(&listener, &serving).now_or_never() {}
}

async fn accept_one(listener: &Listener, serving: &Serving) -> io::Result<()> {
    // A slot first: connections beyond the limit wait in the kernel's backlog.
    let slot = Arc::clone(&serving.slots).acquire_owned().await.map_err(io::Error::other)?;
    match listener {
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A client that does not read its answer keeps memory no longer than this.
            let patience = serving.app.settings.seconds("read_timeout_s").as_millis();
            rustix::net::sockopt::set_tcp_user_timeout(&stream, u32::try_from(patience).unwrap_or(u32::MAX))?;
            tokio::spawn(connection(stream, serving.clone(), slot));
        }
        Listener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(connection(stream, serving.clone(), slot));
        }
    }
    Ok(())
}

/// Out of file descriptors, say: neither spin nor stop.
async fn pause_after(error: &io::Error) {
    crate::log::warning(&format!("accepting a connection: {error}"));
    tokio::time::sleep(Duration::from_millis(20)).await;
}

async fn connection<S>(stream: S, serving: Serving, _slot: tokio::sync::OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Serving { app, router, mut closing, alive, .. } = serving;
    let idle_timeout = app.settings.seconds("idle_timeout_s");
    let unread = Arc::new(AtomicBool::new(false));
    let for_answers = Arc::clone(&unread);
    let service = hyper::service::service_fn(move |request| {
        Box::pin(answer(router.clone(), Arc::clone(&app), Arc::clone(&for_answers), request))
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let result = tokio::select! {
        biased;
        result = poll_fn(|cx| connection.poll_without_shutdown(cx)) => result,
        () = closed(&mut closing) => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    // The other side may be gone already: then there is nobody to tell.
    let _ = match result {
        Err(error) if error.is_timeout() && !parts.read_buf.is_empty() => write_too_slow(&mut stream).await,
        _ => stream.shutdown().await,
    };
    if unread.load(Ordering::Acquire) {
        drop(tokio::time::timeout(LINGER, discard(&mut stream)).await);
    }
    drop(alive);
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

/// One answer; a panic becomes a 500 and ends nothing else.
async fn answer(
    mut router: Router,
    app: Arc<App>,
    unread: Arc<AtomicBool>,
    request: Request<Incoming>,
) -> Result<Response, hyper::Error> {
    let style = Style::of_path(request.uri().path());
    let future = AssertUnwindSafe(async move { router.call(request.map(Body::new)).await });
    let mut response = match future.catch_unwind().await {
        Ok(Ok(response)) => response,
        _ => {
            crate::log::error("a request's handler panicked");
            let body = error_body(style, &Refusal::internal(), None);
            json_response(StatusCode::INTERNAL_SERVER_ERROR, body)
        }
    };
    let refused_body = matches!(response.status().as_u16(), 408 | 413);
    unread.fetch_or(refused_body, Ordering::AcqRel);
    if app.phase() == Phase::Draining || refused_body {
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Writes what a client gets whose request's head did not arrive in time.
async fn write_too_slow(stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let body = error_body(Style::Native, &Refusal::new(Reason::TooSlow, "the request did not arrive in time"), None);
    let head = format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}
