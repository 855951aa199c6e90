//! The queue of one model: pure state, no threads, no clock. [`crate::scheduler`] is its one owner.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::check_inputs::Cost;
use crate::engine::Limits;
use crate::pace::Pace;

/// One part of an accepted request: what one slot of a batch runs.
pub struct Job<T> {
    /// The accepted request that this is a part of.
    pub ticket: u64,
    pub cost: Cost,
    pub queued: Instant,
    pub deadline: Instant,
    /// Whether it is its request's last part.
    pub last: bool,
    pub payload: T,
}

pub struct Queue<T> {
    jobs: VecDeque<Job<T>>,
    /// Requests with at least one part waiting.
    waiting: usize,
    capacity: usize,
    wait: Duration,
    limits: Limits,
    merge: bool,
    pace: Pace,
    /// All that waits.
    load: Load,
    /// What instances have taken and not answered yet.
    running: Load,
    /// Threads that take batches at the same time.
    instances: usize,
}

/// Work, in what bounds a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub requests: usize,
    pub rows: usize,
    pub tokens: usize,
    pub units: usize,
}

impl Load {
    fn add(&mut self, cost: Cost) {
        self.requests += 1;
        self.rows += cost.rows;
        self.tokens += cost.tokens;
        self.units += cost.units();
    }

    fn remove(&mut self, cost: Cost) {
        self.requests -= 1;
        self.rows -= cost.rows;
        self.tokens -= cost.tokens;
        self.units -= cost.units();
    }

    fn and(mut self, other: Load) -> Load {
        self.requests += other.requests;
        self.rows += other.rows;
        self.tokens += other.tokens;
        self.units += other.units;
        self
    }
}

/// Why a request was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// So many requests wait already; how long they take.
    Requests(Duration),
    /// What waits takes longer than this request may: by how much.
    Time(Duration),
}

/// What the queue gives a free instance.
pub enum Next<T> {
    /// Run these. `expired` never run: their deadline has passed.
    Batch {
        jobs: Vec<Job<T>>,
        expired: Vec<Job<T>>,
    },
    /// Ask again at this time (or when something comes in).
    At(Instant),
    Empty,
}

impl<T> Queue<T> {
    /// `capacity` counts waiting requests. `merge` is false for models whose requests never share a batch.
    pub fn new(capacity: usize, wait: Duration, limits: Limits, merge: bool) -> Self {
        let (jobs, pace) = (VecDeque::new(), Pace::default());
        Queue {
            jobs,
            waiting: 0,
            capacity,
            wait,
            limits,
            merge,
            pace,
            load: Load::default(),
            running: Load::default(),
            instances: 1,
        }
    }

    /// How many instances take batches at the same time.
    pub fn shared_by(&mut self, instances: usize) {
        self.instances = instances.max(1);
    }

    /// Adds all parts of a request; none where the queue is full, or what runs, what waits and the request itself take
    /// longer than the request may. An empty queue admits everything, so that a wrong pace is always corrected.
    pub fn push(&mut self, parts: Vec<Job<T>>, now: Instant) -> Result<(), Full> {
        if self.waiting >= self.capacity {
            return Err(Full::Requests(self.time(self.load.and(self.running))));
        }
        let mut load = self.load;
        parts.iter().for_each(|j| load.add(j.cost));
        let takes = self.time(load.and(self.running));
        let left = parts.first().map_or(Duration::MAX, |j| j.deadline.saturating_duration_since(now));
        if !self.jobs.is_empty() && takes > left {
            return Err(Full::Time(takes - left));
        }
        self.load = load;
        self.waiting += usize::from(!parts.is_empty());
        self.jobs.extend(parts);
        Ok(())
    }

    /// Takes out what still waits of a request.
    pub fn remove(&mut self, ticket: u64) {
        // Tickets rise along the queue, so the parts stand together.
        let from = self.jobs.partition_point(|j| j.ticket < ticket);
        let to = self.jobs.partition_point(|j| j.ticket <= ticket);
        if from < to {
            self.waiting -= 1;
            for job in self.jobs.drain(from..to) {
                self.load.remove(job.cost);
            }
        }
    }

    /// How long so much work takes with all instances at it, in batches as full as they may be.
    fn time(&self, load: Load) -> Duration {
        let of = |amount: usize, most: usize| if most == 0 { 0.0 } else { amount as f64 / most as f64 };
        let by_requests = of(load.requests, if self.merge { self.limits.requests } else { 1 });
        let batches = by_requests.max(of(load.rows, self.limits.rows)).max(of(load.tokens, self.limits.tokens));
        self.pace.time(batches.ceil(), load.units) / u32::try_from(self.instances).unwrap_or(u32::MAX)
    }

    /// A batch of so many units took this long.
    pub fn learn(&mut self, units: usize, time: Duration) {
        self.pace.learn(units, time);
    }

