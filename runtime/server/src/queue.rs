//! The queue of one model: pure state, no threads, no clock. [`crate::scheduler`] is its one owner.
//!
//! Requests of one part are taken in the order in which they came. A request of many has its first part's *turn* when it
//! comes, and each further one's later, the more of itself stands before it: who asks for little overtakes the rest of who
//! asks for much. By that no part moves further than half of the time that its request can spare.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::check_inputs::{Cost, Load};
use crate::engine::Limits;
use crate::pace::Pace;

/// How much later than its request came a part has its turn, in multiples of the time that the parts before it take.
const YIELDS: u32 = 16;

/// One part of an accepted request: what one slot of a batch runs.
pub struct Job<T> {
    /// The accepted request that this is a part of.
    pub ticket: u64,
    pub cost: Cost,
    pub queued: Instant,
    pub deadline: Instant,
    pub payload: T,
}

/// A job that waits.
struct Part<T> {
    turn: Instant,
    /// Its request's parts before it, those that are taken too.
    before: Load,
    job: Job<T>,
}

pub struct Queue<T> {
    /// The waiting parts of each request, by its ticket; none is empty.
    requests: HashMap<u64, VecDeque<Part<T>>>,
    /// The turn of each request's next part, and its ticket.
    order: BTreeSet<(Instant, u64)>,
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
        Queue {
            requests: HashMap::new(),
            order: BTreeSet::new(),
            capacity,
            wait,
            limits,
            merge,
            pace: Pace::default(),
            load: Load::default(),
            running: Load::default(),
            instances: 1,
        }
    }

    /// How many instances take batches at the same time.
    pub fn shared_by(&mut self, instances: usize) {
        self.instances = instances.max(1);
    }

    /// Adds all parts of a request; none where the queue is full, or what runs, what has its turn before the request's last
    /// part and the request itself take longer than the request may. An empty queue admits everything, so that a wrong pace
    /// is always corrected.
    pub fn push(&mut self, jobs: Vec<Job<T>>, now: Instant) -> Result<(), Full> {
        let Some((ticket, deadline)) = jobs.first().map(|job| (job.ticket, job.deadline)) else { return Ok(()) };
        if self.requests.len() >= self.capacity {
            return Err(Full::Requests(self.time(self.load.and(self.running))));
        }
        let left = deadline.saturating_duration_since(now);
        let mut own = Load::default();
        jobs.iter().for_each(|job| own.add(job.cost));
        let spare = left.saturating_sub(self.time(own)) / 2;
        let mut before = Load::default();
        let parts = jobs.into_iter().map(|job| {
            let part = Part { turn: now + self.time(before).saturating_mul(YIELDS).min(spare), before, job };
            before.add(part.job.cost);
            part
        });
        let parts: VecDeque<Part<T>> = parts.collect();
        let (Some(first), Some(last)) = (parts.front(), parts.back()) else { return Ok(()) };
        let takes = |waits: Load| self.time(waits.and(self.running).and(own));
        if !self.order.is_empty() && takes(self.load) > left {
            let takes = takes(self.until(last.turn));
            if takes > left {
                return Err(Full::Time(takes - left));
            }
        }
        self.load = self.load.and(own);
        self.order.insert((first.turn, ticket));
        self.requests.insert(ticket, parts);
        Ok(())
    }

    /// What waits and has its turn no later than `time`.
    fn until(&self, time: Instant) -> Load {
        let mut sum = Load::default();
        for (_, ticket) in self.order.range(..=(time, u64::MAX)) {
            let Some(parts) = self.requests.get(ticket) else { continue };
            let count = parts.partition_point(|part| part.turn <= time);
            if let (Some(first), Some(last)) = (parts.front(), parts.get(count.saturating_sub(1))) {
                sum = sum.and(last.before.without(first.before));
                sum.add(last.job.cost);
            }
        }
        sum
    }

    /// Takes out what still waits of a request.
    pub fn remove(&mut self, ticket: u64) {
        let Some(parts) = self.requests.remove(&ticket) else { return };
        if let Some(first) = parts.front() {
            self.order.remove(&(first.turn, ticket));
        }
        parts.iter().for_each(|part| self.load.remove(part.job.cost));
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

    /// The next batch in order of turns, within the limits on requests, rows and tokens.
    pub fn next(&mut self, now: Instant) -> Next<T> {
        let mut expired = Vec::new();
        while self.first().is_some_and(|job| self.is_hopeless(job, now)) {
            expired.extend(self.pop().map(|part| part.job));
        }
        let most = if self.merge { self.limits.requests } else { 1 };
        let mut parts: Vec<Part<T>> = Vec::new();
        let mut load = Load::default();
        let (mut left, mut queued) = (Duration::MAX, now);
        let mut full = false;
        while let Some(job) = self.first()
            && parts.len() < most
        {
            if job.deadline <= now {
                expired.extend(self.pop().map(|part| part.job));
                continue;
            }
            let (mut with, least) = (load, left.min(job.deadline - now));
            with.add(job.cost);
            let late = self.pace.time(1.0, with.units) > least;
            full = !parts.is_empty() && (with.rows > self.limits.rows || with.tokens > self.limits.tokens || late);
            if full {
                break;
            }
            (load, left, queued) = (with, least, queued.min(job.queued));
            parts.extend(self.pop());
        }
        full |= parts.len() == most || load.rows >= self.limits.rows;
        let ripe = queued + self.wait;
        if parts.is_empty() && expired.is_empty() {
            return Next::Empty;
        }
        if ripe > now && !full && expired.is_empty() {
            parts.into_iter().rev().for_each(|part| self.put_back(part));
            return Next::At(ripe.min(now + left));
        }
        self.running = self.running.and(load);
        Next::Batch { jobs: parts.into_iter().map(|part| part.job).collect(), expired }
    }

    /// Whether a job's time is over, or will be before its answer while others wait.
    fn is_hopeless(&self, job: &Job<T>, now: Instant) -> bool {
        let left = job.deadline.saturating_duration_since(now);
        left.is_zero() || (self.load.requests > 1 && self.pace.time(1.0, job.cost.units()) > left)
    }

    /// The job whose turn is next.
    fn first(&self) -> Option<&Job<T>> {
        let (_, ticket) = self.order.first()?;
        Some(&self.requests.get(ticket)?.front()?.job)
    }

    fn pop(&mut self) -> Option<Part<T>> {
        let (_, ticket) = self.order.pop_first()?;
        let parts = self.requests.get_mut(&ticket)?;
        let part = parts.pop_front()?;
        match parts.front() {
            Some(next) => drop(self.order.insert((next.turn, ticket))),
            None => drop(self.requests.remove(&ticket)),
        }
        self.load.remove(part.job.cost);
        Some(part)
    }

    /// The part that was taken last of its request waits again.
    fn put_back(&mut self, part: Part<T>) {
        let (turn, ticket) = (part.turn, part.job.ticket);
        self.load.add(part.job.cost);
        let parts = self.requests.entry(ticket).or_default();
        if let Some(next) = parts.front() {
            self.order.remove(&(next.turn, ticket));
        }
        parts.push_front(part);
        self.order.insert((turn, ticket));
    }

    /// Waiting requests.
    pub fn depth(&self) -> usize {
        self.requests.len()
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
        Job { ticket, cost, queued: now, deadline: now + Duration::from_secs(1), payload: ticket }
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
            let parts = (0..3).map(|_| job(ticket, 1, 1, now)).collect();
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
    fn many(ticket: u64, parts: usize, now: Instant, seconds: u64) -> Vec<Job<u64>> {
        let deadline = now + Duration::from_secs(seconds);
        (0..parts).map(|_| Job { deadline, ..job(ticket, 1, 10, now) }).collect()
    }

    /// Of batches with so many units.
    fn with_pace(q: &mut Queue<u64>, ms_a_unit: u64) {
        q.learn(10, Duration::from_millis(10 * ms_a_unit));
    }

    #[test]
    fn who_asks_for_little_overtakes_the_rest_of_who_asks_for_much() {
        let now = Instant::now();
        let mut q = queue(0, true);
        with_pace(&mut q, 1);
        for ticket in 0..3 {
            assert!(q.push(many(ticket, 50, now, 60), now).is_ok());
        }
        let later = now + Duration::from_millis(1);
        assert!(q.push(many(3, 1, later, 60), later).is_ok());
        assert_eq!(tickets(q.next(later)).0, [0, 1, 2, 3]);
        assert_eq!(tickets(q.next(later)).0, [0, 1, 2, 0]);
        // The fourth part of each has its turn after 16 times 30 ms.
        let (before, after) = (now + Duration::from_millis(479), now + Duration::from_millis(481));
        assert!(q.push(many(4, 1, after, 60), after).is_ok());
        assert!(q.push(many(5, 1, before, 60), before).is_ok());
        assert_eq!(tickets(q.next(after)).0, [1, 2, 5, 0]);
        assert_eq!(tickets(q.next(after)).0, [1, 2, 4, 0]);
    }

    #[test]
    fn no_part_is_moved_beyond_half_of_what_its_request_can_spare() {
        let now = Instant::now();
        let mut q = queue(0, true);
        with_pace(&mut q, 1);
        assert!(q.push(many(0, 20, now, 1), now).is_ok()); // takes 200 ms of 1 s
        let (before, after) = (now + Duration::from_millis(399), now + Duration::from_millis(401));
        assert!(q.push(many(1, 1, after, 60), after).is_ok());
        assert!(q.push(many(2, 1, before, 60), before).is_ok());
        let order: Vec<u64> = (0..6).flat_map(|_| tickets(q.next(after)).0).collect();
        let at = |ticket| order.iter().position(|t| *t == ticket).unwrap();
        assert_eq!((at(2), at(1), order.len()), (3, 21, 22));
    }

    #[test]
    fn what_one_waits_for_is_what_has_its_turn_before() {
        let now = Instant::now();
        let mut q = queue(0, true);
        with_pace(&mut q, 1);
        for ticket in 0..5 {
            assert!(q.push(many(ticket, 100, now, 60), now).is_ok()); // 1 s each
        }
        let late = q.push(many(9, 100, now, 1), now).unwrap_err();
        assert!(matches!(late, Full::Time(t) if t.as_millis() == 50), "{late:?}");
        assert!(q.push(many(5, 1, now, 1), now).is_ok(), "before it have their turn five parts of 500");
        assert_eq!(q.until(now).units, 60);
        assert_eq!(q.until(now + Duration::from_millis(160)).units, 110);
        assert_eq!(q.until(now + Duration::from_secs(60)), q.load);
        assert_eq!(tickets(q.next(now)).0, [0, 1, 2, 3]);
        assert_eq!(q.until(now).units, 20);
        q.remove(2);
        assert_eq!((q.load.units, q.depth()), (5010 - 40 - 990, 5));
    }

    #[test]
    fn what_is_not_ripe_waits_in_the_order_that_it_had() {
        let now = Instant::now();
        let mut q = queue(5, true);
        with_pace(&mut q, 1);
        assert!(q.push(many(0, 2, now, 60), now).is_ok());
        assert!(q.push(many(1, 1, now, 60), now).is_ok());
        let load = q.load;
        assert!(matches!(q.next(now), Next::At(t) if t == now + Duration::from_millis(5)));
        assert_eq!((q.load, q.depth(), q.running), (load, 2, Load::default()));
        assert_eq!(tickets(q.next(now + Duration::from_millis(5))).0, [0, 1, 0]);
        assert_eq!((q.load, q.depth()), (Load::default(), 0));
    }
}
