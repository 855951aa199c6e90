//! `serve`: listen, load, answer, drain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::{Failure, Start, emit};
use crate::app::App;
use crate::cores;
use crate::http::{Listener, Serving, accept};
use crate::pool::give_way;
use crate::protocols::{metrics_router, router};
use crate::wire::budget::Budget;
use crate::wire::registry::Registry;

/// How long what is incomplete when the listener closes has to become complete.
const GRACE: Duration = Duration::from_secs(1);

/// Connections of the listener for health and metrics: its own, whatever the load on the other.
const METRICS_SLOTS: usize = 64;

/// File descriptors beside those of connections: listeners, the runtime's, and connections at their very end.
const OTHER_FILES: usize = 64 + METRICS_SLOTS;

/// Serves until SIGTERM or SIGINT; ends well once every accepted request is answered. A second signal ends it at once.
pub fn serve(start: Start, stops: watch::Receiver<u32>) -> Result<(), Failure> {
    let default_threads = (cores::usable_cores() / 4).clamp(1, 4);
    let threads = start.settings.count("http_threads").unwrap_or(default_threads);
    let requests = threads_of("http", threads, || {})?;
    // What is large holds up nothing that is small.
    let large = threads_of("http-large", threads, give_way)?;
    // Health and metrics have a thread of their own: what the others are busy with does not hold it up.
    let side = threads_of("side", 1, || {})?;
    let result = requests.block_on(run(start, stops, [&requests, &large, &side].map(|r| r.handle().clone())));
    for runtime in [side, large, requests] {
        runtime.shutdown_timeout(Duration::from_millis(100));
    }
    result
}

fn threads_of(name: &str, threads: usize, begin: fn()) -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(2)
        .thread_name(name)
        .on_thread_start(begin)
        .enable_all()
        .build()
        .map_err(|e| Failure::internal(format!("the threads called {name}: {e}")))
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

async fn run(start: Start, mut stops: watch::Receiver<u32>, [small, large, side]: [Handle; 3]) -> Result<(), Failure> {
    let slots = slots(start.settings.count("max_connections").unwrap_or(4096));
    let open = listen(&start).await?;
    emit(&format!("{}\n", open.line))?;

    let metrics = start.metrics();
    let app = Arc::new(App::new(start.settings.clone(), metrics));
    let (closing, on_close) = watch::channel(false);
    let (alive, all_gone) = mpsc::channel(1);
    let (for_requests, for_metrics) = (Arc::new(Semaphore::new(slots)), Arc::new(Semaphore::new(METRICS_SLOTS)));
    let registries = [Arc::clone(&app.registry), Registry::new(Budget::new(app.max_body_bytes))];
    let (requests, metrics) = (router(Arc::clone(&app)), metrics_router(Arc::clone(&app)));
    let mut accepting = Vec::new();
    for (listener, kind) in open.listeners {
        let serves_requests = kind == Kind::Requests;
        let serving = Serving {
            app: Arc::clone(&app),
            router: if serves_requests { requests.clone() } else { metrics.clone() },
            slots: Arc::clone(if serves_requests { &for_requests } else { &for_metrics }),
            runtimes: if serves_requests { [small.clone(), large.clone()] } else { [side.clone(), side.clone()] },
            registry: Arc::clone(&registries[usize::from(!serves_requests)]),
            closing: on_close.clone(),
            alive: alive.clone(),
        };
        accepting.push(match kind {
            Kind::Requests => tokio::spawn(accept(listener, serving)),
            Kind::Metrics => side.spawn(async move {
                match listener.here() {
                    Ok(listener) => accept(listener, serving).await,
                    Err(error) => crate::log::error(&format!("the listener of health and metrics: {error}")),
                }
            }),
        });
    }
    drop((alive, on_close));
    let sweeping = tokio::spawn(sweep(registries.clone(), Arc::clone(&app)));

    let mut loading = load_beside(start, Arc::clone(&app));
    let mut load_done = false;
    while *stops.borrow() == 0 {
        tokio::select! {
            biased;
            // Its sender lives as long as the process.
            _ = stops.changed() => {}
            result = &mut loading, if !load_done => {
                load_done = true;
                result.unwrap_or_else(|_| Err(Failure::internal("loading the bundle panicked")))?;
            }
        }
    }

    let ending = end(&app, closing, accepting, &registries, all_gone);
    let drained = tokio::select! {
        biased;
        // A second signal.
        _ = stops.wait_for(|n| *n > 1) => app.in_flight() == 0,
        drained = ending => drained,
    };
    sweeping.abort();
    if let Some(path) = app.settings.text("uds") {
        // Someone else may have removed it.
        let _ = std::fs::remove_file(path);
    }
    if drained { Ok(()) } else { Err(Failure::internal("the server ended before all accepted requests were answered")) }
}

