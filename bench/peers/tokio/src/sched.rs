//! Rows about switching, spawning, channels and mutexes. Read beside bench/weft_sched_rows.cc: the
//! two files follow each other function by function.
//!
//! tokio has no unbuffered channel. Its nearest is mpsc::channel(1), whose sender goes on once the
//! value is in the slot; a rendezvous would wait for the receiver.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, Mutex};
use tokio::task::yield_now;

use crate::wait_group::WaitGroup;
use crate::Config;

pub async fn switch(c: Config) {
    let done = WaitGroup::new(2);
    let each = c.n / 2;
    let start = Instant::now();
    for _ in 0..2 {
        let done = done.clone();
        tokio::spawn(async move {
            for _ in 0..each {
                yield_now().await;
            }
            done.done();
        });
    }
    done.wait().await;
    c.print_ns_per_op(start, each * 2);
}

pub async fn pingpong(c: Config) {
    let (ping, mut ping_out) = mpsc::channel(1);
    let (pong, mut pong_out) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(v) = ping_out.recv().await {
            if pong.send(v).await.is_err() {
                break;
            }
        }
    });
    let start = Instant::now();
    for i in 0..c.n {
        ping.send(i).await.unwrap();
        if pong_out.recv().await != Some(i) {
            c.fail("a value was lost");
        }
    }
    c.print_ns_per_op(start, c.n);
}

/// Awaiting the handle is the library's way to wait for one task.
pub async fn spawn(c: Config) {
    let start = Instant::now();
    for _ in 0..c.n {
        tokio::spawn(async {}).await.unwrap();
    }
    c.print_ns_per_op(start, c.n);
}

pub async fn spawn_all(c: Config) {
    let done = WaitGroup::new(c.n);
    let start = Instant::now();
    for _ in 0..c.n {
        let done = done.clone();
        tokio::spawn(async move { done.done() });
    }
    done.wait().await;
    c.print_ns_per_op(start, c.n);
}

// Boxed because an async function cannot contain itself.
fn skynet(out: mpsc::Sender<i64>, first: i64, size: i64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if size == 1 {
            out.send(first).await.unwrap();
            return;
        }
        let (into, mut from) = mpsc::channel(1);
        for i in 0..10 {
            tokio::spawn(skynet(into.clone(), first + i * (size / 10), size / 10));
        }
        let mut sum = 0;
        for _ in 0..10 {
            sum += from.recv().await.unwrap();
        }
        out.send(sum).await.unwrap();
    })
}

pub async fn run_skynet(c: Config) {
    let mut size = c.n;
    while size > 1 {
        if size % 10 != 0 {
            c.fail(&format!("--n={} is not a power of ten", c.n));
        }
        size /= 10;
    }
    let (into, mut from) = mpsc::channel(1);
    let n = c.n as i64;
    let start = Instant::now();
    tokio::spawn(skynet(into, 0, n));
    let sum = from.recv().await.unwrap();
    if sum != n * (n - 1) / 2 {
        c.fail(&format!("sum is {sum}"));
    }
    c.print_ns_per_op(start, c.n);
}

/// tokio's own channels have one receiver; async-channel is the usual one for several.
pub async fn chan_buffered(c: Config) {
    const SIDES: usize = 4;
    let each = c.n / SIDES;
    let (into, from) = async_channel::bounded(128);
    let producers = WaitGroup::new(SIDES);
    let mut consumers = Vec::new();
    let start = Instant::now();
    for _ in 0..SIDES {
        let (into, producers) = (into.clone(), producers.clone());
        tokio::spawn(async move {
            for k in 0..each {
                into.send(k).await.unwrap();
            }
            producers.done();
        });
        let from = from.clone();
        consumers.push(tokio::spawn(async move {
            let mut received = 0;
            while from.recv().await.is_ok() {
                received += 1;
            }
            received
        }));
    }
    producers.wait().await;
    into.close();
    let mut total = 0;
    for consumer in consumers {
        total += consumer.await.unwrap();
    }
    if total != each * SIDES {
        c.fail(&format!("received {total}"));
    }
    c.print_ns_per_op(start, total);
}

pub async fn select4(c: Config) {
    let each = c.n / 4;
    let (into, from): (Vec<_>, Vec<_>) = (0..4).map(|_| mpsc::channel::<usize>(1)).unzip();
    let mut from: [mpsc::Receiver<usize>; 4] = from.try_into().unwrap();
    let [a, b, d, e] = &mut from;
    let start = Instant::now();
    // The senders stay open for as long as the receiver selects: a closed channel would always win.
    for out in &into {
        let out = out.clone();
        tokio::spawn(async move {
            for _ in 0..each {
                out.send(1).await.unwrap();
            }
        });
    }
    let mut total = 0;
    for _ in 0..each * 4 {
        total += tokio::select! {
            Some(v) = a.recv() => v,
            Some(v) = b.recv() => v,
            Some(v) = d.recv() => v,
            Some(v) = e.recv() => v,
            else => c.fail("every channel is closed"),
        };
    }
    if total != each * 4 {
        c.fail(&format!("received {total}"));
    }
    c.print_ns_per_op(start, total);
}

pub async fn mutex_uncontended(c: Config) {
    let counter = Mutex::new(0usize);
    let start = Instant::now();
    for _ in 0..c.n {
        *counter.lock().await += 1;
    }
    c.print_ns_per_op(start, counter.into_inner());
}

pub async fn mutex8(c: Config) {
    const TASKS: usize = 8;
    let each = c.n / TASKS;
    let counter = Arc::new(Mutex::new(0usize));
    let done = WaitGroup::new(TASKS);
    let start = Instant::now();
    for _ in 0..TASKS {
        let (counter, done) = (counter.clone(), done.clone());
        tokio::spawn(async move {
            for _ in 0..each {
                *counter.lock().await += 1;
            }
            done.done();
        });
    }
    done.wait().await;
    let total = *counter.lock().await;
    if total != each * TASKS {
        c.fail(&format!("counter is {total}"));
    }
    c.print_ns_per_op(start, total);
}