    /// A batch that was taken has its answers.
    pub fn is_done(&mut self, costs: impl Iterator<Item = Cost>) {
        costs.for_each(|cost| self.running.remove(cost));
    }

    /// The next batch in order of arrival, within the limits on requests, rows and tokens.
    pub fn next(&mut self, now: Instant) -> Next<T> {
        let mut expired = Vec::new();
        while self.jobs.front().is_some_and(|j| self.is_hopeless(j, now)) {
            expired.extend(self.pop());
        }
        let Some(first) = self.jobs.front() else {
            return if expired.is_empty() { Next::Empty } else { Next::Batch { jobs: vec![], expired } };
        };
        let ripe = first.queued + self.wait;
        let (count, full) = self.fitting(now);
        if ripe > now && !full && expired.is_empty() {
            return Next::At(ripe.min(first.deadline));
        }
        let mut jobs = Vec::with_capacity(count);
        for _ in 0..count {
            let Some(job) = self.pop() else { break };
            if job.deadline <= now { expired.push(job) } else { jobs.push(job) }
        }
        jobs.iter().for_each(|job| self.running.add(job.cost));
        Next::Batch { jobs, expired }
    }

    /// Whether a job's time is over, or will be before its answer while others wait.
    fn is_hopeless(&self, job: &Job<T>, now: Instant) -> bool {
        let left = job.deadline.saturating_duration_since(now);
        left.is_zero() || (self.jobs.len() > 1 && self.pace.time(1.0, job.cost.units()) > left)
    }

    /// How many jobs from the front fit into one batch, and whether no further job could join them.
    fn fitting(&self, now: Instant) -> (usize, bool) {
        let most = if self.merge { self.limits.requests } else { 1 };
        let (mut count, mut rows, mut tokens, mut work) = (0, 0, 0, 0);
        let mut left = Duration::MAX;
        for job in self.jobs.iter().take(most) {
            rows += job.cost.rows;
            tokens += job.cost.tokens;
            work += job.cost.units();
            left = left.min(job.deadline.saturating_duration_since(now));
            let beyond = rows > self.limits.rows || tokens > self.limits.tokens || self.pace.time(1.0, work) > left;
            if count > 0 && beyond {
                return (count, true);
            }
            count += 1;
        }
        (count, count == most || rows >= self.limits.rows)
    }

    fn pop(&mut self) -> Option<Job<T>> {
        let job = self.jobs.pop_front()?;
        self.waiting -= usize::from(job.last);
        self.load.remove(job.cost);
        Some(job)
    }

