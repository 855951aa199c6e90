//! The one owner of a model's queue: requests come in, batches go to instances, each accepted request ends exactly once.
//!
//! **Invariant**: accepted = outcomes + in flight. A [`Ticket`] is one accepted request; it counts its outcome when it is
//! dropped, whatever happened. Queue and ledger change only here, under one lock, so any reading of them is consistent.
//! Instances take their batches themselves: a thread between would cost a wake-up on every request.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::check_inputs::Cost;
use crate::engine::{Engine, Fault, FaultKind, Inputs, Limits};
use crate::metrics::{Ledger, Meters};
use crate::queue::{Full, Job, Next, Queue};
use crate::refusal::{Reason, Refusal};
use crate::stats::Stats;
use crate::tensor::Tensor;

type Reply = Result<Vec<Tensor>, Refusal>;

struct Payload {
    inputs: Inputs,
    reply: oneshot::Sender<Reply>,
}

type Jobs = Vec<Job<Payload>>;

struct State {
    queue: Queue<Payload>,
    ledger: Ledger,
    closed: bool,
}

pub struct Scheduler {
    state: Mutex<State>,
    wake: Condvar,
    next_ticket: AtomicU64,
    meters: Meters,
    input_names: Vec<String>,
    device_lost: AtomicBool,
    pub stats: Mutex<Stats>,
}

/// How a scheduler forms batches.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Most waiting requests.
    pub capacity: usize,
    /// How long the first request of a batch waits for company.
    pub wait: Duration,
    pub limits: Limits,
    /// Whether requests may share a batch.
    pub merge: bool,
}