/// Readiness falls; after the drain delay the listeners close; what is complete is answered, what is not gets [`GRACE`].
/// Whether all was answered in time.
async fn end(
    app: &Arc<App>,
    closing: watch::Sender<bool>,
    accepting: Vec<JoinHandle<()>>,
    registries: &[Arc<Registry>],
    mut all_gone: mpsc::Receiver<()>,
) -> bool {
    let begin = Instant::now();
    let limit = app.settings.seconds("drain_timeout_s");
    let was_ready = app.drain();
    if was_ready {
        // Who routes requests here learns of it in this time.
        tokio::time::sleep(app.settings.seconds("drain_delay_s").min(limit)).await;
    }
    // Ignored only where no listener is left to hear it.
    let _ = closing.send(true);
    let cut = Instant::now() + GRACE.min(limit / 2);
    let last = begin + limit;
    let drained = async {
        for task in accepting {
            // A panicked one has closed its listener.
            let _ = task.await;
        }
        registries.iter().for_each(|r| r.close());
        if tokio::time::timeout_at(cut.into(), all_gone.recv()).await.is_ok() {
            return;
        }
        loop {
            registries.iter().for_each(|r| r.cut());
            if tokio::time::timeout(Duration::from_millis(50), all_gone.recv()).await.is_ok() {
                return;
            }
        }
    };
    let drained = tokio::time::timeout_at(last.into(), drained).await.is_ok();
    let Some(loaded) = app.loaded().cloned() else { return drained };
    let closed = tokio::task::spawn_blocking(move || loaded.close());
    let closed = tokio::time::timeout_at((last + Duration::from_millis(100)).into(), closed).await.is_ok();
    // Who only does not read its answer was answered.
    (drained && closed) || app.in_flight() == 0
}

/// Ends requests that do not arrive in time, and answers that nobody takes.
async fn sweep(registries: [Arc<Registry>; 2], app: Arc<App>) {
    let limit = app.settings.seconds("read_timeout_s");
    let mut turns = tokio::time::interval((limit / 4).clamp(Duration::from_millis(20), Duration::from_secs(1)));
    loop {
        turns.tick().await;
        let short = app.answers.were_short();
        registries.iter().for_each(|r| r.sweep(limit, short));
    }
}

/// How many connections there may be: as many as are asked for, unless the process may not open so many files.
fn slots(asked: usize) -> usize {
    let most = cores::open_files(asked.saturating_add(OTHER_FILES)).saturating_sub(OTHER_FILES).max(1);
    if most < asked {
        crate::log::warning(&format!(
            "max_connections = {asked}, and the limit on open files (RLIMIT_NOFILE) leaves room for {most}: taking {most}"
        ));
    }
    asked.min(most)
}

async fn listen(start: &Start) -> Result<Open, Failure> {
    let settings = &start.settings;
    let host = settings.text("host").unwrap_or("127.0.0.1").to_owned();
    let mut open =
        Open { listeners: vec![], line: serde_json::json!({"http": null, "uds": null, "grpc": null, "metrics": null}) };
    if let Some(path) = settings.text("uds") {
        let listener = Listener::unix(path).map_err(|e| Failure::usage(format!("cannot listen at {path}: {e}")))?;
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
        let (listener, address) = bound.map_err(|e| Failure::usage(format!("cannot listen at {host}:{port}: {e}")))?;
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
