//! Memory for what clients send: counted as it arrives, in two classes.
//!
//! **Invariant**: what connections have sent of requests that are not answered yet takes at most [`Budget::most`] bytes, and
//! what a large request takes can never be what a small one needs: a request is small up to [`SHARE`] bytes, head and
//! body together, and has room in the small class; beyond that all of it counts in the large one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// A body of 64 KiB and its head.
pub const SHARE: usize = 80 << 10;

/// Bytes of small requests together: 256 of the largest of them at once.
const SMALL: usize = 256 * SHARE;

/// Large requests together may take this many times the largest single body.
pub const BODIES: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Small,
    Large,
}

pub struct Budget {
    used: [AtomicUsize; 2],
    most: [usize; 2],
    waiting: AtomicUsize,
    waiters: Mutex<Vec<Waker>>,
}

impl Budget {
    pub fn new(max_body_bytes: usize) -> Arc<Self> {
        Arc::new(Budget {
            used: Default::default(),
            most: shares(max_body_bytes),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::default(),
        })
    }

    /// Bytes of both classes together.
    pub fn most(&self) -> usize {
        self.most[0].saturating_add(self.most[1])
    }

    pub fn used(&self) -> usize {
        self.used.iter().map(|u| u.load(Ordering::Relaxed)).sum()
    }

    pub fn has_room(&self, class: Class, bytes: usize) -> bool {
        self.used[class as usize].load(Ordering::Acquire).saturating_add(bytes) <= self.most[class as usize]
    }

    /// Takes room, if it is there. Where it is not, nothing changes and nobody is woken: those that wait for room try in
    /// turn, and each that failed would wake all others for ever.
    pub fn reserve(&self, class: Class, bytes: usize) -> bool {
        let most = self.most[class as usize];
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= most);
        self.used[class as usize].fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Whether there would be room if nothing else were held.
    pub fn could_hold(&self, class: Class, bytes: usize) -> bool {
        bytes <= self.most[class as usize]
    }

    /// Like [`Budget::reserve`], until the result is dropped.
    pub fn hold(self: &Arc<Self>, class: Class, bytes: usize) -> Option<Reserved> {
        self.reserve(class, bytes).then(|| Reserved { budget: Arc::clone(self), class, bytes })
    }

    /// Counts what has arrived. One read beyond the bound is possible for each thread that reads at this moment.
    pub fn used_more(&self, class: Class, bytes: usize) {
        self.used[class as usize].fetch_add(bytes, Ordering::AcqRel);
    }

    pub fn release(&self, class: Class, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.used[class as usize].fetch_sub(bytes, Ordering::AcqRel);
        if self.waiting.load(Ordering::Acquire) > 0 {
            let waiters = std::mem::take(&mut *self.waiters.lock().unwrap_or_else(PoisonError::into_inner));
            self.waiting.store(0, Ordering::Release);
            waiters.into_iter().for_each(Waker::wake);
        }
    }

    /// Wakes `waker` at the next release.
    pub fn wake_on_release(&self, waker: &Waker) {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner).push(waker.clone());
        self.waiting.fetch_add(1, Ordering::AcqRel);
    }
}

/// Bytes of small requests together, and of large ones.
pub fn shares(max_body_bytes: usize) -> [usize; 2] {
    [SMALL, max_body_bytes.saturating_mul(BODIES).max(BODIES * SHARE)]
}

/// Room that a whole request takes until this is dropped.
pub struct Reserved {
    pub budget: Arc<Budget>,
    pub class: Class,
    pub bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.release(self.class, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Woken(AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_release_wakes_who_waits_and_a_reservation_that_fails_does_not() {
        let budget = Budget::new(1 << 20);
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        assert!(budget.reserve(Class::Large, BODIES << 20));
        budget.wake_on_release(&Arc::clone(&woken).into());
        assert!(!budget.reserve(Class::Large, SHARE));
        assert_eq!((budget.used(), woken.0.load(Ordering::Relaxed)), (BODIES << 20, 0));
        budget.release(Class::Large, 1);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn large_requests_cannot_take_what_small_ones_need() {
        let budget = Budget::new(1 << 20);
        assert!(budget.reserve(Class::Large, BODIES << 20));
        assert!(!budget.reserve(Class::Large, 1));
        assert!(budget.reserve(Class::Small, SHARE));
        let held = Reserved { budget: Arc::clone(&budget), class: Class::Large, bytes: BODIES << 20 };
        assert!(budget.used() <= budget.most());
        drop(held);
        assert_eq!(budget.used(), SHARE);
        assert!(budget.reserve(Class::Large, 1));
    }
}
