//! Worker threads, for the time of one store, restore or verify.
//!
//! The main thread never works on blocks: it starts the workers and watches. They look at the
//! gauge between blocks, so that a stop, or the first error of any of them, ends all of them
//! soon; none outlives the call. They touch no process, no signal and no log. Who sleeps in the
//! watch, and why it stops, is the caller's business: the last worker to end wakes it.

use std::io;
use std::os::unix::net::UnixStream;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::{Error, Result};
use crate::os::sys;

/// How far the workers are, shared between them and the watch.
#[derive(Debug)]
pub struct Gauge {
    done: AtomicU64,
    total: AtomicU64,
    stop: AtomicBool,
    running: AtomicUsize,
    waker: Option<UnixStream>,
}

impl Gauge {
    /// A gauge at zero. A byte is written to `waker` when the last worker has ended.
    pub fn new(waker: Option<UnixStream>) -> Gauge {
        Gauge {
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            waker,
        }
    }

    /// Bytes of content dealt with so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Bytes of content in all.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Have all workers ended?
    pub fn finished(&self) -> bool {
        self.running.load(Ordering::Acquire) == 0
    }

    /// Is it over, for whatever reason? Workers ask this between blocks.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Counts a worker out, also when it panics or was never started.
struct Presence<'a>(&'a Gauge);

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
        if self.0.running.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(waker) = &self.0.waker
        {
            sys::wake(waker);
        }
    }
}

/// What the main thread does meanwhile: returns when [`Gauge::finished`], or an error when the
/// work is to be given up. It is called once for each phase of the work.
type Watch<'a> = Box<dyn FnMut(&Gauge) -> Result<()> + 'a>;

/// The workers of one step, with the watch that the main thread keeps over them.
pub struct Crew<'a> {
    jobs: usize,
    gauge: Arc<Gauge>,
    watch: Watch<'a>,
}

impl<'a> Crew<'a> {
    /// `jobs` workers at most. `watch` is called while they work, and `waker` gets a byte when the
    /// last of them has ended.
    pub fn new(
        jobs: usize,
        waker: Option<UnixStream>,
        watch: impl FnMut(&Gauge) -> Result<()> + 'a,
    ) -> Crew<'a> {
        Crew { jobs: jobs.max(1), gauge: Arc::new(Gauge::new(waker)), watch: Box::new(watch) }
    }

    /// A crew that nobody watches: it works until it is done.
    pub fn unwatched(jobs: usize) -> Crew<'static> {
        Crew::new(jobs, None, |_| Ok(()))
    }

    /// The number of workers.
    pub fn jobs(&self) -> usize {
        self.jobs
    }

    /// How far they are.
    pub fn gauge(&self) -> Arc<Gauge> {
        self.gauge.clone()
    }

    /// Runs `job` on one thread while the main thread watches, for what may take long and cannot
    /// be shared out: the list of a large directory, the removal of many files.
    ///
    /// # Errors
    /// Those of the watch, else of the job.
    pub fn alone<T: Send>(&mut self, job: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let job = Mutex::new(Some(job));
        let done = self.run(1, || locked(&job).take().map(|job| job()).transpose())?;
        match done.into_iter().flatten().next() {
            Some(done) => Ok(done),
            None => unreachable!("it ran, or its error was returned"),
        }
    }

    /// Runs `worker` on all threads until each has ended, and gives their results. A worker that
    /// returns early because the gauge was stopped may return anything.
    ///
    /// # Errors
    /// Those of the watch, else of the first worker to fail.
    pub fn work<T: Send>(&mut self, worker: impl Fn() -> Result<T> + Sync) -> Result<Vec<T>> {
        self.run(self.jobs, worker)
    }

    fn run<T: Send>(
        &mut self,
        jobs: usize,
        worker: impl Fn() -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let (gauge, watch) = (&*self.gauge, &mut self.watch);
        let failure = Mutex::new(None);
        let fail = |error: Error| {
            gauge.stop();
            locked(&failure).get_or_insert(error);
        };
        gauge.running.store(jobs, Ordering::Release);
        let (watched, ended) = thread::scope(|scope| {
            let mut threads = Vec::with_capacity(jobs);
            for _ in 0..jobs {
                let presence = Presence(gauge);
                let (worker, fail) = (&worker, &fail);
                let body = move || {
                    let _presence = presence;
                    worker().map_err(fail).ok()
                };
                match thread::Builder::new().name("worker".into()).spawn_scoped(scope, body) {
                    Ok(thread) => threads.push(thread),
                    Err(e) => fail(thread_error(e)),
                }
            }
            let watched = watch(gauge);
            if watched.is_err() {
                gauge.stop();
            }
            (watched, threads.into_iter().map(|t| t.join()).collect::<Vec<_>>())
        });
        let mut results = Vec::with_capacity(jobs);
        for end in ended {
            results.extend(end.unwrap_or_else(|panic| resume_unwind(panic)));
        }
        watched?;
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(results),
        }
    }
}

fn thread_error(e: io::Error) -> Error {
    Error::io("start a thread of", Path::new("rollforward"), e)
}

/// Locks; a worker's panic reaches the main thread by itself and needs no second one here.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn until_woken(mut reader: UnixStream) -> impl FnMut(&Gauge) -> Result<()> {
        move |gauge| {
            reader.read_exact(&mut [0]).unwrap();
            assert!(gauge.finished());
            Ok(())
        }
    }

    #[test]
    fn the_last_worker_wakes_the_watch() {
        let (reader, waker) = UnixStream::pair().unwrap();
        let mut crew = Crew::new(3, Some(waker), until_woken(reader));
        let out = crew.work(|| Ok(7)).unwrap();
        assert_eq!(out, [7, 7, 7]);
    }

    #[test]
    fn an_error_of_one_worker_stops_the_others() {
        let (reader, waker) = UnixStream::pair().unwrap();
        let mut crew = Crew::new(3, Some(waker), until_woken(reader));
        let (gauge, turn) = (crew.gauge(), AtomicUsize::new(0));
        let out = crew.work(|| {
            if turn.fetch_add(1, Ordering::SeqCst) == 0 {
                return Err(Error::config("first"));
            }
            while !gauge.stopped() {
                thread::yield_now();
            }
            Ok(())
        });
        assert!(matches!(out, Err(Error::Configuration { text }) if text == "first"));
    }

    #[test]
    fn an_error_of_the_watch_stops_all_and_wins() {
        let mut crew = Crew::new(2, None, |_| Err(Error::Interrupted { signal: 15 }));
        let gauge = crew.gauge();
        let out = crew.work(|| {
            while !gauge.stopped() {
                thread::yield_now();
            }
            Err::<(), _>(Error::config("worker"))
        });
        assert!(matches!(out, Err(Error::Interrupted { signal: 15 })));
    }

    #[test]
    fn a_worker_panic_reaches_the_caller_and_hangs_nothing() {
        let (reader, waker) = UnixStream::pair().unwrap();
        let run = std::panic::AssertUnwindSafe(|| {
            let mut crew = Crew::new(2, Some(waker), until_woken(reader));
            crew.work(|| -> Result<()> { panic!("on purpose") })
        });
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
