//! Rows about tasks that wait: their memory, and how punctually sleepers wake. Read beside
//! bench/weft_parked_rows.cc.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::wait_group::WaitGroup;
use crate::Config;

/// VmRSS + VmPTE of this process in bytes.
fn resident_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kib = |line: &str| -> i64 {
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    };
    let counts = |line: &&str| line.starts_with("VmRSS:") || line.starts_with("VmPTE:");
    status.lines().filter(counts).map(kib).sum::<i64>() * 1024
}

pub async fn idle(c: Config) {
    let (gate, parked_at) = async_channel::bounded::<()>(1);
    let arrived = Arc::new(AtomicUsize::new(0));
    let done = WaitGroup::new(c.n);
    let before = resident_bytes();
    for _ in 0..c.n {
        let (parked_at, arrived, done) = (parked_at.clone(), arrived.clone(), done.clone());
        tokio::spawn(async move {
            arrived.fetch_add(1, Ordering::Relaxed);
            let _ = parked_at.recv().await; // an error: the gate was closed
            done.done();
        });
    }
    while arrived.load(Ordering::Relaxed) != c.n {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_millis(100)).await;
    let after = resident_bytes();
    c.print_prefix();
    println!("bytes_per_task={:.0}", (after - before) as f64 / c.n as f64);
    gate.close();
    done.wait().await;
}

pub async fn sleepers(c: Config) {
    let late: Arc<Vec<AtomicU64>> = Arc::new((0..c.n).map(|_| AtomicU64::new(0)).collect());
    let done = WaitGroup::new(c.n);
    for i in 0..c.n {
        let (late, done) = (late.clone(), done.clone());
        tokio::spawn(async move {
            let d = Duration::from_millis((100 + i * 7919 % 900) as u64);
            let start = Instant::now();
            sleep(d).await;
            // A sleeper that woke early would wrap round to centuries.
            let ns = (start.elapsed().as_nanos() as u64).wrapping_sub(d.as_nanos() as u64);
            late[i].store(ns, Ordering::Relaxed);
            done.done();
        });
    }
    done.wait().await;
    let mut late: Vec<u64> = late.iter().map(|ns| ns.load(Ordering::Relaxed)).collect();
    late.sort_unstable();
    let at = |index: usize| late[index] as f64 / 1e6;
    if at(c.n - 1) > 1e9 {
        c.fail("a task woke before its time");
    }
    c.print_prefix();
    println!(
        "late_p50_ms={:.3} late_p99_ms={:.3} late_max_ms={:.3}",
        at(c.n / 2),
        at(c.n * 99 / 100),
        at(c.n - 1)
    );
}

pub async fn sleep_all(c: Config) {
    let done = WaitGroup::new(c.n);
    let start = Instant::now();
    for _ in 0..c.n {
        let done = done.clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            done.done();
        });
    }
    done.wait().await;
    c.print_ns_per_op(start, c.n);
}
