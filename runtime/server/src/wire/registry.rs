//! All connections of a listener: what each is doing, and who makes room when there is none.
//!
//! Who is closed is decided by progress alone, never by address: the incomplete request whose bytes came slowest since it
//! began, else the connection that has been idle longest, else one whose client does not read its answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use super::budget::{Budget, Class, Reserved, SHARE};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Doing {
    /// Nothing of a request has arrived.
    Idle,
    Head,
    Body,
    /// The request is here; its answer is not.
    Answering,
    Writing,
}

/// Why a connection is to end before its request was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// The server was full, and this one was the slowest or the oldest idle one.
    Room = 1,
    TooSlow,
    Stopping,
}

/// Times shorter than this do not make a rate.
const LEAST_US: u64 = 10_000;

/// For so many µs a request may be incomplete without having to make room for another connection.
const BEGINNING: u64 = 50_000;

/// A client that takes nothing of its answer for so long may be left when the server stops or is full.
const STALLED: Duration = Duration::from_secs(2);

pub struct Entry {
    id: u64,
    doing: AtomicU8,
    /// When it began to do so (a body: when its head began), in µs since the registry's start.
    since: AtomicU64,
    /// Of the present request.
    bytes: AtomicU64,
    held: AtomicUsize,
    large: AtomicBool,
    bulky: AtomicBool,
    verdict: AtomicU8,
    waker: AtomicWaker,
    registry: Arc<Registry>,
}

pub struct Registry {
    start: Instant,
    next_id: AtomicU64,
    entries: Mutex<HashMap<u64, Arc<Entry>>>,
    closing: AtomicBool,
    /// Connections that were told to make room and have not yet.
    leaving: AtomicUsize,
    evicted: AtomicU64,
    pub budget: Arc<Budget>,
}

impl Registry {
    pub fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Registry {
            start: Instant::now(),
            next_id: AtomicU64::new(0),
            entries: Mutex::default(),
            closing: AtomicBool::new(false),
            leaving: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            budget,
        })
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn enter(self: &Arc<Self>) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            doing: AtomicU8::new(Doing::Idle as u8),
            since: AtomicU64::new(self.now_us()),
            bytes: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            large: AtomicBool::new(false),
            bulky: AtomicBool::new(false),
            verdict: AtomicU8::new(0),
            waker: AtomicWaker::new(),
            registry: Arc::clone(self),
        });
        self.lock().insert(entry.id, Arc::clone(&entry));
        entry
    }

    pub fn connections(&self) -> usize {
        self.lock().len()
    }

    /// Connections that were closed to make room, so far.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Whether the listener is closed: what is idle ends, what is complete is answered.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.lock().values().for_each(|entry| entry.waker.wake());
    }

    /// Ends every request that is not complete, and answers that nobody reads.
    pub fn cut(&self) {
        let now = self.now_us();
        for entry in self.lock().values() {
            match entry.doing() {
                Doing::Head | Doing::Body => entry.judge(Verdict::Stopping),
                Doing::Writing if entry.stalled(now) => entry.judge(Verdict::Stopping),
                _ => entry.waker.wake(),
            }
        }
    }

    /// Ends requests that began longer than `limit` ago and are still not complete, and answers of which nothing was taken
    /// for so long; where their memory is `short`, sooner.
    pub fn sweep(&self, limit: Duration, short: bool) {
        let now = self.now_us();
        let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        for entry in self.lock().values() {
            let late = match entry.doing() {
                Doing::Head | Doing::Body => entry.age(now) > limit,
                Doing::Writing => entry.age(now) > limit || short && entry.stalled(now),
                Doing::Idle | Doing::Answering => false,
            };
            if late {
                entry.judge(Verdict::TooSlow);
            }
        }
    }

    /// Tells one connection to go, so that another finds a slot. False: all are being answered.
    pub fn make_slot(&self) -> bool {
        let now = self.now_us();
        let entries = self.lock();
        let open = || entries.values().filter(|e| e.verdict().is_none());
        // What has only just begun is most likely whole in a moment.
        let slowest = open().filter(|e| e.is_incomplete() && e.age(now) >= BEGINNING).min_by_key(|e| e.rate(now));
        let oldest = || open().filter(|e| e.doing() == Doing::Idle).min_by_key(|e| e.since.load(Ordering::Relaxed));
        let stalled = || open().filter(|e| e.stalled(now)).min_by_key(|e| e.since.load(Ordering::Relaxed));
        self.send_away(slowest.or_else(oldest).or_else(stalled))
    }

    /// Tells the slowest incomplete request that holds memory of this class to go, unless one is on its way already.
    fn make_room(&self, class: Class) {
        if self.leaving.load(Ordering::Acquire) > 0 {
            return;
        }
        let now = self.now_us();
        let entries = self.lock();
        let holds = |e: &&Arc<Entry>| e.held.load(Ordering::Relaxed) > 0 && e.class() == class;
        let open = entries.values().filter(|e| e.verdict().is_none() && e.is_incomplete());
        self.send_away(open.filter(holds).min_by_key(|e| e.rate(now)));
    }

    fn send_away(&self, victim: Option<&Arc<Entry>>) -> bool {
        let Some(victim) = victim else { return false };
        self.evicted.fetch_add(1, Ordering::Relaxed);
        self.leaving.fetch_add(1, Ordering::AcqRel);
        victim.judge(Verdict::Room);
        true
    }
}

