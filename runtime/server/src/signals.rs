//! SIGTERM and SIGINT, from the first moment on: a thread of its own listens, whatever the server is doing.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long the server has to end by itself after the second signal.
const PATIENCE: Duration = Duration::from_millis(500);

/// Counts the signals to stop. They are caught once this returns.
pub fn stops() -> io::Result<watch::Receiver<u32>> {
    let (count, stops) = watch::channel(0);
    let (sender, installed) = mpsc::channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(count_signals(&sender, &count)),
            // The receiver is waiting below.
            Err(error) => drop(sender.send(Err(error))),
        }
    })?;
    installed.recv().map_err(io::Error::other)??;
    Ok(stops)
}

async fn count_signals(installed: &mpsc::Sender<io::Result<()>>, count: &watch::Sender<u32>) {
    let signals = signal(SignalKind::terminate()).and_then(|t| Ok((t, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => return drop(installed.send(Err(error))),
    };
    // The receiver is waiting above.
    let _ = installed.send(Ok(()));
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        count.send_modify(|n| *n += 1);
        if *count.borrow() > 1 {
            tokio::time::sleep(PATIENCE).await;
            std::process::exit(1);
        }
    }
}