impl Scheduler {
    pub fn new(policy: Policy, meters: Meters, input_names: Vec<String>) -> Arc<Self> {
        let queue = Queue::new(policy.capacity, policy.wait, policy.limits, policy.merge);
        let state = State { queue, ledger: Ledger::default(), closed: false };
        Arc::new(Scheduler {
            state: Mutex::new(state),
            wake: Condvar::new(),
            next_ticket: AtomicU64::new(0),
            meters,
            input_names,
            device_lost: AtomicBool::new(false),
            stats: Mutex::new(Stats::default()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in this module panics while it holds the lock; were it to, the state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known before the first request: how many instances there are, and what their known answers took.
    pub fn expect(&self, instances: usize, seen: &[(usize, Duration)]) {
        let mut state = self.lock();
        state.queue.shared_by(instances);
        // The quickest: a first run also pays for what is read for the first time.
        let pace = |(units, time): &(usize, Duration)| time.as_secs_f64() / (*units).max(1) as f64;
        if let Some((units, time)) = seen.iter().min_by(|a, b| pace(a).total_cmp(&pace(b))) {
            state.queue.learn(*units, *time);
        }
    }

    /// Admits a request of one or more parts, or refuses it: 429 where the queue is full or its time too short, 503 once closed.
    pub fn submit(self: &Arc<Self>, parts: Vec<(Inputs, Cost)>, deadline: Instant) -> Result<Ticket, Refusal> {
        let now = Instant::now();
        if deadline <= now {
            return Err(Refusal::new(Reason::Deadline, "the deadline had passed before the request could be queued"));
        }
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let mut replies = Vec::with_capacity(parts.len());
        let jobs = parts.into_iter().map(|(inputs, cost)| {
            let (reply, receiver) = oneshot::channel();
            replies.push(receiver);
            Job { ticket, cost, queued: now, deadline, payload: Payload { inputs, reply } }
        });
        let jobs = jobs.collect();
        let mut state = self.lock();
        if state.closed {
            return Err(Refusal::new(Reason::Draining, "the server is stopping"));
        }
        if let Err(full) = state.queue.push(jobs, now) {
            return Err(busy(full, state.queue.depth()));
        }
        state.ledger.accepted += 1;
        state.ledger.in_flight += 1;
        drop(state);
        self.wake.notify_one();
        Ok(Ticket { scheduler: Arc::clone(self), id: ticket, deadline, replies })
    }

    /// Runs batches on the calling thread until the scheduler is closed and its queue empty.
    pub fn run_instance(&self, engine: &mut dyn Engine) {
        while let Some((jobs, expired)) = self.take() {
            for job in expired {
                // A client that left needs no answer.
                let _ = job.payload.reply.send(Err(deadline_passed()));
            }
            if !jobs.is_empty() {
                self.run_batch(engine, jobs);
            }
        }
    }

    /// Waits for the next batch and what expired before it; `None` once closed and empty.
    fn take(&self) -> Option<(Jobs, Jobs)> {
        let mut state = self.lock();
        loop {
            match state.queue.next(Instant::now()) {
                Next::Batch { jobs, expired } => {
                    if state.queue.depth() > 0 {
                        self.wake.notify_one();
                    }
                    return Some((jobs, expired));
                }
                Next::Empty if state.closed => return None,
                Next::Empty => state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Next::At(time) => {
                    let wait = time.saturating_duration_since(Instant::now());
                    state = self.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// For answers that their model's outputs make failures of.
    pub fn turned_to_failures(&self, requests: usize) {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).turned_to_failures(requests);
    }

    fn run_batch(&self, engine: &mut dyn Engine, jobs: Jobs) {
        let start = Instant::now();
        let inputs: Vec<&Inputs> = jobs.iter().map(|job| &job.payload.inputs).collect();
        let answers = catch_unwind(AssertUnwindSafe(|| engine.run(&inputs)))
            .unwrap_or_else(|_| Err(Fault::internal("the engine panicked")));
        let compute = start.elapsed();
        let answers: Vec<Reply> = match answers {
            Ok(answers) => answers.into_iter().map(|a| a.map_err(|fault| self.refuse(&fault))).collect(),
            Err(fault) => {
                let refusal = self.refuse(&fault);
                jobs.iter().map(|_| Err(refusal.clone())).collect()
            }
        };
        let failed = answers.iter().filter(|a| a.is_err()).count();
        let (count, mut rows, mut tokens, mut units, mut queued) = (jobs.len(), 0, 0, 0, Duration::ZERO);
        for job in &jobs {
            let waited = start - job.queued;
            queued += waited;
            self.meters.queue_duration.observe(waited.as_secs_f64());
            rows += job.cost.rows;
            tokens += job.cost.tokens;
            units += job.cost.units();
        }
        self.meters.compute_duration.observe(compute.as_secs_f64());
        self.meters.batch_size.observe(count as f64);
        if tokens > 0 {
            self.meters.tokens.inc_by(tokens as u64);
        }
        // Before the answers: whoever has one finds it counted.
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).batch(count, rows, failed, queued, compute);
        let mut costs = Vec::with_capacity(count);
        for (job, answer) in jobs.into_iter().zip(answers) {
            costs.push(job.cost);
            // A client that left needs no answer.
            let _ = job.payload.reply.send(answer);
        }
        let mut state = self.lock();
        state.queue.is_done(costs.into_iter());
        if failed < count {
            state.queue.learn(units, compute);
        }
    }

    /// A fault of the model in words for the client; what is ours goes to the log alone.
    fn refuse(&self, fault: &Fault) -> Refusal {
        match fault.kind {
            FaultKind::Caller => {
                let refusal = Refusal::new(Reason::Invalid, fault.message.clone());
                let field = fault.input.and_then(|i| self.input_names.get(i)).cloned();
                Refusal { field, ..refusal }
            }
            FaultKind::Capacity => {
                crate::log::error(&format!("capacity: {fault}"));
                Refusal::new(Reason::Invalid, "the request is larger than this server holds at once")
            }
            FaultKind::DeviceLost => {
                crate::log::error(&format!("device lost: {fault}"));
                self.device_lost.store(true, Ordering::Release);
                Refusal::new(Reason::NotReady, "the device failed")
            }
            FaultKind::Internal => {
                crate::log::error(&format!("model: {fault}"));
                Refusal::internal()
            }
        }
    }

    /// Whether the device failed since the start.
    pub fn device_lost(&self) -> bool {
        self.device_lost.load(Ordering::Acquire)
    }

    /// Admits nothing more; instances end once the queue is empty.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    pub fn ledger(&self) -> Ledger {
        let state = self.lock();
        Ledger { queue_depth: state.queue.depth() as u64, ..state.ledger }
    }

    fn end(&self, ticket: u64) {
        let mut state = self.lock();
        state.queue.remove(ticket);
        state.ledger.in_flight -= 1;
        state.ledger.outcomes += 1;
    }
}

/// 429, with the seconds after which there is room by the learned pace.
fn busy(full: Full, waiting: usize) -> Refusal {
    let (text, wait) = match full {
        Full::Requests(takes) => (format!("the queue is full; requests that wait: {waiting}"), takes),
        Full::Time(beyond) => {
            (format!("this request could not be answered before its deadline; requests that wait: {waiting}"), beyond)
        }
    };
    let seconds = wait.as_secs_f64().ceil().clamp(1.0, 3600.0);
    Refusal { retry_s: Some(seconds as u32), ..Refusal::new(Reason::Busy, text) }
}

fn deadline_passed() -> Refusal {
    Refusal::new(Reason::Deadline, "the deadline passed before the answer was there")
}

/// One accepted request. Dropping it ends it: what still waits of it leaves the queue and is never run.
pub struct Ticket {
    scheduler: Arc<Scheduler>,
    id: u64,
    deadline: Instant,
    replies: Vec<oneshot::Receiver<Reply>>,
}

impl Ticket {
    /// The outputs of each part, in order; the first refusal, or 504 at the deadline.
    pub async fn wait(mut self) -> Result<Vec<Vec<Tensor>>, Refusal> {
        let mut outputs = Vec::with_capacity(self.replies.len());
        for receiver in std::mem::take(&mut self.replies) {
            match tokio::time::timeout_at(self.deadline.into(), receiver).await {
                Err(_) => return Err(deadline_passed()),
                Ok(Err(_)) => return Err(Refusal::internal()),
                Ok(Ok(reply)) => outputs.push(reply?),
            }
        }
        Ok(outputs)
    }

    /// Like [`Ticket::wait`], for a caller without a runtime.
    pub fn wait_blocking(mut self) -> Result<Vec<Vec<Tensor>>, Refusal> {
        let replies = std::mem::take(&mut self.replies);
        replies.into_iter().map(|r| r.blocking_recv().map_err(|_| Refusal::internal())?).collect()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.scheduler.end(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, ModelLabels};
    use crate::tensor::Data;

    /// Answers each request with its own input; refuses the value 13, panics on 666.
    struct Echo(Duration);

    impl Engine for Echo {
        fn run(&mut self, requests: &[&Inputs]) -> Result<Vec<Result<Vec<Tensor>, Fault>>, Fault> {
            std::thread::sleep(self.0);
            Ok(requests
                .iter()
                .map(|inputs| {
                    let tensor = inputs[0].clone().unwrap();
                    match &tensor.data {
                        Data::Int64(v) if v[0] == 13 => {
                            Err(Fault { kind: FaultKind::Caller, code: 5, input: Some(0), message: "no 13".into() })
                        }
                        Data::Int64(v) if v[0] == 666 => panic!("666"),
                        _ => Ok(vec![tensor]),
                    }
                })
                .collect())
        }
    }

    fn scheduler(capacity: usize, delay_ms: u64) -> (Arc<Scheduler>, std::thread::JoinHandle<()>) {
        let limits = Limits { requests: 8, rows: 8, tokens: 0, longest: 0 };
        let policy = Policy { capacity, wait: Duration::ZERO, limits, merge: true };
        let scheduler = Scheduler::new(policy, Metrics::new(&[]).meters(ModelLabels::default()), vec!["x".into()]);
        let for_thread = Arc::clone(&scheduler);
        let thread = std::thread::spawn(move || for_thread.run_instance(&mut Echo(Duration::from_millis(delay_ms))));
        (scheduler, thread)
    }

    fn part(value: i64) -> (Inputs, Cost) {
        let tensor = Tensor { shape: vec![1], data: Data::Int64(vec![value]) };
        (vec![Some(tensor)], Cost { rows: 1, tokens: 0, longest: 0 })
    }

    fn soon(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    #[test]
    fn each_request_gets_its_own_answer_and_a_bad_one_fails_alone() {
        let (scheduler, thread) = scheduler(1000, 1);
        let tickets: Vec<_> =
            (0..200).map(|v| scheduler.submit(vec![part(v), part(v + 1000)], soon(60_000)).unwrap()).collect();
        for (value, ticket) in tickets.into_iter().enumerate() {
            match ticket.wait_blocking() {
                Ok(outputs) => {
                    assert_eq!(outputs[0][0].data, Data::Int64(vec![value as i64]));
                    assert_eq!(outputs[1][0].data, Data::Int64(vec![value as i64 + 1000]));
                }
                Err(refusal) => {
                    assert_eq!((value, refusal.text().as_str()), (13, "x: no 13"));
                }
            }
        }
        scheduler.close();
        thread.join().unwrap();
        let ledger = scheduler.ledger();
        assert_eq!((ledger.accepted, ledger.outcomes, ledger.in_flight), (200, 200, 0));
    }

    #[test]
    fn a_panic_fails_its_batch_and_nothing_after_it() {
        let (scheduler, thread) = scheduler(10, 0);
        let refused = scheduler.submit(vec![part(666)], soon(60_000)).unwrap().wait_blocking();
        assert_eq!(refused.unwrap_err().reason, Reason::Internal);
        assert!(scheduler.submit(vec![part(1)], soon(60_000)).unwrap().wait_blocking().is_ok());
        scheduler.close();
        thread.join().unwrap();
        assert_eq!(scheduler.submit(vec![part(1)], soon(60_000)).err().unwrap().reason, Reason::Draining);
    }

    #[test]
    fn full_queues_refuse_and_dropped_tickets_leave_them() {
        let (scheduler, thread) = scheduler(2, 200);
        let first = scheduler.submit(vec![part(1)], soon(60_000)).unwrap();
        while scheduler.ledger().queue_depth > 0 {
            std::thread::yield_now();
        }
        let second = scheduler.submit(vec![part(2)], soon(60_000)).unwrap();
        let third = scheduler.submit(vec![part(3)], soon(60_000)).unwrap();
        assert_eq!(scheduler.submit(vec![part(4)], soon(60_000)).err().unwrap().reason, Reason::Busy);
        drop(second);
        assert_eq!(scheduler.ledger().queue_depth, 1);
        assert!(first.wait_blocking().is_ok());
        assert!(third.wait_blocking().is_ok());
        scheduler.close();
        thread.join().unwrap();
        let ledger = scheduler.ledger();
        assert_eq!((ledger.accepted, ledger.outcomes, ledger.in_flight, ledger.queue_depth), (3, 3, 0, 0));
    }

    /// Answers a batch once it is told to.
    struct Held(std::sync::mpsc::Receiver<()>);

    impl Engine for Held {
        fn run(&mut self, requests: &[&Inputs]) -> Result<Vec<Result<Vec<Tensor>, Fault>>, Fault> {
            self.0.recv().unwrap();
            Ok(requests.iter().map(|inputs| Ok(vec![inputs[0].clone().unwrap()])).collect())
        }
    }

    #[test]
    fn a_small_request_is_answered_before_the_rest_of_a_large_one() {
        let limits = Limits { requests: 8, rows: 8, tokens: 0, longest: 0 };
        let policy = Policy { capacity: 10, wait: Duration::ZERO, limits, merge: true };
        let scheduler = Scheduler::new(policy, Metrics::new(&[]).meters(ModelLabels::default()), vec!["x".into()]);
        scheduler.expect(1, &[(8, Duration::from_secs(1))]);
        let large = scheduler.submit((0..20).map(part).collect(), soon(600_000)).unwrap();
        let (permit, permits) = std::sync::mpsc::channel();
        let for_thread = Arc::clone(&scheduler);
        let thread = std::thread::spawn(move || for_thread.run_instance(&mut Held(permits)));
        let small = scheduler.submit(vec![part(100)], soon(600_000)).unwrap();
        // The first may have been taken before the small one came.
        (0..2).for_each(|_| permit.send(()).unwrap());
        assert_eq!(small.wait_blocking().unwrap()[0][0].data, Data::Int64(vec![100]));
        assert_eq!(scheduler.ledger().in_flight, 1);
        permit.send(()).unwrap();
        let values = large.wait_blocking().unwrap().into_iter().map(|part| part[0].data.clone());
        assert!(values.eq((0..20).map(|value| Data::Int64(vec![value]))), "its own parts stay in order");
        scheduler.close();
        thread.join().unwrap();
    }

    #[test]
    fn a_passed_deadline_is_504_and_never_run() {
        let (scheduler, thread) = scheduler(10, 100);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let running = scheduler.submit(vec![part(1)], soon(60_000)).unwrap();
        while scheduler.ledger().queue_depth > 0 {
            std::thread::yield_now();
        }
        let late = scheduler.submit(vec![part(2)], soon(5)).unwrap();
        let refusal = runtime.block_on(late.wait()).unwrap_err();
        assert_eq!((refusal.reason, scheduler.ledger().queue_depth), (Reason::Deadline, 0));
        assert!(running.wait_blocking().is_ok());
        scheduler.close();
        thread.join().unwrap();
        let stats = scheduler.stats.lock().unwrap();
        assert_eq!(stats.executions, 1);
    }
}
