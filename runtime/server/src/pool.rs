//! Threads for parsing and tokenizing what is not small, beside those of connections and of the model.
//!
//! Bodies up to [`QUICK`] bytes and larger ones have a lane each, with threads of its own, so that one is never behind the
//! other; the threads of the large ones give way to everybody else's. In a lane a piece of work has a *turn*: the time at
//! which it came, and later the more there is to do. Small work overtakes large work by that, but not for ever: it moves
//! by no more than half of the time that the request has.
//!
//! **Invariant**: what a request may hold up is bounded. At most [`WAITING`] pieces of a lane wait, and no longer than they
//! may by the pace that the lane has learned; one whose deadline passes while it waits is never begun; one that runs past
//! it is answered at the deadline, and its thread, which holds the body's memory, finishes by itself.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::refusal::{Reason, Refusal};
use crate::wire::budget::Budget;

/// Pieces of work that wait in a lane. Their memory is bounded by the budget for requests already; this bounds what one
/// look at them takes.
const WAITING: usize = 1024;

/// Bodies up to this size have a lane of their own, as they have memory of their own.
const QUICK: usize = 64 << 10;

/// What a byte of a body takes at most, in nanoseconds: the slowest tokenizers' time, for a character of three bytes.
const BYTE_NS: u64 = 2000;

/// How much later than it came a piece of work has its turn, in multiples of its own time.
const YIELDS: u64 = 16;

/// How nice the threads of large requests are to all others.
const NICE: i32 = 10;

/// From now on this thread gives way to others.
pub fn give_way() {
    // To give way more is always allowed.
    let _ = rustix::process::setpriority_process(None, NICE);
}

/// The time and place that one request's body is read in.
pub struct Turn {
    /// When its answer is due.
    pub due: Instant,
    /// What it may hold beside its body; None: no bound.
    pub budget: Option<Arc<Budget>>,
    /// Bytes of text that may be tokenized here beside those of the body.
    most: usize,
    /// Most texts of one request.
    texts: usize,
    asks: Cell<usize>,
}

impl Turn {
    pub fn new(due: Instant, budget: Option<Arc<Budget>>, most: usize, texts: usize) -> Self {
        Turn { due, budget, most, texts, asks: Cell::new(0) }
    }

    /// Of whoever alone is served.
    pub fn unbounded(due: Instant) -> Self {
        Turn::new(due, None, usize::MAX, usize::MAX)
    }

    /// Fails with the reason where one request may not have so many texts.
    pub fn allows(&self, texts: usize) -> Result<(), String> {
        if texts <= self.texts {
            return Ok(());
        }
        Err(format!("it has {texts} texts, and one request may have {} (`max_inputs`)", self.texts))
    }

    /// Called before `bytes` of text beside those of the body are tokenized: an error where that is for another turn.
    pub fn takes(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes <= self.most {
            return Ok(());
        }
        self.asks.set(bytes);
        Err(Refusal::internal())
    }

    /// The bytes that ask for another turn.
    pub fn asks(&self) -> Option<usize> {
        Some(self.asks.get()).filter(|bytes| *bytes > 0)
    }
}

pub struct Pool {
    quick: Arc<Lane>,
    large: Arc<Lane>,
}

impl Pool {
    /// Starts so many threads for each lane.
    pub fn new(threads: usize) -> Self {
        Pool { quick: Lane::start("read", threads, || {}), large: Lane::start("read-large", threads, give_way) }
    }

    /// Of each lane: half the cores, since the model needs the others.
    pub fn threads(cores: usize) -> usize {
        (cores / 2).max(1)
    }

