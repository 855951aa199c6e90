//! Threads for parsing and tokenizing what is not small, beside those of connections and of the model.
//!
//! **Invariant**: what a request may hold up is bounded. At most [`WAITING`] pieces of work are admitted; one whose deadline
//! passes while it waits is never begun; one that runs past it is answered at the deadline, and its thread, which holds
//! the body's memory, finishes by itself.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;

use crate::refusal::{Reason, Refusal};

/// Pieces of work that run or wait.
const WAITING: usize = 64;

pub struct Pool {
    admitted: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl Pool {
    pub fn new(threads: usize) -> Self {
        Pool {
            admitted: Arc::new(Semaphore::new(WAITING.max(threads))),
            running: Arc::new(Semaphore::new(threads.max(1))),
        }
    }

    /// Half the cores: the model needs the others.
    pub fn threads(cores: usize) -> usize {
        (cores / 2).max(1)
    }

    /// Runs `work` before `due`: 429 where too much waits already, 504 at the deadline. `held` is kept until `work` ends.
    pub async fn run<T: Send + 'static>(
        &self,
        due: Instant,
        held: impl Send + 'static,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let Ok(admitted) = Arc::clone(&self.admitted).try_acquire_owned() else {
            return Err(Refusal::new(Reason::Busy, format!("{WAITING} requests wait to be read already")));
        };
        let late = || Refusal::new(Reason::Deadline, "the deadline passed before the request was read");
        let turn = tokio::time::timeout_at(due.into(), Arc::clone(&self.running).acquire_owned()).await;
        let turn = turn.map_err(|_| late())?.map_err(|_| Refusal::internal())?;
        let running = tokio::task::spawn_blocking(move || {
            let _until_done = (admitted, turn, held);
            work()
        });
        match tokio::time::timeout_at(due.into(), running).await {
            Err(_) => Err(late()),
            Ok(result) => result.unwrap_or_else(|_| Err(Refusal::internal())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn slow_work_is_answered_at_its_deadline_and_what_waits_behind_it_too() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let pool = Pool::new(1);
        let due = || Instant::now() + Duration::from_millis(30);
        let slow = || {
            std::thread::sleep(Duration::from_millis(400));
            Ok(1)
        };
        let begin = Instant::now();
        let first = runtime.block_on(pool.run(due(), (), slow));
        let second = runtime.block_on(pool.run(due(), (), || -> Result<i32, Refusal> { panic!("never begun") }));
        assert!(begin.elapsed() < Duration::from_millis(400));
        assert_eq!([first.unwrap_err().reason, second.unwrap_err().reason], [Reason::Deadline; 2]);
        let later = Instant::now() + Duration::from_secs(20);
        assert_eq!(runtime.block_on(pool.run(later, (), || Ok(2))).unwrap(), 2);
        let all = pool.admitted.try_acquire_many(WAITING as u32).unwrap();
        assert_eq!(runtime.block_on(pool.run(later, (), || Ok(3))).unwrap_err().reason, Reason::Busy);
        drop(all);
    }
}
