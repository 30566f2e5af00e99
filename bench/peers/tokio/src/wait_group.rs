//! A wait group, which tokio has no type for: a counter whose last `done` wakes the waiter.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use tokio::sync::Notify;

struct Shared {
    count: AtomicUsize,
    all_done: Notify,
}

#[derive(Clone)]
pub struct WaitGroup(Arc<Shared>);

impl WaitGroup {
    pub fn new(count: usize) -> Self {
        WaitGroup(Arc::new(Shared { count: AtomicUsize::new(count), all_done: Notify::new() }))
    }

    pub fn done(&self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Leaves a permit if wait() has not been called yet.
            self.0.all_done.notify_one();
        }
    }

    /// To be awaited once.
    pub async fn wait(&self) {
        self.0.all_done.notified().await;
    }
}