    /// Runs `work` on a body of `size` bytes before `due`: 429 where what waits takes longer than that, 504 at the
    /// deadline. `held` is kept until `work` ends.
    pub async fn run<T: Send + 'static>(
        &self,
        size: usize,
        due: Instant,
        held: impl Send + 'static,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let lane = if size <= QUICK { &self.quick } else { &self.large };
        let (reply, answer) = oneshot::channel();
        let job = Box::new(move |taken: Taken| {
            if taken == Taken::Away {
                return drop(reply.send(Err(busy(WAITING, Duration::ZERO))));
            }
            let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Refusal::internal()));
            drop(held);
            // Whoever asked may have gone.
            drop(reply.send(result));
        });
        let _place = lane.push(size, due, job)?;
        match tokio::time::timeout_at(due.into(), answer).await {
            Err(_) => Err(Refusal::new(Reason::Deadline, "the deadline passed before the request was read")),
            Ok(result) => result.unwrap_or_else(|_| Err(Refusal::internal())),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for lane in [&self.quick, &self.large] {
            lane.lock().closed = true;
            lane.wake.notify_all();
        }
    }
}

/// How a piece of work leaves those that wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// Its turn has come.
    ToRun,
    /// The lane is full, and its turn would have been the last.
    Away,
}

type Work = Box<dyn FnOnce(Taken) + Send>;

/// When it is something's turn, and its number among those at the same time.
type Key = (Instant, u64);

struct Lane {
    threads: usize,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<Key, (usize, Work)>,
    next: u64,
    /// Seconds a byte.
    pace: f64,
    closed: bool,
}

impl Lane {
    fn start(name: &str, threads: usize, begin: fn()) -> Arc<Self> {
        let threads = threads.max(1);
        let lane = Arc::new(Lane { threads, state: Mutex::default(), wake: Condvar::new() });
        for _ in 0..threads {
            let lane = Arc::clone(&lane);
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                begin();
                lane.work();
            });
            if let Err(error) = thread {
                crate::log::error(&format!("a thread for bodies: {error}"));
            }
        }
        lane
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One thread: the earliest turn first.
    fn work(&self) {
        let mut state = self.lock();
        while !state.closed {
            let Some((_, (size, work))) = state.waiting.pop_first() else {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let begin = Instant::now();
            work(Taken::ToRun);
            let pace = begin.elapsed().as_secs_f64() / size.max(1) as f64;
            state = self.lock();
            state.pace = if state.pace == 0.0 { pace } else { 0.9 * state.pace + 0.1 * pace };
        }
    }

    /// Lets `work` wait for its turn. Where the lane is full, the last turn goes: the newcomer's, or else another's.
    fn push(self: &Arc<Self>, size: usize, due: Instant, work: Work) -> Result<Place, Refusal> {
        let now = Instant::now();
        let left = due.saturating_duration_since(now);
        let yields = Duration::from_nanos((size as u64).saturating_mul(BYTE_NS * YIELDS)).min(left / 2);
        let mut state = self.lock();
        state.next += 1;
        let key = (now + yields, state.next);
        let before = state.waiting.range(..key).map(|(_, (size, _))| *size).sum();
        let wait = self.time(&state, before);
        if wait > left {
            return Err(busy(state.waiting.len(), wait - left));
        }
        let mut away = None;
        if state.waiting.len() >= WAITING {
            match state.waiting.last_entry().filter(|last| *last.key() > key) {
                Some(last) => away = Some(last.remove().1),
                None => return Err(busy(WAITING, wait)),
            }
        }
        state.waiting.insert(key, (size, work));
        drop(state);
        self.wake.notify_one();
        if let Some(work) = away {
            work(Taken::Away);
        }
        Ok(Place { lane: Arc::clone(self), key })
    }

    fn time(&self, state: &State, bytes: usize) -> Duration {
        Duration::try_from_secs_f64(state.pace * bytes as f64 / self.threads as f64).unwrap_or(Duration::MAX)
    }
}

/// A place among those that wait; whoever gives up leaves it.
struct Place {
    lane: Arc<Lane>,
    key: Key,
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.lane.lock().waiting.remove(&self.key);
        drop(left);
    }
}

