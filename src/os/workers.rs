//! Worker threads for one store, restore or verify.
//!
//! The main thread does no block work: it starts the workers and watches. Workers check the gauge
//! between blocks, so a stop or any worker's error ends all of them soon, and none outlives the
//! call. They touch no process, signal or log. The last worker to finish wakes the watch, which is
//! the caller's.

use std::io;
use std::os::unix::net::UnixStream;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::{Error, Result};
use crate::os::memory;
use crate::os::sys;

/// Progress, shared between the workers and the watch.
#[derive(Debug)]
pub struct Gauge {
    done: AtomicU64,
    total: AtomicU64,
    stop: AtomicBool,
    running: AtomicUsize,
    waker: Option<UnixStream>,
}

impl Gauge {
    /// A gauge at zero. The last worker to finish writes a byte to `waker`.
    pub fn new(waker: Option<UnixStream>) -> Gauge {
        Gauge {
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            waker,
        }
    }

    /// Bytes of content processed so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Bytes of content in total.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// True once all workers have finished.
    pub fn finished(&self) -> bool {
        self.running.load(Ordering::Acquire) == 0
    }

    /// True once the work is to end, for any reason. Workers check this between blocks.
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

/// Counts a worker as finished, even if it panicked or never started.
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

/// What the main thread runs meanwhile: returns when [`Gauge::finished`], or an error to give up.
/// Called once for each phase of the work.
type Watch<'a> = Box<dyn FnMut(&Gauge) -> Result<()> + 'a>;

/// The workers of one step, with the watch over them.
pub struct Crew<'a> {
    jobs: usize,
    gauge: Arc<Gauge>,
    watch: Watch<'a>,
}

impl<'a> Crew<'a> {
    /// At most `jobs` workers. `watch` runs while they work, and the last of them to finish writes
    /// a byte to `waker`.
    pub fn new(
        jobs: usize,
        waker: Option<UnixStream>,
        watch: impl FnMut(&Gauge) -> Result<()> + 'a,
    ) -> Crew<'a> {
        Crew { jobs: jobs.max(1), gauge: Arc::new(Gauge::new(waker)), watch: Box::new(watch) }
    }

    /// A crew without a watch, which runs until the work is done.
    pub fn unwatched(jobs: usize) -> Crew<'static> {
        Crew::new(jobs, None, |_| Ok(()))
    }

    /// The number of workers.
    pub fn jobs(&self) -> usize {
        self.jobs
    }

    /// The shared progress.
    pub fn gauge(&self) -> Arc<Gauge> {
        self.gauge.clone()
    }

    /// Runs `job` on one thread while the main thread watches, for long work that cannot be split,
    /// such as listing a large directory or removing many files.
    ///
    /// # Errors
    /// The watch's error, else the job's.
    pub fn alone<T: Send>(&mut self, job: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let job = Mutex::new(Some(job));
        let done = self.run(1, || locked(&job).take().map(|job| job()).transpose())?;
        match done.into_iter().flatten().next() {
            Some(done) => Ok(done),
            None => unreachable!("it ran, or its error was returned"),
        }
    }

    /// Runs `worker` on all threads until each has finished, and returns their results. A worker
    /// that stops early because of the gauge may return anything.
    ///
    /// # Errors
    /// The watch's error, else that of the first worker to fail.
    pub fn work<T: Send>(&mut self, worker: impl Fn() -> Result<T> + Sync) -> Result<Vec<T>> {
        self.run(self.jobs, worker)
    }

    /// The same with `each` threads for each job: some wait for the disk while others compute.
    ///
    /// # Errors
    /// As for [`Crew::work`].
    pub fn work_overlapped<T: Send>(
        &mut self,
        each: usize,
        worker: impl Fn() -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        self.run(each * self.jobs, worker)
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

/// Tools that workers share, of which there are as many as jobs. Whoever computes has one, so no more
/// processors are busy than there are jobs, however many workers wait for the disk.
pub struct Tools<T> {
    free: Mutex<Vec<T>>,
    given_back: Condvar,
}

impl<T> Tools<T> {
    /// All of them.
    pub fn new(all: Vec<T>) -> Tools<T> {
        Tools { free: Mutex::new(all), given_back: Condvar::new() }
    }

    /// Waits for one and uses it.
    pub fn with<R>(&self, job: impl FnOnce(&mut T) -> R) -> R {
        let free = self.given_back.wait_while(locked(&self.free), |free| free.is_empty());
        let taken = free.unwrap_or_else(PoisonError::into_inner).pop();
        let mut tool = Lent(self, taken);
        match &mut tool.1 {
            Some(tool) => job(tool),
            None => unreachable!("one was waited for"),
        }
    }
}

/// Given back also by a panic.
struct Lent<'a, T>(&'a Tools<T>, Option<T>);

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        locked(&self.0.free).extend(self.1.take());
        self.0.given_back.notify_one();
    }
}

/// A question that is answered on a thread of its own, which nobody waits for.
pub struct Aside<T> {
    answer: Receiver<Result<T>>,
    /// Threads that slept for good when it was asked.
    asleep: u32,
}

impl<T: Send + 'static> Aside<T> {
    /// Asks it. When it is answered, a byte is written to `waker`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn ask(
        waker: Option<UnixStream>,
        question: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Aside<T>> {
        let (sender, answer) = channel();
        let asleep = memory::asleep();
        let body = move || {
            let _ = sender.send(Error::contain(question));
            if let Some(waker) = &waker {
                sys::wake(waker);
            }
        };
        let thread = thread::Builder::new().name("aside".into()).spawn(body);
        thread.map(|_| Aside { answer, asleep }).map_err(thread_error)
    }

    /// The answer, once it is there.
    pub fn take(&mut self) -> Option<Result<T>> {
        self.answer.try_recv().ok()
    }

    /// True if it will never come: see [`memory`].
    pub fn is_lost(&self) -> bool {
        memory::asleep() != self.asleep
    }
}

fn thread_error(e: io::Error) -> Error {
    Error::io("start a thread of", Path::new("rollforward"), e)
}

/// Locks, ignoring poison: a worker's panic reaches the main thread on its own.
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
    fn an_answer_from_aside_wakes_as_does_a_panic() {
        let (mut reader, waker) = UnixStream::pair().unwrap();
        let mut aside = Aside::ask(Some(waker), || Ok(7)).unwrap();
        reader.read_exact(&mut [0]).unwrap();
        assert!(matches!(aside.take(), Some(Ok(7))));
        let (mut reader, waker) = UnixStream::pair().unwrap();
        let mut aside = Aside::<()>::ask(Some(waker), || panic!("on purpose")).unwrap();
        reader.read_exact(&mut [0]).unwrap();
        assert!(matches!(aside.take(), Some(Err(_))));
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
