//! `serve`: listen, load, answer, drain.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::{Failure, Start, emit};
use crate::app::App;
use crate::cores;
use crate::http::{Listener, Serving, accept};
use crate::protocols::{metrics_router, router};

/// Serves until SIGTERM or SIGINT; ends well once every accepted request is answered.
pub fn serve(start: Start) -> Result<(), Failure> {
    let default_threads = (cores::usable_cores() / 4).clamp(1, 4);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(start.settings.count("http_threads").unwrap_or(default_threads))
        .max_blocking_threads(cores::usable_cores().max(2))
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(|e| Failure::internal(format!("the runtime: {e}")))?;
    let result = runtime.block_on(run(start));
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

struct Open {
    listeners: Vec<(Listener, Kind)>,
    line: serde_json::Value,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Requests,
    Metrics,
}

async fn run(start: Start) -> Result<(), Failure> {
    // First of all: a signal from here on drains instead of killing.
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| Failure::internal(e.to_string()))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Failure::internal(e.to_string()))?;
    let open = listen(&start).await?;
    emit(&format!("{}\n", open.line))?;

    let metrics = start.metrics();
    let app = Arc::new(App::new(start.settings.clone(), metrics));
    let (closing, on_close) = watch::channel(false);
    let (alive, mut all_gone) = mpsc::channel(1);
    let slots = Arc::new(Semaphore::new(start.settings.count("max_connections").unwrap_or(4096)));
    let (requests, metrics) = (router(Arc::clone(&app)), metrics_router(Arc::clone(&app)));
    for (listener, kind) in open.listeners {
        let serving = Serving {
            app: Arc::clone(&app),
            router: if kind == Kind::Requests { requests.clone() } else { metrics.clone() },
            slots: Arc::clone(&slots),
            closing: on_close.clone(),
            alive: alive.clone(),
        };
        tokio::spawn(accept(listener, serving));
    }
    drop((alive, on_close));

    let mut loading = load_beside(start, Arc::clone(&app));
    let mut load_done = false;
    loop {
        tokio::select! {
            result = &mut loading, if !load_done => {
                load_done = true;
                result.unwrap_or_else(|_| Err(Failure::internal("loading the bundle panicked")))?;
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }

    app.drain();
    tokio::time::sleep(app.settings.seconds("drain_delay_s")).await;
    // Ignored only where no connection task is left to hear it.
    let _ = closing.send(true);
    let limit = app.settings.seconds("drain_timeout_s");
    let drained = tokio::time::timeout(limit, all_gone.recv()).await.is_ok();
    if let Some(loaded) = app.loaded().cloned() {
        let closed = tokio::task::spawn_blocking(move || loaded.close());
        let _ = tokio::time::timeout(limit, closed).await;
    }
    if let Some(path) = app.settings.text("uds") {
        // Someone else may have removed it.
        let _ = std::fs::remove_file(path);
    }
    if drained {
        Ok(())
    } else {
        Err(Failure::internal("some connections had not ended when the time to drain was over"))
    }
}

async fn listen(start: &Start) -> Result<Open, Failure> {
    let settings = &start.settings;
    let host = settings.text("host").unwrap_or("127.0.0.1").to_owned();
    let mut open =
        Open { listeners: vec![], line: serde_json::json!({"http": null, "uds": null, "grpc": null, "metrics": null}) };
    if let Some(path) = settings.text("uds") {
        let listener = Listener::unix(path).map_err(|e| Failure::internal(format!("cannot listen at {path}: {e}")))?;
        open.listeners.push((listener, Kind::Requests));
        open.line["uds"] = path.into();
    }
    let mut tcp = Vec::new();
    if settings.text("uds").is_none() || settings.is_set("port") {
        tcp.push(("http", settings.port("port").unwrap_or(8080), Kind::Requests));
    }
    tcp.extend(settings.port("metrics_port").map(|port| ("metrics", port, Kind::Metrics)));
    for (name, port, kind) in tcp {
        let bound = Listener::tcp(&host, port).await;
        let (listener, address) =
            bound.map_err(|e| Failure::internal(format!("cannot listen at {host}:{port}: {e}")))?;
        open.listeners.push((listener, kind));
        open.line[name] = address.to_string().into();
    }
    Ok(open)
}

/// Loads on a thread of its own; the channel tells when the models are there, or why not.
fn load_beside(start: Start, app: Arc<App>) -> oneshot::Receiver<Result<(), Failure>> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let result = start.load(&app.metrics).map(|loaded| {
            crate::log::note(&loaded.ceiling.to_string());
            app.install(loaded);
        });
        // The receiver is gone only when the process ends.
        let _ = sender.send(result);
    });
    receiver
}