/// 429, with the seconds after which there is room.
fn busy(waiting: usize, wait: Duration) -> Refusal {
    let seconds = wait.as_secs_f64().ceil().clamp(1.0, 3600.0);
    let text = format!("this request could not be read before its deadline; requests that wait to be read: {waiting}");
    Refusal { retry_s: Some(seconds as u32), ..Refusal::new(Reason::Busy, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    fn after(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    fn slow() -> Result<i32, Refusal> {
        std::thread::sleep(Duration::from_millis(400));
        Ok(1)
    }

    #[test]
    fn slow_work_is_answered_at_its_deadline_and_what_waits_behind_it_too() {
        let (runtime, pool) = (runtime(), Pool::new(1));
        let begin = Instant::now();
        let first = runtime.block_on(pool.run(1, after(30), (), slow));
        let second = runtime.block_on(pool.run(1, after(30), (), || -> Result<i32, Refusal> { panic!("never begun") }));
        assert!(begin.elapsed() < Duration::from_millis(400));
        assert_eq!([first.unwrap_err().reason, second.unwrap_err().reason], [Reason::Deadline; 2]);
        assert_eq!(runtime.block_on(pool.run(1, after(20_000), (), || Ok(2))).unwrap(), 2);
        let panics = runtime.block_on(pool.run(1, after(20_000), (), || -> Result<i32, Refusal> { panic!("begun") }));
        assert_eq!(panics.unwrap_err().reason, Reason::Internal);
        assert_eq!(runtime.block_on(pool.run(1, after(20_000), (), || Ok(3))).unwrap(), 3);
    }

    /// Holds the lane's only thread until the sender is dropped.
    fn block(lane: &Arc<Lane>) -> (std::sync::mpsc::Sender<()>, Place) {
        let (hold, held) = std::sync::mpsc::channel();
        let (begin, begun) = std::sync::mpsc::channel();
        let work = Box::new(move |_| {
            begin.send(()).unwrap();
            assert!(held.recv().is_err());
        });
        let place = lane.push(1, after(60_000), work).unwrap();
        begun.recv().unwrap();
        (hold, place)
    }

    #[test]
    fn small_work_overtakes_large_work_of_the_same_time_and_large_lanes_hold_up_no_small_work() {
        let (runtime, pool) = (runtime(), Pool::new(1));
        let (hold, _place) = block(&pool.quick);
        let order = Arc::new(Mutex::new(vec![]));
        let note = |size: usize| {
            let order = Arc::clone(&order);
            pool.run(size, after(60_000), (), move || {
                order.lock().unwrap().push(size);
                Ok(())
            })
        };
        runtime.block_on(async {
            let waiting = futures_util::future::join3(note(60_000), note(50_000), note(5_000));
            let release = async { drop(hold) };
            let _ = futures_util::future::join(waiting, release).await;
        });
        assert_eq!(*order.lock().unwrap(), [5_000, 50_000, 60_000]);
        let (hold, _place) = block(&pool.large);
        assert!(runtime.block_on(note(QUICK)).is_ok());
        drop(hold);
    }

    #[test]
    fn what_cannot_be_read_in_time_is_refused_with_the_time_after_which_it_could() {
        let pool = Pool::new(1);
        let lane = &pool.quick;
        let (hold, _place) = block(lane);
        lane.lock().pace = 0.001;
        let push = |size, ms| lane.push(size, after(ms), Box::new(|_| {}));
        let first = push(10_000, 60_000).unwrap();
        let refused = push(10_000, 5_000).map(drop).unwrap_err();
        assert_eq!((refused.reason, refused.retry_after()), (Reason::Busy, Some(6)));
        drop(first);
        assert!(push(10_000, 5_000).is_ok(), "who gives up leaves their place");
        lane.lock().pace = 0.0;
        let all: Vec<_> = (0..WAITING).map(|_| push(10_000, 60_000).unwrap()).collect();
        assert!(push(20_000, 60_000).is_err());
        let small = push(1, 60_000);
        assert!(small.is_ok(), "the last one of a full lane makes room for what is earlier");
        assert_eq!(lane.lock().waiting.len(), WAITING);
        drop((all, hold));
    }
}
