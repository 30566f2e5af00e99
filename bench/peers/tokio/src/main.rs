//! bench_tokio ROW [--workers=N] [--n=N] [--stack=default|compact]: the rows of weft_bench on tokio.
//! Prints one line of name=value figures.
//!
//! Tasks here are state machines without a stack of their own, so --stack changes nothing; a task
//! can be left only at an `await`. bench/README.md says where that makes a row something else.

mod parked;
mod sched;
mod wait_group;

use std::future::Future;
use std::time::Instant;

pub struct Config {
    pub row: String,
    pub workers: usize,
    pub n: usize,
}

impl Config {
    /// Starts a line "row=… workers=… n=… "; the caller prints its figures and the newline.
    pub fn print_prefix(&self) {
        print!("row={} workers={} n={} ", self.row, self.workers, self.n);
    }

    /// Prints one whole line: mean of `n` operations since `start`.
    pub fn print_ns_per_op(&self, start: Instant, n: usize) {
        let elapsed = start.elapsed().as_nanos() as f64;
        self.print_prefix();
        println!("ns_per_op={:.2} ms_total={:.3}", elapsed / n as f64, elapsed / 1e6);
    }

    /// A row whose own check fails must not print a figure.
    pub fn fail(&self, why: &str) -> ! {
        eprintln!("bench_tokio: {}: {}", self.row, why);
        std::process::exit(1);
    }

    /// Runs the row as a task of the runtime: the future that block_on polls is none of its workers'.
    fn run<F>(self, row: fn(Config) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // One worker is what current_thread is for; it is the faster of the two with one.
        let mut builder = if self.workers == 1 {
            tokio::runtime::Builder::new_current_thread()
        } else {
            tokio::runtime::Builder::new_multi_thread()
        };
        // No I/O driver: without it an idle or yielding worker makes no system call for sockets that
        // nobody has. The timer is needed by few rows, and costs the others next to nothing.
        let runtime = builder.worker_threads(self.workers).enable_time().build().unwrap();
        runtime.block_on(async move {
            if tokio::spawn(row(self)).await.is_err() {
                std::process::exit(1); // the panic has printed its message
            }
        });
        // The row is over; how the workers and its remaining tasks end is not measured.
        std::process::exit(0);
    }
}

fn usage(why: &str) -> ! {
    eprintln!("bench_tokio: {why}");
    eprintln!("usage: bench_tokio ROW [--workers=N] [--n=N] [--stack=default|compact]");
    std::process::exit(2);
}

fn number(flag: &str, text: &str, lowest: usize, highest: usize) -> usize {
    match text.parse() {
        Ok(value) if (lowest..=highest).contains(&value) => value,
        _ => usage(&format!("--{flag}={text} is not a number from {lowest} to {highest}")),
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let row = words.next().unwrap_or_else(|| usage("no row given"));
    let mut c = Config { row, workers: 1, n: 0 };
    for word in words {
        match word.trim_start_matches("--").split_once('=') {
            Some(("workers", text)) => c.workers = number("workers", text, 1, 1024),
            Some(("n", text)) => c.n = number("n", text, 8, 1_000_000_000),
            Some(("stack", "default" | "compact")) => (),
            _ => usage(&format!("unexpected argument '{word}'")),
        }
    }
    // Defaults equal to weft's.
    let n = |default| if c.n == 0 { default } else { c.n };
    match c.row.as_str() {
        "switch" => Config { n: n(5_000_000), ..c }.run(sched::switch),
        "pingpong" => Config { n: n(1_000_000), ..c }.run(sched::pingpong),
        "spawn" => Config { n: n(1_000_000), ..c }.run(sched::spawn),
        "spawn_all" => Config { n: n(1_000_000), ..c }.run(sched::spawn_all),
        "skynet" => Config { n: n(1_000_000), ..c }.run(sched::run_skynet),
        "chan_buffered" => Config { n: n(4_000_000), ..c }.run(sched::chan_buffered),
        "select4" => Config { n: n(1_000_000), ..c }.run(sched::select4),
        "mutex_uncontended" => Config { n: n(20_000_000), ..c }.run(sched::mutex_uncontended),
        "mutex8" => Config { n: n(4_000_000), ..c }.run(sched::mutex8),
        "idle" => Config { n: n(100_000), ..c }.run(parked::idle),
        "sleepers" => Config { n: n(100_000), ..c }.run(parked::sleepers),
        "sleep_all" => Config { n: n(1_000_000), ..c }.run(parked::sleep_all),
        other => {
            // A row of weft's that has no counterpart here.
            eprintln!("no row {other} on tokio");
            std::process::exit(4);
        }
    }
}