impl Entry {
    pub fn doing(&self) -> Doing {
        match self.doing.load(Ordering::Acquire) {
            0 => Doing::Idle,
            1 => Doing::Head,
            2 => Doing::Body,
            3 => Doing::Answering,
            _ => Doing::Writing,
        }
    }

    pub fn verdict(&self) -> Option<Verdict> {
        match self.verdict.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Verdict::Room),
            2 => Some(Verdict::TooSlow),
            _ => Some(Verdict::Stopping),
        }
    }

    pub fn is_closing(&self) -> bool {
        self.registry.is_closing()
    }

    fn judge(&self, verdict: Verdict) {
        // The first verdict stays: it was counted.
        let _ = self.verdict.compare_exchange(0, verdict as u8, Ordering::AcqRel, Ordering::Acquire);
        self.waker.wake();
    }

    /// Takes back a verdict on an idle connection that turned out not to be idle.
    pub fn reprieve(&self) {
        if self.verdict.swap(0, Ordering::AcqRel) == Verdict::Room as u8 {
            self.registry.leaving.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn is_incomplete(&self) -> bool {
        matches!(self.doing(), Doing::Head | Doing::Body)
    }

    /// Bytes of the present request that have come, and of what came in one piece with it.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn stalled(&self, now: u64) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        self.doing() == Doing::Writing && now.saturating_sub(since) > STALLED.as_micros() as u64
    }

    /// Since it began what it is doing, in µs.
    fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.since.load(Ordering::Relaxed))
    }

    /// Bytes a second since the request began.
    fn rate(&self, now: u64) -> u64 {
        let elapsed = self.age(now).max(LEAST_US);
        self.bytes.load(Ordering::Relaxed).saturating_mul(1_000_000) / elapsed
    }

    fn class(&self) -> Class {
        if self.large.load(Ordering::Relaxed) { Class::Large } else { Class::Small }
    }

    /// Whether so much is read or written that others should not have to wait for it: from where a request turns out to
    /// be large, or what is left of a refused one is read, until its answer has gone.
    pub fn is_bulky(&self) -> bool {
        self.bulky.load(Ordering::Relaxed)
    }

    pub fn is_bulky_now(&self) {
        self.bulky.store(true, Ordering::Relaxed);
    }

    fn begin(&self, doing: Doing) {
        self.since.store(self.registry.now_us(), Ordering::Relaxed);
        self.doing.store(doing as u8, Ordering::Release);
    }

    /// The task to wake when there is a verdict, or the listener closes.
    pub fn listens(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Ends when the place is needed, or the server stops.
    pub async fn is_unwanted(&self) {
        std::future::poll_fn(|cx| {
            self.listens(cx.waker());
            let unwanted = self.is_closing() || matches!(self.verdict(), Some(Verdict::Room | Verdict::Stopping));
            if unwanted { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// How many bytes may be read now; 0: none before memory is released, at which `waker` is woken.
    pub fn may_read(&self, waker: &Waker) -> usize {
        let (budget, held) = (&self.registry.budget, self.held.load(Ordering::Relaxed));
        loop {
            let small = !self.large.load(Ordering::Relaxed);
            if small && held >= SHARE && budget.reserve(Class::Large, held) {
                self.large.store(true, Ordering::Relaxed);
                self.is_bulky_now();
                budget.release(Class::Small, held);
                continue;
            }
            let (class, most) = match small {
                true if held < SHARE => (Class::Small, SHARE - held),
                _ => (Class::Large, usize::MAX),
            };
            if !(small && class == Class::Large) && budget.has_room(class, 1) {
                return most;
            }
            budget.wake_on_release(waker);
            // Between the look and the registration there may have been a release that woke nobody.
            if budget.has_room(class, if small && class == Class::Large { held } else { 1 }) {
                continue;
            }
            self.registry.make_room(class);
            return 0;
        }
    }

    /// So many bytes came. What comes while an answer is due is the next request's, and bounded by the read buffer.
    pub fn arrived(&self, bytes: usize) {
        match self.doing() {
            Doing::Idle => self.begin(Doing::Head),
            Doing::Answering | Doing::Writing => return,
            Doing::Head | Doing::Body => {}
        }
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.registry.budget.used_more(self.class(), bytes);
    }

    /// The head is complete.
    pub fn head_is_read(&self) {
        if self.doing() == Doing::Idle {
            // It came in one piece with the request before it.
            self.since.store(self.registry.now_us(), Ordering::Relaxed);
        }
        self.doing.store(Doing::Body as u8, Ordering::Release);
    }

    /// The body is complete: what it takes is the caller's from now on.
    pub fn body_is_read(&self) -> Reserved {
        self.doing.store(Doing::Answering as u8, Ordering::Release);
        let reserved = Reserved {
            budget: Arc::clone(&self.registry.budget),
            class: self.class(),
            bytes: self.held.swap(0, Ordering::AcqRel),
        };
        self.large.store(false, Ordering::Relaxed);
        reserved
    }

    /// The answer is there and about to be written.
    pub fn is_answered(&self) {
        drop(self.body_is_read());
        self.bytes.store(0, Ordering::Relaxed);
        self.begin(Doing::Writing);
    }

    /// Everything that was to be written is.
    pub fn is_flushed(&self) {
        if self.doing() == Doing::Writing {
            self.bulky.store(false, Ordering::Relaxed);
            self.begin(Doing::Idle);
        }
    }

    /// Part of an answer was taken.
    pub fn moved(&self) {
        if self.doing() == Doing::Writing {
            self.since.store(self.registry.now_us(), Ordering::Relaxed);
        }
    }

    /// The connection is gone.
    pub fn leave(&self) {
        self.registry.lock().remove(&self.id);
        self.reprieve();
        drop(self.body_is_read());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::budget::BODIES;

    fn registry() -> Arc<Registry> {
        Registry::new(Budget::new(1 << 20))
    }

    fn aged(entry: &Entry, us: u64) {
        entry.since.fetch_sub(us.min(entry.since.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    #[test]
    fn the_slowest_incomplete_goes_first_then_the_oldest_idle_and_never_one_that_is_being_answered() {
        let registry = registry();
        std::thread::sleep(Duration::from_millis(120));
        let (quick, slow, idle, older, busy) =
            (registry.enter(), registry.enter(), registry.enter(), registry.enter(), registry.enter());
        quick.arrived(10_000);
        slow.arrived(5_000);
        slow.head_is_read();
        let fresh = registry.enter();
        fresh.arrived(1);
        fresh.since.fetch_add(60_000_000, Ordering::Relaxed); // however long this test takes
        aged(&quick, 100_000);
        aged(&slow, 100_000);
        aged(&older, 50_000);
        busy.arrived(1);
        drop(busy.body_is_read());
        for next in [&slow, &quick, &older, &idle] {
            assert!(next.verdict().is_none());
            assert!(registry.make_slot());
            assert_eq!(next.verdict(), Some(Verdict::Room));
        }
        assert!(!registry.make_slot());
        assert_eq!(fresh.verdict(), None, "it has only just begun");
        assert_eq!(busy.verdict(), None);
        assert_eq!(registry.evicted(), 4);
    }

    #[test]
    fn an_answer_that_nobody_takes_is_ended_and_sooner_where_memory_is_short() {
        let (mut registry, limit) = (registry(), Duration::from_secs(20));
        Arc::get_mut(&mut registry).unwrap().start -= Duration::from_secs(60);
        let (stalled, moving, idle) = (registry.enter(), registry.enter(), registry.enter());
        for entry in [&stalled, &moving] {
            entry.is_answered();
        }
        for entry in [&stalled, &moving, &idle] {
            aged(entry, 3_000_000);
        }
        moving.moved();
        registry.sweep(limit, false);
        assert_eq!(stalled.verdict(), None);
        registry.sweep(limit, true);
        assert_eq!([&stalled, &moving, &idle].map(|e| e.verdict()), [Some(Verdict::TooSlow), None, None]);
        aged(&moving, 21_000_000);
        registry.sweep(limit, false);
        assert_eq!(moving.verdict(), Some(Verdict::TooSlow));
    }

    #[test]
    fn memory_counts_as_it_arrives_and_small_requests_stay_small() {
        let registry = registry();
        let (entry, waker) = (registry.enter(), Waker::noop());
        assert_eq!(entry.may_read(waker), SHARE);
        entry.arrived(SHARE);
        assert_eq!(registry.budget.used(), SHARE);
        assert_eq!(entry.may_read(waker), usize::MAX);
        entry.arrived(1000);
        assert_eq!((entry.class(), registry.budget.used()), (Class::Large, SHARE + 1000));
        let reserved = entry.body_is_read();
        entry.is_answered();
        assert_eq!((reserved.bytes, registry.budget.used()), (SHARE + 1000, SHARE + 1000));
        drop(reserved);
        assert_eq!(registry.budget.used(), 0);
    }

    #[test]
    fn a_full_budget_sends_the_slowest_holder_away_and_wakes_who_waits() {
        let registry = registry();
        let waker = Waker::noop();
        let holders: Vec<_> = (0..BODIES).map(|_| registry.enter()).collect();
        for (index, entry) in holders.iter().enumerate() {
            entry.arrived(SHARE);
            assert!(entry.may_read(waker) > 0);
            entry.arrived((1 << 20) - SHARE - index);
        }
        holders[0].arrived((0..BODIES).sum());
        assert_eq!(holders[0].may_read(waker), 0);
        let gone: Vec<_> = holders.iter().filter(|e| e.verdict().is_some()).collect();
        assert_eq!(gone.len(), 1);
        assert_eq!(holders[1].may_read(waker), 0);
        assert_eq!(holders.iter().filter(|e| e.verdict().is_some()).count(), 1, "one leaves at a time");
        gone[0].leave();
        assert!(holders.iter().any(|e| e.verdict().is_none() && e.may_read(waker) > 0));
        // A small one is not concerned.
        assert_eq!(registry.enter().may_read(waker), SHARE);
    }
}