    /// Waiting requests.
    pub fn depth(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { requests: 4, rows: 6, tokens: 100, longest: 100 };

    fn queue(wait_ms: u64, merge: bool) -> Queue<u64> {
        Queue::new(8, Duration::from_millis(wait_ms), LIMITS, merge)
    }

    fn job(ticket: u64, rows: usize, tokens: usize, now: Instant) -> Job<u64> {
        let cost = Cost { rows, tokens, longest: tokens };
        Job { ticket, cost, queued: now, deadline: now + Duration::from_secs(1), last: true, payload: ticket }
    }

    fn tickets(next: Next<u64>) -> (Vec<u64>, Vec<u64>) {
        match next {
            Next::Batch { jobs, expired } => {
                (jobs.iter().map(|j| j.ticket).collect(), expired.iter().map(|j| j.ticket).collect())
            }
            _ => (vec![], vec![]),
        }
    }

    #[test]
    fn batches_keep_order_and_respect_each_limit() {
        let now = Instant::now();
        let mut q = queue(0, true);
        for (ticket, rows, tokens) in [(0, 1, 10), (1, 1, 80), (2, 1, 20), (3, 4, 1), (4, 2, 1), (5, 1, 500)] {
            assert!(q.push(vec![job(ticket, rows, tokens, now)], now).is_ok());
        }
        assert_eq!(tickets(q.next(now)).0, [0, 1]); // 110 tokens with the next
        assert_eq!(tickets(q.next(now)).0, [2, 3]); // 7 rows with the next
        assert_eq!(tickets(q.next(now)).0, [4]); // 501 tokens with the next
        assert_eq!(tickets(q.next(now)).0, [5]); // over the limit alone: still served
        assert!(matches!(q.next(now), Next::Empty));
        assert_eq!(q.depth(), 0);
    }

    #[test]
    fn at_most_so_many_requests_share_a_batch_and_some_models_never_share() {
        let now = Instant::now();
        let (mut shared, mut alone) = (queue(0, true), queue(0, false));
        for ticket in 0..5 {
            assert!(shared.push(vec![job(ticket, 1, 1, now)], now).is_ok());
            assert!(alone.push(vec![job(ticket, 1, 1, now)], now).is_ok());
        }
        assert_eq!(tickets(shared.next(now)).0, [0, 1, 2, 3]);
        assert_eq!(tickets(alone.next(now)).0, [0]);
    }

    #[test]
    fn waits_for_company_only_until_the_first_is_ripe_or_the_batch_full() {
        let now = Instant::now();
        let mut q = queue(5, true);
        assert!(q.push(vec![job(0, 1, 1, now)], now).is_ok());
        assert!(matches!(q.next(now), Next::At(t) if t == now + Duration::from_millis(5)));
        for ticket in 1..4 {
            assert!(q.push(vec![job(ticket, 1, 1, now)], now).is_ok());
        }
        assert_eq!(tickets(q.next(now)).0.len(), 4);
        assert!(q.push(vec![job(4, 1, 1, now)], now).is_ok());
        assert_eq!(tickets(q.next(now + Duration::from_millis(5))).0, [4]);
    }

    #[test]
    fn what_has_expired_is_never_run() {
        let now = Instant::now();
        let mut q = queue(0, true);
        assert!(q.push(vec![job(0, 1, 1, now)], now).is_ok());
        assert!(q.push(vec![Job { deadline: now + Duration::from_secs(9), ..job(1, 1, 1, now) }], now).is_ok());
        assert!(q.push(vec![job(2, 1, 1, now)], now).is_ok());
        let later = now + Duration::from_secs(2);
        assert_eq!(tickets(q.next(later)), (vec![1], vec![0, 2]));
    }

    #[test]
    fn a_batch_is_no_larger_than_its_earliest_deadline_allows() {
        let now = Instant::now();
        let mut q = queue(0, true);
        for ticket in 0..4 {
            assert!(
                q.push(vec![Job { deadline: now + Duration::from_millis(100), ..job(ticket, 1, 10, now) }], now)
                    .is_ok()
            );
        }
        q.learn(10, Duration::from_millis(40));
        assert_eq!(tickets(q.next(now)).0, [0, 1]); // 80 ms of 100; three would take 120
    }

    #[test]
    fn what_would_come_too_late_makes_room_but_the_last_always_runs() {
        let now = Instant::now();
        let mut q = queue(0, true);
        for (ticket, ms) in [(0, 20), (1, 39), (2, 50)] {
            assert!(
                q.push(vec![Job { deadline: now + Duration::from_millis(ms), ..job(ticket, 1, 10, now) }], now).is_ok()
            );
        }
        q.learn(10, Duration::from_millis(40));
        assert_eq!(tickets(q.next(now)), (vec![2], vec![0, 1]));
        assert!(q.push(vec![Job { deadline: now + Duration::from_millis(1), ..job(3, 1, 10, now) }], now).is_ok());
        assert_eq!(tickets(q.next(now)), (vec![3], vec![]));
    }

    #[test]
    fn full_counts_requests_and_removal_takes_all_parts() {
        let now = Instant::now();
        let mut q = queue(0, true);
        for ticket in 0..8 {
            let parts = (0..3).map(|i| Job { last: i == 2, ..job(ticket, 1, 1, now) }).collect();
            assert!(q.push(parts, now).is_ok());
        }
        assert!(q.push(vec![job(9, 1, 1, now)], now).is_err());
        q.remove(3);
        q.remove(3);
        assert_eq!(q.depth(), 7);
        assert_eq!(tickets(q.next(now)).0, [0, 0, 0, 1]);
        q.remove(1);
        assert_eq!(tickets(q.next(now)).0, [2, 2, 2, 4]);
        assert_eq!(q.depth(), 4);
        assert!(q.push(vec![job(10, 1, 1, now)], now).is_ok());
    }

    #[test]
    fn what_cannot_be_in_time_is_refused_at_once_but_an_empty_queue_admits_everything() {
        let now = Instant::now();
        let mut q = queue(0, true);
        q.learn(10, Duration::from_secs(1));
        assert!(q.push(vec![job(0, 1, 100, now)], now).is_ok(), "an empty queue");
        let far = |ticket| Job { deadline: now + Duration::from_secs(15), ..job(ticket, 1, 30, now) };
        assert!(q.push(vec![far(1)], now).is_ok());
        let late = q.push(vec![far(2)], now).unwrap_err();
        assert!(matches!(late, Full::Time(t) if t.as_millis().abs_diff(1000) < 10), "{late:?}");
        q.shared_by(2);
        assert!(q.push(vec![far(2)], now).is_ok(), "two instances take half the time");
        q.remove(1);
        q.remove(2);
        assert_eq!(q.load.units, 100);
        assert_eq!(tickets(q.next(now)).0, [0]);
        assert_eq!((q.load.units, q.running.units), (0, 100));
        assert!(q.push(vec![far(4)], now).is_ok(), "an empty queue");
        assert!(q.push(vec![far(5)], now).is_ok());
        q.shared_by(1);
        assert!(q.push(vec![far(6)], now).is_err(), "what runs counts as well");
        q.is_done([job(0, 1, 100, now).cost].into_iter());
        assert!(q.push(vec![far(6)], now).is_ok());
    }
}
